from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from eye_files import (
    eye_mask,
    mpiigaze_eye,
    unityeyes_document,
    write_evaluation_list,
    write_eye_gaze,
    write_masked_eye,
    write_mpiigaze_day,
    write_unityeyes,
)
from simgan.data.eye_gaze_h5 import read_eye_gaze
from simgan.data.eye_masks import mask_path, read_mask, shape_of_mask
from simgan.data.labels import detect_label_format, read_labels
from simgan.data.mpiigaze import read_mpiigaze
from simgan.data.trees import ImageTree
from simgan.data.unityeyes import count_closed, eye_opening, parse_unityeyes, read_unityeyes
from simgan.errors import DataError, LabelError, MissingExtraError
from simgan.nn.gaze import angles_of_vectors, mirrored, vectors_of_angles

pytest.importorskip("h5py")


# ---- one space of gaze


@pytest.mark.parametrize(
    ("pitch", "yaw", "vector"),
    [
        (0, 0, (0, 0, -1)),  # into the camera
        (np.pi / 6, 0, (0, -0.5, -np.sqrt(3) / 2)),  # up: y points down
        (0, np.pi / 6, (-0.5, 0, -np.sqrt(3) / 2)),  # to the left of the image
        (np.pi / 6, np.pi / 2, (-np.sqrt(3) / 2, -0.5, 0)),
    ],
)
def test_pitch_is_up_and_yaw_to_the_left_of_the_image(
    pitch: float, yaw: float, vector: tuple[float, float, float]
) -> None:
    np.testing.assert_allclose(vectors_of_angles(pitch, yaw), vector, atol=1e-12)
    np.testing.assert_allclose(angles_of_vectors(3 * np.array(vector)), (pitch, yaw), atol=1e-12)


def test_a_mirrored_gaze_has_the_other_yaw_and_the_same_pitch() -> None:
    np.testing.assert_allclose(angles_of_vectors(mirrored(vectors_of_angles(0.2, -0.3))), (0.2, 0.3))


# ---- UnityEyes


def test_a_unityeyes_file_is_read_field_by_field(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "1", centre=(50, 24), iris=(44, 26), look=(0.36, 0.48, -0.8, 0.0))
    (one,) = read_unityeyes(ImageTree(tmp_path), ("1.jpg",))
    assert one.interior_margin.shape == (16, 2)
    assert one.caruncle.shape == (7, 2)
    assert one.iris.shape == (32, 2)
    np.testing.assert_allclose(
        one.interior_margin[0], (70 - 0.5, 24 - 0.5), atol=1e-3
    )  # edge 70 ends pixel 69
    np.testing.assert_allclose(one.iris_centre, (43.5, 25.5), atol=1e-3)
    np.testing.assert_allclose(one.gaze, (0.36, -0.48, -0.8), atol=1e-6)  # y upwards in the file, down here
    np.testing.assert_allclose(one.head_pose_deg, (355.077, 203.8451, 0))
    assert one.is_left
    assert not one.is_closed
    assert eye_opening(one) == pytest.approx((14, 30, 34, 70), abs=1e-3)


def test_the_labels_of_unityeyes_are_gaze_or_iris_centre(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "1", iris=(44, 26))
    tree = ImageTree(tmp_path)
    assert detect_label_format(tree) == "unityeyes"
    gaze, iris = read_labels(tree), read_labels(tree, format="unityeyes-iris")
    assert (gaze.kind, gaze.names) == ("value", ("gaze_x", "gaze_y", "gaze_z"))
    assert iris.names == ("iris_x_px", "iris_y_px")
    np.testing.assert_allclose(iris.values, [[43.5, 25.5]], atol=1e-3)


def test_a_left_eye_has_its_caruncle_on_the_left_and_a_right_eye_on_the_right(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "l")
    write_unityeyes(tmp_path, "r", right_eye=True)
    assert read_unityeyes(ImageTree(tmp_path), ("l.jpg",))[0].is_left
    assert not read_unityeyes(ImageTree(tmp_path), ("r.jpg",))[0].is_left
    with pytest.raises(
        LabelError, match=r"1 images show a left eye \(for instance l.jpg\) and 1 a right one"
    ):
        read_labels(ImageTree(tmp_path))


def test_closed_eyes_are_counted(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "open")
    write_unityeyes(tmp_path, "slit", half_height=0.3, iris=(50, 38))
    write_unityeyes(tmp_path, "turned", iris=(85, 30))
    write_unityeyes(tmp_path, "half", half_height=2)
    tree = ImageTree(tmp_path)
    assert count_closed(tree, tree.paths()) == 2
    assert len(read_labels(tree)) == 4  # where the eye looks is known all the same


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {name: value for name, value in document.items() if name != key}


