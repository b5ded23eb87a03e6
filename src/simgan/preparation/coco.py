"""Moves the labels in COCO files: JSON with `images` and `annotations`.

Only what a crop or resize changes is edited: width, height, bbox, segmentation, area, keypoints,
num_keypoints. Every other key, all ids and the order stay.
"""

from __future__ import annotations

import json
import os
from pathlib import PurePosixPath
from typing import Any

from simgan.data.labels import relative_path
from simgan.errors import LabelError
from simgan.preparation.label_files import (
    LabelFile,
    MovedLabels,
    finite_number,
    raise_faults,
    tidy,
    written_like,
)
from simgan.preparation.movement import Movement, Movements
from simgan.preparation.rle import compress_counts, decode_runs, decompress_counts, encode_runs

Annotation = dict[str, Any]


def move_coco(file: LabelFile, movements: Movements) -> MovedLabels | None:
    """COCO labels: boxes and polygons are edges, keypoints are pixel centres, run lengths are masks.

    A crop cuts boxes and polygons at its border, and sets keypoints outside it to 0, 0, 0. Annotations with
    nothing left inside are dropped and listed. `area` changes by the factor by which the shape does.
    """
    if not file.path.lower().endswith(".json") or b'"images"' not in file.data:
        return None
    try:
        document = json.loads(file.data)
    except (ValueError, RecursionError) as error:
        if b'"annotations"' not in file.data:
            return None
        raise LabelError(f"{file.source}: seems to hold COCO labels, but is no JSON: {error}") from error
    if not isinstance(document, dict):
        return None
    images, annotations = document.get("images"), document.get("annotations", [])
    if not isinstance(images, list) or not isinstance(annotations, list):
        return None
    if not any(isinstance(image, dict) and "file_name" in image for image in images):
        return None
    faults: list[str] = []
    movement_of_id = _movements_by_id(images, file, movements, faults)
    kept, dropped = [], []
    for annotation in annotations:
        try:
            image_id, movement = _image_of(annotation, movement_of_id)
            moved = annotation if movement is None else move_annotation(annotation, movement)
        except LabelError as fault:
            name = annotation.get("id") if isinstance(annotation, dict) else annotation
            faults.append(f"annotation {str(name)[:40]}: {fault}")
            continue
        if moved is None:
            dropped.append(
                f"{file.path}: annotation {annotation.get('id')} of image {image_id} left the image"
            )
        else:
            kept.append(moved)
    raise_faults(file.source, faults)
    if all(movement is None for movement in movement_of_id.values()):
        return MovedLabels(file.data)
    sizes = [
        image if movement is None else {**image, "width": movement.new_width, "height": movement.new_height}
        for image, movement in zip(images, movement_of_id.values(), strict=True)
    ]
    # Only keys that were there are replaced, so a file without annotations gets none.
    new = {"images": sizes, "annotations": kept}
    moved_document = {key: new.get(key, value) for key, value in document.items()}
    return MovedLabels(written_like(file.data, moved_document), tuple(dropped))


def _movements_by_id(
    images: list[Any], file: LabelFile, movements: Movements, faults: list[str]
) -> dict[Any, Movement | None]:
    """The movement of each image by its id; None where its entry stays as it is."""
    found: dict[Any, Movement | None] = {}
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            faults.append(f"images[{number}] has no file_name")
            continue
        name = image["file_name"]
        if not isinstance(image.get("id"), int | str) or image["id"] in found:
            faults.append(f"image {name[:60]!r} has no id of its own: {image.get('id')!r:.40}")
            continue
        found[image["id"]] = None
        path, fault = _locate(name, file, movements)
        if fault is not None:
            faults.append(fault)
        elif path is not None and not movements[path].is_identity:
            movement = movements[path]
            declared = (image.get("height", movement.height), image.get("width", movement.width))
            if declared != (movement.height, movement.width):
                faults.append(
                    f"image {name[:60]!r} is {movement.height}×{movement.width} (height×width), "
                    f"but the labels are for {declared[0]!r:.20}×{declared[1]!r:.20}"
                )
            found[image["id"]] = movement
    return found


