"""`ClosureTable` beyond the contract of all trees: its table, its rows after any flush, its cost, races on a path."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, ForeignKey, MetaData, String, Table, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column, registry

from sqla_patterns.exceptions import MappingError
from sqla_patterns.trees import (
    ClosureTable,
    InvalidMoveError,
    KeyedTreeNode,
    TreeNode,
    TreeOptions,
    _closure_table,
    delete_subtree,
    insert_tree,
    load_tree,
    rebuild_tree,
    verify_tree,
    walk_tree,
)
from tests._support import Database, StatementLog, assert_empty_diff, count_statements
from tests.conftest import BaseFactory
from tests.trees import _machine
from tests.trees._indexes import assert_index_sound
from tests.trees._shapes import INDEXES, Shape, Tree, assert_in_step, writes
from tests.trees.test_concurrency import (
    World,
    all_well,
    is_refused,
    is_serialization_failure,
    levels,
    make_world,
    one_after_the_other,
    together,
)

__all__ = ("make_world",)  # A fixture.

SERVERS = ("postgresql", "mariadb")
(CLOSURE,) = (index for index in INDEXES if index.mixin is ClosureTable)
LIST = Shape("plain", "list", index=CLOSURE)
SORTED = Shape("plain", "sorted", index=CLOSURE)

as_list = pytest.mark.parametrize("shape", [LIST], ids=str)
as_list_or_sorted = pytest.mark.parametrize("shape", [LIST, SORTED], ids=str)


def closure_of(cls: Any) -> Table:
    table: Table = cls.__table__
    return table.metadata.tables[f"{table.fullname}_closure"]


def pairs(tree: Tree, session: Session) -> list[str]:
    """Return the rows of the closure as ``"above below depth"``."""
    links, up, down = closure_of(tree.cls), tree.table.alias(), tree.table.alias()
    statement = (
        select(up.c.name, down.c.name, links.c.depth)
        .join_from(links, up, up.c.id == links.c.ancestor_id)
        .join(down, down.c.id == links.c.descendant_id)
    )
    return sorted(f"{row[0]} {row[1]} {row[2]}" for row in session.connection().execute(statement))


def of_closure(log: StatementLog) -> list[str]:
    """Return the statements of a log that change the closure, by their first word; with a CTE, the one behind it."""
    return [
        "INSERT" if "INSERT INTO node_closure" in statement else "DELETE"
        for statement in log
        if "INSERT INTO node_closure" in statement or "DELETE FROM node_closure" in statement
    ]


# -- the table -----------------------------------------------------------------------------------

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def test_the_table_is_complete_and_named_by_convention(engine: Engine, bases: Any) -> None:
    """Keys, foreign keys and index are there when the class is mapped, and Alembic finds nothing to do."""
    Base = bases(metadata=MetaData(naming_convention=NAMING))

    class Unit(ClosureTable, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "unit"
        id: Mapped[int] = mapped_column(primary_key=True)

    closure = closure_of(Unit)
    assert [column.name for column in closure.c] == ["ancestor_id", "descendant_id", "depth"]
    assert closure.primary_key.name == "pk_unit_closure"
    assert {key.name for key in closure.foreign_key_constraints} == {
        "fk_unit_closure_ancestor_id_unit",
        "fk_unit_closure_descendant_id_unit",
    }
    assert {key.ondelete for key in closure.foreign_key_constraints} == {"CASCADE"}
    assert {index.name for index in closure.indexes} == {"ix_unit_closure_ancestor_id_depth_descendant_id"}
    assert not any(column.nullable for column in closure.c)
    Base.metadata.create_all(engine)
    assert_empty_diff(engine, Base.metadata)


def test_a_schema_and_the_options_of_the_users_table_are_taken_over(plain_bases: Any) -> None:
    """The closure is in the schema of its tree; on MariaDB it has the engine and the collation of the other table."""

    class Unit(ClosureTable, TreeNode, plain_bases(metadata=MetaData(schema="elsewhere"))):  # type: ignore[misc]
        __tablename__ = "unit"
        __table_args__ = {"schema": "here", "mysql_charset": "latin1", "mysql_comment": "mine"}
        code: Mapped[str] = mapped_column(String(8), primary_key=True)

    closure = closure_of(Unit)
    assert closure.fullname == "here.unit_closure"
    assert closure.c.ancestor_id.type is Unit.__table__.c.code.type
    assert closure.dialect_options["mysql"]["charset"] == "latin1"
    assert "mysql_comment" not in closure.dialect_kwargs


def test_a_name_that_is_taken_is_refused_when_the_class_is_mapped(plain_bases: Any) -> None:
    """The error names class and table."""
    Base = plain_bases()

    class Other(Base):  # type: ignore[misc]
        __tablename__ = "unit_closure"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match=r"'Unit' needs the name 'unit_closure'.*rename"):

        class Unit(ClosureTable, TreeNode, Base):  # type: ignore[misc]
            __tablename__ = "unit"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_class_that_is_no_tree_is_refused(plain_bases: Any) -> None:
    """The mixin alone would be an index of nothing."""
    with pytest.raises(MappingError, match=r"ClosureTable on 'Unit'.*TreeNode"):

        class Unit(ClosureTable, plain_bases()):  # type: ignore[misc]
            __tablename__ = "unit"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_composite_key_is_refused_before_there_is_a_second_table(plain_bases: Any) -> None:
    """As on any tree."""
    Base = plain_bases()
    with pytest.raises(MappingError, match="primary key of one column"):

        class Unit(ClosureTable, TreeNode, Base):  # type: ignore[misc]
            __tablename__ = "unit"
            a: Mapped[int] = mapped_column(primary_key=True)
            b: Mapped[int] = mapped_column(primary_key=True)

    assert set(Base.metadata.tables) == set()


def test_a_table_may_be_mapped_twice(plain_bases: Any) -> None:
    """Two classes of one table share its closure."""
    Base = plain_bases()

    class Unit(ClosureTable, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "unit"
        id: Mapped[int] = mapped_column(primary_key=True)

    closure = closure_of(Unit)
    other = registry(metadata=Base.metadata)

    class Again(ClosureTable, TreeNode):
        __table__ = Unit.__table__
        parent_id = __table__.c.parent_id
        position = __table__.c.position

    other.mapped(Again)
    assert closure_of(Again) is closure
    other.dispose()


@pytest.mark.parametrize("joined", [False, True], ids=["single", "joined"])
def test_subclasses_share_the_closure(engine: Engine, session: Session, bases: Any, joined: bool) -> None:
    """Nodes of all classes below the mapped one are in it, and whichever is asked gets its own."""
    Base = bases()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}

    class Entry(ClosureTable, KeyedTreeNode, Base):  # type: ignore[misc]
        __tablename__ = "entry"
        __tree__ = TreeOptions(key="name")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "entry"}
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        kind: Mapped[str] = mapped_column(String(20), **no_init)
        name: Mapped[str] = mapped_column(String(50))

    body: dict[str, Any] = {"__module__": __name__, "__mapper_args__": {"polymorphic_identity": "file"}}
    if joined:
        body |= {
            "__tablename__": "file",
            "__annotations__": {"id": Mapped[int]},
            "id": mapped_column(ForeignKey("entry.id"), primary_key=True, **no_init),
        }
    File: Any = type("File", (Entry,), body)
    Base.metadata.create_all(engine)
    assert set(Base.metadata.tables) == {"entry", "entry_closure", *(["file"] if joined else [])}
    top, inner, file = Entry(name="top"), Entry(name="inner"), File(name="file")
    top.children["inner"] = inner
    inner.children["file"] = file
    session.add(top)
    session.commit()
    assert_index_sound(session.connection(), Entry)
    assert session.scalars(select(File.name).where(File.descendant_of(top))).all() == ["file"]
    assert set(session.scalars(select(Entry.name).where(Entry.ancestor_of(file)))) == {"top", "inner"}
    file.parent = top
    session.flush()
    assert_index_sound(session.connection(), Entry)
    session.delete(top)
    session.commit()
    assert session.scalar(select(func.count()).select_from(closure_of(Entry))) == 0
    assert_empty_diff(engine, Base.metadata)


# -- rows ----------------------------------------------------------------------------------------


@as_list
def test_each_node_is_there_with_itself_and_all_above(tree: Tree, session: Session) -> None:
    """With how many edges lie between."""
    tree.make(session, "a(b(c)) d")
    assert pairs(tree, session) == ["a a 0", "a b 1", "a c 2", "b b 0", "b c 1", "c c 0", "d d 0"]


@as_list_or_sorted
def test_parent_and_child_change_places(tree: Tree, session: Session) -> None:
    """Subtrees that hang below either follow."""
    t = tree.make(session, "r(a(b(c(d)) x))")
    with session.no_autoflush:
        t.b.parent = t.r
        t.a.parent = t.b
    with count_statements() as log:
        session.flush()
    assert of_closure(log) == ["DELETE", "INSERT"]
    assert_in_step(session, tree)
    assert sorted(tree.outline(session)) == sorted("r(b(c(d) a(x)))")
    with session.no_autoflush:  # And a chain upside down.
        t.r.parent = t.b
        t.b.parent = t.c
        t.c.parent = t.d
        t.d.parent = None
    session.flush()
    assert_in_step(session, tree)


@as_list
def test_moves_below_new_nodes_whose_key_the_database_makes(tree: Tree, session: Session) -> None:
    """New nodes below moved ones below new ones: two statements for all moves, one for all new nodes."""
    t = tree.make(session, "a(b(c(d))) e")
    with session.no_autoflush:
        n1 = tree.new("n1", t.e)
        n2 = tree.new("n2", n1)
        t.b.parent = n2
        n3 = tree.new("n3", t.c)
        t.d.parent = n3
        session.add_all([n1, n2, n3])
    with count_statements() as log:
        session.flush()
    assert of_closure(log) == ["DELETE", "INSERT", "INSERT"], log.text
    assert_in_step(session, tree)
    assert tree.outline(session) == "a e(n1(n2(b(c(n3(d))))))"


@as_list
@pytest.mark.parametrize("batch", [None, 1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_any_forest_becomes_any_other_in_one_flush(
    tree: Tree, session: Session, monkeypatch: pytest.MonkeyPatch, seed: int, batch: int | None
) -> None:
    """Many nested moves, inserts and deletes at once, also where they go in several statements."""
    if batch is not None:
        monkeypatch.setattr(_closure_table, "MAX_IN", batch)
    rng = random.Random(seed)
    nodes: list[Any] = []
    for step in range(6):
        new = [tree.new(f"n{step}.{i}") for i in range(5)]
        session.add_all(new)
        with session.no_autoflush:
            gone = rng.sample(nodes, 2) if len(nodes) > 12 else []
            nodes = [*new, *nodes]
            rng.shuffle(nodes)
            kept = [node for node in nodes if not any(node is other for other in gone)]
            for index, node in enumerate(kept):
                # Below one that stands before it in the shuffled list, or nowhere: no cycle.
                node.parent = rng.choice(kept[:index][-4:]) if index and rng.random() < 0.9 else None
            for node in gone:
                session.delete(node)
        nodes = kept
        session.flush()
        assert_in_step(session, tree)
        if step % 2:
            session.expire_all()
    assert verify_tree(session, tree.cls) == []


@as_list
def test_a_node_that_is_there_already_is_no_move(tree: Tree, session: Session) -> None:
    """Places among siblings, and parents that were not known and do not change, leave the closure alone."""
    t = tree.make(session, "a(b(c) d) e")
    t.d.move_to(t.b, "before")
    with count_statements() as log:
        session.flush()
    assert not of_closure(log)
    session.expire_all()
    t.b.parent_id = t.a.id
    with count_statements() as log:
        session.flush()
    assert not of_closure(log), log.text
    assert_in_step(session, tree)


@as_list
def test_a_node_that_another_session_has_moved(tree: Tree, session: Session) -> None:
    """What is cut off is what the database has, not what the session shows."""
    t = tree.make(session, "a(b(c)) d e")
    load_tree(session, tree.cls)
    key, other = t.b.id, t.d.id
    with Session(session.connection(), join_transaction_mode="rollback_only") as other_session:
        other_session.get_one(tree.cls, key).parent_id = other
        other_session.flush()
    t.b.parent = t.e
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a d e(b(c))"
    with Session(session.connection(), join_transaction_mode="rollback_only") as other_session:
        other_session.get_one(tree.cls, key).parent_id = other
        other_session.flush()
    t.b.parent = t.d
    session.flush()
    assert_index_sound(session.connection(), tree.cls)
    assert tree.outline(session) == "a d(b(c)) e"


@as_list
@pytest.mark.parametrize("loaded", [True, False])
def test_a_savepoint_takes_the_rows_back(tree: Tree, session: Session, loaded: bool) -> None:
    """Moves, inserts and deletions of a savepoint, and of a transaction."""
    t = tree.make(session, "a(b(c)) d(e)")
    if loaded:
        load_tree(session, tree.cls)
    before = pairs(tree, session)
    savepoint = session.begin_nested()
    t.b.parent = t.e
    session.add(tree.new("n", t.c))
    session.flush()
    session.delete(t.c)
    session.flush()
    insert_tree(session, tree.cls, {"name": "m", "children": [{"name": "k"}]}, parent=t.a)
    assert_in_step(session, tree)
    savepoint.rollback()
    assert pairs(tree, session) == before
    assert_in_step(session, tree, after_rollback=True)
    t.b.parent = t.d
    session.flush()
    assert_in_step(session, tree)
    session.rollback()
    assert pairs(tree, session) == before


@as_list
def test_a_refused_flush_leaves_nothing_for_the_next(tree: Tree, session: Session) -> None:
    """Neither in the closure nor in the session."""
    t = tree.make(session, "a(b(c))")
    t.a.parent = t.c
    with count_statements() as log, pytest.raises(InvalidMoveError):
        session.flush()
    assert not writes(log)
    session.rollback()
    session.add(tree.new("n", t.c))
    session.flush()
    assert_in_step(session, tree)


@as_list
def test_cycles_that_were_written_without_the_orm_get_no_descendants(tree: Tree, session: Session) -> None:
    """Climbing from a new node would not end; both ways to insert refuse."""
    t = tree.make(session, "a(b(c)) d")
    session.connection().execute(tree.table.update().where(tree.table.c.id == t.a.id).values(parent_id=t.c.id))
    session.expire_all()
    with pytest.raises(InvalidMoveError, match="cycle"):
        insert_tree(session, tree.cls, {"name": "n"}, parent=t.b)
    with pytest.raises(InvalidMoveError), session.no_autoflush:
        session.add(tree.new("n", t.b))
        session.flush()


@pytest.mark.only_on("sqlite")
@as_list
def test_orphans_that_were_written_without_the_orm(tree: Tree, session: Session) -> None:
    """A path that leads to no row ends there: nodes go below an orphan, and it is moved to where it belongs."""
    t = tree.make(session, "a(b(c)) d")
    session.commit()
    session.connection().exec_driver_sql("PRAGMA foreign_keys = OFF")
    session.connection().execute(tree.table.update().where(tree.table.c.id == t.b.id).values(parent_id=4711))
    session.expire_all()
    with pytest.raises(InvalidMoveError, match="lead to none that exists"):
        insert_tree(session, tree.cls, {"name": "n"}, parent=t.c)
    session.add(tree.new("n", t.c))
    session.flush()
    t.b.parent = t.d
    session.flush()
    assert_index_sound(session.connection(), tree.cls)
    assert tree.outline(session) == "a d(b(c(n)))"
    session.rollback()
    session.connection().exec_driver_sql("PRAGMA foreign_keys = ON")


async def test_under_asyncio(async_engine: AsyncEngine, async_session: AsyncSession) -> None:
    """The rows are written in the flush's own greenlet."""
    factory = BaseFactory("plain")
    tree = Tree(LIST, factory())
    async with async_engine.begin() as connection:
        await connection.run_sync(tree.metadata.create_all)
    nodes = tree.pending("a(b(c)) d")
    async_session.add_all([nodes.a, nodes.d])
    await async_session.flush()
    nodes.b.parent = nodes.d
    async_session.add(tree.new("n", nodes.c))
    await async_session.commit()

    def check(session: Session) -> list[Any]:
        assert_index_sound(session.connection(), tree.cls)
        return [(node.name, depth) for node, depth in walk_tree(session, tree.cls)]

    assert await async_session.run_sync(check) == [("a", 0), ("d", 0), ("b", 1), ("c", 2), ("n", 3)]
    assert await async_session.run_sync(delete_subtree, nodes.b) == 3
    assert await async_session.run_sync(check) == [("a", 0), ("d", 0)]
    factory.dispose()


