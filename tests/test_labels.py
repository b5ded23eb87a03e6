from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan.data import labels as labels_module
from simgan.data.labels import LABEL_FORMATS, Labels, align_classes, detect_label_format, read_labels
from simgan.data.trees import ImageTree
from simgan.errors import LabelError

PNG = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()


def tree_with(
    root: Path, *paths: str, csv: str | bytes | None = None, labels: str | None = None
) -> ImageTree:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(PNG)
    if csv is not None:
        (root / "labels.csv").write_bytes(csv.encode() if isinstance(csv, str) else csv)
    return ImageTree(root, labels=labels)


def message(tree: ImageTree, format: str | None = None) -> str:
    with pytest.raises(LabelError) as caught:
        read_labels(tree, tree.paths(), format)
    return str(caught.value)


# ---- folders


def test_the_class_of_an_image_is_its_folder_and_classes_sort_naturally(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "100/a.png", "20/b.png", "3/c.png", "20/a.png")
    labels = read_labels(tree)
    assert labels.kind == "class"
    assert labels.names == ("3", "20", "100")
    by_path = dict(zip(tree.paths(), (labels.names[v] for v in labels.values), strict=True))
    assert by_path == {"100/a.png": "100", "20/b.png": "20", "20/a.png": "20", "3/c.png": "3"}
    assert labels.values.dtype == np.int64
    assert labels.groups is None


