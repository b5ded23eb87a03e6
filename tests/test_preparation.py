from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgan.data.output_folder as output_folder
import simgan.preparation.journal as journal_module
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, LabelError, OutputError
from simgan.images import read_image, write_image
from simgan.preparation import LABEL_MOVERS, CenterCrop, LabelFile, MovedLabels, Movement, Movements, prepare

Array = np.ndarray[Any, Any]


def blob(height: int, width: int, x: float, y: float, sigma: float = 3.0) -> Array:
    """A bright Gaussian dot with its centre at the point (x, y), pixel centres at whole numbers."""
    rows, columns = np.mgrid[:height, :width]
    value = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.rint(value).astype(np.uint8)[..., None]


def centroid(image: Array) -> tuple[float, float]:
    weight = image[..., 0].astype(float)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((weight * columns).sum() / weight.sum()), float((weight * rows).sum() / weight.sum())


def movement(
    size: tuple[int, int],
    crop: tuple[int, int, int, int] | CenterCrop | None = None,
    new_size: tuple[int, int] | None = None,
) -> Movement:
    return Movements({"a": size}, crop, new_size)["a"]


def tree_with(root: Path, files: dict[str, Array | bytes | str], **options: Any) -> ImageTree:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            write_image(root / path, content)
        else:
            (root / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return ImageTree(root, **options)


def grey(height: int = 8, width: int = 8, value: int = 7) -> Array:
    return np.full((height, width, 1), value, np.uint8)


def everything_below(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# ---- the movement of points, pixels, masks


def test_points_and_edges_move_by_the_rule_worked_by_hand() -> None:
    half = movement((100, 200), (10, 20, 40, 80), (20, 40))  # scale 1/2
    assert half.point_x(20) == -0.25  # the first two columns, centres 20 and 21, become the new column 0
    assert half.point_x(21) == 0.25
    assert half.point_y(49) == 19.25
    assert half.edge_x(20) == 0
    assert half.edge_y(50) == 20
    double = movement((10, 10), None, (20, 20))
    assert double.point_x(0) == 0.5
    assert double.edge_x(1) == 2


def test_a_center_crop_takes_the_middle_and_cuts_the_odd_pixel_at_the_end() -> None:
    assert movement((11, 21), CenterCrop(6, 10)) == Movement(11, 21, 2, 5, 6, 10, 6, 10)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_dot_and_its_label_move_to_the_same_place(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(40, 70)), data.draw(st.integers(40, 70))
    crop_height, crop_width = data.draw(st.integers(36, height)), data.draw(st.integers(36, width))
    top, left = data.draw(st.integers(0, height - crop_height)), data.draw(st.integers(0, width - crop_width))
    new_size = (data.draw(st.integers(12, 110)), data.draw(st.integers(12, 110)))
    x = left + data.draw(st.floats(14, crop_width - 15))
    y = top + data.draw(st.floats(14, crop_height - 15))
    moved = movement((height, width), (top, left, crop_height, crop_width), new_size)
    found = centroid(moved.image(blob(height, width, x, y)))
    assert found == pytest.approx((moved.point_x(x), moved.point_y(y)), abs=0.1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_mask_and_image_agree_wherever_the_image_is_not_a_mixture(data: st.DataObject) -> None:
    side = st.integers(5, 30)
    height, width, new_height, new_width = (data.draw(side) for _ in range(4))
    seed = data.draw(st.integers(0, 99))
    mask = (np.random.default_rng(seed).random((height, width, 1)) < 0.5).astype(np.uint8)
    moved = movement((height, width), None, (new_height, new_width))
    image, new_mask = moved.image(mask * 255), moved.mask(mask)
    assert new_mask.shape == image.shape == (new_height, new_width, 1)
    assert (new_mask[image == 255] == 1).all()
    assert (new_mask[image == 0] == 0).all()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_crop_then_a_resize_is_both_at_once(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    crop = (data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9)), 20, 30)
    new_size = (data.draw(st.integers(3, 50)), data.draw(st.integers(3, 50)))
    image = rng.integers(0, 65536, (29, 39, 3), np.uint16)
    both, first, second = (
        movement((29, 39), crop, new_size),
        movement((29, 39), crop),
        movement((20, 30), None, new_size),
    )
    np.testing.assert_array_equal(both.image(image), second.image(first.image(image)))
    np.testing.assert_array_equal(both.mask(image), second.mask(first.mask(image)))
    assert both.point_x(3.7) == pytest.approx(second.point_x(first.point_x(3.7)))
    assert both.edge_y(-2.1) == pytest.approx(second.edge_y(first.edge_y(-2.1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_shrunk_image_holds_the_averages_of_its_areas(dtype: type, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (8, 12, channels), dtype)
    shrunk = movement((8, 12), None, (4, 4)).image(image)
    expected = image.reshape(4, 2, 4, 3, channels).mean(axis=(1, 3))
    assert shrunk.dtype == dtype
    np.testing.assert_allclose(shrunk, expected, atol=0.51)


def test_an_axis_that_shrinks_is_averaged_though_the_other_grows() -> None:
    image = np.zeros((8, 2, 1), np.uint8)
    image[::4] = 200  # a pattern that interpolation between two neighbours would miss
    moved = movement((8, 2), None, (2, 8)).image(image)
    np.testing.assert_array_equal(moved, np.full((2, 8, 1), 50, np.uint8))


def test_the_middle_of_a_shrunk_mask_is_its_nearest_pixel() -> None:
    mask = np.arange(9, dtype=np.uint8)[None, :, None]
    np.testing.assert_array_equal(movement((1, 9), None, (1, 3)).mask(mask)[0, :, 0], [1, 4, 7])
    np.testing.assert_array_equal(
        movement((1, 3), None, (1, 6)).mask(mask[:, :3])[0, :, 0], [0, 0, 1, 1, 2, 2]
    )


def test_invalid_pixels_are_kept_out_of_averages() -> None:
    depth = np.array([[1000, 1002, 0, 0], [1004, 0, 0, 900]], np.uint16)[..., None]
    shrink = movement((2, 4), None, (1, 2))
    np.testing.assert_array_equal(shrink.image(depth, invalid=0)[0, :, 0], [1002, 0])
    np.testing.assert_array_equal(
        shrink.image(depth)[0, :, 0], [752, 225]
    )  # what would come of not saying so
    grown = movement((2, 4), None, (8, 16)).image(depth, invalid=0)
    assert set(np.unique(grown)) - {0} <= set(range(900, 1005))


# ---- arguments


@pytest.mark.parametrize(
    ("crop", "size", "expected"),
    [
        ((0, 0, 0, 5), None, "crop: .*got \\(0, 0, 0, 5\\)"),
        ((-1, 0, 5, 5), None, "crop"),
        ((0, 0, 5), None, "crop"),
        ((0, 0, 5, 2.5), None, "crop"),
        (CenterCrop(0, 3), None, "crop"),
        (None, (0, 3), "size"),
        (None, (3,), "size"),
        ((0, 0, 0, 1), (0, 0), "2 faults"),
    ],
)
def test_a_crop_or_size_that_is_none_is_refused(crop: Any, size: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        Movements({"a": (8, 8)}, crop, size)


def test_a_size_of_more_pixels_than_an_image_may_have_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    tree = tree_with(tmp_path / "in", {"a.png": grey()})
    with pytest.raises(
        ConfigurationError, match=r"size: at most 268,435,456 pixels are wanted, 16,385×16,384"
    ):
        prepare(tree, tmp_path / "out", size=(2**14 + 1, 2**14))
    assert not (tmp_path / "out").exists()
    assert movement((8, 8), new_size=(2**14, 2**14)).new_height == 2**14


@pytest.mark.parametrize("crop", [(0, 0, 9, 8), (0, 3, 8, 6), CenterCrop(8, 9)])
def test_a_crop_outside_an_image_names_the_image_and_its_size(crop: Any) -> None:
    with pytest.raises(DataError, match=r"1 of 2 images.*small\.png is 8×8"):
        Movements({"small.png": (8, 8), "large.png": (20, 20)}, crop)


def test_movements_are_a_mapping_over_the_images() -> None:
    movements = Movements({"a/1.png": (8, 8), "b/1.png": (8, 9)}, [0, 0, 4, 4])  # type: ignore[arg-type]
    assert list(movements) == ["a/1.png", "b/1.png"]
    assert len(movements) == 2
    assert movements["b/1.png"].width == 9
    assert movements.with_stem("1") == ["a/1.png", "b/1.png"]


# ---- labels.csv


def test_columns_in_pixels_move_and_all_else_is_carried(tmp_path: Path) -> None:
    csv = (
        "image,pupil_x_px,pupil_y_px,x_px,radius_px,yaw_deg,note\n"
        'a.png,20,10,,4,0.10,"kept, as is"\n'
        "other.txt,20,10,5,4,0.2,not an image\n"
    )
    tree = tree_with(tmp_path / "in", {"a.png": grey(40, 60), "labels.csv": csv, "other.txt": "x"})
    report = prepare(tree, tmp_path / "out", crop=(10, 20, 20, 40), size=(10, 20))
    assert (tmp_path / "out/labels.csv").read_text() == (
        "image,pupil_x_px,pupil_y_px,x_px,radius_px,yaw_deg,note\n"
        'a.png,-0.25,-0.25,,2,0.10,"kept, as is"\n'
        "other.txt,20,10,5,4,0.2,not an image\n"
    )
    assert report.label_files == ("labels.csv",)


def test_rows_of_images_that_stay_as_they_are_are_not_touched(tmp_path: Path) -> None:
    csv = "path,x_px\na.png,3.50\nb.png,3.50\n"
    tree = tree_with(tmp_path / "in", {"a.png": grey(4, 4), "b.png": grey(8, 8), "labels.csv": csv})
    prepare(tree, tmp_path / "out", size=(4, 4))
    assert (tmp_path / "out/labels.csv").read_text() == "path,x_px\na.png,3.50\nb.png,1.5\n"


def test_a_table_without_pixel_columns_is_carried_byte_for_byte(tmp_path: Path) -> None:
    csv = b'\xef\xbb\xbfpath,"class"\r\n\r\na.png, "x" \r\n'.replace(b'"x"', b"x")
    tree = tree_with(tmp_path / "in", {"a.png": grey(), "labels.csv": csv})
    prepare(tree, tmp_path / "out", size=(4, 4))
    assert (tmp_path / "out/labels.csv").read_bytes() == csv


def test_byte_order_mark_and_windows_lines_survive_moving(tmp_path: Path) -> None:
    csv = b"\xef\xbb\xbfpath,x_px\r\na.png,3\r\n"
    tree = tree_with(tmp_path / "in", {"a.png": grey(), "labels.csv": csv})
    prepare(tree, tmp_path / "out", crop=(0, 1, 8, 4))
    assert (tmp_path / "out/labels.csv").read_bytes() == b"\xef\xbb\xbfpath,x_px\r\na.png,2\r\n"


@pytest.mark.parametrize(
    ("csv", "expected"),
    [
        ("path,r_px\na.png,4\n", "line 2: r_px is a length without a direction, and 8×8 to 4×8"),
        ("path,x_px\na.png,left\n", "line 2: x_px is 'left', not a finite number"),
        ("path,x_px\na.png,inf\n", "line 2: x_px is 'inf', not a finite number"),
        ("path,x_px\nb.png,1\n", "line 2: 'b.png' is not in the tree"),
        ("path,x_px\n../a.png,1\n", "leaves the tree"),
        ("path,x_px\na.png\n", "line 2: 1 columns"),
        ("path,class\nb.png,1\n", "line 2: 'b.png' is not in the tree"),
        ("path,class\n/a.png,1\n", "leaves the tree"),
    ],
)
def test_a_fault_in_labels_csv_is_named_before_anything_is_written(
    tmp_path: Path, csv: str, expected: str
) -> None:
    tree = tree_with(tmp_path / "in", {"a.png": grey(), "labels.csv": csv})
    with pytest.raises(LabelError) as caught:
        prepare(tree, tmp_path / "out", size=(4, 8))
    assert expected in str(caught.value)
    assert "labels.csv" in str(caught.value)
    assert not (tmp_path / "out").exists()


# ---- the tree


def test_the_prepared_tree_has_the_same_names_and_carries_other_files_byte_for_byte(tmp_path: Path) -> None:
    files: dict[str, Array | bytes | str] = {
        "images/a.png": grey(8, 8),
        "images/deep/b.tif": np.full((9, 9, 3), 60000, np.uint16),
        "images/c.jpg": np.full((8, 8, 3), 99, np.uint8),
        "LICENCE.txt": b"\r\n\x00\xff",
        "notes/readme.md": "hello",
        "labels.csv": "path,class\nimages/a.png,1\n",
        ".hidden": "h",
    }
    tree = tree_with(tmp_path / "in", files, images="images/**/*", labels="csv")
    before = everything_below(tmp_path / "in")
    calls: list[tuple[int, int]] = []
    report = prepare(tree, tmp_path / "out", size=(4, 6), progress=lambda *call: calls.append(call))
    after = everything_below(tmp_path / "out")
    assert set(after) == set(before) | {".simgan-prepare.json"}
    for path in ("LICENCE.txt", "notes/readme.md", "labels.csv", ".hidden"):
        assert after[path] == before[path]
    assert everything_below(tmp_path / "in") == before
    assert report.tree == replace(tree, root=tmp_path / "out")
    for path in report.tree.paths():
        assert report.tree.read(path).shape[:2] == (4, 6)
        assert report.tree.read(path).dtype == tree.read(path).dtype
    assert (report.n_images, report.n_carried, report.n_masks, report.n_skipped) == (3, 3, 0, 0)
    assert calls == [(i, 7) for i in range(1, 8)]


def test_an_image_that_stays_as_it_is_is_copied_not_encoded_again(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    tree = tree_with(tmp_path / "in", {"a.jpg": noise, "b.jpg": np.zeros((9, 8, 3), np.uint8)})
    prepare(tree, tmp_path / "out", crop=CenterCrop(8, 8))
    assert (tmp_path / "out/a.jpg").read_bytes() == (tmp_path / "in/a.jpg").read_bytes()
    assert read_image(tmp_path / "out/b.jpg").shape == (8, 8, 3)


def test_the_invalid_value_reaches_the_images(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"a.png": np.array([[[0], [900]]], np.uint16)})
    prepare(tree, tmp_path / "out", size=(1, 1), invalid=0)
    assert read_image(tmp_path / "out/a.png").tolist() == [[[900]]]


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_image_mask_table_and_coco_agree_after_preparation(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("trees")
    x, y = data.draw(st.floats(30, 40)), data.draw(st.floats(28, 34))
    crop = (data.draw(st.integers(0, 10)), data.draw(st.integers(0, 12)), 50, 56)
    size = (data.draw(st.integers(20, 90)), data.draw(st.integers(20, 90)))
    image = blob(62, 70, x, y)
    left, top, width, height = round(x) - 9, round(y) - 8, 20, 15
    mask = np.zeros_like(image)
    mask[top : top + height, left : left + width] = 2
    coco = {
        "images": [{"id": 5, "file_name": "1.png", "width": 70, "height": 62}],
        "annotations": [{"id": 1, "image_id": 5, "bbox": [left, top, width, height], "keypoints": [x, y, 2]}],
    }
    tree = tree_with(
        root / "in",
        {
            "images/1.png": image,
            "masks/1.png": mask,
            "labels.csv": f"path,pupil_x_px,pupil_y_px\nimages/1.png,{x!r},{y!r}\n",
            "coco.json": json.dumps(coco),
        },
        images="images/*.png",
    )
    prepare(tree, root / "out", crop=crop, size=size, masks="masks/*.png")
    found = centroid(read_image(root / "out/images/1.png"))
    table = [float(v) for v in (root / "out/labels.csv").read_text().split("\n")[1].split(",")[1:]]
    (annotation,) = json.loads((root / "out/coco.json").read_text())["annotations"]
    new_mask = read_image(root / "out/masks/1.png")
    assert set(np.unique(new_mask)) == {0, 2}
    assert table == pytest.approx(found, abs=0.1)
    assert annotation["keypoints"][:2] == pytest.approx(found, abs=0.1)
    rows, columns = np.nonzero(new_mask[..., 0])
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    left, top, width, height = annotation["bbox"]
    assert edges == pytest.approx([left, top, left + width, top + height], abs=0.501)


def test_two_preparations_in_a_row_are_one(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    csv = "path,x_px,y_px\na.png,13.3,9\n"
    tree = tree_with(tmp_path / "in", {"a.png": noise, "labels.csv": csv})
    once = prepare(tree, tmp_path / "once", crop=(2, 4, 20, 30), size=(10, 10)).tree
    cropped = prepare(tree, tmp_path / "cropped", crop=(2, 4, 20, 30)).tree
    twice = prepare(cropped, tmp_path / "twice", size=(10, 10)).tree
    np.testing.assert_array_equal(once.read("a.png"), twice.read("a.png"))
    assert (tmp_path / "once/labels.csv").read_text() == (tmp_path / "twice/labels.csv").read_text()


# ---- masks


def test_masks_find_their_image_by_path_or_by_a_name_that_is_unique(tmp_path: Path) -> None:
    files: dict[str, Array | bytes | str] = {
        "images/left/1.png": grey(8, 8),
        "images/right/1.png": grey(9, 9),
        "images/right/2.png": grey(10, 10),
        "masks/left/1.png": grey(8, 8, 1),
        "masks/right/1.bmp": grey(9, 9, 1),
        "masks/elsewhere/2.png": grey(10, 10, 1),
    }
    tree = tree_with(tmp_path / "in", files, images="images/**/*")
    report = prepare(tree, tmp_path / "out", crop=CenterCrop(4, 4), masks="masks/**/*")
    assert (report.n_masks, report.n_carried) == (3, 0)
    for path in files:
        assert read_image(tmp_path / "out" / path).shape == (4, 4, 1)


@pytest.mark.parametrize(
    ("mask", "content", "expected"),
    [
        ("masks/2.png", grey(8, 8), "masks/2.png has no image of its name"),
        ("masks/1.png", grey(8, 9), "masks/1.png is 8×9 (height×width), its image 8×8"),
        ("masks/1.jpg", grey(8, 8), "masks/1.jpg is stored lossily"),
        ("masks/1.png", b"not an image", "not an image in a supported format"),
    ],
)
def test_a_mask_that_cannot_be_moved_is_named(tmp_path: Path, mask: str, content: Any, expected: str) -> None:
    tree = tree_with(tmp_path / "in", {"images/1.png": grey(8, 8), mask: content}, images="images/*")
    with pytest.raises(LabelError) as caught:
        prepare(tree, tmp_path / "out", size=(4, 4), masks="masks/*")
    assert expected in str(caught.value)
    assert "1 of 1 masks" in str(caught.value)


def test_a_mask_whose_name_is_that_of_two_images_is_refused(tmp_path: Path) -> None:
    files: dict[str, Array | bytes | str] = {f"images/{side}/1.png": grey() for side in "lr"}
    tree = tree_with(tmp_path / "in", {**files, "masks/1.png": grey()}, images="images/**/*")
    with pytest.raises(LabelError, match=r"masks/1\.png has no image"):
        prepare(tree, tmp_path / "out", size=(4, 4), masks="masks/*")


def test_a_pattern_of_masks_that_takes_in_images_is_refused(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey(), "1_m.png": grey()})
    with pytest.raises(DataError, match="narrow the images pattern"):
        prepare(tree, tmp_path / "out", size=(4, 4), masks="*_m.png")


# ---- what nobody can move


@pytest.mark.parametrize(
    "path", ["images/1.json", "labels/1.txt", "1.xml", "masks/1.png", "points.csv", "1.npy", "1"]
)
def test_a_file_that_may_hold_places_in_an_image_is_refused_unless_carried_on_purpose(
    tmp_path: Path, path: str
) -> None:
    content = "name,x_px\n1,2\n" if path.endswith("csv") else "{}"
    tree = tree_with(tmp_path / "in", {"images/1.png": grey(), path: content}, images="images/*")
    with pytest.raises(LabelError) as caught:
        prepare(tree, tmp_path / "out", size=(4, 4))
    assert f"- {path}" in str(caught.value)
    assert "carry_unknown" in str(caught.value)
    report = prepare(tree, tmp_path / "out", size=(4, 4), carry_unknown=True)
    assert report.carried_unknown == (path,)
    assert (tmp_path / "out" / path).read_text() == content


def test_a_newcomer_moves_a_format_by_adding_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def move(file: LabelFile, movements: Movements) -> MovedLabels | None:
        if not file.path.endswith(".pt"):
            return None
        moved = movements[file.path.replace(".pt", ".png")].point_x(float(file.data))
        return MovedLabels(str(moved).encode(), ("one was lost",))

    monkeypatch.setitem(LABEL_MOVERS, "pt", move)
    tree = tree_with(tmp_path / "in", {"1.png": grey(), "1.pt": "5"})
    report = prepare(tree, tmp_path / "out", crop=(0, 3, 4, 4))
    assert (tmp_path / "out/1.pt").read_text() == "2.0"
    assert report.dropped == ("one was lost",)


def test_images_that_cannot_be_read_are_all_named_before_anything_is_written(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey(), "2.png": b"", "3.png": b"oops"})
    with pytest.raises(DataError) as caught:
        prepare(tree, tmp_path / "out", size=(4, 4))
    assert "2 of 3 images" in str(caught.value)
    assert "2.png" in str(caught.value)
    assert "3.png" in str(caught.value)
    assert not (tmp_path / "out").exists()


# ---- where it is written


@pytest.mark.parametrize("out", ["in", "in/out", ".", "link/out"])
def test_the_prepared_tree_must_lie_apart_from_the_original(tmp_path: Path, out: str) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(OutputError, match="the prepared tree must lie outside"):
        prepare(tree, tmp_path / out, size=(4, 4))


@pytest.mark.parametrize("there", ["out/old.txt", "out"])
def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, there: str) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    tree_with(tmp_path, {there: "mine"})
    with pytest.raises(OutputError, match="empty"):
        prepare(tree, tmp_path / "out", size=(4, 4))
    assert everything_below(tmp_path / "in").keys() == {"1.png"}
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("journal", ["{", "[" * 100_000, "[]"])
def test_a_folder_with_a_damaged_journal_is_refused(tmp_path: Path, journal: str) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    tree_with(tmp_path, {f"out/{journal_module.JOURNAL}": journal})
    with pytest.raises(OutputError, match="the folder is not empty"):
        prepare(tree, tmp_path / "out", size=(4, 4))


def test_the_same_command_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {f"{i}.png": grey(8, 8, i) for i in range(5)})
    out = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tree, out, size=(4, 4), progress=stop)
    (out / ".0123456789abcdef.tmp").write_bytes(b"half a file")
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(stamps) == 2
    report = prepare(tree, out, size=(4, 4))
    assert report.n_skipped == 2
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert everything_below(out).keys() == {*(f"{i}.png" for i in range(5)), ".simgan-prepare.json"}
    assert prepare(tree, out, size=(4, 4)).n_skipped == 5


def test_another_command_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    prepare(tree, tmp_path / "out", crop=CenterCrop(6, 6))
    with pytest.raises(
        OutputError,
        match=r"another preparation \(crop was .*\"height\": 6.*now null; size was null, now \[4, 4\]",
    ):
        prepare(tree, tmp_path / "out", size=(4, 4))


def test_a_changed_original_is_noticed(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    prepare(tree, tmp_path / "out", size=(4, 4))
    write_image(tmp_path / "in/1.png", grey(9, 9))
    with pytest.raises(OutputError, match="files of the original tree changed"):
        prepare(tree, tmp_path / "out", size=(4, 4))


def test_files_that_stay_as_they_are_keep_their_time_of_change(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey(4, 4), "notes.txt": "x"})
    for path in ("1.png", "notes.txt"):
        os.utime(tmp_path / "in" / path, ns=(10**18, 10**18))
    prepare(tree, tmp_path / "out", size=(4, 4))
    assert {(tmp_path / "out" / path).stat().st_mtime_ns for path in ("1.png", "notes.txt")} == {10**18}


def test_the_journal_of_one_preparation_is_not_carried_into_the_next(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    first = prepare(tree, tmp_path / "first", size=(4, 4))
    assert prepare(first.tree, tmp_path / "second", size=(2, 2)).n_carried == 0
    assert json.loads((tmp_path / "second/.simgan-prepare.json").read_text())["size"] == [2, 2]


@pytest.mark.parametrize("what", ["copy", "mkdir", "unlink"])
def test_a_disk_that_refuses_is_an_output_error_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey(), "notes.txt": "n" * 100})
    out = tmp_path / "out"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if what == "copy":
            patch.setattr(output_folder.shutil, "copyfileobj", refuse)
        elif what == "mkdir":
            patch.setattr(Path, "mkdir", refuse)
        else:
            prepare(tree, out, size=(4, 4))
            (out / ".0123456789abcdef.tmp").write_bytes(b"")
            patch.setattr(Path, "unlink", refuse)
        with pytest.raises(OutputError, match=r"No space left on device.*it continues"):
            prepare(tree, out, size=(4, 4))
    if what != "unlink":
        assert not list(out.glob("*.t*"))
    assert prepare(tree, out, size=(4, 4)).n_images == 1
    assert (out / "notes.txt").read_text() == "n" * 100


def test_a_place_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare(tree, tmp_path / "file/out", size=(4, 4))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_an_output_error(tmp_path: Path) -> None:
    tree = tree_with(tmp_path / "in", {"1.png": grey()})
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        prepare(tree, tmp_path / "locked/out", size=(4, 4))


def test_files_that_vanish_while_being_prepared_are_data_errors(tmp_path: Path) -> None:
    tree = tree_with(
        tmp_path / "in", {"1.png": grey(), "a.txt": "", "b.txt": "", "labels.csv": "path,x_px\n1.png,2\n"}
    )

    def remove(done: int, total: int) -> None:
        (tmp_path / "in/b.txt").unlink(missing_ok=True)

    (tmp_path / "in/labels.csv").write_text("path,x_px\n1.png,2\n")
    with pytest.raises(DataError, match=r"b\.txt: cannot be read"):
        prepare(tree, tmp_path / "out", size=(4, 4), progress=remove)
    with pytest.raises(DataError, match="changed while it was being read"):
        journal_module.listing_sha256(tmp_path / "in", ["b.txt"])
    with pytest.raises(LabelError, match="cannot be read"):
        _ = LabelFile(tmp_path / "in", "b.txt").data


def test_labels_that_change_format_while_being_prepared_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([MovedLabels(b""), None])
    monkeypatch.setitem(LABEL_MOVERS, "csv", lambda file, movements: next(answers))
    tree = tree_with(tmp_path / "in", {"1.png": grey(), "a.txt": ""})
    with pytest.raises(LabelError, match="changed while it was being prepared"):
        prepare(tree, tmp_path / "out", size=(4, 4))


# ---- real data


def test_real_renders_and_their_masks_are_prepared_together(tmp_path: Path) -> None:
    data = os.environ.get("SIMGAN_DATA")
    if not data:
        pytest.skip("SIMGAN_DATA is not set: no real data here")
    source = Path(data) / "eyes/synthetic"
    masks = sorted((source / "masks").iterdir())[:3]
    for mask in masks:
        image = next(p for p in source.rglob(f"{mask.stem}.*") if p.parent != mask.parent)
        for path in (mask, image):
            target = tmp_path / "in" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    tree = ImageTree(tmp_path / "in", images="images/*")
    report = prepare(tree, tmp_path / "out", crop=CenterCrop(200, 300), size=(36, 54), masks="masks/*")
    assert report.n_masks == 3
    for mask in masks:
        classes = set(np.unique(read_image(tmp_path / "out/masks" / mask.name)))
        assert classes <= set(np.unique(read_image(mask)))
