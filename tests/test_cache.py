from __future__ import annotations

import errno
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import simgan.data.cache as cache_module
from simgan.data.cache import ImageCache, open_cache
from simgan.data.trees import ImageTree, scan_tree
from simgan.errors import DataError, OutputError
from simgan.images import write_image


def noise(height: int, width: int, channels: int, seed: int, dtype: type = np.uint8) -> np.ndarray:
    return (
        np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, channels)).astype(dtype)
    )


def make_tree(root: Path, images: list[np.ndarray]) -> ImageTree:
    root.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        write_image(root / f"{i:03}.png", image)
    return ImageTree(root)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with each build of a cache."""
    done: list[str] = []
    build = cache_module._build

    def counted(*arguments: object) -> ImageCache:
        done.append("built")
        return build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "_build", counted)
    return done


# ---- what it holds


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_unequal_size_come_out_as_they_went_in(channels: int, dtype: type, tmp_path: Path) -> None:
    images = [noise(3 + i, 9 - i, channels, i, dtype) for i in range(5)]
    tree = make_tree(tmp_path / "tree", images)
    cache = open_cache(tree, tmp_path / "cache")
    assert len(cache) == 5
    assert cache.paths == tree.paths()
    assert cache.equal_size is None
    for i, image in enumerate(images):
        assert cache[i].dtype == dtype
        np.testing.assert_array_equal(cache[i], image)
    np.testing.assert_array_equal(cache[-1], images[-1])
    with pytest.raises(IndexError):
        cache[5]


def test_images_of_equal_size_are_gathered_at_once(tmp_path: Path) -> None:
    images = [noise(4, 6, 3, i) for i in range(5)]
    cache = open_cache(make_tree(tmp_path / "tree", images), tmp_path / "cache")
    assert cache.equal_size == (4, 6)
    np.testing.assert_array_equal(cache.gather(np.array([3, 0, 3])), np.stack([images[i] for i in (3, 0, 3)]))


def test_images_of_unequal_size_are_not_gathered(tmp_path: Path) -> None:
    cache = open_cache(
        make_tree(tmp_path / "tree", [noise(4, 4, 1, 0), noise(5, 4, 1, 1)]), tmp_path / "cache"
    )
    with pytest.raises(DataError, match="2 different sizes"):
        cache.gather(np.array([0]))


def test_alpha_is_left_out(tmp_path: Path) -> None:
    image = noise(4, 5, 4, 0)
    cache = open_cache(make_tree(tmp_path / "tree", [image]), tmp_path / "cache")
    np.testing.assert_array_equal(cache[0], image[..., :3])
    assert cache.scan.pixel_format.alpha


def test_a_cache_cannot_be_written_to(tmp_path: Path) -> None:
    cache = open_cache(make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)]), tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        cache[0][0] = 1


def test_the_scan_is_that_of_the_tree_and_survives_reopening(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 3, i) for i in range(30)])
    (tmp_path / "tree/bad.png").write_text("text")
    first, second = (open_cache(tree, tmp_path / "cache") for _ in range(2))
    assert first.scan == second.scan == scan_tree(tree)
    assert first.scan.rejects[0].path == "bad.png"
    assert len(first) == 30
    assert "bad.png" not in first.paths


# ---- when it is built


def test_a_cache_is_built_once(builds: list[str], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])
    progress: list[tuple[int, int]] = []
    for _ in range(3):
        open_cache(tree, tmp_path / "cache", progress=lambda done, total: progress.append((done, total)))
    assert len(builds) == 1
    assert progress == [(1, 1)]


@pytest.mark.parametrize("change", ["time", "size", "added", "removed", "renamed"])
def test_a_changed_tree_is_decoded_anew_and_the_old_cache_goes(
    change: str, builds: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    tree = make_tree(root, [noise(4, 5, 1, i) for i in range(3)])
    open_cache(tree, tmp_path / "cache")
    if change == "time":
        os.utime(root / "000.png", ns=(1, 1))
    elif change == "size":
        write_image(root / "000.png", noise(40, 50, 1, 0))
    elif change == "added":
        write_image(root / "003.png", noise(4, 5, 1, 9))
    elif change == "removed":
        (root / "000.png").unlink()
    else:
        (root / "000.png").rename(root / "zzz.png")
    cache = open_cache(tree, tmp_path / "cache")
    assert len(builds) == 2
    assert cache.paths == tree.paths()
    for i, path in enumerate(cache.paths):
        np.testing.assert_array_equal(cache[i], tree.read(path))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_two_trees_share_a_cache_folder(builds: list[str], tmp_path: Path) -> None:
    one = make_tree(tmp_path / "one", [noise(4, 5, 1, 0)])
    two = make_tree(tmp_path / "two", [noise(4, 5, 1, 1)])
    for _ in range(2):
        for tree in (one, two):
            np.testing.assert_array_equal(open_cache(tree, tmp_path / "cache")[0], tree.read("000.png"))
    assert len(builds) == 2


@pytest.mark.parametrize("name", ["pixels.bin", "sizes.npy", "cache.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "longer", "nested"])
def test_a_damaged_cache_is_built_again(name: str, damage: str, builds: list[str], tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, i) for i in range(3)])
    open_cache(tree, tmp_path / "cache")
    (part,) = (tmp_path / "cache").glob(f"*/{name}")
    data = part.read_bytes()
    part.unlink()
    if damage != "gone":
        damaged = {"cut": data[: len(data) // 2], "empty": b"", "longer": data * 2, "nested": b"[" * 100_000}
        part.write_bytes(damaged[damage])
    np.testing.assert_array_equal(open_cache(tree, tmp_path / "cache")[2], tree.read("002.png"))
    assert len(builds) == (
        1 if (name, damage) == ("sizes.npy", "longer") else 2
    )  # only its beginning is read


@pytest.mark.parametrize("change", [{"version": 0}, {"paths": ["a"]}])
def test_a_cache_whose_parts_disagree_is_built_again(
    change: dict[str, object], builds: list[str], tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, i) for i in range(3)])
    open_cache(tree, tmp_path / "cache")
    (record,) = (tmp_path / "cache").glob("*/cache.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    assert len(open_cache(tree, tmp_path / "cache")) == 3
    assert len(builds) == 2


def test_a_cache_finished_by_another_process_meanwhile_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])
    rename = os.rename

    def beaten(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        open_cache(tree, tmp_path / "cache")
        os.rename(source, target)

    monkeypatch.setattr(os, "rename", beaten)
    cache = open_cache(tree, tmp_path / "cache")
    np.testing.assert_array_equal(cache[0], tree.read("000.png"))
    assert len(list((tmp_path / "cache").iterdir())) == 1


# ---- when it cannot be built


def leftovers(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def test_mixed_kinds_leave_no_cache_behind(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0), noise(4, 5, 3, 1), noise(4, 5, 3, 2)])
    with pytest.raises(DataError, match="but 2 are 8-bit RGB and 1 are 8-bit grey"):
        open_cache(tree, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_too_many_rejects_leave_no_cache_behind(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])
    (tmp_path / "tree/bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 2 images cannot be used \(50%"):
        open_cache(tree, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_cache_built_under_a_laxer_limit_does_not_pass_a_stricter_one(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])
    (tmp_path / "tree/bad.png").write_bytes(b"")
    assert len(open_cache(tree, tmp_path / "cache", max_reject_share=0.5)) == 1
    with pytest.raises(DataError, match=r"1 of 2 images cannot be used \(50%; at most 5%"):
        open_cache(tree, tmp_path / "cache")


def test_a_full_disk_is_named_and_nothing_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OutputError, match=r"cache cannot be written: No space left on device.*free some space"
    ):
        open_cache(tree, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_cache_that_cannot_get_its_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(OutputError, match="cache cannot be written: Permission denied"):
        open_cache(tree, tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, 0)])
    (tmp_path / "cache").write_text("")
    with pytest.raises(OutputError, match="choose another cache folder"):
        open_cache(tree, tmp_path / "cache")


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [noise(4, 5, 1, i) for i in range(3)])

    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(tree, tmp_path / "cache", progress=interrupt)
    assert leftovers(tmp_path / "cache") == []


def test_memory_while_building_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    image = noise(100, 100, 1, 0)

    def peak(n: int) -> int:
        tree = make_tree(tmp_path / f"tree{n}", [image] * n)
        tracemalloc.start()
        open_cache(tree, tmp_path / "cache")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # imports and first-time allocations
    few, many = peak(5), peak(65)
    assert many - few < 20 * image.nbytes  # holding them all would take 60


# ---- real data


def test_real_images_are_cached_as_read(tmp_path: Path) -> None:
    data = os.environ.get("SIMGAN_DATA")
    if data is None:
        pytest.skip("SIMGAN_DATA is not set: no real images to cache")
    tree = ImageTree(Path(data) / "eyes/synthetic", images="images/10*.jpg")
    cache = open_cache(tree, tmp_path / "cache")
    assert len(cache.scan.sizes) == 6
    for i in range(0, len(cache), 5):
        np.testing.assert_array_equal(cache[i], tree.read(cache.paths[i]))
