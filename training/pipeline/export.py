"""Export a finished run, as `shortlist export` does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist._quiet import quiet_start
from shortlist.bundle import check_target
from shortlist.training.config.environment import require_tensorflow
from shortlist.training.fit.checkpoint import read_finished

if TYPE_CHECKING:
    from shortlist.export.parity import Parity


@dataclass(frozen=True)
class ExportedRun:
    """Where an exported bundle and its run folder lie, and what the parity gate found."""

    bundle: Path
    run: Path
    parity: Parity

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {"bundle": str(self.bundle), "run": str(self.run), "parity": self.parity.to_dict()}


def export_run(run_dir: Path, out: Path, *, store_users: bool = True) -> ExportedRun:
    """Export a run folder's best weights to a bundle.

    Users are stored if ``store_users`` and the run's setting ``export.store_users`` say so.
    """
    require_tensorflow()
    check_target(out)
    config = read_finished(run_dir)  # before TensorFlow is imported
    with quiet_start():
        from shortlist.export.writer import export_bundle
        from shortlist.training.fit.fit import load_run
    stores_users = store_users and config.export.store_users
    exported = export_bundle(load_run(run_dir), out, store_users=stores_users)
    return ExportedRun(out, run_dir, exported.parity)
