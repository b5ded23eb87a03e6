from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from simgan.config import resolve_configuration
from simgan.images import read_image, write_image
from simgan.training.assembly import Assembly, assemble
from simgan.training.candidates import Candidate, judge_candidate, refine_batch
from simgan.training.samples import sample_sheet
from tiny_runs import Overrides, write_side, write_sides


class Shift(nn.Module):
    """x̃ = gain · x + shift."""

    def __init__(self, shift: float = 0.0, gain: float = 1.0) -> None:
        super().__init__()
        self.shift, self.gain = shift, gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x + self.shift


def assembled(overrides: Overrides, folder: Path) -> Assembly:
    return assemble(resolve_configuration("default", overrides), cache_dir=folder / "cache")


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """Real images are 51 levels (0.4 in [-1, 1]) brighter than synthetic ones, and else alike."""
    folder = tmp_path_factory.mktemp("sides")
    overrides = write_sides(folder, synthetic=60)
    overrides["real.root"] = str(write_side(folder / "bright", 60, seed=2, low=71, high=251))
    return assembled(overrides, folder)


def candidate(step: int, distance: float) -> Candidate:
    return Candidate(step, distance, 0.5, 0.1, 1.0)


def test_the_nearer_candidate_is_kept_and_of_two_equal_ones_the_later() -> None:
    first = candidate(1, 0.5)
    assert first.better_than(None)
    assert candidate(2, 0.4).better_than(first)
    assert candidate(2, 0.5).better_than(first)
    assert not candidate(2, 0.6).better_than(first)
    assert not candidate(2, float("nan")).better_than(first)


def test_a_candidate_comes_back_from_its_row() -> None:
    assert Candidate.from_row(candidate(3, 0.5).row()) == candidate(3, 0.5)


def test_the_identity_is_at_distance_zero_with_full_diversity(assembly: Assembly) -> None:
    judged = judge_candidate(assembly, nn.Identity(), step=7)
    assert judged.step == 7
    assert judged.distance_from_identity == pytest.approx(0, abs=1e-7)
    assert judged.diversity == pytest.approx(1, abs=1e-6)


def test_a_refiner_that_makes_up_the_difference_is_better_than_the_identity(assembly: Assembly) -> None:
    identity = judge_candidate(assembly, nn.Identity(), step=1)
    right = judge_candidate(assembly, Shift(0.4), step=2)
    wrong = judge_candidate(assembly, Shift(-0.3), step=3)
    assert right.distance_from_identity == pytest.approx(0.4, abs=0.004)
    assert right.better_than(identity)
    assert not wrong.better_than(identity)
    assert right.sliced_wasserstein < identity.sliced_wasserstein < wrong.sliced_wasserstein
    assert right.realism_auc < identity.realism_auc


def test_a_refiner_of_one_picture_has_no_diversity(assembly: Assembly) -> None:
    assert judge_candidate(assembly, Shift(0.0, gain=0.0), step=1).diversity == 0
    half = judge_candidate(assembly, Shift(0.0, gain=0.5), step=1)
    assert half.diversity == pytest.approx(0.5, abs=0.01)


def test_judging_is_repeatable_and_leaves_generators_alone(assembly: Assembly) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = judge_candidate(assembly, Shift(0.1), step=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert judge_candidate(assembly, Shift(0.1), step=1) == first


def test_only_held_out_real_images_judge(tmp_path: Path) -> None:
    """Changing those that D trains on changes nothing; changing the held-out ones does."""
    overrides = write_sides(tmp_path)
    before = assembled(overrides, tmp_path)
    judged = judge_candidate(before, nn.Identity(), step=1)
    names = before.real.cache.paths
    root = Path(overrides["real.root"])
    for i in before.real_training.tolist():
        if i % 2:
            write_image(root / names[i], 255 - read_image(root / names[i]))
    assert judge_candidate(assembled(overrides, tmp_path), nn.Identity(), step=1) == judged
    held = names[int(before.real_held_out[0])]
    write_image(root / held, 255 - read_image(root / held))
    assert judge_candidate(assembled(overrides, tmp_path), nn.Identity(), step=1) != judged


def test_synthetic_images_of_one_and_the_same_picture_count_as_diverse_as_they_can_be(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path)
    same = tmp_path / "same"
    same.mkdir()
    for i in range(10):
        write_image(same / f"{i}.png", np.full((8, 8, 1), 90, np.uint8))
    judged = judge_candidate(
        assembled(overrides | {"synthetic.root": str(same)}, tmp_path), nn.Identity(), step=1
    )
    assert judged.diversity == 1


def test_refining_for_judgement_is_on_the_files_grid_and_carries_holes(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path, low=0) | {"data.invalid_value": 0}
    assembly = assembled(overrides, tmp_path)
    images = torch.full((130, 1, 8, 8), 0.25)
    images[:, :, :2] = -1
    refined = refine_batch(assembly, Shift(0.1234), images)
    assert (refined[:, :, :2] == -1).all()
    assert refined[0, 0, 5, 5] == pytest.approx(0.3734, abs=0.004)
    assert torch.isin(refined, assembly.quantization.values(torch.arange(256))).all()
    assert not refined.requires_grad


def test_the_sample_sheet_is_a_picture_of_synthetic_refined_and_real_rows(assembly: Assembly) -> None:
    data = sample_sheet(assembly, Shift(2.0))  # every refined pixel is white
    assert sample_sheet(assembly, Shift(2.0)) == data
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    side = 8 * 6 + 2  # 8 pixels six times enlarged, and a gap
    assert sheet.shape == (8 * side - 2, 16 * side - 2)
    rows = [sheet[i * side : i * side + 48] for i in range(8)]
    assert [bool((row == 255).all()) for row in rows] == [False, True, False, True, False, True, False, False]
    synthetic, real = np.mean([rows[i].mean() for i in (0, 2, 4)]), np.mean([rows[6].mean(), rows[7].mean()])
    assert 30 < real - synthetic < 70
