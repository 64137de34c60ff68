"""What a bundle's manifest.json must say: field by field, before anything else is believed."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shortlist.errors import BundleError

FORMAT = "shortlist-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
REQUIRED_FILES = ("user_encoder.onnx", "item_encoder.onnx", "items.index", "items.arrow")
# Kinds of features, and the value types their columns may have in the graphs.
FEATURE_DTYPES = {
    "categorical": ("int64", "string"),
    "multi_categorical": ("int64", "string"),
    "numeric": ("float32",),
    "text": ("string",),
    "timestamp": ("int64",),
    "vector": ("float32",),
}
METRICS = ("cosine", "dot", "euclidean")
STORAGES = ("float32", "float16", "bfloat16", "int8")
MAX_MANIFEST_BYTES = (
    64 << 20
)  # vocabularies of user features live here; 64 MiB is millions of values

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING = object()


def is_plain_name(name: str) -> bool:
    """Say whether `name` is a bare file name: no folder, no leading dot, ASCII, short."""
    return _PLAIN_NAME.fullmatch(name) is not None


def problem(file: str, expected: str, found: object) -> BundleError:
    """Build the one form of message every bundle problem has: file, expected, found."""
    return BundleError(f"{file}: expected {expected}, found {found}")


def version_of(manifest: Mapping[str, Any]) -> str:
    """Return a bundle's version; one written before there were versions is named by its time."""
    lineage = manifest.get("lineage")
    if lineage:
        return str(lineage["version"])
    digits = "".join(letter for letter in manifest["created"][:19] if letter.isalnum())
    return f"{digits}-unnamed"


