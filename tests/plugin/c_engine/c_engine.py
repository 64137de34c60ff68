"""The engine of shortlist.h in ctypes: takes and returns arrays."""

import ctypes
from ctypes import (
    POINTER,
    byref,
    c_char,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
    cast,
    pointer,
)
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
from c_library import LIBRARY, CView, Filter, Ids, Text, address, call, new_ids, size, sized

(RUNTIME,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
for name in ("engine_close", "answer_free", "explanation_free", "session_close",
             "session_store_close"):  # fmt: skip
    getattr(LIBRARY, f"shortlist_{name}").argtypes = [c_void_p]
    getattr(LIBRARY, f"shortlist_{name}").restype = None


NO_TIME = -(2**63)


class EngineOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("onnxruntime", c_char_p), ("n_threads", c_size_t),
                ("skip_hashes", c_int32), ("device", c_char_p), ("max_batch", c_size_t),
                ("max_wait_us", c_size_t)]  # fmt: skip


class SessionInfo(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("has_state", c_int32), ("why", c_char * 76),
                ("n_items", c_size_t), ("n_steps", c_size_t), ("n_restarts", c_size_t),
                ("n_bytes", c_size_t)]  # fmt: skip


class StoreInfo(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_sessions", c_size_t), ("n_bytes", c_size_t),
                ("max_bytes", c_size_t)]  # fmt: skip


class Column(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("numbers", c_void_p), ("floats", c_void_p),
                ("texts", POINTER(Text)), ("width", c_size_t), ("splits", c_void_p)]  # fmt: skip


class Requests(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_requests", c_size_t), ("top_n", c_size_t),
                ("columns", POINTER(Column)), ("n_columns", c_size_t),
                ("include_seen", c_int32), ("filter", POINTER(Filter)), ("stages", c_int32),
                ("skipped", POINTER(Ids)), ("skipped_splits", c_void_p)]  # fmt: skip


class Answer(ctypes.Structure):
    _fields_ = [("n_requests", c_size_t), ("top_n", c_size_t), ("version", c_uint64),
                ("scores", c_void_p), ("rows", c_void_p), ("numbers", c_void_p),
                ("texts", POINTER(Text)), ("counts", c_void_p), ("sources", c_void_p),
                ("stages", c_void_p), ("missing", c_void_p)]  # fmt: skip


class ExplainOptions(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_reasons", c_size_t), ("thorough", c_int32),
                ("groups", c_void_p), ("n_groups", c_size_t)]  # fmt: skip


class Explanation(ctypes.Structure):
    _fields_ = [("answer", POINTER(Answer)), ("n_reasons", c_size_t), ("numbers", c_void_p),
                ("texts", POINTER(Text)), ("features", POINTER(c_char_p)), ("drops", c_void_p),
                ("leaves_list", c_void_p)]  # fmt: skip


class EngineInfo(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("version", c_uint64), ("n_items", c_size_t),
                ("dim", c_size_t), ("n_threads", c_size_t), ("metric", c_int32),
                ("has_texts", c_int32), ("onnxruntime", c_char * 32), ("provider", c_char * 32),
                ("bundle", c_char * 1024), ("n_batched_requests", c_uint64),
                ("n_batches", c_uint64)]  # fmt: skip


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


def split_ids(values, as_rows=False):
    """Lists of ids as one list and splits."""
    splits = np.cumsum([0, *map(len, values)])
    return new_ids([value for part in values for value in part], as_rows), splits


def filter_of(*, exclude=None, allow=None, allow_mask=None, as_rows=False):
    """A filter of lists of ids for each request, of one list for all, or of a mask."""
    made, kept = sized(Filter), []
    for name, values in (("exclude", exclude), ("allow", allow)):
        if values is None:
            continue
        if not values or isinstance(values[0], list):
            ids, splits = split_ids(values, as_rows)
            setattr(made, f"{name}_splits", address(splits))
            kept.append(splits)
        else:
            ids = new_ids(values, as_rows)
        setattr(made, name, pointer(ids))
        kept.append(ids)
    if allow_mask is not None:
        mask = np.ascontiguousarray(allow_mask, np.uint8)
        made.allow_mask, made.mask_size = address(mask), mask.size
        kept.append(mask)
    made.keep = kept
    return made


def columns_array(columns):
    array = (Column * len(columns))(*columns)
    array.keep = columns
    return array


