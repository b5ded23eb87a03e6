from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shapes
from simgan.images import ValueRange
from simgan.nn.quantization import Quantization

GRIDS = [
    ValueRange(0, 255),
    ValueRange(0, 65535),
    ValueRange(0, 240, 15),
    ValueRange(500, 4595),
    ValueRange(3, 4),
]


def grid_of(value_range: ValueRange) -> Quantization:
    return Quantization(value_range.levels)


@pytest.mark.parametrize("value_range", GRIDS, ids=str)
def test_codes_are_the_places_of_the_files_levels_and_values_their_encodings(value_range: ValueRange) -> None:
    quantization = grid_of(value_range)
    native = np.arange(value_range.low, value_range.high + 1, value_range.step)
    encoded = torch.from_numpy(value_range.encode(native))
    codes = quantization.codes(encoded)
    assert torch.equal(codes.long(), torch.arange(value_range.levels))
    torch.testing.assert_close(quantization.values(codes), encoded, atol=3e-7, rtol=0)
    assert torch.equal(quantization.codes(quantization.values(codes)), codes)
    decoded = value_range.decode(quantization.values(codes).numpy(), np.uint16)
    np.testing.assert_array_equal(decoded, native)


@pytest.mark.parametrize("value_range", GRIDS, ids=str)
def test_real_current_and_history_images_reach_the_discriminator_on_one_grid(value_range: ValueRange) -> None:
    """Bit for bit: otherwise the last bit would tell refined from real."""
    quantization = grid_of(value_range)
    torch.manual_seed(0)
    native = (
        np.random.default_rng(0).integers(0, value_range.levels, 5000) * value_range.step + value_range.low
    )
    real = quantization.quantize(torch.from_numpy(value_range.encode(native)))
    refined = torch.randn(5000) * 0.6
    current = quantization.quantize(refined)
    past = quantization.quantize(quantization.values(quantization.codes(refined)))
    grid = quantization.values(torch.arange(value_range.levels))
    for images in (real, current, past):
        assert torch.isin(images, grid).all()
    assert torch.equal(current, past)


def test_the_codes_take_the_smallest_type() -> None:
    assert Quantization(17).code_dtype == torch.uint8
    assert Quantization(256).code_dtype == torch.uint8
    assert Quantization(257).code_dtype == torch.int32
    assert shapes.codes(Quantization(256), torch.zeros(2, 1, 3, 4)).dtype == torch.uint8
    assert shapes.codes(Quantization(65536), torch.ones(2, 1, 3, 4)).unique().tolist() == [65535]


def test_values_are_rounded_to_the_nearest_level_by_hand() -> None:
    quantization = Quantization(5)  # −1, −0.5, 0, 0.5, 1
    images = torch.tensor([-3.0, -0.8, -0.7, 0.1, 0.3, 0.74, 0.76, 1.5])
    assert quantization.quantize(images).tolist() == [-1, -1, -0.5, 0, 0.5, 0.5, 1, 1]
    assert quantization.codes(images).tolist() == [0, 0, 1, 2, 3, 3, 4, 4]


@settings(deadline=None, max_examples=60)
@given(
    levels=st.integers(2, 65536),
    values=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20),
)
def test_quantizing_moves_at_most_half_a_level_and_twice_is_once(levels: int, values: list[float]) -> None:
    quantization, images = Quantization(levels), torch.tensor(values)
    once = quantization.quantize(images)
    assert torch.equal(quantization.codes(once), quantization.codes(images))
    assert torch.allclose(quantization.quantize(once), once, rtol=0, atol=1.2e-7)  # the last bit
    assert float((once - images.clamp(-1, 1)).abs().max()) <= 1 / (levels - 1) + 1e-6
    assert once.dtype == torch.float32


def test_the_gradient_passes_the_rounding_but_not_the_clamp() -> None:
    images = torch.tensor([-1.2, -0.99, 0.123, 0.99, 1.2], requires_grad=True)
    (Quantization(17).quantize(images) * torch.tensor([1.0, 2, 3, 4, 5])).sum().backward()
    assert images.grad.tolist() == [0, 2, 3, 4, 0]


def test_half_precision_images_are_quantized_in_single_precision() -> None:
    images = torch.linspace(-1, 1, 999).to(torch.bfloat16)
    quantized = Quantization(256).quantize(images)
    assert quantized.dtype == torch.float32
    assert torch.equal(quantized, Quantization(256).quantize(images.float()))


def test_quantizing_keeps_the_shape() -> None:
    assert shapes.quantize(Quantization(17), torch.rand(2, 3, 4, 5)).shape == (2, 3, 4, 5)


def test_what_is_not_a_number_stays_not_a_number() -> None:
    """So that a diverged refiner is seen in the losses, and not hidden by the grid."""
    assert Quantization(256).quantize(torch.tensor([float("nan")])).isnan().all()
