"""Where the paper's crop lies in each image: around the opening of the eye, as the image's labels tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simgan.data.eye_masks import read_mask, shape_of_mask
from simgan.data.trees import ImageTree
from simgan.data.unityeyes import EyeAnnotation, annotation_path, eye_opening, mixed_sides, parse_unityeyes
from simgan.errors import ImageError, LabelError, list_faults
from simgan.preparation.movement import Box, EyeCrop, Size

Edges = tuple[float, float, float, float]  # top, left, bottom, right


@dataclass(frozen=True)
class EyeBoxes:
    """The crop of each image by its path, and how many images show a closed eye: an opening, and no pupil in it."""

    boxes: Mapping[str, Box]
    n_closed: int


def find_eye_boxes(
    tree: ImageTree, sizes: Mapping[str, Size], mask_of_image: Mapping[str, str], crop: EyeCrop, size: Size
) -> EyeBoxes:
    """The boxes from the UnityEyes file beside each image, else from its class mask.

    Raises `LabelError` with all faults counted where an image has neither, its labels are faulty, or show no eye, or
    where left and right eyes are mixed, which UnityEyes files tell.
    """
    boxes: dict[str, Box] = {}
    faults: list[str] = []
    annotations: dict[str, EyeAnnotation] = {}
    n_closed = 0
    for path, old in sizes.items():
        try:
            eye = _annotation(Path(tree.root), path, old)
            if eye is None:
                opening, closed = _opening_in_mask(Path(tree.root), mask_of_image.get(path))
            else:
                annotations[path] = eye
                opening, closed = eye_opening(eye), eye.is_closed
            boxes[path] = box_around(opening, old, size, crop.margin)
            n_closed += closed
        except (ImageError, LabelError) as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise LabelError(
            f"{tree.root}: in {len(faults)} of {len(sizes)} images it is not known where the eye is:"
            f"{list_faults(faults)}\nNext: give each image its UnityEyes file or mask (masks pattern), or narrow the "
            f"images pattern"
        )
    if mixed := mixed_sides(annotations):
        raise LabelError(f"{tree.root}: {mixed[0]}")
    return EyeBoxes(boxes, n_closed)


def _annotation(root: Path, path: str, size: Size) -> EyeAnnotation | None:
    """The UnityEyes file beside an image, if there is one."""
    annotation = root / annotation_path(path)
    if not annotation.is_file():
        return None
    try:
        return parse_unityeyes(annotation.read_bytes(), size)
    except OSError as error:
        raise LabelError(f"{annotation}: cannot be read: {error.strerror or error}") from error


def _opening_in_mask(root: Path, mask: str | None) -> tuple[Edges, bool]:
    """The edges of the opening, and whether the eye is closed."""
    if mask is None:
        raise LabelError("has neither a UnityEyes file beside it nor a mask")
    shape = shape_of_mask(read_mask(root / mask))
    if shape is None:
        raise LabelError(f"its mask {mask} is all skin: there is no opening to crop around")
    return (shape.top, shape.left, shape.bottom, shape.right), shape.relative_iris() is None


_COARSEST = (
    1.2  # a box of the same aspect, not in whole multiples, that is larger by more is a size ill chosen
)


def box_around(opening: Edges, size: Size, new_size: Size, margin: float) -> Box:
    """The box for an opening (top, left, bottom, right) in an image of `size`, with exactly the aspect of `new_size`.

    With the smallest ratio p:q = new height:new width, the box is k·p × k·q pixels, k the least whole number with
    k·q ≥ (1 + 2 margin) · opening width and k·p ≥ (1 + 2 margin) · opening height, as far as the image allows.
    `LabelError` where whole multiples of p × q are what cuts the opening, not the image.
    """
    divisor = math.gcd(*new_size)
    p, q = new_size[0] // divisor, new_size[1] // divisor
    top, left, bottom, right = opening
    room = min(size[0] // p, size[1] // q)
    if room == 0:
        raise LabelError(f"{size[0]}×{size[1]} pixels hold no box of the aspect {p}:{q} (height:width)")
    share = 1 + 2 * margin
    needed = max(share * (bottom - top) / p, share * (right - left) / q, 1)
    wanted = math.ceil(needed - 1e-9)  # 1.1 · 100 is a little more than 110 in floating point
    if wanted > room and min(size[0] / p, size[1] / q) > _COARSEST * room:
        raise LabelError(
            f"the eye needs a box of {wanted * p}×{wanted * q} pixels, and its {size[0]}×{size[1]} hold {room * p}×"
            f"{room * q} at most, since a box of the aspect {p}:{q} comes in whole multiples of {p}×{q}; choose a size "
            "whose height and width have a larger common divisor, such as 35×55"
        )
    k = min(wanted, room)
    height, width = k * p, k * q
    box_top = round((top + bottom) / 2 - height / 2)
    box_left = round((left + right) / 2 - width / 2)
    return min(max(box_top, 0), size[0] - height), min(max(box_left, 0), size[1] - width), height, width
