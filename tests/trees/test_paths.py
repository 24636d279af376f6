"""`MaterializedPath` and `LtreePath` beyond the contract: order, rules, limits, locks, and query plans."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, String, cast, func, insert, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column
from sqlalchemy.types import UserDefinedType

from sqla_patterns.exceptions import MappingError, PatternError, StateError
from sqla_patterns.trees import (
    InvalidMoveError,
    LtreePath,
    MaterializedPath,
    NestedSets,
    PathOverflowError,
    TreeDamagedError,
    TreeNode,
    TreeOptions,
    insert_tree,
    load_tree,
    rebuild_tree,
    verify_tree,
    walk_tree,
)
from sqla_patterns.trees._path_rules import PathFormat, Rule, Rules
from tests._support import StatementLog, assert_empty_diff, count_statements
from tests.trees import test_concurrency
from tests.trees._machine import SHAPES
from tests.trees._machine import Shape as Kind
from tests.trees._shapes import (
    CONTRACT,
    Tree,
    assert_in_step,
    create_ltree_with,
    unclaimed,
    writes,
)
from tests.trees.test_concurrency import Make, all_well, one_after_the_other, together

make_world = test_concurrency.make_world

PATHS = [param for param in CONTRACT if param.values[0].index.name in ("paths", "ltree")]
ORDERED = [param for param in PATHS if str(param.values[0]) in ("paths-list-plain", "ltree-list-plain")]
UNORDERED = [param for param in PATHS if str(param.values[0]) in ("paths-sorted-plain", "ltree-sorted-plain")]

paths = pytest.mark.parametrize("shape", PATHS)
ordered = pytest.mark.parametrize("shape", ORDERED)
unordered = pytest.mark.parametrize("shape", UNORDERED)


def steps(node: Any) -> list[int]:
    """Return the path of a node, from the row or from memory, as numbers."""
    return [int(step) for step in re.findall(r"\d{6}", node.path)]


def by_path(tree: Tree, session: Session) -> str:
    return tree.names(session.scalars(select(tree.cls).order_by(tree.cls.path)))


def path_updates(log: StatementLog) -> list[str]:
    return [statement for statement in writes(log) if re.search(r"SET .*\bpath\b ?=", statement)]


# -- rules -----------------------------------------------------------------------------------------

DENSE, DOTTED = PathFormat("", ":"), PathFormat(".", ".A")


@pytest.mark.parametrize("form", [DENSE, DOTTED], ids=["dense", "ltree"])
def test_a_format_takes_paths_apart_as_it_puts_them_together(form: PathFormat) -> None:
    """Levels, lengths and parents are those of the steps; a subtree ends before the next sibling."""
    path = form.join(form.join(form.join(None, 7), 0), 12)
    assert form.levels(path) == 3
    assert form.length(3) == len(path)
    assert form.above(path) == form.join(form.join(None, 7), 0)
    assert form.above(form.join(None, 7)) is None
    assert path < form.join(path, 999_999) < form.end(path) < form.join(form.above(path), 13)


def test_the_innermost_rule_holds() -> None:
    """Rules inside rules, also where both begin or end at one place, and nothing where there is none."""

    def p(*numbers: int) -> str:
        return "".join(f"{number:06}" for number in numbers)

    def moved(old: str, new: str) -> Rule:
        return Rule(old, DENSE.end(old), len(old), new)

    rules = Rules(
        [
            moved(p(1), p(9)),
            moved(p(1, 2), p(1, 2)),
            Rule(p(1, 4), p(1, 6), 6, p(9), 3),
            Rule(p(1, 6), DENSE.end(p(1)), 6, p(9), 5),
            moved(p(1, 6), p(5, 5)),
            moved(p(3), p(3)),
        ]
    )
    expected = {
        p(0): p(0),
        p(1): p(9),
        p(1, 1, 1): p(9, 1, 1),
        p(1, 2): p(1, 2),
        p(1, 2, 0): p(1, 2, 0),
        p(1, 3): p(9, 3),
        p(1, 4): p(9, 7),
        p(1, 5, 8): p(9, 8, 8),
        p(1, 6, 1): p(5, 5, 1),
        p(1, 7): p(9, 12),
        p(2): p(2),
        p(3, 3): p(3, 3),
    }
    assert {path: rules.apply(path) for path in expected} == expected
    assert len(rules) == 5
    assert [rule.start for rule in rules.outermost] == [p(1)]
    assert not Rules([moved(p(3), p(3))])


# -- order -----------------------------------------------------------------------------------------


@ordered
def test_paths_sort_depth_first_past_ten_siblings(tree: Tree, session: Session) -> None:
    """Siblings stand in their order however many there are, which strings of plain numbers do not."""
    t = tree.make(session, "a(b(c)) z")
    insert_tree(session, tree.cls, [{"name": f"n{i:03}", "children": [{"name": f"m{i:03}"}]} for i in range(120)], t.a)
    below = " ".join(f"n{i:03} m{i:03}" for i in range(120))
    assert by_path(tree, session) == f"a b c {below} z"
    assert by_path(tree, session) == tree.names(node for node, _ in walk_tree(session, tree.cls))
    assert steps(t.a.children[11]) == [*steps(t.a), 11]


@ordered
def test_middle_inserts_shift_what_follows(tree: Tree, session: Session) -> None:
    """Several newcomers at several places of one list: one UPDATE shifts the paths below all that come after."""
    t = tree.make(session, "a(b(c(d)) e f(g h)) z")
    load_tree(session, tree.cls)
    first, second, third = (tree.new(name) for name in ("x", "y", "w"))
    t.a.children.insert(0, first)
    t.a.children.insert(2, second)
    t.a.children.insert(3, third)
    with count_statements() as log:
        session.flush()
    assert len(path_updates(log)) == 1, log.text
    assert_in_step(session, tree)
    assert by_path(tree, session) == "a x b c d y w e f g h z"
    assert (steps(t.d)[1:], steps(t.h)[1:]) == ([1, 0, 0], [5, 1])


@ordered
def test_positions_of_the_users_are_steps(tree: Tree, session: Session) -> None:
    """A position that is set is the step, gaps and all; the node that had it is shifted."""
    t = tree.make(session, "a(b(c) d(e))")
    t.b.position = 70
    session.commit()
    assert steps(t.c)[1:] == [70, 0]
    new = tree.new("x", t.a)
    session.add(new)
    new.position = 70
    session.commit()
    assert_in_step(session, tree)
    assert (steps(new)[1:], steps(t.b)[1:], steps(t.e)[1:]) == ([70], [71], [1, 0])


@paths
def test_roots_are_numbered_in_the_order_in_which_they_come(tree: Tree, session: Session) -> None:
    """A new root takes the next number; one that goes below another leaves its own free."""
    t = tree.make(session, "a b(c) d")
    assert [steps(node) for node in (t.a, t.b, t.d)] == [[0], [1], [2]]
    t.c.parent = None
    session.commit()
    assert steps(t.c) == [3]
    t.c.parent = t.a
    session.commit()
    session.add(tree.new("e"))
    session.commit()
    assert_in_step(session, tree)
    assert tree.matching(session, tree.cls.is_root()) == "a b d e"


@ordered
def test_roots_that_change_places_keep_their_paths(tree: Tree, session: Session) -> None:
    """Until `rebuild_tree`, which gives all of them the order of their positions."""
    t = tree.make(session, "a(b) c(d) e")
    t.e.move_to(t.a, "before")
    t.a.move_to(None)
    with count_statements() as log:
        session.flush()
    assert not path_updates(log), log.text
    assert_in_step(session, tree)
    assert by_path(tree, session) == "a b c d e"
    assert rebuild_tree(session, tree.cls) > 0
    assert by_path(tree, session) == "c d e a b"
    assert_in_step(session, tree)
    assert rebuild_tree(session, tree.cls) == 0


@unordered
def test_siblings_that_sort_themselves_take_the_next_number(tree: Tree, session: Session) -> None:
    """Whatever they are called; also several at once, and below a node that moves in the same flush."""
    t = tree.make(session, "a(m) b(n)")
    for name in ("c", "z", "k"):
        session.add(tree.new(name, t.a))
    t.b.parent = t.a
    session.add(tree.new("l", t.b))
    session.commit()
    assert_in_step(session, tree)
    assert sorted(steps(node)[1] for node in t.a.children) == [0, 1, 2, 3, 4]
    assert sorted(steps(node)[2] for node in t.b.children) == [0, 1]
    assert steps(t.m) == [0, 0]


# -- moves -----------------------------------------------------------------------------------------


@paths
def test_many_moves_of_one_flush(tree: Tree, session: Session) -> None:
    """Out of a subtree that moves, into one, into each other's old places, below a new node: one UPDATE."""
    t = tree.make(session, "a(b(c(d(e)) f) g) h(i(j) k) l")
    load_tree(session, tree.cls)
    new = tree.new("n", t.l)
    t.b.parent = t.i
    t.d.parent = t.a
    t.h.parent = t.g
    t.j.parent = t.d
    t.f.parent = new
    with count_statements() as log:
        session.flush()
    assert len(path_updates(log)) == 1, log.text
    assert_in_step(session, tree)
    # Keyed siblings sort by name, others come last.
    assert tree.outline(session) in ("a(g(h(i(b(c)) k)) d(e j)) l(n(f))", "a(d(e j) g(h(i(b(c)) k))) l(n(f))")