# -- deletions -----------------------------------------------------------------------------------


@pytest.fixture(params=["enforced", "ignored"])
def foreign_keys(request: pytest.FixtureRequest, session: Session) -> Iterator[str]:
    """Return whether SQLite is told to enforce foreign keys."""
    connection = session.connection()
    connection.exec_driver_sql(f"PRAGMA foreign_keys = {'ON' if request.param == 'enforced' else 'OFF'}")
    yield request.param
    session.rollback()
    session.connection().exec_driver_sql("PRAGMA foreign_keys = ON")


@pytest.mark.only_on("sqlite")
@as_list
@pytest.mark.parametrize("policy", ["cascade", "restrict", "adopt", "root"])
@pytest.mark.parametrize("listened", [False, True], ids=["by the package", "by the unit of work"])
def test_sqlite_keeps_no_pair_of_a_deleted_node(
    trees: Callable[..., Tree], session: Session, foreign_keys: str, policy: str, listened: bool
) -> None:
    """Under every policy, whatever deletes the rows, and once for each flush."""
    tree = trees(fresh=True, on_delete=policy)
    if listened:
        event.listen(tree.cls, "before_delete", lambda mapper, connection, node: None)
    t = tree.make(session, "r(a(b(c d) e)) z")
    with session.no_autoflush:
        t.d.parent = t.z
        if policy == "restrict":
            session.delete(t.c)
            session.delete(t.b)
        session.delete(t.e if policy == "restrict" else t.a)
    with count_statements() as log:
        session.flush()
    assert of_closure(log).count("DELETE") <= 2, log.text
    assert_in_step(session, tree)
    delete_subtree(session, t.r)
    assert_in_step(session, tree)
    session.delete(t.d)  # A leaf.
    with count_statements() as log:
        session.flush()
    assert of_closure(log) == ["DELETE"]
    assert_in_step(session, tree)
    assert tree.outline(session) == ("z b(c) e" if policy == "root" else "z")


