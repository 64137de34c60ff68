"""Ray and Spark on this machine: the files of the pool, whoever is killed, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import WorkerKiller, kill_driver, missing, no_worker_lives
from jobs import N_PARTS, OPTIONS, files_of, write_requests

import shortlist
from shortlist import Index
from shortlist.bundle.writer import exchange
from shortlist.errors import DataError, ShortlistError
from shortlist.shards import ShardedIndex

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore"),  # of Ray and Spark themselves
    pytest.mark.xdist_group("cluster"),  # one Ray and one Spark for all of them
]
ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("user_id", "item_id", "timestamp")
ENGINES = ("ray", "spark")
ARGUMENTS = {"workers": 2, **OPTIONS}


@pytest.fixture(scope="module")
def ray_cluster():
    """A Ray with room for two workers, and for reading and writing beside them."""
    if reason := missing("ray"):
        pytest.skip(reason)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def spark_session():
    """A Spark of two cores that tries a task three times."""
    if reason := missing("spark"):
        pytest.skip(reason)

    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2,3]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(params=ENGINES)
def engine(request):
    """The name of an engine that runs already; jobs of this process use it."""
    request.getfixturevalue({"ray": "ray_cluster", "spark": "spark_session"}[request.param])
    return request.param


@pytest.fixture(scope="module")
def requests(world, tmp_path_factory):
    return write_requests(world, tmp_path_factory.mktemp("requests") / "users.parquet")


@pytest.fixture(scope="module")
def undisturbed(world, requests, tmp_path_factory):
    """The files that the pool makes."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    shortlist.score(world.path, requests, out=out, workers=1, **OPTIONS)
    return files_of(out)


def kill_workers(engine, world, requests, undisturbed, tmp_path, n_kills, seed):
    random, n_left = np.random.default_rng(seed), n_kills
    for number in range(n_kills + 2):
        killer = WorkerKiller(engine, random, min(2, n_left))
        out = tmp_path / f"out{number}"
        shortlist.score(world.path, requests, out=out, engine=engine, progress=killer, **ARGUMENTS)
        assert files_of(out) == undisturbed
        n_left -= len(killer.killed)
        if n_left <= 0:
            return
    pytest.fail(f"{n_left} kills missed")


def kill_drivers(engine, world, requests, undisturbed, tmp_path, n_kills, seed):
    random, n_left = np.random.default_rng(seed), n_kills
    for number in range(2 * n_kills):
        out = tmp_path / f"out{number // 3}"
        n_left -= kill_driver(engine, world.path, requests, out, random)
        if number % 3 == 2 or n_left == 0:
            report = shortlist.score(world.path, requests, out=out, engine=engine, **ARGUMENTS)
            assert report.n_requests == 30_000
            assert files_of(out) == undisturbed
        if n_left == 0:
            return
    pytest.fail(f"{n_left} kills missed")


def test_the_files_are_those_of_the_pool(engine, world, requests, undisturbed, tmp_path):
    told = []
    report = shortlist.score(
        world.path, requests, out=tmp_path / "out", engine=engine, progress=told.append, **ARGUMENTS
    )
    assert files_of(tmp_path / "out") == undisturbed
    assert (report.n_parts, report.n_requests, report.n_workers) == (N_PARTS, 30_000, 2)
    assert [one.n_done for one in told] == sorted(one.n_done for one in told)
    assert (len(told), told[-1].n_done) == (N_PARTS, 30_000)
    assert all(report.cpu_seconds[stage] > 0 for stage in ("read", "score", "write"))


def test_relative_paths_lead_to_the_drivers_folder(engine, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world.path, "tiny.shortlist")
    write_requests(world, "users.parquet", 40)
    shortlist.score("tiny.shortlist", "users.parquet", out="out", engine=engine, workers=1)
    assert pq.read_table("out").num_rows == 400


def test_a_killed_worker_is_replaced(engine, world, requests, undisturbed, tmp_path):
    kill_workers(engine, world, requests, undisturbed, tmp_path, 2, seed=1)


