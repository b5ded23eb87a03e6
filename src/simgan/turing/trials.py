"""Which images a subject is shown, in which order: a function of the study's seed, the comparison and the name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simgan.evaluation.turing import REAL


@dataclass(frozen=True)
class Shown:
    """One image on the page: the side it is of, and its number in that side's pool."""

    side: str
    number: int


def draw_examples(comparison: str, *, examples: int) -> list[Shown]:
    """The labelled images that are always in sight: the first of each pool, which is in random order already."""
    return [Shown(side, number) for side in (REAL, comparison) for number in range(examples)]


def draw_trials(
    sizes: Mapping[str, int], comparison: str, subject: str, *, trials: int, examples: int, seed: int
) -> list[Shown]:
    """Half of the trials real, half of the other side, drawn without replacement, in random order.

    sizes: images in each pool. The labelled examples are never among the trials. The same arguments draw the same
    trials: a broken session needs nothing but its answers to continue.
    """
    digest = hashlib.sha256(f"{comparison}\0{subject}".encode()).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    shown = [
        Shown(side, examples + int(number))
        for side in (REAL, comparison)
        for number in generator.permutation(sizes[side] - examples)[: trials // 2]
    ]
    return [shown[i] for i in generator.permutation(len(shown))]
