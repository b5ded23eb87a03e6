"""Intervals: Wilson's for a share, and the bootstrap over refiner seed × task seed × test group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

FloatArray = NDArray[np.float64]


def wilson_interval(share: float, n: float, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for a share observed in n trials; never empty, never outside [0, 1].

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)
    """
    if n <= 0:
        return 0.0, 1.0
    from scipy.stats import norm  # slow to load, see simgan.measures

    z = float(norm.ppf(0.5 + confidence / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The share itself lies inside; at 0 and 1 it is an end, which rounding must not move past it.
    return max(0.0, min(share, float(middle - half))), min(1.0, max(share, float(middle + half)))


def wilson_difference(p: float, n: int, q: float, m: int) -> tuple[float, float]:
    """95 % interval of p − q for two independent shares (Newcombe's score interval)."""
    p_low, p_high = wilson_interval(p, n)
    q_low, q_high = wilson_interval(q, m)
    low = p - q - np.hypot(p - p_low, q_high - q)
    high = p - q + np.hypot(p_high - p, q - q_low)
    return float(low), float(high)


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates of the mean error of each arm.

    `errors[arm]` is (B, r): one mean per replicate and drawn refiner seed. Within a replicate all arms share
    the same draws, so differences and ratios of arms are paired over seeds and test images.
    """

    errors: Mapping[str, FloatArray]

    def mean(self, arm: str) -> FloatArray:
        """(B,) mean error of an arm."""
        return np.asarray(self.errors[arm].mean(axis=1))

    def difference(self, arm: str, other: str) -> FloatArray:
        """(B,) mean error of `arm` minus that of `other`."""
        return self.mean(arm) - self.mean(other)

    def median_ratio(self, *, baseline: str, treated: str, bound: str) -> FloatArray:
        """(B,) median over refiner seeds of (e_baseline − e_treated)/(e_baseline − e_bound)."""
        return median_gap_closed(self.errors[baseline], self.errors[treated], self.errors[bound])


def bootstrap(
    errors: Mapping[str, FloatArray],
    groups: NDArray[np.int64],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> Replicates:
    """Hierarchical bootstrap: refiner seeds, task seeds within each, groups of test images; with replacement.

    errors: arm → (refiner seeds, task seeds, n) per-image errors, the same shape for every arm. groups: (n,)
    group number of each test image; images of one group rise and fall together.
    At each level one unit less than there are is drawn (Rao & Wu, 1988): k − 1 of k draws make the variance
    of the mean unbiased, where k of k would be too narrow by (k − 1)/k: much for three seeds. A level with
    one unit adds no spread. Task seeds are drawn anew within each refiner seed, which errs to the wide side.
    """
    shapes = {values.shape for values in errors.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise ValueError(f"every arm needs the same (refiner seeds, task seeds, images), got {shapes}")
    refiner_seeds, task_seeds, n = next(iter(shapes))
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} test images")
    _, group_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    membership = np.zeros((n, len(counts)))
    membership[np.arange(n), group_of] = 1.0
    generator = np.random.default_rng(seed)

    def drawn(units: int, *shape: int) -> NDArray[np.int64]:
        return generator.integers(units, size=(*shape, max(units - 1, 1)))

    r = drawn(refiner_seeds, replicates)
    t = drawn(task_seeds, replicates, r.shape[1])
    g = drawn(len(counts), replicates)
    weights = np.zeros((replicates, len(counts)))
    np.add.at(weights, (np.arange(replicates)[:, None], g), 1.0)
    images = weights @ counts
    result = {}
    for arm, values in errors.items():
        sums = values @ membership  # (refiner seeds, task seeds, groups)
        chosen = sums[r[:, :, None], t].mean(axis=2)  # (B, drawn refiner seeds, groups)
        result[arm] = np.einsum("brg,bg->br", chosen, weights) / images[:, None]
    return Replicates(result)


def median_gap_closed(baseline: FloatArray, treated: FloatArray, bound: FloatArray) -> FloatArray:
    """(…, r) mean errors → (…) the median over r of (baseline − treated)/(baseline − bound); not clipped."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.median((baseline - treated) / (baseline - bound), axis=-1))


def percentile_interval(replicates: FloatArray, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The middle `confidence` of the replicates; those that are no finite number (x/0) are left out."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(replicates[np.isfinite(replicates)], [tail, 100 - tail])
    return float(low), float(high)
