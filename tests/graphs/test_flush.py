"""What a flush takes into account: ends that are not loaded, nodes deleted as orphans, changes made by listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, ForeignKeyConstraint, Integer, String, create_engine, event, func, select
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import Session, defer, mapped_column, relationship, sessionmaker, with_loader_criteria

from sqla_patterns.exceptions import StateError
from sqla_patterns.graphs import CycleError, GraphEdge, GraphNode, GraphOptions
from tests.conftest import BaseFactory
from tests.graphs._models import GraphModels, names

Make = Callable[..., GraphModels]
Change = Callable[[Any, dict[str, Any]], None]


# -- ends that are not loaded --------------------------------------------------------------------


def _after_commit(graph: GraphModels, session: Session, edge: Any) -> None:
    session.commit()


def _expired(graph: GraphModels, session: Session, edge: Any) -> None:
    session.expire(edge)


def _expired_keys(graph: GraphModels, session: Session, edge: Any) -> None:
    session.expire(edge, ["lower_id", "higher_id"])


def _expired_ends(graph: GraphModels, session: Session, edge: Any) -> None:
    session.expire(edge, ["lower_id", "lower_node", "higher_id", "higher_node"])


def _never_loaded(graph: GraphModels, session: Session, edge: Any) -> None:
    session.expunge(edge)
    keys = defer(graph.Edge.lower_id), defer(graph.Edge.higher_id)
    session.info["edge"] = session.scalars(select(graph.Edge).order_by(graph.Edge.weight).options(*keys)).all()


UNLOADED = {each.__name__: each for each in (_after_commit, _expired, _expired_keys, _expired_ends, _never_loaded)}

# For a graph 1 -> 2 -> 3: the number of an edge, and the change of one of its ends that closes a cycle.
CLOSING: dict[str, tuple[int, Change]] = {
    "higher_node": (1, lambda edge, nodes: setattr(edge, "higher_node", nodes["a"])),
    "higher_id": (1, lambda edge, nodes: setattr(edge, "higher_id", 1)),
    "lower_node": (0, lambda edge, nodes: setattr(edge, "lower_node", nodes["c"])),
    "lower_id": (0, lambda edge, nodes: setattr(edge, "lower_id", 3)),
}


def _unloaded_edge(graph: GraphModels, session: Session, unload: str, number: int) -> Any:
    edge = session.scalars(select(graph.Edge).order_by(graph.Edge.weight)).all()[number]
    UNLOADED[unload](graph, session, edge)
    return session.info["edge"][number] if "edge" in session.info else edge


@pytest.mark.parametrize("closing", CLOSING)
@pytest.mark.parametrize("unload", UNLOADED)
@pytest.mark.parametrize("surrogate", [False, True])
def test_an_edge_whose_other_end_is_not_loaded_cannot_close_a_cycle(
    make_graph: Make, session: Session, surrogate: bool, unload: str, closing: str
) -> None:
    graph = make_graph(acyclic=True, surrogate=surrogate)
    nodes = graph.insert(session, "abc", "ab1 bc2")
    number, change = CLOSING[closing]
    edge = _unloaded_edge(graph, session, unload, number)
    with session.no_autoflush:
        change(edge, nodes)
    with pytest.raises(CycleError):
        session.commit()
    session.rollback()
    assert graph.pairs(session) == {"ab", "bc"}


@pytest.mark.parametrize("unload", UNLOADED)
@pytest.mark.parametrize("surrogate", [False, True])
def test_an_edge_whose_other_end_is_not_loaded_may_be_pointed_elsewhere(
    make_graph: Make, session: Session, surrogate: bool, unload: str
) -> None:
    graph = make_graph(acyclic=True, surrogate=surrogate)
    nodes = graph.insert(session, "abcd", "ab1 bc2")
    assert names(nodes["b"].higher_neighbors()) == "c"
    edge = _unloaded_edge(graph, session, unload, 1)
    with session.no_autoflush:
        edge.higher_node = nodes["d"]
    session.commit()
    assert graph.pairs(session) == {"ab", "bd"}


@pytest.mark.parametrize(("surrogate", "selects"), [(False, 0), (True, 1)])
def test_ends_that_are_not_loaded_cost_one_select_at_most(
    make_graph: Make, session: Session, engine: Engine, statements: Any, surrogate: bool, selects: int
) -> None:
    graph = make_graph(acyclic=True, surrogate=surrogate)
    nodes = graph.insert(session, "abcdef", "ab bc cd")
    for node in nodes.values():
        session.refresh(node)
    edges = session.scalars(select(graph.Edge)).all()
    for edge in edges:
        session.expire(edge, ["lower_id", "higher_id"])
        edge.higher_node = nodes["f"]
    edge_reads: list[str] = []
    with statements() as log:
        session.flush()
    edge_reads = [each for each in log if each.startswith("SELECT") and "graph_edge.id" in each]
    # With a surrogate key the ends are read a second time, under the lock.
    assert len(edge_reads) == 2 * selects, log.text


def test_a_merged_edge_cannot_close_a_cycle(make_graph: Make, session: Session) -> None:
    graph = make_graph(acyclic=True, surrogate=True)
    nodes = graph.insert(session, "abc", "ab bc")
    stored = graph.find_edge(session, nodes["b"], nodes["c"])
    key = stored.id
    session.commit()
    session.merge(graph.Edge(id=key, higher_id=1))
    with pytest.raises(CycleError):
        session.commit()


def test_an_expired_edge_is_the_neighbour_that_is_added_again(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab", "ab").values()
    assert names(a.higher_neighbors()) == "b"
    (edge,) = a.lower_edges
    session.expire(edge)
    assert a.add_neighbor(b) == [edge]
    session.commit()
    assert graph.pairs(session) == {"ab"}
    assert len(a.lower_edges) == 1


def test_an_expired_edge_with_a_surrogate_key_is_the_neighbour_that_is_removed(
    make_graph: Make, session: Session
) -> None:
    graph = make_graph(surrogate=True)
    a, b = graph.insert(session, "ab", "ab").values()
    assert names(a.higher_neighbors()) == "b"
    session.expire(a.lower_edges[0])
    assert a.remove_neighbor(b) == 1
    assert a.higher_neighbors() == []
    session.commit()
    assert graph.pairs(session) == set()


@pytest.mark.parametrize("surrogate", [False, True])
def test_neighbours_of_expired_edges_come_in_as_few_statements(
    make_graph: Make, session: Session, statements: Any, surrogate: bool
) -> None:
    graph = make_graph(surrogate=surrogate)
    nodes = graph.insert(session, "abcd", "ab ac ad")
    a = nodes["a"]
    assert names(a.higher_neighbors()) == "bcd"
    for edge in a.lower_edges:
        session.expire(edge)
    with statements() as log:
        assert len(a.higher_neighbors()) == 3
    assert len(log) == int(surrogate)


def test_an_edge_moved_away_from_a_deleted_node_stays(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab")
    edge = graph.find_edge(session, nodes["a"], nodes["b"])
    session.commit()
    edge.higher_node = nodes["c"]
    session.delete(nodes["b"])
    session.commit()
    assert graph.pairs(session) == {"ac"}


def test_an_edge_moved_to_a_deleted_node_is_deleted(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab")
    edge = graph.find_edge(session, nodes["a"], nodes["b"])
    session.delete(nodes["c"])
    with session.no_autoflush:
        edge.higher_node = nodes["c"]
    session.commit()
    assert graph.count(session) == 0


def test_a_new_edge_to_a_deleted_node_is_not_written(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab").values()
    with session.no_autoflush:
        a.add_neighbor(b)
        session.delete(b)
    session.commit()
    assert graph.count(session) == 0
    assert a.higher_neighbors() == []


def test_an_edge_moved_by_another_transaction_is_not_combined_with_it(
    plain_bases: BaseFactory, engine_factory: Callable[..., Engine]
) -> None:
    engine = engine_factory()
    graph = GraphModels(plain_bases(), acyclic=True, surrogate=True)
    graph.create(engine)
    with Session(engine, expire_on_commit=False) as slow, Session(engine) as quick:
        nodes = graph.insert(slow, "abcde", "ab")
        edge = graph.find_edge(slow, nodes["a"], nodes["b"])
        slow.commit()
        quick.scalars(select(graph.Edge)).one().lower_id = nodes["c"].id
        quick.commit()
        edge.higher_id = nodes["d"].id
        with pytest.raises(StateError, match="has been pointed elsewhere by another transaction"):
            slow.commit()
    engine.dispose()


@pytest.mark.parametrize("by_key", [False, True])
def test_a_node_replaced_by_one_of_its_key_keeps_no_edge_but_the_new_ones(
    graph: GraphModels, session: Session, by_key: bool
) -> None:
    nodes = graph.insert(session, "abc", "ab bc")
    key = nodes["b"].id
    with session.no_autoflush:
        session.delete(nodes["b"])
        new = graph.make_node("n", key - 1)
        session.add(new)
        if by_key:
            edge = graph.Edge()
            edge.lower_id, edge.higher_id = nodes["a"].id, key
            session.add(edge)
        else:
            nodes["a"].add_neighbor(new, weight=7)
    session.commit()
    assert graph.pairs(session) == {"an"}
    assert names(new.lower_neighbors()) == "a"


# -- orphans of other relationships --------------------------------------------------------------


class Projects:
    """Classes of programmes with projects with tasks, each of which deletes its orphans; the tasks form a graph."""

    def __init__(self, base: Any, engine: Engine, *, acyclic: bool = False) -> None:
        class Programme(base):  # type: ignore[misc]
            __tablename__ = "programme"
            id = mapped_column(Integer, primary_key=True)
            projects = relationship(lambda: Project, cascade="all, delete-orphan")

        class Project(base):  # type: ignore[misc]
            __tablename__ = "project"
            id = mapped_column(Integer, primary_key=True)
            programme_id = mapped_column(ForeignKey("programme.id"))
            tasks = relationship(
                lambda: Task, cascade="all, delete-orphan", order_by=lambda: Task.id, back_populates="project"
            )

        class Task(GraphNode, base):  # type: ignore[misc]
            __tablename__ = "task"
            id = mapped_column(Integer, primary_key=True)
            name = mapped_column(String(20))
            project_id = mapped_column(ForeignKey("project.id"))
            project = relationship(lambda: Project, back_populates="tasks")

        class Needs(GraphEdge[Task], base):  # type: ignore[misc]
            __tablename__ = "needs"
            __graph__ = GraphOptions(acyclic=acyclic)
            notes = relationship(lambda: Note, cascade="all, delete-orphan")
            reason = mapped_column(String(20))

        class Note(base):  # type: ignore[misc]
            __tablename__ = "note"
            id = mapped_column(Integer, primary_key=True)
            lower_id = mapped_column(Integer)
            higher_id = mapped_column(Integer)
            __table_args__ = (ForeignKeyConstraint(["lower_id", "higher_id"], ["needs.lower_id", "needs.higher_id"]),)

        self.Programme, self.Project, self.Task, self.Needs, self.Note = Programme, Project, Task, Needs, Note
        base.metadata.create_all(engine)

    def insert(self, session: Session, letters: str, edges: str) -> tuple[Any, dict[str, Any]]:
        tasks = {name: self.Task(id=number, name=name) for number, name in enumerate(letters, 1)}
        project = self.Project(tasks=list(tasks.values()))
        session.add(self.Programme(projects=[project]))
        for lower, higher in edges.split():
            tasks[lower].add_neighbor(tasks[higher])
        session.commit()
        return project, tasks

    def pairs(self, session: Session) -> set[tuple[int, int]]:
        table = self.Needs.__table__
        return {
            (lower, higher)
            for lower, higher in session.connection().execute(select(table.c.lower_id, table.c.higher_id))
        }


@pytest.fixture
def projects(plain_bases: BaseFactory, engine: Engine) -> Projects:
    return Projects(plain_bases(), engine)


@pytest.fixture
def acyclic_projects(plain_bases: BaseFactory, engine: Engine) -> Projects:
    return Projects(plain_bases(), engine, acyclic=True)


def test_the_edges_of_an_orphan_are_deleted(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab bc ac")
    project.tasks.remove(tasks["b"])
    session.commit()
    assert projects.pairs(session) == {(1, 3)}


def test_the_edges_of_an_orphan_whose_owner_was_set_to_none_are_deleted(
    acyclic_projects: Projects, session: Session
) -> None:
    _, tasks = acyclic_projects.insert(session, "abc", "ab bc")
    assert tasks["b"].project is not None
    with session.no_autoflush:
        tasks["b"].project = None
        tasks["c"].add_neighbor(tasks["a"])
    session.commit()
    assert acyclic_projects.pairs(session) == {(3, 1)}


def test_a_node_with_the_key_of_an_orphan_does_not_get_its_neighbours(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab bc")
    project.tasks.remove(tasks["b"])
    session.commit()
    new = projects.Task(id=2, name="new")
    project.tasks.append(new)
    session.commit()
    assert (new.lower_neighbors(), new.higher_neighbors()) == ([], [])


def test_the_edges_of_orphans_of_orphans_are_deleted(projects: Projects, session: Session) -> None:
    project, _ = projects.insert(session, "abc", "ab bc")
    other = projects.Task(id=9, name="z")
    session.add(other)
    other.add_neighbor(session.get(projects.Task, 1))
    session.commit()
    programme = session.scalars(select(projects.Programme)).one()
    programme.projects.remove(project)
    session.commit()
    assert projects.pairs(session) == set()
    assert other.higher_neighbors() == []


def test_loaded_neighbours_of_an_orphan_lose_it_in_the_flush(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab bc ac")
    assert names(tasks["a"].higher_neighbors()) == "bc"
    assert names(tasks["c"].lower_neighbors()) == "ab"
    project.tasks.remove(tasks["b"])
    session.flush()
    assert names(tasks["a"].higher_neighbors()) == "c"
    assert names(tasks["c"].lower_neighbors()) == "a"


def test_edges_of_orphans_that_are_in_the_session_leave_it(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab bc ac")
    edges = session.scalars(select(projects.Needs)).all()
    project.tasks.remove(tasks["b"])
    session.flush()
    assert [(edge.lower_id, edge.higher_id) for edge in edges if edge in session] == [(1, 3)]


def test_children_of_the_edges_of_an_orphan_are_deleted(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "ab", "ab")
    edge = session.scalars(select(projects.Needs)).one()
    edge.notes.append(projects.Note())
    session.commit()
    project.tasks.remove(tasks["b"])
    session.commit()
    assert session.scalars(select(projects.Note)).all() == []


def test_children_of_a_changed_edge_of_an_orphan_are_deleted(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "ab", "ab")
    edge = session.scalars(select(projects.Needs)).one()
    edge.notes.append(projects.Note())
    session.commit()
    edge.reason = "changed"
    project.tasks.remove(tasks["b"])
    session.commit()
    assert session.scalars(select(projects.Note)).all() == []


def test_a_savepoint_brings_an_orphan_and_its_edges_back(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab bc")
    for task in tasks.values():
        task.higher_neighbors(), task.lower_neighbors()
    nested = session.begin_nested()
    project.tasks.remove(tasks["b"])
    session.flush()
    nested.rollback()
    assert names(tasks["a"].higher_neighbors()) == "b"
    assert names(tasks["c"].lower_neighbors()) == "b"
    assert names(tasks["b"].higher_neighbors()) == "c"


def test_orphans_cost_one_select_and_one_delete_of_edges(projects: Projects, session: Session, statements: Any) -> None:
    project, tasks = projects.insert(session, "abcdef", "ab bc cd de ef")
    for task in tasks.values():
        session.refresh(task)
    assert len(project.tasks) == 6
    with statements() as log:
        project.tasks = [tasks["a"], tasks["f"]]
        session.flush()
    edges = [each.split()[0] for each in log if "needs" in each and "note" not in each]
    assert edges == ["SELECT", "DELETE"], log.text


def test_a_cycle_through_an_orphan_is_not_refused(acyclic_projects: Projects, session: Session) -> None:
    project, tasks = acyclic_projects.insert(session, "abc", "ab bc")
    project.tasks.remove(tasks["b"])
    with session.no_autoflush:
        tasks["c"].add_neighbor(tasks["a"])
    session.commit()
    assert acyclic_projects.pairs(session) == {(3, 1)}


def test_a_cycle_through_an_orphan_of_an_orphan_is_not_refused(acyclic_projects: Projects, session: Session) -> None:
    project, tasks = acyclic_projects.insert(session, "abc", "ab bc")
    tasks["a"].project_id = tasks["c"].project_id = None
    session.commit()
    programme = session.scalars(select(acyclic_projects.Programme)).one()
    assert project.tasks == [tasks["b"]]
    programme.projects.remove(project)
    with session.no_autoflush:
        tasks["c"].add_neighbor(tasks["a"])
    session.commit()
    assert acyclic_projects.pairs(session) == {(3, 1)}


def test_a_cycle_beside_an_orphan_is_refused(acyclic_projects: Projects, session: Session) -> None:
    project, tasks = acyclic_projects.insert(session, "abcd", "ab bc")
    project.tasks.remove(tasks["d"])
    with session.no_autoflush:
        tasks["c"].add_neighbor(tasks["a"])
    with pytest.raises(CycleError, match="3 -> 1 -> 2 -> 3"):
        session.commit()
    session.rollback()
    assert acyclic_projects.pairs(session) == {(1, 2), (2, 3)}


def test_a_new_edge_to_an_orphan_is_refused(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab")
    project.tasks.remove(tasks["c"])
    with session.no_autoflush:
        tasks["a"].add_neighbor(tasks["c"])
    with pytest.raises(StateError, match="a new Needs cannot join a Task that the same flush deletes"):
        session.commit()
    session.rollback()
    assert projects.pairs(session) == {(1, 2)}


def test_a_task_that_changes_its_project_is_no_orphan(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "ab", "ab")
    other = projects.Project()
    session.add(other)
    with session.no_autoflush:
        project.tasks.remove(tasks["b"])
        other.tasks.append(tasks["b"])
    session.commit()
    assert projects.pairs(session) == {(1, 2)}


def test_the_edges_of_an_orphan_are_deleted_where_foreign_keys_are_not_enforced(plain_bases: BaseFactory) -> None:
    engine = create_engine("sqlite://")  # SQLite does not enforce foreign keys by default.
    projects = Projects(plain_bases(), engine)
    with Session(engine) as session:
        project, tasks = projects.insert(session, "abc", "ab bc ac")
        project.tasks.remove(tasks["b"])
        session.commit()
        project.tasks.append(projects.Task(id=2, name="new"))
        session.commit()
        assert projects.pairs(session) == {(1, 3)}
        assert session.get_one(projects.Task, 2).higher_neighbors() == []
    engine.dispose()


def test_the_edges_of_a_node_deleted_by_a_listener_are_deleted_where_foreign_keys_are_not_enforced(
    plain_bases: BaseFactory,
) -> None:
    engine = create_engine("sqlite://")
    graph = GraphModels(plain_bases(), acyclic=True)
    graph.create(engine)

    def change(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
        session.delete(nodes["b"])

    session, nodes = _insert_with_listener(graph, sessionmaker(engine), "abcx", "ab bc ac", change)
    with session:
        nodes["x"].name = "y"
        session.commit()
        assert graph.pairs(session) == {"ac"}
    engine.dispose()


# -- listeners of the user's that run after the library's ----------------------------------------


@pytest.fixture
def maker(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine)


Listener = Callable[[GraphModels, Session, dict[str, Any]], None]


def _adds(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
    nodes["c"].add_neighbor(nodes["a"])


def _adds_keys(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
    edge = graph.Edge()
    edge.lower_id, edge.higher_id = 3, 1
    session.add(edge)


def _turns(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
    graph.find_edge(session, nodes["b"], nodes["c"]).higher_node = nodes["a"]


def _turns_key(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
    graph.find_edge(session, nodes["a"], nodes["b"]).lower_id = 3


LISTENERS: dict[str, Listener] = {each.__name__: each for each in (_adds, _adds_keys, _turns, _turns_key)}


def _insert_with_listener(
    graph: GraphModels, maker: sessionmaker[Session], letters: str, edges: str, change: Listener
) -> tuple[Session, dict[str, Any]]:
    """Return a session and its nodes by name; a flush of the session calls `change` if node x is renamed in it."""
    session = maker()
    nodes = graph.insert(session, letters, edges)

    @event.listens_for(maker, "before_flush")
    def listen(session: Session, context: object, instances: object) -> None:
        if nodes["x"] in session.dirty:
            change(graph, session, nodes)

    return session, nodes


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_before_flush_listener_cannot_close_a_cycle(
    dag: GraphModels, maker: sessionmaker[Session], listener: str, statements: Any
) -> None:
    session, nodes = _insert_with_listener(dag, maker, "abcx", "ab bc", LISTENERS[listener])
    with session:
        nodes["x"].name = "y"
        with statements() as log, pytest.raises(CycleError):
            session.commit()
        assert log.starting("INSERT", "DELETE") == []
        session.rollback()
        assert dag.pairs(session) == {"ab", "bc"}


def test_an_edge_that_a_before_flush_listener_adds_by_keys_shows_in_loaded_collections(
    dag: GraphModels, maker: sessionmaker[Session]
) -> None:
    session, nodes = _insert_with_listener(dag, maker, "abcx", "ab", _adds_keys)
    with session:
        assert nodes["c"].higher_neighbors() == nodes["a"].lower_neighbors() == []
        nodes["x"].name = "y"
        session.flush()
        assert names(nodes["c"].higher_neighbors()) == "a"
        assert names(nodes["a"].lower_neighbors()) == "c"
        session.commit()
        assert dag.pairs(session) == {"ab", "ca"}


def test_an_edge_that_a_before_flush_listener_points_elsewhere_moves_in_loaded_collections(
    graph: GraphModels, maker: sessionmaker[Session]
) -> None:
    session, nodes = _insert_with_listener(graph, maker, "abcx", "ab", _turns_key)
    with session:
        assert names(nodes["a"].higher_neighbors()) == "b"
        assert names(nodes["c"].higher_neighbors()) == ""
        nodes["x"].name = "y"
        session.flush()
        assert names(nodes["a"].higher_neighbors()) == ""
        assert names(nodes["c"].higher_neighbors()) == "b"


def test_the_edges_of_a_node_that_a_before_flush_listener_deletes_are_deleted(
    dag: GraphModels, maker: sessionmaker[Session]
) -> None:
    def change(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
        session.delete(nodes["b"])

    session, nodes = _insert_with_listener(dag, maker, "abcx", "ab bc ac", change)
    with session:
        assert names(nodes["a"].higher_neighbors()) == "bc"
        nodes["x"].name = "y"
        session.flush()
        assert names(nodes["a"].higher_neighbors()) == "c"
        session.commit()
        assert dag.pairs(session) == {"ac"}


def test_an_edge_that_a_before_flush_listener_deletes_leaves_loaded_collections(
    graph: GraphModels, maker: sessionmaker[Session]
) -> None:
    def change(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
        session.delete(graph.find_edge(session, nodes["a"], nodes["b"]))

    session, nodes = _insert_with_listener(graph, maker, "abcx", "ab ac", change)
    with session:
        assert names(nodes["a"].higher_neighbors()) == "bc"
        nodes["x"].name = "y"
        session.flush()
        assert names(nodes["a"].higher_neighbors()) == "c"


def test_an_edge_that_loses_an_end_in_a_before_flush_listener_is_deleted(
    graph: GraphModels, maker: sessionmaker[Session]
) -> None:
    def change(graph: GraphModels, session: Session, nodes: dict[str, Any]) -> None:
        graph.find_edge(session, nodes["a"], nodes["b"]).lower_node = None

    session, nodes = _insert_with_listener(graph, maker, "abcx", "ab ac", change)
    with session:
        nodes["x"].name = "y"
        session.commit()
        assert graph.pairs(session) == {"ac"}


def test_a_listener_of_one_session_counts_as_well(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abc", "ab bc")

    @event.listens_for(session, "before_flush")
    def listen(session: Session, context: object, instances: object) -> None:
        _adds_keys(dag, session, nodes)

    nodes["b"].name = "y"
    with pytest.raises(CycleError):
        session.commit()


def test_a_flush_that_no_listener_changes_costs_no_second_check(
    dag: GraphModels, session: Session, statements: Any
) -> None:
    a, b, _ = dag.insert(session, "abc", "bc").values()
    session.refresh(a)
    session.refresh(b)
    a.add_neighbor(b)
    with statements() as log:
        session.flush()
    assert len([each for each in log if "WITH" in each.upper().split() or "FOR SHARE" in each]) <= 1, log.text
    assert len(log) <= 4, log.text


# -- mapper events -------------------------------------------------------------------------------

LATE: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "higher_id": lambda edge, nodes: setattr(edge, "higher_id", 1),
    "higher_node": lambda edge, nodes: setattr(edge, "higher_node", nodes["a"]),
    "lower_id": lambda edge, nodes: setattr(edge, "lower_id", 1),
    "lower_node": lambda edge, nodes: setattr(edge, "lower_node", nodes["a"]),
}


@pytest.mark.parametrize("change", LATE)
@pytest.mark.parametrize("acyclic", [False, True])
def test_before_insert_cannot_change_an_end(make_graph: Make, session: Session, acyclic: bool, change: str) -> None:
    graph = make_graph(acyclic=acyclic)
    nodes = graph.insert(session, "abcd", "ab bc")

    @event.listens_for(graph.Edge, "before_insert")
    def rewrite(mapper: object, connection: object, edge: Any) -> None:
        LATE[change](edge, nodes)

    nodes["c"].add_neighbor(nodes["d"])
    with pytest.raises(StateError, match=f"Edge.{change} cannot be set while a flush writes"):
        session.commit()
    session.rollback()
    assert graph.pairs(session) == {"ab", "bc"}


@pytest.mark.parametrize("change", LATE)
@pytest.mark.parametrize("surrogate", [False, True])
def test_before_update_cannot_change_an_end(make_graph: Make, session: Session, surrogate: bool, change: str) -> None:
    graph = make_graph(acyclic=True, surrogate=surrogate)
    nodes = graph.insert(session, "abcd", "ab bc cd")

    @event.listens_for(graph.Edge, "before_update")
    def rewrite(mapper: object, connection: object, edge: Any) -> None:
        LATE[change](edge, nodes)

    graph.find_edge(session, nodes["c"], nodes["d"]).weight = 7
    with pytest.raises(StateError, match=f"Edge.{change} cannot be set while a flush writes"):
        session.commit()
    session.rollback()
    assert graph.pairs(session) == {"ab", "bc", "cd"}


def test_an_event_of_another_class_cannot_change_an_end(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abc", "ab bc")
    edge = dag.find_edge(session, nodes["b"], nodes["c"])

    @event.listens_for(dag.Node, "before_update")
    def rewrite(mapper: object, connection: object, node: Any) -> None:
        edge.higher_id = 1

    nodes["a"].name = "y"
    edge.weight = 5
    with pytest.raises(StateError, match="cannot be set while a flush writes"):
        session.commit()
    session.rollback()
    assert dag.pairs(session) == {"ab", "bc"}


def test_the_same_end_may_be_set_in_an_event(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abc", "ab")

    @event.listens_for(dag.Edge, "before_insert")
    def rewrite(mapper: object, connection: object, edge: Any) -> None:
        edge.higher_id, edge.lower_node = 3, nodes["b"]

    nodes["b"].add_neighbor(nodes["c"])
    session.commit()
    assert dag.pairs(session) == {"ab", "bc"}


def test_an_event_may_change_other_attributes_of_an_edge(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "ab")

    @event.listens_for(dag.Edge, "before_insert")
    def rewrite(mapper: object, connection: object, edge: Any) -> None:
        edge.weight = 42

    nodes["a"].add_neighbor(nodes["b"])
    session.commit()
    assert session.scalars(select(dag.Edge.weight)).all() == [42]


def test_an_edge_that_an_event_adds_is_checked_by_the_next_flush(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abcx", "ab bc")

    @event.listens_for(dag.Node, "before_update")
    def add(mapper: object, connection: object, node: Any) -> None:
        _adds_keys(dag, session, nodes)

    nodes["x"].name = "y"
    with pytest.warns(SAWarning, match="not currently supported within the execution stage"):
        session.flush()
    with pytest.raises(CycleError):
        session.commit()
    session.rollback()
    assert dag.pairs(session) == {"ab", "bc"}


def test_ends_can_be_set_again_after_a_flush_that_failed(dag: GraphModels, session: Session) -> None:
    nodes = dag.insert(session, "abcd", "ab bc")

    def refuse(mapper: object, connection: object, edge: Any) -> None:
        edge.higher_id = 1

    event.listen(dag.Edge, "before_insert", refuse)
    nodes["c"].add_neighbor(nodes["d"])
    with pytest.raises(StateError):
        session.commit()
    session.rollback()
    event.remove(dag.Edge, "before_insert", refuse)
    dag.find_edge(session, nodes["b"], nodes["c"]).higher_id = nodes["d"].id
    session.commit()
    assert dag.pairs(session) == {"ab", "bd"}


# -- criteria of the session ---------------------------------------------------------------------


def _hide(session: Session, entity: Any, criterion: Any) -> None:
    """Hide rows by the soft-delete recipe of SQLAlchemy's documentation."""

    @event.listens_for(session, "do_orm_execute")
    def visible(state: Any) -> None:
        if state.is_select and not state.is_column_load and not state.is_relationship_load:
            state.statement = state.statement.options(with_loader_criteria(entity, criterion, include_aliases=True))


