from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import simgan.training.memory as memory
from simgan.config import resolve_configuration
from simgan.errors import ConfigurationError, DataError
from simgan.images import ValueRange, write_image
from simgan.nn.discriminator import discriminator_receptive_field
from simgan.nn.refiner import refiner_receptive_field
from simgan.training.assembly import Assembly, assemble
from simgan.training.inspection import FEWEST_JUDGED, split_held_out, spread
from tiny_runs import Overrides, write_side, write_sides

Assemble = Callable[..., Assembly]


@pytest.fixture
def assembled(tmp_path: Path) -> Assemble:
    """assembled(overrides, **kind): both sides of that kind, written at first use."""
    sides: list[Overrides] = []

    def build(overrides: Overrides | None = None, **kind: Any) -> Assembly:
        if not sides:
            sides.append(write_sides(tmp_path, **kind))
        changed = resolve_configuration("default", sides[0] | (overrides or {}))
        return assemble(changed, cache_dir=tmp_path / "cache")

    return build


# ---- held-out images


@settings(deadline=None, max_examples=300)
@given(st.integers(8, 200_000))
def test_ten_to_twenty_percent_of_the_real_images_are_held_out_by_default(count: int) -> None:
    share = resolve_configuration("default").data.held_out_share
    training, held_out = split_held_out(count, share)
    assert 0.1 <= len(held_out) / count <= 0.2
    assert np.array_equal(np.sort(np.concatenate([training, held_out])), np.arange(count))


@settings(deadline=None, max_examples=100)
@given(st.integers(60, 5000), st.floats(0.1, 0.3))
def test_held_out_images_are_a_few_contiguous_blocks_spread_over_all(count: int, share: float) -> None:
    _, held_out = split_held_out(count, share)
    blocks = np.split(held_out, np.flatnonzero(np.diff(held_out) > 1) + 1)
    assert 6 <= len(blocks) <= 10
    starts = [int(block[0]) for block in blocks]
    assert max(np.diff([*starts, count])) <= 1.7 * count / len(blocks)
    assert len(held_out) / count == pytest.approx(share, abs=0.12)


def test_a_split_by_hand() -> None:
    training, held_out = split_held_out(20, 0.15)  # 3 blocks, of 7, 6 and 7 images; one of each
    assert held_out.tolist() == [0, 7, 13]
    assert len(training) == 17


def test_spread_indices_reach_from_end_to_end_without_repeats() -> None:
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spread(11, 3).tolist() == [0, 5, 10]
    assert spread(1, 4).tolist() == [0]
    assert spread(100_000, 500).size == 500


