from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simgan.nn import fused
from simgan.nn.fused import in_sequence, relu_of, residual_block
from simgan.nn.route import has_bfloat16_units

CPU = torch.device("cpu")
needs_units = pytest.mark.skipif(
    not has_bfloat16_units(CPU), reason="this processor has no bf16 units: there is no kernel to check"
)


def maps(*shape: int, seed: int = 0) -> Tensor:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return images.contiguous(memory_format=torch.channels_last)


def convolution_of(inputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(1)
    convolution = nn.Conv2d(inputs, 16, kernel, stride, padding=kernel // 2)
    return convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def gradients(
    convolution: nn.Conv2d, features: Tensor, residual: Tensor | None, ahead: Tensor
) -> list[Tensor]:
    """The result, and the gradients of all that went in."""
    leaves = [features, *convolution.parameters(), *([] if residual is None else [residual])]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    out = relu_of(convolution, features, residual)
    return [out.detach(), *torch.autograd.grad(out, leaves, ahead.to(out.dtype))]


@needs_units
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize(
    ("inputs", "kernel", "stride"), [(1, 3, 1), (16, 3, 1), (16, 7, 1), (16, 3, 2), (1, 5, 2)]
)
def test_the_fused_kernel_and_its_gradients_are_those_of_float64(
    inputs: int, kernel: int, stride: int, adds: bool
) -> None:
    convolution = convolution_of(inputs, kernel, stride)
    out_size = (9, 11) if stride == 1 else (5, 6)
    features, ahead = maps(3, inputs, 9, 11), maps(3, 16, *out_size, seed=2)
    residual = maps(3, 16, *out_size, seed=3) if adds else None
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(
            convolution, features.clone(), None if residual is None else residual.clone(), ahead
        )
    wanted = gradients(
        convolution.double(), features.double(), None if residual is None else residual.double(), ahead
    )
    assert len(found) == len(wanted)
    # bf16 has 8 bits; where a result is nearly 0, rounding opens or closes the ReLU, and a gradient more is wrong
    for a, b, bound in zip(found, wanted, [0.01, *[0.1] * len(found)], strict=False):
        assert float((a.double() - b).norm() / b.norm()) < bound


@needs_units
@pytest.mark.parametrize("kernels", [(3, 3), (7, 7), (3, 5)])
def test_a_fused_block_and_its_gradients_are_those_of_float64(kernels: tuple[int, int]) -> None:
    first, second = (convolution_of(16, kernel) for kernel in kernels)
    features, ahead = maps(3, 16, 9, 11), maps(3, 16, 9, 11, seed=2)

    def results(dtype: torch.dtype) -> list[Tensor]:
        leaves = [features.to(dtype).requires_grad_(), *first.parameters(), *second.parameters()]
        out = residual_block(first, second, leaves[0])
        return [out.detach(), *torch.autograd.grad(out, leaves, ahead.to(out.dtype))]

    with torch.autocast("cpu", torch.bfloat16):
        found = results(torch.float32)
    first.double(), second.double()
    for a, b, bound in zip(found, results(torch.float64), [0.01, *[0.1] * len(found)], strict=False):
        assert float((a.double() - b).norm() / b.norm()) < bound


@needs_units
def test_a_fused_block_gives_gradients_to_those_who_want_them_alone() -> None:
    first, second = convolution_of(16, 3), convolution_of(16, 3).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        residual_block(first, second, maps(2, 16, 5, 6)).float().sum().backward()
    assert all(weights.grad is not None for weights in first.parameters())
    assert all(weights.grad is None for weights in second.parameters())


def test_outside_of_bf16_autocast_it_is_one_operation_after_the_other() -> None:
    convolution, features, residual = convolution_of(16, 3), maps(2, 16, 5, 6), maps(2, 16, 5, 6, seed=1)
    assert torch.equal(relu_of(convolution, features), torch.relu(convolution(features)))
    wanted = torch.relu(convolution(features) + residual)
    assert torch.equal(relu_of(convolution, features, residual), wanted)
    hidden = relu_of(convolution, features)
    assert torch.equal(
        residual_block(convolution, convolution, features), relu_of(convolution, hidden, features)
    )


def test_without_units_or_bias_there_is_no_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    features = maps(2, 16, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.has_fused_kernel(nn.Conv2d(16, 16, 3, bias=False), features)
        assert not fused.has_fused_kernel(convolution_of(16, 3), features.to("meta"))
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
        assert not fused.has_fused_kernel(convolution_of(16, 3), features)
    with torch.autocast("cpu", torch.float16):
        assert not fused.has_fused_kernel(convolution_of(16, 3), features)


@pytest.mark.parametrize("enabled", [False, pytest.param(True, marks=needs_units)])
def test_a_sequence_is_computed_as_its_modules_one_after_the_other(enabled: bool) -> None:
    modules = nn.Sequential(
        convolution_of(1, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        convolution_of(16, 1),
        nn.ReLU(),
        convolution_of(16, 1),
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        found, wanted = in_sequence(modules, maps(2, 1, 9, 11)), modules(maps(2, 1, 9, 11))
    if enabled:
        torch.testing.assert_close(found, wanted, atol=0.01, rtol=0.02)
    else:
        assert torch.equal(found, wanted)


@needs_units
def test_a_frozen_convolution_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = convolution_of(16, 3).requires_grad_(False)
    features = maps(2, 16, 5, 6).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        relu_of(convolution, features).float().sum().backward()
    assert features.grad is not None
    assert all(weights.grad is None for weights in convolution.parameters())
