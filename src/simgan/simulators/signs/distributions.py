"""What is drawn how often: the distribution of every parameter of a sign.

Lengths are radii of the sign, or shares of the image's shorter side, or pixels of the camera; angles degrees; colours
and light linear, 1 is a white sheet at full exposure. Ranges are wide on purpose: national signs differ in ring, type
and size, paint fades, and cameras in cars look at signs in shade, against the sky, from afar and in motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simgan.simulators.draws import Chance, Distribution, LogUniform, Normal, OneOf, Uniform
from simgan.simulators.fonts import PILLOWS

SPEEDS = (20, 30, 50, 60, 70, 80, 100, 120)
"""The classes, km/h; they take turns."""

# Sans-serif faces, as on signs; strokes are made thinner and thicker.
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "cmss10", PILLOWS)

SIGN: Mapping[str, Distribution] = MappingProxyType(
    {
        # the sheet
        "ring": Uniform(0.13, 0.27),  # width of the red ring
        "edge": Chance(0.5),  # a light edge around the ring
        "edge_width": Uniform(0.02, 0.06),
        "white": Uniform(0.6, 0.95),
        "white_yellowing": Uniform(0.0, 0.2),  # less blue
        "red": Uniform(0.35, 0.65),  # what the ring reflects of red light
        "red_orange": Uniform(0.03, 0.16),  # and of green light, as a share of it
        "red_fading": Uniform(0.0, 0.45),  # share of white in faded red
        "black": Uniform(0.01, 0.08),
        "dirt": LogUniform(0.005, 0.2),  # contrast of stains
        # the figures
        "face": OneOf(len(FACES)),
        "figure_height": Uniform(0.62, 1.0),
        "figure_condensing": Uniform(0.7, 1.0),  # width, times that of the face
        "figure_stroke": Uniform(-0.02, 0.06),  # how far edges move outward, in heights
        "figure_shift_x": Normal(0.0, 0.02),
        "figure_shift_y": Normal(0.0, 0.02),
        # where it stands before the camera
        "yaw_deg": Normal(0.0, 18.0),  # about the pole
        "pitch_deg": Normal(0.0, 8.0),
        "roll_deg": Normal(0.0, 4.0),
        "distance": LogUniform(4.0, 60.0),
        "radius": Uniform(0.31, 0.48),  # seen frontally, in shorter sides of the image
        "shift_x": Normal(0.0, 0.03),  # of the sign's centre, in shorter sides
        "shift_y": Normal(0.0, 0.03),
        # light
        "exposure": LogUniform(0.1, 1.4),
        "warmth": Normal(0.0, 0.12),  # log gain of red; minus that of blue
        "tint": Normal(0.0, 0.05),  # log gain of green
        "slope": Uniform(0.0, 0.35),  # the light changes by this share over one radius
        "slope_deg": Uniform(0.0, 360.0),
        "shadow": Chance(0.25),  # an edge of shade across the sign
        "shadow_light": Uniform(0.25, 0.8),
        "shadow_deg": Uniform(0.0, 360.0),
        "shadow_place": Uniform(-0.8, 0.8),
        "shadow_softness": LogUniform(0.03, 0.5),
        "haze": LogUniform(0.002, 0.12),
        # behind it
        "background_light": LogUniform(0.4, 3.0),  # relative to the sign's
        "upper_colour": OneOf(8),  # see `background.COLOURS`
        "lower_colour": OneOf(8),
        "horizon": Uniform(-1.2, 1.2),
        "horizon_deg": Normal(0.0, 15.0),
        "horizon_roughness": LogUniform(0.02, 0.6),
        "texture": LogUniform(0.03, 0.7),  # contrast
        "texture_fineness": Uniform(
            0.3, 0.9
        ),  # each octave has this share of the contrast of the coarser one
        "objects": OneOf(4),
        "pole": Chance(0.5),
        "pole_width": Uniform(0.08, 0.2),
        "pole_light": LogUniform(0.1, 0.6),
        "pole_shift": Normal(0.0, 0.03),
        # lens and sensor
        "camera_px": LogUniform(
            16.0, 130.0
        ),  # pixels of the camera over the shorter side: small ones were far away
        "blur_px": Uniform(0.3, 0.8),
        "motion_px": LogUniform(0.2, 2.5),
        "motion_deg": Normal(0.0, 30.0),
        "gamma": Uniform(1.6, 2.6),
        "read_noise": LogUniform(0.0005, 0.01),
        "shot_noise": LogUniform(0.002, 0.03),
        "sharpening": Uniform(0.0, 0.6),
    }
)
