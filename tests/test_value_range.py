from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.errors import ConfigurationError, ImageError
from simgan.images import (
    ValueRange,
    measure_value_range,
)


def test_encoding_follows_its_formula() -> None:
    # worked by hand: 2 (v − 10) / 20 − 1
    np.testing.assert_allclose(
        ValueRange(10, 30).encode(np.array([10, 15, 20, 30], np.uint8)), [-1, -0.5, 0, 1]
    )
    assert ValueRange(0, 255).encode(np.array([7], np.uint8)).dtype == np.float32


def test_decoding_clips_and_rounds_to_the_grid() -> None:
    coarse = ValueRange(0, 60, step=20)
    assert coarse.levels == 4
    x = np.array([-3, -1, -0.7, -0.6, 0.0, 0.34, 1, 5], np.float32)
    # places (x + 1)/2 · 3: 0, 0, 0.45, 0.6, 1.5 (to even: 2), 2.01, 3, 3
    assert coarse.decode(x, np.uint8).tolist() == [0, 0, 0, 20, 40, 40, 60, 60]


@pytest.mark.parametrize("high", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_value_comes_back_from_its_code(high: int, dtype: type) -> None:
    values = np.arange(high + 1).astype(np.uint8 if high == 255 else np.uint16)
    full = ValueRange(0, high)
    codes = full.encode(values)
    assert (codes[0], codes[-1]) == (-1, 1)
    np.testing.assert_array_equal(full.decode(codes.astype(dtype), values.dtype), values)


@settings(deadline=None)
@given(low=st.integers(0, 60_000), step=st.integers(1, 300), levels=st.integers(2, 400))
def test_every_value_on_a_coarse_grid_comes_back(low: int, step: int, levels: int) -> None:
    high = low + step * (levels - 1)
    if high > 65535:
        return
    values = np.arange(low, high + 1, step).astype(np.uint16)
    grid = ValueRange(low, high, step)
    assert grid.levels == levels
    np.testing.assert_array_equal(grid.decode(grid.encode(values), np.uint16), values)


def test_invalid_values_encode_to_minus_one_and_are_not_outside() -> None:
    depth = ValueRange(400, 2000, invalid=0)
    values = np.array([[0, 399], [400, 2001]], np.uint16)
    assert depth.is_invalid(values).tolist() == [[True, False], [False, False]]
    assert depth.count_outside(values) == 2
    assert depth.encode(values).tolist() == [[-1, -1], [-1, 1]]
    holes_at_the_top = ValueRange(400, 2000, invalid=65535)
    assert holes_at_the_top.encode(np.array([65535], np.uint16)).tolist() == [-1]
    assert not ValueRange(400, 2000).is_invalid(values).any()
    assert ValueRange(400, 2000).count_outside(values) == 3


def test_a_value_range_survives_json() -> None:
    given_range = ValueRange(16, 240, 16, invalid=0)
    assert ValueRange.from_dict(given_range.to_dict()) == given_range


@pytest.mark.parametrize(
    ("low", "high", "step", "said"),
    [
        (5, 5, 1, "low < high"),
        (-1, 5, 1, "0 <= low"),
        (0, 70_000, 1, "<= 65535"),
        (0, 10, 3, "divide"),
        (0, 9, 0, "divide"),
    ],
)
def test_an_impossible_value_range_is_refused(low: int, high: int, step: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ValueRange(low, high, step)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((3, 200, 1, 8), (255, 1)),
        ((0, 0, 1, 8), (255, 1)),
        ((0, 240, 16, 8), (240, 16)),
        ((0, 255, 255, 8), (255, 255)),
        ((3, 200, 1, 16), (255, 1)),
        ((3, 256, 1, 16), (1023, 1)),
        ((3, 1023, 1, 16), (1023, 1)),
        ((3, 1024, 1, 16), (4095, 1)),
        ((3, 5000, 1, 16), (16383, 1)),
        ((3, 16384, 1, 16), (65535, 1)),
        ((16, 65520, 16, 16), (65520, 16)),
    ],
)
def test_the_range_is_measured_by_the_rule(
    seen: tuple[int, int, int, int], expected: tuple[int, int]
) -> None:
    assert measure_value_range(*seen) == ValueRange(0, expected[0], expected[1])


def test_values_that_do_not_fit_the_bit_depth_have_no_range() -> None:
    with pytest.raises(ImageError, match="do not fit 8 bit"):
        measure_value_range(0, 300, 1, 8)
