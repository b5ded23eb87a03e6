from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.tiling import apply_tiled


def refiner_of(kernel: int = 3, first_kernel: int = 3, blocks: int = 1) -> Refiner:
    torch.manual_seed(0)
    return Refiner(RefinerSpec(1, 3, blocks, kernel, first_kernel)).requires_grad_(False)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 24),
    kernels=st.sampled_from([(3, 3), (5, 3), (3, 7), (1, 1)]),
)
def test_tiles_give_the_whole_for_every_size_of_image_and_tile(
    height: int, width: int, tile: int, kernels: tuple[int, int]
) -> None:
    refiner = refiner_of(*kernels)
    images = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1
    tiled = apply_tiled(refiner, images, receptive_field=refiner.receptive_field, tile=tile)
    torch.testing.assert_close(tiled, refiner(images), atol=1e-5, rtol=0)


def test_a_margin_one_pixel_too_small_is_seen() -> None:
    """So that the test above means something."""
    refiner = refiner_of(blocks=2)
    images = torch.rand(1, 1, 30, 30)
    tiled = apply_tiled(refiner, images, receptive_field=refiner.receptive_field - 2, tile=8)
    assert (tiled - refiner(images)).abs().max() > 1e-5


def test_no_pass_is_larger_than_a_tile_with_its_margins() -> None:
    refiner = refiner_of()
    sizes: list[tuple[int, int]] = []

    def counted(part: Tensor) -> Tensor:
        sizes.append((part.shape[2], part.shape[3]))
        return refiner(part)

    apply_tiled(counted, torch.rand(1, 1, 50, 33), receptive_field=refiner.receptive_field, tile=16)
    margin = refiner.receptive_field // 2
    assert len(sizes) == 4 * 3
    assert max(max(size) for size in sizes) == 16 + 2 * margin


@pytest.mark.parametrize("size", [(16, 16), (3, 16)])
def test_an_image_that_fits_into_a_tile_is_computed_at_once(size: tuple[int, int]) -> None:
    calls: list[Tensor] = []
    images = torch.rand(2, 1, *size)
    result = apply_tiled(lambda x: calls.append(x) or x, images, receptive_field=7, tile=16)  # type: ignore[func-returns-value]
    assert calls[0] is images
    assert result is images
