"""Fonts that installed packages bring: text faces of the matplotlib wheel, and Pillow's own."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from simgan.errors import DataError, MissingExtraError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PILLOWS = "Aileron"


@lru_cache(maxsize=64)
def load_font(face: str, size: int) -> Font:
    """The face `face` at `size` pixels an em: a TrueType file of matplotlib without its suffix, or `PILLOWS`.

    `MissingExtraError` without matplotlib, `DataError` where it lacks the file.
    """
    if face == PILLOWS:
        return ImageFont.load_default(size)
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "drawing digits needs the fonts of matplotlib, which is not installed; "
            "install it with: pip install 'simgan[report]'"
        )
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise DataError(f"the font {path} is missing; reinstall matplotlib")
    return ImageFont.truetype(str(path), size)
