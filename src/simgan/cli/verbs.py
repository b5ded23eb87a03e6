"""The verbs of `simgan`, each a thin call of a public function. What is heavy is imported inside the verbs."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError
from rich.console import Console

import simgan
from simgan.cli.arguments import (
    ALL_IMAGES,
    NO_SWITCHES,
    CropText,
    Flag,
    Setting,
    SizeText,
    Switches,
    parse_crop,
    parse_overrides,
    parse_size,
    toml_string,
)
from simgan.cli.benchmarking import bench
from simgan.cli.convert import convert
from simgan.cli.doctor import doctor
from simgan.cli.embedded import demo, simulate
from simgan.cli.export import export, write_card
from simgan.cli.printing import (
    align,
    bullets,
    describe_evaluation,
    describe_plan,
    plain,
    show,
    summarize,
)
from simgan.cli.progress import showing_progress
from simgan.cli.refining import refine
from simgan.cli.reproduce import reproduce
from simgan.cli.turing import turing
from simgan.cli.unpack import unpack
from simgan.errors import OutputError

if TYPE_CHECKING:
    from simgan.data.trees import ImageTree


class WrongUsageError(Exception):
    """The command line cannot be understood; the message says why."""


app = App(
    name="simgan",
    help="Refines synthetic images until models trained on them work on real ones, every label carried and checked.",
    version=simgan.__version__,
    help_format="plaintext",
)
app.command(refine)
app.command(convert)
app.command(simulate)
app.command(demo)
app.command(turing)
app.command(export)
app.command(bench)
app.command(doctor)
app.command(unpack)
app.command(reproduce)


def parse(arguments: Sequence[str]) -> tuple[Callable[[], None], Switches]:
    """The call that the command line asks for, not yet made, and its switches; `WrongUsageError` where it is none."""
    try:
        verb, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        verbs = [f" {word}" for word in arguments[:1] if word in app]
        raise WrongUsageError(f"{str(error).strip()} (see: simgan{''.join(verbs)} --help)") from error
    if verb == app.help_print and not {"--help", "-h"} & set(arguments):
        app.help_print(list(arguments), console=Console(stderr=True))
        raise WrongUsageError(f"a verb is wanted after: {shlex.join(['simgan', *arguments])}")
    switches = bound.arguments.get("switches", NO_SWITCHES)
    return lambda: verb(*bound.args, **bound.kwargs), switches


@app.command
def recipes(name: str | None = None, /, *, switches: Switches = NO_SWITCHES) -> None:
    """List the recipes, or print one.

    :param name: The recipe to print.
    """
    from simgan.config import recipe_names, recipe_text

    if name is not None:
        text = recipe_text(name)
        show({"recipe": name, "text": text}, text, as_json=switches.json)
        return
    about = {recipe: recipe_text(recipe).splitlines()[0].lstrip("# ") for recipe in recipe_names()}
    show(about, align(about.items()), as_json=switches.json)


@app.command
def new(
    recipe: str,
    file: Path,
    /,
    *,
    synthetic: Path | None = None,
    real: Path | None = None,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Write a recipe to a TOML file of your own, ready to be edited.

    :param recipe: The recipe to start from; see `simgan recipes`.
    :param file: The file to write; an existing one is never overwritten.
    :param synthetic: Folder of the labelled synthetic images.
    :param real: Folder of the unlabelled real images.
    """
    from simgan.config import recipe_text
    from simgan.images import write_atomically

    text = recipe_text(recipe)
    if file.suffix != ".toml":
        raise OutputError(f"{file}: the name of a configuration must end in .toml, such as {file}.toml")
    if file.exists():
        raise OutputError(
            f"{file} exists already and was left alone; choose another name, or delete it first"
        )
    text += f"""
# Your data. Label masks are images too: name the images alone, such as images = "images/*.png".
# Next: simgan check {shlex.quote(str(file))}

[synthetic]
root = {toml_string(synthetic)}
images = "{ALL_IMAGES}"

[real]
root = {toml_string(real)}
images = "{ALL_IMAGES}"
"""
    write_atomically(file, text.encode())
    missing = [name for name, folder in (("synthetic", synthetic), ("real", real)) if folder is None]
    todo = f"fill in root under {' and '.join(f'[{name}]' for name in missing)}, then: " if missing else ""
    show(
        {"file": file, "recipe": recipe},
        f"wrote {file}\nnext: {todo}simgan check {file}",
        as_json=switches.json,
    )


