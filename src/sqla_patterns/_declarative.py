"""Helpers for mixins that add columns and relationships to classes on any declarative base.

`mixin_attr` builds an attribute that plain and dataclass bases both accept. `on_mapped` runs a function when a class is
mapped, so that nothing happens on import, and refuses attributes of the user's class that collide with those of the
mixins. The other functions answer questions about mapped tables, such as which column is the primary key.

**When a class body uses the name of an attribute that a mixin makes.** SQLAlchemy lets the class body win over a mixin
where the body assigns a value, and lets the mixin win where the body has an annotation only. So
``position: Mapped[str]`` would silently become an integer, and ``position = mapped_column(String)`` a position that
sorts as text. Both are a `MappingError` here:

=============================  =================================================================================
in the class                   what happens to it
=============================  =================================================================================
an annotation only             kept if it says what the mixin makes, as in ``position: Mapped[int]``; else refused
a column of the same kind      takes the mixin's place, for instance ``mapped_column("up", ForeignKey(...))``; for a
                               column that users may not set (see `MaintainedColumn.settable`) only if its name is given
any other column or attribute  refused
a relationship                 refused: the package depends on how its relationships are configured
=============================  =================================================================================
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeGuard, Union, cast, get_args, get_origin

from sqlalchemy import Column, Computed, Table, event
from sqlalchemy.orm import (
    ColumnProperty,
    InstrumentedAttribute,
    Mapped,
    MappedColumn,
    Relationship,
    declared_attr,
    mapped_column,
)
from sqlalchemy.types import NullType, TypeDecorator

from ._maintained import maintained_columns
from ._typing import AnyColumn, AnyMapper, AnyType, MappedClass
from .exceptions import MappingError

if TYPE_CHECKING:
    mixin_attr = declared_attr
else:

    class mixin_attr(declared_attr):  # noqa: N801 - a decorator, as declared_attr is
        """Like `sqlalchemy.orm.declared_attr`, without the return annotation at run time.

        SQLAlchemy 2.1 refuses an annotated attribute of a plain mixin on a `MappedAsDataclass` base, as 2.0 deprecates
        it; an unannotated one is taken as a mapped attribute that is no dataclass field. Type, nullability, target and
        ``uselist`` must therefore be written out in the body.

        The body is evaluated more than once and must have no effect but for the attributes whose names begin with an
        underscore. It returns None where the options of the class leave the name to the user.
        """

        def __init__(self, fn: Callable[[type], Any], cascading: bool = False) -> None:
            fn.__annotations__.pop("return", None)

            @wraps(fn)
            def made(cls: type) -> Any:
                value = fn(cls)
                # SQLAlchemy takes what a mixin returns over an annotation in the class body, and None for no attribute
                # at all. A column without a type takes its type from that annotation.
                return mapped_column() if value is None and _annotating(cls, fn.__name__) else value

            self.make = fn
            super().__init__(made, cascading)


def listen_once(target: Any, identifier: str, fn: Callable[..., Any], **options: Any) -> None:
    """Listen unless `fn` already does.

    `event.contains` and no flag of ours: test suites remove all listeners, and the next mapped class must bring ours
    back.
    """
    if not event.contains(target, identifier, fn):
        event.listen(target, identifier, fn, **options)


def on_mapped(
    cls: MappedClass,
    *,
    table: Callable[[AnyMapper], None] | None = None,
    constructed: Callable[[AnyMapper], None] | None = None,
) -> None:
    """Call functions while `cls` is mapped: `table` as soon as it has one, `constructed` when its attributes are
    instrumented.

    Meant for the body of a `mixin_attr` whose name begins with an underscore, so that nobody overrides it. SQLAlchemy
    evaluates it while it maps a class: that works for declarative bases, for ``registry.mapped`` and for classes that
    never call ``super().__init_subclass__()``.

    Attributes of the class, and of classes that inherit from it, are compared with those of the mixins before and after
    `table`.

    Raises:
        MappingError: Later, while the class is mapped: an attribute of the user's has the name of a mixin's and is of
            another kind.
    """
    # Read now: a dataclass base takes the values out of the class before the mapper is made.
    overrides = _overrides(cls)
    setattr(cls, _OVERRIDES, overrides)

    def with_table(mapper: AnyMapper, _: type[object]) -> None:
        # Before, so that `table` meets the columns that it expects; after, since it gives types to columns that refer
        # to a key.
        try:
            _check_names(mapper)
            if table is not None and mapper.class_ is cls:
                table(mapper)
                _check_names(mapper)
        except MappingError:
            _forget_table(mapper)
            raise

    def when_constructed(mapper: AnyMapper, _: type[object]) -> None:
        mapped = mapper.all_orm_descriptors.keys()
        accept_assignments(cls, [name for name, _, _ in _mixin_attrs(cls) if name in mapped])
        if constructed is not None:
            constructed(mapper)

    # "instrument_class" is the earliest event that sees the table: the mapper has not looked at the columns' types yet,
    # and is not known to its registry, so that a class that is refused here harms no other.
    event.listen(cls, "instrument_class", with_table, propagate=True)
    event.listen(cls, "after_mapper_constructed", when_constructed)


def _forget_table(mapper: AnyMapper) -> None:
    """Take the table of a class that is refused out of its MetaData.

    ``create_all()`` would make it or fail over it, and the class could not be declared again once it is corrected.
    """
    table, above = mapper.local_table, mapper.inherits
    # One that it shares with a base, or that was made by hand and given as __table__, is not the class's.
    is_own = "__tablename__" in vars(mapper.class_) or (above is None and hasattr(mapper.class_, "__tablename__"))
    if is_own and _is_table(table) and (above is None or table is not above.local_table):
        table.metadata.remove(table)


def accept_assignments(cls: type[object], names: Iterable[str]) -> None:
    """Let users of SQLModel assign attributes that the library adds, and pass them to the constructor.

    A table class of SQLModel hands what it does not know as a relationship to pydantic, which refuses every name that
    is no field. On other bases, and should SQLModel keep its relationships elsewhere, this does nothing.
    """
    relationships: dict[str, Any] | None = vars(cls).get("__sqlmodel_relationships__")
    if relationships is not None:
        fields: Mapping[str, object] = getattr(cls, "__pydantic_fields__", {})
        for name in names:
            if name not in fields:
                relationships.setdefault(name, None)  # it looks at the keys only


# -- names that mixins make ----------------------------------------------------------------------

#: On a class with mixins: what the user's classes assign to names that the mixins make.
_OVERRIDES: Final = "__sqla_overrides__"


class _Override(NamedTuple):
    """A value that a class body assigns to the name of a mixin's attribute."""

    owner: type[object]
    value: object
    #: Whether it is a column whose name is written out; told now, since SQLAlchemy fills in the name of the attribute.
    named: bool


