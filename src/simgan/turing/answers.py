"""answers.jsonl: every answer at once on disk, rows only ever added; and what a list of rows says.

A row is one JSON object: `kind` ("start", "answer", "undo"), `time`, `comparison`, `subject`; an answer also has
`trial` (from 0), `side`, `said`, `image`, `response_sec` (null: interrupted); an undo has the `trial` it takes back.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from simgan.data.output_folder import input_error, output_error
from simgan.errors import DataError
from simgan.evaluation.turing import REAL, Answer
from simgan.images import write_atomically

Row = dict[str, Any]
Key = tuple[str, str]  # comparison, subject

_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {"time": str, "comparison": str, "subject": str},
    "undo": {"time": str, "comparison": str, "subject": str, "trial": int},
    "answer": {
        "time": str,
        "comparison": str,
        "subject": str,
        "trial": int,
        "side": str,
        "said": str,
        "image": str,
        "response_sec": (float, int, type(None)),
    },
}


class Answers:
    """What the rows of a study say: for each subject that started, the answers that stand, in order."""

    def __init__(self) -> None:
        self.given: dict[Key, list[Answer]] = {}
        self.undone = 0

    def check(self, row: Row) -> None:
        """`ValueError`, with the reason, where the row does not follow from those before."""
        kind = row.get("kind")
        fields = _FIELDS.get(kind) if isinstance(kind, str) else None
        if fields is None or row.keys() != {"kind", *fields}:
            raise ValueError(f"no row of answers has the fields {sorted(map(str, row))}")
        wrong = [name for name, kind in fields.items() if not isinstance(row[name], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} is {row[wrong[0]]!r}")
        key = row["comparison"], row["subject"]
        if row["kind"] == "start":
            return
        if key not in self.given:
            raise ValueError(f"{row['subject']!r} has not started the comparison with {row['comparison']}")
        given = self.given[key]
        if row["kind"] == "undo":
            if not given or row["trial"] != len(given) - 1:
                raise ValueError(f"undo of trial {row['trial']} after {len(given)} answers")
            return
        if row["trial"] != len(given):
            raise ValueError(f"an answer to trial {row['trial']} after {len(given)} answers")
        sides = {REAL, row["comparison"]}
        if not {row["side"], row["said"]} <= sides:
            raise ValueError(f"side and answer are of {sorted(sides)}, not {row['side']!r}, {row['said']!r}")
        sec = row["response_sec"]
        if sec is not None and not (math.isfinite(sec) and sec >= 0):
            raise ValueError(f"response_sec is {sec}")

    def take(self, row: Row) -> None:
        """Take one row into account; `ValueError` as `check`."""
        self.check(row)
        key = row["comparison"], row["subject"]
        if row["kind"] == "start":
            self.given.setdefault(key, [])
        elif row["kind"] == "undo":
            self.given[key].pop()
            self.undone += 1
        else:
            self.given[key].append(Answer(**{name: row[name] for name in _FIELDS["answer"]}))

    @property
    def all(self) -> list[Answer]:
        """Every answer that stands, subject by subject."""
        return [answer for given in self.given.values() for answer in given]


def read_answers(path: Path) -> tuple[Answers, int]:
    """What the file says, and how many of its bytes are whole rows; a missing file says nothing.

    The last line may be damaged, as a killed process or a power cut leaves it: it was never confirmed to the subject
    and is left out. `DataError` where any other line is.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise input_error(path, error) from error
    answers, good = Answers(), 0
    *whole, tail = data.split(b"\n")
    lines = [line + b"\n" for line in whole] + ([tail] if tail else [])
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not line.endswith(b"\n"):
                raise ValueError("it is not a whole row")
            answers.take(row)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise DataError(
                f"{path}: line {number} is damaged ({error}); restore the file from a backup, or remove that line "
                "and all later ones of its subject"
            ) from error
        good += len(line)
    return answers, good


class AnswerFile:
    """The file, open for adding rows. `answers`: what it says so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers, good = read_answers(path)
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
        except OSError as error:
            raise output_error(path, error) from error
        torn = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, good)
        if torn:  # kept aside: rows are added after whole rows only
            write_atomically(path.with_suffix(".damaged"), torn)
            os.ftruncate(self._descriptor, good)

    def add(self, row: Row) -> None:
        """The row is checked, and on disk, when this returns; `ValueError` where it does not follow, `OutputError`
        where it cannot be written, and then nothing has changed."""
        self.answers.check(row)
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        before = os.fstat(self._descriptor).st_size
        try:
            # All bytes in one call: what a crash leaves is the row, or a torn last line.
            if os.write(self._descriptor, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise output_error(self.path, error) from error
        self.answers.take(row)

    def close(self) -> None:
        os.close(self._descriptor)
