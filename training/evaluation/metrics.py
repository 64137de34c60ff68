"""Ranking metrics from ranked item rows and target item rows, in numpy.

For a user with n_T ≥ 1 targets and ranked items r_1, r_2, … let hit_i be 1 if r_i is a target:

=============  ==========================================================================
HR@k           1 if any hit_i with i ≤ k, else 0
Recall@k       Σ_{i≤k} hit_i / n_T
NDCG@k         Σ_{i≤k} hit_i / log2(i + 1), divided by Σ_{i ≤ min(k, n_T)} 1 / log2(i + 1)
MRR@k          1 / (first i ≤ k with hit_i), 0 without a hit
MAP@k          Σ_{i≤k} hit_i · (Σ_{j≤i} hit_j / i) / n_T
=============  ==========================================================================

averaged over users. HR and leave-one-out NDCG as in SASRec (Kang and McAuley, ICDM 2018); NDCG,
binary gains, Järvelin and Kekäläinen, TOIS 2002; Recall, MRR and MAP as in trec_eval and ranx.
Over all users' lists together:

=============  ==========================================================================
coverage@k     number of different items in the lists / number of items (Ge et al., RecSys 2010)
novelty@k      mean over recommended items of −log2(c_i / Σ c), the self-information of item i
               with c_i train events, at least one (Zhou et al., PNAS 2010)
=============  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows

# One array of target rows a user, or (values, row_splits).
Targets: TypeAlias = "Sequence[npt.NDArray[np.integer]] | tuple[Rows, Rows]"

Key = TypeVar("Key")  # what names a metric

PER_USER = ("HR", "Recall", "NDCG", "MRR", "MAP")
_USERS_AT_ONCE = 1 << 14


def ranking_metrics(
    ranked_rows: npt.NDArray[np.integer],
    targets: Targets,
    ks: Sequence[int] = (10, 20),
    *,
    n_items: int,
    train_popularity: npt.NDArray[np.number] | None = None,
) -> dict[str, float]:
    """Compute all metrics of the module's table, averaged over users.

    Parameters
    ----------
    ranked_rows : ndarray of shape (n_users, n_ranked), integer
        Item rows, best first; −1 for a missing place. n_ranked must be at least max(ks).
    targets : sequence of n_users integer arrays, or (values, row_splits)
        The item rows that count as hits; at least one for each user.
    ks : sequence of int
        Cut-offs.
    n_items : int
        Items in the catalogue, for coverage.
    train_popularity : ndarray of shape (n_items,), optional
        Train events of each item; novelty is left out without it.

    Returns
    -------
    dict of str to float
        ``"HR@10"``, ``"Recall@10"``, ``"NDCG@10"``, ``"MRR@10"``, ``"MAP@10"``, ``"coverage@10"``,
        ``"novelty@10"``, and so on for each cut-off.

    Raises
    ------
    DataError
        Shapes do not fit, a user has no target, or a row is not in the catalogue.

    Notes
    -----
    An item that a list has twice counts at its first place; the others are places without a hit. A
    target that a user has twice counts once.
    """
    ranked = _check_ranked(ranked_rows, ks)
    if ranked.size and int(ranked.max()) >= n_items:
        raise DataError(
            f"ranked_rows: got row {int(ranked.max())}, expected rows below "
            f"n_items={n_items}. Fix: rank rows of this catalogue"
        )
    per_user = per_user_metrics(ranked, targets, ks)
    out = {name: float(values.mean()) for name, values in per_user.items()}
    for k in ks:
        shown = ranked[:, :k]
        shown = shown[shown >= 0]
        out[f"coverage@{k}"] = np.count_nonzero(np.bincount(shown, minlength=n_items)) / n_items
        if train_popularity is not None:
            out[f"novelty@{k}"] = _novelty(shown, np.asarray(train_popularity), n_items)
    return _in_table_order(out, ks)


def per_user_metrics(
    ranked_rows: npt.NDArray[np.integer], targets: Targets, ks: Sequence[int] = (10, 20)
) -> dict[str, Floats]:
    """Compute HR, Recall, NDCG, MRR and MAP of each user: name → float64 array (n_users,).

    Arguments and errors as in `ranking_metrics`.
    """
    ranked = _check_ranked(ranked_rows, ks)
    values, splits = _csr(targets)
    if len(splits) != len(ranked) + 1:
        raise DataError(
            f"targets: got {len(splits) - 1} users, expected {len(ranked)} as in "
            "ranked_rows. Fix: pass one list for each ranked user"
        )
    n_targets = np.diff(splits)
    if len(ranked) == 0 or (n_targets < 1).any():
        where = "no users" if len(ranked) == 0 else f"none for user {int(n_targets.argmin())}"
        raise DataError(
            f"targets: got {where}, expected at least one target a user. "
            "Fix: leave out users without targets"
        )
    blocks = []
    for start in range(0, len(ranked), _USERS_AT_ONCE):
        stop = min(start + _USERS_AT_ONCE, len(ranked))
        hits = _hits(ranked[start:stop], values, splits[start : stop + 1])
        blocks.append(_metrics_of_hits(hits, n_targets[start:stop], ks))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def bootstrap_intervals(
    per_user: Mapping[Key, Floats], *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[Key, tuple[float, float]]:
    """Estimate confidence intervals of the users' means by the percentile bootstrap.

    Users are drawn with replacement ``n_resamples`` times (Efron and Tibshirani 1993); all metrics
    use the same draws.

    Returns
    -------
    dict of (float, float)
        Key of ``per_user`` → (low, high) such that ``level`` of the resampled means lie between.
    """
    if not (0 < level < 1 and n_resamples >= 1):
        raise DataError(
            f"bootstrap: got level={level}, n_resamples={n_resamples}, expected "
            "0 < level < 1 and n_resamples ≥ 1. Fix: for example 0.95 and 1000"
        )
    names = list(per_user)
    table = np.stack([per_user[name] for name in names], axis=1)
    n_users = len(table)
    rng = np.random.default_rng(seed)
    means = np.empty((n_resamples, len(names)))
    for i in range(n_resamples):
        times_drawn = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users)
        means[i] = times_drawn @ table / n_users
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return {name: (float(low[j]), float(high[j])) for j, name in enumerate(names)}


def _check_ranked(ranked_rows: npt.NDArray[np.integer], ks: Sequence[int]) -> Rows:
    ranked = np.asarray(ranked_rows)
    if ranked.ndim != 2 or not np.issubdtype(ranked.dtype, np.integer):
        raise DataError(
            f"ranked_rows: got shape {ranked.shape} of {ranked.dtype}, expected integers "
            "of shape (n_users, n_ranked). Fix: pass item rows, best first"
        )
    if len(ks) == 0 or min(ks) < 1 or max(ks) > ranked.shape[1]:
        raise DataError(
            f"ks: got {list(ks)}, expected cut-offs from 1 to the {ranked.shape[1]} "
            "ranked items. Fix: rank more items or lower ks"
        )
    return ranked.astype(np.int64, copy=False)


def _csr(targets: Targets) -> tuple[Rows, Rows]:
    if isinstance(targets, tuple):
        values, splits = (np.asarray(part, dtype=np.int64) for part in targets)
    else:
        lengths = [len(rows) for rows in targets]
        values = np.concatenate([*targets, np.empty(0, np.int64)]).astype(np.int64)
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return _each_once(values, splits)


def _each_once(values: Rows, splits: Rows) -> tuple[Rows, Rows]:
    """Count a target that a user has twice once."""
    owner = np.repeat(np.arange(len(splits) - 1), np.diff(splits))
    wanted = values[splits[0] : splits[-1]]
    width = 1 + int(wanted.max(initial=0))
    _, first = np.unique(owner * width + wanted, return_index=True)
    if len(first) == len(wanted):
        return values, splits
    first = np.sort(first)
    counts = np.bincount(owner[first], minlength=len(splits) - 1)
    return wanted[first], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _hits(ranked: Rows, values: Rows, splits: Rows) -> npt.NDArray[np.bool_]:
    """Mark ranked rows that are targets of their user: one sorted search over (user, row) keys."""
    n_users = len(ranked)
    owner = np.repeat(np.arange(n_users), np.diff(splits))
    wanted = values[splits[0] : splits[-1]]
    width = 1 + max(int(ranked.max(initial=0)), int(wanted.max(initial=0)))
    is_target = np.isin(ranked + np.arange(n_users)[:, None] * width, owner * width + wanted)
    return is_target & (ranked >= 0) & ~_repeats(ranked)


def _repeats(ranked: Rows) -> npt.NDArray[np.bool_]:
    """Mark the places of items that stand further up in their list already: they count once."""
    repeated = np.zeros(ranked.shape, np.bool_)
    order = np.argsort(ranked, axis=1, kind="stable")
    ordered = np.take_along_axis(ranked, order, axis=1)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated


def _metrics_of_hits(
    hits: npt.NDArray[np.bool_], n_targets: Rows, ks: Sequence[int]
) -> dict[str, Floats]:
    place = np.arange(1, hits.shape[1] + 1)
    discount = 1 / np.log2(place + 1)
    ideal = np.cumsum(discount)
    n_hits = np.cumsum(hits, axis=1)
    gain = np.cumsum(hits * discount, axis=1)
    precision = np.cumsum(hits * n_hits / place, axis=1)
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf)
    out: dict[str, Floats] = {}
    for k in ks:
        out[f"HR@{k}"] = (n_hits[:, k - 1] > 0).astype(np.float64)
        out[f"Recall@{k}"] = n_hits[:, k - 1] / n_targets
        out[f"NDCG@{k}"] = gain[:, k - 1] / ideal[np.minimum(k, n_targets) - 1]
        out[f"MRR@{k}"] = np.where(first <= k, 1 / first, 0.0)
        out[f"MAP@{k}"] = precision[:, k - 1] / n_targets
    return out


def _novelty(shown: Rows, popularity: npt.NDArray[np.number], n_items: int) -> float:
    if popularity.shape != (n_items,):
        raise DataError(
            f"train_popularity: got shape {popularity.shape}, expected ({n_items},). "
            "Fix: count train events of each catalogue row"
        )
    counts = np.maximum(popularity, 1).astype(np.float64)
    surprise = -np.log2(counts / max(float(popularity.sum()), 1.0))
    return float(surprise[shown].mean()) if shown.size else 0.0


def _in_table_order(metrics: Mapping[str, float], ks: Sequence[int]) -> dict[str, float]:
    names = [f"{name}@{k}" for k in ks for name in (*PER_USER, "coverage", "novelty")]
    return {name: float(metrics[name]) for name in names if name in metrics}
