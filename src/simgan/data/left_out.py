"""Images that a refined tree lacks, though its files of labels, carried as they are, still name them."""

from __future__ import annotations

import json
from pathlib import Path

from simgan.errors import LabelError

MANIFEST = "simgan-manifest.json"


def images_left_out(root: str | Path) -> frozenset[str]:
    """The paths of images that were left out when the tree in `root` was refined, by its manifest: its `rejects`,
    and those that the tree it was refined from lacked already; of shards the names of members. None of them where there
    is no manifest.

    `LabelError` where the manifest cannot be read.
    """
    path = Path(root) / MANIFEST
    try:
        return left_out_by(path.read_bytes(), path)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise _damaged(path, error) from error


def left_out_by(manifest: bytes, where: Path) -> frozenset[str]:
    """The same of the bytes of a manifest, which lies at `where`."""
    try:
        entries = json.loads(manifest)
        rejects = [reject["path"] for reject in entries["rejects"]]
        if "shards" in entries:  # <shard>/<member>; labels know members alone
            rejects = [path.partition(".tar/")[2] for path in rejects]
        return frozenset(rejects + entries.get("lacked_before", []))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(where, error) from error


def _damaged(where: Path, error: Exception) -> LabelError:
    return LabelError(
        f"{where}: is damaged ({error}), so which images were left out is not known; refine again into a new folder"
    )
