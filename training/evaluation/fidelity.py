"""Do reasons hold? What becomes of the first item of a list without the history items named.

The metrics are those of SPINRec (Barkan et al., AAAI 2026) and of "Refining Fidelity Metrics for
Explainable Recommendations" (Baklanov et al., SIGIR 2025), on the item that a user gets first:

    POS@K,n   whether it is still among the first K without the n items named first: lower is better
    DEL,n     its score without them, as a part of its score before: lower is better
    INS,n     its score with them alone, as a part of its score before: higher is better
    CDCG,n    1 / log2(1 + its place without them), 0 behind place 100: lower is better

each as a mean over users. What was in the whole history stays excluded from every list. Where a
score before is not above 0, a part of it means nothing: DEL and INS are left out then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.errors import DataError
from shortlist.training.data.counted import counted
from shortlist.training.evaluation.tables import text_table

if TYPE_CHECKING:
    from shortlist.engine import Engine
    from shortlist.training.splits.parts import Split

__all__ = ["Fidelity", "drawn_histories", "fidelity_text", "measure_fidelity"]

KS, N_NAMED = (5, 10, 20), 4
DEPTH = 100  # places that count
LEAST_ITEMS = 8  # of a history: fewer leave nothing to choose from
History = list[Any]
Explainer = Callable[[list[History], list[Any]], list[History]]


@dataclass(frozen=True)
class Fidelity:
    """What was measured.

    Attributes
    ----------
    n_users : int
    metrics : dict of str to dict of str to float
        By explainer and metric: `reasons` (`Engine.explain`), the most similar items of the
        history, its newest ones, and random ones.
    """

    n_users: int
    metrics: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {"n_users": self.n_users, "metrics": self.metrics}


def drawn_histories(split: Split, on: str, n_users: int, seed: int = 0) -> list[History]:
    """Draw histories of users of a part, as item ids, oldest first.

    Raises
    ------
    DataError
        Nobody has a history of at least `LEAST_ITEMS` items.
    """
    histories = split.histories("train" if on == "valid" else "valid")
    long_enough = np.flatnonzero(histories.lengths >= LEAST_ITEMS)
    if len(long_enough) == 0:
        raise DataError(
            f"explain: no user of {on} has a history of {LEAST_ITEMS} items or more, expected some "
            "to explain"
        )
    n = min(n_users, len(long_enough))
    chosen = np.random.default_rng(seed).choice(long_enough, n, replace=False)
    return [histories[int(i)].tolist() for i in np.sort(chosen)]


def measure_fidelity(engine: Engine, histories: Sequence[History], seed: int = 0) -> Fidelity:
    """Measure `Engine.explain` beside simpler explanations, on histories alone.

    Parameters
    ----------
    engine : Engine
    histories : sequence of lists of item ids
        Items that the bundle does not know are left out first.
    seed : int
        Of the random explanations.
    """
    known = set(engine.index.item_ids.tolist())
    window = -engine.bundle.manifest.max_history
    kept = [[item for item in history if item in known][window:] for history in histories]
    kept = [history for history in kept if len(set(history)) > N_NAMED]
    if not kept:
        raise DataError(
            f"explain: got no history with more than {N_NAMED} items that the bundle knows"
        )
    first = engine.recommend({"history": kept}, 1)
    has_one = first.counts > 0
    kept = [history for history, has in zip(kept, has_one, strict=True) if has]
    targets = first.item_ids[has_one, 0].tolist()
    random = np.random.default_rng(seed)
    explainers: dict[str, Explainer] = {
        "reasons": lambda given, _: _by_reasons(engine, given),
        "most similar": lambda given, items: _by_similarity(engine, given, items),
        "newest": lambda given, _: [list(dict.fromkeys(one[::-1])) for one in given],
        "random": lambda given, _: [
            random.permutation(np.array(list(dict.fromkeys(one)), object)).tolist() for one in given
        ],
    }
    before = _scores(engine, kept, targets)
    metrics = {
        name: _measured(engine, kept, targets, explain(kept, targets), before)
        for name, explain in explainers.items()
    }
    return Fidelity(len(kept), metrics)


def _by_reasons(engine: Engine, histories: list[History]) -> list[History]:
    """Name what `Engine.explain` names, greedily; fewer where nothing more speaks for the item."""
    said = engine.explain({"history": histories}, KS[0], N_NAMED, thorough=True)
    return [[reason.item_id for reason in one[0]] for one in said.reasons]


def _by_similarity(engine: Engine, histories: list[History], targets: list[Any]) -> list[History]:
    """Name the items whose vectors have the largest cosine with the item's."""
    rows = {item: row for row, item in enumerate(engine.index.item_ids.tolist())}

    def units(items: list[Any]) -> Any:
        vectors = engine.index.vectors(np.array([rows[item] for item in items]))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths == 0, 1, lengths)

    named = []
    for history, target in zip(histories, targets, strict=True):
        items = [item for item in dict.fromkeys(history[::-1]) if item in rows]
        cosines = units(items) @ units([target])[0]
        named.append([items[i] for i in np.argsort(-cosines, kind="stable")])
    return named


def _measured(
    engine: Engine,
    histories: list[History],
    targets: list[Any],
    named: list[History],
    before: Any,
) -> dict[str, float]:
    """Return the metrics of one explainer."""
    found: dict[str, float] = {}
    for n in range(1, N_NAMED + 1):
        gone = [set(items[:n]) for items in named]
        pairs = list(zip(histories, gone, strict=True))
        left = [[item for item in own if item not in out] for own, out in pairs]
        alone = [[item for item in own if item in out] for own, out in pairs]
        places = _places(engine, left, histories, targets)
        for k in KS:
            found[f"POS@{k},{n}"] = float((places <= k).mean())
        if (before > 0).all():
            found[f"DEL,{n}"] = float(np.mean(_scores(engine, left, targets) / before))
            found[f"INS,{n}"] = float(np.mean(_scores(engine, alone, targets) / before))
        gains = np.where(places <= DEPTH, 1 / np.log2(1 + places), 0.0)
        found[f"CDCG,{n}"] = float(gains.mean())
    return found


def _places(engine: Engine, left: list[History], seen: list[History], targets: list[Any]) -> Any:
    """Return the place of each target, from 1; DEPTH + 1 where it is not among the first."""
    answer = engine.recommend({"history": left}, DEPTH, exclude=seen)
    ids = answer.item_ids.tolist()
    return np.array(
        [
            own.index(target) + 1 if target in own else DEPTH + 1
            for own, target in zip(ids, targets, strict=True)
        ]
    )


def _scores(engine: Engine, histories: list[History], targets: list[Any]) -> Any:
    scores = engine.score({"history": histories}, [[target] for target in targets])
    return scores[:, 0].astype(np.float64)


def fidelity_text(fidelity: Fidelity) -> str:
    """Write what was measured for a terminal."""
    columns = ["POS@5,1", "POS@5,2", "POS@5,4", "POS@10,4", "POS@20,4", "DEL,4", "INS,4", "CDCG,4"]
    table = text_table(fidelity.metrics, columns, title="first item of the list")
    said = (
        "POS@K,n: still among the first K without n items; DEL: part of the score that is left;\n"
        "CDCG: gain of the place that is left. For these lower is better. INS: part of the score\n"
        "with these items alone; higher is better."
    )
    who = counted(fidelity.n_users, "user")
    return f"{who}, the items named first left out of the history\n\n{table}\n\n{said}\n"
