"""Moves the coordinates in labels.csv."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable

from simgan.data.labels import LABELS_FILE, read_table, relative_path
from simgan.nn.gaze import changes_sign_mirrored
from simgan.preparation.label_files import LabelFile, MovedLabels, finite_number, raise_faults, tidy
from simgan.preparation.movement import Movement, Movements

_X, _Y, _LENGTH = re.compile(r"(.*_)?x_px"), re.compile(r"(.*_)?y_px"), re.compile(r".*_px")


def move_labels_csv(file: LabelFile, movements: Movements) -> MovedLabels | None:
    """labels.csv in the root: columns `…_x_px` and `…_y_px` are points (pixel centres at whole numbers) and
    move; other columns `…_px` are lengths, which scale, if both axes scale alike; a mirror changes the sign of
    columns that point sideways (`simgan.nn.gaze.changes_sign_mirrored`); all else is carried.

    Empty cells stay empty. A point outside the crop keeps its true place, outside the image. Rows of files that are not
    there are faults, also where nothing moves.
    """
    if file.path != LABELS_FILE:
        return None
    header, rows, faults = read_table(file.data, file.source)
    movers = {i: mover for i, name in enumerate(header) if (mover := _mover(name)) is not None}
    text = file.data.decode("utf-8-sig")
    mark = "\ufeff" if file.data.startswith(b"\xef\xbb\xbf") else ""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n" if "\r\n" in text else "\n")
    writer.writerow(header)
    for line, row in rows:
        path, fault = relative_path(row[0])
        if fault is not None:
            faults.append(f"line {line}: {fault}")
        elif path not in movements:
            if not os.path.isfile(file.root / path) and path not in file.left_out:
                faults.append(f"line {line}: {path[:60]!r} is not in the tree")
        elif not movements[path].is_identity:
            for i, mover in movers.items():
                if mover is _mirrored and not movements[path].mirror:
                    continue
                row[i], cell_fault = _moved_cell(row[i], mover, movements[path])
                if cell_fault:
                    faults.append(f"line {line}: {header[i]} {cell_fault}")
        writer.writerow(row)
    raise_faults(file.source, faults)
    if not movers:
        return MovedLabels(file.data)
    return MovedLabels((mark + out.getvalue()).encode())


Mover = Callable[[Movement, float], float | None]


def _mover(column: str) -> Mover | None:
    """How a column's numbers move; the mover gives None where a length has no new value."""
    if _X.fullmatch(column):
        return Movement.point_x
    if _Y.fullmatch(column):
        return Movement.point_y
    if changes_sign_mirrored(column):
        return _mirrored
    return _moved_length if _LENGTH.fullmatch(column) else None


def _mirrored(_movement: Movement, value: float) -> float:
    return -value


def _moved_length(movement: Movement, length: float) -> float | None:
    return length * movement.scale_x if movement.keeps_aspect else None


def _moved_cell(cell: str, mover: Mover, movement: Movement) -> tuple[str, str]:
    """The new cell, and what is wrong with it, if anything."""
    if not cell.strip():
        return cell, ""
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not finite_number(number):
        return cell, f"is {cell[:60]!r}, not a finite number"
    moved = mover(movement, number)
    if moved is None:
        return cell, (
            f"is a length without a direction, and {movement.crop_height}×{movement.crop_width} to "
            f"{movement.new_height}×{movement.new_width} scales the axes apart: crop to that aspect first"
        )
    return str(tidy(moved)), ""
