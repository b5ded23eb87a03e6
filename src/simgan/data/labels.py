"""Read-only views of label formats: one reader per format, all giving `Labels`.

A format is a function `(tree, paths) -> Labels`; put it into `LABEL_FORMATS` under its name and it can be
asked for everywhere. Label files are never written here: refined trees carry them byte for byte.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from simgan.data.eye_masks import read_iris_from_masks
from simgan.data.label_set import LabelReader, Labels, raise_label_faults, short
from simgan.data.left_out import images_left_out
from simgan.data.syntheseyes import read_syntheseyes
from simgan.data.trees import ImageTree
from simgan.data.unityeyes import looks_like_unityeyes, read_unityeyes_gaze, read_unityeyes_iris
from simgan.errors import LabelError
from simgan.nn.gaze import GAZE_COLUMNS

__all__ = [
    "LABELS_FILE",
    "LABEL_FORMATS",
    "Labels",
    "align_classes",
    "detect_label_format",
    "read_labels",
    "read_table",
    "relative_path",
]  # fmt: skip

LABELS_FILE = "labels.csv"
PATH_COLUMNS = ("path", "image")
CLASS_COLUMNS = ("class", "label")
GROUP_COLUMN = "group"


Cell = tuple[int, str]  # its line in the file, its text
Row = tuple[int, list[str]]


def read_labels(tree: ImageTree, paths: Sequence[str] | None = None, format: str | None = None) -> Labels:
    """The labels of `paths` (relative, posix; default all images of the tree), in that order.

    `format` is a key of `LABEL_FORMATS`; without it `tree.labels`, else what `detect_label_format` finds.
    Raises `LabelError` where there are no labels, or where they are faulty (all counted, the first shown).
    """
    wanted = tree.paths() if paths is None else tuple(paths)
    name = format or tree.labels or detect_label_format(tree)
    if name is None:
        raise LabelError(
            f"{tree.root}: no labels found. Wanted a {LABELS_FILE} in that folder (a column 'path', then "
            f"'class' or numbers) or a folder of images per class; known formats: {_listed(LABEL_FORMATS)}"
        )
    if name not in LABEL_FORMATS:
        raise LabelError(f"{tree.root}: unknown label format {name!r}; known: {_listed(LABEL_FORMATS)}")
    return LABEL_FORMATS[name](tree, wanted)


def detect_label_format(tree: ImageTree) -> str | None:
    """The format that the tree seems to have, or None.

    "csv" where the root holds a labels.csv; "unityeyes" where the first image has such a file beside it; "folders"
    where images lie in two or more folders of one depth.
    """
    if os.path.lexists(Path(tree.root) / LABELS_FILE):
        return "csv"
    if looks_like_unityeyes(tree):
        return "unityeyes"
    parents = [PurePosixPath(tree.place(path)).parent for path in tree.paths()]
    same_depth = len({len(parent.parts) for parent in parents}) == 1
    return "folders" if same_depth and len({parent.name for parent in parents}) >= 2 else None


def align_classes(
    reference: Labels, other: Labels, *, reference_name: str = "synthetic", other_name: str = "real"
) -> Labels:
    """`other` with its classes numbered (kind "value": its columns ordered) as in `reference`, by name.

    Raises `LabelError` when the kinds differ, or naming what only one side has; the two names say there whose
    labels they are.
    """
    if reference.kind != other.kind:
        raise LabelError(
            f"the {reference_name} labels are of kind {reference.kind!r}, the {other_name} labels of kind "
            f"{other.kind!r}: both must be classes, or both numbers"
        )
    what = "classes" if reference.kind == "class" else "columns"
    one_sided = [
        f"only {side}: {_listed(names)}"
        for side, names in (
            (reference_name, [name for name in reference.names if name not in other.names]),
            (other_name, [name for name in other.names if name not in reference.names]),
        )
        if names
    ]
    if one_sided:
        raise LabelError(
            f"the {reference_name} and {other_name} labels have different {what} ({'; '.join(one_sided)}); "
            f"rename or remove them so that both sides have the same {what}"
        )
    if other.kind == "class":
        renumbered = np.array([reference.names.index(name) for name in other.names], dtype=np.int64)
        values: NDArray[np.int64] | NDArray[np.float64] = renumbered[other.values.astype(np.int64)]
    else:
        values = other.values[:, [other.names.index(name) for name in reference.names]]
    return replace(other, values=values, names=reference.names)


def read_folders(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "folders": the class of an image is the name of the folder that it lies in."""
    paths = [tree.place(path) for path in paths]
    faults = [f"{path} lies in no folder below the root" for path in paths if "/" not in path]
    depths = {path.count("/"): path for path in reversed(paths) if "/" in path}
    if len(depths) > 1:
        faults.append(f"folders of classes lie at different depths: {' and '.join(sorted(depths.values()))}")
    if not paths:
        faults.append("there is no image to label")
    next_step = "put each image into the folder of its class, or narrow the images pattern"
    raise_label_faults(str(tree.root), faults, next_step)
    return _classes([PurePosixPath(path).parent.name for path in paths], groups=None)