def with_(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("iris_2d"), "keys of a UnityEyes file are missing: iris_2d"),
        (without("eye_details"), "keys of a UnityEyes file are missing: eye_details"),
        (with_(eye_details={"pupil_size": "1"}), "missing: eye_details.look_vec"),
        (with_(eye_details=[]), "eye_details is no object"),
        (with_(head_pose="(1.0, 2.0)"), r"head_pose: 3 numbers in the form .* got '\(1.0, 2.0\)'"),
        (with_(iris_2d=["(1.0, 2.0, 3.0)"]), "iris_2d: a list of at least 3 points"),
        (with_(iris_2d=["(1,5, 2,5, 3,5)"] * 3), "with points as decimal marks"),
        (with_(caruncle_2d=["(1.0, nan, 3.0)"] * 3), "caruncle_2d: 3 numbers"),
        (with_(caruncle_2d=["x"] * 3), "caruncle_2d: 3 numbers"),
        (with_(caruncle_2d=["(a, b, c)"] * 3), "caruncle_2d: 3 numbers"),
        (with_(eye_details={"look_vec": "(0.0, 0.0, -2.0, 0.0)"}), "has length 2, not 1"),
        (with_(eye_details={"look_vec": "(0.6, 0.0, 0.8)"}), "looks away from the camera"),
        (lambda _: [], "a JSON object of UnityEyes is wanted, found list"),
    ],
)
def test_a_faulty_unityeyes_file_is_named_with_its_fault(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    write_unityeyes(tmp_path, "1", document=change(unityeyes_document()))
    with pytest.raises(LabelError, match=message) as caught:
        read_labels(ImageTree(tmp_path, labels="unityeyes"))
    assert "1.json" in str(caught.value)


def test_every_faulty_annotation_is_counted_and_the_next_step_said(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "1")
    write_unityeyes(tmp_path, "2").unlink()
    write_unityeyes(tmp_path, "3").write_text("{")
    write_unityeyes(tmp_path, "4")
    (tmp_path / "4.jpg").write_bytes(b"no image")
    with pytest.raises(LabelError) as caught:
        read_labels(ImageTree(tmp_path))
    text = str(caught.value)
    assert "3 faults" in text
    assert "2.jpg has no annotation: 2.json is missing" in text
    assert "3.json: is no JSON" in text
    assert "4.jpg" in text
    assert "Next: remove these images" in text


def test_an_image_of_another_size_than_its_labels_is_refused_where_it_shows(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "1")
    cv2.imwrite(
        str(tmp_path / "1.jpg"), np.zeros((30, 50, 3), np.uint8)
    )  # half the size, the labels as before
    with pytest.raises(LabelError, match=r"lie outside the image of 30×50 .* another size"):
        read_labels(ImageTree(tmp_path))


def test_other_json_files_are_not_taken_for_unityeyes(tmp_path: Path) -> None:
    write_unityeyes(tmp_path, "1").write_text('{"look_vec": 1}')
    assert detect_label_format(ImageTree(tmp_path)) is None
    (tmp_path / "1.json").unlink()
    assert detect_label_format(ImageTree(tmp_path)) is None


def test_the_official_example_is_read(simgan_data: Path) -> None:
    one = parse_unityeyes((simgan_data / "unityeyes" / "example.json").read_bytes(), (480, 640))
    assert (len(one.interior_margin), len(one.caruncle), len(one.iris)) == (16, 7, 32)
    np.testing.assert_allclose(one.iris[0], (389.0269 - 0.5, 480 - 332.5428 - 0.5))
    np.testing.assert_allclose(one.gaze, (0.3404, -0.3879, -0.8566), atol=1e-4)
    assert one.is_left
    assert not one.is_closed


# ---- SynthesEyes


def test_the_gaze_of_syntheseyes_stands_in_the_name_in_radians(tmp_path: Path) -> None:
    for name in ("f01_122_-0.0000_-0.3927", "m02_7_0.1963_0.5"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8), np.uint8))
    labels = read_labels(ImageTree(tmp_path, labels="syntheseyes"))
    assert labels.names == ("gaze_x", "gaze_y", "gaze_z")
    assert labels.groups == ("f01", "m02")
    np.testing.assert_allclose(labels.values[0], (np.sin(0.3927), 0, -np.cos(0.3927)), atol=1e-12)
    np.testing.assert_allclose(angles_of_vectors(labels.values[1]), (0.1963, 0.5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eye", "eye.png is not called <person>_<number>_<pitch>_<yaw>"),
        ("f01_1_22.5_0.0", "are these degrees?"),
    ],
)
def test_other_names_than_those_of_syntheseyes_are_refused(tmp_path: Path, name: str, message: str) -> None:
    cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(LabelError, match=message):
        read_labels(ImageTree(tmp_path, labels="syntheseyes"))


