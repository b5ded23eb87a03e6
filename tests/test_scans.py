from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from simgan.data.trees import ImageTree, Reject, TreeScan, refuse_rejects, scan_tree
from simgan.errors import DataError
from simgan.images import PixelFormat, write_image


def put(root: Path, path: str, image: np.ndarray | None = None) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    write_image(root / path, np.full((4, 5, 1), 9, np.uint8) if image is None else image)


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


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
    assert (len(lines), lines[-1]) == (7, "  and 2 more")


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
