"""Map a versioned map: a UNIQUE over stream and version, a table for values, and one for who has which value."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import FunctionType
from typing import Final, cast, get_args, get_origin

from sqlalchemy import (
    JSON,
    Column,
    Computed,
    DefaultClause,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    Table,
    TextClause,
    UniqueConstraint,
    and_,
    event,
)
from sqlalchemy.orm import Session, attribute_keyed_dict, relationship

from .._declarative import listen_once, sole_primary_key
from .._sql import is_table
from .._sqlalchemy import add_relationships
from .._typing import AnyColumn, AnyMapper, AnyRelationship, AnyType, MappedClass
from ..exceptions import MappingError
from ._mixin import Versioned
from ._versioned_map_config import CONFIG_ATTRIBUTE, ORIGIN, ROWS, VERSION, MapConfig, map_config
from ._versioned_map_conflicts import translate_conflicts
from ._versioned_map_deletes import refuse_late_delete, refuse_statement
from ._versioned_map_flush import (
    after_flush_postexec,
    after_transaction_create,
    before_flush,
    check_relationships,
    refuse_late_change,
    refuse_late_value,
)
from ._versioned_map_options import VersionedMapOptions
from ._versioned_map_session import after_commit, after_soft_rollback
from ._versioned_map_types import JSONValue
from ._versioned_map_values import is_json, types_in

# A number, a text, true, false or null, as somebody writes it into server_default=text(...).
_CONSTANT: Final = re.compile(r"\s*(?:'[^']*'|[-+]?[\d.]+|true|false|null)\s*", re.IGNORECASE)
_VALUE_CLASS: Final = "ValueRow"
_SESSION_LISTENERS: Final[dict[str, Callable[..., None]]] = {
    "after_transaction_create": after_transaction_create,
    "before_flush": before_flush,
    "after_flush_postexec": after_flush_postexec,
    "after_soft_rollback": after_soft_rollback,
    "after_commit": after_commit,
    "do_orm_execute": refuse_statement,
}


def check_hierarchy(mapper: AnyMapper) -> None:
    """Refuse a class that inherits from a mapped one, of which nothing can be told apart by its own columns.

    Raises:
        MappingError: It does so other than by single-table inheritance without columns of its own.
    """
    above = mapper.inherits
    if above is None:
        return
    cls = mapper.class_
    if map_config(above.class_) is None:
        raise MappingError(
            f"{cls.__name__} is a VersionedMap and {above.class_.__name__}, whose table it uses, is none; "
            f"mix VersionedMap into {above.class_.__name__}"
        )
    # SQLAlchemy has added the columns of the subclass to the table by now, and the class above does not know them.
    known = set(above.columns.values())
    if mapper.local_table is not above.local_table or not known.issuperset(above.local_table.c):
        raise MappingError(
            f"{cls.__name__} adds columns to the versioned map {above.class_.__name__}, whose streams are told by the "
            f"columns of that class; map {cls.__name__} by itself, with VersionedMap, and share what both need in a "
            "plain mixin"
        )


def map_versions(mapper: AnyMapper, mixin: type[object]) -> None:
    """Give the table of a class its UNIQUE, and map the rows of its values.

    Args:
        mapper: The mapper, which has its attributes.
        mixin: `VersionedMap`, whose type argument tells the types of values.

    Raises:
        MappingError: The class cannot be a versioned map.
    """
    cls, table = mapper.class_, mapper.local_table
    if not is_table(table):
        raise MappingError(f"{cls.__name__} is a VersionedMap and is mapped to {table!r}; map it to a table")
    _check_class(cls, mixin)
    options = _options_of(cls)
    pk = sole_primary_key(table, cls, "VersionedMap")
    attributes = _column_attributes(mapper, table)
    pk_attribute = next(name for name, column in attributes.items() if column is pk)
    _check_key(cls, table, pk)
    users = [name for name in attributes if name not in (pk_attribute, VERSION)]
    stream = _stream_of(cls, options, users)
    for name in stream:
        if attributes[name].nullable:
            raise MappingError(
                f"{cls.__name__}.{name} tells streams apart and may be NULL, which no UNIQUE guards; make it NOT NULL, "
                "or leave it out of the stream with __versioned_map__ = VersionedMapOptions(stream=(...))"
            )
    table.append_constraint(UniqueConstraint(*(attributes[name] for name in (*stream, VERSION))))
    types = _value_types(cls, mixin)
    details = tuple(name for name in users if name not in stream)
    values, entries = _make_tables(table, pk, options, _value_type(cls, types, options))
    config = MapConfig(
        mapper=mapper,
        table=table,
        pk=pk,
        pk_attribute=pk_attribute,
        stream=stream,
        details=details,
        generated=tuple(name for name in users if _is_generated(attributes[name], is_detail=name in details)),
        value_class=_map_values(mapper, values, pk),
        value_table=values,
        entry_table=entries,
        types=types,
        as_json=isinstance(values.c.value.type, JSON | JSONValue),
        key_length=options.key_length,
    )
    type.__setattr__(cls, CONFIG_ATTRIBUTE, config)
    add_relationships(mapper, {ROWS: _relationship_to_values(config, values)})
    event.listen(mapper, "mapper_configured", _check_relationships)
    _listen(config)


def _check_relationships(mapper: AnyMapper, _: type[object]) -> None:
    check_relationships(mapper)


def _listen(config: MapConfig) -> None:
    event.listen(config.mapper, "before_insert", translate_conflicts, propagate=True)
    event.listen(config.mapper, "before_update", refuse_late_change, propagate=True)
    event.listen(config.mapper, "before_delete", refuse_late_delete, propagate=True)
    event.listen(config.value_class, "before_update", refuse_late_value)
    for name, listener in _SESSION_LISTENERS.items():
        listen_once(Session, name, listener)


# -- what the class says -----------------------------------------------------------------------------------------------


def _check_class(cls: MappedClass, mixin: type[object]) -> None:
    if issubclass(cls, Versioned):
        raise MappingError(
            f"{cls.__name__} is both Versioned and a VersionedMap, and every change of a map is a new row already; "
            "drop Versioned"
        )
    methods = [name for name, each in vars(mixin).items() if isinstance(each, FunctionType | classmethod)]
    for name in (*(name for name in methods if not name.startswith("_")), ROWS):
        owner = next((base for base in cls.__mro__ if name in vars(base)), mixin)
        # A method of the user's in place of one of ours is meant.
        if owner is not mixin and not isinstance(vars(owner)[name], FunctionType | classmethod):
            raise MappingError(
                f"{owner.__name__}.{name} has a name that VersionedMap needs, as mappings have it; give the attribute "
                f"another one, for instance {name}_"
            )


def _options_of(cls: MappedClass) -> VersionedMapOptions:
    given: object = getattr(cls, "__versioned_map__", None)
    options = VersionedMapOptions() if given is None else given
    if not isinstance(options, VersionedMapOptions):
        raise MappingError(f"{cls.__name__}.__versioned_map__ is {options!r}; give VersionedMapOptions(...)")
    return options


def _column_attributes(mapper: AnyMapper, table: Table) -> dict[str, AnyColumn]:
    """Return the attributes that map a column of the table, in the order of the table."""
    mapped = set(mapper.columns.values())
    # Not by `mapper.attrs`, which would configure all mappers, although later classes are not mapped yet.
    return {str(mapper.get_property_by_column(column).key): column for column in table.c if column in mapped}


def _check_key(cls: MappedClass, table: Table, pk: AnyColumn) -> None:
    if pk.default is None and pk.server_default is None and table.autoincrement_column is not pk:
        raise MappingError(
            f"{cls.__name__}.{pk.key} is the primary key of a version and gets no value by itself, and the library "
            "makes new versions; give the column a default, or make it an integer"
        )


def _stream_of(cls: MappedClass, options: VersionedMapOptions, users: list[str]) -> tuple[str, ...]:
    if options.stream is None:
        return tuple(users)
    for name in options.stream:
        if name not in users:
            raise MappingError(
                f"{cls.__name__}.__versioned_map__ names {name!r} in stream, and the class has the columns "
                f"{', '.join(map(repr, users)) or 'none'}; correct it"
            )
    return tuple(name for name in users if name in options.stream)


def _is_generated(column: AnyColumn, *, is_detail: bool) -> bool:
    """Return whether a column gets a value of its own in each version, such as the present time.

    A default that is a constant stands for what nobody has said, and a new version keeps what somebody has.
    """
    if isinstance(column.server_default, Computed):
        return True
    if not is_detail:
        return False
    if column.default is not None:
        return not column.default.is_scalar
    given = column.server_default
    if not isinstance(given, DefaultClause):
        return given is not None
    if isinstance(given.arg, TextClause):
        return _CONSTANT.fullmatch(given.arg.text) is None
    return not isinstance(given.arg, str)


# -- values ------------------------------------------------------------------------------------------------------------


def _value_types(cls: MappedClass, mixin: type[object]) -> frozenset[type[object]] | None:
    """Return the classes in ``VersionedMap[...]``; None where that cannot be told."""
    for base in cls.__mro__:
        for generic in cast("tuple[object, ...]", vars(base).get("__orig_bases__", ())):
            if get_origin(generic) is mixin:
                return types_in(get_args(generic)[0])
    return None


def _value_type(cls: MappedClass, types: frozenset[type[object]] | None, options: VersionedMapOptions) -> AnyType:
    if options.value_type is not None:
        return options.value_type
    if types is not None and not is_json(types):
        names = ", ".join(sorted(each.__name__ for each in types if not is_json({each})))
        raise MappingError(
            f"{cls.__name__} has values of the type {names}, which JSON cannot store; "
            "give __versioned_map__ = VersionedMapOptions(value_type=...), for instance a TypeDecorator"
        )
    # A value that is None is NULL, which every database and every reader of the table understands.
    return JSONValue()


def _make_tables(table: Table, pk: AnyColumn, options: VersionedMapOptions, value_type: AnyType) -> tuple[Table, Table]:
    """Make the tables of values and entries.

    A value belongs to the version that had it first, and its key is (origin, key): no key has to be fetched after an
    INSERT. An entry says that a version has a value. All of them go with their versions: whoever deletes the tenant of
    a stream by ON DELETE CASCADE deletes them too.
    """
    metadata, schema = table.metadata, table.schema
    names = (options.value_table.format(table=table.name), options.entry_table.format(table=table.name))
    for name in names:
        if f"{schema}.{name}" in metadata.tables or (schema is None and name in metadata.tables):
            raise MappingError(
                f"the versioned map with the table {table.fullname!r} needs a table {name!r}, and there is one of that "
                "name; choose another with VersionedMapOptions(value_table=..., entry_table=...)"
            )
    # A dictionary tells "A" from "a", which the default collation of MariaDB and MySQL does not.
    key_type = String(options.key_length).with_variant(
        String(options.key_length, collation="utf8mb4_bin"), "mysql", "mariadb"
    )
    values = Table(
        names[0],
        metadata,
        Column("origin_id", pk.type, ForeignKey(pk, ondelete="CASCADE"), primary_key=True, autoincrement=False),
        Column("key", key_type, primary_key=True),
        Column("value", value_type, nullable=True),
        schema=schema,
    )
    entries = Table(
        names[1],
        metadata,
        Column("owner_id", pk.type, ForeignKey(pk, ondelete="CASCADE"), primary_key=True, autoincrement=False),
        Column("key", key_type, primary_key=True),
        Column("origin_id", pk.type, nullable=False),
        ForeignKeyConstraint(["origin_id", "key"], [values.c.origin_id, values.c.key], ondelete="CASCADE"),
        schema=schema,
    )
    # Without it the database would read all entries for each value that is deleted.
    Index(None, entries.c.origin_id, entries.c.key)
    return values, entries


def _map_values(mapper: AnyMapper, values: Table, pk: AnyColumn) -> MappedClass:
    """Map a class to the table of values.

    It is mapped imperatively, since the bases of the user's class may be dataclasses or demand arguments.
    """
    owner = mapper.class_
    namespace = {
        "__module__": owner.__module__,
        # Found by pickle as an attribute of the class.
        "__qualname__": f"{owner.__qualname__}.{_VALUE_CLASS}",
        "__doc__": f"A value of a {owner.__name__}, which all versions that have it share.",
    }
    # Each class has another name, since a registry looks classes up by name.
    value_class = type(f"{owner.__name__}{_VALUE_CLASS}", (), namespace)
    mapper.registry.map_imperatively(
        value_class,
        values,
        properties={
            # Without cascades: the session gets new values from the flush, in which their version is known.
            ORIGIN: relationship(
                owner, foreign_keys=[values.c.origin_id], primaryjoin=values.c.origin_id == pk, cascade=""
            )
        },
    )
    type.__setattr__(owner, _VALUE_CLASS, value_class)
    return value_class


def _relationship_to_values(config: MapConfig, values: Table) -> AnyRelationship:
    entries = config.entry_table
    return cast(
        "AnyRelationship",
        relationship(
            config.value_class,
            secondary=entries,
            primaryjoin=entries.c.owner_id == config.pk,
            secondaryjoin=and_(entries.c.origin_id == values.c.origin_id, entries.c.key == values.c.key),
            collection_class=attribute_keyed_dict("key"),
            cascade="merge, expunge",
            lazy="selectin",
            passive_deletes=True,
        ),
    )
