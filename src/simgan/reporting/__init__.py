"""Reporting: what a run, its refiner and its evaluation say to a person."""

from __future__ import annotations

from simgan.reporting.card import model_card
from simgan.reporting.information import InfoReport, info
from simgan.reporting.page import report

__all__ = ["InfoReport", "info", "model_card", "report"]
