"""What the engines of batch scoring share: what they answer, and what is said of clusters."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from shortlist.batch.worker import STAGES, Done, Failed, Task
from shortlist.errors import ShortlistError

_ANSWER_SECONDS = 10.0  # of a cluster's address
START_SECONDS = 120.0  # until a cluster gives its first worker
RETRIES = 2  # of a task whose worker died, as the pool's


class Made(NamedTuple):
    """What an engine has done.

    Attributes
    ----------
    failures : dict of int to Exception
        Parts that could not be made, by their tasks' numbers.
    seconds : dict of str to float
        CPU time of each of `worker.STAGES`, of workers that lived to the end.
    n_workers : int
    """

    failures: dict[int, Exception]
    seconds: dict[str, float]
    n_workers: int


class Tally:
    """What the results of a cluster's tasks come to; a task that was done again counts once."""

    def __init__(self, told: Callable[[Done], None]) -> None:
        self._told = told
        self._heard: set[int] = set()
        self.failures: dict[int, Exception] = {}
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def take(self, results: Iterable[tuple[Done | Failed, dict[str, float]]]) -> None:
        """Take what tasks answered.

        Raises
        ------
        BundleError, OSError, …
            What makes every further part impossible.
        """
        for message, seconds in results:
            if isinstance(message, Failed) and message.is_final:
                raise message.error
            if message.number in self._heard:
                continue
            self._heard.add(message.number)
            for stage, n in seconds.items():
                self.seconds[stage] += n
            if isinstance(message, Failed):
                self.failures[message.number] = message.error
            else:
                self._told(message)


def absolute(tasks: Sequence[Task]) -> list[Task]:
    """Return tasks that do not depend on the folder that a process works in."""
    return [replace(task, place=os.path.abspath(task.place)) for task in tasks]


def check_answers(address: str, engine: str) -> None:
    """Refuse an address of the form [scheme://]host:port where nothing answers.

    Raises
    ------
    ShortlistError
        None of its hosts takes a connection.
    """
    hosts = address.partition("://")[2] or address
    problem: Exception | None = None
    for one in hosts.split(","):
        host, _, port = one.rpartition(":")
        if not host or not port.isdigit():
            return  # a name such as auto or yarn, which the engine knows
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS):
                return
        except OSError as error:
            problem = error
    raise ShortlistError(
        f"address: nothing answers at {address} ({problem}), expected a cluster of {engine}. Fix: "
        "start it, or correct the address; without one, the job runs on this machine"
    )


def not_installed(package: str, engine: str) -> ShortlistError:
    """Return the error of an engine whose package is missing."""
    return ShortlistError(
        f"engine: {engine} needs the package {package}, which is not installed. Fix: pip install "
        f"'shortlist[{engine}]'"
    )
