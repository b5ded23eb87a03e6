from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from refiners import build_refiner, noise
from simgan.config import resolve_configuration
from simgan.errors import ConfigurationError, DataError, OutputError, RunError, WeightsError
from simgan.images import ValueRange
from simgan.nn.tiling import apply_tiled
from simgan.training.assembly import assemble
from simgan.training.candidates import refine_batch
from simgan.training.loop import trained_refiner
from simgan.training.run import RunDirectory
from simgan.weights import TrainedRefiner, load_refiner, save_refiner
from tiny_runs import write_sides


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "refiner.safetensors"
    save_refiner(path, build_refiner(level_matching=True))
    return path


def metadata_of(file: Path) -> dict[str, Any]:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["simgan"])


def rewrite(file: Path, metadata: Any, tensors: dict[str, torch.Tensor] | None = None) -> None:
    """The same file with other metadata, or other tensors."""
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file(load_file(file) if tensors is None else tensors, file, {"simgan": text})


# --- the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level_matching", [False, True])
def test_a_loaded_refiner_computes_what_the_saved_one_did(tmp_path: Path, level_matching: bool) -> None:
    saved = build_refiner(channels=3, level_matching=level_matching, value_range=ValueRange(0, 255, 5, 7))
    save_refiner(tmp_path / "refiner.safetensors", saved)
    loaded = load_refiner(tmp_path, device="cpu", precision="float32")
    images = noise(4, 20, 30, 3) // 5 * 5
    assert not np.array_equal(saved(images), images)
    np.testing.assert_array_equal(loaded(images), saved(images))
    assert loaded.spec == saved.spec
    assert loaded.value_range == saved.value_range
    assert loaded.pixel_format == saved.pixel_format
    assert loaded.provenance == saved.provenance
    assert loaded.training_scan == replace(saved.training_scan, rejects=())


def test_the_name_of_a_refiner_is_the_sha256_of_its_file(file: Path) -> None:
    assert load_refiner(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_equal_refiners_are_written_as_equal_bytes(tmp_path: Path, file: Path) -> None:
    save_refiner(tmp_path / "again", build_refiner(level_matching=True))
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    save_refiner(tmp_path / "other", build_refiner(level_matching=True, seed=1))
    assert (tmp_path / "other").read_bytes() != file.read_bytes()


def test_the_file_may_be_given_as_itself_or_as_its_run_directory(file: Path) -> None:
    assert load_refiner(file).sha256 == load_refiner(file.parent).sha256 == load_refiner(str(file)).sha256


def test_names_of_rejected_files_stay_out_of_the_weights(file: Path) -> None:
    assert b"private name" not in file.read_bytes()


def test_a_run_directory_without_a_refiner_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no trained refiner here.*simgan train"):
        load_refiner(tmp_path)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no trained refiner here.*no such file"):
        load_refiner(tmp_path / "refiner.safetensors")


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_file_is_refused_without_unpickling_it(tmp_path: Path, zipped: bool) -> None:
    file, sprung = tmp_path / "refiner.pt", tmp_path / "sprung"
    if zipped:
        torch.save(_Trap(sprung), file)
    else:
        file.write_bytes(pickle.dumps(_Trap(sprung)))
    with pytest.raises(WeightsError, match="pickled"):
        load_refiner(file)
    assert not sprung.exists()


def test_a_checkpoint_or_configuration_in_place_of_a_refiner_is_called_by_its_name(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.checkpoint.parent.mkdir(parents=True)
    run.save_checkpoint({"turn": 1})
    with pytest.raises(
        WeightsError, match=r"latest\.pt: is a checkpoint.*give the run directory, or the refiner"
    ):
        load_refiner(run.checkpoint)
    (tmp_path / "my.toml").write_text("seed = 1\n")
    with pytest.raises(
        WeightsError, match=r"my\.toml: is a configuration.*simgan train .*my\.toml --run RUN"
    ):
        load_refiner(tmp_path / "my.toml")


def test_a_file_whose_length_field_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    file = tmp_path / "refiner.safetensors"
    trained = build_refiner()
    for padding in range(0, 4096, 8):
        trained = replace(trained, provenance={"note": "x" * padding})
        save_refiner(file, trained)
        if file.read_bytes()[0] == 0x80:
            break
    assert file.read_bytes()[0] == pickle.dumps(0)[0] == 0x80
    assert load_refiner(file).sha256 == trained.sha256


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match="not a refiner of simgan"):
        load_refiner(file)
    save_file({"weight": torch.zeros(3)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="not a refiner of simgan"):
        load_refiner(file)


@pytest.mark.parametrize("kept", [0, 4, 8, 50, 2000, -1])
def test_a_truncated_file_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=f"{file}: damaged"):
        load_refiner(file)


def test_a_length_field_of_terabytes_is_refused(file: Path) -> None:
    file.write_bytes(struct.pack("<Q", 2**42) + file.read_bytes()[8:])
    with pytest.raises(WeightsError, match="damaged"):
        load_refiner(file)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "refiner.safetensors").mkdir()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_refiner(tmp_path)


