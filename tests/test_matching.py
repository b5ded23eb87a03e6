from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan.tasks import match_to_real
from simgan.tasks.matching import deal_partners, match_histogram, match_moments


def test_histogram_matching_of_distinct_levels_gives_exactly_the_target_levels() -> None:
    generator = np.random.default_rng(0)
    image, target = generator.normal(size=(6, 7)), generator.exponential(size=(6, 7))
    matched = match_histogram(image, target)
    np.testing.assert_allclose(np.sort(matched.ravel()), np.sort(target.ravel()), rtol=1e-6)
    assert (np.argsort(matched.ravel()) == np.argsort(image.ravel())).all()


def test_histogram_matching_by_hand() -> None:
    # Two zeros, two ones: middles of the steps at 1/4 and 3/4. Target 10, 20, 30, 40 at 1/8, 3/8, 5/8, 7/8.
    matched = match_histogram(np.array([0, 1, 0, 1]), np.array([40, 10, 30, 20]))
    assert matched.tolist() == [15, 35, 15, 35]


def test_equal_levels_stay_equal() -> None:
    image = np.random.default_rng(0).integers(0, 4, (8, 8))
    matched = match_histogram(image, np.random.default_rng(1).normal(size=(8, 8)))
    for level in range(4):
        assert len(np.unique(matched[image == level])) == 1


def test_moment_matching_gives_the_mean_and_spread_of_the_target() -> None:
    generator = np.random.default_rng(0)
    image, target = generator.normal(size=(6, 7)), generator.normal(3, 2, size=(9, 4))
    matched = match_moments(image, target)
    assert matched.mean() == pytest.approx(target.mean(), rel=1e-5)
    assert matched.std() == pytest.approx(target.std(), rel=1e-5)


def test_a_flat_image_takes_the_mean_of_the_target() -> None:
    assert (match_moments(np.full((3, 3), 7.0), np.array([0.0, 4.0])) == 2).all()


@given(n=st.integers(1, 40), m=st.integers(1, 12), seed=st.integers(0, 99))
def test_real_images_are_used_equally_often(n: int, m: int, seed: int) -> None:
    partners = deal_partners(n, m, seed=seed)
    counts = np.bincount(partners, minlength=m)
    assert len(partners) == n
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("histogram", [True, False])
def test_each_channel_takes_the_levels_of_the_same_real_image(histogram: bool) -> None:
    generator = np.random.default_rng(0)
    synthetic, real = generator.normal(size=(3, 8, 8, 3)), generator.normal(5, 2, size=(2, 8, 8, 3))
    matched = match_to_real(synthetic, real, seed=4, histogram=histogram)
    partners = deal_partners(3, 2, seed=4)
    assert matched.dtype == np.float32
    for image, partner in zip(matched, partners, strict=True):
        np.testing.assert_allclose(image.mean((0, 1)), real[partner].mean((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(image.std((0, 1)), real[partner].std((0, 1)), rtol=1e-4)


def test_real_images_of_another_size_will_do_but_not_of_other_channels() -> None:
    assert (
        match_to_real(np.zeros((2, 4, 4, 1)), np.ones((3, 9, 5, 1)), seed=0).tolist()
        == [[[[1.0]] * 4] * 4] * 2
    )
    with pytest.raises(ValueError, match="1 synthetic against 3 real channels"):
        match_to_real(np.zeros((2, 4, 4, 1)), np.ones((3, 4, 4, 3)), seed=0)
