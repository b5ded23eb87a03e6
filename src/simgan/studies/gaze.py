"""The paper's gaze experiment: refine synthetic eyes with unlabelled real ones, train gaze estimators, test on real.

`reproduce_gaze` writes one page: Table 2 (synthetic and refined, a quarter of the images and all), Table 3 (the four
other estimators, and the network), Figure 7 (the whole cumulative curve), how far pupils moved, and what each part of
the method is worth (ablations), the paper's figures beside ours. The test set may be a pseudo-real one, drawn by a
second configuration of a simulator: then the page says so everywhere.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.output_folder import remove_temporaries
from simgan.data.trees import ImageTree
from simgan.errors import DataError, OutputError, require_extra
from simgan.images import write_atomically
from simgan.measures import angular_errors, bootstrap, cumulative_curve, percentile_interval, summarize_angles
from simgan.nn.route import choose_route
from simgan.refinement import refine
from simgan.reporting.gaze_page import BeforeAfter, Look, gaze_page
from simgan.studies.gaze_pupils import measure_pupils
from simgan.studies.gaze_sets import GazeSet, evenly, read_gaze_set, read_images, refuse_copies
from simgan.tasks import BASELINES, StandardAugmentation, train_gaze
from simgan.training.loop import train

CURVE_DEG = np.arange(0, 31, dtype=np.float64)
QUARTER = 0.25
NETWORKS = (
    "network, synthetic, a quarter", "network, synthetic", "network, refined, a quarter", "network, refined",
)  # fmt: skip
ABLATIONS: dict[str, dict[str, Any]] = {
    "without history": {"training.history_batches": 0},
    "global discriminator": {"discriminator.scope": "global"},
    "without self-regularization": {"objective.self_regularization_weight": 0.0},
    "ψ = image gradients": {"objective.feature_transform": "gradients"},
}
WHOLE = "the whole method"
_EXAMPLES, _LOOKS = 12, 24

Say = Callable[[str], None]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """How large an experiment is: the refiner's recipe and its changes, the most images used of each tree (0: all),
    updates of each gaze network, its seeds in the tables and in an ablation, and the most pupils that are followed."""

    recipe: str
    overrides: dict[str, Any]
    most_images: int
    updates: int
    seeds: int
    ablation_seeds: int
    most_pupils: int


SCALES: dict[str, Scale] = {
    "smoke": Scale(
        "default",
        {
            "training.steps": 20, "training.batch_size": 8, "training.warmup_task_steps": 0,
            "training.warmup_discriminator_steps": 5, "objective.task_consistency_weight": 0.0,
            "run.checkpoint_every": 10, "refiner.width": 8, "discriminator.width": 8, "refiner.average_decay": 0.0,
        },
        most_images=200, updates=20, seeds=1, ablation_seeds=1, most_pupils=100,
    ),
    "small": Scale("default", {}, most_images=8_000, updates=1_500, seeds=2, ablation_seeds=1, most_pupils=1_000),
    "paper": Scale("paper-gaze", {}, most_images=0, updates=100_000, seeds=3, ablation_seeds=1, most_pupils=5_000),
}  # fmt: skip


@dataclass(frozen=True)
class Reporter:
    """Who is told what is done, what to be warned of, and `advance(done, total, note, seconds_left)`."""

    say: Say = lambda _: None
    warn: Say = lambda _: None
    advance: Callable[..., None] = lambda *_: None


def reproduce_gaze(
    synthetic: ImageTree,
    real: ImageTree,
    test: ImageTree,
    out_dir: str | Path,
    *,
    scale: str = "small",
    pseudo_real: bool = False,
    reporter: Reporter = Reporter(),
) -> dict[str, Any]:
    """Trains, refines, estimates; writes report.html and gaze.json to `out_dir` and returns the record.

    synthetic, test: trees with gaze (UnityEyes files, or labels.csv with `gaze_x`, `gaze_y`, `gaze_z`); real: without.
    All images of one size. No test image may be in `real`: copies are refused. Pupils are followed where the synthetic
    tree has UnityEyes files. The same call again continues: neither a trained refiner, nor a network whose estimates
    are there, is done again. `DataError`, `LabelError` as fits, `OutputError` for a folder begun by another call, and
    `MissingExtraError` without jinja2.
    """
    require_extra("jinja2", extra="report")  # better now than after hours
    out = Path(out_dir)
    _claim(out, {"synthetic": synthetic, "real": real, "test": test}, scale, pseudo_real)
    work = _Work(out, SCALES[scale], synthetic, real, test, reporter)
    if work.tested.images.shape[1:] != work.trained.images.shape[1:]:
        raise DataError(
            f"{test.root} holds images of (height, width, channels) {work.tested.images.shape[1:]}, {synthetic.root} "
            f"of {work.trained.images.shape[1:]}; bring them together with `simgan prepare`"
        )
    refuse_copies(real, test)
    n_synthetic, n_real = len(synthetic.paths()), len(real.paths())
    record: dict[str, Any] = {
        "scale": scale, "recipe": work.scale.recipe, "overrides": work.scale.overrides, "pseudo_real": pseudo_real,
        "n_synthetic": n_synthetic, "n_real": n_real, "n_test": len(work.tested), "route": str(choose_route()),
        "n_groups": len(np.unique(work.tested.groups)), "seeds": work.scale.seeds, "updates": work.scale.updates,
        "ablation_seeds": work.scale.ablation_seeds, "curve_deg": CURVE_DEG.tolist(),
    }  # fmt: skip
    arms = {"synthetic": lambda: work.trained, "refined": lambda: work.refined(WHOLE)}
    errors: dict[str, FloatArray] = {}
    n_train: dict[str, int] = {}
    for name in (*BASELINES, *NETWORKS):
        arm = arms["refined" if "refined" in name else "synthetic"]
        errors[name], n_train[name] = work.errors(name, arm, work.scale.seeds)
    record["estimators"] = summarize_estimators(errors, n_train, work.tested.groups)
    record["gain"] = paired_gain(errors["network, synthetic"], errors["network, refined"], work.tested.groups)
    record["methods"] = {
        WHOLE: work.method(WHOLE, errors["network, refined"]) | {"over_synthetic": record["gain"]}
    }
    for variant in ABLATIONS:
        ours, _ = work.errors(
            f"network, {variant}", partial(work.refined, variant), work.scale.ablation_seeds
        )
        record["methods"][variant] = work.method(variant, ours) | {
            "over_synthetic": paired_gain(
                errors["network, synthetic"][: len(ours)], ours, work.tested.groups
            ),
            "gain": paired_gain(errors["network, refined"][: len(ours)], ours, work.tested.groups),
        }
    write_atomically(out / "gaze.json", (json.dumps(record, indent=1) + "\n").encode())
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = gaze_page(record, work.before_after(), work.looks(errors["network, refined"][0]), created=created)
    write_atomically(out / "report.html", page.encode())
    return record


@dataclass
class _Work:
    """The units of the experiment, each done once and kept in `out`; images are read when they are needed."""

    out: Path
    scale: Scale
    synthetic: ImageTree
    real: ImageTree
    test: ImageTree
    reporter: Reporter
    _trees: dict[str, tuple[ImageTree, int]] = field(default_factory=dict)
    _latest: tuple[str, GazeSet] | None = None  # one refined set in memory at a time

    @cached_property
    def tested(self) -> GazeSet:
        return read_gaze_set(self.test, self.scale.most_images)

    @cached_property
    def trained(self) -> GazeSet:
        return read_gaze_set(self.synthetic, self.scale.most_images)

    def refiner(self, variant: str) -> tuple[ImageTree, int]:
        """The tree refined by the method's variant, and the step that its refiner is from."""
        if variant not in self._trees:
            self.reporter.say(f"training a refiner: {variant} (recipe: {self.scale.recipe})")
            overrides = {"data.value_low": 0, "data.value_high": 255, **self.scale.overrides}
            run = train(
                self.scale.recipe,
                run_dir=self.out / "training" / _slug(variant),
                synthetic=self.synthetic,
                real=self.real,
                overrides=overrides | ABLATIONS.get(variant, {}),
                warn=self.reporter.warn,
                progress=lambda at: self.reporter.advance(at.turn, at.turns, at.phase, at.seconds_left),
            )
            self.reporter.say(f"refining the synthetic set: {variant}")
            report = refine(
                self.synthetic, run.refiner, self.out / "refined" / _slug(variant), warn=self.reporter.warn
            )
            self._trees[variant] = (report.tree, run.kept_step)
        return self._trees[variant]

    def refined(self, variant: str) -> GazeSet:
        """The refined images of `trained`, without those that could not be refined."""
        if self._latest is None or self._latest[0] != variant:
            tree, _ = self.refiner(variant)
            there = set(tree.paths())
            kept = self.trained.take(np.array([path in there for path in self.trained.paths]).nonzero()[0])
            images = read_images(tree, kept.paths)
            self._latest = (variant, GazeSet(images, kept.gaze, kept.groups, kept.paths))
        return self._latest[1]

    def errors(self, name: str, arm: Callable[[], GazeSet], seeds: int) -> tuple[FloatArray, int]:
        """(seeds, n) angular errors on the test set of the estimator `name`, and how many images trained it."""
        rows, n_train = [], 0
        for seed in range(seeds):
            where = self.out / "estimates" / _slug(name) / f"seed_{seed}.npz"
            if not where.exists():
                images = arm()
                if name.endswith("a quarter"):  # the same quarter in both arms
                    order = np.random.default_rng(0).permutation(len(images))
                    images = images.take(np.sort(order[: _taken(name, len(images))]))
                self.reporter.say(f"estimating gaze: {name}, seed {seed + 1} of {seeds}")
                estimates = self._fit(name, images, seed).predict(self.tested.images)
                where.parent.mkdir(parents=True, exist_ok=True)
                buffer = io.BytesIO()
                np.savez(buffer, estimates=estimates, n_train=len(images))
                write_atomically(where, buffer.getvalue())
            with np.load(where) as kept:
                rows.append(angular_errors(kept["estimates"], self.tested.gaze))
                n_train = int(kept["n_train"])
        return np.stack(rows), n_train

    def _fit(self, name: str, images: GazeSet, seed: int) -> Any:
        if name in BASELINES:
            return BASELINES[name](images.images, images.gaze, seed=seed)
        return train_gaze(
            images.images,
            images.gaze,
            seed=seed,
            updates=self.scale.updates,
            augmentation=StandardAugmentation(),
            route=choose_route(),
            progress=self.reporter.advance,
        )

    def method(self, variant: str, errors: FloatArray) -> dict[str, Any]:
        """What is said of the method or of a variant: its network's error, and how far it moved pupils."""
        tree, kept_step = self.refiner(variant)
        where = self.out / "pupils" / f"{_slug(variant)}.json"
        if not where.exists():
            self.reporter.say(f"following pupils: {variant}")
            paths = evenly(self.trained.paths, self.scale.most_pupils)
            where.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(where, json.dumps(measure_pupils(self.synthetic, tree, paths)).encode())
        replicates = bootstrap({"one": errors[None]}, self.tested.groups)
        low, high = percentile_interval(replicates.mean("one"))
        return {
            "kept_step": kept_step, "mean_deg": float(errors.mean()), "low": low, "high": high,
            "seeds": len(errors), "pupils": json.loads(where.read_bytes()),
        }  # fmt: skip

    def before_after(self) -> BeforeAfter:
        """Some synthetic images, and what the method and each variant made of them."""
        trees = {variant: self.refiner(variant)[0] for variant in (WHOLE, *ABLATIONS)}
        everywhere = set.intersection(*(set(tree.paths()) for tree in trees.values()))
        paths = evenly(tuple(path for path in self.synthetic.paths() if path in everywhere), _EXAMPLES)
        rows = {path: [tree.read(path) for tree in (self.synthetic, *trees.values())] for path in paths}
        columns = ("synthetic", "refined", *ABLATIONS)
        return BeforeAfter(columns, rows, self._sheet(trees[WHOLE]), self._sheet(self.real))

    def _sheet(self, tree: ImageTree) -> list[NDArray[Any]]:
        paths = tree.paths()
        drawn = np.sort(np.random.default_rng(0).permutation(len(paths))[: 2 * _LOOKS])
        return [tree.read(paths[i]) for i in drawn]

    def looks(self, errors: FloatArray) -> list[Look]:
        """Test eyes from the best to the worst estimate of the first network trained on refined images."""
        estimates = np.load(self.out / "estimates" / _slug("network, refined") / "seed_0.npz")["estimates"]
        order = np.argsort(errors)
        chosen = order[np.linspace(0, len(order) - 1, min(_LOOKS, len(order))).round().astype(int)]
        return [
            Look(self.test.read(self.tested.paths[i]), self.tested.gaze[i], estimates[i], float(errors[i]))
            for i in chosen
        ]


