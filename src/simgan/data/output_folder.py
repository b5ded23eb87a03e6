"""The folder that a refined or prepared tree is written to: where it may lie, and how files come to lie in it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from simgan.errors import DataError, OutputError

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # what `write_atomically` and `copy_atomically` write first


def check_places(root: Path, out: Path, kind: str) -> None:
    """Raise `OutputError` where `out`, wanted for the `kind` ("refined", "prepared") tree, is a file, or one of the
    two folders is, or lies in, the other."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; a new or empty folder is wanted")
    here, there = root.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"{out}: the {kind} tree must lie outside {root}, and not around it, so that originals are never "
            f"touched; choose another folder"
        )


def refuse_other_command(
    out: Path, begun: Mapping[str, Any], command: Mapping[str, Any], *, work: str
) -> None:
    """`OutputError` that says in what `command` differs from the one that began the `work` ("refinement",
    "preparation") in `out`."""
    different = sorted(key for key in command.keys() | begun.keys() if command.get(key) != begun.get(key))
    if different:
        reasons = [
            f"{key} was {json.dumps(begun.get(key))}, now {json.dumps(command.get(key))}" for key in different
        ]
        raise OutputError(
            f"{out}: holds the result of another {work} ({'; '.join(reasons)}); choose another folder, or "
            f"remove this one"
        )


def make_folder(folder: Path) -> None:
    """Make the folder and those above it; `OutputError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def copy_atomically(source: Path, target: Path, *, durable: bool = True) -> None:
    """Copy bytes and time of change, for files of any size. `DataError` where `source` cannot be read,
    `OutputError` where `target` cannot be written; under its name stands nothing or the whole, see
    `write_atomically`."""
    make_folder(target.parent)
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        old = source.open("rb")
    except OSError as error:
        raise input_error(source, error) from error
    try:
        with old:
            stat = os.fstat(old.fileno())
            with temporary.open("xb") as new:
                shutil.copyfileobj(old, new, 1 << 20)
                if durable:
                    new.flush()
                    os.fsync(new.fileno())
            os.utime(temporary, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        remove_file(temporary)


@contextmanager
def open_atomically(target: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to be written in pieces: under the name `target` it stands when all of it is written. `OutputError`."""
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        remove_file(temporary)


def wait_for_disk(folder: Path) -> None:
    """Return when all that was written below `folder` would outlast a power cut; `OutputError` where it cannot."""
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if not hasattr(libc, "syncfs"):  # Linux alone has it
                os.sync()
            elif libc.syncfs(opened):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(opened)
    except OSError as error:
        raise output_error(folder, error) from error


def remove_file(path: Path) -> None:
    """Remove the file, if it is there; `OutputError` where that cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def file_sha256(path: Path) -> str | None:
    """The digest of a file's bytes; None where there is no such file, `DataError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise input_error(path, error) from error


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process was writing below `folder`; no other may be at work there."""
    for path in _files(folder):
        if _TEMPORARY.fullmatch(path.name):
            remove_file(path)


def files_below(folder: Path) -> set[str]:
    """All files below `folder`, relative POSIX paths."""
    return {path.relative_to(folder).as_posix() for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (Path(place) / name for place, _, names in os.walk(folder) for name in names)


def output_error(target: Path, error: OSError) -> OutputError:
    """What to say when the system refuses to write `target`."""
    return OutputError(
        f"{target}: cannot be written: {error.strerror or error}; nothing was left half-written; check the free "
        f"space and the rights of {target.parent}, then run the same command again: it continues"
    )


def input_error(source: Path, error: OSError) -> DataError:
    """What to say when the system refuses to read `source`."""
    return DataError(f"{source}: cannot be read: {error.strerror or error}; check its rights")
