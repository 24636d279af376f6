"""The options of a versioned map."""

from __future__ import annotations

from dataclasses import dataclass

from .._typing import AnyType


@dataclass(frozen=True, kw_only=True)
class VersionedMapOptions:
    """Options of a versioned map, given as ``__versioned_map__ = VersionedMapOptions(...)`` in the class body.

    Attributes:
        stream: The names of the attributes whose values tell streams apart. Without it these are all attributes of the
            user's; an empty tuple means that the table has one stream. Attributes that are left out describe a version:
            who made it, when, or why. A new version takes them over, except where the default of a column is computed,
            such as the present time: that gives it a new value.
        value_type: The SQL type of the values. Without it they are stored as JSON.
        key_length: The length of the column of the keys.
        value_table: The name of the table with the values.
        entry_table: The name of the table that tells which values a version has.
    """

    stream: tuple[str, ...] | None = None
    value_type: AnyType | None = None
    key_length: int = 255
    value_table: str = "{table}_value"
    entry_table: str = "{table}_entry"
