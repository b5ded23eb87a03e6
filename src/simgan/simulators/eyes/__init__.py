"""Labelled eyes, ray-cast from code: `simulate_eyes` draws them as tensors, `write_eyes` as files.

A drawn eye is an eyeball with cornea, iris and pupil, under lids that belong to a face, before a camera. `looks` holds
the distributions; `scene`, `face` and `eyeball` the geometry and optics; `light`, `eye_shading`, `skin_shading` and
`textures` the shading; `sensor` the camera's faults; `landmarks` the exact labels. What is computed for each pixel is
made of +, −, ×, ÷, √ and table look-ups only, so an eye does not depend on the batch it is drawn in.
"""

from simgan.simulators.eyes.landmarks import Ellipses, Landmarks
from simgan.simulators.eyes.looks import LOOKS
from simgan.simulators.eyes.render import VERSION, EyeBatch, simulate_eyes
from simgan.simulators.eyes.writing import write_eyes

__all__ = ["LOOKS", "VERSION", "Ellipses", "EyeBatch", "Landmarks", "simulate_eyes", "write_eyes"]
