"""`verify_tree` and `rebuild_tree`: damage that was done without the ORM is named, and mended where it can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, Integer, String, exc, inspect, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from sqla_patterns.trees import (
    TreeDamagedError,
    TreeNode,
    TreeProblem,
    insert_tree,
    load_tree,
    rebuild_tree,
    verify_tree,
)
from tests._support import count_statements
from tests.trees._shapes import (
    Tree,
    any_key,
    assert_in_step,
    deep_list,
    keyed,
    no_sql,
    plain_list,
    positioned,
    sorts_itself,
    writes,
)


@pytest.fixture
def damage(tree: Tree, session: Session, engine: Engine) -> Callable[..., None]:
    """Write columns of one row without the ORM and without foreign keys, and commit."""

    def write(node: Any, **values: Any) -> None:
        key = tree.pk(node)
        session.commit()
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            elif engine.dialect.name == "mysql":
                connection.exec_driver_sql("SET foreign_key_checks = 0")
            else:
                for foreign_key in inspect(engine).get_foreign_keys(tree.table.name, schema=tree.table.schema):
                    name = foreign_key["name"]
                    connection.execute(text(f"ALTER TABLE {tree.table.fullname} DROP CONSTRAINT {name}"))
            columns = inspect(tree.cls).columns
            where = columns[tree.key] == key
            changed = {columns[attr]: value for attr, value in values.items()}
            connection.execute(tree.table.update().where(where).values(changed))
            connection.commit()
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            elif engine.dialect.name == "mysql":
                connection.exec_driver_sql("SET foreign_key_checks = 1")

    return write


def kinds(problems: Sequence[TreeProblem]) -> list[tuple[str, Any]]:
    return [(problem.kind, problem.pk) for problem in problems]


def missing(tree: Tree) -> Any:
    """Return a primary key that no node has."""
    if tree.shape.key == "uuid":
        import uuid

        return uuid.UUID(int=7)
    return "nobody" if tree.shape.key == "string" else 4711


# -- verify_tree ---------------------------------------------------------------------------------


def test_sound_trees(tree: Tree, session: Session) -> None:
    """Nothing is wrong with an empty table or with what the ORM writes; the check is one SELECT for each table."""
    assert list(verify_tree(session, tree.cls)) == []
    t = tree.make(session, "a(b(d) c) e")
    t.d.parent = t.c
    session.flush()
    with count_statements() as log:
        assert list(verify_tree(session, tree.cls)) == []
    assert len(log) == len(log.starting("SELECT")) == 1 + tree.shape.index.tables, log.text


def test_the_session_is_flushed_first(tree: Tree, session: Session) -> None:
    """What is pending is checked too, also where autoflush is off."""
    t = tree.make(session, "a(b)")
    with session.no_autoflush:
        tree.attach(t.a, tree.new("c"))
        assert not verify_tree(session, tree.cls)
    assert not session.new
    assert tree.outline(session) == "a(b c)"


@any_key
def test_orphans(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """A node whose parent does not exist is named, and what lies below it is not."""
    t = tree.make(session, "a(b(c)) d")
    damage(t.b, parent_id=missing(tree))
    (problem,) = verify_tree(session, tree.cls)
    assert isinstance(problem, TreeProblem)
    assert (problem.kind, problem.pk) == ("orphan", tree.pk(t.b))
    assert repr(missing(tree)) in problem.detail
    assert repr(tree.pk(t.b)) in problem.detail


def test_a_node_that_is_its_own_parent(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """The shortest cycle is one node."""
    t = tree.make(session, "a(b) c")
    damage(t.a, parent_id=t.a.id)
    (problem,) = [problem for problem in verify_tree(session, tree.cls) if problem.kind == "cycle"]
    assert problem.pk == t.a.id
    assert f"{t.a.id} -> {t.a.id}" in problem.detail


def test_cycles(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """Each member of a cycle is named, and neither what is below the cycle nor any sound node."""
    t = tree.make(session, "z(y) a(b(c(x(w))))")
    damage(t.a, parent_id=tree.pk(t.c))
    problems = [problem for problem in verify_tree(session, tree.cls) if problem.kind == "cycle"]
    members = {tree.pk(node) for node in (t.a, t.b, t.c)}
    assert {problem.pk for problem in problems} == members
    assert len(problems) == 3
    for problem in problems:
        assert all(repr(pk) in problem.detail for pk in members)


def test_two_cycles_and_an_orphan(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """All damage is found at once, ordered by its kind."""
    t = tree.make(session, "a(b) c(d(e)) f(g)")
    damage(t.a, parent_id=t.b.id)
    damage(t.c, parent_id=t.d.id)
    damage(t.g, parent_id=4711)
    found = kinds(verify_tree(session, tree.cls))
    links = [pair for pair in found if pair[0] in ("orphan", "cycle")]
    assert links[0] == ("orphan", t.g.id)
    assert sorted(links[1:]) == sorted(("cycle", node.id) for node in (t.a, t.b, t.c, t.d))
    order = ["orphan", "cycle", "duplicate_key", "duplicate_position"]
    assert [order.index(kind) for kind, _ in found] == sorted(order.index(kind) for kind, _ in found)


@positioned
def test_doubled_positions(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """Each of several siblings at one position is named, roots too; the same number elsewhere, or a gap, is not."""
    t = tree.make(session, "a(b c d) e(f) g")
    damage(t.d, position=t.b.position)
    damage(t.g, position=t.a.position)
    damage(t.f, position=99)
    problems = verify_tree(session, tree.cls)
    expected = [("duplicate_position", node.id) for node in (t.a, t.b, t.d, t.g)]
    assert sorted(pair for pair in kinds(problems) if not pair[0].startswith("wrong_")) == sorted(expected)
    (detail,) = [each.detail for each in problems if (each.kind, each.pk) == ("duplicate_position", t.d.id)]
    assert f"position = {t.b.position}" in detail
    assert str(t.d.id) in detail


@keyed
def test_doubled_keys(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """Each of several siblings with one key is named, among roots too; the same key elsewhere is sound."""
    t = tree.make(session, "a(b c) d e(f)")
    damage(t.c, name="b")
    damage(t.d, name="a")
    damage(t.f, name="b")
    problems = verify_tree(session, tree.cls)
    assert sorted(kinds(problems)) == sorted(("duplicate_key", node.id) for node in (t.a, t.b, t.c, t.d))
    assert all("name = " in problem.detail for problem in problems)
    assert rebuild_tree(session, tree.cls) == 0
    assert len(verify_tree(session, tree.cls)) == 4


@sorts_itself
def test_equal_sort_values_are_sound(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """Where siblings sort themselves, equal values are no damage unless they are keys."""
    t = tree.make(session, "a(b c)")
    damage(t.c, name="b")
    assert len(verify_tree(session, tree.cls)) == (2 if tree.keyed else 0)


@deep_list
def test_deep_trees(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """Depth does not matter, and a cycle of 3,000 nodes is found; its text is for people all the same."""
    depth = 3_000 if tree.shape.index.deep else 150
    data: dict[str, Any] = {"name": "n"}
    for _ in range(depth - 1):
        data = {"name": "n", "children": [data]}
    (top,) = insert_tree(session, tree.cls, data)
    session.commit()
    assert not verify_tree(session, tree.cls)
    assert rebuild_tree(session, tree.cls) == 0
    last = session.scalars(select(tree.cls.id).where(tree.cls.is_leaf())).one()
    damage(top, parent_id=last)
    problems = verify_tree(session, tree.cls)
    assert len(problems) == depth
    assert {problem.kind for problem in problems} == {"cycle"}
    assert max(len(problem.detail) for problem in problems) < 2_000


def test_another_table_or_none(tree: Tree, session: Session) -> None:
    """A class that is no tree is refused."""
    for function in (verify_tree, rebuild_tree):
        with pytest.raises(InvalidArgumentError, match="no tree"):
            function(session, object)  # type: ignore[type-var]


# -- rebuild_tree --------------------------------------------------------------------------------


@positioned
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "expired"])
def test_duplicates_and_gaps_are_closed(
    tree: Tree, session: Session, damage: Callable[..., None], loaded: bool
) -> None:
    """Siblings keep their order, equals go by key, and get the numbers from 0; memory follows."""
    t = tree.make(session, "a(b c d) e(f g) h")
    if loaded:
        load_tree(session, tree.cls)
    damage(t.b, position=7)
    damage(t.c, position=7)
    damage(t.d, position=-3)
    damage(t.g, position=40)
    damage(t.h, position=t.a.position)
    if loaded:
        load_tree(session, tree.cls)
    # What lies below the roots that change places, where paths begin with their numbers.
    assert rebuild_tree(session, tree.cls) == (7 if "path" in tree.table.c else 6)
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(d b c) h e(f g)"
    positions = dict(tuple(row) for row in session.execute(select(tree.cls.name, tree.cls.position)))
    assert positions == {"a": 0, "h": 1, "e": 2, "d": 0, "b": 1, "c": 2, "f": 0, "g": 1}
    assert not verify_tree(session, tree.cls)
    assert rebuild_tree(session, tree.cls) == 0
    session.commit()
    assert tree.outline(session) == "a(d b c) h e(f g)"


@positioned
def test_loaded_nodes_that_the_damage_left_behind(tree: Tree, session: Session) -> None:
    """Nodes loaded before the damage show afterwards what the table has, also those whose rows needed no change."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    held = t.a.children
    table = tree.table
    for node, position in ((t.b, 3), (t.c, 1), (t.d, 1)):
        session.connection().execute(table.update().where(table.c.id == node.id).values(position=position))
    assert rebuild_tree(session, tree.cls) == (3 if tree.indexed and not tree.shape.index.tables else 2)
    assert tree.outline(session) == "a(c d b)"
    with no_sql():
        assert [(child.name, child.position) for child in held] == [("c", 0), ("d", 1), ("b", 2)]
    assert_in_step(session, tree)


