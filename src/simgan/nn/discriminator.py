"""The discriminator D_φ: a fully convolutional network whose every output judges one local patch (section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from simgan.nn.fused import in_sequence
from simgan.nn.receptive_field import Stage, output_size, receptive_field

AdversarialScope = Literal["local", "global"]


@dataclass(frozen=True)
class DiscriminatorLayer:
    """conv `kernel`×`kernel` stride `stride` to `width` maps; or, with `width` 0, max-pooling."""

    width: int
    kernel: int
    stride: int = 1


@dataclass(frozen=True)
class DiscriminatorSpec:
    """What defines a discriminator's shape.

    `layers` are followed by ReLU each; then a 1×1 convolution to `output_maps` logits, without activation.
    `scope` "local" judges every patch; "global" averages the features over all positions before the 1×1
    convolutions, so that there is one judgement an image (the ablation, and the plain GAN).
    """

    channels: int
    layers: tuple[DiscriminatorLayer, ...]
    output_maps: Literal[1, 2] = 1
    scope: AdversarialScope = "local"
    spectral_normalization: bool = False


class SamePadMaxPool(nn.Module):
    """Max-pooling whose output has ⌈size / stride⌉ pixels, padded so that the padding never wins."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, features: Tensor) -> Tensor:
        before = (self.kernel - 1) // 2
        after = self.kernel - 1 - before
        padded = pad(features, (before, after, before, after), value=float("-inf"))
        if padded.is_cuda:  # in channels_last, backward adds in an order that changes from run to run
            padded = padded.contiguous()
        return max_pool2d(padded, self.kernel, self.stride)


class Discriminator(nn.Module):
    """D_φ as logits: (N, C, H, W) → (N, 1, h, w), positive where a patch looks *refined*; D_φ = sigmoid(logit).

    With two output maps z₀, z₁ and a softmax, as published, p(refined) = sigmoid(z₁ − z₀): `forward` returns
    z₁ − z₀, the same function.
    """

    def __init__(self, spec: DiscriminatorSpec) -> None:
        super().__init__()
        self.spec = spec
        local, pointwise = _split_trailing_pointwise(spec.layers)
        channels = spec.channels
        modules: list[nn.Module] = []
        for layer in local:
            modules += self._modules_of(layer, channels)
            channels = layer.width or channels
        self.features = nn.Sequential(*modules)
        modules = []
        for layer in pointwise:
            modules += self._modules_of(layer, channels)
            channels = layer.width
        self.judge = nn.Sequential(*modules, self._convolution(channels, spec.output_maps, 1, 1))

    def _convolution(self, channels: int, width: int, kernel: int, stride: int) -> nn.Module:
        convolution = nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2)
        if self.spec.spectral_normalization:
            return nn.utils.parametrizations.spectral_norm(convolution)
        return convolution

    def _modules_of(self, layer: DiscriminatorLayer, channels: int) -> list[nn.Module]:
        if layer.width == 0:
            return [SamePadMaxPool(layer.kernel, layer.stride)]
        return [self._convolution(channels, layer.width, layer.kernel, layer.stride), nn.ReLU()]

    def forward(self, images: Tensor) -> Tensor:
        features = in_sequence(self.features, images)
        if self.spec.scope == "global":
            features = features.mean(dim=(2, 3), keepdim=True)
        logits = in_sequence(self.judge, features)
        return logits[:, 1:2] - logits[:, 0:1] if self.spec.output_maps == 2 else logits

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the patch that one logit judges (local scope)."""
        return receptive_field(_stages(self.spec))

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the map of logits for images of that size."""
        return patch_grid(self.spec, height, width)


def discriminator_receptive_field(spec: DiscriminatorSpec) -> int:
    """Side in pixels of the patch that one logit judges."""
    return receptive_field(_stages(spec))


def patch_grid(spec: DiscriminatorSpec, height: int, width: int) -> tuple[int, int]:
    """(h, w) of the map of logits for images of that size; (1, 1) under the global scope."""
    if spec.scope == "global":
        return 1, 1
    stages = _stages(spec)
    return output_size(height, stages), output_size(width, stages)


def _stages(spec: DiscriminatorSpec) -> list[Stage]:
    return [Stage(layer.kernel, layer.stride) for layer in spec.layers]


def _split_trailing_pointwise(
    layers: tuple[DiscriminatorLayer, ...],
) -> tuple[tuple[DiscriminatorLayer, ...], tuple[DiscriminatorLayer, ...]]:
    """The layers up to the last spatial one, and the 1×1 convolutions that follow it."""
    cut = len(layers)
    while cut > 0 and layers[cut - 1].kernel == 1 and layers[cut - 1].width > 0:
        cut -= 1
    return layers[:cut], layers[cut:]