def test_in_official_syntheseyes_images_the_dark_iris_moves_with_the_gaze(simgan_data: Path) -> None:
    tree = ImageTree(simgan_data / "syntheseyes", labels="syntheseyes")
    gaze = read_labels(tree).values
    column = []
    for path in tree.paths():
        grey = tree.read(path)[24:66, 24:96, :3].astype(float).mean(axis=2)
        dark = grey < np.percentile(grey, 8)
        column.append(np.nonzero(dark)[1].mean())
    assert np.corrcoef(column, gaze[:, 0])[0, 1] > 0.5


# ---- MPIIGaze


def mpiigaze(root: Path) -> dict[str, Any]:
    written = {
        day: write_mpiigaze_day(root, "p00", day, 3, seed=i * 10) for i, day in enumerate(("day01", "day02"))
    }
    write_mpiigaze_day(root, "p01", "day05", 1, seed=99)
    write_evaluation_list(root, "p00", ["day02/0003.jpg right", "day01/0001.jpg left", ""])
    write_evaluation_list(root, "p01", ["day05/0001.jpg left"])
    return written


def test_the_evaluation_subset_of_mpiigaze_is_read_in_the_order_of_its_lists(tmp_path: Path) -> None:
    written = mpiigaze(tmp_path)
    first, second = read_mpiigaze(tmp_path)
    assert first.names == ("p00/day02/0003_right", "p00/day01/0001_left")
    assert first.groups == ("p00", "p00")
    assert second.names == ("p01/day05/0001_left",)
    left, right = written["day01"]["left"], written["day02"]["right"]
    np.testing.assert_array_equal(first.images[1], left["image"][0])
    assert first.gaze is not None
    np.testing.assert_allclose(first.gaze[1], left["gaze"][0])
    # A right eye is mirrored: its image column by column, and x of its gaze.
    np.testing.assert_array_equal(first.images[0], right["image"][2][:, ::-1])
    np.testing.assert_allclose(first.gaze[0], right["gaze"][2] * [-1, 1, 1])


def test_all_of_mpiigaze_is_both_eyes_of_every_photograph(tmp_path: Path) -> None:
    mpiigaze(tmp_path)
    first, second = read_mpiigaze(tmp_path, subset="all")
    assert len(first) == 12
    assert len(second) == 2
    assert first.names[:3] == ("p00/day01/0001_left", "p00/day01/0001_right", "p00/day01/0002_left")
    assert first.images.dtype == np.uint8
    assert first.images.shape == (12, 36, 60)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["day09/0001.jpg left"], "line 1: day09/0001.jpg is in no .mat file"),
        (["day01/0001.jpg left", "day01/0002.jpg both"], "line 2: the side is 'both', wanted left or right"),
        (["0001.jpg left"], "line 1: '0001.jpg left' is not <day>/<file> <side>"),
        ([""], "it is empty"),
    ],
)
def test_a_faulty_line_of_an_evaluation_list_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    write_mpiigaze_day(tmp_path, "p00", "day01", 2)
    write_evaluation_list(tmp_path, "p00", lines)
    with pytest.raises(LabelError, match=message):
        list(read_mpiigaze(tmp_path))


def eyes(**changes: Any) -> dict[str, Any]:
    return {"left": mpiigaze_eye(2), "right": mpiigaze_eye(2, seed=1), **changes}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"left": mpiigaze_eye(2)}, "data.right.image and data.right.gaze missing"),
        (eyes(left={"gaze": np.zeros((2, 3))}), "data.left.image missing"),
        (eyes(left={**mpiigaze_eye(2), "gaze": np.zeros((2, 2))}), r"data.left.gaze is \(2, 2\) of float64"),
        (eyes(left={**mpiigaze_eye(2), "image": np.zeros((2, 36, 60))}), r"left.image is \(2, 36, 60\) of float64"),
        (eyes(right=mpiigaze_eye(3)), "2 left and 3 right images for 2 filenames"),
    ],
)  # fmt: skip
def test_a_mat_file_with_other_fields_is_refused_naming_them(tmp_path: Path, data: Any, message: str) -> None:
    write_mpiigaze_day(tmp_path, "p00", "day01", 2, data=data)
    with pytest.raises(DataError, match=message) as caught:
        list(read_mpiigaze(tmp_path, subset="all"))
    assert "day01.mat" in str(caught.value)