def test_streams_draw_training_images_only_and_are_not_in_step(assembled: Assemble) -> None:
    a = assembled(synthetic=34)  # as many as real ones to train on
    real = a.real_stream()
    drawn = torch.cat([real.next() for _ in range(len(a.real_training) * 2 // 4)])
    training = {a.real.cache[i].tobytes() for i in a.real_training.tolist()}
    held_out = {a.real.cache[i].tobytes() for i in a.real_held_out.tolist()}
    seen = {image.numpy().tobytes() for image in drawn}
    assert seen == training
    assert not seen & held_out

    def orders(assembly: Assembly) -> list[list[int]]:
        """The places, among the images of its side, of the first ones that each stream draws."""
        _, real = assembly.real_stream().next_with_indices()
        _, synthetic = assembly.synthetic_stream().next_with_indices()
        return [np.searchsorted(assembly.real_training, real.numpy()).tolist(), synthetic.tolist()]

    first = orders(a)
    assert first[0] != first[1]
    assert orders(a) == first
    other = orders(assembled({"seed": 1}))
    assert other[0] != first[0]
    assert other[1] != first[1]


# ---- values


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ({}, ValueRange(0, 255)),
        ({"dtype": np.uint16, "high": 4000}, ValueRange(0, 4095)),
        ({"dtype": np.uint16, "high": 60_000}, ValueRange(0, 65535)),
        ({"step": 15, "low": 0, "high": 240}, ValueRange(0, 240, 15)),
    ],
    ids=["8 bit", "12 in 16 bit", "16 bit", "17 levels"],
)
def test_the_value_range_is_that_of_the_files_and_its_grid_holds_all_of_them(
    kind: dict[str, Any], wanted: ValueRange, assembled: Assemble
) -> None:
    a = assembled(**kind)
    assert a.value_range == wanted
    assert a.quantization.levels == wanted.levels
    grid = a.quantization.values(torch.arange(wanted.levels))
    players = a.players()
    for side, stream in ((a.synthetic, a.synthetic_stream()), (a.real, a.real_stream())):
        encoded = side.encode(stream.next())
        assert torch.isin(players.quantization.quantize(encoded), grid).all()
        torch.testing.assert_close(players.quantization.quantize(encoded), encoded, atol=3e-7, rtol=0)


def test_a_declared_range_is_taken(assembled: Assemble) -> None:
    declared = {"data.value_low": 0, "data.value_high": 210, "data.value_step": 3, "data.invalid_value": 0}
    a = assembled(declared)
    assert a.value_range == ValueRange(0, 210, 3, invalid=0)
    assert a.players().carries_lowest
    assert not assembled().players().carries_lowest
    assert assembled({"data.invalid_value": 7}).value_range == ValueRange(0, 255, invalid=7)


def test_images_outside_a_declared_range_are_refused(assembled: Assemble) -> None:
    with pytest.raises(
        DataError, match=r"synthetic holds values from 20 to 200, outside the declared range 0 to 90"
    ):
        assembled({"data.value_low": 0, "data.value_high": 90})
    with pytest.raises(DataError, match=r"correct data\.value_low and data\.value_high, or the images"):
        assembled({"data.value_low": 100, "data.value_high": 255})
    with pytest.raises(ConfigurationError, match="step must divide"):
        assembled({"data.value_low": 0, "data.value_high": 200, "data.value_step": 3})


def test_holes_below_a_declared_range_are_no_fault(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path, low=0, high=200)
    declared = {"data.value_low": 1, "data.value_high": 255, "data.invalid_value": 0}
    a = assemble(resolve_configuration("default", overrides | declared), cache_dir=tmp_path / "cache")
    assert a.value_range.invalid == 0


# ---- sizes and networks


def test_the_crop_is_the_common_size_or_the_declared_one(tmp_path: Path, assembled: Assemble) -> None:
    overrides = write_sides(tmp_path / "a", shape=(10, 12, 1))
    overrides["real.root"] = str(write_side(tmp_path / "b", 40, seed=3, shape=(14, 9, 1)))
    a = assemble(resolve_configuration("default", overrides), cache_dir=tmp_path / "cache")
    assert a.crop == (10, 9)
    assert a.synthetic_stream().next().shape == (4, 1, 10, 9)
    assert a.real_stream().next().shape == (4, 1, 10, 9)
    assert any("synthetic images are 10×12, real ones 14×9" in message for message in a.warnings)
    cropped = assembled({"data.crop": [6, 7]})
    assert cropped.crop == (6, 7)
    image = cropped.synthetic.cache[3][:, :, 0]
    expected = cropped.value_range.encode(image[1:7, 0:7])
    np.testing.assert_array_equal(cropped.synthetic.sample(np.array([3]), (6, 7))[0, 0].numpy(), expected)


def test_networks_are_as_configured(assembled: Assemble) -> None:
    a = assembled(shape=(8, 8, 3))
    assert a.refiner_spec.channels == a.discriminator_spec.channels == 3
    assert (a.refiner_spec.width, a.refiner_spec.blocks, a.refiner_spec.output) == (4, 1, "image")
    assert [(x.width, x.kernel, x.stride) for x in a.discriminator_spec.layers] == [(4, 3, 2), (4, 1, 1)]


def test_derived_networks_have_similar_fields(assembled: Assemble) -> None:
    a = assembled({"refiner.blocks": 0, "discriminator.layers": []}, shape=(24, 20, 1))
    field = discriminator_receptive_field(a.discriminator_spec)
    assert field <= 20
    assert field <= refiner_receptive_field(a.refiner_spec)
    settings = a.configuration.refiner
    assert (a.refiner_spec.width, a.refiner_spec.output) == (settings.width, settings.output)


def test_players_are_a_function_of_the_seed_and_leave_the_global_generator_alone(assembled: Assemble) -> None:
    a = assembled()
    torch.manual_seed(77)
    before = torch.get_rng_state()
    first = a.players()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(78)
    again, other = a.players(), assembled({"seed": 1}).players()
    for name, tensor in first.refiner.state_dict().items():
        assert torch.equal(tensor, again.refiner.state_dict()[name])
        assert not torch.equal(tensor, other.refiner.state_dict()[name])


def test_players_are_as_configured(assembled: Assemble) -> None:
    players = assembled().players()
    assert isinstance(players.refiner_optimizer, torch.optim.Adam)
    assert players.refiner_optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    assert players.history is not None
    assert players.history.capacity == 2 * 4
    assert players.augmentation is not None
    assert (players.augmentation.shift_px, players.augmentation.gain) == (1, 0.05)
    assert players.averaging_decay == 0.9
    plain = assembled(
        {
            "training.optimizer": "sgd",
            "training.discriminator_learning_rate": 0.5,
            "training.history_batches": 0,
            "training.augmentation_shift_px": 0,
            "training.augmentation_gain": 0.0,
            "objective.patches": "sum",
            "objective.feature_transform": "gradients",
            "objective.self_regularization_weight": 3.0,
        }
    ).players()
    assert isinstance(plain.discriminator_optimizer, torch.optim.SGD)
    group = plain.discriminator_optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0, 0)
    assert plain.history is None
    assert plain.augmentation is None
    assert plain.objective.patches == "sum"
    assert plain.objective.feature_transform.__name__ == "gradients"
    assert plain.objective.self_regularization_weight == 3


