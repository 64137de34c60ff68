"""Train under differential privacy: release once, then train on what was released.

Events are seen by `release` and, with noisy steps, by `PrivateSteps` alone. The run folder gets the
ledger first: from then on it is private. Then come the released numbers, synthetic walks drawn from
them in place of a data set, and a model of these: a private run folder holds no event.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from shortlist.bundle import Bundle
from shortlist.errors import BundleError, DataError
from shortlist.export.lineage import save_parent
from shortlist.export.released import save_release
from shortlist.training.config.settings import apply_overrides, to_toml
from shortlist.training.data.tables import log
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit import checkpoint, fit
from shortlist.training.fit.private_steps import PrivateSteps
from shortlist.training.models.item_item import FLOOR
from shortlist.training.models.linear import LinearModel, is_affordable
from shortlist.training.privacy.contributions import Bounds, latest_events
from shortlist.training.privacy.denoise import hides_pairs, item_weights, popularity
from shortlist.training.privacy.noise import RandomBytes
from shortlist.training.privacy.release import Claim, Release, claim_of, release, spent
from shortlist.training.privacy.settings import DIRECT
from shortlist.training.privacy.walks import draw_walks, walks_dataset
from shortlist.training.splits.split import configured_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.bundle.manifest import Manifest
    from shortlist.training.config.sections import Config
    from shortlist.training.data.arrays import Rows
    from shortlist.training.data.events import Dataset
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.models.two_tower import TwoTower
    from shortlist.training.splits.parts import Split

HIDDEN = (
    "private: the noise hides which items go together, so the lists begin as those of popularity. "
    "More users, or a larger privacy.epsilon, would show it"
)
N_CHECKED = 1_000  # walks that stand for users in the checks of a model that is not trained
N_TRAINED = 20_000  # walks that an encoder is trained on
LENGTH = 30


def train_private(
    dataset: Dataset,
    split: Split,
    config: Config,
    run_dir: Path,
    *,
    progress: bool = True,
    source: RandomBytes = os.urandom,
) -> TrainedModel:
    """Release statistics of the train part, and train on them.

    Parameters
    ----------
    dataset, split : Dataset, Split
        Of the private events.
    config : Config
        As `private_config` gives it.
    run_dir : Path
        New or empty; gets the walks, the model and the release, once all is checked.
    progress : bool
    source : callable
        Random bytes for the noise; only tests and tables of quality give another one.

    Raises
    ------
    DataError
        The catalogue is not public, the budget is spent, a setting is wrong, or the run folder
        holds something.
    """
    items, parent, claim = check_private(dataset, config)
    _check_empty(run_dir)
    events = split.target_events("train")
    # Not by runs of equal ids, which would make a user whose events lie apart several users.
    users = events["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    rows = split.item_rows(events["item_id"])
    bounds = bounds_of(config, claim)
    made = release(users, rows, items.height, claim, bounds, source=source)
    save_release(made, run_dir)
    if parent is not None:
        save_parent(run_dir, parent)
    # From here on only `refine` knows an event.
    refine = descent(users, rows, config, claim, source=source, progress=progress)
    public = apply_overrides(config, {"privacy.epsilon": math.inf})
    kind = dataset.events.schema["user_id"]
    run = train_on(made, items, kind, public, run_dir, refine, progress=progress)
    checkpoint.write_atomic(run_dir / "config.toml", to_toml(config).encode())
    return run


def bounds_of(config: Config, claim: Claim) -> Bounds:
    """Bound contributions as the settings say; counts get the more, the less the statistics may."""
    linear, wanted = config.linear, config.privacy
    epsilon = wanted.epsilon * (1.0 if claim.steps is None else wanted.statistics)
    return Bounds.of(linear.window, linear.decay_gap, wanted.contribution, epsilon)


def descent(
    users: Rows,
    rows: Rows,
    config: Config,
    claim: Claim,
    *,
    source: RandomBytes = os.urandom,
    progress: bool = True,
) -> Callable[[TwoTower], None] | None:
    """Return what makes the noisy steps of a claim on a model; None where it has none.

    Users and item rows are as for `release`.
    """
    if claim.steps is None:
        return None
    steps = claim.steps
    latest = latest_events(users, rows, config.privacy.contribution)

    def refine(model: TwoTower) -> None:
        private = PrivateSteps(model, *latest, config.privacy.learning_rate)
        private.run(steps, source=source, progress=progress)

    return refine


def check_private(dataset: Dataset, config: Config) -> tuple[pl.DataFrame, Manifest | None, Claim]:
    """Return the catalogue, the parent and the promise of a private training, all checked."""
    items = public_items(dataset)
    _check_size(config, items.height)
    parent = read_parent(config.privacy.parent)
    earlier = () if parent is None else tuple(parent["privacy"]["releases"])
    n_users = dataset.events["user_id"].n_unique()
    return items, parent, claim_of(config.privacy, n_users, earlier)


def _check_empty(run_dir: Path) -> None:
    left = sorted(path.name for path in run_dir.iterdir()) if run_dir.exists() else []
    if left:
        raise DataError(
            f"run folder: got {run_dir}, which holds {', '.join(left[:3])}, expected a new or "
            "empty folder with privacy.epsilon: what lies there may tell of users. Fix: another "
            "folder (--run FOLDER), or delete what is there"
        )


def public_items(dataset: Dataset) -> pl.DataFrame:
    """Return the item table, which is the catalogue.

    Raises
    ------
    DataError
        There is none, or events name items that it lacks.
    """
    if dataset.items is None:
        raise DataError(
            "data.items: got none with privacy.epsilon, expected an item table: the catalogue must "
            "be public, and a catalogue made of the events says what users did. Fix: give --items "
            "FILE with the column item_id"
        )
    unknown = dataset.events.join(dataset.items, on="item_id", how="anti")["item_id"]
    if unknown.len():
        raise DataError(
            f"data.items: got events of {unknown.n_unique():,} items that the item table lacks, "
            f"such as {unknown[0]!r}, expected all of them there with privacy.epsilon: the "
            "catalogue must be public. Fix: add them to the table, or drop their events"
        )
    return dataset.items


def read_parent(path: str) -> Manifest | None:
    """Read the manifest of the private bundle that ``privacy.parent`` names."""
    if not path:
        return None
    try:
        with Bundle.open(path) as bundle:
            manifest = bundle.manifest
    except BundleError as error:
        raise DataError(
            f"privacy.parent: got {path}, which is no bundle ({error}), expected the private "
            "bundle of the release before. Fix: give NAME.shortlist, not its run folder"
        ) from error
    if manifest.privacy is None:
        raise DataError(
            f"privacy.parent: got {path}, which was trained without privacy, expected a private "
            "bundle: what an exact model told cannot be taken back. Fix: leave it out, if nobody "
            "outside has that bundle"
        )
    if "NOT PRIVATE" in manifest.privacy.generator:
        raise DataError(
            f"privacy.parent: got {path}, whose noise had a known seed, expected a private bundle. "
            "Fix: leave it out, if nobody outside has that bundle"
        )
    if not _adds_up(manifest["privacy"]["releases"]):
        raise DataError(
            f"privacy.parent: got {path}, whose ledger does not add up, expected releases with the "
            "sigma of each. Fix: take the bundle as it was written"
        )
    return manifest


def _adds_up(releases: list[Any]) -> bool:
    try:
        spent(releases, delta=1e-5)
    except (TypeError, KeyError, ValueError):
        return False
    return True


def _check_size(config: Config, n_items: int) -> None:
    if not is_affordable("cooccurrence", n_items):
        raise DataError(
            f"data.items: got {n_items:,} items with privacy.epsilon, expected at most 8,191: the "
            "matrix of all pairs is released. Fix: an item table of those that a public list "
            "names, such as what is in stock; docs/privacy.md says how the others are served"
        )


def train_on(
    made: Release,
    items: pl.DataFrame,
    user_ids: pl.DataType,
    config: Config,
    run_dir: Path,
    refine: Callable[[TwoTower], None] | None,
    *,
    progress: bool,
) -> TrainedModel:
    """Make the model of a release: directly, or from synthetic walks."""
    started = time.perf_counter()
    weights, popular = item_weights(made.noisy), popularity(made.noisy)
    if hides_pairs(made.noisy):
        log.info("%s", HIDDEN)
    is_direct = config.model.encoder in DIRECT
    walks = draw_walks(
        weights,
        popular,
        n_walks=N_CHECKED if is_direct else N_TRAINED,
        length=LENGTH,
        decay=config.linear.decay_age,
        seed=config.train.seed,
    )
    dataset = walks_dataset(walks, items, user_ids)
    if not is_direct:
        return fit.train(dataset, config, run_dir, progress=progress, refine=refine)
    split = configured_split(dataset, config)
    features = FeatureSet.fit(dataset, split, config)
    checkpoint.open_run_folder(run_dir, dataset, config, features, False)
    model = LinearModel(config, features)
    model.fill(_vectors(config, weights, popular))
    row = {"epoch": 1, "seconds": round(time.perf_counter() - started, 3), "is_best": False}
    checkpoint.write_lines(run_dir / "metrics.jsonl", [row])
    return fit.finish(model, [row], split, run_dir, progress=progress)


def _vectors(
    config: Config, weights: NDArray[np.float32], popular: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return item vectors as `Baseline.item_vectors` does."""
    if config.model.encoder == "popularity":
        return popular[:, None].astype(np.float32)
    vectors = np.empty((len(popular), len(popular) + 1), np.float32)
    vectors[:, 0] = FLOOR * popular / popular.max()
    vectors[:, 1:] = weights.T
    return vectors
