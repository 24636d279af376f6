"""`insert_tree` and `dump_tree`: whole trees in and out, without the unit of work and consistent with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Computed,
    Engine,
    ForeignKey,
    Identity,
    Integer,
    String,
    func,
    inspect,
    literal_column,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, column_property, mapped_column, raiseload

from sqla_patterns.exceptions import DuplicateKeyError, InvalidArgumentError, PatternError, StateError
from sqla_patterns.trees import (
    InvalidMoveError,
    KeyedTreeNode,
    TreeNode,
    TreeOptions,
    dump_tree,
    insert_tree,
    load_tree,
    verify_tree,
)
from tests._support import count_statements
from tests.trees._shapes import (
    Tree,
    _parse,
    any_key,
    assert_in_step,
    deep_list,
    in_lists,
    inserts_into,
    keyed,
    no_sql,
    plain_list,
    positioned,
    unclaimed,
    writes,
)

OUTLINE = "a(b(d e(h)) c) f(g)"


def data_of(tree: Tree, outline: str) -> list[dict[str, Any]]:
    """Return what `outline` says as nested lists, with the primary keys that the application has to give."""
    tops: list[dict[str, Any]] = []
    made: dict[str, dict[str, Any]] = {}
    for name, above in _parse(outline):
        made[name] = {"name": name}
        if tree.shape.key == "string":
            made[name]["id"] = f"key of {name}"
        (tops if above is None else made[above].setdefault("children", [])).append(made[name])
    return tops


def lazily(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the same data as generators of generators."""
    for node in nodes:
        lazy: dict[str, Any] = dict(node)
        if "children" in lazy:
            lazy["children"] = lazily(lazy["children"])
        yield lazy