def parse_manifest(data: bytes, where: str = MANIFEST) -> dict[str, Any]:
    """Read and check a manifest.

    Parameters
    ----------
    data : bytes
        Content of manifest.json, UTF-8.
    where : str
        How messages name the file.

    Returns
    -------
    dict
        The manifest; every field the engine relies on has the right type and range.

    Raises
    ------
    BundleError
        Not JSON, another format or version, a field missing or wrong, or a listed file name
        that is not a plain name.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise problem(where, f"at most {MAX_MANIFEST_BYTES:,} bytes", f"{len(data):,} bytes")
    try:
        manifest = json.loads(data.decode("utf-8"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise problem(where, "a JSON object in UTF-8", f"something else ({error})") from error
    if not isinstance(manifest, dict):
        raise problem(where, "a JSON object", f"a JSON {type(manifest).__name__}")
    _check_version(manifest, where)
    _check_fields(manifest, where)
    _check_features(manifest, where)
    _check_event_features(manifest, where)
    _check_files(manifest, where)
    return manifest


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a name twice: readers differ on which of the two counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        again = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"the name {again!r:.80} twice in one object")
    return found


def _check_version(manifest: dict[str, Any], where: str) -> None:
    if manifest.get("format") != FORMAT:
        raise problem(where, f"format {FORMAT!r}", repr(manifest.get("format")))
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: expected format_version {FORMAT_VERSION}, found {version!r}; "
            "read it with the release that wrote it, or export the run again with this one"
        )


def _field(
    record: dict[str, Any], key: str, kinds: type | tuple[type, ...], said: str, where: str
) -> Any:
    value = record.get(key, _MISSING)
    if value is _MISSING:
        raise problem(where, f"field {key!r} ({said})", "no such field")
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise problem(where, f"field {key!r} to be {said}", f"{value!r:.80}")
    return value


def _check_number(record: dict[str, Any], key: str, least: int, where: str) -> None:
    value = _field(record, key, int, "a whole number", where)
    if value < least:
        raise problem(where, f"{key} >= {least}", value)
    if value >= 1 << 63:
        raise problem(where, f"{key} below 2^63", f"{value!r:.40}")


def _check_fields(manifest: dict[str, Any], where: str) -> None:
    if _field(manifest, "metric", str, "a metric", where) not in METRICS:
        raise problem(where, f"metric to be one of {', '.join(METRICS)}", repr(manifest["metric"]))
    if _field(manifest, "storage", str, "a storage", where) not in STORAGES:
        raise problem(
            where, f"storage to be one of {', '.join(STORAGES)}", repr(manifest["storage"])
        )
    if "recall" in manifest and not 0 <= _field(manifest, "recall", float, "a number", where) <= 1:
        raise problem(where, "recall from 0 to 1", manifest["recall"])
    for key, least in (("dim", 1), ("n_items", 1), ("n_users", 0), ("max_history", 1)):
        _check_number(manifest, key, least, where)
    for key in ("item_id_dtype", "user_id_dtype"):
        if _field(manifest, key, str, "an id type", where) not in ("int64", "string"):
            raise problem(where, f"{key} to be int64 or string", repr(manifest[key]))
    _field(manifest, "created", str, "a time", where)
    for key in ("versions", "metrics", "parity", "training"):
        _field(manifest, key, dict, "an object", where)
    if "lineage" in manifest:
        _check_lineage(_field(manifest, "lineage", dict, "an object", where), where)
    if "second_stage" in manifest:
        second = _field(manifest, "second_stage", dict, "an object", where)
        for key in ("n_candidates", "history_length"):
            _check_number(second, key, 1, where)


def _check_lineage(lineage: dict[str, Any], where: str) -> None:
    ancestors = _field(lineage, "ancestors", list, "a list", where)
    for entry in (lineage, *ancestors):
        if not isinstance(entry, dict):
            raise problem(where, "every ancestor to be an object", f"{entry!r:.80}")
        version = _field(entry, "version", str, "a version", where)
        if not is_plain_name(version):
            raise problem(where, "a version of letters, digits, - and .", f"{version!r:.80}")
        _field(entry, "created", str, "a time", where)
        parent = entry.get("parent")
        if parent is not None and not isinstance(parent, str):
            raise problem(where, "parent to be a version or null", f"{parent!r:.80}")
        run = entry.get("run")
        if run is not None and not (isinstance(run, str) and Path(run).name == run):
            raise problem(where, "run to be the name of a folder", f"{run!r:.80}")


def _check_features(manifest: dict[str, Any], where: str) -> None:
    seen: set[tuple[str, str]] = set()
    for feature in _field(manifest, "features", list, "a list", where):
        if not isinstance(feature, dict):
            raise problem(where, "every feature to be an object", f"{feature!r:.80}")
        name = _field(feature, "name", str, "a column name", where)
        side = _field(feature, "side", str, "user or item", where)
        kind = _field(feature, "kind", str, "a feature kind", where)
        dtype = _field(feature, "dtype", str, "a value type", where)
        if side not in ("user", "item") or (side, name) in seen:
            raise problem(where, "each feature once, side user or item", f"{side} {name!r}")
        if kind not in FEATURE_DTYPES:
            raise problem(where, f"a known kind of feature for {name!r}", repr(kind))
        if dtype not in FEATURE_DTYPES[kind]:
            raise problem(where, f"a value type that fits {kind} feature {name!r}", repr(dtype))
        for key in ("mean", "std", "n_vocabulary", "width"):
            if key in feature:
                _field(feature, key, (int, float), "a number", where)
        if kind == "vector" and not 1 <= _field(feature, "width", int, "a size", where) <= 65_536:
            raise problem(where, f"width of {name!r} from 1 to 65536", feature["width"])
        if feature.get("unit", "s") not in ("s", "ms", "us"):
            raise problem(where, f"unit of {name!r} to be s, ms or us", repr(feature["unit"]))
        if not isinstance(feature.get("separator", ""), str):
            raise problem(where, f"separator of {name!r} to be text", repr(feature["separator"]))
        vocabulary = feature.get("vocabulary", [])
        wanted = str if dtype == "string" else int
        if not isinstance(vocabulary, list) or any(type(v) is not wanted for v in vocabulary):
            raise problem(where, f"vocabulary of {name!r} to be a list of {dtype}", "another thing")
        seen.add((side, name))


def _check_event_features(manifest: dict[str, Any], where: str) -> None:
    events = manifest.get("event_features", {})
    if not isinstance(events, dict) or set(events) - {"history_kinds", "history_ages"}:
        expected = "event_features to hold history_kinds and history_ages, or none"
        raise problem(where, expected, f"{events!r:.80}")
    for name, options in events.items():
        if not isinstance(options, dict):
            raise problem(where, f"options of {name}", f"{options!r:.80}")
        if "gap" in options and _field(options, "gap", (int, float), "seconds", where) < 0:
            raise problem(where, f"gap of {name} >= 0", options["gap"])


def _check_files(manifest: dict[str, Any], where: str) -> None:
    files = _field(manifest, "files", dict, "an object", where)
    for name, record in files.items():
        if not is_plain_name(name) or name == MANIFEST:
            raise problem(where, "plain file names in 'files', without folders", repr(name)[:200])
        if not isinstance(record, dict):
            raise problem(where, f"size and sha256 for {name}", f"{record!r:.80}")
        if _field(record, "size", int, "a number of bytes", where) < 0:
            raise problem(where, f"size of {name} >= 0", record["size"])
        if not _SHA256.fullmatch(_field(record, "sha256", str, "64 hex digits", where)):
            raise problem(where, f"sha256 of {name} to be 64 hex digits", repr(record["sha256"]))
    for name in REQUIRED_FILES:
        if name not in files:
            raise problem(where, f"{name} in 'files'", ", ".join(sorted(files)) or "no file at all")
