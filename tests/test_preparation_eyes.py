from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simgan
from eye_files import (
    eye_mask,
    unityeyes_document,
    write_evaluation_list,
    write_eye_gaze,
    write_masked_eye,
    write_mpiigaze_day,
    write_unityeyes,
)
from simgan.cli.verbs import app
from simgan.data.labels import read_labels
from simgan.data.mpiigaze import read_mpiigaze
from simgan.data.trees import ImageTree
from simgan.data.unityeyes import read_unityeyes
from simgan.errors import ConfigurationError, DataError, LabelError, OutputError
from simgan.images import read_image, write_image
from simgan.preparation import EyeCrop, LabelFile, Movements, prepare
from simgan.preparation.coco import move_coco
from simgan.preparation.eye_crop import box_around
from simgan.preparation.unpacking import unpack_eye_gaze, unpack_mpiigaze

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


def dot(height: int, width: int, x: float, y: float, sigma: float = 3.0) -> Array:
    """A dark Gaussian dot around the place (x, y), pixel centres at whole numbers."""
    rows, columns = np.mgrid[:height, :width]
    return np.rint(250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))).astype(np.uint8)


def centroid(weight: Array) -> tuple[float, float]:
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    total = weight.astype(float).sum()
    return float((weight * columns.astype(float)).sum() / total), float(
        (weight * rows.astype(float)).sum() / total
    )


