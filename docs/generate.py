"""Writes the pages of the documentation that are made from the code: run `make docs` after changing a recipe or a key.

docs/recipes.md: the recipes and every key of a configuration, from the docstrings in simgan/settings.py.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import sys
from pathlib import Path

from simgan import settings
from simgan.config import recipe_names, recipe_text, resolve_configuration
from simgan.settings import Configuration

PAGE = Path(__file__).parent / "recipes.md"

HEAD = """\
# Recipes and keys

<!-- Made by docs/generate.py from simgan/settings.py and the recipes: change those, then run `make docs`. -->

A configuration is a recipe with some keys changed, as TOML. `simgan new default my.toml` writes one to edit,
`simgan check my.toml` says every fault in it at once. On the command line, `--set training.steps=500` changes one
key; in Python, `overrides={"training.steps": 500}` does.

## Recipes
"""

KEYS = """
## Keys

`recipe` names the recipe that all other keys start from, `seed` is what everything random is drawn from. A dash means
unset. Keys that a recipe does not name have the value in the column *unset*.
"""


def recipes_page() -> str:
    """The text of docs/recipes.md."""
    parts = [HEAD]
    for name in recipe_names():
        comments = []
        for line in recipe_text(name).splitlines():
            if not line.startswith("#"):
                break
            comments.append(line.removeprefix("#").removeprefix(" ").rstrip())
        parts.append(f"\n### `{name}`\n\n```text\n" + "\n".join(comments).strip() + "\n```\n")
    parts.append(KEYS)
    recipes = {name: resolve_configuration(name) for name in recipe_names()}
    for table in dataclasses.fields(Configuration):
        default = getattr(Configuration(), table.name)
        if dataclasses.is_dataclass(default):
            about, meanings = _documented(type(default))
            parts.append(f"\n### `[{table.name}]`\n\n{about}\n\n")
            parts.append(
                f"| key | meaning | unset | {' | '.join(recipes)} |\n|---|---|---|{'---|' * len(recipes)}\n"
            )
            for key in dataclasses.fields(default):
                values = [getattr(default, key.name)]
                values += [getattr(getattr(c, table.name), key.name) for c in recipes.values()]
                cells = " | ".join(_cell(value) for value in values)
                parts.append(f"| `{key.name}` | {meanings[key.name]} | {cells} |\n")
    return "".join(parts)


def _documented(kind: type) -> tuple[str, dict[str, str]]:
    """The docstring of a class of settings, and that of each of its fields."""
    tree = ast.parse(inspect.getsource(settings))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    meanings: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr), field.target.id
            assert isinstance(text.value, ast.Constant), field.target.id
            meanings[field.target.id] = " ".join(str(text.value.value).split()).replace("|", "\\|")
    return inspect.getdoc(kind) or "", meanings


def _cell(value: object) -> str:
    if value is None or value == "" or value == ():
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_cell(item) for item in value) + "]"
    if isinstance(value, str):
        return f"`{value}`"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    PAGE.write_text(recipes_page(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