@pytest.mark.parametrize(("shift", "gain"), [(1, 0.0), (0, 0.1)])
def test_either_augmentation_alone_is_on(shift: int, gain: float, assembled: Assemble) -> None:
    chosen = {"training.augmentation_shift_px": shift, "training.augmentation_gain": gain}
    augmentation = assembled(chosen).players().augmentation
    assert augmentation is not None
    assert (augmentation.shift_px, augmentation.gain) == (shift, gain)


def test_the_description_shows_lambda_in_both_forms_and_the_networks(assembled: Assemble) -> None:
    described = assembled({"objective.self_regularization_weight": 0.5}).describe()
    # 8×8 pixels, 4×4 patches
    assert described["self_regularization_weight"] == {"mean_form": 0.5, "paper_form": 0.125}
    assert described["discriminator"]["patch_grid"] == [4, 4]
    assert described["discriminator"]["receptive_field_px"] == 3
    # 3·3·1·4 + 4, and 1·1·4·4 + 4, and the last 4 + 1
    assert described["discriminator"]["parameters"] == 40 + 20 + 5
    # 40, then twice 3·3·4·4 + 4, then 4 + 1
    assert described["refiner"]["parameters"] == 40 + 2 * 148 + 5
    assert described["refiner"]["receptive_field_px"] == 7
    assert (described["real_training"], described["real_held_out"]) == (34, 6)
    assert described["synthetic"]["n"] == 24
    assert described["route"] == "cpu float32"


@pytest.mark.parametrize(
    ("feature_transform", "elements"),
    [("identity", 3 * 64), ("gradients", 2 * 3 * 49), ("channel_mean", 64), ("local_contrast", 3 * 64)],
)
def test_lambda_in_the_papers_form_is_for_a_sum_over_the_elements_of_psi(
    feature_transform: str, elements: int, assembled: Assemble
) -> None:
    chosen = {
        "objective.self_regularization_weight": 0.5,
        "objective.feature_transform": feature_transform,
    }
    described = assembled(chosen, shape=(8, 8, 3)).describe()
    assert described["self_regularization_weight"]["paper_form"] == pytest.approx(0.5 * 16 / elements)


def test_derived_blocks_are_those_of_the_kernels_that_the_refiner_has(assembled: Assemble) -> None:
    large = {"refiner.blocks": 0, "discriminator.layers": [], "training.batch_size": 2}
    for kernel, first_kernel, blocks in ((3, 3, 12), (7, 7, 4)):
        kernels = {"refiner.kernel": kernel, "refiner.first_kernel": first_kernel}
        a = assembled(large | kernels, shape=(98, 98, 1))
        assert a.refiner_spec.blocks == blocks
        assert discriminator_receptive_field(a.discriminator_spec) == 49
        assert refiner_receptive_field(a.refiner_spec) >= 49


# ---- level matching


