"""refine(): the same tree out as in, images refined, every other file carried byte for byte, a manifest."""

from simgan.data.left_out import MANIFEST
from simgan.refinement.manifest import RefinementReport
from simgan.refinement.tree import refine

__all__ = ["MANIFEST", "RefinementReport", "refine"]
