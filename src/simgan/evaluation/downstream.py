"""Does it help? The same task model trained on each arm, tested on real images that nothing has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simgan.data.labels import Labels
from simgan.errors import ConfigurationError
from simgan.evaluation.groups import number_groups
from simgan.evaluation.inputs import FloatImages, ImageSet, Inputs
from simgan.evaluation.outcomes import Outcomes
from simgan.images import ValueRange
from simgan.tasks import StandardAugmentation, TaskModel, match_by_rank, match_to_real, train_task

ARMS = (
    "synthetic_plain",
    "synthetic",
    "synthetic_matched",
    "refined",
    "synthetic_plus_refined",
    "refined_plus_some_real",
    "real",
)
MATCHINGS = ("ranked", "histogram", "moments")
_PURPOSES = {"arms": 101, "judges": 102, "drift": 103}  # seeds of their own, none shared with a refiner's run
SOME_REAL = 0.1  # of the labelled real images, what "some" means
SOME_REAL_SHARE = 0.25  # of the images that the arm sees, so that few real images still weigh something

Progress = Callable[[str], None]
LabelArray = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """What every arm gets: `updates` × `batch_size` images, the same for all, and one augmentation."""

    updates: int
    batch_size: int = 64
    mirror: bool = False

    @classmethod
    def for_images(cls, n: int, *, updates: int | None, batch_size: int, mirror: bool) -> Budget:
        """Six passes over n images, at least 500 and at most 1,500 updates; or `updates` where given."""
        chosen = updates if updates is not None else min(max(6 * n // batch_size, 500), 1500)
        if chosen < 1 or batch_size < 2:
            raise ConfigurationError(
                f"updates must be at least 1 and batch_size at least 2, got {chosen} and {batch_size}"
            )
        return cls(chosen, batch_size, mirror)


@dataclass(frozen=True, eq=False)
class Arm:
    """Training images of one arm, (n, H, W, C) in [-1, 1], and their labels; n_train: distinct images."""

    images: FloatImages
    labels: LabelArray
    n_train: int
    augmented: bool = True


def build_arm(name: str, inputs: Inputs, *, seed: int, matching: str = "histogram") -> Arm:
    """The training images of arm `name`; what is drawn at random depends on `seed` alone."""
    synthetic, refined, dev, scale = inputs.synthetic, inputs.refined, inputs.dev, inputs.value_range
    assert dev is not None
    if name == "synthetic":
        return _arm(synthetic, scale)
    if name == "synthetic_plain":
        return Arm(synthetic.encode(scale), values_of(synthetic), len(synthetic), augmented=False)
    if name == "synthetic_matched":
        return Arm(match_levels(inputs, matching, seed=seed), values_of(synthetic), len(synthetic))
    if name == "refined":
        return _arm(refined, scale)
    if name == "synthetic_plus_refined":
        first, second = halves(inputs, seed=seed)
        return _joined(synthetic.take(first), refined.take(second), scale)
    if name == "refined_plus_some_real":
        return _with_some_real(refined, dev, scale, seed)
    if name == "real":
        return _arm(dev, scale)
    raise ConfigurationError(f"unknown arm {name!r}; there are: {', '.join(ARMS)}")


def run_downstream(
    inputs: Inputs,
    *,
    arms: Sequence[str],
    matching: str,
    budget: Budget,
    seed: int,
    task_seeds: int,
    progress: Progress,
) -> Outcomes:
    """Trains arms × task seeds models and takes their errors on the real test images."""
    test = inputs.test
    assert test is not None
    assert test.labels is not None
    labels = test.labels
    is_class = labels.kind == "class"
    test_images, test_values = test.encode(inputs.value_range), values_of(test)
    seeds = derive_seeds(seed, task_seeds)
    errors: dict[str, NDArray[np.float64]] = {}
    n_train: dict[str, int] = {}
    for number, name in enumerate(arms):
        arm = build_arm(name, inputs, seed=seed, matching=matching)
        rows = []
        for k, task_seed in enumerate(seeds):
            done = number * task_seeds + k + 1
            progress(f"arm {name}, task seed {k + 1} of {task_seeds} ({done}/{len(arms) * task_seeds})")
            model = train_arm(arm, labels, budget, seed=task_seed)
            rows.append(model.errors(test_images, test_values))
        errors[name], n_train[name] = np.stack(rows), arm.n_train
    return Outcomes(
        task="classification" if is_class else "regression",
        unit="share of images" if is_class else unit_of(labels.names),
        errors=errors,
        n_train=n_train,
        groups=number_groups(test.paths, labels.groups),
        paths=test.paths,
        task_seeds=seeds,
    )


def train_arm(arm: Arm, labels: Labels, budget: Budget, *, seed: int) -> TaskModel:
    """The task model of one arm; `labels` tells kind, classes and columns, the arm holds the values."""
    is_class = labels.kind == "class"
    return train_task(
        arm.images,
        arm.labels,
        seed=seed,
        updates=budget.updates,
        batch_size=budget.batch_size,
        augmentation=StandardAugmentation(mirror=budget.mirror) if arm.augmented else None,
        classes=len(labels.names) if is_class else None,
        names=() if is_class else labels.names,
    )


def match_levels(inputs: Inputs, matching: str, *, seed: int) -> FloatImages:
    """Synthetic images with the levels of real ones, on the grid of values that files can hold.

    Where the scale has an `invalid` value, such pixels have no level: they are left out and stay as they are.
    """
    scale: ValueRange = inputs.value_range
    synthetic, real = inputs.synthetic.encode(scale), inputs.matching.encode(scale)
    holes = None if scale.invalid is None else (inputs.synthetic.holes(scale), inputs.matching.holes(scale))
    if matching == "ranked":
        matched = match_by_rank(synthetic, real, holes=holes)
    else:
        matched = match_to_real(synthetic, real, seed=seed, histogram=matching == "histogram", holes=holes)
    on_grid = scale.decode(matched, inputs.synthetic.cache.scan.pixel_format.dtype)
    return replace(scale, invalid=None).encode(on_grid)  # a matched level may equal `invalid`, and is none


def choose_matching(inputs: Inputs, budget: Budget, *, seed: int) -> dict[str, Any]:
    """The kind of matching with the smaller error on the labelled real_dev images, one task model each.

    The opponent is given this choice so that a gain over it is not a gain over a poor choice.
    """
    dev = inputs.dev
    assert dev is not None
    assert dev.labels is not None
    images, values = dev.encode(inputs.value_range), values_of(dev)
    errors = {}
    for matching in MATCHINGS:
        arm = build_arm("synthetic_matched", inputs, seed=seed, matching=matching)
        model = train_arm(arm, dev.labels, budget, seed=derive_seeds(seed, 1)[0])
        errors[matching] = float(model.errors(images, values).mean())
    return {"chosen": min(MATCHINGS, key=lambda matching: errors[matching]), "error_on_real_dev": errors}


def halves(inputs: Inputs, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random half of the synthetic images, and the refined images of the other half.

    So no scene comes twice, and there are as many images as in either set. Where refined paths are not
    those of the synthetic images, a random half of each.
    """
    generator = np.random.default_rng((seed, 1))
    synthetic, refined = inputs.synthetic.paths, inputs.refined.paths
    in_first = np.zeros(len(synthetic), dtype=bool)
    in_first[generator.permutation(len(synthetic))[: len(synthetic) // 2]] = True
    first = {path for path, inside in zip(synthetic, in_first, strict=True) if inside}
    if inputs.same_paths:
        second = np.array([i for i, path in enumerate(refined) if path not in first], dtype=np.int64)
    else:
        second = np.sort(generator.permutation(len(refined))[len(refined) // 2 :])
    return np.flatnonzero(in_first), second


def derive_seeds(
    seed: int, count: int, *, purpose: Literal["arms", "judges", "drift"] = "arms"
) -> tuple[int, ...]:
    """`count` seeds of one evaluation seed; different evaluation seeds and purposes share none."""
    if count < 1:
        raise ConfigurationError(f"task_seeds must be at least 1, got {count}")
    if not 0 <= seed < 2**63:
        raise ConfigurationError(f"seed must be at least 0 and below 2^63, got {seed}")
    return tuple(
        int(np.random.SeedSequence((_PURPOSES[purpose], seed, k)).generate_state(1)[0]) for k in range(count)
    )


def unit_of(names: Sequence[str]) -> str:
    """The unit of an error over these label columns: the suffix (`_px`, `_deg`) that all share, if any."""
    suffixes = {name.rsplit("_", 1)[-1] for name in names if "_" in name}
    shared = len(suffixes) == 1 and all("_" in name for name in names)
    return suffixes.pop() if shared else "label units"


def values_of(images: ImageSet) -> LabelArray:
    """The label values of a labelled set."""
    assert images.labels is not None
    return images.labels.values


def _arm(images: ImageSet, scale: ValueRange) -> Arm:
    return Arm(images.encode(scale), values_of(images), len(images))


def _joined(a: ImageSet, b: ImageSet, scale: ValueRange) -> Arm:
    pixels: Any = np.concatenate([a.encode(scale), b.encode(scale)])
    return Arm(pixels, np.concatenate([values_of(a), values_of(b)]), len(pixels))


def _with_some_real(refined: ImageSet, dev: ImageSet, scale: ValueRange, seed: int) -> Arm:
    """All refined images, and a tenth of the labelled real ones repeated up to a quarter of what is seen."""
    few = min(len(dev), max(10, round(SOME_REAL * len(dev))))
    chosen = np.random.default_rng((seed, 2)).permutation(len(dev))[:few]
    wanted = max(few, round(len(refined) * SOME_REAL_SHARE / (1 - SOME_REAL_SHARE)))
    arm = _joined(refined, dev.take(np.resize(chosen, wanted)), scale)
    return Arm(arm.images, arm.labels, len(refined) + few)
