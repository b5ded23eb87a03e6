from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import simgan
from refiners import build_refiner, noise
from simgan.cli import run
from simgan.exporting import export, load_runtime, onnx_file, parity, runtimes
from simgan.exporting.graph import native_graph
from simgan.exporting.onnx_file import computed_by_onnx
from simgan.exporting.parity import computed_by, in_float32, measure_parity, refuse_difference
from simgan.images import ValueRange, read_image, write_image
from simgan.weights import TrainedRefiner, save_refiner

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

KINDS: dict[str, dict[str, Any]] = {
    "8-bit grey": {},
    "levels matched": {"level_matching": True, "channels": 3, "value_range": ValueRange(10, 235)},
    "16-bit depth": {"bit_depth": 16, "value_range": ValueRange(400, 4000, 2, 0)},
    "holes within the range": {"value_range": ValueRange(0, 240, 15, 45), "output": "image"},
    "holes at the top": {"value_range": ValueRange(0, 255, 1, 255)},
}


def write_tree(folder: Path, trained: TrainedRefiner, *, count: int = 6) -> simgan.ImageTree:
    """Images of two sizes of the kind that the refiner takes."""
    kind = trained.pixel_format
    folder.mkdir()
    for i in range(count):
        image = noise(20 - i % 2, 30, kind.channels, bits=kind.bit_depth, seed=i)
        write_image(folder / f"{i}.png", image)
    return simgan.ImageTree(folder)


@pytest.fixture(scope="module")
def plain() -> TrainedRefiner:
    return build_refiner()


@pytest.fixture(scope="module")
def plain_file(plain: TrainedRefiner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    return export(plain, folder / "r.onnx", images=write_tree(folder / "images", plain)).path


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_computes_what_the_refiner_does_for_any_number_and_size_of_images(
    kind: str, tmp_path: Path
) -> None:
    trained = build_refiner(**KINDS[kind])
    report = export(trained, tmp_path / "r.onnx", images=write_tree(tmp_path / "images", trained))
    session = onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])
    format_ = trained.pixel_format
    for shape in ((1, 20, 30), (3, 9, 5), (2, 1, 1), (1, 70, 3)):
        images = noise(*shape, format_.channels, bits=format_.bit_depth)
        refined, values = session.run(["refined", "values"], {"images": images})
        wanted, x = computed_by(trained)(images)
        assert refined.dtype == images.dtype
        apart = np.abs(refined.astype(int) - wanted.astype(int))
        assert apart.max() <= trained.value_range.step, "end to end"
        assert (apart > 0).mean() < 0.01
        assert np.abs(values - x).max() <= 1e-5
        assert values.min() >= -1
        assert values.max() <= 1
    assert report.parity.holds
    assert report.parity.n_images == 6


def test_holes_stay_and_no_other_pixel_becomes_one(tmp_path: Path) -> None:
    trained = build_refiner(value_range=ValueRange(0, 255, 1, 0))
    trained.refiner.tail.bias.data -= 3.0  # type: ignore[union-attr]  # pulls everything to the lowest level
    model = native_graph(trained).SerializeToString()
    images = noise(2, 12, 12, 1)
    images[:, :3] = 0
    refined, _ = computed_by_onnx(model)(images)
    assert np.array_equal(refined == 0, images == 0)
    assert (refined[images > 0] == 1).mean() > 0.9


def test_values_outside_the_range_are_clipped_to_it(tmp_path: Path) -> None:
    trained = build_refiner(value_range=ValueRange(50, 200), level_matching=True)
    model = native_graph(trained).SerializeToString()
    images = noise(2, 12, 12, 1)
    assert np.array_equal(
        computed_by_onnx(model)(images)[0], computed_by_onnx(model)(images.clip(50, 200))[0]
    )


def test_the_file_says_what_it_takes_and_where_it_comes_from_and_names_no_file_of_this_disk(
    plain: TrainedRefiner, plain_file: Path
) -> None:
    model = onnx.load(str(plain_file))
    about = json.loads({entry.key: entry.value for entry in model.metadata_props}["simgan"])
    assert about["value_range"] == {"low": 0, "high": 255, "step": 1, "invalid": None}
    assert about["pixel_format"] == {"channels": 1, "bit_depth": 8, "alpha": False}
    assert about["weights_sha256"] == plain.sha256
    assert about["provenance"]["recipe"] == "default"
    assert about["licence"].startswith("none")
    assert about["parity"]["n_images"] == 6
    data = plain_file.read_bytes()
    assert b"private name" not in data
    assert b"/" + b"simgan/" not in data
    assert b".py" not in data
    dims = [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input]
    assert dims == [["N", "H", "W", 1]]