def _mixin_attrs(cls: type[object]) -> Iterator[tuple[str, type[object], Any]]:
    """Yield each public name that mixins make on `cls`, with the mixin that comes first and its `mixin_attr`."""
    seen: set[str] = set()
    for owner in cls.__mro__:
        for name, value in vars(owner).items():
            if isinstance(value, mixin_attr) and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, owner, value


def _users_classes(cls: type[object], owner: type[object]) -> Iterator[type[object]]:
    """Yield the classes whose bodies come before that of the mixin `owner`, without those that are mapped already."""
    for base in cls.__mro__:
        if base is owner:
            return
        if base is cls or "__mapper__" not in vars(base):
            yield base


def _annotating(cls: type[object], name: str) -> type[object] | None:
    """Return the class of the user's that has an annotation for the name of a mixin's attribute, if there is one."""
    for found, owner, _ in _mixin_attrs(cls):
        if found == name:
            return next((base for base in _users_classes(cls, owner) if name in inspect.get_annotations(base)), None)
    return None


def _overrides(cls: type[object]) -> dict[str, _Override]:
    found: dict[str, _Override] = {}
    for name, owner, _ in _mixin_attrs(cls):
        for base in _users_classes(cls, owner):
            value = vars(base).get(name)
            if value is not None and not isinstance(value, InstrumentedAttribute):
                column = _column_of(value)
                found.setdefault(name, _Override(base, value, named=column is not None and bool(column.name)))
    return found


def overridden_column(cls: type[object], name: str, default: str) -> str:
    """Return the name of the column of a mixin's attribute: the user's, where the class overrides it, or `default`."""
    for base in cls.__mro__:
        override = cast("Mapping[str, _Override]", vars(base).get(_OVERRIDES, {})).get(name)
        if override is not None:
            column = _column_of(_evaluated(override.value, cls))
            return name if column is None or not column.name else str(column.name)
    return default


