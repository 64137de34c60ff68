"""The result of an evaluation: as text for a terminal, as a Markdown page, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shortlist.training.data.counted import counted
from shortlist.training.evaluation.evaluate import EvaluationReport
from shortlist.training.evaluation.plots import plot_metrics
from shortlist.training.evaluation.published import published_table
from shortlist.training.evaluation.segments import format_table
from shortlist.training.evaluation.tables import distinct_metrics, text_table

__all__ = ["evaluation_markdown", "evaluation_text", "write_report"]

_ENDS = ("95 % from", "to")  # rows of the bundle's intervals


def evaluation_text(report: EvaluationReport) -> str:
    """Write an evaluation for a terminal: a table for each cut-off, then the segments."""
    bundle = next(iter(report.metrics))
    rows = {
        name.replace(f"{bundle},", " ") if name not in _ENDS else f"  {name}": row
        for name, row in _ranker_rows(report).items()
    }
    columns = distinct_metrics(rows)
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in columns))
    tables = []
    for k in cutoffs:
        tables.append(text_table(rows, [name for name in columns if name.endswith(f"@{k}")]))
    first = [name for name in columns if name.endswith(f"@{cutoffs[0]}")]
    segments = _segment_rows(report)
    shown = [name for name in first if any(name in row for row in segments.values())]
    parts = [
        f"{report.dataset}, {report.protocol}",
        "\n".join(_captions(report)),
        *tables,
        text_table(segments, shown, title=f"{bundle} by segment"),
        *_verdict(report),
    ]
    return "\n\n".join(parts) + "\n"


def evaluation_markdown(report: EvaluationReport, *, plot: str = "") -> str:
    """Write an evaluation as a Markdown page.

    Parameters
    ----------
    report : EvaluationReport
    plot : str
        Path of the picture beside the page, if there is one.
    """
    warnings = [f"Warning: {warning}." for warning in report.warnings]
    rows, segments = _ranker_rows(report), _segment_rows(report)
    bundle = next(iter(report.metrics))
    parts = [
        f"# {report.dataset}, {report.protocol}",
        " ".join(f"{caption}." for caption in _captions(report)),
        format_table(_chosen(rows)),
        *([f"![NDCG of each ranker]({plot})"] if plot else []),
        *_published(report),
        f"{bundle}, by segments of users:",
        format_table(_chosen(segments)),
        *warnings,
        *_verdict(report),
    ]
    return "\n\n".join(parts) + "\n"


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write the page of `evaluation_markdown` and its picture, NAME.md and NAME.png."""
    picture = path.with_suffix(".png")
    plot_metrics(report, picture)
    path.write_text(evaluation_markdown(report, plot=picture.name), encoding="utf-8")


def _captions(report: EvaluationReport) -> list[str]:
    """Say who was measured, and what was ranked how."""
    bundle = next(iter(report.metrics))
    seen = (
        "seen items included (serve with exclude_seen=False)"
        if report.include_seen
        else "seen items left out"
    )
    captions = [
        report.users.sentence(report.on)
        if report.users is not None
        else counted(report.n_users, f"{report.on} user"),
        f"All {counted(report.n_items, 'item')} ranked, {seen}",
        f"95 % bootstrap intervals of {bundle}",
    ]
    stored = [name for name, source in report.tables.items() if source == "bundle"]
    if stored:
        captions.append(f"From the bundle, not from the data: {' and '.join(stored)}")
    return captions


def _ranker_rows(report: EvaluationReport) -> dict[str, Mapping[str, float]]:
    """Give the metrics of each ranker, those of the bundle with its interval."""
    ends: list[dict[str, float]] = [{}, {}]
    for name, interval in report.intervals.items():
        for end, value in zip(ends, interval, strict=True):
            end[name] = value
    bundle = next(iter(report.metrics))
    intervals = dict(zip(_ENDS, ends, strict=True))
    return {bundle: report.metrics[bundle], **intervals, **report.metrics}


def _segment_rows(report: EvaluationReport) -> dict[str, Mapping[str, float]]:
    return {f"{s.name} ({counted(s.n_users, 'user')})": s.metrics for s in report.segments}


def _chosen(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    columns = distinct_metrics(rows)
    return {
        label: {name: row[name] for name in columns if name in row} for label, row in rows.items()
    }


def _verdict(report: EvaluationReport) -> list[str]:
    return [] if report.verdict is None else [f"Verdict: {report.verdict.sentence}."]


def _published(report: EvaluationReport) -> list[str]:
    table = published_table(report)
    return ["Published on this set and protocol:", table] if table else []
