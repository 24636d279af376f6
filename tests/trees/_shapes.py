"""The registry of tree shapes, and the few operations whose spelling differs between them.

The contract suite asks for the fixture `tree` (a fresh class of each shape in `CONTRACT`, its table created) and uses
the public interface only. A new index joins it by one line in `INDEXES`.

Trees are written and read as outlines: ``"a(b c(d)) e"`` has the roots ``a`` and ``e``; ``d`` lies below ``c``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace, new_class
from typing import Any

import pytest
from sqlalchemy import DDL, Engine, ForeignKey, Integer, MetaData, String, Uuid, event, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, selectinload

from sqla_patterns.trees import (
    ClosureTable,
    KeyedTreeNode,
    LtreePath,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
)
from tests._support import StatementLog, count_statements
from tests.trees._indexes import INDEX_ATTRIBUTES, assert_index_sound

SCHEMA = "side"


@dataclass(frozen=True)
class IndexKind:
    """An index mixin, and what the suite has to know about it.

    Attributes:
        databases: where it runs; empty for everywhere.
        allowance: statements that it may add to a flush or function of the bare adjacency list.
        deep: whether it takes trees of depth 5,000.
        tables: tables of its own, which `verify_tree` reads too.
        by_order: whether it does something else where siblings sort themselves.
    """

    name: str
    mixin: type | None = None
    databases: tuple[str, ...] = ()
    allowance: int = 0
    deep: bool = True
    tables: int = 0
    by_order: bool = False


#: An index of the package joins the contract suite here.
INDEXES: tuple[IndexKind, ...] = (
    IndexKind("adjacency"),
    IndexKind("nested", NestedSets, allowance=1),
    # A move is a DELETE and an INSERT in the closure.
    IndexKind("closure", ClosureTable, allowance=2, deep=False, tables=1),
    # One UPDATE, and a look at the last root or at how deep a moved subtree is.
    IndexKind("paths", MaterializedPath, allowance=2, deep=False, by_order=True),
    IndexKind("ltree", LtreePath, databases=("postgresql",), allowance=2, deep=False, by_order=True),
)


@dataclass(frozen=True)
class Shape:
    """One combination of base, collection, order, index and kind of key."""

    base: str
    collection: str
    key: str = "integer"
    index: IndexKind = INDEXES[0]

    def __str__(self) -> str:
        parts = [self.index.name, self.collection, self.base, self.key]
        return "-".join(part for part in parts if part not in ("adjacency", "integer"))

    @property
    def keyed(self) -> bool:
        return self.collection == "keyed"

    @property
    def positioned(self) -> bool:
        return self.collection == "list"

    @property
    def options(self) -> TreeOptions:
        return {
            "list": TreeOptions(),
            "sorted": TreeOptions(order_by=("name",)),
            "keyed": TreeOptions(key="name"),
        }[self.collection]


def _params(shapes: Iterable[Shape]) -> list[Any]:
    return [
        pytest.param(
            shape, id=str(shape), marks=[pytest.mark.only_on(*shape.index.databases)] if shape.index.databases else []
        )
        for shape in shapes
    ]


_CONTRACT = [
    Shape(base, collection, index=index)
    for index in INDEXES
    for base, collection in (
        ("plain", "list"),
        ("dataclass", "list"),
        ("plain", "keyed"),
        ("dataclass", "keyed"),
        ("plain", "sorted"),
    )
    # All of them for the bare tree; what an index does depends on the base no more and hardly on the collection.
    if index.mixin is None
    or (base, collection) in (("plain", "list"), ("dataclass", "keyed"))
    or (index.by_order and (base, collection) == ("plain", "sorted"))
]
_KEY_KINDS = [
    Shape(base, collection, key, index)
    for index in INDEXES
    for key in ("uuid", "string", "renamed", "schema")
    for base, collection in (("plain", "list"), ("dataclass", "list"), ("plain", "keyed"), ("dataclass", "keyed"))
    if index.mixin is None or (key in ("uuid", "renamed") and (base, collection) == ("plain", "list"))
]

CONTRACT = _params(_CONTRACT)
KEY_KINDS = _params(_KEY_KINDS)
#: One shape for each index, where neither collection nor base matters.
PLAIN = _params(shape for shape in _CONTRACT if shape.base == "plain" and shape.positioned)

#: Marks that narrow the suite to some shapes; see the fixture `shape`.
any_key = pytest.mark.parametrize("shape", KEY_KINDS)
plain_list = pytest.mark.parametrize("shape", PLAIN)
deep_list = pytest.mark.parametrize("shape", [param for param in PLAIN if param.values[0].index.deep])
positioned = pytest.mark.parametrize("shape", _params(shape for shape in _CONTRACT if shape.positioned))
keyed = pytest.mark.parametrize("shape", _params(shape for shape in _CONTRACT if shape.keyed))
in_lists = pytest.mark.parametrize("shape", _params(shape for shape in _CONTRACT if not shape.keyed))
sorts_itself = pytest.mark.parametrize("shape", _params(shape for shape in _CONTRACT if not shape.positioned))


def create_ltree_with(metadata: MetaData) -> None:
    """Have the extension created before the tables, as a migration would."""
    event.listen(metadata, "before_create", DDL("CREATE EXTENSION IF NOT EXISTS ltree"))


class Tree:
    """A fresh tree class of one shape."""

    def __init__(self, shape: Shape, Base: Any, *, schema: str | None = None, **options: Any) -> None:
        self.shape = shape
        self.schema = schema
        self.options = replace(shape.options, **options)
        bases = tuple(
            base for base in (shape.index.mixin, KeyedTreeNode if shape.keyed else TreeNode, Base) if base is not None
        )
        self.cls: Any = new_class("Node", bases, exec_body=lambda body: body.update(self._body()))
        self.metadata: MetaData = Base.metadata
        if shape.index.mixin is LtreePath:
            create_ltree_with(self.metadata)

    def _body(self) -> dict[str, Any]:
        dataclass_base = self.shape.base == "dataclass"
        no_init: dict[str, Any] = {"init": False} if dataclass_base else {}
        renamed = self.shape.key == "renamed"
        body: dict[str, Any] = {
            "__module__": __name__,
            "__tablename__": "node",
            "__tree__": self.options,
            "name": mapped_column("node_name" if renamed else "name", String(100)),
            "label": mapped_column(String(100), default=None),
        }
        annotations: dict[str, Any] = {"name": Mapped[str], "label": Mapped[str | None]}
        if self.schema is not None:
            body["__table_args__"] = {"schema": self.schema}
        if self.shape.key == "uuid":
            body["id"] = mapped_column(
                Uuid(), primary_key=True, **({"insert_default" if dataclass_base else "default": uuid.uuid4}), **no_init
            )
            key, key_type = "id", uuid.UUID
        elif self.shape.key == "string":
            body["id"] = mapped_column(String(60), primary_key=True, **no_init)
            key, key_type = "id", str
        elif renamed:
            body["code"] = mapped_column("node_code", Integer(), primary_key=True, **no_init)
            body["parent_id"] = mapped_column("up", ForeignKey("node.node_code"), **no_init)
            annotations["parent_id"] = Mapped[int | None]
            key, key_type = "code", int
        else:
            body["id"] = mapped_column(Integer(), primary_key=True, **no_init)
            key, key_type = "id", int
        self.key = key
        body["__annotations__"] = {key: Mapped[key_type], **annotations}
        return body

    # -- the table -------------------------------------------------------------------------------

    @property
    def table(self) -> Any:
        return self.cls.__table__

    def create(self, engine: Engine) -> None:
        if self.schema == SCHEMA:
            with engine.begin() as connection:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql(f"ATTACH ':memory:' AS {SCHEMA}")
                else:
                    connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        self.metadata.create_all(engine)

    # -- nodes -----------------------------------------------------------------------------------

    @property
    def keyed(self) -> bool:
        return self.shape.keyed

    @property
    def positioned(self) -> bool:
        return self.shape.positioned

    @property
    def indexed(self) -> bool:
        return self.shape.index.mixin is not None

    def new(self, name: str, parent: Any = None) -> Any:
        """Make a node; its parent is no argument of the constructor on a dataclass base."""
        node = self.cls(name=name)
        if self.shape.key == "string":
            node.id = f"key of {name}"
        if parent is not None:
            node.parent = parent
        return node

    def pk(self, node: Any) -> Any:
        return getattr(node, self.key)

    def attach(self, parent: Any, child: Any) -> None:
        """Put a node last into the collection of another."""
        if self.keyed:
            parent.children[child.name] = child
        else:
            parent.children.append(child)

    def detach(self, parent: Any, child: Any) -> None:
        """Take a node out of the collection of its parent."""
        if self.keyed:
            del parent.children[child.name]
        else:
            parent.children.remove(child)

    def members(self, node: Any) -> list[Any]:
        """Return the children of a node, loaded if need be, in order; by name where they are keyed."""
        if self.keyed:
            return sorted(node.children.values(), key=lambda child: child.name)
        return list(node.children)

    def names(self, nodes: Iterable[Any]) -> str:
        return " ".join(node.name for node in nodes)

    def make(self, session: Session, outline: str) -> Any:
        """Build what `outline` says in plain ORM, commit it, and return a namespace of the nodes by name."""
        nodes = self.pending(outline)
        for node in vars(nodes).values():
            if node.parent is None:
                session.add(node)
        session.commit()
        return nodes

    def pending(self, outline: str) -> Any:
        """Build what `outline` says, and add it to no session."""
        made: dict[str, Any] = {}
        for name, above in _parse(outline):
            made[name] = self.new(name)
            if above is not None:
                self.attach(made[above], made[name])
        return SimpleNamespace(**made)

    # -- reading ---------------------------------------------------------------------------------

    def matching(self, session: Session, *criteria: Any) -> str:
        """Return the names of the nodes that match, in alphabetical order."""
        return " ".join(sorted(session.scalars(select(self.cls.name).where(*criteria))))

    def outline(self, session: Session) -> str:
        """Return what the transaction of `session` has in the table, read by Core; siblings in their order."""
        columns = inspect(self.cls).columns
        wanted = [columns[self.key], columns.parent_id, columns.name]
        rows = session.connection().execute(select(*wanted, *([columns.position] if self.positioned else []))).all()
        below: dict[Any, list[Any]] = {}
        for row in sorted(rows, key=lambda row: (row[3], row[0]) if self.positioned else row[2]):
            below.setdefault(row[1], []).append(row)
        seen: list[str] = []

        def text(parent: Any) -> str:
            parts = []
            for pk, _, name, *_ in below.get(parent, ()):
                seen.append(name)
                inner = text(pk)
                parts.append(f"{name}({inner})" if inner else name)
            return " ".join(parts)

        found = text(None)
        lost = sorted(row[2] for row in rows if row[2] not in seen)
        return f"{found} LOST: {lost}" if lost else found


def _parse(outline: str) -> Iterator[tuple[str, str | None]]:
    path: list[str] = []
    last = ""
    for token in re.findall(r"\w+|[()]", outline):
        if token == "(":
            path.append(last)
        elif token == ")":
            path.pop()
        else:
            last = token
            yield token, path[-1] if path else None


_CLAIM = re.compile(r"UPDATE (\S+) SET (?:\w+=\1\.\w+, )*parent_id=\1\.parent_id WHERE")


def writes(log: StatementLog) -> list[str]:
    """Return the statements of a log that change rows.

    Not the UPDATE of no row that takes the write lock of SQLite, nor that by which PostgreSQL notices older snapshots.
    """
    changing = [text for text in log.starting("INSERT", "UPDATE", "DELETE") if not text.rstrip().endswith("0 = 1")]
    return [text for text in changing if text not in claims(log)]


def claims(log: StatementLog) -> list[str]:
    """Return the UPDATEs of a log that change nothing, for transactions whose snapshot is older; on PostgreSQL only."""
    return [text for text in log.starting("UPDATE") if _CLAIM.match(text)]


def unclaimed(log: StatementLog) -> int:
    """Return how many statements a log has beside a claim; a flush, or function, makes one at most for each tree."""
    found = len(claims(log))
    assert found <= 1, log.text
    return len(log) - found


def inserts_into(log: StatementLog, tree: Tree) -> list[str]:
    """Return the INSERTs of a log that make rows of nodes; not those of a table that an index keeps."""
    return [text for text in log.starting("INSERT") if f"{tree.table.name}_" not in text.split("(")[0]]


@contextmanager
def no_sql() -> Iterator[None]:
    """Assert that the block emits no statement."""
    with count_statements() as log:
        yield
    assert not log, f"emitted SQL:\n{log.text}"


def assert_in_step(session: Session, tree: Tree, *, after_rollback: bool = False, index_sound: bool = True) -> None:
    """Compare each object that the session holds with what a fresh session reads in the same transaction.

    The first session must not emit SQL for that: ``parent_id`` and ``position`` of an object that is not expired are
    there, and so is whatever else is loaded. A rollback may leave some of them expired.
    """
    assert not session.new
    assert not session.dirty
    session_objects = {
        inspect(node).identity[0]: node for node in session.identity_map.values() if isinstance(node, tree.cls)
    }
    if index_sound:
        assert_index_sound(session.connection(), tree.cls)
    with Session(session.connection(), join_transaction_mode="rollback_only") as fresh:
        statement = select(tree.cls).options(selectinload(tree.cls.children))
        truth = {tree.pk(node): node for node in fresh.scalars(statement.execution_options(populate_existing=True))}
        expected = {pk: _truth(tree, node) for pk, node in truth.items()}
    with no_sql():
        for pk, node in session_objects.items():
            assert pk in expected, f"{node.__dict__.get('name')} is in the session and not in the table"
            _compare(tree, node, session_objects, expected[pk], partly=after_rollback)


def _truth(tree: Tree, node: Any) -> dict[str, Any]:
    found = {"name": node.name, "parent_id": node.parent_id}
    if tree.positioned:
        found["position"] = node.position
    for name in INDEX_ATTRIBUTES:
        if hasattr(tree.cls, name):
            found[name] = getattr(node, name)
    if tree.keyed:
        found["children"] = {key: tree.pk(child) for key, child in node.children.items()}
    else:
        found["children"] = [tree.pk(child) for child in node.children]
    return found


def _compare(tree: Tree, node: Any, objects: dict[Any, Any], expected: dict[str, Any], *, partly: bool) -> None:
    values = node.__dict__
    if "name" not in values:
        return  # Expired as a whole.
    name = values["name"]
    kept = [name for name in INDEX_ATTRIBUTES if hasattr(tree.cls, name)]
    for column in ("name", "parent_id", *(["position"] if tree.positioned else []), *kept):
        if partly and column not in values:
            continue
        assert column in values, f"{column} of {name} is expired"
        assert values[column] == expected[column], f"{column} of {name}"
    if "parent" in values:
        parent = values["parent"]
        assert (None if parent is None else _identity(parent)) == expected["parent_id"], f"parent of {name}"
        assert parent is None or objects[expected["parent_id"]] is parent, f"parent of {name} is another object"
    if "children" in values:
        children = values["children"]
        if tree.keyed:
            assert {key: _identity(child) for key, child in children.items()} == expected["children"], (
                f"children of {name}"
            )
        else:
            assert [_identity(child) for child in children] == expected["children"], f"children of {name}"
        for child in children.values() if tree.keyed else children:
            assert objects[_identity(child)] is child, f"a child of {name} is another object"


def _identity(node: Any) -> Any:
    state = inspect(node)
    return state.identity[0] if state.identity else None
