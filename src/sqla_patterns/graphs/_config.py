"""What the room knows about one edge class, gathered while the class is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast, get_args, get_origin

from sqlalchemy import Column, ColumnElement, ForeignKey, FromClause, Index, Table, inspect, select
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.types import NullType

from .._declarative import attribute_key, sole_primary_key
from ..exceptions import InvalidArgumentError, MappingError, StateError
from ._options import GraphOptions

__all__ = (
    "EdgeConfig",
    "Edges",
    "complete_table",
    "config_of",
    "edges_of",
    "key_of",
    "keys_of",
    "node_argument",
    "node_configs",
    "options_of",
    "register",
)

_EDGE = "__sqla_graph_edge__"
_OF_NODE = "__sqla_graph_edges__"


@dataclass(frozen=True, eq=False)
class EdgeConfig:
    """One for each class that mixes `GraphEdge` in, shared by its subclasses."""

    cls: type[Any]
    mapper: Mapper[Any]
    table: Table
    lower: Column[Any]
    higher: Column[Any]
    node: type[Any]
    node_table: Table
    node_pk: Column[Any]
    options: GraphOptions

    @property
    def name(self) -> str:
        return self.cls.__name__

    @property
    def node_name(self) -> str:
        return self.node.__name__

    @cached_property
    def node_mapper(self) -> Mapper[Any]:
        return cast("Mapper[Any]", inspect(self.node))

    @cached_property
    def pk_attr(self) -> str:
        """The attribute of a node that its edges refer to."""
        return attribute_key(self.node_mapper, self.node_pk)

    @property
    def node_key(self) -> Any:
        return getattr(self.node, self.pk_attr)

    def in_session(self, session: Session, key: Any) -> Any:
        """The persistent node of `key` in `session`; None if it is not loaded."""
        return session.identity_map.get(self.node_mapper.identity_key_from_primary_key((key,)))

    def key_of(self, node: Any) -> Any:
        """The key of `node` as far as it is known without SQL; None for a new one whose key the database will make."""
        state = instance_state(node)
        if state.identity is not None:
            return state.identity[0]
        return state.dict.get(self.pk_attr)


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges that a question is about: all of an edge class, or those of one of its subclasses."""

    config: EdgeConfig
    entity: type[Any]

    @property
    def mapper(self) -> Mapper[Any]:
        return cast("Mapper[Any]", inspect(self.entity))

    def select(self, *columns: Any) -> Any:
        """Select the keys of both ends, and `columns`.

        From the tables, not the entity: criteria that a session adds to entities cannot hide a part of a path.
        """
        lower, higher = self.config.lower.label("lower_key"), self.config.higher.label("higher_key")
        statement: Any = select(lower, higher, *columns)
        if columns:
            statement = statement.select_from(self.mapper.selectable)
        return statement if self.criterion is None else statement.where(self.criterion)

    @cached_property
    def criterion(self) -> ColumnElement[bool] | None:
        """What tells the rows of a subclass from the others of the table."""
        mapper = self.mapper
        discriminator = self.config.mapper.polymorphic_on
        if mapper is self.config.mapper or discriminator is None:
            return None
        return discriminator.in_([each.polymorphic_identity for each in mapper.self_and_descendants])

    def pairs(self) -> FromClause:
        """A new alias of the edges, with the columns ``lower_key`` and ``higher_key``."""
        return cast("FromClause", self.select().subquery())


# -- mapping -------------------------------------------------------------------------------------


def options_of(cls: type[Any]) -> GraphOptions:
    """The ``__graph__`` of `cls`, checked."""
    options = getattr(cls, "__graph__", None) or GraphOptions()
    if not isinstance(options, GraphOptions):
        raise MappingError(f"{cls.__name__}.__graph__ must be GraphOptions(...), not {type(options).__name__}")
    names = (options.lower_edges, options.higher_edges)
    if not all(name.isidentifier() for name in names) or names[0] == names[1]:
        raise MappingError(
            f"GraphOptions of {cls.__name__!r} needs two different attribute names for its collections, not {names!r}"
        )
    return options


