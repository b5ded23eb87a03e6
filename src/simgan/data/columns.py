"""Columns of a table of labels, one cell for each image, as `Labels`: what labels.csv and JSON sidecars share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from simgan.data.label_set import Labels, short
from simgan.nn.gaze import GAZE_COLUMNS

CLASS_COLUMNS = ("class", "label")
GROUP_COLUMN = "group"

Cell = tuple[str, str]  # where it stands, its text


def labels_of_columns(
    columns: Mapping[str, Sequence[Cell]], *, gaze_alone: bool = True
) -> tuple[Labels | None, list[str]]:
    """The labels, None where there are faults, and all faults. A column `class` (or `label`) gives classes; without
    one, `gaze_x`, `gaze_y` and `gaze_z` are the values, and where these are not there (or not `gaze_alone`), every
    column that holds numbers. A column `group` gives the groups; others of text are left alone.
    """
    rest = dict(columns)
    grouping = rest.pop(GROUP_COLUMN, [])
    faults = [f"{where}: no group" for where, group in grouping if not group]
    groups = tuple(group for _, group in grouping) or None
    class_column = next((name for name in rest if name in CLASS_COLUMNS), None)
    if class_column is not None:
        faults += _class_faults(class_column, rest[class_column])
        return (None if faults else classes([name for _, name in rest[class_column]], groups)), faults
    if gaze_alone and all(name in rest for name in GAZE_COLUMNS):
        rest = {name: rest[name] for name in GAZE_COLUMNS}
    numbers, value_faults = _value_columns(rest)
    faults += value_faults
    if faults:
        return None, faults
    return Labels("value", np.array(list(numbers.values()), dtype=np.float64).T, tuple(numbers), groups), []


def _value_columns(columns: Mapping[str, Sequence[Cell]]) -> tuple[dict[str, list[float]], list[str]]:
    """The columns in which any cell is a number, and every cell of those that is not a finite one."""
    numbers: dict[str, list[float]] = {}
    faults: list[str] = []
    for name, cells in columns.items():
        parsed = [_number(cell) for _, cell in cells]
        if any(number is not None for number in parsed):
            numbers[name] = [math.nan if number is None else number for number in parsed]
            faults += [
                f"{where}: {name} is {short(cell)}, not a finite number"
                for (where, cell), number in zip(cells, numbers[name], strict=True)
                if not math.isfinite(number)
            ]
    if not numbers:
        faults.append(f"no column 'class' and no column of numbers among {listed(columns) or 'none'}")
    return numbers, faults


def _class_faults(column: str, cells: Sequence[Cell]) -> list[str]:
    faults = [f"{where}: no {column}" for where, name in cells if not name]
    if any("." in name for _, name in cells) and all(_number(name) is not None for _, name in cells):
        faults.append(f"column {column!r} holds decimal numbers; call it something else to learn its value")
    return faults


def classes(of_images: Sequence[str], groups: tuple[str, ...] | None = None) -> Labels:
    """The classes of images by their names, numbered in natural order."""
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


def listed(names: Iterable[str]) -> str:
    """The names in quotes, the first ten of them."""
    shown = [short(name) for name in names]
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return ", ".join(shown[:10]) + more
