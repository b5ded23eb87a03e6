"""prepare(): a new tree with every image cropped and resized, every label moved along, all else byte for
byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.output_folder import check_places, copy_atomically, make_folder
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, ImageError, LabelError, list_faults
from simgan.images import read_image, read_image_size, split_alpha, write_atomically, write_image
from simgan.preparation.eye_crop import find_eye_boxes
from simgan.preparation.journal import JOURNAL, claim, listing_sha256, read_journal
from simgan.preparation.label_files import LabelFile
from simgan.preparation.movement import Crop, EyeCrop, Movements, Size, check_movement
from simgan.preparation.movers import holds_unknown_places, match_masks, move_labels


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` did. All paths are relative to the trees; `n_skipped` files were there from an earlier
    run."""

    tree: ImageTree  # the prepared tree
    n_images: int
    n_masks: int
    label_files: tuple[str, ...]  # those that a label mover knew
    n_carried: int  # files copied byte for byte
    carried_unknown: tuple[str, ...]  # carried only because of carry_unknown: they may hold places that moved
    dropped: tuple[str, ...]  # one sentence for each label that left its image
    n_skipped: int
    n_closed: int | None = None  # with the crop around the eye: images without a pupil to be seen


@dataclass(frozen=True)
class _Plan:
    """Which file is written how."""

    tree: ImageTree
    movements: Movements
    image_of_mask: dict[str, str]
    labels: dict[str, None]  # an ordered set
    unknown: tuple[str, ...]
    carried: tuple[str, ...]
    dropped: tuple[str, ...]
    n_closed: int | None

    def files(self) -> list[str]:
        """All files to write; labels first, since a tree without them is of no use."""
        return [*self.labels, *self.carried, *self.image_of_mask, *self.movements]


