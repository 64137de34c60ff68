"""What is wanted of a smaller bundle, checked, and the events that judge it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import shortlist
from shortlist.bundle import check_target
from shortlist.bundle.storages import STORAGES
from shortlist.errors import DataError
from shortlist.training.cleaning.files import Frames, load_configured
from shortlist.training.config.settings import read_config
from shortlist.training.config.values import unknown
from shortlist.training.fit.checkpoint import load_dataset_copy
from shortlist.training.pipeline.completed import completed, items_of_training
from shortlist.training.pipeline.evaluation import evaluation_config
from shortlist.training.splits.held_out import check_held_out, fingerprint
from shortlist.training.splits.split import configured_split
from shortlist.versions import find_run

if TYPE_CHECKING:
    from shortlist.bundle import Bundle
    from shortlist.bundle.manifest import Manifest
    from shortlist.training.splits.parts import Split

__all__ = ["CompressRequest", "EventSource"]
__all__ += ["check_manifest", "check_request", "held_out", "needs_run", "run_of"]

TOLERANCE = 0.01


@dataclass(frozen=True)
class EventSource:
    """Events that the gate holds out, where the run folder is gone: as for `evaluate`."""

    path: str
    format: str = "auto"
    items: Path | None = None
    users: Path | None = None
    reading: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class CompressRequest:
    """What is wanted of a smaller bundle.

    Attributes
    ----------
    int8 : bool
        Tables and products in 8-bit numbers.
    storage : str or None
        Of the item index.
    dim : int or None
        Numbers of an embedding that stay.
    users, portable, followers : bool
        Keep the stored users, recommend_portable.onnx, and followers.arrow.
    prune : float or None
        Part of the user encoder's multiplications to do without.
    distil : str or None
        Preset of a student that the bundle's model teaches.
    overrides : mapping
        Settings of the training that these two need.
    tolerance : float
        Part of NDCG@10 that may be lost.
    within : float or None
        Search for the smallest bundle that loses no more than this.
    """

    int8: bool = False
    storage: str | None = None
    users: bool = True
    portable: bool = True
    followers: bool = True
    dim: int | None = None
    prune: float | None = None
    distil: str | None = None
    overrides: Mapping[str, object] = dataclasses.field(default_factory=dict)
    tolerance: float = TOLERANCE
    within: float | None = None

    @property
    def allowed(self) -> float:
        """Part of NDCG@10 that may be lost."""
        return self.tolerance if self.within is None else self.within

    @property
    def student(self) -> str:
        """The step that trains a smaller model; empty where none is asked for."""
        if self.prune is not None:
            return f"prune {self.prune:g}"
        return f"distil {self.distil}" if self.distil else ""


def check_request(request: CompressRequest, bundle: Path, out: Path) -> None:
    """Refuse what cannot be done, before anything is read."""
    target = check_target(out)
    if target.resolve() == bundle.resolve():
        raise DataError(f"--out: got {out}, the bundle itself, expected another name")
    if request.storage is not None and request.storage not in STORAGES:
        raise DataError(unknown("--storage", request.storage, STORAGES))
    for flag, value in (("--tolerance", request.tolerance), ("--within", request.within)):
        if value is not None and not 0 <= value <= 1:
            raise DataError(f"{flag}: got {value}, expected a part from 0 to 1, such as 0.01")
    if request.dim is not None and request.dim < 1:
        raise DataError(f"--dim: got {request.dim}, expected at least 1")
    _check_student(request, target)
    has_step = (
        request.student
        or request.int8
        or request.storage
        or not (request.users and request.portable and request.followers)
    )
    if request.within is None and not has_step:
        raise DataError(
            "steps: got none, expected --int8, --storage, --dim, --prune, --distil, --no-users, "
            "--no-portable, --no-followers, or --within to search"
        )


def _check_student(request: CompressRequest, target: Path) -> None:
    if request.prune is not None and not 0 < request.prune < 1:
        raise DataError(f"--prune: got {request.prune}, expected a part between 0 and 1")
    if request.prune is not None and request.distil:
        raise DataError(
            f"--prune, --distil: got both ({request.prune}, {request.distil!r}), expected one: a "
            "student is small from the start. Fix: leave one of them out"
        )
    place = target.with_suffix(".run")
    if request.student and place.exists():
        raise DataError(
            f"--out: {place} exists, expected a free place for the run folder of the smaller "
            "model. Fix: choose another name, or delete it"
        )
    if request.overrides and not request.student:
        raise DataError(
            f"--set: got {', '.join(request.overrides)}, but nothing is trained; expected it with "
            "--prune or --distil"
        )


def check_manifest(manifest: Manifest, bundle: Path) -> None:
    """Refuse a bundle that is compressed already, or private."""
    record = manifest.compression
    if record is not None:
        raise DataError(
            f"bundle: got {bundle}, which is compressed already ({', '.join(record.steps)}), "
            f"expected the one it was made from, version {record.source}: losses would add up "
            "unseen. Fix: compress that one"
        )
    if manifest.privacy is not None:
        raise DataError(
            f"bundle: got {bundle}, which is private and keeps no events to measure by, expected "
            "one that is not. Fix: set export.storage and train again"
        )


def needs_run(request: CompressRequest) -> str:
    """Say why a training needs the run folder, and what works without."""
    step = request.student.split()[0]
    return (
        f"--{step}: got it with --data, expected the run folder of the bundle's training: a model "
        "is trained on from its weights. Fix: give it with --run in place of --data, or leave "
        f"--{step} out: --int8, --storage, --no-users, --no-portable and --within work without"
    )


def run_of(bundle: Bundle, run_dir: Path | None) -> Path:
    """Find the run folder of a bundle."""
    folder = run_dir or find_run(bundle.path, bundle.manifest)
    if folder is not None and (folder / "config.toml").is_file():
        return folder
    where = f"{run_dir} is none" if run_dir else f"there is none beside {bundle.path}"
    raise DataError(
        f"run folder: expected that of the training of {bundle.name}, whose events judge what is "
        f"lost; {where}. Fix: give it with --run, or the events with --data: --int8, --storage, "
        "--no-users, --no-portable and --within need no more; --prune and --distil do"
    )


def held_out(bundle: Bundle, folder: Path | None, source: EventSource | None) -> tuple[Split, bool]:
    """Find the events that judge: those of the run folder, or those given."""
    if source is not None or folder is None:
        assert source is not None
        return _split_of_events(bundle, source)
    config = read_config(folder / "config.toml")
    split = configured_split(load_dataset_copy(folder / "data"), config)
    sha256 = bundle.manifest.training_section("data").get("train_sha256")
    if sha256 != fingerprint(split.train):
        raise DataError(
            f"run folder: {folder} was trained on other events than {bundle.name}, expected the "
            "run that it was exported from. Fix: give that one with --run"
        )
    return split, config.split.include_seen


def _split_of_events(bundle: Bundle, source: EventSource) -> tuple[Split, bool]:
    training = bundle.manifest.training
    given = {"path": source.path, "format": source.format, **source.reading}
    config = evaluation_config(training, given, "auto")
    frames = Frames(None, source.items, source.users)
    with shortlist.load(bundle.path, n_threads=1) as engine:
        item_ids = items_of_training(engine)
        dataset, _ = load_configured(config, frames=frames, item_ids=item_ids)
        split = configured_split(completed(dataset, {bundle.name: engine}).dataset, config)
    check_held_out(training, split, "valid")
    return split, config.split.include_seen
