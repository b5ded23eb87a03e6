from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simgan.evaluation import Outcomes
from simgan.reporting.charts import LineChart
from simgan.reporting.error_curves import error_curves


def outcomes(task: str = "regression", **errors: Any) -> Outcomes:
    """Errors of each arm: (task seeds, images)."""
    given = {arm: np.array(values, dtype=float) for arm, values in errors.items()}
    n = next(iter(given.values())).shape[1]
    paths = tuple(f"{k}.png" for k in range(n))
    return Outcomes(task, "px", given, dict.fromkeys(given, 10), np.arange(n), paths, (0, 1))


def points(chart: LineChart, name: str) -> dict[float, float]:
    """x → y of one line, both in percent of the plot, y from below."""
    line = next(line for line in chart.lines if line.name == name)
    pairs = (map(float, point.split(",")) for point in line.points.split())
    return {x / 10: 100 - y / 10 for x, y in pairs}


def test_a_curve_is_the_share_of_errors_up_to_each_over_all_task_models() -> None:
    # Both models together: errors 0, 1, 2, …, 9; the axis ends near 9, with a step at every tenth of 10.
    found = error_curves(outcomes(refined=[[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]))
    assert found is not None
    end = np.percentile(np.arange(10), 98)
    curve = points(found, "refined")
    assert len(curve) == 101
    for share, y in curve.items():
        error = share / 100 * end
        assert y == pytest.approx(10 * (np.floor(error + 1e-9) + 1), abs=0.2), error


def test_arms_stand_in_the_order_of_the_legend_with_their_medians() -> None:
    found = error_curves(
        outcomes(real=[[0.1] * 4], refined=[[1.0] * 4], synthetic=[[2.0] * 4], other=[[9.0] * 4])
    )
    assert found is not None
    assert [(line.name, line.look) for line in found.lines] == [
        ("synthetic", "synthetic"),
        ("refined", "refined"),
        ("real (the bound)", "real"),
    ]
    assert "4 real test images" in found.caption
    assert "synthetic 2.00\u202fpx, refined 1.00\u202fpx, real (the bound) 0.100\u202fpx" in found.caption


def test_the_axis_counts_errors_in_their_unit() -> None:
    found = error_curves(outcomes(refined=[np.linspace(0, 0.5, 50)]))
    assert found is not None
    assert [tick.text for tick in found.x_ticks] == [f"{x}\u202fpx" for x in ("0.0", "0.2", "0.4")]
    assert "at error 0.490\u202fpx" in found.description


def test_a_few_gross_errors_do_not_flatten_the_curves() -> None:
    found = error_curves(outcomes(refined=[[1.0] * 99 + [1000.0]]))
    assert found is not None
    assert max(float(tick.text.split("\u202f")[0]) for tick in found.x_ticks) <= 1


def test_classes_have_no_curve_and_neither_have_errors_of_nothing() -> None:
    assert error_curves(None) is None
    assert error_curves(outcomes("classification", refined=[[0, 1]])) is None
    assert error_curves(outcomes(refined=[[0, 0]])) is None
