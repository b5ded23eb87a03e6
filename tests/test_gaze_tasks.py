from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from simgan.measures import angular_errors, confusions, cumulative_curve, mean_iou, summarize_angles
from simgan.nn.gaze import changes_sign_mirrored, unit_vectors
from simgan.tasks import BASELINES, GazeNetwork, StandardAugmentation, train_gaze, train_segmentation
from simgan.tasks.baselines import eye_features, sparsest_weights
from simgan.tasks.segmentation import SegmentationNetwork

Array = np.ndarray[Any, Any]


# ---- angles


def test_angular_errors_are_those_worked_by_hand_and_exact_when_tiny() -> None:
    a = np.array([[0, 0, -1], [0, 0, -1], [0, 0, -1], [1, 0, 0], [2, 0, -2]], dtype=float)
    b = np.array([[0, 0, -3], [0, -1, 0], [0, 0, 1], [1, 1e-8, 0], [0, 0, -1]], dtype=float)
    np.testing.assert_allclose(angular_errors(a, b), [0, 90, 180, np.degrees(1e-8), 45], rtol=1e-9)


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.full((2, 3), np.nan), np.ones((2, 2)), np.ones((3, 3))])
def test_vectors_without_a_direction_have_no_angle(bad: Array) -> None:
    with pytest.raises(ValueError, match=r"direction|wanted"):
        angular_errors(bad, np.ones((2, 3)))


def test_the_summary_of_angles_has_mean_median_and_both_shares() -> None:
    errors = np.array([1.0, 7.0, 8.0, 13.0, 41.0])
    found = summarize_angles(errors)
    assert (found.n, found.mean_deg, found.median_deg) == (5, 14.0, 8.0)
    assert found.within == {7.0: 0.4, 13.0: 0.8}
    np.testing.assert_allclose(
        cumulative_curve(errors, np.array([0.0, 1.0, 10.0, 41.0, 90.0])), [0, 0.2, 0.6, 1, 1]
    )


# ---- masks


