"""The tables of an evaluation, whatever they are written as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shortlist.training.data.counted import counted
from shortlist.training.evaluation.beyond import ColumnShares
from shortlist.training.evaluation.comparison import Comparison
from shortlist.training.evaluation.evaluation_report import EvaluationReport
from shortlist.training.evaluation.tables import distinct_metrics

__all__ = ["ENDS", "Table", "accuracy", "captions", "further_tables", "ranker_rows", "segment_rows"]

ENDS = ("95 % from", "to")  # rows of intervals
_BEYOND = ("coverage", "novelty")  # of all lists together: they stand under a heading of their own
_WHOLES = ("of the catalogue", "of the histories")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    title : str
    rows : mapping of str to mapping
        Numbers by row and column.
    columns : sequence of str
        Those that are shown.
    digits : int
        After the point.
    notes : tuple of str
        Sentences above it.
    kind : str
        "against", "seeds", "beyond" or "shares" of those that stand behind the metrics.
    """

    title: str
    rows: Mapping[str, Mapping[str, float]]
    columns: Sequence[str]
    digits: int = 3
    notes: tuple[str, ...] = ()
    kind: str = ""

    def shown(self) -> dict[str, dict[str, float]]:
        """Return the rows with the shown columns alone."""
        return {
            label: {name: row[name] for name in self.columns if name in row}
            for label, row in self.rows.items()
        }


def accuracy(rows: Mapping[str, Mapping[str, float]], k: int | None = None) -> list[str]:
    """Name the metrics of accuracy in rows, at one cut-off or all, none that repeats another."""
    names = [name for name in distinct_metrics(rows) if name.partition("@")[0] not in _BEYOND]
    return [name for name in names if k is None or name.endswith(f"@{k}")]


def captions(report: EvaluationReport) -> list[str]:
    """Say who was measured, and what was ranked how."""
    bundle = next(iter(report.metrics))
    seen = (
        "seen items included (serve with exclude_seen=False)"
        if report.include_seen
        else "seen items left out"
    )
    texts = [
        report.users.sentence(report.on)
        if report.users is not None
        else counted(report.n_users, f"{report.on} user"),
        f"All {counted(report.n_items, 'item')} ranked, {seen}",
        f"95 % bootstrap intervals of {bundle}",
    ]
    stored = [name for name, source in report.tables.items() if source == "bundle"]
    if stored:
        texts.append(f"From the bundle, not from the data: {' and '.join(stored)}")
    return texts


def ranker_rows(report: EvaluationReport) -> dict[str, Mapping[str, float]]:
    """Give the metrics of each ranker, those of the bundle with its interval."""
    bundle = next(iter(report.metrics))
    own = {bundle: report.metrics[bundle]} | _ends(report.intervals)
    return own | report.metrics


def segment_rows(report: EvaluationReport) -> dict[str, Mapping[str, float]]:
    """Give the metrics of each segment of users."""
    return {f"{s.name} ({counted(s.n_users, 'user')})": s.metrics for s in report.segments}


def further_tables(report: EvaluationReport) -> list[Table]:
    """Give what was asked for beside the metrics, then what lists are like beyond accuracy."""
    tables = [_comparison(one) for one in report.against]
    seeds = report.seeds
    if seeds is not None:
        rows = seeds.rows()
        k = int(next(iter(report.intervals)).partition("@")[2])
        notes = (seeds.sentence,)
        tables.append(Table("Other seeds", rows, accuracy(rows, k), 4, notes, "seeds"))
    if report.beyond is not None:
        columns = list(dict.fromkeys(c for row in report.beyond.metrics.values() for c in row))
        tables.append(Table("Beyond accuracy", report.beyond.metrics, columns, kind="beyond"))
        tables += [_shares(column) for column in report.beyond.columns]
    return tables


def _comparison(comparison: Comparison) -> Table:
    row = f"{comparison.name} less {comparison.other}"
    k = int(comparison.metric.partition("@")[2])
    rows: dict[str, Mapping[str, float]] = {row: comparison.differences}
    rows |= _ends(comparison.intervals)
    is_decided = bool(comparison.differences)
    return Table(
        f"Against {comparison.other}",
        rows if is_decided else {},
        accuracy(rows, k),
        4,
        (comparison.sentence,),
        "against",
    )


def _shares(shares: ColumnShares) -> Table:
    catalogue, histories = _WHOLES
    rows = {
        f"{share.value} ({counted(share.n_items, 'item')})": {
            catalogue: share.catalogue,
            histories: share.histories,
            **{f"of {ranker}": part for ranker, part in share.lists.items()},
        }
        for share in shares.rows
    }
    columns = list(next(iter(rows.values()))) if rows else []
    return Table(f"Shares by {shares.column}", rows, columns, kind="shares")


def _ends(intervals: Mapping[str, tuple[float, float]]) -> dict[str, Mapping[str, float]]:
    lows = {name: low for name, (low, _) in intervals.items()}
    highs = {name: high for name, (_, high) in intervals.items()}
    return dict(zip(ENDS, (lows, highs), strict=True))