@paths
def test_a_parent_and_its_child_change_places(tree: Tree, session: Session) -> None:
    """What hangs below each follows it."""
    t = tree.make(session, "a(b(c(d) e)) z")
    load_tree(session, tree.cls)
    with session.no_autoflush:
        t.c.parent = t.a
        t.b.parent = t.c
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) in ("a(c(d b(e))) z", "a(c(b(e) d)) z")
    with session.no_autoflush:
        t.c.parent = None
        t.a.parent = t.d
    session.flush()
    assert_in_step(session, tree)
    assert verify_tree(session, tree.cls) == []


@paths
def test_a_whole_ring_of_nodes_changes_places(tree: Tree, session: Session) -> None:
    """Three subtrees go into each other crosswise, among them a root."""
    t = tree.make(session, "a(b(x) c) d(e(y) f) g")
    load_tree(session, tree.cls)
    with session.no_autoflush:
        t.b.parent, t.e.parent, t.a.parent, t.g.parent = t.f, t.c, t.y, t.x
        t.c.parent = None
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) in (
        "d(f(b(x(g)))) c(e(y(a)))",
        "c(e(y(a))) d(f(b(x(g))))",
    )


@ordered
def test_a_move_costs_four_statements(tree: Tree, session: Session, engine: Engine) -> None:
    """Lock, last position, one UPDATE of paths, one of the link; SQLite takes its write lock by a fifth."""
    t = tree.make(session, "a(b(c)) d")
    session.add_all([tree.new(f"n{i}", t.c) for i in range(50)])
    session.commit()
    load_tree(session, tree.cls)
    t.b.parent = t.d
    with count_statements() as log:
        session.flush()
    assert unclaimed(log) == (5 if engine.dialect.name == "sqlite" else 4), log.text
    assert_in_step(session, tree)
    t.d.parent = t.a
    with count_statements() as log:
        session.flush()
    deeper = [statement for statement in log if "length(" in statement]
    assert len(deeper) == 1, log.text
    assert_in_step(session, tree)


