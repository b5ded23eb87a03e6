from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from report_runs import HOSTILE, RECORD, changed, evaluation, make_run, regression
from simgan import templates
from simgan.data.trees import ImageTree
from simgan.errors import DataError, MissingExtraError, OutputError, RunError
from simgan.evaluation import Evaluation
from simgan.refinement import refine
from simgan.reporting import report
from simgan.training.loop import Run
from simgan.weights import load_refiner, save_refiner

VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """What stands on a page: elements with their attributes, text, and whether tags are well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        joined = " ".join(" ".join(self.words).split())
        return joined.replace("\u202f", " ").replace("\u2212", "-")

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("grey"), overrides={"data.level_matching": True})


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage; its trees are those of the original."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_page_stands_in_the_run_and_refers_to_nothing_outside_itself(copied: Path) -> None:
    path = report(copied, evaluation())
    assert path == copied / "report.html"
    text = path.read_text("utf-8")
    assert len(text) < 3_000_000
    found = Page(text)
    addresses = [a[key] for _, a in found.elements for key in ("src", "href") if key in a]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_the_page_runs_its_own_script_alone(run: Path, tmp_path: Path) -> None:
    text = report(run, out=tmp_path / "r.html").read_text("utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert text.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in text


def test_every_image_has_a_text_and_a_size(run: Path, tmp_path: Path) -> None:
    images = page_of(report(run, out=tmp_path / "r.html")).all("img")
    assert len(images) > 20
    assert all(image["alt"] and int(image["width"]) and int(image["height"]) for image in images)


def test_every_table_has_a_caption_and_every_header_a_scope(run: Path, tmp_path: Path) -> None:
    found = page_of(report(run, evaluation(), tmp_path / "r.html"))
    assert len(found.all("caption")) == len(found.all("table")) == 5
    assert {header["scope"] for header in found.all("th")} == {"row", "col"}


def test_headings_leave_no_level_out(run: Path, tmp_path: Path) -> None:
    found = page_of(report(run, evaluation(), tmp_path / "r.html"))
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_verdict_results_and_their_intervals_are_on_the_page(run: Path, tmp_path: Path) -> None:
    text = page_of(report(run, evaluation(), tmp_path / "r.html")).text
    for words in (
        "Refined beats synthetic by +4.1 points [+2.9, +5.3] on 599 real test images",
        "Refined 1,000 images 74.1 % [72.1, 76.1]",
        "Over level matching alone +2.2 points [+1.0, +3.4]",
        "Other real images (the floor) 0.530 [0.480, 0.580]",
        "On unseen real images 599 images 97.1 %",
        "the classes are not equally frequent",
        "simgan evaluate runs/a --real-labelled data/test",
        "599 of data/some",
        "digits 1",
    ):
        assert words in text


def test_every_value_of_the_record_is_shown(run: Path, tmp_path: Path) -> None:
    """λ in both forms, receptive fields, patch grid, seeds, versions."""
    text = page_of(report(run, evaluation(), tmp_path / "r.html")).text
    for words in (
        "λ, mean form 0.100",
        "λ, as in the paper 0.0250",  # 0.1 · 16 patches / 64 pixels
        "R receptive field 7 px",
        "D receptive field 3 px",
        "D patch grid 4×4",
        "seed 0",
        "simgan 0.1.0",
        "python 3.11.7",
        "level matching first yes",
    ):
        assert words in text


def test_equal_inputs_give_equal_bytes_but_for_the_date(run: Path, tmp_path: Path) -> None:
    texts = [report(run, evaluation(), tmp_path / f"{k}.html").read_text("utf-8") for k in range(2)]
    dates = [re.search(r"report of ([\d\-: UTC]+)", text) for text in texts]
    assert all(dates)
    assert len({re.sub(r"report of [\d\-: UTC]+", "", text) for text in texts}) == 1


def test_names_from_files_never_become_markup(run: Path, tmp_path: Path) -> None:
    bad = "</style><script>alert(1)</script>{{ 7 * 7 }}"
    hostile = evaluation(
        warnings=[bad],
        command=bad,
        downstream__unit=bad,
        downstream__metric="mean_error",
        downstream__reason=bad,
        downstream__gap_closed=None,
        synthetic__root=bad,
        synthetic__generator=bad,
        versions={bad: bad},
    )
    folder = tmp_path / "<b>run&"
    shutil.copytree(run, folder)
    with (folder / "metrics.jsonl").open("a") as rows:
        rows.write('{"kind": "warning", "step": 4, "message": "<i>`<u>`"}\n')
    text = report(folder, hostile).read_text("utf-8")
    assert not re.search(r"<i>|<u>|<b>run|<img src=x", text)
    assert text.count("<script") == 1  # its own
    found = Page(text)
    assert html.escape(HOSTILE, quote=False).split("&")[0] in text
    assert any(HOSTILE in image["alt"] for image in found.all("img"))
    assert "{{ 7 * 7 }}" in found.text


def test_a_name_that_is_not_utf8_does_not_stop_the_report(run: Path, tmp_path: Path) -> None:
    path = report(run, evaluation(warnings=["bad name \udcff"]), tmp_path / "r.html")
    assert "bad name \\udcff" in path.read_text("utf-8")


def test_colour_images_and_large_16_bit_ones_are_shown(tmp_path: Path) -> None:
    rgb = make_run(tmp_path / "rgb", shape=(10, 14, 3))
    found = page_of(report(rgb))
    assert found.all("img")[0]["src"].startswith("data:image/png")
    assert (found.all("img")[0]["width"], found.all("img")[0]["height"]) == ("14", "10")
    assert "orange" not in found.text
    large = make_run(
        tmp_path / "large",
        shape=(120, 300, 1),
        dtype="uint16",
        high=60000,
        overrides={"data.crop": [16, 16]},
    )
    found = page_of(report(large))
    assert found.all("img")[0]["src"].startswith("data:image/jpeg")
    assert (found.all("img")[0]["width"], found.all("img")[0]["height"]) == ("224", "90")


def test_regression_is_told_in_its_unit(run: Path, tmp_path: Path) -> None:
    text = page_of(report(run, Evaluation(regression()), tmp_path / "r.html")).text
    assert "Mean error on 599 real test images, lower is better" in text
    assert "Refined 1,000 images 1.80 px [1.78, 1.82]" in text
    assert "On refined images 1,000 images 0.91" in text


def test_an_evaluation_without_labelled_images_shows_realism_alone(run: Path, tmp_path: Path) -> None:
    found = page_of(report(run, evaluation(downstream=None, labels=None), tmp_path / "r.html"))
    assert "Only realism is known" in found.text
    assert len(found.all("table")) == 2


def test_pooled_evaluations_have_a_report_too(run: Path, tmp_path: Path) -> None:
    record = {
        key: RECORD[key] for key in ("schema", "synthetic", "realism", "downstream", "labels", "warnings")
    }
    record = {**record, "n_runs": 3, "seeds": [0, 1, 2], "realism": {**RECORD["realism"], "n_runs": 3}}
    assert "Range over runs" in page_of(report(run, Evaluation(record), tmp_path / "r.html")).text


def test_the_evaluation_of_the_run_directory_is_found(copied: Path) -> None:
    assert "This run was not evaluated" in page_of(report(copied)).text
    Evaluation(changed(downstream=None, labels=None)).save(copied / "evaluation.json")
    assert "Only realism is known" in page_of(report(copied)).text
    assert "Only realism is known" in page_of(report(copied, copied)).text
    assert "Only realism is known" in page_of(report(copied, str(copied / "evaluation.json"))).text


def test_an_evaluation_of_other_images_is_pointed_out(run: Path, tmp_path: Path) -> None:
    words = "the evaluation is of other synthetic images than those this run was trained on"
    assert words in page_of(report(run, evaluation(), tmp_path / "r.html")).text
    same = load_refiner(run).training_scan.fingerprint
    assert words not in page_of(report(run, evaluation(synthetic__sha256=same), tmp_path / "r.html")).text


def test_with_a_drift_budget_the_page_says_that_the_nearest_within_it_is_kept(copied: Path) -> None:
    said = "the one nearest to held-out real images among those within the drift budget"
    assert said not in page_of(report(copied)).text
    config = copied / "config.toml"
    before = config.read_text()
    assert "drift_budget_px = 0.0" in before
    config.write_text(before.replace("drift_budget_px = 0.0", "drift_budget_px = 0.5"))
    with (copied / "metrics.jsonl").open("a") as rows:
        row = {"kind": "drift_budget", "step": 4, "drift_px": 0.1, "excess": -0.8, "movement_weight": 0.0}
        rows.write(json.dumps(row) + "\n")
    text = page_of(report(copied)).text
    assert said in text
    assert "the lowest within the drift budget is kept" in text


def test_a_missing_evaluation_file_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json"):
        report(run, tmp_path / "nowhere.json", tmp_path / "r.html")


def test_an_unfinished_run_says_so_and_shows_what_it_has(copied: Path) -> None:
    rows = (copied / "metrics.jsonl").read_text().splitlines()
    until = next(i for i, row in enumerate(rows) if '"candidate"' in row)
    (copied / "metrics.jsonl").write_text("\n".join(rows[: until + 1]) + '\n{"kind": "st')
    text = page_of(report(copied)).text
    assert "This run is not finished" in text
    assert "(at step 2 of 4)" in text
    assert "the best checkpoint so far" in text


def test_a_run_without_refiner_shows_synthetic_and_real_images(copied: Path) -> None:
    (copied / "refiner.safetensors").unlink()
    (copied / "metrics.jsonl").unlink()
    found = page_of(report(copied))
    assert "There is no refiner yet" in found.text
    assert "Nothing to judge yet" in found.text
    assert "the best checkpoint so far" not in found.text
    assert not any("refined" in image["alt"] for image in found.all("img"))
    assert any("nearest real" in image["alt"] for image in found.all("img"))


def test_a_run_that_only_has_its_configuration_has_a_report(run: Path, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    shutil.copy(run / "config.toml", tmp_path / "fresh")
    text = page_of(report(tmp_path / "fresh")).text
    assert "not started: 4 steps to go" in text
    assert "The images cannot be shown: the run has not recorded its data yet" in text


def test_trees_that_are_gone_leave_the_last_sample_sheet(copied: Path) -> None:
    config = (copied / "config.toml").read_text()
    (copied / "config.toml").write_text(re.sub(r'root = ".*synthetic"', 'root = "gone"', config))
    found = page_of(report(copied))
    assert "The images cannot be shown: gone: no such folder" in found.text
    (sheet,) = found.all("img")
    assert "step_000004.png" in sheet["alt"]
    assert int(sheet["width"]) > 100
    shutil.rmtree(copied / "samples")
    assert page_of(report(copied)).all("img") == []


def test_a_refined_tree_is_shown_with_its_counts(run: Path, tmp_path: Path) -> None:
    refine(ImageTree(run.parent / "synthetic"), run, tmp_path / "refined")
    found = page_of(report(run, out=tmp_path / "r.html", refined=tmp_path / "refined"))
    assert "images 10 synthetic, 10 refined left out 0 other files carried 0" in found.text
    assert "made by another refiner" not in found.text
    by_refiner = page_of(report(run, out=tmp_path / "r.html"))
    assert [image["src"] for image in found.all("img")] == [image["src"] for image in by_refiner.all("img")]


def test_images_of_another_refiner_are_pointed_out(run: Path, copied: Path, tmp_path: Path) -> None:
    tree = ImageTree(tmp_path / "refined")
    refine(ImageTree(run.parent / "synthetic"), copied, tree.root)
    trained = load_refiner(copied)
    trained.provenance["step"] = 99
    save_refiner(copied / "refiner.safetensors", trained)
    assert "made by another refiner than the one this run keeps" in page_of(report(copied, refined=tree)).text


def test_images_left_out_of_the_refined_tree_are_left_out_here(run: Path, tmp_path: Path) -> None:
    (tmp_path / "refined").mkdir()
    shutil.copy(run.parent / "synthetic" / "003.png", tmp_path / "refined")
    found = page_of(report(run, out=tmp_path / "r.html", refined=tmp_path / "refined"))
    examples = [image["alt"] for image in found.all("img") if image["alt"].startswith("synthetic image")]
    assert examples == ["synthetic image 003.png"]
    (tmp_path / "refined" / "003.png").rename(tmp_path / "refined" / "other.png")
    text = page_of(report(run, out=tmp_path / "r.html", refined=tmp_path / "refined")).text
    assert "holds none of the images" in text


def test_a_finished_run_object_is_taken_too(run: Path, tmp_path: Path) -> None:
    finished = Mock(spec=Run, path=run)
    assert report(finished, None, tmp_path / "r.html") == tmp_path / "r.html"


def test_the_page_may_be_put_into_a_folder(run: Path, tmp_path: Path) -> None:
    assert report(run, out=tmp_path) == tmp_path / "report.html"
    assert report(run, out=tmp_path / "new" / "page.html").exists()


def test_a_place_that_cannot_be_written_is_said(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder for the report cannot be made"):
        report(run, out=tmp_path / "file" / "page.html")


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        report(tmp_path)


def test_without_jinja2_the_extra_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, *, extra: str) -> Any:
        raise MissingExtraError(f"{module}: pip install 'simgan[{extra}]'")

    monkeypatch.setattr(templates, "require_extra", missing)
    with pytest.raises(MissingExtraError, match=r"jinja2.*simgan\[report\]"):
        report(run, out=tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_file_that_is_no_report_is_never_overwritten(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "thesis.html"
    other.write_text("<html>mine</html>")
    with pytest.raises(OutputError, match=r"thesis\.html: exists already, is not a report of simgan"):
        report(run, out=other)
    assert other.read_text() == "<html>mine</html>"
    with pytest.raises(OutputError, match=r"labels\.csv: the name of a report must end in \.html or \.htm"):
        report(run, out=tmp_path / "labels.csv")
    (tmp_path / "page.html").mkdir()
    (tmp_path / "page.html" / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"cannot be read \(Is a directory\).*choose another name"):
        report(run, out=tmp_path / "page.html")


def test_an_earlier_report_is_written_anew(run: Path, tmp_path: Path) -> None:
    first = report(run, out=tmp_path / "a.HTM")
    first.write_text(first.read_text("utf-8").replace("</html>", "old</html>"), "utf-8")
    assert "old</html>" not in report(run, out=first).read_text("utf-8")


@pytest.mark.parametrize("name", ["data.json", "metrics.jsonl"])
def test_a_report_on_damaged_records_names_the_file(copied: Path, name: str) -> None:
    (copied / name).write_bytes(b"\xff\n{}\n")
    with pytest.raises(RunError, match=rf"{name} is damaged .*; restore it from a backup, or train anew"):
        report(copied)
