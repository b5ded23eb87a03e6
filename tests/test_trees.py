from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.data.trees import ImageTree
from simgan.errors import DataError, ImageError
from simgan.images import write_image


def put(root: Path, path: str, image: np.ndarray | None = None) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    write_image(root / path, np.full((4, 5, 1), 9, np.uint8) if image is None else image)


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


# ---- which files are images


def test_paths_are_relative_sorted_and_in_posix_form(tmp_path: Path) -> None:
    for path in ("b/2.png", "b/10.png", "a.PNG", "c/d/e.jpg"):
        put(tmp_path, path)
    (tmp_path / "notes.txt").write_text("x")
    tree = ImageTree(tmp_path)
    assert tree.paths() == ("a.PNG", "b/10.png", "b/2.png", "c/d/e.jpg")
    assert tree.other_files() == ("notes.txt",)
    assert ImageTree(str(tmp_path)).paths() == tree.paths()


def test_what_the_pattern_leaves_out_is_another_file(tmp_path: Path) -> None:
    for path in ("images/1.png", "images/deep/2.png", "depth/1.png", "labels.csv.png"):
        put(tmp_path, path)
    tree = ImageTree(tmp_path, images="images/*.png")
    assert tree.paths() == ("images/1.png",)
    assert tree.other_files() == ("depth/1.png", "images/deep/2.png", "labels.csv.png")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*", ["a.png", "x/b.png", "x/y/c.jpg"]),
        ("**", ["a.png", "x/b.png", "x/y/c.jpg"]),
        ("*", ["a.png"]),
        ("*/*", ["x/b.png"]),
        ("x/**/*", ["x/b.png", "x/y/c.jpg"]),
        ("x/**/*.jpg", ["x/y/c.jpg"]),
        ("**/y/*", ["x/y/c.jpg"]),
        ("**/[ab].png", ["a.png", "x/b.png"]),
        ("x/?.png", ["x/b.png"]),
        ("**/.h/*", [".h/hidden.png"]),
        (".*/*", [".h/hidden.png"]),
        ("**/.*.png", ["x/.z.png"]),
    ],
)
def test_a_glob_means_what_it_means_elsewhere(pattern: str, expected: list[str], tmp_path: Path) -> None:
    for path in ("a.png", "x/b.png", "x/y/c.jpg", ".h/hidden.png", "x/.z.png"):
        put(tmp_path, path)
    assert list(ImageTree(tmp_path, images=pattern).paths()) == expected


@settings(max_examples=60, deadline=None)
@given(pattern=st.lists(st.sampled_from(["**", "*", "a", "b", "a*", "?", "[ab]"]), min_size=1, max_size=4))
def test_globbing_agrees_with_pathlib(pattern: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "glob"
    if not root.exists():
        for folder in (".", "a", "b", "a/b", "b/a/ab"):
            for name in ("a.png", "b.png"):
                put(root, f"{folder}/{name}")
    glob = "/".join([*pattern, "*"])
    wanted = sorted({path.relative_to(root).as_posix() for path in root.glob(glob) if path.is_file()})
    tree = ImageTree(root, images=glob)
    if wanted:
        assert list(tree.paths()) == wanted
    else:
        with pytest.raises(DataError, match="no image matches"):
            tree.paths()


@pytest.mark.parametrize("pattern", ["", "/data/*.png", "../*.png", "a\\*.png"])
def test_a_pattern_that_leaves_the_folder_is_refused(pattern: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(DataError, match="a pattern relative to the folder is wanted"):
        ImageTree(tmp_path, images=pattern).paths()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder.*current folder"):
        ImageTree(tmp_path / "nowhere").paths()


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"a\.png: is a file"):
        ImageTree(tmp_path / "a.png").paths()


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is empty; images \(\.bmp"):
        ImageTree(tmp_path).paths()


def test_a_pattern_that_matches_nothing_is_told_what_is_there(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path, f"imgs/{i}.jpg", noise(4, 4, 3))
        (tmp_path / f"imgs/{i}.json").write_text("{}")
    (tmp_path / "README").write_text("x")
    with pytest.raises(
        DataError, match=r"the folder holds 3 \.jp.*3 \.js.*1 \(no suffix\), for instance imgs/0\.jpg"
    ):
        ImageTree(tmp_path, images="*.png").paths()
    with pytest.raises(DataError, match=r"'imgs' is a folder: write 'imgs/\*\*/\*'"):
        ImageTree(tmp_path, images="imgs").paths()
    shutil.rmtree(tmp_path / "imgs")
    with pytest.raises(DataError, match=r"holds 1 \(no suffix\); images need one of the suffixes \.bmp"):
        ImageTree(tmp_path).paths()


# ---- masks


def test_a_wildcard_that_takes_in_a_folder_of_masks_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "images/1.jpg")
    put(tmp_path, "masks/1.png")
    with pytest.raises(DataError, match=r"1 files of folders like 'masks'.*images = 'images/\*\*/\*\.jpg'"):
        ImageTree(tmp_path).paths()
    assert ImageTree(tmp_path, images="images/*").paths() == ("images/1.jpg",)
    assert ImageTree(tmp_path, images="images/*").other_files() == ("masks/1.png",)


def test_a_folder_named_like_masks_is_fine_where_it_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "segments/a/1.png")
    put(tmp_path, "other/1.png")
    assert ImageTree(tmp_path, images="segments/**/*").paths() == ("segments/a/1.png",)
    assert ImageTree(tmp_path, images="seg*/a/*").paths() == ("segments/a/1.png",)


