"""refine(max_drift_px=…): images that moved too far are left out and listed, with their drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refiners import build_refiner
from simgan.data.conversion import convert
from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, OutputError
from simgan.images import write_image
from simgan.refinement import MANIFEST, RefinementReport, refine
from simgan.weights import TrainedRefiner
from textures import texture

SIZE = (40, 48)
MOVED = {"still": 0, "little": 1, "far": 3}


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    """Textured images, one flat, and one that will be replaced; the top left pixel says how far each will move."""
    root, rows = tmp_path / "synthetic", ["path,angle"]
    for k, (name, px) in enumerate({**MOVED, "replaced": 9, "flat": 0}.items()):
        image = (127.5 + 100 * texture(1, *SIZE, seed=k)[0]).clip(0, 255).astype(np.uint8)
        image = np.full_like(image, 90) if name == "flat" else image
        image[0, 0] = px
        (root / "images").mkdir(parents=True, exist_ok=True)
        write_image(root / "images" / f"{name}.png", image)
        rows.append(f"images/{name}.png,{k}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return ImageTree(root, "images/*.png")


@pytest.fixture(autouse=True)
def _moving_refiner(monkeypatch: pytest.MonkeyPatch) -> None:
    def move(_self: TrainedRefiner, images: NDArray[Any], _size: int, _tile: int) -> NDArray[Any]:
        return np.stack([moved(image) for image in images])

    def moved(image: NDArray[Any]) -> NDArray[Any]:
        px = int(image[0, 0, 0])
        if px == 9:
            return (127.5 + 100 * texture(1, *SIZE, seed=99)[0]).clip(0, 255).astype(np.uint8)
        return np.roll(image, px, axis=1)

    monkeypatch.setattr(TrainedRefiner, "_refine_batch", move)


def test_images_above_the_limit_and_lost_ones_are_left_out_and_listed_with_the_reason(
    tree: ImageTree, tmp_path: Path
) -> None:
    said: list[str] = []
    report = refine(
        tree, build_refiner(), tmp_path / "out", max_drift_px=2, max_reject_share=0.0, warn=said.append
    )
    assert report.tree.paths() == ("images/flat.png", "images/little.png", "images/still.png")
    assert (report.n_images, report.n_refined, report.n_drifted) == (5, 3, 2)
    reasons = {reject.path: reject.reason for reject in report.rejects}
    assert reasons["images/far.png"].startswith("drifted: its structure moved by 3.0")
    assert reasons["images/far.png"].endswith("px, the limit is 2 px")
    assert "of its structure was found again" in reasons["images/replaced.png"]
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["command"]["max_drift_px"] == 2
    assert manifest["counts"]["drifted"] == 2
    assert manifest["images"]["images/little.png"]["drift_px"] == pytest.approx(1, abs=0.1)
    assert manifest["images"]["images/still.png"]["drift_px"] == pytest.approx(0, abs=0.1)
    assert "drift_px" not in manifest["images"]["images/flat.png"]
    assert any("1 of 3 images have no structure whose drift could be measured" in one for one in said)
    assert len(read_labels(report.tree)) == 3, "rows of images that were left out are passed over"


def test_the_same_call_again_verifies_and_another_limit_is_refused(tree: ImageTree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refine(tree, build_refiner(), out, max_drift_px=2)
    assert refine(tree, build_refiner(), out, max_drift_px=2).already_done
    with pytest.raises(OutputError, match="max_drift_px"):
        refine(tree, build_refiner(), out, max_drift_px=1)


def test_an_interrupted_refinement_goes_on_without_what_had_drifted(tree: ImageTree, tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(tree, build_refiner(), tmp_path / "out", max_drift_px=2, max_reject_share=0.0, progress=stop)
    report = refine(tree, build_refiner(), tmp_path / "out", max_drift_px=2, max_reject_share=0.0)
    assert report.n_continued == 4
    assert report.n_drifted == 2


def test_without_a_limit_nothing_is_measured_or_left_out(tree: ImageTree, tmp_path: Path) -> None:
    report = refine(tree, build_refiner(), tmp_path / "out")
    assert (report.n_refined, report.n_drifted) == (5, 0)
    assert "drift_px" not in (tmp_path / "out" / MANIFEST).read_text().replace("max_drift_px", "")


def test_a_limit_that_leaves_nothing_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    image = (127.5 + 100 * texture(1, *SIZE)[0]).clip(0, 255).astype(np.uint8)
    image[0, 0] = 3
    (tmp_path / "s").mkdir()
    write_image(tmp_path / "s" / "a.png", image)
    with pytest.raises(DataError, match=r"every image .* drifted too far, first a\.png"):
        refine(ImageTree(tmp_path / "s"), build_refiner(), tmp_path / "out", max_drift_px=1)


@pytest.mark.parametrize("limit", [0, -1, 5, float("nan")])
def test_a_limit_that_cannot_be_measured_is_refused(tree: ImageTree, tmp_path: Path, limit: float) -> None:
    with pytest.raises(ConfigurationError, match="max_drift_px"):
        refine(tree, build_refiner(), tmp_path / "out", max_drift_px=limit)


# --- in shards --------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tree: ImageTree, tmp_path: Path) -> ImageTree:
    """One image each: of two shards every image drifts."""
    convert(tree.root, tmp_path / "shards", samples=1)
    return ImageTree(tmp_path / "shards", "images/*.png")


def test_shards_leave_out_what_a_folder_leaves_out_however_many_a_shard_lacks(
    tree: ImageTree, shards: ImageTree, tmp_path: Path
) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"max_drift_px": 2, "max_reject_share": 0.0}
    report = refine(shards, build_refiner(), tmp_path / "out", warn=said.append, **options)
    whole = refine(tree, build_refiner(), tmp_path / "whole", **options)
    assert (report.n_images, report.n_refined, report.n_drifted) == (5, 3, 2)

    def left_out(report: RefinementReport) -> dict[str, str]:
        return {Path(reject.path).name: reject.reason for reject in report.rejects}

    assert left_out(report) == left_out(whole)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["command"]["max_drift_px"] == 2
    assert manifest["counts"]["drifted"] == 2
    assert sorted(entry["drifted"] for entry in manifest["shards"].values())[-3:] == [0, 1, 1]
    assert any("1 of 3 images have no structure whose drift could be measured" in one for one in said)
    assert refine(shards, build_refiner(), tmp_path / "out", **options).already_done


def test_images_that_cannot_be_read_still_count_in_shards_where_others_drifted(
    tree: ImageTree, tmp_path: Path
) -> None:
    (Path(tree.root) / "images" / "damaged.png").write_bytes(b"no image")
    convert(tree.root, tmp_path / "shards", samples=10)
    with pytest.raises(DataError, match=r"1 of 6 images cannot be used"):
        refine(
            ImageTree(tmp_path / "shards", "images/*.png"),
            build_refiner(),
            tmp_path / "out",
            max_drift_px=2,
            max_reject_share=0.0,
        )


def test_a_limit_that_leaves_nothing_in_any_shard_is_an_error(tree: ImageTree, tmp_path: Path) -> None:
    for name in ("still", "little", "flat"):
        (Path(tree.root) / "images" / f"{name}.png").unlink()
    convert(tree.root, tmp_path / "shards", samples=1)
    shards = ImageTree(tmp_path / "shards", "images/*.png")
    with pytest.raises(DataError, match=r"every image .* drifted too far, first .*far\.png"):
        refine(shards, build_refiner(), tmp_path / "out", max_drift_px=1)