@pytest.mark.only_on(*SERVERS)
@as_list
def test_a_server_deletes_pairs_by_itself(tree: Tree, session: Session) -> None:
    """Its foreign keys cascade."""
    t = tree.make(session, "r(a(b(c d) e)) z")
    session.delete(t.a)
    with count_statements() as log:
        session.flush()
    assert not of_closure(log)
    assert_in_step(session, tree)
    assert pairs(tree, session) == ["r r 0", "z z 0"]


# -- cost ----------------------------------------------------------------------------------------


@as_list_or_sorted
def test_statements(tree: Tree, session: Session) -> None:
    """New nodes one, moves two, other changes none; for a whole flush."""
    t = tree.make(session, "a(b(c)) d(e)")
    load_tree(session, tree.cls)
    for depth in range(1, 4):
        session.add_all([tree.new(f"n{depth}{i}", t.c if depth == 1 else t.d) for i in range(20)])
    with count_statements() as log:
        session.flush()
    assert of_closure(log) == ["INSERT"], log.text
    for node in tree.members(t.d):
        node.parent = t.b
    with count_statements() as log:
        session.flush()
    assert of_closure(log) == ["DELETE", "INSERT"], log.text
    t.b.label = "other"
    with count_statements() as log:
        session.flush()
    assert len(log) == 1
    with count_statements() as log:
        insert_tree(session, tree.cls, [{"name": "p", "children": [{"name": "q"}]}, {"name": "s"}], parent=t.e)
    assert of_closure(log) == ["INSERT"], log.text
    assert_in_step(session, tree)