def test_mean_iou_is_that_worked_by_hand_and_leaves_absent_classes_out() -> None:
    masks = np.array([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    predicted = np.array([[[0, 1, 1, 1]], [[0, 0, 0, 0]]])
    counts = confusions(predicted, masks, 3)
    # Image 1: class 0 is 1 of 2, class 1 is 2 of 3, class 2 is nowhere. Image 2: class 0 alone, right.
    np.testing.assert_allclose(mean_iou(counts), [(1 / 2 + 2 / 3) / 2, 1])
    # Both together: class 0 is 5 of 6, class 1 is 2 of 3.
    assert float(mean_iou(counts.sum(axis=0))) == pytest.approx((5 / 6 + 2 / 3) / 2)
    with pytest.raises(ValueError, match=r"two sets \(n, H, W\)"):
        confusions(predicted[0], masks[0], 3)


# ---- the paper's network


def test_the_gaze_network_has_the_paper_s_size() -> None:
    network = GazeNetwork(1, 35, 55)
    assert sum(p.numel() for p in network.parameters()) == 9_816_659
    assert network.trunk(torch.zeros(2, 1, 35, 55)).shape == (2, 9600)
    assert network(torch.zeros(2, 1, 35, 55)).shape == (2, 3)
    assert GazeNetwork(3, 36, 60)(torch.zeros(1, 3, 36, 60)).shape == (1, 3)
    with pytest.raises(ValueError, match="at least 20 pixels, got 19×55"):
        GazeNetwork(1, 19, 55)


def dots(n: int, *, size: tuple[int, int] = (35, 55), seed: int = 0) -> tuple[Array, Array]:
    """Images (n, H, W, 1) of a dark dot, and the gaze to which it has moved: x right, y down."""
    generator = np.random.default_rng(seed)
    x, y = generator.uniform(-0.5, 0.5, (2, n))
    rows, columns = np.mgrid[: size[0], : size[1]]
    centre_x, centre_y = size[1] / 2 * (1 + x), size[0] / 2 * (1 + y)
    distance = (columns - centre_x[:, None, None]) ** 2 + (rows - centre_y[:, None, None]) ** 2
    images = 0.5 - np.exp(-distance / 40)
    gaze = unit_vectors(np.stack([x, y, -np.ones(n)], axis=1))
    return images[..., None].astype(np.float32), gaze


def test_a_gaze_model_learns_where_a_dot_has_moved_and_is_the_same_again() -> None:
    small = (22, 28)
    images, gaze = dots(200, size=small)
    unseen, wanted = dots(40, seed=1, size=small)
    torch.manual_seed(1)
    model = train_gaze(images, gaze, seed=3, updates=100, batch_size=16)
    found = model.predict(unseen)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert angular_errors(found, wanted).mean() < 8  # the mean gaze alone is 20° away
    torch.manual_seed(2)
    augmentation = StandardAugmentation(mirror=True)
    first, second = (
        train_gaze(images, gaze, seed=3, updates=2, batch_size=8, augmentation=augmentation).predict(unseen)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


# ---- mirrored labels and masks


def test_a_mirror_in_the_augmentation_turns_what_points_sideways() -> None:
    names = "gaze_x", "gaze_y", "head_yaw_deg", "iris_x_widths", "left_gaze_x", "x"
    assert [changes_sign_mirrored(name) for name in names] == [True, False, True, True, True, False]
    only_mirror = StandardAugmentation(mirror=True, shift=0, scale=0, gain=0, bias=0, blur=0, noise=0)
    images = torch.linspace(-1, 1, 64 * 5).reshape(64, 1, 1, 5).expand(64, 1, 4, 5).clone()
    labels = torch.ones(64, 6)
    moved, turned = only_mirror(images, labels, generator=torch.Generator().manual_seed(0), names=names)
    flipped = (moved[:, 0, 0, 0] > moved[:, 0, 0, -1]).numpy()
    assert 10 < flipped.sum() < 54
    signs = np.where(flipped, -1, 1)[:, None] ** np.array([1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(turned.numpy(), signs)


def test_masks_move_with_their_images() -> None:
    rows, columns = np.mgrid[:35, :55]
    inside = (abs(rows - 17) < 8) & (abs(columns - 30) < 12)
    images = torch.from_numpy(np.where(inside, 1.0, -1.0)).float().expand(32, 1, 35, 55).clone()
    masks = torch.from_numpy(inside.astype(np.uint8)).expand(32, 35, 55).clone()
    augmentation = StandardAugmentation(mirror=True, gain=0, bias=0, blur=0, noise=0)
    moved, moved_masks = augmentation.with_masks(images, masks, generator=torch.Generator().manual_seed(0))
    sure = moved[:, 0].abs() > 0.6  # elsewhere a pixel is a mixture of both
    assert torch.equal((moved[:, 0] > 0)[sure], (moved_masks == 1)[sure])
    assert moved_masks.dtype == torch.uint8
    assert not torch.equal(moved_masks, masks)


# ---- segmentation


def test_a_segmentation_model_learns_bright_from_dark_and_is_the_same_again() -> None:
    images, _ = dots(64, size=(16, 20))
    masks = (images[..., 0] < 0).astype(np.uint8)
    unseen, _ = dots(20, seed=1, size=(16, 20))
    options: Any = {
        "classes": 3,
        "seed": 1,
        "updates": 60,
        "batch_size": 16,
        "augmentation": StandardAugmentation(),
    }
    models = [train_segmentation(images, masks, **options) for _ in range(2)]
    errors = models[0].errors(unseen, (unseen[..., 0] < 0).astype(np.uint8))
    assert errors.shape == (20,)
    assert errors.mean() < 0.25
    np.testing.assert_array_equal(models[0].predict(unseen), models[1].predict(unseen))
    assert models[0].predict(unseen).shape == (20, 16, 20)


def test_the_segmentation_network_answers_every_pixel_of_any_size() -> None:
    assert SegmentationNetwork(3, 4)(torch.zeros(1, 3, 35, 55)).shape == (1, 4, 35, 55)
    assert SegmentationNetwork(1, 2)(torch.zeros(1, 1, 9, 8)).shape == (1, 2, 9, 8)


# ---- Table 3's others


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_reads_the_gaze_of_unseen_dots_and_is_the_same_again(name: str) -> None:
    images, gaze = dots(300)
    unseen, wanted = dots(40, seed=1)
    first, second = (BASELINES[name](images, gaze, seed=2).predict(unseen) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1)
    assert angular_errors(first, wanted).mean() < 8


def test_features_forget_gain_and_bias_of_an_image_but_not_where_things_are() -> None:
    images, _ = dots(3)
    np.testing.assert_allclose(eye_features(0.5 * images + 0.2), eye_features(images), atol=1e-5)
    assert eye_features(images).shape == (3, 135)
    assert not np.allclose(eye_features(images)[0], eye_features(images)[1], atol=0.1)
    np.testing.assert_array_equal(eye_features(np.ones((1, 35, 55, 3), np.float32)), np.zeros((1, 135)))


def test_the_weights_of_adaptive_linear_regression_are_the_sparsest_of_that_residual() -> None:
    generator = np.random.default_rng(0)
    basis = generator.normal(size=(6, 10))
    basis /= np.linalg.norm(basis, axis=0)
    wanted = basis[:, 2] * 0.7 + basis[:, 5] * 0.4
    weights = sparsest_weights(basis, wanted, 0.1)
    assert np.linalg.norm(basis @ weights - wanted) == pytest.approx(0.1, abs=1e-9)

    # It is a minimum of a convex problem if and only if (Karush, Kuhn, Tucker) every used column has the same, largest
    # correlation with the residual, of the sign of its weight.
    correlation = basis.T @ (wanted - basis @ weights)
    used = np.abs(weights) > 1e-9
    assert 2 <= used.sum() <= 6
    np.testing.assert_allclose(
        correlation[used], np.sign(weights[used]) * np.abs(correlation).max(), atol=1e-9
    )


def test_where_no_combination_comes_near_enough_the_nearest_is_taken_and_nothing_needs_nothing() -> None:
    basis = np.array([[1.0, 0.9], [0.0, 0.1]])[:, :1]
    np.testing.assert_allclose(sparsest_weights(basis, np.array([0.5, 1.0]), 0.1), [0.5])
    np.testing.assert_array_equal(sparsest_weights(basis, np.array([0.05, 0.0]), 0.1), [0.0])