def by_key(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the same data as mappings of names to nodes; a leaf without further attributes is None."""
    found: dict[str, Any] = {}
    for node in nodes:
        rest = {key: value for key, value in node.items() if key != "name"}
        if "children" in rest:
            rest["children"] = by_key(rest["children"])
        found[node["name"]] = rest or None
    return found


# -- the forms of the data -----------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, lazily], ids=["lists", "generators"])
def test_whole_trees(tree: Tree, session: Session, form: Callable[[Any], Any]) -> None:
    """Nested data become the trees that they show, and the tops come back in the order of the data."""
    tops = insert_tree(session, tree.cls, form(data_of(tree, OUTLINE)))
    assert [node.name for node in tops] == ["a", "f"]
    assert all(inspect(node).persistent for node in tops)
    assert_in_step(session, tree)
    session.commit()
    assert tree.outline(session) == OUTLINE
    assert not verify_tree(session, tree.cls)


@any_key
def test_every_kind_of_key(tree: Tree, session: Session) -> None:
    """Keys of each type find their way to the rows below, at the top and below a node that is there."""
    t = tree.make(session, "r(q)")
    load_tree(session, tree.cls)
    (a, f) = insert_tree(session, tree.cls, data_of(tree, OUTLINE), parent=tree.pk(t.r))
    assert a.parent_id == f.parent_id == tree.pk(t.r)
    assert_in_step(session, tree)
    assert tree.outline(session) in (f"r(q {OUTLINE})", f"r({OUTLINE} q)")


@keyed
def test_data_by_key(tree: Tree, session: Session) -> None:
    """A keyed tree takes mappings of keys to nodes, at the top and below, and leaves may be None."""
    tops = insert_tree(session, tree.cls, by_key(data_of(tree, OUTLINE)))
    assert [node.name for node in tops] == ["a", "f"]
    assert tree.outline(session) == OUTLINE
    assert_in_step(session, tree)


@keyed
def test_keys_that_look_like_attributes(tree: Tree, session: Session) -> None:
    """Keys that are named as an attribute, or as the children, are keys wherever a mapping follows."""
    insert_tree(session, tree.cls, {"name": {"children": {"children": {}, "label": {"label": "x"}}}})
    assert tree.outline(session) == "name(children label)"
    assert dump_tree(session, tree.cls) == {
        "name": {"label": None, "children": {"children": {"label": None}, "label": {"label": "x"}}}
    }


def test_one_mapping_is_one_node(tree: Tree, session: Session) -> None:
    """A single node needs no list around it, at the top and as the only child."""
    insert_tree(session, tree.cls, {"name": "a", "children": {"name": "b", "children": {"name": "c"}}})
    assert tree.outline(session) == "a(b(c))"


@pytest.mark.parametrize("data", [[], (), iter(())])
@plain_list
def test_nothing_to_insert(tree: Tree, session: Session, data: Any) -> None:
    """No data are no nodes and no statement; empty children are none."""
    with no_sql():
        assert insert_tree(session, tree.cls, data) == []
    insert_tree(session, tree.cls, [{"name": "a", "children": []}, {"name": "b", "children": None}])
    assert tree.outline(session) == "a b"


@plain_list
def test_other_kinds_of_mapping(tree: Tree, session: Session) -> None:
    """Any mapping will do, and it is left as it was."""

    class ReadOnly(Mapping[str, object]):
        def __init__(self, **items: object) -> None:
            self.items_ = items

        def __getitem__(self, key: str) -> object:
            return self.items_[key]

        def __iter__(self) -> Iterator[str]:
            return iter(self.items_)

        def __len__(self) -> int:
            return len(self.items_)

    data = ReadOnly(name="a", children=[ReadOnly(name="b")])
    insert_tree(session, tree.cls, data)
    assert tree.outline(session) == "a(b)"
    assert set(data) == {"name", "children"}


@plain_list
def test_generators_are_drawn_from_in_turn(tree: Tree, session: Session) -> None:
    """A node's children are asked for before its next sibling, and nothing is asked for after an error."""
    seen: list[str] = []

    def nodes(prefix: str, depth: int) -> Iterator[dict[str, Any]]:
        for i in range(2):
            seen.append(f"{prefix}{i}")
            yield {"name": f"{prefix}{i}", "children": nodes(f"{prefix}{i}", depth - 1) if depth else ()}

    def endless() -> Iterator[Any]:
        yield {"name": "a"}
        yield {"nam": "b"}
        raise AssertionError("asked for more after the error")

    insert_tree(session, tree.cls, nodes("n", 1))
    assert seen == ["n0", "n00", "n01", "n1", "n10", "n11"]
    assert tree.outline(session) == "n0(n00 n01) n1(n10 n11)"
    with pytest.raises(InvalidArgumentError, match="nam"):
        insert_tree(session, tree.cls, endless())


@plain_list
def test_a_generator_that_fails(tree: Tree, session: Session) -> None:
    """An exception of the caller's generator comes through, and nothing has been written."""

    def nodes() -> Iterator[dict[str, Any]]:
        yield {"name": "a"}
        raise OSError("unreadable")

    with count_statements() as log, pytest.raises(OSError, match="unreadable"):
        insert_tree(session, tree.cls, nodes())
    assert not writes(log)
    assert tree.outline(session) == ""


@deep_list
def test_deep_data(tree: Tree, session: Session) -> None:
    """A chain of 3,000 nodes goes in and comes out without recursion, also from generators."""
    depth = 3_000 if tree.shape.index.deep else 150
    data: dict[str, Any] = {"name": "n"}
    for _ in range(depth):
        data = {"name": "n", "children": (node for node in [data])}
    insert_tree(session, tree.cls, data)
    assert session.scalar(select(func.count()).select_from(tree.table)) == depth + 1
    node = dump_tree(session, tree.cls)
    levels = 0
    while node:
        (only,) = node
        node, levels = only.get("children"), levels + 1
    assert levels == depth + 1


# -- where they go -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loaded", "spelling"), [("loaded", "instance"), ("loaded", "key"), ("expired", "instance"), ("gone", "key")]
)
def test_below_a_parent(tree: Tree, session: Session, loaded: str, spelling: str) -> None:
    """New nodes stand behind the children that are there, in the table and in memory."""
    t = tree.make(session, "a(b(d) c) z")
    session.commit()
    key = tree.pk(t.a)
    if loaded == "gone":
        session.expunge_all()
    elif loaded == "loaded":
        load_tree(session, tree.cls)
    held = t.a.children if loaded == "loaded" else None
    parent = key if spelling == "key" else session.get(tree.cls, key)
    tops = insert_tree(session, tree.cls, data_of(tree, "x(y) w"), parent=parent)
    assert_in_step(session, tree)
    assert tree.outline(session) == ("a(b(d) c x(y) w) z" if tree.positioned else "a(b(d) c w x(y)) z")
    assert [node.name for node in tops] == ["x", "w"]
    again = session.get(tree.cls, key)
    if loaded == "loaded":
        with no_sql():
            assert len(again.children) == 4
            assert again.children is held
            assert tops[0].parent is again
    assert {id(node) for node in tops} <= {id(node) for node in tree.members(again)}


def test_behind_other_roots(tree: Tree, session: Session) -> None:
    """Without a parent the new nodes are the last roots."""
    tree.make(session, "m(n)")
    insert_tree(session, tree.cls, data_of(tree, "z a"))
    assert tree.outline(session) == ("m(n) z a" if tree.positioned else "a m(n) z")


@positioned
def test_behind_a_gap(tree: Tree, session: Session) -> None:
    """Positions continue behind the last sibling, whose number need not be their count."""
    t = tree.make(session, "a(b c)")
    t.c.position = 41
    session.commit()
    insert_tree(session, tree.cls, data_of(tree, "x(u v) y"), parent=t.a)
    rows = session.execute(select(tree.cls.name, tree.cls.position).where(tree.cls.parent_id.is_not(None)))
    assert dict(tuple(row) for row in rows) == {"b": 0, "c": 41, "x": 42, "y": 43, "u": 0, "v": 1}


def test_the_loaded_parent_needs_no_select(tree: Tree, session: Session) -> None:
    """To bring a loaded parent into step costs no statement, but where the database has to sort the children."""
    t = tree.make(session, "a(b c d)")
    key = tree.pk(t.a)
    session.expunge_all()
    with count_statements() as cold:
        insert_tree(session, tree.cls, data_of(tree, "x"), parent=key)
    held = load_tree(session, tree.cls)
    with count_statements() as warm:
        insert_tree(session, tree.cls, data_of(tree, "y"), parent=key)
    assert len(held) == 1
    sorting = len(tree.cls.__tree__.order_by) > 0
    assert unclaimed(warm) - sorting == unclaimed(cold) <= 6 + tree.shape.index.allowance, warm.text
    assert_in_step(session, tree)


