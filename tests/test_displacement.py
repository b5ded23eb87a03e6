"""Displacement: warps are found, photometric changes are not, and what cannot be told is not told."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from simgan.measures import displacement_at, flow_drift_px, measure_displacement, move_mask, optical_flow
from simgan.simulators.eyes import simulate_eyes
from simgan.studies.known_warps import CHANGES, photographs
from textures import Images, noisy, shift, texture, turn, warped

SIZES = [(35, 55), (64, 64), (90, 120)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("px", [0.5, 1.0, 2.0])
def test_shifts_of_noisy_textured_images_are_found_to_a_tenth_of_a_pixel(
    size: tuple[int, int], px: float
) -> None:
    found = measure_displacement(noisy(texture(8, *size)), noisy(texture(8, *size, shift(px)), seed=2))
    assert found.drift_px == pytest.approx(np.full(8, px), abs=0.1)
    wanted = (px * np.sin(0.6), px * np.cos(0.6))
    assert found.shift_px == pytest.approx(np.tile(wanted, (8, 1)), abs=0.1)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("px", [0.5, 1.0, 2.0])
def test_smooth_warps_of_noisy_textured_images_are_found_to_a_tenth_of_a_pixel(
    size: tuple[int, int], px: float
) -> None:
    field = turn(px, *size)
    found = measure_displacement(noisy(texture(8, *size)), noisy(texture(8, *size, field), seed=2))
    assert found.drift_px.mean() == pytest.approx(px, abs=0.1)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_photometric_change_alone_is_no_drift(change: Any) -> None:
    images = noisy(texture(8, 35, 55))
    found = measure_displacement(images, change(images))
    assert found.drift_px.max() < 0.1
    assert found.share_found.min() > 0.9


def test_inverted_contrast_is_no_drift_and_a_shift_under_it_is_found() -> None:
    images, moved = texture(8, 35, 55), texture(8, 35, 55, shift(1.0))
    assert measure_displacement(images, -images).drift_px.max() < 0.01
    assert measure_displacement(images, -0.5 * moved + 0.2).drift_px == pytest.approx(np.ones(8), abs=0.1)


def test_the_interval_of_a_warp_holds_it() -> None:
    field = turn(1.0, 90, 120)
    found = measure_displacement(noisy(texture(12, 90, 120)), noisy(texture(12, 90, 120, field), seed=2))
    low, high = found.interval_px.T
    assert ((low <= 1) & (high >= 1)).mean() >= 0.9
    assert (low < found.drift_px).all()
    assert (found.drift_px < high).all()
    assert (high - low).max() < 0.5


def test_an_image_without_structure_has_no_drift_that_could_be_told() -> None:
    flat = np.zeros((2, 35, 55, 1), np.float32)
    found = measure_displacement(flat, noisy(flat))
    assert np.isnan(found.drift_px).all()
    assert np.isnan(found.share_found).all()
    assert np.isnan(found.interval_px).all()
    assert np.isnan(found.shift_px).all()
    assert not found.lost.any()


def test_structure_that_is_replaced_is_lost_and_not_called_still() -> None:
    found = measure_displacement(texture(6, 64, 64), texture(6, 64, 64, seed=9))
    assert found.lost.all()
    assert np.isnan(found.drift_px).all()


def test_an_edge_is_measured_across_it_with_the_help_of_corners_elsewhere() -> None:
    def square(left: float) -> Images:
        y, x = np.mgrid[:64, :64].astype(float)
        inside = [1 / (1 + np.exp(-1.2 * d)) for d in (y - 14, 50 - y, x - left, left + 36 - x)]
        return (1.6 * np.prod(inside, axis=0) - 0.8)[None, :, :, None].astype(np.float32)

    found = measure_displacement(square(14.0), square(15.0))
    assert found.shift_px[0] == pytest.approx([0, 1], abs=0.2)
    stripe = np.broadcast_to(square(14.0)[:, 32:33], (1, 64, 64, 1)).copy()
    assert np.isnan(measure_displacement(stripe, stripe).drift_px).all(), "nothing is known along a stripe"


def test_colour_images_and_sizes_down_to_16_pixels_are_measured_smaller_ones_refused() -> None:
    colour = np.repeat(texture(4, 16, 16), 3, axis=3)
    assert np.nanmax(measure_displacement(colour, 0.5 * colour).drift_px) < 0.1
    with pytest.raises(ValueError, match=r"15×16 images are too small to follow: at least 16"):
        measure_displacement(colour[:, :15], colour[:, :15])


def test_windows_around_given_places_say_where_those_went() -> None:
    field = turn(2.0, 90, 120)
    points = np.random.default_rng(0).uniform((15, 15), (75, 105), (4, 20, 2))
    found = displacement_at(texture(4, 90, 120), noisy(texture(4, 90, 120, field)), points)
    down, right = field(points[..., 0], points[..., 1])
    error = np.linalg.norm(found.vectors_px - np.stack([down, right], axis=2), axis=2)
    assert found.located.mean() > 0.95
    assert np.median(error[found.located]) < 0.1


def test_places_outside_of_the_image_are_not_measured_and_those_at_the_border_are() -> None:
    images = texture(1, 40, 60)
    points = np.array([[[0.0, 0.0], [39.4, 59.4], [-3.0, 5.0], [5.0, 61.0], [np.nan, 3.0]]])
    found = displacement_at(images, images, points)
    assert found.located[0].tolist() == [True, True, False, False, False]
    assert found.textured[0].tolist() == [True, True, False, False, False]


# -- the second estimator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("px", [0.5, 1.0, 2.0])
def test_optical_flow_finds_the_same_warps_in_another_way(px: float) -> None:
    field = turn(px, 64, 64)
    drift = flow_drift_px(noisy(texture(8, 64, 64)), noisy(texture(8, 64, 64, field), seed=2))
    assert drift.mean() == pytest.approx(px, abs=0.1)


def test_optical_flow_points_down_and_right_where_the_image_goes() -> None:
    flow = optical_flow(texture(1, 64, 64)[0], texture(1, 64, 64, lambda y, x: (1 + 0 * y, 2 + 0 * x))[0])
    assert np.median(flow[8:-8, 8:-8], axis=(0, 1)) == pytest.approx([1, 2], abs=0.1)


def test_gain_offset_and_light_are_no_flow_and_a_flat_image_has_none_that_could_be_told() -> None:
    images = texture(4, 64, 64)
    for name in ("gain", "offset", "light from one side"):
        assert flow_drift_px(images, CHANGES[name](images)).max() < 0.1, name
    assert np.isnan(flow_drift_px(np.zeros((1, 32, 32, 1)), np.zeros((1, 32, 32, 1)))).all()


def test_what_changes_but_does_not_move_is_taken_off_the_flow() -> None:
    images = np.moveaxis(simulate_eyes(20, seed=3).images.numpy().astype(np.float32), 1, 3) / 127.5 - 1
    first = noisy(images)
    still = CHANGES["all of these"](first)
    moved = CHANGES["all of these"](noisy(warped(images, turn(1.0, 35, 55))))
    as_it_is = [
        np.hypot(*np.moveaxis(optical_flow(a, b), 2, 0)).mean() for a, b in zip(first, still, strict=True)
    ]
    assert np.mean(as_it_is) > 0.15
    assert flow_drift_px(first, still).mean() < 0.1
    assert flow_drift_px(first, moved).mean() == pytest.approx(1.0, abs=0.1)


def test_large_images_are_not_enlarged_for_the_flow() -> None:
    field = shift(1.0)
    assert flow_drift_px(texture(1, 210, 220), texture(1, 210, 220, field)) == pytest.approx([1], abs=0.1)


def test_a_mask_moves_along_the_flow() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[5:10, 5:10] = 3
    flow = np.broadcast_to([2.0, -1.0], (20, 20, 2))
    moved = move_mask(mask, flow)
    assert (moved[7:12, 4:9] == 3).all()
    assert np.count_nonzero(moved) == 25
    assert moved.dtype == np.uint8


# -- real images ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["mpiigaze-p00/*.png", "eyes/synthetic/images/*", "signs/real/*/*"])
def real(request: pytest.FixtureRequest) -> Images:
    if not os.environ.get("SIMGAN_DATA"):
        pytest.skip("the environment variable SIMGAN_DATA names no folder of real images")
    return photographs(request.param, 24)


@pytest.mark.parametrize("px", [0.5, 1.0, 2.0])
def test_warps_of_real_images_are_found_to_a_tenth_of_a_pixel(real: Images, px: float) -> None:
    for field in (shift(px), turn(px, *real.shape[1:3])):
        found = measure_displacement(noisy(real), noisy(warped(real, field), seed=2))
        assert np.nanmean(found.drift_px) == pytest.approx(px, abs=0.1)
        assert np.isfinite(found.drift_px).mean() > 0.9


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_photometric_change_of_real_images_is_no_drift(real: Images, change: Any) -> None:
    assert np.nanmean(measure_displacement(real, change(real)).drift_px) < 0.1
