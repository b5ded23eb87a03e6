"""Two folders to a refined tree, an evaluation and a report.

    python examples/own_folders.py data/synthetic data/real data/real-labelled work

data/synthetic holds a folder for each class (or a labels.csv), data/real images without labels, data/real-labelled real
images with labels of the same kind, for the test. Everything is written below `work`; run again, it continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import simgan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for folder in ("synthetic", "real", "real_labelled", "work"):
        parser.add_argument(folder, type=Path)
    parser.add_argument(
        "--recipe", default="default", help="the name of a recipe, or a TOML file of your own"
    )
    parser.add_argument(
        "--updates", type=int, help="updates of each task model; by default as the images ask for"
    )
    parser.add_argument("--task-seeds", type=int, default=3, help="task models trained of each kind")
    arguments = parser.parse_args()

    synthetic = simgan.ImageTree(arguments.synthetic)
    real = simgan.ImageTree(arguments.real)

    run = simgan.train(
        arguments.recipe,
        synthetic=synthetic,
        real=real,
        run_dir=arguments.work / "run",
        warn=lambda message: print(f"warning: {message}"),
    )
    print(f"kept the refiner of step {run.kept_step}: {run.refiner}")

    refined = arguments.work / "refined"
    simgan.refine(synthetic, run.refiner, refined)

    evaluation = simgan.evaluate(
        synthetic=synthetic,
        refined=simgan.ImageTree(refined),
        real=real,
        real_paths=run.held_out_real,
        real_labelled=simgan.ImageTree(arguments.real_labelled),
        updates=arguments.updates,
        task_seeds=arguments.task_seeds,
        out=arguments.work / "evaluation.json",
    )
    downstream = evaluation.record["downstream"]
    for arm in ("synthetic", "synthetic_matched", "refined", "real"):
        print(f"{arm:18} {downstream['metric']} {downstream[arm]['mean']:.3f}")

    print("report:", simgan.report(run.path, evaluation, arguments.work / "report.html"))


if __name__ == "__main__":
    main()