# ---- image and labels agree


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_crop_resize_and_mirror_of_an_eye_and_all_its_labels_agree(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("eye")
    height, width = data.draw(st.integers(90, 120)), data.draw(st.integers(130, 170))
    x, y = data.draw(st.floats(60, 105)), data.draw(st.floats(40, 65))
    crop = data.draw(
        st.sampled_from([None, EyeCrop(), EyeCrop(0.3), (3, 5, 80, 120), simgan.CenterCrop(80, 120)])
    )
    size = data.draw(st.sampled_from([(35, 55), (36, 60), (70, 110)]))
    mirror = data.draw(st.booleans())
    look = np.array([0.36, 0.48, -0.8])
    # One eye: a dot, its landmarks, its mask, its row.
    (root / "in" / "images").mkdir(parents=True)
    (root / "in" / "masks").mkdir()
    image = dot(height, width, x, y)
    write_image(root / "in" / "images" / "e.png", image[..., None])
    document = unityeyes_document(
        height=height, centre=(x + 0.5, y + 0.5), half_width=30, half_height=14, look=(*look, 0.0)
    )
    (root / "in" / "images" / "e.json").write_text(json.dumps(document))
    rows, columns = np.mgrid[:height, :width]
    mask = np.where((abs(columns - x) < 30) & (abs(rows - y) < 14), 1, 0).astype(np.uint8)
    mask[(columns - x) ** 2 + (rows - y) ** 2 < 36] = 3
    write_image(root / "in" / "masks" / "e.png", mask[..., None])
    (root / "in" / "labels.csv").write_text(
        f"path,iris_x_px,iris_y_px,gaze_x\nimages/e.png,{x},{y},{look[0]}\n"
    )

    report = prepare(
        ImageTree(root / "in", "images/*"), root / "out", crop=crop, size=size, masks="masks/*", mirror=mirror
    )

    tree = ImageTree(root / "out", "images/*")
    moved = read_image(root / "out" / "images" / "e.png")[..., 0]
    assert moved.shape == size
    found = centroid(moved)
    (annotation,) = read_unityeyes(tree, tree.paths())
    row = read_labels(tree, format="csv").values[0]
    assert annotation.iris_centre == pytest.approx(found, abs=0.15)
    assert row[:2] == pytest.approx(found, abs=0.15)
    # Nearest-neighbour masks keep a place to within half a pixel of each border.
    pupil = centroid(read_image(root / "out" / "masks" / "e.png")[..., 0] == 3)
    assert pupil == pytest.approx(found, abs=0.5)
    sign = -1 if mirror else 1
    np.testing.assert_allclose(annotation.gaze, look * (sign, -1, 1), atol=1e-4)
    assert row[2] == pytest.approx(sign * look[0])
    assert annotation.is_left != mirror
    assert report.n_closed == (0 if isinstance(crop, EyeCrop) else None)


def test_mirrored_twice_everything_is_as_before(tmp_path: Path) -> None:
    write_masked_eye(tmp_path / "a", "1", eye_mask(iris=(24, 17)))
    document = unityeyes_document(height=40, centre=(30, 20), half_height=8)
    (tmp_path / "a" / "images" / "1.json").write_text(json.dumps(document, indent=2))
    (tmp_path / "a" / "labels.csv").write_text(
        "path,gaze_x,head_yaw_deg,iris_x_widths,side_px\nimages/1.png,0.3,-4,0.1,5\n"
    )
    for before, after in (("a", "b"), ("b", "c")):
        prepare(ImageTree(tmp_path / before, "images/*"), tmp_path / after, masks="masks/*", mirror=True)
    once = (tmp_path / "b" / "labels.csv").read_text()
    assert once.splitlines()[1] == "images/1.png,-0.3,4,-0.1,5"
    for name in ("images/1.png", "masks/1.png", "images/1.json", "labels.csv"):
        before, after = (tmp_path / "a" / name).read_bytes(), (tmp_path / "c" / name).read_bytes()
        if name.endswith(".png"):
            np.testing.assert_array_equal(
                read_image(tmp_path / "a" / name), read_image(tmp_path / "c" / name)
            )
        else:
            assert after == before, name


def test_a_mirrored_unityeyes_file_turns_gaze_yaw_and_roll_and_keeps_all_else(tmp_path: Path) -> None:
    document = unityeyes_document(look=(0.36, 0.48, -0.8, 0.0)) | {"head_pose": "(350.0000, 20.0000, 5.0000)"}
    write_unityeyes(tmp_path / "a", "1", document=document)
    prepare(ImageTree(tmp_path / "a"), tmp_path / "b", mirror=True)
    moved = json.loads((tmp_path / "b" / "1.json").read_text())
    assert moved["eye_details"]["look_vec"] == "(-0.3600, 0.4800, -0.8000, 0.0000)"
    assert moved["head_pose"] == "(350.0000, 340.0000, 355.0000)"
    assert moved["interior_margin_2d"][0] == "(30.0000, 30.0000, 8.9000)"  # was 70 of 100, y upwards
    for key in ("lighting_details", "eye_region_details"):
        assert moved[key] == document[key]
    assert {k: v for k, v in moved["eye_details"].items() if k != "look_vec"} == {
        k: v for k, v in document["eye_details"].items() if k != "look_vec"
    }


def test_a_mirrored_coco_box_stays_a_box_and_keypoints_are_refused(tmp_path: Path) -> None:
    def moved(annotation: dict[str, Any]) -> Any:
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
            "annotations": [annotation],
        }
        (tmp_path / "l.json").write_text(json.dumps(content))
        movements = Movements({"a.png": (50, 100)}, mirror=True)
        found = move_coco(LabelFile(tmp_path, "l.json"), movements)
        assert found is not None
        return json.loads(found.data)["annotations"][0]

    box = {
        "id": 1,
        "image_id": 1,
        "bbox": [10, 5, 20, 8],
        "segmentation": [[10, 5, 30, 5, 30, 13]],
        "area": 80,
    }
    assert moved(box)["bbox"] == [70, 5, 20, 8]
    assert moved(box)["segmentation"] == [[90, 5, 70, 5, 70, 13]]
    assert moved(box)["area"] == 80
    with pytest.raises(LabelError, match="left and the right ones would change places"):
        moved({"id": 1, "image_id": 1, "keypoints": [1, 2, 2]})


def test_grey_is_the_luminance_and_alpha_and_masks_stay(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 4), np.uint8)
    colours[...] = (100, 200, 50, 9)
    for folder, pixels in (("images", colours), ("masks", np.full((4, 4, 3), 2, np.uint8))):
        (tmp_path / "a" / folder).mkdir(parents=True)
        write_image(tmp_path / "a" / folder / "1.png", pixels)
    prepare(ImageTree(tmp_path / "a", "images/*"), tmp_path / "b", masks="masks/*", grey=True)
    grey = read_image(tmp_path / "b" / "images" / "1.png")
    assert grey.shape == (4, 4, 2)
    assert (grey == (153, 9)).all()  # 0.299·100 + 0.587·200 + 0.114·50 = 153.0
    assert (tmp_path / "b/masks/1.png").read_bytes() == (tmp_path / "a/masks/1.png").read_bytes()
    prepare(ImageTree(tmp_path / "b", "images/*"), tmp_path / "c", masks="masks/*", grey=True)
    np.testing.assert_array_equal(read_image(tmp_path / "c" / "images" / "1.png"), grey)


