"""The embedded default: digits drawn from fonts, refined with unlabelled handwritten ones, tested on others' hands.

Real images: the 1,797 handwritten digits of scikit-learn in file order, in which each writer's digits stand together:
the first 599 unlabelled, the next 599 dev, the last 599 test. They are never shuffled, so that no writer is on two sides
(but for the two who are cut).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from simgan.data.trees import ImageTree
from simgan.evaluation import Evaluation, evaluate
from simgan.images import encode_image, write_atomically
from simgan.refinement import refine
from simgan.reporting import report
from simgan.simulators.digits import LEVEL_STEP, VERSION, simulate_digits
from simgan.training.loop import Progress, train

SYNTHETIC_COUNT = 2000
SYNTHETIC_SEED = 0  # the set is the same in every demo: seeds vary what is trained, not what is trained on
PART = 599  # images in each of the three parts of the real set
VALUES = {"data.value_low": 0, "data.value_high": 16 * LEVEL_STEP, "data.value_step": LEVEL_STEP}

Say = Callable[[str], None]


@dataclass(frozen=True)
class DigitTrees:
    """The four folders of the task."""

    synthetic: ImageTree
    unlabelled: ImageTree
    dev: ImageTree
    test: ImageTree


def digit_trees(folder: Path) -> DigitTrees:
    """Writes the task's images below `folder` where they are not there yet."""
    synthetic = folder / "synthetic"
    if not (synthetic / "parameters.csv").exists():  # written last
        simulate_digits(synthetic, count=SYNTHETIC_COUNT, seed=SYNTHETIC_SEED)
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    for number, part in enumerate(("unlabelled", "dev", "test")):
        rows = range(number * PART, (number + 1) * PART)
        _write_part(folder / f"real-{part}", images, None if part == "unlabelled" else labels, rows)
    return DigitTrees(synthetic=ImageTree(synthetic), **{
        part: ImageTree(folder / f"real-{part}") for part in ("unlabelled", "dev", "test")
    })  # fmt: skip


def _write_part(folder: Path, images: Any, labels: Any | None, rows: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("path", "class"))
    for row in rows:
        path = folder / f"{row:04d}.png"
        if not path.exists():
            write_atomically(path, encode_image((images[row] * LEVEL_STEP)[:, :, None], ".png"))
        if labels is not None:
            writer.writerow((path.name, labels[row]))
    if labels is not None:
        write_atomically(folder / "labels.csv", table.getvalue().encode())


def run_demo(
    run_dir: Path,
    *,
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
    task_seeds: int = 3,
    say: Say | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Simulates, trains, refines, evaluates and reports in `run_dir`; the same call again continues.

    Leaves `run_dir/report.html` and `run_dir/evaluation.json`; returns the evaluation.
    """
    tell: Say = say if say is not None else lambda _: None
    data = run_dir / "data"
    tell(f"drawing {SYNTHETIC_COUNT} digits from fonts, writing {3 * PART} handwritten ones")
    trees = digit_trees(data)
    tell("training the refiner on synthetic and unlabelled real digits (recipe: default)")
    run = train(
        "default",
        run_dir=run_dir / "training",
        synthetic=trees.synthetic,
        real=trees.unlabelled,
        overrides={**VALUES, "seed": seed, **(overrides or {})},
        progress=progress,
        warn=tell,
    )
    tell("refining the synthetic set")
    refined_dir = data / "refined"
    refine(trees.synthetic, run.refiner, refined_dir, warn=tell)
    tell("evaluating on handwritten digits that no refiner saw")
    evaluation = evaluate(
        synthetic=trees.synthetic,
        refined=ImageTree(refined_dir),
        real=trees.unlabelled,
        real_labelled=trees.test,
        real_dev=trees.dev,
        real_paths=run.held_out_real,
        seed=seed,
        task_seeds=task_seeds,
        generator={"generator": "simgan.simulators.digits", "version": VERSION},
        out=run_dir / "evaluation.json",
        command=f"simgan demo --seed {seed}",
        progress=tell,
    )
    tell("writing the report")
    report(run.path, evaluation, run_dir / "report.html", refined=ImageTree(refined_dir))
    return evaluation
