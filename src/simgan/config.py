"""Typed configuration of a training run: TOML in and out, every fault reported at once.

A recipe is a TOML file (`simgan/recipes/*.toml`); a user's file overrides any of its keys. Configuration is data: it
can name a feature transform, never import one.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from simgan.errors import ConfigurationError
from simgan.settings import Configuration

_MOST_MAPS, _MOST_LAYERS, _LARGEST_KERNEL, _LARGEST_STRIDE = 4096, 1000, 101, 64
_MOST_STEPS = 2**53  # above, steps are no longer told apart in floating point


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with simgan."""
    folder = resources.files("simgan") / "recipes"
    return tuple(
        sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
    )


def recipe_text(name: str) -> str:
    """The recipe's TOML with its comments; `ConfigurationError` with the nearest name where there is none."""
    if name not in recipe_names():
        raise ConfigurationError(f"no recipe is called {name!r}{_nearest(name, recipe_names())}; there are: "
                                 f"{', '.join(recipe_names())}")  # fmt: skip
    return (resources.files("simgan") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def resolve_configuration(
    recipe: str | Path | Configuration, overrides: Mapping[str, Any] | None = None
) -> Configuration:
    """The configuration of a recipe's name, a TOML file (anything that ends in .toml), or a configuration, with
    dotted `overrides` such as {"training.steps": 500} on top; `ConfigurationError` with every fault at once.
    """
    if isinstance(recipe, Configuration):
        table, where = _parse_toml(to_toml(recipe), "configuration"), "configuration"
    elif str(recipe).endswith(".toml"):
        table, where = _read_toml(Path(recipe)), str(recipe)
    else:
        table, where = {"recipe": str(recipe)}, f"recipe {recipe}"
    for key, value in (overrides or {}).items():
        inner = table
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{where}: `{parent}` must be a table [{parent}], not {inner!r}")
        inner[last] = value
    return parse_configuration(table, where=where)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except OSError as error:
        raise ConfigurationError(
            f"the configuration {path} cannot be read ({error.strerror}); `simgan new default {path}` writes one"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not a TOML text file: {error}") from error
    return _parse_toml(text, str(path))


def parse_configuration(table: Mapping[str, Any], *, where: str) -> Configuration:
    """The configuration of a parsed table on top of its recipe; `ConfigurationError` with every fault at once."""
    name = table.get("recipe", "default")
    if not isinstance(name, str):
        raise ConfigurationError(f"{where}: `recipe` must be a string, not {name!r}")
    base = _parse_toml(recipe_text(name), f"recipe {name}")
    faults: list[str] = []
    merged = {**base, **{k: v for k, v in table.items() if not isinstance(v, Mapping)}}
    for key, value in table.items():
        if isinstance(value, Mapping):
            below = base.get(key, {})
            merged[key] = {**(below if isinstance(below, dict) else {}), **value}
    merged["recipe"] = name
    configuration = cast(Configuration, _build(Configuration, merged, "", faults))
    faults += _rule_faults(configuration)
    if faults:
        raise ConfigurationError([f"{where}: {fault}" for fault in faults])
    return configuration


def _parse_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and endless nesting
        raise ConfigurationError(f"{where} is not valid TOML: {error}") from error


def _build(kind: type[Any], table: Mapping[str, Any], prefix: str, faults: list[str]) -> Any:
    """An instance of the dataclass `kind`. Faulty keys are added to `faults` and keep their default, so that the
    rules can still be checked for the rest.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in hints:
            faults.append(f"unknown key `{name}`{_nearest(key, tuple(hints))}")
        elif dataclasses.is_dataclass(hints[key]):
            if isinstance(value, Mapping):
                values[key] = _build(cast(type[Any], hints[key]), value, f"{name}.", faults)
            else:
                faults.append(f"`{name}` must be a table [{name}], not {value!r}")
        else:
            matched, converted = _convert(value, hints[key])
            if matched:
                values[key] = converted
            else:
                faults.append(f"`{name}` must be {_describe(hints[key])}, not {value!r}")
    return kind(**values)


def _convert(value: Any, hint: Any) -> tuple[bool, Any]:
    """Whether `value` fits the type `hint`, and the value as that type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            matched, converted = _convert(value, option)
            if matched:
                return True, converted
        return False, None
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments), value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False, None
        parts = [_convert(item, arguments[0]) for item in value]
        return all(matched for matched, _ in parts), tuple(converted for _, converted in parts)
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and not (isinstance(value, int) and abs(value) >= 2**1023)  # float() refuses these
        return fits, float(value) if fits else None
    if hint is type(None):
        return value is None, None
    return type(value) is hint, value


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments if option is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in arguments)
    if origin is tuple:
        return f"a list, each item {_describe(arguments[0])}"
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return names.get(hint, str(hint))


