"""The engine of shortlist.h in ctypes: takes and returns arrays."""

import ctypes
from ctypes import POINTER, byref, c_char, c_char_p, c_int32, c_size_t, c_uint64, c_void_p, cast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
from c_library import LIBRARY, Filter, Text, address, call, new_ids, sized

(RUNTIME,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
for name in ("engine_close", "answer_free"):
    getattr(LIBRARY, f"shortlist_{name}").argtypes = [c_void_p]
    getattr(LIBRARY, f"shortlist_{name}").restype = None


class EngineOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("onnxruntime", c_char_p), ("n_threads", c_size_t),
                ("skip_hashes", c_int32)]  # fmt: skip


class Column(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("numbers", c_void_p), ("floats", c_void_p),
                ("texts", POINTER(Text)), ("width", c_size_t), ("splits", c_void_p)]  # fmt: skip


class Requests(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_requests", c_size_t), ("top_n", c_size_t),
                ("columns", POINTER(Column)), ("n_columns", c_size_t),
                ("include_seen", c_int32), ("filter", POINTER(Filter))]  # fmt: skip


class Answer(ctypes.Structure):
    _fields_ = [("n_requests", c_size_t), ("top_n", c_size_t), ("version", c_uint64),
                ("scores", c_void_p), ("rows", c_void_p), ("numbers", c_void_p),
                ("texts", POINTER(Text)), ("counts", c_void_p), ("sources", c_void_p)]  # fmt: skip


class EngineInfo(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("version", c_uint64), ("n_items", c_size_t),
                ("dim", c_size_t), ("n_threads", c_size_t), ("metric", c_int32),
                ("has_texts", c_int32), ("onnxruntime", c_char * 32), ("provider", c_char * 32),
                ("bundle", c_char * 1024)]  # fmt: skip


def texts_of(values):
    blobs = [value.encode() for value in values]
    texts = (Text * len(blobs))(
        *(Text(cast(c_char_p(blob), c_void_p), len(blob)) for blob in blobs)
    )
    texts.keep = blobs
    return texts


def column(name, values, splits=None):
    """A column of an array (n,) or (n, width), or of flat values with splits."""
    values = np.asarray(values)
    made = Column(name=name.encode())
    if splits is None and values.ndim == 2:
        made.width = values.shape[1]
    kept = [values]
    if values.dtype.kind in "OU":
        made.texts = texts_of(values.ravel().tolist())
    else:
        is_float = values.dtype.kind == "f"
        flat = np.ascontiguousarray(values, np.float32 if is_float else np.int64)
        kept.append(flat)
        setattr(made, "floats" if is_float else "numbers", address(flat))
    if splits is not None:
        kept.append(np.asarray(splits, np.int64))
        made.splits = address(kept[-1])
    made.keep = kept
    return made


def lists(name, values, dtype):
    """A column of lists of any length."""
    splits = np.cumsum([0, *map(len, values)])
    return column(name, np.array([v for row in values for v in row], dtype), splits)


def filter_of(*, exclude=None, allow=None, allow_mask=None, as_rows=False):
    """A filter of lists of ids for each request, of one list for all, or of a mask."""
    made, kept = sized(Filter), []
    for name, values in (("exclude", exclude), ("allow", allow)):
        if values is None:
            continue
        if not values or isinstance(values[0], list):
            splits = np.cumsum([0, *map(len, values)])
            values = [value for part in values for value in part]
            setattr(made, f"{name}_splits", address(splits))
            kept.append(splits)
        ids = new_ids(values, as_rows)
        setattr(made, name, ctypes.pointer(ids))
        kept.append(ids)
    if allow_mask is not None:
        mask = np.ascontiguousarray(allow_mask, np.uint8)
        made.allow_mask, made.mask_size = address(mask), mask.size
        kept.append(mask)
    made.keep = kept
    return made


def requests_of(columns, n_requests, top_n, include_seen=False, filter=None):
    made = sized(Requests, n_requests=n_requests, top_n=top_n, n_columns=len(columns),
                 include_seen=include_seen)  # fmt: skip
    array = (Column * len(columns))(*columns)
    made.columns, made.keep = array, (array, columns, filter)
    if filter is not None:
        made.filter = ctypes.pointer(filter)
    return made


def open_engine(path, **options):
    options = sized(EngineOptions, **{"onnxruntime": str(RUNTIME).encode(), **options})
    handle = c_void_p()
    call("engine_open", str(path).encode(), byref(options), byref(handle))
    return handle


class CEngine:
    def __init__(self, path, **options):
        self.handle = open_engine(path, **{"n_threads": 1, **options})

    def recommend(self, columns, n_requests, top_n=10, include_seen=False, filter=None):
        found = POINTER(Answer)()
        requests = requests_of(columns, n_requests, top_n, include_seen, filter)
        call("engine_recommend", self.handle, byref(requests), byref(found))
        answer = found.contents
        shape = (answer.n_requests, answer.top_n)
        assert shape == (n_requests, top_n)

        def read(data, dtype, shape):
            n_bytes = np.dtype(dtype).itemsize * int(np.prod(shape))
            content = ctypes.string_at(data, n_bytes) if n_bytes else b""
            return np.frombuffer(content, dtype).reshape(shape)

        if answer.numbers:
            item_ids = read(answer.numbers, np.int64, shape)
        else:
            texts = [answer.texts[i].decode() for i in range(n_requests * top_n)]
            item_ids = np.array(texts, object).reshape(shape)
        read_answer = SimpleNamespace(
            item_ids=item_ids,
            version=answer.version,
            scores=read(answer.scores, np.float32, shape),
            rows=read(answer.rows, np.int64, shape),
            counts=read(answer.counts, np.int64, shape[:1]),
            sources=read(answer.sources, np.int64, shape[:1]),
        )
        LIBRARY.shortlist_answer_free(found)
        return read_answer

    def swap(self, path):
        call("engine_swap", self.handle, str(path).encode())

    def info(self):
        info = sized(EngineInfo)
        call("engine_report", self.handle, byref(info))
        return info

    def close(self):
        LIBRARY.shortlist_engine_close(self.handle)
        self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
