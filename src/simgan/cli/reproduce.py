"""The verb that repeats the paper's experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from simgan.cli.arguments import NO_SWITCHES, Flag, Switches
from simgan.cli.printing import show
from simgan.cli.progress import showing_progress

reproduce = App(
    name="reproduce", help="Repeat an experiment of the paper, from two sets of images to its tables."
)


@reproduce.command
def gaze(
    *,
    synthetic: Path,
    real: Path,
    test: Path,
    out: Path,
    images: str = "**/*",
    real_images: str = "**/*",
    scale: Literal["smoke", "small", "paper"] = "small",
    pseudo_real: Flag = False,
    switches: Switches = NO_SWITCHES,
) -> None:
    """The paper's gaze experiment: Tables 2 and 3, Figure 7, pupils and ablations, as one page.

    :param synthetic: Tree of synthetic eyes with gaze: UnityEyes files, or labels.csv with gaze_x, gaze_y, gaze_z.
    :param real: Tree of unlabelled real eyes, for the refiner.
    :param test: Tree of other real eyes with gaze.
    :param out: Folder for the runs, report.html and gaze.json; the same command again continues.
    :param images: Which files of synthetic are the images, as a pattern.
    :param real_images: The same for real and test.
    :param scale: smoke (minutes, only shows that it runs), small (two CPU cores), paper (all data, for a GPU).
    :param pseudo_real: Real and test were drawn by a simulator: say so on every page.
    """
    from simgan.data.trees import ImageTree
    from simgan.reporting.gaze_page import describe
    from simgan.studies.gaze import Reporter, reproduce_gaze

    with showing_progress("reproducing") as display:
        record = reproduce_gaze(
            ImageTree(synthetic, images),
            ImageTree(real, real_images),
            ImageTree(test, real_images),
            out,
            scale=scale,
            pseudo_real=pseudo_real,
            reporter=Reporter(display.say, display.warn, display.advance),
        )
    show(record, f"{describe(record)}\n\nreport: {out / 'report.html'}", as_json=switches.json)
