"""`shortlist.score`: requests in files to lists in files, on all cores of one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shortlist import _checks
from shortlist.batch.cluster import Made
from shortlist.batch.engines import EngineChoice, EngineName
from shortlist.batch.inputs import Fragment, read_inputs
from shortlist.batch.options import ScoreOptions
from shortlist.batch.parts import Output, job_record, part_name
from shortlist.batch.scorer import Scorer, scorer_of
from shortlist.batch.worker import STAGES, Done, Task, batch_rows
from shortlist.errors import DataError
from shortlist.recommendations import need

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_FAILURES = 3
_DEVICES = ("cpu", "cuda", "tensorrt")  # not "auto": a job's answers come from one kind of device


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    n_done, n_requests : int
        Requests that are answered, of how many.
    seconds : float
        Since the job began.
    n_kept : int
        Requests among them that an earlier run had answered.
    """

    n_done: int
    n_requests: int
    seconds: float
    n_kept: int


@dataclass(frozen=True)
class ScoreReport:
    """What a job did; numbers are of all parts, also of those that were there before.

    Attributes
    ----------
    out : str
    n_requests, n_rows : int
        Lists, and rows of the output.
    sources : dict of str to int
        How many lists were made from what, as `Recommendations.source` names it.
    n_short : int
        Lists of fewer than `top_n` items.
    n_unmet : int
        Lists that lack something of `at_least`.
    n_parts, n_kept : int
        Files, and how many of them an earlier run had made.
    n_workers : int
        0 where nothing was left to do.
    seconds : float
        Of this run, by the clock.
    cpu_seconds : dict of str to float
        CPU time of the workers: "open" (start and bundle), "read", "score" (encode, search, lay
        out), "write".
    """

    out: str
    n_requests: int
    n_rows: int
    sources: dict[str, int]
    n_short: int
    n_unmet: int
    n_parts: int
    n_kept: int
    n_workers: int
    seconds: float
    cpu_seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for `json.dumps`."""
        return asdict(self)


def score(
    bundle: str | os.PathLike[str],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    out: str | os.PathLike[str],
    top_n: int = 10,
    where: Any = None,
    stages: Literal[1, 2] | None = None,
    exclude_seen: Any = True,
    exclude: Any = None,
    at_most: Any = None,
    at_least: Any = None,
    diversity: float | None = None,
    calibrate: Any = None,
    popularity_dampening: float | None = None,
    layout: Literal["long", "lists"] = "long",
    titles: bool = False,
    partitions: int | None = None,
    workers: int = 0,
    engine: EngineName = "pool",
    address: str | None = None,
    device: Literal["cpu", "cuda", "tensorrt"] = "cpu",
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreReport:
    """Recommend for every request of a table, into a folder of Parquet files.

    Each request is answered exactly once. A run that was killed is gone on with by the same call:
    what is finished stays, and the files are those of a run that nothing disturbed, byte by byte.

    Parameters
    ----------
    bundle : str or path
        A `NAME.shortlist` folder or zip; also an address in an object store, as for
        `batch.scorer`.
    source : path, or a list of paths, optional
        Files, folders or patterns (where there is no such file) of Parquet, Arrow, CSV or JSON
        lines, with the columns of `Engine.recommend`. `user_id` must be there. By default the
        users that the bundle stores.
    out : str or path
        Folder to write: new, empty, or of the same job.
    top_n, where, stages, exclude_seen, exclude, at_most, at_least, diversity, calibrate,
    popularity_dampening
        As for `Engine.recommend`, the same for all requests.
    layout, titles
        As for `batch.scorer`.
    partitions : int, optional
        About how many files are written, at least one for each file of requests. By default one
        for 65,536 requests.
    workers : int
        Processes; 0: one for each core that this process may use, or that the cluster has.
    engine : {"pool", "ray", "spark"}
        What runs the workers: processes of this machine, Ray or Spark. The files are the same.
    address : str, optional
        Of a cluster of Ray ("host:6379", "ray://host:10001") or Spark ("spark://host:7077",
        "yarn"); its machines see the requests and `out` at the same paths. By default the engine
        runs on this machine. A Ray or Spark that this process is connected to is used.
    device : {"cpu", "cuda", "tensorrt"}
        As for `shortlist.load`. On Ray, each worker then has a GPU.
    overwrite : bool
        Delete the results of another job that the folder holds; never other files.
    progress : callable, optional
        Called with a `Progress` after each part.

    Returns
    -------
    ScoreReport

    Raises
    ------
    TypeError, ValueError
        An option is no such value.
    DataError
        A file of requests is missing, damaged or does not fit the bundle: the message names file
        and place, all other parts are finished. The folder holds something else.
    BundleError
        The bundle is damaged, or was replaced during the job.
    ShortlistError
        The disk is full; workers die again and again; a package is not installed; the cluster
        is not there.

    Notes
    -----
    Memory: each worker maps the bundle's files, which they share, and holds a few batches of 8,192
    requests; of text, 64 MiB at a time.
    """
    need("pyarrow", "shortlist[cpu]")
    begin = time.monotonic()
    options = ScoreOptions(
        top_n,
        where,
        stages,
        exclude_seen,
        exclude,
        at_most,
        at_least,
        diversity,
        calibrate,
        popularity_dampening,
        layout,
        titles,
    )
    partitions = None if partitions is None else _checks.positive_int(partitions, "partitions")
    chosen = EngineChoice(engine, address, _checks.thread_count(workers, "workers"))
    overwrite = _checks.flag(overwrite, "overwrite")
    if device not in _DEVICES:
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(_DEVICES)}")
    scorer = scorer_of(bundle, options, device=device)
    inputs = read_inputs(
        source, (scorer.bundle, scorer.identity), scorer.columns, partitions, Path(out)
    )
    fragments = [fragment for one in inputs for fragment in one.fragments]
    names = [part_name(fragment, scorer) for fragment in fragments]
    job, folder = job_record(scorer, inputs, partitions), Path(out)
    with Output.open(folder, job, names, overwrite=overwrite) as output:
        n_kept = len(output.finished)
        made = _make_missing(scorer, fragments, output, chosen, progress, begin)
        total = output.finish()
    return ScoreReport(
        str(folder),
        **total.to_dict(),
        n_parts=len(names),
        n_kept=n_kept,
        n_workers=made.n_workers,
        seconds=time.monotonic() - begin,
        cpu_seconds=made.seconds,
    )


def _make_missing(
    scorer: Scorer,
    fragments: Sequence[Fragment],
    output: Output,
    chosen: EngineChoice,
    progress: Callable[[Progress], None] | None,
    begin: float,
) -> Made:
    """Make the parts that are not there."""
    tasks = [
        Task(number, fragment, str(output.folder / name))
        for number, (fragment, name) in enumerate(zip(fragments, output.names, strict=True))
        if name not in output.finished
    ]
    if not tasks:
        return Made({}, dict.fromkeys(STAGES, 0.0), 0)
    n_all = sum(fragment.cut.n_rows for fragment in fragments)
    n_kept = n_all - sum(task.fragment.cut.n_rows for task in tasks)
    n_done = n_kept

    def told(done: Done) -> None:
        nonlocal n_done
        output.finished[output.names[done.number]] = done.report
        n_done += fragments[done.number].cut.n_rows
        if progress is not None:
            progress(Progress(n_done, n_all, time.monotonic() - begin, n_kept))

    made = chosen.run(scorer, tasks, told)
    if made.failures:
        raise _failed(made.failures, fragments)
    return made


def _failed(failures: dict[int, Exception], fragments: Sequence[Fragment]) -> Exception:
    said = []
    for number, error in sorted(failures.items())[:_SHOWN_FAILURES]:
        is_told = fragments[number].path in str(error)  # readers say where, the engine does not
        said.append(f"{error}" if is_told else f"{fragments[number].place}: {error}")
    more = f"\n… and {len(failures) - len(said)} more" if len(failures) > len(said) else ""
    first = next(iter(failures.values()))
    kind = type(first) if isinstance(first, (DataError, TypeError, ValueError)) else DataError
    return kind(
        f"{len(failures)} of {len(fragments)} parts could not be made; the others are finished and "
        "stay. Mend the requests and run the same command again\n" + "\n".join(said) + more
    )


def stream(
    bundle: str | os.PathLike[str],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    n_threads: int = 0,
    **options: Any,
) -> Iterator[pa.RecordBatch]:
    """Recommend for every request of a table, batch by batch, in this process.

    Parameters
    ----------
    bundle, source
        As for `score`.
    n_threads : int
        Threads of encoder and search; 0: all cores.
    **options
        `top_n`, `where`, `stages`, `exclude_seen`, `exclude`, `at_most`, `at_least`, `diversity`,
        `calibrate`, `popularity_dampening`, `layout` and `titles`, as for `score`.

    Yields
    ------
    pyarrow.RecordBatch
        Answers in the order of the requests; a file at a time, in the order of names.

    Raises
    ------
    TypeError, ValueError, DataError, BundleError, ShortlistError
        As `score`.
    """
    need("pyarrow", "shortlist[cpu]")
    wanted = ScoreOptions(**options)
    scorer = scorer_of(bundle, wanted, _checks.thread_count(n_threads))
    scorer.check()
    inputs = read_inputs(source, (scorer.bundle, scorer.identity), scorer.columns)
    return (
        scorer(requests)
        for one in inputs
        for fragment in one.fragments
        for requests in fragment.tables(scorer.columns, batch_rows(wanted.top_n))
    )