@as_list
def test_reading_follows_no_links(tree: Tree, session: Session) -> None:
    """No predicate and no loader needs a recursive query."""
    t = tree.make(session, "a(b(c(d))) e")
    other = aliased(tree.cls)
    with count_statements() as log:
        assert tree.matching(session, tree.cls.descendant_of(t.a, max_depth=2)) == "b c"
        assert tree.matching(session, tree.cls.descendant_of([t.a, t.b])) == "b c d"
        assert tree.matching(session, tree.cls.descendant_of([t.a, t.b], inclusive=True)) == "a b c d"
        assert tree.matching(session, tree.cls.ancestor_of(t.d)) == "a b c"
        assert tree.matching(session, tree.cls.descendant_of(t.a, max_depth=0)) == ""
        counts = select(other.name, func.count()).join(tree.cls, tree.cls.descendant_of(other, max_depth=2))
        assert sorted(tuple(row) for row in session.execute(counts.group_by(other.name))) == [
            ("a", 2),
            ("b", 2),
            ("c", 1),
        ]
        assert [depth for _, depth in walk_tree(session, tree.cls, max_depth=1)] == [0, 1, 0]
        assert [depth for _, depth in walk_tree(session, tree.cls, t.b, max_depth=1)] == [0, 1]
    assert "RECURSIVE" not in log.text


