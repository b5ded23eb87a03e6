"""The verb that measures this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simgan.errors import DataError


def bench(*, out: Path | None = None, tasks: str = "paper-gaze,default", threads: int | None = None) -> None:
    """Measure refining and training on this processor, against a plain reference and the machine's matrix peak.

    :param out: JSON file for all figures.
    :param tasks: Names of recipes, comma separated: paper-gaze, default, paper-hands.
    :param threads: How many to compute with; all cores if it is not given.
    """
    script = Path(__file__).parents[3] / "benchmarks" / "steps.py"
    if not script.is_file():
        raise DataError(
            f"{script} is not there: benchmarks come with the source of simgan, not with its package"
        )
    options = ["--tasks", tasks]
    if out is not None:
        options += ["--out", str(out)]
    if threads is not None:
        options += ["--threads", str(threads)]
    code = subprocess.run([sys.executable, str(script), *options], check=False).returncode
    if code:
        raise SystemExit(code)