def _locate(name: str, file: LabelFile, movements: Movements) -> tuple[str | None, str | None]:
    """The path of the image called `name` (None: not an image of the tree, or left out of it), and what is wrong."""
    relative, fault = relative_path(name)
    if fault is not None:
        return None, fault
    beside = (PurePosixPath(file.path).parent / relative).as_posix()
    for path in (relative, beside):
        if path in movements:
            return path, None
    same_stem = movements.with_stem(PurePosixPath(relative).stem)
    below = [path for path in same_stem if path.endswith(f"/{relative}")]
    if len(below) == 1:
        return below[0], None
    if below:
        return (
            None,
            f"file_name {name[:60]!r} could be {' or '.join(below[:3])}: write the whole path",
        )
    if any(os.path.isfile(file.root / path) for path in (relative, beside)):
        return None, None
    if any(path == beside or f"/{path}".endswith(f"/{relative}") for path in file.left_out):
        return None, None
    return None, f"file_name {name[:60]!r} is not in the tree: remove its entry, or add the image"


def _image_of(annotation: Any, movement_of_id: dict[Any, Movement | None]) -> tuple[Any, Movement | None]:
    image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
    if not isinstance(image_id, int | str) or image_id not in movement_of_id:
        raise LabelError(f"its image_id {image_id!r:.40} is not among the images")
    return image_id, movement_of_id[image_id]


def move_annotation(annotation: Annotation, movement: Movement) -> Annotation | None:
    """The annotation after the movement; None where a crop leaves nothing of it. `LabelError` where it is
    faulty."""
    if "segments_info" in annotation:
        raise LabelError("panoptic segments cannot be moved yet; take this file out of the tree")
    moved = dict(annotation)
    growth = movement.scale_x * movement.scale_y
    if "bbox" in annotation:
        x, y, width, height = _numbers(annotation["bbox"], "bbox", 4)
        if width < 0 or height < 0:
            raise LabelError(f"bbox: [left, top, width, height] is wanted, got {annotation['bbox']}")
        x0, x1 = sorted((movement.edge_x(x), movement.edge_x(x + width)))
        y0, y1 = movement.edge_y(y), movement.edge_y(y + height)
        if movement.crops:
            if x1 <= 0 or y1 <= 0 or x0 >= movement.new_width or y0 >= movement.new_height:
                return None
            x0, y0 = max(x0, 0.0), max(y0, 0.0)
            x1, y1 = min(x1, movement.new_width), min(y1, movement.new_height)
        moved["bbox"] = [tidy(v) for v in (x0, y0, x1 - x0, y1 - y0)]
        if width * height > 0:
            growth = (x1 - x0) * (y1 - y0) / (width * height)
    if annotation.get("segmentation"):
        moved["segmentation"], before, after = _moved_segmentation(annotation["segmentation"], movement)
        if movement.crops and before > 0 and after == 0:
            return None
        growth = after / before if before > 0 else growth
    if "area" in annotation:
        (area,) = _numbers([annotation["area"]], "area", 1)
        moved["area"] = tidy(area * growth)
    if "keypoints" in annotation:
        moved["keypoints"] = _moved_keypoints(annotation["keypoints"], movement)
        if "num_keypoints" in annotation:
            moved["num_keypoints"] = sum(v > 0 for v in moved["keypoints"][2::3])
    return moved


def _moved_segmentation(segmentation: Any, movement: Movement) -> tuple[Any, float, float]:
    """The segmentation after the movement, and its area before and after."""
    if isinstance(segmentation, dict):
        return _moved_runs(segmentation, movement)
    if not isinstance(segmentation, list):
        raise LabelError(f"segmentation: polygons or run lengths are wanted, got {segmentation!r:.40}")
    polygons, before = [], 0.0
    for flat in segmentation:
        numbers = _numbers(flat, "segmentation")
        if len(numbers) < 6 or len(numbers) % 2:
            raise LabelError(f"segmentation: a polygon of {len(numbers)} numbers; 6, 8, 10, … are wanted")
        polygon = list(zip(numbers[::2], numbers[1::2], strict=True))
        before += _polygon_area(polygon)
        polygon = [(movement.edge_x(x), movement.edge_y(y)) for x, y in polygon]
        polygons.append(_clip(polygon, movement) if movement.crops else polygon)
    left = [polygon for polygon in polygons if len(polygon) >= 3]
    flat_polygons = [[tidy(v) for point in polygon for v in point] for polygon in left]
    return flat_polygons, before, sum(map(_polygon_area, left))


