"""Convolution, bias, residual and ReLU in one pass over memory, where the device has such a kernel.

At 64 maps a 3×3 convolution on a GPU takes hardly longer than one reading and writing of its maps. Bias, addition
and ReLU as passes of their own would cost more than the convolution itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_KERNEL_TYPES = (torch.bfloat16, torch.float16)
_MAPS_TOGETHER = 8  # what the matrix units' kernels take; fewer input maps are filled up with zeros


def relu_of(convolution: nn.Conv2d, features: Tensor, residual: Tensor | None = None) -> Tensor:
    """ReLU(convolution(features) + residual); residual has the shape of the result, or is None."""
    if _has_fused_kernel(convolution, features):
        return _fused(convolution, features, residual)
    out: Tensor = convolution(features)
    return torch.relu(out if residual is None else out + residual)


def _has_fused_kernel(convolution: nn.Conv2d, features: Tensor) -> bool:
    return (
        features.is_cuda
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") in _KERNEL_TYPES
        and convolution.bias is not None
        and convolution.out_channels % _MAPS_TOGETHER == 0
    )


def _fused(convolution: nn.Conv2d, features: Tensor, residual: Tensor | None) -> Tensor:  # pragma: cuda
    dtype = torch.get_autocast_dtype("cuda")
    with torch.autocast("cuda", enabled=False):
        assert convolution.bias is not None
        weight, features = convolution.weight.to(dtype), features.to(dtype)
        missing = -convolution.in_channels % _MAPS_TOGETHER
        if missing:
            weight, features = (pad(maps, (0, 0, 0, 0, 0, missing)) for maps in (weight, features))
        weight, features = (m.contiguous(memory_format=torch.channels_last) for m in (weight, features))
        arguments = (features, weight, convolution.bias.to(dtype))
        padding = [side // 2 for side in convolution.kernel_size]
        added = None if residual is None else residual.to(dtype)
        out: Tensor = _FusedConvolution.apply(*arguments, added, padding, convolution.stride)  # type: ignore[no-untyped-call]
        return out


class _FusedConvolution(torch.autograd.Function):  # pragma: cuda
    """ReLU(w ∗ x + b + residual): forward in one kernel, backward through the sign of the result."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        padding: list[int],
        stride: tuple[int, int],
    ) -> Tensor:
        ones = [1, 1]
        if residual is None:
            out = torch.cudnn_convolution_relu(features, weight, bias, stride, padding, ones, 1)
        else:
            out = torch.cudnn_convolution_add_relu(
                features, weight, residual, 1.0, bias, stride, padding, ones, 1
            )
        ctx.save_for_backward(features, weight, out)
        ctx.geometry = (padding, list(stride))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, out = ctx.saved_tensors
        padding, stride = ctx.geometry
        gradient = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        needed = list(ctx.needs_input_grad[:3])
        into = torch.ops.aten.convolution_backward(
            gradient, features, weight, [weight.shape[0]], stride, padding, [1, 1], False, [0, 0], 1, needed
        )
        residual = gradient if ctx.needs_input_grad[3] else None
        return (*into, residual, None, None)
