from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refiners import build_refiner, noise
from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, ImageError, OutputError, RunError, WeightsError
from simgan.images import ValueRange, encode_image, read_image, write_image
from simgan.preparation import prepare
from simgan.refinement import MANIFEST, refine
from simgan.refinement.journal import JOURNAL
from simgan.weights import load_refiner, save_refiner


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def manifest_of(out: Path) -> dict[str, Any]:
    return json.loads((out / MANIFEST).read_text())


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    """Eleven images in two folders and files of other kinds, masks among them."""
    root = tmp_path / "synthetic"
    for i in range(11):
        path = root / "images" / ("left" if i % 2 else "right") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, noise(20, 30, 1, seed=i))
        (root / "masks").mkdir(exist_ok=True)
        write_image(root / "masks" / f"{i:02}.png", noise(20, 30, 1, seed=i) // 128)
    (root / "labels.csv").write_text("path,angle\nimages/right/00.png,1.5\n")
    (root / "empty").write_bytes(b"")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "notes.bin").write_bytes(os.urandom(3000))
    return ImageTree(root, "images/**/*")


# --- the same tree out as in ------------------------------------------------------------------------------


def test_every_image_is_refined_and_lies_under_its_own_name(tree: ImageTree, tmp_path: Path) -> None:
    refiner, out = build_refiner(), tmp_path / "out"
    report = refine(tree, refiner, out)
    assert report.tree == ImageTree(out, "images/**/*")
    assert report.tree.paths() == tree.paths()
    for path in tree.paths():
        np.testing.assert_array_equal(report.tree.read(path), refiner(tree.read(path)))
        assert not np.array_equal(report.tree.read(path), tree.read(path))
    assert (report.n_images, report.n_refined, report.n_unchanged, report.rejects) == (11, 11, 0, ())


@pytest.mark.parametrize("n", [1, 4, 5, 33])
def test_the_last_images_are_refined_too_n_in_n_out(tmp_path: Path, n: int) -> None:
    (tmp_path / "in").mkdir()
    for i in range(n):
        write_image(tmp_path / "in" / f"{i}.png", noise(8, 8, 1, seed=i))
    report = refine(ImageTree(tmp_path / "in"), build_refiner(size=(8, 8)), tmp_path / "out")
    assert report.n_refined == n
    assert len(list((tmp_path / "out").glob("*.png"))) == n


def test_every_other_file_is_carried_byte_for_byte_masks_and_hidden_ones_too(
    tree: ImageTree, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    os.utime(Path(tree.root) / "labels.csv", ns=(10**18, 10**18))
    report = refine(tree, build_refiner(), out)
    before, after = contents(Path(tree.root)), contents(out)
    others = set(before) - set(tree.paths())
    assert len(others) == report.n_carried == 14
    assert after.keys() == before.keys() | {MANIFEST}
    assert {path: after[path] for path in others} == {path: before[path] for path in others}
    assert (out / "labels.csv").stat().st_mtime_ns == 10**18


FILES = [
    (".png", 1, 8), (".png", 2, 8), (".png", 3, 8), (".png", 4, 8),
    (".png", 1, 16), (".png", 2, 16), (".png", 3, 16), (".png", 4, 16),
    (".tif", 1, 8), (".tif", 3, 8), (".tiff", 1, 16), (".tiff", 3, 16),
    (".bmp", 1, 8), (".bmp", 3, 8), (".pgm", 1, 16), (".ppm", 3, 8), (".webp", 3, 8), (".jpg", 1, 8), (".JPG", 3, 8),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "channels", "bits"), FILES)
def test_refining_by_the_identity_returns_the_same_bytes(
    tmp_path: Path, suffix: str, channels: int, bits: int
) -> None:
    (tmp_path / "in").mkdir()
    image = noise(33, 47, channels, bits=bits)
    image[:2] = 2**bits - 1
    image[2:4] = 0
    write_image(tmp_path / "in" / f"a{suffix}", image)
    colours = 1 if channels < 3 else 3
    refiner = build_refiner(channels=colours, bit_depth=bits, identity=True, precision="auto")
    report = refine(ImageTree(tmp_path / "in"), refiner, tmp_path / "out")
    assert report.n_unchanged == report.n_refined == 1
    assert (tmp_path / "out" / f"a{suffix}").read_bytes() == (tmp_path / "in" / f"a{suffix}").read_bytes()


