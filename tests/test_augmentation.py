from __future__ import annotations

import pytest
import torch

import shapes
from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.draws import Draws


def seeded(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (5, 3, 9, 6)])
def test_augmented_images_have_the_shape_of_the_images(shape: tuple[int, ...]) -> None:
    augmentation = DiscriminatorAugmentation(2, 0.1)
    assert shapes.augment(augmentation, torch.rand(shape), seeded()).shape == shape


def test_no_shift_and_no_gain_change_nothing() -> None:
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(DiscriminatorAugmentation(0, 0.0)(images, seeded()), images, atol=1e-6, rtol=0)


def test_shifts_reach_every_offset_and_repeat_the_edge() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    images = torch.stack([rows, columns])[None].expand(200, -1, -1, -1)
    shifted = DiscriminatorAugmentation(1, 0.0)(images, seeded())
    seen = set()
    for image in shifted:
        down, right = int(image[0, 2, 2]) - 2, int(image[1, 2, 2]) - 2
        seen.add((down, right))
        torch.testing.assert_close(image[0], (rows + down).clamp(0, 5))
        torch.testing.assert_close(image[1], (columns + right).clamp(0, 5))
    assert seen == {(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1)}


def test_gains_are_drawn_image_by_image_and_leave_the_lowest_level_alone() -> None:
    images = torch.tensor([-1.0, 0.0, 0.5]).view(1, 1, 1, 3).expand(300, 1, 1, 3)
    gained = DiscriminatorAugmentation(0, 0.1)(images, seeded())[:, 0, 0]
    assert (gained[:, 0] == -1).all()
    gains = gained[:, 1] + 1
    torch.testing.assert_close(gained[:, 2] + 1, 1.5 * gains)
    assert 0.9 <= gains.min() < 0.91
    assert 1.09 < gains.max() <= 1.1
    assert gains.unique().numel() > 250


def test_all_randomness_comes_from_the_generator() -> None:
    images, augmentation = torch.rand(8, 1, 6, 6), DiscriminatorAugmentation(1, 0.1)
    torch.manual_seed(1)
    first = augmentation(images, seeded())
    torch.manual_seed(2)
    assert torch.equal(augmentation(images, seeded()), first)
    assert not torch.equal(augmentation(images, seeded(1)), first)


def test_the_gradient_reaches_the_images() -> None:
    images = torch.rand(3, 1, 6, 6, requires_grad=True)
    DiscriminatorAugmentation(1, 0.1)(images, seeded()).sum().backward()
    assert images.grad[:, :, 1:-1, 1:-1].min() > 0
