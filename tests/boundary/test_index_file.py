"""A saved index round-trips bit for bit; a damaged or hostile file is a BundleError, no crash."""

import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shortlist import BundleError, Index, _core
from shortlist.bundle.storages import STORAGES

RANDOM = np.random.default_rng(3)
ITEMS = RANDOM.normal(size=(150, 10)).astype(np.float32)
QUERIES = RANDOM.normal(size=(4, 10)).astype(np.float32)
HEADER = 64 + 32 * 12 + 8


def ids_of(kind):
    return {
        "none": None,
        "int": np.arange(150) * 7 - 70,
        "str": [f"item-ü-{i}" for i in range(150)],
    }[kind]


@pytest.fixture(scope="module", autouse=True, params=["codes", "nibbles"])
def _form(request):
    limit = _core.min_code_bytes_for_nibbles()
    if request.param == "nibbles":  # as if the catalogue were larger than the caches
        _core.set_min_code_bytes_for_nibbles(0)
    yield
    _core.set_min_code_bytes_for_nibbles(limit)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", ["none", "int", "str"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_round_trip_keeps_every_bit(tmp_path, metric, storage, kind, mmap):
    index = Index(ITEMS, item_ids=ids_of(kind), metric=metric, storage=storage)
    index.save(tmp_path / "items.index")
    loaded = Index.load(tmp_path / "items.index", mmap=mmap)
    assert (len(loaded), loaded.dim, loaded.metric) == (150, 10, metric)
    assert (loaded.storage, loaded.recall) == (storage, index.recall)
    rows = np.arange(150)
    assert loaded.vectors(rows).tobytes() == index.vectors(rows).tobytes()
    assert np.array_equal(loaded.item_ids, index.item_ids)
    for top_n in (1, 10, 200):
        a, b = index.search(QUERIES, top_n=top_n), loaded.search(QUERIES, top_n=top_n)
        assert np.array_equal(a.item_ids, b.item_ids)
        assert a.scores.tobytes() == b.scores.tobytes()
        one, alone = index.search(QUERIES[:1], top_n=top_n), loaded.search(QUERIES[:1], top_n=top_n)
        assert one.scores.tobytes() == alone.scores.tobytes() == a.scores[:1].tobytes()
    loaded.save(tmp_path / "again.index")
    first, second = (tmp_path / name for name in ("items.index", "again.index"))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.index", "items.index"]


@pytest.mark.parametrize("storage", STORAGES)
def test_empty_index_round_trips(tmp_path, storage):
    Index(np.empty((0, 3)), storage=storage).save(tmp_path / "a")
    loaded = Index.load(tmp_path / "a")
    assert len(loaded) == 0
    assert (loaded.search(np.ones((1, 3))).item_ids == -1).all()


def test_index_outlives_a_replaced_file(tmp_path):
    path = tmp_path / "a"
    Index(ITEMS).save(path)
    loaded = Index.load(path)
    expected = loaded.search(QUERIES)
    Index(-ITEMS).save(path)
    assert np.array_equal(loaded.search(QUERIES).item_ids, expected.item_ids)


def saved_bytes(tmp_path_factory, kind, storage):
    path = tmp_path_factory.mktemp("index") / "items.index"
    Index(ITEMS, item_ids=ids_of(kind), metric="euclidean", storage=storage).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module", params=["int", "str"])
def saved(request, tmp_path_factory):
    return saved_bytes(tmp_path_factory, request.param, "float32")


@pytest.fixture(scope="module")
def saved_as(tmp_path_factory):
    return {
        name: saved_bytes(tmp_path_factory, "int", name)
        for name in ("float16", "int8", "disk4", "int4", "disk6")
    }


def load_bytes(path, data):
    path.write_bytes(data)
    return Index.load(path)


def test_truncated_file_is_refused(tmp_path, saved):
    for size in [*range(0, HEADER + 70, 13), *np.linspace(HEADER, len(saved) - 1, 40).astype(int)]:
        with pytest.raises(BundleError, match=r"bad: .*expected .*, found "):
            load_bytes(tmp_path / "bad", saved[:size])


def test_longer_file_is_refused(tmp_path, saved):
    with pytest.raises(BundleError, match=f"size: expected {len(saved)} bytes, found"):
        load_bytes(tmp_path / "bad", saved + b"\0")