def test_a_mat_file_of_something_else_or_damaged_is_refused(tmp_path: Path) -> None:
    write_mpiigaze_day(tmp_path, "p00", "day01", 1)
    where = tmp_path / "Data" / "Normalized" / "p00" / "day01.mat"
    savemat(where, {"x": 1})
    with pytest.raises(DataError, match="filenames missing"):
        list(read_mpiigaze(tmp_path, subset="all"))
    where.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        list(read_mpiigaze(tmp_path, subset="all"))


def test_gaze_that_is_no_direction_is_refused_with_the_name_of_its_image(tmp_path: Path) -> None:
    eye = mpiigaze_eye(1, gaze=np.array([[0.0, 0.0, 1.0]]))
    write_mpiigaze_day(tmp_path, "p00", "day01", 1, data=eyes(left=eye, right=mpiigaze_eye(1)))
    with pytest.raises(LabelError, match=r"p00/day01/0001_left: the gaze vector .* looks away"):
        list(read_mpiigaze(tmp_path, subset="all"))


def test_a_folder_without_mpiigaze_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no MPIIGaze here: folders Data/Normalized/p00"):
        list(read_mpiigaze(tmp_path))
    (tmp_path / "Data" / "Normalized" / "p00").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no file day01.mat"):
        list(read_mpiigaze(tmp_path))
    write_mpiigaze_day(tmp_path, "p00", "day01", 1)
    with pytest.raises(DataError, match=r"p00.txt: the list of the evaluation subset cannot be read"):
        list(read_mpiigaze(tmp_path))


# ---- the eye-gaze pair


def grey(n: int) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return {f"e{i}": generator.integers(0, 255, (35, 55), dtype=np.uint8) for i in range(n)}


def test_the_synthetic_file_of_the_pair_gives_images_and_gaze_in_the_order_of_the_names(
    tmp_path: Path,
) -> None:
    images = grey(2)
    look = np.array([[0.6, 0.0, -0.8, 0.0], [0.0, 0.6, -0.8, 0.0]], dtype=np.float32)
    read = read_eye_gaze(write_eye_gaze(tmp_path / "gaze.h5", images, look))
    assert read.names == ("e0", "e1")
    np.testing.assert_array_equal(read.images, np.stack(list(images.values())))
    assert read.gaze is not None
    np.testing.assert_allclose(read.gaze, [[0.6, 0, -0.8], [0, -0.6, -0.8]], atol=1e-6)


def test_the_real_file_of_the_pair_has_no_gaze_and_whole_floats_are_levels(tmp_path: Path) -> None:
    images = grey(3)
    images["e2"] = images["e2"].astype(np.float64)
    read = read_eye_gaze(write_eye_gaze(tmp_path / "real_gaze.h5", images))
    assert read.gaze is None
    np.testing.assert_array_equal(read.images[2], images["e2"])
    assert read.images.dtype == np.uint8


@pytest.mark.parametrize(
    ("images", "look", "message"),
    [
        ({}, None, "a group 'image' with one data set for each eye is wanted"),
        ({"a": np.zeros((2, 2, 3), np.uint8)}, None, "1 of 1 data sets in 'image' are no grey image"),
        ({"a": np.full((2, 2), 0.5)}, None, "no grey image"),
        ({"a": np.zeros((2, 2), np.uint8), "b": np.zeros((2, 3), np.uint8)}, None, "found 2 sizes"),
        (
            {"a": np.zeros((2, 2), np.uint8)},
            np.zeros((2, 3)),
            r"look_vec is \(2, 3\) of float64, wanted are 3 or 4",
        ),
        ({"a": np.zeros((2, 2), np.uint8)}, np.array([[0.0, 0.0, 1.0]]), "a: the gaze vector .* looks away"),
    ],
)
def test_a_file_that_is_none_of_the_pair_is_refused(
    tmp_path: Path, images: dict[str, Any], look: Any, message: str
) -> None:
    with pytest.raises((DataError, LabelError), match=message):
        read_eye_gaze(write_eye_gaze(tmp_path / "x.h5", images, look))


