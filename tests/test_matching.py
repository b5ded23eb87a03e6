from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan.tasks import match_by_rank, match_to_real
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


def _with_holes(n: int, *, seed: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Images at about `level` of which a third of the pixels, at -1, were not measured."""
    generator = np.random.default_rng(seed)
    images = generator.normal(level, 0.05, (n, 6, 6, 1)).astype(np.float32)
    holes = generator.random(images.shape) < 1 / 3
    images[holes] = -1
    return images, holes


@pytest.mark.parametrize("kind", ["histogram", "moments", "ranked"])
def test_holes_stay_and_take_no_part_in_matching(kind: str) -> None:
    (synthetic, first), (real, second) = _with_holes(9, seed=0, level=0.1), _with_holes(5, seed=1, level=0.6)
    if kind == "ranked":
        matched = match_by_rank(synthetic, real, holes=(first, second))
    else:
        matched = match_to_real(synthetic, real, seed=0, histogram=kind == "histogram", holes=(first, second))
    assert (matched[first] == -1).all()
    assert matched[~first].mean() == pytest.approx(0.6, abs=0.03)
    assert matched[~first].min() > 0.3
    moved = real.copy()
    moved[second] = 0.99
    if kind != "ranked":
        again = match_to_real(synthetic, moved, seed=0, histogram=kind == "histogram", holes=(first, second))
    else:
        again = match_by_rank(synthetic, moved, holes=(first, second))
    np.testing.assert_array_equal(matched, again)


def test_with_holes_the_partner_has_the_same_rank_of_the_mean_over_what_was_measured() -> None:
    # Means over valid pixels 3, 1, 2 take those of 30, 10, 20; the third real image has no valid pixel.
    synthetic = np.array([[3.0, 3.0], [1.0, 99.0], [2.0, 2.0]]).reshape(3, 1, 2, 1)
    real = np.array([[30.0, 30.0], [99.0, 20.0], [5.0, 5.0], [10.0, 10.0]]).reshape(4, 1, 2, 1)
    holes = synthetic == 99, (real == 99) | (real == 5)
    matched = match_by_rank(synthetic, real, holes=holes)
    assert matched.reshape(3, 2).tolist() == [[30, 30], [10, 99], [20, 20]]


def test_images_that_are_all_holes_on_either_side_leave_levels_as_they_are() -> None:
    image, none, all_of_it = (
        np.full((2, 3, 3, 1), 0.5),
        np.zeros((2, 3, 3, 1), bool),
        np.ones((2, 3, 3, 1), bool),
    )
    for holes in ((all_of_it, none), (none, all_of_it), (all_of_it, all_of_it)):
        for matched in (
            match_by_rank(image, image + 1, holes=holes),
            match_to_real(image, image + 1, seed=0, holes=holes),
        ):
            assert (matched == 0.5).all()


def test_without_any_hole_matching_is_what_it_is_without_holes_declared() -> None:
    (synthetic, _), (real, _) = _with_holes(4, seed=0, level=0.1), _with_holes(3, seed=1, level=0.6)
    none = np.zeros(synthetic.shape, bool), np.zeros(real.shape, bool)
    for histogram in (True, False):
        np.testing.assert_array_equal(
            match_to_real(synthetic, real, seed=3, histogram=histogram, holes=none),
            match_to_real(synthetic, real, seed=3, histogram=histogram),
        )
