"""What is known about an edge class once it is mapped, and how to find it from a class, an alias or an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from sqlalchemy import ColumnElement, FromClause, Table, inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .._declarative import attribute_key
from .._sql import structural_part
from .._sqlalchemy import object_in_session
from .._typing import AnyAttribute, AnyColumn, AnyMapper, AnySelect, MappedClass, MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError, StateError
from ._options import GraphOptions

_EDGE = "__sqla_graph_edge__"
_OF_NODE = "__sqla_graph_edges__"


@dataclass(frozen=True, eq=False)
class EdgeConfig:
    """What is known about one class that mixes `GraphEdge` in; its subclasses share it.

    Attributes:
        cls: The edge class.
        mapper: Its mapper.
        table: Its table.
        lower: The column with the key of the lower node.
        higher: The column with the key of the higher node.
        node: The node class.
        node_table: The table of the node class.
        node_pk: The primary key column of the node class.
        options: The options of the edge class.
        cycle_error: Makes a `CycleError`. The class itself is not imported here: its types refer to `GraphNode`, whose
            module imports this one.
    """

    cls: MappedClass
    mapper: AnyMapper
    table: Table
    lower: AnyColumn
    higher: AnyColumn
    node: MappedClass
    node_table: Table
    node_pk: AnyColumn
    options: GraphOptions
    cycle_error: Callable[[str, Sequence[MappedObject]], Exception]

    @property
    def name(self) -> str:
        """Return the name of the edge class."""
        return self.cls.__name__

    @property
    def node_name(self) -> str:
        """Return the name of the node class."""
        return self.node.__name__

    @cached_property
    def node_mapper(self) -> AnyMapper:
        """Return the mapper of the node class."""
        return cast("AnyMapper", inspect(self.node))

    @cached_property
    def pair_is_primary_key(self) -> bool:
        """Return whether the primary key is the pair of ends, rather than a surrogate."""
        return set(self.mapper.primary_key) == {self.lower, self.higher}

    @cached_property
    def pk_name(self) -> str:
        """Return the name of the attribute of a node that is its primary key."""
        return attribute_key(self.node_mapper, self.node_pk)

    @property
    def pk_attribute(self) -> AnyAttribute:
        """Return the attribute of the node class that is its primary key."""
        attribute: AnyAttribute = getattr(self.node, self.pk_name)
        return attribute

    def find_loaded(self, session: Session, pk: PrimaryKey) -> MappedObject:
        """Return the persistent node with the primary key `pk` in `session`; None if it is not loaded."""
        return object_in_session(session, self.node_mapper, (pk,))

    def pk_of(self, node: object) -> PrimaryKey:
        """Return the primary key of `node` as far as it is known without SQL.

        It is None for a new node whose key the database will make.
        """
        state = instance_state(node)
        if state.identity is not None:
            return state.identity[0]
        return state.dict.get(self.pk_name)


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges that a query is about: all of an edge class, or those of one of its subclasses.

    Attributes:
        config: The edge class.
        entity: The edge class, or the subclass.
    """

    config: EdgeConfig
    entity: MappedClass

    @property
    def mapper(self) -> AnyMapper:
        """Return the mapper of `entity`."""
        return cast("AnyMapper", inspect(self.entity))

    def select(self, *columns: ColumnElement[object]) -> AnySelect:
        """Return a SELECT of the keys of both ends, and of `columns`.

        It names the tables, not the entity, so that criteria which a session adds to entities cannot hide a part of a
        path. Tenancy, by which every statement must abide, knows it by its mark.
        """
        lower, higher = self.config.lower.label("lower_key"), self.config.higher.label("higher_key")
        statement: AnySelect = select(*(lower, higher, *columns))
        if columns:
            statement = statement.select_from(self.mapper.selectable)
        return structural_part(statement if self.criterion is None else statement.where(self.criterion))

    @cached_property
    def criterion(self) -> ColumnElement[bool] | None:
        """Return the condition on the rows of a subclass; None where all rows of the table are meant."""
        mapper = self.mapper
        discriminator = self.config.mapper.polymorphic_on
        if mapper is self.config.mapper or discriminator is None:
            return None
        return discriminator.in_([each.polymorphic_identity for each in mapper.self_and_descendants])

    def pairs(self) -> FromClause:
        """Return a new alias of the edges, with the columns ``lower_key`` and ``higher_key``."""
        return self.select().subquery()


def register(config: EdgeConfig) -> None:
    """Keep `config` on the edge class."""
    setattr(config.cls, _EDGE, config)


def register_on_node(config: EdgeConfig) -> None:
    """Keep `config` on the node class, once the edge class is mapped."""
    setattr(config.node, _OF_NODE, (*config.node.__dict__.get(_OF_NODE, ()), config))


def config_of(cls: type[object]) -> EdgeConfig | None:
    """Return the configuration of the edge class that `cls` is or derives from; None for any other class."""
    config: EdgeConfig | None = getattr(cls, _EDGE, None)
    return config


def node_configs(cls: type[object]) -> tuple[EdgeConfig, ...]:
    """Return the configurations of the edge classes that join objects of `cls`; an empty tuple if it is no node."""
    return tuple(config for base in cls.__mro__ for config in base.__dict__.get(_OF_NODE, ()))


def edges_of(entity: object, edge: object = None) -> Edges:
    """Return the edges between nodes of `entity`.

    Args:
        entity: A node class, an alias of one, or a node.
        edge: The edge class, where there are several, or a subclass of it.

    Raises:
        InvalidArgumentError: `entity` is no node, `edge` joins other nodes, or several edge classes could be meant.
    """
    inspected = inspect(entity, raiseerr=False)
    node: object = inspected.mapper.class_ if inspected is not None and hasattr(inspected, "mapper") else entity
    configs = node_configs(cast("type[object]", node)) if isinstance(node, type) else ()
    names = ", ".join(config.name for config in configs)
    if edge is not None:
        if isinstance(edge, type):
            edge_class = cast("MappedClass", edge)
            config = config_of(edge_class)
            if config is not None and config in configs:
                return Edges(config, edge_class)
        raise InvalidArgumentError(
            f"edge={edge!r} joins no {_name(node)} nodes; its edge classes are: {names or 'none'}"
        )
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


def resolve_pk(config: EdgeConfig, node: object) -> PrimaryKey:
    """Return the primary key that `node` stands for.

    Args:
        config: The edge class.
        node: A node, or the primary key of one.

    Raises:
        StateError: `node` is an object that has no primary key yet.
        InvalidArgumentError: `node` is an object of another class, or None.
    """
    inspected = inspect(node, raiseerr=False)
    if inspected is None:
        if node is None:
            raise InvalidArgumentError(f"expected a {config.node_name} or a primary key of one, not None")
        return node
    if not isinstance(node, config.node):
        raise InvalidArgumentError(f"{node!r} is no {config.node_name}")
    if inspected.identity is None:
        raise StateError(
            f"this {config.node_name} has no primary key yet, so no row can be compared with it: add it to a session "
            "and flush first"
        )
    return inspected.identity[0]


def resolve_pks(config: EdgeConfig, node: object) -> list[PrimaryKey]:
    """Return the primary keys that `node` stands for: a node, a primary key, or a sequence of these.

    Raises:
        StateError: As `resolve_pk`.
        InvalidArgumentError: As `resolve_pk`.
    """
    if isinstance(node, (list, tuple, set, frozenset)):
        return [resolve_pk(config, item) for item in cast("Sequence[object]", node)]
    return [resolve_pk(config, node)]
