"""A drift budget: the user states how far structure may move, in pixels, and λ follows.

Training with a budget b is the constrained problem  min_θ ℓ_real(θ)  subject to  drift(θ) ≤ b. Its dual variable is
the weight of what holds the image in place, here λ of equation 4: where drift is above the budget λ rises, where it is
below λ falls. Drift is measured every 10 steps on the same synthetic images; λ changes by a factor, so that it stays
above 0 and its scale need not be known:

    e_k = min(m_k / b − 1, 2)
    λ_{k+1} = λ_k · exp(η e_k + 0.5 (e_k − e_{k−1})),    η = 0.2 where e_k > 0, else 0.05

The first term is dual ascent in log λ, quicker up than down; the second answers a change of drift at once, which damps
the oscillation that the delay between λ and drift would cause. λ weighs all change and drift counts only what moves, so
levels and textures are as free as the budget leaves them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Self

from torch import Tensor

from simgan.errors import ConfigurationError
from simgan.measures.displacement import SMALLEST_SIDE_PX, measure_displacement
from simgan.training.algorithm import Players
from simgan.training.assembly import Assembly
from simgan.training.candidates import drift_px, refine_batch
from simgan.training.inspection import spread

MEASURED_EVERY = 10
"""Steps between two measurements."""
_IMAGES = 64
_RISING, _FALLING, _PROPORTIONAL = 0.2, 0.05, 0.5
_LARGEST_ERROR = 2.0
_WEAKEST, _STRONGEST = 1e-3, 1e3  # λ
_FEWEST_MEASURED = 0.5  # share of the images whose structure can be followed


class DriftBudget:
    """Measures the current refiner's drift and sets λ; remembers λ and the last error."""

    def __init__(self, assembly: Assembly, *, budget_px: float) -> None:
        """`ConfigurationError` where the images have no structure that could be followed."""
        self._assembly, self.budget_px = assembly, budget_px
        chosen = spread(len(assembly.synthetic.cache), _IMAGES)
        self._staged = assembly.first_stage(assembly.synthetic.sample(chosen, assembly.crop))
        self.weight = max(assembly.configuration.objective.self_regularization_weight, _WEAKEST)
        self._last_error: float | None = None
        _refuse_unmeasurable(self._staged)

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
        drift = drift_px(self._staged, refine_batch(self._assembly, players.refiner, self._staged))
        # Structure that is not found again has moved too far to be measured.
        error = _LARGEST_ERROR if drift is None else min(drift / self.budget_px - 1, _LARGEST_ERROR)
        change = error - (error if self._last_error is None else self._last_error)
        exponent = (_RISING if error > 0 else _FALLING) * error + _PROPORTIONAL * change
        self.weight = min(max(self.weight * math.exp(exponent), _WEAKEST), _STRONGEST)
        self._last_error = error
        self._apply(players)
        return {"drift_px": drift, "self_regularization_weight": self.weight}

    def _apply(self, players: Players) -> None:
        players.objective = replace(players.objective, self_regularization_weight=self.weight)

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "last_error": self._last_error}

    def load_state_dict(self, state: dict[str, Any], players: Players) -> None:
        self.weight = float(state["weight"])
        last = state["last_error"]
        self._last_error = None if last is None else float(last)
        if last is not None:
            self._apply(players)


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
