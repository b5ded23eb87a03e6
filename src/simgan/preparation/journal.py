"""The journal of a preparation: which command writes to the folder, so that the same one continues there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simgan.data.output_folder import make_folder, refuse_other_command, remove_temporaries
from simgan.errors import DataError, OutputError
from simgan.images import write_atomically

JOURNAL = ".simgan-prepare.json"
_FILES = "files_sha256"


def read_journal(out: Path) -> dict[str, Any] | None:
    """The command that began the preparation in `out`, or None where the folder is empty or missing.

    Raises `OutputError` where anything else lies there.
    """
    try:
        if not out.exists() or not any(out.iterdir()):
            return None
        begun = json.loads((out / JOURNAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        begun = None
    if not isinstance(begun, dict):
        raise OutputError(f"{out}: the folder is not empty; choose a new or empty one")
    return begun


def claim(out: Path, command: Mapping[str, Any], files_sha256: str, begun: Mapping[str, Any] | None) -> None:
    """Note in an empty `out` that `command` works there, on files of that digest; where one began before, it must
    be the same."""
    if begun is None:
        make_folder(out)
        text = json.dumps({**command, _FILES: files_sha256}, indent=1)
        write_atomically(out / JOURNAL, text.encode())
        return
    earlier = {key: value for key, value in begun.items() if key != _FILES}
    refuse_other_command(out, earlier, command, work="preparation")
    if begun.get(_FILES) != files_sha256:
        raise OutputError(
            f"{out}: was begun from other files (files of the original tree changed since); choose another "
            f"folder, or remove this one"
        )
    remove_temporaries(out)


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
