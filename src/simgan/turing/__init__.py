"""The visual Turing test as a page: people say which images are real. Served to this machine alone."""

from __future__ import annotations

from simgan.turing.results import TuringResults, gather_results
from simgan.turing.serving import serve
from simgan.turing.study import Study, begin_study, continue_study, read_results

__all__ = [
    "Study",
    "TuringResults",
    "begin_study",
    "continue_study",
    "gather_results",
    "read_results",
    "serve",
]
