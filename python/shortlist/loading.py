"""`shortlist.load`: a bundle on disk in, an engine out."""

import os
from collections.abc import Sequence
from typing import Literal

from shortlist import _checks
from shortlist._runtime import find_runtime
from shortlist._serving.loaded_bundle import Settings, open_bundle
from shortlist.engine import Engine

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
SEARCHES = ("auto", "index", "graph")


def load(
    path: str | os.PathLike[str],
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
    n_threads: int = 1,
    *,
    verify: bool = True,
    max_batch: int = 1,
    max_wait_us: int = 200,
    search: Literal["auto", "index", "graph"] = "auto",
    fixed_batches: Sequence[int] = (),
    mmap: bool = True,
) -> Engine:
    """Load a bundle for serving.

    Parameters
    ----------
    path : str or path
        Bundle: a `NAME.shortlist` folder or one zip of it.
    device : {"auto", "cpu", "cuda", "tensorrt"}
        Where the graphs run. "auto" takes CUDA if this onnxruntime has it; "cuda" and "tensorrt"
        are errors where they do not run. `Engine.report` says what really runs.
    n_threads : int
        Threads of one call, for encoder and search; 0 = all cores. Calls may also come from
        several threads at once.
    verify : bool
        Compare every file's sha256 with the manifest first (reads every byte once).
    max_batch : int
        Above 1, calls with a single request that come at the same time (from several threads)
        share one run, up to so many. Answers are the same up to the rounding of the graphs, which
        may depend on the batch size.
    max_wait_us : int
        Microseconds a request waits for others at most, and only while all cores are at work.
    search : {"auto", "index", "graph"}
        What finds the items: the index on the CPU, exact; or the bundle's portable graph on the
        device, up to float32 rounding, for calls without `where` on items as they were exported.
        "auto" is the index where the encoder runs on the CPU; on a GPU both are measured at load,
        and each batch size gets the faster one (`Engine.report` says which).
    fixed_batches : sequence of int
        Batch sizes that the graph runs at with shapes that never change, so that ONNX Runtime
        plans its memory once; smaller batches are filled up. No buffers are bound beforehand and
        no CUDA graphs captured: look-ups and search run on the CPU (`Engine.report`).
    mmap : bool
        True maps the bundle's files, so that processes share their memory. Writing over a mapped
        file (``cp`` or ``rsync --inplace`` into the live folder) gives wrong answers or ends the
        process; a new folder, or a rename, is safe. False works on a private copy in the folder
        for temporary files (``TMPDIR``), which takes the bundle's size there; whatever then
        happens to the bundle's files, the engine goes on.

    Returns
    -------
    Engine

    Raises
    ------
    BundleError
        The bundle is missing, damaged, or its parts do not fit together.
    ShortlistError
        onnxruntime is missing, or installed twice; CUDA was asked for and does not run.
    """
    if device not in DEVICES:
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(DEVICES)}")
    n_threads = _checks.thread_count(n_threads)
    max_batch = _checks.positive_int(max_batch, "max_batch")
    max_wait_us = _checks.wait_us(max_wait_us, "max_wait_us")
    if search not in SEARCHES:
        raise ValueError(f"search: got {search!r}, expected one of {', '.join(SEARCHES)}")
    if not isinstance(fixed_batches, (list, tuple)):
        raise TypeError(f"fixed_batches: got {fixed_batches!r}, expected sizes such as (1, 32)")
    sizes = tuple(_checks.positive_int(size, "fixed_batches") for size in fixed_batches)
    mmap = _checks.flag(mmap, "mmap")
    settings = Settings(
        device, n_threads, os.fspath(find_runtime()), max_batch, max_wait_us, search, sizes, mmap
    )
    return Engine(open_bundle(path, 1, settings, verify=verify), settings)
