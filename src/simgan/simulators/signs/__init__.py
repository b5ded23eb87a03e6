"""Labelled speed-limit signs in RGB, drawn from code: `simulate_signs` as tensors, `write_signs` as files.

Made from what a speed-limit sign is by the Vienna Convention on Road Signs and Signals (sign C14: a round white field,
a red ring, black figures in km/h) and from how cameras in cars see signs; fitted to no real images. `distributions`
holds what is drawn how often, `drawing` the geometry, paint and light, `camera` lens and sensor.
"""

from simgan.simulators.signs.distributions import FACES, SIGN, SPEEDS
from simgan.simulators.signs.drawing import VERSION, SignBatch, simulate_signs
from simgan.simulators.signs.writing import write_signs

__all__ = ["FACES", "SIGN", "SPEEDS", "VERSION", "SignBatch", "simulate_signs", "write_signs"]
