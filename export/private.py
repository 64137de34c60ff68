"""A private bundle is an allow-list: what was released, the public item table, and nothing else.

A private run folder holds a release and synthetic walks from it, never events, so that nothing else
can be reached from here. What the manifest says of a run is still taken field by field, and the
folder is checked before it becomes a bundle.
"""

import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shortlist.bundle.manifest import MANIFEST
from shortlist.errors import DataError
from shortlist.export.errors import ExportError
from shortlist.shards import folder as shards
from shortlist.training.fit.checkpoint import (
    PRIVACY,
    RELEASE,
    load_arrays,
    save_arrays,
    write_atomic,
)
from shortlist.training.privacy.release import Release
from shortlist.training.privacy.walks import DATASET

FILES = (
    *("user_encoder.onnx", "item_encoder.onnx", "session_encoder.onnx", "items.index"),
    *("recommend.onnx", "recommend_portable.onnx", "graphs.data", "items.arrow"),
    *("followers.arrow", MANIFEST),
)
# Of a manifest, and of its objects; of an object that is not named here nothing is left out.
FIELDS = (
    *("created", "lineage", "versions", "metric", "storage", "recall", "dim", "n_items"),
    *("max_history", "item_id_dtype", "user_id_dtype", "features", "event_features", "parity"),
    "training",
)
LINEAGE = ("version", "parent", "kind", "run", "created", "ancestors")
ANCESTOR = ("version", "parent", "kind", "run", "created")
SETTINGS = ("split", "model", "linear", "train", "export")


def save_release(release: Release, run_dir: Path) -> None:
    """Write the released numbers and their ledger into a run folder."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "pairs": release.noisy.pairs,
        "counts": release.noisy.counts,
    }
    save_arrays(run_dir / RELEASE, arrays)
    write_atomic(run_dir / PRIVACY, json.dumps(release.ledger, indent=1).encode())


def read_ledger(run_dir: Path) -> dict[str, Any] | None:
    """Read the ledger of a private run folder; None where the run is not private."""
    path = run_dir / PRIVACY
    if not path.exists():
        return None
    try:
        ledger: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return ledger
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); train anew") from error


def check_source(dataset: str) -> None:
    """Refuse to promise privacy of a run on anything but synthetic walks."""
    if dataset != DATASET:
        raise ExportError(
            f"private bundle: got a run on {dataset}, expected one on what was released: its "
            f"folder holds the {PRIVACY} of another run. Nothing was written. Fix: train anew "
            "into a new folder"
        )


def released_counts(run_dir: Path) -> npt.NDArray[np.float64]:
    """Read how often each item occurs, with noise: (n_items,), not below 0."""
    arrays, _ = load_arrays(run_dir / RELEASE)
    counts: npt.NDArray[np.float64] = np.maximum(arrays["counts"], 0.0)
    return counts


def private_fields(
    fields: Mapping[str, Any], ledger: Mapping[str, Any], protocol: str
) -> dict[str, Any]:
    """Take what may be said of a private run from what the manifest says of any."""
    lineage, training = fields["lineage"], fields["training"]
    ancestors = [_only(entry, ANCESTOR) for entry in lineage["ancestors"]]
    return {
        **_only(fields, FIELDS),
        "n_users": 0,
        "metrics": {},
        "lineage": {**_only(lineage, LINEAGE), "ancestors": ancestors},
        "training": {
            "data": {"is_private": True, "protocol": protocol},
            "epochs": training["epochs"],
            "config": _only(training["config"], SETTINGS),
        },
        "privacy": dict(ledger),
    }


def _is_listed(name: str) -> bool:
    """Say whether a private bundle may hold a file; the shards of an index are its rows again."""
    return name in FILES or name == shards.MANIFEST or fnmatch(name, "shard-*.index")


def refuse_unreleased(directory: Path, fields: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but the files and fields of a private bundle.

    Raises
    ------
    ExportError
        A file or a field is not on the list. Nothing is written then.
    """
    files = [path.name for path in sorted(directory.iterdir()) if not _is_listed(path.name)]
    names = [name for name in fields if name not in (*FIELDS, "n_users", "metrics", "privacy")]
    names += ["lineage.data"] if "data" in fields.get("lineage", {}) else []
    names += ["metrics"] if fields.get("metrics") else []
    if files or names:
        raise ExportError(
            f"private bundle: got {', '.join([*files, *names])}, which was not released; expected "
            f"the files {', '.join(FILES)} and no field of the events; nothing was written"
        )


def _only(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: record[name] for name in names if name in record}
