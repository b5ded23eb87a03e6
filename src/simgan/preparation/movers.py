"""Who moves which file of a tree: label movers by format, class masks by their image; and what nobody can
move."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from simgan.data.trees import ImageTree
from simgan.errors import DataError, ImageError, LabelError, list_faults
from simgan.images import LOSSY_SUFFIXES, read_image_size
from simgan.preparation.coco import move_coco
from simgan.preparation.label_files import LabelFile, LabelMover, MovedLabels
from simgan.preparation.labels_csv import move_labels_csv
from simgan.preparation.movement import Movement, Movements
from simgan.preparation.unityeyes_json import move_unityeyes

LABEL_MOVERS: dict[str, LabelMover] = {"csv": move_labels_csv, "coco": move_coco, "unityeyes": move_unityeyes}

_PIXEL_COLUMN = re.compile(rb"[^\r\n]*_px\b")


def move_labels(file: LabelFile, movements: Movements) -> MovedLabels | None:
    """The labels moved by the first mover that knows the file's format; None where none does."""
    for mover in LABEL_MOVERS.values():
        moved = mover(file, movements)
        if moved is not None:
            return moved
    return None


def holds_unknown_places(file: LabelFile, movements: Movements) -> bool:
    """Whether a file that no mover knows most likely holds places in images: it is called like an image of
    the tree (annotations of one image, an undeclared mask), or is a table with columns in pixels."""
    if movements.with_stem(PurePosixPath(file.path).stem):
        return True
    return file.path.lower().endswith(".csv") and _PIXEL_COLUMN.match(file.data) is not None


def match_masks(tree: ImageTree, pattern: str, movements: Movements) -> dict[str, str]:
    """The image of each mask that matches the glob `pattern`, by the mask's path.

    A mask belongs to the image of the same path, suffixes and the fixed folders in front of both patterns
    left out (masks/left/1.png to images/left/1.jpg); else to the only image of the same name. Raises
    `DataError` where the pattern takes in images, `LabelError` where a mask has no image or another size, or
    is stored lossily.
    """
    masks = ImageTree(tree.root, images=pattern).paths()
    both = [path for path in masks if path in movements]
    if both:
        raise DataError(
            f"{tree.root}: {len(both)} files match the masks pattern {pattern!r} and the images pattern "
            f"{tree.images!r} (for instance {both[0]}); narrow the images pattern"
        )
    image_of_key = {_key(path, tree.images): path for path in movements}
    image_of: dict[str, str] = {}
    faults: list[str] = []
    for mask in masks:
        named_alike = movements.with_stem(PurePosixPath(mask).stem)
        image = image_of_key.get(_key(mask, pattern)) or (named_alike[0] if len(named_alike) == 1 else None)
        if image is None:
            faults.append(f"{mask} has no image of its name")
        elif PurePosixPath(mask).suffix.lower() in LOSSY_SUFFIXES:
            faults.append(
                f"{mask} is stored lossily, so its classes are blurred; masks must be PNG or the like"
            )
        else:
            image_of[mask] = image
            faults += _size_faults(tree, mask, movements[image])
    if faults:
        raise LabelError(
            f"{tree.root}: {len(faults)} of {len(masks)} masks cannot be moved:{list_faults(faults)}"
        )
    return image_of


def _size_faults(tree: ImageTree, mask: str, movement: Movement) -> list[str]:
    try:
        size = read_image_size(Path(tree.root) / mask)
    except ImageError as error:
        return [str(error)]
    wanted = (movement.height, movement.width)
    if size == wanted:
        return []
    return [f"{mask} is {size[0]}×{size[1]} (height×width), its image {wanted[0]}×{wanted[1]}"]


def _key(path: str, pattern: str) -> str:
    """The path without its suffix and without the folders that the pattern spells out at its front."""
    parts = PurePosixPath(path).with_suffix("").parts
    fixed = 0
    for part in pattern.split("/")[:-1]:
        if re.search(r"[*?\[]", part):
            break
        fixed += 1
    return "/".join(parts[fixed:])
