"""What the C engine refuses: runtimes, bundles and columns; each message says what came."""

import json
import os
import shutil
import subprocess
from ctypes import POINTER, byref

import numpy as np
import pytest
from c_engine import RUNTIME, Answer, CEngine, Column, EngineInfo, column, lists, open_engine
from c_library import FILE_ERROR, INVALID_ARGUMENT, LIBRARY, CError, call, sized
from worlds import rewritten

import shortlist

NO_RUNTIME = 5
# A runtime that is too old, as far as anyone can ask it.
OLD = """
#include <stdint.h>
static const void* get_api(uint32_t version) { (void)version; return 0; }
static const char* get_version(void) { return "1.9.0"; }
struct base { const void* (*api)(uint32_t); const char* (*version)(void); };
const struct base* OrtGetApiBase(void) {
  static const struct base made = {get_api, get_version};
  return &made;
}
"""


def refused(status, match, call_it):
    with pytest.raises(CError, match=match) as caught:
        call_it()
    assert caught.value.status == status


@pytest.fixture
def copy(bundle, tmp_path):
    path = tmp_path / "tiny.shortlist"
    shutil.copytree(bundle.path, path)
    return path


@pytest.fixture(scope="module")
def engine(bundle):
    with CEngine(bundle.path) as opened:
        yield opened


def test_a_runtime_that_cannot_be_used_is_named(bundle, tmp_path):
    def opened(path):
        return lambda: open_engine(bundle.path, onnxruntime=str(path).encode())

    refused(NO_RUNTIME, r"options\.onnxruntime: .*nowhere.so: cannot open.*install", opened(
        tmp_path / "nowhere.so"))  # fmt: skip
    refused(NO_RUNTIME, "found that .*libshortlist.so has no OrtGetApiBase; install", opened(
        shortlist.plugin_path()))  # fmt: skip
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc for a runtime that is too old")
    (tmp_path / "old.c").write_text(OLD, encoding="utf-8")
    old = tmp_path / "old.so"
    subprocess.run(["gcc", "-shared", "-fPIC", tmp_path / "old.c", "-o", old], check=True)
    refused(NO_RUNTIME, r"expected ONNX Runtime 1\.17 or newer, found 1\.9\.0; inst", opened(old))