def test_without_anything_to_do_prepare_says_so(tmp_path: Path) -> None:
    write_unityeyes(tmp_path / "a", "1")
    with pytest.raises(ConfigurationError, match="there is nothing to prepare"):
        prepare(ImageTree(tmp_path / "a"), tmp_path / "b")


# ---- where the crop lies


def test_the_box_around_an_eye_is_worked_by_hand() -> None:
    # 7:11, opening 100 wide and 40 high, margin 5 %: 110 wide is 10 · 11, 70 high; its middle is that of the opening.
    assert box_around((200, 300, 240, 400), (480, 640), (35, 55), 0.05) == (185, 295, 70, 110)
    # A tall opening: 1.1 · 100 high needs 16 · 7 = 112, so 176 wide.
    assert box_around((100, 300, 200, 400), (480, 640), (35, 55), 0.05) == (94, 262, 112, 176)


def test_a_box_at_the_border_is_shifted_inside_and_never_larger_than_the_image() -> None:
    assert box_around((0, 0, 40, 100), (480, 640), (35, 55), 0.05) == (0, 0, 70, 110)
    assert box_around((440, 540, 480, 640), (480, 640), (35, 55), 0.05) == (410, 530, 70, 110)
    assert box_around((0, 0, 80, 120), (80, 120), (35, 55), 0.05) == (5, 5, 70, 110)
    with pytest.raises(LabelError, match="6×60 pixels hold no box of the aspect 7:11"):
        box_around((0, 0, 4, 10), (6, 60), (35, 55), 0.05)


def test_a_size_whose_ratio_would_cut_the_eye_is_refused() -> None:
    with pytest.raises(LabelError, match="86×126 pixels, and its 70×110 hold 43×63 at most"):
        box_around((16, 25, 66, 107), (70, 110), (43, 63), 0.05)
    assert box_around((16, 25, 66, 107), (70, 110), (49, 77), 0.05) == (7, 11, 63, 99)


def test_the_opening_comes_from_the_mask_where_there_is_no_unityeyes_file(tmp_path: Path) -> None:
    mask = eye_mask((100, 200), left=60, top=30, width=80, height=40, iris=(100, 50))
    write_masked_eye(tmp_path / "a", "1", mask)
    report = prepare(
        ImageTree(tmp_path / "a", "images/*"), tmp_path / "b", crop=EyeCrop(0), size=(35, 55), masks="masks/*"
    )
    assert (report.n_images, report.n_masks, report.n_closed) == (1, 1, 0)
    moved = read_image(tmp_path / "b/masks/1.png")[..., 0]
    # 8 · 11 = 88 wide, 56 high: 80 of 88 columns are opening, 50 of 55.
    assert (moved > 0).any(axis=0).sum() == 50
    before, after = (
        read_labels(ImageTree(tmp_path / where, "images/*"), format="eye-masks").values for where in "ab"
    )
    np.testing.assert_allclose(after, before, atol=0.01)


def test_closed_eyes_are_cropped_and_counted(tmp_path: Path) -> None:
    write_masked_eye(tmp_path / "a", "1", eye_mask(iris=None))
    write_masked_eye(tmp_path / "a", "2", eye_mask())
    tree = ImageTree(tmp_path / "a", "images/*")
    assert prepare(tree, tmp_path / "b", crop=EyeCrop(), size=(35, 55), masks="masks/*").n_closed == 1


def test_images_without_a_known_eye_are_all_counted_and_nothing_is_written(tmp_path: Path) -> None:
    write_masked_eye(tmp_path / "a", "1", eye_mask())
    write_masked_eye(tmp_path / "a", "2", np.zeros((40, 60), np.uint8))
    write_unityeyes(tmp_path / "a" / "images", "3", document={"interior_margin_2d": [], "look_vec": ""})
    write_unityeyes(tmp_path / "a" / "images", "4").unlink()
    with pytest.raises(LabelError) as caught:
        prepare(
            ImageTree(tmp_path / "a", "images/*"),
            tmp_path / "b",
            crop=EyeCrop(),
            size=(35, 55),
            masks="masks/*",
        )
    text = str(caught.value)
    assert "in 3 of 4 images it is not known where the eye is" in text
    assert "images/2.png: its mask masks/2.png is all skin" in text
    assert "images/3.jpg: keys of a UnityEyes file are missing" in text
    assert "images/4.jpg: has neither a UnityEyes file beside it nor a mask" in text
    assert not (tmp_path / "b").exists()


