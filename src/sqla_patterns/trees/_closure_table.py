"""`ClosureTable`: a second table with one row for each pair of a node and a node above it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sqlalchemy import (
    BLANK_SCHEMA,
    CTE,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SelectBase,
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
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .._declarative import mixin_attr
from .._locks import allow_deep_recursion, locking_read
from .._maintained import MAINTAINED_TABLES
from .._sql import chunks, structural_part
from .._typing import AnyColumn, AnyMapper, MappedObject, PrimaryKey
from ..exceptions import MappingError
from ._config import MAX_IN, ColumnValues, Entity, TreeConfig
from ._errors import InvalidMoveError, TreeDamagedError, TreeProblem
from ._flush_plan import FlushPlan, ParentLink
from ._index import IndexChange, IndexInsert, NodeRow, TreeIndex, ancestors_cte, needs_tree
from ._nested_data import NewRow

# A foreign key between tables of InnoDB needs both in one engine, and text keys in one collation.
_TABLE_OPTIONS = ("engine", "charset", "default_charset", "collate", "default_collate")

#: ``{descendant: {ancestor: depth}}``.
_Pairs: TypeAlias = dict[PrimaryKey, dict[PrimaryKey, int]]


class ClosureIndex(TreeIndex):
    """An index that reads from the closure, a table that is derived from ``parent_id`` in the database."""

    # -- mapping ---------------------------------------------------------------------------------

    @classmethod
    def complete_table(cls, mapper: AnyMapper, table: Table, pk: AnyColumn) -> None:
        """Add the closure to the MetaData."""
        found = table.metadata.tables.get(_name(table, qualified=True))
        if found is not None:
            if _is_closure_of(found, pk):
                return  # The table is mapped a second time, or was copied together with its closure.
            raise MappingError(
                f"ClosureTable on {mapper.class_.__name__!r} needs the name {found.fullname!r} for a table of its own, "
                "and the MetaData has a table of that name already: rename that one, or the table of the class"
            )
        # Ordered by descendant, the rows of a new node are in one place, behind those of the others.
        closure = Table(
            _name(table),
            table.metadata,
            Column("ancestor_id", pk.type, ForeignKey(pk, ondelete="CASCADE"), nullable=False, autoincrement=False),
            Column("descendant_id", pk.type, ForeignKey(pk, ondelete="CASCADE"), nullable=False, autoincrement=False),
            Column("depth", Integer(), nullable=False),
            PrimaryKeyConstraint("descendant_id", "ancestor_id"),
            schema=BLANK_SCHEMA if table.schema is None else table.schema,
            sqlite_with_rowid=False,
            **_table_options(table),
        )
        Index(None, closure.c.ancestor_id, closure.c.depth, closure.c.descendant_id)

    @classmethod
    def listen(cls, config: TreeConfig) -> None:
        """Declare the closure as a table that this package maintains."""
        setattr(config.cls, MAINTAINED_TABLES, (_closure_of(config.table),))

    @cached_property
    def closure(self) -> Table:
        """Return the table of pairs."""
        return _closure_of(self.config.table)

    @property
    def tables(self) -> Sequence[Table]:
        """Return the closure."""
        return (self.closure,)

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        """Match `entity` below one of `keys`: one look into the closure."""
        if max_depth == 0 and not inclusive:
            return false()
        pairs = self.closure.alias()
        found = select(pairs.c.descendant_id).where(
            pairs.c.ancestor_id.in_(keys), *_depths(pairs, inclusive, max_depth)
        )
        return self.config.pk_attribute(entity).in_(structural_part(found))

    def ancestors(self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool) -> ColumnElement[bool]:
        """Match `entity` above one of `keys`: one look into the closure."""
        pairs = self.closure.alias()
        found = select(pairs.c.ancestor_id).where(pairs.c.descendant_id.in_(keys), *_depths(pairs, inclusive, None))
        return self.config.pk_attribute(entity).in_(structural_part(found))

    def related(
        self, *, ancestor: Entity, descendant: Entity, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match pairs of two entities that are in the closure."""
        pairs = self.closure.alias()
        found = select(pairs.c.ancestor_id, pairs.c.descendant_id).where(*_depths(pairs, inclusive, max_depth))
        return tuple_(self.config.pk_attribute(ancestor), self.config.pk_attribute(descendant)).in_(found)

    def within_depth(self, entity: Entity, max_depth: int) -> ColumnElement[bool]:
        """Match `entity` at most `max_depth` edges below a root."""
        pairs, roots = self.closure.alias(), self.config.table.alias()
        found = (
            select(pairs.c.descendant_id)
            .join(roots, roots.c[self.config.pk.key] == pairs.c.ancestor_id)
            .where(roots.c[self.config.parent_id.key].is_(None), pairs.c.depth <= max_depth)
        )
        return self.config.pk_attribute(entity).in_(structural_part(found))

    # -- writing ---------------------------------------------------------------------------------

    def plan_change(self, plan: FlushPlan) -> IndexChange | None:
        """Return the change of the closure, None if no node is new or gets another parent."""
        new = [link.node for link in plan.links if link.new]
        moved = [link.pk for link in plan.links if link.moved and not _stays(plan, link)]
        return _ClosureChange(self, plan, new, moved) if new or moved else None

    def plan_insert(
        self,
        session: Session,
        connection: Connection,
        parent_pk: PrimaryKey,
        parent_values: ColumnValues,
        rows: Sequence[NewRow],
    ) -> IndexInsert:
        """Return the insertion of the pairs of new rows.

        Raises:
            InvalidMoveError: The nodes above the parent form a cycle, or lead to none that exists.
        """
        if parent_pk is not None:
            above = ancestors_cte(self.config, [parent_pk])
            if not connection.scalar(select(func.count()).select_from(above).where(above.c.parent_id.is_(None))):
                raise InvalidMoveError(
                    f"nothing can go below <{self.config.name} {parent_pk!r}>, whose parents form a cycle or lead to "
                    "none that exists: verify_tree() names them"
                )
        return _ClosureInsert(self, connection, rows)

    def delete_entries(self, connection: Connection, keys: Collection[PrimaryKey]) -> None:
        """Delete the pairs of rows that are about to be deleted, on SQLite."""
        if connection.dialect.name != "sqlite":
            return  # Its foreign keys cascade; those of SQLite do only where the application has enabled them.
        closure = self.closure
        for batch in chunks(keys, MAX_IN):
            named = or_(closure.c.descendant_id.in_(batch), closure.c.ancestor_id.in_(batch))
            connection.execute(delete(closure).where(named))

    def delete_crossing(self, connection: Connection, tops: Sequence[PrimaryKey]) -> None:
        """Delete the pairs whose path leads through the link above one of `tops`, in the tree as the closure has it."""
        closure, up, down = self.closure, self.closure.alias(), self.closure.alias()
        for batch in chunks(tops, MAX_IN):
            crossing = and_(up.c.descendant_id.in_(batch), up.c.depth > 0, down.c.ancestor_id == up.c.descendant_id)
            if connection.dialect.name == "sqlite":
                pairs = select(up.c.ancestor_id, down.c.descendant_id).where(crossing)
                statement = delete(closure).where(tuple_(closure.c.ancestor_id, closure.c.descendant_id).in_(pairs))
            else:
                # A join, which MariaDB and MySQL allow where they refuse a subquery of the table that loses the rows.
                statement = delete(closure).where(
                    crossing,
                    closure.c.ancestor_id == up.c.ancestor_id,
                    closure.c.descendant_id == down.c.descendant_id,
                )
            connection.execute(statement)

    def insert_crossing(self, connection: Connection, tops: Sequence[PrimaryKey]) -> None:
        """Insert the pairs whose path leads through the link above one of `tops`, after `delete_crossing`.

        A pair between whose nodes there are several of these links belongs to the lowest of them: what lies above that
        one is read from ``parent_id``, what lies below from the closure, where it ends at the next of `tops`. So their
        order does not matter.
        """
        batches = list(chunks(tops, MAX_IN))
        for batch in batches:
            below = self.closure.alias()
            up = self._climb(batch)
            pairs = (
                select(up.c.ancestor, below.c.descendant_id, up.c.depth + below.c.depth)
                .join(below, below.c.ancestor_id == up.c.node)
                .where(up.c.depth > 0)
            )
            if len(batches) > 1:
                # What an earlier batch has inserted leads beyond the next of `tops`, to pairs that are there.
                there = self.closure.alias()
                pairs = pairs.where(
                    ~exists().where(
                        there.c.ancestor_id == up.c.ancestor, there.c.descendant_id == below.c.descendant_id
                    )
                )
            self._insert(connection, pairs)

    def insert_pairs_of(self, connection: Connection, keys: Sequence[PrimaryKey]) -> None:
        """Insert the pairs of new nodes with themselves and with all that lies above them."""
        for batch in chunks(keys, MAX_IN):
            up = self._climb(batch)
            self._insert(connection, select(up.c.ancestor, up.c.node, up.c.depth))

    def _insert(self, connection: Connection, pairs: SelectBase) -> None:
        inserting = insert(self.closure).from_select(["ancestor_id", "descendant_id", "depth"], pairs)
        try:
            connection.execute(inserting)
        except IntegrityError as error:
            name = self.config.name
            raise TreeDamagedError(
                f"{self.closure.name} has pairs of {name} nodes already that are inserted or moved just now, perhaps "
                "left by a DELETE that the database did not cascade, as on SQLite without PRAGMA foreign_keys=ON; "
                f"roll back, and call rebuild_tree(session, {name})",
                [],
            ) from error

    def _climb(self, keys: Sequence[PrimaryKey]) -> CTE:
        """Return ``(node, ancestor, depth)`` of `keys` by ``parent_id``, each with itself.

        It does not end on a cycle: the caller makes sure that there is none.
        """
        pk, parent_id = self.config.pk, self.config.parent_id
        start = select(
            pk.label("node"), pk.label("ancestor"), parent_id.label("above"), literal(0, Integer).label("depth")
        )
        up = start.where(pk.in_(keys)).cte(recursive=True)
        return up.union_all(select(up.c.node, pk, parent_id, up.c.depth + 1).join(up, pk == up.c.above))

    # -- integrity -------------------------------------------------------------------------------

    def find_problems(self, connection: Connection, rows: Sequence[NodeRow]) -> Iterator[TreeProblem]:
        """Yield the pairs that are missing, superfluous, or have a wrong depth."""
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

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[NodeRow]) -> set[PrimaryKey]:
        """Write the pairs that differ and return the primary keys of their descendants."""
        closure = self.closure
        changed: set[PrimaryKey] = set()
        gone: list[dict[str, object]] = []
        new: list[dict[str, object]] = []
        for descendant, ancestor, depth, wanted in _differences(self._stored(connection, lock=True), rows):
            changed.add(descendant)
            if depth is not None:
                gone.append({"_ancestor": ancestor, "_descendant": descendant})
            if wanted is not None:
                new.append({"ancestor_id": ancestor, "descendant_id": descendant, "depth": wanted})
        if gone:
            pair = and_(
                closure.c.ancestor_id == bindparam("_ancestor"), closure.c.descendant_id == bindparam("_descendant")
            )
            connection.execute(delete(closure).where(pair), gone)
        if new:
            connection.execute(insert(closure), new)
        return changed

    def _stored(self, connection: Connection, *, lock: bool) -> _Pairs:
        """Return all pairs of the closure."""
        closure = self.closure
        statement = select(closure.c.descendant_id, closure.c.ancestor_id, closure.c.depth)
        stored: _Pairs = defaultdict(dict)
        for descendant, ancestor, depth in connection.execute(
            locking_read(connection, statement) if lock else statement
        ):
            stored[descendant][ancestor] = depth
        return stored