def prepare(
    tree: ImageTree,
    out_dir: str | Path,
    *,
    crop: Crop | None = None,
    size: Size | None = None,
    masks: str | None = None,
    mirror: bool = False,
    grey: bool = False,
    invalid: int | None = None,
    carry_unknown: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Write to `out_dir` the tree with `crop` applied to every image, then a resize to `size` (height,
    width), then, with `mirror`, left and right exchanged; with `grey`, colours become their luminance.

    Same relative paths and names. Labels move by the rule in `simgan.preparation.movement`: labels.csv, COCO and
    UnityEyes files (see `LABEL_MOVERS`), and the class masks that match the glob `masks`. `EyeCrop` is a box of its
    own for each image, from its UnityEyes file or its mask. Every other file is
    carried byte for byte; but one that most likely holds places in an image (it is called like one) is
    refused unless `carry_unknown`. `invalid` is the pixel value that means "no measurement" and is kept out
    of averages. JPEG is written at quality 95; an image that stays as it is, is copied.

    Everything is checked before the first file is written. Each file is written atomically, and the same
    call again continues where an interrupted one stopped. `progress(done, total)` is called after each file.
    Raises `ConfigurationError` (crop, size), `DataError`, `ImageError`, `LabelError` (the tree), and
    `OutputError` (out_dir inside the tree or the reverse, not empty, begun by another call, disk full or
    read-only).
    """
    if tree.shard_files is not None:
        raise DataError(
            f"{tree.root}: shards cannot be prepared; unpack them into a folder first: simgan convert {tree.root} "
            f"--out FOLDER"
        )
    root, out = Path(tree.root), Path(out_dir)
    check_places(root, out, "prepared")
    begun = read_journal(out)
    check_movement(crop, size)
    if crop is None and size is None and not mirror and not grey:
        raise ConfigurationError(
            "neither crop nor size, mirror nor grey: there is nothing to prepare; give one of them or more"
        )
    plan = _plan(tree, crop, size, masks, carry_unknown, mirror=mirror)
    files = plan.files()
    command = {
        "root": str(root.resolve()),
        "images": tree.images,
        "crop": asdict(crop) if is_dataclass(crop) else crop and list(crop),
        "size": size and list(size),
        "masks": masks,
        "invalid": invalid,
        "carry_unknown": carry_unknown,
        **({"mirror": True} if mirror else {}),
        **({"grey": True} if grey else {}),
    }
    claim(out, command, listing_sha256(root, files), begun)
    skipped = 0
    for done, path in enumerate(files, 1):
        target = out / path
        if target.is_file():  # writes are atomic: what is there is whole
            skipped += 1
        else:
            make_folder(target.parent)
            _write(plan, path, target, invalid, grey=grey)
        if progress is not None:
            progress(done, len(files))
    return PreparationReport(
        tree=ImageTree(out, images=tree.images, labels=tree.labels),
        n_images=len(plan.movements),
        n_masks=len(plan.image_of_mask),
        label_files=tuple(plan.labels),
        n_carried=len(plan.carried),
        carried_unknown=plan.unknown,
        dropped=plan.dropped,
        n_skipped=skipped,
        n_closed=plan.n_closed,
    )


def _plan(
    tree: ImageTree,
    crop: Crop | None,
    size: Size | None,
    masks: str | None,
    carry_unknown: bool,
    *,
    mirror: bool,
) -> _Plan:
    """Look at everything that will be read, and refuse what cannot be done. Labels are moved once and
    thrown away."""
    sizes = _sizes(tree)
    if isinstance(crop, EyeCrop):
        assert size is not None, "checked with the crop"
        image_of_mask = {} if masks is None else match_masks(tree, masks, Movements(sizes, size=size))
        mask_of_image = {image: mask for mask, image in image_of_mask.items()}
        eyes = find_eye_boxes(tree, sizes, mask_of_image, crop, size)
        movements = Movements(sizes, crop, size, mirror=mirror, boxes=eyes.boxes)
        n_closed: int | None = eyes.n_closed
    else:
        movements = Movements(sizes, crop, size, mirror=mirror)
        image_of_mask = {} if masks is None else match_masks(tree, masks, movements)
        n_closed = None
    labels: dict[str, None] = {}
    carried: list[str] = []
    unknown: list[str] = []
    dropped: list[str] = []
    for path in tree.other_files():
        if path in image_of_mask or path == JOURNAL:
            continue
        file = LabelFile(Path(tree.root), path)
        moved = move_labels(file, movements)
        if moved is not None:
            labels[path] = None
            dropped += moved.dropped
            continue
        carried.append(path)
        if holds_unknown_places(file, movements):
            unknown.append(path)
    if unknown and not carry_unknown:
        raise LabelError(
            f"{tree.root}: {len(unknown)} files seem to hold labels that cannot be moved:"
            f"{list_faults(unknown, most=20)}\n"
            f"Next: name label masks with the masks pattern, take other files out of the tree, or, if they "
            f"hold no places in the image, carry them as they are with carry_unknown"
        )
    return _Plan(
        tree, movements, image_of_mask, labels, tuple(unknown), tuple(carried), tuple(dropped), n_closed
    )


def _sizes(tree: ImageTree) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    faults: list[str] = []
    for path in tree.paths():
        try:
            sizes[path] = read_image_size(Path(tree.root) / path)
        except ImageError as error:
            faults.append(str(error))
    if faults:
        raise DataError(
            f"{tree.root}: {len(faults)} of {len(faults) + len(sizes)} images cannot be used:{list_faults(faults)}\n"
            f"Next: mend or remove them, or narrow the images pattern"
        )
    return sizes


def to_grey(image: NDArray[Any]) -> NDArray[Any]:
    """The luminance 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) as one channel, same dtype; alpha stays."""
    colour, alpha = split_alpha(image)
    if colour.shape[2] == 1:
        return image
    grey = np.rint(colour @ np.array([0.299, 0.587, 0.114]))[..., None].astype(image.dtype)
    return grey if alpha is None else np.concatenate([grey, alpha], axis=2)


def _write(plan: _Plan, path: str, target: Path, invalid: int | None, *, grey: bool) -> None:
    source = Path(plan.tree.root) / path
    if path in plan.labels:
        moved = move_labels(LabelFile(Path(plan.tree.root), path), plan.movements)
        if moved is None:
            raise LabelError(f"{source}: changed while it was being prepared; run again into an empty folder")
        write_atomically(target, moved.data)
        return
    movement = plan.movements.get(plan.image_of_mask.get(path, path))
    is_image = path in plan.movements
    if movement is None or (movement.is_identity and not (grey and is_image)):
        copy_atomically(source, target)
    elif not is_image:
        write_image(target, movement.mask(read_image(source)))
    else:
        pixels = plan.tree.read(path)
        write_image(target, movement.image(to_grey(pixels) if grey else pixels, invalid))
