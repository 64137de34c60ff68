"""shortlist.h in ctypes, and a small index on top of it that takes and returns arrays."""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_int32, c_size_t, c_void_p, cast

import numpy as np

import shortlist

LIBRARY = ctypes.CDLL(shortlist.plugin_path())
LIBRARY.shortlist_index_free.argtypes = [c_void_p]
LIBRARY.shortlist_index_free.restype = None
LIBRARY.shortlist_view_free.argtypes = [c_void_p]
LIBRARY.shortlist_view_free.restype = None

OK, INVALID_ARGUMENT, FILE_ERROR, OUT_OF_MEMORY, INTERNAL_ERROR = range(5)
METRICS = ["cosine", "dot", "euclidean"]
STORAGES = ["float32", "float16", "bfloat16", "int8", "disk8", "disk4", "int4", "disk6"]
TASK = ctypes.CFUNCTYPE(None, c_void_p, c_size_t)
RUN = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, c_void_p, c_void_p)


class Error(ctypes.Structure):
    _fields_ = [("status", c_int32), ("message", ctypes.c_char * 1020)]


class Text(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]

    def decode(self):
        return ctypes.string_at(self.data, self.size).decode()


class Ids(ctypes.Structure):
    _fields_ = [("n", c_size_t), ("numbers", c_void_p), ("texts", POINTER(Text)),
                ("rows", c_void_p)]  # fmt: skip


class Options(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("metric", c_int32), ("storage", c_int32)]


class Info(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_items", c_size_t), ("n_rows", c_size_t),
                ("dim", c_size_t), ("version", ctypes.c_uint64), ("recall", c_double),
                ("metric", c_int32), ("storage", c_int32), ("has_texts", c_int32)]  # fmt: skip


class Groups(ctypes.Structure):
    _fields_ = [("n", c_size_t), ("values", c_void_p), ("splits", c_void_p)]


class Calibration(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("column", Groups), ("strength", c_void_p),
                ("splits", c_void_p), ("values", c_void_p), ("shares", c_void_p),
                ("from_history", c_void_p)]  # fmt: skip


class Variety(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("n_rows", c_size_t), ("columns", POINTER(Groups)),
                ("n_columns", c_size_t), ("at_most", c_void_p), ("quotas", POINTER(c_void_p)),
                ("n_quotas", c_size_t), ("at_least", c_void_p), ("diversity", c_void_p),
                ("calibration", c_void_p), ("terms", c_void_p),
                ("dampening", c_void_p)]  # fmt: skip


class Filter(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("exclude", POINTER(Ids)), ("exclude_splits", c_void_p),
                ("allow", POINTER(Ids)), ("allow_splits", c_void_p), ("allow_mask", c_void_p),
                ("mask_size", c_size_t), ("variety", POINTER(Variety))]  # fmt: skip


class Hits(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("scores", c_void_p), ("rows", c_void_p),
                ("numbers", c_void_p), ("texts", POINTER(Text)), ("counts", c_void_p),
                ("missing", c_void_p)]  # fmt: skip


class Executor(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("context", c_void_p), ("run", RUN),
                ("n_threads", c_size_t)]  # fmt: skip


class CError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def address(array):
    return array.ctypes.data_as(c_void_p)


def sized(kind, **fields):
    return kind(struct_size=ctypes.sizeof(kind), **fields)


def size(value):
    """A size_t argument: ctypes would pass a plain int as a 32-bit one."""
    return c_size_t(value)


def call(name, *arguments):
    """Call a function whose last parameter is the error; raise CError unless it returns OK."""
    error = Error(status=-1, message=b"stale")
    status = getattr(LIBRARY, f"shortlist_{name}")(*arguments, byref(error))
    assert error.status == status
    message = error.message.decode()
    assert (status == OK) == (message == "")
    if status != OK:
        raise CError(status, message)


def new_ids(values, as_rows=False):
    """The struct for numbers, rows or a list of str; it keeps its arrays alive."""
    if isinstance(values, list) and values and isinstance(values[0], (str, bytes)):
        blobs = [v.encode() if isinstance(v, str) else v for v in values]
        texts = (Text * len(blobs))(
            *(Text(cast(c_char_p(blob), c_void_p), len(blob)) for blob in blobs)
        )
        ids = Ids(n=len(blobs), texts=texts)
        ids.keep = blobs, texts
        return ids
    array = np.ascontiguousarray(values, dtype=np.int64)
    ids = Ids(n=len(array), **{"rows" if as_rows else "numbers": address(array)})
    ids.keep = array
    return ids


class CIndex:
    """As shortlist.Index, through the C ABI."""

    def __init__(self, vectors=None, item_ids=None, metric="cosine", storage="float32", *,
                 path=None, mmap=True):  # fmt: skip
        self.handle = c_void_p()
        if path is not None:
            call("index_load", str(path).encode(), c_int32(mmap), byref(self.handle))
            return
        options = sized(Options, metric=METRICS.index(metric), storage=STORAGES.index(storage))
        ids = None if item_ids is None else byref(new_ids(item_ids))
        n_items, dim = vectors.shape
        call("index_create", address(vectors), size(n_items), size(dim), ids, byref(options),
             byref(self.handle))  # fmt: skip

    def close(self):
        LIBRARY.shortlist_index_free(self.handle)
        self.handle = c_void_p()

    def view(self):
        return CView(self)

    def upsert(self, ids, vectors):
        call("index_upsert", self.handle, byref(new_ids(ids)), address(vectors),
             size(vectors.shape[1]))  # fmt: skip

    def remove(self, ids):
        n_removed = c_size_t()
        call("index_remove", self.handle, byref(new_ids(ids)), byref(n_removed))
        return n_removed.value


