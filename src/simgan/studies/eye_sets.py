"""Eyes for studies: real close-ups in three parts, and labelled synthetic eyes; 35×55 grey, cropped around the eye.

Real eyes are $SIMGAN_DATA/eyes/real: 270 frames of recordings, so that neighbours in number are near-copies. They are
cut into three contiguous blocks of the number with a gap of 10 at each cut, and a fold rotates which block is
*unlabelled* (the refiner sees these images), *dev* (labels may shape recipes) and *test* (read once per reported
figure).

Their masks name a pupil in 164 of the 270 images only (in dark eyes it is not seen), so pupil and iris are one class.
The label is the iris centre relative to the opening, in eye widths, measured on both sides alike in the original masks.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.eye_masks import IRIS, mask_path, read_masks
from simgan.data.labels import LABELS_FILE, read_labels
from simgan.data.output_folder import copy_atomically, remove_temporaries
from simgan.data.trees import ImageTree
from simgan.errors import DataError, require_extra
from simgan.images import write_atomically
from simgan.preparation import EyeCrop, prepare

SIZE = (35, 55)
PARTS = ("unlabelled", "dev", "test")
GAP = 10  # frames left out at each cut between two blocks
GROUP = 10  # frames that rise and fall together in the intervals
EYE_CLASSES = ("skin", "sclera", "iris with pupil")
DRAWN_COUNT, DRAWN_SEED = 4000, 0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RealEyes:
    """The parts of one fold; all have labels and masks, and `bound` is unlabelled and dev together: what could be
    trained on if all were labelled."""

    unlabelled: ImageTree
    dev: ImageTree
    test: ImageTree
    bound: ImageTree


def split_blocks(count: int, fold: int) -> dict[str, range]:
    """Numbers of the images in each part: thirds, a gap of 10 at each cut; fold 0, 1, 2 rotates the parts."""
    if not 0 <= fold < len(PARTS):
        raise DataError(f"fold: 0, 1 or 2 is wanted, got {fold}")
    cuts = [0, *(round(count * k / len(PARTS)) for k in (1, 2)), count]
    blocks = []
    for k in range(len(PARTS)):
        start = cuts[k] + (GAP // 2 if k > 0 else 0)
        end = cuts[k + 1] - (GAP // 2 if k < len(PARTS) - 1 else 0)
        blocks.append(range(start, end))
    return {part: blocks[(k + fold) % len(PARTS)] for k, part in enumerate(PARTS)}


def real_eyes(folder: Path, fold: int) -> RealEyes:
    """The parts of a fold, written below `folder` where they are not there yet; `DataError` without $SIMGAN_DATA."""
    source = ImageTree(_data() / "real", images="images/*")
    numbers = {path: int(re.sub(r"\D", "", PurePosixPath(path).stem)) for path in source.paths()}
    ordered = sorted(numbers, key=numbers.__getitem__)
    prepared = _prepared(source, folder / "real-all")
    parts = split_blocks(len(ordered), fold)
    trees = {
        part: _part(source, prepared, folder / f"real-{fold}-{part}", [ordered[i] for i in block], numbers)
        for part, block in parts.items()
    }
    both = [ordered[i] for part in ("unlabelled", "dev") for i in parts[part]]
    return RealEyes(**trees, bound=_part(source, prepared, folder / f"real-{fold}-bound", both, numbers))


def rendered_eyes(folder: Path) -> ImageTree:
    """The 890 UnityEyes renders of $SIMGAN_DATA/eyes/synthetic, prepared as the real ones."""
    source = ImageTree(_data() / "synthetic", images="images/*")
    prepared = _prepared(source, folder / "renders")
    return _labelled(source, prepared, source.paths())


def drawn_eyes(folder: Path, *, count: int = DRAWN_COUNT) -> ImageTree:
    """Eyes of `simgan.simulators.eyes` (needs that simulator), cropped around the opening as the real ones.

    Drawn at twice the size, so that the crop does not enlarge them; closed eyes have no label and are left out.
    """
    eyes: Any = require_extra("simgan.simulators.eyes", extra="cli")
    drawn = folder / "drawn-large"
    eyes.write_eyes(drawn, count=count, size=(2 * SIZE[0], 2 * SIZE[1]), seed=DRAWN_SEED)
    source = ImageTree(drawn, images="images/*.png")
    seen = [
        path
        for path, mask in zip(source.paths(), read_masks(source, source.paths()), strict=True)
        if (mask >= IRIS).any()
    ]
    selected = _selection(source, folder / "drawn-open", seen)
    return _labelled(selected, _prepared(selected, folder / "drawn"), selected.paths())


SYNTHETIC: dict[str, Callable[[Path], ImageTree]] = {"renders": rendered_eyes, "drawn": drawn_eyes}


def part_masks(tree: ImageTree, paths: Sequence[str]) -> NDArray[np.uint8]:
    """(n, H, W) masks of images of one size: 0 skin, 1 sclera, 2 iris with pupil."""
    return np.minimum(np.stack(read_masks(tree, paths)), IRIS).astype(np.uint8)


def _data() -> Path:
    root = os.environ.get("SIMGAN_DATA")
    if not root:
        raise DataError("real eyes need the environment variable SIMGAN_DATA: the folder that holds eyes/")
    return Path(root) / "eyes"


def _prepared(source: ImageTree, out: Path) -> ImageTree:
    return prepare(source, out, crop=EyeCrop(), size=SIZE, masks="masks/*.png", grey=True).tree


def _part(
    source: ImageTree, prepared: ImageTree, out: Path, chosen: Sequence[str], numbers: dict[str, int]
) -> ImageTree:
    """The chosen prepared images with their masks, named by number (r007), and labels.csv with blocks as groups."""
    remove_temporaries(out)
    renamed = {}
    for path in chosen:
        renamed[path] = f"images/r{numbers[path]:03d}{PurePosixPath(path).suffix}"
        _copy_missing(Path(prepared.root) / path, out / renamed[path])
        _copy_missing(Path(prepared.root) / mask_path(path), out / mask_path(renamed[path]))
    tree = ImageTree(out, images="images/*")
    groups = [f"block{numbers[path] // GROUP:02d}" for path in chosen]
    _write_labels(source, list(chosen), out, [renamed[path] for path in chosen], groups)
    return tree


def _selection(source: ImageTree, out: Path, chosen: Sequence[str]) -> ImageTree:
    """The chosen images with masks and UnityEyes files, as they are."""
    for path in chosen:
        for name in (path, mask_path(path), str(PurePosixPath(path).with_suffix(".json"))):
            _copy_missing(Path(source.root) / name, out / name)
    return ImageTree(out, images=source.images)


def _labelled(source: ImageTree, prepared: ImageTree, paths: Sequence[str]) -> ImageTree:
    _write_labels(source, paths, Path(prepared.root), paths, None)
    return prepared


def _write_labels(
    source: ImageTree, paths: Sequence[str], out: Path, names: Sequence[str], groups: Sequence[str] | None
) -> None:
    """labels.csv of the images `names` in `out`: the label of each of `paths` in its original mask."""
    target = out / LABELS_FILE
    if target.exists():  # written last
        return
    labels = read_labels(source, paths, "eye-masks")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("path", *labels.names, *(["group"] if groups is not None else [])))
    for i, name in enumerate(names):
        group = [groups[i]] if groups is not None else []
        writer.writerow((name, *(f"{value:.6f}" for value in labels.values[i]), *group))
    write_atomically(target, table.getvalue().encode())


def _copy_missing(old: Path, new: Path) -> None:
    if not new.exists():
        copy_atomically(old, new)
