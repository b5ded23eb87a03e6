from __future__ import annotations

import copy

import pytest
import torch

from simgan.nn.draws import Draws
from simgan.training.algorithm import (
    optimizer_of,
    restore_optimizer,
    set_learning_rate,
    update_discriminator,
    update_refiner,
)
from simgan.training.capture import captured, captured_turns
from tiny_runs import images, tiny_players


def test_on_the_processor_a_turn_is_itself() -> None:
    update = dict
    assert captured(update, Draws(torch.Generator()), is_steady=lambda: True) is update
    assert captured_turns(tiny_players(), capturable=True, adversarial=update) == {"adversarial": update}


def test_with_a_task_network_nothing_is_captured() -> None:
    players = tiny_players()
    players.task = object()  # type: ignore[assignment]
    players.draws.device = torch.device("cuda")
    assert captured_turns(players, capturable=True, adversarial=dict) == {"adversarial": dict}


def test_a_recorded_update_of_the_discriminator_makes_the_same_choices_again() -> None:
    """What is captured reads each of its choices from a place that is filled anew: batches, history, both ways."""
    players = tiny_players(history=4)
    while not players.history.is_full:  # type: ignore[union-attr]
        update_discriminator(players, images(4), images(4, 1))
    generator = torch.Generator()
    generator.set_state(players.draws.generator.get_state())
    with players.draws.recorded() as recording:
        update_discriminator(players, images(4), images(4, 1))
    assert len(recording.places) == 2
    drawn = []
    for _ in range(3):
        recording.refill()
        drawn.append([place.tolist() for place in recording.places])
    for places in drawn:
        wanted = [torch.randperm(4, generator=generator)[:2].tolist() for _ in range(2)]
        assert places == wanted


def test_a_learning_rate_that_lies_in_a_tensor_is_changed_where_it_lies() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    for rate in (0.1, torch.tensor(0.1)):
        optimizer = torch.optim.SGD([weight], lr=rate)
        set_learning_rate(optimizer, 0.5)
        assert float(optimizer.param_groups[0]["lr"]) == 0.5
        assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor) == isinstance(rate, torch.Tensor)
        if isinstance(rate, torch.Tensor):
            assert float(rate) == 0.5


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_restored_optimizer_goes_on_with_the_rate_of_the_checkpoint_and_its_own_settings(name: str) -> None:
    network = torch.nn.Linear(3, 2)

    def made(rate: float) -> torch.optim.Optimizer:
        return optimizer_of(network, name=name, learning_rate=rate, device=torch.device("cpu"))  # type: ignore[arg-type]

    optimizer = made(0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0] |= {"lr": torch.tensor(0.25), "fused": None}  # as another device leaves it
    restored = made(0.1)
    restore_optimizer(restored, state)
    group = restored.param_groups[0]
    assert group["lr"] == 0.25
    assert group["fused"]
    assert restored.state_dict()["state"].keys() == state["state"].keys()
    restored.step()


def test_moments_of_another_memory_layout_belong_to_the_same_weights_after_restoring() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(2, 3, 3, 3)
    ends = []
    for saved_as in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(1)
        network = torch.nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = optimizer_of(network, name="adam", learning_rate=0.1, device=torch.device("cpu"))
        moments = {
            name: gradient.abs().contiguous(memory_format=saved_as) for name in ("exp_avg", "exp_avg_sq")
        }
        state = optimizer.state_dict() | {"state": {0: {"step": torch.tensor(5.0), **moments}}}
        restore_optimizer(optimizer, state)
        network.weight.grad = gradient.contiguous(memory_format=torch.channels_last)
        optimizer.step()
        ends.append(network.weight.detach().clone())
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_no_gradient_of_the_discriminator_is_computed_in_the_refiners_update() -> None:
    players = tiny_players()
    seen: list[bool] = []
    forward = players.discriminator.forward
    players.discriminator.forward = lambda x: (  # type: ignore[method-assign]
        seen.append(any(p.requires_grad for p in players.discriminator.parameters())) or forward(x)
    )
    update_refiner(players, images(4))
    assert seen == [False]
