"""Do two ways to compute one refiner give the same? Measured on images, before anything is kept or refined."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.config import resolve_configuration
from simgan.data.trees import ImageTree
from simgan.errors import DataError, ImageError, WeightsError
from simgan.images import PixelFormat, split_alpha
from simgan.nn.route import Route
from simgan.weights import TrainedRefiner

VALUE_TOLERANCE = 1e-5  # of x̃ in [-1, 1], in float32
LEVEL_TOLERANCE = 1  # steps of the value range, end to end
_LARGEST_SIDE = 256  # larger images are cut: the check is of the arithmetic

Computed = tuple[NDArray[Any], NDArray[np.float32]]
Refining = Callable[[NDArray[Any]], Computed]
"""Native images (N, H, W, C) → the same refined, and x̃ (N, H, W, C) in [-1, 1] before rounding."""


@dataclass(frozen=True)
class Parity:
    """How far two ways to compute a refiner lie apart, over `n_images` images."""

    n_images: int
    value_difference: float
    """The largest of x̃, on [-1, 1]."""
    level_difference: int
    """The largest of the refined images, in steps of the value range (grey levels)."""
    differing_share: float
    """Of all refined values: those that are not on the same level."""
    mean_level_difference: float

    @property
    def holds(self) -> bool:
        """Within 1e-5 in float32, and one grey level end to end."""
        return self.value_difference <= VALUE_TOLERANCE and self.level_difference <= LEVEL_TOLERANCE

    def __str__(self) -> str:
        return (
            f"over {self.n_images:,} images at most {self.value_difference:.1e} apart on [-1, 1] and "
            f"{self.level_difference} grey levels once rounded; {self.differing_share:.2%} of all values are on "
            f"another level, the mean difference is {self.mean_level_difference:.2g} levels"
        )


def measure_parity(
    reference: Refining, other: Refining, batches: Iterable[NDArray[Any]], *, step: int
) -> Parity:
    """Both on each of `batches` (N, H, W, C) of native images; `step` is that of the value range."""
    images = values = different = total = 0
    value_difference, level_difference = 0.0, 0
    for batch in batches:
        (refined_a, x_a), (refined_b, x_b) = reference(batch), other(batch)
        apart = np.abs(refined_a.astype(np.int64) - refined_b.astype(np.int64)) // step
        # A value that is not a number is infinitely far away.
        far = float(np.nan_to_num(np.abs(x_a - x_b), nan=np.inf).max())
        value_difference, level_difference = (
            max(value_difference, far),
            max(level_difference, int(apart.max())),
        )
        images, values = images + len(batch), values + apart.size
        different, total = different + int(np.count_nonzero(apart)), total + int(apart.sum())
    return Parity(images, value_difference, level_difference, different / values, total / values)


def in_float32(trained: TrainedRefiner) -> TrainedRefiner:
    """The same refiner on the CPU in float32, by which others are judged."""
    return replace(trained, route=Route(torch.device("cpu"), torch.float32))


def computed_by(trained: TrainedRefiner) -> Refining:
    """A trained refiner, or one of another runtime, with x̃ beside its images."""

    @torch.inference_mode()
    def refine(images: NDArray[Any]) -> Computed:
        encoded = trained.value_range.encode(images).transpose(0, 3, 1, 2).copy()
        x = trained.network(trained.first_stage(torch.from_numpy(encoded)))
        return trained(images, out_of_range="clip"), x.clamp(-1, 1).numpy().transpose(0, 2, 3, 1)

    return refine


def images_to_check(
    refiner: TrainedRefiner | str | Path, images: ImageTree | None, kind: PixelFormat, *, most: int
) -> list[NDArray[Any]]:
    """Up to `most` images (H, W, C) of the tree, evenly spread, without alpha, of the kind that the refiner takes.

    Without a tree: of the synthetic ones that the run `refiner` was trained on. `DataError` where there are none.
    """
    tree = images if images is not None else _trained_on(refiner)
    paths = tree.paths()
    chosen = np.unique(np.linspace(0, len(paths) - 1, most).round().astype(int))
    found = []
    for path in (paths[i] for i in chosen.tolist()):
        try:
            image = tree.read(path)
        except ImageError:  # refining leaves them out as well
            continue
        if PixelFormat.of(image) == kind:
            found.append(split_alpha(image)[0][:_LARGEST_SIDE, :_LARGEST_SIDE])
    if not found:
        raise DataError(
            f"{tree.root}: none of {len(chosen)} images looked at is {kind}, as the refiner was trained on; parity "
            "is checked on such images: name a folder of them"
        )
    return found


def _trained_on(refiner: TrainedRefiner | str | Path) -> ImageTree:
    configuration = None if isinstance(refiner, TrainedRefiner) else Path(refiner) / "config.toml"
    if configuration is None or not configuration.is_file():
        raise DataError(
            "images are wanted on which the export is compared with the refiner: give a folder of the kind that it "
            "refines (--images-of), or the run, which knows what it was trained on"
        )
    synthetic = resolve_configuration(configuration).synthetic
    if not Path(synthetic.root).is_dir():
        raise DataError(
            f"{synthetic.root}: the synthetic images of this run are not there any more; name another folder of such "
            "images, on which the export is compared with the refiner (--images-of)"
        )
    return ImageTree(synthetic.root, synthetic.images)


def refuse_difference(parity: Parity, what: str) -> None:
    """`WeightsError` unless parity holds."""
    if not parity.holds:
        raise WeightsError(
            f"{what} does not compute what the refiner does: {parity}, where {VALUE_TOLERANCE:.0e} and "
            f"{LEVEL_TOLERANCE} are allowed; nothing was kept. Are the weights sound (`simgan info`)? Otherwise "
            "please report it, with the versions of onnx, onnxruntime and openvino"
        )
