"""Measures: arrays in, numbers out. Nothing here knows files, arms or tasks."""

from __future__ import annotations

from simgan.measures.descriptors import describe_images
from simgan.measures.gaze import AngularErrors, angular_errors, cumulative_curve, summarize_angles
from simgan.measures.intervals import (
    Replicates,
    bootstrap,
    median_gap_closed,
    percentile_interval,
    wilson_difference,
    wilson_interval,
)
from simgan.measures.segments import confusions, mean_iou
from simgan.measures.two_sample import TwoSampleResult, area_under_curve, two_sample_auc
from simgan.measures.wasserstein import sliced_wasserstein

__all__ = [
    "AngularErrors",
    "Replicates",
    "TwoSampleResult",
    "angular_errors",
    "area_under_curve",
    "bootstrap",
    "confusions",
    "cumulative_curve",
    "describe_images",
    "mean_iou",
    "median_gap_closed",
    "percentile_interval",
    "sliced_wasserstein",
    "summarize_angles",
    "two_sample_auc",
    "wilson_difference",
    "wilson_interval",
]
