"""Algorithm 1 of the paper: how R_θ and D_φ are updated. Tensors in, tensors out; no files, no clock, no printing.

    for t = 1 … T:
        K_g times:  draw synthetic x;              one optimizer step of R on L_R (equation 4)
        K_d times:  draw synthetic x and real y;   refine with the current θ;
                    one optimizer step of D on L_D (equation 2), half of its refined images from the history

Before it, R alone learns to reproduce its input, then D alone learns from a fixed R.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.discriminator import Discriminator
from simgan.nn.draws import Draws
from simgan.nn.feature_transforms import FeatureTransform
from simgan.nn.history import HistoryBuffer
from simgan.nn.losses import (
    PatchReduction,
    discriminator_loss,
    refiner_adversarial_loss,
    refiner_loss,
    self_regularization,
)
from simgan.nn.movement import movement_px
from simgan.nn.quantization import Quantization
from simgan.nn.route import Route

if TYPE_CHECKING:
    from simgan.training.task_consistency import TaskConsistency


class SyntheticBatch(NamedTuple):
    """Synthetic images (N, C, H, W) float32 in [-1, 1] on the route's device, and their labels where they are used."""

    images: Tensor
    labels: Tensor | None = None


DrawSynthetic = Callable[[], SyntheticBatch]
DrawReal = Callable[[], Tensor]
"""Draws the next real images, (N, C, H, W) float32 in [-1, 1] on the route's device."""

OptimizerName = Literal["sgd", "adam"]
_OF_DEVICE = ("lr", "fused", "capturable")

Metrics = dict[str, Tensor]
"""Named scalars, still on the device: reading them is the caller's decision to wait."""


@dataclass(frozen=True)
class Objective:
    """The losses: λ in mean form, ψ, whether the patches of an image are summed or averaged, and ν, the weight of a
    pixel of movement."""

    self_regularization_weight: float
    feature_transform: FeatureTransform
    patches: PatchReduction
    movement_weight: float = 0.0


@dataclass
class Players:
    """The two networks with all that their updates need."""

    refiner: nn.Module
    discriminator: Discriminator
    refiner_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    objective: Objective
    quantization: Quantization
    route: Route
    history: HistoryBuffer | None
    averaged_refiner: nn.Module
    averaging_decay: float
    augmentation: DiscriminatorAugmentation | None
    carries_lowest: bool
    """Whether pixels at −1, where invalid ones are encoded, pass the refiner unchanged."""
    draws: Draws
    task: TaskConsistency | None = None

    def refine(self, synthetic: Tensor) -> Tensor:
        """x̃ = R_θ(x), float32."""
        with self.route.autocast():
            refined: Tensor = self.refiner(synthetic)
        return (
            torch.where(synthetic <= -1, synthetic, refined.float())
            if self.carries_lowest
            else refined.float()
        )

    def judge(self, images: Tensor) -> Tensor:
        """D's logits for images as files would hold them, float32. Refined and real are augmented alike."""
        images = self.quantization.quantize(images)
        if self.augmentation is not None:
            images = self.augmentation(images, self.draws)
        with self.route.autocast():
            logits: Tensor = self.discriminator(images)
        return logits.float()


def update_refiner(
    players: Players,
    synthetic: Tensor,
    labels: Tensor | None = None,
    *,
    real: Tensor | None = None,
    adversarial: bool = True,
) -> Metrics:
    """One optimizer step of R on equation 4; with `adversarial` False on its second term alone, λ included (without
    it, the printed learning rate on a sum over pixels diverges).

    Where there is task consistency, R's loss has its term, and one step of the task network follows; `real` images,
    where it learns from such, are for that step alone.
    """
    objective, task = players.objective, players.task
    # Eval mode keeps spectral normalization's power iteration, which is D's state, out of R's update.
    players.discriminator.eval().requires_grad_(False)
    players.refiner.train()
    refined = players.refine(synthetic)
    regularization = self_regularization(
        refined=refined, synthetic=synthetic, feature_transform=objective.feature_transform
    )
    metrics = {"self_regularization": regularization.detach()}
    patch_count = math.prod(players.discriminator.patch_grid(*synthetic.shape[2:]))
    adversarial_loss = torch.zeros((), device=synthetic.device)
    if adversarial:
        adversarial_loss = refiner_adversarial_loss(players.judge(refined), patches=objective.patches)
        metrics["adversarial_loss"] = adversarial_loss.detach()
    loss = refiner_loss(
        adversarial=adversarial_loss,
        regularization=regularization,
        weight=objective.self_regularization_weight,
        patch_count=patch_count,
        patches=objective.patches,
    )
    if adversarial and task is not None and labels is not None:
        consistency = task.loss(players.quantization.quantize(refined), labels)
        loss = loss + task.weight * (patch_count if objective.patches == "sum" else 1) * consistency
        metrics["task_consistency"] = consistency.detach()
    if objective.movement_weight:
        movement = movement_px(refined=refined, synthetic=synthetic).mean()
        loss = (
            loss + objective.movement_weight * (patch_count if objective.patches == "sum" else 1) * movement
        )
    metrics["refiner_loss"] = loss.detach()
    players.refiner_optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    players.refiner_optimizer.step()
    average_into(players.averaged_refiner, players.refiner, decay=players.averaging_decay)
    if adversarial and task is not None and labels is not None:
        both = torch.cat([synthetic, players.quantization.quantize(refined.detach())])
        metrics["task_loss"] = task.update(both, torch.cat([labels, labels]), real=real)
    return metrics


