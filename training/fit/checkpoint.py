"""Files of a run folder: checkpoints, weights and the dataset, written atomically.

A file is written under a temporary name, synced and renamed, so that a kill at any moment leaves
either the old file or the new one.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shortlist._temporary import replacing
from shortlist.errors import DataError
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import read_config, to_toml
from shortlist.training.data.events import Dataset
from shortlist.training.data.reading import Reading
from shortlist.training.features.features import FeatureSet

STATE = "state.json"  # entry of an .npz file that holds everything which is not an array
CHECKPOINT = "checkpoint.npz"  # after each epoch: everything to go on from
WEIGHTS, SCORER = "weights.npz", "scorer.npz"  # the results of a run: best epoch, second stage
CHOICE, CANDIDATES = "choice.json", "candidates"  # what `train` chose, and its runs until then
PRIVACY, RELEASE = "privacy.json", "release.npz"  # of a private run: the ledger, the numbers
FEDERATION, TOTALS = "federation.json", "totals.npz"  # of a federated run: its plan, the sums
# Results first: without them the rest is no run that could go on.
_WRITTEN = (
    *(CHECKPOINT, WEIGHTS, SCORER, CHOICE, CANDIDATES, PRIVACY, RELEASE, FEDERATION, TOTALS),
    *("metrics.jsonl", "tensorboard"),
    *("config.toml", "features.json", "cleaning.json", "cleaning.txt", "parent.json"),
)
_FRAMES = ("events", "items", "users", "test_events")
_COPY = "data/dataset.json"  # says that `data` is a run's and complete


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader or a crash never sees half of it."""
    with replacing(path) as file:
        file.write(content)


