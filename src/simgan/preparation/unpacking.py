"""Unpacks eye images from the files that data sets keep them in (.mat, .h5) into a tree of PNG files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan.data.eye_gaze_h5 import read_eye_gaze
from simgan.data.labels import LABELS_FILE
from simgan.data.mpiigaze import EVALUATION_LISTS, NORMALIZED, GazeImages, Subset, find_persons, read_person
from simgan.data.output_folder import check_places, make_folder
from simgan.data.trees import ImageTree
from simgan.images import encode_image, write_atomically
from simgan.nn.gaze import GAZE_COLUMNS
from simgan.preparation.journal import claim, listing_sha256, read_journal

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class UnpackingReport:
    """What was unpacked: the tree, its number of images, of persons, and whether it has gaze labels (labels.csv)."""

    tree: ImageTree
    n_images: int
    n_groups: int | None
    labelled: bool


def unpack_mpiigaze(
    root: str | Path,
    out_dir: str | Path,
    *,
    subset: Subset = "evaluation",
    labels: bool = True,
    progress: Progress | None = None,
) -> UnpackingReport:
    """MPIIGaze's normalized eyes as `<person>/<day>/<photo>_<side>.png`, right eyes mirrored, and labels.csv.

    labels=False leaves the gaze out: a tree of unlabelled real images. Again continues an interrupted call. Raises
    what `read_mpiigaze` does, and `OutputError` for a folder that is not empty or was begun by another call.
    """
    source, out = Path(root), Path(out_dir)
    persons = find_persons(source)
    check_places(source, out, "unpacked")
    read = [*source.joinpath(NORMALIZED).glob("p*/*.mat"), *source.joinpath(EVALUATION_LISTS).glob("*.txt")]
    command = {"unpack": "mpiigaze", "root": str(source.resolve()), "subset": subset, "labels": labels}
    _claim(out, command, source, read)

    def parts() -> Iterable[GazeImages]:
        for done, person in enumerate(persons, 1):
            yield read_person(source, person, subset=subset)
            if progress is not None:
                progress(done, len(persons))

    return _write(parts(), out, labels=labels)


def unpack_eye_gaze(path: str | Path, out_dir: str | Path) -> UnpackingReport:
    """The images of one file of the eye-gaze HDF5 pair as `<name>.png`, and labels.csv where it has gaze.

    Again continues. Raises what `read_eye_gaze` does, and `OutputError` as `unpack_mpiigaze`.
    """
    source, out = Path(path), Path(out_dir)
    images = read_eye_gaze(source)
    _claim(out, {"unpack": "eye-gaze", "root": str(source.resolve())}, source.parent, [source])
    return _write([images], out, labels=True)


def _claim(out: Path, command: dict[str, Any], root: Path, files: Sequence[Path]) -> None:
    begun = read_journal(out)
    claim(out, command, listing_sha256(root, sorted(str(file.relative_to(root)) for file in files)), begun)


def _write(parts: Iterable[GazeImages], out: Path, *, labels: bool) -> UnpackingReport:
    """The images as they come, one part in memory at a time, and the table last: a tree that has it is whole."""
    rows: list[tuple[object, ...]] = []
    labelled, grouped, count = labels, True, 0
    for part in parts:
        labelled, grouped = labelled and part.gaze is not None, grouped and part.groups is not None
        for i, name in enumerate(part.names):
            target = out / f"{name}.png"
            if not target.is_file():  # writes are atomic: what is there is whole
                make_folder(target.parent)
                write_atomically(target, encode_image(part.images[i][:, :, None], ".png"))
            gaze = [] if part.gaze is None else [f"{value:.6f}" for value in part.gaze[i]]
            rows.append((f"{name}.png", *gaze, *([] if part.groups is None else [part.groups[i]])))
        count += len(part)
    if labelled:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("path", *GAZE_COLUMNS, *(["group"] if grouped else [])))
        writer.writerows(rows)
        write_atomically(out / LABELS_FILE, table.getvalue().encode())
    n_groups = len({row[-1] for row in rows}) if grouped else None
    return UnpackingReport(ImageTree(out), count, n_groups, labelled)
