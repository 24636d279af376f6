"""What is refused before the first write: cycles by every spelling, two parents at once, targets that are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, exc, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from sqla_patterns.trees import InvalidMoveError, load_tree, verify_tree
from tests._support import count_statements
from tests.trees._indexes import assert_index_sound
from tests.trees._shapes import Tree, any_key, assert_in_step, positioned, writes

Move = Callable[[Tree, Any, Any], None]

SPELLINGS: dict[str, Move] = {
    "parent": lambda tree, node, target: setattr(node, "parent", target),
    "parent_id": lambda tree, node, target: setattr(node, "parent_id", tree.pk(target)),
    "children": lambda tree, node, target: tree.attach(target, node),
    "move_to": lambda tree, node, target: node.move_to(target),
}
every_spelling = pytest.mark.parametrize("move", SPELLINGS.values(), ids=SPELLINGS)
every_start = pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "expired"])


@contextmanager
def refused(session: Session, error: type[Exception], match: str | None = None) -> Iterator[None]:
    """Assert that `error` comes before any row is written, and roll back."""
    with count_statements() as log, pytest.raises(error, match=match) as caught, session.no_autoflush:
        yield
    assert isinstance(caught.value, PatternError)
    assert not writes(log), log.text
    session.rollback()


def still_usable(tree: Tree, session: Session, outline: str) -> None:
    """Assert that after the rollback the table is as before, memory agrees, and a right change goes through."""
    assert tree.outline(session) == outline
    load_tree(session, tree.cls)
    assert_in_step(session, tree)
    session.add(tree.new("zz"))
    session.commit()
    assert tree.outline(session) == f"{outline} zz"


# -- cycles --------------------------------------------------------------------------------------


@every_start
@every_spelling
@pytest.mark.parametrize("target", ["b", "c", "d"])
def test_below_itself(tree: Tree, session: Session, move: Move, loaded: bool, target: str) -> None:
    """A node can go neither into itself nor below one of its descendants."""
    t = tree.make(session, "a(b(c(d))) e")
    if loaded:
        load_tree(session, tree.cls)
    with refused(session, InvalidMoveError):
        move(tree, t.b, getattr(t, target))
        session.flush()
    still_usable(tree, session, "a(b(c(d))) e")


@every_start
@every_spelling
def test_a_root_below_its_descendant(tree: Tree, session: Session, move: Move, loaded: bool) -> None:
    """A root cannot go below what lies below it, which would cut the tree off from all roots."""
    t = tree.make(session, "a(b(c))")
    if loaded:
        load_tree(session, tree.cls)
    with refused(session, InvalidMoveError):
        move(tree, t.a, t.c)
        session.flush()
    still_usable(tree, session, "a(b(c))")


@every_spelling
@pytest.mark.parametrize("other", SPELLINGS.values(), ids=SPELLINGS)
def test_two_moves_that_make_a_cycle_together(tree: Tree, session: Session, move: Move, other: Move) -> None:
    """Each of two moves is legal, both in one flush are not."""
    t = tree.make(session, "a(b) c(d)")
    with refused(session, InvalidMoveError):
        move(tree, t.a, t.d)
        other(tree, t.c, t.b)
        session.flush()
    still_usable(tree, session, "a(b) c(d)")


@every_spelling
def test_a_cycle_through_a_new_node(tree: Tree, session: Session, move: Move) -> None:
    """A new node in the cycle does not hide it."""
    t = tree.make(session, "a(b)")
    new = tree.new("n")
    with refused(session, InvalidMoveError):
        move(tree, new, t.b)
        session.add(new)
        t.a.parent = new
        session.flush()
    still_usable(tree, session, "a(b)")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_of_new_nodes(tree: Tree, session: Session, length: int) -> None:
    """New nodes alone can make a cycle too, of one, two or three."""
    tree.make(session, "a")
    ring = [tree.new(f"n{i}") for i in range(length)]
    with refused(session, InvalidMoveError):
        for node, following in zip(ring, [*ring[1:], ring[0]], strict=True):
            node.parent = following
        session.add_all(ring)
        session.flush()
    still_usable(tree, session, "a")


@any_key
def test_a_cycle_with_every_kind_of_key(tree: Tree, session: Session) -> None:
    """Cycles are seen whatever the type of the keys."""
    t = tree.make(session, "a(b(c))")
    for move in SPELLINGS.values():
        with refused(session, InvalidMoveError):
            move(tree, t.a, t.c)
            session.flush()
    still_usable(tree, session, "a(b(c))")


@positioned
@pytest.mark.parametrize("position", ["first_child", "last_child", "before", "after"])
@pytest.mark.parametrize("target", ["b", "c", "d"])
@every_start
def test_move_to_beside_itself_or_below(tree: Tree, session: Session, target: str, position: str, loaded: bool) -> None:
    """`move_to` is refused at itself and, in each position, at what lies below."""
    t = tree.make(session, "a(b(c(d)))")
    if loaded:
        load_tree(session, tree.cls)
    with refused(session, InvalidMoveError):
        t.b.move_to(getattr(t, target), position)
        session.flush()
    still_usable(tree, session, "a(b(c(d)))")


# -- two parents ---------------------------------------------------------------------------------


@every_start
@pytest.mark.parametrize(("parent", "parent_id"), [("c", "d"), ("c", None), (None, "c"), ("a", "c"), ("c", "a")])
@pytest.mark.parametrize("order", ["parent first", "parent_id first"])
def test_parent_and_parent_id_apart(
    tree: Tree, session: Session, parent: str | None, parent_id: str | None, order: str, loaded: bool
) -> None:
    """``parent`` and ``parent_id`` set to different nodes are an error, also where one repeats the present parent."""
    t = tree.make(session, "a(b) c d")
    if loaded:
        load_tree(session, tree.cls)
    steps = [
        lambda: setattr(t.b, "parent", getattr(t, parent) if parent else None),
        lambda: setattr(t.b, "parent_id", tree.pk(getattr(t, parent_id)) if parent_id else None),
    ]
    with refused(session, InvalidMoveError, "parent_id"):
        for step in steps if order == "parent first" else reversed(steps):
            step()
        session.flush()
    still_usable(tree, session, "a(b) c d")


def test_a_new_node_with_two_parents(tree: Tree, session: Session) -> None:
    """A new node's two attributes must agree as well."""
    t = tree.make(session, "a b")
    with refused(session, InvalidMoveError, "parent_id"):
        new = tree.new("n", t.a)
        new.parent_id = tree.pk(t.b)
        session.add(new)
        session.flush()
    still_usable(tree, session, "a b")


