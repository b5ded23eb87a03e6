"""The feature maps ψ of the self-regularization ‖ψ(x̃) − ψ(x)‖₁ (paper v2, section 2.1).

A new ψ is a function (N, C, H, W) → (N, C′, H′, W′) and one line in `FEATURE_TRANSFORMS`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

FeatureTransform = Callable[[Tensor], Tensor]


def identity(images: Tensor) -> Tensor:
    """ψ(x) = x, as in the published experiments: every pixel should stay."""
    return images


def gradients(images: Tensor) -> Tensor:
    """ψ(x) = (∂x/∂row, ∂x/∂column) by forward differences, (N, 2C, H − 1, W − 1): edges stay, levels are free."""
    corner = images[:, :, :-1, :-1]
    return torch.cat([images[:, :, 1:, :-1] - corner, images[:, :, :-1, 1:] - corner], dim=1)


def channel_mean(images: Tensor) -> Tensor:
    """ψ(x) = mean over the colour channels, (N, 1, H, W): brightness stays, hue is free."""
    return images.mean(dim=1, keepdim=True)


def local_contrast(images: Tensor) -> Tensor:
    """ψ(x) = (x − μ) / (σ + 0.1) with μ, σ over the 7×7 neighbourhood (cropped at borders).

    Structure stays; slow changes of level and contrast are free. The 0.1 keeps flat areas from amplifying noise.
    """
    mean = avg_pool2d(images, 7, stride=1, padding=3, count_include_pad=False)
    square = avg_pool2d(images * images, 7, stride=1, padding=3, count_include_pad=False)
    deviation = (square - mean * mean).clamp_min(1e-6).sqrt()
    return (images - mean) / (deviation + 0.1)


FEATURE_TRANSFORMS: dict[str, FeatureTransform] = {
    "identity": identity,
    "gradients": gradients,
    "channel_mean": channel_mean,
    "local_contrast": local_contrast,
}