def test_a_newer_format_asks_for_an_upgrade(file: Path) -> None:
    rewrite(file, {**metadata_of(file), "format_version": 2})
    with pytest.raises(WeightsError, match=r"newer simgan.*pip install --upgrade"):
        load_refiner(file)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("refiner", {"blocks": 10**12}),
        ("refiner", {"blocks": 3}),
        ("refiner", {"width": 10**9}),
        ("refiner", {"width": 60000}),
        ("refiner", {"width": -8}),
        ("refiner", {"width": 8.0}),
        ("refiner", {"width": True}),
        ("refiner", {"channels": 3}),
        ("refiner", {"kernel": 2}),
        ("refiner", {"kernel": 5}),
        ("refiner", {"first_kernel": 10**6 + 1}),
        ("refiner", {"output": "__import__('os')"}),
        ("refiner", {"pickled": "x"}),
        ("value_range", {"low": 300}),
        ("value_range", {"high": 70000}),
        ("value_range", {"high": 65535}),
        ("value_range", {"step": 0}),
        ("value_range", {"invalid": "none"}),
        ("pixel_format", {"channels": 3}),
        ("pixel_format", {"bit_depth": 32}),
        ("training_scan", {"level_mean": "high"}),
        ("training_scan", {"level_mean": 10**400}),
        ("training_scan", {"n": 10**400}),
        ("training_scan", {"sizes": []}),
        ("training_scan", {"sizes": [[1, 2]]}),
        ("training_scan", {"sizes": [[1, 2, "3"]]}),
        ("training_scan", {"sizes": [[-1, 2, 3]]}),
        ("training_scan", {"pixel_format": {"channels": "x", "bit_depth": 8, "alpha": False}}),
    ],
)
def test_metadata_that_does_not_fit_the_tensors_is_refused(
    file: Path, part: str, change: dict[str, Any]
) -> None:
    metadata = metadata_of(file)
    rewrite(file, {**metadata, part: {**metadata[part], **change}})
    with pytest.raises(WeightsError, match="damaged, or not written by simgan"):
        load_refiner(file)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", "[" * 100_000, '{"format_version": "1"}', '{"format_version": 0}']
)
def test_metadata_that_is_not_ours_is_refused(file: Path, text: str) -> None:
    rewrite(file, text)
    with pytest.raises(WeightsError, match="damaged, or not written by simgan"):
        load_refiner(file)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused_in_the_metadata(file: Path, number: str) -> None:
    text = json.dumps({**metadata_of(file), "provenance": {"seed": "#"}}).replace('"#"', number)
    rewrite(file, text)
    with pytest.raises(WeightsError, match="in the metadata"):
        load_refiner(file)


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("refiner.tail.weight", torch.zeros(1, 9, 1, 1), "tail.weight"),
        ("refiner.tail.weight", torch.full((1, 8, 1, 1), torch.nan), "not numbers"),
        ("refiner.tail.weight", torch.zeros(1, 8, 1, 1, dtype=torch.float64), "float64"),
        ("refiner.extra", torch.zeros(1), "extra"),
        ("refiner.head.bias", None, "head.bias"),
        ("level_matching.targets", None, "targets"),
        ("level_matching.targets", torch.zeros(4, 3, 64), "level matching"),
        ("level_matching.source_means", torch.zeros(0), "level matching"),
        ("level_matching.more", torch.zeros(1), "level matching"),
    ],
)
def test_tensors_that_are_not_those_of_the_architecture_are_refused(
    file: Path, name: str, tensor: torch.Tensor | None, said: str
) -> None:
    tensors = load_file(file)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    rewrite(file, metadata_of(file), tensors)
    with pytest.raises(WeightsError, match=said):
        load_refiner(file)


