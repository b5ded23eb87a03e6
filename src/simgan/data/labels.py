"""Read-only views of label formats: one reader per format, all giving `Labels`.

A format is a function `(tree, paths) -> Labels`; put it into `LABEL_FORMATS` under its name and it can be
asked for everywhere. Label files are never written here: refined trees carry them byte for byte.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from simgan.data.columns import CLASS_COLUMNS, classes, labels_of_columns, listed
from simgan.data.eye_masks import read_iris_from_masks
from simgan.data.label_set import LabelReader, Labels, raise_label_faults, short
from simgan.data.left_out import MANIFEST, images_left_out, left_out_by
from simgan.data.sidecars import looks_like_sidecars, read_cls, read_json
from simgan.data.syntheseyes import read_syntheseyes
from simgan.data.trees import ImageTree
from simgan.data.unityeyes import looks_like_unityeyes, read_unityeyes_gaze, read_unityeyes_iris
from simgan.errors import LabelError

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
            f"'class' or numbers) or a folder of images per class; known formats: {listed(LABEL_FORMATS)}"
        )
    if name not in LABEL_FORMATS:
        raise LabelError(f"{tree.root}: unknown label format {name!r}; known: {listed(LABEL_FORMATS)}")
    return LABEL_FORMATS[name](tree, wanted)


def detect_label_format(tree: ImageTree) -> str | None:
    """The format that the tree seems to have, or None.

    "csv" where the root, or one of the shards, holds a labels.csv; "unityeyes", "cls" or "json" where the first image
    has such a sidecar (a JSON object only if it has a class or label: other numbers may mean anything); "folders" where
    images lie in two or more folders of one depth.
    """
    if os.path.lexists(Path(tree.root) / LABELS_FILE) or tree.find(LABELS_FILE) is not None:
        return "csv"
    if looks_like_unityeyes(tree):
        return "unityeyes"
    if (sidecars := looks_like_sidecars(tree)) is not None:
        return sidecars
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
        f"only {side}: {listed(names)}"
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
    return classes([PurePosixPath(path).parent.name for path in paths])


def read_csv(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "csv": labels.csv in the root, or in one of the shards, UTF-8, one row per image.

    The first column is `path` (or `image`), relative to the root (in shards: the name of the member) and posix. A
    column `class` (or `label`) gives classes; without one, the columns `gaze_x`, `gaze_y` and `gaze_z` are the values,
    and where these are not there, every column that holds numbers. A column `group` gives the groups. Other columns
    are left alone, and so are rows for files that exist but were not asked for, or were left out when the tree was
    refined.
    """
    return _read_csv(tree, paths, gaze_alone=True)


def read_csv_columns(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "csv-columns": as "csv", but beside gaze all other columns of numbers are values too."""
    return _read_csv(tree, paths, gaze_alone=False)


def _read_csv(tree: ImageTree, paths: Sequence[str], *, gaze_alone: bool) -> Labels:
    name = tree.find(LABELS_FILE) or LABELS_FILE
    where = Path(tree.root) / name
    try:
        header, rows, faults = read_table(tree.read_bytes(name), where)
    except (OSError, KeyError) as error:
        raise LabelError(f"{where}: cannot be read: {error}") from error
    places = [tree.place(path) for path in paths]
    faults += [f"{place} stands in {n} shards" for place, n in Counter(places).items() if n > 1]
    row_of, row_faults = _rows_by_place(tree, rows, set(places))
    faults += row_faults
    faults += [f"no row for {place}" for place in places if place not in row_of]
    ordered = [row_of[place] for place in places if place in row_of]
    columns = {
        name: [(f"line {line}", row[i].strip()) for line, row in ordered]
        for i, name in enumerate(header)
        if i > 0
    }
    labels, column_faults = labels_of_columns(columns, gaze_alone=gaze_alone)
    next_step = "correct the file; every image needs exactly one row"
    raise_label_faults(str(where), faults + column_faults, next_step)
    assert labels is not None
    return labels


LABEL_FORMATS: dict[str, LabelReader] = {
    "folders": read_folders,
    "csv": read_csv,
    "cls": read_cls,
    "json": read_json,
    "csv-columns": read_csv_columns,
    "unityeyes": read_unityeyes_gaze,
    "unityeyes-iris": read_unityeyes_iris,
    "syntheseyes": read_syntheseyes,
    "eye-masks": read_iris_from_masks,
}


def read_table(data: bytes, where: Path) -> tuple[list[str], list[Row], list[str]]:
    """Of the bytes of a table, which lies at `where`: the header, the rows that are as wide as it, and the faults found
    so far. Cells keep their spaces. Raises `LabelError` where it is no table of labels at all.
    """
    try:
        if b"\0" in data:
            raise ValueError("it holds NUL bytes, so it is not a text file")
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        table = [(reader.line_num, row) for row in reader if row]
    except (ValueError, csv.Error) as error:
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
        faults.append(f"a column name is doubled or empty: {listed(header)}")
    if all(name in header for name in CLASS_COLUMNS):
        faults.append(f"both columns {listed(CLASS_COLUMNS)}: only one can be the class")
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


def _rows_by_place(
    tree: ImageTree, rows: Sequence[Row], wanted: set[str]
) -> tuple[dict[str, Row], list[str]]:
    """The rows of the wanted images, and what is wrong with any row's path."""

    @cache
    def left_out() -> frozenset[str]:
        return _left_out(tree)

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
            elif tree.find(path) is None and path not in left_out():
                faults.append(f"line {line}: {short(path)} is not in the tree")
    return row_of, faults


def _left_out(tree: ImageTree) -> frozenset[str]:
    """The places of images that the tree lacks because they were left out when it, or what it was made from, was
    refined: the manifest lies beside its files, or among those in shards."""
    paths = images_left_out(tree.root if tree.shard_files is None else tree.shard_files.root)
    packed = None if tree.shard_files is None else tree.find(MANIFEST)
    if packed is not None:
        paths |= left_out_by(tree.read_bytes(packed), Path(tree.root) / packed)
    return paths
