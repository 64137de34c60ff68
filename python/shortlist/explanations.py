"""Why items are in an answer: reasons, each with what would happen without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shortlist._checks import printable
from shortlist.recommendations import POPULAR, Recommendations, need

_SHOWN_REQUESTS = 5
_SHOWN_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing in a request without which an item would do worse.

    Attributes
    ----------
    item_id : int, str or None
        An item of the history. With `explain_by`: the newest one of the group.
    feature : str or None
        In place of an item: a feature of the request or of its stored user.
    group : object
        With `explain_by`: the value that the items left out together have in that column; None for
        an item without one.
    title : str or None
        The item's, if it has one.
    drop : float
        By how much the item's margin falls when this is left out too, after the reasons before it.
        The margin is the item's score minus the `top_n`-th best of the others: above 0 as long as
        the item is in the list.
    leaves_list : bool
        Whether the item is not in the list without this and the reasons before it: found by a
        search, not estimated.
    """

    item_id: Any
    feature: str | None
    group: Any
    title: str | None
    drop: float
    leaves_list: bool

    @property
    def name(self) -> str:
        """What to call it: the group, the title, the id, or the feature."""
        if self.feature is not None:
            return f"your {self.feature}"
        name = self.group if self.group is not None else self.title or self.item_id
        return printable(str(name))

    def to_dict(self) -> dict[str, Any]:
        """Return what is not None, as plain values: a group such as a date as text."""
        is_plain = self.group is None or isinstance(self.group, str | int | float)
        group = self.group if is_plain else str(self.group)
        what = {"item_id": self.item_id, "feature": self.feature, "group": group}
        given = {name: value for name, value in what.items() if value is not None}
        title = {} if self.title is None else {"title": self.title}
        return {**given, **title, "drop": self.drop, "leaves_list": self.leaves_list}


class Evidence(Protocol):
    """What the numbers of reasons stand for."""

    def reason(self, what: int, drop: float, leaves_list: bool) -> Reason:
        """Return the reason of a number."""


