"""A trained refiner: native images in, native images out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan.data.trees import TreeScan
from simgan.errors import DataError, WeightsError
from simgan.images import PixelFormat, ValueRange
from simgan.nn.frozen import Float64Tail, FrozenRefiner
from simgan.nn.level_matching import LevelMatching
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Route, choose_route
from simgan.nn.tiling import apply_tiled
from simgan.weights.encoding import encode

TILE = 256  # bounds memory at about 130 MB for each image in work, with 64 feature maps

# Pixels that are computed at once: on a processor as many as its second cache holds with 64 maps, on a GPU as many as
# keep it busy. Images of a frequent size stand together in such a batch, and no more than that in number.
_PIXELS_AT_ONCE = {"cpu": 2**14, "cuda": 2**19}
_IMAGES_AT_ONCE = {"cpu": 32, "cuda": 512}
_FREQUENT = 1 / 8  # of the training images: rarer sizes would leave most of their batches empty

OutOfRange = Literal["refuse", "clip"]


@dataclass
class TrainedRefiner:
    """A refiner with all that it takes to refine native images: `trained(images)`, see `__call__`.

    It keeps a copy of the refiner that it is made from, which may go on training.
    """

    refiner: Refiner
    level_matching: LevelMatching | None
    value_range: ValueRange
    pixel_format: PixelFormat
    training_scan: TreeScan  # of the synthetic images
    provenance: dict[str, Any] = field(default_factory=dict)
    route: Route | None = None  # None: where the refiner is, in the precision for its pixel format

    def __post_init__(self) -> None:
        if self.route is None:
            device = next(self.refiner.parameters()).device
            self.route = choose_route(device=str(device), bit_depth=self.pixel_format.bit_depth)
        self.refiner = copy.deepcopy(self.refiner).eval().requires_grad_(False)
        self.route.place(self.refiner)

    @property
    def spec(self) -> RefinerSpec:
        """The architecture."""
        return self.refiner.spec

    @cached_property
    def sha256(self) -> str:
        """Of the file that `save_refiner` writes: the name of what this refiner computes."""
        return hashlib.sha256(encode(self)).hexdigest()

    def __call__(
        self, images: NDArray[Any], *, out_of_range: OutOfRange = "refuse", tile: int = TILE
    ) -> NDArray[Any]:
        """The refined images: same shape, same dtype, which is the one of the training images.

        `images` are native values (H, W), (H, W, C) or (N, H, W, C), with or without alpha, which is carried
        as it is. Where the range has an `invalid` value, pixels of it stay, and so do those of the lowest level,
        as in training; no other pixel becomes `invalid`. Values outside the range are refused, or clipped to
        it. Images above `tile` × `tile` pixels are computed in tiles. The result of an image does not depend on
        the images beside it, see `compute_batch`. `DataError` where the images are not of the trained kind,
        `WeightsError` where the refiner computes what is not a number.
        """
        batch = self._as_batch(images)
        refined = batch.copy()
        colours = self.pixel_format.channels
        synthetic = batch[..., :colours]
        outside = self.value_range.count_outside(synthetic) if out_of_range == "refuse" else 0
        if outside:
            r = self.value_range
            raise DataError(
                f"{outside} values lie outside the range {r.low} to {r.high} that the refiner was trained on "
                f"(they reach from {synthetic.min()} to {synthetic.max()}); rescale the images like the "
                f"training images, or have such values clipped with out_of_range='clip'"
            )
        size = self.compute_batch(*synthetic.shape[1:3])
        for start in range(0, len(synthetic), size):
            part = slice(start, start + size)
            refined[part, ..., :colours] = self._refine_batch(synthetic[part], size, tile)
        return refined.reshape(images.shape)

    def compute_batch(self, height: int, width: int) -> int:
        """How many images of that size the network computes at once; fewer are filled up with empty ones.

        Libraries choose the order of their sums by the size of the batch: an image's last bit, and now and then a
        grey level, would depend on how many images happen to stand beside it. So the size of the batch is a function
        of the image's size alone: of 8 for 35×55 on a processor, 1 for sizes that were rare in training.
        """
        assert self.route is not None
        scan, device = self.training_scan, self.route.device.type
        if scan.sizes.get((height, width), 0) < _FREQUENT * scan.n:
            return 1
        return min(max(_PIXELS_AT_ONCE[device] // (height * width), 1), _IMAGES_AT_ONCE[device])

    def _as_batch(self, images: NDArray[Any]) -> NDArray[Any]:
        """(N, H, W, C), or `DataError`."""
        wanted = self.pixel_format
        shape = images.shape
        batch = images
        if images.ndim == 2:
            batch = images[None, :, :, None]
        elif images.ndim == 3:
            batch = images[None]
        fits = batch.ndim == 4 and batch.shape[3] in (wanted.channels, wanted.channels + 1)
        if not fits or 0 in batch.shape[1:] or images.dtype != wanted.dtype:
            c = wanted.channels
            raise DataError(
                f"this refiner was trained on {wanted} images: arrays of {wanted.dtype} "
                f"{'(H, W), ' if c == 1 else ''}(H, W, {c}) or (N, H, W, {c}), alpha one channel more, are "
                f"wanted, got {shape} of {images.dtype}"
            )
        return batch

    @torch.inference_mode()
    def _refine_batch(self, synthetic: NDArray[Any], size: int, tile: int) -> NDArray[Any]:
        """Native (n, H, W, C) → the same, refined; n is at most `size`, the number that is computed."""
        assert self.route is not None
        n, height, width, channels = synthetic.shape
        x = torch.zeros(size, channels, height, width)
        x[:n] = torch.from_numpy(self.value_range.encode(synthetic)).permute(0, 3, 1, 2)
        with self.route.autocast():
            refined = apply_tiled(
                self.network,
                self.route.put(self.first_stage(x)),
                receptive_field=self.refiner.receptive_field,
                tile=tile,
            )
        values = refined[:n].float().cpu().permute(0, 2, 3, 1).numpy()
        if not np.isfinite(values).all():
            raise WeightsError(
                "the refiner computes values that are not numbers for these images: its weights are damaged "
                "or its training diverged; take an earlier refiner, or train again"
            )
        return self._carry_lowest(synthetic, self.value_range.decode(values, synthetic.dtype))

    def first_stage(self, images: Tensor) -> Tensor:
        """What the refiner gets for encoded images (N, C, H, W): level-matched, where that was trained."""
        if self.level_matching is None:
            return images
        matched = self.level_matching.to(images.device)(images)
        return Quantization(self.value_range.levels).quantize(matched)

    @torch.no_grad()
    def transform(self, synthetic: Tensor) -> Tensor:
        """A batch refined on the fly, for a training loop: (N, C, H, W) float32 in [-1, 1], on any device, encoded by
        `value_range` → the same refined, float32 on the refiner's device (`load_refiner(path, device="cuda")`).

        The values lie on the grid of levels that files hold, and pixels are carried as in `__call__`. Computed as one
        batch, without tiles: a pixel may be a grey level away from that of a refined tree. No gradient passes.
        """
        assert self.route is not None
        grid, r = Quantization(self.value_range.levels), self.value_range
        synthetic = self.route.put(synthetic)
        with self.route.autocast():
            codes = grid.codes(self.network(self.first_stage(synthetic)))
        if r.invalid is None:
            return grid.values(codes)
        hole, between = divmod(r.invalid - r.low, r.step)
        if not between and 0 <= hole < r.levels:
            codes = torch.where(codes == hole, hole + 1 if r.invalid < r.high else hole - 1, codes)
        return torch.where(synthetic <= -1, synthetic, grid.values(codes))

    @cached_property
    def network(self) -> Callable[[Tensor], Tensor]:
        """R_θ, its last layer summed in float64: in float32 the last bit of a 1×1 convolution depends on the
        number of threads. With weights cast and laid out once where the route has kernels for that."""
        assert self.route is not None
        height, width = max(self.training_scan.sizes, key=lambda size: (self.training_scan.sizes[size], size))
        shape = (self.compute_batch(height, width), self.pixel_format.channels, height, width)
        with self.route.autocast():
            if FrozenRefiner.takes(self.refiner, torch.empty(0, device=self.route.device)):
                return FrozenRefiner(self.refiner, shape)
        network = copy.deepcopy(self.refiner)
        network.tail = Float64Tail(network.tail)  # type: ignore[assignment]
        return network

    def _carry_lowest(self, synthetic: NDArray[Any], refined: NDArray[Any]) -> NDArray[Any]:
        """Pixels encoded at −1, holes among them, pass unchanged, as in training; no other becomes a hole."""
        r = self.value_range
        if r.invalid is None:
            return refined
        holes, lowest = r.is_invalid(synthetic), r.encode(synthetic) <= -1
        refined[r.is_invalid(refined)] = r.invalid + r.step if r.invalid < r.high else r.high - r.step
        refined[lowest] = r.low
        refined[holes] = r.invalid
        return refined
