"""What the doctor says: one finding, and what a run looks like to the rules that make findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simgan.settings import Configuration

Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """`name` for machines; `what` happened, with its figures; `change`: what to do about it."""

    name: str
    what: str
    change: str


@dataclass(frozen=True)
class Chart:
    """A patient's chart: configuration, data.json, the rows of metrics.jsonl, evaluation.json where there is one."""

    configuration: Configuration
    data: dict[str, Any]
    rows: tuple[Row, ...]
    evaluation: dict[str, Any] | None = None

    @property
    def late_steps(self) -> list[Row]:
        """The last third of the logged steps of Algorithm 1: where training arrived, not where it came through."""
        steps = [row for row in self.rows if row.get("kind") == "step" and row.get("phase") == "adversarial"]
        return steps[-max(1, len(steps) // 3) :] if steps else []

    @property
    def candidates(self) -> list[Row]:
        """Every judged refiner."""
        return [row for row in self.rows if row.get("kind") == "candidate"]

    @property
    def kept(self) -> Row | None:
        """The candidate whose refiner is the run's."""
        return next((row for row in reversed(self.candidates) if row.get("kept")), None)
