from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shapes
from published import GAZE_REFINER, HANDS_REFINER, HANDS_REFINER_FIRST_7X7
from simgan.nn.refiner import Refiner, RefinerSpec, ResidualBlock


def parameter_count(spec: RefinerSpec) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Refiner(spec).parameters())


def test_the_published_refiners_have_the_published_parameter_counts() -> None:
    # gaze: 3·3·1·64 + 64, then 8 convolutions of 3·3·64·64 + 64, then 64 + 1
    assert 640 + 8 * 36_928 + 65 == 296_129
    assert parameter_count(GAZE_REFINER) == 296_129
    assert parameter_count(HANDS_REFINER) == 4_018_625
    assert parameter_count(HANDS_REFINER_FIRST_7X7) == 741_825


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    channels=st.sampled_from([1, 3]),
    kernels=st.sampled_from([(3, 3), (5, 3), (3, 7), (1, 5)]),
    output=st.sampled_from(["image", "residual"]),
)
def test_refined_images_have_the_size_of_synthetic_ones_whatever_it_is(
    height: int, width: int, channels: int, kernels: tuple[int, int], output: str
) -> None:
    refiner = Refiner(RefinerSpec(channels, 4, 1, *kernels, output=output))  # type: ignore[arg-type]
    images = torch.zeros(2, channels, height, width)
    assert shapes.refine(refiner, images).shape == images.shape


def test_a_block_is_conv_relu_conv_plus_input_relu() -> None:
    block = ResidualBlock(1, 3)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    block.first.weight.data[0, 0, 1, 1] = 2
    block.first.bias.data[0] = -1
    block.second.weight.data[0, 0, 1, 1] = -3
    x = torch.tensor([-1.0, 0.25, 1.0, 2.0])
    # relu(2x − 1) = 0, 0, 1, 3; times −3 plus x = −1, 0.25, −2, −7; relu
    assert block(x.view(1, 1, 1, 4)).flatten().tolist() == [0, 0.25, 0, 0]
    block.second.weight.data[0, 0, 1, 1] = 3
    assert block(x.view(1, 1, 1, 4)).flatten().tolist() == [0, 0.25, 4, 11]


def test_a_residual_refiner_starts_at_the_identity_and_an_image_refiner_does_not() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(Refiner(RefinerSpec(3, 4, 2, output="residual"))(images), images)
    assert not torch.allclose(Refiner(RefinerSpec(3, 4, 2))(images), images, atol=0.1)


def test_the_output_is_linear_beyond_the_range_of_images() -> None:
    refiner = Refiner(RefinerSpec(1, 4, 1))
    refiner.tail.bias.data.fill_(5)
    assert refiner(torch.zeros(1, 1, 8, 8)).min() > 1
    refiner.tail.bias.data.fill_(-5)
    assert refiner(torch.zeros(1, 1, 8, 8)).max() < -1


def test_a_shifted_image_is_refined_to_the_shifted_result() -> None:
    """Neither stride nor pooling: every pixel is treated like its neighbour."""
    torch.manual_seed(0)
    refiner = Refiner(RefinerSpec(1, 4, 2))
    margin = refiner.receptive_field // 2
    images = torch.rand(1, 1, 24, 24)
    refined, shifted = refiner(images), refiner(images.roll(1, dims=3))
    inner = slice(margin + 1, 24 - margin)
    torch.testing.assert_close(
        shifted[..., inner, inner], refined.roll(1, dims=3)[..., inner, inner], atol=1e-6, rtol=0
    )


def test_every_weight_gets_a_gradient_at_the_start() -> None:
    torch.manual_seed(0)
    refiner = Refiner(RefinerSpec(1, 8, 2))
    refiner(torch.rand(4, 1, 8, 8)).square().sum().backward()
    for name, parameter in refiner.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_every_weight_of_a_residual_refiner_gets_a_gradient_after_one_step() -> None:
    """At the start f = 0, so that only its last convolution can move; from then on all do."""
    torch.manual_seed(0)
    refiner = Refiner(RefinerSpec(1, 8, 1, output="residual"))
    optimizer = torch.optim.SGD(refiner.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (refiner(torch.rand(4, 1, 8, 8)) - 1).square().mean().backward()
        optimizer.step()
    for name, parameter in refiner.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_another_shape_than_documented_are_refused_by_the_shape_check(channels: int) -> None:
    refiner = Refiner(RefinerSpec(channels, 4, 1))
    with pytest.raises(Exception, match=r"(?s)type|shape"):
        shapes.refine(refiner, torch.zeros(channels, 8, 8))
