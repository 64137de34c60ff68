"""Measure whether the reasons of a bundle hold, on users of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.evaluation.fidelity import Fidelity, drawn_histories, measure_fidelity
from shortlist.training.pipeline.compared import opened
from shortlist.training.pipeline.completed import completed, items_of_training
from shortlist.training.pipeline.evaluation import evaluation_config
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    from shortlist.engine import Engine
    from shortlist.training.data.tables import TableSource

__all__ = ["evaluate_reasons"]


def evaluate_reasons(
    bundle: str | Path | Engine,
    events: TableSource,
    *,
    items: TableSource | None = None,
    users: TableSource | None = None,
    format: str = "auto",
    reading: Mapping[str, object] | None = None,
    protocol: str = "auto",
    on: str = "test",
    n_users: int = 200,
    progress: bool = False,
) -> Fidelity:
    """Measure whether the reasons of a bundle hold, beside simpler ones; see `fidelity`.

    Parameters
    ----------
    bundle, events, items, users, format, reading, protocol, on, progress
        As for `evaluate`.
    n_users : int
        Users to draw, with a fixed seed, whose history has at least 8 items.

    Raises
    ------
    DataError
        A table cannot be read, or nobody has such a history.
    """
    is_path = isinstance(events, str | Path)
    source = {"path": str(events) if is_path else "", "format": format, **(reading or {})}
    frames = Frames(None if is_path else events, items, users)
    with opened(bundle, []) as engines:
        engine = next(iter(engines.values()))
        config = evaluation_config(engine.bundle.manifest.training, source, protocol)
        item_ids = items_of_training(engine)
        dataset, _ = load_configured(config, progress=progress, frames=frames, item_ids=item_ids)
        split = configured_split(completed(dataset, engines).dataset, config)
        return measure_fidelity(engine, drawn_histories(split, on, n_users))
