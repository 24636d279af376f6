"""A state machine: anything that a session can do with a tree, in any mixture, against a forest of plain lists.

The rows and everything that is loaded are compared with the model whenever nothing is pending. Each example goes
through several sessions. ``pytest -m soak`` runs many more and longer examples than the deterministic ones of an
ordinary run; SQLA_PATTERNS_SOAK sets how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, event, inspect
from sqlalchemy.orm import Session, SessionTransaction

from sqla_patterns.exceptions import DuplicateKeyError
from sqla_patterns.trees import InvalidMoveError, delete_subtree, load_tree
from tests._support import count_statements
from tests.trees._indexes import INDEX_ATTRIBUTES
from tests.trees._machine import Shape, assert_sound, each

ROOTS = None
#: Where the model keeps what the next flush deletes.
DOOMED = "doomed"
NAMES = [f"k{n}" for n in range(8)]
MAINTAINED = ("parent_id", "position", "parent", "children")


class Model:
    """An ordered forest: for each parent the list of its children, by tag."""

    def __init__(self) -> None:
        self.children: dict[Any, list[int]] = {ROOTS: [], DOOMED: []}
        self.parent: dict[int, Any] = {}
        self.name: dict[int, str] = {}

    def copy(self) -> Model:
        new = Model()
        new.children = {key: list(value) for key, value in self.children.items()}
        new.parent, new.name = dict(self.parent), dict(self.name)
        return new

    def add(self, tag: int, name: str, parent: Any, index: int | None = None) -> None:
        self.children[tag] = []
        self.name[tag] = name
        self.parent[tag] = parent
        self._attach(tag, parent, index)

    def move(self, tag: int, parent: Any, index: int | None = None) -> None:
        self.children[self.parent[tag]].remove(tag)
        self.parent[tag] = parent
        self._attach(tag, parent, index)

    def _attach(self, tag: int, parent: Any, index: int | None) -> None:
        siblings = self.children[parent]
        siblings.insert(len(siblings) if index is None else index, tag)

    def subtree(self, tag: int) -> list[int]:
        found = [tag]
        for each_tag in found:
            found += self.children[each_tag]
        return found

    def drop(self, tag: int) -> None:
        self.children[self.parent[tag]].remove(tag)
        for gone in self.subtree(tag):
            del self.children[gone], self.parent[gone], self.name[gone]

    def drop_doomed(self) -> None:
        for tag in list(self.children[DOOMED]):
            self.drop(tag)

    def doomed(self) -> set[int]:
        return {below for tag in self.children[DOOMED] for below in self.subtree(tag)}


def draw(data: Any, options: Any, label: str) -> Any:
    return data.draw(st.sampled_from(list(options)), label=label)


class TreeMachine(RuleBasedStateMachine):
    """Rules for trees of one shape; `shape`, `engine` and `Node` are set in a subclass."""

    shape: ClassVar[Shape]
    engine: ClassVar[Engine]
    Node: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        table = self.Node.__table__
        with self.engine.begin() as connection:
            connection.execute(table.update().values(parent_id=None))
            connection.execute(table.delete())
        self.tags = 0
        self.model = Model()
        self.committed = Model()
        self.savepoints: list[tuple[SessionTransaction, Model]] = []
        self.pks: dict[int, Any] = {}
        self.objs: dict[int, Any] = {}
        self._forget_pending()

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()

    # -- bookkeeping -----------------------------------------------------------------------------

    def _forget_pending(self) -> None:
        self.pending = 0
        self.new: set[int] = set()
        self.moved: set[int] = set()
        # Which attribute said where the node goes; a second one that says otherwise is an error.
        self.said: dict[int, str] = {}

    def _open(self, *, autoflush: bool, expire_on_commit: bool) -> None:
        self.session = Session(self.engine, autoflush=autoflush, expire_on_commit=expire_on_commit)
        self.objs = {}
        self.savepoints = []
        event.listen(self.session, "after_flush_postexec", self._flushed)

    def _flushed(self, session: Session, context: Any) -> None:
        self.model.drop_doomed()
        for tag in self.new & set(self.model.parent):
            self.pks[tag] = self.objs[tag].id
        self._forget_pending()

    def _back_to(self, model: Model) -> None:
        self.model = model.copy()
        self._forget_pending()
        self.objs = {tag: obj for tag, obj in self.objs.items() if tag in self.model.parent}

    def obj(self, tag: int) -> Any:
        if tag not in self.objs:
            with self.session.no_autoflush:
                self.objs[tag] = self.session.get_one(self.Node, self.pks[tag])
        return self.objs[tag]

    def flush(self) -> None:
        before = {
            node.tag: {name for name in MAINTAINED if name in node.__dict__}
            for node in self._loaded()
            if "tag" in node.__dict__
        }
        for tag in self.new:  # Its parent_id, where unset, is None without SQL.
            before[tag] = {"children", *(["position"] if not self.shape.keyed else [])}
        self.session.flush()
        # Without changes there is no flush, and no event either.
        self._flushed(self.session, None)
        for node in self._loaded():
            if "tag" in node.__dict__ and node.tag in before:
                expired = before[node.tag] - set(node.__dict__)
                assert not expired, f"the flush left {expired} of {node.tag} expired"

    def _loaded(self) -> list[Any]:
        return [node for node in self.session.identity_map.values() if isinstance(node, self.Node)]

    def _targets(self, excluding: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
        doomed = self.model.doomed()
        return [tag for tag in self.model.parent if tag not in doomed and tag not in excluding]

    def _movers(self) -> list[int]:
        return [
            tag
            for tag in self.model.parent
            if not (self.model.parent[tag] == DOOMED and self.said.get(tag) == "deleted")
        ]

    def _memory(self, parent: int) -> list[int]:
        """Return the tags of the children of *parent* as the session shows them, which loads them."""
        children = self.obj(parent).children
        return [node.tag for node in (children.values() if self.shape.keyed else children)]

    def _in_step(self, parent: int) -> list[int]:
        """Return the same, after a flush if something is pending that a collection cannot show yet."""
        if self._memory(parent) != self.model.children[parent]:
            self.flush()
            found = self._memory(parent)
            assert self.shape.keyed or found == self.model.children[parent]
        return self._memory(parent)

    def _say(self, tag: int, attr: str) -> None:
        """Note how a node is about to be moved; flush if that would contradict what was said before."""
        said = self.said.get(tag)
        if said not in (None, attr, "removed") and "parent_id" in (said, attr):
            self.flush()
        self.said[tag] = attr

    def _taken(self, name: str, parent: Any, tag: int | None = None) -> bool:
        if not self.shape.keyed:
            return False
        return any(self.model.name[other] == name and other != tag for other in self.model.children[parent])

    def _free_key(self, name: str, parent: Any) -> None:
        """Flush if a loaded dictionary still shows, under *name*, a node that leaves it by its ``parent_id``."""
        if self.shape.keyed and isinstance(parent, int):
            shown = self.obj(parent).__dict__.get("children", {}).get(name)
            if shown is not None and not self._taken(name, parent):
                self.flush()

    # -- putting nodes somewhere -----------------------------------------------------------------

    def _place(self, data: Any, obj: Any, tag: int, parent: Any, *, is_new: bool) -> int | None:
        """Say in one of the ways that *obj* goes below *parent*; return its index, None for the last."""
        siblings = [other for other in self.model.children[parent] if other != tag]
        known = parent is ROOTS or parent in self.pks
        same = not is_new and self.model.parent[tag] == parent
        # A parent that the node has already, or had at the last flush: only move_to() tells whether it changes places.
        if not is_new and not same and tag in self.moved:
            self.flush()
        ways = ["move_to"]
        if not same:
            ways += ["parent"] + ["parent_id"] * known + ["append", "insert"] * (parent is not ROOTS)
        way = draw(data, ways, "way")
        if way in ("append", "insert") and not self.shape.keyed:
            self._in_step(parent)
        elif way in ("append", "insert"):
            self._memory(parent)
        self._say(tag, "parent_id" if way == "parent_id" else "parent")
        if way == "move_to":
            return self._move_to(data, obj, tag, parent, siblings)
        if way == "parent":
            obj.parent = None if parent is ROOTS else self.obj(parent)
        elif way == "parent_id":
            obj.parent_id = None if parent is ROOTS else self.pks[parent]
        elif self.shape.keyed:
            self.obj(parent).children[obj.name] = obj
        elif way == "append":
            self.obj(parent).children.append(obj)
        else:
            index: int = data.draw(st.integers(0, len(siblings)), label="index")
            self.obj(parent).children.insert(index, obj)
            return index
        return None

    def _move_to(self, data: Any, obj: Any, tag: int, parent: Any, siblings: list[int]) -> int | None:
        beside = [other for other in siblings if not self.shape.keyed]
        places = ["first_child", "last_child"] + ["before", "after"] * bool(beside)
        place = draw(data, places, "place")
        if place in ("before", "after"):
            sibling = draw(data, beside, "sibling")
            obj.move_to(self.obj(sibling), place)
            return siblings.index(sibling) + (place == "after")
        obj.move_to(None if parent is ROOTS else self.obj(parent), place)
        return 0 if place == "first_child" else None

    def _expect(self, error: type[Exception], act: Callable[[], Any]) -> None:
        """Assert that *act* and the flush after it raise *error*; roll back."""
        with pytest.raises(error):
            act()
            self.session.flush()
        self.session.rollback()
        self.savepoints = []
        self._back_to(self.committed)

    # -- rules: sessions -------------------------------------------------------------------------

    @initialize(autoflush=st.booleans(), expire_on_commit=st.booleans())
    def begin(self, autoflush: bool, expire_on_commit: bool) -> None:
        self._open(autoflush=autoflush, expire_on_commit=expire_on_commit)

    @rule(autoflush=st.booleans(), expire_on_commit=st.booleans())
    def reopen(self, autoflush: bool, expire_on_commit: bool) -> None:
        self.session.close()
        self._back_to(self.committed)
        self._open(autoflush=autoflush, expire_on_commit=expire_on_commit)

    @rule()
    def just_flush(self) -> None:
        self.flush()
        with count_statements(self.engine) as log:
            self.session.flush()
        assert not log, f"a flush without changes emits\n{log.text}"

    @rule()
    def commit(self) -> None:
        self.flush()
        self.session.commit()
        self.committed = self.model.copy()
        self.savepoints = []

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.savepoints = []
        self._back_to(self.committed)

    @precondition(lambda self: len(self.savepoints) < 2)
    @rule()
    def savepoint(self) -> None:
        self.flush()
        self.savepoints.append((self.session.begin_nested(), self.model.copy()))

    @precondition(lambda self: self.savepoints)
    @rule()
    def rollback_to_savepoint(self) -> None:
        nested, model = self.savepoints.pop()
        nested.rollback()
        self._back_to(model)

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_savepoint(self) -> None:
        self.flush()
        self.savepoints.pop()[0].commit()

    @rule()
    def expire_all(self) -> None:
        self.flush()
        self.session.expire_all()

    @rule()
    def forget(self) -> None:
        """Keep no reference; the identity map is weak."""
        self.objs = {tag: obj for tag, obj in self.objs.items() if tag in self.new}

    # -- rules: reading --------------------------------------------------------------------------

    @precondition(lambda self: self.model.parent)
    @rule(data=st.data())
    def look(self, data: Any) -> None:
        """Load a relationship in passing."""
        tag = draw(data, self._targets() or [None], "tag")
        if tag is not None:
            for name in draw(data, [("children",), ("parent",), ("children", "parent")], "attributes"):
                getattr(self.obj(tag), name)

    @rule(data=st.data())
    def load(self, data: Any) -> None:
        known = [tag for tag in self._targets() if tag in self.pks]
        root = draw(data, [None, *known], "root")
        depth = draw(data, [None, 0, 1, 2], "max_depth")
        found = load_tree(self.session, self.Node, None if root is None else self.pks[root], max_depth=depth)
        if self.pending:
            return
        with count_statements(self.engine) as log:
            level = [found]
            expected = [self.model.children[ROOTS] if root is None else [root]]
            at = 0
            while level:
                got = [[node.tag for node in (n.values() if isinstance(n, dict) else n)] for n in level]
                if self.shape.keyed:
                    got, expected = [sorted(tags) for tags in got], [sorted(tags) for tags in expected]
                    nodes = sorted((n for ns in level for n in (ns.values() if isinstance(ns, dict) else ns)), key=_tag)
                    assert sorted(map(tuple, got)) == sorted(map(tuple, expected))
                else:
                    nodes = [node for ns in level for node in ns]
                    assert got == expected
                if at == depth or not nodes:
                    break
                level = [node.children for node in nodes]
                expected = [self.model.children[node.tag] for node in nodes]
                at += 1
        assert not log, f"walking what load_tree returned emits\n{log.text}"

    # -- rules: writing --------------------------------------------------------------------------

    @rule(data=st.data())
    def add(self, data: Any) -> None:
        parent = draw(data, [ROOTS, *self._targets()], "parent")
        name = draw(data, NAMES, "name") if self.shape.keyed else "n"
        if len(self.model.parent) > 25:
            return
        if parent is ROOTS and self.moved:
            self.flush()  # Of roots that go last in one flush, the new ones come first.
        tag = self.tags
        self.tags += 1
        obj = self.shape.new(self.Node, name, tag)
        if self._taken(name, parent):
            self._expect(DuplicateKeyError, lambda: self._add_last(obj, parent))
            return
        self._free_key(name, parent)
        self.objs[tag] = obj
        if self.shape.client_keys:
            self.pks[tag] = obj.id
        plain = parent is ROOTS and data.draw(st.booleans(), label="as it is")
        index = None if plain else self._place(data, obj, tag, parent, is_new=True)
        self.session.add(obj)
        self.model.add(tag, name, parent, index)
        self.new.add(tag)
        self.pending += 1

    def _add_last(self, obj: Any, parent: Any) -> None:
        if parent is not ROOTS:
            obj.parent = self.obj(parent)
        self.session.add(obj)

    @precondition(lambda self: self.model.parent)
    @rule(data=st.data())
    def move(self, data: Any) -> None:
        movers = self._movers()
        if not movers:
            return
        tag = draw(data, movers, "tag")
        if tag in self.new:
            self.flush()
            if tag not in self.model.parent:
                return
        parent = draw(data, [ROOTS, *self._targets(set(self.model.subtree(tag)))], "parent")
        name, obj = self.model.name[tag], self.obj(tag)
        if self._taken(name, parent, tag):
            if self.said.get(tag) is None:
                self._expect(DuplicateKeyError, lambda: self._put_last(obj, parent))
            return
        if self.model.parent[tag] != parent:
            self._free_key(name, parent)
        if tag not in self.model.parent:
            return  # It was doomed, and the flush has made it so.
        index = self._place(data, obj, tag, parent, is_new=False)
        if tag in self.model.parent:
            self.model.move(tag, parent, index)
        self.moved.add(tag)
        self.pending += 1

    def _put_last(self, obj: Any, parent: Any) -> None:
        obj.parent = None if parent is ROOTS else self.obj(parent)

    @precondition(lambda self: any(isinstance(p, int) for p in self.model.parent.values()))
    @rule(data=st.data())
    def move_below_itself(self, data: Any) -> None:
        above = [tag for tag in self._targets() if self.model.children[tag] and tag not in self.new]
        if not above:
            return
        tag = draw(data, above, "tag")
        below = draw(data, self.model.subtree(tag), "below")
        ways = ["parent", "append", "first_child", "last_child", "before", "after"] + ["parent_id"] * (
            below in self.pks
        )
        if self.shape.keyed:
            ways = [way for way in ways if way not in ("before", "after")]
        way = draw(data, ways, "way")
        obj, target = self.obj(tag), self.obj(below)
        if self.shape.keyed and (way == "append" or self._taken(obj.name, below)):
            way = "parent_id" if below in self.pks else "move_to"

        def act() -> None:
            if way == "parent":
                obj.parent = target
            elif way == "parent_id":
                obj.parent_id = self.pks[below]
            elif way == "append":
                target.children.append(obj)
            else:
                obj.move_to(target, "last_child" if way == "move_to" else way)

        expected = (InvalidMoveError, DuplicateKeyError) if self.shape.keyed else InvalidMoveError
        self._expect(expected, act)  # type: ignore[arg-type]

    @rule(data=st.data())
    def contradict(self, data: Any) -> None:
        """Set ``parent`` and ``parent_id`` to different nodes."""
        targets = [tag for tag in self._targets() if tag in self.pks and tag not in self.new]
        movers = [tag for tag in targets if tag not in self.said]
        if len(targets) < 3 or self.shape.keyed:
            return
        tag = draw(data, movers or targets, "tag")
        below = set(self.model.subtree(tag))
        one, other = (draw(data, [t for t in targets if t not in below] or [None], label) for label in ("one", "other"))
        if one is None or one == other or tag in self.said:
            return
        obj = self.obj(tag)

        def act() -> None:
            with self.session.no_autoflush:
                if data.draw(st.booleans(), label="key first"):
                    obj.parent_id = self.pks[other]
                    obj.parent = self.obj(one)
                else:
                    obj.parent = self.obj(one)
                    obj.parent_id = self.pks[other]

        self._expect(InvalidMoveError, act)

    @precondition(lambda self: any(isinstance(p, int) for p in self.model.parent.values()))
    @rule(data=st.data())
    def swap(self, data: Any) -> None:
        """Have a parent and its child change places; in between the two form a cycle."""
        self.flush()
        pairs = [(tag, up) for tag, up in self.model.parent.items() if up is not ROOTS]
        if not pairs:
            return
        tag, up = draw(data, pairs, "child and parent")
        above = self.model.parent[up]
        if self._taken(self.model.name[up], tag) or self._taken(self.model.name[tag], above, up):
            return
        child, parent = self.obj(tag), self.obj(up)
        with self.session.no_autoflush:
            top = None if above is ROOTS else self.obj(above)
            if data.draw(st.booleans(), label="by key"):
                parent.parent_id = child.id
                child.parent_id = None if top is None else top.id
            else:
                parent.parent = child
                child.parent = top
        self.model.move(tag, above)
        self.model.move(up, tag)
        self.pending += 1
        self.flush()

    @precondition(lambda self: any(len(self.model.children[tag]) > 1 for tag in self._targets()))
    @rule(data=st.data())
    def reorder(self, data: Any) -> None:
        """Sort, reverse, slice or replace a list, or take a node out and put it back elsewhere."""
        if self.shape.keyed:
            return
        parent = draw(data, [tag for tag in self._targets() if len(self.model.children[tag]) > 1], "parent")
        self._in_step(parent)
        if len(self.model.children[parent]) < 2:
            return
        children, model = self.obj(parent).children, self.model.children[parent]
        way = draw(data, ["reverse", "sort", "replace", "slice", "reinsert"], "way")
        if way == "reverse":
            children.reverse()
            model.reverse()
        elif way == "sort":
            children.sort(key=_tag)
            model.sort()
        elif way == "reinsert":
            tag = draw(data, model, "tag")
            if tag in self.said:
                self.flush()
            children, model = self.obj(parent).children, self.model.children[parent]
            obj = self.obj(tag)
            children.remove(obj)
            index = data.draw(st.integers(0, len(children)), label="index")
            children.insert(index, obj)
            self.model.move(tag, parent, index)
            self.said[tag] = "parent"
            self.moved.add(tag)
        else:
            order = data.draw(st.permutations(model), label="order")
            if way == "replace":
                self.obj(parent).children = [self.obj(tag) for tag in order]
            else:
                children[:] = [self.obj(tag) for tag in order]
            model[:] = order
            for tag in model:
                self.said[tag] = "parent"
        self.pending += 1

    @precondition(lambda self: self.shape.keyed and self.model.parent)
    @rule(data=st.data())
    def rename(self, data: Any) -> None:
        targets = self._targets()
        if not targets:
            return
        tag, name = draw(data, targets, "tag"), draw(data, NAMES, "name")
        parent, obj = self.model.parent[tag], self.obj(tag)
        if self._taken(name, parent, tag):

            def act() -> None:
                obj.name = name

            self._expect(DuplicateKeyError, act)
            return
        if name != self.model.name[tag]:
            self._free_key(name, parent)
        obj.name = name
        self.model.name[tag] = name
        self.pending += 1

    def _deletable(self, tags: list[int]) -> list[int]:
        """Return nodes below which nothing is new or moved, or else all after a flush."""
        busy = self.new | self.moved
        return [tag for tag in tags if not busy.intersection(self.model.subtree(tag)) and tag not in self.said]

    @precondition(lambda self: any(isinstance(p, int) for p in self.model.parent.values()))
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        """Take a node out of the collection of its parent."""
        tags = [tag for tag in self._deletable(self._targets()) if self.model.parent[tag] is not ROOTS]
        if not tags:
            return
        tag = draw(data, tags, "tag")
        parent = self.model.parent[tag]
        self._in_step(parent)
        obj, children = self.obj(tag), self.obj(parent).children
        way = draw(data, ["remove", "del", "pop"], "way")
        if self.shape.keyed:
            if way == "pop":
                assert children.pop(obj.name) is obj
            else:
                del children[obj.name]
        elif way == "remove":
            children.remove(obj)
        elif way == "del":
            del children[children.index(obj)]
        else:
            assert children.pop(children.index(obj)) is obj
        self.model.move(tag, DOOMED)
        self.said[tag] = "removed"
        self.pending += 1

    @precondition(lambda self: self.model.parent)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        tags = self._deletable(self._targets())
        if not tags:
            return
        tag = draw(data, tags, "tag")
        self.session.delete(self.obj(tag))
        if tag in self.model.parent:
            self.model.move(tag, DOOMED)
        self.said[tag] = "deleted"
        self.pending += 1

    @precondition(lambda self: self.model.parent)
    @rule(data=st.data())
    def delete_whole_subtree(self, data: Any) -> None:
        self.flush()
        if self.model.parent:
            tag = draw(data, self.model.parent, "tag")
            delete_subtree(self.session, self.obj(tag))
            self.model.drop(tag)

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def memory_and_rows_equal_the_model(self) -> None:
        if not hasattr(self, "session") or self.pending:
            return
        forest = assert_sound(self.session, self.Node)
        tags = {row.id: row.tag for rows in forest.values() for row in rows}
        found = {tags.get(pk): [row.tag for row in rows] for pk, rows in forest.items()}
        expected = {tag: children for tag, children in self.model.children.items() if children}
        if self.shape.keyed:
            expected = {tag: sorted(children) for tag, children in expected.items()}
            found = {tag: sorted(children) for tag, children in found.items()}
            assert {row.tag: row.name for rows in forest.values() for row in rows} == self.model.name
        assert found == expected, "rows"
        rows = {row.tag: row for rows in forest.values() for row in rows}
        assert not self.session.new
        assert not self.session.dirty
        with count_statements(self.engine) as log:
            for node in self._loaded():
                if "tag" in node.__dict__:
                    self._compare(node, rows)
        assert not log, f"reading what is loaded emits\n{log.text}"

    def _compare(self, node: Any, rows: dict[int, Any]) -> None:
        tag = node.tag
        assert tag in rows, f"{tag} is in the session but not in the table"
        for name in ("parent_id", "position", "name", *INDEX_ATTRIBUTES):
            if name in node.__dict__:
                column = inspect(self.Node).columns[name].key
                assert getattr(node, name) == getattr(rows[tag], column), f"{name} of {tag}"
        if "parent" in node.__dict__:
            parent = node.parent
            assert (None if parent is None else _pk(parent)) == rows[tag].parent_id, f"parent of {tag}"
            assert parent is None or parent in self.session
        if "children" in node.__dict__:
            children = node.children
            if self.shape.keyed:
                expected = {self.model.name[child]: self.pks[child] for child in self.model.children[tag]}
                assert {key: _pk(child) for key, child in children.items()} == expected, f"children of {tag}"
                members = children.values()
            else:
                assert [_pk(c) for c in children] == [self.pks[c] for c in self.model.children[tag]], (
                    f"children of {tag}"
                )
                members = children
            assert all(child in self.session for child in members)


def _tag(node: Any) -> int:
    return int(node.tag)


def _pk(node: Any) -> Any:
    # The key of an object that is expired is known without SQL, but not by its attribute.
    return inspect(node).identity[0]


@pytest.fixture
def machine(shape: Shape, engine: Engine, plain_bases: Any) -> type[TreeMachine]:
    if engine.dialect.name == "sqlite":
        _use_real_savepoints(engine)
    Node = shape.make(plain_bases())
    Node.metadata.create_all(engine)
    return type("Machine", (TreeMachine,), {"shape": shape, "engine": engine, "Node": Node})


def _use_real_savepoints(engine: Engine) -> None:
    """Have SQLAlchemy emit BEGIN, as its manual shows: on SQLite a savepoint that begins a transaction also ends it."""

    @event.listens_for(engine, "connect")
    def no_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


def _settings(examples: int, steps: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


@each()
def test_a_session_does_anything_with_a_tree_and_stays_right(machine: type[TreeMachine], engine: Engine) -> None:
    examples = 25 if engine.dialect.name == "sqlite" else 15
    run_state_machine_as_test(machine, settings=_settings(examples, 30, derandomize=True, database=None))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@each()
def test_a_session_does_anything_with_a_tree_for_a_long_time(machine: type[TreeMachine]) -> None:
    examples = int(os.environ.get("SQLA_PATTERNS_SOAK", "1000"))
    run_state_machine_as_test(machine, settings=_settings(examples, 50, print_blob=True))
