"""Class masks of eyes: 0 skin, 1 sclera, 2 iris, 3 pupil, as pixel values of a mask beside each image.

The mask of `<folder>/images/<name>` is `<folder>/masks/<name>.png`. From it follow the opening, the box around all that
is not skin, and the centre of the iris, the mean place of all iris and pupil pixels that are seen. On both sides of a
comparison these are measured alike, so they are labels, also where lids hide a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.label_set import Labels, raise_label_faults
from simgan.data.trees import ImageTree
from simgan.errors import ImageError, LabelError
from simgan.images import read_image

SKIN, SCLERA, IRIS, PUPIL = 0, 1, 2, 3
CLASSES = ("skin", "sclera", "iris", "pupil")
RELATIVE_COLUMNS = ("iris_x_widths", "iris_y_widths")
MOST_STRAYS = 0.01  # share of pixels of no class that count as skin; more, and it is no mask of this kind

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class EyeShape:
    """What a mask says of an eye, in pixels: the opening as edges, the iris centre as a place at pixel centres.

    `iris_x`, `iris_y` are None where nothing of iris or pupil is seen: a closed eye, or one turned away.
    """

    top: float
    left: float
    bottom: float
    right: float
    iris_x: float | None
    iris_y: float | None

    @property
    def width(self) -> float:
        """The eye width: that of the opening."""
        return self.right - self.left

    def relative_iris(self) -> tuple[float, float] | None:
        """The iris centre from the middle of the opening, in eye widths, to the right and down; None where none."""
        if self.iris_x is None or self.iris_y is None:
            return None
        x = self.iris_x + 0.5 - (self.left + self.right) / 2
        y = self.iris_y + 0.5 - (self.top + self.bottom) / 2
        return x / self.width, y / self.width


def mask_path(image: str) -> str:
    """Where the mask of an image lies: the last folder called "images" becomes "masks", the suffix .png."""
    parts = list(PurePosixPath(image).with_suffix(".png").parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if not folders:
        raise LabelError(f"{image} lies in no folder called 'images', so its mask in 'masks' is not known")
    parts[folders[-1]] = "masks"
    return PurePosixPath(*parts).as_posix()


def read_mask(path: str | Path) -> Mask:
    """(H, W) classes 0 to 3 of one mask file.

    Channels must be equal. Up to 1 % of the pixels may have other values (strays of an editor): they are skin. More,
    unequal channels, or 16 bit are a `LabelError`.
    """
    return classes_of_mask(read_image(path), path)


def classes_of_mask(array: NDArray[Any], path: str | Path) -> Mask:
    """The same of the pixels (H, W, C) of a mask, which lies at `path`."""
    if array.dtype != np.uint8:
        raise LabelError(f"{path}: a mask of 8 bit is wanted, got {array.dtype}")
    if (array != array[..., :1]).any():
        raise LabelError(
            f"{path}: channels differ, so it is a picture in colours and not a mask of class numbers 0 to {PUPIL}"
        )
    mask: Mask = np.ascontiguousarray(array[..., 0])
    strays = mask > PUPIL
    if strays.mean() > MOST_STRAYS:
        values = ", ".join(map(str, np.unique(mask[strays])[:5]))
        raise LabelError(
            f"{path}: {strays.mean():.0%} of the pixels have values that are no class ({values}); wanted are "
            + ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES))
        )
    mask[strays] = SKIN
    return mask


def shape_of_mask(mask: Mask) -> EyeShape | None:
    """The opening and iris of a mask (H, W); None where all is skin."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return None
    iris_rows, iris_columns = np.nonzero(mask >= IRIS)
    seen = len(iris_rows) > 0
    return EyeShape(
        top=float(rows.min()),
        left=float(columns.min()),
        bottom=float(rows.max() + 1),
        right=float(columns.max() + 1),
        iris_x=float(iris_columns.mean()) if seen else None,
        iris_y=float(iris_rows.mean()) if seen else None,
    )


def read_masks(tree: ImageTree, paths: Sequence[str]) -> list[Mask]:
    """The masks of the images, in that order; `LabelError` with all faults counted (none there, another size, …)."""
    masks: list[Mask] = []
    faults: list[str] = []
    for path in paths:
        try:
            where = mask_path(tree.place(path))
            found = tree.find(where, beside=path)
            if found is None:
                raise LabelError(f"{path} has no mask: {where} is missing")
            mask = classes_of_mask(tree.read(found), Path(tree.root) / found)
            size = tree.read_size(path)
            if mask.shape != size:
                raise LabelError(
                    f"{where} is {mask.shape[0]}×{mask.shape[1]} (height×width), its image {size[0]}×{size[1]}"
                )
            masks.append(mask)
        except (LabelError, ImageError) as error:
            faults.append(str(error))
    raise_label_faults(str(tree.root), faults, "every image needs a mask of its size in the folder 'masks'")
    return masks


def read_iris_from_masks(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "eye-masks": the iris centre relative to the opening, `iris_x_widths`, `iris_y_widths`, in eye widths.

    Images in which no iris is seen are counted and named in a `LabelError`: they have no such label.
    """
    places = []
    closed = []
    for path, mask in zip(paths, read_masks(tree, paths), strict=True):
        shape = shape_of_mask(mask)
        place = None if shape is None else shape.relative_iris()
        if place is None:
            closed.append(f"{path} shows a closed eye: nothing of iris or pupil is in its mask")
        else:
            places.append(place)
    raise_label_faults(
        str(tree.root), closed, "take closed eyes out of the tree, or narrow the images pattern"
    )
    return Labels("value", np.array(places, dtype=np.float64).reshape(-1, 2), RELATIVE_COLUMNS)
