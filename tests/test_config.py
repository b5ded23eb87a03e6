from __future__ import annotations

import dataclasses
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.config import parse_configuration, recipe_names, recipe_text, resolve_configuration, to_toml
from simgan.errors import ConfigurationError
from simgan.settings import Configuration, TreeSettings


def faults_of(**overrides: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        resolve_configuration("default", {k.replace("__", "."): v for k, v in overrides.items()})
    return caught.value.faults


def test_every_fault_is_reported_at_once_with_the_nearest_name() -> None:
    faults = faults_of(
        training__stepz=5,
        refiner__blocs=3,
        run__zzzzzzzz=1,
        trainning=5,
        training__steps="many",
        training__batch_size=7,
        refiner__kernel=4,
        objective__patches="median",
        data__crop=[1],
        data__value_low=3,
    )
    said = "\n".join(faults)
    assert "unknown key `training.stepz` (did you mean `steps`?)" in said
    assert "unknown key `refiner.blocs` (did you mean `blocks`?)" in said
    assert "unknown key `trainning` (did you mean `training`?)" in said
    assert any(fault.endswith("unknown key `run.zzzzzzzz`") for fault in faults)  # nothing is near
    assert "`training.steps` must be a whole number, not 'many'" in said
    assert "`training.batch_size` must be even, not 7" in said
    assert "`refiner.kernel` and `refiner.first_kernel` must be odd" in said
    assert "`objective.patches` must be one of 'mean', 'sum', not 'median'" in said
    assert "`data.crop` must be [height, width], not (1,)" in said
    assert "`data.value_low` and `data.value_high` go together" in said
    assert len(faults) == 10
    assert all(fault.startswith("recipe default: ") for fault in faults)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.steps", 0, "`training.steps` must be above 0, not 0"),
        ("training.steps", 1.5, "must be a whole number, not 1.5"),
        ("training.steps", True, "must be a whole number, not True"),
        ("training.steps", None, "must be a whole number, not None"),
        ("training.batch_size", 0, "must be even, not 0"),
        ("training.refiner_learning_rate", 0.0, "must be above 0"),
        ("training.refiner_learning_rate", float("nan"), "must be above 0"),
        ("training.discriminator_learning_rate", float("inf"), "must be finite"),
        ("training.refiner_learning_rate", True, "must be a number, not True"),
        ("training.optimizer", "adamw", "must be one of 'sgd', 'adam', not 'adamw'"),
        ("training.history_batches", -1, "must be 0 or more, not -1"),
        ("training.learning_rate_milestones", [[1, 2, 3]], "list of [step, factor]"),
        ("training.learning_rate_milestones", [[1, 0.0]], "factors above 0"),
        ("training.learning_rate_milestones", [5], "a list, each item a list, each item a number"),
        ("training.augmentation_shift_px", -1, "must be 0 or more"),
        ("objective.self_regularization_weight", -0.1, "must be 0 or more"),
        ("objective.self_regularization_weight", float("inf"), "must be finite"),
        ("objective.feature_transform", "os.system", "must be one of 'identity', 'gradients'"),
        ("discriminator.layers", [[4, 3]], "list of [maps, kernel, stride]"),
        ("discriminator.layers", [[4, 4, 2]], "kernels odd"),
        ("discriminator.layers", [[4, 3, 0]], "list of [maps, kernel, stride]"),
        ("discriminator.layers", [[-4, 3, 1]], "list of [maps, kernel, stride]"),
        ("discriminator.layers", [[0, 0, 1]], "list of [maps, kernel, stride]"),
        ("discriminator.output_maps", 3, "must be one of 1, 2, not 3"),
        ("discriminator.output_maps", True, "must be one of 1, 2, not True"),
        ("discriminator.spectral_normalization", 1, "must be true or false, not 1"),
        ("refiner.kernel", -1, "must be odd and above 0"),
        ("refiner.first_kernel", 2, "must be odd and above 0"),
        ("refiner.average_decay", 1.0, "must be in [0, 1), not 1.0"),
        ("refiner", 5, "`refiner` must be a table [refiner], not 5"),
        ("data.held_out_share", 0.5, "must be in (0, 0.5), not 0.5"),
        ("data.held_out_share", 0.0, "must be in (0, 0.5), not 0.0"),
        ("data.crop", [0, 8], "must be [height, width]"),
        ("data.crop", "8x8", "must be a list, each item a whole number, not '8x8'"),
        ("data.value_high", 5, "go together"),
        ("seed", -1, "`seed` must be 0 or more"),
        ("seed", 2**63, "below 2^63"),
        ("synthetic.root", 5, "must be a string, not 5"),
        ("refiner.width", 4097, "`refiner.width` must be at most 4096, not 4097"),
        ("discriminator.width", 10**30, "must be at most 4096"),
        ("refiner.blocks", 1001, "must be at most 1000"),
        ("refiner.kernel", 103, "must be at most 101"),
        ("refiner.first_kernel", 103, "must be at most 101"),
        ("discriminator.layers", [[4097, 3, 1]], "at most 1000 of [4096, 101, 64]"),
        ("discriminator.layers", [[4, 103, 1]], "at most 1000 of [4096, 101, 64]"),
        ("discriminator.layers", [[4, 3, 65]], "at most 1000 of [4096, 101, 64]"),
        ("discriminator.layers", [[4, 3, 1]] * 1001, "at most 1000 of [4096, 101, 64]"),
        ("training.batch_size", 2**16 + 2, "must be at most 65536"),
        ("training.steps", 2**53, "`training.steps` must be at most 9007199254740991"),
        ("training.history_batches", 2**60, "must be at most"),
        ("run.log_every", 2**53, "must be at most"),
        ("training.refiner_learning_rate", 10.5, "must be at most 10, not 10.5"),
        ("training.discriminator_learning_rate", 1e300, "must be at most 10"),
        ("training.refiner_learning_rate", 10**400, "must be a number"),
        ("training.augmentation_shift_px", 4097, "must be at most 4096"),
        ("training.learning_rate_milestones", [[-1, 0.5]], "steps 0 or more"),
        ("training.learning_rate_milestones", [[float("nan"), 0.5]], "steps 0 or more"),
        ("data.crop", [8, 2**40], "`data.crop` must be at most 65536"),
        ("data.invalid_value", -1, "must be a pixel value, 0 to 65535, not -1"),
        ("data.invalid_value", 65536, "must be a pixel value, 0 to 65535, not 65536"),
        ("data.value_step", 16, "give `data.value_low` and `data.value_high` with it"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_wanted_and_what_came(key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_configuration("default", {key: value})
    assert len(caught.value.faults) == 1
    assert said in caught.value.faults[0]


def test_a_declared_range_must_rise() -> None:
    (fault,) = faults_of(data__value_low=9, data__value_high=9)
    assert "must be below `data.value_high`, not 9 and 9" in fault


def test_the_limits_themselves_are_allowed() -> None:
    largest = {
        "refiner.width": 4096,
        "refiner.blocks": 1000,
        "refiner.kernel": 101,
        "discriminator.layers": [[4096, 101, 64]],
        "training.batch_size": 2**16,
        "training.steps": 2**53 - 1,
        "training.refiner_learning_rate": 10,
        "training.augmentation_shift_px": 4096,
        "data.invalid_value": 65535,
        "data.value_low": 0,
        "data.value_high": 4080,
        "data.value_step": 16,
        "seed": 2**63 - 1,
    }
    assert resolve_configuration("default", largest).training.steps == 2**53 - 1


@pytest.mark.parametrize("content", ["seed = " + "1" * 5000, "a = " + "[" * 100_000])
def test_numbers_and_nesting_without_end_are_not_valid_toml(tmp_path: Path, content: str) -> None:
    (tmp_path / "my.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"my\.toml is not valid TOML"):
        resolve_configuration(tmp_path / "my.toml")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbfseed = 7\n")
    assert resolve_configuration(tmp_path / "my.toml").seed == 7


def test_a_folder_whose_name_is_not_utf_8_cannot_be_configured() -> None:
    with pytest.raises(ConfigurationError, match=r"bytes that are not UTF-8.*rename it"):
        to_toml(Configuration(real=TreeSettings("data/\udcff")))


def test_pooling_may_have_an_even_kernel() -> None:
    layers = resolve_configuration(
        "default", {"discriminator.layers": [[4, 3, 1], [0, 2, 2]]}
    ).discriminator.layers
    assert layers == ((4, 3, 1), (0, 2, 2))


def test_an_unknown_recipe_is_refused_with_the_nearest_and_all_names() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'paper-gase' \(did you mean `paper-gaze`\?\).*default, paper-"
    ):
        resolve_configuration("paper-gase")
    with pytest.raises(ConfigurationError, match="must be a string, not 5"):
        parse_configuration({"recipe": 5}, where="here")


def test_a_users_file_lies_on_top_of_its_recipe(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('recipe = "paper-gaze"\nseed = 7\n[training]\nsteps = 11\n[real]\nroot = "eyes"\n')
    mine, recipe = resolve_configuration(file), resolve_configuration("paper-gaze")
    assert (mine.seed, mine.training.steps, mine.real.root) == (7, 11, "eyes")
    back = dataclasses.replace(
        mine,
        seed=recipe.seed,
        real=recipe.real,
        training=dataclasses.replace(mine.training, steps=recipe.training.steps),
    )
    assert back == recipe
    assert resolve_configuration(str(file), {"training.steps": 12}).training.steps == 12


def test_faults_in_a_users_file_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[training]\nsteps = -1\n")
    with pytest.raises(ConfigurationError, match=r"my\.toml: `training.steps` must be above 0"):
        resolve_configuration(file)
    file.write_text("[training\n")
    with pytest.raises(ConfigurationError, match=r"my\.toml is not valid TOML"):
        resolve_configuration(file)
    file.write_bytes(b'recipe = "\xff"\n')
    with pytest.raises(ConfigurationError, match=r"my\.toml is not a TOML text file"):
        resolve_configuration(file)
    with pytest.raises(ConfigurationError, match=r"cannot be read \(No such file.*simgan new default"):
        resolve_configuration(tmp_path / "none.toml")


def test_an_override_below_something_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("training = 3\n")
    with pytest.raises(ConfigurationError, match=r"`training` must be a table \[training\], not 3"):
        resolve_configuration(file, {"training.steps": 5})
    with pytest.raises(ConfigurationError, match="`seed` must be a table"):
        resolve_configuration("default", {"seed": 3, "seed.deep": 5})


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_the_same_after_a_trip_through_toml(name: str, tmp_path: Path) -> None:
    recipe = resolve_configuration(name)
    assert recipe.recipe == name
    assert resolve_configuration(recipe) == recipe
    (tmp_path / "run.toml").write_text(to_toml(recipe))
    assert resolve_configuration(tmp_path / "run.toml") == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_no_recipe_sets_a_key_that_could_not_be_unset_again(name: str) -> None:
    """TOML has no null, so that an unset key of a run would come back as the recipe's value."""
    recipe = resolve_configuration(name)
    for table in dataclasses.fields(recipe):
        value = getattr(recipe, table.name)
        if dataclasses.is_dataclass(value):
            for key, hint in typing.get_type_hints(type(value)).items():
                if type(None) in typing.get_args(hint):
                    assert getattr(value, key) is None, f"{table.name}.{key}"


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None, max_examples=150)
@given(
    root=any_text,
    pattern=any_text,
    low=st.none() | st.integers(0, 10),
    crop=st.none() | st.tuples(st.integers(1, 500), st.integers(1, 500)),
    rate=st.floats(1e-30, 10, allow_nan=False),
    milestones=st.lists(st.tuples(st.integers(0, 10**6).map(float), st.floats(1e-9, 9)), max_size=3).map(
        tuple
    ),
    layers=st.lists(
        st.tuples(st.integers(0, 99), st.sampled_from([1, 3, 5]), st.integers(1, 4)), max_size=4
    ).map(tuple),
    decay=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
    matching=st.booleans(),
)
def test_any_configuration_is_the_same_after_a_trip_through_toml(
    root: str,
    pattern: str,
    low: int | None,
    crop: tuple[int, int] | None,
    rate: float,
    milestones: tuple[tuple[float, ...], ...],
    layers: tuple[tuple[int, ...], ...],
    decay: float,
    seed: int,
    matching: bool,
) -> None:
    c = resolve_configuration("default")
    c = dataclasses.replace(
        c,
        seed=seed,
        real=TreeSettings(root, pattern),
        data=dataclasses.replace(
            c.data,
            value_low=low,
            value_high=None if low is None else low + 9,
            crop=crop,
            level_matching=matching,
        ),
        refiner=dataclasses.replace(c.refiner, average_decay=decay),
        discriminator=dataclasses.replace(c.discriminator, layers=layers),
        training=dataclasses.replace(
            c.training, refiner_learning_rate=rate, learning_rate_milestones=milestones
        ),
    )
    assert tomllib.loads(to_toml(c))["real"] == {"root": root, "images": pattern}
    assert resolve_configuration(c) == c


def test_a_configuration_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Configuration().seed = 3  # type: ignore[misc]


def test_every_field_has_a_docstring_beside_it() -> None:
    """`simgan` shows them; ast, because Python itself drops them."""
    import ast
    import inspect

    from simgan import config

    for node in ast.parse(inspect.getsource(config)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
            for field, text in zip(node.body[1::2], node.body[2::2], strict=True):
                assert isinstance(field, ast.AnnAssign)
                assert isinstance(text, ast.Expr), f"{node.name}.{field.target.id}"  # type: ignore[union-attr]


def test_a_recipes_text_keeps_its_comments() -> None:
    assert recipe_text("paper-gaze").startswith("# The paper's gaze experiment")