def _moved_runs(runs: dict[str, Any], movement: Movement) -> tuple[dict[str, Any], float, float]:
    counts = runs.get("counts")
    if runs.get("size") != [movement.height, movement.width]:
        raise LabelError(
            f"segmentation: run lengths for size {runs.get('size')!r:.40}, but the image is "
            f"[{movement.height}, {movement.width}]"
        )
    if not isinstance(counts, str | list):
        raise LabelError(f"segmentation: counts, a string or a list, are wanted, got {counts!r:.40}")
    plain = decompress_counts(counts) if isinstance(counts, str) else counts
    old = decode_runs(plain, movement.height, movement.width)
    new = movement.mask(old[..., None])[..., 0]
    moved = encode_runs(new)
    written = compress_counts(moved) if isinstance(counts, str) else moved
    size = [movement.new_height, movement.new_width]
    return {**runs, "size": size, "counts": written}, float(old.sum()), float(new.sum())


def _moved_keypoints(keypoints: Any, movement: Movement) -> list[float]:
    numbers = _numbers(keypoints, "keypoints")
    if len(numbers) % 3:
        raise LabelError(f"keypoints: x, y, visibility for each are wanted, got {len(numbers)} numbers")
    if movement.mirror:
        raise LabelError(
            "keypoints: mirrored, the left and the right ones would change places, and which they are is not known"
        )
    moved: list[float] = []
    for x, y, visibility in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        new_x, new_y = movement.point_x(x), movement.point_y(y)
        inside = -0.5 <= new_x <= movement.new_width - 0.5 and -0.5 <= new_y <= movement.new_height - 0.5
        if visibility == 0:
            moved += [x, y, visibility]  # not labelled: 0, 0 is no place
        elif movement.crops and not inside:
            moved += [0, 0, 0]
        else:
            moved += [tidy(new_x), tidy(new_y), visibility]
    return moved


def _clip(polygon: list[tuple[float, float]], movement: Movement) -> list[tuple[float, float]]:
    """The part of the polygon inside the new image, cut at one border after the other (Sutherland and
    Hodgman).

    Parts of a concave polygon stay joined along the border, by a strip without area.
    """
    right, bottom = float(movement.new_width), float(movement.new_height)
    borders = ((0, 1, 0.0), (0, -1, right), (1, 1, 0.0), (1, -1, bottom))
    for axis, sign, border in borders:
        clipped: list[tuple[float, float]] = []
        for start, end in zip(polygon[-1:] + polygon[:-1], polygon, strict=True):
            start_in, end_in = (sign * (point[axis] - border) >= 0 for point in (start, end))
            if start_in != end_in:
                share = (border - start[axis]) / (end[axis] - start[axis])
                crossing = [start[i] + share * (end[i] - start[i]) for i in (0, 1)]
                crossing[axis] = border
                clipped.append((crossing[0], crossing[1]))
            if end_in:
                clipped.append(end)
        polygon = clipped
    return polygon if _polygon_area(polygon) > 0 else []


def _polygon_area(polygon: list[tuple[float, float]]) -> float:
    """½ |Σ (x_i y_{i+1} − x_{i+1} y_i)|"""
    following = polygon[1:] + polygon[:1]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, following, strict=True))) / 2


def _numbers(value: Any, name: str, count: int | None = None) -> list[float]:
    if not isinstance(value, list) or not all(map(finite_number, value)):
        raise LabelError(f"{name}: a list of finite numbers is wanted, got {value!r:.60}")
    if count is not None and len(value) != count:
        raise LabelError(f"{name}: {count} numbers are wanted, got {len(value)}")
    return value
