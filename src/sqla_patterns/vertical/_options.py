"""`VerticalValueOptions`: the options of a class of values."""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import MappingError


@dataclass(frozen=True)
class VerticalValueOptions:
    """Options of a class of values, given as ``__vertical_value__ = VerticalValueOptions(...)`` in the class body.

    Attributes:
        any_value_index: Whether the table has the indexes that `VerticalCriteria.any_value` needs: one over each value
            column that has an index over key and value, and one over ``type``. Without them such a condition reads the
            whole table, and writing is faster.
    """

    any_value_index: bool = True


def options_of(cls: type[object]) -> VerticalValueOptions:
    """Return the ``__vertical_value__`` of a class, or the defaults if it has none.

    Raises:
        MappingError: It is no `VerticalValueOptions`.
    """
    given: object = getattr(cls, "__vertical_value__", None)
    options = VerticalValueOptions() if given is None else given
    if not isinstance(options, VerticalValueOptions):
        raise MappingError(f"{cls.__name__}.__vertical_value__ is {given!r}; give VerticalValueOptions(...)")
    return options