@ordered
@pytest.mark.parametrize("count", [150, 330])
def test_any_number_of_moves(tree: Tree, session: Session, count: int) -> None:
    """Past 200 rules the rows are read and written by key, in as many statements as 200 would have cost."""
    t = tree.make(session, "a(z) b(c)")
    insert_tree(session, tree.cls, [{"name": f"n{i:03}", "children": [{"name": "m"}]} for i in range(count)], t.a)
    session.commit()
    load_tree(session, tree.cls)
    for node in list(t.a.children):
        if node is not t.z:
            node.parent = t.b
    t.a.parent = t.c
    with count_statements() as log:
        session.flush()
    assert len(log) <= 8, log.text
    assert len(path_updates(log)) == 1, log.text
    assert_in_step(session, tree)
    t.b.children.reverse()
    with count_statements() as log:
        session.flush()
    assert len(log) <= 8, log.text
    assert_in_step(session, tree)
    assert by_path(tree, session).startswith(f"b n{count - 1:03} m n{count - 2:03} m")


@paths
def test_an_old_timestamp_stays(trees: Callable[..., Tree], session: Session, engine: Engine) -> None:
    """Rows whose paths change were not edited: an ``onupdate`` column of theirs stands still."""
    tree = trees(fresh=True)
    tree.table.c.label.onupdate = None
    t = tree.make(session, "a(b(c)) d")
    from sqlalchemy import ColumnDefault

    ColumnDefault("edited", for_update=True)._set_parent(tree.table.c.label)
    tree.table.c.label.onupdate = ColumnDefault("edited", for_update=True)
    t.b.parent = t.d
    session.commit()
    assert session.scalar(select(tree.cls.label).where(tree.cls.name == "c")) is None
    assert session.scalar(select(tree.cls.label).where(tree.cls.name == "b")) == "edited"


# -- what is derived stays derived -----------------------------------------------------------------


@paths
def test_a_path_that_is_set_does_not_reach_the_table(tree: Tree, session: Session) -> None:
    """On new nodes, loaded ones and expired ones, with a move and without; memory shows the true one again."""
    t = tree.make(session, "a(b) c")
    load_tree(session, tree.cls)
    new = tree.new("n", t.b)
    session.add(new)
    new.path = "mine"
    t.a.path = "mine"
    t.b.path = None
    t.b.parent = t.c
    session.flush()
    assert_in_step(session, tree)
    session.expire(t.c)
    t.c.path = "yours"
    with count_statements() as log:
        session.flush()
    assert not writes(log), log.text
    assert t.c.path != "yours"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


@paths
def test_a_merge_brings_no_path(tree: Tree, session: Session, engine: Engine) -> None:
    """What another session knew about the place of a node is older than the table."""
    t = tree.make(session, "a(b) c")
    load_tree(session, tree.cls)
    with Session(session.connection(), join_transaction_mode="rollback_only") as other:
        stale = other.scalars(select(tree.cls).where(tree.cls.name == "b")).one()
    stale.label = "new"
    t.a.parent = t.c
    session.flush()
    merged = session.merge(stale)
    session.flush()
    assert merged.label == "new"
    assert_in_step(session, tree)
    copy = tree.new("n")
    copy.path = "mine"
    session.merge(copy)
    session.flush()
    assert_in_step(session, tree)


@paths
def test_a_rollback_brings_the_old_paths_back(tree: Tree, session: Session) -> None:
    """Of nodes that were changed only by the move of those above them, to a savepoint and to the beginning."""
    t = tree.make(session, "a(b(c)) d")
    load_tree(session, tree.cls)
    before = [node.path for node in (t.a, t.b, t.c, t.d)]
    t.b.parent = None
    session.flush()
    middle = [node.path for node in (t.a, t.b, t.c, t.d)]
    savepoint = session.begin_nested()
    t.d.parent = t.c
    t.b.parent = t.a
    session.flush()
    savepoint.rollback()
    assert [node.path for node in (t.a, t.b, t.c, t.d)] == middle
    assert_in_step(session, tree, after_rollback=True)
    session.rollback()
    assert [node.path for node in (t.a, t.b, t.c, t.d)] == before


