"""Map edge classes: complete their tables, give the node class its collections, and listen to flushes.

All that can be wrong with an edge class is found here while the class is mapped, before its mapper is registered. A
class that is refused later would break ``configure_mappers()`` for all other classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast, get_args, get_origin

from sqlalchemy import (
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    event,
    inspect,
)
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import Session, foreign, relationship, remote
from sqlalchemy.types import NullType

from .._declarative import accept_assignments, listen_once, sole_primary_key
from .._locks import lift_recursion_limit
from .._sql import is_table
from .._sqlalchemy import add_relationships, renamed_attribute, renamed_column
from .._typing import AnyColumn, AnyMapper, AnyRelationship, MappedClass, MappedObject
from ..exceptions import MappingError
from ._collections import EdgeCollection
from ._config import EdgeConfig, config_of, register, register_on_node
from ._flush import before_flush, refuse_late_key, refuse_late_node
from ._markers import AnyEdge, AnyNode
from ._options import GraphOptions

# -- what the class says -------------------------------------------------------------------------


def options_of(cls: MappedClass) -> GraphOptions:
    """Return the ``__graph__`` of `cls`, checked.

    Raises:
        MappingError: It is no `GraphOptions`, or names impossible attributes.
    """
    given: object = getattr(cls, "__graph__", None)
    options = GraphOptions() if given is None else given
    if not isinstance(options, GraphOptions):
        raise MappingError(f"{cls.__name__}.__graph__ must be GraphOptions(...), not {type(options).__name__}")
    names = (options.lower_edges, options.higher_edges)
    if not all(name.isidentifier() for name in names) or names[0] == names[1]:
        raise MappingError(
            f"GraphOptions of {cls.__name__!r} needs two different attribute names for its collections, not {names!r}"
        )
    return options


def node_class_of(cls: MappedClass, mixin: type[AnyEdge[object]]) -> type[AnyNode]:
    """Return the node class in the brackets of an edge class that is being mapped.

    Args:
        cls: The edge class.
        mixin: `GraphEdge`.

    Raises:
        MappingError: There is none, or it is no mapped node class.
    """
    node = _type_argument(cls, mixin)
    if not isinstance(node, type) or not issubclass(node, AnyNode) or inspect(node, raiseerr=False) is None:
        given = "nothing" if node is None else f"{node!r}"
        raise MappingError(
            f"edge class {cls.__name__!r} says {given} about the nodes that it joins; name a class that is mapped "
            f"with GraphNode, before the edge class: class {cls.__name__}(GraphEdge[Node], Base)"
        )
    return node


def _type_argument(cls: type[object], generic: type[object]) -> object:
    """Return what `cls` gave for the type variable of `generic`, also through generic classes in between, or None."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin: object = get_origin(base) or base
        args = get_args(base)
        if origin is generic:
            return args[0] if args else None
        if isinstance(origin, type) and issubclass(origin, generic):
            found = _type_argument(origin, generic)
            if isinstance(found, TypeVar):
                parameters = _parameters(origin)
                found = args[parameters.index(found)] if args else None
            return found
    return None


def _parameters(cls: type[object]) -> list[object]:
    """Return the type variables of a class, which need not be a ``typing.Generic``, in their order."""
    parameters: tuple[object, ...] = getattr(cls, "__parameters__", ())
    bases: tuple[object, ...] = cls.__dict__.get("__orig_bases__", ())
    return list(parameters or dict.fromkeys(each for base in bases for each in getattr(base, "__parameters__", ())))


def end_relationship(cls: MappedClass, node: type[AnyNode], side: str, collection: str) -> AnyRelationship:
    """Return the relationship from an edge to the node at one of its ends.

    Args:
        cls: The edge class, which need not have a table yet.
        node: The node class.
        side: "lower" or "higher".
        collection: The name of the collection of edges on the node class.
    """
    found: AnyRelationship = relationship(
        lambda: node,
        primaryjoin=lambda: foreign(getattr(_config(cls), side)) == remote(_config(cls).node_pk),
        uselist=False,
        back_populates=collection,
    )
    return found