@positioned
def test_a_list_with_an_expired_member(tree: Tree, session: Session) -> None:
    """A loaded list is in order also where one of its members is expired."""
    t = tree.make(session, "a(b c d)")
    load_tree(session, tree.cls)
    session.expire(t.c)
    table = tree.table
    session.connection().execute(table.update().where(table.c.id == t.b.id).values(position=9))
    assert rebuild_tree(session, tree.cls) == 3
    assert_in_step(session, tree)
    assert tree.names(t.a.children) == "c d b"


@positioned
def test_a_rollback_takes_it_back(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """After a rollback, also to a savepoint, memory shows the old positions again."""
    t = tree.make(session, "a(b c)")
    damage(t.b, position=5)
    load_tree(session, tree.cls)
    assert tree.names(t.a.children) == "c b"
    savepoint = session.begin_nested()
    assert rebuild_tree(session, tree.cls) == 2
    savepoint.rollback()
    assert (t.c.position, t.b.position) == (1, 5)
    assert_in_step(session, tree, after_rollback=True, index_sound=False)
    rebuild_tree(session, tree.cls)
    session.rollback()
    assert (t.c.position, t.b.position) == (1, 5)


@positioned
def test_pending_moves_come_first(tree: Tree, session: Session) -> None:
    """The session is flushed before, so its own moves and inserts keep the places they were given."""
    t = tree.make(session, "a(b c) d")
    t.c.position = 30
    session.commit()
    with session.no_autoflush:
        t.b.move_to(t.c, "after")
        tree.attach(t.a, tree.new("n"))
        assert rebuild_tree(session, tree.cls) > 0
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(c b n) d"
    assert [child.position for child in t.a.children] == [0, 1, 2]


@any_key
def test_every_kind_of_key(tree: Tree, session: Session) -> None:
    """Positions are numbered whatever the keys are; a keyed tree has none and returns 0."""
    t = tree.make(session, "a(b c)")
    if tree.positioned:
        t.c.position = 12
        session.commit()
        load_tree(session, tree.cls)
    assert rebuild_tree(session, tree.cls) == (1 if tree.positioned else 0)
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c)"