def test_weights_that_are_not_numbers_are_not_saved(tmp_path: Path) -> None:
    trained = build_refiner()
    with torch.no_grad():
        trained.refiner.head.bias[0] = torch.inf
    with pytest.raises(WeightsError, match="diverged"):
        save_refiner(tmp_path / "refiner.safetensors", trained)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save_refiner(tmp_path / "missing" / "refiner.safetensors", build_refiner())


def test_a_device_that_is_not_there_is_not_called_a_damaged_file(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="cuda:77"):
        load_refiner(file, device="cuda:77")


def test_a_trained_refiner_keeps_its_weights_when_training_goes_on() -> None:
    network = build_refiner().refiner
    trained = replace(build_refiner(), refiner=network)
    before = trained(noise(20, 30))
    with torch.no_grad():
        network.tail.weight.add_(1)
    np.testing.assert_array_equal(trained(noise(20, 30)), before)
    assert not trained.refiner.tail.weight.requires_grad


def test_the_route_is_chosen_from_the_bit_depth_where_none_is_given() -> None:
    trained = replace(build_refiner(bit_depth=16), route=None)
    assert trained.route is not None
    assert trained.route.dtype == torch.float32


# --- images in, images out --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_refining_by_the_identity_returns_the_same_pixels(precision: str, bits: int, channels: int) -> None:
    trained = build_refiner(channels=channels, bit_depth=bits, identity=True, precision=precision)
    images = np.concatenate(
        [noise(3, 33, 47, channels, bits=bits), np.zeros((1, 33, 47, channels), f"u{bits // 8}")]
    )
    images[0, :2] = 2**bits - 1
    np.testing.assert_array_equal(trained(images), images)


def test_every_16_bit_level_passes_the_identity() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(build_refiner(bit_depth=16, identity=True)(levels), levels)


@pytest.mark.parametrize(
    ("channels", "shape"),
    [
        (1, (20, 30)),
        (1, (20, 30, 1)),
        (1, (20, 30, 2)),
        (1, (5, 20, 30, 1)),
        (1, (5, 20, 30, 2)),
        (3, (20, 30, 3)),
        (3, (20, 30, 4)),
        (3, (5, 20, 30, 4)),
        (3, (0, 20, 30, 3)),
        (1, (1, 1)),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_refined_images_have_the_shape_and_type_of_the_synthetic_ones(
    channels: int, shape: tuple[int, ...], bits: int
) -> None:
    images = noise(*shape, bits=bits)
    refined = build_refiner(channels=channels, bit_depth=bits)(images)
    assert refined.shape == shape
    assert refined.dtype == images.dtype


def test_refining_leaves_its_input_as_it_is() -> None:
    images = noise(2, 20, 30, 1)
    before = images.copy()
    assert not np.array_equal(build_refiner()(images), before)
    np.testing.assert_array_equal(images, before)


def test_alpha_is_carried_and_does_not_touch_the_colours() -> None:
    trained = build_refiner(channels=3)
    images = noise(2, 20, 30, 4)
    refined = trained(images)
    np.testing.assert_array_equal(refined[..., 3], images[..., 3])
    np.testing.assert_array_equal(refined[..., :3], trained(images[..., :3]))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((20, 30), np.uint16),
        ((20, 30), np.float32),
        ((20, 30, 3), np.uint8),
        ((20,), np.uint8),
        ((1, 1, 20, 30, 1), np.uint8),
        ((5, 0, 30, 1), np.uint8),
    ],
)
def test_images_of_another_kind_are_refused(shape: tuple[int, ...], dtype: Any) -> None:
    with pytest.raises(DataError, match=r"trained on 8-bit grey images.*\(H, W\).*got"):
        build_refiner()(np.zeros(shape, dtype))


