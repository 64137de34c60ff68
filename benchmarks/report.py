"""The benchmark's figures as a Markdown table, notes and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS = "shortlist"
Cell = dict[str, Any]


def times_of(cell: Cell, clock: str) -> dict[str, float]:
    """Median ms by engine; wall time for several threads, whose CPU times add up."""
    times: dict[str, float] = cell[
        "cpu_ms" if clock == "cpu" and cell["n_threads"] == 1 else "median_ms"
    ]
    return times


def shares(
    cell: Cell, ceilings: dict[str, dict[str, float]], cache_bytes: int, clock: str
) -> dict[str, float]:
    """Our multiply-adds and code bytes a second, as shares of the ceilings of as many threads.

    One byte for each dimension of each item is counted, once a call for the memory: less is read
    where a scan can skip some. Memory is a ceiling only for codes that no cache holds.
    """
    best = ceilings.get(str(cell["n_threads"]), {})
    n_codes = cell["n_items"] * cell["dim"]
    seconds = times_of(cell, clock)[OURS] / 1e3
    found = {}
    if "peak_8bit_gmacs" in best:
        found["8-bit"] = 1e-9 * n_codes * cell["batch"] / seconds / best["peak_8bit_gmacs"]
    if "read_gb_per_s" in best and n_codes > cache_bytes:
        found["memory"] = 1e-9 * n_codes / seconds / best["read_gb_per_s"]
    return found


def _time(cell: Cell, name: str, clock: str) -> str:
    if name in cell["differs"]:
        return "differs"
    times = times_of(cell, clock)
    return f"{times[name]:.3g}" if name in times else "–"


def _row(cell: Cell, names: list[str], result: dict[str, Any], clock: str) -> list[str]:
    times = times_of(cell, clock)
    ours = times[OURS]
    peers = {name: value for name, value in times.items() if name != OURS}
    fastest = min(peers, key=peers.__getitem__) if peers else ""
    limits = shares(cell, result["ceilings"], result["last_level_cache_bytes"], clock)
    limit = max(limits, key=limits.__getitem__) if limits else ""
    return [
        f"{cell['n_items']:,} × {cell['dim']}",
        str(cell["n_threads"]),
        str(cell["top_n"]),
        str(cell["batch"]),
        *(_time(cell, name, clock) for name in names),
        f"{times['FAISS flat'] / ours:.1f}×" if "FAISS flat" in times else "–",
        f"{peers[fastest] / ours:.1f}× ({fastest})" if fastest else "–",
        f"{100 * limits[limit]:.0f} % of {limit}" if limit else "–",
    ]


def table(result: dict[str, Any], clock: str = "wall") -> list[str]:
    cells = result["results"]
    names = [OURS, *(name for name in result["peers"] if name not in result["skipped"])]
    heads = ["items", "threads", "top-N", "batch", *(f"{name} ms" for name in names)]
    heads += ["vs FAISS flat", "vs fastest peer", "of ceiling"]
    rows = [_row(cell, names, result, clock) for cell in cells]
    lines = [heads, ["---:"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def notes(result: dict[str, Any], clock: str = "wall") -> list[str]:
    machine = result["machine"]
    what = "wall time" if clock == "wall" else "CPU time (of several threads: wall time)"
    lines = [
        f"Data: {result['data']}, {result['metric']}. Medians of interleaved rounds, {what}; "
        "every answer checked against float64 first. "
        f"{machine['cpu']}, {machine['n_cpus']} CPUs, SIMD level {machine['simd_level']}, load "
        f"average {machine['load_average']} before the run."
    ]
    for n_threads, values in result["ceilings"].items():
        lines.append(
            f"Ceilings of {n_threads} thread(s), measured between the cells: "
            f"{values['peak_8bit_gmacs']:.0f} G 8-bit multiply-adds/s, "
            f"{values['peak_float32_gmacs']:.0f} G float32 multiply-adds/s, "
            f"{values['read_gb_per_s']:.1f} GB/s read."
        )
    if not result["ceilings"]:
        lines.append(f"Ceilings not measured: {result['no_ceilings']}.")
    lines.append("Peers: " + ", ".join(f"{k} {v}" for k, v in result["versions"].items()) + ".")
    lines += [f"Skipped: {name} ({reason})." for name, reason in result["skipped"].items()]
    differing = {
        f"{name}, {cell['n_items']:,} × {cell['dim']}, batch {cell['batch']}: {reason}"
        for cell in result["results"]
        for name, reason in cell["differs"].items()
    }
    lines += [f"Other answers, so no time: {line}." for line in sorted(differing)]
    if not result["complete"]:
        lines.append("The run is not complete: repeat it with the same --out to go on.")
    return lines


def plot(result: dict[str, Any], path: Path) -> None:
    """One panel for each catalogue, of the first thread count and top-N: ms per query by batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = result["results"]
    first = (cells[0]["n_threads"], cells[0]["top_n"])
    cells = [cell for cell in cells if (cell["n_threads"], cell["top_n"]) == first]
    sizes = sorted({cell["n_items"] for cell in cells})
    dims = sorted({cell["dim"] for cell in cells})
    figure, axes = pyplot.subplots(
        len(sizes),
        len(dims),
        figsize=(3.6 * len(dims) + 2, 3.2 * len(sizes) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    lines: dict[str, Any] = {}
    for row, n_items in enumerate(sizes):
        for column, dim in enumerate(dims):
            axis = axes[row][column]
            here = [c for c in cells if (c["n_items"], c["dim"]) == (n_items, dim)]
            here.sort(key=lambda cell: cell["batch"])
            for number, name in enumerate([OURS, *result["peers"]]):
                times = {c["batch"]: c["median_ms"].get(name) for c in here}
                batches = [batch for batch, time in times.items() if time is not None]
                if not batches:
                    continue
                (lines[name],) = axis.loglog(
                    batches,
                    [times[batch] / batch for batch in batches],
                    marker="o",
                    lw=3 if name == OURS else 1.2,
                    c="black" if name == OURS else f"C{number - 1}",
                )
            axis.set(title=f"{n_items:,} × {dim}", xlabel="queries per call")
            ticks = [cell["batch"] for cell in here]
            axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[row][0].set_ylabel(f"ms per query, top-{first[1]}, {first[0]} thread(s)")
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
