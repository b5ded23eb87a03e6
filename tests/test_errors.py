from __future__ import annotations

import inspect
import re

import pytest

from simgan import errors
from simgan.errors import ConfigurationError, MissingExtraError, SimganError, list_faults, require_extra


def test_every_error_is_a_simgan_error_and_stands_in_the_tree_of_the_docstring() -> None:
    columns = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.search(r"\w+Error", line):
            columns.setdefault(found[0], found.start())
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if kind.__module__ == errors.__name__:
            assert issubclass(kind, SimganError)
            parent = kind.__mro__[1].__name__
            assert parent == "Exception" or columns[name] > columns[parent], name
            assert kind.__doc__


def test_one_fault_is_a_sentence_and_several_are_a_list() -> None:
    one = ConfigurationError("`a` must be 1")
    assert str(one) == "`a` must be 1"
    assert one.faults == ("`a` must be 1",)
    three = ConfigurationError(["x", "y", "z"])
    assert str(three) == "3 faults:\n  - x\n  - y\n  - z"
    assert three.faults == ("x", "y", "z")
    assert str(ConfigurationError(["only"])) == "only"


def test_the_first_faults_are_listed_and_the_others_counted() -> None:
    assert list_faults([]) == ""
    assert list_faults(["a", "b"], most=2) == "\n  - a\n  - b"
    assert list_faults("abcdefgh") == "\n  - a\n  - b\n  - c\n  - d\n  - e\n  and 3 more"


def test_a_missing_package_is_an_error_that_names_the_extra_to_install() -> None:
    with pytest.raises(
        MissingExtraError, match=r"'no_such_package'.*pip install 'simgan\[report\]'"
    ) as caught:
        require_extra("no_such_package", extra="report")
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_package_that_is_there_is_returned() -> None:
    assert require_extra("json", extra="report").loads("1") == 1
