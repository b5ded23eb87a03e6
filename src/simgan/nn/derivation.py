"""Networks derived from the images: what `default` does instead of asking for kernel sizes.

Rules (the paper asks that the fields of R's and D's last layers be similar, section 3.1, and that D be local):
D's field is at most half the shorter side (but 7 px is always allowed), its map at least 4×4, R's field reaches D's.
"""

from __future__ import annotations

from simgan.errors import ConfigurationError
from simgan.nn.discriminator import (
    DiscriminatorLayer,
    DiscriminatorSpec,
    discriminator_receptive_field,
    patch_grid,
)
from simgan.nn.refiner import RefinerSpec, refiner_receptive_field

SMALLEST_SIDE = 8  # below this no patch is local
SMALLEST_FIELD = 7  # a smaller field sees single edges, not strokes: at 8×8 it may pass half the side
FEWEST_BLOCKS, MOST_BLOCKS = 2, 12  # 12 blocks of 3×3 reach 51 px, the largest derived D sees 49


def derive_layers(*, height: int, width: int, maps: int = 64) -> tuple[DiscriminatorLayer, ...]:
    """The layers, of `maps` maps each, of the D with the largest field that the rules allow for height×width images.

    From 8×8 (field 7, stride 1, map 8×8) to images from 98×98 on (field 49, stride 8). `ConfigurationError` below 8×8.
    """
    shorter = min(height, width)
    if shorter < SMALLEST_SIDE:
        raise ConfigurationError(
            f"images of {height}×{width} are too small to derive networks for: the shorter side must be at least "
            f"{SMALLEST_SIDE} pixels; enlarge them with `simgan prepare --size`, or write [refiner] and [discriminator]"
        )
    layer = DiscriminatorLayer
    candidates: tuple[tuple[DiscriminatorLayer, ...], ...] = (
        (layer(maps, 3), layer(maps, 3), layer(maps, 3)),
        (layer(maps, 3, 2), layer(maps, 3), layer(maps, 3)),
        (layer(maps, 3, 2), layer(maps, 3), layer(maps, 3), layer(maps, 3)),
        (layer(maps, 3, 2), layer(maps, 3, 2), layer(maps, 3), layer(maps, 3)),
        (layer(maps, 5, 2), *(layer(maps, 3, 2),) * 2, *(layer(maps, 3),) * 2),
    )
    chosen: tuple[DiscriminatorLayer, ...] = ()
    for layers in candidates:
        spec = DiscriminatorSpec(channels=1, layers=layers)
        fits = discriminator_receptive_field(spec) <= max(SMALLEST_FIELD, shorter // 2)
        if fits and min(patch_grid(spec, height, width)) >= 4:
            chosen = layers
    assert chosen, "the smallest candidate fits every allowed size"
    return chosen


def derive_blocks(*, field: int, kernel: int, first_kernel: int) -> int:
    """The fewest residual blocks, 2 to 12, with which R's receptive field reaches `field` pixels; 12 where none do.

    A block adds 2 (kernel − 1) pixels to the `first_kernel` that R begins with.
    """
    for blocks in range(FEWEST_BLOCKS, MOST_BLOCKS):
        spec = RefinerSpec(channels=1, width=1, blocks=blocks, kernel=kernel, first_kernel=first_kernel)
        if refiner_receptive_field(spec) >= field:
            return blocks
    return MOST_BLOCKS
