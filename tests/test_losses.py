from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from published import GAZE_DISCRIMINATOR
from simgan.nn.discriminator import Discriminator
from simgan.nn.feature_transforms import FEATURE_TRANSFORMS, channel_mean
from simgan.nn.losses import (
    PatchReduction,
    discriminator_loss,
    paper_weight,
    refiner_adversarial_loss,
    refiner_loss,
    self_regularization,
)

LN2, LN3 = math.log(2), math.log(3)

# D = 1/2, 3/4 | 1/4, 3/4 on refined, 1/2, 1/4 | 1/4, 1/4 on real patches
REFINED = torch.tensor([[[[0, LN3], [-LN3, LN3]]]], dtype=torch.float64)
REAL = torch.tensor([[[[0, -LN3], [-LN3, -LN3]]]], dtype=torch.float64)


def test_equation_2_by_hand() -> None:
    # −log D: ln 2, ln 4/3, ln 4, ln 4/3; −log(1 − D): ln 2, then three times ln 4/3
    refined = LN2 + 2 * math.log(4 / 3) + math.log(4)
    real = LN2 + 3 * math.log(4 / 3)
    total = discriminator_loss(refined_logits=REFINED, real_logits=REAL, patches="sum")
    assert float(total) == pytest.approx(refined + real, abs=1e-12)
    mean = discriminator_loss(refined_logits=REFINED, real_logits=REAL, patches="mean")
    assert float(mean) == pytest.approx((refined + real) / 4, abs=1e-12)


def test_equation_3_by_hand() -> None:
    # −log(1 − D): ln 2, ln 4, ln 4/3, ln 4
    by_hand = LN2 + 2 * math.log(4) + math.log(4 / 3)
    assert float(refiner_adversarial_loss(REFINED, patches="sum")) == pytest.approx(by_hand, abs=1e-12)
    assert float(refiner_adversarial_loss(REFINED, patches="mean")) == pytest.approx(by_hand / 4, abs=1e-12)


def test_equation_4_by_hand() -> None:
    synthetic = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    refined = torch.tensor([[[[0.5, -0.5], [0.25, 0.0]]]], dtype=torch.float64)
    regularization = self_regularization(refined=refined, synthetic=synthetic)
    assert float(regularization) == 1.25 / 4
    adversarial = refiner_adversarial_loss(REFINED, patches="sum")
    loss = refiner_loss(
        adversarial=adversarial, regularization=regularization, weight=0.8, patch_count=4, patches="sum"
    )
    # as published: the sum over patches + λ times the sum over pixels; 2×2 pixels, 2×2 patches: λ is the same
    assert float(loss) == pytest.approx(float(adversarial) + 0.8 * 1.25, abs=1e-12)
    adversarial = refiner_adversarial_loss(REFINED, patches="mean")
    loss = refiner_loss(
        adversarial=adversarial, regularization=regularization, weight=0.8, patch_count=4, patches="mean"
    )
    assert float(loss) == pytest.approx(float(adversarial) + 0.8 * 1.25 / 4, abs=1e-12)


def test_the_losses_are_cross_entropies_of_the_patch_probabilities_with_refined_as_one() -> None:
    torch.manual_seed(0)
    refined, real = torch.randn(2, 3, 1, 4, 5, dtype=torch.float64) * 3
    ones, zeros = torch.ones_like(refined), torch.zeros_like(refined)
    d = binary_cross_entropy(refined.sigmoid(), ones) + binary_cross_entropy(real.sigmoid(), zeros)
    r = binary_cross_entropy(refined.sigmoid(), zeros)
    for patches, factor in (("mean", 1), ("sum", 20)):
        torch.testing.assert_close(
            discriminator_loss(refined_logits=refined, real_logits=real, patches=patches), factor * d
        )
        torch.testing.assert_close(refiner_adversarial_loss(refined, patches=patches), factor * r)


def test_equation_4_in_mean_form_is_the_published_sum_with_the_papers_weight() -> None:
    torch.manual_seed(0)
    synthetic, refined = torch.rand(2, 3, 2, 6, 10, dtype=torch.float64)
    logits = torch.randn(3, 1, 2, 5, dtype=torch.float64)
    weight = 0.37
    loss = refiner_loss(
        adversarial=refiner_adversarial_loss(logits, patches="sum"),
        regularization=self_regularization(refined=refined, synthetic=synthetic),
        weight=weight,
        patch_count=10,
        patches="sum",
    )
    published = paper_weight(weight, elements=2 * 6 * 10, patch_count=10)
    literally = [
        -(1 - logits[i].sigmoid()).log().sum() + published * (refined[i] - synthetic[i]).abs().sum()
        for i in range(3)
    ]
    torch.testing.assert_close(loss, torch.stack(literally).mean())


def test_the_weight_in_mean_form_is_15_28_times_the_papers_for_gaze() -> None:
    assert round(1925 / 126, 2) == 15.28
    assert paper_weight(1925 / 126, elements=35 * 55, patch_count=126) == pytest.approx(1)
    # hands: 224·224/49 = 1024
    assert paper_weight(10.24, elements=224 * 224, patch_count=49) == pytest.approx(0.01)
    assert paper_weight(3 * 1925 / 126, elements=3 * 35 * 55, patch_count=126) == pytest.approx(1)


