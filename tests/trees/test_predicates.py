"""Predicates, on each shape: where in the tree a row lies."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from sqla_patterns.exceptions import InvalidArgumentError, StateError
from tests.trees._shapes import Tree, any_key

OUTLINE = "a(b(d e) c) f(g)"
#: Predicates that take a node.
RELATIVE = ["descendant_of", "ancestor_of", "child_of", "sibling_of"]


@pytest.fixture
def nodes(tree: Tree, session: Session) -> Any:
    return tree.make(session, OUTLINE)


@pytest.mark.parametrize(
    ("predicate", "of", "options", "expected"),
    [
        ("descendant_of", "a", {}, "b c d e"),
        ("descendant_of", "a", {"inclusive": True}, "a b c d e"),
        ("descendant_of", "a", {"max_depth": 1}, "b c"),
        ("descendant_of", "a", {"max_depth": 2}, "b c d e"),
        ("descendant_of", "a", {"max_depth": 1, "inclusive": True}, "a b c"),
        ("descendant_of", "a", {"max_depth": 0}, ""),
        ("descendant_of", "a", {"max_depth": 0, "inclusive": True}, "a"),
        ("descendant_of", "d", {}, ""),
        ("ancestor_of", "d", {}, "a b"),
        ("ancestor_of", "d", {"inclusive": True}, "a b d"),
        ("ancestor_of", "a", {}, ""),
        ("ancestor_of", "a", {"inclusive": True}, "a"),
        ("child_of", "a", {}, "b c"),
        ("child_of", "g", {}, ""),
        ("sibling_of", "d", {}, "e"),
        ("sibling_of", "d", {"inclusive": True}, "d e"),
        ("sibling_of", "a", {}, "f"),
        ("sibling_of", "a", {"inclusive": True}, "a f"),
        ("sibling_of", "g", {}, ""),
    ],
)
def test_a_node_by_instance_and_by_key(
    tree: Tree, session: Session, nodes: Any, predicate: str, of: str, options: dict[str, Any], expected: str
) -> None:
    """Each predicate takes an instance or its primary key, with each of its options."""
    node = getattr(nodes, of)
    criterion = getattr(tree.cls, predicate)
    assert tree.matching(session, criterion(node, **options)) == expected
    assert tree.matching(session, criterion(tree.pk(node), **options)) == expected


@pytest.mark.parametrize(
    ("predicate", "options", "expected"),
    [
        ("descendant_of", {}, "d e g"),
        ("descendant_of", {"inclusive": True}, "b d e f g"),
        ("descendant_of", {"max_depth": 1, "inclusive": True}, "b d e f g"),
        ("ancestor_of", {}, "a"),
        ("ancestor_of", {"inclusive": True}, "a b f"),
        ("child_of", {}, "d e g"),
        ("sibling_of", {}, "a c"),
        ("sibling_of", {"inclusive": True}, "a b c f"),
    ],
)
def test_a_sequence_of_nodes_and_keys(
    tree: Tree, session: Session, nodes: Any, predicate: str, options: dict[str, Any], expected: str
) -> None:
    """A sequence may mix instances and keys, and matches what is related to any of them."""
    criterion = getattr(tree.cls, predicate)([nodes.b, tree.pk(nodes.f)], **options)
    assert tree.matching(session, criterion) == expected


@pytest.mark.parametrize("predicate", RELATIVE)
def test_an_empty_sequence_matches_nothing(tree: Tree, session: Session, nodes: Any, predicate: str) -> None:
    """No nodes have no relatives."""
    assert tree.matching(session, getattr(tree.cls, predicate)([])) == ""


def test_siblings_of_two_siblings_are_both(tree: Tree, session: Session, nodes: Any) -> None:
    """Each of two siblings is a sibling of the other."""
    assert tree.matching(session, tree.cls.sibling_of([nodes.d, nodes.e])) == "d e"


def test_roots_and_leaves(tree: Tree, session: Session, nodes: Any) -> None:
    """``is_root()`` and ``is_leaf()`` need no node."""
    assert tree.matching(session, tree.cls.is_root()) == "a f"
    assert tree.matching(session, tree.cls.is_leaf()) == "c d e g"
    assert tree.matching(session, tree.cls.is_root(), tree.cls.is_leaf()) == ""


def test_predicates_on_an_alias(tree: Tree, session: Session, nodes: Any) -> None:
    """Each predicate works on ``aliased()`` as it does on the class."""
    other = aliased(tree.cls, name="other")
    for criterion, expected in [
        (other.descendant_of(nodes.a), "b c d e"),
        (other.descendant_of(nodes.a, max_depth=1), "b c"),
        (other.ancestor_of(nodes.d), "a b"),
        (other.child_of(nodes.a), "b c"),
        (other.sibling_of(nodes.d), "e"),
        (other.is_root(), "a f"),
        (other.is_leaf(), "c d e g"),
    ]:
        statement = select(other.name).where(criterion)
        assert " ".join(sorted(session.scalars(statement))) == expected
        assert "FROM node AS other" in str(statement)


@pytest.mark.parametrize(
    ("predicate", "options", "expected"),
    [
        ("descendant_of", {}, "a:bcde b:de f:g"),
        ("descendant_of", {"inclusive": True}, "a:abcde b:bde c:c d:d e:e f:fg g:g"),
        ("descendant_of", {"max_depth": 1}, "a:bc b:de f:g"),
        ("ancestor_of", {}, "b:a c:a d:ab e:ab g:f"),
        ("ancestor_of", {"inclusive": True}, "a:a b:ab c:ac d:abd e:abe f:f g:fg"),
        ("child_of", {}, "a:bc b:de f:g"),
        ("sibling_of", {}, "a:f b:c c:b d:e e:d f:a"),
        ("sibling_of", {"inclusive": True}, "a:af b:bc c:bc d:de e:de f:af g:g"),
    ],
)
def test_joins(
    tree: Tree, session: Session, nodes: Any, predicate: str, options: dict[str, Any], expected: str
) -> None:
    """Another entity in place of the node correlates: class with alias, alias with class, alias with alias."""
    one, two = aliased(tree.cls), aliased(tree.cls)
    for start, found in [(tree.cls, one), (one, tree.cls), (one, two)]:
        pairs = session.execute(select(start.name, found.name).join(found, getattr(found, predicate)(start, **options)))
        related: dict[str, list[str]] = {}
        for name, other in pairs:
            related.setdefault(name, []).append(other)
        assert " ".join(f"{name}:{''.join(sorted(related[name]))}" for name in sorted(related)) == expected


def test_count_of_descendants_for_each_root(tree: Tree, session: Session, nodes: Any) -> None:
    """A join by a predicate aggregates, with other criteria beside it."""
    below = aliased(tree.cls)
    statement = (
        select(tree.cls.name, func.count(below.name))
        .join(below, below.descendant_of(tree.cls))
        .where(tree.cls.is_root(), below.name != "e")
        .group_by(tree.cls.name)
    )
    assert sorted(map(tuple, session.execute(statement))) == [("a", 3), ("f", 1)]


def test_correlated_exists(tree: Tree, session: Session, nodes: Any) -> None:
    """Inside EXISTS a predicate refers to the outer entity."""
    below = aliased(tree.cls)
    inner = select(below.name).where(below.descendant_of(tree.cls), below.name == "d").exists()
    assert tree.matching(session, inner) == "a b"


def test_several_predicates_and_criteria_at_once(tree: Tree, session: Session, nodes: Any) -> None:
    """Predicates combine with each other, by AND, OR and NOT, and with plain criteria."""
    cls = tree.cls
    assert tree.matching(session, cls.descendant_of(nodes.a), ~cls.descendant_of(nodes.b)) == "b c"
    assert tree.matching(session, cls.child_of(nodes.f) | cls.ancestor_of(nodes.c)) == "a g"
    assert tree.matching(session, cls.descendant_of(nodes.a), cls.is_leaf(), cls.name != "e") == "c d"
    assert tree.matching(session, cls.descendant_of(nodes.a), cls.descendant_of(nodes.b)) == "d e"


def test_complements(tree: Tree, session: Session, nodes: Any) -> None:
    """A negated predicate matches all other rows, roots with their NULL parent included."""
    cls = tree.cls
    assert tree.matching(session, ~cls.ancestor_of(nodes.d)) == "c d e f g"
    assert tree.matching(session, ~cls.sibling_of(nodes.d)) == "a b c d f g"
    assert tree.matching(session, ~cls.is_leaf()) == "a b f"


@pytest.mark.parametrize(
    ("predicate", "of", "expected"),
    [
        ("descendant_of", "a", "b c d e"),
        ("ancestor_of", "d", "a b"),
        ("child_of", "a", "b c"),
        ("sibling_of", "d", "e"),
        ("is_root", None, "a f"),
        ("is_leaf", None, "c d e g"),
    ],
)
def test_update_where(tree: Tree, session: Session, nodes: Any, predicate: str, of: str | None, expected: str) -> None:
    """A predicate serves as the criterion of an UPDATE."""
    criterion = getattr(tree.cls, predicate)
    session.execute(update(tree.cls).where(criterion(getattr(nodes, of)) if of else criterion()).values(label="hit"))
    assert tree.matching(session, tree.cls.label == "hit") == expected


@pytest.mark.parametrize(
    ("predicate", "of", "kept"),
    [
        ("descendant_of", "b", "a b c f g"),
        ("is_leaf", None, "a b f"),
        ("sibling_of", "d", "a b c d f g"),
        ("child_of", "f", "a b c d e f"),
    ],
)
def test_delete_where(tree: Tree, session: Session, nodes: Any, predicate: str, of: str | None, kept: str) -> None:
    """A predicate serves as the criterion of a DELETE."""
    criterion = getattr(tree.cls, predicate)
    session.execute(delete(tree.cls).where(criterion(getattr(nodes, of)) if of else criterion()))
    assert tree.matching(session) == kept


@any_key
@pytest.mark.parametrize("predicate", RELATIVE)
def test_unknown_key_matches_nothing(tree: Tree, session: Session, predicate: str) -> None:
    """A key that does not exist gives an empty result, whatever its type."""
    nodes = tree.make(session, OUTLINE)
    unknown = tree.pk(nodes.g)
    session.delete(nodes.g)
    session.commit()
    assert tree.matching(session, getattr(tree.cls, predicate)(unknown)) == ""
    assert tree.matching(session, getattr(tree.cls, predicate)(nodes.f), tree.cls.is_root()) == (
        "a" if predicate == "sibling_of" else ""
    )


@pytest.mark.parametrize("predicate", RELATIVE)
def test_a_node_without_identity_is_an_error(tree: Tree, session: Session, nodes: Any, predicate: str) -> None:
    """Neither a transient nor a pending node can be compared with, alone or in a sequence."""
    criterion = getattr(tree.cls, predicate)
    new = tree.new("x")
    with pytest.raises(StateError, match="flush"):
        criterion(new)
    with pytest.raises(StateError, match="flush"):
        criterion([nodes.a, new])
    session.add(new)
    with pytest.raises(StateError, match="flush"):
        criterion(new)


@pytest.mark.parametrize("predicate", RELATIVE)
def test_nonsense_is_an_error(tree: Tree, plain_bases: Any, nodes: Any, predicate: str) -> None:
    """None, classes and instances of something else are refused when the predicate is made."""

    class Stranger(plain_bases()):  # type: ignore[misc]
        __tablename__ = "stranger"
        id: Mapped[int] = mapped_column(primary_key=True)

    criterion = getattr(tree.cls, predicate)
    for nonsense in (None, Stranger, Stranger(id=1), [nodes.a, None], [Stranger(id=1)], aliased(Stranger), int):
        with pytest.raises(InvalidArgumentError):
            criterion(nonsense)


def test_negative_max_depth_is_an_error(tree: Tree, nodes: Any) -> None:
    """``max_depth`` counts edges."""
    with pytest.raises(InvalidArgumentError, match="max_depth"):
        tree.cls.descendant_of(nodes.a, max_depth=-1)


def test_predicates_see_pending_changes(tree: Tree, session: Session, nodes: Any) -> None:
    """A query by a predicate flushes first, as any query does."""
    nodes.d.parent = nodes.c
    session.add(tree.new("h", nodes.c))
    assert tree.matching(session, tree.cls.descendant_of(nodes.c)) == "d h"
