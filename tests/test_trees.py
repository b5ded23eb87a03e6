from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.data.trees import ImageTree, Reject, TreeScan, refuse_rejects, scan_tree
from simgan.errors import DataError, ImageError
from simgan.images import PixelFormat, write_image


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


# ---- scans


def test_a_scan_counts_what_is_there(tmp_path: Path) -> None:
    # worked by hand: levels 10, 20, 30, 40 in the first, four times 100 in the second
    put(tmp_path, "a.png", np.array([[[10], [20]], [[30], [40]]], np.uint8))
    put(tmp_path, "b.png", np.full((1, 4, 1), 100, np.uint8))
    scan = scan_tree(ImageTree(tmp_path))
    assert (scan.n, scan.pixel_format, scan.sizes) == (2, PixelFormat(1, 8), {(2, 2): 1, (1, 4): 1})
    assert (scan.low, scan.high, scan.step) == (10, 100, 10)
    assert scan.level_mean == pytest.approx(62.5)
    assert scan.level_std == pytest.approx(np.std([10, 20, 30, 40, 100, 100, 100, 100]))
    assert scan.image_mean_std == pytest.approx(37.5)  # means 25 and 100
    assert scan.rejects == ()


def test_a_scan_of_16_bit_colour_uses_all_channels(tmp_path: Path) -> None:
    images = [
        np.random.default_rng(seed).integers(0, 4096, (6, 7, 3)).astype(np.uint16) * 16 for seed in range(5)
    ]
    for i, image in enumerate(images):
        put(tmp_path, f"{i}.png", image)
    scan = scan_tree(ImageTree(tmp_path))
    assert scan.pixel_format == PixelFormat(3, 16)
    assert (scan.low, scan.high, scan.step) == (np.min(images), np.max(images), 16)
    assert scan.level_mean == pytest.approx(np.mean(images))
    assert scan.level_std == pytest.approx(np.std(images))
    assert scan.image_mean_std == pytest.approx(np.std([image.mean() for image in images]))


def test_black_images_have_step_1(tmp_path: Path) -> None:
    put(tmp_path, "a.png", np.zeros((3, 3, 1), np.uint8))
    scan = scan_tree(ImageTree(tmp_path))
    assert (scan.low, scan.high, scan.step) == (0, 0, 1)


def test_alpha_is_noted_but_not_measured(tmp_path: Path) -> None:
    image = np.full((4, 4, 4), 50, np.uint8)
    image[..., 3] = 255
    put(tmp_path, "a.png", image)
    put(tmp_path, "b.png", np.full((4, 4, 3), 50, np.uint8))
    scan = scan_tree(ImageTree(tmp_path))
    assert scan.pixel_format.alpha
    assert scan.pixel_format == PixelFormat(3, 8)
    assert (scan.low, scan.high) == (50, 50)


def test_a_scan_survives_json(tmp_path: Path) -> None:
    put(tmp_path, "a.png", noise(4, 4, 4))
    put(tmp_path, "b.png", noise(5, 4, 3))
    (tmp_path / "c.png").write_bytes(b"")
    scan = scan_tree(ImageTree(tmp_path), max_reject_share=0.5)
    again = TreeScan.from_dict(json.loads(json.dumps(scan.to_dict())))
    assert again == scan
    assert again.pixel_format.alpha


def test_the_fingerprint_follows_the_pixels_and_names_but_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two", "renamed", "changed", "cast"):
        put(tmp_path, f"{folder}/{'b' if folder == 'renamed' else 'a'}.png", noise(4, 4, 1))
    put(tmp_path, "changed/a.png", noise(4, 4, 1) ^ 1)
    put(tmp_path, "cast/a.png", noise(4, 4, 1).reshape(2, 8, 1))
    os.utime(tmp_path / "two/a.png", ns=(5, 5))
    prints = {name: scan_tree(ImageTree(tmp_path / name)).fingerprint for name in os.listdir(tmp_path)}
    assert len(prints["one"]) == 64
    assert prints["one"] == prints["two"]
    assert len(set(prints.values())) == 4


