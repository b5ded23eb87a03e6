from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from simgan.measures import sliced_wasserstein
from simgan.measures.wasserstein import _NUMBERS_AT_A_TIME, _wasserstein_1d


@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 1000))
def test_in_one_dimension_it_is_scipys_wasserstein_distance(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(-3, 4, n).astype(float), generator.normal(size=m)
    assert sliced_wasserstein(a[:, None], b[:, None], n_projections=3) == pytest.approx(
        wasserstein_distance(a, b)
    )


def test_points_at_0_and_1_against_one_at_half_are_half_apart() -> None:
    assert _wasserstein_1d(np.array([[0.0], [1.0]]), np.array([[0.5]])) == pytest.approx([0.5])


def test_the_mean_over_directions_is_that_of_scipys_distances_of_the_projections() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(20, 2, 3, 1)), generator.normal(1, 2, size=(15, 2, 3, 1))
    directions = np.random.default_rng(7).standard_normal((6, 5))
    directions /= np.linalg.norm(directions, axis=0)
    pairs = zip((a.reshape(20, 6) @ directions).T, (b.reshape(15, 6) @ directions).T, strict=True)
    expected = np.mean([wasserstein_distance(p, q) for p, q in pairs])
    assert sliced_wasserstein(a, b, n_projections=5, seed=7) == pytest.approx(expected)


def test_equal_sets_in_another_order_are_at_distance_zero() -> None:
    a = np.random.default_rng(0).normal(size=(30, 8))
    assert sliced_wasserstein(a, a[::-1]) == pytest.approx(0, abs=1e-12)


def test_scaling_both_sets_scales_the_distance() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(9, 4)), generator.normal(size=(9, 4))
    assert sliced_wasserstein(3 * a, 3 * b) == pytest.approx(3 * sliced_wasserstein(a, b))


def test_large_rows_are_projected_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(11, 4)), generator.normal(size=(7, 4))
    whole = sliced_wasserstein(a, b)
    assert _NUMBERS_AT_A_TIME > 11 * 4
    monkeypatch.setattr("simgan.measures.wasserstein._NUMBERS_AT_A_TIME", 8)
    assert sliced_wasserstein(a, b) == pytest.approx(whole)


def test_rows_of_different_length_or_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 numbers per row, b has 2"):
        sliced_wasserstein(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="at least one row"):
        sliced_wasserstein(np.zeros((4, 3)), np.zeros((0, 3)))
