"""Read mappers while a class is mapped, before they are configured, and after a class could not be mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from sqlalchemy import Table, inspect
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.orm import MappedColumn, mapped_column, registry
from sqlalchemy.orm.exc import UnmappedClassError
from sqlalchemy.orm.util import AliasedClass

from .._sql import is_column, is_table
from .._typing import AnyColumn, AnyMapper, AnyRelationship, MappedClass
from ..exceptions import MappingError
from . import _names as names

#: The wildcard for ``relationship(overlaps=)`` that SQLAlchemy's own extensions pass. Several relationships of generic
#: associations write the same columns, and are not all known when each is made; without it there are warnings.
ANY_OVERLAP: Final = "__*"

_SELECTIN: Final = (("lazy", "selectin"),)


# -- classes and their mappers -----------------------------------------------------------------------------------------


def mapper_of(cls: type[object]) -> AnyMapper:
    """Return the mapper of a mapped class; ``inspect()`` with a type that both series of SQLAlchemy agree on."""
    return cast("AnyMapper", inspect(cls))


def own_mapper_of(cls: type[object]) -> AnyMapper | None:
    """Return the mapper of `cls` itself, None where it is not mapped."""
    found = cast("AnyMapper | None", inspect(cls, raiseerr=False))
    return found if found is not None and found.class_ is cls else None


# -- registries --------------------------------------------------------------------------------------------------------


def mappers_of(mapped: registry) -> list[AnyMapper]:
    """Return the mappers of a registry that know their tables.

    ``registry.mappers`` raises as long as a class lives whose mapping was refused half way, by the library or by
    SQLAlchemy, for instance in the traceback of the error; ``_managers`` is what it reads.
    """
    try:
        found: list[AnyMapper] = list(mapped.mappers)
    except UnmappedClassError:
        managers: Iterable[Any] = names.MANAGERS.get(mapped, ())
        found = [manager.mapper for manager in managers if manager.is_mapped]
    return [mapper for mapper in found if hasattr(mapper, "tables")]


def mapped_classes(mapped: registry) -> list[MappedClass]:
    """Return the classes that are mapped in a registry, by name."""
    return sorted((mapper.class_ for mapper in mappers_of(mapped)), key=lambda cls: cls.__name__)


# -- while a class is mapped -------------------------------------------------------------------------------------------


def add_relationships(mapper: AnyMapper, added: Mapping[str, AnyRelationship]) -> None:
    """Add relationships to a class that may be in use already.

    On a configured mapper ``add_property`` would configure each at once, and with it the class at the other end, which
    asks for the one that comes next. ``configured`` is documented as read-only: without it here, all are configured
    together when mappers next are.
    """
    mapper.configured = False
    for name, each in added.items():
        mapper.add_property(name, each)


def renamed_column(mapper: AnyMapper, attribute: str) -> AnyColumn | None:
    """Return the column of `attribute` if its name is another one, while the class is being mapped; None otherwise.

    The public `Mapper.columns` is filled only once it is too late to refuse a class.
    """
    found = _named_attributes(mapper).get(attribute)
    return found if is_column(found) else None


def renamed_attribute(mapper: AnyMapper, column: AnyColumn) -> str:
    """Return the name of the attribute of `column` while the class is being mapped; as `renamed_column`."""
    for name, found in _named_attributes(mapper).items():
        if found is column:
            return name
    return column.key


def _named_attributes(mapper: AnyMapper) -> Mapping[str, object]:
    found: Mapping[str, object] = names.INIT_PROPERTIES.get(mapper, {})
    return found


def mapped_copy(column: AnyColumn, *, deferred: bool) -> MappedColumn[Any]:
    """Return a copy of a column of another table, to be declared on a class; its foreign keys are left to the caller.

    ``Table.to_metadata()`` copies columns publicly, but with their table. ``Column._copy()`` is what it calls, and what
    Declarative calls for the columns of mixins. The wrapper is needed for the order of the columns, and has no public
    way to take a column.

    Raises:
        MappingError: This SQLAlchemy cannot copy a column.
    """
    copy = names.COPY_COLUMN.get(column)
    if copy is None:
        raise MappingError(f"column {column!r} cannot be copied with this version of SQLAlchemy; declare it by hand")
    # Nullability is said, since Declarative would otherwise look for an annotation, and find that of a mixin.
    options: dict[str, Any] = {"deferred": True} if deferred else {}
    mapped = mapped_column(sort_order=-1, nullable=column.nullable, **options)
    mapped.column = copy()
    mapped.foreign_keys = mapped.column.foreign_keys
    return mapped


def attribute_options(target: str, given: Mapping[str, Any]) -> Any:
    """Return dataclass options as `AssociationProxy` takes them: a tuple whose fields differ between releases.

    Raises:
        MappingError: Options are given, and this SQLAlchemy does not tell how it takes them.
    """
    packed = names.ATTRIBUTE_OPTIONS.get(association_proxy(target, "", **given))
    if packed is None and given:
        raise MappingError(
            f"the proxy over {target!r} cannot take {', '.join(given)}, because this release of SQLAlchemy takes "
            "dataclass options in a way that is not known; leave them out"
        )
    return packed


# -- relationships that are not configured yet -------------------------------------------------------------------------


def _argument(relation: AnyRelationship, name: str) -> object:
    """Return what a relationship was given for an argument; None also where this SQLAlchemy does not tell."""
    found: object = getattr(getattr(names.INIT_ARGS.get(relation), name, None), "argument", None)
    return found


def joins_by_hand(relation: AnyRelationship) -> bool:
    """Return whether a relationship that is not configured yet was told how to join, in terms of its own class.

    Once it is configured all of this is computed. Where it cannot be told, the relationship counts as one that joins by
    its foreign key; a copy of it that cannot do so is then found when the mappers are configured.
    """
    given = ("secondary", "primaryjoin", "secondaryjoin", "foreign_keys", "remote_side")
    arguments = (_argument(relation, name) for name in given)
    return any(each is not None and each is not False for each in arguments)


def has_secondary(relation: AnyRelationship) -> bool:
    """Return whether a relationship that is not configured yet was given a ``secondary`` at all."""
    return _argument(relation, "secondary") is not None


def secondary_argument(relation: AnyRelationship, mapper: AnyMapper) -> Table | None:
    """Return the ``secondary`` of a relationship that is not configured yet, if it is there already.

    A history table has to be in the metadata before anybody calls ``create_all()``, which may be before mappers are
    configured.
    """
    argument: Any = _argument(relation, "secondary")
    if isinstance(argument, str):
        return cast("Table", mapper.local_table).metadata.tables.get(argument)
    if callable(argument) and not is_table(argument):
        try:
            argument = argument()
        except NameError:
            return None  # a lambda over a table that comes later
    return argument if is_table(argument) else None


# -- loading -----------------------------------------------------------------------------------------------------------


def entity_of(alias: AliasedClass[Any], cls: MappedClass) -> MappedClass | None:
    """Return what ``with_polymorphic()`` has for a subclass, None if it has nothing.

    It is an attribute with the name of the class, which is documented, and which a namesake from another module
    replaces.
    """
    return cast("MappedClass | None", alias.__dict__.get(cls.__name__))


def narrow_selectinload(relation: AnyRelationship, discriminator: str, identity: object) -> bool:
    """Let ``selectinload()`` of `relation` ask only for what objects with this identity refer to.

    ``selectinload()`` has two ways to load a many-to-one. Where the join is a plain key it asks for the *referenced
    keys*, 500 a statement; where the join says more, it joins from the *referring rows*, all of them. The hidden
    relationships of a generic foreign key also compare the discriminator, so that SQLAlchemy would take the second way:
    for 1,000 objects that refer to two types it would ask each type about all 1,000. Here the objects are first
    narrowed to those of the type, after which the first way is right.

    Returns:
        False if this SQLAlchemy cannot do so, and loads in the second way: correct, with more statements.
    """
    changeable: Any = relation
    get_strategy, strategies = names.GET_STRATEGY.get(relation), names.STRATEGIES.get(relation)
    if get_strategy is None or strategies is None:
        return False
    joining: Any = get_strategy(_SELECTIN)
    plain: Any = joining.__class__
    load_plain, load_joining = names.LOAD_FOR_PATH.get(plain), names.LOAD_FOR_PATH.get(joining)
    if load_plain is None or names.OMIT_JOIN.get(plain) is None:
        return False

    class NarrowSelectInLoader(plain):  # type: ignore[misc]
        __slots__ = ()

        def _load_for_path(self, context: object, path: object, states: Any, *args: object, **kwargs: object) -> None:
            # Not the attribute itself: reading one that is deferred or expired would emit a statement for each object.
            # Those are left to the second way, which asks the database for the discriminator.
            unknown = [each for each in states if discriminator not in each[0].dict]
            if unknown:
                load_joining(context, path, unknown, *args, **kwargs)
            matching = [each for each in states if each[0].dict.get(discriminator) == identity]
            if matching:
                load_plain(self, context, path, matching, *args, **kwargs)

    former = changeable.omit_join
    changeable.omit_join = True
    try:
        strategies[_SELECTIN] = NarrowSelectInLoader(relation, _SELECTIN)
    except (AttributeError, KeyError, TypeError):
        changeable.omit_join = former
        return False
    return True
