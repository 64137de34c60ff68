"""The result of an evaluation: as text for a terminal, as a Markdown page, as an HTML page."""

from __future__ import annotations

from pathlib import Path

from shortlist._temporary import replacing
from shortlist.errors import DataError
from shortlist.training.evaluation.evaluation_report import EvaluationReport
from shortlist.training.evaluation.html_report import evaluation_html
from shortlist.training.evaluation.plots import plot_metrics
from shortlist.training.evaluation.published import published_table
from shortlist.training.evaluation.report_tables import (
    ENDS,
    Table,
    accuracy,
    captions,
    further_tables,
    ranker_rows,
    segment_rows,
)
from shortlist.training.evaluation.segments import format_table
from shortlist.training.evaluation.tables import text_table

__all__ = ["check_report_path", "evaluation_markdown", "evaluation_text", "write_report"]

_ENDINGS = (".html", ".md")


def evaluation_text(report: EvaluationReport) -> str:
    """Write an evaluation for a terminal: a table for each cut-off, the segments, the rest."""
    bundle = next(iter(report.metrics))
    rows = {
        name.replace(f"{bundle},", " ") if name not in ENDS else f"  {name}": row
        for name, row in ranker_rows(report).items()
    }
    cutoffs = list(dict.fromkeys(int(name.partition("@")[2]) for name in accuracy(rows)))
    segments = segment_rows(report)
    first = accuracy(rows, cutoffs[0])
    shown = [name for name in first if any(name in row for row in segments.values())]
    parts = [
        f"{report.dataset}, {report.protocol}",
        "\n".join(captions(report)),
        *(text_table(rows, accuracy(rows, k)) for k in cutoffs),
        text_table(segments, shown, title=f"{bundle} by segment"),
        *map(_as_text, further_tables(report)),
        *_verdict(report),
    ]
    return "\n\n".join(parts) + "\n"


def _as_text(table: Table) -> str:
    if not table.rows:
        return "\n".join([table.title, *table.notes])
    shown = text_table(table.rows, table.columns, title=table.title, digits=table.digits)
    return "\n".join([shown, *table.notes])


def evaluation_markdown(report: EvaluationReport, *, plot: str = "") -> str:
    """Write an evaluation as a Markdown page.

    Parameters
    ----------
    report : EvaluationReport
    plot : str
        Path of the picture beside the page, if there is one.
    """
    warnings = [f"Warning: {warning}." for warning in report.warnings]
    rows, segments = ranker_rows(report), segment_rows(report)
    bundle = next(iter(report.metrics))
    parts = [
        f"# {report.dataset}, {report.protocol}",
        " ".join(f"{caption}." for caption in captions(report)),
        format_table(Table("", rows, accuracy(rows)).shown()),
        *([f"![NDCG of each ranker]({plot})"] if plot else []),
        *_published(report),
        f"{bundle}, by segments of users:",
        format_table(Table("", segments, accuracy(segments)).shown()),
        *(part for table in further_tables(report) for part in _as_markdown(table)),
        *warnings,
        *_verdict(report),
    ]
    return "\n\n".join(parts) + "\n"


def _as_markdown(table: Table) -> list[str]:
    rows = [format_table(table.shown(), digits=table.digits)] if table.rows else []
    return [f"## {table.title}", *(f"{note}." for note in table.notes), *rows]


def check_report_path(path: Path) -> None:
    """Refuse a file whose ending says no format that `write_report` has."""
    if path.suffix.lower() not in _ENDINGS:
        ending = path.suffix or "no ending"
        raise DataError(
            f"report: got {path} ({ending}), expected {' or '.join(_ENDINGS)}: one page with plots "
            f"inside, or Markdown with a picture beside it; e.g. {path.stem or 'report'}.html"
        )


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write one HTML page, or the page of `evaluation_markdown` and its picture NAME.png.

    Raises
    ------
    DataError
        The path ends in neither .html nor .md.
    """
    check_report_path(path)
    if path.suffix.lower() == ".html":
        page = evaluation_html(report)
    else:
        picture = path.with_suffix(".png")
        plot_metrics(report, picture)
        page = evaluation_markdown(report, plot=picture.name)
    with replacing(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))


def _verdict(report: EvaluationReport) -> list[str]:
    return [] if report.verdict is None else [f"Verdict: {report.verdict.sentence}."]


def _published(report: EvaluationReport) -> list[str]:
    table = published_table(report)
    return ["Published on this set and protocol:", table] if table else []