async def test_under_asyncio_no_path_is_left_to_load(async_engine: AsyncEngine, plain_bases: Any) -> None:
    """After inserts, shifts and moves all paths are there, and drivers take and give them as strings."""
    mixins = [MaterializedPath, *([LtreePath] if async_engine.dialect.name == "postgresql" else [])]
    for mixin in mixins:
        Base = plain_bases()
        Page = page_class(Base, mixin)
        async with async_engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(async_engine, expire_on_commit=False) as session:
            a, b = Page(name="a", children=[Page(name="c", children=[Page(name="d")])]), Page(name="b")
            session.add_all([a, b])
            await session.flush()
            c = a.children[0]
            c.move_to(b)
            a.children.insert(0, Page(name="e"))
            b.children.insert(0, Page(name="f"))
            await session.commit()
            assert steps(c.children[0]) == [steps(b)[0], 1, 0]
            await session.run_sync(insert_tree, Page, {"name": "g"}, c)
            found = await session.scalars(select(Page.name).where(Page.descendant_of(b)).order_by(Page.path))
            assert found.all() == ["f", "c", "d", "g"]
            above = await session.scalars(select(Page.name).where(Page.ancestor_of(c.children[0])).order_by(Page.path))
            assert above.all() == ["b", "c"]
            assert await session.run_sync(verify_tree, Page) == []


# -- limits ----------------------------------------------------------------------------------------


def page_class(Base: Any, mixin: type = MaterializedPath, length: int | None = None, **options: Any) -> Any:
    class Page(mixin, TreeNode, Base):  # type: ignore[misc, valid-type]
        __tablename__ = "page"
        __tree__ = TreeOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        if length is not None:
            path: Mapped[str | None] = mapped_column("path", String(length))

    if mixin is LtreePath:
        create_ltree_with(Base.metadata)
    return Page


def chain(Page: Any, depth: int) -> tuple[Any, Any]:
    """Make new nodes below each other, and return the first and the last."""
    first = last = Page(name="1")
    for number in range(2, depth + 1):
        last.children = [Page(name=str(number))]
        last = last.children[0]
    return first, last


def refused(session: Session, act: Callable[[], object], match: str) -> None:
    """Assert that `act` and the flush raise `PathOverflowError` before the first write, and the session goes on."""
    with count_statements() as log, pytest.raises(PathOverflowError, match=match) as caught:
        act()
        session.flush()
    assert isinstance(caught.value, PatternError)
    assert not writes(log), log.text
    session.rollback()


@pytest.fixture
def shallow(engine: Engine, plain_bases: Any) -> Any:
    """Return a class whose paths hold four levels."""
    Base = plain_bases()
    Page = page_class(Base, length=24)
    Base.metadata.create_all(engine)
    return Page


@pytest.mark.parametrize("way", ["new", "chain", "bulk", "bulk below", "move", "subtree", "nested", "gap"])
def test_what_would_lie_too_deep_is_refused(shallow: Any, session: Session, way: str) -> None:
    """By an insert, by `insert_tree`, and by a move of what is not loaded; nothing is written, nothing is cut off."""
    first, last = chain(shallow, 4)
    other, end = chain(shallow, 2)
    session.add_all([first, other])
    session.commit()
    upper, target = first.id, other.id
    name = {"subtree": "what lies below", "bulk": "a part of the data", "bulk below": "a part of the data"}.get(way, "")

    def act() -> None:
        if way == "new":
            last.children.append(shallow(name="5"))
        elif way == "chain":
            session.add(chain(shallow, 5)[0])
        elif way == "bulk":
            data: Any = {"name": "5"}
            for _ in range(4):
                data = {"name": "n", "children": [data]}
            insert_tree(session, shallow, data)
        elif way == "bulk below":
            insert_tree(session, shallow, {"name": "5"}, last)
        elif way == "move":
            other.parent = last
        elif way == "subtree":
            session.expunge_all()
            session.get_one(shallow, upper).parent_id = target
        elif way == "nested":
            # Two edges down by itself, and one more with what it goes below.
            end.parent = first.children[0]
            first.parent = other
        else:
            other.children.insert(0, first)

    refused(session, act, f"(?s){name}.*4 levels.*Page")
    session.expunge_all()
    assert verify_tree(session, shallow) == []
    depths = session.scalars(select(func.length(shallow.path)).order_by(shallow.id)).all()
    assert sorted(depths) == [6, 6, 12, 12, 18, 24]


def test_a_tree_that_is_too_deep_cannot_be_rebuilt(shallow: Any, session: Session) -> None:
    """Rows that were inserted without the ORM: refused before positions are numbered."""
    first, last = chain(shallow, 4)
    session.add(first)
    session.commit()
    session.execute(insert(shallow.__table__).values(name="5", parent_id=last.id, position=7))
    session.commit()
    refused(session, lambda: rebuild_tree(session, shallow), "4 levels")
    assert [problem.kind for problem in verify_tree(session, shallow)] == ["missing_path"]


