from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree, scan_tree
from simgan.errors import DataError
from simgan.evaluation import Evaluation
from simgan.images import write_atomically, write_image
from simgan.refinement import MANIFEST, RefinementReport
from simgan.refinement import refine as real_refine
from simgan.studies import choose_default, demo, gap, sim_to_real
from simgan.studies.sim_to_real import SimToReal, fonts_to_usps, handwritten_digits
from tiny_runs import TINY

SHORT = {
    "training.steps": 6,
    "training.warmup_task_steps": 2,
    "training.warmup_self_ensembling_steps": 2,
    "training.warmup_discriminator_steps": 2,
    "run.checkpoint_every": 3,
}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def stacked(tree: ImageTree) -> np.ndarray[Any, Any]:
    return np.stack([tree.read(path)[:, :, 0] for path in tree.paths()])


# ---- the tasks


def test_the_parts_of_the_handwritten_digits_are_599_images_each_in_the_order_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_to_real, "SYNTHETIC_COUNT", 20)
    task, source = handwritten_digits(tmp_path), load_digits()
    parts = [stacked(tree) for tree in (task.unlabelled, task.dev, task.test)]
    assert [len(part) for part in parts] == [599, 599, 599]
    np.testing.assert_array_equal(np.concatenate(parts), source.images * 15)
    assert not (tmp_path / "real-unlabelled" / "labels.csv").exists()
    for tree, first in ((task.dev, 599), (task.test, 1198)):
        labels = read_labels(tree)
        assert [int(labels.names[v]) for v in labels.values] == source.target[first : first + 599].tolist()


def test_the_synthetic_set_of_the_demo_is_the_same_for_every_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_to_real, "SYNTHETIC_COUNT", 30)
    monkeypatch.setattr(sim_to_real, "PART", 5)
    drawn: list[tuple[str, bytes]] = []

    def look(task: SimToReal, run_dir: Path, **_: Any) -> None:
        table = (run_dir / "data" / "synthetic" / "parameters.csv").read_bytes()
        drawn.append((scan_tree(task.synthetic).fingerprint, table))

    monkeypatch.setattr(demo, "run_task", look)
    for seed in (0, 1, 7):
        demo.run_demo(tmp_path / str(seed), seed=seed)
    assert drawn[0] == drawn[1] == drawn[2]


def test_drawing_that_was_killed_is_done_again_and_leaves_nothing_to_be_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_to_real, "SYNTHETIC_COUNT", 20)
    monkeypatch.setattr(sim_to_real, "PART", 5)
    whole = handwritten_digits(tmp_path / "whole").synthetic
    handwritten_digits(tmp_path / "killed")
    (tmp_path / "killed/synthetic/parameters.csv").unlink()
    (tmp_path / "killed/synthetic/3/00003.png").unlink()
    (tmp_path / "killed/synthetic/3/.0123456789abcdef.tmp").write_bytes(b"half a file")
    again = handwritten_digits(tmp_path / "killed").synthetic
    assert again.paths() == whole.paths()
    assert again.other_files() == whole.other_files() == ("parameters.csv",)
    assert scan_tree(again).fingerprint == scan_tree(whole).fingerprint


def test_fonts_to_usps_without_its_data_names_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMGAN_DATA", raising=False)
    with pytest.raises(DataError, match="needs the environment variable SIMGAN_DATA"):
        fonts_to_usps(tmp_path)


def test_the_parts_of_usps_are_3600_3691_and_2007_images_in_the_order_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simgan_data: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(sim_to_real, "write_atomically", lambda path, data: Path(path).write_bytes(data))
    task = fonts_to_usps(tmp_path)
    trees = (task.unlabelled, task.dev, task.test)
    assert [len(tree.paths()) for tree in trees] == [3600, 3691, 2007]
    with h5py.File(simgan_data / "digits" / "usps.h5") as file:
        for tree, split, first in zip(trees, ("train", "train", "test"), (0, 3600, 0), strict=True):
            for i in (0, 1, len(tree.paths()) - 1):
                wanted = np.round(file[split]["data"][first + i].reshape(16, 16) * 255)
                np.testing.assert_array_equal(tree.read(tree.paths()[i])[:, :, 0], wanted)
            if split == "test" or first:
                labels = read_labels(tree)
                target = file[split]["target"][first : first + len(labels)]
                assert [int(labels.names[v]) for v in labels.values] == target.tolist()
    shape = {task.synthetic.read(path).shape for path in task.synthetic.paths()[::1000]}
    assert shape == {(16, 16, 1)}
    assert len(read_labels(task.synthetic).names) == 10


# ---- the demo


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim_to_real, "SYNTHETIC_COUNT", 120)
    monkeypatch.setattr(sim_to_real, "PART", 100)
    monkeypatch.setattr(demo, "DEMO_UPDATES", 10)


def numbers(folder: Path) -> dict[str, Any]:
    """All of evaluation.json but when it was made, and where."""
    record: dict[str, Any] = json.loads((folder / "evaluation.json").read_text("utf-8"))
    del record["created"]
    for part in record.values():
        if isinstance(part, dict):
            part.pop("root", None)
    return record


