from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simgan.cli.verbs import app
from simgan.data.trees import ImageTree
from simgan.errors import DataError, LabelError, OutputError
from simgan.images import write_image
from simgan.nn.gaze import unit_vectors
from simgan.studies import gaze
from simgan.studies.gaze import Scale, describe, read_gaze_set, reproduce_gaze, summarize_estimators
from tiny_runs import TINY


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    tiny = {key: value for key, value in TINY.items() if key != "seed"}
    monkeypatch.setitem(gaze.SCALES, "smoke", Scale("default", tiny, most_images=50, updates=2, seeds=2))


def gaze_tree(
    root: Path, n: int, *, seed: int, labelled: bool = True, size: tuple[int, int] = (20, 24)
) -> ImageTree:
    """Dots that have moved as the gaze says, in three groups."""
    generator = np.random.default_rng(seed)
    x, y = generator.uniform(-0.5, 0.5, (2, n))
    vectors = unit_vectors(np.stack([x, y, -np.ones(n)], axis=1))
    rows, columns = np.mgrid[: size[0], : size[1]]
    root.mkdir(parents=True)
    lines = []
    for i in range(n):
        distance = (columns - size[1] / 2 * (1 + x[i])) ** 2 + (rows - size[0] / 2 * (1 + y[i])) ** 2
        image = 200 - 150 * np.exp(-distance / 30) + generator.normal(0, 4, size)
        write_image(root / f"{i:03d}.png", np.clip(image, 0, 255).astype(np.uint8)[..., None])
        lines.append((f"{i:03d}.png", *vectors[i], f"p{i % 3}"))
    if labelled:
        with (root / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "gaze_x", "gaze_y", "gaze_z", "group"), *lines])
    return ImageTree(root)


def test_the_experiment_runs_end_to_end_writes_both_tables_and_the_figure_and_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    synthetic = gaze_tree(tmp_path / "s", 60, seed=0)
    gaze_tree(tmp_path / "r", 40, seed=1, labelled=False)
    gaze_tree(tmp_path / "t", 30, seed=2)
    command = ["reproduce", "gaze", "--synthetic", str(synthetic.root), "--real", str(tmp_path / "r"),
               "--test", str(tmp_path / "t"), "--out", str(tmp_path / "out"), "--scale", "smoke",
               "--pseudo-real"]  # fmt: skip
    app(command, result_action="return_value")
    printed = capsys.readouterr().out
    assert "30 pseudo-real eyes" in printed
    record = json.loads((tmp_path / "out" / "gaze.json").read_text())
    found = record["estimators"]
    assert set(found) == {*gaze.TABLE_2, *gaze.TABLE_3}
    assert found["network, refined"]["n_train"] == 50
    assert found["network, refined, a quarter"]["n_train"] == 12
    for one in found.values():
        assert one["low"] <= one["mean_deg"] <= one["high"]
        assert one["curve"][13] == one["within"]["13"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.strip() == printed.strip()
    assert "| network, refined | 50 |" in report
    assert "| 7.8° |" in report
    assert (tmp_path / "out" / "figure7.svg").read_bytes().startswith(b"<?xml")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("all is done")

    monkeypatch.setattr(gaze, "train_gaze", never)
    app([*command, "--json"], result_action="return_value")
    assert json.loads(capsys.readouterr().out)["estimators"] == found
    with pytest.raises(OutputError, match="holds another experiment"):
        reproduce_gaze(
            synthetic, ImageTree(tmp_path / "r"), ImageTree(tmp_path / "t"), tmp_path / "out", scale="smoke"
        )


def test_the_summary_of_estimators_is_that_of_all_their_errors() -> None:
    errors = {"a": np.array([[1.0, 8.0, 20.0], [3.0, 8.0, 14.0]])}
    one = summarize_estimators(errors, {"a": 5}, np.arange(3))["a"]
    assert (one["mean_deg"], one["median_deg"], one["n_train"]) == (9.0, 8.0, 5)
    assert one["within"] == {"7": 2 / 6, "13": 4 / 6}
    assert one["curve"][8] == 4 / 6


def test_real_tests_are_called_real() -> None:
    one = {
        "n_train": 3,
        "mean_deg": 9.0,
        "low": 8.0,
        "high": 10.0,
        "median_deg": 8.5,
        "within": {"7": 0.25, "13": 0.5},
    }
    record = {"scale": "small", "pseudo_real": False, "n_test": 2000, "seeds": 3, "kept_step": 7,
              "estimators": dict.fromkeys((*gaze.TABLE_2, *gaze.TABLE_3), one)}  # fmt: skip
    text = describe(record)
    assert "Tested on 2,000 real eyes" in text
    assert "| network, synthetic | 3 | 25.0 % | 50.0 % | 64.9 % |" in text
    assert "| k-NN | 3 | 9.0° [8.0, 10.0] | 8.5° | 9.9° |" in text


def test_sets_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    small = gaze_tree(tmp_path / "a", 8, seed=0)
    other = gaze_tree(tmp_path / "b", 8, seed=1, size=(24, 24))
    with pytest.raises(DataError, match="bring them together with `simgan prepare`"):
        reproduce_gaze(small, small, other, tmp_path / "out", scale="smoke")
    with pytest.raises(DataError, match=r"8 test images are also in .* \(for instance 000.png\)"):
        reproduce_gaze(small, small, small, tmp_path / "same", scale="smoke")
    (tmp_path / "a" / "labels.csv").write_text("path,x\n" + "".join(f"{i:03d}.png,1\n" for i in range(8)))
    with pytest.raises(LabelError, match="its labels have no column gaze_x, gaze_y, gaze_z"):
        read_gaze_set(small, 0)
    write_image(tmp_path / "b" / "000.png", np.zeros((9, 9, 1), np.uint8))
    with pytest.raises(DataError, match="images of one size are wanted, found 2"):
        read_gaze_set(other, 0)
