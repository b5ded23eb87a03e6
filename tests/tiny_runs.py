"""Training runs small enough for tests: 8×8 images, networks of four maps, and what a run leaves to be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simgan.images import write_image
from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.discriminator import Discriminator, DiscriminatorLayer, DiscriminatorSpec
from simgan.nn.draws import Draws
from simgan.nn.feature_transforms import identity
from simgan.nn.history import HistoryBuffer
from simgan.nn.losses import PatchReduction
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Route
from simgan.training.algorithm import Objective, Players, moving_average_of
from simgan.training.run import RunDirectory

Overrides = dict[str, Any]


def write_side(
    root: Path,
    count: int,
    *,
    seed: int,
    low: int = 20,
    high: int = 200,
    shape: tuple[int, int, int] = (8, 8, 1),
    step: int = 1,
    dtype: type = np.uint8,
) -> Path:
    """`count` images of noise in [low, high], each with a level of its own."""
    root.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        noise = random.integers(0, (high - low) // 2 + 1, shape) + random.integers(0, (high - low) // 2 + 1)
        if i == 0:
            noise[0, :2] = [[0], [high - low]]  # both ends of the range occur
        write_image(root / f"{i:03}.png", ((low + noise) // step * step).astype(dtype))
    return root


def write_sides(folder: Path, *, synthetic: int = 24, real: int = 40, **kind: Any) -> Overrides:
    """Two trees in `folder`, and the overrides that train a tiny run on them."""
    return {
        "synthetic.root": str(write_side(folder / "synthetic", synthetic, seed=1, **kind)),
        "real.root": str(write_side(folder / "real", real, seed=2, **kind)),
        **TINY,
    }


# Every key that changes what is computed is set, so that tests do not depend on the numbers of the recipe.
TINY: Overrides = {
    "data.held_out_share": 0.15,
    "data.level_matching": False,
    "refiner.width": 4,
    "refiner.blocks": 1,
    "refiner.output": "image",
    "refiner.average_decay": 0.9,
    "discriminator.layers": [[4, 3, 2], [4, 1, 1]],
    "discriminator.output_maps": 1,
    "discriminator.spectral_normalization": False,
    "objective.self_regularization_weight": 0.3,
    "objective.feature_transform": "identity",
    "objective.task_consistency_weight": 0.0,
    "objective.self_ensembling_weight": 0.0,
    "objective.patches": "mean",
    "training.steps": 9,
    "training.batch_size": 4,
    "training.refiner_updates_per_step": 1,
    "training.discriminator_updates_per_step": 1,
    "training.warmup_refiner_steps": 3,
    "training.warmup_task_steps": 0,
    "training.warmup_self_ensembling_steps": 0,
    "training.task_starts": 1,
    "training.warmup_discriminator_steps": 4,
    "training.history_batches": 2,
    "training.optimizer": "adam",
    "training.refiner_learning_rate": 0.01,
    "training.discriminator_learning_rate": 0.01,
    "training.learning_rate_decay": "none",
    "training.augmentation_shift_px": 1,
    "training.augmentation_gain": 0.05,
    "run.checkpoint_every": 3,
    "run.log_every": 2,
    "run.device": "cpu",
    "run.precision": "float32",
}


def tiny_players(
    *,
    seed: int = 0,
    weight: float = 0.5,
    patches: PatchReduction = "mean",
    scope: Any = "local",
    output_maps: Any = 1,
    spectral_normalization: bool = False,
    history: int = 8,
    decay: float = 0.0,
    learning_rate: float = 0.1,
    augmentation: DiscriminatorAugmentation | None = None,
    carries_lowest: bool = False,
    levels: int = 256,
    output: Any = "image",
) -> Players:
    """Two tiny networks for 8×8 grey images with plain SGD, so that a step is learning rate × gradient."""
    torch.manual_seed(seed)
    refiner = Refiner(RefinerSpec(1, 4, 1, output=output))
    layers = (DiscriminatorLayer(6, 3, 2), DiscriminatorLayer(4, 1))
    discriminator = Discriminator(DiscriminatorSpec(1, layers, output_maps, scope, spectral_normalization))
    for network in (refiner, discriminator):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.constant_(parameter, 0.05)  # so that no ReLU is closed for all images
    quantization = Quantization(levels)
    return Players(
        refiner=refiner,
        discriminator=discriminator,
        refiner_optimizer=torch.optim.SGD(refiner.parameters(), lr=learning_rate),
        discriminator_optimizer=torch.optim.SGD(discriminator.parameters(), lr=learning_rate),
        objective=Objective(weight, identity, patches),
        quantization=quantization,
        route=Route(torch.device("cpu"), torch.float32),
        history=HistoryBuffer(history, (1, 8, 8), quantization.code_dtype) if history else None,
        averaged_refiner=moving_average_of(refiner, decay=decay),
        averaging_decay=decay,
        augmentation=augmentation,
        task=None,
        carries_lowest=carries_lowest,
        draws=Draws(torch.Generator().manual_seed(seed)),
    )


def images(count: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """(count, 1, 8, 8) of noise in [-scale, scale]."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand((count, 1, 8, 8), generator=generator) * 2 - 1) * scale


def metrics_without_time(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, all but the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("time_sec", None)
    return rows


def final_state(run: Path) -> dict[str, Any]:
    """All that a finished run must have in common with an uninterrupted one: checkpoint tensors, rows, bytes."""
    checkpoint = RunDirectory(run).load_checkpoint()
    assert checkpoint is not None
    del checkpoint["metrics_size"]  # the clock's digits are of different length
    return {
        "checkpoint": _digests(checkpoint),
        "metrics": metrics_without_time(run),
        "files": {
            path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(run.rglob("*"))
            if path.is_file()
            and path.suffix in (".png", ".safetensors", ".json", ".toml")
            and "cache" not in path.parts
        },
    }


def differences(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Where two `final_state`s differ, for people."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted(wanted.keys() | found.keys(), key=str)
        return [
            place for key in keys for place in differences(wanted.get(key), found.get(key), f"{where}/{key}")
        ]
    return [] if wanted == found else [where]


def _digests(value: Any) -> Any:
    """The same nesting with every tensor replaced by type, shape and sha256 of its bytes."""
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest(),
        )
    if isinstance(value, dict):
        return {key: _digests(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_digests(inner) for inner in value]
    return value
