"""Inputs of an evaluation that would make its numbers mean less than they seem to, and hostile ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan.data.trees import ImageTree
from simgan.errors import DataError, SimganError
from simgan.evaluation import evaluate
from simgan.evaluation.agreement import warn_of_levels
from simgan.evaluation.downstream import match_levels
from simgan.evaluation.inputs import Inputs, open_inputs
from simgan.evaluation.overlap import check_overlap
from simgan.images import ValueRange, write_image

NAMES = ("synthetic", "refined", "real", "real_labelled", "real_dev")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _flat(
    root: Path,
    classes: list[str],
    *,
    seed: int,
    groups: list[str] | None = None,
    folder: str = "",
    low: int = 20,
) -> ImageTree:
    """One folder of 8×8 noise in the order of `classes`, with labels.csv."""
    generator = np.random.default_rng(seed)
    (root / folder).mkdir(parents=True)
    rows = [["path", "class", *(["group"] if groups else [])]]
    for i, name in enumerate(classes):
        path = f"{folder}{i:03d}.png"
        write_image(root / path, generator.integers(low, 250, (8, 8, 1)).astype(np.uint8))
        rows.append([path, name, *([groups[i]] if groups else [])])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return ImageTree(root)


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, ImageTree]:
    """Five trees of 20 images, sorted by class, that share no image."""
    return {name: _flat(tmp_path / name, ["a"] * 10 + ["b"] * 10, seed=i) for i, name in enumerate(NAMES)}


def _inputs(trees: dict[str, ImageTree], cache: Path, **changed: object) -> Inputs:
    options: dict[str, object] = {"real_paths": None, "value_range": None, "seed": 0, "real_dev": None}
    return open_inputs(cache_dir=cache, **{**options, **trees, **changed})  # type: ignore[arg-type]


def _copy(source: ImageTree, path: str, target: ImageTree, name: str) -> None:
    write_image(Path(target.root) / name, source.read(path))


def test_a_flat_folder_sorted_by_class_is_split_within_each_class(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    inputs = _inputs({**trees, "real_dev": None}, tmp_path / "cache")  # type: ignore[dict-item]
    assert inputs.dev is not None
    assert inputs.test is not None
    expected = [[*range(5), *range(10, 15)], [*range(5, 10), *range(15, 20)]]  # blocks, not every other one
    for half, numbers in zip((inputs.dev, inputs.test), expected, strict=True):
        assert half.paths == tuple(f"{i:03d}.png" for i in numbers)
        assert half.labels is not None
        assert half.labels.values.tolist() == [0] * 5 + [1] * 5


def test_a_class_with_a_single_image_trains(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    labelled = _flat(tmp_path / "rare", ["a"] * 9 + ["b"], seed=9)
    inputs = _inputs({**trees, "real_labelled": labelled, "real_dev": None}, tmp_path / "cache")  # type: ignore[dict-item]
    assert inputs.dev is not None
    assert inputs.dev.labels is not None
    assert set(inputs.dev.labels.values.tolist()) == {0, 1}


def test_named_groups_that_leave_the_training_half_without_a_tested_class_are_refused(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    groups = ["g0"] * 10 + ["g1"] * 10  # a group for each class: alternating, one class would only be tested
    labelled = _flat(tmp_path / "grouped", ["a"] * 10 + ["b"] * 10, seed=9, groups=groups)
    with pytest.raises(DataError, match=r"no image of 1 of 2 classes .*tests: b; give .*--real-dev.*`group`"):
        _inputs({**trees, "real_labelled": labelled, "real_dev": None}, tmp_path / "cache")  # type: ignore[dict-item]
    mixed = _flat(tmp_path / "mixed", ["a", "b"] * 10, seed=9, groups=groups)
    assert _inputs({**trees, "real_labelled": mixed, "real_dev": None}, tmp_path / "cache").dev is not None  # type: ignore[dict-item]


def test_copies_of_training_images_among_the_test_images_are_refused(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    for i in range(5):
        _copy(trees["real_dev"], f"{i:03d}.png", trees["real_labelled"], f"{i + 3:03d}.png")
    with pytest.raises(DataError, match=r"share images: 5 images, 003.png = 000.png, .*, …; models would be"):
        evaluate(**trees)


def test_test_images_that_the_refiner_saw_are_refused_under_any_name(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    renamed = _flat(tmp_path / "renamed", ["a", "b"], seed=30, folder="camera/")
    _copy(trees["real_labelled"], "004.png", renamed, "camera/000.png")
    with pytest.raises(
        DataError,
        match=r"\(real_labelled\) and .*renamed \(real\).*1 image, 004.png = camera/000.png; the refiner",
    ):
        evaluate(**{**trees, "real": renamed})
    # Held-out images chose the refiner, so they are no test either.
    with pytest.raises(DataError, match="train the refiner again without them"):
        evaluate(**{**trees, "real": renamed}, real_paths=["camera/000.png"])


def test_the_whole_unlabelled_tree_is_compared_where_it_is_thinned(
    trees: dict[str, ImageTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simgan.evaluation.inputs.MOST_IMAGES", 6)
    inputs = _inputs(trees, tmp_path / "cache")
    assert inputs.test is not None
    unseen = next(path for path in trees["real"].paths() if path not in inputs.real.paths)
    _copy(trees["real_labelled"], inputs.test.paths[0], trees["real"], unseen)
    with pytest.raises(DataError, match="the refiner saw the unlabelled ones"):
        check_overlap(_inputs(trees, tmp_path / "cache"))


def test_training_images_that_the_refiner_saw_are_warned_of(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    _copy(trees["real_dev"], "007.png", trees["real"], "007.png")
    (warning,) = check_overlap(_inputs(trees, tmp_path / "cache"))
    assert (
        "images of real_dev are among the unlabelled ones that the refiner saw: 1 image, 007.png;" in warning
    )


def test_copies_across_the_two_halves_of_one_tree_are_refused(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    _copy(trees["real_labelled"], "000.png", trees["real_labelled"], "019.png")
    with pytest.raises(DataError, match=r"real_labelled half that trains.*019.png = 000.png.*column `group`"):
        check_overlap(_inputs({**trees, "real_dev": None}, tmp_path / "cache"))  # type: ignore[dict-item]


def test_the_same_tree_as_real_dev_and_real_labelled_is_refused(trees: dict[str, ImageTree]) -> None:
    with pytest.raises(DataError, match=r"share images: 20 images, 000.png, 001.png, 002.png, …"):
        evaluate(**{**trees, "real_dev": trees["real_labelled"]})


def test_blank_images_are_no_copies_and_other_trees_share_nothing(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    for name in ("real", "real_labelled", "real_dev"):
        write_image(Path(trees[name].root) / "000.png", np.zeros((8, 8, 1), np.uint8))
    assert check_overlap(_inputs(trees, tmp_path / "cache")) == []
    without = {**trees, "real_labelled": None, "real_dev": None}
    assert check_overlap(_inputs(without, tmp_path / "cache")) == []  # type: ignore[arg-type]


def test_realism_on_images_that_may_have_been_trained_on_is_warned_of(trees: dict[str, ImageTree]) -> None:
    three = {name: trees[name] for name in NAMES[:3]}

    def warned(**more: object) -> bool:
        texts = evaluate(**three, **more).record["warnings"]  # type: ignore[arg-type]
        return any("also on those that the discriminator was trained on" in text for text in texts)

    assert warned()
    assert not warned(real_paths=trees["real"].paths()[:4])


def test_an_evaluation_of_one_refiner_says_what_its_intervals_leave_out(trees: dict[str, ImageTree]) -> None:
    record = evaluate(**trees, updates=1, batch_size=4, task_seeds=2, arms=("synthetic", "refined")).record
    assert record["warnings"][-1] == (
        "1 refiner × 2 task models; the interval does not contain the spread between refiners"
    )


def test_invalid_pixels_take_no_part_in_matching_and_in_the_comparison_of_levels(tmp_path: Path) -> None:
    trees = {name: _flat(tmp_path / name, ["a", "b"] * 10, seed=i, low=120) for i, name in enumerate(NAMES)}
    for path in trees["synthetic"].paths():  # half of each synthetic image was not measured
        image = trees["synthetic"].read(path)
        image[:4] = 0
        write_image(Path(trees["synthetic"].root) / path, image)
    inputs = _inputs(trees, tmp_path / "cache", value_range=ValueRange(0, 255, 1, invalid=0))
    for matching in ("ranked", "histogram", "moments"):
        matched = match_levels(inputs, matching, seed=0)
        assert (matched[:, :4] == -1).all()
        assert matched[:, 4:].mean() == pytest.approx(inputs.real.encode(inputs.value_range).mean(), abs=0.05)
        places = (matched + 1) / 2 * 255
        np.testing.assert_allclose(places, places.round(), atol=1e-4)
    assert list(warn_of_levels(inputs)) == []
    zeros = _flat(tmp_path / "zeros", ["a", "b"], seed=0)
    for path in zeros.paths():
        write_image(Path(zeros.root) / path, np.zeros((8, 8, 1), np.uint8))
    nothing = _inputs({**trees, "refined": zeros}, tmp_path / "c2", value_range=inputs.value_range)
    assert any(text.startswith("refined images use levels 0 to 0") for text in warn_of_levels(nothing))


def test_a_matched_level_that_equals_the_invalid_value_is_a_level(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    scale = ValueRange(0, 255, 1, invalid=130)
    matched = match_levels(_inputs(trees, tmp_path / "cache", value_range=scale), "moments", seed=0)
    assert (np.abs(matched - (2 * 130 / 255 - 1)) < 1e-6).any()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("real_labelled has no labels", "label"),
        ("real_labelled is empty", "the folder is empty"),
        ("real_dev has one class", "only synthetic: 'b'"),
        ("real_dev is damaged", "damaged|unusable|cannot"),
        ("a held-out path leads out of the tree", "1 of 1 are not in"),
        ("one labelled image", "one group only"),
    ],
)
def test_hostile_trees_end_with_one_of_our_errors(
    trees: dict[str, ImageTree], tmp_path: Path, fault: str, words: str
) -> None:
    call: dict[str, object] = dict(trees)
    if fault == "real_labelled has no labels":
        (Path(trees["real_labelled"].root) / "labels.csv").unlink()
    elif fault == "real_labelled is empty":
        (tmp_path / "empty").mkdir()
        call["real_labelled"] = ImageTree(tmp_path / "empty")
    elif fault == "real_dev has one class":
        call["real_dev"] = _flat(tmp_path / "one", ["a"] * 4, seed=9)
    elif fault == "real_dev is damaged":
        for path in trees["real_dev"].paths():
            (Path(trees["real_dev"].root) / path).write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    elif fault == "a held-out path leads out of the tree":
        call["real_paths"] = ["../real_labelled/000.png"]
    else:
        call |= {"real_labelled": _flat(tmp_path / "single", ["a"], seed=9), "real_dev": None}
        call["synthetic"] = call["refined"] = _flat(tmp_path / "of-one", ["a"] * 4, seed=8)
    with pytest.raises(SimganError, match=rf"(?i){words}"):
        evaluate(**call, updates=1, batch_size=4, task_seeds=1)  # type: ignore[arg-type]


def test_an_evaluation_of_single_images_and_hostile_class_names_is_made(tmp_path: Path) -> None:
    hostile = ["<script>", "../b\n;", "ü 猫"]
    sides = {
        name: _flat(tmp_path / name, hostile * (2 if i < 3 else 1), seed=i) for i, name in enumerate(NAMES)
    }
    record = evaluate(**sides, updates=1, batch_size=2, task_seeds=1, out=tmp_path / "out").record
    assert record["realism"] is None
    assert record["downstream"]["refined"]["n_test"] == 3
    assert record["labels"]["n_real"] == 3
