"""What an index of a tree costs and gives: `TreeNode` bare and with each index, and sqlalchemy_mptt, on 11,111 nodes.

The tree of `trees.py`: a root and ten children each on four levels. "none" is the bare `TreeNode`, whose predicates are
recursive queries. No timed part commits, and each result is checked against the links in the table and by
`verify_tree`.

sqlalchemy_mptt has one round where it needs seconds: ``--skip mptt`` leaves it out. `LtreePath` runs on PostgreSQL, and
needs the extension ltree, which the script creates.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from _harness import Benchmark, Contestant, benchmark, verify
from sqlalchemy import Engine, String, func, insert, select, text
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column
from trees import (
    MOVED,
    NODES,
    ROOT,
    SUBTREE,
    TARGET,
    WIDTH,
    Base,
    Mptt,
    Ours,
    build_mptt,
    first_child,
    flushes,
    fresh,
    keys_below,
    mptt_loads,
    nested,
    rows_of,
    session_for,
    verify_nested_sets,
    verify_tree_in_table,
)

from sqla_patterns.trees import (
    ClosureTable,
    LtreePath,
    MaterializedPath,
    NestedSets,
    TreeNode,
    delete_subtree,
    insert_tree,
    load_tree,
    rebuild_tree,
    verify_tree,
)


class Nested(NestedSets, TreeNode, Base):
    __tablename__ = "nested"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Pathed(MaterializedPath, TreeNode, Base):
    __tablename__ = "pathed"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Closed(ClosureTable, TreeNode, Base):
    __tablename__ = "closed"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Labelled(LtreePath, TreeNode, Base):
    __tablename__ = "labelled"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


INDEXED: dict[str, type[Any]] = {
    "none": Ours,
    "NestedSets": Nested,
    "MaterializedPath": Pathed,
    "ClosureTable": Closed,
    "LtreePath": Labelled,
}
PEER = "sqlalchemy_mptt"


def classes(engine: Engine) -> dict[str, type[Any]]:
    return {name: cls for name, cls in INDEXED.items() if cls is not Labelled or engine.dialect.name == "postgresql"}


def fill(engine: Engine, cls: type[Any]) -> None:
    """Insert the tree with the keys of `trees.shape`, and its index."""
    if cls is Mptt:
        fresh(engine, cls, filled=True)
        return
    fresh(engine, cls)
    with Session(engine) as session:
        session.execute(insert(cls.__table__), rows_of(Ours))
        rebuild_tree(session, cls)
        if engine.dialect.name == "postgresql":
            sequence = func.pg_get_serial_sequence(cls.__tablename__, "id")
            session.execute(select(func.setval(sequence, NODES)))
        session.commit()
        if engine.dialect.name == "postgresql":
            session.execute(text("ANALYZE"))
            session.commit()


def sound(session: Session, cls: type[Any]) -> None:
    if cls is Mptt:
        verify_nested_sets(session)
    else:
        verify(not verify_tree(session, cls), f"verify_tree of {cls.__name__}")


# -- writing -------------------------------------------------------------------------------------


def adds(cls: type[Any]) -> Any:
    def build(key: int, parent: int | None, position: int, nodes: dict[int, Any]) -> Any:
        return cls(name=f"n{key}", parent=None if parent is None else nodes[parent])

    return flushes(cls, build)


def inserts_nested(cls: type[Any]) -> Any:
    def start(engine: Engine) -> Contestant[Any]:
        fresh(engine, cls)
        data = nested()
        with Session(engine) as session:
            session.connection()
            yield lambda: insert_tree(session, cls, data)
            session.commit()
            verify_tree_in_table(session, cls)
            sound(session, cls)

    return start


def appends(cls: type[Any]) -> Any:
    """Append a leaf below the first of the third level, everything loaded: all but a few nodes come after it."""

    def append(session: Session, parent: Any) -> None:
        session.add(cls(name="new", parent=parent) if cls is not Mptt else cls(name="new", parent_id=parent.id))
        session.flush()

    def start(engine: Engine) -> Contestant[None]:
        with session_for(engine, cls) as session:
            kept = [load_all(session, cls), session.scalars(select(cls)).all()]
            parent = session.get_one(cls, first_child(first_child(ROOT)))
            yield lambda: append(session, parent)
            verify(len(kept[1]) == NODES, "everything is loaded")
            if cls is not Mptt:
                sound(session, cls)
            session.rollback()

    return start


def moves(cls: type[Any]) -> Any:
    def move(session: Session, node: Any, target: Any) -> None:
        node.parent = target
        session.flush()

    def start(engine: Engine) -> Contestant[None]:
        with session_for(engine, cls) as session:
            kept = [load_all(session, cls), session.scalars(select(cls)).all()]
            node, target = session.get_one(cls, MOVED), session.get_one(cls, TARGET)
            yield lambda: move(session, node, target)
            verify(len(kept[1]) == NODES, "everything is loaded")
            verify(len(keys_below(session, cls, TARGET)) == 2 * SUBTREE, f"rows below the target of {cls.__name__}")
            sound(session, cls)
            session.rollback()

    return start


def deletes(cls: type[Any]) -> Any:
    def start(engine: Engine) -> Contestant[Any]:
        with session_for(engine, cls) as session:
            node = session.get_one(cls, MOVED)
            yield lambda: delete_subtree(session, node)
            left = session.connection().scalar(select(func.count()).select_from(cls.__table__))
            verify(left == NODES - SUBTREE, f"{left} rows of {cls.__name__} left")
            session.rollback()

    return start


def load_all(session: Session, cls: type[Any]) -> Any:
    return mptt_loads(session) if cls is Mptt else load_tree(session, cls)


def write_races(bench: Benchmark) -> None:
    ours = classes(bench.engine)
    race = bench.race(
        f"Build {NODES:,} new nodes with parent=, add and flush them once",
        {**{name: adds(cls) for name, cls in ours.items()}, PEER: flushes(Mptt, build_mptt)},
        once=[PEER],
    )
    batches = max(race.statements["none"]) + 10
    race.at_most("NestedSets", statements=batches)
    # On SQLite, where the ORM inserts row by row, most of the time of either is the INSERTs.
    if PEER in race.statements and bench.engine.dialect.name == "postgresql":
        bench.judge(race.ratio(PEER, of="NestedSets") >= 20, "NestedSets: 20 times as fast as sqlalchemy_mptt")
    bench.race(f"insert_tree of {NODES:,} nodes", {name: inserts_nested(cls) for name, cls in ours.items()})
    for cls in (*ours.values(), Mptt):
        fill(bench.engine, cls)
    bench.race(
        "One leaf more, near the left edge, everything loaded",
        {**{name: appends(cls) for name, cls in ours.items()}, PEER: appends(Mptt)},
        once=[PEER],
    )
    race = bench.race(
        f"Move a subtree of {SUBTREE:,} nodes by node.parent = other, everything loaded and brought into step",
        {**{name: moves(cls) for name, cls in ours.items()}, PEER: moves(Mptt)},
        once=[PEER],
    )
    # SQLite has one statement more, an UPDATE of no row, which takes the write lock.
    race.at_most("NestedSets", statements=4 + (bench.engine.dialect.name == "sqlite"))
    bench.race(f"delete_subtree of {SUBTREE:,} nodes", {name: deletes(cls) for name, cls in ours.items()})


# -- reading -------------------------------------------------------------------------------------


def reads(cls: type[Any], criteria: Callable[[Any], Any], key: int, expected: int) -> Any:
    """Read keys only, of which the loading of objects, the same for all, does not cover the difference."""

    def start(engine: Engine) -> Contestant[Sequence[Any]]:
        with Session(engine) as session:
            node = session.get_one(cls, key)
            statement = select(cls.id).where(criteria(node))
            found = yield lambda: session.scalars(statement).all()
            verify(len(found) == expected, f"{len(found)} of {expected} rows of {cls.__name__}")

    return start


def read_races(bench: Benchmark) -> None:
    ours = classes(bench.engine)
    # Fresh tables: what was rolled back is still in the old ones on PostgreSQL, most of it where most was written.
    for cls in (*ours.values(), Mptt):
        fill(bench.engine, cls)
    leaf = NODES
    small = first_child(first_child(MOVED))
    bench.race(
        f"Keys below a node: {SUBTREE - 1:,}",
        {
            **{name: reads(cls, cls.descendant_of, MOVED, SUBTREE - 1) for name, cls in ours.items()},
            PEER: reads(Mptt, lambda node: node.is_ancestor_of(Mptt), MOVED, SUBTREE - 1),
        },
    )
    bench.race(
        f"Keys below a node: {WIDTH}",
        {
            **{name: reads(cls, cls.descendant_of, small, WIDTH) for name, cls in ours.items()},
            PEER: reads(Mptt, lambda node: node.is_ancestor_of(Mptt), small, WIDTH),
        },
    )
    bench.race(
        "Keys above a leaf: 4",
        {
            **{name: reads(cls, cls.ancestor_of, leaf, 4) for name, cls in ours.items()},
            PEER: reads(Mptt, lambda node: node.is_descendant_of(Mptt), leaf, 4),
        },
    )
    bench.race(
        "How many nodes lie below each of the second level, in one query",
        {name: rolls_up(cls) for name, cls in ours.items()},
    )


def rolls_up(cls: type[Any]) -> Any:

    def start(engine: Engine) -> Contestant[Any]:
        with Session(engine) as session:
            top = aliased(cls)
            statement = (
                select(top.id, func.count())
                .join(cls, cls.descendant_of(top))
                .where(top.child_of(ROOT))
                .group_by(top.id)
            )
            found = yield lambda: session.execute(statement).all()
            verify([count for _, count in found] == [SUBTREE - 1] * WIDTH, "counts")

    return start


def main(argv: Sequence[str] | None = None) -> None:
    with benchmark(__doc__, argv, peers=["sqlalchemy_mptt"]) as bench:
        if bench.engine.dialect.name == "postgresql":
            with bench.engine.begin() as connection:
                connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS ltree")
        write_races(bench)
        read_races(bench)


if __name__ == "__main__":
    main(sys.argv[1:])
