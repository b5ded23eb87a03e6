"""simgan turing: the visual Turing test, served to this machine alone."""

from __future__ import annotations

import sys
from pathlib import Path

from simgan.cli.arguments import NO_SWITCHES, Flag, Switches
from simgan.cli.printing import show
from simgan.cli.progress import showing_progress
from simgan.errors import ConfigurationError

ALL_IMAGES = "**/*"


def turing(
    study: Path,
    /,
    *,
    real: Path | None = None,
    refined: Path | None = None,
    synthetic: Path | None = None,
    run: Path | None = None,
    images: str = ALL_IMAGES,
    real_images: str = ALL_IMAGES,
    trials: int = 100,
    examples: int = 10,
    seed: int = 0,
    port: int = 8765,
    results: Flag = False,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Ask people which images are real, on a page that this machine alone can open; again continues.

    Every answer is saved at once. Ctrl+C ends it and prints the results.

    :param study: Folder of the study: new, or the one to continue; then nothing else need be given.
    :param real: Folder of the real images.
    :param refined: The refined tree, to be compared with them.
    :param synthetic: The synthetic tree, to be compared with them as well, or instead.
    :param run: The training run: its value range, and the real images that its discriminator never saw.
    :param images: Which files of refined and synthetic are the images, as a pattern.
    :param real_images: The same for the real tree.
    :param trials: How many images a subject judges in one comparison; half of them are real.
    :param examples: How many labelled images of each side are always in sight.
    :param seed: What everything random is drawn from.
    :param port: Where the page is served, on 127.0.0.1; 0 takes any free one.
    :param results: Print the results so far, and serve nothing.
    """
    from simgan.data.trees import ImageTree
    from simgan.images import ValueRange
    from simgan.training.run import RunDirectory
    from simgan.turing import begin_study, continue_study, gather_results, read_results, serve

    if not results:
        with showing_progress("preparing the study") as display:
            if real is None and refined is None and synthetic is None:
                opened = continue_study(study, progress=display.advance)
            elif real is None:
                raise ConfigurationError(
                    "--real is wanted: the real images that the others are compared with"
                )
            else:
                scale = None if run is None else RunDirectory(run).read_description().get("value_range")
                opened = begin_study(
                    study,
                    real=ImageTree(real, real_images),
                    refined=None if refined is None else ImageTree(refined, images),
                    synthetic=None if synthetic is None else ImageTree(synthetic, images),
                    real_paths=None if run is None else RunDirectory(run).held_out_real(),
                    value_range=None if scale is None else ValueRange.from_dict(scale),
                    trials=trials,
                    examples=examples,
                    seed=seed,
                    progress=display.advance,
                )
        try:
            serve(opened, port=port, ready=_say_where)
        finally:
            opened.close()
    found = gather_results(*read_results(study))
    show(found.to_dict(), "\n".join(found.lines()), as_json=switches.json)


def _say_where(address: str) -> None:
    print(
        f"open {address} in a browser on this machine; Ctrl+C ends it, and the same command continues",
        file=sys.stderr,
        flush=True,
    )
