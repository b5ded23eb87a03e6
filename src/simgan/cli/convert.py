"""The verb that turns folders into shards and shards into folders."""

from __future__ import annotations

from pathlib import Path

from simgan.cli.arguments import NO_SWITCHES, Switches
from simgan.cli.printing import align, show, summarize
from simgan.cli.progress import showing_progress


def convert(source: str, /, *, out: Path, samples: int = 1000, switches: Switches = NO_SWITCHES) -> None:
    """Turn a folder into WebDataset shards or shards into a folder, every file byte for byte; again continues.

    :param source: A folder of files; or a tar file, a pattern such as 'data/*.tar', or a folder of tar files.
    :param out: Folder to write to.
    :param samples: Samples (files of one name up to the first dot) in each shard.
    """
    from simgan.data.conversion import convert as convert_files

    with showing_progress("converting") as display:
        report = convert_files(source, out, samples=samples, progress=display.advance)
    show(report, align(summarize(report)), as_json=switches.json)
