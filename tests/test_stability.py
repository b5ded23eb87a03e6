"""The stability study: the split of the signs, units that are continued, verdicts."""

from __future__ import annotations

import csv
import fcntl
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.errors import DataError, RunError, TrainingError
from simgan.evaluation import Evaluation, Outcomes
from simgan.images import write_image
from simgan.studies import sign_sets, sim_to_real, stability, stability_unit
from simgan.studies.sign_sets import drawn_to_real_signs, split_tracks
from simgan.studies.stability_unit import TASKS, Task, Unit, diversity
from simgan.studies.verdicts import judge_run, verdict_of_task
from tiny_runs import TINY

SHORT = {key: value for key, value in TINY.items() if key != "seed"}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)


# ---- the signs


@pytest.fixture
def few_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$SIMGAN_DATA with eight classes of four to seven tracks of two frames."""
    random = np.random.default_rng(0)
    for k, speed in enumerate((20, 30, 50, 60, 70, 80, 100, 120)):
        for track in range(4 + k % 4):
            for frame in range(2):
                path = tmp_path / "data/signs/real" / f"{speed:03d}" / f"{track:05d}_{frame:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, random.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    monkeypatch.setenv("SIMGAN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sign_sets, "DRAWN_COUNT", 16)
    return tmp_path


def test_of_each_class_a_third_of_the_tracks_is_dev_a_third_test_and_the_rest_unlabelled(
    few_signs: Path,
) -> None:
    parts = split_tracks(few_signs / "data/signs/real")
    # 4, 5, 6 and 7 tracks, each of them in two classes: thirds of 1, 1, 2 and 2
    assert {part: len(tracks) for part, tracks in parts.items()} == {"unlabelled": 20, "dev": 12, "test": 12}
    assert [name for name in parts["dev"] if name.startswith("050")] == ["050/00002", "050/00003"]
    assert [name for name in parts["test"] if name.startswith("060")] == ["060/00005", "060/00006"]
    names = [name for tracks in parts.values() for name in tracks]
    assert len(names) == len(set(names)) == 44


def test_signs_of_a_part_keep_class_and_track_and_unlabelled_ones_tell_neither(few_signs: Path) -> None:
    task = drawn_to_real_signs(few_signs / "work")
    assert [len(tree.paths()) for tree in (task.synthetic, task.unlabelled, task.dev, task.test)] == [
        16,
        40,
        24,
        24,
    ]
    labels = read_labels(task.test)
    assert labels.names == read_labels(task.synthetic).names
    assert labels.groups == tuple(path.split("_")[0] for path in task.test.paths())
    assert len(set(labels.groups)) == 12
    source = ImageTree(few_signs / "data/signs/real")
    # classes take turns: the second test track of the set is the first of class 030
    assert labels.values[2] == 1
    np.testing.assert_array_equal(task.test.read("001_00.png"), source.read("030/00004_00000.png"))
    assert read_labels_or_none(task.unlabelled) is None
    again = drawn_to_real_signs(few_signs / "work")
    assert again.test.paths() == task.test.paths()


def read_labels_or_none(tree: ImageTree) -> Any:
    return None if not (Path(tree.root) / "labels.csv").exists() else read_labels(tree)


def test_signs_without_the_data_name_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMGAN_DATA", raising=False)
    with pytest.raises(DataError, match="need the environment variable SIMGAN_DATA"):
        drawn_to_real_signs(tmp_path)


# ---- verdicts, worked by hand


def outcomes(synthetic: Any, refined: Any, real: Any = 0.0, seeds: int = 2, n: int = 100) -> Outcomes:
    """Wrong answers in these shares of the images, alike for each task seed and spread over all groups."""

    def wrong(share: float) -> np.ndarray:
        return np.tile((np.arange(n) * share % 1 + share > 1 - 1e-9).astype(float), (seeds, 1))

    errors = {"synthetic": wrong(synthetic), "refined": wrong(refined), "real": wrong(real)}
    names = tuple(f"{i:03d}" for i in range(n))
    return Outcomes(
        "classification", "share of images", errors, dict.fromkeys(errors, 10), np.arange(n), names, (1, 2)
    )


RECORD = {"task": "a", "seed": 0, "diverged": None, "diversity": 0.9}


def test_a_run_that_helps_has_its_gain_and_the_share_of_the_gap() -> None:
    verdict = judge_run(RECORD, outcomes(0.5, 0.2, 0.1))
    assert verdict["collapse"] is None
    assert verdict["helps"]
    assert verdict["gain"] == pytest.approx(0.3)
    assert verdict["gap_closed"] == pytest.approx(0.75)
    # 50 images differ for synthetic, 20 for refined: the differences d are 0 or 1 or −1, and s = sd(d)/√(n − 1)
    one = outcomes(0.5, 0.2)
    difference = one.errors["synthetic"][0] - one.errors["refined"][0]
    assert verdict["standard_error"] == pytest.approx(np.std(difference) / np.sqrt(99), rel=0.1)


def test_a_run_collapses_by_divergence_lost_diversity_or_harm_of_two_standard_errors() -> None:
    diverged = judge_run(RECORD | {"diverged": "turn 7"}, None)
    assert diverged["collapse"] == "losses are no numbers: turn 7"
    assert not diverged["helps"]
    alike = judge_run(RECORD | {"diversity": 0.49}, outcomes(0.5, 0.2))
    assert alike["collapse"] == "refined images have 49% of the synthetic ones' diversity"
    harmed = judge_run(RECORD, outcomes(0.2, 0.5))
    assert harmed["collapse"].startswith("worse than synthetic by 0.3")
    slightly = judge_run(RECORD, outcomes(0.20, 0.21))
    assert slightly["gain"] == pytest.approx(-0.01)
    assert slightly["standard_error"] > 0.005
    assert slightly["collapse"] is None
    assert not slightly["helps"]


def test_a_task_counts_its_runs_and_takes_the_median_of_the_pooled_gap() -> None:
    def one(**changed: Any) -> dict[str, Any]:
        return {"collapse": None, "helps": True} | changed

    pooled = {"gap_closed": {"median": 0.6}}
    verdict = verdict_of_task([one(), one(), one(helps=False), one(collapse="why")], pooled)
    assert verdict == {
        "n_runs": 4, "n_collapsed": 1, "n_helping": 3, "median_gap_closed": 0.6, "reaches_goal": True
    }  # fmt: skip
    assert not verdict_of_task([one()], {"gap_closed": {"median": 0.49}})["reaches_goal"]
    for without in ({"gap_closed": None}, None):
        assert verdict_of_task([one()], without)["reaches_goal"] is None


def test_without_a_gap_there_is_no_share_of_it() -> None:
    assert judge_run(RECORD, outcomes(0.2, 0.1, real=0.2))["gap_closed"] is None


def test_diversity_is_the_spread_over_images_as_a_share_of_the_synthetic_ones(tmp_path: Path) -> None:
    for folder, spread in (("synthetic", 20), ("refined", 5)):
        (tmp_path / folder).mkdir()
        for i, sign in enumerate((-1, 1)):
            write_image(tmp_path / folder / f"{i}.png", np.full((4, 4, 1), 100 + sign * spread, np.uint8))
    assert diversity(ImageTree(tmp_path / "synthetic"), ImageTree(tmp_path / "refined")) == 0.25


# ---- units


@pytest.fixture
def small_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The digits, few of them, as the only task; the recipe is tiny."""
    monkeypatch.setattr(sim_to_real, "SYNTHETIC_COUNT", 40)
    monkeypatch.setattr(sim_to_real, "PART", 60)
    task = Task(sim_to_real.handwritten_digits, task_seeds=1, updates=2)
    monkeypatch.setattr(stability_unit, "TASKS", {"digits": task})
    monkeypatch.setattr(stability, "TASKS", {"digits": task})
    real_train = stability_unit.train

    def train(*arguments: Any, overrides: dict[str, Any], **rest: Any) -> Any:
        return real_train(*arguments, overrides=overrides | SHORT, **rest)

    monkeypatch.setattr(stability_unit, "train", train)
    return tmp_path