def requests_of(columns, n_requests, top_n, include_seen=False, filter=None, *,
                stages=0, skipped=None, as_rows=False):  # fmt: skip
    """`skipped`: a list for each request, of ids or of rows."""
    array = columns_array(columns)
    made = sized(Requests, n_requests=n_requests, top_n=top_n, n_columns=len(columns),
                 include_seen=include_seen, columns=array, stages=stages)  # fmt: skip
    made.keep = [array, filter]
    if filter is not None:
        made.filter = pointer(filter)
    if skipped is not None:
        ids, splits = split_ids(skipped, as_rows)
        made.skipped, made.skipped_splits = pointer(ids), address(splits)
        made.keep += [ids, splits]
    return made


def open_engine(path, **options):
    options = sized(EngineOptions, **{"onnxruntime": str(RUNTIME).encode(), **options})
    handle = c_void_p()
    call("engine_open", str(path).encode(), byref(options), byref(handle))
    return handle


def read_array(data, dtype, shape):
    n_bytes = np.dtype(dtype).itemsize * int(np.prod(shape))
    content = ctypes.string_at(data, n_bytes) if n_bytes else b""
    return np.frombuffer(content, dtype).reshape(shape)


def read_answer(answer, n_quotas=0):
    n, top_n = answer.n_requests, answer.top_n
    if answer.numbers:
        item_ids = read_array(answer.numbers, np.int64, (n, top_n))
    else:
        texts = [answer.texts[i].decode() for i in range(n * top_n)]
        item_ids = np.array(texts, object).reshape(n, top_n)
    return SimpleNamespace(
        item_ids=item_ids,
        version=answer.version,
        scores=read_array(answer.scores, np.float32, (n, top_n)),
        rows=read_array(answer.rows, np.int64, (n, top_n)),
        counts=read_array(answer.counts, np.int64, (n,)),
        sources=read_array(answer.sources, np.int64, (n,)),
        stages=read_array(answer.stages, np.int8, (n,)),
        missing=read_array(answer.missing, np.int64, (n, n_quotas)) if n_quotas else None,
    )


def read_explanation(found):
    """An answer with `reasons[i][j]`: (item id, feature, drop, whether it leaves the list)."""
    answer = read_answer(found.answer.contents)
    n, top_n = answer.item_ids.shape
    n_all = n * top_n * found.n_reasons
    if found.numbers:
        ids = read_array(found.numbers, np.int64, n_all).tolist()
        ids = [None if item == -1 else item for item in ids]
    else:
        ids = [found.texts[i].decode() or None for i in range(n_all)]
    features = [found.features[i] and found.features[i].decode() for i in range(n_all)]
    drops = read_array(found.drops, np.float32, n_all).tolist()
    leaves = read_array(found.leaves_list, np.uint8, n_all).astype(bool).tolist()
    flat = list(zip(ids, features, drops, leaves, strict=True))
    answer.reasons = [
        [
            [
                reason
                for reason in flat[(i * top_n + j) * found.n_reasons :][: found.n_reasons]
                if reason[:2] != (None, None)
            ]
            for j in range(top_n)
        ]
        for i in range(n)
    ]
    return answer


class EngineView(CView):
    """The items of an engine as they are at this moment."""

    def __init__(self, engine):
        self.handle = c_void_p()
        call("engine_view", engine.handle, byref(self.handle))

    def item_ids(self):
        """The ids of all rows; −1 or "" where an item was removed."""
        return self.ids_of(range(self.info.n_rows))