@as_list
def test_the_closure_in_a_statement_of_the_users(tree: Tree, session: Session) -> None:
    """A predicate beside it keeps to its own copy."""
    t = tree.make(session, "a(b(c)) d")
    links = closure_of(tree.cls)
    depths = (
        select(tree.cls.name, links.c.depth)
        .join(links, links.c.descendant_id == tree.cls.id)
        .where(links.c.ancestor_id == t.a.id, tree.cls.descendant_of(t.b, inclusive=True))
    )
    assert sorted(tuple(row) for row in session.execute(depths)) == [("b", 1), ("c", 2)]


@pytest.mark.only_on("postgresql")
@as_list
def test_postgresql_answers_from_the_indexes(tree: Tree, session: Session) -> None:
    """11,111 nodes: descendants, with a depth too, and ancestors are found by index, no table is read whole."""
    node: dict[str, Any] = {"name": "0"}
    level = [node]
    for _ in range(4):
        for above in level:
            above["children"] = [{"name": f"{above['name']}.{i}"} for i in range(10)]
        level = [child for above in level for child in above["children"]]
    insert_tree(session, tree.cls, node)
    session.commit()
    assert session.scalar(select(func.count()).select_from(closure_of(tree.cls))) == 54_321
    session.execute(text("ANALYZE node"))
    session.execute(text("ANALYZE node_closure"))
    keys = {row.name: row.id for row in session.execute(select(tree.cls.name, tree.cls.id))}
    (index,) = closure_of(tree.cls).indexes
    for criterion, used in (
        (tree.cls.descendant_of(keys["0.3"]), index.name),
        (tree.cls.descendant_of(keys["0"], max_depth=1), index.name),
        (tree.cls.ancestor_of(keys["0.3.4.5.6"]), "node_closure_pkey"),
        (tree.cls.descendant_of(keys["0.3.4"], inclusive=True), index.name),
    ):
        compiled = (
            select(tree.cls.id).where(criterion).compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        )
        plan = "\n".join(session.scalars(text(f"EXPLAIN {compiled}")))
        assert str(used) in plan, plan
        assert "Seq Scan on node_closure" not in plan, plan
    count = select(func.count()).select_from(tree.cls)
    assert session.scalar(count.where(tree.cls.descendant_of(keys["0.3"]))) == 1_110


