"""Fuzz the loading of whole bundles: damaged ones are refused with BundleError, and nothing else.

    python tests/fuzz_bundles.py --seconds 60 --seed 1

Each round damages a small bundle, a folder or a zip: bits flipped, files cut, grown, removed,
added, replaced by links, pipes and folders; the manifest's JSON edited, its hashes made true again
or not. `Bundle.open` must raise BundleError or give a bundle whose files are what its manifest
says, and Python's engine refuse it no later than at its graph. The C engine must answer
SHORTLIST_FILE_ERROR (no graph here opens), and get as far as the graph where Python takes the
bundle, but for halves of characters in text; and no further than Python, but for what it passes
over: fields and files that only Python's engine needs, and what of the index only the graph reads.
Time and memory are limited: a lying size that is believed ends the process.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shortlist import Bundle, BundleError, Index
from shortlist._runtime import find_runtime
from shortlist._serving.loaded_bundle import LoadedBundle, Settings
from shortlist.plugin import plugin_path

MEMORY_BYTES = 2 << 30
SLOWEST_S = 10  # of the processor, to open a folder in both
NAMES = ["user_encoder.onnx", "item_encoder.onnx", "items.index", "items.arrow", "recommend.onnx"]
VALUES: list[Any] = [None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1e308, "", "x" * 300,
                     [], {}, "../../etc/passwd", "/etc/passwd", "a/b", ".hidden", "é", "\ud800",
                     [[]], {"size": 1, "sha256": "0" * 64}]  # fmt: skip
# Why Python may refuse a bundle of which the C engine opens the graph: fields that it does not read
# and files that it does not need ...
READ = "files|n_items|dim|metric|storage|max_history|item_id_dtype|size|sha256"
PASSED_OVER = re.compile(
    rf"expected (field '(?!({READ})')"
    r"|(n_users|user_id_dtype|recall|n_candidates|history_length|event_features|options|gap|unit)\b"
    r"|(every|each) (feature|ancestor)|a known kind|a value type|(vocabulary|width|separator) of"
    r"|a version of|(parent|run) to be|(user_encoder.onnx|item_encoder.onnx|items.arrow) in 'files)"
    # ... and the content of the index's sections, which the operator checks when a graph opens.
    r"|items\.index: (section|item ids|block|nibble|order|scales|shape|rows)"
)


@cache
def index_file() -> bytes:
    vectors = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        Index(vectors, np.arange(100, 140)).save(Path(folder) / "items.index")
        return (Path(folder) / "items.index").read_bytes()


def write_bundle(folder: Path) -> None:
    """A bundle as far as its files and manifest go; no graph is opened here."""
    folder.mkdir()
    files = {}
    for name in NAMES:
        content = index_file() if name == "items.index" else name.encode() * 40
        (folder / name).write_bytes(content)
        files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    features = [{"name": "city", "side": "user", "kind": "categorical", "dtype": "string",
                 "n_vocabulary": 1, "vocabulary": ["Köln"]}]  # fmt: skip
    manifest = {
        "format": "shortlist-bundle", "format_version": 1, "created": "2026", "metric": "cosine",
        "storage": "float32", "dim": 8, "n_items": 40, "n_users": 3, "max_history": 6,
        "item_id_dtype": "int64", "user_id_dtype": "int64", "features": features, "versions": {},
        "metrics": {"test": {"HR@10": 0.25}}, "parity": {}, "training": {}, "files": files,
        "second_stage": {"n_candidates": 12, "history_length": 4},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def flip(data: bytes, r: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 16])):
        if changed:
            changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def change_bytes(data: bytes, r: random.Random) -> bytes:
    kind = r.randrange(4)
    if kind == 0:
        return flip(data, r)
    at, n = r.randrange(len(data) + 1), r.randrange(200)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + r.randbytes(n) + data[at:]
    return data[:at] + data[r.randrange(len(data) + 1) :]


def change_json(value: Any, r: random.Random) -> Any:
    """Replace, remove or add something somewhere in a JSON value."""
    if isinstance(value, dict) and value and r.random() < 0.8:
        key = r.choice(list(value))
        kind = r.randrange(6)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {**value, r.choice([v for v in VALUES if isinstance(v, str)]): value[key]}
        return {**value, key: change_json(value[key], r)}
    if isinstance(value, list) and value and r.random() < 0.7:
        place = r.randrange(len(value))
        return [*value[:place], change_json(value[place], r), *value[place + 1 :]]
    return r.choice(VALUES)


def is_small_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 22


def damage_manifest(folder: Path, r: random.Random) -> None:
    path = folder / "manifest.json"
    if not is_small_file(path):
        return
    text = path.read_text(encoding="utf-8")
    kind = r.randrange(5)
    if kind == 0:
        path.write_bytes(change_bytes(text.encode(), r))
    elif kind == 1:
        path.write_text(r.choice(["[", "{", '{"a":', '"', "9"]) * r.choice([3, 1000, 200_000]))
    elif kind == 2:
        path.write_bytes(r.choice([b"", b"\xff\xfe", b"\xef\xbb\xbf" + text.encode(), b"null"]))
    else:
        changed = json.loads(text)
        for _ in range(r.choice([1, 1, 2, 3])):
            changed = change_json(changed, r)
        path.write_text(json.dumps(changed), encoding="utf-8")


def damage_file(folder: Path, r: random.Random) -> None:
    path = folder / r.choice([*NAMES, "manifest.json"])
    if not is_small_file(path):
        return
    kind = r.randrange(9)
    if kind == 0:
        path.write_bytes(change_bytes(path.read_bytes(), r))
    elif kind == 1:
        (folder / r.choice(["extra", "..x", ".hidden", "items.index~"])).write_bytes(b"x")
    elif kind == 2:
        os.truncate(path, r.choice([0, 1 << 20, 1 << 40]))  # sparse: no disk is used
    else:
        moved = folder.parent / "moved"
        shutil.move(path, moved)
        if kind == 3:
            path.symlink_to(moved)
        elif kind == 4:
            path.symlink_to(r.choice(["/etc/passwd", "/dev/zero", "nowhere", path.name]))
        elif kind == 5:
            os.mkfifo(path)
        elif kind == 6:
            path.mkdir()
        elif kind == 7:
            os.link(moved, path)  # a hard link is the file itself


def repair(folder: Path) -> None:
    """Make hashes and sizes of the files that are there true again, as an attacker would."""
    if not is_small_file(folder / "manifest.json"):
        return
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name, record in manifest["files"].items():
            path = folder / name
            if path.parent == folder and is_small_file(path):
                content = path.read_bytes()
                record["size"], record["sha256"] = len(content), hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError):
        return


def zipped(folder: Path, target: Path, r: random.Random) -> Path:
    """The folder as a zip that may lie about names, sizes and types."""
    with zipfile.ZipFile(target, "w", r.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as out:
        prefix = r.choice(["", "", "tiny.shortlist/", "../", "/", "a/b/"])
        for path in sorted(folder.iterdir()):
            if not path.is_file() or path.stat().st_size > 1 << 24:
                continue
            info = zipfile.ZipInfo(prefix + path.name)
            if r.random() < 0.03:
                info.external_attr = r.choice([0o120777, 0o010644, 0o040755]) << 16
            out.writestr(info, path.read_bytes())
    if r.random() < 0.5:
        target.write_bytes(change_bytes(target.read_bytes(), r))
    return target


def refusal(path: Path) -> str | None:
    """Open a bundle with Python; None, or why it is refused."""
    try:
        with Bundle.open(path) as bundle:
            for name, record in bundle.manifest.files.items():
                file = bundle.directory / name
                assert file.parent == bundle.directory
                assert file.is_file()
                assert not file.is_symlink()
                assert hashlib.sha256(file.read_bytes()).hexdigest() == record.sha256
            bundle.summary()
            try:
                LoadedBundle(bundle, 1, Settings("cpu", 1, os.fspath(find_runtime())), verify=False)
            except BundleError as error:
                return None if "expected a graph" in str(error) else str(error)
    except BundleError as error:
        return str(error)
    return None


class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int32), ("message", ctypes.c_char * 1020)]


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("onnxruntime", ctypes.c_char_p),
                ("n_threads", ctypes.c_size_t), ("skip_hashes", ctypes.c_int32)]  # fmt: skip


def c_opener() -> Callable[[Path], str]:
    """What the C engine says of a folder. No graph here opens: the message tells whether the bundle
    was refused before that.
    """
    import onnxruntime

    (runtime,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
    library = ctypes.CDLL(plugin_path())

    def say(folder: Path) -> str:
        error, engine = Error(), ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), str(runtime).encode(), 1, 0)
        status = library.shortlist_engine_open(
            str(folder).encode(), ctypes.byref(options), ctypes.byref(engine), ctypes.byref(error)
        )
        assert status == 2, (status, error.message)
        assert engine.value is None
        return error.message.decode("utf-8", "replace")

    return say


def run_round(root: Path, r: random.Random, say: Callable[[Path], str]) -> str:
    folder = root / "tiny.shortlist"
    write_bundle(folder)
    for _ in range(r.choice([1, 1, 1, 2])):
        # The second damage may find nothing left to damage.
        with suppress(OSError, ValueError, RecursionError):
            r.choice([damage_manifest, damage_file])(folder, r)
    if r.random() < 0.5:
        repair(folder)
    start = time.process_time()
    why = refusal(folder)
    said = say(folder)
    assert time.process_time() - start < SLOWEST_S, (why, said)
    if why is None:
        assert re.search(r"\.onnx: expected a |half of one", said), said
    else:
        assert "expected a graph" not in said or PASSED_OVER.search(why), (why, said)
    archive = zipped(folder, root / "tiny.zip", r)
    is_open, is_zip_open = why is None, refusal(archive) is None
    return (
        f"folder {'opened' if is_open else 'refused'}, zip {'opened' if is_zip_open else 'refused'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first round")
    args = parser.parse_args()
    say = c_opener()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    first = int(time.time()) if args.seed is None else args.seed
    stop, seen, n = time.monotonic() + args.seconds, Counter[str](), 0
    while n == 0 or time.monotonic() < stop:
        with tempfile.TemporaryDirectory(prefix="fuzz-bundles-") as root:
            try:
                seen[run_round(Path(root), random.Random(first + n), say)] += 1
            except BaseException:
                print(f"fuzz: finding; repeat with --seconds 0 --seed {first + n}", file=sys.stderr)
                raise
        n += 1
    print(f"fuzz: {n} bundles, no finding; {dict(seen)}")


if __name__ == "__main__":
    main()
