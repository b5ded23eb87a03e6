"""Where batches come from: out of the host's memory-mapped cache, or out of a copy of it on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from simgan.data.streams import BatchStream
from simgan.images import ValueRange
from simgan.nn.draws import Draws
from simgan.nn.residence import ResidentImages, encode_native
from simgan.training.algorithm import Players
from simgan.training.assembly import Assembly, DataSide

_LARGEST_SHARE = 0.4  # of the device's free memory that one side's images may take

_PIECE = 2**26  # values copied at a time, so that the cache is never in memory whole

Feed = Callable[[], tuple[Tensor, Tensor]]
"""The next batch, (N, C, h, w) float32 in [-1, 1], and which images they are, (N,) on the host."""


def feed_of(side: DataSide, stream: BatchStream, players: Players) -> Feed:
    """The batches of `stream`, encoded; the same images in the same order wherever they lie."""
    device = players.route.device
    if device.type == "cpu":
        return lambda: _encoded_on_host(side, stream)
    resident = _resident(side, stream, device)
    return lambda: _encoded_on_device(side.value_range, stream, resident, players.draws)


def first_stage_of(assembly: Assembly) -> Callable[[Tensor], Tensor]:
    """`assembly.first_stage`, on the device that training runs on."""
    if assembly.level_matching is None or assembly.route.device.type == "cpu":
        return assembly.first_stage
    matching = copy.deepcopy(assembly.level_matching).to(assembly.route.device)
    return lambda images: assembly.quantization.quantize(matching(images))


def _encoded_on_host(side: DataSide, stream: BatchStream) -> tuple[Tensor, Tensor]:
    native, indices = stream.next_with_indices()
    return side.encode(native), indices


def _encoded_on_device(
    value_range: ValueRange, stream: BatchStream, resident: ResidentImages | None, draws: Draws
) -> tuple[Tensor, Tensor]:
    chosen: list[Tensor] = []

    def next_windows() -> Tensor:
        windows, indices = stream.next_windows()
        chosen[:] = [indices]
        return windows

    def next_native() -> Tensor:
        native, indices = stream.next_with_indices()
        chosen[:] = [indices]
        return native

    native = draws(next_native) if resident is None else resident.cut(draws(next_windows))
    images = encode_native(native, low=value_range.low, high=value_range.high, invalid=value_range.invalid)
    return images, chosen[0]


def _resident(side: DataSide, stream: BatchStream, device: torch.device) -> ResidentImages | None:
    """All pixels of that side on the device, or None where they would take too much of its memory."""
    pixels = side.cache.pixels
    if device.type == "cuda":  # pragma: cuda
        free, _ = torch.cuda.mem_get_info(device)
        if pixels.nbytes > _LARGEST_SHARE * free:
            return None
    bits = pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels  # torch copies no uint16
    on_device = torch.empty(
        len(bits), dtype=torch.int16 if bits.dtype == np.int16 else torch.uint8, device=device
    )
    for start in range(0, len(bits), _PIECE):
        on_device[start : start + _PIECE] = torch.from_numpy(bits[start : start + _PIECE].copy())
    channels = side.cache.scan.pixel_format.channels
    return ResidentImages(on_device, channels=channels, size=stream.size)
