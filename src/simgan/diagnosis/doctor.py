"""diagnose(): what happened in a run and what to change, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simgan.data.trees import ImageTree
from simgan.diagnosis.cues import Image, find_cues, find_layout
from simgan.diagnosis.dynamics import RULES
from simgan.diagnosis.finding import Chart, Finding
from simgan.errors import DataError, ImageError, SimganError
from simgan.evaluation import Evaluation
from simgan.images import split_alpha
from simgan.settings import TreeSettings
from simgan.training.run import RunDirectory

_LOOKED_AT = 100  # images of each side


@dataclass(frozen=True)
class Diagnosis:
    """`findings`, the gravest first; `unknown`: what could not be looked at, and why."""

    run: Path
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def diagnose(run: str | Path, evaluation: Evaluation | str | Path | None = None) -> Diagnosis:
    """Looks at the records of a run, at its evaluation, and at 100 images of each side.

    `evaluation`: of `simgan.evaluate`, or its file; None takes evaluation.json of the run where there is one.
    `RunError` where `run` is no run directory or its records are damaged, `DataError` where the evaluation is no such
    file.
    """
    directory = RunDirectory(run)
    chart = Chart(
        directory.configuration(),
        directory.read_description(),
        tuple(directory.read_metrics()),
        _record(directory.path, evaluation),
    )
    unknown = []
    if not chart.candidates:
        unknown.append("the game between the networks: training has not reached its first checkpoint")
    if chart.evaluation is None:
        unknown.append("the labels: there is no evaluation.json; `simgan evaluate` writes one")
    findings: list[Finding] = []
    try:
        sides = [_look(side) for side in (chart.configuration.synthetic, chart.configuration.real)]
        findings += [*find_cues(*sides), *find_layout(*sides)]
    except SimganError as error:
        unknown.append(f"the images: {error}")
    findings += find_labels(chart)
    findings += [finding for rule in RULES for finding in rule(chart)]
    return Diagnosis(directory.path, tuple(findings), tuple(unknown))


def find_labels(chart: Chart) -> Iterator[Finding]:
    """Do labels of the two sides mean the same, as far as the evaluation knows?"""
    record = chart.evaluation
    if record is None:
        return
    labels = record.get("labels")
    cost = None if labels is None else labels.get("cost_points")
    if labels is not None and not labels["holds"] and cost is not None and cost <= labels["tolerance_points"]:
        yield Finding(
            "label mismatch",
            "Labels do not hold, and it is not the refiner: a judge reads unrefined images "
            f"({labels['judge_on_synthetic']:.3f}) as badly as refined ones "
            f"({labels['judge_on_refined']:.3f}), real ones at "
            f"{labels['judge_on_real']:.3f}.",
            "Compare some synthetic labels with their images, and with what the real labels mean (centre or corner, "
            "degrees or radians, which side is up, which class has which name).",
        )
    for warning in record.get("warnings", []):
        if "lie outside the synthetic range" in warning or warning.startswith("the classes are not equally"):
            yield Finding(
                "label mismatch",
                f"The labels are distributed otherwise: {warning.split('; ')[0]}.",
                "Let the simulator draw labels as they occur in reality.",
            )


def _record(run: Path, evaluation: Evaluation | str | Path | None) -> dict[str, object] | None:
    if isinstance(evaluation, Evaluation):
        return evaluation.record
    path = run / "evaluation.json" if evaluation is None else Path(evaluation)
    if evaluation is None and not path.exists():
        return None
    return Evaluation.load(path / "evaluation.json" if path.is_dir() else path).record


def _look(side: TreeSettings) -> list[Image]:
    """Up to 100 native images, evenly spread; those that cannot be read are passed over."""
    tree = ImageTree(side.root, side.images)
    paths = tree.paths()
    places = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).round().astype(int))
    images = []
    for place in places:
        try:
            images.append(split_alpha(tree.read(paths[place]))[0])
        except ImageError:
            continue
    if not images:
        raise DataError(f"{side.root}: no image can be read")
    return images
