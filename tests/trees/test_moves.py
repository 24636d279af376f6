"""Moves, on each shape: every spelling means the same, in any mixture, and memory follows the table."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.trees import load_tree
from tests.trees._shapes import Tree, any_key, assert_in_step, keyed, no_sql, plain_list, positioned, sorts_itself

Move = Callable[[Tree, Any, Any], None]


def _by_parent(tree: Tree, node: Any, target: Any) -> None:
    node.parent = target


def _by_key(tree: Tree, node: Any, target: Any) -> None:
    node.parent_id = None if target is None else tree.pk(target)


def _by_collection(tree: Tree, node: Any, target: Any) -> None:
    tree.attach(target, node)


def _by_move_to(tree: Tree, node: Any, target: Any) -> None:
    node.move_to(target)


BELOW: dict[str, Move] = {
    "parent": _by_parent, "parent_id": _by_key, "children": _by_collection, "move_to": _by_move_to,
}  # fmt: skip
TO_ROOT: dict[str, Move] = {"parent": _by_parent, "parent_id": _by_key, "move_to": _by_move_to}
#: The target may have no key yet.
BELOW_NEW: dict[str, Move] = {"parent": _by_parent, "children": _by_collection, "move_to": _by_move_to}


def spelled(spellings: dict[str, Move], *names: str) -> Any:
    marks = [pytest.mark.parametrize(name, spellings.values(), ids=spellings) for name in names]

    def apply(test: Any) -> Any:
        for mark in marks:
            test = mark(test)
        return test

    return apply


@pytest.fixture(params=["loaded", "expired", "half"])
def start(request: pytest.FixtureRequest, tree: Tree, session: Session) -> Callable[[str], Any]:
    """Make a tree and leave its nodes loaded with all links, expired, or with columns only."""

    def make(outline: str) -> Any:
        nodes = tree.make(session, outline)
        if request.param == "loaded":
            load_tree(session, tree.cls)
        elif request.param == "half":
            for node in vars(nodes).values():
                session.refresh(node, inspect(tree.cls).columns.keys())
        return nodes

    return make


# -- one move ------------------------------------------------------------------------------------


@spelled(BELOW, "move")
def test_below_another_node(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A subtree goes below another node, as its last child."""
    t = start("a(b(d) c(e))")
    move(tree, t.b, t.c)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("a(c(e b(d)))" if tree.positioned else "a(c(b(d) e))")
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


