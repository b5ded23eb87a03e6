from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from report_runs import make_run
from simgan.data.trees import ImageTree
from simgan.errors import DataError, WeightsError
from simgan.images import write_image
from simgan.refinement import refine
from simgan.reporting import info
from simgan.weights import load_refiner


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("info"))


def test_a_run_is_described_by_its_state_data_and_networks(run: Path) -> None:
    found = info(run)
    assert found.kind == "run"
    assert found.groups["Run"]["state"] == "finished, 4 steps"
    assert found.groups["Run"]["kept refiner"].endswith("of 2 candidates")
    assert found.groups["Run"]["evaluation"] == "none yet"
    assert found.groups["Run"]["refiner"] == str(run / "refiner.safetensors")
    assert found.groups["Data"]["synthetic images"].startswith("10, 8-bit grey, height×width 8×8, levels ")
    assert found.groups["Networks"]["D patch grid"] == "4×4"
    assert found.groups["Training"]["warm-up"] == "R 3, then D 4 updates"


def test_task_consistency_is_described_where_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'recipe = "default"\n[objective]\ntask_consistency_weight = 0.25\n'
        "[training]\nwarmup_refiner_steps = 2\nwarmup_task_steps = 3\n"
        "warmup_self_ensembling_steps = 5\nwarmup_discriminator_steps = 4\n"
    )
    groups = info(tmp_path).groups
    assert groups["Objective"]["task consistency μ"] == "0.250"
    assert (
        groups["Training"]["warm-up"]
        == "R 2, then the task network 3, then the same with real images 5, then D 4 updates"
    )


def test_weights_are_described_by_what_they_compute_and_where_they_come_from(run: Path) -> None:
    found = info(run / "refiner.safetensors")
    trained = load_refiner(run)
    assert found.kind == "weights"
    assert found.groups["Refiner"]["layers"] == "conv 3×3, 1 residual block of 3×3, conv 1×1; 4 maps"
    assert found.groups["Refiner"]["computes"] == "the image itself"
    # 4·9+4 and twice 4·4·9+4 and 4+1
    assert found.groups["Refiner"]["parameters"] == str(40 + 2 * 148 + 5)
    assert found.groups["Refiner"]["receptive field"] == "7 px"
    assert found.groups["Refiner"]["sha256"] == trained.sha256
    assert found.groups["Images it takes"] == {
        "format": "8-bit grey",
        "value range": "0 to 255 (256 levels)",
    }
    assert found.groups["Provenance"]["recipe"] == "default"


def test_a_tree_is_described_by_its_images_and_labels(tmp_path: Path) -> None:
    for name, level in (("a/0.png", 0), ("a/1.png", 30), ("b/2.png", 60)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, np.full((4, 6, 1), level, np.uint8))
    (tmp_path / "notes.txt").write_text("x")
    seen: list[tuple[int, int]] = []
    found = info(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert found.kind == "tree"
    assert found.groups["Images"]["images"] == "3"
    assert found.groups["Images"]["height×width"] == "4×6"
    assert found.groups["Images"]["levels"] == "0 to 60 in steps of 30; mean 30.0 ± 24.5"
    assert found.groups["Beside them"] == {"other files": "1 .txt", "labels": "folders: 2 classes (a, b)"}
    assert seen[-1] == (3, 3)


def test_a_pattern_narrows_the_tree(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        write_image(tmp_path / name, np.zeros((4, 4, 1), np.uint8))
    assert info(ImageTree(tmp_path, "*.png")).groups["Images"]["images"] == "1"


def test_labels_of_numbers_and_groups_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", np.zeros((4, 4, 1), np.uint8))
    (tmp_path / "labels.csv").write_text("path,x_px,group\n0.png,1.5,p1\n")
    beside = info(tmp_path).groups["Beside them"]
    assert beside["labels"] == "csv: 1 values (x_px)"
    assert beside["groups"] == "1"
    (tmp_path / "labels.csv").write_text("path,x_px\n")
    assert info(tmp_path).groups["Beside them"]["labels"].startswith("cannot be read:")


def test_an_unlabelled_tree_has_no_labels_and_says_which_files_are_unusable(tmp_path: Path) -> None:
    for i in range(2):
        write_image(tmp_path / f"{i}.png", np.zeros((4 + i, 4, 1), np.uint8))
    for i in range(12):
        (tmp_path / f"bad{i:02}.png").write_bytes(b"no image")
    found = info(tmp_path)
    assert found.groups["Beside them"]["labels"] == "none"
    assert found.groups["Images"]["left out"].startswith("12 files, first bad00.png: ")
    assert found.warnings[0].startswith("bad00.png cannot be used: ")
    assert found.warnings[-1] == "and 2 more files that cannot be used"


def test_a_refined_tree_says_what_became_of_its_images(run: Path, tmp_path: Path) -> None:
    refine(ImageTree(run.parent / "synthetic"), run, tmp_path / "refined")
    refined = info(tmp_path / "refined").groups["Refined"]
    assert refined["images"] == "10 synthetic, 10 refined"
    assert refined["refiner"] == load_refiner(run).sha256


def test_text_and_json_say_the_same(run: Path) -> None:
    found = info(run)
    text = "\n".join(found.lines())
    as_json = json.loads(json.dumps(found.to_dict()))
    assert text.splitlines()[0] == f"Run directory {run}"
    for facts in found.groups.values():
        for key, value in facts.items():
            assert f"{key} " in text
            assert value in text
    assert as_json["kind"] == "run"
    assert as_json["Run"]["state"] == "finished, 4 steps"
    assert as_json["warnings"] == list(found.warnings)


def test_warnings_stand_at_the_end(tmp_path: Path) -> None:
    for i in range(30):
        write_image(tmp_path / f"{i}.png", np.zeros((4, 4, 1), np.uint8))
    (tmp_path / "bad.png").write_bytes(b"no image")
    lines = info(tmp_path).lines()
    assert lines[-2] == "Warnings"
    assert lines[-1].startswith("  - bad.png cannot be used")


def test_nothing_at_a_path_is_said_with_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing there; give a run directory"):
        info(tmp_path / "nowhere")
    (tmp_path / "text.txt").write_text("no weights")
    with pytest.raises(WeightsError, match="text"):
        info(tmp_path / "text.txt")
