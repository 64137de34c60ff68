"""What the manifest says of a version: its parent, the data it was trained on, times."""

import datetime
import json
from pathlib import Path
from typing import Any

from shortlist.bundle.manifest import Manifest
from shortlist.errors import DataError
from shortlist.training.fit.checkpoint import write_atomic
from shortlist.training.fit.fit import TrainedModel
from shortlist.training.splits.held_out import fingerprint
from shortlist.versions import MAX_ANCESTORS, new_version

PARENT = "parent.json"  # in the run folder of an update: the versions before it


def save_parent(run_dir: Path, manifest: Manifest) -> None:
    """Note in a run folder which bundle the run goes on from."""
    entries = [entry.to_dict() for entry in (manifest.own, *manifest.ancestors)]
    write_atomic(run_dir / PARENT, json.dumps(entries[:MAX_ANCESTORS]).encode())


def lineage_of(run: TrainedModel, now: datetime.datetime) -> dict[str, Any]:
    """Describe a run as a new version.

    Returns
    -------
    dict
        ``version``, ``parent`` (None if it was trained from its first weights), ``kind`` ("train"
        or "update"), ``run`` (name of the run folder), ``created``, ``seconds`` (of training),
        ``data`` (sha256, number and times of all events known to the run) and ``ancestors``.
    """
    ancestors = _ancestors(run.run_dir)
    events = run.split.dataset.events
    has_times = run.split.dataset.has_times
    return {
        "version": new_version(now),
        "parent": ancestors[0]["version"] if ancestors else None,
        "kind": "update" if ancestors else "train",
        "run": run.run_dir.name,
        "created": now.isoformat(timespec="seconds"),
        "seconds": round(sum(row["seconds"] for row in run.history), 1),
        "data": {
            "sha256": fingerprint(events),
            "n_events": events.height,
            "first": events["timestamp"].min() if has_times else None,
            "until": events["timestamp"].max() if has_times else None,
        },
        "ancestors": ancestors,
    }


def _ancestors(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / PARENT
    if not path.exists():
        return []
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return entries
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); update from the bundle again") from error