def _config(cls: MappedClass) -> EdgeConfig:
    config = config_of(cls)
    if config is None:
        raise MappingError(f"edge class {cls.__name__!r} is used before it is mapped")
    return config


# -- the table -----------------------------------------------------------------------------------


def check_node_table(mapper: AnyMapper) -> None:
    """Raise unless the node class that is being mapped has a primary key of one column.

    Raises:
        MappingError: It has another primary key.
    """
    if is_table(mapper.local_table) and mapper.inherits is None:
        sole_primary_key(mapper.local_table, mapper.class_, "GraphNode")


def complete_edge_table(
    mapper: AnyMapper, node: MappedClass, cycle_error: Callable[[str, Sequence[MappedObject]], Exception]
) -> None:
    """Complete the table of an edge class that is being mapped, and keep an `EdgeConfig` on the class.

    This sets types, foreign keys, the index for the reverse direction, and the unique constraint where the primary key
    is another one.

    Args:
        mapper: The mapper of the edge class.
        node: The node class.
        cycle_error: Makes a `CycleError`.

    Raises:
        MappingError: The class cannot be an edge class.
    """
    cls = mapper.class_
    table = mapper.local_table
    if not is_table(table):
        raise MappingError(f"GraphEdge on {cls.__name__!r} needs a table, and the class maps {table!r}")
    node_pk, options = _node_pk(node), options_of(cls)
    _check_collections(cls, node, options)
    lower, higher = (_end_column(mapper, table, name) for name in ("lower_id", "higher_id"))
    for column in (lower, higher):
        if isinstance(column.type, NullType):
            column.type = node_pk.type
        # A column of another name is the user's, with its own foreign key.
        if not column.foreign_keys and column.name in {"lower_id", "higher_id"}:
            column.append_foreign_key(ForeignKey(node_pk, ondelete="CASCADE"))
        if not _refers_to(column, node_pk):
            raise MappingError(f"{cls.__name__}.{column.name} needs a foreign key to {node_pk}")
    others = [column for column in table.primary_key if column not in {lower, higher}]
    _check_primary_key(mapper, others, options)
    if others:
        _make_unique(table, others, lower=lower, higher=higher)
    elif set(table.primary_key) != {lower, higher}:
        raise MappingError(_not_the_pair(cls, list(table.primary_key)))
    if (lower.name, higher.name) == ("lower_id", "higher_id"):
        # The key and this index are the two directions; each holds both columns, so that neighbours are read from it
        # alone.
        Index(None, higher, lower)
    node_table = node_pk.table
    if not is_table(node_table):
        raise MappingError(f"GraphNode on {node.__name__!r} needs a table of its own")
    register(EdgeConfig(cls, mapper, table, lower, higher, node, node_table, node_pk, options, cycle_error))


def _check_collections(cls: MappedClass, node: MappedClass, options: GraphOptions) -> None:
    node_mapper = cast("AnyMapper", inspect(node))
    for name in (options.lower_edges, options.higher_edges):
        if node_mapper.has_property(name) or hasattr(node, name):
            raise MappingError(
                f"{node.__name__!r} has an attribute {name!r} already, so {cls.__name__!r} needs names of its own for "
                "its collections there: __graph__ = GraphOptions(lower_edges=..., higher_edges=...)"
            )


def _end_column(mapper: AnyMapper, table: Table, attribute: str) -> AnyColumn:
    column = renamed_column(mapper, attribute)
    if column is None:
        column = table.c.get(attribute)
    if column is None:
        raise MappingError(
            f"edge class {mapper.class_.__name__!r} has no column for {attribute!r} in table {table.fullname!r}; "
            "leave the attribute to GraphEdge, or make it a mapped_column of that table"
        )
    return column


def _refers_to(column: AnyColumn, node_pk: AnyColumn) -> bool:
    try:
        return any(key.column is node_pk for key in column.foreign_keys)
    except NoReferenceError:
        # The key refers to a table that does not exist (yet), and the node table does.
        return False


