"""refine(): what is asked for, checked and recorded, and then done for a folder or for shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

import simgan
from simgan.data.trees import ImageTree, Progress
from simgan.errors import ConfigurationError
from simgan.measures.displacement import REACH_PX
from simgan.nn.route import Route
from simgan.refinement.manifest import RefinementReport
from simgan.refinement.pipeline import Refining
from simgan.refinement.shards import Engine, in_processes, in_this_process, refine_shards
from simgan.refinement.tree import refine_tree
from simgan.weights import TILE, OutOfRange, TrainedRefiner, load_refiner


def refine(
    synthetic: ImageTree,
    refiner: TrainedRefiner | str | Path,
    out_dir: str | Path,
    *,
    jpeg_quality: int = 95,
    out_of_range: OutOfRange = "refuse",
    max_reject_share: float = 0.05,
    max_drift_px: float | None = None,
    tile: int = TILE,
    workers: int = 1,
    engine: Engine | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> RefinementReport:
    """Write to `out_dir` the tree with every image refined: same relative paths, sizes, channels, bit depth.

    `refiner` is a trained one, its file, or a run directory. Every file that is not an image of the tree (labels,
    masks, notes) is carried byte for byte; so is an image of which every pixel stays as it was. JPEG is written
    4:4:4 at `jpeg_quality`, everything else without loss. Images that cannot be read, or are not of the kind that
    the refiner was trained on, are left out and listed in the report and the manifest; with `out_of_range`
    "refuse" so are those with values outside the trained range, with "clip" such values are clipped. More than
    `max_reject_share` of them end it with a `DataError`. With `max_drift_px`, images whose structure moved by more
    pixels (`measures.displacement`), or was not found again, are left out and listed too, however many they are; the
    manifest of a folder then says each image's drift.

    The same call again continues an interrupted one, to the same bytes, and verifies a finished one.
    Where `synthetic` names shards, each becomes one of the same name in `out_dir`, its images refined, all other
    members carried, in their order; `workers` processes share the work, or whoever the `engine` asks (see
    `simgan.refinement.shards`, `simgan.cluster`): the bytes are the same.

    `progress(done, total)` is called after each image or shard, `warn(sentence)` for each warning of the report. Raises
    `WeightsError` or `RunError` where there is no trained refiner, `ConfigurationError`, `DataError`, and
    `OutputError` (`out_dir` inside the tree or the reverse, not empty, refined with something else, in use, disk
    full or read-only).
    """
    _check_arguments(jpeg_quality, out_of_range, max_reject_share, max_drift_px, tile, workers)
    shards = synthetic.shard_files
    if shards is None and (workers > 1 or engine is not None):
        raise ConfigurationError(
            f"`workers` and clusters refine shards, and {synthetic.root} is a folder of files, which this process "
            f"refines by all its threads; make shards of it with: simgan convert {synthetic.root} --out SHARDS"
        )
    trained = refiner if isinstance(refiner, TrainedRefiner) else load_refiner(refiner)
    if shards is not None and type(trained.route) is not Route:
        raise ConfigurationError(
            f"whoever refines shards computes with torch, not with {trained.route}: refine shards without another "
            f"runtime, or make a folder of them with: simgan convert {synthetic.root} --out FOLDER"
        )
    command = {
        "root": str(Path(synthetic.root).resolve()),
        "images": synthetic.images,
        "refiner": trained.sha256,
        "route": str(trained.route),
        "jpeg_quality": jpeg_quality,
        "out_of_range": out_of_range,
        "max_drift_px": max_drift_px,
        "tile": tile,
        "simgan": simgan.__version__,
        "torch": str(torch.__version__),
    }
    refining = Refining(trained, jpeg_quality, out_of_range, max_drift_px, tile)
    out = Path(out_dir)
    if shards is None:
        report = refine_tree(
            synthetic, refining, out, command, max_reject_share=max_reject_share, progress=progress
        )
    else:
        report = refine_shards(
            synthetic,
            shards,
            refining,
            out,
            command,
            engine=engine or (in_this_process if workers == 1 else in_processes(workers)),
            max_reject_share=max_reject_share,
            progress=progress,
        )
    if warn is not None:
        for warning in report.warnings:
            warn(warning)
    return report


def _check_arguments(
    jpeg_quality: int,
    out_of_range: str,
    max_reject_share: float,
    max_drift_px: float | None,
    tile: int,
    workers: int,
) -> None:
    rules = [
        (1 <= jpeg_quality <= 100, f"`jpeg_quality` must be from 1 to 100, not {jpeg_quality}"),
        (
            out_of_range in get_args(OutOfRange),
            f"`out_of_range` must be 'refuse' or 'clip', not {out_of_range!r}",
        ),
        (0 <= max_reject_share <= 1, f"`max_reject_share` must be from 0 to 1, not {max_reject_share}"),
        (
            max_drift_px is None or 0 < max_drift_px <= REACH_PX,
            f"`max_drift_px` must be above 0 and at most {REACH_PX} pixels, as far as drift is measured, not "
            f"{max_drift_px}",
        ),
        (tile >= 1, f"`tile` must be 1 pixel or more, not {tile}"),
        (workers >= 1, f"`workers` must be 1 or more, not {workers}"),
    ]
    faults = [fault for holds, fault in rules if not holds]
    if faults:
        raise ConfigurationError(faults)
