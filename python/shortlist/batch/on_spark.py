"""Spark as an engine: a job's parts as the tasks of one Spark job.

A table of Spark's own goes through `DataFrame.mapInArrow` and `Scorer.over`.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shortlist import _core
from shortlist.batch.cluster import (
    RETRIES,
    START_SECONDS,
    Made,
    Tally,
    check_answers,
    not_installed,
)
from shortlist.batch.scorer import Scorer
from shortlist.batch.worker import Done, Task, make
from shortlist.errors import ShortlistError

_POLL_SECONDS = 0.1


def run(
    scorer: Scorer,
    tasks: Sequence[Task],
    n_workers: int,
    told: Callable[[Done], None],
    address: str | None,
) -> Made:
    """Make all parts on Spark, as `EngineChoice.run`."""
    if scorer.device != "cpu":
        raise ValueError(
            f"device: got {scorer.device!r}, expected 'cpu' with the engine spark. Fix: "
            "engine='ray', which gives each worker a GPU"
        )
    pyspark = _pyspark()
    tally = Tally(told)
    with _context(pyspark, address, n_workers) as context:
        n_workers = n_workers or context.defaultParallelism
        _make_all(pyspark, context, scorer, tasks, tally)
    return Made(tally.failures, tally.seconds, n_workers)


def _make_all(
    pyspark: Any, context: Any, scorer: Scorer, tasks: Sequence[Task], tally: Tally
) -> None:
    """Run one Spark job whose tasks make a part each, and hear of each when it is done."""
    results = context.accumulator([], _list_param(pyspark))
    parts = context.parallelize(tasks, len(tasks))
    problem: list[BaseException] = []
    group = f"shortlist-score-{uuid.uuid4()}"  # other jobs of this context are not ours to stop

    def work() -> None:
        try:
            context.setJobGroup(group, "shortlist score")  # of this thread
            parts.foreach(lambda task: results.add([make(scorer, task)]))
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    n_taken, begin, has_workers = 0, time.monotonic(), context.master.startswith("local")
    try:
        while (is_on := thread.is_alive()) or n_taken < len(results.value):
            new = results.value[n_taken:]
            n_taken += len(new)
            tally.take(new)
            has_workers = has_workers or bool(new) or _n_executors(context) > 0
            if not has_workers and time.monotonic() - begin > START_SECONDS:
                raise ShortlistError(
                    f"workers: Spark at {context.master} gave none for {START_SECONDS:.0f} "
                    "seconds, expected one at least. Fix: wait for other jobs, or add machines"
                )
            if is_on:
                thread.join(_POLL_SECONDS)
    except BaseException:
        context.cancelJobGroup(group)
        raise
    if problem:
        raise _stopped(problem[0]) from problem[0]


def _list_param(pyspark: Any) -> Any:
    class Lists(pyspark.accumulators.AccumulatorParam):  # type: ignore[misc]
        def zero(self, value: list[Any]) -> list[Any]:
            return []

        def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:
            value1.extend(value2)
            return value1

    return Lists()


def _n_executors(context: Any) -> int:
    return int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1  # it counts the driver


def _stopped(error: BaseException) -> ShortlistError:
    lines = [line.strip() for line in str(error).splitlines() if "Exception" in line]
    said = lines[0] if lines else f"{type(error).__name__}: {error}"
    return ShortlistError(
        f"workers: Spark gave a part up after {RETRIES + 1} tries or more ({said[:300]}); expected "
        "workers that live, and the same Python and Shortlist on every machine. Finished parts "
        "stay. Fix that, then run the same command again"
    )


def _pyspark() -> Any:
    try:
        import pyspark
        import pyspark.accumulators
    except ModuleNotFoundError as error:
        if error.name != "pyspark":
            raise
        raise not_installed("pyspark", "spark") from error
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else "java"
    if shutil.which(java) is None:
        raise ShortlistError(
            f"engine: Spark needs Java 17 or later, and {java} is not there. Fix: install it "
            "(Debian: apt install default-jre-headless), or set JAVA_HOME"
        )
    return pyspark


@contextmanager
def _context(pyspark: Any, address: str | None, n_workers: int) -> Iterator[Any]:
    """Connect to a cluster, or run one in this machine, for a block; the caller's own is used."""
    if (active := pyspark.SparkContext._active_spark_context) is not None:
        yield active
        return
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else another Python of the machine
    conf = pyspark.SparkConf()  # and what spark-submit gives
    for name, value in {
        "spark.app.name": "shortlist score",
        "spark.log.level": "ERROR",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }.items():
        conf.setIfMissing(name, value)
    if address is not None:
        if address.startswith("spark://"):
            check_answers(address, "Spark")
        conf.setMaster(address)
    elif conf.get("spark.master", None) is None:
        conf.setMaster(f"local[{n_workers or _core.num_threads()},{RETRIES + 1}]")
        conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
    if n_workers:
        conf.setIfMissing("spark.cores.max", str(n_workers))
    try:
        context = pyspark.SparkContext(conf=conf)
    except Exception as error:  # Py4J's own kinds
        raise ShortlistError(
            f"address: Spark cannot be reached at {address or 'this machine'} "
            f"({str(error).splitlines()[0]}), expected a cluster. Fix: start it, or correct the "
            "address"
        ) from error
    try:
        yield context
    finally:
        context.stop()