# -- damage --------------------------------------------------------------------------------------


@as_list
def test_damage_is_named_and_mended(tree: Tree, session: Session) -> None:
    """Pairs that are missing, too many or of a wrong depth; only these are written again."""
    t = tree.make(session, "a(b(c)) d")
    links = closure_of(tree.cls)
    connection: Connection = session.connection()

    def pair(above: Any, below: Any) -> Any:
        return (links.c.ancestor_id == above.id) & (links.c.descendant_id == below.id)

    connection.execute(links.delete().where(pair(t.b, t.c)))
    connection.execute(links.update().where(pair(t.a, t.c)).values(depth=7))
    connection.execute(links.insert().values(ancestor_id=t.d.id, descendant_id=t.b.id, depth=3))
    found = verify_tree(session, tree.cls)
    assert [(problem.kind, problem.pk) for problem in found] == [
        ("extra_link", t.b.id),
        ("missing_link", t.c.id),
        ("wrong_depth", t.c.id),
    ]
    details = [problem.detail for problem in found]
    assert all(repr(node.id) in detail for node, detail in zip((t.d, t.b, t.a), details, strict=True)), details
    assert "has 7" in details[2]
    assert "2 below" in details[2]
    with count_statements() as log:
        assert rebuild_tree(session, tree.cls) == 2
    assert of_closure(log) == ["DELETE", "INSERT"], log.text
    assert verify_tree(session, tree.cls) == []
    assert_in_step(session, tree)
    with count_statements() as log:
        assert rebuild_tree(session, tree.cls) == 0
    assert not writes(log)


