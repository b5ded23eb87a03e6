from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan.data.labels import Labels
from simgan.data.trees import ImageTree
from simgan.errors import DataError
from simgan.evaluation.agreement import warn_of_labels, warn_of_levels
from simgan.evaluation.downstream import Arm, Budget
from simgan.evaluation.groups import number_groups, split_by_group
from simgan.evaluation.inputs import Inputs, open_inputs
from simgan.evaluation.label_check import _compare_accuracy, _compare_skill, check_labels
from simgan.images import write_image


def _write(
    root: Path, n: int, *, seed: int, background: int = 40, wrong: float = 0.0, step: int = 1
) -> ImageTree:
    """Class k: a bright bar in row 2 + 3k; with probability `wrong` it shows the other class."""
    generator = np.random.default_rng(seed)
    for i in range(n):
        shown = (i % 2) ^ int(generator.random() < wrong)
        image = generator.integers(0, background, (8, 8, 1)) + 5
        image[2 + 3 * shown] += 120
        path = root / str(i % 2) / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, (image // step * step).astype(np.uint8))
    return ImageTree(root)


def _inputs(tmp_path: Path, **trees: ImageTree) -> Inputs:
    options: dict[str, ImageTree] = {
        "synthetic": _write(tmp_path / "synthetic", 60, seed=0),
        "refined": _write(tmp_path / "refined", 60, seed=1),
        "real": _write(tmp_path / "real", 40, seed=2),
        "real_labelled": _write(tmp_path / "test", 60, seed=3),
        "real_dev": _write(tmp_path / "dev", 60, seed=4),
        **trees,
    }
    return open_inputs(cache_dir=tmp_path / "cache", real_paths=None, value_range=None, seed=0, **options)


def _check(inputs: Inputs, said: list[str] | None = None) -> dict[str, object]:
    torch.set_num_threads(1)
    progress = (said if said is not None else []).append
    return check_labels(inputs, budget=Budget(40, 16), seed=0, progress=progress)


def test_labels_that_survived_hold_with_both_intervals_shown(tmp_path: Path) -> None:
    said: list[str] = []
    result = _check(_inputs(tmp_path), said)
    assert result["holds"] is True
    assert result["judge_on_real_low"] < result["judge_on_real"] <= result["judge_on_real_high"]  # type: ignore[operator]
    assert result["judge_on_refined_low"] < 1 <= result["judge_on_refined_high"]  # type: ignore[operator]
    assert (result["n_refined"], result["n_real"]) == (60, 60)
    assert said == ["label check, judge 1 of 2", "label check, judge 2 of 2"]


def test_refinement_that_turns_a_third_of_the_labels_does_not_hold(tmp_path: Path) -> None:
    refined = _write(tmp_path / "turned", 60, seed=1, wrong=0.34)
    result = _check(_inputs(tmp_path, refined=refined))
    assert result["holds"] is False
    cost = 100 * (result["judge_on_synthetic"] - result["judge_on_refined"])  # type: ignore[operator]
    assert result["cost_points"] == pytest.approx(cost)
    assert cost > 15
    assert result["n_synthetic"] == 60
    assert result["high"] < 0  # type: ignore[operator]
    assert result["judge_on_synthetic_low"] > result["judge_on_refined_high"]  # type: ignore[operator]
    assert result["judge_on_refined"] == pytest.approx(0.66, abs=0.15)


def test_no_judge_has_seen_the_original_of_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _inputs(tmp_path)
    inputs = replace(inputs, refined=replace(inputs.synthetic, name="refined"))
    read: list[bytes] = []

    class Judge:
        def __init__(self, arm: Arm) -> None:
            self.seen = {image.tobytes() for image in arm.images}

        def errors(self, images: np.ndarray, values: np.ndarray) -> np.ndarray:
            assert not self.seen & {image.tobytes() for image in images}
            read.extend(image.tobytes() for image in images)
            return np.zeros(len(images))

    monkeypatch.setattr(
        "simgan.evaluation.label_check.train_arm", lambda arm, labels, budget, seed: Judge(arm)
    )
    assert _check(inputs)["holds"]
    # Both read the test images; one or the other each refined image and each original.
    assert len(read) == 2 * 60 + 60 + 60


def test_one_point_worse_still_holds_and_more_does_not() -> None:
    def errors(share: float) -> np.ndarray:
        return (np.arange(1000) < 1000 * share).astype(float)

    assert _compare_accuracy(errors(0.05), errors(0.04))["holds"]
    assert not _compare_accuracy(errors(0.051), errors(0.04))["holds"]
    better = _compare_accuracy(errors(0.0), errors(0.04))
    assert better["holds"]
    assert better["difference_points"] == pytest.approx(4.0)
    assert better["low"] > 0


def test_skill_is_one_minus_the_error_relative_to_always_answering_the_mean() -> None:
    labels = np.array([[-2.0], [2.0]] * 50)  # answering the mean, 0, errs by 2
    result = _compare_skill(np.full(100, 0.5), labels, np.full(100, 0.4), labels, 0)
    assert result["judge_on_refined"] == pytest.approx(0.75)
    assert result["judge_on_real"] == pytest.approx(0.8)
    assert result["difference_points"] == pytest.approx(-5)
    assert not result["holds"]
    flat = _compare_skill(np.zeros(5), np.ones((5, 2)), np.zeros(5), np.ones((5, 2)), 0)
    assert flat["judge_on_refined"] == 1


def test_equal_distributions_raise_no_warning(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    assert list(warn_of_labels(inputs)) == []
    assert list(warn_of_levels(inputs)) == []


def test_other_levels_are_warned_of(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path, synthetic=_write(tmp_path / "coarse", 60, seed=0, step=15))
    (warning,) = warn_of_levels(inputs)
    assert "synthetic images use every level that is a multiple of 15, real ones of 1" in warning
    inputs = _inputs(tmp_path, refined=_write(tmp_path / "light", 60, seed=0, background=130))
    (warning,) = warn_of_levels(inputs)
    assert warning.startswith("refined images use levels 6 to 2")


def _relabelled(inputs: Inputs, synthetic: Labels, test: Labels) -> Inputs:
    assert inputs.test is not None
    return replace(
        inputs, synthetic=replace(inputs.synthetic, labels=synthetic), test=replace(inputs.test, labels=test)
    )


def test_other_class_frequencies_are_warned_of(tmp_path: Path) -> None:
    even, skewed = np.arange(200) % 2, (np.arange(200) % 10 == 0).astype(np.int64)
    inputs = _relabelled(
        _inputs(tmp_path), Labels("class", even, ("a", "b")), Labels("class", skewed, ("a", "b"))
    )
    (warning,) = warn_of_labels(inputs)
    assert "40% of the labels would have to change" in warning
    assert "'a', 50.0% of the synthetic and 90.0% of the real ones" in warning


def test_values_outside_the_synthetic_range_or_otherwise_distributed_are_warned_of(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    synthetic = np.stack(
        [generator.uniform(0, 1, 500), generator.uniform(0, 1, 500), np.linspace(0, 1, 500)], 1
    )
    real = np.stack([generator.uniform(0.5, 1.5, 500), generator.beta(5, 5, 500), np.linspace(0, 1, 500)], 1)
    names = ("yaw_deg", "pitch_deg", "roll_deg")
    inputs = _relabelled(_inputs(tmp_path), Labels("value", synthetic, names), Labels("value", real, names))
    outside, otherwise = warn_of_labels(inputs)
    assert "'yaw_deg' lie outside the synthetic range" in outside
    assert "'pitch_deg' are distributed otherwise" in otherwise


def test_blocks_are_the_same_part_of_every_class_folder() -> None:
    paths = [f"{k}/{i:03d}.png" for k in "ab" for i in range(40)]
    numbers = number_groups(paths, None)
    assert numbers[:40].tolist() == numbers[40:].tolist() == [i // 2 for i in range(40)]
    shuffled = number_groups(paths[::-1], None)
    assert shuffled.tolist() == numbers[::-1].tolist()


def test_blocks_of_classes_are_the_same_part_of_every_class_in_one_folder() -> None:
    paths = [f"{i:03d}.png" for i in range(80)]  # the first half is class 0, the other class 1
    numbers = number_groups(paths, None, classes=np.repeat([0, 1], 40))
    assert numbers[:40].tolist() == numbers[40:].tolist() == [i // 2 for i in range(40)]


def test_few_images_make_a_block_each() -> None:
    assert number_groups(["a.png", "b.png", "c.png"], None).tolist() == [0, 1, 2]


def test_named_groups_win_over_blocks_and_alternate() -> None:
    numbers = number_groups(["a.png", "b.png", "c.png", "d.png"], ["s2", "s1", "s2", "s3"])
    assert numbers.tolist() == [1, 0, 1, 2]
    dev, test = split_by_group(numbers, named=True)
    assert (dev.tolist(), test.tolist()) == ([1, 3], [0, 2])


def test_blocks_are_cut_in_the_middle() -> None:
    dev, test = split_by_group(np.array([0, 0, 1, 2, 3, 3]), named=False)
    assert (dev.tolist(), test.tolist()) == ([0, 1, 2], [3, 4, 5])


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"one group only.*real_dev"):
        split_by_group(np.zeros(5, np.int64), named=True)
