"""The whole pipeline on MovieLens-100K: `shortlist demo`."""

from __future__ import annotations

import time
from pathlib import Path

import shortlist
from shortlist.bench import bench_bundle, format_markdown, plot
from shortlist.errors import DataError
from shortlist.training.config.settings import load_config, read_config
from shortlist.training.data.datasets import Dataset, load_dataset
from shortlist.training.evaluation.tables import distinct_metrics, text_table
from shortlist.training.fit.checkpoint import remove_run, unfinished_reason
from shortlist.training.pipeline import evaluation
from shortlist.training.pipeline.train import TrainReport, train_and_export
from shortlist.training.splits.split import make_split

DATA = PRESET = "movielens-100k"
USER = 196  # whose films are printed at the end


class _Steps:
    """Prints numbered headings with the time since the start."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.done = 0
        self.start = time.monotonic()

    def next(self, text: str) -> None:
        self.done += 1
        seconds = time.monotonic() - self.start
        print(f"\n[{self.done}/{self.n_steps}] {text}  ({seconds:.0f} s)", flush=True)


def run_demo(out: Path, *, data: str = DATA, seed: int = 1) -> None:
    """Train, export, evaluate, benchmark and recommend, and print each step.

    An interrupted training is resumed by the next call; a finished one is done anew.

    Parameters
    ----------
    out : Path
        Folder for the bundle, its run folder and plots; created if needed.
    data : str
        The data set, or a local copy of it.
    seed : int
    """
    out.mkdir(parents=True, exist_ok=True)
    bundle = out / "movielens-100k.shortlist"
    steps = _Steps(5)

    steps.next("Get MovieLens-100K: 943 users, 1,682 films")
    dataset = load_dataset(data)
    print(f"{dataset.events.height:,} ratings")

    steps.next("Train a two-tower model in TensorFlow, export it with tf2onnx, check parity")
    overrides = {"data.path": data, "train.seed": seed, "choice.minutes": 0.0}
    run_dir = bundle.with_suffix(".run")
    _clear_unless_unfinished(run_dir, overrides)
    report = train_and_export(
        out=bundle,
        preset=PRESET,
        overrides=overrides,
        run_dir=run_dir,
        resume=True,
        plot=out / "training.png",
    )
    _print_report(report)

    steps.next("Evaluate the bundle beside the baselines: each user's last film, all films ranked")
    split = make_split(dataset, "leave-one-out")
    with shortlist.load(bundle, n_threads=0) as engine:
        rankers = evaluation.bundle_rankers("shortlist", engine, split)
        measured = evaluation.evaluate_rankers(rankers, split, ks=(10,))
    metrics = {name: lists.metrics() for name, lists in measured.items()}
    print(text_table(metrics, distinct_metrics(metrics)))
    if report.validation is not None:
        print(f"validation: {report.validation.verdict.sentence}")

    steps.next("Benchmark the bundle on one thread")
    figures = bench_bundle(bundle, batches=(1, 8, 64, 512))
    print(format_markdown(figures))
    plot(figures, out / "bench.png")

    steps.next(f"Recommend: what user {USER} saw last, and ten films for them")
    with shortlist.load(bundle) as engine:
        _print_recommendations(engine, split.dataset)
    print(f"\nbundle: {bundle}\nplots:  {out}/training.png, {out}/bench.png")
    print(
        f"next:   shortlist recommend {bundle} --user {USER}\n"
        f"        shortlist inspect {bundle}\n"
        f"        shortlist train --data YOUR_EVENTS.csv --out shop.shortlist"
    )


def _clear_unless_unfinished(run_dir: Path, overrides: dict[str, object]) -> None:
    """Delete the run of an earlier demo, unless it is this very one and was interrupted."""
    if not (run_dir / "config.toml").exists():
        return
    config = load_config(PRESET, overrides=overrides)
    try:
        is_same = read_config(run_dir / "config.toml") == config
    except DataError:  # of another version
        is_same = False
    if is_same and unfinished_reason(run_dir, config) is not None:
        print(f"going on with the interrupted run in {run_dir}")
    else:
        remove_run(run_dir)


def _print_report(report: TrainReport) -> None:
    parity, second = report.parity, report.second_stage
    print(
        f"parity: the bundle's top-{parity.top_n} equals Keras's for {parity.n_identical} of "
        f"{parity.n_users} users, {parity.n_tied} more apart from ties"
    )
    if second is not None:
        print(
            f"second stage on validation: NDCG@10 {second.ndcg_at_10_with:.4f} with it, "
            f"{second.ndcg_at_10_without:.4f} without, {'kept' if second.is_kept else 'left out'}"
        )


def _print_recommendations(engine: shortlist.Engine, dataset: Dataset) -> None:
    import polars as pl

    seen = dataset.events.filter(pl.col("user_id") == USER).tail(5)
    items = dataset.items
    titles = {} if items is None else dict(items.select("item_id", "title").iter_rows())
    for item_id, value in seen.select("item_id", "value").iter_rows():
        print(f"  seen, rated {value:.0f}: {titles.get(item_id, item_id)}")
    print()
    print(engine.recommend({"user_id": [USER]}, top_n=10))