def update_discriminator(players: Players, synthetic: Tensor, real: Tensor) -> Metrics:
    """One optimizer step of D on equation 2.

    `synthetic` and `real` hold b images each. D sees b real beside b refined: b/2 of the current R and b/2 from the
    history, where there is one that holds as many. Then b/2 new ones enter the history.
    """
    players.discriminator.train().requires_grad_(True)
    half = len(synthetic) // 2
    history, draws = players.history, players.draws
    with torch.no_grad():  # φ's step must not reach θ
        if history is not None and history.size >= half > 0:
            current = players.refine(synthetic[half:])
            past = players.quantization.values(history.sample(half, draws))
            refined = torch.cat([current, past])
        else:
            refined = current = players.refine(synthetic)
    logits = players.judge(torch.cat([refined, real]))
    refined_logits, real_logits = logits[: len(refined)], logits[len(refined) :]
    loss = discriminator_loss(
        refined_logits=refined_logits, real_logits=real_logits, patches=players.objective.patches
    )
    players.discriminator_optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    players.discriminator_optimizer.step()
    if history is not None:
        history.add(players.quantization.codes(current[: max(half, 1)]), draws)
    correct_refined = (refined_logits.detach() > 0).float().mean()
    correct_real = (real_logits.detach() <= 0).float().mean()
    return {
        "discriminator_loss": loss.detach(),
        "discriminator_accuracy": (correct_refined + correct_real) / 2,
    }


def update_task(players: Players, batch: SyntheticBatch, real: Tensor | None = None) -> Metrics:
    """One optimizer step of the task network on synthetic images, and on unlabelled `real` ones: its warm-ups."""
    assert players.task is not None, "only where task consistency is on"
    assert batch.labels is not None, "task consistency draws labels"
    return {"task_loss": players.task.update(batch.images, batch.labels, real=real)}


def adversarial_step(
    players: Players,
    draw_synthetic: DrawSynthetic,
    draw_real: DrawReal,
    *,
    refiner_updates: int,
    discriminator_updates: int,
) -> Metrics:
    """One turn of Algorithm 1: K_g updates of R, then K_d of D; the metrics of the last of each."""
    metrics: Metrics = {}
    task_learns_real = players.task is not None and players.task.ensembling is not None
    for _ in range(refiner_updates):
        real = draw_real() if task_learns_real else None
        metrics |= update_refiner(players, *draw_synthetic(), real=real)
    for _ in range(discriminator_updates):
        metrics |= update_discriminator(players, draw_synthetic().images, draw_real())
    return metrics


def optimizer_of(
    network: nn.Module, *, name: OptimizerName, learning_rate: float, device: torch.device
) -> torch.optim.Optimizer:
    """Plain SGD, or Adam with β = (0.5, 0.999); one kernel moves all weights. On a GPU the learning rate lies there,
    where a captured update reads it."""
    rate = torch.tensor(learning_rate, device=device) if device.type == "cuda" else learning_rate
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr=rate, fused=True)
    capturable = device.type == "cuda"
    return torch.optim.Adam(
        network.parameters(), lr=rate, betas=(0.5, 0.999), fused=True, capturable=capturable
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """From the next update on, captured ones too."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict`, with the settings that belong to the device, not to the run, left as they are here, and the
    moments in the memory layout of their weights: a fused step goes through both as if there were one."""
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    placed = [group | {key: own[key] for key in _OF_DEVICE if key in own} for group, own in groups]
    optimizer.load_state_dict({**state, "param_groups": placed})
    for weights, moments in optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == weights.shape:
                moments[name] = torch.empty_like(weights, dtype=moment.dtype).copy_(moment)
    set_learning_rate(optimizer, float(state["param_groups"][0]["lr"]))


@torch.no_grad()
def average_into(averaged: nn.Module, network: nn.Module, *, decay: float) -> None:
    """θ̄ ← decay·θ̄ + (1 − decay)·θ, the moving average of the refiner; decay 0 copies."""
    if averaged is network:
        return
    targets: list[Tensor] = list(averaged.parameters())
    sources: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(targets, sources, 1 - decay)


def moving_average_of(refiner: nn.Module, *, decay: float) -> nn.Module:
    """The network that will hold θ̄: a copy of `refiner`, or `refiner` itself where decay is 0."""
    return refiner if decay == 0 else copy.deepcopy(refiner).requires_grad_(False)
