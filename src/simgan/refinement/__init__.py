"""refine(): the same tree out as in, images refined, every other file carried byte for byte, a manifest."""

from simgan.data.left_out import MANIFEST
from simgan.refinement.command import refine
from simgan.refinement.manifest import RefinementReport

__all__ = ["MANIFEST", "RefinementReport", "refine"]
