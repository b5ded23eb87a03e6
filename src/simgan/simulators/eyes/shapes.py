"""Small functions of which surfaces and shadows are made; arithmetic only, see `vectors`."""

from __future__ import annotations

import torch


def bump(x: torch.Tensor) -> torch.Tensor:
    """(1 − x²)² for |x| < 1, else 0: a smooth hill of height 1."""
    return (1 - x * x).clamp_(min=0).square_()


def ramp(x: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    """0 below low, 1 above high, smooth between."""
    t = rise(x, low, high)
    return (3 - 2 * t).mul_(t).mul_(t)


def rise(x: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    """0 below low, 1 above high, a straight line between."""
    return (x - low).mul_(1 / (high - low)).clamp_(0, 1)


def mixed(a: torch.Tensor, b: torch.Tensor, share: torch.Tensor | float) -> torch.Tensor:
    """a where share is 0, b where it is 1."""
    return (b - a).mul(share).add(a)
