"""Which phase a turn belongs to, and the learning rates at a step."""

from __future__ import annotations

from dataclasses import replace

from simgan.settings import TrainingSettings
from simgan.training.algorithm import Players, set_learning_rate

Phase = str
"""A name of `phases_of`."""


def settings_without_idle_phases(t: TrainingSettings, players: Players) -> TrainingSettings:
    """`t` without the warm-ups of a task network that is not there, or that learns from no real images."""
    if players.task is None:
        t = replace(t, warmup_task_steps=0)
    if players.task is None or players.task.ensembling is None:
        t = replace(t, warmup_self_ensembling_steps=0)
    return t


def phases_of(t: TrainingSettings) -> list[tuple[Phase, int]]:
    """The phases in their order, with their numbers of turns."""
    return [
        ("warmup_refiner", t.warmup_refiner_steps),
        ("warmup_task", t.warmup_task_steps),
        ("warmup_self_ensembling", t.warmup_self_ensembling_steps),
        ("warmup_discriminator", t.warmup_discriminator_steps),
        ("adversarial", t.steps),
    ]


def phase_of(turn: int, t: TrainingSettings) -> tuple[Phase, int]:
    """The phase that turn number `turn` (from 0) belongs to, and its number within the phase."""
    for phase, length in phases_of(t)[:-1]:
        if turn < length:
            return phase, turn
        turn -= length
    return "adversarial", turn


def learning_rate_factor(t: TrainingSettings, step: int) -> float:
    """What both learning rates are multiplied with at step `step` (from 0) of Algorithm 1."""
    factor = 1.0
    if t.learning_rate_decay == "linear":
        factor = max(0.02, min(1.0, 2 * (1 - step / t.steps)))
    for start, milestone in t.learning_rate_milestones:
        if step >= start:
            factor *= milestone
    return factor


def set_learning_rates(players: Players, t: TrainingSettings, step: int) -> None:
    """Both optimizers' learning rates for step `step` of Algorithm 1."""
    factor = learning_rate_factor(t, step)
    set_learning_rate(players.refiner_optimizer, t.refiner_learning_rate * factor)
    set_learning_rate(players.discriminator_optimizer, t.discriminator_learning_rate * factor)
