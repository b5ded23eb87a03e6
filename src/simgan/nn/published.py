"""The two pairs of networks that the paper publishes (section 3.1 and 3.2)."""

from __future__ import annotations

from simgan.nn.discriminator import DiscriminatorLayer as Layer
from simgan.nn.discriminator import DiscriminatorSpec
from simgan.nn.refiner import RefinerSpec

GAZE_REFINER = RefinerSpec(channels=1, width=64, blocks=4)
GAZE_DISCRIMINATOR = DiscriminatorSpec(
    channels=1,
    layers=(
        Layer(96, 3, stride=2),
        Layer(64, 3, stride=2),
        Layer(0, 3, stride=1),
        Layer(32, 3),
        Layer(32, 1),
    ),
    output_maps=2,
)

# "The same with filter size 7×7" and ten blocks can be read in two ways; every convolution 7×7 is the first.
HANDS_REFINER = RefinerSpec(channels=1, width=64, blocks=10, kernel=7, first_kernel=7)
HANDS_REFINER_FIRST_7X7 = RefinerSpec(channels=1, width=64, blocks=10, kernel=3, first_kernel=7)
HANDS_DISCRIMINATOR = DiscriminatorSpec(
    channels=1,
    layers=(
        Layer(96, 7, stride=4),
        Layer(64, 5, stride=2),
        Layer(0, 3, stride=2),
        Layer(32, 3, stride=2),
        Layer(32, 1),
    ),
    output_maps=2,
)