def test_left_and_right_eyes_in_one_tree_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_unityeyes(tmp_path / "a", "1")
    write_unityeyes(tmp_path / "both", "1")
    prepare(ImageTree(tmp_path / "a"), tmp_path / "other", mirror=True)
    for name in ("1.jpg", "1.json"):
        (tmp_path / "both" / name.replace("1", "2")).write_bytes((tmp_path / "other" / name).read_bytes())
    tree = ImageTree(tmp_path / "both")
    with pytest.raises(
        LabelError, match=r"left and right eyes are mixed.*prepare each kind apart, by a pattern"
    ):
        prepare(tree, tmp_path / "c", crop=EyeCrop(), size=(30, 50))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("crop", "size", "message"),
    [
        (EyeCrop(), None, "needs the size that it is resized to"),
        (EyeCrop(-0.1), (35, 55), "a margin from 0 to 2 eye widths is wanted, got -0.1"),
        (EyeCrop(float("nan")), (35, 55), "a margin from 0 to 2"),
    ],
)
def test_a_crop_around_the_eye_that_is_none_is_a_fault(
    tmp_path: Path, crop: EyeCrop, size: Any, message: str
) -> None:
    write_unityeyes(tmp_path / "a", "1")
    with pytest.raises(ConfigurationError, match=message):
        prepare(ImageTree(tmp_path / "a"), tmp_path / "b", crop=crop, size=size)


def test_a_unityeyes_file_of_an_image_that_is_not_prepared_is_carried_and_one_of_none_is_a_fault(
    tmp_path: Path,
) -> None:
    write_unityeyes(tmp_path / "a", "1")
    write_unityeyes(tmp_path / "a" / "more", "2")
    tree = ImageTree(tmp_path / "a", "*.jpg")
    prepare(tree, tmp_path / "b", size=(30, 50))
    assert (tmp_path / "b/more/2.json").read_bytes() == (tmp_path / "a/more/2.json").read_bytes()
    (tmp_path / "a" / "more" / "2.jpg").unlink()
    with pytest.raises(LabelError, match=r"2.json: a UnityEyes file without an image beside it"):
        prepare(tree, tmp_path / "c", size=(30, 50))


def test_a_faulty_unityeyes_file_stops_the_preparation_before_anything_is_written(tmp_path: Path) -> None:
    write_unityeyes(tmp_path / "a", "1", document=unityeyes_document() | {"head_pose": "none"})
    with pytest.raises(LabelError, match=r"1.json: head_pose: 3 numbers.*\nNext: mend the file"):
        prepare(ImageTree(tmp_path / "a"), tmp_path / "b", size=(30, 50))
    assert not (tmp_path / "b").exists()