def test_a_subtree_that_just_fits_goes_in(shallow: Any, session: Session) -> None:
    """Also where another part of it moves out of the way in the same flush."""
    first, _ = chain(shallow, 4)
    other = shallow(name="o")
    session.add_all([first, other])
    session.commit()
    second = first.children[0]
    third = second.children[0]
    fourth = third.children[0]
    third.parent = other
    fourth.parent = None
    first.parent = third
    session.commit()
    assert verify_tree(session, shallow) == []


@pytest.mark.parametrize("count", [3, 250])
def test_too_many_rules_do_not_hide_an_overflow(shallow: Any, session: Session, count: int) -> None:
    """Where the rows are read one by one, they are measured one by one."""
    first, last = chain(shallow, 3)
    session.add(first)
    insert_tree(session, shallow, [{"name": str(i), "children": [{"name": "x"}]} for i in range(count)])
    session.commit()
    tops = session.scalars(select(shallow).where(shallow.is_root(), shallow.id != first.id)).all()

    def act() -> None:
        for node in tops:
            node.parent = last

    refused(session, act, "4 levels")
    assert verify_tree(session, shallow) == []


@ordered
@pytest.mark.parametrize("way", ["position", "behind", "gap", "bulk", "move"])
def test_more_siblings_than_a_step_can_number_are_refused(tree: Tree, session: Session, way: str) -> None:
    """A position above 999,999: set, following the last, or by the space that others need before it."""
    t = tree.make(session, "a(b c) d(e)")
    t.c.position = 999_999
    session.commit()
    assert steps(t.c)[1:] == [999_999]

    def act() -> None:
        if way == "position":
            t.b.position = 1_000_000
        elif way == "behind":
            session.add(tree.new("x", t.a))
        elif way == "gap":
            t.a.children.insert(0, tree.new("x"))
        elif way == "bulk":
            insert_tree(session, tree.cls, {"name": "x"}, t.a)
        else:
            t.e.parent = t.a

    refused(session, act, "999,999.*rebuild_tree")
    assert_in_step(session, tree, after_rollback=True)
    # The way out that the error names.
    assert rebuild_tree(session, tree.cls) == 1
    act() if way != "position" else None
    session.commit()
    assert verify_tree(session, tree.cls) == []


@paths
def test_more_roots_than_a_step_can_number_are_refused(tree: Tree, session: Session) -> None:
    """They are numbered for good; `rebuild_tree` closes the gaps."""
    t = tree.make(session, "a(b)")
    session.execute(update(tree.cls).values(path="999999").where(tree.cls.name == "a"))
    session.commit()
    refused(session, lambda: session.add(tree.new("x")), "999,999")
    refused(session, lambda: insert_tree(session, tree.cls, {"name": "x"}), "999,999")
    assert rebuild_tree(session, tree.cls) == 1
    session.add(tree.new("x"))
    session.commit()
    assert steps(t.a) == [0]
    assert verify_tree(session, tree.cls) == []


def test_all_levels_of_the_column_can_be_used(engine: Engine, session: Session, plain_bases: Any) -> None:
    """400 for a string, 200 for an ltree, wherever in the order; index entries are not too large for the database."""
    mixins = [(MaterializedPath, 400), *([(LtreePath, 200)] if engine.dialect.name == "postgresql" else [])]
    for mixin, depth in mixins:
        Base = plain_bases()
        Page = page_class(Base, mixin)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        # Positions that hardly repeat: an index must not live on what it can compress.
        tops = [Page(name="top", position=i) for i in range(6)]
        for top in tops:
            node = top
            for level in range(depth - 1):
                child = Page(name="n", position=(level * 7_919_317 + top.position * 104_729) % 1_000_000)
                node.children = [child]
                node = child
        session.add_all(tops)
        session.commit()
        assert verify_tree(session, Page) == []
        deepest = session.scalars(select(Page).where(Page.is_leaf())).all()
        assert {len(steps(node)) for node in deepest} == {depth}
        assert session.scalar(select(func.count()).where(Page.descendant_of(tops[0]))) == depth - 1
        refused(session, lambda Page=Page, node=deepest[0]: session.add(Page(name="x", parent=node)), f"{depth} levels")
        session.expunge_all()


# -- damage ----------------------------------------------------------------------------------------


@paths
@pytest.mark.parametrize("way", ["below", "bulk", "move", "under"])
def test_a_row_without_a_path_asks_for_a_rebuild(tree: Tree, session: Session, way: str) -> None:
    """A row that was inserted without the ORM takes no children and does not move, before anything is written."""
    t = tree.make(session, "a(b) c(d)")
    session.execute(update(tree.cls).values(path=None).where(tree.cls.name == "b"))
    session.commit()
    key = tree.pk(t.b)
    with count_statements() as log, pytest.raises(TreeDamagedError, match=r"rebuild_tree\(session, Node\)") as caught:
        if way == "below":
            session.add(tree.new("x", t.b))
        elif way == "bulk":
            insert_tree(session, tree.cls, {"name": "x"}, t.b)
        elif way == "move":
            t.b.parent = t.c
        else:
            t.d.parent = t.b
        session.flush()
    assert not writes(log), log.text
    assert [(problem.kind, problem.pk) for problem in caught.value.problems] == [("missing_path", key)]
    session.rollback()
    assert [(problem.kind, problem.pk) for problem in verify_tree(session, tree.cls)] == [("missing_path", key)]
    assert rebuild_tree(session, tree.cls) == 1
    session.add(tree.new("x", t.b))
    session.commit()
    assert_in_step(session, tree)


