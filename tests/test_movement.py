"""The movement term of R's loss: warps in pixels, blind to what does not move, with a slope that leads back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from simgan.nn.movement import blurred, movement_px
from simgan.studies.known_warps import CHANGES
from simgan.training.algorithm import update_refiner
from textures import noisy, shift, texture, turn
from tiny_runs import tiny_players


def _tensor(images: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def _movement(synthetic: Any, refined: Any) -> torch.Tensor:
    return movement_px(refined=_tensor(refined), synthetic=_tensor(synthetic))


@pytest.mark.parametrize("size", [(16, 16), (35, 55), (90, 120)], ids=str)
@pytest.mark.parametrize("px", [0.25, 0.5, 1.0])
def test_a_shift_is_its_length_in_pixels_within_a_sixth(size: tuple[int, int], px: float) -> None:
    found = _movement(texture(8, *size), texture(8, *size, shift(px)))
    assert found.mean().item() == pytest.approx(px, rel=1 / 6)


def test_structure_that_moves_differently_here_and_there_moves_as_far_as_each_of_its_parts() -> None:
    found = _movement(noisy(texture(8, 64, 64)), noisy(texture(8, 64, 64, turn(0.5, 64, 64)), seed=2))
    assert found.mean().item() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_photometric_change_alone_is_hardly_movement(change: Any) -> None:
    images = noisy(texture(8, 35, 55))
    assert _movement(images, change(images)).mean() < 0.1


def test_nothing_moves_where_nothing_changes_and_a_flat_image_has_no_movement() -> None:
    images = texture(3, 35, 55)
    assert _movement(images, images).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    flat = np.full((2, 35, 55, 1), 0.3, np.float32)
    assert _movement(flat, flat).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert torch.isfinite(_movement(flat, texture(2, 35, 55))).all()


def test_inverted_contrast_is_no_movement_and_colours_are_averaged() -> None:
    images, moved = texture(4, 35, 55), texture(4, 35, 55, shift(0.5))
    assert _movement(images, -images).max() < 1e-3
    assert _movement(images, -moved).mean().item() == pytest.approx(0.5, abs=0.08)
    three = np.concatenate([0.5 * moved, 1.5 * moved, moved], axis=3)
    expected = _movement(images, moved)
    torch.testing.assert_close(_movement(np.repeat(images, 3, axis=3), three), expected, rtol=1e-3, atol=1e-4)


def test_the_gradient_is_that_of_finite_differences_and_leads_back() -> None:
    synthetic, moved = _tensor(texture(1, 16, 18)), _tensor(texture(1, 16, 18, shift(1.0)))
    refined = moved.clone().requires_grad_()
    value = movement_px(refined=refined, synthetic=synthetic).sum()
    value.backward()  # type: ignore[no-untyped-call]
    assert refined.grad is not None
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=moved.shape).astype(np.float32))
    ends = [movement_px(refined=moved + h * direction, synthetic=synthetic).item() for h in (-0.01, 0.01)]
    assert (refined.grad * direction).sum().item() == pytest.approx((ends[1] - ends[0]) / 0.02, rel=0.02)
    with torch.no_grad():
        for _ in range(60):
            step = torch.func.grad(lambda x: movement_px(refined=x, synthetic=synthetic).sum())(refined)
            refined -= 0.5 * step
    assert movement_px(refined=refined, synthetic=synthetic).item() < 0.3 * value.item()


def test_the_gradient_where_nothing_moves_is_finite() -> None:
    images = _tensor(texture(2, 35, 55))
    refined = images.clone().requires_grad_()
    movement_px(refined=refined, synthetic=images).sum().backward()  # type: ignore[no-untyped-call]
    assert refined.grad is not None
    assert torch.isfinite(refined.grad).all()


def test_an_image_moves_as_far_whatever_stands_beside_it_in_the_batch() -> None:
    images, moved = texture(4, 35, 55), texture(4, 35, 55, turn(0.7, 35, 55))
    together = _movement(images, moved)
    for i in range(4):
        torch.testing.assert_close(_movement(images[i : i + 1], moved[i : i + 1])[0], together[i])


def test_derivatives_of_a_ramp_and_of_a_parabola_are_their_slope_and_curvature() -> None:
    y, x = np.mgrid[:31, :41].astype(np.float32)
    ramp = torch.from_numpy(2 * y + 3 * x)[None]
    parabola = torch.from_numpy(0.5 * 4 * y**2)[None]
    inner = (0, slice(8, -8), slice(8, -8))
    torch.testing.assert_close(blurred(ramp)[inner], ramp[inner], rtol=1e-5, atol=1e-3)
    assert blurred(ramp, down=1)[inner].numpy() == pytest.approx(2, abs=1e-3)
    assert blurred(ramp, right=1)[inner].numpy() == pytest.approx(3, abs=1e-3)
    assert blurred(parabola, down=2)[inner].numpy() == pytest.approx(4, abs=0.02)


@pytest.mark.parametrize("patches", ["mean", "sum"])
def test_movement_has_its_weight_in_the_refiners_loss_beside_patches_averaged_or_summed(patches: Any) -> None:
    synthetic = _tensor(texture(4, 16, 16))
    losses = {}
    for weight in (0.0, 0.5):
        players = tiny_players(patches=patches)
        players.objective = replace(players.objective, movement_weight=weight)
        refined = players.refine(synthetic).detach()
        losses[weight] = update_refiner(players, synthetic)["refiner_loss"].item()
    movement = movement_px(refined=refined, synthetic=synthetic).mean().item()
    count = math.prod(players.discriminator.patch_grid(16, 16)) if patches == "sum" else 1
    assert movement > 0.01
    assert losses[0.5] - losses[0.0] == pytest.approx(0.5 * count * movement, rel=1e-3)


def test_a_weight_on_movement_leads_the_refiner_back_to_where_structure_was() -> None:
    synthetic = _tensor(texture(8, 16, 16))
    players = tiny_players(learning_rate=0.01, weight=0.0)
    players.objective = replace(players.objective, movement_weight=1.0)
    before = movement_px(refined=players.refine(synthetic), synthetic=synthetic).mean().item()
    for _ in range(50):
        update_refiner(players, synthetic)
    assert movement_px(refined=players.refine(synthetic), synthetic=synthetic).mean().item() < 0.5 * before
