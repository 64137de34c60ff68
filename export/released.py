"""A bundle without events is an allow-list: what was released, the public item table, nothing else.

The run folder of a private or a federated training holds released numbers and synthetic walks from
them, never events, so that nothing else can be reached from here. What the manifest says of a run
is still taken field by field, and the folder is checked before it becomes a bundle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    FEDERATION,
    PRIVACY,
    RELEASE,
    TOTALS,
    load_arrays,
    save_arrays,
    write_atomic,
)
from shortlist.training.models.followers import Followers
from shortlist.training.privacy.release import Release
from shortlist.training.privacy.walks import DATASET, FEDERATED

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


@dataclass(frozen=True)
class Released:
    """What a run without events gives to its bundle.

    Attributes
    ----------
    source : str
        Name of the data set that the run must have: the walks.
    fields : dict
        ``privacy`` or ``federated`` of the manifest.
    n_events : ndarray of shape (n_items,), int64
        How often each item occurs.
    popular : ndarray of shape (n_items,), float32, or None
        What to rank by where a request has no history, if not ``n_events``.
    followers : Followers or None
        What follows each item; None: as in the walks.
    """

    source: str
    fields: dict[str, dict[str, Any]]
    n_events: npt.NDArray[np.int64]
    popular: npt.NDArray[np.float32] | None = None
    followers: Followers | None = None


def read_released(run_dir: Path) -> Released | None:
    """Read what a private or federated run folder holds; None where the run has events."""
    ledger, record = _read_json(run_dir / PRIVACY), _read_json(run_dir / FEDERATION)
    if ledger is not None:
        counts = np.maximum(load_arrays(run_dir / RELEASE)[0]["counts"], 0.0)
        fields = {"privacy": ledger} | ({} if record is None else {"federated": record})
        popular = counts.astype(np.float32)
        return Released(DATASET, fields, np.rint(counts).astype(np.int64), popular)
    if record is None:
        return None
    totals, _ = load_arrays(run_dir / TOTALS)
    followers = Followers.from_named(totals)
    return Released(FEDERATED, {"federated": record}, totals["events"], followers=followers)


def save_federated(
    run_dir: Path, record: Mapping[str, Any], n_events: npt.NDArray[np.int64], followers: Followers
) -> None:
    """Write what a federation gave into a run folder."""
    save_arrays(run_dir / TOTALS, {"events": n_events, **followers.named()})
    write_federation(run_dir, record)


def write_federation(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write the manifest's ``federated`` into a run folder."""
    write_atomic(run_dir / FEDERATION, json.dumps(dict(record), indent=1).encode())


def save_release(release: Release, run_dir: Path) -> None:
    """Write the ledger and the released numbers into a run folder, the ledger first.

    With it the folder is marked as private: whatever is in it then is exported as that or not.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(run_dir / PRIVACY, json.dumps(release.ledger, indent=1).encode())
    arrays: dict[str, npt.NDArray[Any]] = {
        "pairs": release.noisy.pairs,
        "counts": release.noisy.counts,
    }
    save_arrays(run_dir / RELEASE, arrays)


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); train anew") from error


def check_source(dataset: str, released: Released) -> None:
    """Refuse to promise anything of a run on anything but synthetic walks."""
    if dataset != released.source:
        kind, file = (
            ("private", PRIVACY) if released.source == DATASET else ("federated", FEDERATION)
        )
        raise ExportError(
            f"{kind} bundle: got a run on {dataset}, expected one on what was released: its "
            f"folder holds the {file} of another run. Nothing was written. Fix: train anew "
            "into a new folder"
        )


def released_fields(fields: Mapping[str, Any], released: Released, protocol: str) -> dict[str, Any]:
    """Take what may be said of a run without events from what the manifest says of any."""
    lineage, training = fields["lineage"], fields["training"]
    ancestors = [_only(entry, ANCESTOR) for entry in lineage["ancestors"]]
    kind = "is_private" if "privacy" in released.fields else "is_federated"
    return {
        **_only(fields, FIELDS),
        "n_users": 0,
        "metrics": {},
        "lineage": {**_only(lineage, LINEAGE), "ancestors": ancestors},
        "training": {
            "data": {kind: True, "protocol": protocol},
            "epochs": training["epochs"],
            "config": _only(training["config"], SETTINGS),
        },
        **released.fields,
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
    allowed = (*FIELDS, "n_users", "metrics", "privacy", "federated")
    names = [name for name in fields if name not in allowed]
    names += ["lineage.data"] if "data" in fields.get("lineage", {}) else []
    names += ["metrics"] if fields.get("metrics") else []
    if files or names:
        raise ExportError(
            f"bundle without events: got {', '.join([*files, *names])}, which was not released; "
            f"expected the files {', '.join(FILES)} and no field of the events; nothing was written"
        )


def _only(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: record[name] for name in names if name in record}
