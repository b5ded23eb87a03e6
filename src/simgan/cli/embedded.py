"""The verbs that bring their own data: digits, eyes and signs drawn from code, and the demo on digits."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from simgan.cli.arguments import NO_SWITCHES, Switches
from simgan.cli.eyes import eyes
from simgan.cli.printing import OWN_FOLDERS, describe_evaluation, show
from simgan.cli.progress import showing_progress
from simgan.cli.signs import signs
from simgan.errors import OutputError

simulate = App(name="simulate", help="Draw labelled synthetic images from code.")
simulate.command(eyes)
simulate.command(signs)


@simulate.command
def digits(out: Path, /, *, count: int = 1000, seed: int = 0, switches: Switches = NO_SWITCHES) -> None:
    """Draw digits from fonts as 8×8 images, one folder for each class.

    :param out: Folder to write to; it must not exist, or be empty.
    :param count: How many.
    :param seed: The same seed draws the same digits.
    """
    from simgan.simulators.digits import simulate_digits

    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose a new folder for the digits")
    simulate_digits(out, count=count, seed=seed)
    show(
        {"out": out, "count": count, "seed": seed}, f"wrote {count:,} digits to {out}", as_json=switches.json
    )


def demo(*, run: Path = Path("runs/demo"), seed: int = 0, switches: Switches = NO_SWITCHES) -> None:
    """Run an embedded task end to end, on the CPU, without any download: simulate, train, refine, evaluate, report.

    :param run: Folder for all that it makes.
    :param seed: What everything random is drawn from.
    """
    from simgan.studies.demo import run_demo

    with showing_progress("demo") as display:
        evaluation = run_demo(run, seed=seed, say=display.say, warn=display.warn, progress=display.show_turn)
    text = f"{describe_evaluation(evaluation.record)}\n\nreport: {run / 'report.html'}\n\n{OWN_FOLDERS}"
    show(evaluation.record, text, as_json=switches.json)
