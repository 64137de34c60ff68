"""What `shortlist inspect` says about a bundle, as values and as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def describe(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest as a report: vocabularies become their sizes, file sizes are summed."""
    features = [
        {key: value for key, value in feature.items() if key != "vocabulary"}
        for feature in manifest["features"]
    ]
    files = {name: dict(record) for name, record in manifest["files"].items()}
    report = {key: value for key, value in manifest.items() if key not in ("features", "files")}
    return {
        "path": str(path),
        **report,
        "features": features,
        "files": files,
        "size": sum(record["size"] for record in files.values()),
    }


def summarise(path: Path, manifest: Mapping[str, Any]) -> str:
    """Return the report as text: what it is, features, quality, parity, files, versions."""
    told = describe(path, manifest)
    lines = [
        f"{path.resolve().name}: a bundle of format {told['format_version']}, written "
        f"{told['created']}",
        f"  {told['n_items']:,} items ({told['item_id_dtype']} ids), {told['n_users']:,} users "
        f"with a stored history ({told['user_id_dtype']} ids)",
        f"  embeddings of dim {told['dim']}, {told['metric']}; histories of up to "
        f"{told['max_history']} items; {file_size(told['size'])} on disk",
    ]
    if lineage := told.get("lineage"):
        came = f"from {lineage['parent']}" if lineage["parent"] else "trained anew"
        lines.append(f"  version {lineage['version']}, {came}")
    lines += ["", "features", *_features(told["features"])]
    if told["metrics"]:
        lines += ["", "metrics measured", *_values(told["metrics"])]
    if told.get("second_stage"):
        lines += ["", "second stage, on validation", *_values(told["second_stage"])]
    lines += ["", "parity of Keras and this bundle", *_values(told["parity"])]
    lines += ["", "files"]
    for name, record in told["files"].items():
        lines.append(
            f"  {name:<24} {file_size(record['size']):>10}  sha256 {record['sha256'][:16]}…"
        )
    if told["training"]:
        lines += ["", "training", *_values(told["training"])]
    lines += ["", "written with", *_values(told["versions"])]
    return "\n".join(lines)


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


def _features(features: list[dict[str, Any]]) -> list[str]:
    lines = []
    for feature in features:
        if feature["kind"] == "numeric":
            what = f"mean {feature.get('mean', 0.0):.4g}, std {feature.get('std', 1.0):.4g}"
        else:
            what = f"{feature.get('n_vocabulary', 0):,} known values ({feature['dtype']})"
        lines.append(f"  {feature['side']:<5} {feature['name']:<20} {feature['kind']:<18} {what}")
    return lines or ["  none declared: ids and histories only"]


def _values(values: Mapping[str, Any], indent: int = 2) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{' ' * indent}{key}", *_values(value, indent + 2)]
        else:
            said = f"{value:.5g}" if isinstance(value, float) else f"{value}"
            lines.append(f"{' ' * indent}{key:<24} {said}")
    return lines or [f"{' ' * indent}not recorded"]