def _check_names(mapper: AnyMapper) -> None:
    cls = mapper.class_
    overrides = cast("Mapping[str, _Override]", vars(cls).get(_OVERRIDES, {}))
    for name, owner, attr in _mixin_attrs(cls):
        override, annotating = overrides.get(name), _annotating(cls, name)
        if override is None and annotating is None:
            continue
        expected = attr.make(cls)
        if expected is None:
            continue  # Under the options of this class the mixin does not make the attribute.
        mixin = _public_name(cls, owner)
        if override is not None:
            _check_value(mapper, mixin, name, override, expected)
        elif annotating is not None:
            _check_annotation(mapper, mixin, name, annotating, expected)


def _check_value(mapper: AnyMapper, mixin: str, name: str, override: _Override, expected: Any) -> None:
    """Refuse a value in a class body that is no column of the kind of the mixin's."""
    wanted, cls = _column_of(expected), mapper.class_
    if wanted is None:
        raise MappingError(
            f"{override.owner.__name__}.{name} has the name of a relationship that {mixin} adds, which cannot be "
            "overridden; give yours another name"
        )
    found = _column_of(_evaluated(override.value, cls))
    if found is None:
        raise MappingError(
            f"{override.owner.__name__}.{name} is {override.value!r}, and {mixin} adds a column of that name "
            f"({wanted.type!r}); give yours another name, or override the column with a mapped_column() of the same "
            "type"
        )
    maintained = maintained_columns(cls).get(name)
    if maintained is not None and not maintained.settable and not override.named:
        raise MappingError(
            f"{override.owner.__name__}.{name} has the name of a column that {mixin} keeps and overwrites; give yours "
            "another name, or, if it is meant to be that column, write its name as well: "
            f"mapped_column({found.name or name!r}, ...)"
        )
    column = _table_column(mapper, str(found.name or name))
    if column is None:
        return  # It refers to a column of a table that somebody else has made, for instance of a base class.
    if not _same_kind(column.type, wanted.type):
        raise MappingError(
            f"{override.owner.__name__}.{name} is a column of type {column.type!r}, and {mixin} adds a column of that "
            f"name and the type {wanted.type!r}; give yours another name, or override the column with a "
            "mapped_column() of the same type"
        )
    if wanted.nullable and not column.nullable:
        raise MappingError(
            f"{override.owner.__name__}.{name} is NOT NULL, and the column that {mixin} adds must be nullable; write "
            "nullable=True"
        )


def _check_annotation(mapper: AnyMapper, mixin: str, name: str, owner: type[object], expected: Any) -> None:
    """Refuse an annotation without a value that says something else than what the mixin makes."""
    wanted = _column_of(expected)
    if wanted is None:
        annotation = str(inspect.get_annotations(owner)[name])
        targets = {base.__name__ for base in (*mapper.class_.__mro__, *_targets(expected))}
        if targets.isdisjoint(re.findall(r"\w+", annotation)):
            raise MappingError(
                f"{owner.__name__}.{name} is annotated as {annotation}, and {mixin} adds a relationship of that name; "
                "give yours another name"
            )
        return
    column = _table_column(mapper, str(wanted.name or name))
    type_ = wanted.type if column is None or not isinstance(wanted.type, NullType) else column.type
    refuse_annotation(owner, name, type_, mixin)


def refuse_annotation(owner: type[object], name: str, type_: AnyType, mixin: str) -> None:
    """Refuse an attribute that `owner` annotates, without a value, with a type other than that of the column that a
    mixin adds.

    Args:
        owner: The class whose body has, or has not, the annotation.
        name: The attribute.
        type_: The type of the column that the mixin adds; `NullType` where it is not known yet, which fits everything.
        mixin: The mixin, for the error.

    Raises:
        MappingError: The annotation says another type.
    """
    annotations = inspect.get_annotations(owner)
    if name not in annotations or isinstance(type_, NullType):
        return
    wanted = _python_type(type_)
    named = _annotated_types(owner, annotations[name])
    if wanted is None or named is None or all(_fits(each, wanted) for each in named):
        return
    raise MappingError(
        f"{owner.__name__}.{name} is annotated as {annotations[name]}, and {mixin} adds a column of that name and the "
        f"type {type_!r}; give yours another name, or write {name}: Mapped[{wanted.__name__}]"
    )


def _evaluated(value: Any, cls: type[object]) -> object:
    return value.fget(cls) if isinstance(value, declared_attr) else value


def _column_of(value: object) -> AnyColumn | None:
    column: object = cast("Any", value).column if isinstance(value, MappedColumn) else value
    return column if _is_column(column) else None


def _table_column(mapper: AnyMapper, name: str) -> AnyColumn | None:
    return mapper.local_table.c.get(name) if _is_table(mapper.local_table) else None


