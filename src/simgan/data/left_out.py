"""Images that a refined tree lacks, though its files of labels, carried as they are, still name them."""

from __future__ import annotations

import json
from pathlib import Path

from simgan.errors import LabelError

MANIFEST = "simgan-manifest.json"


def images_left_out(root: str | Path) -> frozenset[str]:
    """The paths of images that were left out when the tree in `root` was refined, by its manifest: its `rejects`,
    and those that the tree it was refined from lacked already. None of them where there is no manifest.

    `LabelError` where the manifest cannot be read.
    """
    path = Path(root) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        return frozenset(
            [reject["path"] for reject in manifest["rejects"]] + manifest.get("lacked_before", [])
        )
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LabelError(
            f"{path}: is damaged ({error}), so which images were left out is not known; refine again into a new folder"
        ) from error
