from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle

from simgan.errors import LabelError
from simgan.preparation import LabelFile, MovedLabels, Movement, Movements
from simgan.preparation.coco import move_annotation, move_coco
from simgan.preparation.rle import compress_counts, decode_runs, decompress_counts, encode_runs

# pycocotools 2 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CROP = (10, 20, 40, 80)  # top, left, height, width of an image of 100 × 200
HALF = (20, 40)


def movement(crop: Any = CROP, size: Any = HALF) -> Movement:
    return Movements({"a": (100, 200)}, crop, size)["a"]


def moved(annotation: dict[str, Any], crop: Any = CROP, size: Any = HALF) -> dict[str, Any]:
    result = move_annotation(annotation, movement(crop, size))
    assert result is not None
    return result


def bits(seed: int, height: int, width: int) -> Any:
    rng = np.random.default_rng(seed)
    mask = (rng.random((height, width)) < rng.choice([0.02, 0.5, 0.98])).astype(np.uint8)
    return np.asfortranarray(mask)


masks = st.builds(bits, st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))


# ---- run lengths, with pycocotools as the oracle


@given(masks)
@settings(deadline=None)
def test_compressed_run_lengths_are_those_of_the_reference(mask: Any) -> None:
    reference = oracle.encode(mask)["counts"].decode()
    assert compress_counts(encode_runs(mask)) == reference
    np.testing.assert_array_equal(decode_runs(decompress_counts(reference), *mask.shape), mask)


def test_very_long_runs_are_compressed_as_the_reference_does() -> None:
    mask = np.zeros((3000, 2000), np.uint8, order="F")
    mask[5:2900, 1990] = 1
    mask[0, 1999] = 1
    reference = oracle.encode(mask)["counts"].decode()
    assert compress_counts(encode_runs(mask)) == reference
    assert decompress_counts(reference) == encode_runs(mask)


def test_run_lengths_begin_with_zeros_and_go_down_the_columns() -> None:
    mask = np.array([[1, 0], [1, 1]], np.uint8)
    assert encode_runs(mask) == [0, 2, 1, 1]
    assert encode_runs(np.zeros((2, 2))) == [4]
    np.testing.assert_array_equal(decode_runs([0, 2, 1, 1], 2, 2), mask)


@pytest.mark.parametrize("counts", [[3], [5], [-1, 5], [1.5, 2.5], [True, 3], ["4"], []])
def test_run_lengths_that_do_not_fill_the_image_are_refused(counts: Any) -> None:
    with pytest.raises(LabelError, match="2 × 2"):
        decode_runs(counts, 2, 2)


@pytest.mark.parametrize("text", ["\x00", "é", "o" * 20 + "0", "Po"])
def test_damaged_compressed_run_lengths_are_refused(text: str) -> None:
    with pytest.raises(LabelError, match="damaged"):
        decompress_counts(text)


# ---- one annotation, worked by hand


def test_boxes_move_as_edges_and_are_cut_at_the_crop() -> None:
    assert moved({"bbox": [24, 12, 10, 20]})["bbox"] == [2, 1, 5, 10]
    assert moved({"bbox": [10, 40, 20, 20]})["bbox"] == [0, 15, 5, 5]
    assert moved({"bbox": [24, 12, 5, 5]})["bbox"] == [2, 1, 2.5, 2.5]


@pytest.mark.parametrize("box", [[0, 20, 20, 5], [100, 20, 5, 5], [30, 0, 5, 10], [30, 50, 5, 5]])
def test_a_box_wholly_outside_the_crop_is_dropped(box: list[int]) -> None:
    assert move_annotation({"bbox": box}, movement()) is None


def test_without_a_crop_nothing_is_cut_or_dropped() -> None:
    annotation = {"bbox": [-10, 0, 20, 10], "keypoints": [250, 3, 2]}
    result = moved(annotation, None, (50, 100))
    assert result["bbox"] == [-5, 0, 10, 5]
    assert result["keypoints"] == [124.75, 1.25, 2]
    tiny = np.zeros((100, 200), np.uint8)
    tiny[0, 0] = 1
    result = moved({"segmentation": {"size": [100, 200], "counts": encode_runs(tiny)}}, None, (10, 20))
    assert result["segmentation"]["counts"] == [200]