# What isinstance() leaves is a column of an unknown type to pyright.
def _is_column(value: object) -> TypeGuard[AnyColumn]:
    return isinstance(value, Column)


def _is_table(value: object) -> TypeGuard[Table]:
    return isinstance(value, Table)


def _targets(expected: object) -> tuple[type[object], ...]:
    argument: Any = cast("Any", expected).argument if isinstance(expected, Relationship) else None
    target: Any = argument() if callable(argument) and not isinstance(argument, type) else argument
    return target.__mro__ if isinstance(target, type) else ()


def _same_kind(found: AnyType, wanted: AnyType) -> bool:
    if isinstance(wanted, NullType) or isinstance(found, NullType):
        return True  # It takes the type of the key that it refers to.
    python_types = _python_type(found), _python_type(wanted)
    if None in python_types:
        return isinstance(found, type(wanted)) or isinstance(wanted, type(found))
    return _fits(cast("type[object]", python_types[0]), cast("type[object]", python_types[1]))


def _fits(found: type[object], wanted: type[object]) -> bool:
    # bool is an int for Python, and no number for a user.
    return issubclass(found, wanted) and (found is bool) == (wanted is bool)


def _python_type(type_: AnyType) -> type[object] | None:
    if isinstance(type_, TypeDecorator):
        return _python_type(cast("Any", type_).impl_instance)
    try:
        return type_.python_type
    except NotImplementedError:
        return None


def _annotated_types(owner: type[object], annotation: Any) -> list[type[object]] | None:
    """Return the types that an annotation such as ``Mapped[int | None]`` names, without None; None if that cannot be
    told.
    """
    if isinstance(annotation, str):
        module = vars(sys.modules.get(owner.__module__, sys))
        try:
            # The names of the module, as typing.get_type_hints() has it; a class in a function may use names that are
            # not there.
            annotation = eval(annotation, {"Mapped": Mapped, **module}, dict(vars(owner)))
        except Exception:  # noqa: BLE001 - whatever the user's annotation does, SQLAlchemy reports it better
            return None
    return list(_plain_types(annotation))


def _plain_types(annotation: Any) -> Iterator[type[object]]:
    origin: Any = get_origin(annotation)
    if origin is Annotated:
        yield from _plain_types(get_args(annotation)[0])
    elif origin is Union or isinstance(annotation, _UNION) or (isinstance(origin, type) and issubclass(origin, Mapped)):
        for argument in get_args(annotation):
            yield from _plain_types(argument)
    elif hasattr(annotation, "__supertype__"):
        yield from _plain_types(annotation.__supertype__)
    elif isinstance(annotation, type) and annotation is not type(None):
        yield annotation


_UNION: Final = type(int | None)


def _public_name(cls: type[object], owner: type[object]) -> str:
    """Return the name of the mixin that the user has written, which may be a subclass of `owner`."""
    mixins = [base for base in cls.__mro__ if issubclass(base, owner) and base.__module__ == owner.__module__]
    return next((base.__name__ for base in reversed(mixins) if not base.__name__.startswith("_")), owner.__name__)


# -- mappers and tables ---------------------------------------------------------------------------


def sole_primary_key(table: Table, cls: type[object], pattern: str) -> AnyColumn:
    """Return the only primary key column of `table`.

    Raises:
        MappingError: the key is composite or missing; `pattern` names the mixin that needs it.
    """
    columns = list(table.primary_key)
    if len(columns) != 1:
        found = ", ".join(repr(column.name) for column in columns) or "none"
        raise MappingError(
            f"{pattern} on {cls.__name__!r} needs a primary key of one column, "
            f"and table {table.fullname!r} has {found}; "
            "give the class a surrogate key and put a UniqueConstraint over the other columns"
        )
    return columns[0]


def attribute_key(mapper: AnyMapper, column: AnyColumn) -> str:
    """Return the name of the attribute that maps `column`, which need not be the column's name."""
    prop = mapper.get_property_by_column(column)
    return str(prop.key) if isinstance(prop, ColumnProperty) else column.key


def keep_onupdate(table: Table) -> dict[AnyColumn, Any]:
    """Return values that hold the ``onupdate`` columns of `table` still in a Core UPDATE of what packages maintain.

    A row that moves aside for a sibling was not edited by the user, so neither its ``updated_at`` nor MariaDB's
    ``ON UPDATE CURRENT_TIMESTAMP`` may fire.
    """
    return {
        column: column
        for column in table.c
        if (column.onupdate is not None or column.server_onupdate is not None)
        and not isinstance(column.server_onupdate, Computed)
    }
