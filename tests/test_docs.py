from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import simgan
from simgan.cli.verbs import app, parse
from simgan.config import parse_configuration, recipe_names, recipe_text
from simgan.settings import Configuration

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def fenced(page: Path, language: str) -> Iterator[str]:
    """The blocks of code of one language ("" for plain ones)."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if found[1] == language:
            yield found[2]


def commands() -> Iterator[tuple[str, str]]:
    """(page, command line) of every whole command in the documentation, the recipes and the examples."""
    for page, name in zip(PAGES, PAGE_IDS, strict=True):
        for block in fenced(page, ""):
            for line in block.splitlines():
                if line.startswith("simgan "):
                    yield name, line
        for inline in re.findall(r"`(simgan (?:new|check|recipes|simulate) [^`]+)`", page.read_text("utf-8")):
            yield name, inline
    for recipe in recipe_names():
        for line in re.findall(r"^#\s+(simgan .*?)(?:\s{2,}.*)?$", recipe_text(recipe), re.MULTILINE):
            yield recipe, line


def test_there_are_commands_to_check() -> None:
    assert len(list(commands())) > 15


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_every_command_in_the_documentation_parses(page: str, line: str) -> None:
    parse(shlex.split(line, comments=True)[1:])


def test_every_command_named_anywhere_exists() -> None:
    texts = [page.read_text("utf-8") for page in PAGES]
    texts += [
        path.read_text("utf-8") for folder in ("src", "examples") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {verb for text in texts for verb in re.findall(r"`simgan ([a-z]+)", text)}
    assert {"train", "prepare", "check"} <= named
    assert [verb for verb in sorted(named) if verb not in app] == []


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_python_in_the_documentation_is_valid_and_uses_public_names(page: Path) -> None:
    for block in fenced(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "simgan"
            ):
                assert node.attr in simgan.__all__, node.attr


def test_calls_in_the_documentation_fit_the_signatures() -> None:
    import inspect

    seen = 0
    for page in PAGES:
        for block in fenced(page, "python"):
            for call in ast.walk(ast.parse(block)):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                    function = getattr(simgan, call.func.attr, None)
                    if function is not None:
                        named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
                        inspect.signature(function).bind(*call.args, **named)
                        seen += 1
    assert seen >= 8


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_toml_in_the_documentation_is_a_valid_configuration(page: Path) -> None:
    for block in fenced(page, "toml"):
        parse_configuration(tomllib.loads(block), where=page.name)


def test_every_key_named_in_the_documentation_exists() -> None:
    tables = {
        t.name: t for t in dataclasses.fields(Configuration) if dataclasses.is_dataclass(_table(t.name))
    }
    named = {
        (table, key)
        for page in PAGES
        for table, key in re.findall(r"`([a-z]+)\.([a-z_]+)\b(?![(.])[^`]*`", page.read_text("utf-8"))
        if table in tables
        and key not in ("json", "safetensors")
        and not (ROOT / "src" / "simgan" / table / f"{key}.py").exists()
    }
    assert len(named) > 5
    missing = [
        f"{t}.{k}" for t, k in sorted(named) if k not in {f.name for f in dataclasses.fields(_table(t))}
    ]
    assert missing == []


def _table(name: str) -> Any:
    return getattr(Configuration(), name)


def test_every_warning_in_the_guide_is_one_that_the_code_gives() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\n\s*f?"', "", code)  # strings written over several lines
    table = (ROOT / "docs" / "guide.md").read_text("utf-8").split("| warning |")[1].split("\n\n")[0]
    said = [text for row in table.splitlines()[2:] for text in re.findall(r"\*([^*]+)\*", row.split("|")[1])]
    assert len(said) > 8
    fragments = [part.strip() for text in said for part in text.split("…") if part.strip()]
    assert [fragment for fragment in fragments if fragment not in code] == []


def test_every_function_in_the_paper_map_exists() -> None:
    text = (ROOT / "docs" / "paper-map.md").read_text("utf-8")
    names = re.findall(r"`(simgan\.[\w.]+)\.(\w+)`", text)
    assert len(names) > 25
    missing = [f"{m}.{n}" for m, n in names if not hasattr(importlib.import_module(m), n)]
    assert missing == []


def test_every_test_in_the_paper_map_exists() -> None:
    text = (ROOT / "docs" / "paper-map.md").read_text("utf-8")
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert [name for name in re.findall(r"`(test_\w+)`", text) if name not in there] == []


def test_every_row_of_the_paper_map_names_a_test() -> None:
    text = (ROOT / "docs" / "paper-map.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| paper ")]
    assert [row for row in rows if "`test_" not in row] == []


def test_every_name_in_the_glossary_is_used_in_the_code() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    names = {
        re.split(r"[ (=]", name)[0]
        for row in text.splitlines()
        if row.startswith("| ")
        for name in re.findall(r"`([^`]+)`", row.split("|")[2])
    }
    assert len(names) > 25
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []


def test_the_floors_in_the_architecture_are_those_that_are_enforced() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    enforced = [re.findall(r"\w+", layer) for layer in settings["contracts"][0]["layers"]]
    there = {path.stem for path in (ROOT / "src" / "simgan").iterdir() if not path.stem.startswith("__")}
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("| floor |")[1].split("\n\n")[0]
    described = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in text.splitlines()[2:]]
    assert described == [[name for name in layer if name in there] for layer in enforced]


def test_the_page_of_recipes_is_made_from_the_code_as_it_is() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert page == _generator().recipes_page(), "run: make docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_recipes_has_every_key_with_its_meaning() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    for table in dataclasses.fields(Configuration):
        if dataclasses.is_dataclass(_table(table.name)):
            for key in dataclasses.fields(_table(table.name)):
                row = next(line for line in page.splitlines() if line.startswith(f"| `{key.name}` |"))
                assert len(row.split("|")[2].split()) >= 1, key.name


def test_no_page_or_source_is_too_long_to_be_read_in_one_sitting() -> None:
    long = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if len(path.read_text("utf-8").splitlines()) > 400
    ]
    assert long == []


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
