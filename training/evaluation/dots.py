"""Dots with whiskers as a picture inside an HTML page: SVG, in the page's own colours."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shortlist._checks import printable

__all__ = ["Dot", "dots", "escaped"]

_WIDTH, _ROW, _AXIS = 760, 26, 34
_LEFT, _RIGHT = 270, 650  # of the plot itself
_MOST_LETTERS = 38  # of a label; the whole one is shown on hovering
_TICKS = 5


@dataclass(frozen=True)
class Dot:
    """One row of a plot: a value with its interval, if there is one.

    Attributes
    ----------
    label : str
    value : float
    interval : tuple of (low, high), optional
    kind : str
        "own", "other" or "plain": the colour.
    span : str
        What part of all values lies in the interval.
    beside : tuple of Dot
        More dots in the same row; then no number stands at the right.
    """

    label: str
    value: float
    interval: tuple[float, float] | None = None
    kind: str = "plain"
    span: str = "95 %"
    beside: tuple[Dot, ...] = ()


def escaped(text: object) -> str:
    """Write text into HTML: it can open no tag, end no attribute and turn no line around."""
    return html.escape(printable(str(text)), quote=True)


def dots(rows: Sequence[Dot], title: str, *, digits: int = 4, are_differences: bool = False) -> str:
    """Draw rows from top to bottom over one axis.

    Parameters
    ----------
    rows : sequence of Dot
        At least one.
    title : str
        What the values are: the name of the axis, and the picture's name for screen readers.
    digits : int
        Of the values at the right.
    are_differences : bool
        The axis holds 0, with a line of its own.

    Returns
    -------
    str
        An element ``svg``.
    """
    points = [point for row in rows for point in (row, *row.beside)]
    ends = [end for point in points for end in (point.value, *(point.interval or ()))]
    ends += [0.0] if are_differences else []
    ticks = _ticks(min(ends), max(ends))
    low: float = min(*ends, ticks[0])
    high: float = max(*ends, ticks[-1])
    scale = (_RIGHT - _LEFT) / (high - low)

    def x(value: float) -> float:
        return _LEFT + (value - low) * scale

    bottom = _ROW * len(rows) + 6
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {bottom + _AXIS}" role="img" aria-label="{escaped(title)}">'
    ]
    step = ticks[1] - ticks[0]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    for tick in ticks:
        kind = "zero" if are_differences and abs(tick) < step / 2 else "grid"
        ends_of_line = f'x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="2" y2="{bottom}"'
        parts.append(f'<line class="{kind}" {ends_of_line}/>')
        parts.append(_text(f"{tick:.{places}f}", x(tick), bottom + 14))
    middle = (_LEFT + _RIGHT) / 2
    parts.append(_text(title, middle, bottom + 30))
    for i, row in enumerate(rows):
        parts += _row(row, _ROW * i + _ROW / 2 + 3, x, digits)
    return "\n".join([*parts, "</svg>"])


def _text(text: str, x: float, y: float) -> str:
    return f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{y}">{escaped(text)}</text>'


def _row(row: Dot, y: float, x: Callable[[float], float], digits: int) -> list[str]:
    short = row.label
    if len(short) > _MOST_LETTERS:
        short = short[: _MOST_LETTERS - 1] + "…"
    parts = [f'<text text-anchor="end" x="{_LEFT - 14}" y="{y + 4:.1f}">{escaped(short)}</text>']
    parts += [_point(point, y, x, digits) for point in (row, *row.beside)]
    if not row.beside:
        parts.append(f'<text x="{_RIGHT + 14}" y="{y + 4:.1f}">{row.value:.{digits}f}</text>')
    return parts


def _point(point: Dot, y: float, x: Callable[[float], float], digits: int) -> str:
    whole, line = f"{point.label}: {point.value:.{digits}f}", ""
    if point.interval is not None:
        low, high = point.interval
        whole += f", {point.span} from {low:.{digits}f} to {high:.{digits}f}"
        line = f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    circle = f'<circle cx="{x(point.value):.1f}" cy="{y:.1f}" r="4.5"/>'
    return f'<g class="{point.kind}"><title>{escaped(whole)}</title>{line}{circle}</g>'


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers, at least two, from below ``low`` to above ``high``."""
    width = (high - low) or abs(high) or 1.0
    rough = width / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1.0, 2.0, 5.0, 10.0) if size * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]