@paths
def test_wrong_paths_are_named_and_mended(tree: Tree, session: Session) -> None:
    """A path that is not its parent's and a step, one that is there twice, one that is no path; loaded nodes follow."""
    t = tree.make(session, "a(b c(d)) e f")
    load_tree(session, tree.cls)
    dot = "." if tree.shape.index.name == "ltree" else ""
    wrong = {"b": f"000007{dot}000000", "d": f"000000{dot}000001", "f": t.e.path}
    for name, path in wrong.items():
        session.execute(
            update(tree.cls).values(path=path).where(tree.cls.name == name),
            execution_options={"synchronize_session": False},
        )
    found = verify_tree(session, tree.cls)
    assert {problem.kind for problem in found} == {"wrong_path"}
    assert {problem.pk for problem in found} >= {tree.pk(t.b), tree.pk(t.d), tree.pk(t.e), tree.pk(t.f)}
    assert wrong["b"] in {problem.pk: problem.detail for problem in found}[tree.pk(t.b)]
    assert rebuild_tree(session, tree.cls) == 3
    assert verify_tree(session, tree.cls) == []
    assert_in_step(session, tree)


@paths
def test_an_index_comes_to_a_tree_that_is_there(tree: Tree, session: Session) -> None:
    """`rebuild_tree` fills the column of all rows, in the order of siblings."""
    tree.make(session, "a(b(c d) e(f)) g(h)")
    session.execute(update(tree.cls).values(path=None))
    session.commit()
    assert len(verify_tree(session, tree.cls)) == 8
    assert rebuild_tree(session, tree.cls) == 8
    assert by_path(tree, session) == "a b c d e f g h"
    assert_in_step(session, tree)


def test_paths_that_contradict_the_links_end_in_an_error(engine: Engine, session: Session, plain_bases: Any) -> None:
    """Two moved nodes whose damaged paths lie in each other's way: no endless search, and nothing written."""
    Base = plain_bases()
    Page = page_class(Base)
    Base.metadata.create_all(engine)
    a, b, c, d = (Page(name=name) for name in "abcd")
    a.children, b.children = [c], [d]
    session.add_all([a, b])
    session.commit()
    for node, path in ((c, b.path + "000000"), (d, a.path + "000000")):
        session.execute(update(Page).values(path=path).where(Page.id == node.id))
    session.commit()
    a.parent, b.parent = d, None
    b.position = 5
    with pytest.raises((TreeDamagedError, InvalidMoveError)):
        b.parent = c
        session.flush()
    session.rollback()
    assert rebuild_tree(session, Page) > 0
    assert verify_tree(session, Page) == []


# -- reads -----------------------------------------------------------------------------------------


@paths
def test_no_name_and_no_key_is_a_pattern(tree: Tree, session: Session) -> None:
    """Names that are wildcards elsewhere; the ranges know numbers only."""
    t = tree.make(session, "a(b(c)) d(e)")
    t.b.name, t.c.name, t.d.name = "%", "_", "a%"
    session.commit()
    assert tree.matching(session, tree.cls.descendant_of(t.b)) == "_"
    assert tree.matching(session, tree.cls.ancestor_of(t.c)) in ("% a", "a %")
    assert tree.matching(session, tree.cls.descendant_of([t.d, t.b])) in ("_ e", "e _")
    other = aliased(tree.cls)
    pairs = select(tree.cls.name, other.name).where(tree.cls.descendant_of(other))
    assert {tuple(row) for row in session.execute(pairs)} == {("%", "a"), ("_", "a"), ("_", "%"), ("e", "a%")}


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("function", ["add", "insert_tree"])
def test_an_ltree_names_the_database_that_it_needs(
    engine: Engine, session: Session, plain_bases: Any, function: str
) -> None:
    """A raw error of the database said "no such function: text2ltree" before."""
    base = plain_bases()

    class Area(LtreePath, TreeNode, base):  # type: ignore[misc]
        __tablename__ = "area"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    base.metadata.create_all(engine)
    with pytest.raises(StateError, match=r"Area has a LtreePath, which needs PostgreSQL .* connected to sqlite"):
        if function == "add":
            session.add(Area(name="a"))
            session.flush()
        else:
            insert_tree(session, Area, {"name": "a"})


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("mixin", [MaterializedPath, LtreePath])
def test_the_planner_takes_the_index(engine: Engine, session: Session, plain_bases: Any, mixin: type) -> None:
    """Of 11,111 nodes, for descendants of one and of several, by a join, for the order, and for the last root."""
    Base = plain_bases()
    Page = page_class(Base, mixin)
    Base.metadata.create_all(engine)

    def level(depth: int) -> list[dict[str, Any]]:
        return [{"name": "n", "children": level(depth - 1) if depth else []} for _ in range(10)]

    insert_tree(session, Page, {"name": "root", "children": level(3)})
    session.commit()
    session.connection().exec_driver_sql("ANALYZE page")
    other = aliased(Page)
    mid = session.scalars(select(Page).where(Page.is_root())).one().children[0].children[0]
    statements = {
        "one": select(Page.id).where(Page.descendant_of(mid)),
        "depth": select(Page.id).where(Page.descendant_of(mid.id, max_depth=1)),
        "several": select(Page.id).where(Page.descendant_of([mid.id, 3, 700])),
        "joined": select(Page.id).join(other, Page.descendant_of(other)).where(other.id == mid.id),
        "ordered": select(Page.id).order_by(Page.path).limit(20),
        "last": select(Page.path).where(Page.path.is_not(None)).order_by(Page.path.desc()).limit(1),
    }
    if mixin is LtreePath:
        statements["ancestors"] = select(Page.id).where(Page.ancestor_of(mid))
    for name, statement in statements.items():
        sql = statement.compile(engine, compile_kwargs={"render_postcompile": True})
        rows = session.connection().exec_driver_sql(f"EXPLAIN {sql}", sql.params).scalars().all()
        plan = "\n".join(rows)
        assert re.search(r"Index.* (using|on) ix_page_path", plan), f"{name}:\n{plan}"
    assert session.scalar(select(func.count()).where(Page.descendant_of(mid))) == 110


