"""A drift budget: the user states how far structure may move, in pixels, and λ follows.

Training with a budget b is the constrained problem  min_θ ℓ_real(θ)  subject to  drift(θ̄) ≤ b  for the averaged refiner
θ̄, which is the one that is kept. Its dual variable is the weight of what holds the image in place, here λ of equation
4: where drift is above the budget λ rises, where it is below λ falls. Every 25 steps the drift m of θ̄ and r of R itself
are measured on the same synthetic images. θ̄ is late: it still holds what R was 1/(1 − decay) steps ago. R's drift tells
where it goes, but jumps; so λ answers to m times what R does now over what it did in θ̄'s memory:

    r̄_k = β r̄_{k−1} + (1 − β) r_k,  β = decay²⁵        a_k = m_k · median(r_k, …, r_{k−3}) / r̄_k
    e_k = max(−½, min(a_k/b − 1, 3))                   λ_{k+1} = λ_k · exp(0.2 e_k),  10⁻³ ≤ λ ≤ 10³

with b 0.85 of what the estimator says of the same images with the noise of a camera, warped by exactly the budget:
known warps calibrate it, and the rest is kept for what it misses, since refined structure moves here and there, not as
a whole. This is dual ascent in log λ: λ stays above 0 and its scale need not be known. λ falls more slowly than it
rises, since drift comes late and then fast: at first there is none, whatever λ. λ weighs all change and drift counts
only what moves, so levels and textures are as free as the budget leaves them.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any, Self

from torch import Tensor, nn

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
_AIM = 0.85  # displacement reads less than optical flow in what a refiner moves
_RATE = 0.2
_LEAST_ERROR, _LARGEST_ERROR = -0.5, 3.0
_RECENT = 4  # measurements of R's own drift, of which the median counts
_NO_DRIFT_PX = 1e-3
_WEAKEST, _STRONGEST = 1e-3, 1e3
"""Bounds of λ: at the lower one the budget asks for nothing."""
_FEWEST_MEASURED = 0.5  # share of the images whose structure can be followed


class DriftBudget:
    """Measures the averaged refiner's drift and sets λ; remembers λ and what R's own drift has been.

    `held_px`: the drift, as it is measured here, that λ aims at.
    """

    def __init__(self, assembly: Assembly, *, budget_px: float) -> None:
        """`ConfigurationError` where the images have no structure that could be followed."""
        self._assembly = assembly
        chosen = spread(len(assembly.synthetic.cache), _IMAGES)
        self._staged = assembly.first_stage(assembly.synthetic.sample(chosen, assembly.crop))
        self.weight = max(assembly.configuration.objective.self_regularization_weight, _WEAKEST)
        self._recent_px: list[float] = []
        self._mean_px = 0.0
        _refuse_unmeasurable(self._staged)
        self.held_px = _AIM * _reading_of(budget_px, self._staged)

    @classmethod
    def of(cls, assembly: Assembly) -> Self | None:
        """The budget that the configuration asks for, if any."""
        budget_px = assembly.configuration.objective.drift_budget_px
        return cls(assembly, budget_px=budget_px) if budget_px else None

    def due(self, step: int) -> bool:
        """Whether drift is measured after step `step`, counted from 1."""
        return step % MEASURED_EVERY == 0

    def update(self, players: Players) -> dict[str, float | None]:
        """One dual update: measures R and sets λ in the players' objective; what was found, for the log."""
        drift = self._drift(players.averaged_refiner)
        error = (
            self._destination(drift, self._drift(players.refiner), players.averaging_decay) / self.held_px - 1
        )
        self.weight *= math.exp(_RATE * min(max(error, _LEAST_ERROR), _LARGEST_ERROR))
        self.weight = min(max(self.weight, _WEAKEST), _STRONGEST)
        self._apply(players)
        return {"drift_px": drift, "self_regularization_weight": self.weight}

    def _destination(self, averaged: float | None, own: float | None, decay: float) -> float:
        """a_k: where the averaged refiner's drift goes."""
        # Structure that is not found again has moved farther than can be measured.
        m, r = (REACH_PX if drift is None else drift for drift in (averaged, own))
        kept = decay**MEASURED_EVERY if self._recent_px else 0.0
        self._mean_px = kept * self._mean_px + (1 - kept) * r
        self._recent_px = [*self._recent_px, r][-_RECENT:]
        return m * statistics.median(self._recent_px) / max(self._mean_px, _NO_DRIFT_PX)

    def _drift(self, refiner: nn.Module) -> float | None:
        return drift_px(self._staged, refine_batch(self._assembly, refiner, self._staged))

    def _apply(self, players: Players) -> None:
        players.objective = replace(players.objective, self_regularization_weight=self.weight)

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "recent_px": self._recent_px, "mean_px": self._mean_px}

    def load_state_dict(self, state: dict[str, Any], players: Players) -> None:
        self.weight, self._mean_px = float(state["weight"]), float(state["mean_px"])
        self._recent_px = [*state["recent_px"]]
        if self._recent_px:
            self._apply(players)


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
