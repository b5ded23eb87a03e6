"""Light: where it comes from, how dull surfaces take it up, and what the wet eye mirrors of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.shapes import ramp
from simgan.simulators.eyes.vectors import Vector, direction, dot


@dataclass(frozen=True)
class Lights:
    """Directions toward the lights, unit vectors in one frame (the head's, or the eye's)."""

    up: Vector
    key: Vector
    lamp: Vector
    window: Vector
    window_right: Vector
    window_up: Vector


def directions(p: Parameters) -> Lights:
    """The lights in the camera's axes."""
    zero = torch.zeros_like(p["key"])
    yaw, pitch = p["window_yaw_deg"], p["window_pitch_deg"]
    return Lights(
        (zero, zero + 1, zero),
        direction(p["key_yaw_deg"], p["key_pitch_deg"]),
        direction(p["lamp_yaw_deg"], p["lamp_pitch_deg"]),
        direction(yaw, pitch),
        direction(yaw + 90, zero),
        direction(yaw, pitch + 90),
    )


def lights(p: Parameters, frame: str) -> Lights:
    """The lights in the frame of the "head" or the "eye", from the scene's numbers."""

    def light(name: str) -> Vector:
        return (p[f"{frame}_{name}_x"], p[f"{frame}_{name}_y"], p[f"{frame}_{name}_z"])

    return Lights(*(light(field.name) for field in fields(Lights)))


def diffuse(p: Parameters, at: Lights, normal: Vector, wrap: float) -> torch.Tensor:
    """Light that a dull surface takes up: ambient, more from above, and the key light.

    ambient · (1 + sky·(n̂·up)) + key · max(n̂·l̂ + wrap, 0)/(1 + wrap); `wrap` stands for light scattered below the
    surface.
    """
    sky = p["ambient"] * (1 + p["sky"] * dot(normal, at.up))
    return sky + p["key"] * ((dot(normal, at.key) + wrap) / (1 + wrap)).clamp(min=0)


def mirrored(p: Parameters, at: Lights, normal: Vector, ray: Vector) -> torch.Tensor:
    """What a smooth wet surface mirrors: room, key light, lamp and window, times Fresnel's share (Schlick)."""
    cosine = (-dot(normal, ray)).clamp(0, 1)
    twice = 2 * cosine
    out: Vector = (
        ray[0] + twice * normal[0],
        ray[1] + twice * normal[1],
        ray[2] + twice * normal[2],
    )
    room = p["room_light"] * p["ambient"] * ramp(dot(out, at.up), -0.4, 0.9) * 1.5
    spread = p["glint_size"] * 2.0
    key = p["glint"] * p["key"] * _spot(dot(out, at.key), spread)
    lamp = p["lamp"] * p["glint"] * _spot(dot(out, at.lamp), p["glint_size"])
    facing = ramp(dot(out, at.window), 0.0, 0.1)
    across, up = dot(out, at.window_right).abs(), dot(out, at.window_up).abs()
    pane = (1 - ramp(across, p["window_width"] - 0.05, p["window_width"])) * (
        1 - ramp(up, p["window_height"] - 0.05, p["window_height"])
    )
    window = p["window"] * p["window_light"] * facing * pane
    miss = 1 - cosine
    fresnel = 0.025 + 0.975 * miss * miss.square().square()
    # Toward the rim lids and lashes are mirrored, not lights.
    return (room + window) * fresnel + (key + lamp) * (0.025 + 0.1 * miss.square().square())


def _spot(cosine: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """A small round light with a faint halo: 1 at its middle, half where 1 − cos = size."""
    away = (1 - cosine).clamp(min=0) / size
    return 1 / (1 + away * away * away)
