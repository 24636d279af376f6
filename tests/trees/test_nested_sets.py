"""Nested sets: what `NestedSets` adds to the contract that every tree keeps."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from sqla_patterns.exceptions import MappingError
from sqla_patterns.trees import (
    InvalidMoveError,
    KeyedTreeNode,
    NestedSets,
    TreeDamagedError,
    TreeNode,
    TreeOptions,
    delete_subtree,
    insert_tree,
    load_tree,
    rebuild_tree,
    verify_tree,
)
from tests._support import assert_empty_diff, count_statements
from tests.trees._indexes import assert_index_sound
from tests.trees._shapes import (
    PLAIN,
    Tree,
    assert_in_step,
    no_sql,
    unclaimed,
    writes,
)

WIDTH, LEVELS = 10, 4
NODES = 11_111

pytestmark = pytest.mark.parametrize("shape", [param for param in PLAIN if param.values[0].index.name == "nested"])


def in_line(tree: Tree, session: Session) -> str:
    """Return the names, sorted by tree and left."""
    order = (tree.cls.tree_id, tree.cls.left)
    return " ".join(session.scalars(select(tree.cls.name).order_by(*order)))


def balanced(levels: int = LEVELS, name: str = "0") -> dict[str, Any]:
    below = [balanced(levels - 1, f"{name}.{index}") for index in range(WIDTH)] if levels else []
    return {"name": name, "children": below}


# -- mapping -------------------------------------------------------------------------------------


def test_columns_and_names(tree: Tree, engine: Engine) -> None:
    """Four nullable columns, whose names are no reserved words, and one index that serves the ranges."""
    table = tree.table
    assert {"lft", "rgt", "depth", "tree_id"} <= set(table.c.keys())
    assert type(table.c.tree_id.type) is type(table.c.id.type)
    assert any([column.name for column in index.columns] == ["tree_id", "lft"] for index in table.indexes)
    assert_empty_diff(engine, tree.metadata)


def test_an_index_is_no_tree(shape: Any, plain_bases: Any) -> None:
    """Without TreeNode there is nothing to index."""
    Base = plain_bases()
    body = {"__tablename__": "topic", "__annotations__": {"id": Mapped[int]}, "id": mapped_column(primary_key=True)}
    with pytest.raises(MappingError, match="mix in TreeNode or KeyedTreeNode"):
        type("Topic", (NestedSets, Base), body)


def test_it_may_come_after_the_tree(shape: Any, engine: Engine, plain_bases: Any) -> None:
    """The order of the mixins does not matter."""
    Base = plain_bases()

    class Topic(TreeNode, NestedSets, Base):  # type: ignore[misc]
        __tablename__ = "topic"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        insert_tree(session, Topic, {"children": [{}, {"children": [{}]}]})
        assert session.scalars(select(Topic.depth).order_by(Topic.left)).all() == [0, 1, 1, 2]


# -- order and depth -----------------------------------------------------------------------------


def test_order_by_left_is_depth_first(tree: Tree, session: Session) -> None:
    """Siblings stand on the line as in their list, past ten too, and after they have been put in between."""
    t = tree.make(session, "a(b(c d) e)")
    for number in range(12):
        t.a.children.insert(1, tree.new(f"n{number:02}"))
    session.flush()
    newest_first = " ".join(f"n{number:02}" for number in reversed(range(12)))
    assert in_line(tree, session) == f"a b c d {newest_first} e"
    t.d.move_to(t.c, "before")
    t.e.move_to(t.a, "first_child")
    session.flush()
    assert in_line(tree, session) == f"a e b d c {newest_first}"
    assert_in_step(session, tree)


def test_depth_is_a_column(tree: Tree, session: Session) -> None:
    """It follows moves between trees, below roots, and to the root."""
    t = tree.make(session, "a(b(c(d))) e(f)")
    load_tree(session, tree.cls)
    t.c.parent = t.f
    session.flush()
    with no_sql():
        assert [node.depth for node in (t.a, t.b, t.e, t.f, t.c, t.d)] == [0, 1, 0, 1, 2, 3]
        assert t.d.tree_id == t.e.id
    t.c.move_to(None)
    session.flush()
    with no_sql():
        assert [(node.depth, node.tree_id) for node in (t.c, t.d)] == [(0, t.c.id), (1, t.c.id)]
    assert_in_step(session, tree)


def test_a_tree_under_a_new_root(tree: Tree, session: Session) -> None:
    """Old trees that go below roots and nodes whose keys the database makes, in the same flush."""
    t = tree.make(session, "a(b(c)) d(e) f")
    load_tree(session, tree.cls)
    shop, shelf = tree.new("shop"), tree.new("shelf")
    session.add(shop)
    shelf.parent = shop
    t.a.parent, t.e.parent, t.b.parent = shelf, shop, t.d
    other = tree.new("other")
    session.add(other)
    t.f.parent = other
    with count_statements() as log:
        session.flush()
    assert len([text for text in log.starting("UPDATE") if "tree_id" in text and "0 = 1" not in text]) <= 4, log.text
    with no_sql():
        assert {node.tree_id for node in (shop, shelf, t.a, t.e)} == {shop.id}
        assert (t.f.tree_id, t.b.tree_id, t.c.tree_id) == (other.id, t.d.id, t.d.id)
    assert_in_step(session, tree)
    session.commit()
    assert tree.outline(session) == "d(b(c)) shop(shelf(a) e) other(f)"


# -- what is derived -----------------------------------------------------------------------------


def test_numbers_are_derived_whatever_somebody_writes(tree: Tree, session: Session) -> None:
    """Values that are set by hand, or come with `Session.merge`, do not reach the table."""
    t = tree.make(session, "a(b c)")
    t.b.left, t.b.depth = 70, 9
    new = tree.new("d")
    t.a.children.append(new)
    new.left = 3
    session.flush()
    assert_in_step(session, tree)
    stale = tree.cls(name="b")
    stale.id, stale.left, stale.label, stale.parent_id = t.b.id, t.b.left, "merged", t.a.id
    t.c.move_to(t.a, "first_child")
    session.flush()
    merged = session.merge(stale)
    session.flush()
    assert merged.label == "merged"
    assert_in_step(session, tree)


def test_deferred_and_expired_numbers(tree: Tree, session: Session) -> None:
    """Nodes that show no numbers, or only some, load the right ones."""
    t = tree.make(session, "a(b c)")
    session.expire(t.b)
    session.expire(t.c, ["right"])
    t.a.children.insert(0, tree.new("z"))
    session.flush()
    assert_in_step(session, tree, after_rollback=True)
    assert (t.c.left, t.c.right, t.b.left) == (6, 7, 4)


def test_a_savepoint_takes_numbers_back(tree: Tree, session: Session, engine: Engine) -> None:
    """Also those of nodes that were shifted and not changed themselves."""
    t = tree.make(session, "a(b c(d)) e")
    load_tree(session, tree.cls)
    with session.begin_nested() as savepoint:
        t.e.move_to(t.b, "before")
        session.flush()
        assert t.d.left == 7
        savepoint.rollback()
    assert (t.d.left, t.e.tree_id) == (5, t.e.id)
    assert_in_step(session, tree, after_rollback=True)


# -- mixtures ------------------------------------------------------------------------------------


def test_many_edits_at_once(tree: Tree, session: Session) -> None:
    """For more shifts than an UPDATE should have branches the rows are written in one batch, and are right too."""
    t = tree.make(session, "a z")
    nodes = [tree.new(f"n{number:03}", t.a) for number in range(300)]
    session.add_all(nodes)
    session.commit()
    load_tree(session, tree.cls)
    for node in nodes[::2]:
        node.parent = t.z
    for node in nodes[1::8]:
        node.move_to(nodes[3], "after")
    with count_statements() as log:
        session.flush()
    assert len([text for text in log.starting("UPDATE") if "lft" in text]) == 1, log.text
    assert_in_step(session, tree)


def test_everything_at_once(tree: Tree, session: Session) -> None:
    """Moves, inserts, deletions, and a parent and child that change places."""
    t = tree.make(session, "a(b(c(d e)) f(g)) h(i)")
    t.b.move_to(t.i)
    t.a.move_to(t.c)
    session.add(tree.new("x", t.d))
    t.h.children.insert(0, tree.new("y"))
    t.e.move_to(t.f, "before")
    session.delete(t.g)
    t.c.move_to(None)
    session.flush()
    assert tree.outline(session) == "h(y i(b)) c(d(x) a(e f))"
    assert_in_step(session, tree)


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"lft": None}, {"missing_numbers"}),
        ({"depth": 5}, {"wrong_depth"}),
        ({"lft": 9, "rgt": 8}, {"wrong_interval", "outside_parent", "wrong_order"}),
        ({"lft": 20, "rgt": 21}, {"outside_parent", "wrong_order"}),
        ({"lft": 4, "rgt": 5}, {"overlap"}),
        ({"tree_id": 3}, {"wrong_tree"}),
    ],
)
def test_damage_has_a_name_and_is_mended(tree: Tree, session: Session, values: dict[str, Any], kinds: set[str]) -> None:
    """Each kind of wrong number is told apart, and rebuild_tree writes no other row than it has to."""
    t = tree.make(session, "a(b c(d)) e")
    table = tree.table
    session.execute(update(table).where(table.c.id == t.b.id).values(values))
    problems = verify_tree(session, tree.cls)
    assert {problem.kind for problem in problems} == kinds
    assert all(str(problem.pk) in problem.detail for problem in problems)
    assert rebuild_tree(session, tree.cls) == 1
    assert not verify_tree(session, tree.cls)
    assert_in_step(session, tree)


def test_rows_from_past_the_orm(tree: Tree, session: Session) -> None:
    """They have no numbers; a node below or beside them is refused, before any write, until they are numbered."""
    t = tree.make(session, "a(b)")
    table = tree.table
    session.execute(table.insert().values(name="raw", parent_id=t.a.id, position=7))
    session.commit()
    raw = session.scalars(select(tree.cls).where(tree.cls.name == "raw")).one()
    assert tree.matching(session, tree.cls.descendant_of(t.a)) == "b"
    for edit in (
        lambda: session.add(tree.new("x", raw)),
        lambda: setattr(raw, "parent", t.b),
        lambda: insert_tree(session, tree.cls, {"name": "x"}, parent=raw),
        lambda: t.a.children.insert(1, tree.new("x")),
        lambda: raw.move_to(t.a, "first_child"),
    ):
        with count_statements() as log, pytest.raises(TreeDamagedError, match="rebuild_tree") as caught:
            edit()
            session.flush()
        assert not writes(log)
        assert [problem.kind for problem in caught.value.problems] == ["missing_numbers"]
        session.rollback()
    assert rebuild_tree(session, tree.cls) == 2
    session.add(tree.new("x", raw))
    session.flush()
    assert tree.matching(session, tree.cls.descendant_of(t.a)) == "b raw x"
    assert_in_step(session, tree)


def test_an_index_is_added_to_a_tree_with_rows(tree: Tree, session: Session) -> None:
    """rebuild_tree fills the new columns of all rows and keeps the order of siblings."""
    t = tree.make(session, "a(b(c) d) e(f)")
    table = tree.table
    session.execute(update(table).values(lft=None, rgt=None, depth=None, tree_id=None))
    t.d.move_to(None)
    session.expire_all()
    t.c.label = "other changes go on"
    session.flush()
    assert rebuild_tree(session, tree.cls) == 6
    assert in_line(tree, session) == "a b c d e f"
    assert_in_step(session, tree)


# -- sqlalchemy_mptt's defects -------------------------------------------------------------------


def test_moves_within_one_parent(tree: Tree, session: Session) -> None:
    """To the right, and to the very left, where sqlalchemy_mptt leaves the root or loses the node (its #67, #68)."""
    t = tree.make(session, "a(b(e) c d)")
    t.b.move_to(t.c, "after")
    session.flush()
    assert in_line(tree, session) == "a c b e d"
    t.d.move_to(t.c, "before")
    session.flush()
    assert in_line(tree, session) == "a d c b e"
    with no_sql():
        assert t.a.right == 10
        assert t.c.left == 4, "siblings are not stale"
    assert_in_step(session, tree)


def test_a_refused_move_leaves_the_numbers(tree: Tree, session: Session) -> None:
    """Into itself and into what lies below."""
    t = tree.make(session, "a(b(c))")
    before = [(node.left, node.right) for node in (t.a, t.b, t.c)]
    t.b.parent_id = t.c.id
    with count_statements() as log, pytest.raises(InvalidMoveError):
        session.flush()
    assert not writes(log)
    session.rollback()
    assert [(node.left, node.right) for node in (t.a, t.b, t.c)] == before


def test_a_place_that_was_said_is_said_once(tree: Tree, session: Session) -> None:
    """A later move by parent_id is not overridden by an earlier "after"."""
    t = tree.make(session, "a(b c d)")
    t.b.move_to(t.c, "after")
    session.flush()
    t.b.parent_id = t.d.id
    session.flush()
    assert in_line(tree, session) == "a c d b"
    assert_in_step(session, tree)


# -- the user's columns --------------------------------------------------------------------------


def test_shifted_rows_were_not_edited(shape: Any, engine: Engine, plain_bases: Any) -> None:
    """Neither ``onupdate`` nor the version counter of rows fires where only numbers shift."""
    Base = plain_bases()
    ticks = iter(range(1, 1000))

    class Topic(NestedSets, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "topic"
        id: Mapped[int] = mapped_column(primary_key=True)
        edited: Mapped[int] = mapped_column(default=0, onupdate=lambda: next(ticks))
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        first, second = Topic(), Topic()
        root = Topic(children=[first, second])
        session.add(root)
        session.commit()
        root.children.insert(0, Topic())
        session.commit()
        assert (second.left, second.edited, second.version) == (6, 0, 1)
        session.delete(first)
        session.commit()


# -- costs ---------------------------------------------------------------------------------------


@pytest.fixture
def big(tree: Tree, session: Session) -> list[Any]:
    """Insert 11,111 nodes and load them."""
    insert_tree(session, tree.cls, balanced())
    session.commit()
    (root,) = load_tree(session, tree.cls)
    return [root]


def test_inserting_a_whole_tree(tree: Tree, session: Session) -> None:
    """11,111 new nodes: at most ten statements beside the INSERTs, which come in batches by level."""
    root = tree.new("0")
    level = [root]
    for _ in range(LEVELS):
        level = [tree.new(f"{node.name}.{index}", node) for node in level for index in range(WIDTH)]
    session.add(root)
    with count_statements() as log:
        session.flush()
    assert len(log) - len(log.starting("INSERT")) <= 10, log.text[:2000]
    if session.get_bind().dialect.name == "postgresql":
        assert len(log.starting("INSERT")) <= 16
    assert session.scalar(select(func.count()).select_from(tree.table)) == NODES
    assert_index_matches_links(session, tree)


def test_moving_a_branch_with_everything_loaded(tree: Tree, session: Session, big: list[Any]) -> None:
    """1,111 of 11,111 nodes: at most four statements, and every loaded object is right without a refresh."""
    (root,) = big
    moved, target = root.children[0], root.children[5].children[5]
    moved.parent = target
    with count_statements() as log:
        session.flush()
    # SQLite needs one more, which changes nothing, to begin to write.
    assert unclaimed(log) - sum("0 = 1" in text for text in log) <= 4, log.text
    columns = (tree.cls.id, tree.cls.left, tree.cls.right, tree.cls.depth, tree.cls.tree_id)
    rows = {row[0]: tuple(row) for row in session.execute(select(*columns)).all()}
    with no_sql():
        stack, seen = [root], 0
        while stack:
            node = stack.pop()
            seen += 1
            assert (node.id, node.left, node.right, node.depth, node.tree_id) == rows[node.id]
            stack += node.children
    assert seen == NODES
    assert_index_matches_links(session, tree)


def assert_index_matches_links(session: Session, tree: Tree) -> None:
    """Assert the same as `assert_index_sound`, in one pass over the rows by left, for 11,111 nodes."""
    cls = tree.cls
    rows = session.execute(select(cls.id, cls.parent_id, cls.left, cls.right, cls.depth).order_by(cls.left)).all()
    path: list[Any] = []
    for row in rows:
        while path and path[-1].right < row.left:
            path.pop()
        assert row.parent_id == (path[-1].id if path else None)
        assert row.depth == len(path)
        assert not path or row.right < path[-1].right
        path.append(row)


def test_deleting_a_branch(tree: Tree, session: Session, big: list[Any]) -> None:
    """1,111 nodes go in three statements; the numbers they leave are a gap that does no harm."""
    (root,) = big
    with count_statements() as log:
        delete_subtree(session, root.children[3])
    assert unclaimed(log) <= 3 + (session.get_bind().dialect.name == "sqlite"), log.text
    assert not verify_tree(session, tree.cls)
    root.children[2].children.append(tree.new("after the hole"))
    session.flush()
    assert not verify_tree(session, tree.cls)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("question", ["one", "depth", "several", "joined"])
def test_ranges_use_the_index(tree: Tree, session: Session, big: list[Any], question: str) -> None:
    """PostgreSQL answers `descendant_of` from the index: for one or several keys, with a depth, by another entity."""
    (root,) = big
    cls = tree.cls
    session.execute(text("ANALYZE node"))
    other = aliased(cls)
    statement = {
        "one": select(cls.id).where(cls.descendant_of(root.children[4])),
        "depth": select(cls.id).where(cls.descendant_of(root.children[4], max_depth=2)),
        "several": select(cls.id).where(
            cls.descendant_of([root.children[4].children[1], root.children[5].children[2]])
        ),
        "joined": select(other.id).join(cls, other.descendant_of(cls)).where(cls.id == root.children[4].id),
    }[question]
    compiled = statement.compile(session.connection(), compile_kwargs={"literal_binds": True})
    plan = "\n".join(session.scalars(text(f"EXPLAIN {compiled}".replace(":", "\\:"))))
    (name,) = [index.name for index in tree.table.indexes if "lft" in index.columns]
    assert name in plan, plan


def test_reads_without_recursion(tree: Tree, session: Session) -> None:
    """Descendants by key, by depth and by entity, and whole levels, are plain ranges."""
    t = tree.make(session, "a(b(c(d)) e)")
    cls = tree.cls
    other = aliased(cls)
    with count_statements() as log:
        assert tree.matching(session, cls.descendant_of(t.a.id, max_depth=2)) == "b c e"
        assert tree.matching(session, cls.descendant_of([t.b.id, t.e.id], inclusive=True)) == "b c d e"
        pairs = select(cls.name, other.name).join(other, other.descendant_of(cls)).order_by(cls.left, other.left)
        found = [f"{one}{two}" for one, two in session.execute(pairs).all()]
        load_tree(session, cls, max_depth=1)
    assert found == ["ab", "ac", "ad", "ae", "bc", "bd", "cd"]
    assert "RECURSIVE" not in log.text


# -- asyncio -------------------------------------------------------------------------------------


async def test_async_sessions(shape: Any, async_engine: AsyncEngine, plain_bases: Any) -> None:
    """After a flush the numbers of new and shifted nodes are there, roots with new keys included."""
    Base = plain_bases()

    class Topic(NestedSets, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "topic"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        root = Topic(name="root")
        child = Topic(name="child", parent=root)
        session.add(root)
        await session.flush()
        assert (root.left, root.right, root.tree_id, child.tree_id, child.depth) == (1, 4, root.id, root.id, 1)
        older = Topic(name="older")
        root.children.insert(0, older)
        top = Topic(name="top")
        session.add(top)
        root.parent = top
        await session.flush()
        assert (top.right, root.left, older.left, child.left, child.depth, child.tree_id) == (8, 2, 3, 5, 2, top.id)
        await session.commit()


# -- keyed trees ---------------------------------------------------------------------------------


def test_keyed_trees_stand_in_the_order_of_arrival(shape: Any, engine: Engine, plain_bases: Any) -> None:
    """Renaming moves nothing; rebuild_tree sorts by key."""
    Base = plain_bases()

    class Folder(NestedSets, KeyedTreeNode, Base):  # type: ignore[misc]
        __tablename__ = "folder"
        __tree__ = TreeOptions(key="name")
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        insert_tree(session, Folder, {"r": {"children": {"b": {}, "a": {"children": {"x": {}}}}}})
        line = select(Folder.name).order_by(Folder.left)
        assert session.scalars(line).all() == ["r", "b", "a", "x"]
        node = session.scalars(select(Folder).where(Folder.name == "b")).one()
        node.name = "z"
        with count_statements() as log:
            session.flush()
        assert not [text for text in log.starting("UPDATE") if "lft" in text]
        rebuild_tree(session, Folder)
        assert session.scalars(line).all() == ["r", "a", "x", "z"]
        assert_index_sound(session.connection(), Folder)
