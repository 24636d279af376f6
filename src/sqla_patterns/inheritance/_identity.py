"""The discriminator column of a hierarchy, and the identity of each of its classes."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, String
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import MappedColumn, declared_attr, mapped_column

from .._typing import AnyMapper, AnyType, MappedClass
from ..exceptions import MappingError
from ._classes import declares, dunder, snake_case

#: No identity was given.
UNSET: Final = object()
_DISCRIMINATOR: Final = "type"
_LENGTH: Final = 50


def discriminator_arguments(cls: MappedClass, arguments: dict[str, object]) -> dict[str, object]:
    """Return the mapper arguments for the discriminator of a root; declare the column unless the user has.

    Raises:
        MappingError: The name of the column is taken by something else.
    """
    if arguments.get("polymorphic_on") is not None:
        return {}
    table: Any = dunder(cls, "__table__")
    if table is not None and not declares(cls, _DISCRIMINATOR):
        if _DISCRIMINATOR not in table.c:
            raise MappingError(
                f"{cls.__name__} needs a column that tells the classes apart, and its __table__ has no "
                f"{_DISCRIMINATOR!r}; "
                'add one, or name another column in __mapper_args__ = {"polymorphic_on": ...}'
            )
    elif not declares(cls, _DISCRIMINATOR):
        type.__setattr__(cls, _DISCRIMINATOR, mapped_column(String(_LENGTH), nullable=False))
    value = vars(cls).get(_DISCRIMINATOR)
    if value is not None and not isinstance(value, (Column, MappedColumn, declared_attr)):
        raise MappingError(
            f"{cls.__name__}.{_DISCRIMINATOR} is {value!r} and not the column that tells the classes apart; rename it, "
            'or name the column in __mapper_args__ = {"polymorphic_on": ...}'
        )
    return {"polymorphic_on": _DISCRIMINATOR}


def identity_arguments(
    cls: MappedClass, arguments: dict[str, object], given: object, parent: AnyMapper | None, *, discriminated: bool
) -> dict[str, object]:
    """Return the mapper arguments for the identity of a class.

    Args:
        cls: The class, not mapped yet.
        arguments: What it says in ``__mapper_args__``.
        given: The class argument ``identity``, `UNSET` where there was none.
        parent: The mapper of the class above, if there is one.
        discriminated: Whether the identity is stored in a column.

    Raises:
        MappingError: There is none, there are two, it is that of another class, or it does not fit the column.
    """
    declared = arguments.get("polymorphic_identity", UNSET)
    if arguments.get("polymorphic_abstract"):
        if given is not UNSET:
            raise MappingError(
                f"{cls.__name__} was given identity={given!r} and is polymorphic_abstract, so that no row is of it; "
                "drop one of them"
            )
        return {}
    if given is not UNSET and declared is not UNSET and given != declared:
        raise MappingError(
            f"{cls.__name__} was given identity={given!r}, and its __mapper_args__ say {declared!r}; drop one of them"
        )
    identity = next((each for each in (given, declared) if each is not UNSET), snake_case(cls.__name__))
    if identity is None:
        raise MappingError(
            f"{cls.__name__} was given the identity None, which no row can have; leave it out for the name of the "
            "class, or set polymorphic_abstract in __mapper_args__"
        )
    if parent is not None:
        _check_duplicate(cls, identity, parent)
        if discriminated and parent.polymorphic_on is not None:
            check_fits(cls, identity, parent.polymorphic_on.type)
    return {"polymorphic_identity": identity}


def check_fits(cls: MappedClass, identity: object, column_type: AnyType) -> None:
    """Raise if the discriminator column cannot store an identity.

    Raises:
        MappingError: It cannot.
    """
    fault = _misfit(identity, column_type)
    if fault is not None:
        raise MappingError(
            f"{cls.__name__} has the identity {identity!r}, which {fault} to fit its column; give it another: "
            f"class {cls.__name__}(..., identity=...), or declare the column yourself"
        )


def _misfit(identity: object, column_type: AnyType) -> str | None:
    if isinstance(column_type, EnumType):
        members: list[object] = list(column_type.enum_class or column_type.enums)
        return None if identity in members else f"must be one of {', '.join(map(repr, members))}"
    if isinstance(column_type, String):
        if not isinstance(identity, str):
            return "must be a string"
        length = column_type.length
        return None if length is None or len(identity) <= length else f"must not be longer than {length}"
    try:
        python_type = column_type.python_type
    except NotImplementedError:
        return None
    return None if isinstance(identity, python_type) else f"must be of type {python_type.__name__}"


def _check_duplicate(cls: MappedClass, identity: object, parent: AnyMapper) -> None:
    for mapper in _root_of(parent).self_and_descendants:
        if not mapper.polymorphic_abstract and mapper.polymorphic_identity == identity:
            raise MappingError(
                f"{cls.__name__} has the identity {identity!r}, which is that of {mapper.class_.__name__}; "
                f'give it another: class {cls.__name__}(..., identity="...")'
            )


def _root_of(mapper: AnyMapper) -> AnyMapper:
    while mapper.inherits is not None:
        mapper = mapper.inherits
    return mapper
