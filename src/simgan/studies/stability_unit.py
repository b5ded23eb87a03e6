"""One unit of the stability study: a task and a seed, trained once, in three parts of minutes.

*training*: recipe `default`; continues where it was interrupted, so that the other parts train what is missing. *run*:
refine with the kept refiner, read the test part with models trained on every arm. *candidates*: refine with the refiner
of each checkpoint, train one model on each, read the dev and the test part.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from simgan.data.labels import Labels
from simgan.data.trees import ImageTree, scan_tree
from simgan.errors import RunError, TrainingError
from simgan.evaluation import Evaluation, Outcomes, evaluate
from simgan.evaluation.downstream import Arm, Budget, build_arm, derive_seeds, train_arm, values_of
from simgan.evaluation.drift import measure_drift
from simgan.evaluation.groups import number_groups
from simgan.evaluation.inputs import ImageSet, Inputs, open_inputs
from simgan.images import write_atomically
from simgan.refinement import refine
from simgan.studies.eye_sets import real_eyes, rendered_eyes
from simgan.studies.sign_sets import drawn_to_real_signs
from simgan.studies.sim_to_real import SimToReal, fonts_to_usps, handwritten_digits
from simgan.training.candidates import Candidate
from simgan.training.loop import train
from simgan.training.run import read_metrics
from simgan.weights import TrainedRefiner, load_refiner, save_refiner

ARMS = ("synthetic_plain", "synthetic", "synthetic_matched", "refined", "synthetic_plus_refined", "real")


@dataclass(frozen=True)
class Task:
    """One task: its sets, and what its task models get. `bound`: the labelled real images that the bound is trained
    on, dev where None."""

    open: Callable[[Path], SimToReal]
    task_seeds: int
    updates: int | None
    mirror: bool = False
    bound: Callable[[Path], ImageTree] | None = None


def eyes_of_fold_0(folder: Path) -> SimToReal:
    """UnityEyes renders → real close-ups, the iris centre; see `simgan.studies.eye_sets`."""
    real = real_eyes(folder, 0)
    return SimToReal(
        synthetic=rendered_eyes(folder),
        unlabelled=ImageTree(real.unlabelled.root, images="images/*"),
        dev=real.dev,
        test=real.test,
        generator={"generator": "UnityEyes renders of EYEDATASET, cropped around the eye", "version": 1},
        settings={"data.value_low": 0, "data.value_high": 255},
    )


TASKS: dict[str, Task] = {
    "digits": Task(handwritten_digits, task_seeds=3, updates=400),
    "usps": Task(fonts_to_usps, task_seeds=2, updates=400),
    "eyes": Task(eyes_of_fold_0, 3, None, mirror=True, bound=lambda folder: real_eyes(folder, 0).bound),
    "signs": Task(drawn_to_real_signs, task_seeds=2, updates=None),
}


@dataclass(frozen=True)
class Unit:
    """One (task, seed), and its folders."""

    task: str
    seed: int
    work: Path
    results: Path

    @property
    def name(self) -> str:
        return f"{self.task}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """What it leaves."""
        return self.results / self.name

    @property
    def run_dir(self) -> Path:
        return self.work / self.name / "training"

    @property
    def candidates(self) -> Path:
        """Refiners of all checkpoints."""
        return self.work / self.name / "candidates"

    @property
    def data(self) -> Path:
        """The sets of the task, shared by its seeds."""
        return self.work / "data" / self.task

    def record(self, part: str) -> Path:
        """What stands when the part is done."""
        return self.folder / f"{part}.json"


def do_training(unit: Unit, sets: SimToReal) -> None:
    """Part *training*: `training.json`."""
    started = time.monotonic()
    record: dict[str, Any] = {"task": unit.task, "seed": unit.seed, "diverged": None}
    try:
        record["kept_step"], _ = _train(unit, sets)
    except TrainingError as error:
        record["diverged"] = str(error)
    write_json(unit.record("training"), record | {"seconds": round(time.monotonic() - started, 1)})


def _trained(unit: Unit) -> dict[str, Any]:
    """What part *training* has recorded."""
    record: dict[str, Any] = json.loads(unit.record("training").read_bytes())
    return record


def do_run(unit: Unit, sets: SimToReal) -> None:
    """Part *run*: `evaluation.json`, `evaluation.npz`, and last `run.json`."""
    task, started = TASKS[unit.task], time.monotonic()
    record = _trained(unit)
    if record["diverged"] is not None:
        write_json(unit.record("run"), record)
        return
    _, refiner = _train(unit, sets)  # there already, or trained anew where the work folder is another one
    refined = refine(sets.synthetic, refiner, unit.work / unit.name / "refined", warn=say).tree
    evaluation = _known_evaluation(unit, refined)
    known = evaluation is not None
    if evaluation is None:
        _log_read(unit, "run")
        evaluation = evaluate(
            synthetic=sets.synthetic,
            refined=refined,
            real=sets.unlabelled,
            real_labelled=sets.test,
            real_dev=sets.dev if task.bound is None else task.bound(unit.data),
            real_paths=_held_out(unit.run_dir),
            seed=unit.seed,
            task_seeds=task.task_seeds,
            updates=task.updates,
            mirror=task.mirror,
            arms=ARMS,
            generator=sets.generator,
            cache_dir=unit.work / "cache",
            command=f"python -m simgan.studies.stability --tasks {unit.task} --seeds {unit.seed}",
            progress=say,
        )
    # Where the study ran is of no interest later.
    told = json.loads(json.dumps(evaluation.record).replace(f"{unit.work}/", ""))
    evaluation = replace(evaluation, record=told)
    unit.folder.mkdir(parents=True, exist_ok=True)
    evaluation.save(unit.folder / "evaluation.json")
    record |= {
        "diversity": diversity(sets.synthetic, refined),
        "drift": told["drift"] if "drift" in told else _measure_drift(unit, sets, refined),
        "taken_from_gap": known,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(unit.record("run"), record)
    shutil.rmtree(refined.root)


def do_candidates(unit: Unit, sets: SimToReal) -> None:
    """Part *candidates*: `candidates-dev.npz`, `candidates-test.npz`, and last `candidates.json`."""
    task, started = TASKS[unit.task], time.monotonic()
    record = _trained(unit)
    if record["diverged"] is not None:
        write_json(unit.record("candidates"), record | {"candidates": []})
        return
    _train(unit, sets)
    files = sorted(unit.candidates.glob("step_*.safetensors"))
    judged = [row for row in read_metrics(unit.run_dir / "metrics.jsonl") if row["kind"] == "candidate"]
    if len(files) < len(judged):
        raise RunError(
            f"{unit.candidates} holds {len(files)} of the {len(judged)} refiners of this run; remove "
            f"{unit.run_dir.parent}, and the same command trains it again"
        )
    _log_read(unit, "candidates")
    inputs = open_inputs(
        synthetic=sets.synthetic,
        refined=sets.synthetic,
        real=sets.unlabelled,
        real_labelled=sets.test,
        real_dev=sets.dev,
        real_paths=None,
        value_range=load_refiner(files[0]).value_range,
        cache_dir=unit.work / "cache",
        seed=unit.seed,
    )
    budget = Budget.for_images(len(inputs.synthetic), updates=task.updates, batch_size=64, mirror=task.mirror)
    seeds = derive_seeds(unit.seed, 1)
    errors: dict[str, dict[str, Any]] = {"dev": {}, "test": {}}
    for name, arm in _candidate_arms(files, inputs, unit.seed):
        say(f"{unit.name}: task model on {name}")
        assert inputs.test is not None
        model = train_arm(arm, _labels(inputs.test), budget, seed=seeds[0])
        for part, images in (("dev", inputs.dev), ("test", inputs.test)):
            assert images is not None
            pixels = images.encode(inputs.value_range)
            errors[part][name] = model.errors(pixels, values_of(images))[None]
    unit.folder.mkdir(parents=True, exist_ok=True)
    for part, images in (("dev", inputs.dev), ("test", inputs.test)):
        assert images is not None
        labels = _labels(images)
        Outcomes(
            task="classification" if labels.kind == "class" else "regression",
            unit="share of images" if labels.kind == "class" else "label units",
            errors=errors[part],
            n_train=dict.fromkeys(errors[part], len(inputs.synthetic)),
            groups=number_groups(images.paths, labels.groups),
            paths=images.paths,
            task_seeds=seeds,
        ).save(unit.folder / f"candidates-{part}.npz")
    rows = [json.loads(path.with_suffix(".json").read_bytes()) for path in files]
    seconds = round(time.monotonic() - started, 1)
    write_json(unit.record("candidates"), record | {"candidates": rows, "seconds": seconds})


def _candidate_arms(files: Sequence[Path], inputs: Inputs, seed: int) -> Iterator[tuple[str, Arm]]:
    """The synthetic images, then their refinements by each refiner."""
    arm = build_arm("synthetic", inputs, seed=seed)
    yield "synthetic", arm
    native = inputs.synthetic.cache.gather(inputs.synthetic.indices)
    for file in files:
        refined = inputs.value_range.encode(load_refiner(file)(native))
        yield file.stem, Arm(refined, arm.labels, arm.n_train)


def _labels(images: ImageSet) -> Labels:
    assert images.labels is not None
    return images.labels


def _train(unit: Unit, sets: SimToReal) -> tuple[int, Path]:
    """The run's kept step and refiner; trained, continued, or there already. Refiners of all checkpoints are kept."""

    def keep(candidate: Candidate, refiner: TrainedRefiner) -> None:
        file = unit.candidates / f"step_{candidate.step:06d}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_refiner(file, refiner)
        write_json(file.with_suffix(".json"), candidate.row())

    run = train(
        "default",
        run_dir=unit.run_dir,
        synthetic=sets.synthetic,
        real=sets.unlabelled,
        overrides={**sets.settings, "seed": unit.seed},
        warn=say,
        judged=keep,
    )
    return run.kept_step, run.refiner