@sorts_itself
def test_nothing_to_rebuild(tree: Tree, session: Session) -> None:
    """Where siblings sort themselves nothing is derived, so nothing is written."""
    tree.make(session, "a(b c) d")
    with count_statements() as log:
        assert rebuild_tree(session, tree.cls) == 0
    assert not writes(log)


@positioned
def test_cost(tree: Tree, session: Session, engine: Engine) -> None:
    """Two SELECTs at most, three on PostgreSQL, and one batch of UPDATEs, and no UPDATE where nothing is wrong."""
    more = tree.shape.index.tables + (engine.dialect.name == "postgresql")
    t = tree.make(session, "a")
    insert_tree(session, tree.cls, [{"name": f"{i:02}"} for i in range(30)], parent=t.a)
    session.connection().execute(tree.table.update().values(position=0))
    session.commit()
    for changed in (29, 0):
        with count_statements() as log:
            assert rebuild_tree(session, tree.cls) == changed
        assert len(log.starting("SELECT")) <= 2 + more, log.text
        assert len(writes(log)) == bool(changed), log.text
        assert len(log) <= 3 + more, log.text
    assert not verify_tree(session, tree.cls)


@pytest.mark.parametrize("kind", ["orphan", "cycle"])
def test_links_that_are_broken(tree: Tree, session: Session, damage: Callable[..., None], kind: str) -> None:
    """Orphans and cycles cannot be derived: the error lists them, nothing is written, and the session goes on."""
    t = tree.make(session, "a(b(c)) d(e f)")
    damage(t.b, parent_id=4711 if kind == "orphan" else t.c.id)
    if tree.positioned:
        damage(t.f, position=77)
    with count_statements() as log, pytest.raises(TreeDamagedError) as caught:
        rebuild_tree(session, tree.cls)
    assert not writes(log), log.text
    error = caught.value
    assert isinstance(error, PatternError)
    assert isinstance(error, exc.InvalidRequestError)
    expected = {t.b.id} if kind == "orphan" else {t.b.id, t.c.id}
    assert {problem.kind for problem in error.problems} == {kind}
    assert {problem.pk for problem in error.problems} == expected
    assert "Node" in str(error)
    assert str(len(expected)) in str(error)
    session.rollback()
    if tree.positioned:
        assert session.scalar(select(tree.cls.position).where(tree.cls.name == "f")) == 77
    damage(t.b, parent_id=t.a.id)
    rebuild_tree(session, tree.cls)
    session.commit()
    assert not verify_tree(session, tree.cls)
    assert tree.outline(session) == "a(b(c)) d(e f)"


