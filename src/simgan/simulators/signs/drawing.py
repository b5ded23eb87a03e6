"""simulate_signs(): a batch of drawn signs with their exact speed and pose, as tensors, no files.

The sign lies in the plane z = 0, its radius is 1, x to the right and y down. With the rotation R = R_roll·R_pitch·R_yaw
and the camera at distance d in radii, the point (x, y) is seen at

    (u, v) = (u₀, v₀) + f·(X, Y)/(d + Z),   (X, Y, Z) = R·(x, y, 0),   f = radius·d,

so that a frontal sign has the asked radius. Pixels are cast back into the plane by the inverse of that homography.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from simgan.errors import ConfigurationError
from simgan.simulators.draws import uniform_numbers
from simgan.simulators.fonts import load_font
from simgan.simulators.signs.background import draw_background, noise
from simgan.simulators.signs.camera import OVERSAMPLING, Size, camera_size, expose
from simgan.simulators.signs.distributions import FACES, SIGN, SPEEDS

VERSION = 1  # raise it whenever the same seed would draw something else

MIN_SIDE, MAX_SIDE = 16, 512
_EM, _MARGIN = 96, 24  # pixels of a glyph's canvas
_WIDEST = 0.93  # of the white field: how far the corners of the figures may reach

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SignBatch:
    """n drawn signs: `images` (n, 3, h, w) uint8 RGB; `speeds` (n) int64, km/h; `parameters`: what was drawn, float64
    (n) each, and where the sign's centre and frontal radius are: `centre_x_px`, `centre_y_px`, `radius_px`."""

    images: torch.Tensor
    speeds: torch.Tensor
    parameters: dict[str, torch.Tensor]


def simulate_signs(count: int, *, size: Size = (32, 32), seed: int = 0, start: int = 0) -> SignBatch:
    """Signs number `start` … `start + count − 1` of the set `seed`: the same numbers always draw the same signs.

    `size` is height, width in pixels. Speeds take turns: number i shows `SPEEDS[i % 8]`. `ConfigurationError` for a
    count below 1, a seed or start below 0, or a side outside 16 … 512 px: all faults at once.
    """
    check_request(count, size, seed, start)
    indices = np.arange(start, start + count, dtype=np.int64)
    drawn = {name: law.at(uniform_numbers(seed, f"sign/{name}", indices)) for name, law in SIGN.items()}
    shorter = min(size)
    drawn["centre_x_px"] = (size[1] - 1) / 2 + drawn["shift_x"] * shorter
    drawn["centre_y_px"] = (size[0] - 1) / 2 + drawn["shift_y"] * shorter
    drawn["radius_px"] = drawn["radius"] * shorter
    speeds = np.array([SPEEDS[i % len(SPEEDS)] for i in indices], dtype=np.int64)
    images = [
        _draw({name: float(values[k]) for name, values in drawn.items()}, int(speeds[k]), size,
              np.random.default_rng((VERSION, seed, int(indices[k]))))
        for k in range(count)
    ]  # fmt: skip
    return SignBatch(
        images=torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()),
        speeds=torch.from_numpy(speeds),
        parameters={name: torch.from_numpy(np.asarray(values)) for name, values in drawn.items()},
    )


def check_request(count: int, size: Size, seed: int, start: int = 0) -> None:
    """`ConfigurationError` with every fault of the request."""
    faults = [
        f"{name}: at least {least} is wanted, got {value}"
        for name, value, least in (("count", count, 1), ("seed", seed, 0), ("start", start, 0))
        if value < least
    ]
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        faults.append(f"size: sides of {MIN_SIDE} to {MAX_SIDE} px are wanted, got {size[0]}x{size[1]}")
    if faults:
        raise ConfigurationError(faults)


def homography(p: Mapping[str, float]) -> NDArray[np.float64]:
    """(3, 3): (x, y, 1) in the sign's plane → (u, v, 1) in pixels of the image, up to scale."""
    yaw, pitch, roll = (np.deg2rad(p[f"{name}_deg"]) for name in ("yaw", "pitch", "roll"))
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turn = about_z @ about_x @ about_y
    focal = p["radius_px"] * p["distance"]
    camera = np.array([[focal, 0, p["centre_x_px"]], [0, focal, p["centre_y_px"]], [0, 0, 1]])
    plane = np.column_stack([turn[:, 0], turn[:, 1], [0, 0, p["distance"]]])
    return np.asarray(camera @ plane)


