from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.errors import ConfigurationError
from simgan.nn.derivation import SMALLEST_FIELD, SMALLEST_SIDE, derive_blocks, derive_layers
from simgan.nn.discriminator import (
    Discriminator,
    DiscriminatorSpec,
    discriminator_receptive_field,
    patch_grid,
)
from simgan.nn.refiner import Refiner, RefinerSpec, refiner_receptive_field


def derived(height: int, width: int) -> DiscriminatorSpec:
    return DiscriminatorSpec(1, derive_layers(height=height, width=width, maps=2))


@settings(deadline=None, max_examples=80)
@given(st.integers(SMALLEST_SIDE, 600), st.integers(SMALLEST_SIDE, 600))
def test_a_derived_discriminator_is_local_for_every_image_size(height: int, width: int) -> None:
    spec = derived(height, width)
    field = discriminator_receptive_field(spec)
    assert field < min(height, width)
    assert field <= max(SMALLEST_FIELD, min(height, width) // 2)
    assert min(patch_grid(spec, height, width)) >= 4


def test_a_larger_image_never_gets_a_smaller_field() -> None:
    fields = [discriminator_receptive_field(derived(side, side)) for side in range(SMALLEST_SIDE, 300)]
    assert fields == sorted(fields)
    assert set(fields) == {7, 11, 15, 23, 49}
    assert fields.index(49) + SMALLEST_SIDE == 98


@settings(deadline=None, max_examples=80)
@given(st.integers(SMALLEST_SIDE, 600), st.sampled_from([3, 5, 7]), st.sampled_from([3, 5, 7]))
def test_a_derived_refiner_reaches_the_field_of_the_discriminator(
    side: int, kernel: int, first_kernel: int
) -> None:
    """With the kernels that it has, and with no block more than it takes."""
    field = discriminator_receptive_field(derived(side, side))
    blocks = derive_blocks(field=field, kernel=kernel, first_kernel=first_kernel)

    def reached(blocks: int) -> int:
        return refiner_receptive_field(RefinerSpec(1, 4, blocks, kernel, first_kernel))

    assert reached(blocks) >= field
    assert blocks == 2 or reached(blocks - 1) < field


def test_derived_blocks_by_hand() -> None:
    # 3 + 4·blocks pixels with 3×3 alone, 7 + 12·blocks with 7×7 alone, 7 + 4·blocks with 7×7 first
    assert derive_blocks(field=7, kernel=3, first_kernel=3) == 2
    assert derive_blocks(field=23, kernel=3, first_kernel=3) == 5
    assert derive_blocks(field=49, kernel=3, first_kernel=3) == 12
    assert derive_blocks(field=49, kernel=7, first_kernel=7) == 4
    assert derive_blocks(field=23, kernel=3, first_kernel=7) == 4
    assert derive_blocks(field=1000, kernel=3, first_kernel=3) == 12


def test_derived_networks_have_the_widths_asked_for_and_run() -> None:
    layers = derive_layers(height=16, width=20, maps=6)
    assert {layer.width for layer in layers} == {6}
    blocks = derive_blocks(field=5, kernel=3, first_kernel=3)
    images = torch.rand(2, 3, 16, 20)
    refiner = Refiner(RefinerSpec(3, 7, blocks, output="residual"))
    assert torch.equal(refiner(images), images)  # residual: the identity at the start
    spec = DiscriminatorSpec(3, layers)
    assert Discriminator(spec)(images).shape[2:] == patch_grid(spec, 16, 20)


@pytest.mark.parametrize(("height", "width"), [(SMALLEST_SIDE - 1, 100), (100, SMALLEST_SIDE - 1)])
def test_images_too_small_for_any_patch_are_refused_with_the_way_out(height: int, width: int) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{height}×{width}.*at least {SMALLEST_SIDE}.*prepare --size"
    ):
        derive_layers(height=height, width=width)