class _ClosureChange(IndexChange):
    """The pairs of one flush.

    They are written when the rows of new nodes, and ``parent_id`` of moved ones, are in the table: two statements for
    moves, one for new nodes.
    """

    def __init__(
        self, index: ClosureIndex, plan: FlushPlan, new: Sequence[MappedObject], moved: Sequence[PrimaryKey]
    ) -> None:
        self.index, self.plan, self.new, self.moved = index, plan, new, moved

    def finish(self) -> None:
        """Write the pairs."""
        index, connection, pk_attr = self.index, self.plan.connection, self.index.config.pk_attr
        allow_deep_recursion(connection)
        new = [key for node in self.new if (key := node.__dict__.get(pk_attr)) is not None]
        index.delete_crossing(connection, self.moved)
        index.insert_crossing(connection, self.moved)
        index.insert_pairs_of(connection, new)


class _ClosureInsert(IndexInsert):
    """The pairs of `insert_tree`."""

    def __init__(self, index: ClosureIndex, connection: Connection, rows: Sequence[NewRow]) -> None:
        self.index, self.connection, self.rows = index, connection, rows

    def finish(self) -> None:
        """Write the pairs."""
        self.index.insert_pairs_of(self.connection, [row.pk for row in self.rows])


def _name(table: Table, *, qualified: bool = False) -> str:
    return f"{table.fullname if qualified else table.name}_closure"