def _held_out(run_dir: Path) -> list[str]:
    paths: list[str] = json.loads((run_dir / "data.json").read_bytes())["real_held_out_paths"]
    return paths


def _known_evaluation(unit: Unit, refined: ImageTree) -> Evaluation | None:
    """What `simgan.studies.gap` has measured of this very refined set, if it lies beside the results."""
    path = unit.results.parent / f"gap-{unit.task}" / f"seed_{unit.seed}.json"
    if not path.exists():
        return None
    known = Evaluation.load(path)
    same = known.record["refined"]["sha256"] == scan_tree(refined).fingerprint
    return known if same else None


def diversity(synthetic: ImageTree, refined: ImageTree) -> float:
    """Mean over pixels of the standard deviation over refined images, as a share of that of synthetic ones."""
    before, after = (
        np.stack([tree.read(path) for path in tree.paths()]).astype(np.float32).std(axis=0).mean()
        for tree in (synthetic, refined)
    )
    return round(float(after / before), 4)


def _measure_drift(unit: Unit, sets: SimToReal, refined: ImageTree) -> dict[str, Any] | None:
    """For records that were made before drift was measured: of structure and by flow, without any label."""
    inputs = open_inputs(
        synthetic=sets.synthetic,
        refined=refined,
        real=sets.unlabelled,
        real_labelled=None,
        real_dev=None,
        real_paths=None,
        value_range=None,
        cache_dir=unit.work / "cache",
        seed=unit.seed,
    )
    budget = Budget(1)  # no model is trained: nothing is labelled
    return measure_drift(
        inputs, matching="histogram", masks=None, budget=budget, seed=unit.seed, progress=say
    )[0]


def _log_read(unit: Unit, part: str) -> None:
    """One row for a read of a test part; appended, since a read that was interrupted is a read."""
    log = unit.results / "test_reads.csv"
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(("time", "unit", "part"))
        writer.writerow((datetime.now(UTC).isoformat(timespec="seconds"), unit.name, part))


def write_json(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
