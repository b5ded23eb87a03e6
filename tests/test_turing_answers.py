from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from simgan.errors import DataError, OutputError
from simgan.turing.answers import AnswerFile, Row, read_answers


def row(kind: str, **rest: Any) -> Row:
    return {
        "kind": kind,
        "time": "2026-01-01T00:00:00+00:00",
        "comparison": "refined",
        "subject": "anna",
        **rest,
    }


def answer(trial: int, **rest: Any) -> Row:
    fields = {"side": "real", "said": "real", "image": "é.png", "response_sec": 1.5}
    return row("answer", trial=trial, **(fields | rest))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture
def file(path: Path) -> AnswerFile:
    """A file that holds a start and two answers."""
    opened = AnswerFile(path)
    for one in (row("start"), answer(0), answer(1)):
        opened.add(one)
    return opened


def trials(path: Path) -> list[int]:
    return [one.trial for one in read_answers(path)[0].all]


def test_a_row_is_on_disk_when_it_was_added(
    file: AnswerFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(path.read_bytes().count(b"\n")))
    file.add(answer(2))
    assert flushed == [4]
    assert trials(path) == [0, 1, 2]


def test_an_undo_takes_the_last_answer_back_and_no_row_is_removed(file: AnswerFile, path: Path) -> None:
    file.add(row("undo", trial=1))
    file.add(answer(1, said="refined"))
    answers, _ = read_answers(path)
    assert [one.said for one in answers.all] == ["real", "refined"]
    assert answers.undone == 1
    assert path.read_bytes().count(b"\n") == 5


@pytest.mark.parametrize("torn", [b'{"kind": "ans', b"\0\0\0\0", b"garbage\n", b"[]\n", b"\xff\xfe"])
def test_a_damaged_last_line_costs_no_other_answer_and_is_kept_aside(
    file: AnswerFile, path: Path, torn: bytes
) -> None:
    file.close()
    with path.open("ab") as raw:
        raw.write(torn)
    assert trials(path) == [0, 1]
    again = AnswerFile(path)
    again.add(answer(2))
    again.close()
    assert trials(path) == [0, 1, 2]
    assert path.with_suffix(".damaged").read_bytes() == torn


def test_a_whole_row_without_its_end_was_never_confirmed(file: AnswerFile, path: Path) -> None:
    file.close()
    with path.open("ab") as raw:
        raw.write(json.dumps(answer(2)).encode())
    assert trials(path) == [0, 1]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kind": "answer"}, "has the fields"),
        ({"kind": []}, "has the fields"),
        ({"kind": "confession"}, "has the fields"),
        (answer(7), "trial 7 after 2 answers"),
        (answer(1), "trial 1 after 2 answers"),
        (row("undo", trial=0), "undo of trial 0 after 2"),
        (answer(2, said="synthetic"), "side and answer"),
        (answer(2, response_sec=-1), "response_sec is -1"),
        (answer(2, response_sec="1"), "response_sec is '1'"),
        (answer(0) | {"subject": "bo"}, "'bo' has not started"),
    ],
)
def test_a_row_that_does_not_follow_is_refused_and_in_a_file_it_is_damage(
    file: AnswerFile, path: Path, bad: Row, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        file.add(bad)
    file.close()
    assert trials(path) == [0, 1]
    with path.open("ab") as raw:
        raw.write(json.dumps(bad).encode() + b"\n" + json.dumps(answer(2)).encode() + b"\n")
    with pytest.raises(DataError, match=rf"line 4 is damaged \(.*{said}.*restore the file"):
        read_answers(path)


def test_nothing_can_be_undone_before_the_first_answer(path: Path) -> None:
    file = AnswerFile(path)
    file.add(row("start"))
    with pytest.raises(ValueError, match="after 0 answers"):
        file.add(row("undo", trial=-1))
    file.close()


def test_a_full_disk_leaves_the_file_as_it_was(
    file: AnswerFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(OutputError, match="cannot be written"):
        file.add(answer(2))
    assert path.read_bytes() == before
    assert [one.trial for one in file.answers.all] == [0, 1]


def test_a_file_that_cannot_be_read_or_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        AnswerFile(tmp_path / "no such folder" / "answers.jsonl")