def test_a_killed_driver_goes_on(engine, world, requests, undisturbed, tmp_path):
    kill_drivers(engine, world, requests, undisturbed, tmp_path, 1, seed=2)


@pytest.mark.slow
def test_fifty_killed_workers_are_replaced(engine, world, requests, undisturbed, tmp_path):
    kill_workers(engine, world, requests, undisturbed, tmp_path, 50, seed=3)


@pytest.mark.slow
def test_fifty_killed_drivers_go_on(engine, world, requests, undisturbed, tmp_path):
    kill_drivers(engine, world, requests, undisturbed, tmp_path, 50, seed=4)


def test_a_job_whose_workers_die_again_and_again_stops(
    engine, world, requests, tmp_path, monkeypatch
):
    # Ray starts one again without end that dies before it is ready.
    monkeypatch.setattr("shortlist.batch.on_ray.START_SECONDS", 5.0)
    with (
        no_worker_lives(engine),
        pytest.raises(ShortlistError, match=r"Finished parts stay\. Fix"),
    ):
        shortlist.score(world.path, requests, out=tmp_path / "out", engine=engine, **ARGUMENTS)


def test_more_workers_than_the_cluster_has_room_for(world, ray_cluster, requests, tmp_path):
    options = OPTIONS | {"partitions": 9}
    out = tmp_path / "out"
    report = shortlist.score(world.path, requests, out=out, engine="ray", workers=7, **options)
    assert (report.n_parts, report.n_requests) == (9, 30_000)


def test_a_damaged_row_group_stops_its_own_part_alone(engine, world, tmp_path):
    path, out = tmp_path / "users.parquet", tmp_path / "out"
    write_requests(world, tmp_path / "whole.parquet", 400)
    table = pq.read_table(tmp_path / "whole.parquet")
    pq.write_table(table, path, row_group_size=100, compression="none")
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"1 of 4 parts .*\n.*users\.parquet, row group 2"):
        shortlist.score(world.path, path, out=out, engine=engine, workers=2, partitions=4)
    assert sum(name.startswith("part-") for name in os.listdir(out)) == 3


def replacer(bundle, other):
    """Return a `progress` that puts another bundle in one's place in one step, once."""
    waiting = [bundle.with_name("other")]
    shutil.copytree(other, waiting[0])

    def replace(progress):
        if waiting:
            exchange(waiting.pop(), bundle)

    return replace


def test_a_bundle_that_was_replaced_stops_the_job(engine, world, text_world, tmp_path):
    bundle, out = tmp_path / "tiny.shortlist", tmp_path / "out"
    shutil.copytree(world.path, bundle)

    replace = replacer(bundle, text_world.path)

    requests = write_requests(world, tmp_path / "users.parquet")
    with pytest.raises(ShortlistError, match="it was replaced meanwhile"):
        shortlist.score(bundle, requests, out=out, engine=engine, progress=replace, **ARGUMENTS)


def test_a_job_that_stops_leaves_the_callers_other_jobs(world, text_world, spark_session, tmp_path):
    bundle, gate = tmp_path / "tiny.shortlist", tmp_path / "gate"
    shutil.copytree(world.path, bundle)
    place, others = str(gate), []

    def wait_at_gate(number):
        while not os.path.exists(place):
            time.sleep(0.05)
        return number

    def other():
        others.extend(spark_session.sparkContext.parallelize([7], 1).map(wait_at_gate).collect())

    thread = threading.Thread(target=other)
    thread.start()

    replace = replacer(bundle, text_world.path)

    requests = write_requests(world, tmp_path / "users.parquet")
    options = {"engine": "spark", "progress": replace, **ARGUMENTS}
    try:
        with pytest.raises(ShortlistError, match="it was replaced meanwhile"):
            shortlist.score(bundle, requests, out=tmp_path / "out", **options)
    finally:
        gate.touch()
        thread.join(60)
    assert others == [7]


