"""The networks of the paper's recipes, as training builds them."""

from __future__ import annotations

from typing import Any

from simgan.config import resolve_configuration
from simgan.nn.discriminator import DiscriminatorSpec
from simgan.nn.refiner import RefinerSpec
from simgan.training.assembly import discriminator_spec, refiner_spec


def published(recipe: str, overrides: dict[str, Any] | None = None) -> tuple[RefinerSpec, DiscriminatorSpec]:
    """R and D of that recipe for grey images."""
    c = resolve_configuration(recipe, overrides)
    discriminator = discriminator_spec(c, 1, (35, 55))
    return refiner_spec(c, discriminator), discriminator


GAZE_REFINER, GAZE_DISCRIMINATOR = published("paper-gaze")
# "The same with filter size 7×7" and ten blocks can be read in two ways; every convolution 7×7 is the recipe's.
HANDS_REFINER, HANDS_DISCRIMINATOR = published("paper-hands")
HANDS_REFINER_FIRST_7X7, _ = published("paper-hands", {"refiner.kernel": 3})