@pytest.mark.only_on("postgresql")
def test_patterns_of_ltree(engine: Engine, session: Session, plain_bases: Any) -> None:
    """The operators and functions of the extension, over the column as it is mapped."""

    class LQuery(UserDefinedType[str]):
        cache_ok = True

        def get_col_spec(self, **options: Any) -> str:
            return "LQUERY"

    Base = plain_bases()
    Area = page_class(Base, LtreePath)
    Base.metadata.create_all(engine)
    world = Area(name="world", children=[Area(name="asia", children=[Area(name="japan")]), Area(name="europe")])
    session.add(world)
    session.commit()
    assert world.children[0].path == "000000.000000"
    two_levels = Area.path.bool_op("~")(cast("*{2}", LQuery()))
    assert session.scalars(select(Area.name).where(two_levels).order_by(Area.path)).all() == ["asia", "europe"]
    assert session.scalars(select(func.nlevel(Area.path)).order_by(Area.id)).all() == [1, 2, 2, 3]


# -- mapping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order_by", [(), ("name",)], ids=["list", "sorted"])
def test_alembic_has_nothing_to_add(engine: Engine, plain_bases: Any, order_by: tuple[str, ...]) -> None:
    """Column, collation, type and indexes are in the metadata."""
    for mixin in (MaterializedPath, *([LtreePath] if engine.dialect.name == "postgresql" else [])):
        Base = plain_bases()
        page_class(Base, mixin, order_by=order_by)
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        assert_empty_diff(engine, Base.metadata)
        Base.metadata.drop_all(engine)


@pytest.mark.parametrize("length", [None, 60], ids=["ours", "declared"])
def test_the_column_compares_bytes_whatever_the_database_does(
    engine: Engine, plain_bases: Any, length: int | None
) -> None:
    """The default collation may sort by other rules, and then no range holds; also with a length of the user's."""
    Base = plain_bases()
    page_class(Base, length=length)
    Base.metadata.create_all(engine)
    (column,) = (column for column in inspect(engine).get_columns("page") if column["name"] == "path")
    assert column["type"].length == (length or 2_400)
    collation = getattr(column["type"], "collation", None)
    assert collation == {"postgresql": "C", "mysql": "ascii_bin", "sqlite": None}[engine.dialect.name]
    assert [index["column_names"] for index in inspect(engine).get_indexes("page")].count(["path"]) == 1


def test_what_cannot_be_mapped(plain_bases: Any) -> None:
    """An index without a tree, two indexes, a column of another name."""
    with pytest.raises(MappingError, match=r"MaterializedPath on 'Page' is an index of a tree"):

        class Page(MaterializedPath, plain_bases()):  # type: ignore[misc]
            __tablename__ = "page"
            id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MappingError, match="at most one"):

        class Both(NestedSets, MaterializedPath, TreeNode, plain_bases()):  # type: ignore[misc]
            __tablename__ = "both"
            id: Mapped[int] = mapped_column(primary_key=True)


