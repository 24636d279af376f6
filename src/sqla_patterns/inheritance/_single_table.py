"""`SingleTable`: all classes of a hierarchy in one table."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Final, Union, cast, get_args, get_origin

from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.types import NullType

from .._declarative import attribute_key
from .._typing import AnyColumn, AnyMapper, MappedClass
from ..exceptions import InvalidArgumentError, MappingError
from ._classes import (
    annotation_of,
    declaring_bases,
    dunder,
    maps_column,
    own_annotations,
    table_of,
    unmapped_bases,
)
from ._polymorphic import PolymorphicIdentity

#: The parameters of a column that make its values.
_GENERATORS: Final = ("default", "server_default", "onupdate", "server_onupdate")


class SingleTable(PolymorphicIdentity):
    """A class hierarchy that is stored in one table; otherwise as `PolymorphicIdentity`.

    The columns of a subclass are columns of that table, so they must allow NULL or have a default: rows of the other
    classes have no value for them. Columns that several subclasses declare are `shared_column`.

    Raises:
        MappingError: When a class is defined: a subclass declares a table, or a column that is NOT NULL and has no
            default, or a `shared_column` unlike the class that declared it before; and what `PolymorphicIdentity`
            raises.
    """

    @classmethod
    def __sqla_prepare_subclass__(cls, parent: AnyMapper) -> dict[str, object]:
        for name in ("__tablename__", "__table__"):
            if vars(cls).get(name) is not None:
                raise MappingError(
                    f"{cls.__name__} declares {name}, and the rows of its base {parent.class_.__name__} are all in one "
                    "table; drop it, or use JoinedTable or PolymorphicIdentity"
                )
        # A base or mixin that names tables would name one for the subclass as well.
        if (
            any("__tablename__" in vars(base) for base in unmapped_bases(cls))
            and dunder(cls, "__tablename__") is not None
        ):
            type.__setattr__(cls, "__tablename__", None)
        _check_shared(cls, parent)
        return {}

    @classmethod
    def __sqla_check_subclass__(cls, mapper: AnyMapper) -> None:
        parent, table = mapper.inherits, table_of(mapper)
        if parent is None or table is None or table is not table_of(parent):
            return
        for column in table.c:
            # What is mapped here and not above was declared here.
            is_own = maps_column(mapper, column) and not maps_column(parent, column)
            if is_own and not column.nullable and not _has_default(column):
                raise MappingError(
                    f"column {column.name!r} of {cls.__name__} is NOT NULL, and table {table.fullname!r} "
                    f"also has the rows of {parent.class_.__name__}, which have no value for it; declare it with "
                    "mapped_column(nullable=True)"
                )


def shared_column(*arguments: Any, **options: Any) -> MappedColumn[Any]:
    """Declare a column that several subclasses of a `SingleTable` have in common, and their base does not have.

    Each of them declares it alike, with an annotation; the table has it once, as the first class declares it. A type,
    foreign key or default that this has not is a `MappingError` when the other class is defined. The column allows
    NULL, whatever the annotation says, since the other classes have no value for it::

        class Engineer(Person):
            start_date: Mapped[date] = shared_column()


        class Manager(Person):
            start_date: Mapped[date] = shared_column()

    Args:
        arguments: As of ``mapped_column()``.
        options: As of ``mapped_column()``.

    Raises:
        InvalidArgumentError: It was given ``nullable=False`` and no default, ``primary_key`` or
            ``use_existing_column``.
    """
    defaults = {"default", "insert_default", "server_default"} & options.keys()
    if options.get("nullable") is False and not defaults:
        raise InvalidArgumentError(
            "shared_column() was given nullable=False, and rows of the other classes have no value for the column; "
            "leave it out"
        )
    refused = sorted({"primary_key", "use_existing_column"} & options.keys())
    if refused:
        raise InvalidArgumentError(
            f"shared_column() was given {refused[0]!r}, which has no meaning for it; leave it out"
        )
    options.setdefault("nullable", True)
    return mapped_column(*arguments, use_existing_column=True, **options)


def _check_shared(cls: MappedClass, parent: AnyMapper) -> None:
    """Raise if `cls` declares a column that the table has from another subclass, and says more about it.

    Declarative takes the column that exists, and drops without a word what the other declaration says.
    """
    table = table_of(parent)
    for base in declaring_bases(cls):
        for key, value in list(vars(base).items()):
            if table is None or not isinstance(value, MappedColumn):
                continue
            declared: AnyColumn = cast("Any", value).column
            found = table.c.get(declared.name or key)
            if found is None or maps_column(parent, found):
                continue
            lost = _lost(declared, found) or _lost_annotation(base, key, declared, parent, found)
            if lost is not None:
                raise MappingError(
                    f"{cls.__name__}.{key} is declared with {lost}, and table {table.fullname!r} has column "
                    f"{found.name!r} from another subclass without it; declare a shared_column() alike in all classes, "
                    "or give this one another column name"
                )


def _lost(declared: AnyColumn, found: AnyColumn) -> str | None:
    """Return what is said of a column and not of the one that is used in its place."""
    if not isinstance(declared.type, NullType) and repr(declared.type) != repr(found.type):
        return f"the type {declared.type!r}"
    known = {each.target_fullname for each in found.foreign_keys}
    targets = sorted({each.target_fullname for each in declared.foreign_keys} - known)
    if targets:
        return f"a foreign key to {targets[0]!r}"
    missing = [name for name in _GENERATORS if getattr(declared, name) is not None and getattr(found, name) is None]
    if missing:
        return f"{missing[0]}="
    default: Any = declared.default
    if default is not None and default.is_scalar and default.arg != getattr(found.default, "arg", None):
        return f"default={default.arg!r}"
    return None


def _lost_annotation(
    base: MappedClass, key: str, declared: AnyColumn, parent: AnyMapper, found: AnyColumn
) -> str | None:
    # With a type or a foreign key the type of the column does not come from the annotation.
    if not isinstance(declared.type, NullType) or declared.foreign_keys:
        return None
    wanted = _annotated_type(base, key)
    for mapper in parent.base_mapper.self_and_descendants:
        if table_of(mapper) is found.table and maps_column(mapper, found):
            other = attribute_key(mapper, found)
            for each in declaring_bases(mapper.class_):
                given = _annotated_type(each, other)
                if None not in (wanted, given):
                    return None if wanted == given else f"the annotation {wanted!r}, where the other has {given!r},"
    return None


def _annotated_type(cls: MappedClass, key: str) -> object:
    """Return the type within ``Mapped[...]``, without None; None if it is not known."""
    if key not in own_annotations(cls):
        return None
    arguments = get_args(annotation_of(cls, key))
    inner = arguments[0] if arguments else None
    if get_origin(inner) in (Union, UnionType):
        rest = [each for each in get_args(inner) if each is not NoneType]
        return rest[0] if len(rest) == 1 else None
    return inner


def _has_default(column: AnyColumn) -> bool:
    return column.default is not None or column.server_default is not None
