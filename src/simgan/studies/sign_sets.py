"""Signs for the stability study: drawn speed limits → GTSRB's (Stallkamp et al., 2012), 32×32 RGB, eight classes.

Nothing is tuned on them: not the simulator, not the recipe. A track is 30 frames of one sign driven by, so the real
ones are split by track: of each class the first third of the tracks (in order of their numbers) is *unlabelled*, the
second *dev*, the last *test*; what does not divide by three is unlabelled.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from simgan.data.labels import LABELS_FILE
from simgan.data.output_folder import copy_atomically, remove_temporaries
from simgan.data.trees import ImageTree
from simgan.errors import DataError
from simgan.images import write_atomically
from simgan.simulators.signs import VERSION, write_signs
from simgan.studies.sim_to_real import SimToReal

DRAWN_COUNT, DRAWN_SEED, SIZE = 4000, 0, (32, 32)

Tracks = dict[str, list[Path]]  # name of the track → its frames


def drawn_to_real_signs(folder: Path) -> SimToReal:
    """The four trees, written below `folder` where they are not there yet; `DataError` without $SIMGAN_DATA."""
    root = os.environ.get("SIMGAN_DATA")
    if not root:
        raise DataError("real signs need the environment variable SIMGAN_DATA: the folder that holds signs/")
    parts = split_tracks(Path(root) / "signs" / "real")
    synthetic = folder / "synthetic"
    write_signs(synthetic, count=DRAWN_COUNT, size=SIZE, seed=DRAWN_SEED)
    return SimToReal(
        synthetic=ImageTree(synthetic),
        **{part: _write_part(folder / f"real-{part}", part, tracks) for part, tracks in parts.items()},
        generator={"generator": "simgan.simulators.signs", "version": VERSION},
        settings={"data.value_low": 0, "data.value_high": 255},
    )


def split_tracks(root: Path) -> dict[str, Tracks]:
    """`root/<class>/<track>_<frame>.png` → unlabelled, dev, test: the tracks of each, named `<class>/<track>`."""
    parts: dict[str, Tracks] = {"unlabelled": {}, "dev": {}, "test": {}}
    for of_class in sorted(path for path in root.iterdir() if path.is_dir()):
        tracks: Tracks = {}
        for frame in sorted(of_class.glob("*.png")):
            tracks.setdefault(f"{of_class.name}/{frame.stem.split('_')[0]}", []).append(frame)
        names = sorted(tracks)
        third = len(names) // 3
        first = len(names) - 2 * third
        for part, chosen in (
            ("unlabelled", names[:first]), ("dev", names[first : first + third]), ("test", names[first + third :])
        ):  # fmt: skip
            parts[part] |= {name: tracks[name] for name in chosen}
    return parts


def _write_part(out: Path, part: str, tracks: Tracks) -> ImageTree:
    """Frames as `<number>_<frame>.png`. Tracks are numbered in the order of their names within classes, classes taking
    turns, so that the names of unlabelled images do not sort them by class."""
    remove_temporaries(out)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("path", "class", "group"))
    for number, name in enumerate(sorted(tracks, key=lambda name: _turn(name, tracks))):
        for k, frame in enumerate(tracks[name]):
            path = f"{number:03d}_{k:02d}.png"
            if not (out / path).exists():
                copy_atomically(frame, out / path, durable=False)
            writer.writerow((path, name.split("/")[0], f"{number:03d}"))
    if part != "unlabelled":
        write_atomically(out / LABELS_FILE, table.getvalue().encode())
    return ImageTree(out)


def _turn(name: str, tracks: Tracks) -> tuple[int, str]:
    """Place of a track: its number among the tracks of its class, then the class."""
    of_class = sorted(other for other in tracks if other.split("/")[0] == name.split("/")[0])
    return of_class.index(name), name
