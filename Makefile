# Targets call tools; logic lives in Python and CMake. PYTHON chooses the base interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup build test test-slow test-wheel lint demo bench clean
setup: .venv/.ready
.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar on "scikit-build-core>=1.1,<2" "pybind11>=3,<4" "cmake>=3.25" "ninja>=1.11"
	$(BIN)/python -m pip install --progress-bar on --no-build-isolation -e ".[dev]"
	touch $@

build: setup
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .

test: build
	$(BIN)/pytest -m "not slow and not wheel"

test-slow: build
	$(BIN)/pytest -m slow

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