def summarize_estimators(
    errors: dict[str, FloatArray], n_train: dict[str, int], groups: NDArray[np.int64]
) -> dict[str, Any]:
    """For each estimator mean (with a 95 % interval over seeds × test groups), median, both shares, the whole curve."""
    replicates = bootstrap({name: one[None] for name, one in errors.items()}, groups)
    summary = {}
    for name, one in errors.items():
        angles = summarize_angles(one.ravel())
        low, high = percentile_interval(replicates.mean(name))
        summary[name] = {
            "n_train": n_train[name], "mean_deg": angles.mean_deg, "low": low, "high": high,
            "median_deg": angles.median_deg, "within": {f"{k:g}": v for k, v in angles.within.items()},
            "curve": cumulative_curve(one.ravel(), CURVE_DEG).tolist(),
        }  # fmt: skip
    return summary


def paired_gain(before: FloatArray, after: FloatArray, groups: NDArray[np.int64]) -> dict[str, float]:
    """Mean error `before` less that `after`, (seeds, n) each on the same test images, with its 95 % interval."""
    replicates = bootstrap({"before": before[None], "after": after[None]}, groups)
    low, high = percentile_interval(replicates.difference("before", "after"))
    return {"mean_deg": float(before.mean() - after.mean()), "low": low, "high": high}


def _taken(name: str, count: int) -> int:
    return max(int(count * QUARTER), 1) if name.endswith("a quarter") else count


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" = ", " ").replace(" ", "_").replace("ψ", "psi")


def _claim(out: Path, trees: dict[str, ImageTree], scale: str, pseudo_real: bool) -> None:
    """Notes in `out` what is done there; `OutputError` where it was something else."""
    command: dict[str, Any] = {name: [str(Path(t.root).resolve()), t.images] for name, t in trees.items()}
    command |= {"scale": scale, "pseudo_real": pseudo_real}
    where = out / "experiment.json"
    if out.exists() and (not out.is_dir() or (not where.exists() and os.listdir(out))):
        raise OutputError(f"{out}: holds something else already; choose a new folder for the experiment")
    out.mkdir(parents=True, exist_ok=True)
    try:
        begun = json.loads(where.read_bytes()) if where.exists() else command
    except ValueError:
        begun = None
    if begun != command:
        raise OutputError(
            f"{out}: holds another experiment ({where}); choose another folder, or remove this one"
        )
    remove_temporaries(out)
    write_atomically(where, (json.dumps(command, indent=1) + "\n").encode())
