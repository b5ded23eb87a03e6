"""Evaluation: how real, does it help, did the labels survive. Numbers with intervals, n, and their floor."""

from __future__ import annotations

from simgan.evaluation.downstream import ARMS
from simgan.evaluation.evaluate import Evaluation, evaluate
from simgan.evaluation.outcomes import Outcomes, describe_seeds, summarize
from simgan.evaluation.pooling import pool

__all__ = ["ARMS", "Evaluation", "Outcomes", "describe_seeds", "evaluate", "pool", "summarize"]