def test_a_graph_that_computes_something_else_is_not_kept(
    plain: TrainedRefiner, plain_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(tmp_path / "images", plain)
    other = native_graph(build_refiner(seed=1))
    monkeypatch.setattr(onnx_file, "native_graph", lambda _: other)
    (tmp_path / "r.onnx").write_bytes(plain_file.read_bytes())
    with pytest.raises(
        simgan.WeightsError, match=r"does not compute what the refiner does.*nothing was kept"
    ):
        export(plain, tmp_path / "r.onnx", images=tree)
    assert (tmp_path / "r.onnx").read_bytes() == plain_file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "r.onnx"]


def test_parity_is_within_the_tolerances_or_does_not_hold() -> None:
    def shifted(levels: int, values: float) -> Callable[[Any], Any]:
        return lambda images: (images + np.uint8(levels), np.float32(values) + np.zeros(images.shape, "f"))

    batches = [np.zeros((2, 3, 3, 1), np.uint8), np.zeros((1, 1, 1, 1), np.uint8)]
    same = measure_parity(shifted(0, 0), shifted(2, 5e-6), batches, step=2)
    assert (same.n_images, same.level_difference, same.differing_share) == (3, 1, 1.0)
    assert same.value_difference == pytest.approx(5e-6)
    assert same.holds
    assert not measure_parity(shifted(0, 0), shifted(4, 0), batches, step=2).holds
    assert not measure_parity(shifted(0, 0), shifted(0, 2e-5), batches, step=1).holds
    assert not measure_parity(shifted(0, 0), shifted(0, np.nan), batches, step=1).holds


def test_an_earlier_export_is_replaced_and_anything_else_left_alone(
    plain: TrainedRefiner, plain_file: Path, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "images", plain)
    target = tmp_path / "r.onnx"
    target.write_bytes(plain_file.read_bytes())
    before = export(plain, target, images=tree)
    assert target.read_bytes() == plain_file.read_bytes(), "equal refiners, equal images, equal bytes"
    assert before.n_bytes == target.stat().st_size
    for foreign in (b"not a model", b""):
        target.write_bytes(foreign)
        with pytest.raises(simgan.OutputError, match="is not an export of simgan and was left alone"):
            export(plain, target, images=tree)
        assert target.read_bytes() == foreign
    with pytest.raises(simgan.OutputError, match=r"must end in \.onnx"):
        export(plain, tmp_path / "r.pt", images=tree)
    with pytest.raises(simgan.OutputError, match="there is no folder"):
        export(plain, tmp_path / "missing" / "r.onnx", images=tree)