# -- targets that are not there ------------------------------------------------------------------


@any_key
@pytest.mark.parametrize("new", [True, False], ids=["new", "moved"])
def test_a_parent_id_that_does_not_exist(tree: Tree, session: Session, new: bool) -> None:
    """A key without a row is no parent."""
    t = tree.make(session, "a(b) c")
    unknown = tree.pk(t.c)
    session.delete(t.c)
    session.commit()
    with refused(session, InvalidMoveError, "exist"):
        node = tree.new("n") if new else t.b
        node.parent_id = unknown
        session.add(node)
        session.flush()
    still_usable(tree, session, "a(b)")


@pytest.mark.parametrize("new", [True, False], ids=["new", "moved"])
@every_spelling
def test_a_parent_that_is_deleted_in_the_same_flush(tree: Tree, session: Session, move: Move, new: bool) -> None:
    """Nothing can be put below a node that goes, nor below what goes with it."""
    t = tree.make(session, "a(b(c)) d")
    for target in (t.b, t.c):
        with refused(session, InvalidMoveError, "deleted"):
            node = tree.new("n") if new else t.d
            move(tree, node, target)
            session.add(node)
            session.delete(t.b)
            session.flush()
    still_usable(tree, session, "a(b(c)) d")


@pytest.fixture
def two_sessions(tree: Tree, file_engine: Engine) -> Iterator[tuple[Session, Session]]:
    """Yield two sessions on connections of their own."""
    tree.create(file_engine)
    with Session(file_engine, expire_on_commit=False) as one, Session(file_engine) as two:
        yield one, two


@every_spelling
def test_a_target_that_another_session_deleted(tree: Tree, two_sessions: tuple[Session, Session], move: Move) -> None:
    """A stale target is found out inside the lock."""
    one, two = two_sessions
    t = tree.make(one, "a(b) c")
    load_tree(one, tree.cls)
    one.commit()
    two.delete(two.get(tree.cls, tree.pk(t.c)))
    two.commit()
    with refused(one, InvalidMoveError, "exist"):
        move(tree, t.b, t.c)
        one.flush()
    assert tree.outline(one) == "a(b)"


@every_spelling
def test_a_target_that_another_session_moved_below_the_node(
    tree: Tree, two_sessions: tuple[Session, Session], move: Move
) -> None:
    """A move that was legal when the tree was loaded, and is none any more, is refused."""
    one, two = two_sessions
    t = tree.make(one, "a(b) c(d)")
    load_tree(one, tree.cls)
    one.commit()
    two.get(tree.cls, tree.pk(t.c)).parent_id = tree.pk(t.b)
    two.commit()
    with refused(one, InvalidMoveError):
        move(tree, t.a, t.d)
        one.flush()
    assert tree.outline(one) == "a(b(c(d)))"


@pytest.mark.parametrize("name", ["parent", "parent_id", "children"])
def test_a_target_that_another_session_moved_away(tree: Tree, two_sessions: tuple[Session, Session], name: str) -> None:
    """What counts is the table: a target that is no descendant any more is a legal one for the flush."""
    one, two = two_sessions
    t = tree.make(one, "a(b(c)) d")
    one.commit()
    two.get(tree.cls, tree.pk(t.c)).parent_id = tree.pk(t.d)
    two.commit()
    SPELLINGS[name](tree, t.a, t.c)
    one.commit()
    assert tree.outline(one) == "d(c(a(b)))"


