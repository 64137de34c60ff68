"""Average metrics in segments of users, and write metrics as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shortlist.training.data.arrays import Floats
from shortlist.training.evaluation.metrics import bootstrap_intervals


@dataclass(frozen=True)
class Segment:
    """One row of a segment table: which users, how many, their mean metrics, 95 % intervals."""

    name: str
    n_users: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def segment_table(
    per_user: Mapping[str, Floats],
    values: npt.NDArray[np.number],
    edges: Sequence[float],
    name: str,
) -> list[Segment]:
    """Average per-user metrics in segments of a per-user number.

    Parameters
    ----------
    per_user : mapping of str to ndarray of shape (n_users,)
    values : ndarray of shape (n_users,)
        What the users are grouped by.
    edges : sequence of increasing numbers
        Upper ends (included) of all segments but the last.
    name : str
        What ``values`` are, for the segment names ("history ≤ 5", "history 6–10", …).

    Returns
    -------
    list of Segment
        Segments without users are left out.
    """
    segment = np.searchsorted(np.asarray(edges), values, side="left")
    out = []
    for i in range(len(edges) + 1):
        members = segment == i
        if members.any():
            low = "" if i == 0 else f"> {edges[i - 1]:g}"
            high = "" if i == len(edges) else f"≤ {edges[i]:g}"
            label = " and ".join(part for part in (low, high) if part) or "all"
            own = {metric: values[members] for metric, values in per_user.items()}
            means = {metric: float(values.mean()) for metric, values in own.items()}
            intervals = bootstrap_intervals(own)
            out.append(Segment(f"{name} {label}", int(members.sum()), means, intervals))
    return out


def format_table(results: Mapping[str, Mapping[str, float]], *, digits: int = 3) -> str:
    """Write results as a Markdown table: one row a name, one column a metric.

    Examples
    --------
    >>> print(format_table({"popularity": {"HR@10": 0.0859, "coverage@10": 0.04}}))
    | | HR@10 | coverage@10 |
    |---|---|---|
    | popularity | 0.086 | 0.040 |
    """
    columns = list(dict.fromkeys(name for row in results.values() for name in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in results.items():
        cells = [f"{row[column]:.{digits}f}" if column in row else "–" for column in columns]
        lines.append("| " + " | ".join([name.replace("|", "\\|"), *cells]) + " |")
    return "\n".join(lines)