def run_python(code, **environment):
    # A process of its own: nothing else has loaded ONNX Runtime there.
    path = f"{os.path.dirname(__file__)}:{os.path.dirname(__file__)}/../c_abi"
    done = subprocess.run(
        [shutil.which("python3") or "python3", "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": path}, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


FIND = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else {library!r})
class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int32), ("message", ctypes.c_char * 1020)]
{before}
error, engine = Error(), ctypes.c_void_p()
library.shortlist_engine_open({path!r}, None, ctypes.byref(engine), ctypes.byref(error))
print(error.status, error.message.decode())
"""


def find(bundle, before="", **environment):
    code = FIND.format(
        library=shortlist.plugin_path(), path=str(bundle.path).encode(), before=before
    )
    return run_python(code, **environment)


def test_a_runtime_is_found_in_the_process_or_by_the_loader_or_not_at_all(bundle, tmp_path):
    out = find(bundle)
    if out != "0 \n":  # this machine's loader knows none
        assert out.startswith("5 options.onnxruntime: got NULL, and there is no libonnxruntime.so")
    assert find(bundle, f"kept = ctypes.CDLL({str(RUNTIME)!r})") == "0 \n"
    (tmp_path / "libonnxruntime.so.1").symlink_to(RUNTIME)
    assert find(bundle, LD_LIBRARY_PATH=str(tmp_path)) == "0 \n"


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def hostile_bundles(copy):
    """(what is done to a bundle, message) for each kind of damage."""

    def write(name, content):
        return lambda: (copy / name).write_bytes(content)

    def edit(old, new):
        text = (copy / "manifest.json").read_text(encoding="utf-8")
        assert old in text
        return lambda: (copy / "manifest.json").write_text(text.replace(old, new, 1))

    def link():
        shutil.move(copy / "items.index", copy.parent / "elsewhere")
        (copy / "items.index").symlink_to(copy.parent / "elsewhere")

    def pipe():
        (copy / "graphs.data").unlink()
        os.mkfifo(copy / "graphs.data")

    size = (copy / "items.index").stat().st_size
    return {
        "flipped": (lambda: flip(copy / "items.index"), r"items\.index: expected sha256 \w{64}, f"),
        "cut": (lambda: os.truncate(copy / "items.index", size - 1),
                f"items.index: expected {size:,} bytes, found {size - 1:,} bytes"),
        "gone": ((copy / "scorer.onnx").unlink, r"scorer\.onnx: expected a file, found no such"),
        "extra": (write("notes.txt", b"x"), r"notes\.txt: expected only files the manifest lists"),
        "link": (link, r"items\.index: expected a plain file, found a symbolic link"),
        "pipe": (pipe, r"graphs\.data: expected a plain file, found a folder or special file"),
        "version": (edit('"format_version": 1', '"format_version": 2'),
                    "expected format_version 1, found 2; read it with the release"),
        "escape": (edit('"items.index"', '"../../etc/passwd"'),
                   "expected plain file names in 'files', without folders"),
        "nested": (write("manifest.json", b"[" * 200_000), "expected '{', found something else"),
        "deep": (write("manifest.json", b'{"a":' * 200_000), "expected at most 100 levels of"),
        "bytes": (write("manifest.json", b"\xff\xfe"), r"manifest\.json: expected UTF-8"),
        "empty": (write("manifest.json", b"{}"), "expected a field 'format', found none"),
        "twice": (edit('"dim"', '"dim": 8, "dim"'), "expected each field once, found 'dim' again"),
    }  # fmt: skip


KINDS = ["flipped", "cut", "gone", "extra", "link", "pipe", "version", "escape", "nested", "deep",
         "bytes", "empty", "twice"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_bundle_is_refused_when_opened_and_swapped(kind, copy, bundle):
    cases = hostile_bundles(copy)
    assert list(cases) == KINDS
    damage, message = cases[kind]
    damage()
    refused(FILE_ERROR, message, lambda: open_engine(copy))
    with CEngine(bundle.path) as engine:
        refused(FILE_ERROR, message, lambda: engine.swap(copy))
        assert engine.info().version == 1
        assert engine.recommend([], 1, 3).version == 1


INDEX = "items.index: expected the manifest's"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"dim": 8', '"dim": 7', f"{INDEX} dim 7, found 8"),
        ('"n_items": 40', '"n_items": 1000000000000', f"{INDEX} n_items 1000000000000, found 40"),
        ('"metric": "cosine"', '"metric": "euclidean"', f"{INDEX} metric euclidean, found cosine"),
        ('"storage": "float32"', '"storage": "int8"', f"{INDEX} storage int8, found float32"),
        ('"item_id_dtype": "int64"', '"item_id_dtype": "string"', f"{INDEX} item_id_dtype string"),
        ('"storage": "float32"', '"storage": "int2"', "storage to be one of float32, float16, bf"),
        ('"storage"', '"stored"', "a field 'storage'|field 'storage' .a storage., found no such"),
        ('"max_history"', '"longest"', "field 'max_history'"),
        ('"max_history": ', '"max_history": -', "max_history >= 1, found -"),
        ('"versions"', '"x": {"a": 1, "a": 1}, "versions"', "'a' again|the name 'a' twice"),
        ('"size"', '"size": 1, "size"', "'size' again|the name 'size' twice"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_the_bundles_is_refused_as_in_python(copy, old, new, message):
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    assert old in text
    (copy / "manifest.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(FILE_ERROR, message, lambda: open_engine(copy))
    with pytest.raises(shortlist.BundleError, match=message):
        shortlist.load(copy)


NUMBERS = [  # what stands in a manifest, what is put there, what both readers say
    ('"n_candidates": 12', '"n_candidates": 4611686018427387904', "n_candidates of .* <= 1048576"),
    ('"n_candidates": 12', '"n_candidates": 0', "n_candidates of the second stage >= 1, found 0"),
    ('"n_candidates": 12', '"n_candidates": 12.5', "n_candidates|whole number of 64 bits"),
    ('"n_candidates": 12', '"x": 12', "n_candidates"),
    ('"history_length": 4', '"history_length": 1048577', "history_length of .* <= 1048576"),
    ('"history_length": 4', '"history_length": 1e99', "history_length|whole number of 64 bits"),
    ('"history_length": 4', '"x": 4', "history_length"),
    ('"max_history": ', '"max_history": 9999999', "max_history <= 1048576, found 9999999"),
    ('"mean": 30.0', '"mean": 1e999', "mean of 'age' to be a finite number"),
    ('"mean": 30.0', '"mean": NaN', "NaN|a value"),
    ('"mean": 30.0', '"mean": "30"', "mean|a value"),
    ('"std": 10.0', '"std": -1e309', "std of 'age' to be a finite number"),
    ('"n_vocabulary": 3', '"n_vocabulary": -3', "n_vocabulary of 'level' >= 0, found -3"),
    ('"n_vocabulary": 3', '"n_vocabulary": 1e3', "n_vocabulary|whole number of 64 bits"),
    ('"metric"', '"recall": 1.01, "metric"', "recall from 0 to 1"),
    ('"metric"', '"recall": -1e-300, "metric"', "recall from 0 to 1"),
    ('"metric"', '"recall": 1e999, "metric"', "recall"),
    ('"metric"', '"lineage": {"version": "a", "created": "b", "ancestors": [], "data": '
     '{"sha256": "", "n_events": -1}}, "metric"', "n_events >= 0, found -1"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), NUMBERS)
def test_every_number_of_a_manifest_is_checked_as_in_python(copy, old, new, message):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    text = json.dumps(manifest)
    assert old in text
    (copy / "manifest.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(FILE_ERROR, message, lambda: open_engine(copy))
    with pytest.raises(shortlist.BundleError, match=message):
        shortlist.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 65_537}, "width of 'image' <= 65536, found 65537"),
        ({"width": 0}, "width of 'image' >= 1, found 0"),
        ({"width": 2**70}, "width of 'image' <= 65536|whole number of 64 bits"),
        ({"width": 1.5}, "width|whole number of 64 bits"),
        ({}, "field 'width'|width of 'image' >= 1"),
    ],
)
def test_the_width_of_a_vector_is_checked_as_in_python(copy, change, message):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    image = {"name": "image", "side": "item", "kind": "vector", "dtype": "float32", **change}
    manifest["features"].append(image)
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    refused(FILE_ERROR, message, lambda: open_engine(copy))
    with pytest.raises(shortlist.BundleError, match=message):
        shortlist.load(copy)


@pytest.mark.parametrize("gap", ["-1", "1e999", '"x"'])
def test_the_gap_of_ages_is_checked_as_in_python(copy, gap):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["event_features"] = {"history_ages": {"gap": "GAP"}}
    text = json.dumps(manifest).replace('"GAP"', gap)
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    refused(FILE_ERROR, "gap|a value", lambda: open_engine(copy))
    with pytest.raises(shortlist.BundleError, match="gap"):
        shortlist.load(copy)


@pytest.mark.parametrize("value", ["9223372036854775808", "-9223372036854775809"])
def test_vocabularies_hold_numbers_of_64_bits(copy, value):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    level = next(f for f in manifest["features"] if f["name"] == "level")
    level["vocabulary"][0] = "VALUE"
    text = json.dumps(manifest).replace('"VALUE"', value)
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    refused(FILE_ERROR, "whole number of 64 bits", lambda: open_engine(copy))
    with pytest.raises(shortlist.BundleError, match="vocabulary of 'level'"):
        shortlist.load(copy)


def test_paths_that_are_no_bundle_folder_are_named(copy, tmp_path):
    refused(FILE_ERROR, "expected a bundle folder, found nothing", lambda: open_engine("/none"))
    refused(FILE_ERROR, "found a file; unpack a zipped bundle first",
            lambda: open_engine(copy / "items.index"))  # fmt: skip
    refused(FILE_ERROR, r"manifest\.json: expected a file, found no such file",
            lambda: open_engine(tmp_path))  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [("tags", None), ("history", None), ("history", 8)])
def test_graphs_whose_lists_cannot_be_joined_with_stored_ones_are_refused(name, kind, copy):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(copy / "recommend.onnx", load_external_data=False)
    (tensor,) = (i.type.tensor_type for i in graph.graph.input if i.name == name)
    if kind is None:  # else texts where the bundle's ids are numbers
        tensor.shape.dim[1].dim_value = 3
    else:
        tensor.elem_type = kind
        made = onnx.helper.make_node("Cast", [name], [f"{name}_made"], to=onnx.TensorProto.INT64)
        for node in graph.graph.node:
            node.input[:] = [f"{name}_made" if given == name else given for given in node.input]
        graph.graph.node.insert(0, made)
    again = rewritten(copy, {"recommend.onnx": graph.SerializeToString()})
    refused(FILE_ERROR, "found other inputs and outputs than those of docs/plugin.md",
            lambda: open_engine(again))  # fmt: skip


def test_graphs_that_are_no_such_graph_are_refused(copy, bundle):
    other = (bundle.path / "user_encoder.onnx").read_bytes()
    for content, message in (
        (b"garbage" * 100, r"recommend\.onnx: expected a graph ONNX Runtime can open, found"),
        (other, "found other inputs and outputs than those of docs/plugin.md"),
        (None, r"recommend\.onnx: expected a file of the bundle, found no such entry"),
    ):
        path = rewritten(copy, {"recommend.onnx": content})
        refused(FILE_ERROR, message, lambda path=path: open_engine(path))


def test_ids_of_another_kind_are_not_swapped_in(engine, text_bundle):
    refused(FILE_ERROR, "its item ids are texts, those of the running bundle numbers",
            lambda: engine.swap(text_bundle.path))  # fmt: skip


HISTORY = np.array([[100, 107]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([column("hist", HISTORY)], "name: got 'hist'; expected one of history, city, level, tags"),
        ([Column()], "name: got no name; expected one of history"),
        ([column("history", HISTORY), column("history", HISTORY)], "history: got it twice"),
        ([column("history", HISTORY.astype(np.float32))], "got values of another kind; expect"),
        ([Column(name=b"history", width=3)], "history: got no values; expected numbers"),
        ([column("age", np.array([np.inf], np.float32))], "age: got inf at position 0; expected"),
        ([column("age", np.array([[1, 2]], np.float32))], "age: got width 2; expected 1 values"),
        ([lists("age", [[1.0]], np.float32)], "age: got splits; expected NULL"),
        ([column("history", [100, 107], [0, -1])], "history: got splits that do not ascend from 0"),
        ([column("history", [100, 107], [1, 2])], "history: got splits that do not ascend from 0"),
        ([column("history", [100, 107], [0, 2**40])], "or a list of more than 2.24 values"),
    ],
)  # fmt: skip
def test_a_wrong_column_is_named(engine, columns, message):
    refused(INVALID_ARGUMENT, f"^columns: {message}|^columns: .*{message}",
            lambda: engine.recommend(columns, 1))  # fmt: skip


def test_wrong_sizes_and_missing_handles_are_refused(engine, bundle):
    refused(INVALID_ARGUMENT, "top_n: got 0", lambda: engine.recommend([], 1, 0))
    refused(INVALID_ARGUMENT, "top_n: got 16777217 for 1 requests; .* has 40 items: ask for",
            lambda: engine.recommend([], 1, 2**24 + 1))  # fmt: skip
    refused(INVALID_ARGUMENT, "options.n_threads: got 257; expected at most 256",
            lambda: open_engine(bundle.path, n_threads=257))  # fmt: skip
    answer = POINTER(Answer)()
    refused(INVALID_ARGUMENT, "requests: got NULL",
            lambda: call("engine_recommend", engine.handle, None, byref(answer)))  # fmt: skip
    refused(INVALID_ARGUMENT, "engine: got NULL; expected an engine of shortlist_engine_open",
            lambda: call("engine_report", None, byref(sized(EngineInfo))))  # fmt: skip
    refused(INVALID_ARGUMENT, "info.struct_size: got 0",
            lambda: call("engine_report", engine.handle, byref(EngineInfo())))  # fmt: skip
    refused(INVALID_ARGUMENT, "bundle: got NULL; expected the path of a bundle folder",
            lambda: call("engine_swap", engine.handle, None))  # fmt: skip
    LIBRARY.shortlist_engine_close(None)
    LIBRARY.shortlist_answer_free(None)
