"""Which ONNX Runtime an engine runs on: found without an import, one copy in the process."""

import importlib
import subprocess
import sys

import pytest

import shortlist
from shortlist import ShortlistError, _runtime
from shortlist._runtime import describe_runtime, find_runtime

MODULE = "onnxruntime.capi.onnxruntime_pybind11_state"
# Answers a request and says what was mapped and imported for that.
ANSWER = """
import sys
{before}
import shortlist
with shortlist.load({path!r}) as engine:
    answer = engine.recommend({{"history": [{history}, []]}}, top_n=6)
    print(answer.item_ids.tolist(), [score.hex() for score in answer.scores.ravel().tolist()])
    print("onnxruntime" in sys.modules)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        files = {{line.split()[-1].rpartition("/")[2] for line in maps if "/capi/" in line}}
    print(*sorted(name for name in files if "providers" not in name))
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `onnxruntime` of any content in place of the real one, not imported yet."""
    for name in ("onnxruntime", MODULE):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    folder = tmp_path / "onnxruntime"

    def make(code="", *, wheels=("onnxruntime-1.32.0.dist-info",), library=None):
        (folder / "capi").mkdir(parents=True)
        (folder / "__init__.py").write_text(code, encoding="utf-8")
        for wheel in wheels:
            (tmp_path / wheel).mkdir()
        if library is not None:
            (folder / "capi" / library).touch()
        importlib.invalidate_caches()
        return folder

    return make


def test_an_engine_answers_without_an_import_and_with_the_copy_of_an_earlier_one(host_bundle):
    history = host_bundle.item_ids[3:6].tolist()

    def answer(before):
        return run(ANSWER.format(before=before, path=str(host_bundle.path), history=history))

    ids, imported, mapped = answer("")
    assert (imported, mapped.startswith("libonnxruntime.so.1.")) == ("False", True)
    assert " " not in mapped
    shared_ids, imported, mapped = answer("import onnxruntime")
    assert (imported, mapped.startswith("onnxruntime_pybind11_state")) == ("True", True)
    assert " " not in mapped  # one ONNX Runtime, not two
    assert shared_ids == ids


def test_an_import_after_an_engine_was_opened_is_a_second_copy_and_both_answer(host_bundle):
    lines = run(f"""
import numpy, shortlist
with shortlist.load({str(host_bundle.path)!r}) as engine:
    expected = engine.recommend({{"history": [[]]}}, top_n=6)
    import onnxruntime
    with shortlist.load({str(host_bundle.path)!r}) as other:
        for each in (engine, other):
            answer = each.recommend({{"history": [[]]}}, top_n=6)
            print(numpy.array_equal(answer.scores, expected.scores))
""")
    assert lines == ["True", "True"]


def test_the_library_of_the_package_is_found(package):
    folder = package(library="libonnxruntime.so.1.32.0")
    assert find_runtime() == folder / "capi" / "libonnxruntime.so.1.32.0"
    assert describe_runtime() == f"1.32.0, {find_runtime()}"
    assert "onnxruntime" not in sys.modules


def test_the_gpu_package_is_found(package):
    wheel = "onnxruntime_gpu-1.31.1.dist-info"
    folder = package(wheels=[wheel], library="libonnxruntime.so.1.31.1")
    assert find_runtime() == folder / "capi" / "libonnxruntime.so.1.31.1"
    assert describe_runtime().startswith("1.31.1, ")


def test_a_missing_package_says_what_to_install(package, tmp_path):
    message = (
        r"^onnxruntime cannot be imported \(No module named 'onnxruntime'\); install one of them: "
        r"pip install 'shortlist\[cpu\]' or 'shortlist\[gpu\]'$"
    )
    with pytest.raises(ShortlistError, match=message):
        find_runtime()
    assert describe_runtime().startswith("none: onnxruntime cannot be imported (No module")
    (tmp_path / "onnxruntime").mkdir()  # what an uninstall can leave behind
    importlib.invalidate_caches()
    with pytest.raises(ShortlistError, match=message):
        find_runtime()


def test_two_packages_in_one_folder_are_refused(package):
    package(
        wheels=["onnxruntime-1.32.0.dist-info", "onnxruntime_gpu-1.31.1.dist-info"],
        library="libonnxruntime.so.1.32.0",
    )
    with pytest.raises(ShortlistError, match=r"both installed and overwrite each other's files; p"):
        find_runtime()
    assert "none: onnxruntime and onnxruntime-gpu are both installed" in describe_runtime()


def test_a_package_without_its_library_is_named(package):
    folder = package('__version__ = "1.18.1"', wheels=["onnxruntime-1.18.1.dist-info"])
    assert describe_runtime() == f"1.18.1, {folder}"
    message = rf"^onnxruntime 1\.18\.1: expected libonnxruntime\.so in {folder}/capi, found none; "
    with pytest.raises(ShortlistError, match=message):
        find_runtime()


def test_a_package_that_cannot_be_imported_is_named(package):
    package('raise ImportError("no libgomp")')
    with pytest.raises(ShortlistError, match=r"^onnxruntime cannot be imported \(no libgomp\); "):
        find_runtime()


def test_a_stand_in_without_a_spec_is_no_package(package, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))
    with pytest.raises(ShortlistError, match="No module named 'onnxruntime'"):
        find_runtime()


# Opens an engine as a host does; `options` is a path or None.
OPEN = """
import ctypes, sys
{before}
library = ctypes.CDLL({library!r})
class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("onnxruntime", ctypes.c_char_p),
                ("n_threads", ctypes.c_size_t), ("skip_hashes", ctypes.c_int32)]
class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int32), ("message", ctypes.c_char * 1020)]
for path in {paths!r}:
    error, engine = Error(), ctypes.c_void_p()
    options = Options(ctypes.sizeof(Options), path, 1, 0)
    library.shortlist_engine_open({bundle!r}, ctypes.byref(options), ctypes.byref(engine),
                                  ctypes.byref(error))
    print(error.status, error.message.decode())
with open("/proc/self/maps", encoding="utf-8") as maps:
    print(len({{line.split()[-1] for line in maps if "libonnxruntime.so" in line}}))
"""
REGISTER = "import onnxruntime\nonnxruntime.SessionOptions().register_custom_ops_library({!r})"


def open_as_host(bundle, paths, before=""):
    return run(
        OPEN.format(
            before=before,
            library=shortlist.plugin_path(),
            paths=[path and str(path).encode() for path in paths],
            bundle=str(bundle.path).encode(),
        )
    )


@pytest.fixture
def library():
    return _runtime._library_in(_runtime.package_folder())


def test_one_library_under_two_names_is_mapped_once(host_bundle, library, tmp_path):
    (tmp_path / "libonnxruntime.so").symlink_to(library)
    before = f"kept = ctypes.CDLL({str(library)!r})"
    found = open_as_host(host_bundle, [tmp_path / "libonnxruntime.so", library, None], before)
    assert found == ["0 ", "0 ", "0 ", "1"]


def test_a_host_can_share_the_python_module_that_registered_the_operators(host_bundle):
    (module,) = _runtime.package_folder().glob("capi/onnxruntime_pybind11_state*.so")
    register = REGISTER.format(shortlist.plugin_path())
    assert open_as_host(host_bundle, [module, None], register) == ["0 ", "0 ", "0"]
    (refused, _) = open_as_host(host_bundle, [module], "import onnxruntime")
    assert refused.startswith("5 options.onnxruntime: expected ONNX Runtime, found that ")
    assert "has no OrtGetApiBase" in refused
