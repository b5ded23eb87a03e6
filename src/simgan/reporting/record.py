"""A run directory as read for people: configuration, what was found, what was logged, how far it came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan.evaluation import Evaluation
from simgan.settings import Configuration
from simgan.training.run import RunDirectory

Row = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """`data`: data.json, empty where training has not got so far. `rows`: metrics.jsonl."""

    path: Path
    configuration: Configuration
    data: dict[str, Any]
    rows: tuple[Row, ...]
    weights: Path

    @property
    def steps(self) -> list[Row]:
        """Logged steps of Algorithm 1, warm-ups left out."""
        return [row for row in self._of_kind("step") if row.get("phase") == "adversarial"]

    @property
    def candidates(self) -> list[Row]:
        """Every checkpoint's refiner as it was judged."""
        return self._of_kind("candidate")

    @property
    def kept(self) -> Row | None:
        """The candidate whose refiner is the run's."""
        return next((row for row in reversed(self.candidates) if row.get("kept")), None)

    @property
    def warnings(self) -> list[str]:
        """What was warned of, before training and during it."""
        during = [f"step {row['step']:,}: {row['message']}" for row in self._of_kind("warning")]
        return [*self.data.get("warnings", []), *during]

    @property
    def steps_done(self) -> int:
        """Steps of Algorithm 1 that were logged."""
        return max((int(row["step"]) for row in self.steps), default=0)

    @property
    def finished(self) -> bool:
        """Whether all steps were made."""
        return self.steps_done >= self.configuration.training.steps

    @property
    def seconds(self) -> float:
        """Training time over all its sessions; the clock in the rows starts anew with each."""
        total = before = 0.0
        for row in self._of_kind("step"):
            now = float(row.get("time_sec", before))
            total += now - before if now >= before else now
            before = now
        return total

    @property
    def status(self) -> str:
        """In words."""
        steps = self.configuration.training.steps
        if self.finished:
            return f"finished, {steps:,} steps"
        if not self.rows:
            return f"not started: {steps:,} steps to go"
        if not self.steps:
            return f"in the warm-up, before step 1 of {steps:,}"
        return f"at step {self.steps_done:,} of {steps:,}"

    def _of_kind(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row.get("kind") == kind]


def read_run(path: str | Path) -> RunRecord:
    """The record of the run directory `path`; `RunError` where it is none, or its records are damaged."""
    directory = RunDirectory(path)
    return RunRecord(
        path=directory.path,
        configuration=directory.configuration(),
        data=directory.read_description(),
        rows=tuple(directory.read_metrics()),
        weights=directory.weights,
    )


def find_evaluation(run: RunRecord, evaluation: Evaluation | str | Path | None) -> Evaluation | None:
    """The evaluation itself, or of its file or folder; None: evaluation.json of the run, where there is one."""
    if isinstance(evaluation, Evaluation):
        return evaluation
    if evaluation is not None:
        path = Path(evaluation)
        return Evaluation.load(path / "evaluation.json" if path.is_dir() else path)
    own = run.path / "evaluation.json"
    return Evaluation.load(own) if own.exists() else None
