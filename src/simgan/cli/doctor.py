"""`simgan doctor`: what happened in a run, and what to change."""

from __future__ import annotations

from pathlib import Path

from simgan.cli.arguments import NO_SWITCHES, Switches
from simgan.cli.printing import bullets, show


def doctor(run: Path, /, *, evaluation: Path | None = None, switches: Switches = NO_SWITCHES) -> None:
    """Say in plain words what happened in a run, and what to change.

    :param run: Folder of the run.
    :param evaluation: Its evaluation.json; unset: the one in the run, if any.
    """
    from simgan.diagnosis import diagnose

    diagnosis = diagnose(run, evaluation)
    parts = [
        f"{finding.name}\n  {finding.what}\n  What to change: {finding.change}"
        for finding in diagnosis.findings
    ]
    head = f"{len(parts)} findings on {run}" if len(parts) != 1 else f"1 finding on {run}"
    text = "\n\n".join([head, *parts]) if parts else f"nothing is wrong with {run}, as far as was looked"
    show(diagnosis, text + "\n" + bullets("not looked at", diagnosis.unknown), as_json=switches.json)
