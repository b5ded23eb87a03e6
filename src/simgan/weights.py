"""One refiner file: tensors, what they are the weights of, and where they come from. Data, never code.

`refiner.safetensors` holds the tensors of R_θ (`refiner.…`) and of level matching (`level_matching.…`), and
under the metadata key `simgan` one JSON text: format version, architecture, value range, pixel format,
statistics of the synthetic images it was trained on, provenance. Equal refiners give equal bytes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save as to_safetensors
from torch import Tensor

from simgan.data.trees import TreeScan
from simgan.errors import ConfigurationError, DataError, RunError, WeightsError
from simgan.images import PixelFormat, ValueRange, write_atomically
from simgan.nn.level_matching import LevelMatching
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Precision, Route, choose_route
from simgan.nn.tiling import apply_tiled

FILE_NAME = "refiner.safetensors"
FORMAT_VERSION = 1
_LARGEST = 2**53  # numbers in the metadata are below this: they can be computed with
TILE = 512  # bounds memory at about half a gigabyte for 64 feature maps

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
        return hashlib.sha256(_encode(self)).hexdigest()

    def __call__(
        self, images: NDArray[Any], *, out_of_range: OutOfRange = "refuse", tile: int = TILE
    ) -> NDArray[Any]:
        """The refined images: same shape, same dtype, which is the one of the training images.

        `images` are native values (H, W), (H, W, C) or (N, H, W, C), with or without alpha, which is carried
        as it is; so are pixels of the range's `invalid` value. Values outside the range are refused, or
        clipped to it. Images above `tile` × `tile` pixels are computed in tiles. The result of an image does
        not depend on the images beside it. `DataError` where the images are not of the trained kind,
        `WeightsError` where the refiner computes what is not a number.
        """
        batch = self._as_batch(images)
        refined = batch.copy()
        colours = self.pixel_format.channels
        synthetic = batch[..., :colours]
        outside = self.value_range.count_outside(synthetic)
        if outside and out_of_range == "refuse":
            r = self.value_range
            raise DataError(
                f"{outside} values lie outside the range {r.low} to {r.high} that the refiner was trained on "
                f"(they reach from {synthetic.min()} to {synthetic.max()}); rescale the images like the "
                f"training images, or have such values clipped with out_of_range='clip'"
            )
        for i, image in enumerate(synthetic):
            refined[i, ..., :colours] = self._refine_image(image, tile)
        return refined.reshape(images.shape)

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
    def _refine_image(self, synthetic: NDArray[Any], tile: int) -> NDArray[Any]:
        """Native (H, W, C) → the same, refined.

        One image at a time: libraries choose the order of their sums by the size of the batch, so that an
        image's last bit, and now and then a grey level, would depend on the images beside it. On a processor
        larger batches are no faster: a convolution of one image keeps it busy.
        """
        assert self.route is not None
        x = torch.from_numpy(self.value_range.encode(synthetic).transpose(2, 0, 1)[None].copy())
        with self.route.autocast():
            refined = apply_tiled(
                self._network,
                self.route.put(self.first_stage(x)),
                receptive_field=self.refiner.receptive_field,
                tile=tile,
            )
        values = refined[0].float().cpu().numpy().transpose(1, 2, 0)
        if not np.isfinite(values).all():
            raise WeightsError(
                "the refiner computes values that are not numbers for these images: its weights are damaged "
                "or its training diverged; take an earlier refiner, or train again"
            )
        return self._keep_invalid(synthetic, self.value_range.decode(values, synthetic.dtype))

    def first_stage(self, images: Tensor) -> Tensor:
        """What the refiner gets for encoded images (N, C, H, W): level-matched, where that was trained."""
        if self.level_matching is None:
            return images
        return Quantization(self.value_range.levels).quantize(self.level_matching(images))

    @cached_property
    def _network(self) -> Refiner:
        """R_θ, its last layer summed in float64: in float32 the last bit of a 1×1 convolution depends on the
        number of threads."""
        network = copy.deepcopy(self.refiner)
        network.tail.double().register_forward_pre_hook(lambda _, features: (features[0].double(),))
        return network

    def _keep_invalid(self, synthetic: NDArray[Any], refined: NDArray[Any]) -> NDArray[Any]:
        """Pixels without a measurement stay so, and no other pixel becomes one."""
        r = self.value_range
        if r.invalid is None:
            return refined
        holes = r.is_invalid(synthetic)
        refined[r.is_invalid(refined) & ~holes] = (
            r.invalid + r.step if r.invalid < r.high else r.high - r.step
        )
        refined[holes] = r.invalid
        return refined


def save_refiner(path: str | Path, trained: TrainedRefiner) -> None:
    """Write `trained` to the file `path`, atomically; `OutputError` where that cannot be."""
    write_atomically(path, _encode(trained))


def load_refiner(path: str | Path, *, device: str = "auto", precision: Precision = "auto") -> TrainedRefiner:
    """The refiner in the file `path`, or in the run directory `path`; runs no code from it.

    `RunError` where nothing has been trained, `WeightsError` where the file is missing, damaged, of another
    program, of a newer simgan, or pickled.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
        if not file.exists():
            raise RunError(
                f"{path}: no trained refiner here (no {FILE_NAME}); train one with `simgan train RECIPE "
                f"--run {path}`, or give the file of one"
            )
    elif not file.exists():
        raise WeightsError(
            f"{path}: no trained refiner here, there is no such file; give a run directory or a {FILE_NAME}, "
            f"or train one with `simgan train`"
        )
    parts = _decode(file)
    bit_depth = parts["pixel_format"].bit_depth
    return TrainedRefiner(
        **parts, route=choose_route(device=device, precision=precision, bit_depth=bit_depth)
    )


