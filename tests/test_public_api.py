from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import simgan

ROOT = Path(__file__).parents[1]

PUBLIC_NAMES = [
    "CenterCrop",
    "Configuration",
    "ConfigurationError",
    "DataError",
    "Diagnosis",
    "Evaluation",
    "ExportReport",
    "EyeCrop",
    "ImageError",
    "ImageTree",
    "InfoReport",
    "LabelError",
    "LabelledImages",
    "Labels",
    "MissingExtraError",
    "OutputError",
    "PreparationReport",
    "RefinementReport",
    "Run",
    "RunError",
    "SimganError",
    "TrainedRefiner",
    "TrainingError",
    "WeightsError",
    "__version__",
    "diagnose",
    "evaluate",
    "export",
    "info",
    "load_refiner",
    "load_runtime",
    "model_card",
    "prepare",
    "read_labels",
    "refine",
    "report",
    "resolve_configuration",
    "save_refiner",
    "train",
]


def run_python(code: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these_and_no_others() -> None:
    assert simgan.__all__ == PUBLIC_NAMES
    assert dir(simgan) == PUBLIC_NAMES


@pytest.mark.parametrize("name", [name for name in PUBLIC_NAMES if name != "__version__"])
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(simgan, name)
    assert value.__name__ == name
    doc = value.__doc__ or ""
    assert len(doc.split()) >= 4
    assert not doc.startswith(f"{name}("), "a dataclass without a docstring of its own"


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(simgan.__file__).read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == simgan._MODULE_OF


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'simgan' has no attribute 'trian'"):
        _ = simgan.trian


def test_importing_simgan_loads_nothing_heavy() -> None:
    heavy = "torch", "numpy", "cv2", "scipy", "sklearn", "PIL", "cyclopts", "rich", "matplotlib"
    assert run_python(f"import simgan, sys; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_every_public_name_loads_where_no_extra_is_installed() -> None:
    extras = "cyclopts", "rich", "matplotlib", "jinja2", "tensorboard", "onnx", "openvino"
    code = f"import sys\nfor m in {extras}: sys.modules[m] = None\nimport simgan\n"
    assert run_python(code + "for n in simgan.__all__: getattr(simgan, n)\nprint('all')") == "all"


def test_the_error_tree_in_the_docstring_is_the_one_of_the_classes() -> None:
    from simgan import errors

    def drawn(kind: type) -> list[str]:
        return [kind.__name__, *(name for child in kind.__subclasses__() for name in drawn(child))]

    tree = (errors.__doc__ or "").split("SimganError", 1)[1].split("Each message")[0]
    assert ["SimganError", *re.findall(r"[├└]── (\w+)", tree)] == drawn(errors.SimganError)
    assert {name for name in PUBLIC_NAMES if name.endswith("Error")} == set(drawn(errors.SimganError))


def test_one_version_is_said_everywhere() -> None:
    said = {
        tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"],
        re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)[0],
        re.findall(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[0],
    }
    assert said == {simgan.__version__}


def test_every_package_that_setup_installs_is_pinned() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    pinned = {_normal(line.split("==")[0]): line.split("==")[1] for line in lines}
    assert len(pinned) == len(lines)
    wanted, missing = [("simgan", "dev")], []
    seen = set(wanted)
    while wanted:
        name, extra = wanted.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # this environment was made otherwise
        if name not in ("simgan", *pinned):
            missing.append(f"{name}=={distribution.version}")
        for text in distribution.requires or ():
            requirement = requirements.Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                for further in ("", *requirement.extras):
                    step = (_normal(requirement.name), further)
                    if step not in seen:
                        seen.add(step)
                        wanted.append(step)
    assert missing == []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_wheel_carries_recipes_types_and_licence(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    shipped = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(source).as_posix() for path in shipped} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"simgan/py.typed", "simgan/recipes/default.toml"} <= names
