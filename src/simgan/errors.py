"""Everything that simgan raises on purpose.

    SimganError
    ├── ConfigurationError      a recipe or an argument is wrong; `faults` lists every one found
    ├── DataError               a tree of images is not what was asked for
    │   ├── ImageError          one image file
    │   └── LabelError          one label file or label
    ├── WeightsError            a weights file or checkpoint is not one of ours, or damaged
    ├── RunError                a run directory: other configuration, in use, nothing trained yet
    ├── OutputError             a place to write to: inside the input, not empty, read-only, full
    ├── TrainingError           training cannot go on (NaN); the last good state was kept
    └── MissingExtraError       an optional package is not installed; names the extra to install

Each message says what was wanted, what came, where, and what to do next.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType


class SimganError(Exception):
    """Base of all errors that simgan raises on purpose: catch this one to catch them all."""


class ConfigurationError(SimganError):
    """A recipe or argument is wrong. `faults` holds one sentence per fault, all found in one pass."""

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        count = len(self.faults)
        head = "" if count == 1 else f"{count} faults:\n  - "
        super().__init__(head + "\n  - ".join(self.faults))


class DataError(SimganError):
    """A tree of images is not what was asked for."""


class ImageError(DataError):
    """One file is not an image that can be used here."""


class LabelError(DataError):
    """A label file, or one label in it, cannot be used."""


class WeightsError(SimganError):
    """A weights file or checkpoint is not one of ours, or is damaged."""


class RunError(SimganError):
    """A run directory holds something other than what was asked for."""


class OutputError(SimganError):
    """A place to write to cannot take what was to be written; nothing was lost."""


class TrainingError(SimganError):
    """Training cannot go on; the last good state was kept."""


class MissingExtraError(SimganError):
    """An optional package is not installed."""


def list_faults(faults: Sequence[str], *, most: int = 5) -> str:
    """The first `most` faults, each on a line of its own after a dash, and how many more there are."""
    shown = "".join(f"\n  - {fault}" for fault in faults[:most])
    return shown + (f"\n  and {len(faults) - most} more" if len(faults) > most else "")


def require_extra(module: str, *, extra: str) -> ModuleType:
    """The imported `module`, or `MissingExtraError` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs the package {module!r}, which is not installed ({error}); "
            f"install it with: pip install 'simgan[{extra}]'"
        ) from error
