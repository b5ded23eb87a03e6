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
    if has_fused_kernel(convolution, features):
        return _fused(convolution, features, residual)
    out: Tensor = convolution(features)
    return torch.relu(out if residual is None else out + residual)


def has_fused_kernel(convolution: nn.Conv2d, features: Tensor) -> bool:
    """Whether there is one for them, here and under the autocast that is on."""
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
        kernel = _in_one_kernel_on_gpu if features.is_cuda else in_one_kernel_on_cpu
        out = kernel(features, weight, bias, residual, stride, padding)
        ctx.save_for_backward(features, weight, out)
        ctx.stride, ctx.padding = stride, padding
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, out = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        of_features, of_weight, of_bias = ctx.needs_input_grad[:3]
        found: tuple[Tensor | None, Tensor | None] | None = None
        if of_weight and of_bias and gradient.device.type == "cpu" and features.shape[1] == 1:
            found = _of_grey(gradient, features, weight, ctx.stride, ctx.padding)
            of_weight = of_bias = False
        into: tuple[Tensor | None, ...] = (None, None, None)
        if of_features or of_weight or of_bias:
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
                [of_features, of_weight, of_bias],
            )
        return (into[0], *(found or into[1:]), gradient if ctx.needs_input_grad[3] else None, None, None)


def _of_grey(
    gradient: Tensor, features: Tensor, weight: Tensor, stride: list[int], padding: list[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias as one product of matrices, for features of one map, as grey images are: the
    library's kernel takes five to twelve times as long for these."""
    count, maps, rows, columns = gradient.shape
    grey = pad(features[:, 0], (padding[1], padding[1], padding[0], padding[0]))
    (down, across), (height, width) = stride, weight.shape[2:]
    seen = [  # by each weight in turn, at every pixel of the result
        grey[:, i : i + down * (rows - 1) + 1 : down, j : j + across * (columns - 1) + 1 : across]
        for i in range(height)
        for j in range(width)
    ]
    ones = grey.new_ones(count, rows, columns)
    product = torch.stack([*seen, ones]).flatten(1) @ gradient.permute(0, 2, 3, 1).reshape(-1, maps)
    return product[:-1].T.reshape(weight.shape), product[-1]


def residual_block(first: nn.Conv2d, second: nn.Conv2d, features: Tensor) -> Tensor:
    """ReLU(second(ReLU(first(x))) + x), x = `features`: one function where both have a fused kernel on a processor."""
    if features.device.type == "cpu" and all(has_fused_kernel(one, features) for one in (first, second)):
        with torch.autocast("cpu", enabled=False):
            parameters = [cast for one in (first, second) for cast in _cast(one)]
            paddings = [[side // 2 for side in one.kernel_size] for one in (first, second)]
            features = features.bfloat16().contiguous(memory_format=torch.channels_last)
            out: Tensor = _FusedBlock.apply(features, *parameters, paddings)  # type: ignore[no-untyped-call]
            return out
    return relu_of(second, relu_of(first, features), residual=features)


def _cast(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert convolution.bias is not None
    weight = convolution.weight.bfloat16().contiguous(memory_format=torch.channels_last)
    return weight, convolution.bias.bfloat16()


class _FusedBlock(torch.autograd.Function):
    """h = ReLU(w₁ ∗ x + b₁), out = ReLU(w₂ ∗ h + b₂ + x).

    Backward, with ᵀ a kernel turned by 180° and its maps exchanged, which makes the gradient of a convolution one
    itself: the sum at the fork is then done by its kernel, too.

        g₂ = g·[out > 0]    g₁ = (w₂ᵀ ∗ g₂)·[h > 0]    gradient of x = w₁ᵀ ∗ g₁ + g₂
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, paddings: list[list[int]]
    ) -> Tensor:
        hidden = in_one_kernel_on_cpu(x, w1, b1, None, [1, 1], paddings[0])
        out = in_one_kernel_on_cpu(hidden, w2, b2, x, [1, 1], paddings[1])
        ctx.save_for_backward(x, w1, hidden, w2, out)
        ctx.paddings = paddings
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, hidden, w2, out = ctx.saved_tensors
        ones, convolve = [1, 1], torch.ops.mkldnn._convolution_pointwise
        after = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        within = convolve(after, _turned(w2), None, ctx.paddings[1], ones, ones, 1, "none", [], "")
        within = torch.ops.aten.threshold_backward(within, hidden, 0)  # in place takes three times as long
        into = None
        if ctx.needs_input_grad[0]:
            into = convolve.binary(
                within, after, _turned(w1), None, ctx.paddings[0], ones, ones, 1, "add", 1.0, None, [], ""
            )
        of_first = _of_parameters(within, x, w1, ctx.paddings[0], ctx.needs_input_grad[1:3])
        of_second = _of_parameters(after, hidden, w2, ctx.paddings[1], ctx.needs_input_grad[3:5])
        return (into, *of_first, *of_second, None)


def _turned(weight: Tensor) -> Tensor:
    return weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)


def _of_parameters(
    gradient: Tensor, features: Tensor, weight: Tensor, padding: list[int], wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of weight and bias, where they are wanted."""
    ones = [1, 1]
    _, of_weight, of_bias = torch.ops.aten.convolution_backward(
        gradient, features, weight, [len(weight)], ones, padding, ones, False, [0, 0], 1, [False, *wanted]
    )
    return of_weight, of_bias


def in_one_kernel_on_cpu(
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