def test_names_that_are_not_utf_8_are_scanned(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    assert scan_tree(ImageTree(tmp_path)).n == 1


def test_a_scan_reports_its_progress(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path, f"{i}.png")
    seen: list[tuple[int, int]] = []
    scan_tree(ImageTree(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_few_unusable_files_are_listed_and_left_out(tmp_path: Path) -> None:
    for i in range(19):
        put(tmp_path, f"{i:02}.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "00.png").read_bytes()[:40])
    scan = scan_tree(ImageTree(tmp_path))
    assert scan.n == 19
    assert [reject.path for reject in scan.rejects] == ["bad.png"]
    assert scan.rejects[0].reason.startswith("the file is truncated")


def test_too_many_unusable_files_are_refused_and_the_first_named(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path, f"{i}.png")
    for i in range(7):
        (tmp_path / f"bad{i}.png").write_text("text")
    with pytest.raises(DataError, match=r"7 of 17 images cannot be used \(41%; at most 5%") as caught:
        scan_tree(ImageTree(tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  - bad0.png: not an image")
    assert (len(lines), lines[-1]) == (7, "  - and 2 more")


def test_a_tree_without_one_usable_image_is_refused_whatever_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match="1 of 1 images cannot be used"):
        scan_tree(ImageTree(tmp_path), max_reject_share=1.0)


def test_the_reject_limit_itself_is_allowed(tmp_path: Path) -> None:
    rejects = [Reject("a.png", "why")]
    refuse_rejects(ImageTree(tmp_path), rejects, 20, 0.05)
    with pytest.raises(DataError, match=r"a\.png: why"):
        refuse_rejects(ImageTree(tmp_path), rejects, 19, 0.05)


def test_mixed_kinds_are_refused_naming_both_sides(tmp_path: Path) -> None:
    for i in range(5):
        put(tmp_path, f"imgs/{i}.png", noise(20, 20, 3))
    put(tmp_path, "x/grey.png", noise(20, 20, 1))
    put(tmp_path, "x/deep.png", noise(20, 20, 1).astype(np.uint16))
    with pytest.raises(DataError, match="but 5 are 8-bit RGB and ") as caught:
        scan_tree(ImageTree(tmp_path))
    said = str(caught.value)
    assert "1 are 8-bit grey (for instance x/grey.png)" in said
    assert "1 are 16-bit grey (for instance x/deep.png)" in said
    assert "narrow the images pattern (for instance images = 'imgs/**/*.png')" in said
    assert "mask" not in said


def test_a_minority_of_few_levels_is_called_a_mask(tmp_path: Path) -> None:
    for i in range(5):
        put(tmp_path, f"{i}.png", noise(20, 20, 3))
    put(tmp_path, "a.png", noise(20, 20, 1) % 4)
    with pytest.raises(DataError, match="most likely label masks; narrow the images pattern"):
        scan_tree(ImageTree(tmp_path))


def test_a_minority_in_a_mask_folder_is_called_a_mask(tmp_path: Path) -> None:
    for i in range(2):
        put(tmp_path, f"label_0/{i}.png", noise(20, 20, 3))
    put(tmp_path, "label_1/a.png", noise(20, 20, 1))
    with pytest.raises(DataError, match="most likely label masks"):
        scan_tree(ImageTree(tmp_path))


# ---- real data


def test_real_trees_are_scanned_whole() -> None:
    data = os.environ.get("SIMGAN_DATA")
    if data is None:
        pytest.skip("SIMGAN_DATA is not set: no real images to scan")
    signs = scan_tree(ImageTree(Path(data) / "signs/real", images="050/*.png"))
    assert (signs.pixel_format, list(signs.sizes), signs.rejects) == (PixelFormat(3, 8), [(32, 32)], ())
    eyes = ImageTree(Path(data) / "eyes/synthetic", images="images/*.jpg")
    assert len(eyes.paths()) == 890
    assert len(eyes.other_files()) == 890
    with pytest.raises(DataError, match="'masks'"):
        ImageTree(Path(data) / "eyes/synthetic").paths()
