"""A drift budget: the user states how far structure may move, in pixels, and the weight of movement follows.

Training with a budget b is the constrained problem  min_θ L_R(θ)  subject to  drift(θ̄) ≤ b, with L_R of equation 4 and
θ̄ the averaged refiner, which is the one that is kept. R's loss gains ν·M(x̃, x), with M the movement of its images
(`nn.movement`), and ν is the dual variable. Every 25 steps the drift m of θ̄ is measured on the same synthetic images,
by `measures.displacement`. θ̄ is late by the steps that it averages, so ν answers to where it will be after half of
them, a_k: a PI controller in log ν.

    a_k = m_k + ½(m_k − m_{k−2})/(50 (1 − decay))     e_k = max(−1, min(a_k/h − 1, 1))
    I_k = I_{k−1} · exp(max(e_k, −½))                 ν_k = I_k · exp(5 e_k)/h,   0 where e_k ≤ −½

with I from 10⁻⁴ to 10, and h 0.95 of what displacement says of the same images with the noise of a camera, warped by
exactly the budget: known warps calibrate it. In the logarithm the scale of ν need not be known: the right one differs
by orders of magnitude, and where D hardly asks for movement a few thousandths hold it. Below
half of the budget nothing is asked, so that a budget that is not needed costs nothing. λ stays as it is configured: it
weighs every change of a pixel, little of which is movement, and cannot hold it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Self

from torch import Tensor

from simgan.errors import ConfigurationError
from simgan.measures.displacement import REACH_PX, SMALLEST_SIDE_PX, measure_displacement
from simgan.measures.known_warps import noisy, turn, warped
from simgan.training.algorithm import Players
from simgan.training.assembly import Assembly
from simgan.training.candidates import drift_px, refine_batch
from simgan.training.inspection import spread

MEASURED_EVERY = 25
"""Steps between two measurements."""
_IMAGES = 128
_AIM = 0.95
_PROPORTIONAL, _INTEGRAL = 5.0, 1.0
_LEAST_EXCESS, _FASTEST_FALL, _LARGEST_EXCESS = -1.0, -0.5, 1.0
_ASKS_FROM = -0.5  # excess up to which ν is 0
FIRST, WEAKEST, _STRONGEST = 1e-3, 1e-4, 10.0
"""I before the first measurement, and its lower bound, at which the budget holds nothing back."""
_FEWEST_MEASURED = 0.5  # share of the images whose structure can be followed


class DriftBudget:
    """Measures the averaged refiner's drift and sets ν; remembers I, ν and the last two drifts.

    `held_px`: the drift, as it is measured here, that ν aims at.
    """

    def __init__(self, assembly: Assembly, *, budget_px: float) -> None:
        """`ConfigurationError` where the images have no structure that could be followed."""
        self._assembly = assembly
        chosen = spread(len(assembly.synthetic.cache), _IMAGES)
        self._staged = assembly.first_stage(assembly.synthetic.sample(chosen, assembly.crop))
        _refuse_unmeasurable(self._staged)
        self.held_px = _AIM * _reading_of(budget_px, self._staged)
        self._integral, self._weight = FIRST, 0.0
        self._past_px = (0.0, 0.0)

    @classmethod
    def of(cls, assembly: Assembly) -> Self | None:
        """The budget that the configuration asks for, if any."""
        budget_px = assembly.configuration.objective.drift_budget_px
        return cls(assembly, budget_px=budget_px) if budget_px else None

    def due(self, step: int) -> bool:
        """Whether drift is measured after step `step`, counted from 1."""
        return step % MEASURED_EVERY == 0

    def update(self, players: Players) -> dict[str, float | None]:
        """One dual update: measures θ̄ and sets ν in the players' objective; what was found, for the log."""
        drift = drift_px(self._staged, refine_batch(self._assembly, players.averaged_refiner, self._staged))
        # Structure that is not found again has moved farther than can be measured.
        now = REACH_PX if drift is None else drift
        ahead = 0.5 / (2 * MEASURED_EVERY * (1 - players.averaging_decay))
        coming = now + ahead * (now - self._past_px[0])
        self._past_px = (self._past_px[1], now)
        excess = min(max(coming / self.held_px - 1, _LEAST_EXCESS), _LARGEST_EXCESS)
        self._integral = integral_after(self._integral, excess)
        asked = self._integral * math.exp(_PROPORTIONAL * excess) / self.held_px
        self._weight = asked if excess > _ASKS_FROM else 0.0
        self._apply(players)
        return {"drift_px": drift, "excess": excess, "movement_weight": self._weight}

    def _apply(self, players: Players) -> None:
        players.objective = replace(players.objective, movement_weight=self._weight)

    def state_dict(self) -> dict[str, Any]:
        return {"integral": self._integral, "weight": self._weight, "past_px": self._past_px}

    def load_state_dict(self, state: dict[str, Any], players: Players) -> None:
        self._integral, self._weight = float(state["integral"]), float(state["weight"])
        first, second = state["past_px"]
        self._past_px = (float(first), float(second))
        self._apply(players)


def integral_after(integral: float, excess: float) -> float:
    """I_k from I_{k−1} and e_k."""
    moved = integral * math.exp(_INTEGRAL * max(excess, _FASTEST_FALL))
    return min(max(moved, WEAKEST), _STRONGEST)


def _reading_of(budget_px: float, staged: Tensor) -> float:
    images = staged.permute(0, 2, 3, 1).numpy().mean(axis=3, keepdims=True)
    moved = noisy(warped(images, turn(budget_px, *images.shape[1:3])), seed=2)
    found = measure_displacement(noisy(images), moved)
    known = found.drift_px[found.measured]
    return float(known.mean()) if len(known) else budget_px


def _refuse_unmeasurable(staged: Tensor) -> None:
    height, width = staged.shape[2:]
    share = 0.0
    if min(height, width) >= SMALLEST_SIDE_PX:
        images = staged.permute(0, 2, 3, 1).numpy()
        share = float(measure_displacement(images, images).measured.mean())
    if share < _FEWEST_MEASURED:
        raise ConfigurationError(
            f"`objective.drift_budget_px` cannot be held: only {share:.0%} of the synthetic images, "
            f"{height}×{width}, have "
            "structure whose displacement can be measured; set it to 0 and choose "
            "objective.self_regularization_weight, or train on larger crops (data.crop)"
        )