def test_level_matching_is_fitted_without_the_held_out_images(assembled: Assemble, tmp_path: Path) -> None:
    a = assembled({"data.level_matching": True})
    assert a.level_matching is not None
    assert a.level_matching.targets.shape[0] == len(a.real_training)
    staged = a.first_stage(a.synthetic.sample(np.arange(4), a.crop))
    assert torch.isin(staged, a.quantization.values(torch.arange(256))).all()
    assert assembled().level_matching is None
    untouched = torch.rand(2, 1, 8, 8)
    assert assembled().first_stage(untouched) is untouched


def test_level_matching_and_holes_exclude_each_other(assembled: Assemble) -> None:
    with pytest.raises(ConfigurationError, match="exclude each other: holes have no level"):
        assembled({"data.level_matching": True, "data.invalid_value": 0})


# ---- what is refused, and what is said


def test_faults_of_both_trees_are_said_at_once_and_that_of_one_in_its_own_words(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path)
    for i in range(4):
        (tmp_path / "real" / f"{i:03}.png").write_bytes(b"")

    def fault(synthetic: str) -> str:
        c = resolve_configuration("default", overrides | {"synthetic.root": str(tmp_path / synthetic)})
        with pytest.raises(DataError) as caught:
            assemble(c, cache_dir=tmp_path / "cache")
        return str(caught.value)

    alone, both = fault("synthetic"), fault("nowhere")
    assert alone.startswith(f"{tmp_path / 'real'}: 4 of 40 images cannot be used")
    head, first, second = both.split("\n  - ", 2)
    assert head == "both trees have faults:"
    assert first.startswith(f"{tmp_path / 'nowhere'}: no such folder")
    assert second == alone


def test_missing_trees_are_all_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        assemble(resolve_configuration("default"), cache_dir=tmp_path)
    assert [fault.split(" ")[0] for fault in caught.value.faults] == ["`synthetic.root`", "`real.root`"]


def test_sides_of_different_formats_are_refused(tmp_path: Path, assembled: Assemble) -> None:
    colour = write_side(tmp_path / "colour", 40, seed=3, shape=(8, 8, 3))
    with pytest.raises(
        DataError, match=r"synthetic holds 8-bit grey, .*colour holds 8-bit RGB; convert one of them"
    ):
        assembled({"real.root": str(colour)})
    deep = write_side(tmp_path / "deep", 40, seed=3, dtype=np.uint16)
    with pytest.raises(DataError, match=r"deep holds 16-bit grey"):
        assembled({"real.root": str(deep)})


def test_too_few_images_are_refused_before_the_first_update(tmp_path: Path, assembled: Assemble) -> None:
    with pytest.raises(DataError, match=r"synthetic holds 24 images; at least 26 are wanted to train on"):
        assembled({"training.batch_size": 26})
    with pytest.raises(
        DataError,
        match=r"real holds 40 images, of which 6 are held out .*; at least 36 are wanted to train on",
    ):
        assembled(
            {"training.batch_size": 36, "synthetic.root": str(write_side(tmp_path / "more", 40, seed=5))}
        )
    few = str(write_side(tmp_path / "few", FEWEST_JUDGED - 1, seed=5))
    with pytest.raises(
        DataError, match=rf"few holds 4 images; at least {FEWEST_JUDGED} are wanted to train on"
    ):
        assembled({"synthetic.root": few})
    some = str(write_side(tmp_path / "some", 20, seed=5))
    with pytest.raises(
        DataError, match=r"some has 20 images, of which 3 would be held out.*raise data\.held"
    ):
        assembled({"real.root": some})


def test_the_fewest_images_that_are_taken_can_be_judged(tmp_path: Path, assembled: Assemble) -> None:
    from torch import nn

    from simgan.training.candidates import judge_candidate

    five = str(write_side(tmp_path / "five", FEWEST_JUDGED, seed=5))
    for count in itertools.count(20):
        if len(split_held_out(count, 0.15)[1]) == FEWEST_JUDGED:
            break
    real = str(write_side(tmp_path / "few", count, seed=6))
    judge_candidate(assembled({"synthetic.root": five, "real.root": real}), nn.Identity(), step=1)


def test_healthy_sides_are_not_warned_of(assembled: Assemble) -> None:
    assert assembled().warnings == ()


def test_differing_level_grids_are_warned_of(tmp_path: Path, assembled: Assemble) -> None:
    coarse = str(write_side(tmp_path / "coarse", 40, seed=3, step=15, low=0, high=240))
    (said,) = assembled({"real.root": coarse}).warnings
    assert "synthetic values are multiples of 1, real ones of 15" in said


