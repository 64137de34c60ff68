"""Erase a user from the training data that a run folder keeps."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from shortlist._temporary import sweep
from shortlist.errors import DataError
from shortlist.training.config.settings import read_config
from shortlist.training.fit.checkpoint import CANDIDATES, load_dataset_copy, write_atomic
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    from shortlist.training.data.events import Dataset
    from shortlist.training.splits.parts import IdArray

# In this order a crash in between leaves data that can be read, and the next call finishes.
_FRAMES = ("items", "events", "test_events", "users")
_OLD_SECONDS = 3_600


def erase_user(run_dir: str | Path, user_id: int | str) -> int:
    """Delete a user's events and row of the user table from a run folder.

    The run stays what it was otherwise: items that only this user had are kept in the item table,
    without content, so that the trained weights still fit. `shortlist export` then writes a bundle
    that does not know the user; nothing is trained again.

    Parameters
    ----------
    run_dir : path
    user_id : int or str
        Of the data's type.

    Returns
    -------
    int
        How many events were deleted; 0 if the user is unknown.

    Raises
    ------
    DataError
        The folder holds no run, the id is of another type, or too little would be left for the
        run's split. Nothing is changed then.
    """
    run_dir = Path(run_dir)
    if (run_dir / CANDIDATES).exists():
        raise DataError(
            f"run folder: {run_dir} was interrupted while `train` chose a model, and holds the "
            "user's events for each; expected a finished run. Fix: `train` with --resume or "
            "--overwrite, or delete the folder"
        )
    if not (run_dir / "config.toml").exists():
        raise DataError(f"run folder: {run_dir} has no config.toml; expected a folder of `train`")
    for folder in (run_dir, run_dir / "data"):
        _remove_left(folder)
    config = read_config(run_dir / "config.toml")
    dataset = load_dataset_copy(run_dir / "data")
    _check_type(dataset, user_id)
    catalogue = configured_split(dataset, config).catalogue
    rest = _without(dataset, user_id)
    if not rest.events.height:
        raise DataError(
            f"user_id: {user_id!r} has all {dataset.events.height} events of {run_dir}; expected "
            "others too. Delete the folder"
        )
    if not np.array_equal(configured_split(rest, config).catalogue, catalogue):
        rest = _with_items(rest, catalogue)
    for name in _FRAMES:
        before, after = getattr(dataset, name), getattr(rest, name)
        if after is not None and (before is None or not after.equals(before)):
            buffer = io.BytesIO()
            after.write_parquet(buffer)
            write_atomic(run_dir / "data" / f"{name}.parquet", buffer.getbuffer())
    return _n_events(dataset) - _n_events(rest)


def _remove_left(folder: Path) -> None:
    """Remove what processes that were killed left in a run folder; it may hold the user."""
    sweep(folder)
    for left in folder.glob(".*.tmp"):  # of releases up to 0.2, whose names told no owner's life
        is_old = time.time() - left.stat().st_mtime > _OLD_SECONDS
        if is_old and re.fullmatch(r"\..+\.(parquet|npz|json|jsonl|toml)\.\d+\.tmp", left.name):
            left.unlink(missing_ok=True)


def id_for(run_dir: str | Path, text: str) -> int | str:
    """Read a user id as the run's data spells it."""
    events = load_dataset_copy(Path(run_dir) / "data").events
    if events.schema["user_id"] == pl.String:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise DataError(
            f"user_id: got {text!r}, expected an integer, as in the data of {run_dir}"
        ) from error


def _check_type(dataset: Dataset, user_id: object) -> None:
    is_text = dataset.events.schema["user_id"] == pl.String
    is_right = isinstance(user_id, str if is_text else int) and not isinstance(user_id, bool)
    if not is_right:
        expected = "a text" if is_text else "an integer"
        raise DataError(f"user_id: got {user_id!r}, expected {expected}, as in the run's data")


def _without(dataset: Dataset, user_id: int | str) -> Dataset:
    is_other = pl.col("user_id") != user_id
    tests, users = dataset.test_events, dataset.users
    return dataclasses.replace(
        dataset,
        events=dataset.events.filter(is_other),
        test_events=None if tests is None else tests.filter(is_other),
        users=None if users is None else users.filter(is_other),
    )


def _with_items(dataset: Dataset, catalogue: IdArray) -> Dataset:
    """Put every item of the catalogue into the item table, in its order."""
    dtype = dataset.events.schema["item_id"]
    everything = pl.DataFrame({"item_id": pl.Series(catalogue.tolist(), dtype=dtype)})
    if dataset.items is not None:
        everything = everything.join(
            dataset.items, on="item_id", how="left", maintain_order="left"
        ).select(dataset.items.columns)
    return dataclasses.replace(dataset, items=everything)


def _n_events(dataset: Dataset) -> int:
    tests = dataset.test_events
    return dataset.events.height + (0 if tests is None else tests.height)
