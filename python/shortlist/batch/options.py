"""What a job wants of every list, in a form that other processes and its record can hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shortlist import _checks

LAYOUTS = ("long", "lists")


@dataclass(frozen=True)
class ScoreOptions:
    """What a job wants of every list.

    Attributes
    ----------
    top_n, where, stages, exclude_seen, exclude, at_most, at_least, diversity, calibrate,
    popularity_dampening
        As `Engine.recommend` takes them, the same for all requests.
    layout : {"long", "lists"}
        One row an item, or one row a request.
    titles : bool
        Whether items come with their titles.
    """

    top_n: int = 10
    where: Any = None
    stages: Literal[1, 2] | None = None
    exclude_seen: bool | Collection[str] = True
    exclude: Any = None
    at_most: Mapping[str, int] | None = None
    at_least: Mapping[str, int] | None = None
    diversity: float | None = None
    calibrate: Mapping[str, Any] | None = None
    popularity_dampening: float | None = None
    layout: Literal["long", "lists"] = "long"
    titles: bool = False

    def __post_init__(self) -> None:
        """Refuse what no bundle could take; the rest is checked where one is open."""
        _checks.positive_int(self.top_n, "top_n")
        _checks.flag(self.titles, "titles")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: got {self.layout!r}, expected one of {', '.join(LAYOUTS)}")
        for name in ("at_most", "at_least", "calibrate"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(
                    f"{name}: got {type(value).__name__}, expected one dict for all requests, such "
                    'as {"brand": 2}'
                )

    def of_call(self) -> dict[str, Any]:
        """Return what `Engine.recommend` takes of this."""
        wanted = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: wanted[name] for name in wanted if name not in ("layout", "titles")}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for `json.dumps`; expressions become their text."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value)
