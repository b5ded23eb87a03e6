"""The verb that draws speed-limit signs."""

from __future__ import annotations

from pathlib import Path

from simgan.cli.arguments import NO_SWITCHES, SizeText, Switches, parse_size
from simgan.cli.printing import show
from simgan.cli.progress import showing_progress


def signs(
    *, out: Path, count: int = 1000, size: SizeText = "32x32", seed: int = 0, switches: Switches = NO_SWITCHES
) -> None:
    """Draw speed-limit signs in RGB, one folder for each speed; the same command again continues.

    :param out: Folder to write to; it must not exist, or be empty, or hold an interrupted run of this command.
    :param count: How many.
    :param size: HEIGHTxWIDTH of the images, 16 to 512 pixels each.
    :param seed: The same seed draws the same signs.
    """
    from simgan.simulators.signs import write_signs

    shape = parse_size(size) if size is not None else (32, 32)
    with showing_progress("drawing signs") as display:
        write_signs(out, count=count, size=shape, seed=seed, progress=display.advance)
    described = {"out": out, "count": count, "size": f"{shape[0]}x{shape[1]}", "seed": seed}
    text = f"wrote {count:,} signs to {out}\nimages and classes: <km/h>/*.png, what was drawn: parameters.csv"
    show(described, text, as_json=switches.json)
