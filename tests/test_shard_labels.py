"""Labels in shards: whatever those of a folder are, they are the same in shards, refined, and back in a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

import simgan
from eye_files import write_unityeyes
from refiners import build_refiner, noise
from simgan.data.conversion import convert
from simgan.data.labels import Labels, detect_label_format, read_labels
from simgan.data.trees import ImageTree
from simgan.errors import LabelError
from simgan.images import encode_image, write_image
from simgan.refinement import refine

its_files_stay_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def images(root: Path, n: int = 10) -> list[Path]:
    """So many images in two folders."""
    paths = [root / "images" / ("left" if i % 2 else "right") / f"{i:02}.png" for i in range(n)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, noise(20, 30, 1, seed=i))
    return paths


def table(root: Path, header: str, row: Callable[[int], str]) -> None:
    rows = [f"{path.relative_to(root).as_posix()},{row(i)}" for i, path in enumerate(images(root))]
    (root / "labels.csv").write_text("\n".join([f"path,{header}", *rows, ""]))


def classes_in_a_table(root: Path) -> None:
    table(root, "class,group", lambda i: f"{'up' if i % 3 else 'down'},person {i // 4}")


def values_in_a_table(root: Path) -> None:
    table(root, "angle,note,x_px", lambda i: f"{i / 7!r},a note,{-i}")


def cls_files(root: Path) -> None:
    for i, path in enumerate(images(root)):
        path.with_suffix(".cls").write_text(f"{i % 3 + 8}\n")


def json_with_classes(root: Path) -> None:
    for i, path in enumerate(images(root)):
        path.with_suffix(".json").write_text(
            json.dumps({"label": i % 3, "boxes": [[i]], "group": f"g{i // 5}"})
        )


def json_with_values(root: Path) -> None:
    for i, path in enumerate(images(root)):
        path.with_suffix(".json").write_text(json.dumps({"angle": i / 7, "note": "text", "y_px": i}))


def unityeyes(root: Path) -> None:
    for i in range(10):
        write_unityeyes(root / "imgs", str(i), look=(0.6 * math.sin(i), 0.6 * math.cos(i), -0.8, 0.0))


def eye_masks(root: Path) -> None:
    for i, path in enumerate(images(root)):
        mask = np.zeros((20, 30, 1), np.uint8)
        mask[5:15, 4:26], mask[7:12, 8 + i : 12 + i] = 1, 2
        target = Path(str(path).replace("/images/", "/masks/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, mask)


FORMATS = [
    (classes_in_a_table, "csv", True), (values_in_a_table, "csv", True), (cls_files, "cls", True),
    (json_with_classes, "json", True), (json_with_values, "json", False), (unityeyes, "unityeyes", True),
    (unityeyes, "unityeyes-iris", False), (eye_masks, "eye-masks", False),
]  # fmt: skip
each_format = pytest.mark.parametrize(
    ("write", "kind", "is_detected"), FORMATS, ids=lambda value: getattr(value, "__name__", str(value))
)


def by_place(tree: ImageTree) -> dict[str, tuple[object, ...]]:
    labels, paths = read_labels(tree), tree.paths()
    groups = labels.groups or [None] * len(paths)
    values = labels.values if labels.kind == "value" else np.array(labels.names)[labels.values]
    return {
        tree.place(path): (labels.kind, labels.names, np.asarray(values[i]).tolist(), groups[i])
        for i, path in enumerate(paths)
    }


@each_format
def test_labels_of_a_folder_are_those_of_its_shards_and_of_the_folder_made_from_these(
    write: Callable[[Path], None], kind: str, is_detected: bool, tmp_path: Path
) -> None:
    write(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "shards", samples=3)
    convert(tmp_path / "shards", tmp_path / "back")
    pattern = "im*/**/*"
    asked = None if is_detected else kind
    folder, shards, back = (ImageTree(tmp_path / name, pattern, asked) for name in ("in", "shards", "back"))
    assert (detect_label_format(shards) == kind) is is_detected
    assert len(by_place(folder)) == 10
    assert by_place(shards) == by_place(folder) == by_place(back)


@each_format
def test_refined_shards_keep_every_label_also_where_an_image_is_left_out(
    write: Callable[[Path], None], kind: str, is_detected: bool, tmp_path: Path
) -> None:
    write(tmp_path / "in")
    if kind.startswith("unityeyes"):
        return  # their images are of another kind than the refiner's; sidecars are the same files
    (tmp_path / "in" / "images" / "left" / "03.png").write_bytes(b"no image")
    convert(tmp_path / "in", tmp_path / "shards", samples=3)
    asked = None if is_detected else kind
    pattern = "images/**/*"
    synthetic = ImageTree(tmp_path / "shards", pattern, asked)
    refined = refine(synthetic, build_refiner(), tmp_path / "refined", max_reject_share=0.5).tree
    convert(tmp_path / "refined", tmp_path / "folder")
    convert(tmp_path / "folder", tmp_path / "packed", samples=4)
    (tmp_path / "in" / "images" / "left" / "03.png").unlink()
    (tmp_path / "in" / "labels.csv").exists() and _drop_row(tmp_path / "in" / "labels.csv", "03.png")
    wanted = by_place(ImageTree(tmp_path / "in", pattern, asked))
    assert len(wanted) == 9
    for tree in (refined, *(ImageTree(tmp_path / name, pattern, asked) for name in ("folder", "packed"))):
        assert by_place(tree) == wanted


def _drop_row(path: Path, name: str) -> None:
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if name not in line))


@each_format
def test_a_data_set_over_shards_gives_the_pairs_of_the_folder(
    write: Callable[[Path], None], kind: str, is_detected: bool, tmp_path: Path
) -> None:
    write(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "shards", samples=3)
    asked = None if is_detected else kind
    folder, shards = (
        simgan.LabelledImages(ImageTree(tmp_path / n, "im*/**/*", asked)) for n in ("in", "shards")
    )
    places = {shards.tree.place(path): i for i, path in enumerate(shards.paths)}
    for i, path in enumerate(folder.paths):
        for ours, theirs in zip(folder[i], shards[places[path]], strict=True):
            assert torch.equal(ours, theirs)


# --- the webdataset package -------------------------------------------------------------------------------


@its_files_stay_open
def test_the_webdataset_package_decodes_the_classes_of_refined_shards(tmp_path: Path) -> None:
    cls_files(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "shards", samples=4)
    refine(ImageTree(tmp_path / "shards"), build_refiner(), tmp_path / "out")
    urls = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    theirs = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("l8")
    seen = [(sample["__key__"], sample["cls"], sample["png"].shape) for sample in theirs]
    labels = by_place(ImageTree(tmp_path / "out"))
    assert seen == [(place[:-4], int(str(label[2])), (20, 30)) for place, label in labels.items()]


@its_files_stay_open
def test_labels_written_by_the_webdataset_package_are_read(tmp_path: Path) -> None:
    for i, label in enumerate(({"cls": 7}, {"json": {"class": "left", "id": 5}})):
        (tmp_path / str(i)).mkdir()
        with webdataset.ShardWriter(str(tmp_path / str(i) / "%03d.tar"), maxcount=2, verbose=0) as writer:
            for k in range(5):
                png = encode_image(noise(8, 9, 1, seed=k), ".png")
                writer.write({"__key__": f"{k:04}", "rgb.png": png, **label})
        labels = read_labels(ImageTree(tmp_path / str(i)))
        assert (labels.kind, labels.names) == ("class", ("left",) if i else ("7",))
        assert len(labels) == 5


# --- faults -----------------------------------------------------------------------------------------------


def test_samples_of_one_name_in_several_shards_have_their_own_sidecars(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "0.png", noise(8, 9, 1))
        (tmp_path / name / "0.cls").write_text(name)
        convert(tmp_path / name, tmp_path / f"{name}-shards")
        (tmp_path / f"{name}-shards" / "shard-000000.tar").rename(tmp_path / f"{name}.tar")
    tree = ImageTree(f"{tmp_path}/*.tar")
    labels: Labels = read_labels(tree)
    assert [labels.names[int(value)] for value in labels.values] == ["a", "b"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "labels.csv").write_text("path,class\n0.png,7\n")
    convert(tmp_path / "c", tmp_path / "c-shards")
    (tmp_path / "c-shards" / "shard-000000.tar").rename(tmp_path / "c.tar")
    with pytest.raises(LabelError, match=r"0\.png stands in 2 shards"):
        read_labels(ImageTree(f"{tmp_path}/*.tar"))


@pytest.mark.parametrize(
    ("write", "sidecar", "text", "said"),
    [
        (cls_files, "03.cls", None, r"03\.png: its \.cls: is missing"),
        (cls_files, "03.cls", "", "one line with the name or number"),
        (cls_files, "03.cls", "a\nb", "one line with the name or number"),
        (cls_files, "03.cls", b"\xff", "its .cls: "),
        (json_with_classes, "03.json", None, r"03\.png: its \.json: is missing"),
        (json_with_classes, "03.json", "{", r"03\.png: its \.json: is no JSON"),
        (json_with_classes, "03.json", "[1]", "an object is wanted, found list"),
        (json_with_classes, "03.json", "{}", r"03\.png: its \.json: no label"),
        (json_with_classes, "03.json", '{"label": 1}', r"03\.png: its \.json: no group"),
    ],
)
def test_a_sidecar_that_is_missing_or_none_is_named(
    write: Callable[[Path], None], sidecar: str, text: str | bytes | None, said: str, tmp_path: Path
) -> None:
    write(tmp_path / "in")
    path = tmp_path / "in" / "images" / "left" / sidecar
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    convert(tmp_path / "in", tmp_path / "shards", samples=3)
    for root in ("in", "shards"):
        with pytest.raises(LabelError, match=said):
            read_labels(ImageTree(tmp_path / root))


def test_numbers_in_json_beside_images_are_labels_only_where_that_is_asked_for(tmp_path: Path) -> None:
    json_with_values(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "shards")
    tree = ImageTree(tmp_path / "shards")
    assert detect_label_format(tree) == "folders"
    labels = read_labels(tree, format="json")
    assert (labels.kind, labels.names) == ("value", ("angle", "y_px"))
    assert labels.values[3].tolist() in [[i / 7, i] for i in range(10)], "every digit is kept"
