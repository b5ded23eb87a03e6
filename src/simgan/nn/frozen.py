"""R_θ for refining alone: weights that change no more, cast and laid out for the processor once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from simgan.nn.fused import has_fused_kernel, in_one_kernel_on_cpu
from simgan.nn.refiner import Refiner


class Float64Tail(nn.Module):
    """R_θ's last layer, a 1×1 convolution, summed in float64: in float32 its last bit depends on the number of threads.
    (N, K, H, W) → (N, C, H, W) float64."""

    weight: Tensor
    bias: Tensor

    def __init__(self, tail: nn.Conv2d) -> None:
        super().__init__()
        assert tail.bias is not None
        self.register_buffer("weight", tail.weight.detach()[:, :, 0, 0].T.double().contiguous())
        self.register_buffer("bias", tail.bias.detach().double())

    def forward(self, features: Tensor) -> Tensor:
        pixels = features.permute(0, 2, 3, 1)
        # On a processor image by image: the maps of one, in float64, still fit its cache.
        parts = torch.split(pixels, 1 if features.device.type == "cpu" else len(pixels))
        change = torch.cat([part.double() @ self.weight for part in parts])
        return change.add_(self.bias).permute(0, 3, 1, 2)


class FrozenRefiner:
    """`refiner(images)` in bf16 on a processor: the same sums by the same kernels, less work around them.

    Its last layer is a `Float64Tail`.
    """

    def __init__(self, refiner: Refiner, image_shape: tuple[int, int, int, int]) -> None:
        """`image_shape` (N, C, H, W): what the layout of the weights is chosen for; other shapes are computed too."""
        self._refiner, self._image_shape = refiner, image_shape
        count, _, height, width = image_shape
        maps = (count, refiner.spec.width, height, width)
        self._head = _Packed(refiner.head, image_shape)
        self._blocks = [
            (_Packed(block.first, maps), _Packed(block.second, maps)) for block in _blocks(refiner)
        ]
        self._tail = Float64Tail(refiner.tail)

    @staticmethod
    def takes(refiner: Refiner, images: Tensor) -> bool:
        """Whether there are kernels for it here, under the autocast that is on."""
        convolutions = [
            refiner.head,
            *(one for block in _blocks(refiner) for one in (block.first, block.second)),
        ]
        return images.device.type == "cpu" and all(has_fused_kernel(one, images) for one in convolutions)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 → the same, refined, float64. No gradient passes."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            features = self._head(images.bfloat16().contiguous(memory_format=torch.channels_last))
            for first, second in self._blocks:
                features = second(first(features), features)
            change: Tensor = self._tail(features)
            return images + change if self._refiner.spec.output == "residual" else change

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, where its weights are laid out anew."""
        return FrozenRefiner, (self._refiner, self._image_shape)


class _Packed:
    """ReLU(convolution(features) + residual) with weights as oneDNN wants them."""

    def __init__(self, convolution: nn.Conv2d, shape: tuple[int, int, int, int]) -> None:
        assert convolution.bias is not None
        self._padding = [side // 2 for side in convolution.kernel_size]
        weight = convolution.weight.detach().bfloat16().contiguous(memory_format=torch.channels_last)
        ones = [1, 1]
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self._padding, ones, ones, 1, list(shape)
        )
        self._bias = convolution.bias.detach().bfloat16()

    def __call__(self, features: Tensor, residual: Tensor | None = None) -> Tensor:
        return in_one_kernel_on_cpu(features, self._weight, self._bias, residual, [1, 1], self._padding)


def _blocks(refiner: Refiner) -> list[Any]:
    return list(refiner.blocks)
