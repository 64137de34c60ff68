"""What libshortlist.so is to the loader: names it exports, names it needs, one copy a process."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shortlist

PLUGIN = shortlist.plugin_path()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm (binutils)")
def test_only_the_c_abi_and_the_private_part_are_exported():
    private = f"SHORTLIST_PRIVATE_{shortlist.__version__}"
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", PLUGIN).splitlines()]
    public = {name.removesuffix("@@SHORTLIST_1") for name in names if "@@SHORTLIST_1" in name}
    assert {"shortlist_abi_version", "shortlist_engine_open", "RegisterCustomOps"} <= public
    rest = [name for name in names if not name.endswith("@@SHORTLIST_1")]
    assert all(re.fullmatch(r"shortlist_\w+|RegisterCustomOps", name) for name in public)
    assert {"SHORTLIST_1", private} <= set(rest)
    for name in set(rest) - {"SHORTLIST_1", private}:
        assert re.fullmatch(rf"_Z(NK?|TI|TS|TV)N?9shortlist\w+@@{re.escape(private)}", name), name


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf (binutils)")
def test_python_module_holds_no_second_core():
    module = shortlist._core.__file__
    dynamic = run("readelf", "-d", module)
    assert "[libshortlist.so]" in dynamic
    assert re.search(r"R(UN)?PATH.*\[\$ORIGIN\]", dynamic)
    undefined = run("nm", "-DC", "--undefined-only", module)
    assert "shortlist::IndexView::search" in undefined
    assert "NODELETE" in run("readelf", "-d", PLUGIN)


def test_a_host_in_this_process_gets_the_library_that_is_loaded():
    library = ctypes.CDLL(PLUGIN)
    assert library.shortlist_abi_version() == 5
    library.shortlist_version.restype = ctypes.c_char_p
    assert library.shortlist_version().decode() == shortlist.__version__
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split()[-1] for line in maps if "libshortlist" in line}
    assert paths == {str(Path(PLUGIN).resolve())}


def test_loading_the_library_alone_needs_no_python_package_and_says_nothing():
    code = f"import ctypes; print(ctypes.CDLL({PLUGIN!r}).shortlist_abi_version())"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"5\n", b"")


def test_every_declaration_of_the_onnxruntime_abi_is_checked():
    """check_abi.cpp compares with the official header what it names: it must name everything."""
    here = Path(__file__).parents[2] / "cpp_ext" / "ort_op"
    tables, types, checks = (
        (here / name).read_text(encoding="utf-8")
        for name in ("onnxruntime_abi.hpp", "onnxruntime_types.hpp", "check_abi.cpp")
    )
    for table in re.finditer(r"^struct (\w+) {(.*?)^};", tables, re.M | re.S):
        entries = re.findall(r"^  \S.* \(\*(\w+)\)\(", table[2], re.M)
        assert len(entries) >= 2
        assert entries == re.findall(rf"CHECK_ENTRY\({table[1]}, (\w+)\);", checks)
    enums = re.findall(r"^enum (\w+) : int {(.*?)};", types, re.M | re.S)
    assert re.findall(r"SAME_ENUM\((\w+)\);", checks) == [name for name, _ in enums]
    values = [name for _, body in enums for name in re.findall(r"(\w+) =", body)]
    assert re.findall(r"CHECK_VALUE\((\w+)\);", checks) == values
