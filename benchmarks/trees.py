"""Trees of 11,111 nodes: sqla_patterns.trees, plain SQLAlchemy and sqlalchemy_mptt.

A root and ten children each on four levels. "Plain" is a bare adjacency list: a class with the same columns, index and
foreign key, and an ordinary relationship. No timed part commits, and each result is checked against the table.

sqlalchemy_mptt has one round where it needs seconds, which makes minutes of the whole: ``--skip mptt`` leaves it out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from _harness import Benchmark, Contestant, benchmark, verify
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attribute_keyed_dict,
    mapped_column,
    relationship,
    sessionmaker,
)
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy_mptt import BaseNestedSets, mptt_sessionmaker

from sqla_patterns.trees import KeyedTreeNode, TreeNode, TreeOptions, delete_subtree, insert_tree, load_tree

WIDTH, LEVELS = 10, 4
NODES = sum(WIDTH**level for level in range(LEVELS + 1))
SUBTREE = sum(WIDTH**level for level in range(LEVELS))
ROOT, MOVED, TARGET = 1, 2, 3


class Base(DeclarativeBase):
    pass


class Ours(TreeNode, Base):
    __tablename__ = "ours"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Keyed(KeyedTreeNode, Base):
    __tablename__ = "keyed"
    __tree__ = TreeOptions(key="name")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Plain(Base):
    __tablename__ = "plain"
    __table_args__ = (Index("ix_plain", "parent_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("plain.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(server_default=text("0"))
    parent: Mapped[Plain | None] = relationship(back_populates="children", remote_side=id)
    children: Mapped[list[Plain]] = relationship(
        back_populates="parent", order_by=position, cascade="all, delete-orphan"
    )


class PlainKeyed(Base):
    __tablename__ = "plain_keyed"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("plain_keyed.id", ondelete="CASCADE"), index=True)
    parent: Mapped[PlainKeyed | None] = relationship(back_populates="children", remote_side=id)
    children: Mapped[dict[str, PlainKeyed]] = relationship(
        back_populates="parent", collection_class=attribute_keyed_dict("name"), cascade="all, delete-orphan"
    )


# sqlalchemy_mptt writes foreign keys with names of tables and has no annotations: a declarative class of the older
# style.
class Mptt(BaseNestedSets, Base):
    __tablename__ = "mptt"

    id = Column(Integer, primary_key=True)
    name = Column(String(50), nullable=False)


# -- the tree ------------------------------------------------------------------------------------


def shape() -> Iterator[tuple[int, int | None, int]]:
    """Yield ``(key, key of the parent, position)`` level by level: the root is 1, its children 2 to 11, and so on."""
    yield ROOT, None, 0
    for key in range(2, NODES + 1):
        yield key, (key - 2) // WIDTH + 1, (key - 2) % WIDTH


def first_child(key: int) -> int:
    return (key - 1) * WIDTH + 2


def depth_first() -> list[tuple[int, int | None, int]]:
    """Return the same, each node after its parent and before its next sibling: the best order for sqlalchemy_mptt."""
    level_order = list(shape())
    found: list[tuple[int, int | None, int]] = []
    stack = [ROOT]
    while stack:
        key = stack.pop()
        found.append(level_order[key - 1])
        first = first_child(key)
        stack.extend(child for child in reversed(range(first, first + WIDTH)) if child <= NODES)
    return found


def nested(key: int = ROOT) -> dict[str, object]:
    """Return the same tree as data for `insert_tree`."""
    first = first_child(key)
    children = [nested(child) for child in range(first, first + WIDTH) if child <= NODES]
    return {"name": f"n{key}", "children": children} if children else {"name": f"n{key}"}


def rows_of(cls: type[Any]) -> list[dict[str, Any]]:
    """Return rows with keys for a Core INSERT into the table of `cls`."""
    rows: list[dict[str, Any]] = [
        {"id": key, "name": f"n{key}", "parent_id": parent, "position": position} for key, parent, position in shape()
    ]
    if "position" not in cls.__table__.c:
        for row in rows:
            del row["position"]
    if cls is Mptt:
        number_nested_sets(rows)
    return rows


def number_nested_sets(rows: Sequence[dict[str, Any]]) -> None:
    below: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        below[row["parent_id"]].append(row)
    counter = 0
    stack = [(rows[0], 1, False)]
    while stack:
        row, level, seen = stack.pop()
        counter += 1
        if seen:
            row["rgt"] = counter
            continue
        row.update(lft=counter, level=level, tree_id=1)
        stack.append((row, level, True))
        stack.extend((child, level + 1, False) for child in reversed(below[row["id"]]))


def fresh(engine: Engine, cls: type[Any], *, filled: bool = False) -> None:
    """Empty the table of `cls` by making it again; fill it with the tree if asked to."""
    table: Table = cls.__table__
    # An index may keep a table of its own, which refers to this one.
    referring = {
        fk.parent.table for each in Base.metadata.tables.values() for fk in each.foreign_keys if fk.references(table)
    }
    tables = list({table, *referring})
    Base.metadata.drop_all(engine, tables=tables)
    Base.metadata.create_all(engine, tables=tables)
    if not filled:
        return
    with engine.begin() as connection:
        connection.execute(insert(table), rows_of(cls))
        if engine.dialect.name == "postgresql":
            # Or autovacuum does it in the middle of a race.
            sequence = func.pg_get_serial_sequence(table.name, "id")
            connection.execute(select(func.setval(sequence, NODES)))
            connection.execute(text(f"ANALYZE {table.name}"))


def session_for(engine: Engine, cls: type[Any]) -> Session:
    factory = sessionmaker(engine)
    if cls is Mptt:
        mptt_sessionmaker(factory)
    return factory()


def verify_tree_in_table(session: Session, cls: type[Any]) -> None:
    """Check that the table holds the tree, whatever its keys: each path of names is what the shape says."""
    table = cls.__table__
    found = {
        key: (name, parent)
        for key, name, parent in session.execute(select(table.c.id, table.c.name, table.c.parent_id))
    }
    verify(len(found) == NODES, f"{len(found)} rows in {table.name}")
    names = {name: None if parent is None else found[parent][0] for name, parent in found.values()}
    wanted = {f"n{key}": None if parent is None else f"n{parent}" for key, parent, _ in shape()}
    verify(names == wanted, f"parents in {table.name}")
    if "position" in table.c:
        order = {row.name: row.position for row in session.execute(select(table.c.name, table.c.position))}
        verify(order == {f"n{key}": position for key, _, position in shape()}, f"positions in {table.name}")
    if cls is Mptt:
        verify_nested_sets(session)


def verify_nested_sets(session: Session) -> None:
    table = Mptt.__table__
    bounds = [tuple(row) for row in session.connection().execute(select(table.c.lft, table.c.rgt))]
    verify(sorted(number for pair in bounds for number in pair) == list(range(1, 2 * NODES + 1)), "lft and rgt")


def keys_below(session: Session, cls: type[Any], key: int) -> set[int]:
    """Keys of what the table says lies below `key`, itself included."""
    table = cls.__table__
    down = select(table.c.id).where(table.c.id == key).cte(recursive=True)
    down = down.union_all(select(table.c.id).join(down, table.c.parent_id == down.c.id))
    return set(session.connection().scalars(select(down.c.id)))


# -- load and walk -------------------------------------------------------------------------------


def walk_list(top: Any) -> tuple[int, int]:
    """Count the nodes, and how many of them say their parent right."""
    count = right = 0
    stack = [(top, None)]
    while stack:
        node, parent = stack.pop()
        count += 1
        right += node.parent is parent
        stack.extend((child, node) for child in node.children)
    return count, right


def walk_map(top: Any) -> tuple[int, int]:
    count = right = 0
    stack = [(top, None)]
    while stack:
        node, parent = stack.pop()
        count += 1
        right += node.parent is parent
        stack.extend((child, node) for child in node.children.values())
    return count, right


def loads(cls: type[Any], load: Callable[[Session], Any], walk: Callable[[Any], tuple[int, int]]) -> Any:
    def start(engine: Engine) -> Contestant[tuple[int, int]]:
        with Session(engine) as session:
            session.connection()
            # The root is returned too: objects that nobody refers to would be collected inside the timed part.
            count, right = yield lambda: walk(load(session))
            verify((count, right) == (NODES, NODES), f"{cls.__name__} walked {count} nodes, {right} right parents")

    return start


def linked_by_hand(cls: type[Any], *order: Any) -> Callable[[Session], Any]:
    """Do the least that a plain ORM load with links needs: one pass, one `set_committed_value` for each link."""
    statement = select(cls).order_by(*order)

    def load(session: Session) -> Any:
        nodes = session.scalars(statement).all()
        below: dict[Any, list[Any]] = defaultdict(list)
        by_key: dict[Any, Any] = {}
        for node in nodes:
            by_key[node.id] = node
            below[node.parent_id].append(node)
        for node in nodes:
            set_committed_value(node, "parent", by_key.get(node.parent_id))
            set_committed_value(node, "children", below.get(node.id, []))
        return below[None][0]

    return load


def bare_load(engine: Engine) -> Contestant[int]:
    with Session(engine) as session:
        session.connection()
        found = yield lambda: len(session.scalars(select(Plain).order_by(Plain.position, Plain.id)).all())
        verify(found == NODES, f"{found} nodes loaded")


def mptt_loads(session: Session) -> Any:
    nodes = Mptt._base_order(session.query(Mptt)).all()
    # Kept, for the identity map to know them while the walk loads their children.
    session.info["nodes"] = nodes
    return nodes[0]


def mptt_dicts(engine: Engine) -> Contestant[int]:
    """Read what get_tree offers without further SQL: dictionaries around the nodes, without parents."""

    def load_and_walk() -> int:
        stack = list(Mptt.get_tree(session))
        count = 0
        while stack:
            entry = stack.pop()
            count += 1
            stack.extend(entry.get("children", ()))
        return count

    with Session(engine) as session:
        session.connection()
        count = yield load_and_walk
        verify(count == NODES, f"{count} nodes in get_tree")


def load_races(bench: Benchmark) -> None:
    by_hand = "plain, linked by hand"
    race = bench.race(
        f"Load {NODES:,} nodes with links, walk every node's children and parent",
        {
            by_hand: loads(Plain, linked_by_hand(Plain, Plain.position, Plain.id), walk_list),
            "plain, neither linked nor walked": bare_load,
            "TreeNode, load_tree": loads(Ours, lambda session: load_tree(session, Ours)[0], walk_list),
            "sqlalchemy_mptt, get_tree: dicts, no parent": mptt_dicts,
            "sqlalchemy_mptt, all() and .children": loads(Mptt, mptt_loads, walk_list),
        },
        once=["sqlalchemy_mptt, all() and .children"],
    )
    race.at_most("TreeNode, load_tree", ratio=1.3, statements=1)
    race = bench.race(
        "The same with children in a dictionary",
        {
            by_hand: loads(PlainKeyed, linked_by_hand(PlainKeyed, PlainKeyed.name, PlainKeyed.id), walk_map),
            "KeyedTreeNode, load_tree": loads(Keyed, lambda session: load_tree(session, Keyed)[0], walk_map),
        },
    )
    race.at_most("KeyedTreeNode, load_tree", ratio=1.3, statements=1)


# -- insert --------------------------------------------------------------------------------------


def adds(cls: type[Any]) -> Any:
    """Build the tree with ``parent=``, add it and flush once."""
    positioned = cls is Plain

    def build(key: int, parent: int | None, position: int, nodes: dict[int, Any]) -> Any:
        values = {"position": position} if positioned else {}
        return cls(name=f"n{key}", parent=None if parent is None else nodes[parent], **values)

    return flushes(cls, build)


def build_mptt(key: int, parent: int | None, position: int, nodes: dict[int, Any]) -> Any:
    """Return a node with its keys given, so that the flush keeps to the order in which nodes were added.

    With ``parent=`` it would insert level by level, which takes this peer minutes on PostgreSQL.
    """
    return Mptt(id=key, name=f"n{key}", parent_id=parent)


def flushes(cls: type[Any], build: Callable[[int, int | None, int, dict[int, Any]], Any]) -> Any:
    order = depth_first()

    def build_and_flush(session: Session) -> dict[int, Any]:
        nodes: dict[int, Any] = {}
        for key, parent, position in order:
            nodes[key] = build(key, parent, position, nodes)
        session.add_all(nodes.values())
        session.flush()
        return nodes

    def start(engine: Engine) -> Contestant[dict[int, Any]]:
        fresh(engine, cls)
        with session_for(engine, cls) as session:
            session.connection()
            yield lambda: build_and_flush(session)
            session.commit()
            verify_tree_in_table(session, cls)

    return start


def inserts_nested(engine: Engine) -> Contestant[Any]:
    fresh(engine, Ours)
    data = nested()
    with Session(engine) as session:
        session.connection()
        tops = yield lambda: insert_tree(session, Ours, data)
        session.commit()
        verify([top.name for top in tops] == ["n1"], "insert_tree returns the root")
        verify_tree_in_table(session, Ours)


def inserts_rows(engine: Engine) -> Contestant[Any]:
    fresh(engine, Plain)
    with Session(engine) as session:
        connection = session.connection()
        yield lambda: connection.execute(insert(Plain.__table__), rows_of(Plain))
        session.commit()
        verify_tree_in_table(session, Plain)


def insert_races(bench: Benchmark) -> None:
    plain, mptt = "plain, session.add", "sqlalchemy_mptt, session.add, parent_id="
    race = bench.race(
        f"Build {NODES:,} new nodes with parent=, add and flush them once",
        {
            plain: adds(Plain),
            "TreeNode, session.add": adds(Ours),
            "KeyedTreeNode, session.add": adds(Keyed),
            mptt: flushes(Mptt, build_mptt),
        },
        once=[mptt],
    )
    batched = max(race.statements[plain]) + 4
    for name in ("TreeNode, session.add", "KeyedTreeNode, session.add"):
        race.at_most(name, ratio=1.5, statements=batched)
    bench.race(
        f"Insert {NODES:,} nodes in bulk",
        {"plain, Core INSERT of rows with keys": inserts_rows, "TreeNode, insert_tree of nested data": inserts_nested},
    )


# -- delete --------------------------------------------------------------------------------------


def deletes(cls: type[Any], remove: Callable[[Session, Any], Any], *, key: int = MOVED, size: int = SUBTREE) -> Any:
    """Delete the subtree of a loaded node; what lies below is not loaded."""

    def start(engine: Engine) -> Contestant[Any]:
        with session_for(engine, cls) as session:
            node = session.get_one(cls, key)
            yield lambda: remove(session, node)
            left = session.connection().scalar(select(func.count()).select_from(cls.__table__))
            verify(left == NODES - size, f"{left} rows of {cls.__name__} left")
            verify(not keys_below(session, cls, key), "the node is gone")
            session.rollback()

    return start


def through_the_session(session: Session, node: Any) -> None:
    session.delete(node)
    session.flush()


def core_delete(session: Session, node: Any) -> None:
    """Do the least: one statement, though the session does not learn of it."""
    table: Any = type(node).__table__
    # Nested: sqlite3 opens a transaction before DELETE only where the statement begins with that word.
    down = select(table.c.id).where(table.c.id == MOVED).cte(recursive=True, nesting=True)
    down = down.union_all(select(table.c.id).join(down, table.c.parent_id == down.c.id))
    session.connection().execute(delete(table).where(table.c.id.in_(select(down.c.id))))


def delete_race(bench: Benchmark) -> None:
    mptt, peer = "sqlalchemy_mptt, session.delete", deletes(Mptt, through_the_session)
    if bench.engine.dialect.name != "sqlite":
        # Its four UPDATEs a node leave so many dead rows behind that PostgreSQL needs minutes for the whole of it.
        size = SUBTREE // WIDTH
        mptt = f"sqlalchemy_mptt, session.delete, {size} nodes"
        peer = deletes(Mptt, through_the_session, key=first_child(MOVED), size=size)
    race = bench.race(
        f"Delete a subtree of {SUBTREE:,} nodes",
        {
            "plain, Core DELETE by a recursive CTE": deletes(Plain, core_delete),
            "plain, session.delete with cascade": deletes(Plain, through_the_session),
            "TreeNode, session.delete": deletes(Ours, through_the_session),
            "TreeNode, delete_subtree": deletes(Ours, delete_subtree),
            "KeyedTreeNode, session.delete": deletes(Keyed, through_the_session),
            mptt: peer,
        },
        once=[mptt],
    )
    for name in ("TreeNode, session.delete", "TreeNode, delete_subtree", "KeyedTreeNode, session.delete"):
        race.at_most(name, statements=3)


# -- move ----------------------------------------------------------------------------------------


def moves(cls: type[Any], load: Callable[[Session], Any] | None) -> Any:
    """Give a node another parent while the whole tree is loaded, or nothing but the two nodes where `load` is None."""

    def move(session: Session, node: Any, target: Any) -> None:
        node.parent = target
        session.flush()

    def start(engine: Engine) -> Contestant[None]:
        with session_for(engine, cls) as session:
            kept = [] if load is None else [load(session), session.scalars(select(cls)).all()]
            node, target, root = (session.get_one(cls, key) for key in (MOVED, TARGET, ROOT))
            yield lambda: move(session, node, target)
            verify(load is None or len(kept[1]) == NODES, "everything is loaded")
            verify(len(keys_below(session, cls, TARGET)) == 2 * SUBTREE, f"rows below the target of {cls.__name__}")
            verify(node.parent is target and node.parent_id == TARGET, "the node knows its parent")
            if cls is Ours:
                verify(node in target.children and node not in root.children, "loaded collections")
                verify([child.position for child in target.children] == list(range(WIDTH + 1)), "positions")
            if cls is Mptt:
                verify_nested_sets(session)
            session.rollback()

    return start


def move_race(bench: Benchmark) -> None:
    mptt = "sqlalchemy_mptt, after all()"
    bench.race(
        f"Move a subtree of {SUBTREE:,} nodes by node.parent = other, everything loaded",
        {
            "plain, linked by hand": moves(Plain, linked_by_hand(Plain, Plain.position, Plain.id)),
            "TreeNode, after load_tree": moves(Ours, lambda session: load_tree(session, Ours)),
            "KeyedTreeNode, after load_tree": moves(Keyed, lambda session: load_tree(session, Keyed)),
            mptt: moves(Mptt, mptt_loads),
            "sqlalchemy_mptt, nothing else loaded": moves(Mptt, None),
        },
        once=[mptt],
    )


# -- descendants ---------------------------------------------------------------------------------


def descendants(cls: type[Any], criteria: Callable[[Any], Any]) -> Any:
    def start(engine: Engine) -> Contestant[Sequence[Any]]:
        with Session(engine) as session:
            node = session.get_one(cls, MOVED)
            found = yield lambda: session.scalars(select(cls).where(criteria(node))).all()
            verify({inspect(each).identity[0] for each in found} == keys_below(session, cls, MOVED) - {MOVED}, "keys")
            verify(len(found) == SUBTREE - 1, f"{len(found)} descendants")

    return start


def plain_descendants(node: Plain) -> Any:
    down = select(Plain.id).where(Plain.parent_id == node.id).cte(recursive=True)
    down = down.union_all(select(Plain.id).join(down, Plain.parent_id == down.c.id))
    return Plain.id.in_(select(down.c.id))


def descendants_race(bench: Benchmark) -> None:
    bench.race(
        f"Select the descendants in a subtree of {SUBTREE:,} nodes",
        {
            "plain, a recursive CTE by hand": descendants(Plain, plain_descendants),
            "TreeNode.descendant_of": descendants(Ours, Ours.descendant_of),
            "sqlalchemy_mptt, is_ancestor_of": descendants(Mptt, lambda node: node.is_ancestor_of(Mptt)),
        },
    )


def main(argv: Sequence[str] | None = None) -> None:
    with benchmark(__doc__, argv, peers=["sqlalchemy_mptt"]) as bench:
        insert_races(bench)
        for cls in (Ours, Keyed, Plain, PlainKeyed, Mptt):
            fresh(bench.engine, cls, filled=True)
        load_races(bench)
        delete_race(bench)
        move_race(bench)
        descendants_race(bench)
        Base.metadata.drop_all(bench.engine)


if __name__ == "__main__":
    main(sys.argv[1:])
