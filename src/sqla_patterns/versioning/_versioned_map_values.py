"""What can be a key and a value of a versioned map, and when two values are the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin, is_typeddict

from ..exceptions import InvalidArgumentError

#: What JSON can say, so that it comes back as what it was.
JSON_TYPES: Final = frozenset({NoneType, bool, int, float, str, list, dict})
# These cannot be changed in place, so that they need no copy.
_IMMUTABLE: Final = (NoneType, bool, int, float, complex, str, bytes, Decimal)


class MapValueError(InvalidArgumentError, TypeError):
    """A versioned map cannot store a value: it is of another type than the class says, or would come back changed."""


def types_in(annotation: object) -> frozenset[type[object]] | None:
    """Return the classes that a type argument such as ``int | list[str]`` names; None if it does not tell."""
    annotation = getattr(annotation, "__value__", annotation)  # type X = ... of Python 3.12
    annotation = NoneType if annotation is None else annotation
    if annotation is Any:
        return None
    origin: object = get_origin(annotation)
    arguments = cast("tuple[object, ...]", get_args(annotation))
    if origin is Annotated:
        return types_in(arguments[0])
    if origin is Literal:
        return frozenset(type(each) for each in arguments)
    if origin is Union or origin is UnionType:
        found = [types_in(each) for each in arguments]
        known = [each for each in found if each is not None]
        return frozenset(one for each in known for one in each) if len(known) == len(found) else None
    if is_typeddict(annotation) or is_typeddict(origin):
        return frozenset({dict})
    if isinstance(origin, type) or isinstance(annotation, type):
        named = cast("type[object]", origin if isinstance(origin, type) else annotation)
        # An abstract class, such as Mapping, says too little about what is stored.
        return None if named is object or getattr(named, "__abstractmethods__", None) else frozenset({named})
    return None


def is_json(types: Iterable[type[object]]) -> bool:
    """Return whether JSON can store values of these types."""
    return JSON_TYPES.issuperset(types)


def checked_key(label: str, key: object, length: int) -> str:
    """Return a key as a plain text.

    Raises:
        InvalidArgumentError: It cannot be a key.
    """
    if not isinstance(key, str):
        raise InvalidArgumentError(f"{label} has keys of type str, and was given {key!r}; give a str")
    # A member of a StrEnum is a text that drivers write by its name.
    plain = key if type(key) is str else str.__str__(key)
    fault = _key_fault(plain, length)
    if fault is not None:
        raise InvalidArgumentError(f"{label} cannot have the key {plain[:50]!r}, which {fault}; choose another")
    return plain


def _key_fault(key: str, length: int) -> str | None:
    if len(key) > length:
        return f"has {len(key)} characters, and the column holds {length}"
    if key.endswith(" "):
        return "ends with a space, which MariaDB ignores when it compares"
    return _text_fault(key)


def _text_fault(value: str) -> str | None:
    if "\0" in value:
        return "has a NUL character, which PostgreSQL cannot store"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half a surrogate pair, which UTF-8 cannot encode"
    return None


def check_value(label: str, value: object, types: frozenset[type[object]] | None, *, as_json: bool) -> None:
    """Raise if a value cannot be stored.

    Args:
        label: The object and the key, for the message.
        value: The value.
        types: The classes that the map is declared with; None if they are not known.
        as_json: Whether the values are stored as JSON.

    Raises:
        MapValueError: It cannot.
    """
    if hasattr(value, "__clause_element__") or hasattr(value, "__visit_name__"):
        raise MapValueError(f"{label} takes a value, and was given a SQL expression; execute it first")
    if types is not None and not _is_one_of(value, types):
        wanted = " | ".join(sorted("None" if each is NoneType else each.__name__ for each in types))
        raise MapValueError(
            f"{label} cannot be of type {type(value).__name__}: the class is declared as a "
            f"VersionedMap[{wanted}]; convert the value, or add its type there"
        )
    fault = _document_fault(value) if as_json else None
    if fault is not None:
        raise MapValueError(f"{label} cannot be {value!r:.100}, which {fault}; change the value")


def _is_one_of(value: object, types: frozenset[type[object]]) -> bool:
    # As type checkers have it, an int will do where a float is meant, and a bool where an int is. Members of an IntEnum
    # or StrEnum are refused, since they come back as plain numbers and texts.
    if type(value) is bool and not types.isdisjoint({int, float}):
        return True
    if type(value) is int and float in types:
        return True
    return type(value) in types or isinstance(value, tuple(types - JSON_TYPES))


def _document_fault(value: object) -> str | None:
    # What else JSON cannot say, the serializer of the engine may know.
    if isinstance(value, dict):
        document = cast("dict[object, object]", value)
        for key in document:
            if not isinstance(key, str):
                return f"has the key {key!r:.50}, of which JSON makes a text"
        return _first_fault([*document, *document.values()])
    if isinstance(value, tuple):
        return "has a tuple, of which JSON makes a list"
    if isinstance(value, list):
        return _first_fault(cast("list[object]", value))
    if isinstance(value, float) and not math.isfinite(value):
        return "has a number that is not finite, which not every database can store"
    return _text_fault(value) if isinstance(value, str) else None


def _first_fault(values: Iterable[object]) -> str | None:
    return next((fault for fault in map(_document_fault, values) if fault is not None), None)


def is_same(first: object, second: object) -> bool:
    """Return whether two values are stored alike: other than for ``==``, ``1``, ``1.0`` and ``True`` are three."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        ours, theirs = cast("dict[object, object]", first), cast("dict[object, object]", second)
        return ours.keys() == theirs.keys() and all(is_same(value, theirs[key]) for key, value in ours.items())
    if isinstance(first, list):
        items, others = cast("list[object]", first), cast("list[object]", second)
        return len(items) == len(others) and all(map(is_same, items, others))
    if isinstance(first, float):
        number = cast("float", second)
        return first == number and math.copysign(1, first) == math.copysign(1, number)
    return bool(first == second)


def detached_copy(value: Any) -> Any:
    """Return a copy of what can be changed in place: versions share values, and no change in place would be seen."""
    return value if isinstance(value, _IMMUTABLE) else deepcopy(value)


def checked_mapping(label: str, values: object, more: Mapping[str, object]) -> dict[object, object]:
    """Return a dictionary with what was given to ``update()``.

    Raises:
        InvalidArgumentError: It is neither a mapping nor pairs.
    """
    try:
        if hasattr(values, "keys"):
            given: Any = values
            found: dict[object, object] = dict(given)
        else:
            found = dict(cast("Iterable[tuple[object, object]]", values))
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{label} takes a mapping or pairs of key and value, and was given {values!r:.100}; give a dictionary"
        ) from error
    found.update(more)
    return found
