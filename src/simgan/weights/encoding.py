"""What the one refiner file holds: tensors, what they are the weights of, and where they come from. Data, no code.

`refiner.safetensors` holds the tensors of R_θ (`refiner.…`) and of level matching (`level_matching.…`), and
under the metadata key `simgan` one JSON text: format version, architecture, value range, pixel format,
statistics of the synthetic images it was trained on, provenance. Equal refiners give equal bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import safetensors
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_safetensors
from torch import Tensor

from simgan.data.trees import TreeScan
from simgan.errors import ConfigurationError, WeightsError
from simgan.images import PixelFormat, ValueRange
from simgan.nn.level_matching import LevelMatching
from simgan.nn.refiner import Refiner, RefinerSpec

if TYPE_CHECKING:
    from simgan.weights.trained import TrainedRefiner

FORMAT_VERSION = 1
_LARGEST = 2**53  # numbers in the metadata are below this: they can be computed with


def encode(trained: TrainedRefiner) -> bytes:
    """The bytes of the file; `WeightsError` where the weights are not numbers."""
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


def decode(file: Path) -> dict[str, Any]:
    """The fields of a `TrainedRefiner`, as `encode` wrote them; `WeightsError` where it did not.

    Nothing is built before it is known to be what the file has tensors for.
    """
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


def _parse_metadata(entries: dict[str, str] | None, file: Path) -> dict[str, Any]:
    text = (entries or {}).get("simgan")
    if text is None:
        raise WeightsError(
            f"{file}: is a safetensors file, but not a refiner of simgan; give a run directory, or the "
            "refiner.safetensors in it"
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