def test_white_stays_white_where_the_refiner_would_go_beyond_it() -> None:
    trained = build_refiner(identity=True)
    for bias, end in ((0.5, 255), (-0.5, 0)):
        with torch.no_grad():
            trained.refiner.tail.bias.fill_(bias)
        brighter = replace(trained)(noise(20, 30))
        moved = np.clip(noise(20, 30) + np.rint(bias * 127.5).astype(int), 0, 255)
        assert np.abs(brighter.astype(int) - moved).max() <= 1
        assert (brighter == end).sum() >= (noise(20, 30) == end).sum() > 0


def test_values_outside_the_range_are_refused_or_clipped() -> None:
    trained = build_refiner(bit_depth=16, identity=True, value_range=ValueRange(100, 4095))
    image = np.array([[50, 100, 4095, 5000]], np.uint16)
    with pytest.raises(DataError, match=r"2 values lie outside the range 100 to 4095 .* from 50 to 5000"):
        trained(image)
    assert trained(image, out_of_range="clip").tolist() == [[100, 100, 4095, 4095]]


def test_pixels_without_measurement_stay_so_and_no_other_becomes_one() -> None:
    for invalid, next_to_it in ((0, 1), (255, 254)):
        trained = build_refiner(value_range=ValueRange(0, 255, invalid=invalid), identity=True)
        with torch.no_grad():
            trained.refiner.tail.bias.fill_(-2 if invalid == 0 else 2)  # everything to that end
        image = np.array([[invalid, 7, 100, invalid, 200]], np.uint8)
        expected = [[invalid, next_to_it, next_to_it, invalid, next_to_it]]
        assert replace(trained)(image).tolist() == expected


def test_pixels_at_the_lowest_level_pass_unchanged_in_training_in_judging_and_in_refining_alike(
    tmp_path: Path,
) -> None:
    """Where an invalid value is declared: holes (7 here) and black (0) are both encoded at −1."""
    sides = write_sides(tmp_path, low=0) | {"data.invalid_value": 7, "run.precision": "float32"}
    assembly = assemble(resolve_configuration("default", sides), cache_dir=tmp_path / "cache")
    players = assembly.players()
    with torch.no_grad():
        players.averaged_refiner.tail.bias.fill_(0.5)
        players.refiner.load_state_dict(players.averaged_refiner.state_dict())
    native = noise(8, 8)
    native[2], native[3] = 7, 0
    encoded = torch.from_numpy(assembly.value_range.encode(native))[None, None]
    trained = trained_refiner(assembly, players, step=1)
    with torch.no_grad():
        in_training = players.quantization.quantize(players.refine(encoded))[0, 0]
    in_judging = refine_batch(assembly, players.averaged_refiner, encoded)[0, 0]
    refined = trained(native)
    for values in (in_training, in_judging):
        assert (values[2:4] == -1).all()
    assert (refined[2] == 7).all()
    assert (refined[3] == 0).all()
    changed = np.ones((8, 8), bool)
    changed[2:4] = False
    assert (refined != native)[changed].any()
    torch.testing.assert_close(in_judging, in_training, atol=1e-5, rtol=0)
    again = assembly.value_range.encode(refined)
    near = refined != 8  # no pixel becomes a hole: 7 is moved to 8
    np.testing.assert_allclose(again[near], in_training.numpy()[near], atol=1e-5)


