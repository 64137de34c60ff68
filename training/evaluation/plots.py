"""Training curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shortlist.training.evaluation.compression_report import CompressionReport
    from shortlist.training.evaluation.evaluation_report import EvaluationReport
    from shortlist.training.evaluation.replays import ReplayReport

__all__ = ["plot_compression", "plot_history", "plot_metrics", "plot_replay", "plot_trials"]


def plot_history(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Plot training loss (left axis) and validation NDCG@10 (right axis) by epoch to a PNG.

    Parameters
    ----------
    history : sequence of dict
        One dict an epoch, with ``epoch``, ``loss`` and, where measured, ``NDCG@10``.
    path : str or Path
        PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.subplots()
    left.plot([row["epoch"] for row in history], [row["loss"] for row in history], color="C0")
    left.set(xlabel="epoch")
    left.set_ylabel("training loss", color="C0")
    measured = [row for row in history if row.get("NDCG@10") is not None]
    right = left.twinx()
    right.plot(
        [row["epoch"] for row in measured],
        [row["NDCG@10"] for row in measured],
        color="C1",
        marker="o",
        markersize=3,
    )
    right.set_ylabel("validation NDCG@10", color="C1")
    if measured:
        best = max(measured, key=lambda row: float(row["NDCG@10"]))
        right.axvline(best["epoch"], color="C1", alpha=0.3)
        left.set_title(f"best NDCG@10 {best['NDCG@10']:.4f} at epoch {best['epoch']}", fontsize=10)
    figure.savefig(path, dpi=144)


def plot_metrics(report: EvaluationReport, path: str | Path) -> None:
    """Plot NDCG at the first cut-off of each ranker to a PNG, best first.

    Parameters
    ----------
    report : EvaluationReport
        Its intervals are those of the first ranker.
    path : str or Path
        PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = report.metrics
    bundle = next(iter(metrics))
    metric = next(name for name in metrics[bundle] if name.startswith("NDCG@"))
    names = sorted(metrics, key=lambda name: float(metrics[name][metric]))
    figure = Figure(figsize=(7, 1 + 0.4 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colors = ["C1" if name == bundle else "C0" for name in names]
    axes.barh(names, [metrics[name][metric] for name in names], color=colors)
    low, high = report.intervals[metric]
    axes.plot([low, high], [bundle, bundle], color="black")
    axes.set(xlabel=f"{metric}, {report.dataset}, {report.protocol}")
    figure.savefig(path, dpi=144)


def plot_trials(values: Sequence[float | None], path: str | Path) -> None:
    """Plot NDCG@10 of each trial of a study and the best so far to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    measured = [(i, value) for i, value in enumerate(values, 1) if value is not None]
    axes.plot([i for i, _ in measured], [value for _, value in measured], "o", color="C0")
    best = [max(value for _, value in measured[: n + 1]) for n in range(len(measured))]
    axes.step([i for i, _ in measured], best, where="post", color="C1")
    axes.set(xlabel="trial", ylabel="validation NDCG@10")
    figure.savefig(path, dpi=144)


def plot_replay(report: ReplayReport, path: str | Path) -> None:
    """Plot NDCG@10 with intervals (left) and training seconds (right) of each cycle to a PNG.

    Parameters
    ----------
    report : ReplayReport
    path : str or Path
        PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    cycles = [row.cycle for row in report.cycles]
    for i, name in enumerate(report.cycles[0].ndcg):
        values = [row.ndcg[name] for row in report.cycles]
        intervals = [row.intervals[name] for row in report.cycles]
        errors = [
            [value - low for value, (low, _) in zip(values, intervals, strict=True)],
            [high - value for value, (_, high) in zip(values, intervals, strict=True)],
        ]
        places = [cycle + 0.06 * (i - 1) for cycle in cycles]
        left.errorbar(places, values, errors, marker="o", capsize=3, color=f"C{i}", label=name)
    left.set(xlabel="cycle", ylabel="NDCG@10, 95 % intervals", xticks=cycles)
    left.legend()
    for i, name in enumerate(report.cycles[0].seconds):
        seconds = [row.seconds[name] for row in report.cycles]
        places = [cycle + 0.4 * (i - 0.5) for cycle in cycles]
        right.bar(places, seconds, width=0.4, color=f"C{i + 1}", label=name)
    right.set(xlabel="cycle", ylabel="training, processor seconds", xticks=cycles)
    right.legend()
    figure.savefig(path, dpi=144)


def plot_compression(report: CompressionReport, path: str | Path) -> None:
    """Plot NDCG@10 by bytes (left) and by the encoder's time (right) to a PNG, a point a variant.

    Parameters
    ----------
    report : CompressionReport
    path : str or Path
        PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    whole = report.before.encoder_ms["64"]  # times of other moments would not compare
    points = [("the bundle", report.before, whole)]
    points += [(step.name, step.figures, whole / step.speedup["64"]) for step in report.steps]
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    least = report.before.ndcg * (1 - report.tolerance)
    for side, label in zip(axes, ("MB", "user encoder, ms for 64 requests"), strict=True):
        side.axhline(least, color="gray", linestyle=":")
        side.set(xlabel=label)
        side.grid(alpha=0.3)
    axes[0].set(ylabel="validation NDCG@10")
    for number, (name, figures, ms) in enumerate(points):
        marker = "*" if name == report.chosen else "o"
        style = {"color": f"C{number % 10}", "marker": marker, "markersize": 9}
        axes[0].plot(figures.size / 1e6, figures.ndcg, linestyle="", label=name, **style)
        axes[1].plot(ms, figures.ndcg, linestyle="", **style)
    for side in axes:
        side.set_xlim(left=0)
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=144)