def test_ray_data_maps_batches_with_a_scorer(world, ray_cluster, tmp_path):
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    score = shortlist.batch.scorer(world.path, top_n=5)
    requests = pq.read_table(write_requests(world, tmp_path / "users.parquet", 1000))
    rows = ray.data.read_parquet(str(tmp_path / "users.parquet")).map_batches(
        shortlist.batch.RayScorer,
        fn_constructor_args=(score,),
        batch_format="pyarrow",
        batch_size=100,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    found = pa.concat_tables(ray.get(rows.to_arrow_refs())).cast(score.schema)
    expected = pa.Table.from_batches([score(requests)])
    order = [("user_id", "ascending"), ("rank", "ascending")]
    assert found.sort_by(order).equals(expected.sort_by(order))


@pytest.mark.parametrize("layout", ["long", "lists"])
def test_spark_maps_arrow_with_a_scorer(world, spark_session, tmp_path, layout):
    from pyspark.sql.pandas.types import from_arrow_schema

    score = shortlist.batch.scorer(world.path, top_n=5, layout=layout, titles=True)
    requests = pq.read_table(write_requests(world, tmp_path / "users.parquet", 1000))
    table = spark_session.read.parquet(str(tmp_path / "users.parquet")).repartition(2)
    found = table.mapInArrow(score.over, from_arrow_schema(score.schema)).toArrow()
    expected = pa.Table.from_batches([score(requests)])
    order = [(name, "ascending") for name in ("user_id", "rank") if name in found.column_names]
    assert found.cast(score.schema).sort_by(order).equals(expected.sort_by(order))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"engine": "dask"}, ValueError, "engine: got 'dask', expected one of pool, ray, spark"),
        ({"address": "x:1"}, ValueError, "address: got 'x:1' for the engine pool"),
        ({"engine": "ray", "address": 1}, TypeError, "address: got int, expected a str"),
        ({"device": "auto"}, ValueError, "device: got 'auto', expected one of cpu, cuda"),
    ],
)
def test_wrong_engines_are_refused(world, tmp_path, options, kind, said):
    with pytest.raises(kind, match=said):
        shortlist.score(world.path, out=tmp_path / "out", **options)


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("spark", "pyspark")])
def test_an_engine_that_is_not_installed_names_its_extra(
    world, tmp_path, monkeypatch, engine, package
):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    said = rf"engine: {engine} needs the package {package}.*pip install 'shortlist\[{engine}\]'"
    with pytest.raises(ShortlistError, match=said):
        shortlist.score(world.path, out=tmp_path / "out", engine=engine)


def test_spark_without_java_says_how_to_get_it(world, tmp_path, monkeypatch):
    pytest.importorskip("pyspark")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ShortlistError, match=r"Spark needs Java 17 or later.*default-jre"):
        shortlist.score(world.path, out=tmp_path / "out", engine="spark")


def test_spark_refuses_graphics_cards(world, tmp_path):
    with pytest.raises(ValueError, match=r"device: got 'cuda'.*engine='ray'"):
        shortlist.score(world.path, out=tmp_path / "out", engine="spark", device="cuda")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "spark://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_named(address):
    from shortlist.batch.cluster import check_answers

    with pytest.raises(ShortlistError, match=f"address: nothing answers at {address}.*start it"):
        check_answers(address, "Ray")


def page_blocks(section):
    """Blocks of Python in a section of the page that need Ray or Spark."""
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [block.split("\n```")[0] for block in text.split("```py\n")[1:]]


def test_the_pages_pipelines_run(engine, world, tmp_path):
    shutil.copytree(world.path, tmp_path / "shop.shortlist")
    write_requests(world, tmp_path / "users.parquet", 300)
    (block,) = page_blocks(engine.capitalize())
    for name in ("shop.shortlist", "users.parquet", "lists"):
        block = block.replace(f'"{name}"', repr(str(tmp_path / name)))
    exec(block, {})
    assert pq.read_table(tmp_path / "lists").num_rows == 3000


