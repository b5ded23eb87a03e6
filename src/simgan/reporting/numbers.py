"""Numbers as people read them: signs, units, intervals, and no more digits than mean something."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MINUS, NARROW_SPACE, NO_BREAK = "\u2212", "\u202f", "\u00a0"


def fixed(value: float, decimals: int) -> str:
    """A number with that many decimals, thousands separated, and a real minus sign; never "−0"."""
    text = f"{value:,.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if float(text.replace(",", "")) == 0 else MINUS + text[1:]
    return text


def signed(value: float, decimals: int) -> str:
    """As `fixed`, with a plus sign where the rounded number is positive."""
    text = fixed(value, decimals)
    return text if text.startswith(MINUS) or not any(c in "123456789" for c in text) else f"+{text}"


def percent(share: float, decimals: int = 1) -> str:
    """0.686 → 68.6 %."""
    return f"{fixed(100 * share, decimals)}{NARROW_SPACE}%"


def figure(value: float) -> str:
    """About three significant digits: 0.0512, 1.23, 45.7, 1,234."""
    return fixed(value, decimals_for(value))


def decimals_for(value: float) -> int:
    """Decimals that give a number of this magnitude three significant digits, 6 at most."""
    if not math.isfinite(value) or value == 0:
        return 2
    return min(max(0, 2 - math.floor(math.log10(abs(value)))), 6)


def interval(low: float, high: float, decimals: int, *, sign: bool = False) -> str:
    """[low, high], never broken over two lines."""
    write = signed if sign else fixed
    return f"[{write(low, decimals)},{NO_BREAK}{write(high, decimals)}]"


def plural(count: int, noun: str) -> str:
    """1 image, 2 images, 1,000 images."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@dataclass(frozen=True)
class Metric:
    """How the downstream metric is written: accuracy in percent and points, errors in their unit."""

    name: str  # "accuracy" | "mean error"
    unit: str  # of a value
    difference_unit: str
    factor: float
    decimals: int
    higher_is_better: bool

    @classmethod
    def of(cls, downstream: dict[str, Any], means: list[float]) -> Metric:
        """The metric of a `downstream` record; errors get as many decimals as their largest mean needs."""
        if downstream["metric"] == "accuracy":
            return cls("accuracy", "%", "points", 100.0, 1, True)
        unit = str(downstream["unit"])
        decimals = decimals_for(max(means, default=1.0))
        return cls("mean error", unit, unit, 1.0, decimals, bool(downstream["higher_is_better"]))

    def value(self, x: float) -> str:
        """68.6 %, 1.23 px."""
        space = NARROW_SPACE if self.unit == "%" else " "
        return f"{fixed(self.factor * x, self.decimals)}{space}{self.unit}"

    def range(self, low: float, high: float) -> str:
        """[63.4, 73.7]."""
        return interval(self.factor * low, self.factor * high, self.decimals)

    def gain(self, x: float) -> str:
        """+4.1 points, −0.12 px: positive is better, whatever the metric."""
        return f"{signed(self.factor * x, self.decimals)} {self.difference_unit}"

    def amount(self, x: float) -> str:
        """4.1 points: a difference whose direction is said in words."""
        return f"{fixed(abs(self.factor * x), self.decimals)} {self.difference_unit}"

    def gain_range(self, low: float, high: float) -> str:
        """[+2.9, +5.3]."""
        return interval(self.factor * low, self.factor * high, self.decimals, sign=True)