def test_a_file_that_is_no_hdf5_is_refused_and_h5py_is_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.h5").write_bytes(b"no")
    with pytest.raises(DataError, match=r"x.h5: cannot be read as an HDF5 file"):
        read_eye_gaze(tmp_path / "x.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"simgan\[hdf5\]"):
        read_eye_gaze(tmp_path / "x.h5")


# ---- class masks


def test_opening_and_iris_follow_from_a_mask(tmp_path: Path) -> None:
    shape = shape_of_mask(eye_mask(left=10, top=10, width=40, height=20, iris=(34, 18)))
    assert shape is not None
    assert (shape.top, shape.left, shape.bottom, shape.right, shape.width) == (10, 10, 30, 50, 40)
    # Iris pixels 30..37 and 14..21: centres 33.5 and 17.5.
    assert (shape.iris_x, shape.iris_y) == (33.5, 17.5)
    # The middle of the opening is the edge 30, 20; the iris lies 4 px right of it and 2 px up, of 40 px.
    assert shape.relative_iris() == (0.1, -0.05)


def test_the_iris_centre_is_the_same_in_any_crop_and_scale(tmp_path: Path) -> None:
    mask = eye_mask(iris=(34, 18))
    write_masked_eye(tmp_path, "a", mask)
    write_masked_eye(tmp_path, "b", np.kron(mask[5:, 5:], np.ones((2, 2), np.uint8)), channels=3)
    labels = read_labels(ImageTree(tmp_path, "images/*", labels="eye-masks"))
    assert labels.names == ("iris_x_widths", "iris_y_widths")
    np.testing.assert_allclose(labels.values, [[0.1, -0.05]] * 2)


def test_a_few_stray_values_are_skin_and_many_are_no_mask(tmp_path: Path) -> None:
    mask = eye_mask()
    mask[0, :10] = 4
    write_masked_eye(tmp_path, "few", mask)
    read = read_mask(tmp_path / "masks" / "few.png")
    assert (read[0] == 0).all()
    assert set(np.unique(read)) == {0, 1, 2, 3}
    write_masked_eye(tmp_path, "many", np.where(mask > 0, 255, 0).astype(np.uint8))
    with pytest.raises(
        LabelError, match=r"34% of the pixels have values that are no class \(255\); wanted are 0 skin"
    ):
        read_mask(tmp_path / "masks" / "many.png")


def test_pictures_and_16_bit_files_are_no_masks(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "colour.png"), np.full((4, 4, 3), (0, 1, 2), np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((4, 4), np.uint16))
    with pytest.raises(LabelError, match="channels differ"):
        read_mask(tmp_path / "colour.png")
    with pytest.raises(LabelError, match="a mask of 8 bit is wanted, got uint16"):
        read_mask(tmp_path / "deep.png")


def test_closed_eyes_are_counted_and_have_no_iris_label(tmp_path: Path) -> None:
    write_masked_eye(tmp_path, "open", eye_mask())
    write_masked_eye(tmp_path, "closed", eye_mask(iris=None))
    write_masked_eye(tmp_path, "skin", np.zeros((40, 60), np.uint8))
    with pytest.raises(LabelError) as caught:
        read_labels(ImageTree(tmp_path, "images/*", labels="eye-masks"))
    text = str(caught.value)
    assert "2 faults" in text
    assert "closed.png shows a closed eye" in text
    assert "skin.png shows a closed eye" in text


def test_a_missing_mask_one_of_another_size_and_a_strange_place_are_named(tmp_path: Path) -> None:
    write_masked_eye(tmp_path, "a", eye_mask())
    write_masked_eye(tmp_path, "b", eye_mask())
    (tmp_path / "masks" / "a.png").unlink()
    cv2.imwrite(str(tmp_path / "masks" / "b.png"), np.zeros((4, 4), np.uint8))
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((4, 4), np.uint8))
    (tmp_path / "masks" / "b.json").write_text(json.dumps({}))
    with pytest.raises(LabelError) as caught:
        read_labels(ImageTree(tmp_path), ("images/a.png", "images/b.png", "c.png"), "eye-masks")
    text = str(caught.value)
    assert "images/a.png has no mask: masks/a.png is missing" in text
    assert "masks/b.png is 4×4 (height×width), its image 40×60" in text
    assert "c.png lies in no folder called 'images'" in text


def test_the_mask_of_an_image_lies_in_the_folder_masks_beside_images() -> None:
    assert mask_path("p1/images/left/7.jpg") == "p1/masks/left/7.png"
    assert mask_path("images/images/7.jpg") == "images/masks/7.png"


def test_the_masks_of_real_and_rendered_eyes_are_read(simgan_data: Path) -> None:
    for side, name in (("real", "r0.jpg"), ("synthetic", "100.jpg")):
        tree = ImageTree(simgan_data / "eyes" / side, "images/*", labels="eye-masks")
        x, y = read_labels(tree, (f"images/{name}",)).values[0]
        assert abs(x) < 0.5
        assert abs(y) < 0.5
