"""What is drawn: the distribution of every parameter, for the two looks of the simulator.

Lengths are millimetres in the head's frame (x to the right of the image where the head faces the camera, y up,
z out of the face; origin: the eyeball's centre), angles degrees, reflectances shares of light. Ranges follow the
anatomy of adults: eyeball radius 11.5–12.5, visible iris radius 5.4–6.4, corneal radius 7.4–8.2, anterior
chamber 2.7–3.7, pupil radius 1–3.9. The nose is at the left of the image, as in UnityEyes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.simulators.draws import (
    Chance,
    Distribution,
    LogUniform,
    Normal,
    OneOf,
    Uniform,
    uniform_numbers,
)

Parameters = Mapping[str, torch.Tensor]  # name -> one number for each image

N_TEXTURES = 16  # of each kind

_PERSON: dict[str, Distribution] = {
    # eyeball
    "eyeball_radius_mm": Normal(12.0, 0.2),
    "iris_radius_mm": Normal(5.85, 0.2),
    "cornea_radius_mm": Normal(7.8, 0.16),
    "chamber_mm": Normal(3.2, 0.2),
    "pupil_nasal_mm": Uniform(0.0, 0.35),
    "iris_texture": OneOf(N_TEXTURES),
    "iris_turn_deg": Uniform(0, 360),
    "iris_albedo": LogUniform(0.025, 0.22),
    "iris_contrast": Uniform(0.2, 0.8),
    "limbus_mm": Uniform(0.3, 1.1),
    "limbus_darkness": Uniform(0.2, 0.8),
    "sclera_albedo": Normal(0.68, 0.07),
    "vein_texture": OneOf(N_TEXTURES),
    "vein_strength": Uniform(0.0, 0.6),
    # lids: the interior margin, from the caruncle to the outer corner
    "opening_width_mm": Normal(24.5, 1.2),
    "canthus_x_mm": Normal(-11.8, 0.5),
    "canthus_y_mm": Normal(-1.3, 0.5),
    "canthal_tilt_mm": Normal(1.4, 1.0),
    "upper_lid_mm": Normal(5.6, 0.9),
    "lower_lid_mm": Normal(4.4, 0.6),
    "upper_peak": Normal(0.12, 0.2),  # positive: the highest point lies nearer the nose
    "lower_peak": Normal(-0.25, 0.2),
    "upper_roundness": Uniform(0.35, 0.85),
    "lower_roundness": Uniform(0.35, 0.85),
    "caruncle_mm": Uniform(3.0, 5.0),
    "crease_mm": Uniform(1.5, 5.5),
    "crease_depth": Uniform(0.05, 0.7),
    "crease_width_mm": Uniform(0.5, 1.3),
    "bag_mm": Uniform(4.0, 9.0),
    "bag_depth": Uniform(0.0, 0.3),
    "waterline_mm": Uniform(0.7, 1.6),
    "upper_lash_mm": Uniform(2.0, 6.0),
    "lower_lash_mm": Uniform(1.0, 3.5),
    "upper_lash_strength": Uniform(0.5, 1.0),
    "lower_lash_strength": Uniform(0.05, 0.6),
    "lash_spacing_mm": Uniform(0.45, 1.1),
    "lash_fan": Uniform(0.4, 1.2),
    # the face around
    "skin_albedo": LogUniform(0.1, 0.5),
    "skin_texture": OneOf(N_TEXTURES),
    "skin_contrast": Uniform(0.03, 0.13),
    "skin_gloss": Uniform(0.0, 0.12),
    "nose_slope": Uniform(0.01, 0.05),
    "temple_slope": Uniform(0.01, 0.035),
    "brow_mm": Uniform(2.0, 8.0),
    "brow_y_mm": Uniform(15.0, 21.0),
    "cheek_slope": Uniform(0.0, 0.025),
    "eyebrow_darkness": Uniform(0.0, 0.7),
}

_POSE: dict[str, Distribution] = {
    "head_pitch_deg": Uniform(-22, 22),
    "head_yaw_deg": Uniform(-30, 30),
    "head_roll_deg": Normal(0, 10),
    "eye_pitch_deg": Uniform(-25, 20),  # relative to the head
    "eye_yaw_deg": Uniform(-30, 30),
    "pupil_radius_mm": Uniform(1.1, 3.6),
    "squint": Uniform(0.65, 1.15),  # times the height of the opening
    "distance_mm": LogUniform(80, 600),
    "width_share": Uniform(0.6, 0.86),  # width of the opening over the width of the image, seen frontally
    "shift_x": Normal(0, 0.03),  # of the opening's middle from the image's, in image widths
    "shift_y": Normal(0, 0.03),
}

_LIGHT: dict[str, Distribution] = {
    "key_yaw_deg": Uniform(-75, 75),
    "key_pitch_deg": Uniform(-15, 75),
    "key": LogUniform(0.6, 2.5),
    "ambient": LogUniform(0.1, 0.6),
    "sky": Uniform(0.1, 0.6),  # how much brighter the ambient light is from above than from below
    "glint": LogUniform(15, 300),
    "glint_size": LogUniform(0.0006, 0.01),  # 1 − cos of its angle
    "lamp": Chance(0.35),  # a second, small light near the camera
    "lamp_yaw_deg": Uniform(-25, 25),
    "lamp_pitch_deg": Uniform(-20, 25),
    "window": Chance(0.4),
    "window_yaw_deg": Uniform(-50, 50),
    "window_pitch_deg": Uniform(10, 50),
    "window_width": Uniform(0.12, 0.45),
    "window_height": Uniform(0.12, 0.5),
    "window_light": LogUniform(4, 40),
    "room_light": Uniform(0.3, 2.0),
    "socket_shadow": Uniform(0.1, 0.6),
}

_CAMERA: dict[str, Distribution] = {
    "exposure": LogUniform(0.4, 1.5),
    "gamma": Uniform(0.2, 0.7),  # 0 linear, 1 square root
    "haze": Uniform(0.0, 0.02),
    "vignette": Uniform(0.0, 0.15),
    "blur_px": Uniform(0.3, 0.65),
    "read_noise": Uniform(0.0, 0.004),  # shares of full scale, before the tone curve
    "shot_noise": Uniform(0.0, 0.01),
    "bright_pupil": Chance(0.0),
    "bright_pupil_albedo": Uniform(0.1, 0.3),
}

# Another population, light, lens and sensor. It stands in for real images where none are at hand, and is not real.
_PSEUDO_REAL: dict[str, Distribution] = {
    "iris_albedo": LogUniform(0.015, 0.1),
    "iris_contrast": Uniform(0.1, 0.4),
    "limbus_mm": Uniform(0.6, 1.6),
    "sclera_albedo": Normal(0.5, 0.08),
    "vein_strength": Uniform(0.1, 0.7),
    "upper_lid_mm": Normal(4.9, 0.9),
    "canthal_tilt_mm": Normal(2.0, 1.2),
    "crease_mm": Uniform(2.5, 7.0),
    "crease_depth": Uniform(0.2, 0.8),
    "bag_depth": Uniform(0.1, 0.45),
    "upper_lash_mm": Uniform(3.0, 7.5),
    "upper_lash_strength": Uniform(0.6, 1.0),
    "lower_lash_strength": Uniform(0.2, 0.8),
    "skin_albedo": LogUniform(0.2, 0.5),
    "skin_contrast": Uniform(0.08, 0.2),
    "skin_gloss": Uniform(0.05, 0.3),
    "head_pitch_deg": Normal(-4, 8),
    "head_yaw_deg": Normal(0, 12),
    "head_roll_deg": Normal(0, 5),
    "eye_pitch_deg": Normal(-8, 8),
    "eye_yaw_deg": Normal(0, 12),
    "pupil_radius_mm": Uniform(1.0, 2.6),
    "distance_mm": LogUniform(250, 700),
    "key_yaw_deg": Uniform(-85, 85),
    "key_pitch_deg": Uniform(20, 80),
    "key": LogUniform(0.5, 2.2),
    "ambient": LogUniform(0.1, 0.5),
    "sky": Uniform(0.3, 0.8),
    "lamp": Chance(0.6),
    "window": Chance(0.25),
    "socket_shadow": Uniform(0.4, 0.9),
    "exposure": LogUniform(0.5, 2.0),
    "gamma": Uniform(0.6, 1.0),
    "haze": Uniform(0.01, 0.06),
    "vignette": Uniform(0.1, 0.45),
    "blur_px": Uniform(0.45, 0.9),
    "read_noise": Uniform(0.002, 0.008),
    "shot_noise": Uniform(0.006, 0.02),
    "bright_pupil": Chance(0.08),
}


@dataclass(frozen=True)
class Look:
    """One configuration of the simulator.

    `person` parameters belong to a person, the others to an image. With `n_persons` that many people share the
    images; without, each image shows another one.
    """

    name: str
    person: Mapping[str, Distribution]
    image: Mapping[str, Distribution]
    n_persons: int | None = None


def _look(name: str, changes: Mapping[str, Distribution], n_persons: int | None) -> Look:
    image = {**_POSE, **_LIGHT, **_CAMERA}
    return Look(
        name,
        MappingProxyType({key: changes.get(key, value) for key, value in _PERSON.items()}),
        MappingProxyType({key: changes.get(key, value) for key, value in image.items()}),
        n_persons,
    )


LOOKS: Mapping[str, Look] = MappingProxyType(
    {"synthetic": _look("synthetic", {}, None), "pseudo-real": _look("pseudo-real", _PSEUDO_REAL, 30)}
)


def persons_of(look: Look, seed: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which person each image shows."""
    if look.n_persons is None:
        return indices
    return OneOf(look.n_persons).at(uniform_numbers(seed, "person", indices)).astype(np.int64)


def draw_parameters(look: Look, seed: int, indices: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """All parameters of the images with these indices, float64 (n); `sensor_key` alone is int64.

    The look's name is part of what is hashed: the two looks share neither people nor poses.
    """
    persons = persons_of(look, seed, indices)
    parameters = {}
    for group, at in ((look.person, persons), (look.image, indices)):
        for name, distribution in group.items():
            u = uniform_numbers(seed, f"{look.name}/{name}", at)
            parameters[name] = torch.from_numpy(np.asarray(distribution.at(u)))
    key = uniform_numbers(seed, f"{look.name}/sensor", indices) * 2.0**62
    parameters["sensor_key"] = torch.from_numpy(key.astype(np.int64))
    return parameters
