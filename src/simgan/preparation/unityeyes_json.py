"""Moves the landmarks and directions in UnityEyes files, see `simgan.data.unityeyes`."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

from simgan.data.unityeyes import annotation_path, is_unityeyes, load_document, parse_numbers, parse_unityeyes
from simgan.errors import LabelError
from simgan.images import IMAGE_SUFFIXES
from simgan.preparation.label_files import LabelFile, MovedLabels, written_like
from simgan.preparation.movement import Movement, Movements


def move_unityeyes(file: LabelFile, movements: Movements) -> MovedLabels | None:
    """A UnityEyes file beside an image: every list `…_2d` of points moves, depths stay; a mirror also turns `look_vec`
    (x changes its sign) and `head_pose` (yaw and roll do). Everything else is carried: shape, textures, and the
    lighting, which describes the scene as it was before a mirror.
    """
    if not file.path.lower().endswith(".json") or not is_unityeyes(file.data):
        return None
    image = next((path for path in _namesakes(file, movements) if annotation_path(path) == file.path), None)
    if image is None:
        stem = PurePosixPath(file.path).with_suffix("")
        names = [f"{stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
        if any(os.path.isfile(file.root / name) or name in file.left_out for name in names):
            return MovedLabels(file.data)  # its image is there, but is none of those that are prepared
        raise LabelError(
            f"{file.source}: a UnityEyes file without an image beside it; remove it, or add {stem}.jpg"
        )
    movement = movements[image]
    try:
        parse_unityeyes(file.data, (movement.height, movement.width))
        if movement.is_identity:
            return MovedLabels(file.data)
        document = moved_document(load_document(file.data), movement)
    except LabelError as error:
        raise LabelError(
            f"{file.source}: {error}\nNext: mend the file, or take it and its image out"
        ) from error
    return MovedLabels(written_like(file.data, document))


def _namesakes(file: LabelFile, movements: Movements) -> list[str]:
    return movements.with_stem(PurePosixPath(file.path).stem)


def moved_document(document: dict[str, Any], movement: Movement) -> dict[str, Any]:
    """The content of the file after the movement of its image."""
    moved = {
        key: [_moved_point(point, key, movement) for point in value]
        if key.endswith("_2d") and isinstance(value, list)
        else value
        for key, value in document.items()
    }
    if movement.mirror:
        details = document["eye_details"]
        look = parse_numbers(details["look_vec"], "eye_details.look_vec", (3, 4))
        moved["eye_details"] = {**details, "look_vec": _text([-look[0], *look[1:]])}
        pitch, yaw, roll = parse_numbers(document["head_pose"], "head_pose", (3,))
        moved["head_pose"] = _text([pitch, -yaw % 360, -roll % 360])
    return moved


def _moved_point(point: Any, key: str, movement: Movement) -> str:
    """Points of the file are edges, y upwards from the lower border: (x, H − row)."""
    x, y, depth = parse_numbers(point, key, (3,))
    new_x, new_y = movement.edge_x(x), movement.new_height - movement.edge_y(movement.height - y)
    return _text([new_x, new_y, depth])


def _text(numbers: list[float]) -> str:
    """UnityEyes's own form: four decimals in brackets; no minus before zero."""
    return "(" + ", ".join(f"{round(number, 4) + 0.0:.4f}" for number in numbers) + ")"
