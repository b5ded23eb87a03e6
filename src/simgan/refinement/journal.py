"""What an unfinished refinement has done so far: one line for each image, written when its file lies in place."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simgan.data.output_folder import output_error, refuse_other_command, remove_file
from simgan.errors import OutputError

JOURNAL = ".simgan-refine.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one image. Levels are native integers of the synthetic image; `total` is their sum and
    `squares` that of their squares: integers, so that sums over images do not depend on their order."""

    path: str
    stamp: tuple[int, int]  # size in bytes and time of change in ns of the synthetic file
    reason: str | None = None  # why it was left out; None: it was refined
    source: str = ""  # sha256 of the synthetic file
    refined: str = ""  # sha256 of the refined file
    unchanged: bool = False  # every pixel came out as it was; the file is carried byte for byte
    outside: int = 0  # values clipped to the range
    off_grid: int = 0  # values between the levels of the range
    drift_px: float | None = None  # where a limit was given, and the structure could be followed
    drifted: bool = False  # it was left out because of its drift, for `reason`
    height: int = 0
    width: int = 0
    values: int = 0
    low: int = 0
    high: int = 0
    total: int = 0
    squares: int = 0


_FIELDS = tuple(field.name for field in fields(Row))


class Journal:
    """Rows on disk, appended one by one. While it is open no other process can open it."""

    def __init__(self, out: Path, command: Mapping[str, Any]) -> None:
        """Open the journal in `out`, or begin one for `command`. `OutputError` where another command began it,
        or is at work."""
        self._path = out / JOURNAL
        self.rows: dict[str, Row] = {}
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise output_error(self._path, error) from error
        try:
            self._begin(command)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, command: Mapping[str, Any]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{self._path.parent}: another process is refining into this folder; wait for it, or choose "
                f"another folder"
            ) from None
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1  # a killed process may have left a torn last line
        self._file.truncate(whole)
        if not whole:
            self._write_line(command)
            return
        try:
            begun, *rows = map(json.loads, data[:whole].splitlines())
            self.rows = {r["path"]: Row(**{**r, "stamp": tuple(r["stamp"])}) for r in rows}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise OutputError(
                f"{self._path}: is damaged ({error}); remove the folder {self._path.parent} and run again"
            ) from error
        refuse_other_command(self._path.parent, begun, command, work="refinement")

    def add(self, row: Row) -> None:
        """Note that `row.path` is done."""
        self._write_line({name: getattr(row, name) for name in _FIELDS})
        self.rows[row.path] = row

    def remove(self) -> None:
        """The refinement is finished: its manifest says all that the journal said."""
        remove_file(self._path)

    def _write_line(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        try:
            while line:  # a disk that fills up takes the beginning, and refuses the rest
                line = line[os.write(self._file.fileno(), line) :]
        except OSError as error:
            raise output_error(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