def _check_primary_key(mapper: AnyMapper, others: Sequence[AnyColumn], options: GraphOptions) -> None:
    """Raise unless `others`, the primary key columns beside the two ends, are inherited or asked for."""
    cls = mapper.class_
    if options.surrogate_key and not others:
        raise MappingError(
            f"GraphOptions(surrogate_key=True) of {cls.__name__!r} needs a primary key column of the class or of its "
            "base, and there is none; add one, or leave the option out: ('lower_id', 'higher_id') is then the primary "
            "key"
        )
    if not options.surrogate_key and not all(_is_inherited(mapper, column) for column in others):
        raise MappingError(_not_the_pair(cls, others))


def _is_inherited(mapper: AnyMapper, column: AnyColumn) -> bool:
    """Return whether the attribute of `column` comes from a base of the class, rather than from the class body."""
    name = renamed_attribute(mapper, column)
    return any(
        name in vars(base) or name in vars(base).get("__annotations__", {}) for base in mapper.class_.__mro__[1:]
    )


def _not_the_pair(cls: MappedClass, found: Sequence[AnyColumn]) -> str:
    key = ", ".join(repr(column.name) for column in found)
    return (
        f"the primary key of edge class {cls.__name__!r} must be ('lower_id', 'higher_id'), and {key} is in it or "
        "instead of it: there is at most one edge from one node to another; give a column of your own unique=True "
        "instead of primary_key=True, or make it the key with __graph__ = GraphOptions(surrogate_key=True)"
    )


def _make_unique(table: Table, key: Sequence[AnyColumn], *, lower: AnyColumn, higher: AnyColumn) -> None:
    """Make `key` the primary key of `table`, and the pair of ends unique."""
    if lower.primary_key or higher.primary_key:
        # Before the constraint: SQLAlchemy warns of one that leaves out columns which are marked as primary key.
        lower.primary_key = higher.primary_key = False
        table.append_constraint(PrimaryKeyConstraint(*key))
    lower.nullable = higher.nullable = False
    pair = {lower, higher}
    if not any(isinstance(each, UniqueConstraint) and set(each.columns) == pair for each in table.constraints):
        table.append_constraint(UniqueConstraint(lower, higher))


def _node_pk(node: MappedClass) -> AnyColumn:
    table = cast("AnyMapper", inspect(node)).local_table
    if not is_table(table):
        raise MappingError(f"GraphNode on {node.__name__!r} needs a table of its own")
    return sole_primary_key(table, node, "GraphNode")


# -- the node class ------------------------------------------------------------------------------


def prepare_node_class(mapper: AnyMapper) -> None:
    """Give the node class of an edge class that is mapped now its two collections, and listen to flushes."""
    config = _config(mapper.class_)
    register_on_node(config)
    ends = (
        (config.options.lower_edges, "lower", config.lower, config.higher),
        (config.options.higher_edges, "higher", config.higher, config.lower),
    )
    relationships: dict[str, AnyRelationship] = {
        name: relationship(
            config.cls,
            primaryjoin=remote(foreign(here)) == config.node_pk,
            uselist=True,
            back_populates=f"{side}_node",
            order_by=there,
            collection_class=EdgeCollection,
            # An edge without one of its nodes cannot exist.
            cascade="all, delete-orphan",
            # The flush loads the edges of all deleted nodes at once, not node by node.
            passive_deletes=True,
        )
        for name, side, here, there in ends
    }
    add_relationships(config.node_mapper, relationships)
    for _, side, _, _ in ends:
        event.listen(getattr(config.cls, f"{side}_id"), "set", refuse_late_key(config, side), propagate=True)
        event.listen(getattr(config.cls, f"{side}_node"), "set", refuse_late_node(config, side), propagate=True)
    accept_assignments(config.node, relationships)
    listen_once(Session, "before_flush", before_flush)
    listen_once(Session, "after_begin", lift_recursion_limit)
