"""The verb that draws eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from simgan.cli.arguments import NO_SWITCHES, SizeText, Switches, parse_size
from simgan.cli.printing import show
from simgan.cli.progress import showing_progress


def eyes(
    *,
    out: Path,
    count: int = 1000,
    size: SizeText = "35x55",
    seed: int = 0,
    look: Literal["synthetic", "pseudo-real"] = "synthetic",
    switches: Switches = NO_SWITCHES,
) -> None:
    """Draw labelled eyes: grey images, UnityEyes annotations, masks, labels.csv; the same command again continues.

    :param out: Folder to write to; it must not exist, or be empty, or hold an interrupted run of this command.
    :param count: How many.
    :param size: HEIGHTxWIDTH of the images, 16 to 1024 pixels each.
    :param seed: The same seed draws the same eyes.
    :param look: synthetic; or pseudo-real, other people, light, lens and sensor, to stand in for real images.
    """
    from simgan.simulators.eyes import write_eyes

    shape = parse_size(size) if size is not None else (35, 55)
    with showing_progress("drawing eyes") as display:
        write_eyes(out, count=count, size=shape, seed=seed, look=look, progress=display.advance)
    described = {"out": out, "count": count, "size": f"{shape[0]}x{shape[1]}", "seed": seed, "look": look}
    text = (
        f"wrote {count:,} {look} eyes to {out}\nimages: images/*.png, labels: labels.csv, masks: masks/*.png"
    )
    show(described, text, as_json=switches.json)