def test_any_flipped_bit_is_refused(tmp_path, saved):
    positions = [*range(HEADER + 64), *RANDOM.integers(HEADER, len(saved), size=300)]
    for position in positions:
        damaged = bytearray(saved)
        damaged[position] ^= 1 << int(RANDOM.integers(8))
        with pytest.raises(BundleError):
            load_bytes(tmp_path / "bad", bytes(damaged))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "size: expected at least"),
        (b"not an index" * 100, "magic: expected SHORTIDX"),
        (bytes(4096), "magic: expected SHORTIDX"),
    ],
)
def test_other_files_are_refused(tmp_path, data, message):
    with pytest.raises(BundleError, match=message):
        load_bytes(tmp_path / "bad", data)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(
        BundleError, match=r"none: expected a file that .* wrote, found no such file$"
    ):
        Index.load(tmp_path / "none")
    with pytest.raises(BundleError, match="not a file: expected a regular index file"):
        Index.load(tmp_path)


@pytest.mark.parametrize("mmap", ["no", 1, None])
def test_mmap_is_a_bool(tmp_path, mmap):
    with pytest.raises(TypeError, match=rf"mmap: got {mmap!r} of type \w+; expected a bool"):
        Index.load(tmp_path / "none", mmap=mmap)


def test_files_that_killed_saves_left_are_not_in_the_way(tmp_path):
    path = tmp_path / "items.index"
    Index(ITEMS).save(path)
    left = [
        f"items.index.tmp{os.getpid()}",
        *(f"items.index.tmp{os.getpid()}.{i}" for i in range(50)),
    ]
    for name in left:
        (tmp_path / name).touch()
    Index(ITEMS[:3]).save(path)
    assert len(Index.load(path)) == 3
    assert {entry.name for entry in tmp_path.iterdir()} == {"items.index", *left}


