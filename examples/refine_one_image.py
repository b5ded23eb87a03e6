"""A trained refiner as a function of arrays: read one image, refine it, write it.

python examples/refine_one_image.py runs/first image.png refined.png
"""

from __future__ import annotations

import sys

import simgan
from simgan.images import read_image, write_image


def main(run: str, image: str, out: str) -> None:
    refiner = simgan.load_refiner(run)  # a run, or a refiner.safetensors
    print(
        f"trained on {refiner.pixel_format} images, values {refiner.value_range.low} to {refiner.value_range.high}"
    )
    synthetic = read_image(image)  # (H, W, C), uint8 or uint16
    refined = refiner(synthetic)  # the same shape and dtype; a stack (N, H, W, C) works as well
    write_image(out, refined)
    changed = abs(refined.astype(int) - synthetic.astype(int)).mean()
    print(f"wrote {out}: {refined.shape}, changed by {changed:.2f} levels on average")


if __name__ == "__main__":
    main(*sys.argv[1:])
