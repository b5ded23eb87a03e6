"""Measures: arrays in, numbers out. Nothing here knows files, arms or tasks.

scipy.stats and scikit-learn are imported by the functions that need them: loading them takes longer than all else that
a command like `simgan refine` loads beside torch.
"""

from __future__ import annotations

from simgan.measures.binomial import BinomialTest, binomial_test
from simgan.measures.descriptors import describe_images
from simgan.measures.displacement import Displacement, displacement_at, measure_displacement
from simgan.measures.gaze import AngularErrors, angular_errors, cumulative_curve, summarize_angles
from simgan.measures.intervals import (
    Replicates,
    bootstrap,
    median_gap_closed,
    percentile_interval,
    wilson_difference,
    wilson_interval,
)
from simgan.measures.optical_flow import flow_drift_px, move_mask, optical_flow
from simgan.measures.pupil import PupilFits, fit_pupils
from simgan.measures.segments import confusions, mean_iou
from simgan.measures.two_sample import TwoSampleResult, area_under_curve, two_sample_auc
from simgan.measures.wasserstein import sliced_wasserstein

__all__ = [
    "AngularErrors",
    "BinomialTest",
    "Displacement",
    "PupilFits",
    "Replicates",
    "TwoSampleResult",
    "angular_errors",
    "area_under_curve",
    "binomial_test",
    "bootstrap",
    "confusions",
    "cumulative_curve",
    "describe_images",
    "displacement_at",
    "fit_pupils",
    "flow_drift_px",
    "mean_iou",
    "measure_displacement",
    "median_gap_closed",
    "move_mask",
    "optical_flow",
    "percentile_interval",
    "sliced_wasserstein",
    "summarize_angles",
    "two_sample_auc",
    "wilson_difference",
    "wilson_interval",
]
