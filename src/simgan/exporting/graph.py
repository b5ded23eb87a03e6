"""A trained refiner as an ONNX graph: what it computes for native images, written in operations that ONNX has.

    encode → first stage (level matching, where it was trained) → R_θ → decode → carry the lowest level

Each step is the one of `TrainedRefiner`, in float32; values outside the value range are clipped to it.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from simgan.errors import WeightsError, require_extra
from simgan.images import ValueRange
from simgan.nn.level_matching import LevelMatching
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner
from simgan.weights import TrainedRefiner

OPSET = 18  # the first in which ScatterElements adds; what reads ONNX at all reads it
_LARGEST = 2**31 - 2**24  # bytes of weights: the format ends at 2 GiB, and the graph needs some


class NativeRefiner(nn.Module):
    """(N, H, W, C) native integers → the same refined, and x̃ (N, H, W, C) float32 in [-1, 1] before rounding."""

    def __init__(self, trained: TrainedRefiner) -> None:
        super().__init__()
        self.value_range = trained.value_range
        self.dtype = torch.uint8 if trained.pixel_format.bit_depth == 8 else torch.uint16
        matching = trained.level_matching
        self.matching = None if matching is None else MatchingByCounts(matching, trained.value_range)
        self.refiner = copy.deepcopy(trained.refiner)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        native = images.to(torch.int32).permute(0, 3, 1, 2)
        x = encode(self.value_range, native)
        values = self.refiner(x if self.matching is None else self.matching(native, x)).clamp(-1, 1)
        refined = self._carry_lowest(native, x, decode(self.value_range, values))
        return refined.permute(0, 2, 3, 1).to(self.dtype), values.permute(0, 2, 3, 1)

    def _carry_lowest(self, native: Tensor, x: Tensor, refined: Tensor) -> Tensor:
        r = self.value_range
        if r.invalid is None:
            return refined
        nearest = r.invalid + r.step if r.invalid < r.high else r.high - r.step
        refined = torch.where(refined == r.invalid, nearest, refined)
        refined = torch.where(x <= -1, r.low, refined)
        return torch.where(native == r.invalid, r.invalid, refined)


def encode(r: ValueRange, native: Tensor) -> Tensor:
    """`ValueRange.encode` for int32 tensors."""
    x = ((native.float() - r.low) * (2 / (r.high - r.low)) - 1).clamp(-1, 1)
    return x if r.invalid is None else torch.where(native == r.invalid, -1.0, x)


def decode(r: ValueRange, values: Tensor) -> Tensor:
    """`ValueRange.decode` for values in [-1, 1], to int32."""
    places = ((values + 1) * ((r.levels - 1) / 2)).round()
    return (r.low + r.step * places).to(torch.int32)


class MatchingByCounts(nn.Module):
    """`LevelMatching` without searchsorted, which ONNX lacks: how many pixels lie below a level is counted in a
    histogram over native levels. The counts are the same integers."""

    source_means: Tensor
    targets: Tensor

    def __init__(self, matching: LevelMatching, value_range: ValueRange) -> None:
        super().__init__()
        self.register_buffer("source_means", matching.source_means)
        self.register_buffer("targets", matching.targets)
        self.value_range = value_range

    def forward(self, native: Tensor, x: Tensor) -> Tensor:
        """`x` are the encoded `native` levels, (N, C, H, W) both; the result is on the files' grid."""
        r, means = self.value_range, x.mean(dim=(1, 2, 3), dtype=torch.float64).float()[:, None]
        count, total = self.targets.shape[0], self.source_means.shape[0]
        rank_twice = (self.source_means < means).sum(1) + (self.source_means <= means).sum(1)
        target = self.targets[(rank_twice * count // (2 * total)).clamp(max=count - 1)]

        level = (native.clamp(r.low, r.high) - r.low).flatten(2).long()
        bins = torch.zeros(1, 1, r.high - r.low + 1, dtype=torch.int32)
        bins = bins.expand(level.shape[0], level.shape[1], -1)
        histogram = bins.scatter_add(2, level, torch.ones_like(level, dtype=torch.int32))
        up_to = histogram.cumsum(2, dtype=torch.int32)
        twice = (2 * up_to - histogram).gather(2, level)  # pixels below the level, and up to it
        pixels = level.shape[2]

        position = twice.float() / (2 * pixels) * (target.shape[2] - 1)
        lower = position.floor().long()
        low = target.gather(2, lower)
        high = target.gather(2, (lower + 1).clamp(max=target.shape[2] - 1))
        weight, step = position - lower, high - low
        # As torch.lerp rounds, from the nearer end.
        matched = torch.where(weight < 0.5, low + weight * step, high - step * (1 - weight))
        grid = Quantization(r.levels)
        codes = ((matched.clamp(-1, 1) + 1) * ((r.levels - 1) / 2)).round()
        return grid.values(codes).reshape(x.shape)


def native_graph(trained: TrainedRefiner) -> Any:
    """The ONNX model: input `images`, outputs `refined` and `values`; N, H and W are free."""
    module = NativeRefiner(trained).cpu()
    example = torch.zeros(2, 17, 19, trained.pixel_format.channels, dtype=module.dtype)
    return _to_onnx(module, example, "images", ("refined", "values"), axes={0: "N", 1: "H", 2: "W"})


def network_graph(refiner: Refiner) -> Any:
    """R_θ alone as an ONNX model: `synthetic` (N, C, H, W) float32 in [-1, 1] → `refined`; N, H and W are free."""
    example = torch.zeros(2, refiner.spec.channels, 17, 19)
    network = copy.deepcopy(refiner).cpu()
    return _to_onnx(network, example, "synthetic", ("refined",), axes={0: "N", 2: "H", 3: "W"})


def _to_onnx(
    module: nn.Module, example: Tensor, entry: str, results: tuple[str, ...], *, axes: Mapping[int, str]
) -> Any:
    require_extra("onnx", extra="onnx")
    require_extra("onnxscript", extra="onnx")
    size = sum(weights.numel() * weights.element_size() for weights in module.state_dict().values())
    if size > _LARGEST:
        raise WeightsError(
            f"the refiner's weights are {size / 2**30:.1f} GiB, and an ONNX file holds less than 2 GiB: refine with "
            "`simgan refine` instead, or train a refiner of fewer maps (refiner.width)"
        )
    free = {axis: torch.export.Dim(name) for axis, name in axes.items()}
    with torch.inference_mode(), _quietly():
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[entry], output_names=list(results), dynamic_shapes=(free,),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    graph = model.graph
    # torch notes where in which file of this machine each operation was written: nobody else's business.
    for part in (
        *graph.node,
        *graph.value_info,
        *graph.initializer,
        *graph.input,
        *graph.output,
        graph,
        model,
    ):
        del part.metadata_props[:]
    return model


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """torch tells of its own deprecated parts, and of torchvision's absence."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
