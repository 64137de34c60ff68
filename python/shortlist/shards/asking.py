"""A search over shards, whatever carries the calls to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shortlist import _arguments, _checks
from shortlist._columns.variety import read_wanted, variety_of_groups
from shortlist.recommendations import Hits, VariedHits
from shortlist.shards.folder import ShardSet
from shortlist.shards.merging import ShardAnswer, merge
from shortlist.shards.varied import search_varied

# Takes what `Shard.answer` takes, a dict for each shard in their order, and returns its answers.
AskAll = Callable[[list[dict[str, Any]]], Sequence[ShardAnswer]]


def search_shards(
    ask: AskAll,
    shards: ShardSet,
    queries: ArrayLike,
    top_n: int = 10,
    exclude: Any = None,
    allow: Any = None,
    n_threads: int = 0,
    *,
    groups: Any = None,
    at_most: Any = None,
    at_least: Any = None,
    diversity: Any = None,
) -> Hits:
    """Find the exact top-N items of every query in shards that live elsewhere.

    Parameters
    ----------
    ask : callable
        Gets one dict of arguments for each shard, calls `shard.answer(**arguments)` wherever the
        shard is, and returns the answers.
    shards : ShardSet
        What the shards are, from `read_set(folder)`.
    queries, top_n, exclude, allow, groups, at_most, at_least, diversity
        As for `Index.search`; masks and groups have an entry for every row of all shards.
    n_threads : int
        Of each shard.

    Returns
    -------
    Hits
        As `Index.search` of one index of all rows, bit for bit.

    Raises
    ------
    TypeError, ValueError
        As `Index.search`.

    Notes
    -----
    A plain search asks every shard once. Caps and quotas ask again, with a bit for each row, for
    the queries whose first list does not fill; diversity asks once for every place.
    """
    array = _arguments.matrix(queries, "queries")
    top_n = _checks.positive_int(top_n, "top_n")
    n, n_rows = len(array), shards.n_rows
    _checks.check_answer_size(n, top_n, n_rows)
    wanted = read_wanted(at_most, at_least, diversity, None, None, n, top_n)
    variety = variety_of_groups(groups, wanted, n_rows)
    calls = _Calls(shards, array, exclude, allow, n_threads)

    def ask_some(
        numbers: Sequence[int] | None, k: int, narrow: Any = None, **options: Any
    ) -> list[ShardAnswer]:
        return list(ask(calls.of(numbers, k, narrow, options)))

    if variety is None or wanted is None:
        return merge(ask_some(None, top_n), top_n)
    is_text = shards.item_ids == "string"
    hits, missing = search_varied(ask_some, variety, n, n_rows, top_n, shards.metric, is_text)
    if not wanted.at_least.names:
        return hits
    varied = VariedHits(*hits)
    varied.unmet = dict(zip(wanted.at_least.names, missing.T, strict=True))
    return varied


class _Calls:
    """Makes the arguments for every shard from those of the whole search."""

    def __init__(
        self,
        shards: ShardSet,
        queries: NDArray[np.float32],
        exclude: Any,
        allow: Any,
        n_threads: int,
    ) -> None:
        self._shards, self._queries, self._n_threads = shards, queries, n_threads
        n = len(queries)
        self._exclude = None if exclude is None else _lists(exclude, n, "exclude")
        self._mask: NDArray[np.bool_] | None = None
        self._allow: Any = None
        self._allow_lists: Any = None
        if str(getattr(allow, "dtype", "")).lower() in ("bool", "boolean"):
            self._mask = _checked_mask(allow, shards.n_rows)
        elif allow is not None:
            allow = allow.to_list() if hasattr(allow, "to_list") else allow
            if _arguments.is_one_list(allow):
                ids = _checks.item_ids(allow, "allow")
                self._allow = np.array(ids, dtype=object) if isinstance(ids, list) else ids
            else:
                self._allow_lists = _lists(allow, n, "allow")

    def of(
        self, numbers: Sequence[int] | None, k: int, narrow: Any, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Return what each shard is asked for some of the queries, or for all."""
        exclude, lists = self._exclude, self._allow_lists
        queries = self._queries
        if numbers is not None:
            queries = queries[list(numbers)]
            exclude, lists = _take(exclude, numbers), _take(lists, numbers)
        common = {
            "queries": queries,
            "top_n": k,
            "exclude": exclude,
            "n_threads": self._n_threads,
            **options,
        }
        calls = []
        for shard in self._shards.shards:
            rows = slice(shard.first_row, shard.end_row)
            allow = self._allow if lists is None else lists
            own = {**common, "allow": allow if self._mask is None else self._mask[rows]}
            if narrow is not None:
                own["narrow"] = np.packbits(narrow[:, rows], axis=1)
            calls.append(own)
        return calls


def _checked_mask(allow: Any, n_rows: int) -> NDArray[np.bool_]:
    mask = np.asarray(allow, dtype=np.bool_)
    if mask.shape != (n_rows,):
        raise ValueError(
            f"allow: got a mask of shape {mask.shape}; expected ({n_rows},), one flag per item"
        )
    return mask


def _lists(value: Any, n: int, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    values, splits = _checks.ragged(value, n, name)
    return np.array(values, dtype=object) if isinstance(values, list) else values, splits


def _take(lists: Any, numbers: Sequence[int]) -> Any:
    if lists is None:
        return None
    values, splits = lists
    parts = [values[splits[number] : splits[number + 1]] for number in numbers]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    joined = np.concatenate(parts) if parts else values[:0]
    return joined, np.concatenate([np.zeros(1, dtype=np.int64), ends])
