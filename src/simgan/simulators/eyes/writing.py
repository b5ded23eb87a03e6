"""write_eyes(): drawn eyes as a tree of files, continued where it was interrupted.

    out/images/000000.png    grey, 8 bit
    out/images/000000.json   its annotation, as UnityEyes writes them
    out/masks/000000.png     classes 0 skin and all else, 1 sclera, 2 iris, 3 pupil
    out/labels.csv           labels of all images; written last, so where it stands all is there
    out/parameters.csv       what each image was drawn from
    out/simulation.json      the command

The files of an image are small and many: they are not flushed one by one. The same call draws the same bytes again,
so a continued one compares what it finds with what should be there, and `labels.csv` is written when the disk has all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from simgan.data.output_folder import make_folder, remove_temporaries
from simgan.images import encode_image, write_atomically
from simgan.simulators.eyes.annotations import label_table, unityeyes_annotations
from simgan.simulators.eyes.render import VERSION, EyeBatch, check_request, simulate_eyes
from simgan.simulators.eyes.scene import Size
from simgan.simulators.simulation_folder import Table, claim_folder, write_missing

_BLOCK = 256  # images drawn at once


def write_eyes(
    out_dir: str | Path,
    *,
    count: int,
    size: Size = (35, 55),
    seed: int = 0,
    look: str = "synthetic",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the first `count` eyes of the set `seed` to `out_dir`; see `simulate_eyes` for the arguments.

    The same call again continues an interrupted one, and changes nothing where all is done. `progress(done, total)`
    is called after each block. `ConfigurationError` as from `simulate_eyes`; `OutputError` where the folder holds
    something else, or cannot be written.
    """
    check_request(count, size, seed, look)
    out = Path(out_dir)
    command = {
        "simulator": "eyes",
        "version": VERSION,
        "count": count,
        "size": list(size),
        "seed": seed,
        "look": look,
    }
    claim_folder(out, command)
    if (out / "labels.csv").exists():
        return
    remove_temporaries(out)
    for folder in ("images", "masks"):
        make_folder(out / folder)
    present = {f"{folder}/{name}" for folder in ("images", "masks") for name in os.listdir(out / folder)}
    labels, parameters = Table(), Table()

    def write(batch: EyeBatch, start: int) -> int:
        paths = _write_block(out, batch, start, present)
        _add_rows(batch, paths, look, labels, parameters)
        return start + len(paths)

    with ThreadPoolExecutor(max_workers=1) as writer:  # a block is written while the next is drawn
        writing: Future[int] | None = None
        for start in range(0, count, _BLOCK):
            batch = simulate_eyes(min(_BLOCK, count - start), size=size, seed=seed, look=look, start=start)
            _finish(writing, count, progress)
            writing = writer.submit(write, batch, start)
        _finish(writing, count, progress)
    os.sync()
    write_atomically(out / "parameters.csv", parameters.data())
    write_atomically(out / "labels.csv", labels.data())


def _finish(writing: Future[int] | None, count: int, progress: Callable[[int, int], None] | None) -> None:
    """Waits for a block, and says how many images are done."""
    if writing is not None:
        done = writing.result()
        if progress is not None:
            progress(done, count)


def _write_block(out: Path, batch: EyeBatch, start: int, present: set[str]) -> list[str]:
    """Write the files of a batch and return the paths of its images."""
    images, masks = batch.images[:, 0, :, :, None].numpy(), batch.masks[:, 0, :, :, None].numpy()
    paths: list[str] = []
    for i, annotation in enumerate(unityeyes_annotations(batch)):
        stem = f"{start + i:06d}"
        paths.append(f"images/{stem}.png")
        for path, data in (
            (f"images/{stem}.json", annotation),
            (f"masks/{stem}.png", encode_image(masks[i], ".png")),
            (paths[-1], encode_image(images[i], ".png")),
        ):
            write_missing(out / path, data, present=path in present)
    return paths


def _add_rows(batch: EyeBatch, paths: list[str], look: str, labels: Table, parameters: Table) -> None:
    table = label_table(batch)
    persons = [[f"{look}-{person:02d}"] for person in batch.persons.tolist()]
    labels.add(
        ("path", "group", *table.names),
        [
            (path, *person, *(f"{x:.6f}" for x in row))
            for path, person, row in zip(paths, persons, table.values.tolist(), strict=True)
        ],
    )
    columns = [column.tolist() for column in batch.parameters.values()]
    parameters.add(
        ("path", *batch.parameters),
        [
            (path, *(f"{x:.9g}" for x in row))
            for path, row in zip(paths, zip(*columns, strict=True), strict=True)
        ],
    )
