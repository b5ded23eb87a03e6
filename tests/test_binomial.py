from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from simgan.measures import binomial_test


def exact_tail(right: int, n: int) -> float:
    """P(X ≥ right) with whole numbers only."""
    return float(Fraction(sum(comb(n, k) for k in range(right, n + 1)), 2**n))


def test_both_p_values_are_those_counted_by_hand() -> None:
    # 4 coins: 5 of 16 ways give 3 heads or more, 10 of 16 lie as far off 2 as 3 does.
    found = binomial_test(3, 4)
    assert found.one_sided == pytest.approx(5 / 16)
    assert found.two_sided == pytest.approx(10 / 16)


@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_p_values_agree_with_whole_numbers_and_with_scipy(case: tuple[int, int]) -> None:
    right, n = case
    found = binomial_test(right, n)
    assert found.one_sided == pytest.approx(exact_tail(right, n), rel=1e-9)
    expected = binomtest(right, n).pvalue if n else 1.0
    assert found.two_sided == pytest.approx(expected, rel=1e-9)


def test_more_right_answers_than_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        binomial_test(5, 4)