def node_argument(cls: type[Any], generic: type[Any]) -> object:
    """What `cls` gave for the type variable of `generic`, also by way of generic classes in between; None if nothing."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin: Any = get_origin(base) or base
        args = get_args(base)
        if origin is generic:
            return args[0] if args else None
        if isinstance(origin, type) and issubclass(origin, generic):
            found = node_argument(origin, generic)
            if isinstance(found, TypeVar):
                parameters: tuple[object, ...] = getattr(origin, "__parameters__", ())
                found = args[parameters.index(found)] if args else None
            return found
    return None


def complete_table(mapper: Mapper[Any], node: type[Any]) -> None:
    """Complete the table of an edge class that is being mapped: types, foreign keys and the index of the reverse."""
    cls = mapper.class_
    table = _table(mapper.local_table)
    if table is None:
        raise MappingError(f"GraphEdge on {cls.__name__!r} needs a table, and the class maps {mapper.local_table!r}")
    node_pk, node_mapper, options = _node_pk(node), cast("Mapper[Any]", inspect(node)), options_of(cls)
    for name in (options.lower_edges, options.higher_edges):
        if node_mapper.has_property(name):
            raise MappingError(
                f"{node.__name__!r} has an attribute {name!r} already, so {cls.__name__!r} needs names of its own for its "
                "collections there: __graph__ = GraphOptions(lower_edges=..., higher_edges=...)"
            )
    columns = [table.c.get(name) for name in ("lower_id", "higher_id")]
    for column in columns:
        if column is None:
            continue  # The class maps a column of another name, with a foreign key of its own.
        if isinstance(column.type, NullType):
            column.type = node_pk.type
        if not column.foreign_keys:
            column.append_foreign_key(ForeignKey(node_pk, ondelete="CASCADE"))
    lower, higher = columns
    if lower is not None and higher is not None:
        # Primary key and index are the two directions; each holds both columns, so that neighbours are read from it alone.
        Index(None, higher, lower)


def _node_pk(node: type[Any]) -> Column[Any]:
    table = _table(cast("Mapper[Any]", inspect(node)).local_table)
    if table is None:
        raise MappingError(f"GraphNode on {node.__name__!r} needs a table of its own")
    return sole_primary_key(table, node, "GraphNode")


def register(mapper: Mapper[Any], node: type[Any]) -> EdgeConfig:
    """Keep what the room knows about an edge class whose columns are mapped, on it and on its node class."""
    cls = mapper.class_
    lower, higher = mapper.columns["lower_id"], mapper.columns["higher_id"]
    table, node_pk = _table(lower.table), _node_pk(node)
    node_table = _table(node_pk.table)
    if table is None or node_table is None or set(mapper.primary_key) != {lower, higher}:
        key = ", ".join(repr(column.name) for column in mapper.primary_key)
        raise MappingError(
            f"the primary key of edge class {cls.__name__!r} must be ('lower_id', 'higher_id'), and it is ({key}): there is at "
            "most one edge from one node to another; give a column of your own unique=True instead of primary_key=True"
        )
    for column in (lower, higher):
        if not any(key.column is node_pk for key in column.foreign_keys):
            raise MappingError(f"{cls.__name__}.{column.name} needs a foreign key to {node_pk}")
    config = EdgeConfig(cls, mapper, table, lower, higher, node, node_table, node_pk, options_of(cls))
    setattr(cls, _EDGE, config)
    setattr(node, _OF_NODE, (*node.__dict__.get(_OF_NODE, ()), config))
    return config


def _table(selectable: Any) -> Table | None:
    return cast("Any", selectable) if isinstance(selectable, Table) else None


# -- lookup --------------------------------------------------------------------------------------


def config_of(cls: type[Any]) -> EdgeConfig | None:
    """The edge class that `cls` is or derives from; None for any other class."""
    return cast("EdgeConfig | None", getattr(cls, _EDGE, None))


def node_configs(cls: type[Any]) -> tuple[EdgeConfig, ...]:
    """The edge classes that join objects of `cls`; none if it is no node."""
    return tuple(config for base in cls.__mro__ for config in base.__dict__.get(_OF_NODE, ()))


def edges_of(entity: Any, edge: Any = None) -> Edges:
    """The edges between nodes of `entity`, which is a class, an alias or an instance.

    Raises:
        InvalidArgumentError: `entity` is no node, `edge` joins other nodes, or several edge classes could be meant.
    """
    insp = inspect(entity, raiseerr=False)
    node: Any = insp.mapper.class_ if insp is not None and hasattr(insp, "mapper") else entity
    configs = node_configs(node) if isinstance(node, type) else ()
    names = ", ".join(config.name for config in configs)
    if edge is not None:
        config = config_of(edge) if isinstance(edge, type) else None
        if config is None or config not in configs:
            raise InvalidArgumentError(
                f"edge={edge!r} joins no {_name(node)} nodes; its edge classes are: {names or 'none'}"
            )
        return Edges(config, edge)
    if len(configs) == 1:
        return Edges(configs[0], configs[0].cls)
    if configs:
        raise InvalidArgumentError(
            f"{_name(node)} has several edge classes ({names}): say which, with edge={configs[0].name}"
        )
    raise InvalidArgumentError(
        f"{_name(node)} is no node of a graph: expected a mapped class with GraphNode among its bases, and a mapped "
        f"GraphEdge[{_name(node)}]"
    )


def _name(node: object) -> str:
    return node.__name__ if isinstance(node, type) else repr(node)


def key_of(config: EdgeConfig, node: object) -> Any:
    """The primary key meant by `node`, an instance or a key.

    Raises:
        StateError: an instance without identity.
        InvalidArgumentError: an instance of something else, or None.
    """
    insp = inspect(node, raiseerr=False)
    if insp is None:
        if node is None:
            raise InvalidArgumentError(f"expected a {config.node_name} or a primary key of one, not None")
        return node
    if not isinstance(node, config.node):
        raise InvalidArgumentError(f"{node!r} is no {config.node_name}")
    if insp.identity is None:
        raise StateError(
            f"this {config.node_name} has no primary key yet, so no row can be compared with it: add it to a session and "
            "flush first"
        )
    return insp.identity[0]


def keys_of(config: EdgeConfig, node: object) -> list[Any]:
    """The primary keys meant by `node`: one, or a sequence of instances and keys."""
    if isinstance(node, (list, tuple, set, frozenset)):
        return [key_of(config, item) for item in cast("Sequence[object]", node)]
    return [key_of(config, node)]
