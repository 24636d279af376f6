"""`ClosureTable`: a second table with one row for each pair of a node and a node above it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    BLANK_SCHEMA,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Insert,
    Integer,
    PrimaryKeyConstraint,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import Mapper, Session

from .._declarative import mixin_attr
from .._locks import allow_deep_recursion, locking_read
from ..exceptions import MappingError
from ._data import Entry
from ._errors import InvalidMoveError, TreeProblem
from ._index import Change, Placement, Row, TreeIndex, ancestors_cte, needs_tree
from ._path_locks import chunks
from ._plan import Link, Plan

__all__ = ("ClosureTable",)

_MARK = "sqla_patterns.trees.closure"
# A foreign key between tables of InnoDB wants both in one engine, and text keys in one collation.
_TABLE_OPTIONS = ("engine", "charset", "default_charset", "collate", "default_collate")


class ClosureIndex(TreeIndex):
    """Reads follow the closure; ``parent_id`` is what it is derived from, in the database."""

    # -- mapping ---------------------------------------------------------------------------------

    @classmethod
    def complete_table(cls, mapper: Mapper[Any], table: Table, pk: Column[Any]) -> None:
        found = table.metadata.tables.get(_name(table, qualified=True))
        if found is not None:
            if _MARK in found.info:
                return  # The table is mapped a second time.
            raise MappingError(
                f"ClosureTable on {mapper.class_.__name__!r} needs the name {found.fullname!r} for a table of its own, "
                "and the MetaData has a table of that name already: rename that one, or the table of the class"
            )
        # Ordered by descendant, the rows of a new node come in one place, behind those of the others.
        closure = Table(
            _name(table),
            table.metadata,
            Column("ancestor_id", pk.type, ForeignKey(pk, ondelete="CASCADE"), nullable=False, autoincrement=False),
            Column("descendant_id", pk.type, ForeignKey(pk, ondelete="CASCADE"), nullable=False, autoincrement=False),
            Column("depth", Integer(), nullable=False),
            PrimaryKeyConstraint("descendant_id", "ancestor_id"),
            schema=BLANK_SCHEMA if table.schema is None else table.schema,
            info={_MARK: table.fullname},
            sqlite_with_rowid=False,
            **_table_options(table),
        )
        Index(None, closure.c.ancestor_id, closure.c.depth, closure.c.descendant_id)

    @cached_property
    def closure(self) -> Table:
        table = self.config.table
        return table.metadata.tables[_name(table, qualified=True)]

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Any, keys: Sequence[Any], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        if max_depth == 0 and not inclusive:
            return false()
        links = self.closure.alias()
        found = select(links.c.descendant_id).where(
            links.c.ancestor_id.in_(keys), *_depths(links, inclusive, max_depth)
        )
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(found))

    def ancestors(self, entity: Any, keys: Sequence[Any], *, inclusive: bool) -> ColumnElement[bool]:
        links = self.closure.alias()
        found = select(links.c.ancestor_id).where(links.c.descendant_id.in_(keys), *_depths(links, inclusive, None))
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(found))

    def related(
        self, ancestor: Any, descendant: Any, *, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        links = self.closure.alias()
        found = select(links.c.ancestor_id, links.c.descendant_id).where(*_depths(links, inclusive, max_depth))
        return tuple_(self.pk_of(ancestor), self.pk_of(descendant)).in_(found)

    def within(self, entity: Any, max_depth: int) -> ColumnElement[bool]:
        links, roots = self.closure.alias(), self.config.table.alias()
        found = (
            select(links.c.descendant_id)
            .join(roots, roots.c[self.config.pk.key] == links.c.ancestor_id)
            .where(roots.c[self.config.parent_id.key].is_(None), links.c.depth <= max_depth)
        )
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(found))

    # -- writing ---------------------------------------------------------------------------------

    def change(self, plan: Plan) -> Change | None:
        new = [link.node for link in plan.links if link.new]
        moved = [link.pk for link in plan.links if link.moved and not _stays(plan, link)]
        return _ClosureChange(self, plan, new, moved) if new or moved else None

    def place(
        self,
        session: Session,
        connection: Connection,
        parent_pk: Any,
        kept: Mapping[str, Any],
        entries: Sequence[Entry],
    ) -> Placement:
        if parent_pk is not None:
            above = ancestors_cte(self.config, [parent_pk])
            if not connection.scalar(select(func.count()).select_from(above).where(above.c.parent_id.is_(None))):
                raise InvalidMoveError(
                    f"nothing can go below <{self.config.name} {parent_pk!r}>, whose parents run in a circle or lead nowhere: "
                    "verify_tree() names them"
                )
        return _ClosurePlacement(self, connection, entries)

    def forget(self, connection: Connection, keys: Collection[Any]) -> None:
        if connection.dialect.name != "sqlite":
            return  # Its foreign keys cascade; those of SQLite do where somebody has switched them on.
        links = self.closure
        for batch in chunks(keys):
            named = or_(links.c.descendant_id.in_(batch), links.c.ancestor_id.in_(batch))
            connection.execute(delete(links).where(named))

    def cut(self, connection: Connection, tops: Sequence[Any]) -> None:
        """Delete the pairs whose path leads through the link above one of `tops`, in the tree as the closure has it."""
        links, up, down = self.closure, self.closure.alias(), self.closure.alias()
        for batch in chunks(tops):
            crossing = and_(up.c.descendant_id.in_(batch), up.c.depth > 0, down.c.ancestor_id == up.c.descendant_id)
            if connection.dialect.name == "sqlite":
                pairs = select(up.c.ancestor_id, down.c.descendant_id).where(crossing)
                statement = delete(links).where(tuple_(links.c.ancestor_id, links.c.descendant_id).in_(pairs))
            else:
                # A join, which MariaDB and MySQL allow where they refuse a subquery of the table that loses the rows.
                statement = delete(links).where(
                    crossing,
                    links.c.ancestor_id == up.c.ancestor_id,
                    links.c.descendant_id == down.c.descendant_id,
                )
            connection.execute(statement)

    def join(self, connection: Connection, tops: Sequence[Any]) -> None:
        """Insert the pairs whose path leads through the link above one of `tops`, which are cut off.

        A pair of which several of these links lie between belongs to the lowest of them: what lies above that one is read from
        ``parent_id``, what lies below from the closure, where it ends at the next cut. So the order of `tops` does not matter.
        """
        batches = list(chunks(tops))
        for batch in batches:
            below = self.closure.alias()
            up = self._climb(batch)
            pairs = (
                select(up.c.ancestor, below.c.descendant_id, up.c.depth + below.c.depth)
                .join(below, below.c.ancestor_id == up.c.node)
                .where(up.c.depth > 0)
            )
            if len(batches) > 1:
                # What an earlier batch has inserted leads beyond the next cut, to pairs that are there.
                there = self.closure.alias()
                pairs = pairs.where(
                    ~exists().where(
                        there.c.ancestor_id == up.c.ancestor, there.c.descendant_id == below.c.descendant_id
                    )
                )
            connection.execute(self._insert(pairs))

    def link(self, connection: Connection, keys: Sequence[Any]) -> None:
        """Insert the pairs of new nodes with themselves and with all that lies above them."""
        for batch in chunks(keys):
            up = self._climb(batch)
            connection.execute(self._insert(select(up.c.ancestor, up.c.node, up.c.depth)))

    def _insert(self, pairs: Any) -> Insert:
        return insert(self.closure).from_select(["ancestor_id", "descendant_id", "depth"], pairs)

    def _climb(self, keys: Sequence[Any]) -> Any:
        """``(node, ancestor, depth)`` of `keys` by ``parent_id``, each with itself. The caller knows that there is no circle."""
        pk, parent_id = self.config.pk, self.config.parent_id
        start = select(
            pk.label("node"), pk.label("ancestor"), parent_id.label("above"), literal(0, Integer).label("depth")
        )
        up = start.where(pk.in_(keys)).cte(recursive=True)
        return up.union_all(select(up.c.node, pk, parent_id, up.c.depth + 1).join(up, pk == up.c.above))

    # -- integrity -------------------------------------------------------------------------------

    def problems(self, connection: Connection, rows: Sequence[Row]) -> Iterator[TreeProblem]:
        name = self.config.name
        stored = self._stored(connection, lock=False)
        for descendant, ancestor, depth, wanted in _differences(stored, rows):
            pair = (
                f"that <{name} {descendant!r}> lies {depth if wanted is None else wanted} below <{name} {ancestor!r}>"
            )
            if depth is None:
                yield TreeProblem("missing_link", descendant, f"the closure does not have {pair}")
            elif wanted is None:
                yield TreeProblem("extra_link", descendant, f"the closure has {pair}, and it does not")
            else:
                yield TreeProblem("wrong_depth", descendant, f"the closure has {depth} where it should have {pair}")

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[Row]) -> set[Any]:
        links = self.closure
        changed: set[Any] = set()
        gone: list[dict[str, Any]] = []
        new: list[dict[str, Any]] = []
        for descendant, ancestor, depth, wanted in _differences(self._stored(connection, lock=True), rows):
            changed.add(descendant)
            if depth is not None:
                gone.append({"_ancestor": ancestor, "_descendant": descendant})
            if wanted is not None:
                new.append({"ancestor_id": ancestor, "descendant_id": descendant, "depth": wanted})
        if gone:
            pair = and_(
                links.c.ancestor_id == bindparam("_ancestor"), links.c.descendant_id == bindparam("_descendant")
            )
            connection.execute(delete(links).where(pair), gone)
        if new:
            connection.execute(insert(links), new)
        return changed

    def _stored(self, connection: Connection, *, lock: bool) -> dict[Any, dict[Any, int]]:
        """``{descendant: {ancestor: depth}}``."""
        links = self.closure
        statement = select(links.c.descendant_id, links.c.ancestor_id, links.c.depth)
        stored: dict[Any, dict[Any, int]] = defaultdict(dict)
        for descendant, ancestor, depth in connection.execute(
            locking_read(connection, statement) if lock else statement
        ):
            stored[descendant][ancestor] = depth
        return stored


class _ClosureChange(Change):
    """All is done when the rows of new nodes, and ``parent_id`` of moved ones, are in the table: two statements for moves, one for
    new nodes.
    """

    def __init__(self, index: ClosureIndex, plan: Plan, new: Sequence[Any], moved: Sequence[Any]) -> None:
        self.index, self.plan, self.new, self.moved = index, plan, new, moved

    def finish(self) -> None:
        index, connection, pk_attr = self.index, self.plan.connection, self.index.config.pk_attr
        allow_deep_recursion(connection)
        new = [key for node in self.new if (key := node.__dict__.get(pk_attr)) is not None]
        index.cut(connection, self.moved)
        index.join(connection, self.moved)
        index.link(connection, new)


class _ClosurePlacement(Placement):
    def __init__(self, index: ClosureIndex, connection: Connection, entries: Sequence[Entry]) -> None:
        self.index, self.connection, self.entries = index, connection, entries

    def finish(self) -> None:
        self.index.link(self.connection, [entry.pk for entry in self.entries])


def _name(table: Table, *, qualified: bool = False) -> str:
    return f"{table.fullname if qualified else table.name}_closure"


def _table_options(table: Table) -> dict[str, Any]:
    options = cast("Mapping[str, Any]", table.dialect_kwargs)
    return {
        name: value
        for name, value in options.items()
        if name.partition("_")[0] in ("mysql", "mariadb") and name.partition("_")[2] in _TABLE_OPTIONS
    }


def _depths(links: Any, inclusive: bool, max_depth: int | None) -> list[ColumnElement[bool]]:
    criteria: list[ColumnElement[bool]] = [] if inclusive else [links.c.depth > 0]
    return criteria if max_depth is None else [*criteria, links.c.depth <= max_depth]


def _stays(plan: Plan, link: Link) -> bool:
    """Whether the row has the parent already that its object, which did not know, was given."""
    if link.pk not in plan.rows:
        return False
    above = plan.rows[link.pk]
    return link.parent_token == (None if above is None else ("pk", above))


def _differences(
    stored: dict[Any, dict[Any, int]], rows: Sequence[Row]
) -> Iterator[tuple[Any, Any, int | None, int | None]]:
    """``(descendant, ancestor, depth as stored, depth as it should be)`` where the two differ; takes `stored` apart."""
    parents = {row.pk: row.parent for row in rows}
    for pk in parents:
        present = stored.pop(pk, {})
        wanted, ancestor = 0, pk
        while ancestor is not None:
            depth = present.pop(ancestor, None)
            if depth != wanted:
                yield pk, ancestor, depth, wanted
            wanted, ancestor = wanted + 1, parents[ancestor]
        for ancestor, depth in present.items():
            yield pk, ancestor, depth, None
    for pk, present in stored.items():
        for ancestor, depth in present.items():
            yield pk, ancestor, depth, None


class ClosureTable:
    """Keep a table of all pairs of a node and a node above it, so that descendants and ancestors are one look into an index.

    Mix it in before `TreeNode` or `KeyedTreeNode`::

        class Unit(ClosureTable, TreeNode, Base):
            __tablename__ = "unit"
            id: Mapped[int] = mapped_column(primary_key=True)

    The class works as it does without. Beside ``unit`` the `MetaData` gets a table ``unit_closure``, in the same schema, which Alembic
    sees: ``ancestor_id``, ``descendant_id`` (foreign keys with ``ON DELETE CASCADE``, together the primary key) and ``depth``, how many
    edges lie between the two. Each node is there with itself, at depth 0. In statements of your own it is
    ``Unit.metadata.tables["unit_closure"]``.

    **When to use it.** Many questions about descendants or ancestors of trees that are rarely changed, and above all joins and
    counts by pairs, ``Unit.descendant_of(aliased(Unit))``: without it each such statement computes the pairs of the whole table.
    Nodes carry nothing, so writing to one part of a tree changes no rows of its other parts.

    **When not to.** A node at depth `d` costs ``d + 1`` rows: 11,111 nodes in five levels are 54,321 rows, a chain of 5,000 nodes is
    12.5 million. For trees that are deep, or written as often as they are read, keep the plain tree. Where only the way to a page or
    the order of a whole tree is asked for, a path or nested sets take less room.

    **Cost in statements**, beside those of the tree; for a whole flush, not for each node.

    - New nodes: one ``INSERT ... SELECT``, which climbs ``parent_id`` in the database. `insert_tree` likewise; below a parent it makes sure
      with one SELECT that the climb ends.
    - Moves: one DELETE of the pairs that the moved subtrees leave, one ``INSERT ... SELECT`` of those that they enter, in whatever
      way they are nested. Rows: those above, times those moved.
    - Deleting: one DELETE on SQLite, which may not cascade; none elsewhere.
    - Each predicate and `load_tree`: no recursion; an index answers. `verify_tree` reads the closure in one SELECT more, `rebuild_tree` too,
      and that deletes and inserts only the pairs that differ.

    **Concurrency.** As for the plain tree, writers of a tree queue up at its root. Nothing on a node tells that something above it moves, so
    the whole path above a new, moved or deleted node is locked, not only its ends. Under REPEATABLE READ on PostgreSQL two transactions that write
    to one tree at the same time cannot both commit (serialization failure); have all writers use one isolation level there.
    `verify_tree` reads two tables, and may call wrong what somebody commits in between.

    **What it does not see.** Rows that go past the ORM: `rebuild_tree` adds them, and fills the table for a tree that gets the mixin later.

    Raises `MappingError` while the class is mapped, if its table's name with ``_closure`` is taken.
    """

    __tree_index__ = ClosureIndex

    if not TYPE_CHECKING:

        @mixin_attr
        def _needs_tree(cls):
            needs_tree(cls, "ClosureTable")