def test_class_folders_named_label_are_no_masks(tmp_path: Path) -> None:
    put(tmp_path, "label_0/1.png")
    put(tmp_path, "label_1/1.png")
    assert len(ImageTree(tmp_path).paths()) == 2


# ---- links


def test_links_inside_the_tree_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    (tmp_path / "a/2.png").symlink_to("1.png")
    (tmp_path / "b").symlink_to("a", target_is_directory=True)
    assert ImageTree(tmp_path).paths() == ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


def test_a_tree_reached_by_a_link_is_a_tree(tmp_path: Path) -> None:
    put(tmp_path, "real/1.png")
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    assert ImageTree(tmp_path / "link").paths() == ("1.png",)


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "outside/1.png")
    put(tmp_path, "tree/1.png")
    (tmp_path / "tree/2.png").symlink_to(tmp_path / "outside/1.png")
    with pytest.raises(
        DataError, match=r"tree/2\.png: a link that leads out of the tree, to .*outside/1\.png"
    ):
        ImageTree(tmp_path / "tree").paths()


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"2\.png: a link that leads nowhere"):
        ImageTree(tmp_path).paths()
    (tmp_path / "2.png").unlink()
    (tmp_path / "3.png").symlink_to("3.png")
    with pytest.raises(DataError, match=r"3\.png: a link that leads nowhere"):
        ImageTree(tmp_path).paths()


def test_a_link_to_its_own_folder_does_not_go_round_in_circles(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    (tmp_path / "a/again").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DataError, match=r"a/again: a link to a folder that holds it"):
        ImageTree(tmp_path).paths()


def test_what_is_no_regular_file_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    os.mkfifo(tmp_path / "2.png")
    assert ImageTree(tmp_path).paths() == ("1.png",)
    assert ImageTree(tmp_path).other_files() == ()


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "1.png")

    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        ImageTree(tmp_path).paths()


# ---- listing and reading


def test_the_listing_changes_with_the_files(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    tree = ImageTree(tmp_path)
    before = tree.listing()
    assert before == tree.listing()
    assert before[0][:2] == ("1.png", (tmp_path / "1.png").stat().st_size)
    os.utime(tmp_path / "1.png", ns=(1, 1))
    assert tree.listing() != before


def test_a_file_that_vanishes_while_listing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageTree, "paths", lambda _: ("gone.png",))
    with pytest.raises(DataError, match=r"gone\.png: vanished"):
        ImageTree(tmp_path).listing()


def test_reading_gives_all_channels_and_names_the_file_on_failure(tmp_path: Path) -> None:
    put(tmp_path, "1.png", noise(3, 2, 4))
    (tmp_path / "2.png").write_text("no image")
    tree = ImageTree(tmp_path)
    np.testing.assert_array_equal(tree.read("1.png"), noise(3, 2, 4))
    with pytest.raises(ImageError, match=r"2\.png: not an image"):
        tree.read("2.png")
