from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan.reporting.charts import Series, line_chart, nice_ticks, strips
from simgan.reporting.numbers import Metric, decimals_for, figure, fixed, interval, percent, plural, signed


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_evenly_apart_and_hold_the_values(low: float, spread: float) -> None:
    high = low + spread
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    slack = 1e-6 * step + 1e-9 * abs(low)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 3 <= len(ticks) <= 7
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert any(math.isclose(mantissa, nice, rel_tol=1e-3) for nice in (1, 2, 2.5, 5, 10))


def test_ticks_of_a_constant_surround_it() -> None:
    ticks = nice_ticks(0.5, 0.5)
    assert ticks[0] < 0.5 < ticks[-1]
    assert nice_ticks(0.0, 0.0)[0] == 0 < nice_ticks(0.0, 0.0)[-1], (
        "drift of 0 is no reason for negative pixels"
    )


def test_a_line_stands_where_its_numbers_are() -> None:
    chart = line_chart("t", [Series("a", "real", [0, 100], [0, 4], dots=True)], caption="", marker=100)
    assert chart is not None
    assert [(tick.at, tick.text) for tick in chart.y_ticks] == [
        (100, "0"),
        (75, "1"),
        (50, "2"),
        (25, "3"),
        (0, "4"),
    ]
    assert chart.lines[0].points == "0.0,1000.0 1000.0,0.0"
    assert [(dot.x, dot.y, dot.kept) for dot in chart.lines[0].dots] == [(0, 100, False), (100, 0, True)]
    assert chart.marker == 100
    assert chart.description == "a: 0.00 at step 0, 4.00 at step 100, lowest 0.00, highest 4.00"


def test_a_chart_of_no_points_is_none() -> None:
    assert line_chart("t", [Series("a", "real", [], [])], caption="") is None


def test_the_reference_level_is_inside_the_chart() -> None:
    chart = line_chart("t", [Series("a", "real", [10], [0.9])], caption="", reference=(0.5, "guessing"))
    assert chart is not None
    assert chart.reference is not None
    assert 0 <= chart.reference.at <= 100


def test_a_marker_beyond_the_line_is_left_out() -> None:
    chart = line_chart("t", [Series("a", "real", [10], [0.9])], caption="", marker=20)
    assert chart is not None
    assert chart.marker is None


def test_long_lines_are_thinned_to_means_of_neighbours() -> None:
    n = 3000
    chart = line_chart("t", [Series("a", "real", list(range(1, n + 1)), [0.0, 2.0] * (n // 2))], caption="")
    assert chart is not None
    points = [tuple(map(float, point.split(","))) for point in chart.lines[0].points.split()]
    assert len(points) == 300
    assert {y for _, y in points} == {500.0}


def test_ticks_that_are_two_and_a_half_apart_keep_their_digit() -> None:
    chart = line_chart("t", [Series("a", "real", [1, 2], [0.0, 1.0])], caption="")
    assert chart is not None
    assert [tick.text for tick in chart.y_ticks] == ["0.00", "0.25", "0.50", "0.75", "1.00"]


def test_strips_share_one_scale_with_the_place_to_compare_with() -> None:
    drawn, low, high = strips([(1.0, 2.0, 3.0), (2.0, 3.0, 4.0)], zero=0.0)
    assert (low, high) == (0.0, 4.0)
    assert (drawn[0].low, drawn[0].mid, drawn[0].high, drawn[0].zero) == (25, 50, 75, 0)
    assert drawn[1].high == 100


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (fixed(-0.04, 1), "0.0"),
        (fixed(-1234.5, 0), "−1,234"),
        (signed(0.04, 1), "0.0"),
        (signed(0.06, 1), "+0.1"),
        (signed(-0.06, 1), "−0.1"),
        (percent(0.6863), "68.6\u202f%"),
        (figure(0.05117), "0.0512"),
        (figure(1234.4), "1,234"),
        (figure(0.0), "0.00"),
        (interval(-0.5, 0.5, 1, sign=True), "[−0.5,\u00a0+0.5]"),
        (plural(1, "image"), "1 image"),
        (plural(1200, "image"), "1,200 images"),
    ],
)
def test_numbers_are_written_as_people_read_them(written: str, wanted: str) -> None:
    assert written == wanted


def test_decimals_of_what_is_no_number_are_two() -> None:
    assert decimals_for(math.inf) == 2
    assert decimals_for(1e-12) == 6


def test_errors_get_the_decimals_of_the_largest() -> None:
    metric = Metric.of({"metric": "mean_error", "unit": "deg", "higher_is_better": False}, [11.2, 7.8])
    assert metric.value(7.8) == "7.8 deg"
    assert metric.gain(-3.4) == "−3.4 deg"
