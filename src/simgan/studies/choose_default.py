"""How the recipe `default` was chosen: variants on the *dev* parts of two tasks, one row of a results file a unit.

    python -m simgan.studies.choose_default --results benchmarks/results/choose_default.csv --threads 2

Tasks: digits (drawn ones → scikit-learn's handwritten ones, first 599 unlabelled, next 599 dev) and usps (Chars74K's
font digits → USPS, first 3,600 images of its train split unlabelled, the rest dev; needs $SIMGAN_DATA). No test part is
read. A unit is (task, variant, seed): train, refine, train the task model of `simgan.tasks` on both sets with the same
budget, read dev. The same command does the missing units.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.studies.sim_to_real import TASKS
from simgan.tasks import StandardAugmentation, match_to_real, train_task
from simgan.training.loop import train
from simgan.weights import load_refiner

# Each variant changes the recipe as it stands; "default" is the recipe itself.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "float32": {"run.precision": "float32"},
    "level matching": {"data.level_matching": True},
    "no task consistency": {"objective.task_consistency_weight": 0.0},
    "no self-ensembling": {"objective.self_ensembling_weight": 0.0},
    "one start": {"training.task_starts": 1},
    "no augmentation before D": {"training.augmentation_shift_px": 0, "training.augmentation_gain": 0.0},
    "spectral normalization": {
        "discriminator.spectral_normalization": True,
        "training.discriminator_learning_rate": 4e-3,
    },
    "narrow discriminator": {"discriminator.width": 32},
    "field 9": {"discriminator.layers": [[64, 3, 1]] * 4},
    "batch 64": {"training.batch_size": 64},
    "lambda 0.1": {"objective.self_regularization_weight": 0.1},
    "lambda 1": {"objective.self_regularization_weight": 1.0},
    "mu 1": {"objective.task_consistency_weight": 1.0},
    "mu 4": {"objective.task_consistency_weight": 4.0},
    "no history": {"training.history_batches": 0},
    "no moving average": {"refiner.average_decay": 0.0},
    "global": {"discriminator.scope": "global"},
    "published output": {"refiner.output": "image", "training.warmup_refiner_steps": 300},
}
UPDATES, TASK_SEEDS = 400, 3
FIELDS = (
    "task", "variant", "seed", "n_dev", "synthetic", "matched", "refined", "refined_standard_error", "real",
    "judge_on_synthetic", "judge_on_refined", "judge_on_dev", "change", "kept_step", "seconds",
)  # fmt: skip

Images = NDArray[np.float32]


def _stack(tree: ImageTree) -> NDArray[Any]:
    return np.stack([tree.read(path) for path in tree.paths()])


def run_unit(task: str, variant: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains one refiner and measures it on dev; one row."""
    trees = TASKS[task](folder / task)
    synthetic, unlabelled = trees.synthetic, trees.unlabelled
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as run_dir:
        overrides = {**trees.settings, "seed": seed, **VARIANTS[variant]}
        run = train("default", run_dir=run_dir, synthetic=synthetic, real=unlabelled, overrides=overrides)
        refiner = load_refiner(run.refiner)
    seconds = time.monotonic() - started
    encode = refiner.value_range.encode
    native = _stack(synthetic)
    before, after, dev, real = (
        encode(images) for images in (native, refiner(native), _stack(trees.dev), _stack(unlabelled))
    )
    labels, dev_labels = (read_labels(tree).values.astype(np.int64) for tree in (synthetic, trees.dev))

    def accuracies(images: Images, answers: NDArray[np.int64]) -> list[float]:
        return [
            1 - float(train_task(images, answers, seed=100 + s, updates=UPDATES,
                                 augmentation=StandardAugmentation(), classes=10).errors(dev, dev_labels).mean())
            for s in range(TASK_SEEDS)
        ]  # fmt: skip

    # The bound and the judge learn from one half of dev; the bound is read on the other, as is the judge.
    half = len(dev) // 2
    bound = train_task(dev[:half], dev_labels[:half], seed=7, updates=UPDATES,
                       augmentation=StandardAugmentation(), classes=10)  # fmt: skip
    seen = np.arange(len(labels)) % 3 == 0  # the judge reads refinements of originals that it has not seen
    judge = train_task(
        np.concatenate([dev[:half], before[seen]]), np.concatenate([dev_labels[:half], labels[seen]]),
        seed=8, updates=UPDATES, augmentation=StandardAugmentation(), classes=10,
    )  # fmt: skip
    refined = accuracies(after, labels)
    numbers = {
        "synthetic": np.mean(accuracies(before, labels)),
        "matched": np.mean(accuracies(match_to_real(before, real, seed=seed), labels)),
        "refined": np.mean(refined),
        "refined_standard_error": np.std(refined, ddof=1) / np.sqrt(TASK_SEEDS),
        "real": 1 - bound.errors(dev[half:], dev_labels[half:]).mean(),
        "judge_on_synthetic": 1 - judge.errors(before[~seen], labels[~seen]).mean(),
        "judge_on_refined": 1 - judge.errors(after[~seen], labels[~seen]).mean(),
        "judge_on_dev": 1 - judge.errors(dev[half:], dev_labels[half:]).mean(),
        "change": np.abs(after - before).mean(),
        "seconds": seconds,
    }
    identity = {"task": task, "variant": variant, "seed": seed, "n_dev": len(dev), "kept_step": run.kept_step}
    return identity | {name: round(float(value), 4) for name, value in numbers.items()}


def main() -> None:
    """Does the units that the results file lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["digits", "usps"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    done = set()
    if arguments.results.exists():
        with arguments.results.open(newline="") as file:
            done = {(row["task"], row["variant"], int(row["seed"])) for row in csv.DictReader(file)}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for task in arguments.tasks:
            for seed in arguments.seeds:
                for variant in arguments.variants:
                    if (task, variant, seed) in done:
                        continue
                    row = run_unit(task, variant, seed, Path(folder))
                    new = not arguments.results.exists()
                    with arguments.results.open("a", newline="") as file:
                        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                        if new:
                            writer.writeheader()
                        writer.writerow(row)
                    print(row, flush=True)


if __name__ == "__main__":
    main()
