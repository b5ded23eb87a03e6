"""The whole loop on a sim-to-real task: what `simgan demo` runs, and what the studies repeat over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simgan.data.trees import ImageTree
from simgan.evaluation import ARMS, Evaluation, evaluate
from simgan.refinement import refine
from simgan.reporting import report
from simgan.studies.sim_to_real import SimToReal, handwritten_digits
from simgan.training.loop import Progress, train

DEMO_UPDATES = 400  # of every arm's task model: two arms' worth of seconds, and past the knee of the curve

Say = Callable[[str], None]


def run_demo(
    run_dir: Path,
    *,
    seed: int = 0,
    overrides: dict[str, Any] | None = None,
    task_seeds: int = 3,
    say: Say | None = None,
    warn: Say | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Simulates, trains, refines, evaluates and reports in `run_dir`; the same call again continues.

    `say` is told what is done now, `warn` each warning of training and refining (unset: so is `say`).
    Leaves `run_dir/report.html` and `run_dir/evaluation.json`; returns the evaluation.
    """
    tell: Say = say if say is not None else lambda _: None
    tell("drawing digits from fonts; writing the handwritten ones in three parts")
    task = handwritten_digits(run_dir / "data")
    return run_task(
        task,
        run_dir,
        seed=seed,
        overrides=overrides,
        task_seeds=task_seeds,
        updates=DEMO_UPDATES,
        command=f"simgan demo --seed {seed}",
        say=tell,
        warn=warn if warn is not None else tell,
        progress=progress,
    )


def run_task(
    task: SimToReal,
    run_dir: Path,
    *,
    seed: int,
    command: str,
    overrides: dict[str, Any] | None = None,
    task_seeds: int = 3,
    updates: int | None = None,
    arms: Sequence[str] = ARMS,
    say: Say,
    warn: Say,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Trains with recipe `default`, refines, evaluates on the test part, and reports, all in `run_dir`."""
    say("training the refiner on synthetic and unlabelled real images (recipe: default)")
    run = train(
        "default",
        run_dir=run_dir / "training",
        synthetic=task.synthetic,
        real=task.unlabelled,
        overrides={**task.settings, "seed": seed, **(overrides or {})},
        progress=progress,
        warn=warn,
    )
    say("refining the synthetic set")
    refined = ImageTree(run_dir / "data" / "refined")
    refine(task.synthetic, run.refiner, refined.root, warn=warn)
    say("evaluating on real images that no refiner saw")
    evaluation = evaluate(
        synthetic=task.synthetic,
        refined=refined,
        real=task.unlabelled,
        real_labelled=task.test,
        real_dev=task.dev,
        real_paths=run.held_out_real,
        seed=seed,
        task_seeds=task_seeds,
        updates=updates,
        arms=arms,
        generator=task.generator,
        out=run_dir / "evaluation.json",
        command=command,
        progress=say,
    )
    say("writing the report")
    report(run.path, evaluation, run_dir / "report.html", refined=refined)
    return evaluation
