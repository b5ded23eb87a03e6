"""What options of the command line look like: patterns that are checked while parsing, and what they become."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import simgan
from simgan.config import toml_value

if TYPE_CHECKING:
    from simgan.preparation import Crop

ALL_IMAGES = "**/*"

Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True)
class Switches:
    """What every verb understands."""

    json: Annotated[bool, Parameter(negative="", show_default=False, help="Print the result as JSON.")] = (
        False
    )
    debug: Annotated[
        bool, Parameter(negative="", show_default=False, help="On failure, print the traceback as well.")
    ] = False


NO_SWITCHES = Switches()
_PX = "[0-9]{1,9}"


def _must_match(pattern: str, wanted: str) -> Callable[[type, Any], None]:
    def validate(_type: type, value: Any) -> None:
        for text in [value] if isinstance(value, str) else value or ():
            if not re.fullmatch(pattern, text):
                raise ValueError(f"{wanted} is wanted, got {text!r}")

    return validate


Setting = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative="",
        consume_multiple=False,
        validator=_must_match(r"[a-z_]+(\.[a-z_]+)?=.*", "KEY=VALUE, such as training.steps=500,"),
    ),
]
CropText = Annotated[
    str | None,
    Parameter(
        validator=_must_match(
            rf"{_PX},{_PX},{_PX},{_PX}|center:{_PX}x{_PX}|eye(:[0-9](\.[0-9]{{1,6}})?)?",
            "TOP,LEFT,HEIGHT,WIDTH or center:HEIGHTxWIDTH, in pixels, or eye or eye:MARGIN, in eye widths,",
        )
    ),
]
SizeText = Annotated[
    str | None, Parameter(validator=_must_match(rf"{_PX}x{_PX}", "HEIGHTxWIDTH, such as 35x55,"))
]


def parse_overrides(settings: Sequence[str] | None) -> dict[str, Any]:
    """{"training.steps": 500} of ["training.steps=500"]; a value that is not TOML is taken as a string."""
    overrides: dict[str, Any] = {}
    for setting in settings or ():
        key, text = setting.split("=", 1)
        try:
            parsed = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError):
            parsed = {}
        overrides[key] = parsed["value"] if len(parsed) == 1 else text
    return overrides


def parse_crop(text: str | None) -> Crop | None:
    if text is None:
        return None
    if text.startswith("center:"):
        return simgan.CenterCrop(*parse_size(text.removeprefix("center:")))
    if text.startswith("eye"):
        return simgan.EyeCrop(*map(float, text.split(":")[1:]))
    top, left, height, width = (int(number) for number in text.split(","))
    return top, left, height, width


def parse_size(text: str) -> tuple[int, int]:
    first, second = text.split("x")
    return int(first), int(second)


def toml_string(folder: Path | None) -> str:
    return toml_value("" if folder is None else str(folder))