def read_csv(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "csv": labels.csv in the root, UTF-8, one row per image.

    The first column is `path` (or `image`), relative to the root and posix. A column `class` (or `label`)
    gives classes; without one, the columns `gaze_x`, `gaze_y` and `gaze_z` are the values, and where these are not
    there, every column that holds numbers. A column `group` gives the groups. Other columns are left alone, and so are
    rows for files that exist but were not asked for, or were left out when the tree was refined.
    """
    return _read_csv(tree, paths, gaze_alone=True)


def read_csv_columns(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "csv-columns": as "csv", but beside gaze all other columns of numbers are values too."""
    return _read_csv(tree, paths, gaze_alone=False)


def _read_csv(tree: ImageTree, paths: Sequence[str], *, gaze_alone: bool) -> Labels:
    where = Path(tree.root) / LABELS_FILE
    header, rows, faults = read_table(where)
    row_of, row_faults = _rows_by_path(tree, rows, set(paths))
    faults += row_faults
    faults += [f"no row for {path}" for path in paths if path not in row_of]
    ordered = [row_of[path] for path in paths if path in row_of]
    columns = {
        name: [(line, row[i].strip()) for line, row in ordered] for i, name in enumerate(header) if i > 0
    }
    grouping = columns.pop(GROUP_COLUMN, [])
    faults += [f"line {line}: no group" for line, group in grouping if not group]
    groups = tuple(group for _, group in grouping) or None
    class_column = next((name for name in columns if name in CLASS_COLUMNS), None)
    numbers: dict[str, list[float]] = {}
    if class_column is None:
        if gaze_alone and all(name in columns for name in GAZE_COLUMNS):
            columns = {name: columns[name] for name in GAZE_COLUMNS}
        numbers, column_faults = _value_columns(columns)
    else:
        column_faults = _class_faults(class_column, columns[class_column])
    raise_label_faults(
        str(where), faults + column_faults, "correct the file; every image needs exactly one row"
    )
    if class_column is not None:
        return _classes([name for _, name in columns[class_column]], groups)
    return Labels("value", np.array(list(numbers.values()), dtype=np.float64).T, tuple(numbers), groups)


LABEL_FORMATS: dict[str, LabelReader] = {
    "folders": read_folders,
    "csv": read_csv,
    "csv-columns": read_csv_columns,
    "unityeyes": read_unityeyes_gaze,
    "unityeyes-iris": read_unityeyes_iris,
    "syntheseyes": read_syntheseyes,
    "eye-masks": read_iris_from_masks,
}


def read_table(where: Path) -> tuple[list[str], list[Row], list[str]]:
    """The header, the rows that are as wide as it, and the faults found so far. Cells keep their spaces.

    Raises `LabelError` where the file is no table of labels at all.
    """
    try:
        data = where.read_bytes()
        if b"\0" in data:
            raise ValueError("it holds NUL bytes, so it is not a text file")
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        table = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise LabelError(f"{where}: cannot be read as UTF-8 comma-separated values: {error}") from error
    if not table:
        raise LabelError(f"{where}: the file is empty; wanted a header 'path,class' and one row per image")
    header = [name.strip() for name in table[0][1]]
    faults: list[str] = []
    if header[0] not in PATH_COLUMNS:
        raise LabelError(
            f"{where}: the first column is {short(header[0])}, wanted 'path' (or 'image'), then a comma"
        )
    if len(set(header)) < len(header) or "" in header:
        faults.append(f"a column name is doubled or empty: {_listed(header)}")
    if all(name in header for name in CLASS_COLUMNS):
        faults.append(f"both columns {_listed(CLASS_COLUMNS)}: only one can be the class")
    rows = []
    for line, row in table[1:]:
        if len(row) == len(header):
            rows.append((line, row))
        else:
            faults.append(f"line {line}: {len(row)} columns, the header has {len(header)}")
    if len(table) == 1:
        faults.append("a header and no rows")
    return header, rows, faults


def relative_path(cell: str) -> tuple[str, str | None]:
    """The path in a cell in its shortest form, and what is wrong with it, if anything."""
    path = PurePosixPath(cell)
    if not path.parts:
        return "", "no path"
    if "\\" in cell:
        return "", f"path {short(cell)} has backslashes; write it with '/'"
    if path.is_absolute() or ".." in path.parts:
        return "", f"path {short(cell)} leaves the tree; write it relative to the root"
    return path.as_posix(), None


def _rows_by_path(tree: ImageTree, rows: Sequence[Row], wanted: set[str]) -> tuple[dict[str, Row], list[str]]:
    """The rows of the wanted images, and what is wrong with any row's path."""

    @cache
    def left_out() -> frozenset[str]:
        return images_left_out(tree.root)

    row_of: dict[str, Row] = {}
    first_line: dict[str, int] = {}
    faults: list[str] = []
    for line, row in rows:
        path, fault = relative_path(row[0])
        if fault is not None:
            faults.append(f"line {line}: {fault}")
        elif path in first_line:
            faults.append(f"line {line}: {short(path)} again, first seen in line {first_line[path]}")
        else:
            first_line[path] = line
            if path in wanted:
                row_of[path] = (line, row)
            elif not os.path.isfile(Path(tree.root) / path) and path not in left_out():
                faults.append(f"line {line}: {short(path)} is not in the tree")
    return row_of, faults


def _value_columns(columns: dict[str, list[Cell]]) -> tuple[dict[str, list[float]], list[str]]:
    """The columns in which any cell is a number, and every cell of those that is not a finite one."""
    numbers: dict[str, list[float]] = {}
    faults: list[str] = []
    for name, cells in columns.items():
        parsed = [_number(cell) for _, cell in cells]
        if any(number is not None for number in parsed):
            numbers[name] = [math.nan if number is None else number for number in parsed]
            faults += [
                f"line {line}: {name} is {short(cell)}, not a finite number"
                for (line, cell), number in zip(cells, numbers[name], strict=True)
                if not math.isfinite(number)
            ]
    if not numbers:
        faults.append(f"no column 'class' and no column of numbers among {_listed(columns) or 'none'}")
    return numbers, faults


def _class_faults(column: str, cells: Sequence[Cell]) -> list[str]:
    faults = [f"line {line}: no {column}" for line, name in cells if not name]
    if any("." in name for _, name in cells) and all(_number(name) is not None for _, name in cells):
        faults.append(f"column {column!r} holds decimal numbers; call it something else to learn its value")
    return faults


def _classes(of_images: Sequence[str], groups: tuple[str, ...] | None) -> Labels:
    names = tuple(sorted(set(of_images), key=_natural))
    number = {name: i for i, name in enumerate(names)}
    return Labels("class", np.array([number[name] for name in of_images], dtype=np.int64), names, groups)


def _natural(name: str) -> tuple[object, ...]:
    """Sort key in which 2 comes before 10. Digits compare as (length, text): int() refuses very long ones."""
    parts = re.split(r"([0-9]+)", name)
    digits = [(len(part.lstrip("0")), part.lstrip("0")) for part in parts[1::2]]
    key: list[object] = [*parts[:1]]
    for number, text in zip(digits, parts[2::2], strict=True):
        key += [number, text]
    return (tuple(key), name)


def _number(cell: str) -> float | None:
    if "_" in cell:  # float("1_0") is 10.0 in Python, and in no file format
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _listed(names: Iterable[str]) -> str:
    shown = [short(name) for name in names]
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return ", ".join(shown[:10]) + more