def test_keypoints_move_as_pixel_centres_and_lose_their_visibility_outside() -> None:
    result = moved(
        {"keypoints": [20, 10, 2, 99.5, 49.5, 1, 100, 20, 2, 30, 9, 1, 0, 0, 0], "num_keypoints": 4}
    )
    assert result["keypoints"] == [-0.25, -0.25, 2, 39.5, 19.5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert result["num_keypoints"] == 2
    assert "num_keypoints" not in moved({"keypoints": [20, 10, 2]})


def test_polygons_move_as_edges_and_are_cut_at_the_crop() -> None:
    inside = moved({"segmentation": [[30, 20, 50, 20, 50, 40]]})
    assert inside["segmentation"] == [[5, 5, 15, 5, 15, 15]]
    square = moved({"segmentation": [[10, 0, 30, 0, 30, 20, 10, 20], [0, 0, 5, 0, 5, 5]]})
    (cut,) = square["segmentation"]
    assert {tuple(cut[i : i + 2]) for i in range(0, len(cut), 2)} == {(0, 0), (5, 0), (5, 5), (0, 5)}


def test_an_annotation_whose_shape_leaves_the_crop_is_dropped_though_its_box_stays() -> None:
    corner = {"bbox": [0, 0, 40, 40], "segmentation": [[0, 0, 18, 0, 18, 40, 0, 40]]}
    assert move_annotation(corner, movement()) is None


def test_the_area_changes_by_the_factor_by_which_the_shape_does() -> None:
    polygon = [[10, 20, 30, 20, 30, 40, 10, 40]]  # half of it inside the crop, at half the scale
    assert moved({"area": 360, "segmentation": polygon})["area"] == 45
    assert moved({"area": 50, "bbox": [10, 20, 20, 20]})["area"] == 6.25
    assert moved({"area": 50, "bbox": [30, 20, 0, 0]})["area"] == 12.5
    assert moved({"area": 50, "bbox": [30, 20, 10, 10], "segmentation": []})["area"] == 12.5
    line = moved({"area": 8, "segmentation": [[30, 20, 40, 20, 50, 20]]})
    assert (line["area"], line["segmentation"]) == (2, [])


@given(masks, st.booleans(), st.data())
@settings(deadline=None)
def test_run_lengths_move_like_a_class_mask_and_keep_their_form(
    mask: Any, compressed: bool, data: st.DataObject
) -> None:
    height, width = mask.shape
    size = (data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50)))
    move = Movements({"a": (height, width)}, None, size)["a"]
    counts: Any = oracle.encode(mask)["counts"].decode() if compressed else encode_runs(mask)
    area = int(mask.sum())
    annotation = {"segmentation": {"size": [height, width], "counts": counts}, "area": area}
    result = move_annotation(annotation, move)
    assert result is not None
    runs = result["segmentation"]
    assert runs["size"] == list(size)
    if not compressed:
        runs = oracle.frPyObjects(runs, *size)
    np.testing.assert_array_equal(oracle.decode(runs), move.mask(mask[..., None])[..., 0])
    assert result["area"] == pytest.approx(int(oracle.area(runs)))


