from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import simgan
from report_runs import RECORD, changed, make_run, regression
from simgan.cli import run as command
from simgan.evaluation import Evaluation
from simgan.reporting import model_card
from simgan.weights import load_refiner


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("card"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def card_of(run: Path, record: dict[str, Any] | None) -> str:
    text = model_card(run, None if record is None else Evaluation(record)).read_text("utf-8")
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("\u2212", "-")


def test_the_card_has_data_training_figures_with_intervals_and_limits(run: Path) -> None:
    text = card_of(run, RECORD)
    assert text.startswith("# SimGAN refiner: recipe default, seed 0\n")
    assert "**It helps.** Refined beats synthetic by +4.1 points [+2.9, +5.3]" in text
    assert "- synthetic: 10 images, 8-bit grey, 8×8" in text
    assert "- steps T: 4" in text
    assert "| Refined · 1,000 images | 74.1 % | [72.1, 76.1] |" in text
    assert "| Over synthetic | +4.1 points | [+2.9, +5.3] |" in text
    assert "| Refined | 0.800 | [0.770, 0.830] |" in text
    assert "gap to labelled real images that is closed: 0.31 [0.22, 0.40]" in text
    assert "labels hold (they hold down to -1.0 points)" in text
    assert "- Warning of the evaluation: the classes are not equally frequent" in text
    assert load_refiner(run).sha256 in text
    assert "the interval does not contain the spread between refiners" in text
    assert "dashed" not in text, "there is no drawing"


def test_errors_are_written_in_their_unit(run: Path) -> None:
    text = card_of(run, regression())
    assert "| Refined · 1,000 images | 1.80 px | [1.78, 1.82] |" in text


def test_without_an_evaluation_the_card_says_that_nothing_was_shown(run: Path) -> None:
    text = card_of(run, None)
    assert "Not evaluated: nothing shows that it helps, or that labels hold." in text
    assert "**Not evaluated.**" in text


def test_a_gap_that_cannot_be_told_is_said_with_its_reason(run: Path) -> None:
    text = card_of(run, changed(downstream__gap_closed=None, downstream__reason="there is no gap to close"))
    assert "Share of the gap closed: not said; there is no gap to close." in text


def test_the_card_names_no_file_or_folder_of_this_disk(run: Path) -> None:
    data = json.loads((run / "data.json").read_text())
    data["synthetic"]["rejects"] = [{"path": "secret.png", "reason": "damaged"}]
    (run / "data.json").write_text(json.dumps(data))
    record = changed(warnings=["5 test images of /home/someone/test are in data/own/x.png"])
    text = card_of(run, record)
    assert "- synthetic left out: 1" in text
    assert "Warning of the evaluation: 5 test images of … are in …" in text
    for name in ("secret.png", "someone", "data/own", "data/test", "onerror", str(run.parent)):
        assert name not in text


def test_limits_say_what_is_unfinished_and_what_belongs_to_other_images(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["turn"] < rows[-1]["turn"] or row["kind"] != "step"]
    rows.append({"kind": "warning", "step": 2, "turn": 2, "message": "images have become <b>alike</b>"})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = card_of(run, RECORD)
    assert "- Training was not finished (at step 3 of 4)." in text
    assert r"- Warning in training: images have become \<b\>alike\</b\>" in text
    assert "- The evaluation is of other synthetic images than those it was trained on." in text
    same = json.loads((run / "data.json").read_text())["synthetic"]["fingerprint"]
    assert "is of other synthetic images" not in card_of(run, changed(synthetic__sha256=same))


def test_a_card_is_written_anew_and_one_changed_by_hand_is_left_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["report", str(run)]) == 0
    card = run / "MODEL_CARD.md"
    first = card.read_text()
    assert capsys.readouterr().out.splitlines() == [f"wrote {run / 'report.html'}", f"wrote {card}"]
    assert command(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_card"] == str(card)
    assert card.read_text() == first, "equal inputs, equal bytes"
    card.write_text("# My own card\n")
    assert command(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"wrote {run / 'report.html'}"]
    assert "warning: " in said.err
    assert "changed by hand, and left alone" in said.err
    assert card.read_text() == "# My own card\n"


def test_there_is_no_card_without_a_trained_refiner(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "refiner.safetensors").unlink()
    with pytest.raises(simgan.RunError, match="there is no trained refiner to write a card on yet"):
        model_card(run)
    assert command(["report", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {run / 'report.html'}"]
