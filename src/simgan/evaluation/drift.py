"""Annotation drift: how far refining moved what the labels name, in pixels, with two estimators of different kind.

Drift alone decides nothing (a refiner that does nothing has none): the record holds the gain of the same run beside it.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.labels import LABELS_FILE, Labels, read_labels
from simgan.data.trees import ImageTree
from simgan.errors import DataError, LabelError
from simgan.evaluation.downstream import (
    Arm,
    Budget,
    Progress,
    derive_seeds,
    halves,
    match_levels,
    train_arm,
    unit_of,
    values_of,
)
from simgan.evaluation.inputs import FloatImages, Inputs
from simgan.measures import (
    displacement_at,
    flow_drift_px,
    measure_displacement,
    move_mask,
    optical_flow,
    percentile_interval,
)
from simgan.measures.displacement import SMALLEST_SIDE_PX

MOST_MEASURED = 300
FEWEST_MEASURED = 5
WORST = 12
_REPLICATES = 2000

FloatArray = NDArray[np.float64]


def measure_drift(
    inputs: Inputs, *, matching: str, masks: str | None, budget: Budget, seed: int, progress: Progress
) -> tuple[dict[str, Any] | None, str | None]:
    """The `drift` part of evaluation.json, or None and the reason.

    On at most 300 pairs, drawn by seed. `structure`: √ mean squared displacement of each image, its mean over images
    with a 95 % bootstrap interval, median, 95th percentile, `lost` images, whose structure was not
    found again, and `unmeasured` ones, which have none. `flow`: the same by optical flow. `floor`: what both say of the
    synthetic images with their levels matched, where nothing moved. `keypoints`: windows around the label columns that
    end in _x_px, _y_px. `masks`: class masks of the files `masks` (a pattern in the synthetic tree, same stem as the
    image), re-found by moving them along the flow: IoU with the given ones, and how far their boundaries went.
    `model`: how the reading of a task model that has seen half of the synthetic images, and no others, changes on the
    refinements of the other half. `worst`: the images with the largest drift, lost ones first.
    """
    if not inputs.same_paths:
        return None, "drift was not measured: refined images do not stand under the paths of synthetic ones"
    drawn = np.random.default_rng((seed, 5)).permutation(len(inputs.refined))[:MOST_MEASURED]
    refined_set = inputs.refined.take(np.sort(drawn))
    place = {path: i for i, path in enumerate(inputs.synthetic.paths)}
    chosen = np.array([place[path] for path in refined_set.paths if path in place], dtype=np.int64)
    refined_set = refined_set.take(
        np.array([i for i, path in enumerate(refined_set.paths) if path in place], dtype=np.int64)
    )
    if len(chosen) < FEWEST_MEASURED:
        return None, f"drift was not measured: {len(chosen)} pairs are too few, {FEWEST_MEASURED} are needed"
    scale = inputs.value_range
    synthetic, refined = inputs.synthetic.take(chosen).encode(scale), refined_set.encode(scale)
    if min(synthetic.shape[1:3]) < SMALLEST_SIDE_PX:
        height, width = synthetic.shape[1:3]
        return None, (
            f"drift was not measured: {height}×{width} images are too small to follow, "
            f"{SMALLEST_SIDE_PX} pixels a side are needed"
        )
    progress("drift of structure")
    found = measure_displacement(synthetic, refined)
    flow = flow_drift_px(synthetic, refined)
    matched = match_levels(inputs, matching, seed=seed)[chosen]
    paths = refined_set.paths
    ranks = np.where(found.lost, np.inf, np.nan_to_num(found.drift_px, nan=-1.0))
    order = [int(i) for i in np.argsort(-ranks, kind="stable")[:WORST] if ranks[i] >= 0]
    tree = ImageTree(inputs.synthetic.root)
    result: dict[str, Any] = {
        "n": len(paths),
        "unit": "px",
        "structure": {
            **_summary(found.drift_px, seed),
            "lost": int(found.lost.sum()),
            "unmeasured": int((~found.measured).sum() - found.lost.sum()),
            "share_found": float(np.nanmean(found.share_found)) if found.textured.any() else None,
            "shift_down_px": _mean(found.shift_px[:, 0]),
            "shift_right_px": _mean(found.shift_px[:, 1]),
        },
        "flow": _summary(flow, seed),
        "floor": {
            "structure_px": _mean(measure_displacement(synthetic, matched).drift_px),
            "flow_px": _mean(flow_drift_px(synthetic, matched)),
        },
        "keypoints": _keypoints(tree, paths, synthetic, refined, seed),
        "masks": None if masks is None else _masks(tree, masks, paths, synthetic, refined, seed),
        "model": _model(inputs, budget, seed, progress),
        "worst": [
            {"path": paths[i], "drift_px": None if found.lost[i] else float(found.drift_px[i])} for i in order
        ],
    }
    return result, None


def _summary(drift_px: FloatArray, seed: int) -> dict[str, Any]:
    """Mean with its interval over images, median, 95th percentile; None where no image was measured."""
    values = drift_px[np.isfinite(drift_px)]
    if not len(values):
        return {"n": 0, "mean": None, "low": None, "high": None, "median": None, "p95": None}
    low, high = _interval(values, seed)
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "low": low,
        "high": high,
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
    }


def _interval(values: FloatArray, seed: int) -> tuple[float, float]:
    """95 % of the mean over images, by the bootstrap."""
    drawn = np.random.default_rng((seed, 6)).integers(len(values), size=(_REPLICATES, len(values)))
    return percentile_interval(values[drawn].mean(axis=1))


def _mean(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _keypoints(
    tree: ImageTree, paths: tuple[str, ...], synthetic: FloatImages, refined: FloatImages, seed: int
) -> dict[str, Any] | None:
    """Displacement around each keypoint of labels.csv; None where there are none."""
    if tree.find(LABELS_FILE) is None:
        return None
    try:
        labels = read_labels(tree, paths, "csv-columns")
    except LabelError:  # a table of another format; where labels are needed, they were read before
        return None
    names = _keypoint_names(labels)
    if not names:
        return None
    columns = [[labels.names.index(f"{name}_{axis}_px") for axis in "yx"] for name in names]
    points = np.stack([labels.values[:, pair] for pair in columns], axis=1).astype(np.float64)
    found = displacement_at(synthetic, refined, points)
    lengths = np.sqrt(np.maximum(found.squares_px2, 0))
    of_image = np.array(
        [np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in lengths]
    )
    each = {
        name: {"drift_px": _mean(lengths[:, k]), "n": int(np.isfinite(lengths[:, k]).sum())}
        for k, name in enumerate(names)
    }
    return {**_summary(of_image, seed), "each": each}


def _keypoint_names(labels: Labels) -> list[str]:
    """The keypoints, for which there are columns NAME_x_px and NAME_y_px."""
    if labels.kind != "value":
        return []
    names = [name.removesuffix("_x_px") for name in labels.names if name.endswith("_x_px")]
    return [name for name in names if f"{name}_y_px" in labels.names]


def _masks(
    tree: ImageTree,
    pattern: str,
    paths: tuple[str, ...],
    synthetic: FloatImages,
    refined: FloatImages,
    seed: int,
) -> dict[str, Any]:
    """IoU of each mask with itself moved along the flow, and how far its boundary went."""
    by_stem = {PurePosixPath(path).stem: path for path in ImageTree(tree.root, pattern).paths()}
    overlaps, distances = [], []
    for k, path in enumerate(paths):
        stem = PurePosixPath(path).stem
        if stem not in by_stem:
            raise DataError(
                f"{tree.root}: no file of {pattern!r} is the mask of {path} (the same name is wanted)"
            )
        mask = tree.read(by_stem[stem])[:, :, 0]
        if mask.shape != synthetic.shape[1:3]:
            raise DataError(
                f"{tree.root}/{by_stem[stem]}: the mask is {mask.shape[0]}×{mask.shape[1]}, its image "
                f"{synthetic.shape[1]}×{synthetic.shape[2]}; prepare both alike with `simgan prepare --masks`"
            )
        flow = optical_flow(synthetic[k], refined[k])
        boundary = _boundary(mask)
        moved = move_mask(mask, flow)
        classes = [c for c in np.unique(mask) if c != 0]
        both = [((mask == c) & (moved == c)).sum() / ((mask == c) | (moved == c)).sum() for c in classes]
        squares = (flow**2).sum(axis=2)[boundary]
        overlaps.append(float(np.mean(both)) if both else np.nan)
        distances.append(float(np.sqrt(squares.mean())) if boundary.any() else np.nan)
    return {"iou": _summary(np.array(overlaps), seed), "boundary": _summary(np.array(distances), seed)}


def _boundary(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W), True where the class differs from that of the pixel above or on the left."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[1:] |= mask[1:] != mask[:-1]
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    return edge


def _model(inputs: Inputs, budget: Budget, seed: int, progress: Progress) -> dict[str, Any] | None:
    """A frozen model's readings of originals and refinements that it has not seen; None without labels."""
    labels = inputs.synthetic.labels
    if labels is None:
        return None
    progress("drift of a frozen task model")
    seen, unseen = halves(inputs, seed=seed)
    if not len(seen) or not len(unseen):
        return None
    half = inputs.synthetic.take(seen)
    arm = Arm(half.encode(inputs.value_range), values_of(half), len(half))
    model = train_arm(arm, labels, budget, seed=derive_seeds(seed, 1, purpose="drift")[0])
    place = {path: i for i, path in enumerate(inputs.synthetic.paths)}
    refined = inputs.refined.take(unseen)
    originals = inputs.synthetic.take(np.array([place[path] for path in refined.paths], dtype=np.int64))
    before, after = (model.predict(one.encode(inputs.value_range)) for one in (originals, refined))
    is_class = labels.kind == "class"
    moved = np.asarray(before != after, np.float64) if is_class else np.linalg.norm(after - before, axis=1)
    errors = model.errors(originals.encode(inputs.value_range), values_of(originals))
    return {
        **_summary(moved, seed),
        "unit": "share of images" if is_class else unit_of(labels.names),
        "error_on_synthetic": float(errors.mean()),
    }
