"""The threads that searches share, one pool for the whole process."""

from shortlist import _checks, _core


def get_num_threads() -> int:
    """Return how many threads a search may use, its caller included.

    By default the CPUs that this process may use: its affinity mask and its cgroup quota (rounded
    up) count, so in a container it is what the container was given.
    """
    return _core.num_threads()


def set_num_threads(n_threads: int) -> None:
    """Size the pool of threads that searches share.

    Parameters
    ----------
    n_threads : int
        0 (all CPUs this process may use, asked anew) to 256. A search with `n_threads=0` uses that
        many, any other search at most that many.

    Raises
    ------
    TypeError, ValueError
        If it is not such a number.

    Notes
    -----
    The pool has `n_threads` - 1 workers, which start when a search first needs them and sleep
    between searches; the caller of a search is the remaining thread. When many threads of the
    host search at once, each works on its own search and the workers help where the number of
    threads at work stays within `n_threads`: never more than that, or than there are callers.
    Safe while others search: searches under way keep the threads they have. A forked child
    starts workers of its own.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    count = _checks.thread_count(n_threads)
    if count > _core.max_threads:
        raise ValueError(f"n_threads: got {count}; expected at most {_core.max_threads}")
    _core.set_num_threads(count)
