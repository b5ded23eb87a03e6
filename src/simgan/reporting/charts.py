"""Charts as geometry: positions in percent of the plot, for the template to draw as SVG that fits any width.

Text and dots stand at percentages of the drawing, so they keep their size on a phone; only lines are stretched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from simgan.reporting.numbers import figure, fixed

_MOST_POINTS = 300  # of one line; more cannot be told apart


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent from its start (left, or top)."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A measured point, in percent; `text` says what it is."""

    x: float
    y: float
    text: str
    kept: bool = False


@dataclass(frozen=True)
class Line:
    """One series: `points` for a polyline in a 1000 × 1000 square."""

    name: str
    look: str  # class of the style sheet
    points: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class LineChart:
    """`reference`: a level worth comparing with; `marker`: where the kept checkpoint is, in percent, or None."""

    title: str
    caption: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    reference: Tick | None
    marker: float | None


@dataclass(frozen=True)
class Strip:
    """An interval on a shared scale, in percent; `zero`: the place to compare with."""

    low: float
    mid: float
    high: float
    zero: float


@dataclass(frozen=True)
class Series:
    """What a line is drawn from. `dots`: whether each point is a measurement of its own."""

    name: str
    look: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


def nice_ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 × 10^k apart) from at most `low` to at least `high`."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad if low else 0.0, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, last + 1)]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    caption: str,
    reference: tuple[float, str] | None = None,
    marker: float | None = None,
    unit: str = "",
    over: str = "step",
    x_unit: str = "",
) -> LineChart | None:
    """The chart of these series over steps, or over what else x counts; None where there is nothing to draw."""
    drawn = [one for one in series if len(one.x)]
    if not drawn:
        return None
    values = [y for one in drawn for y in one.y] + ([reference[0]] if reference is not None else [])
    levels = nice_ticks(min(values), max(values))
    last = max(one.x[-1] for one in drawn)  # the axis starts at step 0, so that all charts of a run agree
    bottom, top = levels[0], levels[-1]

    def across(x: float) -> float:
        return round(100 * x / last, 2)

    def down(y: float) -> float:
        return round(100 * (top - y) / (top - bottom), 2)

    decimals = _decimals(levels)
    lines = []
    for one in drawn:
        x, y = _thinned(one.x, one.y)
        points = " ".join(f"{10 * across(a):.1f},{10 * down(b):.1f}" for a, b in zip(x, y, strict=True))
        dots = tuple(
            Dot(across(a), down(b), f"{over} {_x_text(a, over)}{x_unit}: {figure(b)}{unit}", kept=a == marker)
            for a, b in (zip(one.x, one.y, strict=True) if one.dots else ())
        )
        lines.append(Line(one.name, one.look, points, dots))
    inner = [x for x in nice_ticks(0, last) if x <= last and (over != "step" or x == int(x))]
    return LineChart(
        title=title,
        caption=caption,
        description=". ".join(_in_words(one, unit, over, x_unit) for one in drawn),
        x_ticks=tuple(
            Tick(across(x), fixed(x, 0 if over == "step" else _decimals(inner)) + x_unit) for x in inner
        ),
        y_ticks=tuple(Tick(down(y), fixed(y, decimals) + unit) for y in levels),
        lines=tuple(lines),
        reference=None if reference is None else Tick(down(reference[0]), reference[1]),
        marker=None if marker is None or marker > last else across(marker),
    )


def strips(
    intervals: Sequence[tuple[float, float, float]], *, zero: float
) -> tuple[list[Strip], float, float]:
    """(low, mid, high) each → strips on one scale with round ends that also holds `zero`, and those ends."""
    values = [zero, *(value for one in intervals for value in one)]
    ticks = nice_ticks(min(values), max(values))
    bottom, top = ticks[0], ticks[-1]

    def across(value: float) -> float:
        return round(100 * (value - bottom) / (top - bottom), 2)

    return [Strip(across(a), across(b), across(c), across(zero)) for a, b, c in intervals], bottom, top


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most `_MOST_POINTS` points: means of runs of neighbours."""
    size = math.ceil(len(x) / _MOST_POINTS)
    chunks = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    return [sum(a) / len(a) for a, _ in chunks], [sum(b) / len(b) for _, b in chunks]


def _decimals(ticks: Sequence[float]) -> int:
    """As many as evenly spaced ticks need."""
    if len(ticks) < 2:
        return 0
    step = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return decimals if round(step, decimals) == round(step, 10) else decimals + 1  # steps of 2.5


def _x_text(x: float, over: str) -> str:
    return f"{x:,.0f}" if over == "step" else figure(x)


def _in_words(one: Series, unit: str, over: str, x_unit: str) -> str:
    ends = [f"{figure(one.y[i])}{unit} at {over} {_x_text(one.x[i], over)}{x_unit}" for i in (0, -1)]
    return f"{one.name}: {', '.join(ends)}, lowest {figure(min(one.y))}{unit}, highest {figure(max(one.y))}{unit}"
