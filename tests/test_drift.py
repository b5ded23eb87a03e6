"""Drift in an evaluation: of structure, keypoints, masks and a frozen model, on trees whose drift is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simgan.data.trees import ImageTree
from simgan.errors import DataError
from simgan.evaluation.downstream import Budget
from simgan.evaluation.drift import measure_drift
from simgan.evaluation.inputs import Inputs, open_inputs
from simgan.images import ValueRange, write_image
from textures import Field, Images, shift, texture

SIZE = (32, 48)
COUNT = 12
BUDGET = Budget(3, 4)
TWO_PX: Field = lambda y, x: (0 * y, 2 + 0 * x)  # noqa: E731


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _tree(
    root: Path, images: Images, *, names: Callable[[int], str] = "images/{:02}.png".format
) -> ImageTree:
    for i, image in enumerate(images):
        (root / names(i)).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / names(i), np.clip(127.5 + 127.5 * image, 0, 255).round().astype(np.uint8))
    return ImageTree(root, "images/*.png")


def _write_mask(folder: Path, name: str, mask: NDArray[np.uint8]) -> None:
    (folder / "synthetic" / "masks").mkdir(exist_ok=True)
    write_image(folder / "synthetic" / "masks" / name, mask)


def _inputs(folder: Path, refined: Images, *, labelled: bool = False) -> Inputs:
    synthetic = _tree(folder / "synthetic", texture(COUNT, *SIZE))
    out = _tree(folder / "refined", refined)
    real = _tree(folder / "real", texture(24, *SIZE, seed=5))
    table = "path,iris_x_px,iris_y_px,gaze_deg\n"
    table += "".join(f"images/{i:02}.png,{20 + i % 3},{15 + i % 2},{i}\n" for i in range(COUNT))
    for root in (synthetic.root, out.root):
        (Path(root) / "labels.csv").write_text(table)
    test = None
    if labelled:
        test = _tree(folder / "test", texture(24, *SIZE, seed=6))
        again = "path,iris_x_px,iris_y_px,gaze_deg\n" + "".join(
            f"images/{i:02}.png,{20 + i % 3},{15 + i % 2},{i}\n" for i in range(24)
        )
        (folder / "test" / "labels.csv").write_text(again)
    return open_inputs(
        synthetic=synthetic, refined=out, real=real, real_labelled=test, real_dev=None, real_paths=None,
        value_range=ValueRange(0, 255), cache_dir=folder / "cache", seed=0,
    )  # fmt: skip


def _measure(inputs: Inputs, *, masks: str | None = None) -> dict[str, Any]:
    found, why = measure_drift(
        inputs, matching="histogram", masks=masks, budget=BUDGET, seed=0, progress=lambda _: None
    )
    assert why is None
    assert found is not None
    return found


def test_a_moved_tree_has_the_drift_that_it_was_moved_by_and_both_estimators_say_so(tmp_path: Path) -> None:
    found = _measure(_inputs(tmp_path, texture(COUNT, *SIZE, TWO_PX)))
    assert found["n"] == COUNT
    for part in (found["structure"], found["flow"], found["keypoints"]):
        assert part["mean"] == pytest.approx(2, abs=0.1)
        assert part["low"] <= part["mean"] <= part["high"]
        assert part["n"] == COUNT
    assert found["structure"]["shift_right_px"] == pytest.approx(2, abs=0.1)
    assert found["structure"]["shift_down_px"] == pytest.approx(0, abs=0.1)
    assert found["keypoints"]["each"]["iris"]["drift_px"] == pytest.approx(2, abs=0.1)
    assert found["floor"]["structure_px"] < 0.1
    assert found["model"] is None, "no labels were read"


def test_levels_that_change_are_no_drift(tmp_path: Path) -> None:
    found = _measure(_inputs(tmp_path, 0.5 * texture(COUNT, *SIZE) + 0.2))
    assert found["structure"]["mean"] < 0.1
    assert found["flow"]["mean"] < 0.1


def test_the_worst_cases_are_lost_images_and_then_those_that_moved_farthest(tmp_path: Path) -> None:
    refined = texture(COUNT, *SIZE)
    refined[3] = texture(COUNT, *SIZE, TWO_PX)[3]
    refined[5] = texture(COUNT, *SIZE, shift(1.0))[5]
    refined[8] = texture(1, *SIZE, seed=77)[0]
    found = _measure(_inputs(tmp_path, refined))
    worst = found["worst"]
    assert [case["path"] for case in worst[:3]] == ["images/08.png", "images/03.png", "images/05.png"]
    assert worst[0]["drift_px"] is None
    assert worst[1]["drift_px"] == pytest.approx(2, abs=0.1)
    assert found["structure"]["lost"] == 1


def test_masks_are_found_again_where_the_flow_took_them(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path, texture(COUNT, *SIZE, TWO_PX))
    mask = np.zeros((*SIZE, 1), np.uint8)
    mask[10:22, 16:32] = 2
    for i in range(COUNT):
        _write_mask(tmp_path, f"{i:02}.png", mask)
    found = _measure(inputs, masks="masks/*.png")["masks"]
    assert found["boundary"]["mean"] == pytest.approx(2, abs=0.2)
    assert found["iou"]["mean"] == pytest.approx(14 / 18, abs=0.04), "16 columns moved by 2: 14 of 18 overlap"


def test_masks_that_are_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path, texture(COUNT, *SIZE))
    _write_mask(tmp_path, "00.png", np.zeros((9, 9, 1), np.uint8))
    with pytest.raises(DataError, match="9×9, its image 32×48"):
        _measure(inputs, masks="masks/*.png")
    (tmp_path / "synthetic" / "masks" / "00.png").rename(tmp_path / "synthetic" / "masks" / "99.png")
    with pytest.raises(DataError, match=r"is the mask of images/00\.png"):
        _measure(inputs, masks="masks/*.png")


def test_a_frozen_model_reads_untouched_images_as_before(tmp_path: Path) -> None:
    found = _measure(_inputs(tmp_path, texture(COUNT, *SIZE), labelled=True))
    assert found["model"]["mean"] == 0
    assert found["model"]["n"] == COUNT // 2
    assert found["model"]["error_on_synthetic"] > 0
    moved = _measure(_inputs(tmp_path / "moved", -texture(COUNT, *SIZE), labelled=True))
    assert moved["model"]["mean"] > 0


def test_what_cannot_be_compared_is_not_measured_and_said_to_be_so(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path, texture(COUNT, *SIZE))
    few = Inputs(**{**vars(inputs), "refined": inputs.refined.take(np.arange(3))})
    found, why = measure_drift(
        few, matching="histogram", masks=None, budget=BUDGET, seed=0, progress=lambda _: None
    )
    assert found is None
    assert "3 pairs are too few" in str(why)
    other = _inputs(tmp_path / "b", texture(COUNT, *SIZE))
    apart = Inputs(**{**vars(other), "refined": other.real})
    (tmp_path / "b" / "refined" / "images" / "00.png").unlink()
    found, why = measure_drift(
        apart, matching="histogram", masks=None, budget=BUDGET, seed=0, progress=lambda _: None
    )
    assert found is None
    assert "do not stand under the paths" in str(why)


def test_flat_images_have_no_drift_and_a_foreign_table_no_keypoints(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path, texture(COUNT, *SIZE))
    flat = np.zeros((COUNT, *SIZE, 1), np.float32)
    flat[:, 0, 0] = 1
    again = _inputs(tmp_path / "flat", flat)
    (tmp_path / "synthetic" / "labels.csv").write_text("what,is,this\n1,2,3\n")
    found = _measure(inputs)
    assert found["keypoints"] is None
    assert _measure(again)["structure"]["lost"] == COUNT


def test_images_too_small_to_follow_have_no_drift_and_it_is_said_how_large_they_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "SIZE", (15, 48))
    found, why = measure_drift(
        _inputs(tmp_path, texture(COUNT, 15, 48)),
        matching="histogram", masks=None, budget=BUDGET, seed=0, progress=lambda _: None,
    )  # fmt: skip
    assert found is None
    assert why == "drift was not measured: 15×48 images are too small to follow, 16 pixels a side are needed"