@pytest.mark.parametrize("index", [MaterializedPath, NestedSets])
def test_columns_of_an_index_may_have_other_names_in_the_table(
    engine: Engine, session: Session, plain_bases: Any, index: Any
) -> None:
    """A column that the class names itself takes the place of the mixin's, for a table that has its name already."""
    Base = plain_bases()

    class Renamed(index, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "renamed"
        id: Mapped[int] = mapped_column(primary_key=True)
        if index is MaterializedPath:
            path: Mapped[str | None] = mapped_column("way", String(60))
        else:
            left: Mapped[int | None] = mapped_column("up", Integer())
            tree_id: Mapped[int | None] = mapped_column("top", Integer())

    Base.metadata.create_all(engine)
    root = Renamed(children=[Renamed(children=[Renamed()]), Renamed()])
    session.add(root)
    session.commit()
    root.children[1].move_to(root.children[0], "first_child")
    session.commit()
    assert len(session.scalars(select(Renamed).where(Renamed.descendant_of(root.children[0]))).all()) == 2
    assert verify_tree(session, Renamed) == []


def test_subclasses_share_the_paths(engine: Engine, session: Session, plain_bases: Any) -> None:
    """Joined and single-table subclasses have the column of the class that carries the tree."""
    Base = plain_bases()

    class Item(MaterializedPath, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}

    class Book(Item):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
        pages: Mapped[int] = mapped_column(Integer(), default=1)
        __mapper_args__ = {"polymorphic_identity": "book"}

    class Note(Item):
        __mapper_args__ = {"polymorphic_identity": "note"}

    Base.metadata.create_all(engine)
    assert "path" not in Book.__table__.c
    shelf = Item(children=[Book(children=[Note()]), Note()])
    session.add(shelf)
    session.commit()
    note, book = shelf.children[1], shelf.children[0]
    book.parent = note
    session.commit()
    assert [steps(node) for node in (shelf, note, book, book.children[0])] == [[0], [0, 1], [0, 1, 0], [0, 1, 0, 0]]
    assert session.scalars(select(Book).where(Book.descendant_of(shelf))).all() == [book]
    assert verify_tree(session, Item) == []


# -- several writers -------------------------------------------------------------------------------

WRITERS = [
    pytest.param(kind, id=str(kind))
    for kind in SHAPES
    if MaterializedPath in kind.mixins and kind.name.endswith("siblings")
]
writers = pytest.mark.parametrize("shape", WRITERS)


@pytest.mark.only_on("postgresql", "mariadb")
@writers
def test_one_shifts_siblings_while_others_insert_below_them(make_world: Make, shape: Kind) -> None:
    """Each insert ends up below the path that its parent has by then."""
    world = make_world(shape)
    keys = world.plant("root", *(f"root/{name}" for name in "abcd"), "d/x")

    def shift(number: int) -> None:
        for _ in range(8):

            def work(session: Session) -> None:
                root = world.get(session, keys["root"])
                root.children.insert(0, shape.new(world.Node, f"s{number}"))

            world.transact(work)

    def insert(name: str) -> None:
        for _ in range(8):
            world.transact(lambda session: session.add(shape.new(world.Node, "n", parent_id=keys[name])))

    jobs = [lambda n=n: shift(n) for n in range(2)] + [lambda name=name: insert(name) for name in "abdx"]
    all_well(together(*jobs))
    forest = world.sound()
    assert len(forest[keys["root"]]) == 20
    assert [len(forest[keys[name]]) for name in "abdx"] == [8, 8, 9, 8]


@pytest.mark.only_on("postgresql")
@writers
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("bulk", [False, True], ids=["flush", "insert_tree"])
def test_an_insert_waits_for_the_tree_that_its_parent_has_moved_to(
    make_world: Make, shape: Kind, isolation: str, bulk: bool
) -> None:
    """A part of the path went to another tree while the insert waited for the root of the old one."""
    world = make_world(shape, isolation)
    keys = world.plant("one", "one/a", "a/b", "b/c", "two", "two/d")

    def move(session: Session) -> None:
        world.get(session, keys["a"]).parent_id = keys["d"]

    def insert(session: Session) -> None:
        if bulk:
            insert_tree(session, world.Node, {"name": "n", "tag": 0}, keys["c"])
        else:
            session.add(shape.new(world.Node, "n", parent_id=keys["c"]))

    first, second = one_after_the_other(world, move, insert)
    assert first is None
    forest = world.sound()
    if second is None:
        assert [row.name for row in forest[keys["c"]]] == ["n"]
    else:
        assert isolation == "REPEATABLE READ", second
        assert "serialize" in str(second)


@pytest.mark.only_on("postgresql")
@writers
def test_trees_are_exchanged_while_others_insert(make_world: Make, shape: Kind) -> None:
    """Subtrees go from tree to tree and back, and rows come in below them all the time."""
    world = make_world(shape)
    keys = world.plant("one", "one/a", "a/b", "two", "two/c", "c/d", "three")

    def move(name: str, targets: str) -> None:
        for number in range(10):
            target = targets.split()[number % 2]
            try:
                world.transact(
                    lambda session, target=target: setattr(world.get(session, keys[name]), "parent_id", keys[target])
                )
            except InvalidMoveError:
                pass  # Below itself, as the other has it by then.

    def insert(name: str) -> None:
        for _ in range(10):
            world.transact(lambda session: session.add(shape.new(world.Node, "n", parent_id=keys[name])))

    jobs = [lambda: move("a", "d three"), lambda: move("c", "b one"), lambda: insert("b"), lambda: insert("d")]
    for outcome in together(*jobs):
        # Two trees are locked one after the other where a path changes meanwhile; the database ends what that blocks.
        assert outcome is None or getattr(getattr(outcome, "orig", None), "sqlstate", None) == "40P01", outcome
    world.sound()


@pytest.mark.only_on("postgresql")
def test_the_extension_is_not_created_behind_ones_back(engine: Engine, plain_bases: Any) -> None:
    """The type comes with a migration; the table alone asks the database for it."""
    Base = plain_bases()

    class Area(LtreePath, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "area"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(Exception, match='type "ltree" does not exist'):
        Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION ltree"))
    Base.metadata.create_all(engine)
    assert Area.__table__.c.path.type.get_col_spec() == "LTREE"
