"""`make demo`: again after it has finished, again after it was interrupted, clear when it fails."""

import functools
import json

import polars as pl
import pytest

import shortlist
from shortlist.cli import main
from shortlist.training.cleaning.files import load_configured
from shortlist.training.config.settings import load_config
from shortlist.training.features.features import FeatureSet
from shortlist.training.fit import loop
from shortlist.training.pipeline import demo
from shortlist.training.splits.split import configured_split

N_USERS, N_ITEMS, N_EVENTS = 30, 20, 8


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """A folder laid out as MovieLens: everybody walks through the films in order."""
    folder = tmp_path_factory.mktemp("ml")
    rows = [(u, (u + e) % N_ITEMS + 1, 3 + (u + e) % 2, 1_000 + e)
            for u in range(demo.USER, demo.USER + N_USERS) for e in range(N_EVENTS)]  # fmt: skip
    columns = ["userId", "movieId", "rating", "timestamp"]
    pl.DataFrame(rows, columns, orient="row").write_csv(folder / "ratings.csv")
    films = [(i, f"Film {i} (1990)", "Drama") for i in range(1, N_ITEMS + 1)]
    names = ["movieId", "title", "genres"]
    pl.DataFrame(films, names, orient="row").write_csv(folder / "movies.csv")
    return folder


@pytest.fixture
def run_demo(ratings, tmp_path, monkeypatch):
    quick = functools.partial(demo.bench_bundle, seconds=0.001)
    monkeypatch.setattr(demo, "bench_bundle", quick)
    return lambda *more: main(["demo", "--data", str(ratings), "--out", str(tmp_path), *more])


def epochs(folder):
    lines = (folder / "movielens-100k.run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


@pytest.fixture
def stop_after_one_epoch(monkeypatch):
    save = loop.Loop.save

    def interrupted(self):
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "save", interrupted)
        yield patch


def test_the_demo_goes_on_when_interrupted_and_starts_anew_when_finished(
    run_demo, tmp_path, capsys, stop_after_one_epoch
):
    assert run_demo() == 130
    stop_after_one_epoch.undo()
    assert "demo: interrupted; the same command goes on" in capsys.readouterr().err
    assert epochs(tmp_path) == [1]
    assert run_demo() == 0
    shown = capsys.readouterr().out
    assert "going on with the interrupted run" in shown
    assert "seen, rated" in shown
    assert f"next:   shortlist recommend {tmp_path}/movielens-100k.shortlist --user 196" in shown
    assert "Film" in shown.split("seen, rated")[-1]
    assert epochs(tmp_path)[:2] == [1, 2]
    first = (tmp_path / "movielens-100k.run/checkpoint.npz").stat().st_mtime_ns
    assert run_demo() == 0
    assert "going on" not in capsys.readouterr().out
    assert (tmp_path / "movielens-100k.run/checkpoint.npz").stat().st_mtime_ns != first
    with shortlist.load(tmp_path / "movielens-100k.shortlist") as engine:
        assert len(engine.index) == N_ITEMS


def test_an_interrupted_demo_with_another_seed_starts_anew(
    run_demo, tmp_path, stop_after_one_epoch
):
    assert run_demo() == 130
    assert run_demo("--seed", "2") == 130
    text = (tmp_path / "movielens-100k.run/config.toml").read_text(encoding="utf-8")
    assert "seed = 2" in text


def test_a_failing_demo_says_why_without_a_traceback(tmp_path, capsys):
    assert main(["demo", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("shortlist demo: error: ")
    assert str(tmp_path / "none") in error


def test_the_demos_columns_become_features_on_its_real_data():
    config = load_config(demo.PRESET)
    dataset, _ = load_configured(config, progress=False)
    features = FeatureSet.fit(dataset, configured_split(dataset, config), config)
    assert {f"{one.side}.{one.name}": one.kind for one in features.features} == {
        "user.age": "numeric",
        "user.gender": "categorical",
        "user.occupation": "categorical",
        "item.year": "numeric",
        "item.genres": "multi_categorical",
    }
