"""A label file on its way into the prepared tree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simgan.data.left_out import images_left_out
from simgan.errors import LabelError, list_faults
from simgan.preparation.movement import Movements


@dataclass(frozen=True)
class LabelFile:
    """A file of the tree that is no image: the root and the path relative to it; read when asked for."""

    root: Path
    path: str

    @cached_property
    def data(self) -> bytes:
        """The bytes of the file; `LabelError` where it cannot be read."""
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise LabelError(f"{self.source}: cannot be read: {error.strerror or error}") from error

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Images that the file may name though the tree lacks them: it is a refined one."""
        return images_left_out(self.root)

    @property
    def source(self) -> Path:
        """Where the file lies."""
        return self.root / self.path


@dataclass(frozen=True)
class MovedLabels:
    """The new bytes of a label file, and one sentence for each label that left the image with the crop."""

    data: bytes
    dropped: tuple[str, ...] = ()


LabelMover = Callable[[LabelFile, Movements], MovedLabels | None]
"""Moves the labels in one file along with their pixels; None where the file is not of its format."""


def tidy(value: float) -> float:
    """A coordinate without the dust of floating point: to 1e-6 px, and whole numbers as such."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def finite_number(value: Any) -> bool:
    """Whether a value read from JSON can be a coordinate: a number, neither NaN nor beyond any image."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e12 < value < 1e12


def raise_faults(where: Path, faults: list[str]) -> None:
    """Raise a `LabelError` naming the first five faults and their number, if there are any."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise LabelError(
            f"{where}: {count}, so its labels cannot be moved:{list_faults(faults)}\nNext: correct the file"
        )


def written_like(old: bytes, document: dict[str, Any]) -> bytes:
    """JSON in the manner of the old bytes: their indent, and plain ASCII where they were."""
    match = re.match(rb"\s*\{\r?\n( +|\t+)", old)
    text = json.dumps(document, indent=match and match[1].decode(), ensure_ascii=old.isascii())
    # Half a surrogate pair cannot be UTF-8; written with a backslash it is the JSON escape that it was.
    return text.encode(errors="backslashreplace") + (b"\n" if old.endswith(b"\n") else b"")
