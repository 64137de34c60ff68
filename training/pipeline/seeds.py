"""Train a bundle's own settings anew with other seeds, and measure each exported bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import shortlist
from shortlist._quiet import quiet_start
from shortlist.bundle import check_target
from shortlist.bundle.tables import map_file, read_table
from shortlist.errors import DataError
from shortlist.training.config.environment import require_tensorflow
from shortlist.training.config.sections import CLOSED_FORM, Config
from shortlist.training.config.settings import apply_overrides
from shortlist.training.data.tables import log
from shortlist.training.evaluation.seeds import SeedRun
from shortlist.training.fit.checkpoint import check_run_folder
from shortlist.training.pipeline.completed import COUNTED
from shortlist.training.splits.held_out import fingerprint

if TYPE_CHECKING:
    from shortlist.bundle.manifest import Manifest
    from shortlist.engine import Engine
    from shortlist.training.data.events import Dataset
    from shortlist.training.splits.parts import Split

__all__ = ["SeedPlan", "check_seeds", "other_events", "plan_seeds"]

_LARGEST = 2**31 - 1  # of [train] seed


@dataclass(frozen=True)
class SeedPlan:
    """What is trained anew.

    Attributes
    ----------
    name : str
        Of the bundle.
    dataset : Dataset
        The events of the evaluation with the items and users that the bundle was trained on.
    config : Config
        All settings of the bundle's training.
    seeds : tuple of int
        Empty where the settings draw nothing at random.
    out : Path or None
        Folder where bundles and runs stay; a temporary one without.
    warnings : tuple of str
    """

    name: str
    dataset: Dataset
    config: Config
    seeds: tuple[int, ...]
    out: Path | None
    warnings: tuple[str, ...] = ()

    def run(
        self, measure: Callable[[Engine], dict[str, float]], metric: str, *, progress: bool
    ) -> list[SeedRun]:
        """Train, export and measure, one seed after the other, and say each one's metric.

        What a killed call has left in ``out`` goes on from there.
        """
        with quiet_start():
            from shortlist.export.writer import export_bundle
            from shortlist.training.fit import fit
        runs = []
        with _folder(self.out) as folder:
            for number, seed in enumerate(self.seeds, 1):
                log.info("seed %d: training %d of %d", seed, number, len(self.seeds))
                bundle, run_dir = self._paths(folder, seed)
                config = _with_seed(self.config, seed)
                trained = fit.train(self.dataset, config, run_dir, resume=True, progress=progress)
                is_kept = self.out is not None
                export_bundle(trained, bundle, store_users=is_kept and config.export.store_users)
                with shortlist.load(bundle, n_threads=0) as engine:
                    metrics = measure(engine)
                log.info("seed %d: %s %.4f", seed, metric, metrics[metric])
                runs.append(SeedRun(seed, metrics, str(bundle) if is_kept else None))
        return runs

    def check_folder(self) -> None:
        """Refuse a folder that cannot take the bundles and their runs."""
        if self.out is None:
            return
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"seeds_out: got {self.out}, which is a file, expected a folder")
        self.out.mkdir(parents=True, exist_ok=True)
        for seed in self.seeds:
            bundle, run_dir = self._paths(self.out, seed)
            check_target(bundle)
            check_run_folder(run_dir, _with_seed(self.config, seed), resume=True)

    def _paths(self, folder: Path, seed: int) -> tuple[Path, Path]:
        stem = f"{Path(self.name).stem}-seed-{seed}"
        return folder / f"{stem}.shortlist", folder / f"{stem}.run"


def check_seeds(n_seeds: int | None, out: str | Path | None) -> None:
    """Refuse numbers of seeds that are none, before anything is read."""
    if n_seeds is None:
        if out is not None:
            raise DataError("seeds_out: got a folder without seeds, expected both (--seeds 3)")
        return
    if type(n_seeds) is not int or n_seeds < 1:
        raise DataError(f"seeds: got {n_seeds!r}, expected a whole number >= 1, for example 3")
    require_tensorflow()


def plan_seeds(
    name: str,
    engine: Engine,
    dataset: Dataset,
    config: Config,
    *,
    n_seeds: int,
    out: Path | None,
) -> SeedPlan:
    """Find out what to train, and refuse what cannot be trained anew.

    Parameters
    ----------
    name : str
        Of the bundle.
    engine : Engine
        With the bundle.
    dataset : Dataset
        What the evaluation has read.
    config : Config
        Of the evaluation: how the data is read, cleaned, weighted and held out.
    n_seeds : int
    out : Path, optional

    Raises
    ------
    DataError
        The bundle does not say how it was trained, or in terms of another version; it learned from
        features that nobody has; ``out`` cannot be used.
    """
    manifest = engine.bundle.manifest
    if manifest.privacy is not None:
        raise DataError(
            f"seeds: got {n_seeds} with {name}, which is private, expected none: its noise has no "
            "seed, and each training would cost privacy again. Fix: leave --seeds out"
        )
    trained = _settings(manifest, name)
    own = replace(trained, cleaning=config.cleaning, events=config.events, split=config.split)
    if _is_deterministic(own):
        return SeedPlan(name, dataset, own, (), out)
    dataset = _with_tables(dataset, engine, name)
    features = _declared(manifest, dataset, trained.data.features)
    own = replace(own, data=replace(config.data, features=features))
    first = own.train.seed
    seeds = tuple((first + i) % (_LARGEST + 1) for i in range(1, n_seeds + 1))
    plan = SeedPlan(name, dataset, own, seeds, out, tuple(_doubts(manifest)))
    plan.check_folder()
    return plan


def other_events(manifest: Manifest, split: Split) -> str | None:
    """Say that the seeds learn from other events than the bundle did, as a sentence."""
    if fingerprint(split.train) == manifest.training.get("data", {}).get("train_sha256"):
        return None
    return (
        "the train part of this data is not what the bundle was trained on: the seeds learn from "
        "other events than the bundle did"
    )


def _doubts(manifest: Manifest) -> Iterator[str]:
    if manifest.get("lineage", {}).get("kind") == "update":
        yield "the bundle was updated since its training; the seeds are trained once, without that"


def _settings(manifest: Manifest, name: str) -> Config:
    tree: Mapping[str, Any] = manifest.training.get("config", {})
    if not tree.get("model"):
        raise DataError(f"seeds: {name} does not say how it was trained; train it anew")
    # The manifest is JSON, which has no infinity: a limit of null is none.
    known = {f"{s}.{k}": v for s, entry in tree.items() for k, v in entry.items() if v is not None}
    try:
        return apply_overrides(Config(), known)
    except DataError as error:
        raise DataError(
            f"seeds: {name} was trained by another version of shortlist, with settings that this "
            f"one does not have ({error}); train it anew"
        ) from error


def _is_deterministic(config: Config) -> bool:
    draws = config.model.encoder == "ials" or config.model.encoder not in CLOSED_FORM
    return not draws and not (config.scorer.enabled and config.scorer.kind == "dnn")


def _with_tables(dataset: Dataset, engine: Engine, name: str) -> Dataset:
    """Take the items from the bundle, and the users from the data, else from the bundle."""
    bundle, manifest = engine.bundle, engine.bundle.manifest
    stored = read_table(map_file(bundle.file("items.arrow")), manifest.n_items, {})
    items = pl.DataFrame(stored.drop_columns([c for c in COUNTED[1:] if c in stored.column_names]))
    wanted = [feature.name for feature in manifest.features_of("user")]
    users = dataset.users
    if users is None or not set(wanted) <= set(users.columns):
        users = None
        if wanted and bundle.has("users.arrow"):
            table = read_table(map_file(bundle.file("users.arrow")), manifest.n_users, {})
            users = pl.DataFrame(table.select(["user_id", *wanted]))
    if wanted and users is None:
        raise DataError(
            f"seeds: {name} was trained with user features {wanted}, which neither the data nor "
            "the bundle has; give --users"
        )
    return replace(dataset, items=items, users=users, text_tables=frozenset())


def _declared(manifest: Manifest, dataset: Dataset, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Declare the features that the bundle was trained with, and no other column."""
    records = {(entry["side"], entry["name"]): entry for entry in manifest["features"]}
    declared = {"history": trained["history"]} if "history" in trained else {}
    for side, table in (("item", dataset.items), ("user", dataset.users)):
        for column in table.columns if table is not None else ():
            if column == f"{side}_id":
                continue
            entry = records.get((side, column))
            kind = "ignore" if entry is None else entry.get("declared", entry["kind"])
            declared[f"{side}.{column}"] = kind
    return declared


def _with_seed(config: Config, seed: int) -> Config:
    """Draw all random numbers anew: those of the encoders and those of the scorer."""
    shift = seed - config.train.seed
    scorer = (config.scorer.seed + shift) % (_LARGEST + 1)
    return apply_overrides(config, {"train.seed": seed, "scorer.seed": scorer})


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="shortlist-seeds-") as name:
        yield Path(name)
