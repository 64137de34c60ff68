"""A benchmark's result as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["format_markdown", "plot"]

_TIMES = ("p50_us", "p90_us", "p99_us", "cpu_us")


def _microseconds(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def format_markdown(report: Mapping[str, Any]) -> str:
    """Format the report of `bench_bundle` as Markdown: one table, then what it was measured on."""
    lines = [
        "| batch | stage | p50 µs | p90 µs | p99 µs | CPU µs | requests/s |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in report["results"]:
        times = " | ".join(_microseconds(row[name]) for name in _TIMES)
        pace = "" if row["pace"] == "warm" else f", {row['pace']}"
        rate = "" if pace else f"{row['requests_per_s']:,.0f}"
        lines.append(f"| {row['batch']}{pace} | {row['stage']} | {times} | {rate} |")
    machine, settings, bundle = report["machine"], report["settings"], report["bundle"]
    verified = report["verified"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines += [
        "",
        f"{bundle['n_items']:,} items × {bundle['dim']} ({bundle['metric']}), "
        f"top-{settings['top_n']}, {settings['history_length']} seen items a request excluded. "
        f"{verified['n_scores']:,} scores of {verified['n_requests']} requests checked against "
        f"float64 first (largest difference {verified['largest_score_difference']:.1e}).",
        *_compression_lines(bundle["compression"]),
        "",
        f"{machine['cpu']}, SIMD level {machine['simd_level']}, "
        f"{settings['n_threads']} of {machine['n_cpus']} threads, "
        f"load average {machine['load_average']}; {versions}.",
        *(f"\n**Warning:** {warning}." for warning in report["warnings"]),
    ]
    return "\n".join(lines) + "\n"


def _compression_lines(record: Mapping[str, Any] | None) -> list[str]:
    """Say what a compressed bundle weighs and how well it ranks, beside the one it was made of."""
    if record is None:
        return []
    before, after = record["before"], record["after"]
    (name, was), (_, value) = (
        next(item for item in side["metrics"].items() if item[0].startswith("NDCG"))
        for side in (before, after)
    )
    return [
        "",
        f"Compressed by {', '.join(record['steps'])}: {after['size']:,} bytes, "
        f"{after['size'] / before['size']:.2f} of {before['size']:,}; {name} {value:.4f} on "
        f"{record['n_users']:,} validation users, {was:.4f} before.",
    ]


def plot(report: Mapping[str, Any], path: str | Path) -> None:
    """Plot p50 (line) and p99 (band) of each stage against batch size, both axes logarithmic.

    Parameters
    ----------
    report : dict
        What `bench_bundle` returned.
    path : str or Path
        PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    warm = [row for row in report["results"] if row["pace"] == "warm"]
    for stage in dict.fromkeys(row["stage"] for row in warm):
        rows = [row for row in warm if row["stage"] == stage]
        batches = [row["batch"] for row in rows]
        (line,) = axes.plot(batches, [row["p50_us"] for row in rows], marker="o", label=stage)
        axes.fill_between(
            batches,
            [row["p50_us"] for row in rows],
            [row["p99_us"] for row in rows],
            alpha=0.15,
            color=line.get_color(),
            linewidth=0,
        )
    batches = sorted({row["batch"] for row in report["results"]})
    axes.set(xscale="log", yscale="log", xlabel="requests a call", ylabel="µs a call")
    axes.set_xticks(batches, labels=[str(batch) for batch in batches])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(title="line p50, band to p99")
    bundle, machine = report["bundle"], report["machine"]
    axes.set_title(
        f"{bundle['n_items']:,} items × {bundle['dim']}, {machine['cpu']} "
        f"({machine['simd_level']}), {report['settings']['n_threads']} thread(s)",
        fontsize=10,
    )
    figure.savefig(path, dpi=144)
