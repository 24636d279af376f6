"""``acyclic``: a flush refuses a cycle, however it came about, and writes nothing before the error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.orm import Session, with_loader_criteria
from sqlalchemy.pool import StaticPool

from sqla_patterns.exceptions import StateError
from sqla_patterns.graphs import CycleError, GraphOptions, find_cycles, topological_order
from tests.conftest import BaseFactory
from tests.graphs._models import KEYS, GraphModels, names

Make = Callable[..., GraphModels]


def _add_neighbor(graph: GraphModels, session: Session, lower: Any, higher: Any) -> None:
    lower.add_neighbor(higher)


def _edge(graph: GraphModels, session: Session, lower: Any, higher: Any) -> None:
    session.add(graph.make_edge(lower, higher))


def _keys(graph: GraphModels, session: Session, lower: Any, higher: Any) -> None:
    edge = graph.Edge()
    edge.lower_id, edge.higher_id = lower.id, higher.id
    session.add(edge)


def _collection(graph: GraphModels, session: Session, lower: Any, higher: Any) -> None:
    collection = lower.lower_edges
    edge = graph.Edge()
    edge.higher_node = higher
    collection.append(edge)
    session.add(edge)


def _repoint(graph: GraphModels, session: Session, lower: Any, higher: Any) -> None:
    edge = session.scalars(select(graph.Edge).where(graph.Edge.lower_id == lower.id)).one()
    edge.higher_node = higher


def _repoint_key(graph: GraphModels, session: Session, lower: Any, higher: Any) -> None:
    edge = session.scalars(select(graph.Edge).where(graph.Edge.lower_id == lower.id)).one()
    edge.higher_id = higher.id


SPELLINGS = {spell.__name__: spell for spell in (_add_neighbor, _edge, _keys, _collection, _repoint, _repoint_key)}
spellings = pytest.mark.parametrize("spelling", SPELLINGS)


@spellings
def test_an_edge_that_closes_a_cycle_is_refused_before_the_first_write(
    dag: GraphModels, session: Session, spelling: str, statements: Any
) -> None:
    nodes = dag.insert(session, "abcdx", "ab bc cx")
    a, _b, c = (nodes[name] for name in "abc")
    nodes["d"].name = "changed"
    with session.no_autoflush:
        SPELLINGS[spelling](dag, session, c, a)
    with statements() as log, pytest.raises(CycleError, match="is acyclic: drop that edge") as caught:
        session.flush()
    assert names(caught.value.path) == "cabc"
    assert log.starting("INSERT", "DELETE") == []
    assert [statement for statement in log.starting("UPDATE") if "name" in statement] == []
    session.rollback()
    assert dag.pairs(session) == {"ab", "bc", "cx"}
    assert nodes["d"].name == "d"
    nodes["x"].add_neighbor(nodes["d"])
    session.commit()
    assert dag.pairs(session) == {"ab", "bc", "cx", "xd"}


@spellings
def test_an_edge_that_closes_no_cycle_is_written(dag: GraphModels, session: Session, spelling: str) -> None:
    nodes = dag.insert(session, "abcdx", "ab bc ax" if spelling.startswith("_repoint") else "ab bc")
    SPELLINGS[spelling](dag, session, nodes["b"], nodes["d"])
    session.commit()
    assert ("bd" in dag.pairs(session)) is True
    assert names(nodes["d"].lower_neighbors()) == "b"


def test_a_self_loop_is_refused(dag: GraphModels, session: Session) -> None:
    a, _ = dag.insert(session, "ab").values()
    a.add_neighbor(a)
    with pytest.raises(CycleError, match="leads back to where it starts") as caught:
        session.commit()
    assert names(caught.value.path) == "aa"


def test_pending_edges_count_together(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abcdef", "ab cd ef")
    b, c, d, e, f, a = (nodes[name] for name in "bcdefa")
    b.add_neighbor(c)
    d.add_neighbor(e)
    session.flush()
    session.rollback()
    b.add_neighbor(c)
    d.add_neighbor(e)
    f.add_neighbor(a)
    with pytest.raises(CycleError) as caught:
        session.commit()
    path = names(caught.value.path)
    assert len(path) == 7
    assert set(path) == set("abcdef")
    session.rollback()
    assert dag.pairs(session) == {"ab", "cd", "ef"}


def test_a_cycle_of_new_nodes_only_is_refused_without_sql(dag: GraphModels, session: Session, statements: Any) -> None:
    a, b, c = (dag.Node(name=name) for name in "abc")
    a.add_neighbor(b)
    b.add_neighbor(c)
    c.add_neighbor(a)
    session.add(a)
    with statements() as log, pytest.raises(CycleError, match="new Node -> new Node") as caught:
        session.flush()
    assert len(log) == 0
    assert set(names(caught.value.path)) == set("abc")
    session.rollback()


def test_a_cycle_through_new_and_stored_nodes_is_refused(dag: GraphModels, session: Session) -> None:
    a, b = dag.insert(session, "ab", "ab").values()
    new = dag.make_node("n", 7)
    b.add_neighbor(new)
    new.add_neighbor(a)
    with pytest.raises(CycleError) as caught:
        session.flush()
    assert set(names(caught.value.path)) == set("abn")


def test_an_edge_deleted_in_the_same_flush_does_not_count(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abc", "ab bc")
    a, b, c = nodes.values()
    a.remove_neighbor(b)
    c.add_neighbor(a)
    session.commit()
    assert dag.pairs(session) == {"bc", "ca"}
    (edge,) = c.lower_edges
    session.delete(edge)
    session.add(dag.make_edge(a, b))
    session.commit()
    assert dag.pairs(session) == {"ab", "bc"}


def test_edges_can_be_reversed_in_one_flush(dag: GraphModels, session: Session) -> None:
    a, b, c = dag.insert(session, "abc", "ab bc").values()
    a.remove_neighbor(b)
    b.remove_neighbor(c)
    b.add_neighbor(a)
    c.add_neighbor(b)
    session.commit()
    assert dag.pairs(session) == {"ba", "cb"}


def test_a_cycle_through_a_deleted_node_is_not_refused(dag: GraphModels, session: Session) -> None:
    a, b, c = dag.insert(session, "abc", "ab bc").values()
    session.delete(b)
    c.add_neighbor(a)
    session.commit()
    assert dag.pairs(session) == {"ca"}


def test_an_error_in_autoflush_comes_from_there_and_the_session_goes_on(dag: GraphModels, session: Session) -> None:
    a, b = dag.insert(session, "ab", "ab").values()
    b.add_neighbor(a)
    with pytest.raises(CycleError):
        session.scalars(select(dag.Node)).all()
    b.remove_neighbor(a)
    session.commit()
    assert dag.pairs(session) == {"ab"}


def test_the_path_of_an_error_can_be_read_before_the_rollback(
    dag: GraphModels, session: Session, statements: Any
) -> None:
    nodes = dag.insert(session, "abcd", "ab bc cd")
    last, first = nodes["d"].id, nodes["a"].id
    session.expunge_all()
    edge = dag.Edge()
    edge.lower_id, edge.higher_id = last, first
    session.add(edge)
    with pytest.raises(CycleError) as caught:
        session.commit()
    with statements() as log:
        assert names(caught.value.path) == "dabcd"
    assert len(log) == 0


def test_nodes_that_the_session_hides_still_lie_on_cycles(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abc", "ab bc")
    a, c = nodes["a"], nodes["c"]
    session.expunge(nodes.pop("b"))

    @event.listens_for(session, "do_orm_execute")
    def hide(state: Any) -> None:
        state.statement = state.statement.options(with_loader_criteria(dag.Node, dag.Node.name != "b"))

    c.add_neighbor(a)
    with pytest.raises(CycleError, match="3 -> 1 -> 2 -> 3") as caught:
        session.commit()
    assert names(caught.value.path) == "cac"


def test_an_end_that_does_not_exist_is_refused_before_the_first_write(dag: GraphModels, session: Session) -> None:
    a, _ = dag.insert(session, "ab").values()
    edge = dag.Edge()
    edge.lower_id, edge.higher_id = a.id, 99
    session.add(edge)
    with pytest.raises(StateError, match="Edge cannot join Node 99, which does not exist"):
        session.commit()
    session.rollback()
    assert dag.count(session) == 0


def test_a_key_and_a_node_that_differ_are_refused(dag: GraphModels, session: Session) -> None:
    a, b, c = dag.insert(session, "abc").values()
    for node in (a, b, c):
        session.refresh(node)
    edge = dag.make_edge(a, b)
    edge.higher_id = c.id
    session.add(edge)
    with pytest.raises(StateError, match="higher_id is 3, and higher_node is Node 2: assign one of them only"):
        session.commit()


@pytest.mark.parametrize("key", KEYS)
def test_cycles_are_refused_with_keys_of_every_shape(make_graph: Make, session: Session, key: str) -> None:
    graph = make_graph(key=key, acyclic=True)
    a, _b, c = graph.insert(session, "abc", "ab bc").values()
    c.add_neighbor(a)
    with pytest.raises(CycleError) as caught:
        session.commit()
    assert names(caught.value.path) == "cabc"
    session.rollback()
    a.add_neighbor(c)
    session.commit()
    assert graph.pairs(session) == {"ab", "bc", "ac"}


def test_edges_of_a_savepoint_that_is_rolled_back_do_not_count(dag: GraphModels, session: Session) -> None:
    a, b, c = dag.insert(session, "abc", "ab").values()
    with session.begin_nested() as nested:
        b.add_neighbor(c)
        session.flush()
        nested.rollback()
    c.add_neighbor(a)
    session.commit()
    assert dag.pairs(session) == {"ab", "ca"}
    with pytest.raises(CycleError), session.begin_nested():
        b.add_neighbor(c)
    assert dag.pairs(session) == {"ab", "ca"}


def test_old_cycles_are_no_reason_to_refuse_an_edge_beside_them(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abcd", "ab bc")
    # By Core, as if the edge had been written before the class was declared acyclic.
    session.execute(dag.Edge.__table__.insert(), {"lower_id": 3, "higher_id": 1, "weight": 1})
    nodes["d"].add_neighbor(nodes["a"])
    session.commit()
    assert [names(cycle) for cycle in find_cycles(session, dag.Node)] == ["abca"]
    nodes["c"].add_neighbor(nodes["d"])
    with pytest.raises(CycleError):
        session.commit()


# -- statements ----------------------------------------------------------------------------------


def test_the_check_costs_three_statements_however_many_edges(
    dag: GraphModels, session: Session, statements: Any
) -> None:
    nodes = list(dag.insert(session, "abcdefgh", "ab").values())
    for node in nodes:
        session.refresh(node)
    with session.no_autoflush:
        for lower, higher in itertools.pairwise(nodes):
            lower.add_neighbor(higher)
    with statements() as log:
        session.flush()
    writes = log.starting("INSERT")
    assert len(writes) == 1
    # MariaDB has no lock for the whole structure: the ends are locked, and then each step of the search, here one.
    assert len(log) - 1 == (2 if session.get_bind().dialect.name == "mysql" else 3), log.text


def test_the_check_of_new_nodes_costs_nothing(dag: GraphModels, session: Session, statements: Any) -> None:
    nodes = [dag.make_node(str(number), number) for number in range(50)]
    for lower, higher in itertools.pairwise(nodes):
        lower.add_neighbor(higher)
    session.add_all(nodes)
    with statements() as log:
        session.flush()
    assert {statement.split()[0] for statement in log} == {"INSERT"}


def test_deleting_edges_needs_no_check(dag: GraphModels, session: Session, statements: Any) -> None:
    a, b = dag.insert(session, "ab", "ab").values()
    session.refresh(a)
    assert names(a.higher_neighbors()) == "b"
    a.remove_neighbor(b)
    with statements() as log:
        session.flush()
    assert [statement.split()[0] for statement in log] == ["DELETE"], log.text


def test_a_flush_of_very_many_edges_reads_the_table_once(
    make_graph: Make, session: Session, statements: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqla_patterns.graphs._acyclic._MAX_ENDS", 5)
    graph = make_graph(acyclic=True)
    nodes = graph.insert(session, "abcdefgh", "ab bc")
    for node in nodes.values():
        session.refresh(node)
    a, *others = nodes.values()
    for lower in others:
        if lower is not nodes["b"]:
            a.add_neighbor(lower)
    with statements() as log:
        session.flush()
    assert ("WITH" in log.text.upper().split()) is False
    nodes["h"].add_neighbor(*others[2:-1], a)
    with pytest.raises(CycleError) as caught:
        session.flush()
    assert names(caught.value.path) == "hah"


# -- against a model -----------------------------------------------------------------------------

LETTERS = "abcdefg"
Plan = list[list[tuple[bool, tuple[str, str]]]]
pair = st.tuples(st.sampled_from(LETTERS), st.sampled_from(LETTERS))
flushes = st.lists(st.lists(st.tuples(st.booleans(), pair), min_size=1, max_size=5), min_size=1, max_size=8)


def _has_cycle(edges: set[str]) -> bool:
    left = set(LETTERS)
    while free := {node for node in left if not any(a in left and b == node for a, b in edges)}:
        left -= free
    return bool(left)


@pytest.fixture(scope="module")
def model() -> Iterator[tuple[GraphModels, Engine]]:
    """Return one graph for all examples, since mapping its classes takes longer than an example."""
    factory = BaseFactory("plain")
    graph = GraphModels(factory(), acyclic=True)
    engine = create_engine("sqlite://", poolclass=StaticPool)
    graph.create(engine)
    yield graph, engine
    engine.dispose()
    factory.dispose()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(plan=flushes)
def test_random_flushes_do_what_a_set_of_pairs_does(model: tuple[GraphModels, Engine], plan: Plan) -> None:
    _check_flushes(*model, plan)


@pytest.mark.soak
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=flushes)
def test_many_random_flushes_do_what_a_set_of_pairs_does(model: tuple[GraphModels, Engine], plan: Plan) -> None:
    _check_flushes(*model, plan)


def _check_flushes(graph: GraphModels, engine: Engine, plan: Plan) -> None:
    """Make the changes of each flush in `plan` to a graph and to a set of pairs, and compare the two."""
    with Session(engine) as session:
        for table in reversed(graph.base.metadata.sorted_tables):
            session.connection().execute(table.delete())
        nodes = graph.insert(session, LETTERS)
        model: set[str] = set()
        for changes in plan:
            wanted = set(model)
            with session.no_autoflush:
                for add, (lower, higher) in changes:
                    if add:
                        nodes[lower].add_neighbor(nodes[higher])
                        wanted.add(lower + higher)
                    else:
                        assert nodes[lower].remove_neighbor(nodes[higher]) == (lower + higher in wanted)
                        wanted.discard(lower + higher)
            if _has_cycle(wanted):
                with pytest.raises(CycleError):
                    session.commit()
                session.rollback()
            else:
                session.commit()
                model = wanted
            assert graph.pairs(session) == model
            for name, node in nodes.items():
                assert names(node.higher_neighbors()) == "".join(b for b in LETTERS if name + b in model)
                assert names(node.lower_neighbors()) == "".join(a for a in LETTERS if a + name in model)
        order = names(topological_order(session, graph.Node))
        assert all(order.index(lower) < order.index(higher) for lower, higher in model)


def test_acyclic_is_an_option_of_the_class(bases: BaseFactory) -> None:
    assert GraphModels(bases(), acyclic=True).Edge.__graph__ == GraphOptions(acyclic=True)