def _draw(p: dict[str, float], speed: int, size: Size, random: np.random.Generator) -> NDArray[np.uint8]:
    height, width = (OVERSAMPLING * side for side in camera_size(p, size))
    # places of the drawn points, in pixels of the image
    v, u = np.meshgrid(
        (np.arange(height) + 0.5) * (size[0] / height) - 0.5,
        (np.arange(width) + 0.5) * (size[1] / width) - 0.5,
        indexing="ij",
    )
    around = [(u - p["centre_x_px"]) / p["radius_px"], (v - p["centre_y_px"]) / p["radius_px"]]
    back = np.linalg.inv(homography(p))
    x, y, w = (row[0] * u + row[1] * v + row[2] for row in back)
    x, y = np.asarray(x / w, np.float32), np.asarray(y / w, np.float32)
    step = size[0] / height / p["radius_px"]  # between drawn points, in radii
    behind = draw_background(p, np.asarray(around[0], np.float32), np.asarray(around[1], np.float32), random)
    front = _paint(p, speed, x, y, step, random) * _light(p, x, y)
    inside = np.clip((1 - np.hypot(x, y)) / step + 0.5, 0, 1)[..., None]
    scene = p["background_light"] * behind * (1 - inside) + front * inside
    gain = p["exposure"] * np.exp([p["warmth"], p["tint"], -p["warmth"]])
    return expose(np.asarray(gain * scene + p["haze"], np.float32), p, size, random)


def _paint(
    p: Mapping[str, float], speed: int, x: FloatArray, y: FloatArray, step: float, random: np.random.Generator
) -> FloatArray:
    """(h, w, 3): what the sheet reflects at the points (x, y) of its plane."""
    white = p["white"] * np.array([1.0, 1.0 - p["white_yellowing"] / 4, 1.0 - p["white_yellowing"]])
    red = p["red"] * np.array([1.0, p["red_orange"], p["red_orange"]])
    red = red + p["red_fading"] * (white * 0.8 - red)
    edge = p["edge_width"] * p["edge"]
    field = 1 - edge - p["ring"]
    r = np.hypot(x, y)
    in_ring = np.clip((1 - edge - r) / step + 0.5, 0, 1) * np.clip((r - field) / step + 0.5, 0, 1)
    sheet = white + in_ring[..., None] * (red - white)
    figures = _figures(p, speed, x, y, field, step)[..., None]
    sheet = sheet + figures * (p["black"] - sheet)
    stains = np.exp(p["dirt"] * noise((x.shape[0], x.shape[1]), 0.7, random))
    return np.asarray(sheet * stains[..., None], np.float32)


def _figures(
    p: Mapping[str, float], speed: int, x: FloatArray, y: FloatArray, field: float, step: float
) -> FloatArray:
    """(h, w) in [0, 1]: how much of each point the figures cover. They are made smaller where their box would reach
    beyond the white field: first narrower, down to 0.6 of the face's width, then all of them."""
    distance, box_height, box_width = _glyphs(FACES[int(p["face"])], speed)
    height, aspect = p["figure_height"], box_width / box_height
    condensing = p["figure_condensing"]
    most = _WIDEST * field
    if np.hypot(height, height * aspect * condensing) / 2 > most:
        room = np.sqrt(max(4 * most**2 - height**2, 0.0)) / (height * aspect)
        condensing = min(condensing, max(room, 0.6))
        height = min(height, 2 * most / float(np.hypot(1, aspect * condensing)))
    scale = box_height / height  # pixels of the canvas in a radius
    columns = (x - p["figure_shift_x"]) * (scale / condensing) + (distance.shape[1] - 1) / 2
    rows = (y - p["figure_shift_y"]) * scale + (distance.shape[0] - 1) / 2
    found = cv2.remap(
        distance, np.asarray(columns, np.float32), np.asarray(rows, np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=-1e3,
    )  # fmt: skip
    outward = found / scale + p["figure_stroke"] * height
    return np.asarray(np.clip(outward / step + 0.5, 0, 1), np.float32)


def _light(p: Mapping[str, float], x: FloatArray, y: FloatArray) -> FloatArray:
    """(h, w, 1): the light on the sheet, with its slope and an edge of shade."""
    slope, shade = np.deg2rad(p["slope_deg"]), np.deg2rad(p["shadow_deg"])
    light = np.maximum(1 + p["slope"] * (x * np.cos(slope) + y * np.sin(slope)), 0.05)
    into = (x * np.cos(shade) + y * np.sin(shade) - p["shadow_place"]) / p["shadow_softness"]
    shaded = 1 - p["shadow"] * (1 - p["shadow_light"]) * np.clip(into + 0.5, 0, 1)
    return np.asarray(light * shaded, np.float32)[..., None]


@lru_cache(maxsize=len(FACES) * len(SPEEDS))
def _glyphs(face: str, speed: int) -> tuple[FloatArray, int, int]:
    """Signed distance to the edge of the figures on a canvas around them, in its pixels, positive inside; and the
    height and width of their box."""
    text, font = str(speed), load_font(face, _EM)
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (int(right - left) + 2 * _MARGIN, int(bottom - top) + 2 * _MARGIN), 0)
    ImageDraw.Draw(canvas).text((_MARGIN - left, _MARGIN - top), text, fill=255, font=font)
    inside = (np.asarray(canvas) >= 128).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
        1 - inside, cv2.DIST_L2, 5
    )
    return np.asarray(distance, np.float32), int(bottom - top), int(right - left)
