# Targets call tools; logic lives in Python and CMake. PYTHON chooses the base interpreter.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: setup build hosts cluster test test-slow test-wheel asan tsan test-native test-native-tsan test-emulated test-arm fuzz fuzz-bundles lint demo bench oracle soak clean

setup: .venv/.ready
.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install "scikit-build-core>=1.1,<2" "pybind11>=3,<4" "cmake>=3.25" "ninja>=1.11"
	$(PIP) install --no-build-isolation -e ".[dev]"
	touch $@

# Rerun after every C++ edit; Python edits are live.
build: setup
	$(PIP) install -q --no-build-isolation --no-deps -e .

# What the hosts of examples/ need: ONNX Runtime's headers, JNA, onnxruntime-node; all under build/.
hosts:
	.ci/host_tools

# Ray and Spark (which needs Java 17), for the tests marked cluster: over a gigabyte.
cluster: setup
	$(PIP) install -q "ray[data]>=2.50,<3" "pyspark>=4.0,<5"

test: build
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not wheel"

test-slow: build
	$(BIN)/pytest -m slow --durations 0

# The wheel in a clean environment with the [cpu] extra only: contents, light import, stubs, demo's bundle.
test-wheel: setup
	rm -rf build/wheel build/wheel-venv && $(PIP) wheel -q --no-deps -w build/wheel .
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install -q "$$(ls build/wheel/*.whl)[cpu]" pytest mypy
	cd build && wheel-venv/bin/pytest -c ../pyproject.toml --rootdir .. -m wheel ../tests/packaging

# A second copy of the package in build/, with a sanitizer; -S keeps the editable one out of the way. One
# BLAS thread: the sanitizer does not see how NumPy's BLAS, which is not built for it, takes turns.
SANITIZED_TESTS := tests/boundary tests/kernels tests/property
asan tsan: setup
	$(PIP) install -q --no-build-isolation --no-deps --upgrade --target build/$@/site . \
	  -C build-dir=build/$@/cmake -C cmake.args=--preset=$@ -C cmake.build-type=RelWithDebInfo -C install.strip=false
	LD_PRELOAD="$$(c++ -print-file-name=lib$@.so) $$(c++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 OPENBLAS_NUM_THREADS=1 PYTHONPATH=build/$@/site:$$(echo .venv/lib/python*/site-packages) \
	  $(BIN)/python -S -m pytest -q -p no:cacheprovider $(SANITIZED_TESTS)

# C++ tests: here; under ThreadSanitizer; x86 kernels this machine lacks through SIMDe (libsimde-dev);
# NEON under qemu-user (g++-aarch64-linux-gnu, qemu-user-static).
test-native test-native-tsan test-emulated test-arm: test-%: setup
	$(BIN)/cmake --preset $* && $(BIN)/cmake --build build/$* && $(BIN)/ctest --test-dir build/$* --output-on-failure

# Index files under AddressSanitizer: libFuzzer where there is Clang, else a driver of our own. An
# input of at most 64 KB that takes 5 seconds is a finding too.
SECONDS ?= 60
FUZZ = -max_total_time=$(SECONDS) -timeout=5
fuzz: setup
	$(BIN)/cmake --preset fuzz $$(command -v clang++ >/dev/null && echo -DCMAKE_CXX_COMPILER=clang++)
	$(BIN)/cmake --build build/fuzz --target fuzz_index fuzz_seeds
	cd build/fuzz && mkdir -p corpus && tests/cpp/fuzz_seeds seeds
	cd build/fuzz && tests/cpp/fuzz_index $(FUZZ) corpus seeds

# Bundles: the C engine's readers of tables, graphs, manifests and folders as above, then Python's, compared.
fuzz-bundles: setup
	$(BIN)/cmake --preset fuzz $$(command -v clang++ >/dev/null && echo -DCMAKE_CXX_COMPILER=clang++)
	$(BIN)/cmake --build build/fuzz --target fuzz_manifest fuzz_tables fuzz_graphs
	cd build/fuzz && mkdir -p tables && tests/cpp/fuzz_tables $(FUZZ) tables ../../tests/cpp/tables
	cd build/fuzz && mkdir -p graphs && tests/cpp/fuzz_graphs $(FUZZ) graphs ../../tests/cpp/graphs
	cd build/fuzz && mkdir -p manifests && tests/cpp/fuzz_manifest $(FUZZ) manifests ../../tests/cpp/manifests
	$(BIN)/python tests/fuzz_bundles.py --seconds $(SECONDS)

# mypy reads an installed copy: in the working tree training/ and export/ are not yet inside shortlist.
lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	git ls-files '*.cpp' '*.hpp' '*.h' 'examples/*.c' | xargs $(BIN)/clang-format --dry-run --Werror
	$(PIP) install -q --no-build-isolation --no-deps --upgrade --target build/typecheck .
	cd build/typecheck && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p shortlist

demo: build
	$(BIN)/shortlist demo --out build/demo

# Two catalogues; the whole grid of docs/benchmarks.md: make bench BENCH=--grid. An interrupted run goes on.
# The two variables choose other kernels for every OpenBLAS: the peers run with their own choice.
bench: build
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/top_n.py --out build/bench $(BENCH)

# Many searches against a float64 oracle / everything at once for minutes, every answer checked.
SEARCHES ?= 100000
MINUTES ?= 10
oracle: build
	$(BIN)/python benchmarks/oracle.py --searches $(SEARCHES)
soak: build
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