def test_a_hole_outside_the_range_is_no_value_outside_the_range() -> None:
    trained = build_refiner(bit_depth=16, value_range=ValueRange(500, 1500, invalid=0))
    image = np.full((10, 10), 900, np.uint16)
    image[3:5] = 0
    refined = trained(image)
    assert (refined[3:5] == 0).all()
    assert (refined[5:] >= 500).all()


def test_refined_values_stand_on_the_grid_of_the_files() -> None:
    trained = build_refiner(bit_depth=16, value_range=ValueRange(0, 4080, 16))
    image = (noise(20, 30).astype(np.uint16) % 256) * 16
    refined = trained(image)
    assert (refined % 16 == 0).all()
    assert not np.array_equal(refined, image)


def test_a_refiner_that_computes_no_numbers_is_an_error_and_not_an_image() -> None:
    trained = build_refiner()
    with torch.no_grad():
        for parameter in trained.refiner.parameters():
            parameter.fill_(1e30)
    with pytest.raises(WeightsError, match="not numbers"):
        replace(trained)(noise(20, 30))


@pytest.mark.parametrize("output", ["residual", "image"])
@pytest.mark.parametrize("level_matching", [False, True])
def test_the_pipeline_is_encode_match_quantize_refine_decode(output: str, level_matching: bool) -> None:
    trained = build_refiner(channels=3, output=output, level_matching=level_matching)
    image = noise(20, 30, 3)
    # The same by hand in float64: (v / 255) · 2 − 1, levels matched to the grid, R_θ, rounding to 0 … 255.
    x = torch.from_numpy(image / 255 * 2 - 1).permute(2, 0, 1)[None]
    if trained.level_matching is not None:
        matched = trained.level_matching(x.float()).double()
        assert (matched - x).abs().max() > 0.1
        x = ((matched + 1) * 127.5).round() / 127.5 - 1
    with torch.no_grad():
        exact = replace(trained).refiner.double()(x)[0].permute(1, 2, 0).numpy()
    wanted = (np.clip(exact, -1, 1) + 1) * 127.5
    assert np.abs(trained(image) - wanted).max() <= 0.5 + 1e-3
    assert trained(image).std() > 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("level_matching", [False, True])
def test_an_image_comes_out_the_same_alone_and_in_any_batch(precision: str, level_matching: bool) -> None:
    trained = build_refiner(precision=precision, level_matching=level_matching)
    images = noise(9, 20, 30, 1)
    together = trained(images)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(trained(image), together[i])
    np.testing.assert_array_equal(trained(images[::-1]), together[::-1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_result_does_not_depend_on_the_number_of_threads(precision: str) -> None:
    trained = build_refiner(precision=precision, level_matching=True)
    image = noise(301, 290)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(trained(image))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    tile=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    level_matching=st.booleans(),
)
def test_tiled_is_the_same_as_whole(
    height: int, width: int, tile: int, channels: int, level_matching: bool
) -> None:
    trained = _built(channels, level_matching)
    image = noise(height, width, channels, seed=height * 61 + width)
    tile = max(tile, max(height, width) // 5)  # few tiles are as telling as many, and faster
    x = torch.from_numpy(trained.value_range.encode(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        x = trained.first_stage(x)
        field = trained.refiner.receptive_field
        tiled = apply_tiled(trained.refiner, x, receptive_field=field, tile=tile)
        whole = trained.refiner(x)
    assert (tiled - whole).abs().max() < 1e-5
    # Equal grey levels, but for values so near the middle between two that the last bits decide.
    places = ((whole[0].permute(1, 2, 0).numpy() + 1) * 127.5) % 1
    decided = np.abs(places - 0.5) > 1e-5 * 127.5
    np.testing.assert_array_equal(trained(image, tile=tile)[decided], trained(image, tile=1000)[decided])
    assert decided.mean() > 0.9


_BUILT: dict[tuple[int, bool], TrainedRefiner] = {}


def _built(channels: int, level_matching: bool) -> TrainedRefiner:
    key = channels, level_matching
    if key not in _BUILT:
        _BUILT[key] = build_refiner(channels=channels, level_matching=level_matching)
    return _BUILT[key]
