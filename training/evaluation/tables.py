"""Metrics as a table for terminals, without columns that say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["distinct_metrics", "text_table"]

_SAME = {"Recall": "HR", "MAP": "MRR"}  # of users with one target each


def distinct_metrics(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the metrics of rows, but for a Recall that is the HR and a MAP that is the MRR.

    They are where each user has one target, as in leave-one-out.

    Examples
    --------
    >>> distinct_metrics({"a": {"HR@10": 0.5, "Recall@10": 0.5, "MRR@10": 0.2, "MAP@10": 0.1}})
    ['HR@10', 'MRR@10', 'MAP@10']
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))

    def is_repeated(name: str) -> bool:
        metric, _, k = name.partition("@")
        twin = f"{_SAME.get(metric)}@{k}"
        return twin in names and all(row.get(name) == row.get(twin) for row in rows.values())

    return [name for name in names if not is_repeated(name)]


def text_table(
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    *,
    title: str = "",
    digits: int = 3,
) -> str:
    """Write rows of metrics in columns, aligned for a terminal.

    Parameters
    ----------
    rows : mapping of str to mapping
        Metrics by row; a metric that a row lacks is a dash.
    columns : sequence of str
        The metrics, by their names in the rows.
    title : str
        Over the names of the rows.
    digits : int
        After the point.

    Examples
    --------
    >>> print(text_table({"a": {"HR": 0.25}, "to": {}}, ["HR"], title="top 10"))
    top 10     HR
    a       0.250
    to          –
    """
    names = list(columns)
    cells = [
        [f"{row[column]:.{digits}f}" if column in row else "–" for column in columns]
        for row in rows.values()
    ]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    first = max(map(len, [title, *rows]))
    lines = [
        "  ".join([label.ljust(first), *(c.rjust(w) for c, w in zip(line, widths, strict=True))])
        for label, line in zip([title, *rows], [names, *cells], strict=True)
    ]
    return "\n".join(lines)