class CEngine:
    def __init__(self, path, **options):
        self.handle = open_engine(path, **{"n_threads": 1, **options})

    def recommend(self, columns, n_requests, top_n=10, include_seen=False, filter=None, **more):
        """`more`: stages, skipped, as `requests_of` takes them."""
        requests = requests_of(columns, n_requests, top_n, include_seen, filter, **more)
        found = self.ask(requests)
        assert found.scores.shape == (n_requests, top_n)
        return found

    def ask(self, requests):
        found = POINTER(Answer)()
        call("engine_recommend", self.handle, byref(requests), byref(found))
        return take_answer(found, requests)

    def session(self, columns=None):
        """A session; `columns`: of the request that it begins with."""
        made = CSession()
        request = None if columns is None else byref(requests_of(columns, 1, 1))
        call("session_open", self.handle, request, byref(made.handle))
        return made

    def sessions(self, max_bytes):
        made = CSessionStore()
        call("session_store_open", self.handle, size(max_bytes), byref(made.handle))
        return made

    def explain(self, columns, n_requests, top_n=10, include_seen=False, filter=None, *,
                n_reasons=3, thorough=False, groups=None, **more):  # fmt: skip
        requests = requests_of(columns, n_requests, top_n, include_seen, filter, **more)
        options = sized(ExplainOptions, n_reasons=n_reasons, thorough=thorough)
        if groups is not None:
            groups = np.ascontiguousarray(groups, np.int64)
            options.groups, options.n_groups = address(groups), len(groups)
        found = POINTER(Explanation)()
        call("engine_explain", self.handle, byref(requests), byref(options), byref(found))
        answer = read_explanation(found.contents)
        LIBRARY.shortlist_explanation_free(found)
        return answer

    def encode_users(self, columns, n_requests):
        embeddings = np.empty((n_requests, self.info().dim), np.float32)
        requests = requests_of(columns, n_requests, 1)
        call("engine_encode_users", self.handle, byref(requests), address(embeddings))
        return embeddings

    def score(self, columns, item_ids, **more):
        """`item_ids`: a list of as many ids for each request."""
        scores = np.empty((len(item_ids), len(item_ids[0])), np.float32)
        requests = requests_of(columns, *scores.shape, **more)
        ids, _ = split_ids(item_ids)
        call("engine_score", self.handle, byref(requests), byref(ids), address(scores))
        return scores

    def encode_items(self, columns, n_items):
        embeddings = np.empty((n_items, self.info().dim), np.float32)
        call("engine_encode_items", self.handle, columns_array(columns), size(len(columns)),
             size(n_items), address(embeddings))  # fmt: skip
        return embeddings

    def upsert(self, item_ids, columns=(), vectors=None):
        data = None if vectors is None else address(vectors)
        call("engine_upsert", self.handle, byref(new_ids(item_ids)), columns_array(columns),
             size(len(columns)), data)  # fmt: skip

    def remove(self, item_ids):
        n_removed = c_size_t()
        call("engine_remove", self.handle, byref(new_ids(item_ids)), byref(n_removed))
        return n_removed.value

    def view(self):
        return EngineView(self)

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


def take_answer(found, requests):
    """The answer to requests, copied, and its memory given back."""
    is_varied = requests.filter and requests.filter.contents.variety
    n_quotas = requests.filter.contents.variety.contents.n_quotas if is_varied else 0
    answer = read_answer(found.contents, n_quotas)
    LIBRARY.shortlist_answer_free(found)
    return answer


class CSession:
    """What one user does, through the C ABI."""

    def __init__(self):
        self.handle = c_void_p()

    def append(self, item_ids, kind=None, timestamp=NO_TIME):
        kind = None if kind is None else byref(texts_of([kind])[0])
        call("session_append", self.handle, byref(new_ids(item_ids)), kind, c_int64(timestamp))

    def forget(self, item_ids):
        call("session_forget", self.handle, byref(new_ids(item_ids)))

    def recommend(self, top_n=10, include_seen=False, filter=None, now=NO_TIME, **more):
        requests = requests_of([], 1, top_n, include_seen, filter, **more)
        return self.ask(requests, now)

    def ask(self, requests, now=NO_TIME):
        found = POINTER(Answer)()
        call("session_recommend", self.handle, byref(requests), c_int64(now), byref(found))
        return take_answer(found, requests)

    def report(self):
        info = sized(SessionInfo)
        call("session_report", self.handle, byref(info))
        return info

    def close(self):
        LIBRARY.shortlist_session_close(self.handle)
        self.handle = c_void_p()


class CSessionStore:
    """Sessions by key, through the C ABI."""

    def __init__(self):
        self.handle = c_void_p()

    def get(self, key, columns=None):
        made = CSession()
        request = None if columns is None else byref(requests_of(columns, 1, 1))
        name = texts_of([key])
        call("session_store_get", self.handle, byref(name[0]), request, byref(made.handle))
        return made

    def drop(self, key):
        was_there = c_int32()
        name = texts_of([key])
        call("session_store_drop", self.handle, byref(name[0]), byref(was_there))
        return was_there.value

    def report(self):
        info = sized(StoreInfo)
        call("session_store_report", self.handle, byref(info))
        return info

    def close(self):
        LIBRARY.shortlist_session_store_close(self.handle)
        self.handle = c_void_p()