def test_the_crop_of_the_official_example_is_55_pixels_around_the_eye(
    tmp_path: Path, simgan_data: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.json").write_bytes((simgan_data / "unityeyes" / "example.json").read_bytes())
    cv2.imwrite(str(tmp_path / "a" / "1.jpg"), np.zeros((480, 640, 3), np.uint8))
    prepare(ImageTree(tmp_path / "a"), tmp_path / "b", crop=EyeCrop(0), size=(35, 55))
    (eye,) = read_unityeyes(ImageTree(tmp_path / "b"), ("1.jpg",))
    assert np.ptp(eye.interior_margin[:, 0]) == pytest.approx(
        55 * 125 / 132, abs=1.5
    )  # 125 px wide, 12 · 11 = 132
    assert (eye.interior_margin >= -0.5).all()
    assert (eye.interior_margin <= (54.5, 34.5)).all()


# ---- unpacking


def test_mpiigaze_becomes_a_tree_whose_labels_are_those_of_the_reader(tmp_path: Path) -> None:
    write_mpiigaze_day(tmp_path / "m", "p00", "day01", 2)
    write_mpiigaze_day(tmp_path / "m", "p07", "day02", 1, seed=5)
    write_evaluation_list(tmp_path / "m", "p00", ["day01/0002.jpg right", "day01/0001.jpg left"])
    write_evaluation_list(tmp_path / "m", "p07", ["day02/0001.jpg left"])
    calls: list[tuple[int, int]] = []
    report = unpack_mpiigaze(tmp_path / "m", tmp_path / "out", progress=lambda *n: calls.append(n))
    assert (report.n_images, report.n_groups, report.labelled) == (3, 2, True)
    assert calls == [(1, 2), (2, 2)]
    labels = read_labels(report.tree)
    assert labels.names == ("gaze_x", "gaze_y", "gaze_z")
    assert labels.groups == ("p00", "p00", "p07")
    wanted = {
        name: (image, gaze)
        for part in read_mpiigaze(tmp_path / "m")
        for name, image, gaze in zip(part.names, part.images, part.gaze, strict=True)  # type: ignore[arg-type]
    }
    for path, row in zip(report.tree.paths(), labels.values, strict=True):
        image, gaze = wanted[path.removesuffix(".png")]
        np.testing.assert_array_equal(report.tree.read(path)[..., 0], image)
        np.testing.assert_allclose(row, gaze, atol=1e-6)


def test_unpacking_again_continues_and_another_call_is_refused(tmp_path: Path) -> None:
    write_mpiigaze_day(tmp_path / "m", "p00", "day01", 2)
    report = unpack_mpiigaze(tmp_path / "m", tmp_path / "out", subset="all")
    whole = {path: (tmp_path / "out" / path).read_bytes() for path in report.tree.paths()}
    (tmp_path / "out" / next(iter(whole))).unlink()
    (tmp_path / "out" / "labels.csv").unlink()
    again = unpack_mpiigaze(tmp_path / "m", tmp_path / "out", subset="all")
    assert {path: (tmp_path / "out" / path).read_bytes() for path in again.tree.paths()} == whole
    assert (tmp_path / "out" / "labels.csv").exists()
    with pytest.raises(OutputError, match="labels was true, now false"):
        unpack_mpiigaze(tmp_path / "m", tmp_path / "out", subset="all", labels=False)
    with pytest.raises(OutputError, match="must lie outside"):
        unpack_mpiigaze(tmp_path / "m", tmp_path / "m" / "out", subset="all")


def test_unlabelled_eyes_are_unpacked_without_a_table(tmp_path: Path) -> None:
    write_mpiigaze_day(tmp_path / "m", "p00", "day01", 1)
    assert not unpack_mpiigaze(tmp_path / "m", tmp_path / "a", subset="all", labels=False).labelled
    assert not (tmp_path / "a" / "labels.csv").exists()
    pytest.importorskip("h5py")
    image = np.arange(35 * 55, dtype=np.uint8).reshape(35, 55)
    report = unpack_eye_gaze(write_eye_gaze(tmp_path / "real_gaze.h5", {"a": image}), tmp_path / "b")
    assert (report.n_images, report.n_groups, report.labelled) == (1, None, False)
    np.testing.assert_array_equal(report.tree.read("a.png")[..., 0], image)


def test_the_verb_unpacks_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    write_mpiigaze_day(tmp_path / "m", "p00", "day01", 1)
    app(["unpack", "mpiigaze", str(tmp_path / "m"), "--out", str(tmp_path / "a"), "--subset", "all"],
        result_action="return_value")  # fmt: skip
    assert "images" in capsys.readouterr().out
    look = np.array([[0.0, 0.6, -0.8]])
    file = write_eye_gaze(tmp_path / "gaze.h5", {"x": np.zeros((35, 55), np.uint8)}, look)
    app(
        ["unpack", "eye-gaze", str(file), "--out", str(tmp_path / "b"), "--json"],
        result_action="return_value",
    )
    assert json.loads(capsys.readouterr().out)["n_images"] == 1
    assert (
        tmp_path / "b" / "labels.csv"
    ).read_text() == "path,gaze_x,gaze_y,gaze_z\nx.png,0.000000,-0.600000,-0.800000\n"
    with pytest.raises(DataError):
        unpack_mpiigaze(tmp_path / "b", tmp_path / "c")
