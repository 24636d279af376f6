"""Take apart the objects of drivers that contain values, such as ranges, and make ranges again from stored values.

Cache keys need the content of such objects, entries need it and the way back. Their classes are recognised by name, so
that no driver is imported of which there is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Protocol, cast


class _Wrapper(Protocol):
    """A wrapper of psycopg around a parameter."""

    obj: object


class _Range(Protocol):
    """A range of psycopg, asyncpg or SQLAlchemy; each has some of these attributes."""

    lower: object
    upper: object
    bounds: str
    lower_inc: bool
    upper_inc: bool
    isempty: bool
    empty: bool


def _wrapped(value: _Wrapper) -> tuple[object, ...]:
    return (value.obj,)


def _range_with_bounds(value: _Range) -> tuple[object, ...]:
    empty = value.isempty
    return (value.lower, value.upper, None if empty else value.bounds, empty)


def _range_with_flags(value: _Range) -> tuple[object, ...]:
    return (value.lower, value.upper, value.lower_inc, value.upper_inc, value.isempty)


def _range_of_sqlalchemy(value: _Range) -> tuple[object, ...]:
    return (value.lower, value.upper, value.bounds, value.empty)


def _members(value: Iterable[object]) -> list[object]:
    return list(value)


#: Wrappers of parameters by the name of their class: a function that returns what they contain.
_CONTENTS: Mapping[str, Callable[..., list[object] | tuple[object, ...]]] = {
    "psycopg.dbapi20.Binary": _wrapped,
    "psycopg.types.json.Json": _wrapped,
    "psycopg.types.json.Jsonb": _wrapped,
    "psycopg.types.range.Range": _range_with_bounds,
    "psycopg.types.multirange.Multirange": _members,
    "asyncpg.types.Range": _range_with_flags,
    "sqlalchemy.dialects.postgresql.ranges.Range": _range_of_sqlalchemy,
    "sqlalchemy.dialects.postgresql.ranges.MultiRange": _members,
}


def wrapped_content(value: object) -> list[object] | tuple[object, ...] | None:
    """Return what a wrapper of a driver contains, as plain values and other wrappers; None if `value` is no wrapper.

    A subclass counts as its base: psycopg has one for the ranges of each type.
    """
    for base in type(value).__mro__:
        content = _CONTENTS.get(_name(base))
        if content is not None:
            return content(value)
    return None


def _psycopg_range(lower: object, upper: object, bounds: object, empty: object) -> object:
    make = _class("psycopg.types.range.Range")
    return make(empty=True) if empty else make(lower, upper, bounds)


def _psycopg_multirange(*members: object) -> object:
    return _class("psycopg.types.multirange.Multirange")(members)


def _asyncpg_range(lower: object, upper: object, lower_inc: object, upper_inc: object, empty: object) -> object:
    make = _class("asyncpg.types.Range")
    return make(empty=True) if empty else make(lower, upper, lower_inc=lower_inc, upper_inc=upper_inc)


#: What drivers return, by the name of its class: the mark in an entry, and a function that makes it from its content.
_REBUILD: Mapping[str, tuple[str, Callable[..., object]]] = {
    "psycopg.types.range.Range": ("pr", _psycopg_range),
    "psycopg.types.multirange.Multirange": ("pm", _psycopg_multirange),
    "asyncpg.types.Range": ("ar", _asyncpg_range),
}
_BY_MARK: Mapping[str, Callable[..., object]] = dict(_REBUILD.values())


def rebuildable_content(value: object) -> tuple[str, list[object]] | None:
    """Return the mark and the content of an object for `rebuild_range()`; None if it cannot be made again."""
    name = _name(type(value))
    known = _REBUILD.get(name)
    return None if known is None else (known[0], list(_CONTENTS[name](value)))


def rebuild_range(mark: str, content: Iterable[object]) -> object:
    """Return the object with that mark and content.

    Raises:
        LookupError: There is no such mark.
        ImportError: Its driver is not installed here.
    """
    return _BY_MARK[mark](*content)


def _name(type_: type) -> str:
    return f"{type_.__module__}.{type_.__qualname__}"


def _class(name: str) -> Callable[..., object]:
    module, _, cls = name.rpartition(".")
    return cast("Callable[..., object]", getattr(import_module(module), cls))
