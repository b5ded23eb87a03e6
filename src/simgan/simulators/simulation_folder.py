"""The folder that a simulator writes: claimed by one command, filled with many small files, continued by the same."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from simgan.data.output_folder import make_folder, output_error, refuse_other_command, remove_file
from simgan.errors import OutputError
from simgan.images import write_atomically

SIMULATION = "simulation.json"


def claim_folder(out: Path, command: Mapping[str, object]) -> None:
    """Begin or continue `command` in `out`; `OutputError` where that folder holds something else."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; a new or empty folder is wanted")
    record = out / SIMULATION
    if record.is_file():
        try:
            begun = json.loads(record.read_bytes())
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{record}: cannot be read ({error}); choose another folder, or remove this one"
            ) from error
        refuse_other_command(out, begun if isinstance(begun, dict) else {}, dict(command), work="simulation")
        return
    make_folder(out)
    if any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose a new folder for the {command['simulator']}")
    write_atomically(record, json.dumps(command).encode())


def write_missing(path: Path, data: bytes, *, present: bool) -> None:
    """Write a whole file under this name, or leave what was there; flushed by the caller.

    `present`: whether a file of that name is there; it stays where it holds these bytes.
    """
    if present and path.read_bytes() == data:
        return
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        remove_file(temporary)
        raise output_error(path, error) from error


class Table:
    """Comma-separated values that grow."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")

    def add(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """More rows; the header stands above the first."""
        if not self._text.tell():
            self._writer.writerow(header)
        self._writer.writerows(rows)

    def data(self) -> bytes:
        """The file."""
        return self._text.getvalue().encode()
