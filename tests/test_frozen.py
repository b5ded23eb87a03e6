from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from simgan.nn.frozen import FrozenRefiner
from simgan.nn.fused import relu_of
from simgan.nn.refiner import Refiner, RefinerOutput, RefinerSpec
from simgan.nn.route import has_bfloat16_units

pytestmark = pytest.mark.skipif(
    not has_bfloat16_units(torch.device("cpu")),
    reason="this processor has no bf16 units: there is no kernel to check",
)


def refiner_of(channels: int, output: RefinerOutput) -> Refiner:
    torch.manual_seed(0)
    refiner = Refiner(RefinerSpec(channels, 16, 2, first_kernel=5, output=output))
    torch.nn.init.normal_(refiner.tail.weight, std=0.1)
    return refiner.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def images_of(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("channels", "output"), [(1, "image"), (3, "residual")])
@pytest.mark.parametrize(
    "shape", [(4, 9, 11), (1, 20, 6)]
)  # the one that weights are laid out for, and another
def test_a_frozen_refiner_computes_what_the_refiner_computes(
    channels: int, output: RefinerOutput, shape: tuple[int, int, int]
) -> None:
    refiner, images = refiner_of(channels, output), images_of(shape[0], channels, *shape[1:])
    frozen = FrozenRefiner(refiner, (4, channels, 9, 11))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            features = refiner.blocks(relu_of(refiner.head, images))
        change = refiner.tail.double()(features.double())
    wanted = images + change if output == "residual" else change
    found = frozen(images)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_another_process_gets_a_frozen_refiner_that_computes_the_same() -> None:
    refiner, images = refiner_of(1, "residual"), images_of(2, 1, 8, 8)
    frozen = FrozenRefiner(refiner, (2, 1, 8, 8))
    assert torch.equal(pickle.loads(pickle.dumps(frozen))(images), frozen(images))


def test_only_where_bf16_is_computed_is_a_refiner_frozen() -> None:
    refiner, images = refiner_of(1, "image"), images_of(1, 1, 8, 8)
    assert not FrozenRefiner.takes(refiner, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert FrozenRefiner.takes(refiner, images)
        assert not FrozenRefiner.takes(refiner, images.to("meta"))
        assert not FrozenRefiner.takes(Refiner(RefinerSpec(1, 16, 1, first_kernel=4)), images)
