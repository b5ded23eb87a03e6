from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from report_runs import make_run
from simgan.data.trees import ImageTree
from simgan.images import decode_image, read_image, write_image
from simgan.reporting import pictures
from simgan.reporting.pictures import Picture, gather_album
from simgan.reporting.record import read_run
from simgan.weights import load_refiner


def pixels(picture: Picture) -> np.ndarray:
    kind, data = picture.uri.removeprefix("data:image/").split(";base64,")
    return decode_image(base64.b64decode(data), suffix=f".{kind}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    declared = {"data.value_low": 0, "data.value_high": 240, "data.value_step": 15}
    return make_run(tmp_path_factory.mktemp("pictures"), low=0, high=240, step=15, overrides=declared)


def test_images_are_shown_through_the_value_range(run: Path) -> None:
    record = read_run(run)
    assert record.data["value_range"]["high"] == 240
    album = gather_album(record, None, None)
    native = read_image(run.parent / "synthetic" / album.examples[0].name).astype(float)
    shown = pixels(album.examples[0].pictures[0])
    np.testing.assert_array_equal(shown, np.rint(native / 240 * 255).astype(np.uint8))


def test_refined_images_are_those_of_the_kept_refiner(run: Path) -> None:
    trained = load_refiner(run)
    album = gather_album(read_run(run), trained, None)
    assert album.columns[:2] == ("synthetic", "refined")
    example = album.examples[3]
    refined = trained(read_image(run.parent / "synthetic" / example.name)).astype(float)
    np.testing.assert_array_equal(pixels(example.pictures[1]), np.rint(refined / 240 * 255).astype(np.uint8))


def test_the_nearest_real_image_is_the_one_with_the_least_squared_difference(run: Path) -> None:
    trained = load_refiner(run)
    album = gather_album(read_run(run), trained, None)
    tree = ImageTree(run.parent / "real")
    for example in album.examples:
        refined = trained(read_image(run.parent / "synthetic" / example.name)).astype(float)
        distances = {path: float(((tree.read(path) - refined) ** 2).sum()) for path in tree.paths()}
        assert example.pictures[-1].alt == f"nearest real image, {min(distances, key=lambda p: distances[p])}"
    assert album.n_searched == 40


def test_the_change_is_refined_minus_synthetic_amplified(run: Path, tmp_path: Path) -> None:
    synthetic = ImageTree(run.parent / "synthetic")
    for path in synthetic.paths():
        image = synthetic.read(path).astype(int)
        image[0, 0], image[0, 1] = np.clip(image[0, 0] + 30, 0, 240), np.clip(image[0, 1] - 30, 0, 240)
        write_image(tmp_path / path, image.astype(np.uint8))
    album = gather_album(read_run(run), None, ImageTree(tmp_path))
    assert album.amplification == 5  # 30 of 240 is 0.125: ten times would not fit
    assert album.columns[2] == "change ×5"
    example = next(e for e in album.examples if 30 <= synthetic.read(e.name)[0, 0, 0] <= 210)
    change = pixels(example.pictures[2])
    assert set(map(tuple, change[1:].reshape(-1, 3))) == {(128, 128, 128)}
    share = 5 * 30 / 240
    brighter = np.rint(128 + share * (np.array([255, 176, 59]) - 128))
    np.testing.assert_array_equal(change[0, 0], brighter)


def test_colours_change_channel_by_channel_around_grey() -> None:
    change = np.array([[[0.0, 1.0, -1.0]]], np.float32)
    assert pictures._colour_change(change).tolist() == [[[128, 255, 0]]]


@pytest.mark.parametrize(
    ("largest", "factor"), [(0.0, 1), (1.0, 1), (0.6, 1), (0.5, 2), (0.02, 50), (1e-5, 100)]
)
def test_the_amplification_just_fills_the_scale(largest: float, factor: int) -> None:
    assert pictures._amplification([np.full((2, 2, 1), -largest, np.float32)]) == factor
    assert pictures._amplification([]) == 1


def test_level_matched_images_are_shown_where_a_first_stage_exists(tmp_path: Path) -> None:
    run = make_run(tmp_path, overrides={"data.level_matching": True})
    album = gather_album(read_run(run), load_refiner(run), None)
    assert album.columns[:3] == ("synthetic", "levels matched", "refined")
    synthetic, matched = (pixels(picture) for picture in album.examples[0].pictures[:2])
    order = np.argsort(synthetic.ravel(), kind="stable")
    assert (np.diff(matched.ravel()[order].astype(int)) >= 0).all()
    assert (matched != synthetic).any()


def test_pictures_stop_where_the_page_would_become_too_large(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, trained = read_run(run), load_refiner(run)
    whole = gather_album(record, trained, None)
    assert len(whole.examples) == 10
    monkeypatch.setattr(pictures, "_BYTES", 2000)
    small = gather_album(record, trained, None)
    assert 1 <= len(small.examples) <= 4
    assert len(small.real_sheet) < len(whole.real_sheet)


def test_a_tree_that_changed_since_is_said_to_have(run: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "000.png", np.zeros((8, 8, 3), np.uint8))
    album = gather_album(read_run(run), None, ImageTree(tmp_path))
    assert "is 8-bit RGB, but the run was trained on 8-bit grey" in album.note
    write_image(tmp_path / "000.png", np.zeros((9, 8, 1), np.uint8))
    assert (
        "has another size than its synthetic image"
        in gather_album(read_run(run), None, ImageTree(tmp_path)).note
    )


def test_real_images_of_another_size_are_compared_at_the_common_one(run: Path, tmp_path: Path) -> None:
    larger = np.zeros((12, 10, 1), np.uint8)
    run = make_run(tmp_path, overrides={"data.crop": [8, 8]})
    write_image(tmp_path / "real" / "large.png", larger)
    album = gather_album(read_run(run), load_refiner(run), None)
    assert album.note == ""
    assert len(album.examples) == 10
