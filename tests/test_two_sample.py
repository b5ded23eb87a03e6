from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from simgan.measures import area_under_curve, describe_images, two_sample_auc, wilson_interval


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40))
def test_area_under_curve_is_that_of_scikit_learn_and_torchmetrics(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if positive.all() or not positive.any():
        return
    mine = area_under_curve(scores, positive)
    assert mine == pytest.approx(roc_auc_score(positive, scores))
    # torchmetrics squashes scores outside [0, 1]; these stay inside, in the same order.
    squashed = torch.from_numpy((scores + 4) / 8)
    assert mine == pytest.approx(float(binary_auroc(squashed, torch.from_numpy(positive).long())), abs=1e-6)


def test_two_halves_of_one_set_cannot_be_told_apart() -> None:
    rows = np.random.default_rng(0).normal(size=(400, 5))
    result = two_sample_auc(rows[:200], rows[200:])
    assert result.low < 0.5 < result.high


def test_shifted_sets_are_told_apart_as_well_as_theory_allows() -> None:
    # One informative column, shift d = 1: the best possible AUC is Φ(1/√2) = 0.760.
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(600, 1)), generator.normal(1.0, 1.0, size=(600, 1))
    result = two_sample_auc(a, b)
    assert result.low < 0.760 < result.high
    assert result.auc > 0.72


def test_a_difference_of_spread_alone_is_seen() -> None:
    generator = np.random.default_rng(0)
    assert two_sample_auc(generator.normal(size=(300, 2)), 3 * generator.normal(size=(300, 2))).auc > 0.75


def test_noise_of_a_tenth_is_seen_in_images() -> None:
    generator = np.random.default_rng(0)
    smooth = np.repeat(generator.uniform(-0.7, 0.7, size=(120, 1, 1, 1)), 16, axis=1).repeat(16, axis=2)
    noisy = smooth[60:] + generator.normal(0, 0.1, size=(60, 16, 16, 1))
    assert two_sample_auc(smooth[:60], noisy).auc > 0.95


def test_perfectly_separable_sets_get_one_and_an_interval_that_is_not_a_point() -> None:
    a, b = np.zeros((30, 1)), np.ones((25, 1))
    result = two_sample_auc(a, b)
    assert result.auc == 1
    assert (result.low, result.high) == wilson_interval(1.0, 25)
    assert result.low < 0.9


def test_the_same_seed_gives_the_same_folds() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(40, 3)), generator.normal(0.3, 1, size=(40, 3))
    assert two_sample_auc(a, b, seed=3) == two_sample_auc(a, b, seed=3)
    assert two_sample_auc(a, b, seed=3) != two_sample_auc(a, b, seed=4)


def test_fewer_rows_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 folds .* 4 and 9"):
        two_sample_auc(np.zeros((4, 2)), np.zeros((9, 2)))


@pytest.mark.parametrize("shape", [(3, 8, 8, 1), (70, 9, 13, 3), (2, 5, 30, 1)])
def test_descriptors_are_finite_and_as_many_for_every_image(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    described = describe_images(images)
    assert described.shape[0] == shape[0]
    assert np.isfinite(described).all()
    np.testing.assert_allclose(described[-1], describe_images(images[-1:])[0], rtol=1e-5, atol=1e-6)


def test_texture_numbers_do_not_change_with_brightness() -> None:
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 12, 12, 1)).astype(np.float32)
    texture = slice(0, 2 * (32 + 64))
    np.testing.assert_allclose(
        describe_images(images)[:, texture], describe_images(images + 0.3)[:, texture], atol=1e-5
    )


def test_seeds_may_have_more_bits_than_those_of_scikit_learn() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 30, 3))
    assert two_sample_auc(a, b, seed=2**62 + 5) == two_sample_auc(a, b, seed=5)
