"""What `shortlist inspect` says about a bundle, as values and as text."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shortlist._checks import printable
from shortlist.bundle.manifest import FORMAT_VERSION, Manifest
from shortlist.bundle.records import FeatureRecord
from shortlist.bundle.storages import APPROXIMATE, ON_DISK

_WIDTH, _MOST_LINES = 100, 3  # of a section of an outline
_NO_BREAK = "\xa0"  # a blank at which no line ends


def describe(path: Path, manifest: Manifest, parts: Mapping[str, int]) -> dict[str, object]:
    """Return the manifest as a report: vocabularies become their sizes, file sizes are summed."""
    report = manifest.to_dict()
    features, files = report.pop("features"), report.pop("files")
    return {
        "path": str(path),
        **report,
        "features": [
            {key: value for key, value in feature.items() if key != "vocabulary"}
            for feature in features
        ],
        "files": {name: dict(record) for name, record in files.items()},
        "size": manifest.size,
        "memory": memory_of(manifest, parts),
    }


def memory_of(manifest: Manifest, parts: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of what serving reads: parts of the index, and the files of the others."""
    sizes = {name: file.size for name, file in manifest.files.items()}
    graphs = [name for name in sizes if name.endswith(".onnx") or name == "graphs.data"]
    return {
        **{f"item_{part}": size for part, size in parts.items()},
        "users": sizes.get("users.arrow", 0),
        "graphs": sum(sizes[name] for name in graphs),
    }


def summarise(path: Path, manifest: Manifest, parts: Mapping[str, int]) -> str:
    """Return the report as text: what it is, features, quality, parity, files, versions."""
    m = manifest
    lines = [*_heading(path, m, parts), ""]
    if m.privacy is not None:
        lines += ["privacy", f"  {m.privacy.sentence}", *_values(m.to_dict()["privacy"]), ""]
    if "federated" in m:
        lines += ["federated", *_values(m.to_dict()["federated"]), ""]
    lines += ["features", *_features(m.features)]
    if m.metrics:
        lines += ["", "metrics measured", *_values(m.metrics)]
    if m.second_stage is not None:
        lines += ["", "second stage, on validation", *_values(m.to_dict()["second_stage"])]
    if m.compression is not None:
        lines += ["", "compression", *_values(m.to_dict()["compression"])]
    lines += ["", "parity of Keras and this bundle", *_values(m.parity)]
    lines += ["", "files"]
    for name, file in m.files.items():
        lines.append(f"  {name:<24} {file_size(file.size):>10}  sha256 {file.sha256[:16]}…")
    if m.training:
        lines += ["", "training", *_values(m.training)]
    lines += ["", "written with", *_values(m.versions)]
    return "\n".join(map(printable, lines))


def outline(path: Path, manifest: Manifest, parts: Mapping[str, int]) -> str:
    """Return the report on one screen: of each section what comes first."""
    m = manifest
    second = {} if m.second_stage is None else m.to_dict()["second_stage"]
    sections = {
        "features": [f"{f.side} {f.name} ({f.kind})" for f in m.features],
        "measured": _leaves(m.metrics),
        "second stage": _leaves(second),
        "compression": _leaves({} if m.compression is None else m.to_dict()["compression"]),
        "parity": _leaves(m.parity),
        **({"federated": _leaves(m.to_dict()["federated"])} if "federated" in m else {}),
        "files": [f"{name} {file_size(file.size)}" for name, file in m.files.items()],
        "training": _leaves(_without_settings(m)),
        "written with": _leaves(m.versions),
    }
    lines = [*map(printable, _heading(path, m, parts)), ""]
    if m.privacy is not None:
        lines += [*textwrap.wrap(m.privacy.sentence, _WIDTH), ""]
    if m.compression is None:
        del sections["compression"]
    for label, entries in sections.items():
        whole = [printable(entry).replace(" ", _NO_BREAK) for entry in entries]
        wrapped = textwrap.wrap(
            ", ".join(whole) or "none",
            _WIDTH,
            initial_indent=f"  {label:<14}",
            subsequent_indent=" " * 16,
            max_lines=_MOST_LINES,
            placeholder=" …",
        )
        lines += [line.replace(_NO_BREAK, " ") for line in wrapped]
    return "\n".join(lines)


def _heading(path: Path, m: Manifest, parts: Mapping[str, int]) -> list[str]:
    """Say what it is: items, users, sizes, version."""
    lines = [
        f"{path.resolve().name}: a bundle of format {FORMAT_VERSION}, written {m.created}",
        f"  {m.n_items:,} items ({m.item_id_dtype} ids), {m.n_users:,} users "
        f"with a stored history ({m.user_id_dtype} ids)",
        f"  embeddings of dim {m.dim}, {m.metric}; histories of up to {m.max_history} items; "
        f"{file_size(m.size)} on disk",
        f"  item memory, {m.storage}: {_item_memory(m, parts)}",
    ]
    if m.lineage is not None:
        came = f"from {m.own.parent}" if m.own.parent else "trained anew"
        lines.append(f"  version {m.version}, {came}")
    return lines


def _item_memory(m: Manifest, parts: Mapping[str, int]) -> str:
    """Say what a search reads of the index, where that is, and how good the answers are."""
    codes, rows = file_size(parts["codes"]), file_size(parts["rows"])
    if m.storage in ON_DISK:
        return f"codes {codes} in memory, vectors {rows} on disk"
    if m.storage in APPROXIMATE:
        recall = "" if m.recall is None else f", recall {m.recall:.3f}"
        return f"codes {codes}, no vectors: answers are approximate{recall}"
    return f"codes {codes}, vectors {rows}"


def _leaves(values: Mapping[str, Any]) -> list[str]:
    """Return names and values of a tree, a branch's name before its first; without hashes."""
    leaves = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            first, *others = _leaves(value) or [""]
            leaves += [f"{key}: {first}", *others] if first else []
        elif not key.endswith("sha256") and value not in ("", None):
            leaves.append(f"{key} {_plain(value)}")
    return leaves


def _without_settings(m: Manifest) -> dict[str, Any]:
    """Return what the training was, of its settings the encoder alone."""
    encoder = m.training_section("config", "model").get("encoder")
    return {**{k: v for k, v in m.training.items() if k != "config"}, "encoder": encoder}


def _plain(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else f"{value}"


def file_size(n_bytes: int) -> str:
    """Say a number of bytes the way people read it.

    Examples
    --------
    >>> file_size(900), file_size(1536), file_size(5 << 20)
    ('900 B', '1.5 KiB', '5.0 MiB')
    """
    if n_bytes < 1024:
        return f"{n_bytes} B"
    size = float(n_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def _features(features: Sequence[FeatureRecord]) -> list[str]:
    lines = []
    for feature in features:
        if feature.kind == "numeric":
            what = f"mean {feature.mean:.4g}, std {feature.std:.4g}"
        else:
            what = f"{feature.n_vocabulary:,} known values ({feature.dtype})"
        lines.append(f"  {feature.side:<5} {feature.name:<20} {feature.kind:<18} {what}")
    return lines or ["  none declared: ids and histories only"]


def _values(values: Mapping[str, Any], indent: int = 2) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{' ' * indent}{key}", *_values(value, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key:<24} {_plain(value)}")
    return lines or [f"{' ' * indent}not recorded"]
