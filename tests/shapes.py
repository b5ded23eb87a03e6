# ruff: noqa: F722 - shape strings such as "n c h w" are jaxtyping's language, not Python's
"""The documented shapes as signatures: calling through these checks every tensor that goes in or comes out."""

from __future__ import annotations

from beartype import beartype
from jaxtyping import Float, Integer, jaxtyped
from torch import Tensor

from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.discriminator import Discriminator
from simgan.nn.feature_transforms import FeatureTransform
from simgan.nn.level_matching import LevelMatching
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner


@jaxtyped(typechecker=beartype)
def refine(refiner: Refiner, synthetic: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return refiner(synthetic)


@jaxtyped(typechecker=beartype)
def judge(discriminator: Discriminator, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 p q"]:
    return discriminator(images)


@jaxtyped(typechecker=beartype)
def match(matching: LevelMatching, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return matching(images)


@jaxtyped(typechecker=beartype)
def codes(quantization: Quantization, images: Float[Tensor, "n c h w"]) -> Integer[Tensor, "n c h w"]:
    return quantization.codes(images)


@jaxtyped(typechecker=beartype)
def quantize(quantization: Quantization, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return quantization.quantize(images)


@jaxtyped(typechecker=beartype)
def augment(
    augmentation: DiscriminatorAugmentation, images: Float[Tensor, "n c h w"], draws: object
) -> Float[Tensor, "n c h w"]:
    return augmentation(images, draws)  # type: ignore[arg-type]


@jaxtyped(typechecker=beartype)
def features(transform: FeatureTransform, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k p q"]:
    return transform(images)