@pytest.mark.usefixtures("small_demo")
def test_the_demo_leaves_a_report_and_an_evaluation_and_killed_anywhere_comes_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    turns: list[int] = []
    reports: list[RefinementReport] = []

    def refine(*args: Any, **kwargs: Any) -> RefinementReport:
        reports.append(real_refine(*args, **kwargs))
        return reports[-1]

    def run(folder: str) -> Evaluation:
        said.clear()
        turns.clear()
        return demo.run_demo(
            tmp_path / folder, overrides=SHORT, task_seeds=1, say=said.append,
            progress=lambda at: turns.append(at.turn),
        )  # fmt: skip

    monkeypatch.setattr(demo, "refine", refine)
    evaluation = run("whole")
    assert turns[-1] == 10
    assert (tmp_path / "whole" / "report.html").read_text("utf-8").lstrip().startswith("<!DOCTYPE html")
    assert numbers(tmp_path / "whole")["downstream"] == evaluation.record["downstream"]
    assert evaluation.record["command"] == "simgan demo --seed 0"
    assert [text.split()[0] for text in said if text.split()[0] in ("drawing", "training", "refining")] == [
        "drawing", "training", "refining",
    ]  # fmt: skip
    assert said[-1] == "writing the report"

    with monkeypatch.context() as patch:
        patch.setattr("simgan.refinement.tree.write_atomically", killed_after(40))
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    metrics = (tmp_path / "killed" / "training" / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(demo, "evaluate", killed_after(0))
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    assert not turns, "training was finished"
    assert 0 < reports[-1].n_continued < reports[-1].n_images == 120
    for _ in range(2):
        run("killed")
        assert not turns
        assert reports[-1].already_done
        assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    assert (tmp_path / "killed" / "training" / "metrics.jsonl").read_bytes() == metrics
    trees = [tmp_path / folder / "data" / "refined" / MANIFEST for folder in ("killed", "whole")]
    assert trees[0].read_bytes() == trees[1].read_bytes()


def killed_after(calls: int) -> Any:
    """Stands for `write_atomically`, or anything else of which no call comes through."""
    left = iter(range(calls))

    def act(*args: Any, **kwargs: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return write_atomically(*args, **kwargs)

    return act


def test_warnings_of_the_demo_are_told_apart_from_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_to_real, "SYNTHETIC_COUNT", 5)
    monkeypatch.setattr(sim_to_real, "PART", 5)

    def warns(*_: Any, warn: Any, **__: Any) -> None:
        warn("look here")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "train", warns)
    said: list[str] = []
    warned: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path, say=said.append, warn=warned.append)
    assert warned == ["look here"]
    assert "look here" not in said
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path, say=said.append)
    assert said[-1] == "look here"


# ---- units of work that are kept


@pytest.fixture
def tiny_task(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a task of bars in two classes, with a network of four maps."""

    def write(root: Path, n: int, seed: int, bright: int) -> ImageTree:
        random = np.random.default_rng(seed)
        for i in range(n):
            path = root / str(i % 2) / f"{i:03}.png"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                image = random.integers(0, 40, (8, 8, 1))
                image[2 + 3 * (i % 2)] += bright
                write_image(path, image.astype(np.uint8))
        return ImageTree(root)

    def task(folder: Path) -> SimToReal:
        return SimToReal(
            write(folder / "synthetic", 24, 0, 60), write(folder / "unlabelled", 40, 1, 160),
            write(folder / "dev", 30, 2, 160), write(folder / "test", 40, 3, 160),
            {"generator": "bars", "version": 1}, {**TINY, "training.steps": 3},
        )  # fmt: skip

    monkeypatch.setitem(sim_to_real.TASKS, "bars", task)
    monkeypatch.setitem(gap.SCOPE, "bars", (("synthetic", "synthetic_matched", "refined", "real"), 1))
    monkeypatch.setattr(gap, "DEMO_UPDATES", 4)
    monkeypatch.setattr(choose_default, "UPDATES", 4)
    return "bars"


def no_more_units(*_: Any, **__: Any) -> None:
    raise AssertionError("this unit was done before")


def test_the_study_of_the_gap_keeps_each_seed_pools_them_and_does_none_twice(
    tiny_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    monkeypatch.setattr(sys, "argv", ["gap", tiny_task, "--results", str(results), "--seeds", "0"])
    gap.main()
    assert {path.name for path in results.iterdir()} == {"seed_0.json", "seed_0.npz", "pooled.json"}
    record = Evaluation.load(results / "seed_0.json").record
    assert (record["seed"], record["command"]) == (0, "python -m simgan.studies.gap bars --seeds 0")
    pooled = json.loads((results / "pooled.json").read_text("utf-8"))
    assert pooled["seeds"] == [0]
    assert pooled["downstream"]["refined"]["n_test"] == 40
    out, err = capsys.readouterr()
    assert json.loads(out) == pooled
    assert "training the refiner" in err
    kept = {path: path.read_bytes() for path in results.iterdir()}
    monkeypatch.setattr(gap, "run_task", no_more_units)
    gap.main()
    assert {path: path.read_bytes() for path in results.iterdir()} == kept


def test_the_study_of_the_default_recipe_writes_a_row_for_each_unit_and_does_none_twice(
    tiny_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results" / "rows.csv"
    line = ["choose", "--results", str(results), "--tasks", tiny_task, "--variants", "no history"]
    monkeypatch.setattr(sys, "argv", line)
    choose_default.main()
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    assert tuple(rows[0]) == choose_default.FIELDS
    assert (rows[0]["task"], rows[0]["variant"], rows[0]["seed"]) == ("bars", "no history", "0")
    assert rows[0]["n_dev"] == "30"
    for name in ("synthetic", "matched", "refined", "real", "judge_on_dev"):
        assert 0 <= float(rows[0][name]) <= 1
    before = results.read_bytes()
    monkeypatch.setattr(choose_default, "run_unit", no_more_units)
    choose_default.main()
    assert results.read_bytes() == before
    monkeypatch.setattr(
        choose_default, "run_unit", lambda *unit: dict.fromkeys(choose_default.FIELDS, unit[2])
    )
    monkeypatch.setattr(sys, "argv", [*line, "--seeds", "0", "3"])
    choose_default.main()
    assert results.read_bytes() == before + b",".join([b"3"] * len(choose_default.FIELDS)) + b"\n"
