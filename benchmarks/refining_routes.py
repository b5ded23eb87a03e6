"""Ways to compute the refiner on a GPU, each a function of encoded images (N, 1, H, W) float32 → the same, refined."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import measuring  # noqa: F401  (makes simgan importable from ../src)
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan.nn import fused
from simgan.nn.refiner import Refiner

try:
    import conv_kernel
except ImportError:  # triton comes with torch for CUDA alone
    conv_kernel = None  # type: ignore[assignment]

Refine = Callable[[Tensor], Tensor]


def autocast_route(refiner: Refiner, *, fusing: bool) -> Refine:
    """The product's own: autocast to bf16, channels_last, with or without its fused convolutions."""

    def refine(x: Tensor) -> Tensor:
        with fused_convolutions(fusing), torch.autocast(x.device.type, torch.bfloat16):
            out: Tensor = refiner(x)
        return out.float()

    return refine


@contextmanager
def fused_convolutions(on: bool) -> Any:
    """Within, the product's convolutions are fused or are not."""
    before = fused.has_fused_kernel
    if not on:
        fused.has_fused_kernel = lambda *_: False  # type: ignore[assignment]
    try:
        yield
    finally:
        fused.has_fused_kernel = before


def float_route(network: nn.Module, *, strict: bool) -> Refine:
    """Plain float32; `strict`: no tf32 anywhere, else torch's defaults."""

    def refine(x: Tensor) -> Tensor:
        with float_convolutions(strict=strict):
            out: Tensor = network(x)
        return out

    return refine


def float_convolutions(*, strict: bool) -> AbstractContextManager[None]:
    """Within, convolutions in float32 compute in float32, or as torch does by default (tf32 on a GPU)."""

    @contextmanager
    def setting() -> Any:
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = before and not strict
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before

    return setting()


class CastRefiner(nn.Module):
    """R_θ with weights cast once. `kernels`: what computes a convolution with bias, residual and ReLU.

    The head's one channel is padded to eight, which is what the matrix units' kernels want; the tail, one map out of
    64, is a product of a matrix and eight columns.
    """

    def __init__(self, refiner: Refiner, kernels: str, *, pads: bool = True) -> None:
        super().__init__()
        self.kernels, self.pads, self.output = kernels, pads, refiner.spec.output
        convolutions = [refiner.head, *(c for block in refiner.blocks for c in (block.first, block.second))]
        if pads:
            head = F.pad(refiner.head.weight.detach(), (0, 0, 0, 0, 0, 7))
        else:
            head = refiner.head.weight.detach()
        self.weights = [head, *(c.weight.detach() for c in convolutions[1:])]
        self.weights = [w.bfloat16().contiguous(memory_format=torch.channels_last) for w in self.weights]
        self.biases = [c.bias.detach().bfloat16() for c in convolutions]
        tail, bias = refiner.tail.weight.detach(), refiner.tail.bias.detach()
        self.tail_weight = F.pad(tail[:, :, 0, 0].T, (0, 7)).bfloat16().contiguous()
        self.tail_bias = bias.float()
        if kernels == "triton":
            self.taps = [w.permute(2, 3, 1, 0).reshape(9, 64, 64).contiguous() for w in self.weights[1:]]

    def forward(self, x: Tensor) -> Tensor:
        inputs = F.pad(x.bfloat16(), (0, 0, 0, 0, 0, 7)) if self.pads else x.bfloat16()
        features = self._convolve(0, inputs.contiguous(memory_format=torch.channels_last), None)
        for i in range(1, len(self.weights), 2):
            features = self._convolve(i + 1, self._convolve(i, features, None), features)
        maps = features.permute(0, 2, 3, 1)
        change = (maps.reshape(-1, maps.shape[3]) @ self.tail_weight)[:, :1].float() + self.tail_bias
        change = change.view(x.shape)
        return x + change if self.output == "residual" else change

    def _convolve(self, i: int, features: Tensor, residual: Tensor | None) -> Tensor:
        weight, bias, padding = (
            self.weights[i],
            self.biases[i],
            [side // 2 for side in self.weights[i].shape[2:]],
        )
        if self.kernels == "triton" and i:
            return conv_kernel.convolve(features, self.taps[i - 1], bias, residual)
        if self.kernels in ("cudnn", "triton"):
            ones = [1, 1]
            if residual is None:
                return torch.cudnn_convolution_relu(features, weight, bias, ones, padding, ones, 1)
            return torch.cudnn_convolution_add_relu(
                features, weight, residual, 1.0, bias, ones, padding, ones, 1
            )
        out = F.conv2d(features, weight, bias, padding=padding)
        return torch.relu(out if residual is None else out + residual)


def in_chunks(refine: Refine, chunk: int) -> Refine:
    """`chunk` images at a time: few enough, and what one layer writes is still in the cache for the next."""

    def refine_all(x: Tensor) -> Tensor:
        if len(x) <= chunk:
            return refine(x)
        return torch.cat([refine(part) for part in x.split(chunk)])

    return refine_all


def captured_route(refine: Refine, x: Tensor) -> tuple[Callable[[], Any], Tensor]:
    """One call for images at a fixed place, and the place of the result."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        refine(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        out = refine(x)
    return graph.replay, out