def test_labels_come_in_the_order_of_the_paths_asked_for(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    labels = read_labels(tree, ("c/1.png", "a/1.png"))
    assert [labels.names[v] for v in labels.values] == ["c", "a"]


def test_an_image_outside_any_class_folder_is_a_fault(tmp_path: Path) -> None:
    text = message(tree_with(tmp_path, "a/1.png", "stray.png", labels="folders"))
    assert "stray.png lies in no folder" in text
    assert "narrow the images pattern" in text


def test_class_folders_at_different_depths_are_a_fault_and_not_detected(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "cat/1.png", "dog/outdoor/1.png")
    assert detect_label_format(tree) is None
    text = message(tree, "folders")
    assert "cat/1.png" in text
    assert "dog/outdoor/1.png" in text


def test_no_image_is_a_fault_of_the_folders_format(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no image to label"):
        read_labels(tree_with(tmp_path, "a/1.png"), (), "folders")


# ---- detection and the table of formats


def test_labels_csv_is_detected_before_folders(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "a/1.png", "b/1.png")
    assert detect_label_format(tree) == "folders"
    tree_with(tmp_path, csv="path,x\na/1.png,1\nb/1.png,2\n")
    assert detect_label_format(tree) == "csv"


@pytest.mark.parametrize(
    "paths", [("1.png", "2.png"), ("images/1.png", "images/2.png"), ("a/i/1.png", "b/i/2.png")]
)
def test_one_folder_of_images_is_no_label(tmp_path: Path, paths: tuple[str, ...]) -> None:
    tree = tree_with(tmp_path, *paths)
    assert detect_label_format(tree) is None
    text = message(tree)
    assert str(tmp_path) in text
    assert "labels.csv" in text
    assert "folders" in text


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    text = message(tree_with(tmp_path, "1.png", labels="yolo"))
    assert "yolo" in text
    assert "csv" in text


def test_a_newcomer_adds_a_format_by_adding_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_stem(tree: ImageTree, paths: object) -> Labels:
        assert isinstance(paths, tuple)
        return Labels("value", np.array([[float(PurePosixPath(p).stem)] for p in paths]), ("stem",))

    monkeypatch.setitem(labels_module.LABEL_FORMATS, "stem", from_stem)
    labels = read_labels(tree_with(tmp_path, "7.png", labels="stem"))
    assert labels.values.tolist() == [[7.0]]
    assert "stem" in LABEL_FORMATS


# ---- labels.csv


def test_columns_of_numbers_are_values_in_their_order_and_text_is_left_alone(tmp_path: Path) -> None:
    tree = tree_with(
        tmp_path,
        "i/a.png",
        "i/b.png",
        csv="path,yaw_deg,camera,pitch_deg\ni/b.png,1.5,left,-2\ni/a.png,0,right,1e-3\n",
    )
    labels = read_labels(tree, ("i/a.png", "i/b.png"))
    assert labels.kind == "value"
    assert labels.names == ("yaw_deg", "pitch_deg")
    np.testing.assert_array_equal(labels.values, [[0.0, 0.001], [1.5, -2.0]])
    assert labels.values.dtype == np.float64


def test_where_there_is_gaze_it_alone_is_learned_unless_all_columns_are_asked_for(tmp_path: Path) -> None:
    csv = "path,group,head_yaw_deg,gaze_x,gaze_y,gaze_z,pupil_x_px\na.png,p,9,0.6,0,-0.8,\n"
    tree = tree_with(tmp_path, "a.png", csv=csv)
    labels = read_labels(tree)
    assert (labels.names, labels.groups) == (("gaze_x", "gaze_y", "gaze_z"), ("p",))
    np.testing.assert_array_equal(labels.values, [[0.6, 0, -0.8]])
    (tmp_path / "labels.csv").write_text(csv.replace("-0.8,", "-0.8,27.5"))
    every = read_labels(tree, format="csv-columns")
    assert every.names == ("head_yaw_deg", "gaze_x", "gaze_y", "gaze_z", "pupil_x_px")
    np.testing.assert_array_equal(every.values, [[9, 0.6, 0, -0.8, 27.5]])


@pytest.mark.parametrize("first", ["path", "image"])
@pytest.mark.parametrize("column", ["class", "label"])
def test_a_class_column_gives_classes_whatever_stands_beside_it(
    tmp_path: Path, first: str, column: str
) -> None:
    csv = f"{first},size,{column}\na.png,4,10\nb.png,5,9\nc.png,6,10\n"
    labels = read_labels(tree_with(tmp_path, "a.png", "b.png", "c.png", csv=csv))
    assert labels.kind == "class"
    assert labels.names == ("9", "10")
    assert labels.values.tolist() == [1, 0, 1]


@pytest.mark.parametrize("column", ["class", "x"])
def test_a_group_column_gives_groups_and_is_never_a_value(tmp_path: Path, column: str) -> None:
    csv = f"path,group,{column}\nb.png,2,1\na.png,1,0\n"
    labels = read_labels(tree_with(tmp_path, "a.png", "b.png", csv=csv))
    assert labels.groups == ("1", "2")
    assert labels.names == (("0", "1") if column == "class" else ("x",))


def test_a_byte_order_mark_windows_lines_quotes_blank_lines_and_dot_slash_are_read(tmp_path: Path) -> None:
    csv = '\ufeffpath,class\r\n\r\n"a,1.png", ä b \r\n./b.png,c\r\n'.encode()
    labels = read_labels(tree_with(tmp_path, "a,1.png", "b.png", csv=csv))
    assert [labels.names[v] for v in labels.values] == ["ä b", "c"]


def test_rows_of_images_that_were_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "a.png", "b.png", csv="path,class\na.png,x\nb.png,y\n")
    labels = read_labels(tree, ("b.png",))
    assert labels.names == ("y",)
    assert labels.values.tolist() == [0]


FAULTY = {
    "no row for b.png": "path,x\na.png,1\n",
    "line 4: 'c.png' is not in the tree": "path,x\na.png,1\nb.png,2\nc.png,3\n",
    "line 4: 'a.png' again, first seen in line 2": "path,x\na.png,1\nb.png,2\n./a.png,3\n",
    "line 3: x is 'nan', not a finite number": "path,x\na.png,1\nb.png,nan\n",
    "line 2: x is '-inf', not a finite number": "path,x\na.png,-inf\nb.png,2\n",
    "line 3: x is '', not a finite number": "path,x\na.png,1\nb.png,\n",
    "line 3: x is '1_0', not a finite number": "path,x\na.png,1\nb.png,1_0\n",
    "line 3: x is 'oops', not a finite number": "path,x\na.png,1\nb.png,oops\n",
    "line 3: 3 columns, the header has 2": "path,x\na.png,1\nb.png,2,3\n",
    "line 3: 1 columns, the header has 2": "path,x\na.png,1\nb.png\n",
    "line 3: no class": "path,class\na.png,1\nb.png,\n",
    "line 3: no group": "path,group,x\na.png,g,1\nb.png,,2\n",
    "line 2: no path": "path,x\n,1\na.png,1\nb.png,2\n",
    "the first column is 'file', wanted 'path'": "file,x\na.png,1\nb.png,2\n",
    "the first column is 'path;x', wanted 'path'": "path;x\na.png;1\nb.png;2\n",
    "a column name is doubled or empty: 'path', 'x', 'x'": "path,x,x\na.png,1,1\nb.png,2,2\n",
    "both columns 'class', 'label'": "path,class,label\na.png,1,1\nb.png,2,2\n",
    "column 'label' holds decimal numbers": "path,label\na.png,0.25\nb.png,1\n",
    "no column of numbers among 'camera'": "path,camera\na.png,left\nb.png,right\n",
    "no column of numbers among none": "path\na.png\nb.png\n",
    "a header and no rows": "path,x\n",
    "the file is empty": "",
    "the file is empty; wanted": "\n\n",
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_in_labels_csv_is_named_with_file_and_line(tmp_path: Path, fault: str) -> None:
    text = message(tree_with(tmp_path, "a.png", "b.png", csv=FAULTY[fault]))
    assert fault in text
    assert str(tmp_path / "labels.csv") in text


HOSTILE = {
    "NUL": (b"path,x\na.png\0,1\n", "NUL bytes"),
    "latin-1": (b"path,class\na.png,\xe4\n", "UTF-8"),
    "utf-16": ("path,x\na.png,1\n".encode("utf-16"), "cannot be read"),
    "a field over the limit of the parser": (b"path,class\na.png," + b"x" * 200_000 + b"\n", "field"),
    "a quote that never closes": (b'path,class\n"a.png,1\nb.png,2\n', "cannot be read"),
    "climbing": (b"path,x\n../../etc/passwd,1\n", "leaves the tree"),
    "climbing in the middle": (b"path,x\na/../../b,1\n", "leaves the tree"),
    "absolute": (b"path,x\n/etc/passwd,1\n", "leaves the tree"),
    "backslashes": (b"path,x\nimages\\a.png,1\n", "backslashes"),
    "a name longer than any file system takes": (b"path,x\n" + b"n" * 5000 + b",1\n", "not in the tree"),
    "an overflowing number": (b"path,x\na.png,1e999\n", "not a finite number"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_labels_csv_is_a_label_error(tmp_path: Path, case: str) -> None:
    data, expected = HOSTILE[case]
    text = message(tree_with(tmp_path, "a.png", csv=data))
    assert expected in text
    assert len(text) < 2000


@given(st.binary(max_size=80))
def test_any_bytes_as_labels_csv_give_labels_or_a_label_error(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    tree = tree_with(tmp_path_factory.mktemp("tree"), "a.png", csv=b"path,x\na.png," + tail)
    try:
        labels = read_labels(tree)
    except LabelError:
        return
    assert len(labels) == 1
    assert np.isfinite(labels.values).all()


def test_rows_of_images_that_refining_left_out_are_passed_over(tmp_path: Path) -> None:
    csv = "path,class\na.png,cat\n./gone.png,dog\nearlier.png,dog\nb.png,cow\n"
    tree = tree_with(tmp_path, "a.png", "b.png", csv=csv)
    rejects = [{"path": "gone.png", "reason": "cannot be decoded"}]
    text = json.dumps({"rejects": rejects, "lacked_before": ["earlier.png"]})
    (tmp_path / "simgan-manifest.json").write_text(text)
    labels = read_labels(tree)
    assert [labels.names[v] for v in labels.values] == ["cat", "cow"]
    assert labels.names == ("cat", "cow")
    tree = tree_with(tmp_path, csv=csv + "never.png,cat\n\\gone.png,cat\nc.png\n")
    text = message(tree)
    for fault in ("3 faults", "line 6: 'never.png' is not in the tree", "backslashes", "line 8: 1 columns"):
        assert fault in text


@pytest.mark.parametrize(
    "manifest", ["{", "[" * 100_000, "[]", '{"rejects": 5}', "{}", '{"rejects": ["a.png"]}']
)
def test_a_damaged_manifest_is_named_where_rows_name_missing_images(tmp_path: Path, manifest: str) -> None:
    tree = tree_with(tmp_path, "a.png", csv="path,class\na.png,cat\n")
    (tmp_path / "simgan-manifest.json").write_text(manifest)
    assert len(read_labels(tree)) == 1
    (tmp_path / "labels.csv").write_text("path,class\na.png,cat\ngone.png,cat\n")
    assert "simgan-manifest.json: is damaged" in message(tree)


def test_digits_too_long_for_int_still_sort(tmp_path: Path) -> None:
    long = "9" * 5000
    labels = read_labels(tree_with(tmp_path, "a.png", "b.png", csv=f"path,class\na.png,{long}\nb.png,8\n"))
    assert labels.names == ("8", long)


def test_a_folder_called_labels_csv_is_a_label_error(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "a.png")
    (tmp_path / "labels.csv").mkdir()
    assert "cannot be read" in message(tree)


def test_the_first_five_faults_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    text = message(tree_with(tmp_path, *[f"{i}.png" for i in range(8)], csv="path,x\n0.png,1\n"))
    assert "7 faults" in text
    assert text.count("no row for") == 5
    assert "and 2 more" in text


# ---- Labels


def test_taking_some_labels_keeps_the_numbering_of_classes() -> None:
    labels = Labels("class", np.array([2, 0, 1]), ("a", "b", "c"), ("p", "q", "r"))
    some = labels.take(np.array([2, 0]))
    assert len(some) == 2
    assert some.values.tolist() == [1, 2]
    assert some.names == labels.names
    assert some.groups == ("r", "p")
    assert Labels("class", np.array([2]), ("a", "b", "c")).take([0]).groups is None


def test_aligned_classes_are_numbered_as_in_the_reference_by_name() -> None:
    reference = Labels("class", np.array([0]), ("cat", "dog", "cow"))
    other = Labels("class", np.array([0, 1, 2, 2]), ("cow", "cat", "dog"), ("g",) * 4)
    aligned = align_classes(reference, other)
    assert aligned.names == reference.names
    assert [aligned.names[v] for v in aligned.values] == ["cow", "cat", "dog", "dog"]
    assert aligned.groups == other.groups


def test_aligned_values_have_their_columns_in_the_order_of_the_reference() -> None:
    reference = Labels("value", np.zeros((1, 2)), ("pitch", "yaw"))
    other = Labels("value", np.array([[1.0, 2.0], [3.0, 4.0]]), ("yaw", "pitch"))
    assert align_classes(reference, other).values.tolist() == [[2.0, 1.0], [4.0, 3.0]]


def test_classes_on_one_side_only_are_named_with_their_side() -> None:
    a = Labels("class", np.array([0, 1]), ("20", "30"))
    b = Labels("class", np.array([0, 1]), ("30", "50"))
    with pytest.raises(LabelError) as caught:
        align_classes(a, b, reference_name="refined", other_name="camera")
    assert "only refined: '20'; only camera: '50'" in str(caught.value)


def test_a_missing_column_of_numbers_is_named() -> None:
    a = Labels("value", np.zeros((1, 2)), ("x", "y"))
    b = Labels("value", np.zeros((1, 1)), ("x",))
    with pytest.raises(LabelError, match=r"different columns \(only synthetic: 'y'\)"):
        align_classes(a, b)


def test_classes_and_numbers_cannot_be_aligned() -> None:
    with pytest.raises(LabelError, match=r"'class'.*'value'"):
        align_classes(Labels("class", np.array([0]), ("a",)), Labels("value", np.zeros((1, 1)), ("a",)))


# ---- real data


def test_the_real_signs_are_labelled_by_their_folders() -> None:
    data = os.environ.get("SIMGAN_DATA")
    if not data:
        pytest.skip("SIMGAN_DATA is not set: no real data here")
    labels = read_labels(ImageTree(Path(data) / "signs" / "real"))
    assert labels.kind == "class"
    assert len(labels.names) == 8
    assert len(labels) == 4320
