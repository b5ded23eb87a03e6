"""Random numbers by counter: each is a function of (seed, name, index) alone, whatever else is drawn before it.

An image therefore does not depend on the images beside it, on the batch size, or on parameters that a later
version adds. The mixing is SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), 64-bit integers that wrap around.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


@dataclass(frozen=True)
class Uniform:
    """U(low, high)."""

    low: float
    high: float

    def at(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantiles of u in [0, 1)."""
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class LogUniform:
    """exp U(ln low, ln high)."""

    low: float
    high: float

    def at(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantiles of u in [0, 1)."""
        return np.asarray(self.low * (self.high / self.low) ** u)


@dataclass(frozen=True)
class Normal:
    """N(mean, sd²), cut off at `limit` standard deviations."""

    mean: float
    sd: float
    limit: float = 2.5

    def at(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantiles of u in [0, 1)."""
        tail = float(ndtr(-self.limit))
        return np.asarray(self.mean + self.sd * ndtri(tail + (1 - 2 * tail) * u))


@dataclass(frozen=True)
class Chance:
    """1 with this probability, else 0."""

    probability: float

    def at(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantiles of u in [0, 1)."""
        return (u < self.probability).astype(np.float64)


@dataclass(frozen=True)
class OneOf:
    """One of 0 … count − 1, each as likely."""

    count: int

    def at(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantiles of u in [0, 1)."""
        return np.floor(u * self.count)


Distribution = Uniform | LogUniform | Normal | Chance | OneOf


def uniform_numbers(seed: int, name: str, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each index a number in (0, 1), a multiple of 2⁻⁵³ (plus half of one) that depends on the three alone."""
    bits = _mix_numpy(stream_key(seed, name), indices)
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def stream_key(seed: int, name: str) -> int:
    """A 64-bit number for the stream `name` of `seed`."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big")


def _mix_numpy(key: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    z = np.uint64(key) + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return np.asarray(z ^ (z >> np.uint64(31)))


def bell_noise(keys: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """For each int64 key an image (height, width) of nearly Gaussian numbers, mean 0, sd 1, on the device of the keys.

    Each is the sum of four uniform 16-bit numbers (Irwin–Hall), scaled: |x| ≤ 3.47. Integers until the last
    step, so every device gives the same bits.
    """
    count = torch.arange(1, height * width + 1, device=keys.device).reshape(1, height, width)
    z = keys.reshape(-1, 1, 1) + count * _signed(_GOLDEN)
    z = (z ^ _shift(z, 30)) * _signed(_FIRST)
    z = (z ^ _shift(z, 27)) * _signed(_SECOND)
    z = z ^ _shift(z, 31)
    total = (z & 0xFFFF) + (_shift(z, 16) & 0xFFFF) + (_shift(z, 32) & 0xFFFF) + _shift(z, 48)
    return (total - 2 * 0xFFFF).to(torch.float32) * ((3**0.5) / 65536)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _shift(z: torch.Tensor, by: int) -> torch.Tensor:
    """Logical right shift of int64, which torch shifts arithmetically."""
    return (z >> by) & ((1 << (64 - by)) - 1)
