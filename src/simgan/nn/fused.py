"""Convolution, bias, residual and ReLU in one pass over memory, where the library has such a kernel.

In bf16 a 3×3 convolution of 64 maps takes hardly longer than one reading and writing of its maps. Bias, addition and
ReLU as passes of their own cost as much again, on processors with matrix units and on GPUs alike.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_MAPS_TOGETHER = 8  # what the kernels for GPUs take; fewer input maps are filled up with zeros


def in_sequence(modules: nn.Sequential, features: Tensor) -> Tensor:
    """`modules(features)`, each convolution together with the ReLU that follows it."""
    for module, following in zip_longest(modules, [*modules][1:]):
        if isinstance(module, nn.Conv2d) and isinstance(following, nn.ReLU):
            features = relu_of(module, features)
        elif not isinstance(module, nn.ReLU):
            features = module(features)
    return features


def relu_of(convolution: nn.Conv2d, features: Tensor, residual: Tensor | None = None) -> Tensor:
    """ReLU(convolution(features) + residual); residual has the shape of the result, or is None.

    Under autocast to bf16 in one kernel, otherwise one operation after the other. Padding (kernel − 1)/2.
    """
    if _has_fused_kernel(convolution, features):
        return _fused(convolution, features, residual)
    out: Tensor = convolution(features)
    return torch.relu(out if residual is None else out + residual)


def _has_fused_kernel(convolution: nn.Conv2d, features: Tensor) -> bool:
    kind = features.device.type
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind) or convolution.bias is None:
        return False
    if torch.get_autocast_dtype(kind) != torch.bfloat16:
        return False
    if any(side % 2 == 0 for side in convolution.kernel_size):  # padded unevenly
        return False
    if kind == "cuda":  # pragma: cuda
        return convolution.out_channels % _MAPS_TOGETHER == 0 and convolution.stride == (1, 1)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fused(convolution: nn.Conv2d, features: Tensor, residual: Tensor | None) -> Tensor:
    assert convolution.bias is not None
    kind = features.device.type
    with torch.autocast(kind, enabled=False):
        weight, features = convolution.weight.bfloat16(), features.bfloat16()
        missing = -convolution.in_channels % _MAPS_TOGETHER if kind == "cuda" else 0
        if missing:  # pragma: cuda
            weight, features = (pad(maps, (0, 0, 0, 0, 0, missing)) for maps in (weight, features))
        weight, features = (m.contiguous(memory_format=torch.channels_last) for m in (weight, features))
        stride, padding = [*convolution.stride], [side // 2 for side in convolution.kernel_size]
        added = None if residual is None else residual.bfloat16()
        bias = convolution.bias.bfloat16()
        out: Tensor = _FusedConvolution.apply(features, weight, bias, added, stride, padding)  # type: ignore[no-untyped-call]
        return out


class _FusedConvolution(torch.autograd.Function):
    """ReLU(w ∗ x + b + residual): forward in one kernel; the gradient passes where the result is above 0."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        stride: list[int],
        padding: list[int],
    ) -> Tensor:
        kernel = _in_one_kernel_on_gpu if features.is_cuda else _in_one_kernel_on_cpu
        out = kernel(features, weight, bias, residual, stride, padding)
        ctx.save_for_backward(features, weight, out)
        ctx.stride, ctx.padding = stride, padding
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, out = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        into = torch.ops.aten.convolution_backward(
            gradient,
            features,
            weight,
            [len(weight)],
            ctx.stride,
            ctx.padding,
            [1, 1],
            False,
            [0, 0],
            1,
            list(ctx.needs_input_grad[:3]),
        )
        return (*into, gradient if ctx.needs_input_grad[3] else None, None, None)


def _in_one_kernel_on_cpu(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    stride: list[int],
    padding: list[int],
) -> Tensor:
    convolve, ones = torch.ops.mkldnn._convolution_pointwise, [1, 1]
    if residual is None:
        out: Tensor = convolve(features, weight, bias, padding, stride, ones, 1, "relu", [], "")
    else:
        out = convolve.binary(
            features, residual, weight, bias, padding, stride, ones, 1, "add", 1.0, "relu", [], ""
        )
    return out


def _in_one_kernel_on_gpu(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    stride: list[int],
    padding: list[int],
) -> Tensor:  # pragma: cuda
    ones = [1, 1]
    if residual is None:
        return torch.cudnn_convolution_relu(features, weight, bias, stride, padding, ones, 1)
    return torch.cudnn_convolution_add_relu(features, weight, residual, 1.0, bias, stride, padding, ones, 1)
