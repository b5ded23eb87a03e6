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


def derive_discriminator(
    *, channels: int, height: int, width: int, width_maps: int = 64
) -> DiscriminatorSpec:
    """The discriminator with the largest field that the rules allow for height×width images, spectrally normalized.

    From 8×8 (field 7, stride 1, map 8×8) to large images (field 47, stride 8).
    """
    shorter = min(height, width)
    if shorter < SMALLEST_SIDE:
        raise ConfigurationError(
            f"images of {height}×{width} are too small to derive networks for: the shorter side must be at least "
            f"{SMALLEST_SIDE} pixels; enlarge them with `simgan prepare --size`, or write [refiner] and [discriminator]"
        )
    layer = DiscriminatorLayer
    candidates: tuple[tuple[DiscriminatorLayer, ...], ...] = (
        (layer(width_maps, 3), layer(width_maps, 3), layer(width_maps, 3)),
        (layer(width_maps, 3, 2), layer(width_maps, 3), layer(width_maps, 3)),
        (layer(width_maps, 3, 2), layer(width_maps, 3), layer(width_maps, 3), layer(width_maps, 3)),
        (layer(width_maps, 3, 2), layer(width_maps, 3, 2), layer(width_maps, 3), layer(width_maps, 3)),
        (layer(width_maps, 5, 2), *(layer(width_maps, 3, 2),) * 2, *(layer(width_maps, 3),) * 2),
    )  # fmt: skip
    chosen: DiscriminatorSpec | None = None
    for layers in candidates:
        spec = DiscriminatorSpec(channels=channels, layers=layers, spectral_normalization=True)
        fits = discriminator_receptive_field(spec) <= max(SMALLEST_FIELD, shorter // 2)
        if fits and min(patch_grid(spec, height, width)) >= 4:
            chosen = spec
    assert chosen is not None, "the smallest candidate fits every allowed size"
    return chosen


def derive_refiner(*, channels: int, field: int, width: int = 64) -> RefinerSpec:
    """A residual 3×3 refiner whose receptive field is the smallest that reaches `field` pixels, blocks 2 to 8."""
    spec = RefinerSpec(channels=channels, width=width, blocks=2, output="residual")
    for blocks in range(2, 9):
        spec = RefinerSpec(channels=channels, width=width, blocks=blocks, output="residual")
        if refiner_receptive_field(spec) >= field:
            break
    return spec
