"""`VerticalSchema`: which keys there are, and of which types their values are."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, Union, cast, get_args, get_origin

from ..exceptions import InvalidArgumentError
from ._inspection import is_a

ValueType: TypeAlias = "type[object] | types.UnionType"

#: Stands for values of any type that has a column.
ANY_TYPE: Final = frozenset[type[object]]()


@dataclass(frozen=True, init=False)
class VerticalSchema:
    """The keys of a `VerticalAttributes`, and the types of their values.

    A key that is in neither argument cannot be written or asked for in SQL. What the table has already, say from before
    a key was taken out of the schema, can still be read and deleted.

    Args:
        types: The type of the values of each key: a class, or a union as in ``int | None``. None is a value only where
            the union has it.
        required: Keys that each object must have when it is flushed. They may be left out of `types`; their values are
            then of any type for which there is a column, or None.

    Raises:
        InvalidArgumentError: A type is neither a class nor a union of classes, or a key is no text.
    """

    types: Mapping[str, frozenset[type[object]]]
    required: frozenset[str]

    def __init__(self, types: Mapping[str, ValueType] | None = None, *, required: Iterable[str] = ()) -> None:
        if isinstance(required, str):
            raise InvalidArgumentError(
                f"VerticalSchema(required={required!r}) was given one text; give the keys in a tuple"
            )
        if types is not None and not is_a(types, Mapping):
            raise InvalidArgumentError(f"VerticalSchema() was given {types!r} as its types; give a dictionary")
        if not is_a(required, Iterable):
            raise InvalidArgumentError(
                f"VerticalSchema() was given {required!r} as the keys that are required; give them in a tuple"
            )
        needed = frozenset(required)
        for key in (*needed, *(types or ())):
            if not is_a(key, str):
                raise InvalidArgumentError(f"VerticalSchema() has {key!r} among its keys, which are texts; give a str")
        found = {key: _classes(key, each) for key, each in (types or {}).items()}
        # A frozen dataclass is set this way in its own __init__.
        object.__setattr__(self, "types", {**dict.fromkeys(sorted(needed), ANY_TYPE), **found})
        object.__setattr__(self, "required", needed)


def _classes(key: str, annotation: object) -> frozenset[type[object]]:
    parts: tuple[object, ...] = (annotation,)
    # ``Optional[int]`` and, on Python 3.14, ``int | None`` have the origin Union.
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Union:
        parts = get_args(annotation)
    found: list[type[object]] = []
    for part in parts:
        cls = _plain_class(part)
        if cls is None:
            raise InvalidArgumentError(
                f"The schema says that {key!r} is {annotation!r}; give a class, or a union of classes as in int | None"
            )
        found.append(cls)
    return frozenset(found)


def _plain_class(part: object) -> type[object] | None:
    """Return the class that a part of an annotation means, None if it means none: ``dict[str, int]`` means dict."""
    if part is None:
        return types.NoneType
    origin = get_origin(part)
    meant: object = part if origin is None else origin
    # Any is a class since Python 3.11.
    return cast("type[object]", meant) if isinstance(meant, type) and meant is not Any else None
