"""Algorithm 1 without the loop around it, and a new feature transform ψ.

    python examples/own_training_loop.py data/synthetic data/real 200

`simgan.train` adds files, checkpoints, warnings and the choice of the refiner to these few lines. ψ says in which space
the refined image must stay near the synthetic one: here coarse structure has to stay, fine texture is free.

To have the new ψ in configurations as well, it takes a line in FEATURE_TRANSFORMS (simgan/nn/feature_transforms.py)
and its name in ObjectiveSettings (simgan/settings.py).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.nn.functional import avg_pool2d

from simgan.config import resolve_configuration
from simgan.training.algorithm import SyntheticBatch, adversarial_step
from simgan.training.assembly import assemble


def coarse(images: Tensor) -> Tensor:
    """ψ(x) = means over 4×4 blocks, (N, C, H/4, W/4): coarse structure stays, texture is free."""
    return avg_pool2d(images, 4)


def main(synthetic: str, real: str, steps: str = "200") -> None:
    configuration = resolve_configuration(
        "default",
        {
            "synthetic.root": synthetic,
            "real.root": real,
            "training.batch_size": 16,
            "objective.task_consistency_weight": 0,  # this loop draws images alone, no labels
        },
    )
    with tempfile.TemporaryDirectory() as cache:
        assembly = assemble(configuration, cache_dir=Path(cache))
        players = assembly.players()  # both networks, their optimizers, the history
        players.objective = replace(players.objective, feature_transform=coarse)
        synthetic_stream, real_stream = assembly.synthetic_stream(), assembly.real_stream()

        def draw_synthetic() -> SyntheticBatch:
            native = assembly.synthetic.encode(synthetic_stream.next())
            return SyntheticBatch(players.route.put(assembly.first_stage(native)))

        def draw_real() -> Tensor:
            return players.route.put(assembly.real.encode(real_stream.next()))

        for step in range(int(steps)):
            metrics = adversarial_step(
                players, draw_synthetic, draw_real, refiner_updates=1, discriminator_updates=1
            )
            if step % 50 == 0 or step + 1 == int(steps):
                print(step + 1, {name: round(float(value), 4) for name, value in metrics.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
