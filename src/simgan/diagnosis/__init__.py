"""Diagnosis: what happened in a run, in plain words, and what to change."""

from __future__ import annotations

from simgan.diagnosis.doctor import Diagnosis, diagnose
from simgan.diagnosis.finding import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
