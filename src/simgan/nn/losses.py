"""Equations 2 to 4 of the paper, one function each. Logits are D's, positive where an image looks refined."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from simgan.nn.feature_transforms import FeatureTransform, identity

PatchReduction = Literal["mean", "sum"]


def discriminator_loss(*, refined_logits: Tensor, real_logits: Tensor, patches: PatchReduction) -> Tensor:
    """Equation 2: L_D(φ) = −Σᵢ log D_φ(x̃ᵢ) − Σⱼ log(1 − D_φ(yⱼ)), mean over the batch.

    (N, 1, h, w) logits each → scalar. −log σ(z) = softplus(−z) and −log(1 − σ(z)) = softplus(z) are stable for
    every z. `patches` says whether an image's h·w patches are summed, as published, or averaged.
    """
    return _over_patches(softplus(-refined_logits), patches) + _over_patches(softplus(real_logits), patches)


def refiner_adversarial_loss(refined_logits: Tensor, *, patches: PatchReduction) -> Tensor:
    """Equation 3: ℓ_real(θ) = −Σᵢ log(1 − D_φ(R_θ(xᵢ))), mean over the batch; (N, 1, h, w) → scalar."""
    return _over_patches(softplus(refined_logits), patches)


def self_regularization(
    *, refined: Tensor, synthetic: Tensor, feature_transform: FeatureTransform = identity
) -> Tensor:
    """The second term of equation 4, ‖ψ(x̃) − ψ(x)‖₁, as a *mean* per element: images in [-1, 1] → scalar in [0, 2]
    for ψ = identity. The mean makes its weight independent of batch and image size.
    """
    return (feature_transform(refined) - feature_transform(synthetic)).abs().mean()


def refiner_loss(
    *, adversarial: Tensor, regularization: Tensor, weight: float, patch_count: int, patches: PatchReduction
) -> Tensor:
    """Equation 4: L_R(θ) = ℓ_real(θ) + λ ‖ψ(x̃) − ψ(x)‖₁, with λ = `weight` in mean form.

    With summed patches, ℓ_real is `patch_count` times its mean, and so is the regularization here: the balance
    of the two terms is the same under both reductions (see `paper_weight`).
    """
    scale = patch_count if patches == "sum" else 1
    return adversarial + (weight * scale) * regularization


def paper_weight(weight: float, *, elements: int, patch_count: int) -> float:
    """The paper's λ, which multiplies a *sum* over the `elements` of ψ(x) beside a sum over patches, for our mean form.

    Σ_patches + λ_paper Σ_elements = P·(mean + λ_paper·(E/P)·mean), so λ_paper = λ·P/E; E = C·H·W for ψ = identity.
    """
    return weight * patch_count / elements


def _over_patches(per_patch: Tensor, patches: PatchReduction) -> Tensor:
    return per_patch.sum(dim=(1, 2, 3)).mean() if patches == "sum" else per_patch.mean()