def test_differing_mean_levels_are_warned_of(tmp_path: Path, assembled: Assemble) -> None:
    bright = str(write_side(tmp_path / "bright", 40, seed=3, low=180, high=255))
    (said,) = assembled({"real.root": bright}).warnings
    assert "set data.level_matching = true" in said


def test_an_unknown_device_is_refused_before_training(assembled: Assemble) -> None:
    with pytest.raises(ConfigurationError, match=r"`run\.device` is 'gpu'"):
        assembled({"run.device": "gpu"})


# ---- what training could not do


def test_a_crop_that_is_larger_than_an_image_is_refused_with_its_name(
    tmp_path: Path, assembled: Assemble
) -> None:
    with pytest.raises(
        DataError, match=r"synthetic: a crop .* of \(9, 8\) does not fit into 24 of 24 images: 000"
    ):
        assembled({"data.crop": [9, 8]})
    real = write_side(tmp_path / "mixed", 40, seed=3, shape=(12, 12, 1))
    (held_out,) = split_held_out(40, 0.15)[1][:1]
    write_image(real / f"{held_out:03}.png", np.zeros((12, 7, 1), np.uint8))
    with pytest.raises(
        DataError, match=rf"mixed: a crop .* does not fit into 1 of 40 images: {held_out:03}\.png \(12, 7\)"
    ):
        assembled({"data.crop": [8, 8], "real.root": str(real)})


def test_one_tiny_image_among_many_is_named(tmp_path: Path, assembled: Assemble) -> None:
    real = write_side(tmp_path / "mixed", 40, seed=3)
    write_image(real / "007.png", np.zeros((1, 16, 1), np.uint8))
    with pytest.raises(
        DataError, match=r"mixed: 1 of 40 images \(007\.png 1×16\)\nNext: remove them, narrow"
    ):
        assembled({"real.root": str(real), "discriminator.layers": []})
    meant = {"real.root": str(real), "training.augmentation_shift_px": 0}  # and layers of one's own
    assert assembled(meant).crop == (1, 8)


def test_images_that_are_all_tiny_are_to_be_enlarged(assembled: Assemble) -> None:
    with pytest.raises(ConfigurationError, match="images of 6×6 are too small to derive networks for"):
        assembled({"discriminator.layers": []}, shape=(6, 6, 1))


def test_a_shift_of_the_augmentation_is_smaller_than_the_crops(assembled: Assemble) -> None:
    with pytest.raises(ConfigurationError, match=r"must be below the shorter side of the crops, 8×8, not 8"):
        assembled({"training.augmentation_shift_px": 8})
    assembled({"training.augmentation_shift_px": 7})


def test_what_surely_does_not_fit_into_memory_is_refused_and_said_in_parts(
    assembled: Assemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    # history: 2 · 2·4 images of 64 bytes; networks: 16 bytes a weight; maps: 4 images · 4 maps · 64 · 2 · 4 bytes
    parts = assembled()
    weights = sum(
        p.numel() for n in (parts.players().refiner, parts.players().discriminator) for p in n.parameters()
    )
    needed = 1024 + 16 * weights + 8192
    monkeypatch.setattr(memory, "machine_memory", lambda: needed)
    assembled()
    monkeypatch.setattr(memory, "machine_memory", lambda: needed - 1)
    with pytest.raises(
        ConfigurationError, match=r"needs at least .* GiB for training\.history_batches.*smaller"
    ):
        assembled()
    monkeypatch.setattr(memory, "machine_memory", lambda: None)
    assembled()


@pytest.mark.parametrize(
    "overrides",
    [
        {"training.history_batches": 2**52},
        {"refiner.width": 4096, "refiner.blocks": 1000, "refiner.kernel": 101},
        {"discriminator.layers": [[4096, 101, 1]] * 9},
    ],
)
def test_absurd_settings_are_refused_before_anything_is_built(
    overrides: Overrides, assembled: Assemble
) -> None:
    with pytest.raises(ConfigurationError, match=r"needs at least [\d,.]+ GiB of memory"):
        assembled(overrides)


def test_the_memory_of_this_machine_is_known_or_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (memory.machine_memory() or 0) > 2**28

    def unknown(name: str) -> int:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert memory.machine_memory() is None
