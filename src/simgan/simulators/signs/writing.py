"""write_signs(): drawn signs as a tree of files, continued where it was interrupted.

out/<speed>/000000.png   RGB, 8 bit; the folder is the class: 020, 030, …, 120 km/h
out/parameters.csv       what each sign was drawn from; written last, so where it stands all is there
out/simulation.json      the command
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from simgan.data.output_folder import make_folder, remove_temporaries
from simgan.images import encode_image, write_atomically
from simgan.simulators.signs.camera import Size
from simgan.simulators.signs.distributions import FACES, SPEEDS
from simgan.simulators.signs.drawing import VERSION, SignBatch, check_request, simulate_signs
from simgan.simulators.simulation_folder import Table, claim_folder, write_missing

_BLOCK = 256  # images drawn at once


def write_signs(
    out_dir: str | Path,
    *,
    count: int,
    size: Size = (32, 32),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the first `count` signs of the set `seed` to `out_dir`; see `simulate_signs` for the arguments.

    The same call again continues an interrupted one, and changes nothing where all is done. `progress(done, total)`
    is called after each block. `ConfigurationError` as from `simulate_signs`; `OutputError` where the folder holds
    something else, or cannot be written.
    """
    check_request(count, size, seed)
    out = Path(out_dir)
    claim_folder(
        out, {"simulator": "signs", "version": VERSION, "count": count, "size": list(size), "seed": seed}
    )
    if (out / "parameters.csv").exists():
        return
    remove_temporaries(out)
    folders = [f"{speed:03d}" for speed in SPEEDS[:count]]
    for folder in folders:
        make_folder(out / folder)
    present = {f"{folder}/{name}" for folder in folders for name in os.listdir(out / folder)}
    table = Table()
    for start in range(0, count, _BLOCK):
        batch = simulate_signs(min(_BLOCK, count - start), size=size, seed=seed, start=start)
        _write_block(out, batch, start, present, table)
        if progress is not None:
            progress(start + len(batch.speeds), count)
    os.sync()
    write_atomically(out / "parameters.csv", table.data())


def _write_block(out: Path, batch: SignBatch, start: int, present: set[str], table: Table) -> None:
    pixels = batch.images.permute(0, 2, 3, 1).numpy()
    columns = {name: values.tolist() for name, values in batch.parameters.items() if name != "face"}
    rows: list[list[object]] = []
    for k, speed in enumerate(batch.speeds.tolist()):
        path = f"{speed:03d}/{start + k:06d}.png"
        write_missing(out / path, encode_image(pixels[k], ".png"), present=path in present)
        face = FACES[int(batch.parameters["face"][k])]
        rows.append([path, speed, face, *(f"{values[k]:.9g}" for values in columns.values())])
    table.add(("path", "speed_kmh", "face", *columns), rows)