@spelled(TO_ROOT, "move")
def test_to_the_roots(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A subtree becomes the last root."""
    t = start("c(b(d)) e")
    move(tree, t.b, None)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("c e b(d)" if tree.positioned else "b(d) c e")


@spelled(BELOW, "move")
def test_a_root_below_another(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A root goes below another root."""
    t = start("a(b) c(d)")
    move(tree, t.a, t.c)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("c(d a(b))" if tree.positioned else "c(a(b) d)")


@spelled(BELOW, "move")
def test_to_where_it_is(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """Moving a node to the parent that it has changes no parent."""
    t = start("a(b c)")
    move(tree, t.c, t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c)"


@any_key
@spelled(BELOW, "move")
def test_with_every_kind_of_key(tree: Tree, session: Session, move: Move) -> None:
    """Moves take keys of every type, columns of other names and tables in a schema."""
    t = tree.make(session, "a(b(d) c)")
    load_tree(session, tree.cls)
    move(tree, t.b, t.c)
    session.flush()
    assert_in_step(session, tree)
    t.d.move_to(None)
    session.add(tree.new("e", t.d))
    session.commit()
    assert tree.outline(session) == "a(c(b)) d(e)"
    session.delete(t.a)
    session.commit()
    assert tree.outline(session) == "d(e)"


# -- new nodes -----------------------------------------------------------------------------------


@spelled(BELOW, "move")
def test_a_new_node_below_an_old_one(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """Every spelling of a move puts a new node too."""
    t = start("a(b)")
    new = tree.new("n")
    move(tree, new, t.a)
    session.add(new)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b n)"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


@spelled(BELOW_NEW, "move")
def test_an_old_node_below_a_new_one(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A node goes below a node that is new in the same flush."""
    t = start("a(b(c) d)")
    new = tree.new("n", t.d)
    session.add(new)
    with session.no_autoflush:
        move(tree, t.b, new)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(d(n(b(c))))"


@spelled(BELOW_NEW, "one", "two")
def test_a_new_node_between_two_old_ones(tree: Tree, session: Session, start: Any, one: Move, two: Move) -> None:
    """A new node takes the place of a node's child and the child below itself."""
    t = start("a(b(c))")
    new = tree.new("n")
    with session.no_autoflush:
        session.add(new)
        one(tree, new, t.a)
        two(tree, t.b, new)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(n(b(c)))"


@spelled(BELOW_NEW, "move")
def test_a_new_root_above_an_old_one(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A new root takes an old root below itself."""
    t = start("a(b)")
    new = tree.new("n")
    session.add(new)
    with session.no_autoflush:
        move(tree, t.a, new)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "n(a(b))"


# -- several moves in one flush ------------------------------------------------------------------


@spelled(BELOW, "down")
@spelled(TO_ROOT, "up")
@pytest.mark.parametrize("first", ["up", "down"])
def test_parent_and_child_change_places(
    tree: Tree, session: Session, start: Any, up: Move, down: Move, first: str
) -> None:
    """A root and its child change places, in either order of saying so."""
    t = start("a(b(c))")
    with session.no_autoflush:
        if first == "up":
            up(tree, t.b, None)
            down(tree, t.a, t.b)
        elif down is _by_move_to:
            return  # Refused at once, as it must be: b is below a at that moment.
        else:
            down(tree, t.a, t.b)
            up(tree, t.b, None)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("b(c a)" if tree.positioned else "b(a c)")


@spelled(BELOW, "one", "two")
def test_inner_parent_and_child_change_places(tree: Tree, session: Session, start: Any, one: Move, two: Move) -> None:
    """Two inner nodes, one below the other, change places in one flush."""
    t = start("r(a(b(c)))")
    with session.no_autoflush:
        one(tree, t.b, t.r)
        two(tree, t.a, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("r(b(c a))" if tree.positioned else "r(b(a c))")


@spelled(BELOW, "move")
def test_a_chain_turned_around(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """Every node of a chain goes below its former child, in one flush."""
    t = start("a(b(c(d)))")
    with session.no_autoflush:
        t.d.parent_id = None
        move(tree, t.c, t.d)
        move(tree, t.b, t.c)
        move(tree, t.a, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "d(c(b(a)))"


def test_all_spellings_in_one_flush(tree: Tree, session: Session, start: Any) -> None:
    """Five nodes move in five ways at once."""
    t = start("a(b(x) c(y) d(z)) e(p q)")
    with session.no_autoflush:
        t.x.parent = t.c
        t.y.parent_id = tree.pk(t.d)
        tree.attach(t.e, t.z)
        t.p.move_to(t.x)
        t.d.move_to(None)
        session.add(tree.new("n", t.y))
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == (
        "a(b c(x(p))) e(q z) d(y(n))" if tree.positioned else "a(b c(x(p))) d(y(n)) e(q z)"
    )
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


def test_the_last_spelling_wins(tree: Tree, session: Session, start: Any) -> None:
    """A node that is moved twice before a flush is where it was sent last."""
    t = start("a(b) c d")
    with session.no_autoflush:
        t.b.parent = t.c
        t.b.parent = t.d
        t.a.move_to(t.c)
        t.a.move_to(t.d)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == ("c d(b a)" if tree.positioned else "c d(a b)")


def test_there_and_back_again(tree: Tree, session: Session, start: Any) -> None:
    """A node that returns before the flush has not moved to another parent."""
    t = start("a(b(c)) d")
    with session.no_autoflush:
        home = t.b.parent
        t.b.parent = t.d
        t.b.parent = home
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b(c)) d"


def test_several_flushes_and_commits(tree: Tree, session: Session, start: Any) -> None:
    """Moves go on after flushes and commits, from wherever the nodes are by then."""
    t = start("a(b(c)) d")
    t.c.parent = t.d
    session.flush()
    assert_in_step(session, tree)
    t.b.parent = t.c
    session.flush()
    assert_in_step(session, tree)
    session.commit()
    t.b.move_to(t.a)
    session.commit()
    assert tree.outline(session) == "a(b) d(c)"
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


def test_both_attributes_alike(tree: Tree, session: Session, start: Any) -> None:
    """``parent`` and ``parent_id`` may both be set, to the same node."""
    t = start("a(b) c")
    t.b.parent = t.c
    t.b.parent_id = tree.pk(t.c)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a c(b)"


def test_parent_is_loaded_after_a_move_by_key(tree: Tree, session: Session) -> None:
    """Where ``parent`` was loaded, a move by ``parent_id`` replaces it in memory."""
    t = tree.make(session, "a(b) c")
    load_tree(session, tree.cls)
    t.b.parent_id = tree.pk(t.c)
    session.flush()
    with no_sql():
        assert t.b.parent is t.c
        assert tree.names(tree.members(t.c)) == "b"
        assert not tree.members(t.a)


def test_a_parent_id_of_a_node_that_is_not_loaded(tree: Tree, session: Session) -> None:
    """The target of a move by key need not be in the session."""
    t = tree.make(session, "a(b) c")
    key = tree.pk(t.c)
    load_tree(session, tree.cls)
    session.expunge(t.c)
    t.b.parent_id = key
    session.flush()
    assert_in_step(session, tree)
    assert t.b.parent.name == "c"
    assert tree.outline(session) == "a c(b)"


# -- move_to -------------------------------------------------------------------------------------


@positioned
@pytest.mark.parametrize(
    ("node", "target", "position", "expected"),
    [
        ("e", "a", "first_child", "a(e b c d) f(g) h"),
        ("e", "a", "last_child", "a(b c d e) f(g) h"),
        ("e", "c", "before", "a(b e c d) f(g) h"),
        ("e", "c", "after", "a(b c e d) f(g) h"),
        ("e", "b", "before", "a(e b c d) f(g) h"),
        ("e", "d", "after", "a(b c d e) f(g) h"),
        ("d", "a", "first_child", "a(d b c) f(g) h e"),
        ("b", "a", "last_child", "a(c d b) f(g) h e"),
        ("d", "b", "before", "a(d b c) f(g) h e"),
        ("b", "d", "after", "a(c d b) f(g) h e"),
        ("b", "c", "after", "a(c b d) f(g) h e"),
        ("d", "b", "after", "a(b d c) f(g) h e"),
        ("c", "b", "after", "a(b c d) f(g) h e"),
        ("c", "d", "before", "a(b c d) f(g) h e"),
        ("h", "a", "before", "h a(b c d) f(g) e"),
        ("a", "h", "after", "f(g) h a(b c d) e"),
        ("g", "f", "before", "a(b c d) g f h e"),
        ("g", "f", "after", "a(b c d) f g h e"),
        ("f", "b", "after", "a(b f(g) c d) h e"),
        ("e", "g", "first_child", "a(b c d) f(g(e)) h"),
    ],
)
def test_move_to(
    tree: Tree, session: Session, start: Any, node: str, target: str, position: str, expected: str
) -> None:
    """`move_to` puts a node first or last below another, or before or after a sibling to be, roots included."""
    t = start("a(b c d) f(g) h e")
    getattr(t, node).move_to(getattr(t, target), position)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == expected
    load_tree(session, tree.cls)
    assert_in_step(session, tree)


@positioned
@pytest.mark.parametrize(("position", "expected"), [("last_child", "a c d b"), ("first_child", "b a c d")])
def test_move_to_none(tree: Tree, session: Session, start: Any, position: str, expected: str) -> None:
    """``move_to(None)`` makes the last root, of a child and of a root; ``"first_child"`` the first."""
    t = start("a(b) c d")
    t.b.move_to(None, position)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == expected
    t.c.move_to(None)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session).endswith("c")


@positioned
def test_several_move_to_beside_each_other(tree: Tree, session: Session, start: Any) -> None:
    """Nodes that are placed relative to each other in one flush come out in the order that was said."""
    t = start("a(b c) d e f")
    with session.no_autoflush:
        t.d.move_to(t.b, "after")
        t.e.move_to(t.d, "after")
        t.f.move_to(t.d, "before")
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b f d e c)"


@positioned
def test_move_to_beside_a_new_node(tree: Tree, session: Session, start: Any) -> None:
    """The sibling may be new in the same flush."""
    t = start("a(b c) d")
    new = tree.new("n")
    session.add(new)
    with session.no_autoflush:
        new.move_to(t.b, "after")
        t.d.move_to(new, "before")
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b d n c)"


@positioned
def test_a_later_move_overrides_an_earlier_place(tree: Tree, session: Session, start: Any) -> None:
    """A place said by `move_to` is forgotten when the node is moved again, in this flush or the next."""
    t = start("a(b c) d(e f)")
    with session.no_autoflush:
        t.c.move_to(t.b, "before")
        t.c.parent = t.d
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b) d(e f c)"
    t.e.move_to(t.b, "before")
    session.flush()
    t.e.parent = t.d
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b) d(f c e)"


@sorts_itself
@pytest.mark.parametrize("position", ["first_child", "last_child"])
def test_move_to_where_siblings_sort_themselves(tree: Tree, session: Session, start: Any, position: str) -> None:
    """First and last child mean just child where there are no positions."""
    t = start("a(b d) c")
    t.c.move_to(t.a, position)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"


@sorts_itself
@pytest.mark.parametrize("position", ["before", "after"])
def test_beside_has_no_meaning_where_siblings_sort_themselves(tree: Tree, session: Session, position: str) -> None:
    """``"before"`` and ``"after"`` are refused on a tree without positions."""
    t = tree.make(session, "a(b) c")
    with pytest.raises(InvalidArgumentError, match="name"):
        t.c.move_to(t.b, position)
    session.commit()
    assert tree.outline(session) == "a(b) c"


def test_move_to_before_a_flush(tree: Tree, session: Session) -> None:
    """`move_to` works between new nodes, and before they are added."""
    a, b, c = (tree.new(name) for name in "abc")
    b.move_to(a)
    c.move_to(b)
    session.add_all([a, b, c])
    session.commit()
    assert tree.outline(session) == "a(b(c))"


def test_move_to_emits_no_sql(tree: Tree, session: Session) -> None:
    """Between loaded nodes `move_to` emits nothing before the flush."""
    t = tree.make(session, "a(b(c)) d")
    load_tree(session, tree.cls)
    with no_sql():
        t.c.move_to(t.d)
        t.b.move_to(None)
        t.d.move_to(t.a, "first_child")
    session.flush()
    assert_in_step(session, tree)


# -- lists ---------------------------------------------------------------------------------------


def _sort(children: list[Any]) -> None:
    children.sort(key=lambda node: node.name)


LIST_CHANGES: dict[str, tuple[Callable[[list[Any], Any], None], str]] = {
    "append": (lambda children, new: children.append(new), "a(d c b n) x(y)"),
    "insert first": (lambda children, new: children.insert(0, new), "a(n d c b) x(y)"),
    "insert in the middle": (lambda children, new: children.insert(1, new), "a(d n c b) x(y)"),
    "insert near the end": (lambda children, new: children.insert(-1, new), "a(d c n b) x(y)"),
    "extend": (lambda children, new: children.extend([new]), "a(d c b n) x(y)"),
    "slice in the middle": (lambda children, new: children.__setitem__(slice(1, 1), [new]), "a(d n c b) x(y)"),
    "sort": (lambda children, new: _sort(children), "a(b c d) x(y)"),
    "reverse": (lambda children, new: children.reverse(), "a(b c d) x(y)"),
    "sort and append": (lambda children, new: (_sort(children), children.append(new)), "a(b c d n) x(y)"),
    "insert and reverse": (lambda children, new: (children.insert(1, new), children.reverse()), "a(b c n d) x(y)"),
    "remove": (lambda children, new: children.remove(children[1]), "a(d b) x(y)"),
    "del": (lambda children, new: children.__delitem__(0), "a(c b) x(y)"),
    "del slice": (lambda children, new: children.__delitem__(slice(0, 2)), "a(b) x(y)"),
    "pop": (lambda children, new: children.pop(), "a(d c) x(y)"),
    "clear": (lambda children, new: children.clear(), "a x(y)"),
    "replace": (lambda children, new: children.__setitem__(1, new), "a(d n b) x(y)"),
    "remove and reinsert": (lambda children, new: children.insert(0, children.pop()), "a(b d c) x(y)"),
}  # fmt: skip


@positioned
@pytest.mark.parametrize(("change", "expected"), LIST_CHANGES.values(), ids=LIST_CHANGES)
def test_changes_of_a_list(tree: Tree, session: Session, start: Any, change: Any, expected: str) -> None:
    """Each way to change a list of children is a change of the tree; what is taken out is deleted."""
    t = start("a(d c b) x(y)")
    held = t.a.children
    with session.no_autoflush:
        change(held, tree.new("n"))
    session.flush()
    assert t.a.children is held
    assert_in_step(session, tree)
    assert tree.outline(session) == expected
    held.append(tree.new("z"))
    session.flush()
    assert_in_step(session, tree)


ASSIGNMENTS: dict[str, tuple[str, str]] = {
    "same": ("d c b", "a(d c b) x(y)"),
    "reordered": ("b d c", "a(b d c) x(y)"),
    "reversed": ("b c d", "a(b c d) x(y)"),
    "less": ("d b", "a(d b) x(y)"),
    "more": ("d n c b", "a(d n c b) x(y)"),
    "with a node of another parent": ("y c", "a(y c) x"),
    "with a root": ("c x b", "a(c x(y) b)"),
    "nothing": ("", "a x(y)"),
}


@positioned
@pytest.mark.parametrize(("names", "expected"), ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_assignment_of_a_list(tree: Tree, session: Session, start: Any, names: str, expected: str) -> None:
    """An assigned list says which children there are, and their order."""
    t = start("a(d c b) x(y)")
    t.n = tree.new("n")
    with session.no_autoflush:
        t.a.children = [getattr(t, name) for name in names.split()]
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == expected


@positioned
@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_list(tree: Tree, session: Session, seed: int) -> None:
    """Any order that is assigned, with newcomers in between, is the order in the table."""
    t = tree.make(session, "r(a b c d e f g h) s(x y z)")
    load_tree(session, tree.cls)
    wanted = [*t.r.children, t.x, t.z, tree.new("n"), tree.new("m")]
    random.Random(seed).shuffle(wanted)
    t.r.children = wanted
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == f"r({tree.names(wanted)}) s(y)"


@keyed
def test_changes_of_a_dictionary(tree: Tree, session: Session, start: Any) -> None:
    """A dictionary of children takes assignment, ``update``, ``pop``, ``setdefault`` and replacement."""
    t = start("a(b c d(e)) x(y)")
    with session.no_autoflush:
        t.a.children.update(n=tree.new("n"), y=t.y)
        t.a.children.pop("b")
        t.a.children.setdefault("m", tree.new("m"))
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(c d(e) m n y) x"
    t.x.children = {"c": t.c, "d": t.d}
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(m n y) x(c d(e))"
    t.x.children.clear()
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(m n y) x"


# -- removal -------------------------------------------------------------------------------------


def test_removal_deletes(tree: Tree, session: Session, start: Any) -> None:
    """A node taken out of a collection is deleted, with what lies below it."""
    t = start("a(b(c) d)")
    tree.detach(t.a, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(d)"


@spelled(BELOW, "move")
def test_removal_and_another_parent_is_a_move(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A node taken out of a collection that has another parent by the flush has moved."""
    t = start("a(b(c)) d")
    with session.no_autoflush:
        tree.detach(t.a, t.b)
        move(tree, t.b, t.d)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a d(b(c))"


@spelled(BELOW, "move")
def test_removal_and_return(tree: Tree, session: Session, start: Any, move: Move) -> None:
    """A node taken out of a collection and given back to its parent is still there."""
    t = start("a(b(c))")
    with session.no_autoflush:
        tree.detach(t.a, t.b)
        move(tree, t.b, t.a)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b(c))"


def test_removal_and_move_to_none(tree: Tree, session: Session, start: Any) -> None:
    """``move_to(None)`` after a removal says that a root was meant."""
    t = start("a(b(c))")
    with session.no_autoflush:
        tree.detach(t.a, t.b)
        t.b.move_to(None)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a b(c)"


def test_removal_of_a_pending_node(tree: Tree, session: Session, start: Any) -> None:
    """A new node that is taken out again before the flush is never inserted."""
    t = start("a(b)")
    new = tree.new("n")
    with session.no_autoflush:
        tree.attach(t.a, new)
        tree.detach(t.a, new)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b)"


def test_parent_none_makes_a_root(tree: Tree, session: Session, start: Any) -> None:
    """``parent = None`` is no removal: the node becomes a root and stays."""
    t = start("a(b(c))")
    t.b.parent = None
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a b(c)"


def test_removal_while_the_children_move_out(tree: Tree, session: Session, start: Any) -> None:
    """A removed node's child that goes elsewhere in the same flush is kept."""
    t = start("a(b(c(d) e)) f")
    with session.no_autoflush:
        t.c.parent = t.f
        tree.detach(t.a, t.b)
    session.flush()
    assert_in_step(session, tree)
    assert tree.outline(session) == "a f(c(d))"


# -- at random -----------------------------------------------------------------------------------


class _Model:
    """The tree as plain Python: an ordered list of children for each name; None for the roots."""

    def __init__(self) -> None:
        self.below: dict[str | None, list[str]] = {None: []}

    def parent(self, name: str) -> str | None:
        return next(parent for parent, children in self.below.items() if name in children)

    def inside(self, name: str) -> set[str]:
        found = {name}
        for child in self.below[name]:
            found |= self.inside(child)
        return found

    def names(self) -> list[str]:
        return [name for name in self.below if name is not None]

    def put(self, name: str, parent: str | None, index: int | None = None) -> None:
        if name in self.below:
            self.below[self.parent(name)].remove(name)
        self.below.setdefault(name, [])
        siblings = self.below[parent]
        siblings.insert(len(siblings) if index is None else index, name)

    def outline(self, *, ordered: bool, parent: str | None = None) -> str:
        children = self.below[parent] if ordered else sorted(self.below[parent])
        parts = ((name, self.outline(ordered=ordered, parent=name)) for name in children)
        return " ".join(f"{name}({inner})" if inner else name for name, inner in parts)


@pytest.mark.parametrize("seed", range(6))
def test_many_random_moves(tree: Tree, session: Session, seed: int) -> None:
    """A long mixture of spellings, with loads, expiries, commits and removals between, agrees with a plain model."""
    rng = random.Random(seed)
    model = _Model()
    nodes: dict[str, Any] = {}
    for step in range(60):
        action = rng.choice(["new", "new", "move", "move", "move", "place", "delete", "flush"])
        parents = [None, *model.names()]
        if action == "new" or not nodes:
            name, parent = f"n{step}", rng.choice(parents)
            nodes[name] = tree.new(name)
            session.add(nodes[name])
            if parent is not None:
                rng.choice([_by_parent, _by_collection])(tree, nodes[name], nodes[parent])
            model.put(name, parent)
            session.flush()
        elif action == "move":
            name = rng.choice(model.names())
            allowed = [
                parent for parent in parents if parent not in model.inside(name) and parent != model.parent(name)
            ]
            if not allowed:
                continue
            parent = rng.choice(allowed)
            spellings = TO_ROOT if parent is None else BELOW
            rng.choice(list(spellings.values()))(tree, nodes[name], nodes.get(parent or ""))
            model.put(name, parent)
            session.flush()
        elif action == "place" and tree.positioned:
            name = rng.choice(model.names())
            siblings = [other for other in model.names() if other not in model.inside(name)]
            if not siblings:
                continue
            sibling, side = rng.choice(siblings), rng.choice(["before", "after"])
            nodes[name].move_to(nodes[sibling], side)
            parent = model.parent(sibling)
            model.put(name, parent)
            model.put(name, parent, model.below[parent].index(sibling) + (side == "after"))
            session.flush()
        elif action == "delete" and len(nodes) > 6:
            name = rng.choice(model.names())
            gone = model.inside(name)
            parent = model.parent(name)
            model.below[parent].remove(name)
            if parent is not None and rng.random() < 0.5:
                tree.detach(nodes[parent], nodes[name])
            else:
                session.delete(nodes[name])
            for each in gone:
                del model.below[each], nodes[each]
            session.flush()
        elif action == "flush":
            rng.choice([lambda: load_tree(session, tree.cls), session.expire_all, session.commit])()
        assert tree.outline(session) == model.outline(ordered=tree.positioned), f"step {step}: {action}"
        assert_in_step(session, tree)


@plain_list
def test_the_model_agrees_with_the_outline(tree: Tree, session: Session) -> None:
    """The model of the random test writes outlines as the database does."""
    model = _Model()
    model.put("a", None)
    model.put("b", "a")
    model.put("c", "a", 0)
    tree.make(session, "a(c b)")
    assert tree.outline(session) == model.outline(ordered=True) == "a(c b)"


# -- places said while nothing is loaded ---------------------------------------------------------


@positioned
def test_beside_a_sibling_that_becomes_a_root_in_the_same_flush(tree: Tree, session: Session) -> None:
    """A sibling that was made a root, and does not show it in its ``parent_id`` yet, has roots for siblings."""
    t = tree.make(session, "a(b c)")
    load_tree(session, tree.cls)
    with session.no_autoflush:
        t.b.parent = None
        t.c.move_to(t.b, "before")
        session.delete(t.a)
    session.flush()
    assert tree.outline(session) == "c b"
    assert_in_step(session, tree)


@positioned
@pytest.mark.parametrize("load", [True, False], ids=["loaded after", "unloaded"])
def test_first_of_a_list_that_is_not_loaded(tree: Tree, session: Session, load: bool) -> None:
    """What is said last comes first, also where the list is loaded only after it was said."""
    t = tree.make(session, "a(b c) d e")
    session.expire_all()
    with session.no_autoflush:
        t.d.move_to(t.a, "first_child")
        t.e.move_to(t.a, "first_child")
        new = tree.new("n", t.a)
        session.add(new)
        if load:
            assert len(t.a.children) == 5
    session.flush()
    assert tree.outline(session) == "a(e d b c n)"
    assert_in_step(session, tree)


@positioned
@pytest.mark.parametrize("load", [True, False], ids=["loaded after", "unloaded"])
def test_beside_a_sibling_in_a_list_that_is_not_loaded(tree: Tree, session: Session, load: bool) -> None:
    """Each of several that go after one sibling goes directly behind it, and before it directly before it."""
    t = tree.make(session, "a(b c) d e f g")
    session.expire_all()
    with session.no_autoflush:
        t.d.move_to(t.b, "after")
        t.e.move_to(t.b, "after")
        t.f.move_to(t.b, "before")
        t.g.move_to(t.b, "before")
        if load:
            assert len(t.a.children) > 1
    session.flush()
    assert tree.outline(session) == "a(f g b e d c)"
    assert_in_step(session, tree)


def test_a_new_node_between_two_that_change_places(tree: Tree, session: Session) -> None:
    """The unit of work must not have the child wait for the parent that it had, which waits for the child by now."""
    t = tree.make(session, "a(b(c)) d")
    load_tree(session, tree.cls)
    with session.no_autoflush:
        new = tree.new("n", t.d)
        t.b.parent = new
        t.a.parent = t.b
    session.flush()
    assert sorted(tree.outline(session)) == sorted("d(n(b(c a)))")
    assert_in_step(session, tree)
