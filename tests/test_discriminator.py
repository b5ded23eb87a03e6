from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

import shapes
from published import GAZE_DISCRIMINATOR, HANDS_DISCRIMINATOR
from simgan.nn.discriminator import Discriminator, DiscriminatorLayer, DiscriminatorSpec, SamePadMaxPool

Layer = DiscriminatorLayer
SMALL = (Layer(8, 3, 2), Layer(8, 3), Layer(4, 1))


def test_the_published_discriminators_have_the_published_parameter_counts_and_grids() -> None:
    gaze, hands = Discriminator(GAZE_DISCRIMINATOR), Discriminator(HANDS_DISCRIMINATOR)
    assert sum(p.numel() for p in gaze.parameters()) == 75_906
    assert sum(p.numel() for p in hands.parameters()) == 178_050
    assert gaze.patch_grid(35, 55) == (9, 14)
    assert hands.patch_grid(224, 224) == (7, 7)
    with torch.no_grad():
        assert shapes.judge(gaze, torch.zeros(2, 1, 35, 55)).shape == (2, 1, 9, 14)
        assert shapes.judge(hands, torch.zeros(1, 1, 224, 224)).shape == (1, 1, 7, 7)


@pytest.mark.parametrize("output_maps", [1, 2])
def test_a_probe_pixel_changes_the_one_patch_that_it_lies_in(output_maps: Literal[1, 2]) -> None:
    """Patches of 3×3 that do not overlap: patch (i, j) of image n is around pixel (3i, 3j), and nobody else's."""
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorSpec(1, (Layer(8, 3, 3), Layer(4, 1)), output_maps))
    black = torch.zeros(2, 1, 13, 10)
    with torch.no_grad():
        before = discriminator(black)
        assert before.shape == (2, 1, 5, 4)
        for n in range(2):
            for i in range(5):
                for j in range(4):
                    images = black.clone()
                    images[n, 0, 3 * i, 3 * j] = 5
                    changed = (discriminator(images) - before).abs() > 1e-6
                    assert changed.nonzero().tolist() == [[n, 0, i, j]]


def test_two_maps_are_exactly_the_published_softmax() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorSpec(1, SMALL, output_maps=2)).double()
    images = torch.randn(3, 1, 9, 11, dtype=torch.float64) * 3
    z = discriminator.judge(discriminator.features(images))
    assert z.shape[1] == 2
    refined = torch.softmax(z, dim=1)[:, 1:]
    torch.testing.assert_close(torch.sigmoid(discriminator(images)), refined, atol=1e-14, rtol=0)


@pytest.mark.parametrize("output_maps", [1, 2])
@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_logits_take_both_signs_and_gradient_flows_through_them(
    output_maps: Literal[1, 2], bias: float
) -> None:
    """A ReLU on the last maps would leave no negative ones and, where they are negative, no gradient."""
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorSpec(1, SMALL, output_maps))
    images = torch.rand(4, 1, 8, 8)
    last = discriminator.judge[-1]
    assert isinstance(last, nn.Conv2d)
    last.bias.data.fill_(bias)
    raw = discriminator.judge(discriminator.features(images))
    assert (raw > 0).all() if bias > 0 else (raw < 0).all()
    loss = nn.functional.softplus(-discriminator(images)).sum()
    loss.backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_fresh_logits_take_both_signs() -> None:
    signs = set()
    for seed in range(20):
        torch.manual_seed(seed)
        signs |= set(
            Discriminator(DiscriminatorSpec(1, SMALL))(torch.rand(2, 1, 8, 8)).sign().flatten().tolist()
        )
    assert signs == {-1.0, 1.0}


def test_the_discriminator_is_not_linear() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorSpec(1, SMALL)).double()
    a, b = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
    gap = discriminator(a + b) - discriminator(a) - discriminator(b) + discriminator(torch.zeros_like(a))
    assert gap.abs().max() > 1e-3


def test_every_weight_is_trainable() -> None:
    discriminator = Discriminator(GAZE_DISCRIMINATOR)
    assert [p.requires_grad for p in discriminator.parameters()] == [True] * 10


def test_a_global_discriminator_gives_one_judgement_from_all_positions() -> None:
    torch.manual_seed(0)
    spec = DiscriminatorSpec(1, SMALL, scope="global")
    discriminator = Discriminator(spec)
    images = torch.rand(3, 1, 9, 11)
    assert shapes.judge(discriminator, images).shape == (3, 1, 1, 1)
    assert discriminator.patch_grid(9, 11) == (1, 1)
    features = discriminator.features(images).mean(dim=(2, 3), keepdim=True)
    assert torch.equal(discriminator(images), discriminator.judge(features))
    images.requires_grad_()
    discriminator(images).sum().backward()
    # ReLUs may close single pixels; every region reaches the one logit
    assert images.grad.unfold(2, 3, 3).unfold(3, 3, 3).abs().sum(dim=(4, 5)).min() > 0


def test_the_pointwise_layers_judge_and_the_spatial_ones_see() -> None:
    discriminator = Discriminator(GAZE_DISCRIMINATOR)
    assert [m.kernel_size for m in discriminator.judge if isinstance(m, nn.Conv2d)] == [(1, 1), (1, 1)]
    assert not any(m.kernel_size == (1, 1) for m in discriminator.features if isinstance(m, nn.Conv2d))
    assert not isinstance(discriminator.judge[-1], nn.ReLU)


def test_spectral_normalization_bounds_every_layer_by_one() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorSpec(1, SMALL, spectral_normalization=True))
    for _ in range(50):
        discriminator(torch.rand(1, 1, 8, 8))
    for module in discriminator.modules():
        if isinstance(module, nn.Conv2d):
            norm = torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2)
            assert float(norm) == pytest.approx(1, abs=1e-3)
    plain = Discriminator(DiscriminatorSpec(1, SMALL))
    assert not any(nn.utils.parametrize.is_parametrized(m) for m in plain.modules())


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 2), (2, 1), (4, 3)])
@pytest.mark.parametrize("size", [1, 2, 5, 6, 7])
def test_max_pooling_covers_every_pixel_and_its_padding_never_wins(
    kernel: int, stride: int, size: int
) -> None:
    values = -1.0 - torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    pooled = SamePadMaxPool(kernel, stride)(values)
    assert pooled.shape[2:] == (-(-size // stride),) * 2
    assert set(pooled.flatten().tolist()) <= set(values.flatten().tolist())
    before = (kernel - 1) // 2
    for i in range(pooled.shape[2]):
        for j in range(pooled.shape[3]):
            top, left = i * stride - before, j * stride - before
            window = values[0, 0, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            assert pooled[0, 0, i, j] == window.max()
