"""MPIIGaze: normalized eye images and gaze in MATLAB files, and the lists of its evaluation subset.

    Data/Normalized/pXX/dayYY.mat                              per eye: image (n, 36, 60), gaze (n, 3), pose (n, 3)
    Evaluation Subset/sample list for eye image/pXX.txt        lines "dayYY/0001.jpg left"

(Zhang et al., CVPR 2015.) Gaze is a vector in the space of the normalized camera, the one of `simgan.nn.gaze`. Right
eyes are mirrored together with their labels, as its authors do, so that all look like left eyes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from simgan.data.label_set import raise_label_faults, short
from simgan.errors import DataError
from simgan.nn.gaze import gaze_faults, mirrored, unit_vectors

NORMALIZED = Path("Data") / "Normalized"
EVALUATION_LISTS = Path("Evaluation Subset") / "sample list for eye image"
SIDES = ("left", "right")

Subset = Literal["evaluation", "all"]


@dataclass(frozen=True, eq=False)
class GazeImages:
    """n grey eye images with their gaze: (n, H, W) uint8, (n, 3) unit vectors or None, one name for each.

    `groups`: the person of each image, or None where nobody is known.
    """

    images: NDArray[np.uint8]
    gaze: NDArray[np.float64] | None
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class _Eye:
    images: NDArray[np.uint8]
    gaze: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Day:
    """One .mat file: left and right eyes, of the same n photographs."""

    filenames: tuple[str, ...]
    left: _Eye
    right: _Eye


def find_persons(root: str | Path) -> tuple[str, ...]:
    """The persons (p00, p01, …) of the MPIIGaze folder; `DataError` where it is none."""
    folder = Path(root) / NORMALIZED
    persons = sorted(path.name for path in folder.glob("p[0-9]*") if path.is_dir()) if folder.is_dir() else []
    if not persons:
        raise DataError(
            f"{root}: no MPIIGaze here: folders {NORMALIZED}/p00, p01, … are wanted; give the folder that the "
            f"archive unpacks to"
        )
    return tuple(persons)


def read_mpiigaze(root: str | Path, *, subset: Subset = "evaluation") -> Iterator[GazeImages]:
    """The images of one person after the other, right eyes mirrored; names like `p00/day01/0001_left`.

    subset "evaluation": those of the authors' lists (1,500 of each eye of a person), in the order of the list. "all":
    every photograph, both eyes. Raises `DataError` where files are missing or have other fields, `LabelError` where a
    list or a gaze is faulty; all faults of a person are counted.
    """
    for person in find_persons(root):
        yield read_person(root, person, subset=subset)


def read_person(root: str | Path, person: str, *, subset: Subset = "evaluation") -> GazeImages:
    """The images of one person; see `read_mpiigaze`."""
    folder = Path(root) / NORMALIZED / person
    days = {path.stem: path for path in sorted(folder.glob("day*.mat"))}
    if not days:
        raise DataError(f"{folder}: no file day01.mat, day02.mat, … here; unpack MPIIGaze again")
    opened = {day: read_day(path) for day, path in days.items()}
    if subset == "evaluation":
        chosen = _listed(Path(root) / EVALUATION_LISTS / f"{person}.txt", opened)
    else:
        chosen = [
            (day, i, side) for day, one in opened.items() for i in range(len(one.filenames)) for side in SIDES
        ]
    images, gaze, names = [], [], []
    faults: list[str] = []
    for day, i, side in chosen:
        eye = opened[day].left if side == "left" else opened[day].right
        name = f"{person}/{day}/{Path(opened[day].filenames[i]).stem}_{side}"
        faults += [f"{name}: {fault}" for fault in gaze_faults(eye.gaze[i])]
        images.append(eye.images[i] if side == "left" else eye.images[i, :, ::-1])
        gaze.append(eye.gaze[i] if side == "left" else mirrored(eye.gaze[i]))
        names.append(name)
    raise_label_faults(
        str(folder), faults, "unpack MPIIGaze again: gaze there is a unit vector with z below 0"
    )
    return GazeImages(np.stack(images), unit_vectors(np.stack(gaze)), tuple(names), (person,) * len(names))


def read_day(path: Path) -> _Day:
    """One .mat file; `DataError` naming the fields that are missing or have another shape."""
    try:
        content: dict[str, Any] = loadmat(path, chars_as_strings=True)
    except Exception as error:  # on damaged files scipy raises whatever it stumbles over
        raise DataError(
            f"{path}: cannot be read as a MATLAB file of MPIIGaze: {error}; unpack it again"
        ) from error
    faults: list[str] = []
    eyes = {side: _eye(content.get("data"), side, faults) for side in SIDES}
    names = _filenames(content.get("filenames"), faults)
    left, right = eyes["left"], eyes["right"]
    if left is not None and right is not None and names is not None:
        counts = {len(left.images), len(right.images), len(names)}
        if len(counts) > 1:
            faults.append(
                f"{len(left.images)} left and {len(right.images)} right images for {len(names)} filenames"
            )
    if faults or left is None or right is None or names is None:
        raise DataError(
            f"{path}: is no file of MPIIGaze's Data/Normalized: {'; '.join(faults)}; wanted: data.left and data.right, "
            f"each with image (n, H, W) of uint8 and gaze (n, 3), and filenames (n)"
        )
    return _Day(names, left, right)


def _field(value: Any, name: str) -> Any:
    """The field of a MATLAB struct as scipy gives it (a 1×1 array of records); None where it is not there."""
    if isinstance(value, np.ndarray) and value.dtype.names and name in value.dtype.names and value.size == 1:
        return value[name].reshape(-1)[0]
    return None


def _eye(data: Any, side: str, faults: list[str]) -> _Eye | None:
    eye = _field(data, side)
    images, gaze = _field(eye, "image"), _field(eye, "gaze")
    missing = [f"data.{side}.{name}" for name, value in (("image", images), ("gaze", gaze)) if value is None]
    if missing:
        faults.append(f"{' and '.join(missing)} missing")
        return None
    if images.ndim != 3 or images.dtype != np.uint8:
        faults.append(f"data.{side}.image is {images.shape} of {images.dtype}")
        return None
    if gaze.shape != (len(images), 3) or not np.issubdtype(gaze.dtype, np.number):
        faults.append(f"data.{side}.gaze is {gaze.shape} of {gaze.dtype} for {len(images)} images")
        return None
    return _Eye(images, gaze.astype(np.float64))


def _filenames(value: Any, faults: list[str]) -> tuple[str, ...] | None:
    """The texts of a MATLAB cell array."""
    names: list[str] = []
    for cell in np.asarray(value, dtype=object).reshape(-1) if value is not None else ():
        text = np.asarray(cell).reshape(-1)
        names.append(str(text[0]) if len(text) == 1 else "")
    if not names or "" in names:
        faults.append("filenames missing or not texts")
        return None
    return tuple(names)


def _listed(where: Path, days: dict[str, _Day]) -> list[tuple[str, int, str]]:
    """(day, number in the day, side) of each line of an evaluation list."""
    try:
        lines = where.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{where}: the list of the evaluation subset cannot be read: {error}; unpack MPIIGaze again, or take "
            f"all images"
        ) from error
    place = {(day, name): i for day, one in days.items() for i, name in enumerate(one.filenames)}
    chosen: list[tuple[str, int, str]] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fault, found = _parse_line(line, place)
        if found is None:
            faults.append(f"line {number}: {fault}")
        else:
            chosen.append(found)
    if not chosen and not faults:
        faults.append("it is empty")
    raise_label_faults(str(where), faults, "every line is <day>/<file> left or <day>/<file> right")
    return chosen


def _parse_line(line: str, place: dict[tuple[str, str], int]) -> tuple[str, tuple[str, int, str] | None]:
    parts = line.split()
    if len(parts) != 2 or parts[0].count("/") != 1:
        return f"{short(line)} is not <day>/<file> <side>", None
    if parts[1] not in SIDES:
        return f"the side is {short(parts[1])}, wanted left or right", None
    day, name = parts[0].split("/")
    if (day, name) not in place:
        return f"{parts[0]} is in no .mat file", None
    return "", (day, place[day, name], parts[1])