@pytest.mark.parametrize(("suffix", "channels", "bits"), [f for f in FILES if "jp" not in f[0].lower()])
def test_what_the_refiner_computes_is_written_without_loss(
    tmp_path: Path, suffix: str, channels: int, bits: int
) -> None:
    (tmp_path / "in").mkdir()
    image = noise(33, 47, channels, bits=bits)
    write_image(tmp_path / "in" / f"a{suffix}", image)
    refiner = build_refiner(channels=1 if channels < 3 else 3, bit_depth=bits)
    report = refine(ImageTree(tmp_path / "in"), refiner, tmp_path / "out")
    refined = read_image(tmp_path / "out" / f"a{suffix}")
    assert (refined.dtype, refined.shape) == (image.dtype, image.shape)
    np.testing.assert_array_equal(refined, refiner(image))
    assert report.n_lossy == 0


def test_jpeg_is_written_at_the_quality_asked_for_and_listed_as_lossy(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.jpg", noise(33, 47, 3))
    write_image(tmp_path / "in" / "b.png", noise(33, 47, 3))
    tree, refiner = ImageTree(tmp_path / "in"), build_refiner(channels=3)
    report = refine(tree, refiner, tmp_path / "out")
    assert report.n_lossy == 1
    assert manifest_of(tmp_path / "out")["images"]["a.jpg"]["lossy"]
    assert "lossy" not in manifest_of(tmp_path / "out")["images"]["b.png"]
    refined = refiner(tree.read("a.jpg"))
    assert (tmp_path / "out" / "a.jpg").read_bytes() == encode_image(refined, ".jpg", 95)
    refine(tree, refiner, tmp_path / "low", jpeg_quality=50)
    assert (tmp_path / "low" / "a.jpg").read_bytes() == encode_image(refined, ".jpg", 50)


def test_images_of_several_sizes_keep_them_and_large_ones_are_tiled(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, (height, width) in enumerate([(20, 30), (30, 20), (1, 1), (65, 40), (20, 30)]):
        write_image(tmp_path / "in" / f"{i}.png", noise(height, width, 1, seed=i))
    tree, refiner = ImageTree(tmp_path / "in"), build_refiner()
    report = refine(tree, refiner, tmp_path / "out", tile=32)
    for path in tree.paths():
        np.testing.assert_array_equal(report.tree.read(path), refiner(tree.read(path), tile=32))


def test_links_within_the_tree_come_out_as_files(tmp_path: Path, tree: ImageTree) -> None:
    root = Path(tree.root)
    (root / "images" / "linked.png").symlink_to("left/01.png")
    (root / "linked").symlink_to("images/left")
    (root / "labels-linked.csv").symlink_to("labels.csv")
    out = tmp_path / "out"
    report = refine(tree, build_refiner(), out)
    assert report.n_refined == 12
    assert (out / "images/linked.png").read_bytes() == (out / "images/left/01.png").read_bytes()
    assert (out / "labels-linked.csv").read_bytes() == (root / "labels.csv").read_bytes()
    assert (out / "linked" / "01.png").read_bytes() == (root / "images/left/01.png").read_bytes()
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_the_label_format_of_the_tree_goes_along(tree: ImageTree, tmp_path: Path) -> None:
    labelled = ImageTree(tree.root, tree.images, labels="csv")
    assert refine(labelled, build_refiner(), tmp_path / "out").tree.labels == "csv"


def test_progress_is_told_for_each_image(tree: ImageTree, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    refine(tree, build_refiner(), tmp_path / "out", progress=lambda *at: calls.append(at))
    assert calls == [(i, 11) for i in range(1, 12)]
    refine(tree, build_refiner(), tmp_path / "out", progress=lambda *at: calls.append(at))
    assert calls[11:] == [(11, 11)]


# --- which refiner ----------------------------------------------------------------------------------------


def test_refining_without_trained_weights_is_a_clear_error(tree: ImageTree, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match=r"no trained refiner here.*simgan train"):
        refine(tree, tmp_path / "run", tmp_path / "out")
    with pytest.raises(WeightsError, match="no trained refiner here"):
        refine(tree, tmp_path / "missing.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_directory_refines_like_the_refiner_in_it(tree: ImageTree, tmp_path: Path) -> None:
    save_refiner(tmp_path / "refiner.safetensors", build_refiner())
    refine(tree, str(tmp_path / "refiner.safetensors"), tmp_path / "a")
    refine(tree, load_refiner(tmp_path / "refiner.safetensors"), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_wrong_arguments_are_all_named_at_once(tree: ImageTree, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refine(
            tree, build_refiner(), tmp_path / "out",
            jpeg_quality=0, out_of_range="wrap", max_reject_share=2, tile=0,  # type: ignore[arg-type]
        )  # fmt: skip
    assert [fault.split("`")[1] for fault in caught.value.faults] == [
        "jpeg_quality", "out_of_range", "max_reject_share", "tile",
    ]  # fmt: skip


# --- images left out --------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tree: ImageTree) -> ImageTree:
    """Eleven good images and four that a refiner of 8-bit grey images cannot take."""
    images = Path(tree.root) / "images"
    for path in tree.paths():
        write_image(Path(tree.root) / path, np.minimum(tree.read(path), 250))
    write_image(images / "colour.png", noise(20, 30, 3))
    write_image(images / "deep.png", noise(20, 30, 1, bits=16))
    (images / "torn.png").write_bytes((images / "left/01.png").read_bytes()[:200])
    write_image(images / "bright.png", np.full((20, 30, 1), 251, np.uint8))
    return tree


IN_RANGE = ValueRange(0, 250)


def test_unusable_images_are_left_out_and_listed_with_reasons(tmp_path: Path, mixed: ImageTree) -> None:
    out, said = tmp_path / "out", []
    report = refine(mixed, build_refiner(value_range=IN_RANGE), out, max_reject_share=0.5, warn=said.append)
    reasons = {reject.path: reject.reason for reject in report.rejects}
    assert list(reasons) == [f"images/{name}.png" for name in ("bright", "colour", "deep", "torn")]
    assert (
        "600 values lie outside the trained range 0 to 250 (they reach from 251 to 251)"
        in reasons["images/bright.png"]
    )
    assert reasons["images/colour.png"] == "is 8-bit RGB, but the refiner was trained on 8-bit grey images"
    assert reasons["images/deep.png"] == "is 16-bit grey, but the refiner was trained on 8-bit grey images"
    assert "truncated" in reasons["images/torn.png"]
    assert (report.n_images, report.n_refined) == (15, 11)
    assert report.tree.paths() == tuple(p for p in mixed.paths() if p not in reasons)
    assert {r["path"]: r["reason"] for r in manifest_of(out)["rejects"]} == reasons
    assert any("4 of 15 images were left out" in sentence for sentence in said)


def test_labels_of_a_tree_with_images_left_out_are_read_and_move_along_when_it_is_prepared(
    tmp_path: Path, mixed: ImageTree
) -> None:
    rows = "".join(f"{path},{i},{i}\n" for i, path in enumerate(mixed.paths()))
    (Path(mixed.root) / "labels.csv").write_text(f"path,angle,eye_x_px\n{rows}")
    entries = [{"id": i, "file_name": path} for i, path in enumerate(mixed.paths())]
    (Path(mixed.root) / "boxes.json").write_text(json.dumps({"images": entries, "annotations": []}))
    said: list[str] = []
    refiner = build_refiner(value_range=IN_RANGE)
    first = refine(mixed, refiner, tmp_path / "out", max_reject_share=0.5, warn=said.append).tree
    assert any("simgan passes over their rows" in sentence for sentence in said)
    wanted = {path: i for i, path in enumerate(mixed.paths())}
    prepared = prepare(first, tmp_path / "prepared", crop=(0, 2, 20, 20), masks="masks/*").tree
    again = refine(first, build_refiner(seed=1), tmp_path / "again").tree
    for tree, shift in ((first, 0), (prepared, 2), (again, 0)):
        labels = read_labels(tree)
        assert labels.values[:, 0].tolist() == [wanted[path] for path in tree.paths()]
        assert labels.values[:, 1].tolist() == [wanted[path] - shift for path in tree.paths()]
    assert json.loads((tmp_path / "prepared" / "boxes.json").read_text())["images"][0] == entries[0]


def test_too_many_unusable_images_end_it_before_anything_is_called_finished(
    tmp_path: Path, mixed: ImageTree
) -> None:
    with pytest.raises(DataError, match=r"1 of 15 images cannot be used"):
        refine(mixed, build_refiner(value_range=IN_RANGE), tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert not (tmp_path / "out" / "labels.csv").exists()
    # The same call again says the same; with a laxer limit it continues.
    with pytest.raises(DataError, match="images cannot be used"):
        refine(mixed, build_refiner(value_range=IN_RANGE), tmp_path / "out")
    report = refine(mixed, build_refiner(value_range=IN_RANGE), tmp_path / "out", max_reject_share=0.99)
    assert (report.n_refined, len(report.rejects)) == (11, 4)


def test_a_tree_of_another_kind_is_refused_whatever_the_limit(tmp_path: Path, tree: ImageTree) -> None:
    with pytest.raises(
        DataError, match=r"11 of 11 images cannot be used.*\n.*is 8-bit grey, but .* 8-bit RGB"
    ):
        refine(tree, build_refiner(channels=3), tmp_path / "out", max_reject_share=1)


def test_values_outside_the_range_are_clipped_on_request_and_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = np.array([[[3], [100], [252]], [[250], [255], [0]]], np.uint8)
    write_image(tmp_path / "in" / "a.png", image)
    write_image(tmp_path / "in" / "b.png", np.minimum(image, 250))
    refiner = build_refiner(identity=True, value_range=IN_RANGE, size=(2, 3))
    said: list[str] = []
    report = refine(
        ImageTree(tmp_path / "in"), refiner, tmp_path / "out", out_of_range="clip", warn=said.append
    )
    np.testing.assert_array_equal(report.tree.read("a.png"), np.minimum(image, 250))
    assert report.n_clipped == 2
    assert manifest_of(tmp_path / "out")["images"]["a.png"]["clipped"] == 2
    assert "clipped" not in manifest_of(tmp_path / "out")["images"]["b.png"]
    assert any("1 of 2 images hold values outside the range 0 to 250" in sentence for sentence in said)


def test_an_image_that_its_format_cannot_hold_again_is_left_out(
    tmp_path: Path, tree: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(array: Any, suffix: str, quality: int) -> bytes:
        if array[0, 0, 0] == refused:
            raise ImageError("PNG cannot hold this")
        return encode_image(array, suffix, quality)

    refused = build_refiner()(tree.read("images/left/01.png"))[0, 0, 0]
    monkeypatch.setattr("simgan.refinement.pipeline.encode_image", encode)
    report = refine(tree, build_refiner(), tmp_path / "out", max_reject_share=0.5)
    assert [(r.path, r.reason) for r in report.rejects] == [("images/left/01.png", "PNG cannot hold this")]
    assert not (tmp_path / "out" / "images/left/01.png").exists()


def test_an_image_that_cannot_be_opened_is_left_out(
    tmp_path: Path, tree: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *how: Any, **more: Any) -> Any:
        if path.endswith("01.png"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open(path, *how, **more)

    monkeypatch.setattr("simgan.refinement.tree.open", refuse, raising=False)
    report = refine(tree, build_refiner(), tmp_path / "out", max_reject_share=0.1)
    assert [r.reason for r in report.rejects] == ["cannot be read: Permission denied"]


def test_an_image_that_is_taken_away_meanwhile_is_a_data_error(tmp_path: Path, tree: ImageTree) -> None:
    last = Path(tree.root) / tree.paths()[-1]
    with pytest.raises(DataError, match=f"{last}: is gone"):
        refine(tree, build_refiner(), tmp_path / "out", progress=lambda done, _: last.unlink(missing_ok=True))


# --- the manifest -----------------------------------------------------------------------------------------


def test_the_manifest_names_both_files_of_each_image_by_sha256(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refiner = build_refiner()
    refine(tree, refiner, out)
    manifest = manifest_of(out)
    assert list(manifest["images"]) == list(tree.paths())
    for path, entry in manifest["images"].items():
        assert entry["source"] == hashlib.sha256((Path(tree.root) / path).read_bytes()).hexdigest()
        assert entry["refined"] == hashlib.sha256((out / path).read_bytes()).hexdigest()
    assert manifest["refiner"] == {"sha256": refiner.sha256, "provenance": refiner.provenance}
    assert manifest["counts"] == {
        "images": 11, "refined": 11, "unchanged": 0, "clipped": 0, "lossy": 0, "rejected": 0, "drifted": 0,
        "carried": 14,
    }  # fmt: skip


def test_the_manifest_gives_the_level_statistics_of_both_trees(tree: ImageTree, tmp_path: Path) -> None:
    refine(tree, build_refiner(level_mean=120, level_std=60), tmp_path / "out")
    pixels = np.stack([tree.read(path) for path in tree.paths()]).astype(float)
    levels = manifest_of(tmp_path / "out")["levels"]
    assert levels["synthetic"]["mean"] == pytest.approx(pixels.mean(), abs=1e-9)
    assert levels["synthetic"]["std"] == pytest.approx(pixels.std(), abs=1e-9)
    assert (levels["synthetic"]["low"], levels["synthetic"]["high"]) == (pixels.min(), pixels.max())
    assert levels["training"] == {"low": 0, "high": 255, "mean": 120, "std": 60}


def test_the_manifest_does_not_depend_on_time_or_place(tree: ImageTree, tmp_path: Path) -> None:
    shutil.copytree(tree.root, tmp_path / "elsewhere" / "copy")
    refine(tree, build_refiner(), tmp_path / "a")
    refine(ImageTree(tmp_path / "elsewhere" / "copy", tree.images), build_refiner(), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_tree_that_was_refined_before_gets_a_manifest_of_its_own(tree: ImageTree, tmp_path: Path) -> None:
    first = refine(tree, build_refiner(), tmp_path / "once").tree
    report = refine(first, build_refiner(seed=1), tmp_path / "twice")
    assert report.n_carried == 14
    assert any("its simgan-manifest.json was not carried" in sentence for sentence in report.warnings)
    assert manifest_of(tmp_path / "twice")["refiner"]["sha256"] == build_refiner(seed=1).sha256


# --- warnings ---------------------------------------------------------------------------------------------


def test_images_like_the_training_images_are_refined_without_a_warning(
    tree: ImageTree, tmp_path: Path
) -> None:
    assert refine(tree, build_refiner(), tmp_path / "out").warnings == ()


def test_sizes_between_those_of_the_training_images_are_no_cause_for_a_warning(
    tree: ImageTree, tmp_path: Path
) -> None:
    trained = build_refiner()
    for widths, warned in (((25, 35), False), ((31, 35), True)):
        sizes = {(20, width): 5 for width in widths}
        refiner = replace(trained, training_scan=replace(trained.training_scan, sizes=sizes))
        warnings = refine(tree, refiner, tmp_path / str(widths)).warnings
        assert bool(warnings) == warned
    assert "training images were 20×31 to 20×35" in warnings[0]


@pytest.mark.parametrize(
    ("like", "said"),
    [
        (
            {"size": (40, 60)},
            "11 of 11 images have another size .*01.png is 20×30, training images were 40×60",
        ),
        ({"level_mean": 60.0}, r"levels differ .*mean 12\d.*in training 60 and 74"),
        ({"level_std": 20.0}, r"levels differ .*in training 127.5 and 20"),
        ({"identity": True}, "11 of 11 images came out unchanged: the refiner hardly changes anything"),
        (
            {"value_range": ValueRange(0, 255, 5)},
            "11 of 11 images hold values between the levels .*multiples of 5",
        ),
    ],
)
def test_what_differs_from_training_is_said_in_words(
    tree: ImageTree, tmp_path: Path, like: dict[str, Any], said: str
) -> None:
    sentences: list[str] = []
    report = refine(tree, build_refiner(**like), tmp_path / "out", warn=sentences.append)
    assert tuple(sentences) == report.warnings == tuple(manifest_of(tmp_path / "out")["warnings"])
    assert len(sentences) == 1
    assert re.search(said, sentences[0]), sentences[0]


# --- interruption and repetition --------------------------------------------------------------------------


class _Stop(BaseException):
    pass


def interrupt(tree: ImageTree, out: Path, *, after: int, **options: Any) -> None:
    def progress(done: int, _: int) -> None:
        if done == after:
            raise _Stop

    with pytest.raises(_Stop):
        refine(tree, build_refiner(**options), out, progress=progress)


@pytest.mark.parametrize("after", [1, 5, 11])
def test_an_interrupted_refinement_continues_to_the_same_bytes(
    tree: ImageTree, tmp_path: Path, after: int
) -> None:
    refine(tree, build_refiner(), tmp_path / "whole")
    out = tmp_path / "out"
    interrupt(tree, out, after=after)
    assert (out / JOURNAL).exists()
    assert not (out / MANIFEST).exists()
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    with (out / JOURNAL).open("ab") as journal:
        journal.write(b'{"path": "images/le')  # torn by a kill
    (out / "images" / ".0123456789abcdef.tmp").write_bytes(b"half an image")
    calls: list[tuple[int, int]] = []
    report = refine(tree, build_refiner(), out, progress=lambda *at: calls.append(at))
    assert report.n_continued == after
    assert calls == [(i, 11) for i in range(after + 1, 12)]
    assert contents(out) == contents(tmp_path / "whole")
    kept = sum(p.stat().st_mtime_ns == before[p] for p in before)
    assert kept >= after


def test_an_image_that_changed_or_went_missing_meanwhile_is_refined_again(
    tree: ImageTree, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    interrupt(tree, out, after=11)
    changed, gone, spoiled, *_ = tree.paths()
    write_image(Path(tree.root) / changed, noise(20, 30, 1, seed=99))
    (out / gone).unlink()
    (Path(tree.root) / spoiled).write_bytes(b"no image")
    report = refine(tree, build_refiner(), out, max_reject_share=0.1)
    assert report.n_continued == 8
    assert [reject.path for reject in report.rejects] == [spoiled]
    assert not (out / spoiled).exists()
    shutil.rmtree(tmp_path / "out")
    refine(tree, build_refiner(), tmp_path / "whole", max_reject_share=0.1)
    refine(tree, build_refiner(), out, max_reject_share=0.1)
    assert contents(out) == contents(tmp_path / "whole")


def test_images_left_out_before_an_interruption_stay_left_out(tmp_path: Path, tree: ImageTree) -> None:
    (Path(tree.root) / tree.paths()[0]).write_bytes(b"no image")
    out = tmp_path / "out"

    def progress(done: int, _: int) -> None:
        if done == 5:
            raise _Stop

    with pytest.raises(_Stop):
        refine(tree, build_refiner(), out, max_reject_share=0.1, progress=progress)
    with pytest.raises(DataError, match="1 of 11 images cannot be used"):
        refine(tree, build_refiner(), out, max_reject_share=0.01)
    report = refine(tree, build_refiner(), out, max_reject_share=0.1)
    assert len(report.rejects) == 1
    refine(tree, build_refiner(), tmp_path / "whole", max_reject_share=0.1)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_finished_refinement_is_verified_and_left_as_it_is(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = refine(tree, build_refiner(), out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = refine(tree, build_refiner(), out)
    assert not first.already_done
    assert again.already_done
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    assert (again.n_refined, again.n_carried, again.tree) == (first.n_refined, first.n_carried, first.tree)


def test_a_journal_beside_the_manifest_is_removed(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refine(tree, build_refiner(), out)
    (out / JOURNAL).write_text("killed between the two last steps")
    assert refine(tree, build_refiner(), out).already_done
    assert not (out / JOURNAL).exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda root, out: write_image(out / "images/left/01.png", noise(20, 30, 1)),
            "1 files were changed or removed",
        ),
        (lambda root, out: (out / "images/left/01.png").unlink(), "1 files were changed or removed"),
        (lambda root, out: (out / "labels.csv").unlink(), "first labels.csv"),
        (
            lambda root, out: write_image(root / "images/left/01.png", noise(20, 30, 1)),
            "left/01.png is new, gone or",
        ),
        (
            lambda root, out: write_image(root / "images/new.png", noise(20, 30, 1)),
            "images/new.png is new, gone or",
        ),
        (lambda root, out: (root / "images/left/01.png").unlink(), "images/left/01.png is new, gone or"),
        (lambda root, out: (out / MANIFEST).write_text("{"), "is damaged"),
        (lambda root, out: (out / MANIFEST).write_text("[" * 100_000), "is damaged"),
        (lambda root, out: (out / MANIFEST).write_text('{"format_version": 2}'), "has format 2"),
    ],
)
def test_a_finished_tree_that_was_changed_since_is_not_called_done(
    tree: ImageTree, tmp_path: Path, damage: Any, said: str
) -> None:
    refine(tree, build_refiner(), tmp_path / "out")
    damage(Path(tree.root), tmp_path / "out")
    with pytest.raises(OutputError, match=said):
        refine(tree, build_refiner(), tmp_path / "out")


@pytest.mark.parametrize("finished", [True, False])
def test_another_refiner_or_setting_in_the_same_folder_is_refused(
    tree: ImageTree, tmp_path: Path, finished: bool
) -> None:
    out = tmp_path / "out"
    if finished:
        refine(tree, build_refiner(), out)
    else:
        interrupt(tree, out, after=5)
    before = contents(out)
    with pytest.raises(OutputError, match=r"another refinement \(refiner was"):
        refine(tree, build_refiner(seed=1), out)
    with pytest.raises(OutputError, match=r"\(jpeg_quality was 95, now 80; tile was 256, now 64\)"):
        refine(tree, build_refiner(), out, jpeg_quality=80, tile=64)
    with pytest.raises(OutputError, match="images was"):
        refine(ImageTree(tree.root, "images/left/*"), build_refiner(), out)
    with pytest.raises(OutputError, match='route was "cpu float32", now "cpu bfloat16"'):
        refine(tree, build_refiner(precision="bfloat16"), out)
    assert contents(out) == before


def test_a_tree_begun_from_another_folder_is_refused(tree: ImageTree, tmp_path: Path) -> None:
    interrupt(tree, tmp_path / "out", after=5)
    shutil.copytree(tree.root, tmp_path / "copy")
    with pytest.raises(OutputError, match="root was"):
        refine(ImageTree(tmp_path / "copy", tree.images), build_refiner(), tmp_path / "out")


def test_two_processes_do_not_refine_into_one_folder(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupt(tree, out, after=5)
    temporary = out / ".0123456789abcdef.tmp"
    temporary.write_bytes(b"what the other one is writing")
    with (out / JOURNAL).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process is refining"):
            refine(tree, build_refiner(), out)
    assert temporary.exists()


@pytest.mark.parametrize("line", [b"???", b"[" * 100_000])
def test_a_damaged_journal_is_refused(tree: ImageTree, tmp_path: Path, line: bytes) -> None:
    out = tmp_path / "out"
    interrupt(tree, out, after=5)
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    with pytest.raises(OutputError, match="is damaged"):
        refine(tree, build_refiner(), out)


def test_a_torn_line_does_not_spoil_the_lines_that_follow_it(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupt(tree, out, after=2)
    with (out / JOURNAL).open("ab") as journal:
        journal.write(b'{"path": "images/le')
    interrupt(tree, out, after=5)
    assert refine(tree, build_refiner(), out).n_continued == 5


def test_a_journal_torn_in_its_first_line_is_begun_anew(tree: ImageTree, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / JOURNAL).write_bytes(b'{"root": "/some')
    assert refine(tree, build_refiner(), tmp_path / "out").n_refined == 11


def test_a_refinement_killed_at_any_moment_continues_to_the_same_bytes(
    tree: ImageTree, tmp_path: Path
) -> None:
    print(kill_and_continue(tree, tmp_path, kills=3, seed=1))


def kill_and_continue(tree: ImageTree, work: Path, *, kills: int, seed: int) -> str:
    save_refiner(work / "refiner.safetensors", build_refiner())
    script = Path(__file__).with_name("kill_refine.py")
    arguments = [work / "refiner.safetensors", tree.root, work, kills, seed]
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    line = done.stdout.strip()
    killed, identical = int(line.split()[0]), int(line.split()[2])
    assert identical == killed >= kills, line
    return line


# --- places -----------------------------------------------------------------------------------------------


def test_the_refined_tree_must_lie_apart_from_the_synthetic_one(tree: ImageTree, tmp_path: Path) -> None:
    root = Path(tree.root)
    (tmp_path / "link").symlink_to(root)
    for out in (root, root / "out", tmp_path, tmp_path / "link", tmp_path / "link" / "out"):
        with pytest.raises(OutputError, match="the refined tree must lie outside"):
            refine(tree, build_refiner(), out)
    assert not (root / "out").exists()


def test_a_folder_that_holds_anything_else_is_refused(tree: ImageTree, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        refine(tree, build_refiner(), tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.tex": b"years of work"}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        refine(tree, build_refiner(), tmp_path / "file")


def test_a_foreign_file_beside_a_begun_refinement_is_refused(tree: ImageTree, tmp_path: Path) -> None:
    interrupt(tree, tmp_path / "out", after=5)
    (tmp_path / "out" / "images" / "stray.png").write_bytes(b"")
    with pytest.raises(OutputError, match=r"1 files that do not belong .* images/stray.png"):
        refine(tree, build_refiner(), tmp_path / "out")


@pytest.mark.parametrize("writes", range(0, 27, 4))
def test_a_full_disk_is_a_clear_error_and_the_same_call_continues(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """The 11 images, 14 other files and the manifest are each put in place once: the disk fills up at any of them."""
    refine(tree, build_refiner(), tmp_path / "whole")
    left, replace_file = iter(range(writes)), os.replace

    def full(source: Path, target: Path) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(source, target)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OutputError, match=r"No space left on device.*run "):
            refine(tree, build_refiner(), out)
    whole = contents(tmp_path / "whole")
    for path, data in contents(out).items():
        assert path == JOURNAL or data == whole[path]
    assert refine(tree, build_refiner(), out).n_refined == 11
    assert contents(out) == whole


def test_a_journal_that_cannot_be_written_is_an_output_error(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half of a line, then refuses: the torn line is no obstacle later."""
    out, write, calls = tmp_path / "out", os.write, []

    def half(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) < 5:
            return write(descriptor, data)
        if len(calls) == 5:
            return write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OutputError, match=r"simgan-refine\.jsonl: cannot be written: No space left"):
            refine(tree, build_refiner(), out)
    report = refine(tree, build_refiner(), out)
    assert report.n_continued == 3
    refine(tree, build_refiner(), tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_is_an_output_error(tree: ImageTree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        refine(tree, build_refiner(), tmp_path / "file" / "out")


def test_an_unreadable_other_file_is_a_data_error(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "labels.csv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"labels.csv: cannot be read: Permission denied"):
        refine(tree, build_refiner(), tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()
