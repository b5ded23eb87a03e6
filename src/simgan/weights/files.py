"""Refiner files: written atomically, read without running code from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from simgan.errors import RunError, WeightsError
from simgan.images import write_atomically
from simgan.nn.route import Precision, choose_route, has_bfloat16_units
from simgan.weights.encoding import decode, encode
from simgan.weights.trained import TrainedRefiner

FILE_NAME = "refiner.safetensors"
_CHECKPOINT = b"simgan checkpoint "  # how the first line of one begins


def save_refiner(path: str | Path, trained: TrainedRefiner) -> None:
    """Write `trained` to the file `path`, atomically; `OutputError` where that cannot be."""
    write_atomically(path, encode(trained))


def load_refiner(path: str | Path, *, device: str = "auto", precision: Precision = "auto") -> TrainedRefiner:
    """The refiner in the file `path`, or in the run directory `path`; runs no code from it.

    `precision` "auto": the one that it was trained in, where the processor has units for it, else float32.

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
    _refuse_others(file)
    parts = decode(file)
    route = choose_route(device=device, precision=precision, bit_depth=parts["pixel_format"].bit_depth)
    trained_in = parts["provenance"].get("precision")
    if precision == "auto" and trained_in == "float32":
        route = replace(route, dtype=torch.float32)
    elif precision == "auto" and trained_in == "bfloat16" and has_bfloat16_units(route.device):
        route = replace(route, dtype=torch.bfloat16)
    return TrainedRefiner(**parts, route=route)


def _refuse_others(file: Path) -> None:
    """Checkpoints and configurations of simgan, and pickled files, which run code when they are opened: told by name
    or first bytes, and not opened.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_CHECKPOINT))
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}; check its rights") from error
    if start == _CHECKPOINT:
        raise WeightsError(
            f"{file}: is a checkpoint, which training continues from, and no refiner; give the run directory, or the "
            f"{FILE_NAME} in it"
        )
    if file.suffix.lower() == ".toml":
        raise WeightsError(
            f"{file}: is a configuration, and no refiner; train one with `simgan train {file} --run RUN`, then give "
            "that run directory"
        )
    # A safetensors file begins with the length of a JSON object, which may happen to look like a pickle's mark.
    if start[8:9] != b"{" and start.startswith((b"PK\x03\x04", b"\x80")):
        raise WeightsError(
            f"{file}: is a pickled file (torch.save), which could run any code when loaded, and was not "
            f"opened; simgan reads {FILE_NAME} alone: give a run directory of `simgan train`"
        )
