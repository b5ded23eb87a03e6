"""Real eyes: how wide is the gap, and how much of it does refining close? Units of minutes, each result kept.

    python -m simgan.studies.eyes gap --work runs/eyes --results benchmarks/results/eyes
    python -m simgan.studies.eyes refined --work runs/eyes --results benchmarks/results/eyes --folds 0 1

Needs $SIMGAN_DATA; see `simgan.studies.eye_sets` for what is real, synthetic, and split how. A unit is (kind, synthetic
set, variant, fold, seed, part, task). Kind *gap* trains no refiner; kind *refined* trains one with recipe `default` as
changed by the variant, once for both tasks, and continues an interrupted one. A unit leaves `<unit>.json` and the
per-image errors `<unit>.npz` in the results folder; the same command does the units that are missing, then writes
`units.csv`, a row for each, and `pooled.json`, intervals over refiner seed × task seed × block of test frames.

Each read of a test part is a row of `test_reads.csv`, written before it is read. Weights, and images made with them,
stay in the work folder: they come from real eyes, and are not to be shared.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simgan.data.labels import Labels
from simgan.data.trees import ImageTree
from simgan.errors import DataError
from simgan.evaluation import ARMS, Outcomes, summarize
from simgan.evaluation.downstream import Budget, build_arm, choose_matching, derive_seeds, run_downstream
from simgan.evaluation.groups import number_groups
from simgan.evaluation.inputs import ImageSet, Inputs, open_inputs
from simgan.images import ValueRange, write_atomically
from simgan.refinement import refine
from simgan.studies.eye_sets import EYE_CLASSES, SYNTHETIC, part_masks, real_eyes
from simgan.tasks import StandardAugmentation, train_segmentation
from simgan.training.loop import train

GAP_ARMS = ("synthetic_plain", "synthetic", "synthetic_matched", "real")
TASKS = ("iris", "parts")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "matched": {"data.level_matching": True},
    "no history": {"training.history_batches": 0},
    "global": {"discriminator.scope": "global"},
    "no self-regularization": {"objective.self_regularization_weight": 0.0},
    "gradients": {"objective.feature_transform": "gradients"},
    "no task consistency": {"objective.task_consistency_weight": 0.0, "training.warmup_task_steps": 0},
}
PARTS_BATCH_SIZE = 16  # every pixel is a label
SETTINGS = {"data.value_low": 0, "data.value_high": 255}


@dataclass(frozen=True)
class Unit:
    """One thing to do. `steps` of the refiner: 0 is the recipe's number, or, of kind gap, no refiner."""

    kind: str
    synthetic: str
    variant: str
    fold: int
    seed: int
    part: str
    task: str
    steps: int = 0

    @property
    def name(self) -> str:
        """Its name as a file."""
        steps = f"-{self.steps}steps" if self.steps else ""
        variant = self.variant.replace(" ", "_")
        return f"{self.kind}-{self.synthetic}-{variant}{steps}-fold{self.fold}-seed{self.seed}-{self.part}-{self.task}"

    @property
    def refiner(self) -> str:
        """The name of the refiner that it needs: the same for both tasks and parts."""
        return replace(self, part="", task="").name.rstrip("-")


