"""The folder that a preparation writes to: who may write there, and which command began it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simgan.errors import DataError, OutputError
from simgan.images import write_atomically

JOURNAL = ".simgan-prepare.json"
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")


def check_places(root: Path, out: Path) -> None:
    """Raise `OutputError` where one of the two folders lies in the other."""
    here, there = root.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"{out}: the prepared tree must lie outside {root}, and not around it, so that originals are "
            f"never touched; choose another folder"
        )


def read_journal(out: Path) -> dict[str, Any] | None:
    """The command that began the preparation in `out`, or None where the folder is empty or missing.

    Raises `OutputError` where anything else lies there.
    """
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return None
        if not out.is_dir():
            raise OutputError(f"{out}: is a file; a new or empty folder is wanted")
        begun = json.loads((out / JOURNAL).read_bytes())
    except (OSError, ValueError):
        begun = None
    if not isinstance(begun, dict):
        raise OutputError(f"{out}: the folder is not empty; choose a new or empty one")
    return begun


def claim(out: Path, command: Mapping[str, Any], begun: Mapping[str, Any] | None) -> None:
    """Note in an empty `out` that `command` works there; where a command began before, it must be that."""
    if begun is None:
        make_folder(out)
        write_atomically(out / JOURNAL, json.dumps(command, indent=1).encode())
        return
    different = sorted(key for key in command.keys() | begun.keys() if command.get(key) != begun.get(key))
    if different:
        reasons = [
            "files of the original tree changed"
            if key == "files_sha256"
            else f"{key} was {json.dumps(begun.get(key))}, now {json.dumps(command.get(key))}"
            for key in different
        ]
        raise OutputError(
            f"{out}: holds the result of another preparation ({'; '.join(reasons)}); choose another folder, "
            f"or empty this one"
        )
    try:
        for folder, _, names in os.walk(out):  # what a killed run was writing
            for name in filter(_TEMPORARY.fullmatch, names):
                (Path(folder) / name).unlink()
    except OSError as error:
        raise output_error(out, error) from error


def listing_sha256(root: Path, paths: Sequence[str]) -> str:
    """Changes when any of the files does."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            stat = (root / path).stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode(errors="surrogateescape"))
    except OSError as error:
        raise DataError(f"{root}: changed while it was being read ({error}); run again") from error
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Make the folder and those above it; `OutputError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def output_error(target: Path, error: OSError) -> OutputError:
    """What to say when the system refuses to write `target`."""
    return OutputError(
        f"{target}: cannot be written: {error.strerror or error}; nothing was left half-written; check the "
        f"free space and the rights of {target.parent}, then run the same command again: it continues"
    )
