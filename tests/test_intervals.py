from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from simgan.measures import (
    bootstrap,
    median_gap_closed,
    percentile_interval,
    wilson_difference,
    wilson_interval,
)


def test_wilson_interval_of_8_in_10_is_the_one_worked_by_hand() -> None:
    # z = 1.95996, z² = 3.84146: middle (0.8 + 0.192073)/1.384146 = 0.716740,
    # half 1.95996·√(0.016 + 0.0096036)/1.384146 = 0.226577
    assert wilson_interval(0.8, 10) == pytest.approx((0.490163, 0.943317), abs=2e-5)


@given(n=st.integers(1, 300), data=st.data())
def test_wilson_interval_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_interval_of_no_trials_is_everything() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_newcombes_difference_is_his_published_example() -> None:
    # Newcombe 1998, method 10: 56/70 − 48/80 gives 0.0524 to 0.3339.
    assert wilson_difference(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def _simulate(
    generator: np.random.Generator, shape: tuple[int, int, int], per_group: int, spreads: tuple[float, ...]
) -> dict[str, np.ndarray]:
    refiner, task, groups = shape
    shared = np.repeat(generator.normal(0, spreads[2], groups), per_group)

    def arm(mean: float) -> np.ndarray:
        noise = generator.normal(0, spreads[3], (refiner, task, groups * per_group))
        return (
            mean
            + generator.normal(0, spreads[0], (refiner, 1, 1))
            + generator.normal(0, spreads[1], (refiner, task, 1))
            + shared
            + noise
        )

    return {"a": arm(1.0), "b": arm(0.8)}


@pytest.mark.parametrize(
    ("shape", "spreads"),
    [((1, 3, 20), (0.0, 0.02, 0.1, 0.2)), ((5, 3, 20), (0.02, 0.02, 0.1, 0.2))],
    ids=["one evaluation", "five refiner seeds"],
)
def test_bootstrap_intervals_cover_the_truth_about_95_times_in_100(
    shape: tuple[int, int, int], spreads: tuple[float, ...]
) -> None:
    generator = np.random.default_rng(0)
    trials, mean_hits, difference_hits = 150, 0, 0
    numbers = np.repeat(np.arange(shape[2]), 5)
    for trial in range(trials):
        replicates = bootstrap(_simulate(generator, shape, 5, spreads), numbers, replicates=300, seed=trial)
        low, high = percentile_interval(replicates.mean("a"))
        mean_hits += low <= 1.0 <= high
        low, high = percentile_interval(replicates.difference("a", "b"))
        difference_hits += low <= 0.2 <= high
    assert 0.87 <= mean_hits / trials <= 1.0
    assert 0.87 <= difference_hits / trials <= 1.0


def test_images_of_one_group_are_not_counted_as_independent() -> None:
    generator = np.random.default_rng(0)
    errors = {"a": np.repeat(generator.normal(size=(1, 1, 20)), 10, axis=2)}
    groups = np.repeat(np.arange(20), 10)
    grouped = bootstrap(errors, groups).mean("a").std()
    alone = bootstrap(errors, np.arange(200)).mean("a").std()
    assert grouped / alone == pytest.approx(np.sqrt(10), rel=0.1)


def test_the_spread_over_task_seeds_is_unbiased_even_for_two_seeds() -> None:
    # Two seeds at 0 and 2: unbiased variance of a value 2, of the mean 1. Plain resampling would say 0.5.
    errors = {"a": np.stack([np.zeros(4), np.full(4, 2.0)])[None]}
    replicates = bootstrap(errors, np.arange(4), replicates=20_000).mean("a")
    assert replicates.var() == pytest.approx(1.0, rel=0.03)


def test_groups_of_unequal_size_weigh_by_their_images() -> None:
    errors = {"a": np.array([[[1.0, 1.0, 1.0, 0.0]]])}
    means = bootstrap(errors, np.array([7, 7, 7, 3]), replicates=50).mean("a")
    assert set(means.tolist()) == {0.0, 1.0}  # one of two groups is drawn
    even = bootstrap({"a": np.ones((1, 1, 4))}, np.array([7, 7, 7, 3]), replicates=50).mean("a")
    assert even == pytest.approx(1.0)


def test_differences_are_paired_over_seeds_and_images() -> None:
    base = np.random.default_rng(0).normal(size=(3, 4, 30))
    replicates = bootstrap({"a": base + 0.5, "b": base}, np.arange(30))
    assert replicates.difference("a", "b") == pytest.approx(0.5)
    assert replicates.mean("a").std() > 0.05


def test_the_ratio_is_the_median_over_refiner_seeds_of_each_seeds_ratio() -> None:
    refined = np.array([0.1, 0.2, 0.3])
    errors = {
        "synthetic": np.full((3, 1, 4), 0.5),
        "refined": np.repeat(refined, 4).reshape(3, 1, 4),
        "real": np.zeros((3, 1, 4)),
    }
    ratios = bootstrap(errors, np.arange(4)).median_ratio(
        baseline="synthetic", treated="refined", bound="real"
    )
    # Two of three seeds are drawn; their ratios are 0.8, 0.6, 0.4.
    assert set(np.round(ratios, 6)) == {0.4, 0.5, 0.6, 0.7, 0.8}
    points = median_gap_closed(np.full(3, 0.5), refined, np.zeros(3))
    assert float(points) == pytest.approx(median([0.8, 0.6, 0.4]))


def test_gap_closed_is_not_clipped() -> None:
    assert float(median_gap_closed(np.array([0.5]), np.array([0.7]), np.array([0.1]))) == pytest.approx(-0.5)
    assert float(median_gap_closed(np.array([0.5]), np.array([0.0]), np.array([0.1]))) == pytest.approx(1.25)


def test_replicates_that_divide_by_zero_are_left_out_of_the_interval() -> None:
    replicates = np.concatenate([np.linspace(0, 1, 101), [np.nan, np.inf, -np.inf]])
    assert percentile_interval(replicates) == pytest.approx((0.025, 0.975))


def test_the_same_seed_draws_the_same_replicates() -> None:
    errors = {"a": np.random.default_rng(0).normal(size=(2, 3, 10))}
    first = bootstrap(errors, np.arange(10), seed=1).mean("a")
    assert (first == bootstrap(errors, np.arange(10), seed=1).mean("a")).all()
    assert (first != bootstrap(errors, np.arange(10), seed=2).mean("a")).any()


def test_arms_of_different_shape_and_missing_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="every arm needs the same"):
        bootstrap({"a": np.zeros((1, 2, 3)), "b": np.zeros((1, 2, 4))}, np.arange(3))
    with pytest.raises(ValueError, match="2 groups for 3 test images"):
        bootstrap({"a": np.zeros((1, 2, 3))}, np.arange(2))
