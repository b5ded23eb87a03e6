"""The exact binomial test against guessing: how often would a coin do as well?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BinomialTest:
    """Exact p values of k right answers of n under X ~ Binomial(n, 1/2)."""

    one_sided: float
    two_sided: float


def binomial_test(right: int, n: int) -> BinomialTest:
    """One-sided: P(X ≥ k), against "better than guessing". Two-sided: P(|X − n/2| ≥ |k − n/2|), both tails.

    The distribution is symmetric, so the second is twice the smaller tail, at most 1. No answers: both are 1.
    """
    if not 0 <= right <= n:
        raise ValueError(f"right answers are between 0 and n, got {right} of {n}")
    from scipy.stats import binom  # slow to load, see simgan.measures

    at_least = float(binom.sf(right - 1, n, 0.5))
    at_most = float(binom.cdf(right, n, 0.5))
    return BinomialTest(min(1.0, at_least), min(1.0, 2 * min(at_least, at_most)))
