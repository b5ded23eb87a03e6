from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.errors import ConfigurationError
from simgan.nn.derivation import SMALLEST_FIELD, SMALLEST_SIDE, derive_discriminator, derive_refiner
from simgan.nn.discriminator import Discriminator, discriminator_receptive_field, patch_grid
from simgan.nn.refiner import Refiner, refiner_receptive_field


@settings(deadline=None, max_examples=80)
@given(st.integers(SMALLEST_SIDE, 600), st.integers(SMALLEST_SIDE, 600), st.sampled_from([1, 3]))
def test_a_derived_discriminator_is_local_for_every_image_size(
    height: int, width: int, channels: int
) -> None:
    spec = derive_discriminator(channels=channels, height=height, width=width)
    assert spec.channels == channels
    assert spec.scope == "local"
    field = discriminator_receptive_field(spec)
    assert field < min(height, width)
    assert field <= max(SMALLEST_FIELD, min(height, width) // 2)
    assert min(patch_grid(spec, height, width)) >= 4


def test_a_larger_image_never_gets_a_smaller_field() -> None:
    fields = [
        discriminator_receptive_field(derive_discriminator(channels=1, height=side, width=side))
        for side in range(SMALLEST_SIDE, 300)
    ]
    assert fields == sorted(fields)
    assert len(set(fields)) > 3


@settings(deadline=None, max_examples=60)
@given(st.integers(SMALLEST_SIDE, 600))
def test_a_derived_refiner_reaches_the_field_of_the_discriminator(side: int) -> None:
    """As near as whole blocks and their largest number allow: a block adds 4 pixels."""
    field = discriminator_receptive_field(derive_discriminator(channels=1, height=side, width=side))
    spec = derive_refiner(channels=1, field=field, width=4)
    reached = refiner_receptive_field(spec)
    assert reached >= field or spec.blocks == 8
    fewest = derive_refiner(channels=1, field=1).blocks
    assert spec.blocks == fewest or reached - 4 < field


def test_derived_networks_have_the_widths_asked_for_and_run() -> None:
    discriminator = derive_discriminator(channels=3, height=16, width=20, width_maps=6)
    assert {layer.width for layer in discriminator.layers} == {6}
    refiner = derive_refiner(channels=3, field=5, width=7)
    assert refiner.width == 7
    images = torch.rand(2, 3, 16, 20)
    assert torch.equal(Refiner(refiner)(images), images)  # residual: the identity at the start
    assert Discriminator(discriminator)(images).shape[2:] == patch_grid(discriminator, 16, 20)


@pytest.mark.parametrize(("height", "width"), [(SMALLEST_SIDE - 1, 100), (100, SMALLEST_SIDE - 1)])
def test_images_too_small_for_any_patch_are_refused_with_the_way_out(height: int, width: int) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{height}×{width}.*at least {SMALLEST_SIDE}.*prepare --size"
    ):
        derive_discriminator(channels=1, height=height, width=width)
