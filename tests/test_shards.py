"""Folders and shards: the same files on both sides, read by other programs, trained on by the same rules."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refiners import noise
from simgan.data.cache import open_cache
from simgan.data.conversion import convert
from simgan.data.labels import detect_label_format, read_labels
from simgan.data.shards import INDEX, find_shards, in_shards, sample_key
from simgan.data.trees import ImageTree, scan_tree
from simgan.errors import ConfigurationError, DataError, OutputError
from simgan.images import encode_image, write_image
from simgan.preparation import prepare

its_files_stay_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images with sidecars in two folders, and files that belong to no image."""
    root = tmp_path / "in"
    for i in range(10):
        path = root / ("left" if i % 2 else "right") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, noise(8, 9, 1, seed=i))
        path.with_suffix(".json").write_text(json.dumps({"i": i}))
    (root / "labels.csv").write_text("path,angle\n")
    (root / "README").write_bytes(b"")
    (root / ".hidden").write_bytes(b"h")
    os.utime(root / "README", (1_600_000_000, 1_600_000_000))
    return root


# --- there and back ---------------------------------------------------------------------------------------


def test_a_folder_comes_back_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = convert(folder, tmp_path / "shards", samples=4, progress=lambda *at: calls.append(at))
    assert (report.n_files, report.n_samples, report.n_shards, report.already_done) == (23, 13, 4, False)
    assert calls == [(i, 4) for i in range(1, 5)]
    back = convert(tmp_path / "shards", tmp_path / "back")
    assert (back.n_files, back.n_samples, back.n_shards) == (23, 13, 4)
    assert contents(tmp_path / "back") == contents(folder)
    assert (tmp_path / "back" / "README").stat().st_mtime == 1_600_000_000


PARTS = st.text("abcXYZ019._-é", min_size=1, max_size=12).filter(lambda part: part.strip(".") != "")
TREES = st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.binary(max_size=1300), min_size=1,
                        max_size=12)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, samples=st.integers(1, 5))
def test_any_folder_comes_back_and_no_sample_is_torn(
    tmp_path: Path, tree: dict[str, bytes], samples: int
) -> None:
    for part in ("in", "shards", "back"):
        shutil.rmtree(tmp_path / part, ignore_errors=True)
    for name, data in tree.items():
        path = tmp_path / "in" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:  # a file where a folder is wanted
            continue
    convert(tmp_path / "in", tmp_path / "shards", samples=samples)
    shards = find_shards(tmp_path / "shards")
    assert shards is not None
    keys: list[set[str]] = []
    for shard in shards.names:
        with tarfile.open(tmp_path / "shards" / shard) as archive:
            keys.append({sample_key(name) for name in archive.getnames()})
    assert all(len(one) == samples for one in keys[:-1])
    assert sum(map(len, keys)) == len(set.union(*keys))
    convert(tmp_path / "shards", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "in")


def test_equal_folders_give_equal_shards(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    convert(folder, tmp_path / "a", samples=3)
    convert(tmp_path / "copy", tmp_path / "b", samples=3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("0001.png", "0001"), ("0001.seg.png", "0001"), ("a/b.c/0001.left.png", "a/b.c/0001"), ("README", "README"),
        (".hidden", ".hidden"), ("a.b/c", "a.b/c"), ("a.", "a"),
    ],
)  # fmt: skip
def test_the_key_of_a_sample_is_the_name_up_to_the_first_dot(name: str, key: str) -> None:
    assert sample_key(name) == key
    theirs = webdataset.tariterators.base_plus_ext(name)[0]
    assert theirs in (key, None)
    assert (theirs is None) == (key == name)


def test_files_of_a_sample_stand_together_though_other_names_sort_between_them() -> None:
    names = ["a.png", "a.json", "a-1.png", "a.d/x.png", "a.z"]
    assert list(in_shards(names, 2)) == [["a.json", "a.png", "a.z", "a-1.png"], ["a.d/x.png"]]


# --- the webdataset package as the oracle -----------------------------------------------------------------


