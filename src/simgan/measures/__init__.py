"""Measures: arrays in, numbers out. Nothing here knows files, arms or tasks."""

from __future__ import annotations

from simgan.measures.binomial import BinomialTest, binomial_test
from simgan.measures.descriptors import describe_images
from simgan.measures.intervals import (
    Replicates,
    bootstrap,
    median_gap_closed,
    percentile_interval,
    wilson_difference,
    wilson_interval,
)
from simgan.measures.two_sample import TwoSampleResult, area_under_curve, two_sample_auc
from simgan.measures.wasserstein import sliced_wasserstein

__all__ = [
    "BinomialTest",
    "Replicates",
    "TwoSampleResult",
    "area_under_curve",
    "binomial_test",
    "bootstrap",
    "describe_images",
    "median_gap_closed",
    "percentile_interval",
    "sliced_wasserstein",
    "two_sample_auc",
    "wilson_difference",
    "wilson_interval",
]