@dataclass(eq=False, repr=False)
class Explanations:
    """The top-N of every request, with the reasons for each item.

    Attributes
    ----------
    answer : Recommendations
        As `Engine.recommend` gives it.
    n_reasons : int
        Reasons that an item has at most.
    """

    answer: Recommendations
    n_reasons: int
    _what: NDArray[np.int64]
    _drops: NDArray[np.float32]
    _leaves: NDArray[np.bool_]
    _evidence: Evidence

    @property
    def item_ids(self) -> NDArray[Any]:
        """Item ids (n_requests, top_n), best first; missing places hold −1 or ""."""
        return self.answer.item_ids

    @cached_property
    def reasons(self) -> list[list[list[Reason]]]:
        """``reasons[i][j]``: those of the item at place j of request i, the strongest first.

        Empty at missing places, in an answer of popular items, and where nothing that is left out
        makes the margin smaller.
        """
        return [
            [self._reasons_of(i, j) for j in range(self.item_ids.shape[1])]
            for i in range(len(self))
        ]

    def _reasons_of(self, i: int, j: int) -> list[Reason]:
        numbers = zip(
            self._what[i, j].tolist(),
            self._drops[i, j].tolist(),
            self._leaves[i, j].tolist(),
            strict=True,
        )
        return [self._evidence.reason(*number) for number in numbers if number[0] != -1]

    def sentence(self, request: int, place: int) -> str:
        """Say what is certain of one item: without what it is not in the list.

        Parameters
        ----------
        request, place : int
            Numbers from 0.

        Returns
        -------
        str
            "without A and B this would not be in the top 10": the fewest of the reasons, in their
            order, for which that is true. Where it is true for none: "even without A, B and C this
            would be in the top 10". Of popular items that there are no reasons.

        Raises
        ------
        IndexError
            There is no such request, or its list has no such place.
        """
        if self.answer._source_codes[request] == POPULAR:
            return "popular items: nothing is known of this request, so there are no reasons"
        n_items = int(self.answer.counts[request])
        if not 0 <= place < n_items:
            raise IndexError(
                f"place: got {place}, expected one from 0 to {n_items - 1}: the list of request "
                f"{request} has {n_items} items"
            )
        reasons, top = self.reasons[request][place], f"the top {self.item_ids.shape[1]}"
        if not reasons:
            return "nothing that is known of this request speaks for it"
        names = [reason.name for reason in reasons]
        for n, reason in enumerate(reasons, start=1):
            if reason.leaves_list:
                return f"without {_listed(names[:n])} this would not be in {top}"
        return f"even without {_listed(names)} this would be in {top}"

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.answer)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return `Recommendations.to_dicts`, where every item has a list `reasons`."""
        answers = self.answer.to_dicts()
        for i, answer in enumerate(answers):
            for j, item in enumerate(answer["items"]):
                item["reasons"] = [reason.to_dict() for reason in self.reasons[i][j]]
        return answers

    def to_arrow(self) -> Any:
        """Return a pyarrow Table with one row for each reason.

        Returns
        -------
        pyarrow.Table
            `request` (its number), `rank` (from 1), `item_id`, `reason` (from 1),
            `reason_item_id`, `reason_feature` and `reason_group` (null where it is not that; groups
            as text), `drop` and `leaves_list`.

        Raises
        ------
        ShortlistError
            pyarrow is not installed.
        """
        pa = need("pyarrow", "shortlist[cpu]")
        id_type = pa.string() if self.item_ids.dtype.kind == "O" else pa.int64()
        rows = list(self._rows())
        columns = list(zip(*rows, strict=True)) or [()] * 9
        types = {
            "request": pa.int64(),
            "rank": pa.int64(),
            "item_id": id_type,
            "reason": pa.int64(),
            "reason_item_id": id_type,
            "reason_feature": pa.string(),
            "reason_group": pa.string(),
            "drop": pa.float32(),
            "leaves_list": pa.bool_(),
        }
        arrays = [
            pa.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)
        ]
        return pa.table(arrays, names=list(types))

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for i, of_request in enumerate(self.reasons):
            ids = self.item_ids[i].tolist()
            for j, of_item in enumerate(of_request):
                for k, one in enumerate(of_item, start=1):
                    group = None if one.group is None else str(one.group)
                    what = (one.item_id, one.feature, group)
                    yield i, j + 1, ids[j], k, *what, one.drop, one.leaves_list

    def to_text(self, n_requests: int | None = None, n_items: int | None = None) -> str:
        """Return the answers and their reasons for people.

        Parameters
        ----------
        n_requests, n_items : int, optional
            Show no more requests, and no more items of each; all by default.
        """
        n, top_n = self.item_ids.shape
        lines = [f"{n} request{'s' * (n != 1)}, top {top_n}, up to {self.n_reasons} reasons each"]
        for one in islice(self.answer, n_requests):
            lines.append(f"{one.name}, from {one.source}: {len(one)} items")
            if self.answer._source_codes[one.request] == POPULAR:
                lines.append(f"       {self.sentence(one.request, 0)}")
            for place, (item_id, score, title) in enumerate(one.places()[:n_items]):
                shown, name = printable(str(item_id)), printable(title or "")
                lines.append(f"  {place + 1:>3}  {score:>9.4f}  {shown:>10}  {name}".rstrip())
                if self.answer._source_codes[one.request] != POPULAR:
                    lines.append(f"       {self.sentence(one.request, place)}")
        if n_requests is not None and n > n_requests:
            lines.append(f"… {n - n_requests} more requests")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Show the first answers with their reasons."""
        return self.to_text(_SHOWN_REQUESTS, _SHOWN_ITEMS)


def _listed(names: list[str]) -> str:
    """Join names as in a sentence.

    Examples
    --------
    >>> _listed(["A"]), _listed(["A", "B"]), _listed(["A", "B", "C"])
    ('A', 'A and B', 'A, B and C')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
