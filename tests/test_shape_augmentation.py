from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simgan.tasks import ShapeAugmentation, StandardAugmentation
from simgan.tasks.shape_augmentation import elastic_field

NOTHING = {"rotation_deg": 0.0, "shear": 0.0, "stretch": 0.0, "shift": 0.0, "elastic": 0.0}


@pytest.fixture(autouse=True)
def _no_photometric_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandardAugmentation, "disturb_levels", lambda _, images, generator: images)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(right: float, down: float, *, count: int = 200, side: int = 33) -> Tensor:
    """`count` images of one soft dot, at (right, down) px from the centre."""
    at = torch.arange(side) - (side - 1) / 2
    distance = (at[None, :] - right) ** 2 + (at[:, None] - down) ** 2
    return (2 * torch.exp(-distance / 8) - 1).expand(count, 1, side, side)


def centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Where the dots are, (right, down) px from the centre."""
    weights = (images[:, 0] + 1).double()
    at = torch.arange(images.shape[-1], dtype=torch.float64) - (images.shape[-1] - 1) / 2
    total = weights.sum((1, 2))
    return (weights.sum(1) @ at) / total, (weights.sum(2) @ at) / total


def moved(right: float, down: float, **strengths: float) -> tuple[Tensor, Tensor]:
    return centres(ShapeAugmentation(**{**NOTHING, **strengths})(blob(right, down), generator=seeded()))


def test_without_strengths_nothing_changes() -> None:
    images = torch.rand(5, 3, 9, 7, generator=seeded()) * 2 - 1
    out = ShapeAugmentation(**NOTHING)(images, generator=seeded())
    torch.testing.assert_close(out, images, atol=1e-5, rtol=0)


def test_rotation_keeps_the_distance_from_the_centre_and_reaches_its_bound_both_ways() -> None:
    right, down = moved(8, 0, rotation_deg=20.0)
    assert (right.square() + down.square()).sqrt().sub(8).abs().max() < 0.1
    angles = torch.rad2deg(torch.atan2(down, right))
    assert 18 < angles.max() < 20.5
    assert -20.5 < angles.min() < -18


def test_shear_moves_rows_by_their_distance_from_the_middle() -> None:
    right, down = moved(0, 8, shear=0.25)
    assert (down - 8).abs().max() < 0.1
    assert 1.8 < right.max() < 2.1
    assert -2.1 < right.min() < -1.8


def test_width_and_height_are_stretched_each_by_its_own_factor() -> None:
    right, down = moved(8, 8, stretch=0.2)
    for places in (right, down):
        assert 9.3 < places.max() < 9.7
        assert 6.3 < places.min() < 6.7
    assert (right - down).abs().max() > 1


def test_shifts_are_shares_of_the_side() -> None:
    right, down = moved(0, 0, shift=0.1)
    for places in (right, down):
        assert 2.9 < places.max() <= 3.35
        assert -3.35 <= places.min() < -2.9


@pytest.mark.parametrize("size", [(8, 8), (35, 55)])
def test_the_elastic_field_is_the_bicubic_interpolation_of_its_control_points(size: tuple[int, int]) -> None:
    points = torch.randn(4, 2, 3, 3, generator=seeded())
    wanted = torch.nn.functional.interpolate(points, size=size, mode="bicubic", align_corners=True)
    torch.testing.assert_close(elastic_field(points, size), wanted, atol=1e-6, rtol=0)


def test_elastic_displacements_have_the_stated_deviation_and_are_smooth() -> None:
    """At a control point, the centre, the field is the drawn number itself."""
    right, down = moved(0, 0, elastic=0.04)
    for places in (right, down):
        assert float(places.std()) == pytest.approx(0.04 * 33, rel=0.25)
        assert abs(float(places.mean())) < 4 * 0.04 * 33 / math.sqrt(200)


def test_all_randomness_comes_from_the_generator() -> None:
    images, augmentation = blob(3, 2, count=4), ShapeAugmentation()
    torch.manual_seed(1)
    first = augmentation(images, generator=seeded())
    torch.manual_seed(2)
    assert torch.equal(augmentation(images, generator=seeded()), first)
    assert not torch.equal(augmentation(images, generator=seeded(1)), first)
