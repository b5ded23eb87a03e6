from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simgan.config import resolve_configuration
from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.history import HistoryBuffer
from simgan.nn.losses import PatchReduction
from simgan.training.algorithm import (
    Players,
    SyntheticBatch,
    adversarial_step,
    average_into,
    moving_average_of,
    update_discriminator,
    update_refiner,
)
from tiny_runs import images, tiny_players


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


def changed(network: nn.Module, before: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]


@contextmanager
def watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Every batch that goes into `module`."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    yield seen
    hook.remove()


def update_both(players: Players, seed: int = 0) -> None:
    update_refiner(players, images(4, seed))
    update_discriminator(players, images(4, seed + 1), images(4, seed + 2))


# ---- who moves when


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("output_maps", [1, 2])
def test_an_update_of_the_discriminator_moves_all_of_it_and_nothing_of_the_refiner(
    spectral: bool, output_maps: int
) -> None:
    players = tiny_players(spectral_normalization=spectral, output_maps=output_maps)
    weights = {name for name, _ in players.discriminator.named_parameters()}
    for seed in range(3):
        refiner, discriminator = state_of(players.refiner), state_of(players.discriminator)
        update_discriminator(players, images(4, seed), images(4, seed + 10, scale=0.3))
        assert not changed(players.refiner, refiner)
        assert weights <= set(changed(players.discriminator, discriminator))
        update_refiner(players, images(4, seed))  # freezes D for its time


@pytest.mark.parametrize("spectral", [False, True])
def test_an_update_of_the_refiner_moves_all_of_it_and_nothing_of_the_discriminator(spectral: bool) -> None:
    """Not even the vectors of spectral normalization's power iteration, which are D's state."""
    players = tiny_players(spectral_normalization=spectral)
    update_both(players)
    refiner, discriminator = state_of(players.refiner), state_of(players.discriminator)
    players.discriminator.zero_grad(set_to_none=True)
    update_refiner(players, images(4, 5))
    assert changed(players.refiner, refiner) == list(refiner)
    assert not changed(players.discriminator, discriminator)
    assert all(p.grad is None for p in players.discriminator.parameters())


def test_an_update_of_the_discriminator_builds_no_graph_through_the_refiner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    players = tiny_players()
    refined: list[Tensor] = []
    refine = players.refine
    monkeypatch.setattr(players, "refine", lambda x: refined.append(refine(x)) or refined[-1])
    players.refiner.zero_grad(set_to_none=True)
    for seed in range(3):  # without history, and with it
        update_discriminator(players, images(4, seed), images(4, seed + 1))
    assert len(refined) == 3
    assert all(x.grad_fn is None and not x.requires_grad for x in refined)
    assert all(p.grad is None for p in players.refiner.parameters())


@pytest.mark.parametrize("patches", ["mean", "sum"])
def test_the_refiner_gets_its_gradient_from_the_discriminator(patches: PatchReduction) -> None:
    """With λ = 0 there is nothing else that could move it."""
    players = tiny_players(weight=0.0, patches=patches)
    before = state_of(players.refiner)
    update_refiner(players, images(4))
    assert changed(players.refiner, before) == list(before)
    first = float(players.judge(players.refine(images(4))).detach().mean())
    for _ in range(20):
        update_refiner(players, images(4))
    assert float(players.judge(players.refine(images(4))).detach().mean()) < first  # it looks less refined


def test_a_refiner_step_is_the_gradient_of_equation_4_times_the_learning_rate() -> None:
    players, synthetic = tiny_players(weight=0.7, patches="sum", learning_rate=0.01), images(4)
    before = state_of(players.refiner)
    refined = players.refiner(synthetic)
    probability = torch.sigmoid(players.discriminator(players.quantization.quantize(refined)))
    per_image = -(1 - probability).log().sum(dim=(1, 2, 3))
    patch_count, pixels = probability[0].numel(), synthetic[0].numel()
    per_image = per_image + 0.7 * patch_count / pixels * (refined - synthetic).abs().sum(dim=(1, 2, 3))
    gradients = torch.autograd.grad(per_image.mean(), list(players.refiner.parameters()))
    metrics = update_refiner(players, synthetic)
    for (name, parameter), gradient in zip(players.refiner.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), before[name] - 0.01 * gradient, atol=1e-6, rtol=1e-4)
    assert float(metrics["refiner_loss"]) == pytest.approx(float(per_image.mean().detach()), rel=1e-5)


