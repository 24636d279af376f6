"""What active defaults cost in Python calls, which do not depend on the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from sqla_patterns.attributes import ActiveDefaults


def _calls(function: Callable[[], object]) -> int:
    """Return how many Python functions `function` calls, itself left out."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count - 1


@pytest.fixture(name="classes")
def _classes(plain_bases: Any) -> tuple[Any, Any]:
    """Return a class with active defaults and the same one without."""

    def make(name: str, *mixins: type[Any]) -> Any:
        namespace = {
            "__tablename__": name.lower(),
            "__annotations__": {"id": Mapped[int], "state": Mapped[str], "stamp": Mapped[str]},
            "id": mapped_column(primary_key=True),
            "state": mapped_column(String(20), default="draft"),
            "stamp": mapped_column(String(20), default=lambda: "now"),
        }
        return type(name, (*mixins, base), namespace)

    base = plain_bases()
    active, plain = make("Active", ActiveDefaults), make("Plain")
    for cls in (active, plain):
        cls()  # configures the mappers
    return active, plain


def test_an_object_is_made_in_the_same_calls_as_a_plain_one(classes: tuple[Any, Any]) -> None:
    active, plain = classes
    assert _calls(active) == _calls(plain)


@pytest.mark.parametrize("name", ["state", "stamp"])
def test_a_first_read_takes_twelve_calls_more_than_a_value_that_is_there(classes: tuple[Any, Any], name: str) -> None:
    """Allow twelve at most, once one object of the class has been read."""
    active, _ = classes
    getattr(active(), name)
    fresh, filled = active(), active(state="x", stamp="x")
    assert _calls(lambda: getattr(fresh, name)) - _calls(lambda: getattr(filled, name)) <= 12


def test_a_second_read_is_that_of_a_value_that_is_there(classes: tuple[Any, Any]) -> None:
    active, plain = classes
    read, there = active(), plain(state="draft")
    assert read.state == "draft"
    assert _calls(lambda: read.state) == _calls(lambda: there.state)