def run_unit(unit: Unit, work: Path, results: Path, *, task_seeds: int, updates: int | None) -> None:
    """Does one unit and leaves its two files."""
    started = time.monotonic()
    synthetic = SYNTHETIC[unit.synthetic](work / "data")
    real = real_eyes(work / "data", unit.fold)
    refined, extra = synthetic, {}
    if unit.kind == "refined":
        overrides = {**SETTINGS, "seed": unit.seed, **VARIANTS[unit.variant]}
        overrides |= {"training.steps": unit.steps} if unit.steps else {}
        run = train(
            "default",
            run_dir=work / "runs" / unit.refiner,
            synthetic=synthetic,
            real=ImageTree(real.unlabelled.root, images="images/*"),
            overrides=overrides,
            warn=_say,
        )
        refined = refine(synthetic, run.refiner, work / "refined" / unit.refiner, warn=_say).tree
        extra = {"kept_step": run.kept_step}
    if unit.part == "test":
        _log_read(results / "test_reads.csv", unit)
    inputs = open_inputs(
        synthetic=synthetic,
        refined=refined,
        real=real.unlabelled,
        real_labelled=real.test if unit.part == "test" else real.dev,
        real_dev=real.bound if unit.part == "test" else real.unlabelled,
        real_paths=None,
        value_range=ValueRange(0, 255),
        cache_dir=work / "cache",
        seed=unit.seed,
    )
    budget = Budget.for_images(len(inputs.synthetic), updates=updates, batch_size=64, mirror=True)
    matching = choose_matching(inputs, budget, seed=unit.seed)["chosen"]
    if unit.task == "parts":
        budget = replace(budget, batch_size=PARTS_BATCH_SIZE)
    arms = GAP_ARMS if unit.kind == "gap" else ARMS
    measure = run_downstream if unit.task == "iris" else run_segmentation
    outcomes = measure(
        inputs,
        arms=arms,
        matching=matching,
        budget=budget,
        seed=unit.seed,
        task_seeds=task_seeds,
        progress=_say,
    )
    record = {
        **asdict(unit), **extra, "matching": matching, "updates": budget.updates, "asked": [task_seeds, updates],
        "n_test": len(outcomes.paths), "downstream": summarize([outcomes], seed=unit.seed),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    outcomes.save(results / f"{unit.name}.npz")
    _write_json(results / f"{unit.name}.json", record)  # last: what has it is done


def is_done(path: Path, task_seeds: int, updates: int | None) -> bool:
    """Whether the unit's record is there; `DataError` where it was made with other task seeds or updates."""
    if not path.exists():
        return False
    asked = json.loads(path.read_bytes())["asked"]
    if asked != [task_seeds, updates]:
        raise DataError(
            f"{path}: was made with task seeds, updates {asked}, now {[task_seeds, updates]} are asked for; choose "
            f"another results folder, or the same numbers"
        )
    return True


def run_segmentation(
    inputs: Inputs,
    *,
    arms: Sequence[str],
    matching: str,
    budget: Budget,
    seed: int,
    task_seeds: int,
    progress: Any,
) -> Outcomes:
    """As `run_downstream`, for eye parts by pixel: the error of an image is 1 − its mean IoU over `EYE_CLASSES`."""
    numbered, masks = number_masks(inputs)
    test = numbered.test
    assert test is not None
    assert test.labels is not None
    pixels, truth = test.encode(inputs.value_range), masks[test.labels.values[:, 0].astype(np.int64)]
    seeds = derive_seeds(seed, task_seeds)
    errors, n_train = {}, {}
    for name in arms:
        arm = build_arm(name, numbered, seed=seed, matching=matching)
        arm_masks = masks[arm.labels[:, 0].astype(np.int64)]
        rows = []
        for k, task_seed in enumerate(seeds):
            progress(f"parts, arm {name}, task seed {k + 1} of {task_seeds}")
            model = train_segmentation(
                arm.images,
                arm_masks,
                classes=len(EYE_CLASSES),
                seed=task_seed,
                updates=budget.updates,
                batch_size=budget.batch_size,
                augmentation=StandardAugmentation(mirror=budget.mirror) if arm.augmented else None,
            )
            rows.append(model.errors(pixels, truth))
        errors[name], n_train[name] = np.stack(rows), arm.n_train
    groups = number_groups(
        test.paths, inputs.test.labels.groups if inputs.test and inputs.test.labels else None
    )
    return Outcomes("regression", "1 − mean IoU", errors, n_train, groups, test.paths, seeds)


def number_masks(inputs: Inputs) -> tuple[Inputs, Any]:
    """The same sets with labels that are the numbers of their masks, and all masks (n, H, W): arms mix images and
    labels, and a mask goes where its number goes."""
    masks = []
    count = 0

    def number(images: ImageSet | None) -> ImageSet:
        nonlocal count
        assert images is not None
        masks.append(part_masks(ImageTree(images.root, images="images/*"), images.paths))
        numbers = np.arange(count, count + len(images), dtype=np.float64)[:, None]
        count += len(images)
        return replace(images, labels=Labels("value", numbers, ("mask",)))

    numbered = replace(
        inputs,
        synthetic=number(inputs.synthetic),
        refined=number(inputs.refined),
        dev=number(inputs.dev),
        test=number(inputs.test),
    )
    return numbered, np.concatenate(masks)


def pool_units(results: Path) -> list[dict[str, Any]]:
    """One record per (kind, synthetic set, variant, steps, part, task), over its seeds and folds; see `summarize`.

    The test images of the folds of one seed are joined: each fold tests on other images. A seed that lacks a fold of
    the others is left out.
    """
    units = [json.loads(path.read_bytes()) for path in sorted(results.glob("*-fold*.json"))]
    keys = ("kind", "synthetic", "variant", "steps", "part", "task")
    groups: dict[tuple[Any, ...], dict[int, dict[int, Outcomes]]] = {}
    for unit in units:
        name = Unit(**{field: unit[field] for field in Unit.__dataclass_fields__}).name
        of_seed = groups.setdefault(tuple(unit[key] for key in keys), {}).setdefault(unit["seed"], {})
        of_seed[unit["fold"]] = Outcomes.load(results / f"{name}.npz")
    pooled = []
    for key, of_seeds in groups.items():
        folds = sorted({fold for of_seed in of_seeds.values() for fold in of_seed})
        whole = {seed: of_seed for seed, of_seed in sorted(of_seeds.items()) if sorted(of_seed) == folds}
        runs = [join_folds([of_seed[fold] for fold in folds]) for of_seed in whole.values()]
        record = {**dict(zip(keys, key, strict=True)), "folds": folds, "seeds": list(whole)}
        pooled.append({**record, "downstream": summarize(runs) if runs else None})
    return pooled


def join_folds(folds: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of one seed in several folds as if of one run: their test images one after another, their groups
    apart."""
    first = folds[0]
    groups, count = [], 0
    for fold in folds:
        groups.append(fold.groups + count)
        count += int(fold.groups.max()) + 1
    return replace(
        first,
        errors={arm: np.concatenate([fold.errors[arm] for fold in folds], axis=1) for arm in first.errors},
        groups=np.concatenate(groups),
        paths=tuple(path for fold in folds for path in fold.paths),
    )


def write_table(results: Path) -> None:
    """`units.csv`: a row for each unit that is done, from its JSON."""
    fields = [*Unit.__dataclass_fields__, "n_test", "matching", *ARMS, "gap_closed", "seconds"]
    table = io.StringIO()
    writer = csv.DictWriter(table, fields, lineterminator="\n", extrasaction="ignore", restval="")
    writer.writeheader()
    for path in sorted(results.glob("*-fold*.json")):
        unit = json.loads(path.read_bytes())
        downstream = unit["downstream"]
        means = {arm: f"{downstream[arm]['mean']:.5f}" for arm in ARMS if arm in downstream}
        closed = downstream["gap_closed"]
        writer.writerow({**unit, **means, "gap_closed": "" if closed is None else f"{closed['median']:.3f}"})
    write_atomically(results / "units.csv", table.getvalue().encode())


def _log_read(log: Path, unit: Unit) -> None:
    """One row for a read of a test part; appended, since a read that was interrupted is a read."""
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(("time", "unit"))
        writer.writerow((datetime.now(UTC).isoformat(timespec="seconds"), unit.name))


def _write_json(path: Path, record: Any) -> None:
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Does the units that the results folder lacks, then pools all that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kind", choices=["gap", "refined"])
    parser.add_argument(
        "--work", type=Path, required=True, help="trees, runs, refined sets: not to be shared"
    )
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--synthetic", nargs="+", default=["renders"], choices=list(SYNTHETIC))
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--folds", type=int, nargs="+", default=[0], choices=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--part", default="dev", choices=["dev", "test"])
    parser.add_argument("--steps", type=int, default=0, help="of the refiner; 0: as the recipe says")
    parser.add_argument("--task-seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=None, help="of each task model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for folder in (chosen.work, chosen.results):
        folder.mkdir(parents=True, exist_ok=True)
    variants = ["default"] if chosen.kind == "gap" else chosen.variants
    for synthetic, variant, fold, seed, task in product(
        chosen.synthetic, variants, chosen.folds, chosen.seeds, chosen.tasks
    ):
        steps = 0 if chosen.kind == "gap" else chosen.steps
        unit = Unit(chosen.kind, synthetic, variant, fold, seed, chosen.part, task, steps)
        if not is_done(chosen.results / f"{unit.name}.json", chosen.task_seeds, chosen.updates):
            _say(f"unit {unit.name}")
            run_unit(unit, chosen.work, chosen.results, task_seeds=chosen.task_seeds, updates=chosen.updates)
            write_table(chosen.results)
    pooled = pool_units(chosen.results)
    _write_json(chosen.results / "pooled.json", pooled)
    print(json.dumps(pooled, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
