"""Which phase a turn belongs to, and the learning rates at a step."""

from __future__ import annotations

from simgan.settings import TrainingSettings
from simgan.training.algorithm import Players, set_learning_rate

Phase = str  # "warmup_refiner" | "warmup_task" | "warmup_discriminator" | "adversarial"


def phase_of(turn: int, t: TrainingSettings) -> tuple[Phase, int]:
    """The phase that turn number `turn` (from 0) belongs to, and its number within the phase."""
    if turn < t.warmup_refiner_steps:
        return "warmup_refiner", turn
    turn -= t.warmup_refiner_steps
    if turn < t.warmup_task_steps:
        return "warmup_task", turn
    turn -= t.warmup_task_steps
    if turn < t.warmup_discriminator_steps:
        return "warmup_discriminator", turn
    return "adversarial", turn - t.warmup_discriminator_steps


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