@as_list
def test_a_tree_that_gets_the_closure_later_is_filled(tree: Tree, session: Session) -> None:
    """`rebuild_tree` derives all pairs from ``parent_id``."""
    t = tree.make(session, "a(b(c(d)) e) f")
    before = pairs(tree, session)
    session.connection().execute(closure_of(tree.cls).delete())
    assert {problem.kind for problem in verify_tree(session, tree.cls)} == {"missing_link"}
    assert rebuild_tree(session, tree.cls) == 6
    assert pairs(tree, session) == before
    t.b.parent = t.f
    session.flush()
    assert_in_step(session, tree)


@as_list
def test_moves_through_damage_follow_the_links(tree: Tree, session: Session) -> None:
    """What lies above a moved or new node is read from ``parent_id``, so that damage above it does not spread."""
    t = tree.make(session, "a(b(c)) d")
    links = closure_of(tree.cls)
    session.connection().execute(links.delete().where(links.c.descendant_id == t.b.id))
    session.add(tree.new("n", t.c))
    t.d.parent = t.b
    session.flush()
    assert {problem.pk for problem in verify_tree(session, tree.cls)} == {t.b.id}


@pytest.mark.only_on("sqlite")
@as_list
def test_pairs_of_rows_that_are_gone(tree: Tree, session: Session) -> None:
    """Left behind by a DELETE without the ORM where nothing cascades; `rebuild_tree` clears them away."""
    t = tree.make(session, "a(b(c)) d")
    session.commit()
    session.connection().exec_driver_sql("PRAGMA foreign_keys = OFF")
    key = t.c.id
    session.connection().execute(tree.table.delete().where(tree.table.c.id == key))
    session.expire_all()
    assert {(problem.kind, problem.pk) for problem in verify_tree(session, tree.cls)} == {("extra_link", key)}
    rebuild_tree(session, tree.cls)
    assert_index_sound(session.connection(), tree.cls)
    session.rollback()
    session.connection().exec_driver_sql("PRAGMA foreign_keys = ON")


# -- races along a path --------------------------------------------------------------------------

SIBLINGS = next(shape for shape in _machine.SHAPES if shape.name == "closure-siblings")


@pytest.fixture
def world(engine_factory: Callable[..., Engine], plain_bases: Any) -> Callable[..., World]:
    """Make a tree whose siblings sort themselves, which needs the fewest locks."""

    def make(isolation: str) -> World:
        engine = engine_factory(isolation_level=isolation)
        Node = SIBLINGS.make(plain_bases(), order_by=("name",))
        Node.metadata.create_all(engine)
        return World(engine, SIBLINGS, Node)

    return make


#: Two trees. Nobody who writes below `p` or moves it touches `m`, which lies between it and its root.
PATH = ("r", "r/m", "m/o", "o/p", "p/q", "s", "s/t", "t/u", "other")


def move(name: str, target: str | None) -> Callable[[World, Session, dict[str, Any]], None]:
    def work(world: World, session: Session, keys: dict[str, Any]) -> None:
        world.get(session, keys[name]).parent_id = None if target is None else keys[target]

    return work


def add_leaf(world: World, session: Session, keys: dict[str, Any]) -> None:
    world.shape.add(session, world.Node, "leaf", parent_id=keys["p"])