@pytest.mark.parametrize("name", ["moved up", "moved down"])
def test_a_place_that_is_said_again(tree: Tree, two_sessions: tuple[Session, Session], name: str) -> None:
    """A place that is said below the parent that a node seems to have moves it back from where another session put it.
    Found by two threads on a SQLite file, where an index went by what was said and ``parent_id`` by what had not
    changed.
    """
    one, two = two_sessions
    t = tree.make(one, "a(b(x) c) d(e) z")
    load_tree(one, tree.cls)
    one.commit()
    node, above = {"moved up": (t.a, None), "moved down": (t.b, t.a)}[name]
    other = two.get(tree.cls, tree.pk(node))
    other.parent = two.get(tree.cls, tree.pk(t.d))
    two.add(tree.new("new", two.get(tree.cls, tree.pk(t.a))))
    two.commit()
    if tree.positioned:
        node.move_to(t.z if above is None else t.c, "before")
    else:
        node.move_to(above)
    one.flush()
    rows = one.connection().execute(select(inspect(tree.cls).columns["parent_id"]).where(tree.cls.name == node.name))
    assert rows.scalar() == (None if above is None else tree.pk(above))
    assert_index_sound(one.connection(), tree.cls)
    assert not verify_tree(one, tree.cls)
    one.commit()


@pytest.mark.parametrize("name", ["parent", "parent_id"])
def test_a_parent_that_is_said_again(tree: Tree, two_sessions: tuple[Session, Session], name: str) -> None:
    """A node that is given the parent that it seems to have stays where another session has moved it."""
    one, two = two_sessions
    t = tree.make(one, "a(b(x) c) d(e) z")
    load_tree(one, tree.cls)
    one.commit()
    other = two.get(tree.cls, tree.pk(t.b))
    other.parent = two.get(tree.cls, tree.pk(t.d))
    two.commit()
    if name == "parent_id":
        t.b.parent_id = tree.pk(t.a)
    else:
        t.b.parent = t.a
    one.flush()
    assert tree.outline(one) == ("a(c) d(e b(x)) z" if tree.positioned else "a(c) d(b(x) e) z")
    assert_index_sound(one.connection(), tree.cls)
    assert not verify_tree(one, tree.cls)
    one.commit()


def test_a_node_that_another_session_deleted(tree: Tree, two_sessions: tuple[Session, Session]) -> None:
    """Moving a node whose row is gone is an error, and nothing is left behind."""
    one, two = two_sessions
    t = tree.make(one, "a(b) c")
    load_tree(one, tree.cls)
    one.commit()
    two.delete(two.get(tree.cls, tree.pk(t.b)))
    two.commit()
    with pytest.raises((exc.InvalidRequestError, exc.SQLAlchemyError)):
        t.b.parent = t.c
        one.flush()
    one.rollback()
    assert tree.outline(one) == "a c"


# -- arguments -----------------------------------------------------------------------------------


def test_bad_arguments_of_move_to(tree: Tree, session: Session) -> None:
    """An unknown position, something that is no node, and a place beside nothing are refused at once."""
    t = tree.make(session, "a(b)")
    for arguments in [(t.a, "middle"), (tree.pk(t.a),), ("a",), (object(),), (None, "before"), (None, "after")]:
        with pytest.raises(InvalidArgumentError):
            t.b.move_to(*arguments)
    session.commit()
    assert tree.outline(session) == "a(b)"


def test_a_parent_of_another_class(tree: Tree, session: Session, plain_bases: Any) -> None:
    """A parent must be a node of the same tree, and a refused one leaves nothing behind."""

    class Stranger(plain_bases()):  # type: ignore[misc]
        __tablename__ = "stranger"
        id: Mapped[int] = mapped_column(primary_key=True)

    t = tree.make(session, "a(b)")
    load_tree(session, tree.cls)
    for nonsense in (Stranger(), "a", 1):
        with pytest.raises(InvalidArgumentError, match="Node"):
            t.b.parent = nonsense
        assert t.b.parent is t.a
        assert tree.members(t.a) == [t.b]
        with pytest.raises(InvalidArgumentError):
            t.b.move_to(nonsense)
    session.commit()
    assert tree.outline(session) == "a(b)"


@positioned
@pytest.mark.parametrize("value", [-1, "first", 1.5])
def test_bad_positions(tree: Tree, session: Session, value: object) -> None:
    """A position is a number from 0 on."""
    t = tree.make(session, "a(b c)")
    with refused(session, InvalidArgumentError, "position"):
        t.c.position = value
        session.flush()
    new = tree.new("n", t.a)
    with refused(session, InvalidArgumentError, "position"):
        new.position = value
        session.add(new)
        session.flush()
    still_usable(tree, session, "a(b c)")


def test_refusals_are_errors_of_sqlalchemy(tree: Tree, session: Session) -> None:
    """Each error refines one of SQLAlchemy's."""
    t = tree.make(session, "a(b)")
    with pytest.raises(exc.InvalidRequestError):
        t.a.move_to(t.a)
    with pytest.raises(exc.ArgumentError):
        t.a.move_to(t.b, "nowhere")