def test_a_discriminator_step_is_the_gradient_of_equation_2_times_the_learning_rate() -> None:
    players = tiny_players(patches="sum", learning_rate=0.01)
    synthetic, real = images(4), images(4, 1)
    before = state_of(players.discriminator)
    with torch.no_grad():
        refined = players.quantization.quantize(players.refiner(synthetic))
    real_on_grid = players.quantization.quantize(real)
    loss = -torch.sigmoid(players.discriminator(refined)).log().sum(dim=(1, 2, 3)).mean()
    loss = loss - (1 - torch.sigmoid(players.discriminator(real_on_grid))).log().sum(dim=(1, 2, 3)).mean()
    gradients = torch.autograd.grad(loss, list(players.discriminator.parameters()))
    metrics = update_discriminator(players, synthetic, real)
    for (name, parameter), gradient in zip(players.discriminator.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), before[name] - 0.01 * gradient, atol=1e-6, rtol=1e-4)
    assert float(metrics["discriminator_loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)


@pytest.mark.parametrize("patches", ["mean", "sum"])
def test_twice_the_batch_gives_the_same_refiner_step(patches: PatchReduction) -> None:
    players, doubled = tiny_players(patches=patches), tiny_players(patches=patches)
    update_refiner(players, images(3))
    update_refiner(doubled, images(3).repeat(2, 1, 1, 1))
    for a, b in zip(players.refiner.parameters(), doubled.refiner.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_a_step_on_sums_is_the_patch_count_times_a_step_on_means() -> None:
    moves = {}
    for patches in ("sum", "mean"):
        players = tiny_players(patches=patches, learning_rate=1e-3)
        before = state_of(players.refiner), state_of(players.discriminator)
        update_refiner(players, images(4))
        update_discriminator(players, images(4), images(4, 1))
        moves[patches] = [
            network.state_dict()[name] - old[name]
            for network, old in zip((players.refiner, players.discriminator), before, strict=True)
            for name in old
        ]
    assert tiny_players().discriminator.patch_grid(8, 8) == (4, 4)  # type: ignore[operator]
    refiner_tensors = len(list(tiny_players().refiner.parameters()))
    for summed, averaged in zip(moves["sum"][:refiner_tensors], moves["mean"][:refiner_tensors], strict=True):
        torch.testing.assert_close(summed, 16 * averaged, atol=2e-6, rtol=1e-2)


def test_warming_up_the_refiner_uses_self_regularization_alone() -> None:
    players = tiny_players(weight=1.0, learning_rate=0.05)
    discriminator = state_of(players.discriminator)
    with watched(players.discriminator) as seen:
        losses = [
            float(update_refiner(players, images(8, 3), adversarial=False)["self_regularization"])
            for _ in range(150)
        ]
    assert losses[-1] < losses[0] / 2
    assert not seen
    assert not changed(players.discriminator, discriminator)
    metrics = update_refiner(players, images(4), adversarial=False)
    assert set(metrics) == {"self_regularization", "refiner_loss"}
    assert metrics["refiner_loss"] == metrics["self_regularization"]  # λ = 1, mean form


@pytest.mark.parametrize("patches", ["mean", "sum"])
def test_a_warm_up_step_is_the_gradient_of_the_second_term_of_equation_4(patches: PatchReduction) -> None:
    players, synthetic = tiny_players(weight=0.7, patches=patches, learning_rate=0.01), images(4)
    before = state_of(players.refiner)
    second_term = (
        0.7 * (players.refiner(synthetic) - synthetic).abs().mean() * (16 if patches == "sum" else 1)
    )
    gradients = torch.autograd.grad(second_term, list(players.refiner.parameters()))
    update_refiner(players, synthetic, adversarial=False)
    for (name, parameter), gradient in zip(players.refiner.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), before[name] - 0.01 * gradient, atol=1e-6, rtol=1e-4)


# ---- what the discriminator sees


def test_the_discriminators_batch_is_b_real_beside_b_refined() -> None:
    players = tiny_players(history=0)
    synthetic, real = images(6), images(6, 1)
    with watched(players.discriminator) as seen:
        update_discriminator(players, synthetic, real)
    (batch,) = seen
    assert len(batch) == 12
    with torch.no_grad():
        refined = tiny_players(history=0).refine(synthetic)
    assert torch.equal(batch[:6], players.quantization.quantize(refined))
    assert torch.equal(batch[6:], players.quantization.quantize(real))


def test_half_of_the_refined_images_come_from_the_history_once_it_holds_half_a_batch() -> None:
    players = tiny_players(history=8)
    past: list[Tensor] = []
    for turn in range(6):
        with watched(players.discriminator) as seen, watched(players.refiner) as refined_now:
            update_discriminator(players, images(4, turn), images(4, turn + 50))
        (batch,), (current,) = seen, refined_now
        assert len(batch) == 8
        assert len(current) == (4 if turn == 0 else 2)
        if turn:
            old = torch.cat(past)
            assert all((old == image).flatten(1).all(1).any() for image in batch[2:4])
            assert not any((old == image).flatten(1).all(1).any() for image in batch[:2])
        past.append(batch[:2])


def test_each_update_puts_half_a_batch_of_new_images_into_the_history() -> None:
    players, sizes = tiny_players(history=7), []
    assert players.history is not None
    for turn in range(6):
        with watched(players.discriminator) as seen:
            update_discriminator(players, images(4, turn), images(4, 50))
        sizes.append(players.history.size)
        held = players.quantization.values(players.history.state_dict()["images"])
        for image in seen[0][:2]:  # the current ones, as files would hold them
            assert (held == image).flatten(1).all(1).any()
    assert sizes == [2, 4, 6, 7, 7, 7]


def test_refining_for_the_discriminator_uses_the_current_refiner() -> None:
    players = tiny_players()
    update_refiner(players, images(4))
    with watched(players.discriminator) as seen:
        update_discriminator(players, images(4, 1), images(4, 2))
    with torch.no_grad():
        current = players.quantization.quantize(players.refiner(images(4, 1)))
    assert torch.equal(seen[0][:4], current)


@pytest.mark.parametrize("levels", [17, 256, 65536])
def test_everything_that_reaches_the_discriminator_lies_on_the_files_grid(levels: int) -> None:
    players = tiny_players(levels=levels)
    grid = players.quantization.values(torch.arange(levels))
    with watched(players.discriminator) as seen:
        for turn in range(4):
            update_both(players, turn)
    assert len(seen) == 8
    for batch in seen:
        assert torch.isin(batch, grid).all()


def test_refined_and_real_images_are_augmented_alike() -> None:
    players = tiny_players(history=0, augmentation=DiscriminatorAugmentation(1, 0.1))
    same = images(1).expand(200, -1, -1, -1)
    players.refiner = nn.Identity()
    with watched(players.discriminator) as seen:
        update_discriminator(players, same, same)
    batch = seen[0]
    refined, real = batch[:200], batch[200:]
    assert not torch.equal(refined, real)
    spread = float((refined - refined[:1]).abs().mean())
    assert spread > 0.05
    assert float((real - real[:1]).abs().mean()) == pytest.approx(spread, rel=0.5)
    torch.testing.assert_close(refined.mean(0), real.mean(0), atol=0.15, rtol=0)
    with watched(players.discriminator) as seen:
        players.judge(same[:2])
    assert not torch.equal(seen[0][0], seen[0][1])


def test_accuracy_is_one_half_for_a_constant_judgement_and_one_for_a_right_one() -> None:
    players = tiny_players(history=0, learning_rate=0.0)
    for parameter in players.discriminator.parameters():
        nn.init.zeros_(parameter)
    metrics = update_discriminator(players, images(4), images(4, 1))
    assert float(metrics["discriminator_accuracy"]) == 0.5
    assert float(metrics["discriminator_loss"]) == pytest.approx(2 * 0.6931472, abs=1e-6)

    class Brightness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x.mean(dim=(1, 2, 3), keepdim=True)

    players.discriminator, players.refiner = Brightness(), nn.Identity()
    bright, dark = torch.full((4, 1, 8, 8), 0.5), torch.full((4, 1, 8, 8), -0.5)
    assert float(update_discriminator(players, bright, dark)["discriminator_accuracy"]) == 1
    assert float(update_discriminator(players, dark, bright)["discriminator_accuracy"]) == 0
    assert float(update_discriminator(players, bright, bright)["discriminator_accuracy"]) == 0.5


def test_pixels_without_measurement_pass_the_refiner_unchanged() -> None:
    synthetic = images(4)
    synthetic[:, :, 2:4] = -1
    for carries, expected in ((True, True), (False, False)):
        players = tiny_players(carries_lowest=carries)
        refined = players.refine(synthetic)
        assert bool((refined[:, :, 2:4] == -1).all()) == expected
        assert not torch.equal(refined[:, :, :2], synthetic[:, :, :2])


# ---- the turns


@pytest.mark.parametrize(("k_g", "k_d"), [(1, 1), (2, 1), (1, 3), (5, 2)])
def test_a_turn_is_k_g_updates_of_the_refiner_then_k_d_of_the_discriminator(
    k_g: int, k_d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    players = tiny_players()
    order: list[str] = []
    for name in ("refiner", "discriminator"):
        optimizer = getattr(players, f"{name}_optimizer")
        step: Callable[[], Any] = optimizer.step
        monkeypatch.setattr(optimizer, "step", lambda name=name, step=step: (order.append(name), step()))
    drawn = {"synthetic": 0, "real": 0}

    def draw_synthetic() -> SyntheticBatch:
        drawn["synthetic"] += 1
        return SyntheticBatch(images(4, drawn["synthetic"]))

    def draw_real() -> Tensor:
        drawn["real"] += 1
        return images(4, 100 + drawn["real"])

    metrics = adversarial_step(
        players, draw_synthetic, draw_real, refiner_updates=k_g, discriminator_updates=k_d
    )
    assert order == ["refiner"] * k_g + ["discriminator"] * k_d
    assert drawn == {"synthetic": k_g + k_d, "real": k_d}
    assert set(metrics) == {
        "self_regularization",
        "adversarial_loss",
        "refiner_loss",
        "discriminator_loss",
        "discriminator_accuracy",
    }


def test_the_history_of_paper_gaze_is_full_after_half_of_the_discriminators_warm_up() -> None:
    t = resolve_configuration("paper-gaze").training
    capacity, entering = t.history_batches * t.batch_size, t.batch_size // 2
    assert capacity == 25_600
    assert capacity / entering == 100 <= t.warmup_discriminator_steps

    players = tiny_players(history=t.history_batches * 2)  # the same arithmetic with b = 2
    assert isinstance(players.history, HistoryBuffer)
    players.refiner = nn.Identity()
    for turn in range(100):
        assert players.history.size == turn
        update_discriminator(players, images(2, turn), images(2, turn + 1))
    assert players.history.size == players.history.capacity == 100


@pytest.mark.parametrize(
    "ablation",
    [{"history": 0}, {"scope": "global"}, {"history": 0, "scope": "global", "weight": 0.0}],
    ids=["no history", "global", "plain GAN"],
)
def test_the_ablations_run(ablation: dict[str, Any]) -> None:
    players = tiny_players(**ablation)
    before = state_of(players.refiner), state_of(players.discriminator)
    for turn in range(3):
        update_both(players, turn)
    assert changed(players.refiner, before[0])
    assert changed(players.discriminator, before[1])
    assert (players.history is None) == (ablation.get("history") == 0)


# ---- the moving average


def test_the_moving_average_of_constant_weights_closes_in_by_the_decay_to_the_k() -> None:
    averaged, network = nn.Linear(3, 2), nn.Linear(3, 2)
    nn.init.constant_(averaged.weight, 1.0)
    nn.init.constant_(network.weight, 3.0)
    for k in range(1, 11):
        average_into(averaged, network, decay=0.9)
        # θ̄ − θ = dᵏ (θ̄₀ − θ)
        torch.testing.assert_close(averaged.weight.detach(), torch.full((2, 3), 3 - 2 * 0.9**k))
    assert (network.weight == 3).all()


def test_the_moving_average_follows_every_refiner_update() -> None:
    players = tiny_players(decay=0.5)
    assert players.averaged_refiner is not players.refiner
    expected = state_of(players.averaged_refiner)
    for turn, adversarial in enumerate((False, True, True)):
        update_refiner(players, images(4, turn), adversarial=adversarial)
        for name, tensor in players.refiner.state_dict().items():
            expected[name] = 0.5 * expected[name] + 0.5 * tensor
        update_discriminator(players, images(4, turn), images(4, turn + 1))
    for name, tensor in players.averaged_refiner.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])
    assert not any(p.requires_grad for p in players.averaged_refiner.parameters())


def test_without_decay_the_refiner_is_its_own_average() -> None:
    players = tiny_players(decay=0.0)
    assert players.averaged_refiner is players.refiner is moving_average_of(players.refiner, decay=0)
    before = state_of(players.refiner)
    average_into(players.refiner, players.refiner, decay=0)
    assert not changed(players.refiner, before)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        players = tiny_players(seed=seed, augmentation=DiscriminatorAugmentation(1, 0.1))
        torch.manual_seed(123 + seed)  # the global generator plays no part
        for turn in range(3):
            update_both(players, turn)
        return state_of(players.refiner)

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_an_odd_or_single_batch_is_no_special_case() -> None:
    players = tiny_players(history=4)
    for count in (1, 3, 1, 5):
        update_discriminator(players, images(count), images(count, 1))
    assert players.history is not None
    assert players.history.size == 4
    assert replace(players.objective, patches="sum").patches == "sum"
