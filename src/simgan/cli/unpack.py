"""The verb that turns data sets of eyes, packed in .mat and .h5 files, into trees of images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from simgan.cli.arguments import NO_SWITCHES, Flag, Switches
from simgan.cli.printing import align, show, summarize
from simgan.cli.progress import showing_progress

unpack = App(
    name="unpack", help="Write eye images that a data set keeps in .mat or .h5 files as a tree of PNG files."
)


@unpack.command
def mpiigaze(
    root: Path,
    /,
    *,
    out: Path,
    subset: Literal["evaluation", "all"] = "evaluation",
    unlabelled: Flag = False,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Unpack MPIIGaze's normalized eyes, right ones mirrored, with their gaze in labels.csv and persons as groups.

    :param root: The folder that MPIIGaze unpacked to: it holds Data/Normalized.
    :param out: Folder for the tree; the same command again continues.
    :param subset: The authors' lists of 3,000 eyes a person, or every photograph.
    :param unlabelled: Leave the gaze out.
    """
    from simgan.preparation.unpacking import unpack_mpiigaze

    with showing_progress("unpacking") as display:
        report = unpack_mpiigaze(root, out, subset=subset, labels=not unlabelled, progress=display.advance)
    show(report, align(summarize(report)), as_json=switches.json)


@unpack.command
def eye_gaze(file: Path, /, *, out: Path, switches: Switches = NO_SWITCHES) -> None:
    """Unpack gaze.h5 (UnityEyes, with gaze) or real_gaze.h5 (MPIIGaze, without), 35×55 eyes.

    :param file: The HDF5 file.
    :param out: Folder for the tree; the same command again continues.
    """
    from simgan.preparation.unpacking import unpack_eye_gaze

    report = unpack_eye_gaze(file, out)
    show(report, align(summarize(report)), as_json=switches.json)
