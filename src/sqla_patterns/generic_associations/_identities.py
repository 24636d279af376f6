"""Identities, the values of a discriminator column that name classes: convert one to the type of the column."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.types import Enum, TypeDecorator

from .._typing import AnyType


def identity_in(type_: AnyType, given: object) -> object | None:
    """Return the value of the type that stands for a given identity, as it will be read back; None if there is none.

    For an Enum class it is the member, which may be given by its name or value.
    """
    if isinstance(type_, Enum):
        return _in_enum(type_, given)
    if not isinstance(type_, TypeDecorator):
        try:
            python_type = type_.python_type
        except NotImplementedError:
            return given
        return given if isinstance(given, python_type) else None
    # The user's own type is asked what it makes of a value on its way to the database and back.
    dialect = DefaultDialect()
    to_database, from_database = type_.bind_processor(dialect), type_.result_processor(dialect, None)
    try:
        stored: Any = given if to_database is None else to_database(given)
        read: object = stored if from_database is None else from_database(stored)
    except Exception:  # noqa: BLE001  # whatever the user's functions raise: the value is not theirs
        return None
    return given if type(read) is type(given) and read == given else None


def _in_enum(type_: Enum, given: object) -> object | None:
    enum_class: Any = type_.enum_class
    if enum_class is None:
        return given if given in type_.enums else None
    members: dict[str, object] = dict(enum_class.__members__)
    if any(given is member for member in members.values()):
        return given
    if isinstance(given, str) and given in members:
        return members[given]
    return next((member for member in members.values() if getattr(member, "value", None) == given), None)