@app.command
def check(recipe: str, /, *, set_: Setting = None, switches: Switches = NO_SWITCHES) -> None:
    """Read a configuration and both trees, and say every fault, or what training would do; nothing is trained.

    :param recipe: A TOML file, see `simgan new`, or the name of a recipe.
    :param set_: KEY=VALUE that overrides one key; may be repeated.
    """
    from simgan.config import resolve_configuration
    from simgan.training.assembly import assemble

    configuration = resolve_configuration(recipe, parse_overrides(set_))
    with tempfile.TemporaryDirectory() as cache, showing_progress("reading the images") as display:
        assembly = assemble(configuration, cache_dir=Path(cache), progress=display.advance)
        found = assembly.describe()
    text = describe_plan(found, configuration)
    again = "".join(f" --set {shlex.quote(setting)}" for setting in set_ or ())
    command = f"simgan train {shlex.quote(recipe)} --run runs/{Path(recipe).stem}{again}"
    text += f"\n\nnothing was trained; next: {command}"
    show({**found, "configuration": plain(configuration)}, text, as_json=switches.json)


@app.command
def train(
    recipe: str,
    /,
    *,
    run: Path,
    synthetic: Path | None = None,
    real: Path | None = None,
    set_: Setting = None,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Train a refiner; the same command again continues an interrupted run, exactly.

    :param recipe: A TOML file, see `simgan new`, or the name of a recipe.
    :param run: Folder of the run: new, or the one to continue.
    :param synthetic: Folder of the synthetic images, instead of the configured one.
    :param real: Folder of the real images, instead of the configured one.
    :param set_: KEY=VALUE that overrides one key, such as training.steps=500; may be repeated.
    """
    overrides = parse_overrides(set_)
    for side, folder in (("synthetic", synthetic), ("real", real)):
        if folder is not None:
            overrides[f"{side}.root"] = str(folder)
    with showing_progress("training") as display:
        trained = simgan.train(
            recipe,
            run_dir=run,
            overrides=overrides,
            progress=display.show_turn,
            warn=display.warn,
        )
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one speaks
    lines = [
        ("run", trained.path),
        ("refiner", f"{trained.refiner} (of step {trained.kept_step:,})"),
        ("next", f"simgan refine {trained.path} SYNTHETIC --out REFINED"),
    ]
    show(trained, align(lines) + bullets("warnings", trained.warnings), as_json=switches.json)


@app.command
def prepare(
    tree: Path,
    /,
    *,
    out: Path,
    crop: CropText = None,
    size: SizeText = None,
    images: str = ALL_IMAGES,
    masks: str | None = None,
    mirror: Flag = False,
    grey: Flag = False,
    invalid: int | None = None,
    carry_unknown: Flag = False,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Crop and resize every image of a tree into a new tree, every label moving with its pixels.

    :param tree: Folder of the images.
    :param out: Folder for the prepared tree.
    :param crop: TOP,LEFT,HEIGHT,WIDTH in pixels, or center:HEIGHTxWIDTH; or eye[:MARGIN], around each image's eye.
    :param size: HEIGHTxWIDTH that the cropped images are resized to.
    :param images: Which files are the images, as a pattern relative to the tree.
    :param masks: Which files are label masks of the images, as a pattern.
    :param mirror: Exchange left and right, in images and labels.
    :param grey: Turn colours into grey levels.
    :param invalid: The pixel value that means "no measurement".
    :param carry_unknown: Copy label files of unknown formats as they are, instead of refusing them.
    """
    with showing_progress("preparing") as display:
        report = simgan.prepare(
            simgan.ImageTree(tree, images),
            out,
            crop=parse_crop(crop),
            size=parse_size(size) if size is not None else None,
            masks=masks,
            mirror=mirror,
            grey=grey,
            invalid=invalid,
            carry_unknown=carry_unknown,
            progress=display.advance,
        )
        for sentence in report.dropped:
            display.warn(sentence)
    show(report, align(summarize(report)), as_json=switches.json)


@app.command
def evaluate(
    *,
    synthetic: Path,
    refined: Path,
    real: Path,
    run: Path | None = None,
    real_labelled: Path | None = None,
    real_dev: Path | None = None,
    images: str = ALL_IMAGES,
    real_images: str = ALL_IMAGES,
    masks: str | None = None,
    out: Path | None = None,
    seed: int = 0,
    task_seeds: int = 3,
    mirror: Flag = False,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Measure: is refined more real than synthetic, do models trained on it do better, do its labels hold?

    :param synthetic: Tree of the synthetic images, with labels.
    :param refined: The refined tree.
    :param real: Unlabelled real images.
    :param run: The training run: its value range, and realism on the real images that its discriminator never saw.
    :param real_labelled: Labelled real images: the test of the downstream task.
    :param real_dev: Other labelled real images, for the upper bound and the label check (unset: half of the test).
    :param images: Which files of synthetic and refined are the images, as a pattern.
    :param real_images: The same for the real trees.
    :param masks: Which files of synthetic are class masks, as a pattern: how far refining moved them.
    :param out: Where to write evaluation.json: that file, or its folder.
    :param seed: What everything random is drawn from.
    :param task_seeds: How many task models are trained of each kind.
    :param mirror: Mirrored images are as good: the task models' augmentation may flip them.
    """
    from simgan.images import ValueRange
    from simgan.training.run import RunDirectory

    scale = None if run is None else RunDirectory(run).read_description().get("value_range")

    def real_tree(folder: Path | None) -> ImageTree | None:
        return None if folder is None else simgan.ImageTree(folder, real_images)

    with showing_progress("evaluating") as display:
        evaluation = simgan.evaluate(
            synthetic=simgan.ImageTree(synthetic, images),
            refined=simgan.ImageTree(refined, images),
            real=simgan.ImageTree(real, real_images),
            real_labelled=real_tree(real_labelled),
            real_dev=real_tree(real_dev),
            real_paths=None if run is None else RunDirectory(run).held_out_real(),
            value_range=None if scale is None else ValueRange.from_dict(scale),
            seed=seed,
            task_seeds=task_seeds,
            mirror=mirror,
            masks=masks,
            out=out,
            command=shlex.join(["simgan", *sys.argv[1:]]),
            progress=display.say,
        )
    show(evaluation.record, describe_evaluation(evaluation.record), as_json=switches.json)


@app.command
def report(
    run: Path,
    /,
    *,
    evaluation: Path | None = None,
    refined: Path | None = None,
    out: Path | None = None,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Write one self-contained HTML page about a run, and the model card beside its weights.

    :param run: Folder of the run.
    :param evaluation: Its evaluation.json; unset: the one in the run, if any.
    :param refined: The refined tree whose images are shown; unset: the refiner makes them.
    :param out: The page to write; unset: report.html in the run.
    """
    page = simgan.report(run, evaluation, out, refined=refined)
    card = write_card(run, evaluation)
    text = f"wrote {page}" + ("" if card is None else f"\nwrote {card}")
    show({"report": page, "model_card": card}, text, as_json=switches.json)


@app.command
def info(path: Path, /, *, images: str = ALL_IMAGES, switches: Switches = NO_SWITCHES) -> None:
    """Say what a run, a refiner's file, or a tree of images is.

    :param path: A run, a refiner.safetensors, or a folder of images.
    :param images: Which files of a tree are the images, as a pattern.
    """
    what = path if images == ALL_IMAGES else simgan.ImageTree(path, images)
    with showing_progress("reading the images") as display:
        about = simgan.info(what, progress=display.advance)
    show(about.to_dict(), "\n".join(about.lines()), as_json=switches.json)
