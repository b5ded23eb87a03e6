"""Where and in which precision the networks run: one decision, taken once."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from simgan.errors import ConfigurationError

Precision = Literal["auto", "float32", "bfloat16"]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class Route:
    """`device`; `dtype` of convolutions (weights, losses and images stay float32); always channels_last."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[object]:
        """The context that networks are called in."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def place(self, network: NetworkT) -> NetworkT:
        """`network` on the device, in the memory layout of the route; the same object."""
        return network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def put(self, images: Tensor) -> Tensor:
        """`images` on the device in that layout."""
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def __str__(self) -> str:
        return f"{self.device.type} {str(self.dtype).removeprefix('torch.')}"


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware (not merely emulates them)."""
    if device.type == "cuda":  # pragma: cuda
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def choose_route(*, device: str = "auto", precision: Precision = "auto", bit_depth: int = 8) -> Route:
    """The route for images of that bit depth.

    "auto": CUDA where there is one; bf16 where the processor has units for it and images are 8 bit. bf16 carries 8
    bits of mantissa: about one grey level of 8-bit images but 260 of 16-bit ones, which therefore stay float32.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    place = _existing_device(name)
    if precision == "auto":
        precision = "bfloat16" if bit_depth == 8 and has_bfloat16_units(place) else "float32"
    return Route(place, torch.bfloat16 if precision == "bfloat16" else torch.float32)


def _existing_device(name: str) -> torch.device:
    """The device, or `ConfigurationError`: better now than at the first batch."""
    kind, _, index = name.partition(":")
    if kind == "cpu" and not index:
        return torch.device("cpu")
    known = kind == "cuda" and (not index or index.isdecimal())
    if known and torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count():
        return torch.device(name)
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    raise ConfigurationError(
        f"`run.device` is {name!r}, which is not here; there are: {', '.join(there)}, or auto"
    )
