"""The speed limits of this machine, measured: 8-bit and float32 peak, memory reads."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import shortlist

_FLAGS = {
    "avx2": ["-mavx2", "-mfma"],
    "avxvnni": ["-mavx2", "-mfma", "-mavxvnni"],
    "avx512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512vnni"],
}
# Far beyond any last-level cache that one core can use.
_BUFFER_BYTES = 512 * 1024 * 1024
_ROUNDS = 300_000  # 2 ms: threads that start microseconds apart still run together


class Ceilings:
    """Best values seen so far; `update()` between measurements catches quiet moments.

    Attributes
    ----------
    values : dict
        By number of threads: `peak_8bit_gmacs`, `peak_float32_gmacs` (1e9 multiply-adds per
        second) and `read_gb_per_s`, all threads together; empty where they cannot be measured.
    why_not : str
        Why `values` is empty, or "".
    """

    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}
        self.why_not = ""
        flags, compiler = _FLAGS.get(shortlist.simd_level()), shutil.which("cc")
        if flags is None or compiler is None:
            self.why_not = f"level {shortlist.simd_level()}, C compiler {compiler}"
            return
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "ceilings.so"
            source = Path(__file__).with_name("ceilings.c")
            subprocess.run(
                [compiler, "-O2", "-shared", "-fPIC", *flags, str(source), "-o", str(library)],
                check=True,
            )
            self._library = ctypes.CDLL(str(library))
        for name in ("peak_8bit", "peak_float32", "read_bandwidth"):
            getattr(self._library, name).restype = None
        raw = np.ones(_BUFFER_BYTES + 64, np.uint8)
        start = -raw.ctypes.data % 64
        self._buffer = raw[start : start + _BUFFER_BYTES]

    def update(self, n_threads: int, repeats: int = 10) -> dict[str, float]:
        """Measure again, keep the best, and return it."""
        if self.why_not:
            return {}
        best = self.values.setdefault(n_threads, {})

        def keep(name: str, work: float, call: Callable[[int], None]) -> None:
            best[name] = max(best.get(name, 0.0), 1e-9 * work / _seconds(call, n_threads))

        share = _BUFFER_BYTES // n_threads // 128 * 128
        rounds, n_bytes = ctypes.c_long(_ROUNDS), ctypes.c_size_t(share)
        per_round = 12 * _ROUNDS * n_threads
        for _ in range(repeats):
            work = per_round * self._library.dot_bytes()
            keep("peak_8bit_gmacs", work, lambda i: self._library.peak_8bit(rounds))
            work = per_round * self._library.fma_floats()
            keep("peak_float32_gmacs", work, lambda i: self._library.peak_float32(rounds))
        address = self._buffer.ctypes.data
        keep(
            "read_gb_per_s",
            share * n_threads,
            lambda i: self._library.read_bandwidth(ctypes.c_void_p(address + i * share), n_bytes),
        )
        return best


def _seconds(call: Callable[[int], None], n_threads: int) -> float:
    """Run call(0) … call(n_threads - 1) at once: time from the first start to the last end."""
    barrier = threading.Barrier(n_threads)
    spans: list[tuple[float, float]] = []

    def run(number: int) -> None:
        barrier.wait()
        start = time.perf_counter()
        call(number)  # ctypes lets other Python threads run meanwhile
        spans.append((start, time.perf_counter()))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(1, n_threads)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def last_level_cache_bytes() -> int:
    """Size of the largest cache of the first CPU; 0 if the system does not say."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    return max(sizes)