def balance(images: Tensor, refined: Tensor, logits: Tensor, patches: PatchReduction) -> tuple[float, float]:
    adversarial = refiner_adversarial_loss(logits, patches=patches)
    regularization = self_regularization(refined=refined, synthetic=images)
    loss = refiner_loss(
        adversarial=adversarial,
        regularization=regularization,
        weight=0.5,
        patch_count=logits[0].numel(),
        patches=patches,
    )
    return float(adversarial), float(loss - adversarial)


@pytest.mark.parametrize("patches", ["mean", "sum"])
@pytest.mark.parametrize(
    "repeats", [(2, 1, 1, 1), (1, 1, 2, 2), (3, 1, 2, 1)], ids=["2x batch", "2x resolution", "3x and 2x"]
)
def test_the_balance_of_the_two_terms_does_not_depend_on_batch_and_resolution(
    patches: PatchReduction, repeats: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    images, refined = torch.rand(2, 2, 1, 6, 10, dtype=torch.float64)
    logits = torch.randn(2, 1, 3, 5, dtype=torch.float64)
    adversarial, regularization = balance(images, refined, logits, patches)
    more = balance(images.repeat(repeats), refined.repeat(repeats), logits.repeat(repeats), patches)
    assert more[1] / more[0] == pytest.approx(regularization / adversarial, rel=1e-12)
    per_image = repeats[2] * repeats[3] if patches == "sum" else 1
    assert more[0] == pytest.approx(per_image * adversarial, rel=1e-12)


def test_a_gaze_step_on_sums_is_exactly_126_times_one_on_means() -> None:
    steps = {}
    torch.manual_seed(0)
    images, refined = torch.rand(2, 2, 1, 35, 55, dtype=torch.float64)
    change = torch.zeros(1, dtype=torch.float64)
    discriminator = Discriminator(GAZE_DISCRIMINATOR).double()
    for patches in ("sum", "mean"):
        shift = change.clone().requires_grad_()  # the one weight of a refiner x̃ = refined + shift
        logits = discriminator(refined + shift)
        assert logits[0].numel() == 126
        refiner_loss(
            adversarial=refiner_adversarial_loss(logits, patches=patches),
            regularization=self_regularization(refined=refined + shift, synthetic=images),
            weight=0.1528,
            patch_count=126,
            patches=patches,
        ).backward()
        discriminator.zero_grad()
        discriminator_loss(
            refined_logits=discriminator(refined), real_logits=discriminator(images), patches=patches
        ).backward()
        gradient = torch.cat([p.grad.flatten() for p in discriminator.parameters()])
        steps[patches] = (shift.grad.clone(), gradient)
    for summed, averaged in zip(*steps.values(), strict=True):
        assert summed.abs().max() > 0
        torch.testing.assert_close(summed, 126 * averaged, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("patches", ["mean", "sum"])
def test_gradients_agree_with_finite_differences(patches: PatchReduction) -> None:
    torch.manual_seed(0)
    refined, real = torch.randn(2, 2, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: discriminator_loss(refined_logits=a, real_logits=b, patches=patches), (refined, real)
    )
    assert torch.autograd.gradcheck(lambda a: refiner_adversarial_loss(a, patches=patches), (refined,))


@pytest.mark.parametrize("name", FEATURE_TRANSFORMS)
def test_the_gradient_of_the_self_regularization_agrees_with_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    synthetic = torch.rand(1, 2, 8, 8, dtype=torch.float64)
    refined = (synthetic + torch.randn_like(synthetic) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: self_regularization(
            refined=x, synthetic=synthetic, feature_transform=FEATURE_TRANSFORMS[name]
        ),
        (refined,),
    )


@pytest.mark.parametrize("extreme", [1e4, -1e4, 1e30, -1e30])
def test_extreme_logits_give_finite_losses_and_gradients(extreme: float) -> None:
    logits = torch.full((1, 1, 2, 2), extreme, requires_grad=True)
    confident = discriminator_loss(refined_logits=logits, real_logits=-logits, patches="mean")
    fooled = refiner_adversarial_loss(logits, patches="mean")
    (confident + fooled).backward()
    assert torch.isfinite(confident)
    assert torch.isfinite(fooled)
    assert torch.isfinite(logits.grad).all()
    assert float(fooled.detach()) == pytest.approx(max(extreme, 0.0))
    # non-saturating: where D is sure that an image is refined, R's gradient is at its largest
    gradient = torch.autograd.grad(refiner_adversarial_loss(logits, patches="sum"), logits)[0]
    assert gradient.unique().tolist() == [1.0 if extreme > 0 else 0.0]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 6))
def test_the_self_regularization_of_a_constant_change_is_that_change(
    n: int, channels: int, side: int
) -> None:
    synthetic = torch.zeros(n, channels, side, side)
    assert float(self_regularization(refined=synthetic - 0.25, synthetic=synthetic)) == 0.25
    assert float(self_regularization(refined=synthetic, synthetic=synthetic)) == 0
    assert float(self_regularization(refined=synthetic + 1, synthetic=synthetic - 1)) == 2


def test_the_self_regularization_looks_through_the_feature_transform() -> None:
    synthetic = torch.zeros(1, 3, 2, 2)
    refined = torch.tensor([0.3, -0.3, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    moved = self_regularization(refined=refined, synthetic=synthetic)
    assert float(moved) == pytest.approx(0.2)
    unseen = self_regularization(refined=refined, synthetic=synthetic, feature_transform=channel_mean)
    assert float(unseen) == pytest.approx(0, abs=1e-7)
