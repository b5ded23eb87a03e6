"""How much of the gap does refining close? Whole runs over seeds, each row kept, pooled into one table.

    python -m simgan.studies.gap digits --results benchmarks/results/gap-digits
    python -m simgan.studies.gap usps --results benchmarks/results/gap-usps       (needs $SIMGAN_DATA)

A unit is one seed: train a refiner with recipe `default`, refine, evaluate on the test part. Its evaluation.json and
per-image outcomes are kept in the results folder; the same command does the missing seeds, then writes pooled.json:
intervals by bootstrap over refiner seed × task seed × test group. The synthetic set is the same for all seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from simgan.evaluation import ARMS, Evaluation, pool
from simgan.images import write_atomically
from simgan.studies.demo import DEMO_UPDATES, run_task
from simgan.studies.sim_to_real import TASKS

# USPS has five times the images and four times the pixels: four arms and two task seeds keep a unit within minutes.
SCOPE: dict[str, tuple[tuple[str, ...], int]] = {
    "digits": (tuple(ARMS), 3),
    "usps": (("synthetic", "synthetic_matched", "refined", "synthetic_plus_refined", "real"), 2),
}


def run_seed(task: str, seed: int, folder: Path, results: Path) -> None:
    """One unit: `results/seed_N.json` and `.npz`."""
    arms, task_seeds = SCOPE[task]
    run_dir = folder / f"seed_{seed}"

    def say(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    evaluation = run_task(
        TASKS[task](folder / "task"),
        run_dir,
        seed=seed,
        command=f"python -m simgan.studies.gap {task} --seeds {seed}",
        task_seeds=task_seeds,
        updates=DEMO_UPDATES,
        arms=arms,
        say=say,
        warn=say,
    )
    # Where the study ran is of no interest later.
    record = json.loads(json.dumps(evaluation.record).replace(f"{folder}/", ""))
    replace(evaluation, record=record).save(results / f"seed_{seed}.json")
    shutil.rmtree(run_dir)


def main() -> None:
    """Does the seeds that the results folder lacks, then pools all that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            if not (arguments.results / f"seed_{seed}.json").exists():
                run_seed(arguments.task, seed, Path(folder), arguments.results)
    evaluations = [Evaluation.load(path) for path in sorted(arguments.results.glob("seed_*.json"))]
    pooled = pool(evaluations)
    write_atomically(arguments.results / "pooled.json", (json.dumps(pooled, indent=2) + "\n").encode())
    print(json.dumps(pooled, indent=2))


if __name__ == "__main__":
    main()
