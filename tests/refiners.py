"""Refiners for tests: built, not trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simgan.data.trees import Reject, TreeScan
from simgan.images import PixelFormat, ValueRange
from simgan.nn.level_matching import LevelMatching
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import choose_route
from simgan.weights import TrainedRefiner


def build_refiner(
    *,
    channels: int = 1,
    bit_depth: int = 8,
    identity: bool = False,
    output: str = "residual",
    blocks: int = 2,
    value_range: ValueRange | None = None,
    level_matching: bool = False,
    precision: str = "float32",
    seed: int = 0,
    size: tuple[int, int] = (20, 30),
    level_mean: float = 127.5,
    level_std: float = 74.0,
) -> TrainedRefiner:
    """A refiner of random weights that changes images by some ten levels of 255, or not at all (`identity`)."""
    torch.manual_seed(seed)
    refiner = Refiner(RefinerSpec(channels, 8, blocks, output=output))  # type: ignore[arg-type]
    if not identity:
        torch.nn.init.normal_(refiner.tail.weight, std=0.15)
    matching = None
    if level_matching:
        matching = LevelMatching.fit(
            synthetic=torch.rand(40, channels, *size) * torch.rand(40, 1, 1, 1) * 2 - 1,
            real=torch.rand(40, channels, *size) ** 2 * 2 - 1,
        )
    kind = PixelFormat(channels, bit_depth)
    top = 2**bit_depth - 1
    scale = top / 255
    return TrainedRefiner(
        refiner=refiner,
        level_matching=matching,
        value_range=value_range or ValueRange(0, top),
        pixel_format=kind,
        training_scan=TreeScan(
            10, kind, {size: 10}, 0, top, 1, level_mean * scale, level_std * scale, 3.0,
            (Reject("a/private name.png", "damaged"),), "f" * 64,
        ),
        provenance={"simgan": "0.1.0", "recipe": "default", "seed": seed, "step": 100},
        route=choose_route(device="cpu", precision=precision, bit_depth=bit_depth),  # type: ignore[arg-type]
    )  # fmt: skip


def noise(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape).astype(dtype)