def add_tree(world: World, session: Session, keys: dict[str, Any]) -> None:
    data = {"name": "leaf", "tag": 0, "children": [{"name": "below", "tag": 0}]}
    insert_tree(session, world.Node, data, parent=keys["p"])


def delete(world: World, session: Session, keys: dict[str, Any]) -> None:
    session.delete(world.get(session, keys["p"]))


STEPS: dict[str, Callable[[World, Session, dict[str, Any]], None]] = {
    "add": add_leaf,
    "add in bulk": add_tree,
    "delete": delete,
    "move out": move("p", "other"),
    "move between": move("m", "u"),
    "move top": move("r", "t"),
    "make root": move("o", None),
}


@pytest.mark.only_on(*SERVERS)
@levels
@pytest.mark.parametrize("first", ["add in bulk", "move between", "move top"])
@pytest.mark.parametrize("second", STEPS)
def test_two_who_write_along_one_path(
    world: Callable[..., World], database: Database, isolation: str, first: str, second: str
) -> None:
    """What the second does is right for what the first has made of the path, or the database refuses it."""
    here = world(isolation)
    keys = here.plant(*PATH)
    one, other = STEPS[first], STEPS[second]
    outcomes = one_after_the_other(
        here, lambda session: one(here, session, keys), lambda session: other(here, session, keys)
    )
    here.sound()
    assert outcomes[0] is None, outcomes
    level = isolation if database.name == "postgresql" else None
    assert outcomes[1] is None or is_refused(outcomes[1], level), outcomes


@pytest.mark.only_on(*SERVERS)
@levels
@pytest.mark.parametrize("second", ["add", "add in bulk", "move out", "move between"])
def test_who_writes_along_a_path_whose_end_is_deleted(
    world: Callable[..., World], database: Database, isolation: str, second: str
) -> None:
    """The rest of the path is moved, and no node comes below one that is deleted."""
    here = world(isolation)
    keys = here.plant(*PATH)
    outcomes = one_after_the_other(
        here, lambda session: delete(here, session, keys), lambda session: STEPS[second](here, session, keys)
    )
    here.sound()
    assert outcomes[0] is None, outcomes
    level = isolation if database.name == "postgresql" else None
    if second == "move between":
        assert outcomes[1] is None or is_refused(outcomes[1], level), outcomes
    else:
        assert is_refused(outcomes[1], level, InvalidMoveError), outcomes


@pytest.mark.only_on(*SERVERS)
@levels
def test_many_who_write_along_one_path(world: Callable[..., World], isolation: str) -> None:
    """Inserts, moves of what lies between and moves of whole trees at the same time."""
    here = world(isolation)
    keys = here.plant(*PATH)
    moves = {"m": ("r", "u", "s"), "o": ("m", "t", "other"), "t": ("s", "r", "other"), "p": ("o", "u", "m")}

    def insert_many(thread: int) -> None:
        for number in range(6):

            def work(session: Session, number: int = number) -> None:
                parent = keys["pqmo"[(thread + number) % 4]]
                if number % 3 == 0:
                    data = {"name": f"{thread}-{number}", "tag": 0, "children": [{"name": "x", "tag": 0}]}
                    insert_tree(session, here.Node, data, parent=parent)
                else:
                    here.shape.add(session, here.Node, f"{thread}-{number}", parent_id=parent)

            again(work)

    def move_many(name: str) -> None:
        for number in range(6):

            def work(session: Session, number: int = number) -> None:
                here.get(session, keys[name]).parent_id = keys[moves[name][number % 3]]

            again(work)

    def again(work: Callable[[Session], None]) -> None:
        while True:
            try:
                here.transact(work)
                return
            except InvalidMoveError:
                return  # Below itself, as others have moved it.
            except Exception as error:
                if not is_serialization_failure(error):
                    raise

    jobs: list[Callable[[], None]] = [lambda n=n: insert_many(n) for n in range(3)]
    jobs += [lambda n=n: move_many(n) for n in moves]
    all_well(together(*jobs))
    forest = here.sound()
    assert sum(len(rows) for rows in forest.values()) == len(PATH) + 3 * (6 + 2)
