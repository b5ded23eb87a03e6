"""Cumulative error curves: which share of the real test images has at most this error, for each arm."""

from __future__ import annotations

import numpy as np

from simgan.evaluation import Outcomes
from simgan.reporting.charts import LineChart, Series, line_chart
from simgan.reporting.numbers import NARROW_SPACE, figure, plural

# (arm, name, look), in the order of the legend.
_CURVES = (
    ("synthetic", "synthetic", "synthetic"),
    ("synthetic_matched", "levels matched", "mixed"),
    ("refined", "refined", "refined"),
    ("real", "real (the bound)", "real"),
)
_POINTS = 101
_SHOWN = 98  # percentile of the worst arm's errors where the axis ends: a few gross errors would flatten all curves


def error_curves(outcomes: Outcomes | None) -> LineChart | None:
    """The curves over all task models; None for classes, where an error is 0 or 1, and without outcomes."""
    if outcomes is None or outcomes.task != "regression":
        return None
    arms = [(arm, name, look) for arm, name, look in _CURVES if arm in outcomes.errors]
    errors = {arm: np.sort(outcomes.errors[arm].ravel()) for arm, _, _ in arms}
    end = max((float(np.percentile(one, _SHOWN)) for one in errors.values()), default=0.0)
    if end <= 0:
        return None
    x = np.linspace(0, end, _POINTS)
    series = []
    for arm, name, look in arms:
        share = np.searchsorted(errors[arm], x, side="right") / len(errors[arm])
        series.append(Series(name, look, x.tolist(), (100 * share).tolist()))
    unit = f"{NARROW_SPACE}{outcomes.unit}"
    medians = ", ".join(f"{name} {figure(float(np.median(errors[arm])))}{unit}" for arm, name, _ in arms)
    return line_chart(
        "Errors, cumulative",
        series,
        caption=f"Share of the {plural(len(outcomes.groups), 'real test image')} whose error is at most that on the "
        f"axis; higher is better. All task models together. Half have at most: {medians}.",
        unit=f"{NARROW_SPACE}%",
        over="error",
        x_unit=unit,
    )
