"""Hosts that were compiled with the headers of ABI versions 2 and 3 are served as before."""

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_int32, c_size_t, c_uint64, c_void_p

import numpy as np
import pytest
from c_engine import (
    RUNTIME,
    Answer,
    CEngine,
    Column,
    EngineInfo,
    EngineOptions,
    Requests,
    column,
    columns_array,
    read_answer,
)
from c_library import INVALID_ARGUMENT, LIBRARY, CError, Filter, call, new_ids, sized


class Options(ctypes.Structure):  # of versions 2 and 3
    _fields_ = [("struct_size", c_size_t), ("onnxruntime", c_char_p), ("n_threads", c_size_t),
                ("skip_hashes", c_int32)]  # fmt: skip


class Requests2(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_requests", c_size_t), ("top_n", c_size_t),
                ("columns", POINTER(Column)), ("n_columns", c_size_t),
                ("include_seen", c_int32)]  # fmt: skip


class Requests3(ctypes.Structure):
    _fields_ = [*Requests2._fields_, ("filter", POINTER(Filter))]


class Info(ctypes.Structure):  # of versions 2 and 3
    _fields_ = [("struct_size", c_size_t), ("version", c_uint64), ("n_items", c_size_t),
                ("dim", c_size_t), ("n_threads", c_size_t), ("metric", c_int32),
                ("has_texts", c_int32), ("onnxruntime", c_char * 32), ("provider", c_char * 32),
                ("bundle", c_char * 1024)]  # fmt: skip


class Newer(ctypes.Structure):
    """A struct of a header to come: one of ours, and a field more."""

    def __class_getitem__(cls, kind):
        fields = [("ours", kind), ("more", c_size_t)]
        return type("Newer" + kind.__name__, (ctypes.Structure,), {"_fields_": fields})


@pytest.fixture(scope="module")
def engine(bundle):
    with CEngine(bundle.path) as engine:
        yield engine


def in_front_of_rubbish(kind, **fields):
    """A struct of a host, with whatever lies behind it in its memory."""
    memory = ctypes.create_string_buffer(b"\xff" * (ctypes.sizeof(kind) + 256))
    made = sized(kind, **fields)
    ctypes.memmove(memory, byref(made), ctypes.sizeof(kind))
    return memory, made


def ask(engine, kind, **fields):
    columns = columns_array([column("history", [[100, 107]])])
    memory, kept = in_front_of_rubbish(kind, n_requests=1, top_n=5, columns=columns, n_columns=1,
                                       **fields)  # fmt: skip
    found = POINTER(Answer)()
    call("engine_recommend", engine.handle, memory, byref(found))
    answer = read_answer(found.contents)
    LIBRARY.shortlist_answer_free(found)
    assert kept.struct_size == ctypes.sizeof(kind)
    return answer


@pytest.mark.parametrize("kind", [Requests2, Requests3])
def test_requests_of_an_older_header_are_answered_with_all_stages(engine, kind):
    expected = engine.recommend([column("history", [[100, 107]])], 1, 5)
    found = ask(engine, kind)
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    assert expected.stages.tolist() == [2]


def test_filters_of_an_older_header_count(engine):
    ids = new_ids([100, 114, 121])
    chosen = sized(Filter, allow=ctypes.pointer(ids))
    found = ask(engine, Requests3, filter=ctypes.pointer(chosen))
    assert sorted(found.item_ids[0].tolist()) == [-1, -1, -1, 114, 121]


def test_options_of_an_older_header_open_an_engine_on_the_cpu(bundle):
    handle = c_void_p()
    options, _ = in_front_of_rubbish(Options, onnxruntime=str(RUNTIME).encode(), n_threads=1)
    call("engine_open", str(bundle.path).encode(), options, byref(handle))
    info = sized(Info)
    call("engine_report", handle, byref(info))
    LIBRARY.shortlist_engine_close(handle)
    assert (info.n_items, info.provider) == (40, b"CPUExecutionProvider")


def test_the_report_fills_no_more_than_an_older_host_has(engine):
    memory, _ = in_front_of_rubbish(Info)
    call("engine_report", engine.handle, memory)
    found = Info.from_buffer(memory)
    assert (found.struct_size, found.n_items, found.dim) == (ctypes.sizeof(Info), 40, 8)
    assert memory.raw[ctypes.sizeof(Info) :].strip(b"\xff\x00") == b""
    assert memory.raw[ctypes.sizeof(Info)] == 0xFF


@pytest.mark.parametrize("size", [0, 8, Requests2.include_seen.offset, 5000])
def test_a_size_that_no_header_has_is_named(engine, size):
    requests = sized(Requests3, n_requests=1, top_n=5)
    requests.struct_size = size
    with pytest.raises(CError, match=rf"requests\.struct_size: got {size}; expected \d+") as why:
        call("engine_recommend", engine.handle, byref(requests), byref(POINTER(Answer)()))
    assert why.value.status == INVALID_ARGUMENT


def test_fields_of_a_header_to_come_are_refused_unless_they_are_zero(engine, bundle):
    answer, handle, path = POINTER(Answer)(), c_void_p(), str(bundle.path).encode()
    ours = {
        Requests: {"n_requests": 1, "top_n": 5},
        EngineOptions: {"onnxruntime": str(RUNTIME).encode(), "n_threads": 1},
        EngineInfo: {},
    }
    calls = {
        Requests: lambda made: call("engine_recommend", engine.handle, made, byref(answer)),
        EngineOptions: lambda made: call("engine_open", path, made, byref(handle)),
        EngineInfo: lambda made: call("engine_report", engine.handle, made),
    }
    for kind, fields in ours.items():
        newer = Newer[kind]
        made = newer(ours=kind(struct_size=ctypes.sizeof(newer), **fields))
        calls[kind](byref(made))
        made.more = 1
        with pytest.raises(CError, match="got a field that this library does not know") as why:
            calls[kind](byref(made))
        assert why.value.status == INVALID_ARGUMENT
    LIBRARY.shortlist_answer_free(answer)
    assert np.isfinite(engine.recommend([], 1).scores).all()