def test_a_parent_that_refuses_to_load(tree: Tree, session: Session) -> None:
    """Where relationships raise, the loaded ones are brought into step and the others stay as they are."""
    t = tree.make(session, "a(b) z")
    keys = [tree.pk(t.a), tree.pk(t.z)]
    session.expunge_all()
    raising = select(tree.cls).options(raiseload("*")).execution_options(populate_existing=True)
    nodes = {node.name: node for node in session.scalars(raising)}
    load_tree(session, tree.cls, keys[0])
    insert_tree(session, tree.cls, data_of(tree, "x"), parent=nodes["a"])
    insert_tree(session, tree.cls, data_of(tree, "y"), parent=nodes["z"])
    assert_in_step(session, tree)
    assert tree.names(tree.members(nodes["a"])) == "b x"
    assert "children" not in nodes["z"].__dict__


def test_pending_changes_go_first(tree: Tree, session: Session) -> None:
    """What the session holds is flushed before, so a pending parent's row and children count."""
    t = tree.make(session, "a(b)")
    load_tree(session, tree.cls)
    with session.no_autoflush:
        tree.attach(t.a, tree.new("c"))
        t.b.label = "changed"
        insert_tree(session, tree.cls, data_of(tree, "d"), parent=t.a)
    assert not session.new
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b c d)"
    assert session.scalar(select(tree.cls.label).where(tree.cls.name == "b")) == "changed"


def test_a_rollback_takes_it_back(tree: Tree, session: Session) -> None:
    """After a rollback the table is as before and memory agrees; the next inserts go through."""
    t = tree.make(session, "a(b)")
    load_tree(session, tree.cls)
    tops = insert_tree(session, tree.cls, data_of(tree, "x(y)"), parent=t.a)
    assert len(tops) == 1
    session.rollback()
    assert tree.outline(session) == "a(b)"
    session.add(tree.new("n", t.a))
    session.commit()
    load_tree(session, tree.cls)
    assert_in_step(session, tree)
    assert tree.outline(session) == "a(b n)"


def test_a_rollback_to_a_savepoint_takes_it_back(tree: Tree, session: Session) -> None:
    """After a savepoint is rolled back none of its nodes is left in the session or the parent's children."""
    t = tree.make(session, "a(b)")
    load_tree(session, tree.cls)
    savepoint = session.begin_nested()
    (top,) = insert_tree(session, tree.cls, data_of(tree, "x(y)"), parent=t.a)
    key = tree.pk(top)
    savepoint.rollback()
    assert tree.outline(session) == "a(b)"
    assert [child.name for child in tree.members(t.a)] == ["b"]
    assert session.get(tree.cls, key) is None
    assert_in_step(session, tree, after_rollback=True)


# -- values --------------------------------------------------------------------------------------


def test_defaults(engine: Engine, bases: Any, session: Session) -> None:
    """Python and server defaults, callables and values of the data all land in their columns, on both kinds of base."""
    Base = bases()
    dataclass_base = bases.kind == "dataclass"
    counter = iter(range(100, 200))
    late: dict[str, Any] = {"init": False} if dataclass_base else {}
    own = "insert_default" if dataclass_base else "default"

    class Item(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True, **late)
        name: Mapped[str] = mapped_column(String(50))
        fixed: Mapped[str] = mapped_column(String(50), **{own: "python"}, **late)
        made: Mapped[int] = mapped_column(**{own: lambda: next(counter)}, **late)
        server: Mapped[str] = mapped_column(String(50), server_default=text("'server'"), **late)
        length: Mapped[int | None] = mapped_column(Computed("length(name)", persisted=True), **late)
        note: Mapped[str | None] = mapped_column(String(50), default=None)

    Base.metadata.create_all(engine)
    children = [{"name": "bb", "fixed": "given", "made": 7, "server": "mine", "note": "some"}, {"name": "ccc"}]
    insert_tree(session, Item, [{"name": "a", "children": children}])
    rows = session.execute(select(Item.__table__).order_by(Item.__table__.c.name)).all()
    values = [(row.name, row.fixed, row.server, row.length, row.note) for row in rows]
    assert values == [
        ("a", "python", "server", 1, None),
        ("bb", "given", "mine", 2, "some"),
        ("ccc", "python", "server", 3, None),
    ]
    assert rows[1].made == 7
    assert {rows[0].made, rows[2].made} == {100, 101}
    assert rows[0].parent_id is None
    assert rows[1].parent_id == rows[2].parent_id == rows[0].id


