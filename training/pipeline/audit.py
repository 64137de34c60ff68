"""Audit the mechanism with the settings of a private bundle, as `shortlist audit` does."""

from __future__ import annotations

from pathlib import Path

from shortlist.bundle import Bundle
from shortlist.errors import DataError
from shortlist.training.privacy.accounting import Steps
from shortlist.training.privacy.audit import AuditReport, audit
from shortlist.training.privacy.contributions import Bounds


def audit_bundle(path: str | Path, *, n_canaries: int = 1000) -> AuditReport:
    """Run the mechanism of this installation once, with the settings of a bundle's last release.

    Parameters
    ----------
    path : path
        A private bundle.
    n_canaries : int
        The catalogue must have so many pairs of items.

    Returns
    -------
    AuditReport

    Raises
    ------
    DataError
        The bundle is not private, or its catalogue is too small.
    """
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
    if manifest.privacy is None:
        raise DataError(
            f"bundle: got {path}, which promises no privacy, expected a private one. Fix: train "
            "with --set privacy.epsilon=8"
        )
    n_pairs = manifest.n_items * (manifest.n_items - 1) // 2
    if n_canaries < 100:
        raise DataError(f"canaries: got {n_canaries}, expected 100 or more: fewer prove nothing")
    if n_canaries > n_pairs:
        raise DataError(
            f"canaries: got {n_canaries:,} with {manifest.n_items:,} items, expected at most their "
            f"{n_pairs:,} pairs, one a canary. Fix: fewer canaries"
        )
    ledger = manifest["privacy"]
    own = ledger["releases"][-1]
    return audit(
        own["epsilon"],
        own["delta"],
        own["sigma"],
        Bounds(**ledger["bounds"]),
        manifest.n_items,
        steps=Steps.read(own["steps"]) if "steps" in own else None,
        n_canaries=n_canaries,
    )
