"""The HTML templates of a package: everything that is put into them is escaped, and nothing may be missing."""

from __future__ import annotations

from typing import Any

from simgan.errors import require_extra


def open_templates(package: str, *, extra: str) -> Any:
    """The `jinja2.Environment` of `package`'s folder `template`; `MissingExtraError` without jinja2, which `extra`
    brings."""
    jinja2 = require_extra("jinja2", extra=extra)
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
