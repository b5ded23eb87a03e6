from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simgan.cli import run
from simgan.turing import Study
from turing_studies import write_trees


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with trees `real`, `refined`, `synthetic`, and a server that gives one right answer."""
    write_trees(tmp_path, count=9)
    monkeypatch.chdir(tmp_path)

    def serve(study: Study, *, port: int, ready: Callable[[str], None]) -> None:
        session = study.sessions.start(study.comparisons[0], "anna")
        name, shown = session.trials[len(session.answers)]
        study.sessions.answer(session, picture=name, said=shown.side, response_sec=2)
        ready(f"http://127.0.0.1:{port}/")

    monkeypatch.setattr("simgan.turing.serve", serve)
    return tmp_path


BEGIN = ["turing", "study", "--real", "real", "--refined", "refined", "--trials", "6", "--examples", "2"]


def test_the_verb_says_where_to_look_and_prints_the_results_in_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*BEGIN, "--port", "1234"]) == 0
    said = capsys.readouterr()
    assert "open http://127.0.0.1:1234/ in a browser on this machine" in said.err
    assert "real against refined: it is not shown that people tell them apart (1 of 1 right" in said.out


def test_the_same_command_or_the_folder_alone_continues(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (BEGIN, BEGIN, ["turing", "study"]):
        assert run(arguments) == 0
    assert "3 of 3 right" in capsys.readouterr().out


def test_results_alone_are_printed_also_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run(BEGIN)
    capsys.readouterr()
    assert run(["turing", "study", "--results", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refined"]["people"]["telling"]["n"] == 1
    assert found["refined"]["automatic"] is None


def test_with_a_run_its_held_out_images_and_its_range_are_used(folder: Path) -> None:
    (folder / "run").mkdir()
    held_out = [f"{k:03}.png" for k in range(6)]
    scale = {"low": 0, "high": 510, "step": 2, "invalid": None}
    (folder / "run" / "data.json").write_text(
        json.dumps({"real_held_out_paths": held_out, "value_range": scale})
    )
    assert run([*BEGIN, "--synthetic", "synthetic", "--run", "run"]) == 0
    record = json.loads((folder / "study" / "study.json").read_text())
    assert sorted(record["pools"]["real"]["names"]) == held_out
    assert record["value_range"] == scale
    assert set(record["pools"]) == {"real", "refined", "synthetic"}


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["turing", "study", "--refined", "refined"]) == 1
    assert "--real is wanted" in capsys.readouterr().err
    for arguments in (["turing", "study"], ["turing", "study", "--results"]):
        assert run(arguments) == 1
        assert "there is no study" in capsys.readouterr().err