def _nearest(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _rule_faults(c: Configuration) -> list[str]:
    """Faults of values that have the right type, each in one sentence."""
    t, d, r = c.training, c.data, c.refiner
    positive = {
        "refiner.width": r.width,
        "discriminator.width": c.discriminator.width,
        "training.steps": t.steps,
        "training.task_starts": t.task_starts,
        "training.discriminator_updates_per_step": t.discriminator_updates_per_step,
        "training.refiner_updates_per_step": t.refiner_updates_per_step,
        "training.refiner_learning_rate": t.refiner_learning_rate,
        "training.discriminator_learning_rate": t.discriminator_learning_rate,
        "run.checkpoint_every": c.run.checkpoint_every,
        "run.log_every": c.run.log_every,
        "data.value_step": d.value_step,
    }
    not_negative = {
        "refiner.blocks": r.blocks,
        "objective.self_regularization_weight": c.objective.self_regularization_weight,
        "objective.task_consistency_weight": c.objective.task_consistency_weight,
        "objective.self_ensembling_weight": c.objective.self_ensembling_weight,
        "objective.drift_budget_px": c.objective.drift_budget_px,
        "training.warmup_refiner_steps": t.warmup_refiner_steps,
        "training.warmup_task_steps": t.warmup_task_steps,
        "training.warmup_self_ensembling_steps": t.warmup_self_ensembling_steps,
        "training.warmup_discriminator_steps": t.warmup_discriminator_steps,
        "training.history_batches": t.history_batches,
        "training.augmentation_shift_px": t.augmentation_shift_px,
        "training.augmentation_gain": t.augmentation_gain,
        "seed": c.seed,
    }
    rules = [(value > 0, f"`{key}` must be above 0, not {value}") for key, value in positive.items()]
    rules += [(value >= 0, f"`{key}` must be 0 or more, not {value}") for key, value in not_negative.items()]
    rules += _limit_rules(c, positive | not_negative)
    rules += [
        (t.batch_size >= 2 and t.batch_size % 2 == 0, f"`training.batch_size` must be even, not {t.batch_size}: "
         "half of D's refined images are current, half come from the history"),
        (all(k > 0 and k % 2 == 1 for k in (r.kernel, r.first_kernel)),
         "`refiner.kernel` and `refiner.first_kernel` must be odd and above 0"),
        (c.seed < 2**63, f"`seed` must be below 2^63, not {c.seed}"),
        (0 <= r.average_decay < 1, f"`refiner.average_decay` must be in [0, 1), not {r.average_decay}"),
        (0 < d.held_out_share < 0.5, f"`data.held_out_share` must be in (0, 0.5), not {d.held_out_share}"),
        (d.crop is None or (len(d.crop) == 2 and min(d.crop) > 0),
         f"`data.crop` must be [height, width], not {d.crop}"),
        ((d.value_low is None) == (d.value_high is None), "`data.value_low` and `data.value_high` go together"),
        (d.value_low is None or d.value_high is None or d.value_low < d.value_high,
         f"`data.value_low` must be below `data.value_high`, not {d.value_low} and {d.value_high}"),
        (d.invalid_value is None or 0 <= d.invalid_value <= 65535,
         f"`data.invalid_value` must be a pixel value, 0 to 65535, not {d.invalid_value}"),
        (d.value_step == 1 or d.value_low is not None or d.value_high is not None,
         "`data.value_step` is the step of a declared range: give `data.value_low` and `data.value_high` with it"),
        (all(map(_is_layer, c.discriminator.layers)) and len(c.discriminator.layers) <= _MOST_LAYERS,
         "`discriminator.layers` must be a list of [maps, kernel, stride], kernels odd (but for pooling: maps 0), "
         f"at most {_MOST_LAYERS} of [{_MOST_MAPS}, {_LARGEST_KERNEL}, {_LARGEST_STRIDE}]"),
        (all(len(m) == 2 and 0 <= m[0] < _MOST_STEPS and 0 < m[1] < math.inf for m in t.learning_rate_milestones),
         "`training.learning_rate_milestones` must be a list of [step, factor], steps 0 or more, factors above 0"),
    ]  # fmt: skip
    rules += [
        (value != math.inf, f"`{key}` must be finite") for key, value in (positive | not_negative).items()
    ]
    return [fault for holds, fault in rules if not holds]


def _limit_rules(c: Configuration, numbers: Mapping[str, float]) -> list[tuple[bool, str]]:
    """Rules against what no machine can do, such as a slip of the keyboard asks for."""
    limits = {
        "refiner.width": _MOST_MAPS,
        "refiner.blocks": 1000,
        "discriminator.width": _MOST_MAPS,
        "training.refiner_learning_rate": 10,
        "training.discriminator_learning_rate": 10,
        "training.augmentation_shift_px": 4096,
        "training.task_starts": 100,
        "objective.drift_budget_px": 4,  # as far as displacement is measured
    }
    whole = {key: value for key, value in numbers.items() if isinstance(value, int) and key != "seed"}
    checked: dict[str, tuple[float, float]] = {
        key: (value, limits.get(key, _MOST_STEPS - 1)) for key, value in whole.items()
    }
    checked |= {key: (numbers[key], most) for key, most in limits.items()}
    checked["training.batch_size"] = c.training.batch_size, 2**16
    checked["refiner.kernel"] = c.refiner.kernel, _LARGEST_KERNEL
    checked["refiner.first_kernel"] = c.refiner.first_kernel, _LARGEST_KERNEL
    checked["data.crop"] = max(c.data.crop or (0,)), 2**16
    return [
        (value == math.inf or not value > most, f"`{key}` must be at most {most}, not {value}")
        for key, (value, most) in checked.items()
    ]


def _is_layer(layer: tuple[int, ...]) -> bool:
    """Whether `layer` is [maps, kernel, stride] for which "same" padding gives maps of ⌈size / stride⌉."""
    if len(layer) != 3:
        return False
    maps, kernel, stride = layer
    fits = 0 <= maps <= _MOST_MAPS and 1 <= kernel <= _LARGEST_KERNEL and 1 <= stride <= _LARGEST_STRIDE
    return fits and (maps == 0 or kernel % 2 == 1)


def to_toml(configuration: Configuration) -> str:
    """The configuration as TOML that `resolve_configuration` reads back as the same."""
    lines: list[str] = []
    tables: list[str] = []
    for item in dataclasses.fields(configuration):
        value = getattr(configuration, item.name)
        if dataclasses.is_dataclass(value):
            tables.append(f"\n[{item.name}]")
            for key in dataclasses.fields(value):
                inner = getattr(value, key.name)
                if inner is not None:  # TOML has no null: an unset key is left out
                    tables.append(f"{key.name} = {toml_value(inner)}")
        else:
            lines.append(f"{item.name} = {toml_value(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def toml_value(value: Any) -> str:
    """One value as TOML. `ConfigurationError` for a name of bytes that are not UTF-8, which TOML cannot hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise ConfigurationError(f"{value!r} holds bytes that are not UTF-8, so a configuration cannot name it: "
                                     "rename it")  # fmt: skip
        escaped = "".join(
            f"\\{c}" if c in '"\\' else c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)
