"""Export the run of a training, as the command line and the demo do it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shortlist.bundle import check_target
from shortlist.export.parity import Parity
from shortlist.export.writer import export_bundle
from shortlist.training.fit.fit import load_run

__all__ = ["ExportedRun", "export_run"]


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
    """Export a run folder's best weights to a bundle."""
    check_target(out)
    exported = export_bundle(load_run(run_dir), out, store_users=store_users)
    return ExportedRun(out, run_dir, exported.parity)