def test_what_cannot_be_exported_is_refused_with_the_reason(
    plain: TrainedRefiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "r.onnx"
    with pytest.raises(simgan.DataError, match="images are wanted on which the export is compared"):
        export(plain, target)
    colour = write_tree(tmp_path / "colour", build_refiner(channels=3))
    (tmp_path / "colour" / "broken.png").write_bytes(b"no image")
    with pytest.raises(simgan.DataError, match="none of 7 images looked at is 8-bit grey"):
        export(plain, target, images=colour)
    monkeypatch.setattr("simgan.exporting.graph._LARGEST", 100)
    with pytest.raises(simgan.WeightsError, match="an ONNX file holds less than 2 GiB"):
        export(plain, target, images=write_tree(tmp_path / "grey", plain))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(simgan.MissingExtraError, match=r"pip install 'simgan\[onnx\]'"):
        export(plain, target)
    assert not target.exists()


def test_a_run_is_compared_on_the_images_that_it_was_trained_on(
    plain: TrainedRefiner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, folder, target = write_tree(tmp_path / "images", plain), tmp_path / "run", tmp_path / "r.onnx"
    folder.mkdir()
    save_refiner(folder / "refiner.safetensors", plain)
    (folder / "config.toml").write_text(f'[synthetic]\nroot = "{tree.root}"\n')
    assert run(["export", str(folder), "--out", str(target), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["parity"]["n_images"] == 6
    assert said["weights_sha256"] == plain.sha256
    (folder / "config.toml").write_text(f'[synthetic]\nroot = "{tmp_path / "gone"}"\n')
    assert run(["export", str(folder), "--out", str(target)]) == 1
    assert "are not there any more" in capsys.readouterr().err
    command = [
        "export",
        str(folder),
        "--out",
        str(target),
        "--images-of",
        str(tree.root),
        "--images",
        "*.png",
    ]
    assert run(command) == 0
    assert "over 6 images at most" in capsys.readouterr().out


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_tree_refined_by_another_runtime_is_the_one_that_torch_refines(
    runtime: Any, plain: TrainedRefiner, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime" if runtime == "onnx" else "openvino")
    tree = write_tree(tmp_path / "images", plain, count=8)
    large = noise(40, 45, 1, seed=9)
    write_image(tmp_path / "images" / "large.png", large)
    computed, found = load_runtime(plain, runtime, images=tree)
    assert found.holds
    assert found.value_difference < 1e-6
    torch.set_num_threads(2)  # several images at once
    try:
        report = simgan.refine(tree, computed, tmp_path / "refined", tile=16)
        simgan.refine(tree, plain, tmp_path / "wanted", tile=16)
    finally:
        torch.set_num_threads(1)
    for path in tree.paths():
        pair = [read_image(tmp_path / side / path).astype(int) for side in ("refined", "wanted")]
        assert np.abs(pair[0] - pair[1]).max() <= 1
    command = json.loads(report.manifest.read_text())["command"]
    assert command["route"].endswith("float32")
    assert command["route"].startswith({"onnx": "onnxruntime", "openvino": "openvino"}[runtime])
    assert command["refiner"] == plain.sha256


def test_a_runtime_that_is_less_exact_than_it_says_is_refused(
    plain: TrainedRefiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(tmp_path / "images", plain)
    exact = runtimes.OPEN_SESSION["onnx"]

    def coarse(graph: bytes) -> Any:
        session, name = exact(graph)
        return (lambda images: session(images) + np.float32(2e-3)), name

    monkeypatch.setattr(runtimes, "OPEN_SESSION", {"onnx": coarse, "openvino-fast": coarse})
    with pytest.raises(simgan.WeightsError, match=r"onnxruntime .* does not compute what the refiner does"):
        load_runtime(plain, "onnx", images=tree)
    _, found = load_runtime(plain, "openvino-fast", images=tree)
    assert found.value_difference == pytest.approx(2e-3, rel=0.01)
    assert not found.holds
    with pytest.raises(simgan.ConfigurationError, match="`runtime` must be one of onnx, openvino"):
        load_runtime(plain, "tensorrt", images=tree)  # type: ignore[arg-type]


def test_openvino_computes_in_float32_unless_it_is_asked_to_be_fast(
    plain: TrainedRefiner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    tree = write_tree(tmp_path / "images", plain)
    save_refiner(tmp_path / "refiner.safetensors", plain)
    refine = ["refine", str(tmp_path / "refiner.safetensors"), str(tree.root), "--runtime"]
    assert run([*refine, "openvino", "--out", str(tmp_path / "exact")]) == 0
    said = capsys.readouterr().err
    assert "float32 beside torch float32: over 6 images at most" in said
    assert "warning: openvino" not in said
    assert run([*refine, "openvino-fast", "--out", str(tmp_path / "fast")]) == 0
    said = capsys.readouterr().err
    assert "beside torch float32: over 6 images at most" in said
    assert ("bfloat16" in said) <= ("warning: openvino" in said), "the error of a fast mode is a warning"


def test_the_same_refiner_in_float32_on_the_cpu_is_what_others_are_judged_by() -> None:
    trained = build_refiner(precision="bfloat16")
    assert str(in_float32(trained).route) == "cpu float32"
    refuse_difference(
        replace(
            measure_parity(computed_by(trained), computed_by(trained), [noise(1, 4, 4, 1)], step=1),
            value_difference=parity.VALUE_TOLERANCE,
        ),
        "it",
    )


def real_images(simgan_data: Path | None) -> np.ndarray[Any, Any]:
    if simgan_data is None:
        return (load_digits().images[:, :, :, None] * 15).astype(np.uint8)
    paths = sorted((simgan_data / "mpiigaze-p00").rglob("*.png"))[:100]
    return np.stack([read_image(path) for path in paths])


@pytest.mark.parametrize("where", ["digits of scikit-learn", "SIMGAN_DATA"])
def test_on_real_images_the_file_is_within_1e_5_on_minus_1_to_1_and_within_one_grey_level(
    where: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue("simgan_data") if where == "SIMGAN_DATA" else None
    images = real_images(data)
    trained = build_refiner(level_matching=True, blocks=4)
    found = measure_parity(
        computed_by(trained),
        computed_by_onnx(native_graph(trained).SerializeToString()),
        [images[i : i + 50] for i in range(0, len(images), 50)],
        step=1,
    )
    assert found.n_images == len(images) >= 100
    assert found.value_difference <= 1e-5
    assert found.level_difference <= 1