class CView:
    def __init__(self, index):
        self.handle = c_void_p()
        call("index_view", index.handle, byref(self.handle))

    def close(self):
        LIBRARY.shortlist_view_free(self.handle)
        self.handle = c_void_p()

    @property
    def info(self):
        info = sized(Info)
        call("view_info", self.handle, byref(info))
        return info

    def search(self, queries, top_n=10, filter=None, n_threads=0):
        """Scores, rows, ids (an array or lists of str), counts."""
        n = len(queries)
        scores = np.empty((n, top_n), np.float32)
        rows, numbers = np.empty((2, n, top_n), np.int64)
        counts = np.empty(n, np.int64)
        texts = (Text * (n * top_n))()
        has_texts = self.info.has_texts
        hits = sized(Hits, scores=address(scores), rows=address(rows), counts=address(counts))
        if has_texts:
            hits.texts = texts
        else:
            hits.numbers = address(numbers)
        call("view_search", self.handle, address(queries), size(n), size(queries.shape[1]),
             size(top_n), None if filter is None else byref(filter), size(n_threads),
             byref(hits))  # fmt: skip
        if has_texts:
            flat = [text.decode() for text in texts]
            return scores, rows, [flat[i : i + top_n] for i in range(0, len(flat), top_n)], counts
        return scores, rows, numbers, counts

    def rows_of(self, ids):
        rows = np.empty(len(ids), np.int64)
        call("view_rows_of", self.handle, byref(new_ids(ids)), address(rows))
        return rows

    def ids_of(self, rows):
        rows = np.asarray(rows, dtype=np.int64)
        if self.info.has_texts:
            texts = (Text * len(rows))()
            call("view_ids_of", self.handle, address(rows), size(len(rows)), None, texts)
            return [text.decode() for text in texts]
        numbers = np.empty(len(rows), np.int64)
        call("view_ids_of", self.handle, address(rows), size(len(rows)), address(numbers), None)
        return numbers.tolist()

    def vectors(self, rows):
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), self.info.dim), np.float32)
        call("view_vectors", self.handle, address(rows), size(len(rows)), address(out))
        return out

    def save(self, path):
        call("view_save", self.handle, str(path).encode())


def lists(values, kind, name, as_rows=False):
    """Filter fields of one list of ids per query."""
    splits = np.array([0, *np.cumsum([len(v) for v in values])], dtype=np.int64)
    flat = [v for part in values for v in part]
    ids = new_ids(flat, as_rows)
    fields = {name: ctypes.pointer(ids), f"{name}_splits": address(splits)}
    kept = sized(kind, **fields)
    kept.keep = splits, ids
    return kept


def variety_of(n_rows, n_queries, columns=(), quotas=(), diversity=None):
    """The same wish for every query.

    `columns`: (values or (values, splits), at_most). `quotas`: (mask, at_least).
    """
    kept, groups, masks = [], (Groups * len(columns))(), (c_void_p * len(quotas))()
    for made, (values, _) in zip(groups, columns, strict=True):
        values, splits = values if isinstance(values, tuple) else (values, None)
        kept.append(np.ascontiguousarray(values, np.int32))
        made.n, made.values = len(kept[-1]), address(kept[-1])
        if splits is not None:
            kept.append(np.ascontiguousarray(splits, np.int64))
            made.splits = address(kept[-1])
    for i, (mask, _) in enumerate(quotas):
        kept.append(np.ascontiguousarray(mask, np.uint8))
        masks[i] = address(kept[-1])
    at_most = np.tile(np.array([n for _, n in columns], np.int32), n_queries)
    at_least = np.tile(np.array([n for _, n in quotas], np.int32), n_queries)
    made = sized(Variety, n_rows=n_rows, columns=groups, n_columns=len(columns), quotas=masks,
                 n_quotas=len(quotas), at_most=address(at_most),
                 at_least=address(at_least))  # fmt: skip
    if diversity is not None:
        kept.append(np.full(n_queries, diversity, np.float64))
        made.diversity = address(kept[-1])
    made.keep = kept, groups, masks, at_most, at_least
    return made


def set_calibration(made, n_queries, column, shares, strength):
    """Let every query want the same shares of a column's values; None: those of its history."""
    values, splits = column if isinstance(column, tuple) else (column, None)
    values = np.ascontiguousarray(values, np.int32)
    kept = [values, np.full(n_queries, strength, np.float64)]
    groups = Groups(n=len(values), values=address(values))
    if splits is not None:
        kept.append(np.ascontiguousarray(splits, np.int64))
        groups.splits = address(kept[-1])
    own = sorted((shares or {}).items())
    numbers = np.tile(np.array([value for value, _ in own], np.int32), n_queries)
    parts = np.tile(np.array([share for _, share in own], np.float64), n_queries)
    ends = len(own) * np.arange(n_queries + 1)
    flags = np.ones(n_queries, np.uint8)
    made.one = sized(Calibration, column=groups, strength=address(kept[1]), splits=address(ends),
                     values=address(numbers), shares=address(parts))  # fmt: skip
    if shares is None:
        made.one.from_history = address(flags)
    made.more = [*kept, numbers, parts, ends, flags]
    made.calibration = ctypes.cast(ctypes.pointer(made.one), c_void_p)
    return made


def set_dampening(made, n_queries, terms, weight):
    """Take the same weight of the terms off the scores of every query."""
    made.numbers = np.ascontiguousarray(terms, np.float64), np.full(n_queries, weight, np.float64)
    made.terms, made.dampening = map(address, made.numbers)
    return made
