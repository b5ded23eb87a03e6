"""The sheet of pictures that training leaves at every checkpoint."""

from __future__ import annotations

import numpy as np
from torch import nn

from simgan.images import encode_image, png_grid
from simgan.training.assembly import Assembly
from simgan.training.candidates import refine_batch
from simgan.training.inspection import spread

_COLUMNS, _ROWS = 16, 3
_ZOOM_TO = 48  # small images are enlarged to about this side


def sample_sheet(assembly: Assembly, refiner: nn.Module) -> bytes:
    """PNG bytes: rows in turn synthetic and, below each, refined; the last two rows are unlabelled real images."""
    dtype = assembly.synthetic.cache.scan.pixel_format.dtype
    value_range = assembly.value_range
    columns = max(1, min(_COLUMNS, 1600 // assembly.crop[1]))
    chosen = spread(len(assembly.synthetic.cache), columns * _ROWS)
    synthetic = assembly.synthetic.sample(chosen, assembly.crop)
    refined = refine_batch(assembly, refiner, assembly.first_stage(synthetic))
    training = assembly.real_training
    real = assembly.real.sample(training[spread(len(training), columns * 2)], assembly.crop)
    native = [value_range.decode(x.permute(0, 2, 3, 1).numpy(), dtype) for x in (synthetic, refined, real)]
    rows = []
    for start in range(0, len(chosen), columns):
        rows += [list(side[start : start + columns]) for side in native[:2]]
    rows += [list(native[2][start : start + columns]) for start in range(0, len(native[2]), columns)]
    zoom = max(1, round(_ZOOM_TO / max(assembly.crop)))
    return encode_image(np.ascontiguousarray(png_grid(rows, value_range, zoom)), ".png")