def test_the_pages_searches_over_shards_are_those_of_one_index(engine, tmp_path):
    random = np.random.default_rng(6)
    vectors = random.normal(size=(500, 8)).astype(np.float32)
    ShardedIndex.build(tmp_path / "items.shards", vectors, n_shards=3)
    blocks = dict(zip(ENGINES, page_blocks("Shards"), strict=True))
    block = blocks[engine].replace('"items.shards"', repr(str(tmp_path / "items.shards")))
    names = {"queries": random.normal(size=(5, 8)).astype(np.float32)}
    exec(block, names)
    options = {"diversity": 0.3} if engine == "ray" else {}
    expected = Index(vectors).search(names["queries"], 10, **options)
    assert names["hits"].item_ids.tolist() == expected.item_ids.tolist()
    assert names["hits"].scores.tobytes() == expected.scores.tobytes()


def load_example():
    path = ROOT / "examples" / "spark_events.py"
    spec = importlib.util.spec_from_file_location("spark_events", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_spark_makes_events_of_logs(spark_session, tmp_path, monkeypatch):
    from shortlist.training.events import read_events

    example = load_example()
    random = np.random.default_rng(5)
    who, what = random.integers(0, 200, 8000), random.integers(0, 50, 8000)
    when = 1_700_000_000 + random.integers(0, 40 * 86_400, 8000)
    logs = {"client": who, "sku": what, "at": when * 1000}
    pq.write_table(pa.table(logs), tmp_path / "logs.parquet")
    out = tmp_path / "events"
    flags = "--column user_id=client --column item_id=sku --column timestamp=at --time-unit ms"
    flags = [*flags.split(), "--users", "0.5", "--keep", "12", "--parts", "3"]
    argv = ["spark_events.py", "--data", f"{tmp_path}/logs.parquet", "--out", f"{out}", *flags]
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr(type(spark_session), "stop", lambda self: None)
    example.main()
    events = read_events(out)
    kept = set(events["user_id"].to_list())
    assert 60 < len(kept) < 140  # of 200 users, half
    found = set(zip(*(events[name].to_list() for name in COLUMNS), strict=True))
    folded = {}
    for user, item, moment in zip(who.tolist(), what.tolist(), when.tolist(), strict=True):
        key = (user, item, moment // 86_400)
        folded[key] = max(moment, folded.get(key, 0))
    expected = set()
    for user in kept:  # whole ones, and of each the newest
        own = [(-time, item) for (one, item, _), time in folded.items() if one == user]
        expected |= {(user, item, -time) for time, item in sorted(own)[:12]}
    assert found == expected
    assert len(events) == len(expected)


def test_the_example_names_columns_that_are_missing(spark_session):
    example = load_example()
    logs = spark_session.createDataFrame([(1, 2)], ["user_id", "sku"])
    with pytest.raises(SystemExit, match=r"no column for item_id=item_id, timestamp=timestamp"):
        example.named(logs, [], "s")
    with pytest.raises(SystemExit, match=r"--column item=sku: expected OURS=THEIRS"):
        example.named(logs, ["item=sku"], "s")


def test_answers_of_another_device_are_another_job(world, tmp_path, in_threads):
    shortlist.score(world.path, out=tmp_path / "out", workers=1)
    with pytest.raises(DataError, match="its device was 'cpu', this one's is 'cuda'"):
        shortlist.score(world.path, out=tmp_path / "out", workers=1, device="cuda")


def test_a_job_joins_a_cluster_by_its_address(world, ray_cluster, tmp_path):
    address = ray_cluster.get_runtime_context().gcs_address
    command = ["score", world.path, "--all-users", "--out", tmp_path / "out", "--engine", "ray"]
    subprocess.run(
        [sys.executable, "-m", "shortlist.cli", *command, "--address", address], check=True
    )
    shortlist.score(world.path, out=tmp_path / "pool", workers=1)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "pool")


def test_what_answers_but_is_no_ray_is_refused(world, tmp_path, monkeypatch):
    if reason := missing("ray"):
        pytest.skip(reason)
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("shortlist.batch.on_ray.START_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ShortlistError, match=f"what answers at {address} is no healthy Ray"):
            shortlist.score(world.path, out=tmp_path / "out", engine="ray", address=address)