def save_arrays(
    path: Path,
    arrays: Mapping[str, NDArray[Any]] | Iterable[tuple[str, NDArray[Any]]],
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays, one after another, and a JSON state into one .npz file, atomically."""
    named = arrays.items() if isinstance(arrays, Mapping) else arrays
    with replacing(path) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(STATE, json.dumps(dict(state or {})))
        for name, array in named:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `save_arrays` wrote; DataError if the file is missing or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            state = json.loads(archive.read(STATE))
            arrays = {}
            for name in archive.namelist():
                if name != STATE:
                    content = io.BytesIO(archive.read(name))
                    arrays[name.removesuffix(".npy")] = np.lib.format.read_array(content)
        return arrays, state
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file, expected one written by training") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: damaged ({error}); delete the run folder and train anew"
        ) from error


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line, atomically."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Keep a copy of the dataset, one Parquet file a table; replaces an earlier copy."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)
    for name in _FRAMES:
        frame, path = getattr(dataset, name), folder / f"{name}.parquet"
        if frame is None:
            path.unlink(missing_ok=True)
        else:
            buffer = io.BytesIO()
            frame.write_parquet(buffer)
            write_atomic(path, buffer.getbuffer())
    # Last: its presence says that the copy is complete.
    about = {"name": dataset.name, "has_times": dataset.has_times}
    write_atomic(folder / "dataset.json", json.dumps(about).encode())


def load_dataset_copy(folder: Path) -> Dataset:
    """Read what `save_dataset` wrote."""
    try:
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        frames: dict[str, Any] = {
            name: pl.read_parquet(folder / f"{name}.parquet")
            for name in _FRAMES
            if (folder / f"{name}.parquet").exists()
        }
        return Dataset(name=about["name"], has_times=about["has_times"], **frames)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{folder}: not a dataset copy of a training run: {error}") from error


def same_dataset(left: Dataset, right: Dataset) -> bool:
    """Say whether two datasets hold the same tables."""
    for name in _FRAMES:
        a, b = getattr(left, name), getattr(right, name)
        if (a is None) != (b is None) or (a is not None and not a.equals(b)):
            return False
    return True


def open_run_folder(
    run_dir: Path, dataset: Dataset, config: Config, features: FeatureSet, resume: bool
) -> None:
    """Create the folder, or check that it holds this very run.

    Settings that do not shape the encoders ([scorer], [export], threads, paths) may change when a
    run is resumed: the folder keeps the new ones, and a scorer of other settings is dropped.
    """
    old = check_run_folder(run_dir, config, resume)
    run_dir.mkdir(parents=True, exist_ok=True)
    if old is not None:
        if not same_dataset(load_dataset_copy(run_dir / "data"), dataset):
            raise DataError(f"resume: the data differs from that of the run in {run_dir}")
        if old.scorer != config.scorer:
            (run_dir / SCORER).unlink(missing_ok=True)
        write_atomic(run_dir / "config.toml", to_toml(config).encode())
        return
    save_dataset(dataset, run_dir / "data")
    write_atomic(run_dir / "features.json", features.to_json().encode())
    write_atomic(run_dir / "config.toml", to_toml(config).encode())


def check_run_folder(
    run_dir: Path, config: Config, resume: bool, *, overwrite: bool = False
) -> Config | None:
    """Check, before anything is read, that a run of these settings can go into a folder.

    With ``overwrite`` a run that it holds is to be deleted first.

    Returns
    -------
    Config or None
        Settings of the run that it holds and that is to go on.

    Raises
    ------
    DataError
        The folder is none, or it holds a run and ``resume`` is False, or a run of other settings,
        or its subfolder ``data`` is not of a run.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise DataError(f"run folder: got {run_dir}, which is a file; expected a folder (--run)")
    data = run_dir / "data"
    if not (run_dir / _COPY).exists() and data.exists() and (data.is_file() or any(data.iterdir())):
        raise DataError(
            f"run folder: got {run_dir}, but {data} there is not of a run (no dataset.json), "
            "expected a new folder or that of a run; give another run_dir (--run FOLDER), or "
            f"delete {data} if it was left by a training that was killed as it began"
        )
    if overwrite or not (is_begun(run_dir) or (run_dir / CANDIDATES).exists()):
        return None
    if (run_dir / PRIVACY).exists():
        raise DataError(
            f"run folder: {run_dir} already holds a private run, which does not go on, as its "
            "noise is added once; pass overwrite=True (--overwrite) to delete it, or another "
            "run_dir (--run FOLDER)"
        )
    if not resume:
        raise DataError(
            f"run folder: {run_dir} already holds a run; pass resume=True (--resume) to go on with "
            "it, overwrite=True (--overwrite) to delete it, or another run_dir (--run FOLDER)"
        )
    if not is_begun(run_dir):
        return None  # nothing is chosen yet
    old = read_config(run_dir / "config.toml")
    _check_same_settings(old, config, run_dir)
    return old


def check_not_private(run_dir: Path) -> None:
    """Refuse a folder of a private training, finished or not, for a training that is none."""
    if (run_dir / PRIVACY).exists():
        raise DataError(
            f"run folder: got {run_dir}, which holds a private training, without privacy.epsilon, "
            "expected another folder: its ledger would promise privacy of this run. Fix: another "
            "run_dir (--run FOLDER), or overwrite=True (--overwrite) to delete what it holds"
        )


def is_begun(run_dir: Path) -> bool:
    """Say whether a folder holds a training, begun or finished."""
    return any((run_dir / name).exists() for name in (CHECKPOINT, WEIGHTS))


def remove_run(run_dir: Path) -> None:
    """Delete what training wrote into a run folder, and nothing else; no run, nothing deleted."""
    marks = (CHECKPOINT, WEIGHTS, CANDIDATES, PRIVACY, _COPY)
    if not any((run_dir / name).exists() for name in marks):
        return
    data, is_copy = run_dir / "data", (run_dir / _COPY).exists()
    frames = [f"data/{name}.parquet" for name in _FRAMES] if is_copy else []
    for name in (*_WRITTEN, *frames):
        path = run_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    # Beside other files dataset.json stays: it says that a run may be written there again.
    if is_copy and [path.name for path in data.iterdir()] == [Path(_COPY).name]:
        shutil.rmtree(data)


def read_finished(run_dir: Path) -> Config:
    """Return the settings of a finished run; DataError where the folder holds none."""
    if not (run_dir / "config.toml").exists():
        raise DataError(f"run folder: {run_dir} has no config.toml; expected a folder of `train`")
    config = read_config(run_dir / "config.toml")
    if (reason := unfinished_reason(run_dir, config)) is not None:
        fix = "train anew" if (run_dir / PRIVACY).exists() else "resume it first"
        raise DataError(f"run folder: {run_dir} is unfinished ({reason}); {fix}")
    return config


def unfinished_reason(run_dir: Path, config: Config) -> str | None:
    """Say which result a run folder still lacks; None if the run is finished."""
    wanted = [WEIGHTS, SCORER] if config.scorer.enabled else [WEIGHTS]
    missing = [name for name in wanted if not (run_dir / name).exists()]
    return f"no {missing[0]}" if missing else None


def _check_same_settings(old: Config, new: Config, run_dir: Path) -> None:
    # How tables are read may change: what was read is compared.
    reading = {field.name for field in dataclasses.fields(Reading)}
    may_change = {"n_threads", "path", "format", "items", "users", *reading}
    for section in ("data", "events", "split", "model", "linear", "train"):
        before, after = vars(getattr(old, section)), vars(getattr(new, section))
        for key, value in after.items():
            if before[key] != value and key not in may_change:
                raise DataError(
                    f"resume: {section}.{key}: got {value!r}, expected {before[key]!r} "
                    f"as in {run_dir}; settings cannot change within a run"
                )