def _encode(trained: TrainedRefiner) -> bytes:
    stages = {"refiner": trained.refiner, "level_matching": trained.level_matching}
    tensors = {
        f"{stage}.{name}": tensor.detach().cpu().float().contiguous()
        for stage, module in stages.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise WeightsError(
            "the refiner's weights are not all numbers: its training diverged; it was not saved"
        )
    metadata = {
        "format": "simgan refiner",
        "format_version": FORMAT_VERSION,
        "refiner": asdict(trained.spec),
        "value_range": trained.value_range.to_dict(),
        "pixel_format": asdict(trained.pixel_format),
        # Weights are passed on to others: names of files on this disk stay here.
        "training_scan": replace(trained.training_scan, rejects=()).to_dict(),
        "provenance": trained.provenance,
    }
    # One metadata key only: several would be written in random order.
    return to_safetensors(tensors, {"simgan": json.dumps(metadata, sort_keys=True, allow_nan=False)})


def _decode(file: Path) -> dict[str, Any]:
    """The fields that `_encode` wrote. Nothing is built before it is known to be what the file has tensors for."""
    _refuse_pickle(file)
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = _parse_metadata(opened.metadata(), file)
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            refiner = _empty_refiner(RefinerSpec(**_checked(RefinerSpec, metadata["refiner"])), shapes)
            # Cloned: the tensors are windows on the file.
            tensors = {name: opened.get_tensor(name).clone() for name in shapes}
        kind = PixelFormat(**_checked(PixelFormat, metadata["pixel_format"]))
        value_range = ValueRange.from_dict(_checked(ValueRange, metadata["value_range"]))
        channels, top = refiner.spec.channels, value_range.high
        if kind.channels != channels or kind.bit_depth not in (8, 16) or top >= 2**kind.bit_depth:
            raise ValueError(f"{channels} channels and values up to {top}, but {kind} images")
        return {
            "refiner": _filled(refiner, tensors),
            "level_matching": _level_matching(channels, tensors),
            "value_range": value_range,
            "pixel_format": kind,
            "training_scan": _training_scan(metadata["training_scan"]),
            "provenance": dict(metadata["provenance"]),
        }
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}; check its rights") from error
    except (ConfigurationError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{file}: damaged, or not written by simgan ({error}); copy it again, or train again"
        ) from error


def _refuse_pickle(file: Path) -> None:
    """Pickled files run code when they are opened: tell them by their first bytes, and do not open them."""
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}; check its rights") from error
    # A safetensors file begins with the length of a JSON object, which may happen to look like a pickle's mark.
    if start[8:] != b"{" and start.startswith((b"PK\x03\x04", b"\x80")):
        raise WeightsError(
            f"{file}: is a pickled file (torch.save), which could run any code when loaded, and was not "
            f"opened; simgan reads {FILE_NAME} alone: give a run directory of `simgan train`"
        )