@given(st.integers(0, 200), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_cut_concave_polygon_covers_what_the_reference_leaves_of_it(seed: int, grow: bool) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(15, 90, 9)
    points = np.stack([100 + radii * np.cos(angles), 50 + radii * np.sin(angles) / 2], axis=1)
    annotation = {"segmentation": [points.ravel().tolist()]}
    move = movement((30, 60, 50, 90), (100, 180) if grow else None)
    whole = oracle.decode(oracle.frPyObjects(annotation["segmentation"], 100, 200))[..., 0]
    expected = move.mask(whole[..., None])[..., 0]
    result = move_annotation(annotation, move)
    if result is None:
        assert expected.sum() < 20
        return
    runs = oracle.merge(oracle.frPyObjects(result["segmentation"], move.new_height, move.new_width))
    different = np.count_nonzero(oracle.decode(runs) != expected)
    assert different <= 0.04 * expected.size


def test_unknown_keys_of_an_annotation_stay() -> None:
    assert moved({"id": 7, "bbox": [24, 12, 10, 20], "iscrowd": 0, "mood": {"x": 1}}) == {
        "id": 7,
        "bbox": [2, 1, 5, 10],
        "iscrowd": 0,
        "mood": {"x": 1},
    }


FAULTY: dict[str, dict[str, Any]] = {
    "bbox: 4 numbers are wanted, got 3": {"bbox": [1, 2, 3]},
    "bbox: a list of finite numbers is wanted, got None": {"bbox": None},
    "bbox: a list of finite numbers is wanted, got [nan": {"bbox": [float("nan"), 0, 1, 1]},
    "bbox: a list of finite numbers is wanted, got [1000": {"bbox": [10**400, 0, 1, 1]},
    "bbox: [left, top, width, height] is wanted": {"bbox": [9, 9, -1, 2]},
    "area: a list of finite numbers is wanted, got ['big']": {"area": "big"},
    "keypoints: x, y, visibility for each are wanted, got 4": {"keypoints": [1, 2, 2, 5]},
    "segmentation: polygons or run lengths are wanted, got 'x'": {"segmentation": "x"},
    "segmentation: a polygon of 4 numbers": {"segmentation": [[1, 2, 3, 4]]},
    "segmentation: a polygon of 7 numbers": {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    "segmentation: run lengths for size [99999999, 99999999]": {
        "segmentation": {"size": [99999999, 99999999], "counts": [99999999**2]}
    },
    "segmentation: counts, a string or a list, are wanted, got 5": {
        "segmentation": {"size": [100, 200], "counts": 5}
    },
    "panoptic": {"segments_info": []},
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_annotation_is_a_label_error(fault: str) -> None:
    with pytest.raises(LabelError) as caught:
        move_annotation(FAULTY[fault], movement())
    assert fault in str(caught.value)
    assert len(str(caught.value)) < 300


# ---- a file


def coco(**changes: Any) -> dict[str, Any]:
    document = {
        "info": {"year": 2024, "π": 3.14},
        "images": [
            {"license": 3, "id": 8, "file_name": "a.png", "height": 100, "width": 200, "date": "now"},
            {"id": "b", "file_name": "sub/b.png"},
        ],
        "licenses": [{"id": 3}],
        "annotations": [
            {"id": 1, "image_id": 8, "bbox": [24, 12, 10, 20]},
            {"id": 2, "image_id": 8, "bbox": [0, 0, 10, 10]},
            {"id": 3, "image_id": "b", "bbox": [100, 100, 10, 10]},
        ],
        "categories": [],
    }
    return {**document, **changes}


def move_file(
    root: Path, content: Any, sizes: dict[str, tuple[int, int]] | None = None, path: str = "labels/coco.json"
) -> MovedLabels | None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    sizes = sizes or {"imgs/a.png": (100, 200), "imgs/sub/b.png": (50, 100)}
    return move_coco(LabelFile(root, path), Movements(sizes, CROP, HALF))


def test_a_moved_file_keeps_ids_order_and_all_it_does_not_know(tmp_path: Path) -> None:
    sizes = {"imgs/a.png": (100, 200), "imgs/sub/b.png": (150, 160)}
    result = move_file(tmp_path, coco(), sizes)
    assert result is not None
    document = json.loads(result.data)
    expected = coco()
    expected["images"][0] |= {"height": 20, "width": 40}
    expected["images"][1] |= {"height": 20, "width": 40}
    expected["annotations"] = [{"id": 1, "image_id": 8, "bbox": [2, 1, 5, 10]}]
    assert document == expected
    assert list(document) == list(expected)
    assert list(document["images"][0]) == list(expected["images"][0])
    assert result.dropped == (
        "labels/coco.json: annotation 2 of image 8 left the image",
        "labels/coco.json: annotation 3 of image b left the image",
    )


@pytest.mark.parametrize("name", ["imgs/a.png", "../x", "a.png", "./a.png"])
@pytest.mark.parametrize("path", ["coco.json", "imgs/coco.JSON"])
def test_images_are_found_from_the_root_from_the_file_or_by_their_ending(
    tmp_path: Path, name: str, path: str
) -> None:
    content = coco(images=[{"id": 8, "file_name": name}], annotations=[])
    if name == "../x":
        with pytest.raises(LabelError, match="leaves the tree"):
            move_file(tmp_path, content, path=path)
        return
    result = move_file(tmp_path, content, path=path)
    assert result is not None
    assert json.loads(result.data)["images"] == [{"id": 8, "file_name": name, "width": 40, "height": 20}]


def test_a_name_that_fits_two_images_is_refused(tmp_path: Path) -> None:
    sizes = {"l/a.png": (100, 200), "r/a.png": (100, 200)}
    with pytest.raises(LabelError, match=r"could be l/a\.png or r/a\.png"):
        move_file(tmp_path, coco(annotations=[]), sizes)


def test_images_that_stay_as_they_are_leave_the_file_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"outside the images pattern")
    data = b'{"images" :[{"file_name": "a.png","id":1}], "annotations": [{"image_id":1, "bbox":[1, 2,3,4]}] }'
    assert move_file(tmp_path, data, {"other.png": (100, 200)}) == MovedLabels(data)


def test_a_file_without_annotations_gets_none(tmp_path: Path) -> None:
    result = move_file(tmp_path, {"images": [{"id": 1, "file_name": "a.png"}]})
    assert result is not None
    assert json.loads(result.data) == {"images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}]}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            '{\n  "images": [{"id": 1, "file_name": "a.png", "by": "Zoë"}]\n}\n',
            ['\n  "images": [', "Zoë", "}\n"],
        ),
        ('{"images": [{"id": 1, "file_name": "a.png", "by": "Zo\\u00eb"}]}', ['{"images": [{', "Zo\\u00eb"]),
        ('{"images": [{"id": 1, "file_name": "a.png", "by": "ë\\ud800"}]}', ["ë\\ud800"]),
        ('\ufeff{"images": [{"id": 1, "file_name": "a.png"}]}', ["a.png"]),
    ],
)
def test_json_is_written_in_the_manner_of_the_original(tmp_path: Path, text: str, kept: list[str]) -> None:
    result = move_file(tmp_path, text.encode())
    assert result is not None
    written = result.data.decode()
    assert all(part in written for part in kept)
    assert json.loads(written)["images"][0]["width"] == 40


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.txt", coco()),
        ("a.json", {"images": "many"}),
        ("a.json", {"images": [], "annotations": []}),
        ("a.json", {"images": [1, {"file": 2}], "annotations": []}),
        ("a.json", {"images": [{"file_name": "a"}], "annotations": {}}),
        ("a.json", ["images"]),
        ("a.json", b'{"images" oops'),
        ("a.json", {"look_vec": [0, 0, 1]}),
    ],
)
def test_other_files_are_not_taken_for_coco(tmp_path: Path, path: str, content: Any) -> None:
    assert move_file(tmp_path, content, path=path) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (coco(annotations=[{"id": 4, "image_id": 99}]), "annotation 4: its image_id 99 is not among"),
        (coco(annotations=[{"id": 4, "image_id": []}]), "annotation 4: its image_id []"),
        (coco(annotations=["x"]), "annotation x: its image_id None"),
        (coco(annotations=[{"id": 4, "image_id": 8, "bbox": 1}]), "annotation 4: bbox"),
        (coco(images=[{"id": 8, "file_name": "c.png"}]), "file_name 'c.png' is not in the tree"),
        (coco(images=[{"id": 8, "file_name": "n" * 5000}]), "is not in the tree"),
        (coco(images=[{"id": 8, "file_name": "a\0.png"}]), "is not in the tree"),
        (coco(images=[{"id": 8, "file_name": "/etc/passwd"}]), "leaves the tree"),
        (coco(images=[{"id": 8, "file_name": "a.png"}, {"id": 9}]), "images[1] has no file_name"),
        (coco(images=[{"file_name": "a.png"}]), "image 'a.png' has no id of its own: None"),
        (coco(images=[{"id": 1, "file_name": "a.png"}] * 2), "image 'a.png' has no id of its own: 1"),
        (
            coco(images=[{"id": 8, "file_name": "a.png", "width": 100, "height": 50}]),
            "image 'a.png' is 100×200 (height×width), but the labels are for 50×100",
        ),
        (b'{"images": [], "annotations": [', "is no JSON"),
        (b'{"images":[],"annotations":' + b"[" * 100_000, "is no JSON"),
        (b'{"images":[],"annotations":[' + b"9" * 5000 + b"]}", "is no JSON"),
    ],
)
def test_a_faulty_file_is_a_label_error_that_names_it(tmp_path: Path, content: Any, expected: str) -> None:
    with pytest.raises(LabelError) as caught:
        move_file(tmp_path, content)
    assert expected in str(caught.value)
    assert str(tmp_path / "labels/coco.json") in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_the_first_five_faults_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"(?s)8 faults.*annotation 4:.*and 3 more"):
        move_file(tmp_path, coco(annotations=[{"id": i, "image_id": 99} for i in range(8)]))