def test_hidden_edges_of_a_deleted_node_are_deleted(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab1 bc9 ac1")
    _hide(session, graph.Edge, graph.Edge.weight < 5)
    session.delete(nodes["b"])
    session.commit()
    assert graph.pairs(session) == {"ac"}


def test_a_listener_that_adds_a_condition_hides_no_edge(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab1 bc9 ac1")

    @event.listens_for(session, "do_orm_execute")
    def visible(state: Any) -> None:
        if state.is_select and not state.is_column_load:
            state.statement = state.statement.where(graph.Edge.weight < 5)

    session.delete(nodes["b"])
    session.commit()
    assert graph.pairs(session) == {"ac"}


def test_a_session_that_filters_in_its_execute_method_hides_no_edge(graph: GraphModels, engine: Engine) -> None:
    class Filtering(Session):
        def execute(self, statement: Any, *args: Any, **options: Any) -> Any:
            return super().execute(_filtered(statement), *args, **options)

        def scalars(self, statement: Any, *args: Any, **options: Any) -> Any:
            return super().scalars(_filtered(statement), *args, **options)

    def _filtered(statement: Any) -> Any:
        edges = statement.is_select and statement.column_descriptions[0].get("entity") is graph.Edge
        return statement.where(graph.Edge.weight < 5) if edges else statement

    with Filtering(engine) as session:
        nodes = graph.insert(session, "abc", "ab1 bc9 ac1")
        session.delete(nodes["b"])
        session.commit()
        assert graph.pairs(session) == {"ac"}


def test_edges_are_loaded_with_a_session_that_overrides_get_bind(graph: GraphModels, engine: Engine) -> None:
    class Routing(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            return engine

    with Routing() as session:
        nodes = graph.insert(session, "abc", "ab bc ac")
        session.delete(nodes["b"])
        session.commit()
        assert graph.pairs(session) == {"ac"}


def test_hidden_edges_of_an_orphan_are_deleted(projects: Projects, session: Session) -> None:
    project, tasks = projects.insert(session, "abc", "ab bc")
    edge = session.scalars(select(projects.Needs).where(projects.Needs.higher_id == 3)).one()
    edge.reason = "hidden"
    session.commit()
    _hide(session, projects.Needs, func.coalesce(projects.Needs.reason, "") != "hidden")
    project.tasks.remove(tasks["b"])
    session.commit()
    assert projects.pairs(session) == set()


def test_a_hidden_edge_is_found_when_its_neighbour_is_added_again(graph: GraphModels, session: Session) -> None:
    a, b = graph.insert(session, "ab", "ab9").values()
    _hide(session, graph.Edge, graph.Edge.weight < 5)
    a.add_neighbor(b)
    session.commit()
    assert graph.pairs(session) == {"ab"}


def test_an_edge_is_pointed_at_a_hidden_node_by_its_key(graph: GraphModels, session: Session) -> None:
    nodes = graph.insert(session, "abc", "ab")
    edge, key, hidden = graph.find_edge(session, nodes["a"], nodes["b"]), nodes["c"].id, graph.Node
    session.commit()
    session.expunge(nodes.pop("c"))
    _hide(session, hidden, hidden.name != "c")
    edge.higher_id = key
    session.commit()
    assert graph.pairs(session) == {"ac"}
