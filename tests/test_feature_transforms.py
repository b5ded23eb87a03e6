from __future__ import annotations

import pytest
import torch

import shapes
from simgan.nn.feature_transforms import FEATURE_TRANSFORMS, channel_mean, gradients, identity, local_contrast


def ramp(height: int, width: int, down: float, right: float) -> torch.Tensor:
    rows = torch.arange(height, dtype=torch.float64)[:, None]
    return (down * rows + right * torch.arange(width))[None, None]


@pytest.mark.parametrize(
    ("name", "channels", "shape"),
    [
        ("identity", 3, (2, 3, 6, 7)),
        ("gradients", 3, (2, 6, 5, 6)),
        ("channel_mean", 3, (2, 1, 6, 7)),
        ("local_contrast", 1, (2, 1, 6, 7)),
    ],
)
def test_features_have_the_documented_shape(name: str, channels: int, shape: tuple[int, ...]) -> None:
    images = torch.rand(2, channels, 6, 7)
    assert shapes.features(FEATURE_TRANSFORMS[name], images).shape == shape


def test_identity_is_the_image() -> None:
    images = torch.rand(1, 3, 4, 4)
    assert torch.equal(identity(images), images)


def test_gradients_of_a_ramp_are_its_slopes() -> None:
    slopes = gradients(ramp(5, 6, down=0.5, right=-0.25))
    assert (slopes[:, 0] == 0.5).all()
    assert (slopes[:, 1] == -0.25).all()


def test_gradients_do_not_see_the_level() -> None:
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(gradients(images), gradients(images - 0.7))
    assert (gradients(images) - gradients(2 * images)).abs().max() > 0.1


def test_gradients_tell_all_channels_apart() -> None:
    images = torch.zeros(1, 2, 3, 3)
    images[0, 1, 1, 1] = 1
    slopes = gradients(images)
    assert (slopes[0, [0, 2]] == 0).all()
    assert slopes[0, 1].tolist() == [[0, 1], [0, -1]]
    assert slopes[0, 3].tolist() == [[0, 0], [1, -1]]


def test_channel_mean_sees_brightness_and_not_hue() -> None:
    colour = torch.tensor([0.9, 0.0, -0.3]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(channel_mean(colour), torch.full((1, 1, 2, 2), 0.2))
    torch.testing.assert_close(channel_mean(colour.roll(1, dims=1)), channel_mean(colour))


def test_local_contrast_by_hand() -> None:
    """One bright pixel in the centre of 7×7 zeros: μ = 1/49, σ² = 1/49 − 1/49²."""
    images = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    images[0, 0, 3, 3] = 1
    sigma = (1 / 49 - 1 / 49**2) ** 0.5
    assert float(local_contrast(images)[0, 0, 3, 3]) == pytest.approx((1 - 1 / 49) / (sigma + 0.1))
    # the corner sees 4×4 of it, the bright pixel among them
    sigma = (1 / 16 - 1 / 16**2) ** 0.5
    assert float(local_contrast(images)[0, 0, 0, 0]) == pytest.approx((0 - 1 / 16) / (sigma + 0.1))


def test_local_contrast_does_not_see_the_level_and_hardly_the_gain() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 1, 12, 12, dtype=torch.float64) * 2 - 1
    seen = local_contrast(images)
    torch.testing.assert_close(local_contrast(images + 0.4), seen)
    # with gain 1.2: σ / (σ + 0.1) against 1.2σ / (1.2σ + 0.1), at σ about 0.57 some 2.5 %
    torch.testing.assert_close(local_contrast(1.2 * images), seen, rtol=0.06, atol=1e-9)
    assert (local_contrast(images.flip(3)) - seen).abs().mean() > 0.5


def test_flat_images_have_no_local_contrast_and_finite_gradients() -> None:
    images = torch.full((1, 1, 9, 9), 0.3, requires_grad=True)
    contrast = local_contrast(images)
    assert contrast.abs().max() < 1e-5
    contrast.abs().sum().backward()
    assert torch.isfinite(images.grad).all()
