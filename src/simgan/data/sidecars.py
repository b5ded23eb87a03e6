"""Labels in a file of their own beside each image, as shards of the WebDataset format carry them, or folders.

The sidecar of an image is called by its sample's key, see `simgan.data.shards`: that of `a/0001.png`, and of
`a/0001.rgb.png` too, is `a/0001.cls` or `a/0001.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from simgan.data.columns import CLASS_COLUMNS, classes, labels_of_columns
from simgan.data.label_set import Labels, raise_label_faults, short
from simgan.data.shards import sample_key
from simgan.data.trees import ImageTree
from simgan.errors import LabelError


def looks_like_sidecars(tree: ImageTree) -> str | None:
    """ "cls" or "json" where the first image has such a sidecar, JSON only where it names a class; else None."""
    first = tree.paths()[0]
    if _find(tree, first, "cls") is not None:
        return "cls"
    try:
        has_class = not _object(tree, first).keys().isdisjoint(CLASS_COLUMNS)
    except (OSError, LabelError):
        return None
    return "json" if has_class else None


def read_cls(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "cls": a text file `.cls` beside each image holds the name, or the number, of its class."""
    names: list[str] = []
    faults: list[str] = []
    for path in paths:
        try:
            name = _read(tree, path, "cls").decode().strip()
            if not name or not name.isprintable():
                raise LabelError(f"one line with the name or number of a class is wanted, got {short(name)}")
            names.append(name)
        except (OSError, ValueError, LabelError) as error:
            faults.append(f"{path}: its .cls: {error}")
    raise_label_faults(
        str(tree.root), faults, "write them, or remove the images; each needs a .cls file of its class"
    )
    return classes(names)


def read_json(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "json": an object in a file `.json` beside each image. Its keys are what columns are in labels.csv; those
    of lists and objects are left alone."""
    objects: list[dict[str, Any]] = []
    faults: list[str] = []
    for path in paths:
        try:
            objects.append(_object(tree, path))
        except (OSError, LabelError) as error:
            faults.append(f"{path}: its .json: {error}")
    next_step = "correct these files; every image needs one, with the same keys"
    raise_label_faults(str(tree.root), faults, next_step)
    keys = dict.fromkeys(
        key for one in objects for key, value in one.items() if not isinstance(value, list | dict)
    )
    columns = {
        key: [(f"{path}: its .json", _text(one.get(key))) for path, one in zip(paths, objects, strict=True)]
        for key in keys
    }
    labels, faults = labels_of_columns(columns)
    raise_label_faults(str(tree.root), faults, next_step)
    assert labels is not None
    return labels


def _find(tree: ImageTree, path: str, suffix: str) -> str | None:
    return tree.find(f"{sample_key(tree.place(path))}.{suffix}", beside=path)


def _read(tree: ImageTree, path: str, suffix: str) -> bytes:
    found = _find(tree, path, suffix)
    if found is None:
        raise LabelError("is missing")
    return tree.read_bytes(found)


def _object(tree: ImageTree, path: str) -> dict[str, Any]:
    try:
        found = json.loads(_read(tree, path, "json"))
    except (ValueError, RecursionError) as error:
        raise LabelError(f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise LabelError(f"an object is wanted, found {type(found).__name__}")
    return found


def _text(value: Any) -> str:
    """As it would stand in a cell: a number keeps all its digits."""
    if value is None or isinstance(value, list | dict):
        return ""
    return value.strip() if isinstance(value, str) else repr(value)
