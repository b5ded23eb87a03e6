"""Labelled digits drawn from fonts, acquired the way the handwritten ones of scikit-learn were.

Those are 32×32 bitmaps, size-normalized to the height of the frame, summed over 4×4 blocks to 0..16
(Alpaydin & Kaynak, 1998). So each digit here is drawn large, posed, its stroke made thinner or thicker, blurred
and thresholded to a 32×32 bitmap, and summed the same way: otherwise the level count alone would tell a
synthetic image from a real one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from simgan.errors import ConfigurationError
from simgan.images import encode_image, write_atomically
from simgan.simulators.fonts import PILLOWS, load_font

VERSION = 1  # raise it whenever the same seed would draw something else

BITMAP = 32  # pixels of the bitmap's side
BLOCK = 4  # the bitmap is summed over BLOCK×BLOCK
LEVEL_STEP = 15  # files hold level × 15 (0..240), so that people can see them

_CANVAS = 192  # drawn this large, so that pose and stroke are smooth before the bitmap
_GLYPH = 112

_FACES = (
    "DejaVuSans", "DejaVuSans-Oblique", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif",
    "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10", "cmti10", "cmtt10", PILLOWS,
)  # fmt: skip


@dataclass(frozen=True)
class Digit:
    """One drawn digit with its exact labels.

    `image` is (8, 8) uint8 in 0..16. Angles are degrees, counter-clockwise and rightward positive; `stroke_px`
    is how far each edge moved outward, in pixels of the 32×32 bitmap.
    """

    image: NDArray[np.uint8]
    digit: int
    face: str
    rotation_deg: float
    slant_deg: float
    width_factor: float
    stroke_px: float
    blur_px: float


@lru_cache(maxsize=256)
def _glyph(face: int, digit: int) -> NDArray[np.float32]:
    """Signed distance to the glyph's edge on the canvas, in canvas pixels, positive inside."""
    canvas = Image.new("L", (_CANVAS, _CANVAS), 0)
    font = load_font(_FACES[face], _GLYPH)
    ImageDraw.Draw(canvas).text((_CANVAS / 2, _CANVAS / 2), str(digit), fill=255, font=font, anchor="mm")
    inside = (np.asarray(canvas) >= 128).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
        1 - inside, cv2.DIST_L2, 5
    )
    return distance.astype(np.float32)


def draw_digit(seed: int, index: int) -> Digit:
    """Digit number `index` of the set `seed`: the same two numbers always draw the same image.

    Pose: rotation ~ N(0, 6°), slant ~ N(4°, 9°), width × U(0.8, 1.15). Stroke: edges move outward by U(0, 1.6)
    bitmap pixels. Blur: a Gaussian of U(0.3, 0.9) bitmap pixels before the threshold at one half.
    """
    random = np.random.default_rng((VERSION, seed, index))
    digit = index % 10
    face = int(random.integers(len(_FACES)))
    rotation, slant = random.normal(0.0, 6.0), random.normal(4.0, 9.0)
    width_factor, stroke, blur = random.uniform(0.8, 1.15), random.uniform(0.0, 1.6), random.uniform(0.3, 0.9)

    distance = _glyph(face, digit)
    rows, columns = np.nonzero(distance > 0)
    scale = (rows.max() - rows.min() + 1) / BITMAP  # canvas pixels per bitmap pixel
    stroked = np.clip(distance + stroke * scale + 0.5, 0, 1).astype(np.float32)

    angle, shear = np.deg2rad(rotation), np.tan(np.deg2rad(slant))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[width_factor, -shear], [0.0, 1.0]])
    centre = np.array([(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2])
    posed = _warp(stroked, matrix, centre, np.array([_CANVAS / 2, _CANVAS / 2]), _CANVAS)
    posed = np.asarray(cv2.GaussianBlur(posed, (0, 0), blur * scale), dtype=np.float32)

    # Size-normalize: the inked box fills the height of the frame (or its width, if that is larger).
    rows, columns = np.nonzero(posed > 0.5)
    height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    fit = BITMAP / max(height, width)
    centre = np.array([(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2])
    frame = _warp(posed, np.eye(2) * fit, centre, np.array([(BITMAP - 1) / 2, (BITMAP - 1) / 2]), BITMAP)
    bitmap = frame > 0.5
    blocks = bitmap.reshape(BITMAP // BLOCK, BLOCK, BITMAP // BLOCK, BLOCK).sum(axis=(1, 3))
    return Digit(
        image=blocks.astype(np.uint8),
        digit=digit,
        face=_FACES[face],
        rotation_deg=float(rotation),
        slant_deg=float(slant),
        width_factor=float(width_factor),
        stroke_px=float(stroke),
        blur_px=float(blur),
    )


def _warp(
    image: NDArray[np.float32], matrix: NDArray[np.float64], source: NDArray[np.float64],
    target: NDArray[np.float64], side: int,
) -> NDArray[np.float32]:  # fmt: skip
    """`image` under x ↦ matrix·(x − source) + target, on a side×side frame."""
    affine = np.concatenate([matrix, (target - matrix @ source)[:, None]], axis=1)
    warped = cv2.warpAffine(image.astype(np.float32), affine, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.float32)


def draw_digits(count: int, seed: int) -> Iterator[Digit]:
    """The first `count` digits of the set `seed`; classes 0..9 take turns."""
    return (draw_digit(seed, index) for index in range(count))


def simulate_digits(out_dir: Path, *, count: int, seed: int) -> None:
    """Writes `count` digits as `out_dir/<class>/<index>.png` (levels × 15) and all labels as `parameters.csv`.

    `ConfigurationError` for a count below 1 or a seed below 0.
    """
    if count < 1 or seed < 0:
        raise ConfigurationError(
            f"a count of at least 1 and a seed of at least 0 are wanted, got {count} and {seed}"
        )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = ("digit", "face", "rotation_deg", "slant_deg", "width_factor", "stroke_px", "blur_px")
    writer.writerow(("path", *names))
    for index, drawn in enumerate(draw_digits(count, seed)):
        relative = f"{drawn.digit}/{index:05d}.png"
        path = out_dir / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, encode_image((drawn.image * LEVEL_STEP)[:, :, None], ".png"))
        values = (getattr(drawn, name) for name in names)
        writer.writerow((relative, *(f"{v:.6g}" if isinstance(v, float) else v for v in values)))
    write_atomically(out_dir / "parameters.csv", table.getvalue().encode())
