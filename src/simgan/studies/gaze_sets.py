"""What the gaze experiment reads of a tree: images with gaze and groups, and where iris and lids are seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simgan.data.labels import Labels, detect_label_format, read_labels
from simgan.data.trees import ImageTree
from simgan.data.unityeyes import looks_like_unityeyes, read_unityeyes
from simgan.errors import DataError, LabelError
from simgan.images import ValueRange, read_image_size
from simgan.nn.gaze import GAZE_COLUMNS

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GazeSet:
    """Images (n, H, W, C) in [-1, 1], their gaze (n, 3), group numbers (n) for the intervals, and paths."""

    images: NDArray[np.float32]
    gaze: FloatArray
    groups: NDArray[np.int64]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, chosen: NDArray[np.int64]) -> GazeSet:
        """The images number `chosen`."""
        paths = tuple(self.paths[i] for i in chosen)
        return GazeSet(self.images[chosen], self.gaze[chosen], self.groups[chosen], paths)


@dataclass(frozen=True, eq=False)
class EyeOutlines:
    """(n, k, 2) points of each iris's outline and (n, m, 2) corners of each opening, column and row."""

    iris: FloatArray
    opening: FloatArray


def read_gaze_set(tree: ImageTree, most: int) -> GazeSet:
    """The images of a tree and their gaze; `most` of them, spread evenly over the paths (0: all)."""
    paths = evenly(tree.paths(), most)
    sizes = {read_image_size(Path(tree.root) / path) for path in paths}
    if len(sizes) > 1:
        raise DataError(
            f"{tree.root}: images of one size are wanted, found {len(sizes)}; use `simgan prepare`"
        )
    labels = _gaze_labels(tree, paths)
    gaze = labels.values[:, [labels.names.index(name) for name in GAZE_COLUMNS]].astype(np.float64)
    names = labels.groups if labels.groups is not None else paths
    groups = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
    return GazeSet(read_images(tree, paths), gaze, groups, paths)


def _gaze_labels(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """From labels.csv, which knows the persons, where it has gaze; else from UnityEyes files."""
    found = read_labels(tree, paths) if tree.labels or detect_label_format(tree) is not None else None
    if found is not None and found.kind == "value" and set(GAZE_COLUMNS) <= set(found.names):
        return found
    if not tree.labels and looks_like_unityeyes(tree):
        return read_labels(tree, paths, "unityeyes")
    missing = [name for name in GAZE_COLUMNS if found is not None and name not in found.names]
    raise LabelError(
        f"{tree.root}: its labels have no column {', '.join(missing) or 'of gaze'}; wanted are "
        f"{', '.join(GAZE_COLUMNS)} in labels.csv, or a UnityEyes file beside each image"
    )


def read_images(tree: ImageTree, paths: Sequence[str]) -> NDArray[np.float32]:
    """(n, H, W, C) in [-1, 1]."""
    return ValueRange(0, 255).encode(np.stack([tree.read(path) for path in paths]))


def read_outlines(tree: ImageTree, paths: Sequence[str]) -> EyeOutlines | None:
    """Where irises and openings are seen, from UnityEyes files; None where there are none."""
    if not looks_like_unityeyes(tree):
        return None
    eyes = read_unityeyes(tree, paths)
    return EyeOutlines(np.stack([eye.iris for eye in eyes]), np.stack([eye.interior_margin for eye in eyes]))


def evenly(paths: tuple[str, ...], most: int) -> tuple[str, ...]:
    """`most` of the paths, spread evenly (0: all)."""
    if not most or len(paths) <= most:
        return paths
    return tuple(paths[i] for i in np.linspace(0, len(paths) - 1, most).round().astype(int))


def refuse_copies(real: ImageTree, test: ImageTree) -> None:
    """`DataError` where pixels of a test image are among those that the refiner sees."""

    def digest(tree: ImageTree, path: str) -> bytes:
        return hashlib.sha256(tree.read(path).tobytes()).digest()

    seen = {digest(real, path) for path in real.paths()}
    copies = [path for path in test.paths() if digest(test, path) in seen]
    if copies:
        raise DataError(
            f"{test.root}: {len(copies)} test images are also in {real.root} (for instance {copies[0]}): the refiner "
            f"would see them; test on other images"
        )
