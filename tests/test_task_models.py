from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from simgan.tasks import StandardAugmentation, TaskNetwork, train_task
from simgan.tasks.network import build_network
from simgan.tasks.training import endless_batches

STILL = StandardAugmentation(shift=0, scale=0, gain=0, bias=0, blur=0, noise=0)


def _squares(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """12×12 images with a bright 3×3 square; labels: its centre (x, y) in pixels."""
    generator = np.random.default_rng(seed)
    images = np.full((n, 12, 12, 1), -0.8, np.float32)
    centres = generator.integers(2, 10, size=(n, 2))
    for image, (x, y) in zip(images, centres, strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2] = 0.8
    return images, centres.astype(np.float64)


@pytest.mark.parametrize("size", [(8, 8), (8, 30), (16, 16), (36, 60), (13, 9), (97, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_takes_any_size_from_8_by_8(size: tuple[int, int], channels: int) -> None:
    network = TaskNetwork(channels, *size, 5)
    assert network(torch.zeros(2, channels, *size)).shape == (2, 5)


def test_smaller_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8×8 pixels, got 7×20"):
        TaskNetwork(1, 7, 20, 2)


def test_the_digits_are_learned_to_97_per_cent() -> None:
    torch.set_num_threads(1)
    digits = load_digits()
    images = (digits.images[..., None] / 8 - 1).astype(np.float32)
    labels = digits.target.astype(np.int64)
    model = train_task(images[:1198], labels[:1198], seed=0, updates=200, augmentation=StandardAugmentation())
    assert 1 - model.errors(images[1198:], labels[1198:]).mean() >= 0.97


def test_values_are_learned_in_the_units_of_the_labels() -> None:
    torch.set_num_threads(1)
    images, centres = _squares(400, 0)
    model = train_task(
        images,
        centres,
        seed=0,
        updates=150,
        augmentation=StandardAugmentation(),
        names=("square_x_px", "square_y_px"),
    )
    unseen, truth = _squares(100, 1)
    predicted = model.predict(unseen)
    assert predicted.dtype == np.float64
    assert model.errors(unseen, truth).mean() < 0.6
    np.testing.assert_allclose(model.errors(unseen, truth), np.hypot(*(predicted - truth).T))


def test_the_result_depends_on_the_seed_alone() -> None:
    torch.set_num_threads(1)
    images, centres = _squares(40, 0)
    labels = (centres[:, 0] > 5).astype(np.int64)

    def trained(seed: int) -> np.ndarray:
        model = train_task(images, labels, seed=seed, updates=4, augmentation=StandardAugmentation())
        return torch.cat([p.flatten() for p in model.network.parameters()]).detach().numpy()

    torch.manual_seed(1)
    first = trained(0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert (trained(0) == first).all()
    assert (torch.get_rng_state() == before).all()
    assert (trained(1) != first).any()


def test_batches_and_augmentation_follow_the_seed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "simgan.tasks.training.build_network", lambda *shape, seed: build_network(*shape, seed=0)
    )
    images, _ = _squares(40, 0)
    values = np.random.default_rng(0).normal(size=(40, 1))

    def first_weight(seed: int) -> float:
        model = train_task(images, values, seed=seed, updates=1, batch_size=4)
        return float(next(model.network.parameters()).detach().flatten()[0])

    torch.manual_seed(0)  # of no consequence
    monkeypatch.setattr("torch.manual_seed", lambda seed: None)  # same dropout
    assert first_weight(0) != first_weight(1)


def test_classes_that_no_training_image_shows_still_have_an_output() -> None:
    images, _ = _squares(20, 0)
    model = train_task(images, np.zeros(20, np.int64), seed=0, updates=1, classes=4)
    assert model.network(torch.zeros(1, 1, 12, 12)).shape == (1, 4)
    assert train_task(images, np.ones(20, np.int64), seed=0, updates=1).network(
        torch.zeros(1, 1, 12, 12)
    ).shape == (1, 2)


def test_class_errors_are_zero_or_one() -> None:
    images, _ = _squares(20, 0)
    model = train_task(images, np.zeros(20, np.int64), seed=0, updates=30, batch_size=8, classes=2)
    assert model.errors(images, np.zeros(20, np.int64)).tolist() == [0.0] * 20
    assert model.errors(images, np.ones(20, np.int64)).tolist() == [1.0] * 20


def test_batches_are_full_and_every_image_comes_once_per_pass() -> None:
    batches = endless_batches(5, 4, torch.Generator().manual_seed(0))
    seen = torch.cat([next(batches) for _ in range(5)])
    assert seen.shape == (20,)
    for start in range(0, 20, 5):
        assert sorted(seen[start : start + 5].tolist()) == [0, 1, 2, 3, 4]


def test_batches_larger_than_the_set_are_filled_from_several_passes() -> None:
    batch = next(endless_batches(3, 8, torch.Generator().manual_seed(0)))
    assert batch.shape == (8,)
    assert np.bincount(batch.numpy()).min() >= 2


def test_an_augmentation_of_no_strength_changes_nothing() -> None:
    images = torch.rand(3, 3, 9, 11) * 1.8 - 0.9
    out, labels = STILL(images, torch.arange(3), generator=torch.Generator())
    torch.testing.assert_close(out, images, atol=1e-5, rtol=1e-5)
    assert labels.tolist() == [0, 1, 2]


def test_augmented_images_stay_within_minus_one_and_one_and_differ_from_each_other() -> None:
    images = torch.rand(1, 1, 8, 8).repeat(16, 1, 1, 1) * 2 - 1
    out, _ = StandardAugmentation()(images, torch.zeros(16), generator=torch.Generator().manual_seed(0))
    assert out.abs().max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in out}) == 16


def test_8_by_8_images_shift_by_less_than_a_pixel() -> None:
    assert StandardAugmentation().shift * 8 < 1


@pytest.mark.parametrize(
    "augmentation",
    [
        StandardAugmentation(shift=0.15, scale=0, gain=0, bias=0, blur=0, noise=0),
        StandardAugmentation(shift=0, scale=0.3, gain=0, bias=0, blur=0, noise=0),
        StandardAugmentation(mirror=True, shift=0.1, scale=0.2, gain=0, bias=0, blur=0.5, noise=0),
    ],
    ids=["shift", "scale", "all, mirrored"],
)
def test_pixel_labels_move_with_the_pixels(augmentation: StandardAugmentation) -> None:
    # A soft spot: its centre of mass is where the label says, before and after.
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    spots = torch.tensor([[20.0, 9.0], [11.0, 14.0], [16.0, 12.0]]).repeat(8, 1)
    distance = (columns - spots[:, 0, None, None]) ** 2 + (rows - spots[:, 1, None, None]) ** 2
    images = (2 * torch.exp(-distance / 8) - 1)[:, None]
    out, moved = augmentation(
        images,
        spots,
        generator=torch.Generator().manual_seed(0),
        names=("pupil_x_px", "pupil_y_px"),
    )
    mass = out[:, 0] + 1
    total = mass.sum((1, 2))
    centre = torch.stack([(mass * columns).sum((1, 2)) / total, (mass * rows).sum((1, 2)) / total], dim=1)
    torch.testing.assert_close(centre, moved, atol=0.15, rtol=0)
    assert (moved - spots).abs().max() > 0.5
    assert spots[0].tolist() == [20.0, 9.0]


def test_lengths_in_pixels_scale_and_other_labels_stay() -> None:
    augmentation = StandardAugmentation(shift=0, scale=0.3)
    labels = torch.tensor([[10.0, 0.5]] * 6)
    _, moved = augmentation(
        torch.zeros(6, 1, 8, 8), labels, generator=torch.Generator().manual_seed(0), names=("r_px", "yaw_deg")
    )
    assert (moved[:, 1] == 0.5).all()
    assert ((moved[:, 0] >= 7) & (moved[:, 0] <= 13) & (moved[:, 0] != 10)).all()


def test_no_image_is_mirrored_unless_labels_allow() -> None:
    ramp = torch.linspace(-1, 1, 16).repeat(64, 1, 16, 1)
    for mirror, fewest, most in ((False, 0, 0), (True, 16, 48)):
        augmentation = StandardAugmentation(mirror=mirror)
        out, _ = augmentation(ramp, torch.zeros(64), generator=torch.Generator().manual_seed(0))
        mirrored = int((out[..., 0].mean((1, 2)) > out[..., -1].mean((1, 2))).sum())
        assert fewest <= mirrored <= most


@pytest.mark.parametrize(("name", "strength"), [("gain", 0.5), ("bias", 0.5), ("blur", 1.0), ("noise", 0.3)])
def test_each_photometric_part_has_its_own_effect(name: str, strength: float) -> None:
    images = torch.where(
        torch.rand(64, 1, 34, 34, generator=torch.Generator().manual_seed(1)) < 0.5, -0.4, 0.4
    )
    parts = {"shift": 0.0, "scale": 0.0, "gain": 0.0, "bias": 0.0, "blur": 0.0, "noise": 0.0, name: strength}
    out, _ = StandardAugmentation(**parts)(
        images, torch.zeros(64), generator=torch.Generator().manual_seed(0)
    )
    spread, mean = out.std((1, 2, 3)) / images.std((1, 2, 3)), out.mean((1, 2, 3)) - images.mean((1, 2, 3))
    if name == "gain":
        assert spread.min() < 0.7
        assert spread.max() > 1.3
    elif name == "bias":
        assert mean.min() < -0.3
        assert mean.max() > 0.3
    elif name == "blur":
        assert spread.max() <= 1.001
        assert spread.min() < 0.4
    else:
        assert spread.max() > 1.05
        assert mean.abs().max() < 0.05