def test_saves_of_one_path_at_a_time_all_succeed(tmp_path):
    path = tmp_path / "items.index"
    index = Index(ITEMS)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(index.save, path) for _ in range(80)]:
            done.result()
    assert len(Index.load(path)) == len(ITEMS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["items.index"]


def test_saving_where_nothing_can_be_written_is_an_error(tmp_path):
    with pytest.raises(BundleError, match="cannot create: No such file"):
        Index(ITEMS).save(tmp_path / "no" / "folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match="cannot replace"):
        Index(ITEMS).save(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder"]


# ---- hostile files: every checksum is right, the content is not ----

PRIME_A, PRIME_B, MASK = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 2**64 - 1


def absorb(lane, word):
    lane = ((lane ^ word) * PRIME_A) & MASK
    return ((lane << 31) | (lane >> 33)) & MASK


def checksum(data):
    lanes = [PRIME_B * (k + 1) & MASK for k in range(8)]
    whole = len(data) // 64 * 64
    for at in range(0, whole, 64):
        words = struct.unpack_from("<8Q", data, at)
        lanes = [absorb(lane, word) for lane, word in zip(lanes, words, strict=True)]
    tail = struct.unpack("<8Q", data[whole:].ljust(64, b"\0"))
    result = len(data) * PRIME_B & MASK
    for lane, word in zip(lanes, tail, strict=True):
        result = absorb(result, absorb(lane, word))
    return result ^ (result >> 29)


def forge(data, header=(), section=None, content=None, entry=None):
    """Change header fields, one section's bytes or its table entry, and fix all checksums."""
    data = bytearray(data)
    for offset, form, value in header:
        struct.pack_into(form, data, offset, value)
    for i in range(12):
        at = 64 + 32 * i
        tag, _, offset, size, _ = struct.unpack_from("<IIQQQ", data, at)
        if tag == section and content is not None:
            data[offset : offset + len(content)] = content
            struct.pack_into("<Q", data, at + 24, checksum(bytes(data[offset : offset + size])))
        if tag == section and entry is not None:
            struct.pack_into("<QQ", data, at + 8, *entry)
    struct.pack_into("<Q", data, HEADER - 8, checksum(bytes(data[: HEADER - 8])))
    return bytes(data)


def test_forging_works(tmp_path, saved):
    assert len(load_bytes(tmp_path / "good", forge(saved))) == 150


HUGE = 2**63 - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": [(8, "<I", 99)]}, "format version: expected 2, found 99"),
        ({"header": [(12, "<I", 4_000_000)]}, "header: expected known metric"),
        ({"header": [(16, "<I", 7)]}, "header: expected known metric"),
        ({"header": [(20, "<I", 9)]}, "header: expected known metric"),
        ({"header": [(48, "<I", 8)]}, "header: expected known metric, id kind, storage"),
        ({"header": [(48, "<I", 1)]}, "section 1: expected 3000 bytes, found 6000"),
        ({"header": [(48, "<I", 3)]}, "section 8: expected to be present"),
        ({"header": [(52, "<I", 1)]}, "header: expected known metric"),
        ({"header": [(56, "<d", 0.5)]}, "recall: expected 0 to 1, and only with storage int8"),
        ({"header": [(24, "<Q", HUGE)]}, "shape: expected at most"),
        ({"header": [(24, "<Q", 2**30)]}, "shape: expected rows that fit in the file"),
        ({"header": [(32, "<Q", 0)]}, "shape: expected at most"),
        ({"header": [(32, "<Q", HUGE)]}, "shape: expected at most"),
        ({"header": [(32, "<Q", 2**31)]}, "shape: expected rows that fit in the file"),
        ({"header": [(24, "<Q", 149)]}, "section 1: expected"),
        ({"section": 1, "entry": (HUGE - 63, 6000)}, "section 1: expected offset 512 and a place"),
        ({"section": 1, "entry": (512, HUGE)}, "section 1: expected offset 512 and a place inside"),
        ({"section": 1, "entry": (513, 6000)}, "section 1: expected offset 512 and a place inside"),
        ({"section": 1, "entry": (512, 5999)}, "padding: expected zeros, found other bytes"),
        ({"section": 5, "entry": (512, 9)}, "section 5: expected offset"),  # on top of section 1
        ({"section": 1, "content": np.float32(np.nan).tobytes()}, "rows: expected finite numbers"),
        ({"section": 6, "content": struct.pack("<I", 4_000_000_000)}, "order: expected a permut"),
        ({"section": 6, "content": struct.pack("<II", 5, 5)}, "order: expected a permutation"),
        ({"section": 7, "content": struct.pack("<d", -1.0)}, "block statistics: expected finite"),
        ({"section": 7, "content": struct.pack("<d", np.nan)}, "block statistics: expected finite"),
        ({"section": 7, "content": struct.pack("<d", 0.0)}, "block statistics: expected finite"),
        ({"section": 7, "content": struct.pack("<d", 1e300)}, "block statistics: expected finite"),
    ],
)
def test_hostile_file_is_refused(tmp_path, saved, changes, message):
    with pytest.raises(BundleError, match=message):
        load_bytes(tmp_path / "bad", forge(saved, **changes))


def test_empty_section_behind_the_end_is_refused(tmp_path, saved):
    short = forge(saved[:493], header=[(12, "<I", 1), (40, "<Q", 493)], section=1, entry=(512, 0))
    with pytest.raises(BundleError, match="section 1: expected offset 512 and a place inside"):
        load_bytes(tmp_path / "bad", short)


@pytest.mark.parametrize(
    ("section", "content"),
    [
        (2, np.array([5, 5]).tobytes()),
        (3, b"\xff\xfe"),
        (3, b"\xc3\x28"),
        (4, np.array([1]).tobytes()),
        (4, np.array([0, -5]).tobytes()),
        (4, np.array([0, 2**62]).tobytes()),
        (4, np.array([0, 6]).tobytes()),  # cuts the ü in two
    ],
)
def test_hostile_ids_are_refused(tmp_path, saved, section, content):
    is_string = b"item-" in saved
    if (section == 2) == is_string:
        return
    with pytest.raises(BundleError, match="item ids"):
        load_bytes(tmp_path / "bad", forge(saved, section=section, content=content))


@pytest.mark.parametrize(
    ("storage", "changes", "message"),
    [
        ("float16", {"section": 1, "content": b"\x00\x7c"}, "rows: expected finite numbers"),
        ("float16", {"section": 1, "content": b"\x01\xfc"}, "rows: expected finite numbers"),
        ("float16", {"header": [(48, "<I", 0)]}, "section 1: expected 6000 bytes, found 3000"),
        ("int8", {"header": [(48, "<I", 0)]}, "recall: expected 0 to 1, and only with storage"),
        ("int8", {"header": [(56, "<d", 1.5)]}, "recall: expected 0 to 1"),
        ("int8", {"header": [(56, "<d", -0.1)]}, "recall: expected 0 to 1"),
        ("int8", {"header": [(32, "<Q", 32769)]}, "shape: expected at most .* 1 to 32768 columns"),
        ("int8", {"header": [(24, "<Q", 2**30)]}, "section 5: expected"),
        ("int8", {"section": 8, "content": struct.pack("<f", np.nan)}, "scales: expected finite"),
        ("int8", {"section": 8, "content": struct.pack("<f", -1.0)}, "scales: expected finite"),
        ("int8", {"section": 8, "content": struct.pack("<f", 1e38)}, "scales: expected finite"),
        ("int8", {"section": 8, "content": struct.pack("<f", 1e-40)}, "scales: expected finite"),
        ("int8", {"section": 8, "content": struct.pack("<I", 0x3F800001)}, "scales: expected"),
        ("int4", {"section": 8, "content": struct.pack("<f", 3e38)}, "scales: expected finite"),
        ("int4", {"header": [(48, "<I", 5)]}, "recall: expected 0 to 1, and only with storage"),
        ("disk4", {"header": [(64, "<I", 11)]}, "section 1: expected to be present, found nothing"),
        ("disk4", {"header": [(48, "<I", 4)]}, "section 5: expected to be present, found nothing"),
        ("disk4", {"section": 1, "content": struct.pack("<f", np.nan)}, "rows: expected finite"),
        ("disk6", {"section": 10, "content": struct.pack("<d", 0)}, "nibble statistics: expected"),
        ("disk4", {"header": [(48, "<I", 7)]}, "section 11: expected to be present, found nothing"),
        ("disk4", {"section": 7, "content": struct.pack("<d", 0)}, "block statistics: expected"),
        ("int8", {"section": 6, "content": struct.pack("<II", 5, 5)}, "order: expected a permut"),
    ],
)
def test_hostile_storage_is_refused(tmp_path, saved_as, storage, changes, message):
    assert len(load_bytes(tmp_path / "good", forge(saved_as[storage]))) == 150
    with pytest.raises(BundleError, match=message):
        load_bytes(tmp_path / "bad", forge(saved_as[storage], **changes))


def test_any_codes_are_read_without_harm(tmp_path, saved_as):
    """No code is forbidden: -128 is never written, and the largest scale still stays finite."""
    most = np.float32(np.finfo(np.float32).max / 128)
    scales = (np.full(150, most).view(np.uint32) & 0xFFFFFF00).view(np.float32)
    data = forge(saved_as["int8"], section=5, content=bytes(64 * 3 * 12))
    index = load_bytes(tmp_path / "odd", forge(data, section=8, content=scales.tobytes()))
    assert np.isfinite(index.vectors(np.arange(150))).all()
    assert np.isfinite(index.search(QUERIES, top_n=150).scores).all()


def test_a_flipped_bit_of_any_storage_is_refused(tmp_path, saved_as):
    for data in saved_as.values():
        for position in RANDOM.integers(HEADER, len(data), size=100):
            damaged = bytearray(data)
            damaged[position] ^= 1 << int(RANDOM.integers(8))
            with pytest.raises(BundleError):
                load_bytes(tmp_path / "bad", bytes(damaged))


def meeting_ids(n):
    """Ids whose hashes all ended in zeros when hashes had no key: splitmix64, taken backwards."""
    value = np.arange(1, n + 1, dtype=np.uint64) << np.uint64(40)
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        value = value ^ value >> np.uint64(shift) ^ value >> np.uint64(2 * shift)
        value = value * np.uint64(pow(factor, -1, 2**64))
    return (value - np.uint64(0x9E3779B97F4A7C15)).astype(np.int64)


def test_ids_that_meet_in_a_table_cost_no_time(tmp_path):
    """To make, load and change them: a hash that everybody knows takes 1,000 times longer."""
    n, vectors = 60_000, np.ones((60_000, 1), np.float32)

    def seconds(ids):
        taken = []
        for _ in range(3):
            start = time.process_time()
            Index(vectors, ids, "dot").save(tmp_path / "items.index")
            index = Index.load(tmp_path / "items.index")
            index.upsert([5], vectors[:1])
            assert index.rows_of(ids[-3:]).tolist() == [n - 3, n - 2, n - 1]
            taken.append(time.process_time() - start)
        return min(taken)

    ids = meeting_ids(n)
    assert len(np.unique(ids)) == n
    assert seconds(ids) < 20 * max(0.05, seconds(np.arange(n) * 7))
