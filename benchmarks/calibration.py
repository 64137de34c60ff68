"""What calibrated or dampened lists cost in accuracy, and what they bring.

    python benchmarks/calibration.py movies.shortlist --data movielens-100k --column genres
    python benchmarks/calibration.py movies.shortlist --data movielens-100k --dampening 0.01 0.02

Ranks the test users of a bundle by all of its stages, then with each strength (or weight), and
prints NDCG, the KL divergence of the column's shares from those of the histories, and coverage.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import shortlist
from shortlist.training import evaluate


def measure(bundle: str, data: str, column: str | None, given: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of a bundle's lists, all calls made with these options."""
    with shortlist.load(bundle) as engine:
        recommend = engine.recommend

        def with_options(requests: Any, **options: Any) -> shortlist.Recommendations:
            return recommend(requests, **{**options, **given})

        engine.recommend = with_options  # type: ignore[method-assign]
        columns = [] if column is None else [column]
        report = evaluate(engine, data, ks=(10,), baselines=False, by_column=columns)
    name = next(iter(report.metrics))
    return report.metrics[name] | report.beyond.metrics[name]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--data", required=True)
    parser.add_argument("--column", help="of the item table, such as genres")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.2, 0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--dampening", type=float, nargs="+", default=[])
    parser.add_argument("--stages", type=int, choices=[1, 2], help="default: all there are")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cells: dict[str, dict[str, Any]] = {"plain": {}}
    if args.column is not None:
        for strength in args.strengths:
            cells[f"calibrate {strength}"] = {"calibrate": {args.column: ("history", strength)}}
    for weight in args.dampening:
        cells[f"dampening {weight}"] = {"popularity_dampening": weight}
    names = ["NDCG@10", f"KL {args.column}@10", "coverage@10", "novelty@10"]
    first: dict[str, float] = {}
    for cell, given in cells.items():
        found = measure(args.bundle, args.data, args.column, given | {"stages": args.stages})
        first = first or found
        parts = [
            f"{name} {found[name]:.4f} ({found[name] / first[name]:.3f} x)"
            for name in names
            if name in found
        ]
        print(f"{cell:<18}", "  ".join(parts), flush=True)


if __name__ == "__main__":
    main()