@its_files_stay_open
def test_the_webdataset_package_reads_our_shards(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "shards", samples=4)
    urls = sorted(str(path) for path in (tmp_path / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    images = {sample["__key__"]: sample for sample in samples if "png" in sample}
    assert len(images) == 10
    for key, sample in images.items():
        assert sample["png"] == (folder / f"{key}.png").read_bytes()
        assert json.loads(sample["json"]) == {"i": int(key[-2:])}


@its_files_stay_open
def test_shards_of_the_webdataset_package_are_read_and_unpacked(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "theirs" / "%03d.tar"), maxcount=4, verbose=0) as writer:
        for i in range(10):
            png = encode_image(noise(8, 9, 1, seed=i), ".png")
            writer.write({"__key__": f"eye/{i:04}", "png": png, "json": {"i": i}, "cls": i % 3})
    tree = ImageTree(tmp_path / "theirs")
    assert tree.paths()[4] == "001.tar/eye/0004.png"
    np.testing.assert_array_equal(tree.read("001.tar/eye/0004.png"), noise(8, 9, 1, seed=4))
    convert(tmp_path / "theirs", tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 30
    assert (tmp_path / "out" / "eye" / "0007.cls").read_bytes() == b"1"


# --- again, and what is refused ---------------------------------------------------------------------------


def test_the_same_conversion_again_verifies_and_an_interrupted_one_continues(
    folder: Path, tmp_path: Path
) -> None:
    shards, back = tmp_path / "shards", tmp_path / "back"

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for source, out in ((folder, shards), (shards, back)):
        with pytest.raises(KeyboardInterrupt):
            convert(source, out, samples=4, progress=stop)
        (out / ".0123456789abcdef.tmp").write_bytes(b"half")
        before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.suffix in (".tar", ".png")}
        assert before
        assert not convert(source, out, samples=4).already_done
        assert {p: p.stat().st_mtime_ns for p in before} == before
        assert convert(source, out, samples=4).already_done
    assert contents(back) == contents(folder)


def test_shards_and_folders_that_were_changed_since_are_not_called_done(folder: Path, tmp_path: Path) -> None:
    shards, back = tmp_path / "shards", tmp_path / "back"
    convert(folder, shards, samples=4)
    convert(shards, back)
    image = back / "left" / "01.png"
    good = image.read_bytes()
    for damage in (lambda: image.write_bytes(b"x" * len(good)), image.unlink):
        damage()
        with pytest.raises(OutputError, match=r"01.png: is missing, or not what .*tar holds"):
            convert(shards, back)
    image.write_bytes(good)
    (folder / "left" / "01.json").write_text("changed")
    with pytest.raises(OutputError, match=r"tar: is not what .* gives"):
        convert(folder, shards, samples=4)
    (shards / INDEX).write_text("[" * 100_000)
    with pytest.raises(OutputError, match="is damaged"):
        convert(folder, shards, samples=4)


def test_a_folder_that_holds_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "shards", samples=4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for source in (folder, tmp_path / "shards"):
        with pytest.raises(OutputError, match=r"holds other files, first mine.txt"):
            convert(source, tmp_path / "out")
    with pytest.raises(OutputError, match="must lie outside"):
        convert(folder, folder / "shards")


def test_what_cannot_be_converted_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="samples"):
        convert(folder, tmp_path / "out", samples=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder is empty"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="no tar file matches"):
        convert(str(tmp_path / "none-*.tar"), tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        convert(tmp_path / "none", tmp_path / "out")
    (folder / "a\\b.png").write_bytes(b"")
    with pytest.raises(DataError, match="backslash"):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("a.png", "a.png", "stands in 0.tar too"),
        ("a", "a/b.png", "a file in one shard and a folder in another"),
    ],
)
def test_shards_that_one_folder_cannot_hold_are_refused(
    tmp_path: Path, first: str, second: str, said: str
) -> None:
    (tmp_path / "in").mkdir()
    for i, name in enumerate((first, second)):
        with tarfile.open(tmp_path / "in" / f"{i}.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match=said):
        convert(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- which files are shards -------------------------------------------------------------------------------


def test_shards_are_a_tar_a_pattern_or_a_folder_of_nothing_else(folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    convert(folder, shards, samples=4)
    names = tuple(f"shard-{i:06}.tar" for i in range(4))
    for root, wanted in ((shards, names), (f"{shards}/*.tar", names), (shards / names[1], names[1:2])):
        found = find_shards(root)
        assert found is not None
        assert (found.root, found.names) == (shards, wanted)
    assert find_shards(folder) is None
    assert find_shards(tmp_path / "none") is None
    assert find_shards(f"{folder}/*.png") is None
    (tmp_path / "empty").mkdir()
    assert find_shards(tmp_path / "empty") is None
    (shards / "image.png").write_bytes(b"")
    assert find_shards(shards) is None


# --- training from shards ---------------------------------------------------------------------------------


def test_the_cache_of_shards_holds_what_the_cache_of_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    (folder / "left" / "99.png").write_bytes(b"no image")
    convert(folder, tmp_path / "shards", samples=4)
    tree = ImageTree(tmp_path / "shards", "left/*")
    ours = open_cache(tree, tmp_path / "cache", max_reject_share=0.5)
    theirs = open_cache(ImageTree(folder, "left/*"), tmp_path / "cache", max_reject_share=0.5)
    assert [tree.place(path) for path in ours.paths] == list(theirs.paths)
    np.testing.assert_array_equal(ours.gather(np.arange(5)), theirs.gather(np.arange(5)))
    assert (ours.scan.sizes, ours.scan.level_mean) == (theirs.scan.sizes, theirs.scan.level_mean)
    (reject,) = ours.scan.rejects
    assert reject.path.endswith("tar/left/99.png")
    assert reject.reason == theirs.scan.rejects[0].reason
    again = open_cache(ImageTree(tmp_path / "shards", "left/*"), tmp_path / "cache", max_reject_share=0.5)
    assert again.paths == ours.paths


def test_labels_by_folder_are_read_from_shards(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").unlink()
    convert(folder, tmp_path / "shards", samples=4)
    tree = ImageTree(tmp_path / "shards")
    assert detect_label_format(tree) == "folders"
    labels = read_labels(tree)
    assert labels.names == ("left", "right")
    assert [labels.names[int(v)] for v in labels.values] == [
        tree.place(p).split("/")[0] for p in tree.paths()
    ]


def test_one_shard_is_no_class(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "left")
    (folder / "labels.csv").unlink()
    convert(folder, tmp_path / "shards", samples=2)
    assert detect_label_format(ImageTree(tmp_path / "shards")) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.png", "a.seg.png"], r"'a' has several images, a.png and a.seg.png.*'\*\*/\*.png'"),
        (["images/a.png", "masks/a.png"], "most likely label masks"),
    ],
)
def test_a_wildcard_that_takes_in_masks_of_samples_is_refused(
    tmp_path: Path, names: list[str], said: str
) -> None:
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "in" / name, noise(8, 9, 1))
    convert(tmp_path / "in", tmp_path / "shards")
    with pytest.raises(DataError, match=said.replace("'a' has", r"'shard-000000.tar/a' has").replace(
        "images, a.png and a.seg.png", "images, shard-000000.tar/a.png and shard-000000.tar/a.seg.png")):  # fmt: skip
        ImageTree(tmp_path / "shards").paths()
    assert ImageTree(tmp_path / "shards", names[0]).paths() == (f"shard-000000.tar/{names[0]}",)


def test_shards_are_not_prepared_and_the_way_out_is_said(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "shards")
    with pytest.raises(DataError, match=r"unpack them into a folder first: simgan convert"):
        prepare(ImageTree(tmp_path / "shards"), tmp_path / "out", crop=(0, 0, 4, 4))


def test_a_scan_of_shards_finds_what_that_of_the_folder_does(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "shards", samples=100)
    fields: dict[str, Any] = scan_tree(ImageTree(tmp_path / "shards")).to_dict()
    wanted = scan_tree(ImageTree(folder)).to_dict()
    assert {k: v for k, v in fields.items() if k != "fingerprint"} == {
        k: v for k, v in wanted.items() if k != "fingerprint"
    }
