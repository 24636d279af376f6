"""Predicates of trees and graphs, on classes with tenants and with soft deletion, and beside rows of other tenants."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, String, func, select, true, union_all
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column, sessionmaker

from sqla_patterns._sql import structural_part
from sqla_patterns.criteria import (
    GlobalCriteria,
    HasPrivate,
    SoftDelete,
    TenantScoped,
    TenantViolationError,
    tenant_scope,
)
from sqla_patterns.graphs import (
    GraphEdge,
    GraphNode,
    all_paths,
    connected_component,
    find_cycles,
    load_graph,
    shortest_path,
    topological_order,
)
from sqla_patterns.trees import (
    ClosureTable,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    lowest_common_ancestor,
)
from tests._support import count_statements
from tests.conftest import BaseFactory

INDEXES: dict[str, tuple[type, ...]] = {
    "none": (),
    "nested_sets": (NestedSets,),
    "path": (MaterializedPath,),
    "closure": (ClosureTable,),
}


@pytest.fixture(params=INDEXES)
def topics(request: pytest.FixtureRequest, plain_bases: BaseFactory, engine: Engine) -> Any:
    """Map a tree with tenants and soft deletion: for a ``1 > 2 > 3`` and ``1 > 4``, for b ``11 > 12``."""
    base: Any = plain_bases()

    class Topic(*INDEXES[request.param], TreeNode, TenantScoped, SoftDelete, base):  # type: ignore[misc]
        __tablename__ = "structure_topic"
        __tree__ = TreeOptions(on_delete="restrict")
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = mapped_column(String(20))

    base.metadata.create_all(engine)
    for tenant, first, links in (("a", 1, {2: 1, 3: 2, 4: 1}), ("b", 11, {12: 11})):
        with tenant_scope(tenant), Session(engine) as session:
            nodes = {first: Topic(id=first, name=str(first))}
            for key, above in links.items():
                nodes[key] = Topic(id=key, name=str(key), parent=nodes[above])
            session.add_all(nodes.values())
            session.commit()
    return Topic


def _ids(session: Session, topics: Any, criterion: Any) -> list[int]:
    return list(session.scalars(select(topics.id).where(criterion).order_by(topics.id)))


PREDICATES: dict[str, tuple[Callable[[Any], Any], list[int]]] = {
    "descendant_of": (lambda cls: cls.descendant_of(1), [2, 3, 4]),
    "descendant_of, depth": (lambda cls: cls.descendant_of(1, max_depth=1), [2, 4]),
    "descendant_of, several": (lambda cls: cls.descendant_of([1, 2]), [2, 3, 4]),
    "descendant_of, of another tenant": (lambda cls: cls.descendant_of(11), []),
    "ancestor_of": (lambda cls: cls.ancestor_of(3), [1, 2]),
    "ancestor_of, several": (lambda cls: cls.ancestor_of([3, 4]), [1, 2]),
    "ancestor_of, of another tenant": (lambda cls: cls.ancestor_of(12), []),
    "sibling_of": (lambda cls: cls.sibling_of(2), [4]),
    "sibling_of, of another tenant": (lambda cls: cls.sibling_of(11, inclusive=True), []),
    "is_root": (lambda cls: cls.is_root(), [1]),
    "is_leaf": (lambda cls: cls.is_leaf(), [3, 4]),
}


@pytest.mark.parametrize("name", PREDICATES)
def test_predicates_of_trees_hold_for_a_tenant(name: str, topics: Any, engine: Engine) -> None:
    predicate, expected = PREDICATES[name]
    with tenant_scope("a"), Session(engine) as session:
        assert _ids(session, topics, predicate(topics)) == expected


def test_pairs_of_nodes_hold_for_a_tenant(topics: Any, engine: Engine) -> None:
    above = aliased(topics)
    with tenant_scope("a"), Session(engine) as session:
        counted = select(above.id, func.count()).select_from(above).join(topics, topics.descendant_of(above))
        found = session.execute(counted.group_by(above.id).order_by(above.id)).all()
    assert [tuple(row) for row in found] == [(1, 3), (2, 1)]


def test_the_lowest_common_ancestor_is_found_for_a_tenant(topics: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        found: Any = lowest_common_ancestor(session, session.get_one(topics, 3), session.get_one(topics, 4))
        assert found.id == 1


def test_a_hidden_node_still_leads_to_those_below_and_above_it(topics: Any, engine: Engine) -> None:
    table = topics.__table__
    with engine.begin() as connection:  # as the tree itself would refuse to, for a node with children
        connection.execute(table.update().where(table.c.id == 2).values(deleted_at=datetime.now(UTC)))
    with tenant_scope("a"), Session(engine) as session:
        assert _ids(session, topics, topics.descendant_of(1)) == [3, 4]
        assert _ids(session, topics, topics.ancestor_of(3)) == [1]


def test_a_node_whose_children_are_all_hidden_is_a_leaf(topics: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        session.delete(session.get_one(topics, 3))
        session.commit()
        assert _ids(session, topics, topics.is_leaf()) == [2, 4]


def test_what_a_user_marks_as_structural_is_filtered(topics: Any, engine: Engine) -> None:
    table = topics.__table__
    with tenant_scope("a"), Session(engine) as session:
        every = select(func.count()).select_from(structural_part(select(table.c.id)).subquery())
        assert session.scalar(select(every.scalar_subquery()).select_from(topics).limit(1)) == 4


def test_a_refusal_is_not_remembered_for_a_statement_of_the_library(topics: Any, engine: Engine) -> None:
    """A statement of the user's and one with the library's mark may have one cache key."""
    table = topics.__table__
    by_hand = select(table.c.id).where(table.c.parent_id == 1)
    with tenant_scope("a"), Session(engine) as session:
        with pytest.raises(TenantViolationError, match="structure_topic"):
            session.scalars(select(topics.id).where(topics.id.in_(by_hand))).all()
        assert len(session.scalars(select(topics.id).where(topics.id.in_(structural_part(by_hand)))).all()) == 2


# -- graphs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def graph(plain_bases: BaseFactory, engine: Engine) -> tuple[Any, Any]:
    """Map a graph with tenants and soft deletion: for a ``1 > 2 > 3``, for b ``11 > 12``."""
    base: Any = plain_bases()

    class Stop(GraphNode, TenantScoped, SoftDelete, base):
        __tablename__ = "structure_stop"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    class Line(GraphEdge[Stop], TenantScoped, base):
        __tablename__ = "structure_line"

    base.metadata.create_all(engine)
    for tenant, keys in (("a", (1, 2, 3)), ("b", (11, 12))):
        with tenant_scope(tenant), Session(engine) as session:
            stops = [Stop(id=key) for key in keys]
            session.add_all(stops)
            for lower, higher in pairwise(stops):
                session.add(Line(lower_node=lower, higher_node=higher))
            session.commit()
    return Stop, Line


REACHED: dict[str, tuple[Callable[[Any, Any], Any], list[int]]] = {
    "reachable_from": (lambda cls, edge: cls.reachable_from(1, edge=edge), [2, 3]),
    "reachable_from, within": (lambda cls, edge: cls.reachable_from(1, edge=edge, within=1), [2]),
    "reachable_from, of another tenant": (lambda cls, edge: cls.reachable_from(11, edge=edge), []),
    "reaching": (lambda cls, edge: cls.reaching(3, edge=edge), [1, 2]),
    "is_source": (lambda cls, edge: cls.is_source(edge=edge), [1]),
    "is_sink": (lambda cls, edge: cls.is_sink(edge=edge), [3]),
}


@pytest.mark.parametrize("name", REACHED)
def test_predicates_of_graphs_hold_for_a_tenant(name: str, graph: tuple[Any, Any], engine: Engine) -> None:
    predicate, expected = REACHED[name]
    stop, line = graph
    with tenant_scope("a"), Session(engine) as session:
        assert list(session.scalars(select(stop.id).where(predicate(stop, line)).order_by(stop.id))) == expected


def test_loaders_of_graphs_hold_for_a_tenant(graph: tuple[Any, Any], engine: Engine) -> None:
    stop, line = graph
    with tenant_scope("a"), Session(engine) as session:
        first, last = session.get_one(stop, 1), session.get_one(stop, 3)
        assert [each.id for each in shortest_path(session, first, last, edge=line) or ()] == [1, 2, 3]
        assert sorted(each.id for each in connected_component(session, first, edge=line)) == [1, 2, 3]
        assert sorted(each.id for each in load_graph(session, stop, edge=line)) == [1, 2, 3]


def test_a_cycle_of_another_tenant_is_none(graph: tuple[Any, Any], engine: Engine) -> None:
    stop, line = graph
    with tenant_scope("b"), Session(engine) as session:
        session.add(line(lower_node=session.get_one(stop, 12), higher_node=session.get_one(stop, 11)))
        session.commit()
        assert [[each.id for each in found] for found in find_cycles(session, stop, edge=line)] == [[11, 12, 11]]
    with tenant_scope("a"), Session(engine) as session:
        assert find_cycles(session, stop, edge=line) == []
        assert [each.id for each in topological_order(session, stop, edge=line)] == [1, 2, 3]


def test_no_loader_of_graphs_reads_edges_of_another_tenant(graph: tuple[Any, Any], engine: Engine) -> None:
    stop, line = graph
    with tenant_scope("a"), Session(engine) as session:
        first, last = session.get_one(stop, 1), session.get_one(stop, 3)
        with count_statements(engine) as log:
            shortest_path(session, first, last, edge=line)
            list(all_paths(session, first, last, edge=line, limit=9))
            connected_component(session, first, edge=line)
            load_graph(session, stop, edge=line)
            find_cycles(session, stop, edge=line)
            topological_order(session, stop, edge=line)
    for statement in log:
        assert statement.count("FROM structure_line") == statement.count("structure_line.tenant_id = "), statement


# -- one rule beside another -------------------------------------------------------------------------------------------


POSITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "in": lambda cls, inner: select(cls.id).where(cls.id.in_(inner)),
    "exists": lambda cls, inner: select(cls.id).where(inner.exists()),
    "scalar": lambda cls, inner: select(cls.id, inner.limit(1).scalar_subquery()),
    "from": lambda cls, inner: select(cls.id).join(inner.subquery(), true()),
    "cte": lambda cls, inner: select(cls.id).where(cls.id.in_(select(inner.cte().c[0]))),
    "union": lambda cls, inner: union_all(select(cls.id), inner),
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("beside", ["soft", "private", "both"])
def test_the_criterion_of_another_rule_is_not_taken_for_the_tenant(
    position: str, beside: str, plain_bases: BaseFactory, engine: Engine
) -> None:
    base: Any = plain_bases()
    mixins: tuple[type, ...] = {"soft": (SoftDelete,), "private": (HasPrivate,), "both": (SoftDelete, HasPrivate)}[
        beside
    ]

    class Note(TenantScoped, *mixins, base):  # type: ignore[misc]
        __tablename__ = "structure_note"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    base.metadata.create_all(engine)
    with tenant_scope("b"), Session(engine) as session:
        session.add(Note(id=1))
        session.commit()
    maker = sessionmaker(engine)
    public = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    inner = select(Note.__table__.c.id.label("other")).correlate(None)
    statement = POSITIONS[position](Note, inner)
    with public.attach(maker), tenant_scope("a"), maker() as session:
        session.add(Note(id=2))
        session.flush()
        for _ in range(2):  # what is remembered of a statement decides the second time
            with pytest.raises(TenantViolationError, match="structure_note"):
                session.execute(statement).all()