@pytest.mark.parametrize("args", [[], [Identity()]], ids=["serial", "identity"])
def test_dataclass_defaults(engine: Engine, session: Session, args: list[Any]) -> None:
    """Defaults and factories of dataclass fields apply too, though ``__init__`` is not called."""
    from tests.conftest import BaseFactory

    factory = BaseFactory("dataclass")
    Base = factory()
    calls: list[str] = []

    def make() -> str:
        calls.append("made")
        return f"made {len(calls)}"

    class Item(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(Integer, *args, primary_key=True, default=None)
        name: Mapped[str] = mapped_column(String(50), default="unnamed")
        size: Mapped[int] = mapped_column(default=5)
        tag: Mapped[str] = mapped_column(String(50), default_factory=make)
        note: Mapped[str | None] = mapped_column(String(50), default="none so far")

    Base.metadata.create_all(engine)
    data: list[Any] = [{"name": "a", "children": [{"size": 0, "tag": "own"}, {"name": "c", "note": "x", "tag": "t"}]}]
    insert_tree(session, Item, data)
    table = Item.__table__
    rows = session.execute(select(table.c.name, table.c.size, table.c.tag, table.c.note).order_by(table.c.name)).all()
    assert [tuple(row) for row in rows] == [
        ("a", 5, "made 1", "none so far"),
        ("c", 5, "t", "x"),
        ("unnamed", 0, "own", "none so far"),
    ]
    session.add(Item(name="after"))
    session.commit()
    assert session.scalar(select(func.count()).select_from(table)) == 4
    factory.dispose()


@plain_list
def test_keys_of_the_data(tree: Tree, session: Session) -> None:
    """Keys given in the data are kept, beside rows whose keys are made."""
    data = [{"name": "a", "id": 500, "children": [{"name": "b"}, {"name": "c", "id": 700}]}, {"name": "d", "id": None}]
    tops = insert_tree(session, tree.cls, data)
    assert tree.outline(session) == "a(b c) d"
    keys = dict(tuple(row) for row in session.execute(select(tree.cls.name, tree.cls.id)))
    assert (keys["a"], keys["c"]) == (500, 700)
    assert len(set(keys.values())) == 4
    assert [node.id for node in tops] == [500, keys["d"]]


@pytest.mark.parametrize("kind", ["plain", "autoincrement", "identity", "always"])
def test_keys_of_later_inserts(engine: Engine, plain_bases: Any, session: Session, kind: str) -> None:
    """What the database numbers goes on behind the bulk, also behind rows that were deleted."""
    Base = plain_bases()
    args = {"identity": [Identity()], "always": [Identity(always=True)]}.get(kind, [])

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        __table_args__ = {"sqlite_autoincrement": kind == "autoincrement"}
        id: Mapped[int] = mapped_column(Integer, *args, primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    session.add_all([Node(name="0"), Node(name="1")])
    session.commit()
    used = set(session.scalars(select(Node.id)))
    for round_ in range(2):
        insert_tree(session, Node, [{"name": f"a{round_}", "children": [{"name": "b"}, {"name": "c"}]}])
        session.add(Node(name=f"orm{round_}"))
        session.commit()
        keys = session.scalars(select(Node.id)).all()
        assert len(keys) == 2 + 4 * (round_ + 1)
        used |= set(keys)
    assert not verify_tree(session, Node)
    last = session.scalars(select(Node).order_by(Node.id.desc())).first()
    session.delete(last)
    session.commit()
    (new,) = insert_tree(session, Node, [{"name": "behind"}])
    if kind == "autoincrement" or engine.dialect.name != "sqlite":
        assert new.id not in used  # Plain rowids of SQLite are used again.
    insert_tree(session, Node, {"name": "below", "children": [{"name": "leaf"}]}, parent=new)
    session.commit()
    assert not verify_tree(session, Node)


@pytest.mark.only_on("sqlite")
def test_autoincrement_in_an_attached_database(engine: Engine, plain_bases: Any, session: Session) -> None:
    """AUTOINCREMENT never gives a number again, in whichever database of the connection the table is."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        __table_args__ = {"sqlite_autoincrement": True, "schema": "side"}
        id: Mapped[int] = mapped_column(primary_key=True)

    class Other(Base):  # type: ignore[misc]
        __tablename__ = "other"
        __table_args__ = {"sqlite_autoincrement": True}
        id: Mapped[int] = mapped_column(primary_key=True)

    with engine.begin() as connection:
        connection.exec_driver_sql("ATTACH ':memory:' AS side")
    Base.metadata.create_all(engine)
    node = Node()
    session.add_all([Other(), Node(), node])
    session.commit()
    gone = node.id
    session.delete(node)
    session.commit()
    (new,) = insert_tree(session, Node, [{}])
    assert new.id > gone


def test_keys_that_the_server_makes(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A key that only the INSERT can tell is told to the rows below, level by level."""
    Base = plain_bases()
    default = {"sqlite": "(lower(hex(randomblob(16))))", "postgresql": "md5(random()::text)", "mysql": "(uuid())"}

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        key: Mapped[str] = mapped_column(
            String(40), primary_key=True, server_default=text(default[engine.dialect.name])
        )
        name: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    children = [{"name": "b", "children": [{"name": "c"}]}, {"name": "d", "key": "mine", "children": [{"name": "e"}]}]
    insert_tree(session, Node, [{"name": "a", "children": children}])
    up = Node.__table__.alias()
    pairs = session.execute(select(Node.name, up.c.name).outerjoin(up, Node.parent_id == up.c.key)).all()
    assert {tuple(pair) for pair in pairs} == {("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "d")}


def test_a_key_made_from_other_values(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A Python default that looks at the other values of its row works as it does in any INSERT."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        slug: Mapped[str] = mapped_column(
            String(50), primary_key=True, default=lambda context: context.get_current_parameters()["name"].lower()
        )
        name: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    insert_tree(session, Node, [{"name": "A", "children": [{"name": "B"}]}])
    rows = session.execute(select(Node.slug, Node.parent_id).order_by(Node.slug)).all()
    assert [tuple(row) for row in rows] == [("a", None), ("b", "a")]


@pytest.mark.only_on("postgresql")
def test_keys_of_a_translated_schema(engine: Engine, plain_bases: Any) -> None:
    """With ``schema_translate_map`` the keys come from the sequence of the table that is meant."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA tenant")
    tenant = engine.execution_options(schema_translate_map={None: "tenant"})
    Base.metadata.create_all(engine)
    Base.metadata.create_all(tenant)
    with Session(tenant) as session:
        session.add_all([Node(name=str(i)) for i in range(5)])
        session.commit()
        insert_tree(session, Node, [{"name": "a", "children": [{"name": "b"}]}])
        session.add(Node(name="after"))
        session.commit()
        assert session.scalar(select(func.count()).select_from(Node.__table__)) == 8


# -- cost ----------------------------------------------------------------------------------------


def big(levels: int, width: int) -> dict[str, Any]:
    """Return a tree whose nodes have `width` children each, and a label on every other one."""
    node: dict[str, Any] = {"name": "0"}
    level = [node]
    for _ in range(levels):
        for above in level:
            above["children"] = [
                {"name": f"{above['name']}.{i}", **({"label": "x"} if i % 2 else {})} for i in range(width)
            ]
        level = [child for above in level for child in above["children"]]
    return node


@plain_list
def test_a_thousand_nodes(tree: Tree, session: Session, engine: Engine) -> None:
    """1,111 nodes cost five statements, and an INSERT for each thousand rows; on MariaDB for each level."""
    with count_statements() as log:
        insert_tree(session, tree.cls, big(3, 10))
    assert session.scalar(select(func.count()).select_from(tree.table)) == 1_111
    inserts = len(inserts_into(log, tree))
    assert inserts <= (4 if engine.dialect.name == "mysql" else 2), f"{inserts} INSERTs"
    assert unclaimed(log) - inserts <= 5 + tree.shape.index.allowance, log.text[:2000]


@pytest.mark.parametrize("parents", [False, True], ids=["leaves", "parents"])
@plain_list
def test_rows_of_one_kind_are_one_batch(tree: Tree, session: Session, engine: Engine, parents: bool) -> None:
    """Values that some rows leave out, and roots beside children, do not take batches apart."""
    nodes = [{"name": f"{i:02}", **({"label": "x"} if i % 2 else {})} for i in range(20)]
    data = [{"name": f"r{i}", "children": nodes[i * 5 : i * 5 + 5]} for i in range(4)] if parents else nodes
    with count_statements() as log:
        insert_tree(session, tree.cls, data)
    levels = 2 if parents and engine.dialect.name == "mysql" else 1
    assert len(inserts_into(log, tree)) == levels, log.text
    assert unclaimed(log) <= levels + 5 + tree.shape.index.allowance, log.text
    assert_in_step(session, tree)


# -- what is refused -----------------------------------------------------------------------------


@contextmanager
def refused(tree: Tree, session: Session, error: type[Exception], *parts: str) -> Iterator[None]:
    """Assert that `error` with `parts` in its text comes before the first INSERT, and that the session works on."""
    before = tree.outline(session)
    with count_statements() as log, pytest.raises(error) as caught:
        yield
    assert isinstance(caught.value, PatternError)
    for part in parts:
        assert part in str(caught.value)
    assert not writes(log), log.text
    session.rollback()
    assert tree.outline(session) == before
    load_tree(session, tree.cls)
    assert_in_step(session, tree)
    insert_tree(session, tree.cls, data_of(tree, "zz"))
    assert tree.outline(session) == f"{before} zz".strip()
    session.rollback()


def below(node: object) -> list[dict[str, Any]]:
    """Return data with `node` at the path ``p / q``."""
    return [{"name": "o"}, {"name": "p", "children": [{"name": "q", "children": [{"name": "r"}, node]}]}]


BAD_NODES: dict[str, tuple[object, list[str]]] = {
    "unknown attribute": ({"name": "x", "colour": "red"}, ["'colour'", "p / q / x", "label"]),
    "constructor argument": ({"name": "x", "parent": None}, ["'parent'", "p / q / x"]),
    "parent_id": ({"name": "x", "parent_id": 1}, ["'parent_id'", "p / q / x"]),
    "missing value": ({"label": "x"}, ["'name'", "p / q / ?", "missing"]),
    "value that is None": ({"name": None}, ["'name'", "None", "p / q"]),
    "string": ("x", ["[1]", "str"]),
    "number": (7, ["[1]", "int"]),
    "nothing": (None, ["[1]", "NoneType"]),
    "list": ([{"name": "x"}], ["[1]", "list"]),
    "children string": ({"name": "x", "children": "yz"}, ["str"]),
    "children bytes": ({"name": "x", "children": b"yz"}, ["bytes"]),
    "children number": ({"name": "x", "children": 7}, ["int"]),
    "children of strings": ({"name": "x", "children": ["y"]}, ["str"]),
    "children of nothing": ({"name": "x", "children": [None]}, ["NoneType"]),
}


@pytest.mark.parametrize(("node", "parts"), BAD_NODES.values(), ids=BAD_NODES)
@plain_list
def test_wrong_data(tree: Tree, session: Session, node: object, parts: list[str]) -> None:
    """Data of the wrong shape are refused with the place of the node."""
    tree.make(session, "a(b)")
    with refused(tree, session, InvalidArgumentError, *parts):
        insert_tree(session, tree.cls, below(node))


@pytest.mark.parametrize("data", ["ab", b"ab", 7, None, pytest.param(object(), id="object")], ids=repr)
@plain_list
def test_data_that_are_none(tree: Tree, session: Session, data: Any) -> None:
    """What is no mapping and no iterable of mappings is refused."""
    with refused(tree, session, InvalidArgumentError, type(data).__name__):
        insert_tree(session, tree.cls, data)


@positioned
def test_positions_in_the_data(tree: Tree, session: Session) -> None:
    """The order of the data says the positions; a number in the data is refused."""
    with refused(tree, session, InvalidArgumentError, "'position'", "p / q / x"):
        insert_tree(session, tree.cls, below({"name": "x", "position": 3}))


@plain_list
def test_a_missing_value_of_one_among_many(tree: Tree, session: Session) -> None:
    """A fault is found behind many right nodes too."""
    data = [{"name": str(i)} for i in range(50)]
    data[41] = {"label": "x"}
    with refused(tree, session, InvalidArgumentError, "data[41]", "'name'"):
        insert_tree(session, tree.cls, data)


def test_a_computed_value_in_the_data(engine: Engine, plain_bases: Any, session: Session) -> None:
    """What the database computes is nothing that data can set."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        length: Mapped[int | None] = mapped_column(Computed("length(name)", persisted=True))
        shout: Mapped[str] = column_property(func.upper(literal_column("node.name")))

    Base.metadata.create_all(engine)
    for attr, value in (("length", 3), ("shout", "A")):
        with pytest.raises(InvalidArgumentError, match=attr):
            insert_tree(session, Node, [{"name": "a", attr: value}])
    session.rollback()
    insert_tree(session, Node, [{"name": "a"}])
    assert dump_tree(session, Node) == [{"name": "a"}]


@keyed
def test_equal_keys_in_the_data(tree: Tree, session: Session) -> None:
    """Two siblings of the data cannot share a key, at the top or below; cousins can."""
    tree.make(session, "a(b)")
    with refused(tree, session, DuplicateKeyError, "p / q / r", "'r'"):
        insert_tree(session, tree.cls, below({"name": "r"}))
    with refused(tree, session, DuplicateKeyError, "'x'"):
        insert_tree(session, tree.cls, [{"name": "x"}, {"name": "y"}, {"name": "x"}])
    insert_tree(session, tree.cls, {"c": {"children": {"b": {"children": {"b": None}}}}})
    assert "c(b(b))" in tree.outline(session)


@keyed
def test_keys_that_siblings_have(tree: Tree, session: Session) -> None:
    """A key that another node has is refused: below a parent, among roots, flushed by this very call, or not loaded."""
    t = tree.make(session, "a(b)")
    with refused(tree, session, DuplicateKeyError, "'b'", f"<Node {t.a.id}>"):
        insert_tree(session, tree.cls, {"x": None, "b": None}, parent=t.a)
    with refused(tree, session, DuplicateKeyError, "'a'", "roots"):
        insert_tree(session, tree.cls, {"x": None, "a": None})
    insert_tree(session, tree.cls, {"a": None}, parent=t.a)
    tree.attach(t.a, tree.new("pending"))
    with pytest.raises(DuplicateKeyError, match="pending"), session.no_autoflush:
        insert_tree(session, tree.cls, {"pending": None}, parent=t.a)


@keyed
def test_a_key_that_contradicts(tree: Tree, session: Session) -> None:
    """A node under a key that is not its own, or a bare value under a key, is refused."""
    with refused(tree, session, InvalidArgumentError, "'x'", "'y'"):
        insert_tree(session, tree.cls, {"x": {"name": "y"}})
    with refused(tree, session, InvalidArgumentError, "'x'", "int"):
        insert_tree(session, tree.cls, {"w": None, "x": 7})
    with refused(tree, session, InvalidArgumentError, "'x'", "list"):
        insert_tree(session, tree.cls, {"w": {"children": {"x": []}}})


def test_a_parent_that_is_not_there(tree: Tree, session: Session) -> None:
    """A key that does not exist, and a node whose row is gone, are no parents."""
    t = tree.make(session, "a b")
    gone = tree.pk(t.b)
    with refused(tree, session, InvalidMoveError, "Node 4711", "not exist"):
        insert_tree(session, tree.cls, data_of(tree, "x"), parent=4711)
    session.connection().execute(tree.table.delete().where(tree.table.c.id == gone))
    with pytest.raises(InvalidMoveError, match="not exist"):
        insert_tree(session, tree.cls, data_of(tree, "x"), parent=t.b)
    session.rollback()
    assert tree.names(sorted(session.scalars(select(tree.cls)), key=lambda node: node.name)) == "a b"


def test_a_parent_without_a_row(tree: Tree, session: Session) -> None:
    """A transient node is no parent; a pending one is flushed and is."""
    with refused(tree, session, StateError, "primary key"):
        insert_tree(session, tree.cls, data_of(tree, "x"), parent=tree.new("t"))
    pending = tree.new("p")
    session.add(pending)
    with session.no_autoflush:
        insert_tree(session, tree.cls, data_of(tree, "x"), parent=pending)
    assert tree.outline(session) == "p(x)"
    assert_in_step(session, tree)


def test_a_parent_of_another_class(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A node of another tree is no parent, even where its key exists here; a class without a tree is no tree."""
    Base = plain_bases()

    class One(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "one"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Two(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "two"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    session.add_all([One(), two := Two()])
    session.commit()
    with pytest.raises(InvalidArgumentError, match="One"):
        insert_tree(session, One, [{}], parent=two)
    with pytest.raises(InvalidArgumentError, match="no tree"):
        insert_tree(session, object, [{}])  # type: ignore[type-var]
    with pytest.raises(InvalidArgumentError, match="no tree"):
        dump_tree(session, object)  # type: ignore[call-overload]
    insert_tree(session, One, [{}])
    assert session.scalar(select(func.count()).select_from(One.__table__)) == 2


# -- polymorphic trees ---------------------------------------------------------------------------


@pytest.fixture(params=["single", "joined"])
def kinds(request: pytest.FixtureRequest, engine: Engine, plain_bases: Any) -> Any:
    """Return a tree of entries, folders and files, in one table or in three."""
    Base = plain_bases()

    class Entry(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "entry"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "entry"}

    body: dict[str, Any] = {"__module__": __name__}
    joined = request.param == "joined"

    def below(name: str, **columns: Any) -> Any:
        extra: dict[str, Any] = {}
        if joined:
            extra["__tablename__"] = name.lower()
            extra["id"] = mapped_column(ForeignKey("entry.id", ondelete="CASCADE"), primary_key=True)
        return type(
            name, (Entry,), {**body, **extra, **columns, "__mapper_args__": {"polymorphic_identity": name.lower()}}
        )

    Folder = below("Folder", colour=mapped_column(String(20), nullable=True))
    File = below("File", size=mapped_column(Integer, nullable=not joined))
    Base.metadata.create_all(engine)
    return Entry, Folder, File


ENTRIES: list[dict[str, Any]] = [
    {
        "name": "root",
        "kind": "folder",
        "colour": "red",
        "children": [
            {"name": "f", "kind": "file", "size": 3},
            {"name": "e", "kind": "entry", "children": [{"name": "g", "kind": "file", "size": 4}]},
            {"name": "d", "kind": "folder", "colour": None, "children": [{"name": "h", "kind": "file", "size": 5}]},
        ],
    }
]


def test_the_discriminator_picks_the_class(kinds: Any, session: Session) -> None:
    """Each node becomes what its discriminator says, with the columns of that class, and comes back as it went in."""
    Entry, Folder, File = kinds
    (root,) = insert_tree(session, Entry, ENTRIES)
    assert type(root) is Folder
    session.commit()
    session.expunge_all()
    assert dump_tree(session, Entry) == ENTRIES
    assert {(type(node), node.name) for node in session.scalars(select(Entry))} == {
        (Folder, "root"),
        (File, "f"),
        (Entry, "e"),
        (File, "g"),
        (Folder, "d"),
        (File, "h"),
    }
    assert not verify_tree(session, Entry)


def test_the_class_asked_for_is_the_kind(kinds: Any, session: Session) -> None:
    """A node that does not say its kind is of the class that was asked for; other kinds are refused."""
    Entry, Folder, File = kinds
    (root,) = insert_tree(session, Folder, [{"name": "r", "colour": "red", "children": [{"name": "s"}]}])
    insert_tree(session, File, [{"name": "t", "size": 3}], parent=root)
    assert [(type(node), node.name) for node in root.children] == [(Folder, "s"), (File, "t")]
    session.commit()
    for entity, kind in ((Folder, "file"), (Entry, "nonsense"), (Entry, None)):
        with count_statements() as log, pytest.raises(InvalidArgumentError, match=repr(kind)):
            insert_tree(session, entity, [{"name": "x", "kind": kind}])
        assert not writes(log)
    with pytest.raises(InvalidArgumentError, match="size"):
        insert_tree(session, Entry, [{"name": "x", "kind": "folder", "size": 3}])
    assert session.scalar(select(func.count()).select_from(Entry.__table__)) == 3


def test_the_cost_of_a_polymorphic_dump(kinds: Any, session: Session) -> None:
    """One SELECT, and one more for each subclass."""
    Entry, *subclasses = kinds
    insert_tree(session, Entry, ENTRIES)
    session.commit()
    session.expunge_all()
    with count_statements() as log:
        assert dump_tree(session, Entry) == ENTRIES
    assert len(log) == 1 + len(subclasses), log.text


# -- dump_tree -----------------------------------------------------------------------------------


def test_round_trip(tree: Tree, session: Session) -> None:
    """What `dump_tree` gives is JSON, has nothing that `insert_tree` writes itself, and makes the same trees again."""
    tree.make(session, OUTLINE)
    session.expunge_all()
    with count_statements() as log:
        saved = dump_tree(session, tree.cls)
    assert len(log) == len(log.starting("SELECT", "WITH")) == 1
    text_ = json.dumps(saved)
    assert not {"id", "parent_id", "position"} & set(text_.replace('"', " ").split())
    session.connection().execute(tree.table.delete())
    session.commit()
    session.expunge_all()
    insert_tree(session, tree.cls, json.loads(text_))
    assert tree.outline(session) == OUTLINE
    assert dump_tree(session, tree.cls) == saved


@any_key
def test_copies(tree: Tree, session: Session) -> None:
    """A dump goes in again beside the original, below another node."""
    if tree.shape.key == "string":
        return  # Such keys are the application's: nothing makes new ones.
    t = tree.make(session, "a(b(c) d) z")
    insert_tree(session, tree.cls, dump_tree(session, tree.cls, t.a), parent=t.z)
    assert tree.outline(session) == "a(b(c) d) z(a(b(c) d))"
    assert_in_step(session, tree)


def test_what_a_dump_holds(tree: Tree, session: Session) -> None:
    """Attributes by their names, children where there are some, below a root that is asked for by node or key."""
    t = tree.make(session, "a(b(d) c) z")
    t.b.label = "l"  # Pending: flushed by the dump.
    if tree.keyed:
        expected: Any = {"b": {"label": "l", "children": {"d": {"label": None}}}}
    else:
        expected = [{"name": "b", "label": "l", "children": [{"name": "d", "label": None}]}]
    assert dump_tree(session, tree.cls, t.b) == expected
    assert dump_tree(session, tree.cls, tree.pk(t.b)) == expected
    assert dump_tree(session, tree.cls, 4711) == ({} if tree.keyed else [])
    with pytest.raises(StateError):
        dump_tree(session, tree.cls, tree.new("x"))


@in_lists
def test_the_order_of_a_dump(tree: Tree, session: Session) -> None:
    """Lists stand in the order of the siblings."""
    t = tree.make(session, "z(y x w) a")
    if tree.positioned:
        t.w.move_to(t.y, "before")
    names = [node["name"] for node in dump_tree(session, tree.cls)]
    inner = {node["name"]: node.get("children", []) for node in dump_tree(session, tree.cls)}["z"]
    assert names == (["z", "a"] if tree.positioned else ["a", "z"])
    wanted = ["w", "y", "x"] if tree.positioned else ["w", "x", "y"]
    assert [node["name"] for node in inner] == wanted  # type: ignore[attr-defined]


def test_a_key_that_is_the_primary_key(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A tree keyed by its primary key goes out and in under the same keys."""
    Base = plain_bases()

    class Node(KeyedTreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        __tree__ = TreeOptions(key="code")
        code: Mapped[str] = mapped_column(String(20), primary_key=True)

    Base.metadata.create_all(engine)
    data: Any = {"a": {"children": {"b": {}, "c": {"children": {"d": {}}}}}, "e": {}}
    insert_tree(session, Node, data)
    session.expunge_all()
    assert dump_tree(session, Node) == data
    assert sorted(session.scalars(select(Node.code))) == ["a", "b", "c", "d", "e"]


def test_deferred_columns_of_a_dump(engine: Engine, plain_bases: Any, session: Session) -> None:
    """A column that is loaded on demand is part of the one SELECT of a dump."""
    Base = plain_bases()

    class Node(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str] = mapped_column(String(50), deferred=True)

    Base.metadata.create_all(engine)
    data = [{"body": "x", "children": [{"body": "y"}, {"body": "z"}]}]
    insert_tree(session, Node, data)
    session.commit()
    session.expunge_all()
    with count_statements() as log:
        assert dump_tree(session, Node) == data
    assert len(log) == 1, log.text


@pytest.mark.only_on("sqlite", "postgresql")  # MariaDB makes keys as it inserts, and refuses one that is taken.
@plain_list
def test_given_keys_beside_generated_ones(tree: Tree, session: Session) -> None:
    """A key that the data give to one node is not generated for another."""
    data = [{"name": "a"}, {"name": "b", "id": 2}, {"name": "c"}]
    insert_tree(session, tree.cls, data)
    session.commit()
    assert tree.outline(session) == "a b c"


@keyed
def test_a_key_that_is_no_key(tree: Tree, session: Session) -> None:
    """A value that cannot be hashed is named with its path."""
    with refused(tree, session, InvalidArgumentError, "data[0]", "['x']"):
        insert_tree(session, tree.cls, [{"name": ["x"]}])