def test_columns_of_the_user_hold_still(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A new number is no edit: neither ``onupdate`` nor the version of a row notices, and a later edit goes through."""
    Base = plain_bases()
    counter = itertools.count(1)

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        edits: Mapped[int] = mapped_column(Integer, default=0, onupdate=lambda: next(counter))
        version: Mapped[int] = mapped_column(Integer)
        __mapper_args__ = {"version_id_col": version}

    Base.metadata.create_all(engine)
    top = Page(name="a")
    top.children = [Page(name="b"), Page(name="c")]
    session.add(top)
    session.commit()
    table = Page.__table__
    session.connection().execute(table.update().values(position=5, edits=0))
    session.expire_all()
    load_tree(session, Page)
    assert rebuild_tree(session, Page) == 3
    rows = session.execute(select(table.c.name, table.c.position, table.c.edits, table.c.version))
    assert {tuple(row) for row in rows} == {("a", 0, 0, 1), ("b", 0, 0, 1), ("c", 1, 0, 1)}
    assert not session.dirty
    top.children[1].name = "d"
    session.commit()
    assert (top.children[1].version, top.version) == (2, 1)


def test_rows_that_were_inserted_without_the_orm(engine: Engine, plain_bases: Any, session: Session) -> None:
    """Bulk rows with nothing but ``parent_id`` are duplicates at 0 until they are numbered by primary key."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    table = Node.__table__
    rows = [{"id": 1, "name": "a", "parent_id": None}, *({"id": i, "name": str(i), "parent_id": 1} for i in (2, 3, 4))]
    session.execute(table.insert(), rows)
    assert kinds(verify_tree(session, Node)) == [("duplicate_position", pk) for pk in (2, 3, 4)]
    assert rebuild_tree(session, Node) == 2
    assert not verify_tree(session, Node)
    (a,) = load_tree(session, Node)
    assert [(child.id, child.position) for child in a.children] == [(2, 0), (3, 1), (4, 2)]


@plain_list
def test_a_tree_below_a_node_of_a_cycle(tree: Tree, session: Session, damage: Callable[..., None]) -> None:
    """A loader that is asked for a node of a cycle shows that node, and ends."""
    t = tree.make(session, "a(b(c))")
    damage(t.a, parent_id=tree.pk(t.c))
    session.expire_all()
    (b,) = load_tree(session, tree.cls, tree.pk(t.b))
    assert b is t.b
    assert tree.names(tree.members(b)) == "c"
