"""The speed limits of this machine, measured: 8-bit and float32 peak, memory reads."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
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
_ROUNDS = 200_000


class Ceilings:
    """Best values seen so far; `update()` between measurements catches quiet moments.

    Attributes
    ----------
    values : dict
        `peak_8bit_gmacs`, `peak_float32_gmacs` (1e9 multiply-adds per second) and
        `read_gb_per_s`, one thread; empty where they cannot be measured.
    why_not : str
        Why `values` is empty, or "".
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
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
            getattr(self._library, name).restype = ctypes.c_double
        raw = np.ones(_BUFFER_BYTES + 64, np.uint8)
        start = -raw.ctypes.data % 64
        self._buffer = raw[start : start + _BUFFER_BYTES]
        self.update(20)

    def update(self, rounds: int = 3) -> None:
        """Measure again and keep the best."""
        if self.why_not:
            return
        for _ in range(rounds):
            self._keep("peak_8bit_gmacs", self._library.peak_8bit(ctypes.c_long(_ROUNDS)))
            self._keep("peak_float32_gmacs", self._library.peak_float32(ctypes.c_long(_ROUNDS)))
        pointer = ctypes.c_void_p(self._buffer.ctypes.data)
        size = ctypes.c_size_t(_BUFFER_BYTES)
        self._keep("read_gb_per_s", self._library.read_bandwidth(pointer, size))

    def _keep(self, name: str, value: float) -> None:
        self.values[name] = max(self.values.get(name, 0.0), value)
