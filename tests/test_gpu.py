"""What a GPU computes, where there is one."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import made

from simgan.nn.fused import relu_of
from simgan.nn.route import Route
from simgan.training.algorithm import Players, adversarial_step
from simgan.training.capture import captured

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here"),
]
SMALL = replace(made.PAPER_GAZE, batch=16, history_batches=2)
ADAM = replace(SMALL, optimizer="adam", average_decay=0.99, shift_px=1, gain=0.1)


def trained(task: made.Task, *, steps: int, capture: bool, dtype: torch.dtype, seed: int = 0) -> Players:
    """Players after `steps` turns on fresh random eyes."""
    device = torch.device("cuda")
    players = made.players_of(task, Route(device, dtype), seed=seed)
    eyes = [made.draw_eyes(100, real=real, device=device, seed=seed) for real in (False, True)]
    made.fill_history(players, eyes[0][: task.batch])
    draws = made.draws_of(
        players, *[made.Batches(side, batch=task.batch, seed=i) for i, side in enumerate(eyes)]
    )

    def turn() -> dict[str, torch.Tensor]:
        return adversarial_step(
            players, *draws, refiner_updates=task.refiner_updates, discriminator_updates=1
        )

    call = captured(turn, players.draws, is_steady=lambda: True) if capture else turn
    for _ in range(steps):
        call()
    return players


def weights(players: Players) -> list[torch.Tensor]:
    networks = (players.refiner, players.discriminator, players.averaged_refiner)
    return [weight.detach() for network in networks for weight in network.parameters()]


@pytest.mark.parametrize("task", [SMALL, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_captured_run_ends_with_the_weights_of_one_that_is_not(task: made.Task, dtype: torch.dtype) -> None:
    plain = trained(task, steps=9, capture=False, dtype=dtype)
    replayed = trained(task, steps=9, capture=True, dtype=dtype)
    for a, b in zip(weights(plain), weights(replayed), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("task", [SMALL, ADAM], ids=["sgd", "adam"])
def test_the_same_run_twice_is_the_same_to_the_bit(task: made.Task) -> None:
    first, second = (trained(task, steps=9, capture=True, dtype=torch.bfloat16) for _ in range(2))
    for a, b in zip(weights(first), weights(second), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("inputs", [1, 64])
def test_the_fused_convolution_and_its_gradients_are_those_of_float64(inputs: int, adds: bool) -> None:
    convolution = torch.nn.Conv2d(inputs, 64, 3, padding="same").cuda()
    exact = copy.deepcopy(convolution).double()
    features = torch.randn(8, inputs, 35, 55, device="cuda")
    residual = torch.randn(8, 64, 35, 55, device="cuda") if adds else None
    ahead = torch.randn(8, 64, 35, 55, device="cuda")
    results = []
    for network, dtype in ((convolution, torch.float32), (exact, torch.float64)):
        leaves = [
            features.to(dtype, copy=True),
            *([] if residual is None else [residual.to(dtype, copy=True)]),
        ]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.float32):
            out = relu_of(network, leaves[0], leaves[1] if adds else None)
        gradients = torch.autograd.grad(out, [*leaves, *network.parameters()], ahead.to(out.dtype))
        results.append([out.detach(), *gradients])
    # rounding opens or closes a ReLU where its input is nearly 0, and then a gradient more is wrong
    for a, b, bound in zip(*results, [0.01, *[0.1] * len(results[0])], strict=False):
        assert float((a.double() - b).norm() / b.norm()) < bound