def _parse_metadata(entries: dict[str, str] | None, file: Path) -> dict[str, Any]:
    text = (entries or {}).get("simgan")
    if text is None:
        raise WeightsError(
            f"{file}: is a safetensors file, but not a refiner of simgan; give a run directory, or the "
            f"{FILE_NAME} in it"
        )
    metadata = json.loads(text, parse_float=_finite, parse_constant=_finite)
    version = metadata["format_version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"format version {version!r}")
    if version > FORMAT_VERSION:
        raise WeightsError(
            f"{file}: was written by a newer simgan (format {version}, this one reads up to "
            f"{FORMAT_VERSION}); upgrade with: pip install --upgrade simgan"
        )
    return dict(metadata)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} in the metadata")
    return value


def _checked(kind: type[Any], entries: Any) -> dict[str, Any]:
    """`entries` if they are exactly the fields of the dataclass `kind`, of their declared types."""
    hints = get_type_hints(kind)
    if not isinstance(entries, dict) or entries.keys() != hints.keys():
        raise ValueError(f"the fields of {kind.__name__} are wanted, not {str(entries)[:200]}")
    for name, hint in hints.items():
        value = entries[name]
        if get_origin(hint) is Literal:
            fits = value in get_args(hint)
        elif hint is float:
            fits = type(value) in (int, float) and abs(value) < _LARGEST
        elif hint is int:
            fits = type(value) is int and abs(value) < _LARGEST
        elif hint in (bool, str, int | None):
            fits = type(value) in (get_args(hint) or (hint,))
        else:  # nested: checked where it is taken apart
            continue
        if not fits:
            raise ValueError(f"{name} of {kind.__name__} is {str(value)[:80]!r}")
    return entries


def _empty_refiner(spec: RefinerSpec, shapes: dict[str, tuple[int, ...]]) -> Refiner:
    """R_θ without memory (on the meta device), of the very shapes that the file holds."""
    kernels = all(0 < kernel < 256 and kernel % 2 for kernel in (spec.kernel, spec.first_kernel))
    # Limits within which the shapes can at least be computed; blocks are objects, and cost memory even so.
    if not (
        kernels and 0 < spec.channels < 16 and 0 < spec.width < 2**16 and 0 <= spec.blocks <= len(shapes)
    ):
        raise ValueError(f"an impossible architecture: {spec}")
    with torch.device("meta"):
        refiner = Refiner(spec)
    wanted = {f"refiner.{name}": tuple(tensor.shape) for name, tensor in refiner.state_dict().items()}
    found = {name: shape for name, shape in shapes.items() if not name.startswith("level_matching.")}
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if different:
        name = different[0]
        raise ValueError(
            f"{len(different)} tensors are not those of its architecture, first {name}: {found.get(name)} "
            f"instead of {wanted.get(name)}"
        )
    return refiner


def _filled(refiner: Refiner, tensors: dict[str, Tensor]) -> Refiner:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} holds {tensor.dtype} and not float32")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not numbers")
    prefix = "refiner."
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    refiner.load_state_dict(own, assign=True)
    return refiner


def _level_matching(channels: int, tensors: dict[str, Tensor]) -> LevelMatching | None:
    prefix = "level_matching."
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if not own:
        return None
    means, targets = own.pop("source_means"), own.pop("targets")
    fits = means.ndim == 1 and targets.ndim == 3 and targets.shape[1] == channels and targets.shape[2] > 1
    if own or not fits or not means.numel() or not targets.numel():
        raise ValueError(f"level matching of shapes {tuple(means.shape)} and {tuple(targets.shape)}")
    return LevelMatching(source_means=means, targets=targets)


def _training_scan(entries: Any) -> TreeScan:
    scan = TreeScan.from_dict(_checked(TreeScan, entries))
    _checked(PixelFormat, entries["pixel_format"])
    numbers = [number for size, count in scan.sizes.items() for number in (*size, count)]
    if not numbers or any(type(number) is not int or not 0 < number < _LARGEST for number in numbers):
        raise ValueError("sizes of the training images that are not sizes")
    return scan