def _closure_of(table: Table) -> Table:
    return table.metadata.tables[_name(table, qualified=True)]


def _is_closure_of(table: Table, pk: AnyColumn) -> bool:
    """Return whether a table that is there already is the closure of that of `pk`, as far as its columns tell."""
    columns = table.c
    return set(columns.keys()) == {"ancestor_id", "descendant_id", "depth"} and all(
        {fk.column for fk in columns[name].foreign_keys} == {pk} for name in ("ancestor_id", "descendant_id")
    )


def _table_options(table: Table) -> dict[str, Any]:
    """Return the options of a table that its closure has to share."""
    options = cast("Mapping[str, Any]", table.dialect_kwargs)
    return {
        name: value
        for name, value in options.items()
        if name.partition("_")[0] in ("mysql", "mariadb") and name.partition("_")[2] in _TABLE_OPTIONS
    }


def _depths(pairs: FromClause, inclusive: bool, max_depth: int | None) -> list[ColumnElement[bool]]:
    criteria: list[ColumnElement[bool]] = [] if inclusive else [pairs.c.depth > 0]
    return criteria if max_depth is None else [*criteria, pairs.c.depth <= max_depth]


def _stays(plan: FlushPlan, link: ParentLink) -> bool:
    """Return whether the row already has the parent that its object was given while the present one was not known."""
    if link.pk not in plan.stored_parents:
        return False
    parent = plan.stored_parents[link.pk]
    return link.parent_token == (None if parent is None else ("pk", parent))


