"""From radiance to the numbers of an 8-bit image: lens, exposure, tone curve, noise."""

from __future__ import annotations

import torch

from simgan.simulators.draws import bell_noise
from simgan.simulators.eyes.looks import Parameters


def expose(p: Parameters, radiance: torch.Tensor) -> torch.Tensor:
    """(n, h, w) radiance of pixels -> (n, h, w) uint8.

    Blur by the lens, then x = exposure · vignette · blurred + haze, noise of sd √(read² + shot²·x), and the tone
    curve (1 − γ)·x + γ·√x.
    """
    _, rows, columns = radiance.shape
    v = torch.arange(rows, device=radiance.device, dtype=radiance.dtype).reshape(1, rows, 1)
    u = torch.arange(columns, device=radiance.device, dtype=radiance.dtype).reshape(1, 1, columns)
    from_middle = ((u / (columns - 1) - 0.5) * 2).square() + ((v / (rows - 1) - 0.5) * 2).square()
    light = blur(radiance, p["blur_px"]) * (1 - p["vignette"] * 0.7 * from_middle)
    x = (light * p["exposure"] + p["haze"]).clamp(0, 1)
    noise = bell_noise(p["sensor_key"], rows, columns)
    x = x + noise * (p["read_noise"].square() + p["shot_noise"].square() * x).sqrt()
    x = x.clamp(0, 1)
    toned = x + p["gamma"] * (x.sqrt() - x)
    return (toned * 255 + 0.5).floor().to(torch.uint8)


def blur(image: torch.Tensor, sd_px: torch.Tensor) -> torch.Tensor:
    """Nearly a Gaussian of this standard deviation, up to 1.2 px: [b, 1 − 2b, b] along both axes, twice, b = sd²/4."""
    b = sd_px * sd_px * 0.25
    for axis in (1, 2, 1, 2):
        last = image.shape[axis] - 1
        low = torch.cat([image.narrow(axis, 0, 1), image.narrow(axis, 0, last)], axis)
        high = torch.cat([image.narrow(axis, 1, last), image.narrow(axis, last, 1)], axis)
        image = image + b * (low + high - 2 * image)
    return image
