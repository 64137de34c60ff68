"""The picture of approximate.py: a panel a batch, catalogue size against time over Shortlist's."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot(result: dict[str, Any], path: Path) -> None:
    """Above the black line an approximate engine is slower than exact search, below it faster."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    batches = [str(batch) for batch in result["batches"]]
    figure, axes = pyplot.subplots(
        1,
        len(batches),
        figsize=(3.4 * len(batches) + 2, 3.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    names = list(dict.fromkeys(row["engine"] for c in result["catalogues"] for row in c["chosen"]))
    lines: dict[str, Any] = {}
    for axis, batch in zip(axes[0], batches, strict=True):
        axis.axhline(1, c="black", lw=3)
        for number, name in enumerate(names):
            for target, style in zip(result["recall"], ["-", "--", ":", "-."], strict=False):
                key = f"{name} at {target}"
                points = [
                    (c["n_items"], c["ms"][batch][key] / c["ms"][batch]["shortlist"])
                    for c in result["catalogues"]
                    if key in c["ms"][batch]
                ]
                if points:
                    (line,) = axis.loglog(
                        *zip(*points, strict=True), style, marker="o", ms=3, c=f"C{number}"
                    )
                    lines[f"{name}, recall {target}"] = line
        axis.set(title=f"batch {batch}", xlabel="items")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("time / exact Shortlist's")
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
