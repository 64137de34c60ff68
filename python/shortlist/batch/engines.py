"""Who makes the parts of a job: processes of this machine, Ray, or Spark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from shortlist import _core
from shortlist.batch import on_ray, on_spark
from shortlist.batch.cluster import Made, absolute
from shortlist.batch.pool import Pool
from shortlist.batch.scorer import Scorer
from shortlist.batch.worker import Done, Task

EngineName = Literal["pool", "ray", "spark"]


@dataclass(frozen=True)
class EngineChoice:
    """Which engine makes the parts.

    Attributes
    ----------
    name : {"pool", "ray", "spark"}
    address : str or None
        Of a cluster; None: this machine.
    n_workers : int
        0: as many as there are cores (or GPUs).
    """

    name: EngineName = "pool"
    address: str | None = None
    n_workers: int = 0

    def __post_init__(self) -> None:
        """Refuse what no engine takes."""
        if self.name not in get_args(EngineName):
            names = ", ".join(get_args(EngineName))
            raise ValueError(f"engine: got {self.name!r}, expected one of {names}")
        if self.address is not None and not isinstance(self.address, str):
            raise TypeError(
                f"address: got {type(self.address).__name__}, expected a str, such as "
                "'spark://host:7077'"
            )
        if self.address is not None and self.name == "pool":
            raise ValueError(
                f"address: got {self.address!r} for the engine pool, which is this machine; "
                "expected None. Fix: engine='ray' or 'spark'"
            )

    def run(self, scorer: Scorer, tasks: Sequence[Task], told: Callable[[Done], None]) -> Made:
        """Make all parts, and tell of each `Done`.

        Raises
        ------
        BundleError, OSError, …
            What makes every further part impossible.
        ShortlistError
            The engine or its cluster is not there; workers die again and again.
        """
        if self.name == "ray":
            return on_ray.run(scorer, absolute(tasks), self.n_workers, told, self.address)
        if self.name == "spark":
            return on_spark.run(scorer, absolute(tasks), self.n_workers, told, self.address)
        return Pool(scorer, tasks, self.n_workers or _core.num_threads(), told).run()
