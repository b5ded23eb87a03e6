from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eye_files import eye_mask, write_masked_eye
from simgan.data.eye_masks import read_mask
from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.errors import DataError
from simgan.evaluation.inputs import open_inputs
from simgan.evaluation.outcomes import Outcomes
from simgan.studies import eye_sets, eyes
from simgan.studies.eye_sets import part_masks, real_eyes, rendered_eyes, split_blocks
from simgan.studies.eyes import Unit, join_folds, pool_units
from tiny_runs import TINY


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def small_eyes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$SIMGAN_DATA with 40 real and 24 synthetic eyes, named as they are."""
    monkeypatch.setenv("SIMGAN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(eye_sets, "GAP", 4)
    generator = np.random.default_rng(0)
    for side, count, prefix in (("real", 40, "r"), ("synthetic", 24, "")):
        for i in range(count):
            iris = (int(generator.integers(20, 40)), int(generator.integers(16, 24)))
            mask = eye_mask((48, 64), iris=iris)
            write_masked_eye(tmp_path / "data" / "eyes" / side, f"{prefix}{i}", mask, suffix=".jpg")
    return tmp_path


# ---- the split


def test_parts_are_thirds_of_the_numbers_with_a_gap_of_10_at_each_cut() -> None:
    parts = split_blocks(270, 0)
    assert parts == {"unlabelled": range(85), "dev": range(95, 175), "test": range(185, 270)}


def test_over_the_folds_every_image_outside_the_gaps_is_in_each_part_once() -> None:
    for part in eye_sets.PARTS:
        members = [i for fold in range(3) for i in split_blocks(270, fold)[part]]
        assert len(members) == len(set(members)) == 250
    for fold in range(3):
        blocks = sorted((min(b), max(b)) for b in split_blocks(270, fold).values())
        assert [second[0] - first[1] for first, second in pairwise(blocks)] == [11, 11]
    with pytest.raises(DataError, match="fold: 0, 1 or 2 is wanted, got 3"):
        split_blocks(270, 3)


def test_real_parts_are_in_the_order_of_their_numbers_and_labelled_from_their_masks(small_eyes: Path) -> None:
    real = real_eyes(small_eyes / "work", 1)
    # 40 images: cuts at 13 and 27, two frames left out on each side of a cut; fold 1 begins with the second block.
    assert real.unlabelled.paths() == tuple(f"images/r{i:03d}.jpg" for i in range(15, 25))
    assert real.dev.paths() == tuple(f"images/r{i:03d}.jpg" for i in range(29, 40))
    assert real.test.paths() == tuple(f"images/r{i:03d}.jpg" for i in range(11))
    assert real.bound.paths() == real.unlabelled.paths() + real.dev.paths()
    labels = read_labels(real.test)
    assert labels.names == ("iris_x_widths", "iris_y_widths")
    assert labels.groups == ("block00",) * 10 + ("block01",)
    source = ImageTree(small_eyes / "data" / "eyes" / "real", "images/*")
    wanted = read_labels(source, [f"images/r{i}.jpg" for i in range(11)], "eye-masks").values
    np.testing.assert_allclose(labels.values, wanted, atol=1e-6)
    assert real.test.read("images/r000.jpg").shape == (35, 55, 1)
    assert part_masks(real.test, real.test.paths()).max() == 2  # pupil and iris are one class
    assert real_eyes(small_eyes / "work", 1).test.paths() == real.test.paths()


def test_without_the_data_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMGAN_DATA", raising=False)
    with pytest.raises(DataError, match="need the environment variable SIMGAN_DATA"):
        rendered_eyes(tmp_path)


def test_drawn_eyes_are_cropped_labelled_and_closed_ones_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawing:
        """Stands for the simulator: four eyes, one of them closed."""

        @staticmethod
        def write_eyes(out: Path, *, count: int, size: tuple[int, int], seed: int) -> None:
            assert (count, size, seed) == (4, (70, 110), 0)
            for i in range(count):
                mask = eye_mask(
                    size, left=20, top=20, width=60, height=30, iris=None if i == 2 else (50 + i, 35)
                )
                write_masked_eye(out, f"{i:06d}", mask)
                (out / "images" / f"{i:06d}.json").write_text("{}")

    monkeypatch.setattr(eye_sets, "require_extra", lambda module, extra: Drawing)
    monkeypatch.setattr(eye_sets, "_selection", _without_json(eye_sets._selection))
    tree = eye_sets.drawn_eyes(tmp_path, count=4)
    assert tree.paths() == tuple(f"images/{i:06d}.png" for i in (0, 1, 3))
    np.testing.assert_allclose(read_labels(tree).values[:, 0], [0, 1 / 60, 3 / 60], atol=1e-5)


def _without_json(selection: Any) -> Any:
    """The eyes of this test have no real UnityEyes file: the crop then follows the mask."""

    def select(*arguments: Any) -> ImageTree:
        tree: ImageTree = selection(*arguments)
        for path in Path(tree.root).rglob("*.json"):
            path.unlink()
        return tree

    return select


# ---- numbered masks


def test_a_mask_goes_where_its_image_goes(small_eyes: Path) -> None:
    synthetic, real = rendered_eyes(small_eyes / "work"), real_eyes(small_eyes / "work", 0)
    inputs = open_inputs(
        synthetic=synthetic, refined=synthetic, real=real.unlabelled, real_labelled=real.test, real_dev=real.bound,
        real_paths=None, value_range=None, cache_dir=small_eyes / "cache", seed=0,
    )  # fmt: skip
    numbered, masks = eyes.number_masks(inputs)
    assert len(masks) == 2 * 24 + len(real.bound.paths()) + len(real.test.paths())
    for part in (numbered.synthetic, numbered.refined, numbered.dev, numbered.test):
        assert part is not None
        assert part.labels is not None
        chosen = part.take(np.array([3, 1]))
        assert chosen.labels is not None
        for path, number in zip(chosen.paths, chosen.labels.values[:, 0], strict=True):
            stored = read_mask(Path(part.root) / path.replace("images/", "masks/").replace(".jpg", ".png"))
            np.testing.assert_array_equal(masks[int(number)], np.minimum(stored, 2))


# ---- units


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_study(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    command = ["eyes", *arguments, "--work", str(folder / "work"), "--results", str(folder / "results"),
               "--task-seeds", "1", "--updates", "2", "--threads", "1"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    eyes.main()


def test_the_gap_is_measured_in_units_that_are_done_once(
    small_eyes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(monkeypatch, small_eyes, "gap", "--seeds", "0", "1", "--tasks", "iris")
    results = small_eyes / "results"
    names = [f"gap-renders-default-fold0-seed{seed}-dev-iris" for seed in (0, 1)]
    files = {f"{name}{suffix}" for name in names for suffix in (".json", ".npz")}
    assert {path.name for path in results.iterdir()} == files | {"units.csv", "pooled.json"}
    rows = table(results / "units.csv")
    assert [(row["seed"], row["n_test"]) for row in rows] == [("0", "10"), ("1", "10")]
    assert float(rows[0]["real"]) > 0
    assert rows[0]["refined"] == ""
    (pooled,) = json.loads((results / "pooled.json").read_text())
    assert pooled["seeds"] == [0, 1]
    assert pooled["downstream"]["real"]["n_seeds"] == 2
    assert pooled["downstream"]["real"]["n_train"] == 11  # on dev the bound is the unlabelled part

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("all units are done")

    monkeypatch.setattr(eyes, "run_unit", never)
    run_study(monkeypatch, small_eyes, "gap", "--seeds", "0", "1", "--tasks", "iris")
    with pytest.raises(
        DataError, match=r"made with task seeds, updates \[1, 2\], now \[1, 9\] are asked for"
    ):
        eyes.is_done(results / f"{names[0]}.json", 1, 9)
    capsys.readouterr()


def test_a_refiner_is_trained_once_for_both_tasks_and_reads_of_the_test_part_are_logged(
    small_eyes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {key: value for key, value in TINY.items() if key != "seed"} | {"data.held_out_share": 0.49}
    monkeypatch.setitem(eyes.VARIANTS, "no history", tiny)
    run_study(
        monkeypatch, small_eyes, "refined", "--variants", "no history", "--folds", "2", "--part", "test"
    )
    results = small_eyes / "results"
    (run,) = (small_eyes / "work" / "runs").iterdir()
    assert run.name == "refined-renders-no_history-fold2-seed0"
    units = [json.loads(path.read_text()) for path in sorted(results.glob("refined-*.json"))]
    assert [unit["task"] for unit in units] == ["iris", "parts"]
    for unit in units:
        assert unit["downstream"]["refined"]["n_train"] == 24
        assert unit["downstream"]["real"]["n_train"] == 22  # on test: the unlabelled and the dev part
        assert set(unit["downstream"]["gain"]) == {"over_synthetic", "over_synthetic_matched"}
    assert units[0]["downstream"]["unit"] == "widths"
    assert units[1]["downstream"]["unit"] == "1 − mean IoU"
    reads = table(results / "test_reads.csv")
    assert [row["unit"] for row in reads] == [f"{run.name}-test-{task}" for task in ("iris", "parts")]
    capsys.readouterr()


def outcomes_of(errors: dict[str, list[list[float]]], groups: list[int], paths: tuple[str, ...]) -> Outcomes:
    return Outcomes(
        task="regression",
        unit="widths",
        errors={arm: np.array(rows) for arm, rows in errors.items()},
        n_train=dict.fromkeys(errors, 3),
        groups=np.array(groups),
        paths=paths,
        task_seeds=tuple(range(len(next(iter(errors.values()))))),
    )


def test_folds_of_one_seed_are_one_test_set_whose_groups_stay_apart() -> None:
    a = outcomes_of({"refined": [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]]}, [0, 0, 1], ("a", "b", "c"))
    b = outcomes_of({"refined": [[0.5], [0.7]]}, [0], ("d",))
    joined = join_folds([a, b])
    np.testing.assert_array_equal(joined.errors["refined"], [[0.1, 0.2, 0.3, 0.5], [0.3, 0.4, 0.5, 0.7]])
    assert joined.groups.tolist() == [0, 0, 1, 2]
    assert joined.paths == ("a", "b", "c", "d")


def test_a_seed_that_lacks_a_fold_of_the_others_is_not_pooled(tmp_path: Path) -> None:
    errors = {arm: [[0.2, 0.4]] for arm in ("synthetic", "refined", "real")}
    for seed, fold in ((0, 0), (0, 1), (1, 0)):
        unit = Unit("refined", "renders", "default", fold, seed, "dev", "iris")
        outcomes_of(errors, [0, 1], ("a", "b")).save(tmp_path / f"{unit.name}.npz")
        (tmp_path / f"{unit.name}.json").write_text(json.dumps(asdict(unit)))
    (pooled,) = pool_units(tmp_path)
    assert (pooled["folds"], pooled["seeds"]) == ([0, 1], [0])
    assert pooled["downstream"]["refined"]["n_test"] == 4
    assert pooled["downstream"]["refined"]["mean"] == pytest.approx(0.3)
