"""Early warnings in words, from the numbers that training logs anyway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simgan.training.candidates import Candidate

_PATIENCE = 20  # logged rows in a row before D counts as perfect: a single one may be luck
_PERFECT = 0.98


class Watch:
    """Remembers just enough to say each thing once."""

    def __init__(self, *, levels: int) -> None:
        self._level_px = 2 / (levels - 1)  # one grey level in [-1, 1]
        self._perfect_rows = 0
        self._said: list[str] = []

    def observe(self, numbers: dict[str, float], *, phase: str) -> Iterator[str]:
        """Warnings due after a logged row."""
        if phase != "adversarial":
            return
        perfect = numbers.get("discriminator_accuracy", 0.0) >= _PERFECT
        self._perfect_rows = self._perfect_rows + 1 if perfect else 0
        if self._perfect_rows >= _PATIENCE:
            yield from self._once(
                "discriminator perfect",
                "the discriminator tells refined from real without error for a while: the refiner gets no useful "
                "gradient. Look for a cue that it could use (levels, sizes, padding, JPEG blocks on one side), lower "
                "training.discriminator_learning_rate, or raise training.refiner_updates_per_step",
            )

    def observe_candidate(self, candidate: Candidate, *, last: bool) -> Iterator[str]:
        """Warnings due after a candidate was judged."""
        if last and candidate.distance_from_identity < self._level_px / 2:
            yield from self._once(
                "identity",
                f"the refiner changes almost nothing (mean change {candidate.distance_from_identity:.4f}, half a grey "
                f"level is {self._level_px / 2:.4f}): lower objective.self_regularization_weight, train longer, or "
                "check that the two sides differ at all",
            )
        if candidate.diversity < 0.5:
            yield from self._once(
                "diversity",
                f"refined images have become alike: their spread is {candidate.diversity:.0%} of the synthetic ones'. "
                "Raise objective.self_regularization_weight or lower the learning rates",
            )

    def _once(self, name: str, message: str) -> Iterator[str]:
        if name not in self._said:
            self._said.append(name)
            yield message

    def state_dict(self) -> dict[str, Any]:
        return {"perfect_rows": self._perfect_rows, "said": list(self._said)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._perfect_rows, self._said = int(state["perfect_rows"]), list(state["said"])
