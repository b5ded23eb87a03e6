"""Textured images whose warps are exact, as the study of the estimators has them; in src, so that it needs no tests."""

from __future__ import annotations

from simgan.measures.known_warps import NOISE, Field, Images, noisy, shift, turn, warped
from simgan.studies.known_warps import blurred, texture

__all__ = ["NOISE", "Field", "Images", "blurred", "noisy", "shift", "texture", "turn", "warped"]