def run_study(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    command = ["stability", "--work", str(folder / "work"), "--results", str(folder / "results/stability"),
               "--threads", "1", *arguments]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    stability.main()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_unit_trains_once_for_both_parts_and_is_done_once(
    small_task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(monkeypatch, small_task, "--seeds", "0", "--parts", "run")
    results = small_task / "results/stability"
    folder = results / "digits-seed0"
    written = {"training.json", "run.json", "evaluation.json", "evaluation.npz"}
    assert {path.name for path in folder.iterdir()} == written
    checkpoint = small_task / "work/digits-seed0/training/checkpoints/latest.pt"
    trained = checkpoint.stat().st_mtime_ns
    run_study(monkeypatch, small_task, "--seeds", "0", "1")
    assert checkpoint.stat().st_mtime_ns == trained
    rows = table(results / "units.csv")
    assert [(row["task"], row["seed"], row["taken_from_gap"]) for row in rows] == [
        ("digits", "0", "False"), ("digits", "1", "False")
    ]  # fmt: skip
    assert all(0 <= float(row["refined"]) <= 1 for row in rows)
    assert float(rows[0]["diversity"]) > 0
    reads = [(row["unit"], row["part"]) for row in table(results / "test_reads.csv")]
    assert reads == [("digits-seed0", "run"), ("digits-seed0", "candidates"), ("digits-seed1", "run"),
                     ("digits-seed1", "candidates")]  # fmt: skip
    # 9 steps, a checkpoint after each third one
    pooled = json.loads((results / "pooled.json").read_bytes())
    assert pooled["totals"]["n_runs"] == 2
    assert pooled["tasks"]["digits"]["downstream"]["real"]["n_seeds"] == 2
    stopping = pooled["stopping"]
    assert stopping["n_runs"] == 2
    kept = {int(row["seed"]): int(row["kept_step"]) for row in rows}
    assert {row["seed"]: row["steps"]["in training"] for row in stopping["runs"]} == kept
    dev = Outcomes.load(folder / "candidates-dev.npz")
    assert list(dev.errors) == ["synthetic", "step_000003", "step_000006", "step_000009"]
    assert dev.errors["step_000003"].shape == (1, 60)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("all is done")

    monkeypatch.setattr(stability, "PARTS", dict.fromkeys(stability.PARTS, never))
    run_study(monkeypatch, small_task, "--seeds", "0", "1")
    assert str(small_task) not in (folder / "evaluation.json").read_text()
    capsys.readouterr()


def test_the_kept_refiner_is_one_of_the_candidates(small_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit("digits", 0, small_task / "work", small_task / "results/stability")
    sets = TASKS["digits"].open(unit.data)
    kept_step, refiner = stability_unit._train(unit, sets)
    candidate = unit.candidates / f"step_{kept_step:06d}.safetensors"
    assert candidate.read_bytes() == refiner.read_bytes()
    assert len(list(unit.candidates.glob("*.safetensors"))) == 3
    candidate.unlink()
    stability_unit.do_training(unit, sets)
    with pytest.raises(RunError, match=r"holds 2 of the 3 refiners of this run; remove .*digits-seed0, and"):
        stability_unit.do_candidates(unit, sets)


def test_a_record_of_the_very_same_refined_images_is_taken_over_and_the_test_part_not_read(
    small_task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = small_task / "results"
    run_study(monkeypatch, small_task, "--seeds", "0", "--parts", "run")
    measured = Evaluation.load(results / "stability/digits-seed0/evaluation.json")
    (results / "gap-digits").mkdir()
    measured.save(results / "gap-digits/seed_0.json")
    shutil.rmtree(results / "stability")
    run_study(monkeypatch, small_task, "--seeds", "0", "--parts", "run")
    assert table(results / "stability/units.csv")[0]["taken_from_gap"] == "True"
    assert not (results / "stability/test_reads.csv").exists()
    # of another refiner: measured anew; and before drift was measured: that alone is measured
    monkeypatch.setattr(stability_unit, "_measure_drift", lambda *_: {"structure": {"mean": 0.25}})
    old = {name: part for name, part in measured.record.items() if name != "drift"}
    for record, taken, drift in (
        (measured.record | {"refined": {"sha256": "another"}}, "False", ""),
        (old, "True", "0.25"),
    ):
        Evaluation(record, measured.outcomes).save(results / "gap-digits/seed_0.json")
        shutil.rmtree(results / "stability")
        run_study(monkeypatch, small_task, "--seeds", "0", "--parts", "run")
        (row,) = table(results / "stability/units.csv")
        assert (row["taken_from_gap"], row["drift_px"]) == (taken, drift)
    capsys.readouterr()


def test_a_unit_that_another_process_works_on_is_passed_over(
    small_task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_task / "work").mkdir()
    with (small_task / "work/digits-seed0.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run_study(monkeypatch, small_task, "--seeds", "0")
    assert not (small_task / "results/stability/digits-seed0").exists()
    capsys.readouterr()


def test_training_that_diverges_is_a_result(
    small_task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise TrainingError("training diverged at turn 7")

    monkeypatch.setattr(stability_unit, "train", diverge)
    run_study(monkeypatch, small_task, "--seeds", "3")
    left = small_task / "results/stability/digits-seed3"
    assert {path.name for path in left.iterdir()} == {"training.json", "run.json", "candidates.json"}
    rows = table(small_task / "results/stability/units.csv")
    assert rows[0]["collapse"] == "losses are no numbers: training diverged at turn 7"
    pooled = json.loads((small_task / "results/stability/pooled.json").read_bytes())
    assert pooled["totals"] == {"n_runs": 1, "n_collapsed": 1, "n_helping": 0}
    capsys.readouterr()


def test_the_four_tasks_are_those_of_the_study() -> None:
    assert list(TASKS) == ["digits", "usps", "eyes", "signs"]
