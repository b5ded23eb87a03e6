from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import simgan
from simgan.images import read_image, write_image
from simgan.simulators.digits import simulate_digits
from simgan.training.algorithm import Players

EXAMPLES = Path(__file__).parents[1] / "examples"
RUN_HERE = {
    "own_folders.py",
    "refine_one_image.py",
    "new_label_format.py",
    "own_training_loop.py",
    "standalone_onnx.py",
    "train_on_refined.py",
}

TINY = """
[refiner]
width = 4
blocks = 1
[objective]
task_consistency_weight = 0
[training]
steps = 4
batch_size = 8
warmup_refiner_steps = 0
warmup_task_steps = 0
warmup_discriminator_steps = 2
"""


def run_example(name: str, *arguments: object) -> str:
    """What the example prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True, text=True, timeout=100, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which own_folders.py has been run on a few digits."""
    folder = tmp_path_factory.mktemp("examples")
    for seed, name in enumerate(("synthetic", "real", "labelled")):
        simulate_digits(folder / name, count=60, seed=seed)
    trees = (folder / "synthetic", folder / "real", folder / "labelled", folder / "work")
    (folder / "tiny.toml").write_text(TINY)
    fast = ("--recipe", folder / "tiny.toml", "--updates", 2, "--task-seeds", 1)
    out = run_example("own_folders.py", *trees, *fast)
    (folder / "said.txt").write_text(out)
    return folder


def test_every_example_is_run_by_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == RUN_HERE


def test_own_folders_become_a_refined_tree_an_evaluation_and_a_report(work: Path) -> None:
    said = (work / "said.txt").read_text()
    names = {path.relative_to(work / "synthetic") for path in (work / "synthetic").rglob("*.*")}
    assert names <= {
        path.relative_to(work / "work" / "refined") for path in (work / "work" / "refined").rglob("*.*")
    }
    record = json.loads((work / "work" / "evaluation.json").read_text())
    assert f"refined            accuracy {record['downstream']['refined']['mean']:.3f}" in said
    assert (work / "work" / "report.html").stat().st_size > 10_000


def test_one_image_is_refined_as_in_its_tree(work: Path) -> None:
    name = "3/00003.png"
    said = run_example(
        "refine_one_image.py", work / "work" / "run", work / "synthetic" / name, work / "one.png"
    )
    assert "8-bit grey" in said
    assert np.array_equal(read_image(work / "one.png"), read_image(work / "work" / "refined" / name))


def test_a_label_format_of_ones_own_is_read(tmp_path: Path) -> None:
    for pitch, yaw in ((-10.5, 3), (0, 0), (12.25, -7)):
        write_image(tmp_path / f"left_eye_{pitch}_{yaw}.png", np.zeros((8, 8, 1), np.uint8))
    said = run_example("new_label_format.py", tmp_path)
    assert said.splitlines() == ["pitch_deg: 3 images, -10.5 to 12.2", "yaw_deg: 3 images, -7.0 to 3.0"]


def test_an_exported_refiner_needs_onnxruntime_and_numpy_alone(work: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    lines = (EXAMPLES / "standalone_onnx.py").read_text().splitlines()
    code = [line for line in lines if line and not line.startswith(("#", '"""'))]
    assert len(code) <= 20
    assert {line.split()[1] for line in code if "import " in line} == {"json", "sys", "numpy", "onnxruntime"}
    simgan.export(work / "work" / "run", work / "refiner.onnx")
    name = "3/00003.png"
    image = read_image(work / "synthetic" / name)
    np.save(work / "images.npy", np.stack([image, image]))
    said = run_example("standalone_onnx.py", work / "refiner.onnx", work / "images.npy", work / "refined.npy")
    assert "refined 2 images of (8, 8, 1)" in said
    wanted = read_image(work / "work" / "refined" / name).astype(int)
    refined = np.load(work / "refined.npy")
    assert refined.dtype == np.uint8
    # The run may have refined in bfloat16, which is within a level or two.
    assert np.abs(refined - wanted).max() <= 3


def test_refined_images_train_a_network_from_a_tree_and_on_the_fly(work: Path) -> None:
    folders = (work / "synthetic", work / "work" / "refined", work / "labelled", work / "work" / "run")
    said = run_example("train_on_refined.py", *folders, 2).splitlines()
    assert [line[:20].strip() for line in said] == ["synthetic", "refined tree", "refined on the fly"]
    assert all(0 <= float(line.split()[-1]) <= 1 for line in said)


def test_algorithm_1_runs_without_the_loop_and_with_a_new_feature_transform(work: Path) -> None:
    said = run_example("own_training_loop.py", work / "synthetic", work / "real", 3)
    assert [line.split()[0] for line in said.splitlines()] == ["1", "3"]
    assert "'self_regularization'" in said
    assert "'discriminator_accuracy'" in said


def test_an_own_loop_that_draws_no_labels_has_no_task_network(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("own_training_loop", EXAMPLES / "own_training_loop.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    seen: list[Players] = []
    monkeypatch.setattr(example, "adversarial_step", lambda players, *_, **__: (seen.append(players), {})[1])
    example.main(str(work / "synthetic"), str(work / "real"), "1")
    assert [players.task for players in seen] == [None]
