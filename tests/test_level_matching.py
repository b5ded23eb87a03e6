from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import shapes
from simgan.nn.level_matching import LevelMatching


def image(*values: float) -> torch.Tensor:
    """(1, 1, 2, n/2)"""
    return torch.tensor(values).view(1, 1, 2, -1)


def uniform(n: int, channels: int = 1, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_four_pixels_take_the_four_levels_of_the_real_image_in_their_order() -> None:
    matching = LevelMatching.fit(synthetic=image(-1, -0.5, 0.5, 1), real=image(0.0, 0.3, 0.1, 0.2))
    torch.testing.assert_close(matching(image(0.5, -1, 1, -0.5)), image(0.2, 0.0, 0.3, 0.1))


def test_half_dark_half_bright_by_hand() -> None:
    """F is 1/4 for the darker half and 3/4 for the brighter: the quartiles of the real ramp −1 … 1."""
    real = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    halves = torch.tensor([0.2, 0.3]).repeat(32).view(1, 1, 8, 8)
    matched = LevelMatching.fit(synthetic=halves, real=real)(halves)
    torch.testing.assert_close(matched[halves == 0.2], torch.full((32,), -0.5))
    torch.testing.assert_close(matched[halves == 0.3], torch.full((32,), 0.5))


def test_a_flat_image_takes_the_median_of_the_real_one() -> None:
    real = torch.linspace(-0.8, 0.4, 65).view(1, 1, 5, 13)
    flat = torch.full((1, 1, 5, 13), 0.9)
    matched = LevelMatching.fit(synthetic=flat, real=real)(flat)
    assert matched.unique().numel() == 1
    torch.testing.assert_close(matched[0, 0, 0, 0], torch.tensor(-0.2), atol=0.011, rtol=0)


def test_the_darkest_takes_the_darkest_and_the_brightest_the_brightest() -> None:
    """Images of one level each: rank p among the synthetic ones goes to rank p among the real ones."""
    synthetic = torch.tensor([0.3, 0.0, 0.1, 0.2]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    real = torch.tensor([-0.7, -0.5, -0.8, -0.6]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    matched = LevelMatching.fit(synthetic=synthetic, real=real)(synthetic)[:, 0, 0, 0]
    torch.testing.assert_close(matched, torch.tensor([-0.5, -0.8, -0.7, -0.6]))
    # images that were not in the sample: darker than all, between, brighter than all
    others = torch.tensor([-1.0, 0.15, 1.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    matched = LevelMatching.fit(synthetic=synthetic, real=real)(others)[:, 0, 0, 0]
    torch.testing.assert_close(matched, torch.tensor([-0.8, -0.6, -0.5]))


def test_few_synthetic_images_take_the_middle_of_their_share_of_the_real_ones() -> None:
    """Two images stand at 1/4 and 3/4: of six real ones they take the second and the fifth."""
    synthetic = torch.tensor([0.0, 0.1]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    real = torch.linspace(0.1, 0.6, 6).view(6, 1, 1, 1).expand(6, 1, 2, 2)
    matched = LevelMatching.fit(synthetic=synthetic, real=real)(synthetic)[:, 0, 0, 0]
    torch.testing.assert_close(matched, torch.tensor([0.2, 0.5]))


def test_every_real_image_serves_as_often_as_any_other() -> None:
    synthetic = torch.linspace(-1, 0, 12).view(12, 1, 1, 1).expand(12, 1, 2, 2)
    real = torch.linspace(0.1, 0.4, 4).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    matched = LevelMatching.fit(synthetic=synthetic, real=real)(synthetic)[:, 0, 0, 0]
    _, counts = matched.unique(return_counts=True)
    assert counts.tolist() == [3, 3, 3, 3]


@settings(deadline=None, max_examples=50)
@given(arrays("float32", (1, 1, 4, 5), elements=st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.125, 0.5, 1.0])))
def test_equal_values_stay_equal_and_the_order_of_values_stays(values: object) -> None:
    images = torch.from_numpy(values)
    matched = LevelMatching.fit(synthetic=uniform(5), real=uniform(7, seed=1))(images)
    order = images.flatten().argsort(stable=True)
    before, after = images.flatten()[order], matched.flatten()[order]
    assert (after.diff() >= 0).all()
    assert (after.diff()[before.diff() == 0] == 0).all()
    assert (after.diff()[before.diff() > 0] > 0).all()  # this real image has 64 levels: none fall together


def test_the_result_of_an_image_does_not_depend_on_its_batch() -> None:
    synthetic = uniform(40, channels=3)
    matching = LevelMatching.fit(synthetic=synthetic, real=uniform(30, channels=3, seed=1))
    together = shapes.match(matching, synthetic)
    for i in range(40):
        assert torch.equal(matching(synthetic[i : i + 1]), together[i : i + 1])
    assert torch.equal(matching(synthetic.flip(0)), together.flip(0))


def test_each_channel_takes_the_levels_of_the_same_channel_of_one_real_image() -> None:
    # channel c of real image k lies around −0.6 + 0.6 c + 0.05 k
    offsets = torch.tensor([-0.6, 0.0, 0.6]).view(1, 3, 1, 1) + 0.05 * torch.arange(6).view(6, 1, 1, 1)
    real = uniform(6, channels=3, seed=1) * 0.01 + offsets
    synthetic = uniform(6, channels=3)
    matched = LevelMatching.fit(synthetic=synthetic, real=real)(synthetic)
    taken = []
    for one in matched:
        differences = (one.unsqueeze(0) - offsets).flatten(2).abs().amax(dim=2)  # (real image, channel)
        near = differences.argmin(dim=0)
        assert near.unique().numel() == 1
        assert differences[near[0]].max() < 0.011
        taken.append(int(near[0]))
    assert sorted(taken) == list(range(6))


def test_levels_stay_within_those_of_the_real_images() -> None:
    matched = LevelMatching.fit(synthetic=uniform(5), real=uniform(5, seed=1) * 0.3)(uniform(9, seed=2))
    assert matched.abs().max() <= 0.3


def test_a_real_image_matched_to_itself_hardly_changes() -> None:
    real = uniform(1, side=32)
    matched = LevelMatching.fit(synthetic=real, real=real)(real)
    assert (matched - real).abs().max() < 2 / 63  # one step between two of 64 quantiles


def test_at_most_512_real_images_are_kept_and_the_state_holds_everything() -> None:
    synthetic, real = uniform(700, side=4), uniform(600, side=4, seed=1)
    matching = LevelMatching.fit(synthetic=synthetic, real=real)
    assert matching.targets.shape == (512, 1, 64)
    assert matching.source_means.shape == (512,)
    assert (matching.source_means.diff() >= 0).all()
    assert (matching.targets.diff(dim=2) >= 0).all()
    copy = LevelMatching(**{name: torch.zeros_like(t) for name, t in matching.state_dict().items()})
    copy.load_state_dict(matching.state_dict())
    assert torch.equal(copy(synthetic), matching(synthetic))
    assert not list(matching.parameters())
