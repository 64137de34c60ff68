"""What an engine answers with now, and how that changes under load: swaps and trials."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from shortlist import _core
from shortlist._forks import ForkLock
from shortlist._serving.loaded_bundle import LoadedBundle, Settings, check_same_ids, open_bundle
from shortlist._serving.reports import TrialReport
from shortlist._serving.trial import Trial, check_trial
from shortlist.errors import ShortlistError

Result = TypeVar("Result")


class Switch:
    """The version that answers and the trial beside it; callers see each change as one step.

    Attributes
    ----------
    loaded : LoadedBundle
        The present one; `now` gives it while the engine is open.
    trial : Trial or None
    is_closed : bool
    """

    def __init__(self, loaded: LoadedBundle, settings: Settings) -> None:
        self.loaded = loaded
        self.trial: Trial | None = None
        self.is_closed = False
        self._settings = settings
        self._n_loaded = loaded.number
        self._writing = ForkLock(is_awaited=True)  # of items, and of what answers
        self._changing = ForkLock()  # one swap or trial at a time; held while a bundle loads

    def now(self) -> LoadedBundle:
        """Give the present version; an error once the engine is closed."""
        if self.is_closed:
            raise ShortlistError("engine: it is closed; load the bundle again")
        return self.loaded

    @property
    def n_threads(self) -> int:
        """Threads of one call."""
        return self._settings.n_threads

    def change_items(self, change: Callable[[LoadedBundle], Result]) -> Result:
        """Change the items of the present version and of a trial's candidate alike."""
        with self._writing:
            done = change(self.now())
            if self.trial is not None:
                self.trial.follow(change)
        return done

    def swap(self, path: str | os.PathLike[str], verify: bool) -> None:
        """Put another bundle in the present one's place; see `Engine.swap`."""
        with self._changing:
            new = self._load(path, verify)
            with _closed_on_error(new, unless=lambda: self.loaded is new), self._writing:
                old: list[object] = [self.now()]
                self.loaded = new
            _let_go(old)

    def start_trial(
        self, path: str | os.PathLike[str], share: Any, shadow: Any, salt: Any, verify: bool
    ) -> None:
        """Run another bundle beside the present one; see `Engine.start_trial`."""
        share, shadow, salt = check_trial(share, shadow, salt)
        with self._changing:
            new = self._load(path, verify)
            with _closed_on_error(new):
                trial = Trial(self.loaded, new, share, shadow=shadow, salt=salt)
                try:
                    with self._writing:
                        self.now()
                        self.trial = trial
                finally:
                    if self.trial is not trial:  # the engine was closed, or an interrupt came
                        trial.end()

    def end_trial(self, promote: bool) -> TrialReport:
        """End the trial and give its last counts; see `Engine.end_trial`."""
        with self._changing:
            with self._writing:
                trial = self.trial
                if trial is None:
                    raise ShortlistError("trial: none is running; start one with start_trial")
                if promote:
                    self.now()
                    self.loaded = trial.candidate
                self.trial = None
            trial.end()
            return trial.report()

    def close(self) -> None:
        """Let go of both versions' graphs and tables."""
        with self._writing:
            self.is_closed = True
            trial, self.trial = self.trial, None
        if trial is not None:
            trial.end()
            trial.candidate.close()
        self.loaded.close()

    def _load(self, path: str | os.PathLike[str], verify: bool) -> LoadedBundle:
        """Load and warm a bundle that fits the present one."""
        old = self.now()
        if self.trial is not None:
            raise ShortlistError("trial: one is running; end it first with end_trial")
        old.check_untouched(path)
        number = self._n_loaded + 1
        new = open_bundle(path, number, self._settings, verify=verify)
        with _closed_on_error(new):
            check_same_ids(new, old)
            new.warm(old)
        self._n_loaded = number
        return new


def wait_until_unused(held: list[object], seconds: float = 1.0) -> None:
    """Wait until nothing but the list has its one object, or until that has lasted too long."""
    end = time.monotonic() + seconds
    # Of the list and of the call itself.
    while sys.getrefcount(held[0]) > 2 and time.monotonic() < end:
        time.sleep(1e-3)


def _let_go(old: list[object]) -> None:
    """Wait for calls under way, so that the old version's memory is given back here, not by one."""
    wait_until_unused(old)
    old.clear()
    _core.give_back_memory()


@contextmanager
def _closed_on_error(
    loaded: LoadedBundle, unless: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Close a bundle that comes to nothing; an interrupt may come when it answers already."""
    try:
        yield
    except BaseException:
        if not unless():
            loaded.close()
        raise