def _differences(
    stored: _Pairs, rows: Sequence[NodeRow]
) -> Iterator[tuple[PrimaryKey, PrimaryKey, int | None, int | None]]:
    """Yield ``(descendant, ancestor, depth as stored, depth as it should be)`` where the depths differ.

    Pairs that are compared are taken out of `stored`.
    """
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
    """An index for joins and counts: a table with a row for each pair of a node and a node above it.

    Mix it in before `TreeNode` or `KeyedTreeNode`::

        class Unit(ClosureTable, TreeNode, Base):
            __tablename__ = "unit"
            id: Mapped[int] = mapped_column(primary_key=True)

    The class works as it does without. Beside ``unit`` the `MetaData` gets a table ``unit_closure``, in the same
    schema, which Alembic sees: ``ancestor_id``, ``descendant_id`` (foreign keys with ``ON DELETE CASCADE``, together
    the primary key) and ``depth``, how many edges lie between the two. Each node is there with itself, at depth 0. In
    your own statements it is ``Unit.metadata.tables["unit_closure"]``.

    **When to use it.** Many questions about descendants or ancestors of trees that rarely change, and above all joins
    and counts by pairs, ``Unit.descendant_of(aliased(Unit))``: without it each such statement computes the pairs of the
    whole table. The rows of nodes hold nothing of it, so writing to one part of a tree changes no rows of its other
    parts.

    **When not to.** A node at depth `d` costs ``d + 1`` rows: 11,111 nodes in five levels are 54,321 rows, a chain of
    5,000 nodes is 12.5 million. For trees that are deep, or written as often as they are read, keep the plain tree.
    Where only the ancestors of a page or the order of a whole tree are asked for, a path or nested sets take less
    space.

    **Cost in statements**, beside those of the tree; for a whole flush, not for each node.

    - New nodes: one ``INSERT ... SELECT``, which follows ``parent_id`` in the database. `insert_tree` likewise; below a
      parent it makes sure with one SELECT that this ends.
    - Moves: one DELETE of the pairs that the moved subtrees leave, one ``INSERT ... SELECT`` of those that they enter,
      in whatever way they are nested. Rows: those above, times those moved.
    - Deleting: one DELETE on SQLite, which may not cascade; none elsewhere.
    - Each predicate and `load_tree`: no recursion; an index answers. `verify_tree` reads the closure in one SELECT
      more, `rebuild_tree` too, and that deletes and inserts only the pairs that differ.

    **Concurrency.** As for the plain tree, writers of a tree queue up at its root. The row of a node does not change
    when something above it moves, so the whole path above a new, moved or deleted node is locked, not only its ends.
    Under REPEATABLE READ on PostgreSQL two transactions that write to one tree at the same time cannot both commit
    (serialization failure); have all writers use one isolation level there. `verify_tree` reads two tables, and may
    call wrong what another transaction commits in between.

    **What it does not see.** Rows that are inserted without the ORM: `rebuild_tree` adds them, and fills the table for
    a tree that gets the mixin later.

    Raises `MappingError` while the class is mapped, if its table's name with ``_closure`` is taken.
    """

    __tree_index__ = ClosureIndex

    if not TYPE_CHECKING:

        @mixin_attr
        def _needs_tree(cls):
            needs_tree(cls, "ClosureTable")
