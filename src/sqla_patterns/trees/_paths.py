"""`MaterializedPath`: each node keeps the path from its root as a string."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import ColumnElement, Connection, FromClause, Index, String, Table, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from .._declarative import mixin_attr, overridden_column
from .._maintained import MaintainedColumn
from .._sql import structural_part
from .._typing import AnyColumn, AnyExpression, AnyMapper, MappedClass, PrimaryKey
from ..exceptions import MappingError
from ._config import ColumnValues, Entity, TreeConfig
from ._errors import TreeProblem
from ._flush_plan import FlushPlan
from ._index import IndexChange, IndexInsert, NodeRow, TreeIndex, needs_tree
from ._nested_data import NewRow
from ._path_dialect import PathDialect
from ._path_rules import MOST, WIDTH
from ._path_writes import PathChange, PathInsert, rewrite, too_deep, too_many

#: 400 levels: what fits into an entry of a B-tree of PostgreSQL (2,704 bytes) and of InnoDB (3,072).
_LENGTH = 2_400


class PathIndex(TreeIndex):
    """An index that reads by ranges of paths; `PathChange` writes them.

    Attributes:
        dialect: How paths are kept.
    """

    attributes: ClassVar[tuple[str, ...]] = ("path",)
    numbers_roots: ClassVar[bool] = True
    dialect_class: ClassVar[type[PathDialect]] = PathDialect

    def __init__(self, config: TreeConfig) -> None:
        super().__init__(config)
        column = self.columns()["path"]
        self.dialect = self.dialect_class(config, column, self._most_levels(column))

    @classmethod
    def _most_levels(cls, column: AnyColumn) -> int:
        """Return how many levels the column can hold."""
        length: int | None = getattr(column.type, "length", None)
        return (length or _LENGTH) // WIDTH

    @classmethod
    def complete_table(cls, mapper: AnyMapper, table: Table, pk: AnyColumn) -> None:
        """Give the column a collation that compares bytes, and an index."""
        path = path_column(table, mapper.class_)
        if type(path.type) is String and path.type.collation is None:
            path.type = _binary_string(path.type.length or _LENGTH)
        if not any(next(iter(index.columns), None) is path for index in table.indexes):
            Index(None, path)

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        """Match `entity` below one of `keys`: one range of the index of paths."""
        path, is_above, above = self._paths_of(keys)
        inside = self.dialect.inside
        if len(keys) == 1:
            # A scalar subquery makes the range a constant: the planner takes the index whatever it estimates.
            one = structural_part(select(path).where(is_above)).scalar_subquery()
            return inside(below=entity.path, above=one, inclusive=inclusive, max_depth=max_depth)
        below = self.config.table.alias()
        there = below.c[self.dialect.column.key]
        pair = inside(below=there, above=path, inclusive=inclusive, max_depth=max_depth)
        found = select(below.c[self.config.pk.key]).select_from(above).where(is_above, pair)
        return self.config.pk_attribute(entity).in_(structural_part(found))

    def related(
        self, *, ancestor: Entity, descendant: Entity, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match pairs of two entities of which the path of one begins with that of the other."""
        return self.dialect.inside(below=descendant.path, above=ancestor.path, inclusive=inclusive, max_depth=max_depth)

    def within_depth(self, entity: Entity, max_depth: int) -> ColumnElement[bool]:
        """Match `entity` by the length of its path."""
        return self.dialect.within_depth(entity.path, max_depth)

    def _paths_of(self, keys: Sequence[PrimaryKey]) -> tuple[AnyExpression, ColumnElement[bool], FromClause]:
        """Return the path of an alias of the table, the criterion that makes it that of `keys`, and the alias."""
        alias = self.config.table.alias()
        pk = alias.c[self.config.pk.key]
        return alias.c[self.dialect.column.key], pk == keys[0] if len(keys) == 1 else pk.in_(keys), alias

    # -- writing ---------------------------------------------------------------------------------

    def plan_change(self, plan: FlushPlan) -> IndexChange | None:
        """Return the change of the paths, None if no node is new or moves."""
        return PathChange(plan, self.dialect) if plan.links else None

    def plan_insert(
        self,
        session: Session,
        connection: Connection,
        parent_pk: PrimaryKey,
        parent_values: ColumnValues,
        rows: Sequence[NewRow],
    ) -> IndexInsert:
        """Set the paths of new rows."""
        return PathInsert(self.dialect, connection, parent_pk, parent_values.get("path"), rows)

    # -- integrity -------------------------------------------------------------------------------

    def find_problems(self, connection: Connection, rows: Sequence[NodeRow]) -> Iterator[TreeProblem]:
        """Yield the rows whose path is missing, or is not that of the parent and one step."""
        name = self.config.name
        paths = {row.pk: row.index_values["path"] for row in rows}
        taken = Counter(paths.values())
        for row in rows:
            path = row.index_values["path"]
            if path is None:
                yield TreeProblem("missing_path", row.pk, f"<{name} {row.pk!r}> has no path")
                continue
            above = paths.get(row.parent)
            if row.parent is not None and above is None:
                continue  # The parent has none, which is named, so nothing says what this one should be.
            step = path[-WIDTH:]
            if not (step.isascii() and step.isdigit()) or path != self.dialect.format.join(above, int(step)):
                wanted = "one step" if above is None else f"that of its parent, {above!r}, and one step"
                detail = f"path of <{name} {row.pk!r}> is {path!r}, and should be {wanted}"
            elif above is not None and self.config.position is not None and int(step) != row.position:
                detail = f"path of <{name} {row.pk!r}> is {path!r}, and its position is {row.position}"
            elif taken[path] > 1:
                detail = f"path of <{name} {row.pk!r}> is {path!r}, and so is that of another"
            else:
                continue
            yield TreeProblem("wrong_path", row.pk, detail)

    def check_limits(self, rows: Sequence[NodeRow]) -> None:
        """Refuse a tree that is too deep or too wide."""
        self._derive(rows)

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[NodeRow]) -> set[PrimaryKey]:
        """Derive the paths from ``parent_id`` and return the primary keys of rows that changed."""
        final = self._derive(rows)
        wrong = {row.pk: final[row.pk] for row in rows if row.index_values["path"] != final[row.pk]}
        rewrite(self.dialect, session, connection, wrong=wrong, final=final)
        return set(wrong)

    def _derive(self, rows: Sequence[NodeRow]) -> dict[PrimaryKey, str]:
        """Return the paths of all nodes, without gaps and in the order of siblings."""
        children: dict[PrimaryKey, list[NodeRow]] = defaultdict(list)
        for row in rows:
            children[row.parent].append(row)
        final: dict[PrimaryKey, str] = {}
        level: list[PrimaryKey] = [None]
        depth = 0
        while level:
            below: list[PrimaryKey] = []
            for parent in level:
                family = children.get(parent, [])
                if len(family) > MOST + 1:
                    raise too_many(self.dialect, f"the children of <{self.config.name} {parent!r}>")
                for step, row in enumerate(family):
                    final[row.pk] = self.dialect.format.join(final.get(parent), step)
                    below.append(row.pk)
            depth += 1
            if below and depth > self.dialect.most_levels:
                raise too_deep(self.dialect, f"<{self.config.name} {below[0]!r}>")
            level = below
        return final


def path_column(table: Table, cls: MappedClass) -> AnyColumn:
    """Return the column of the attribute ``path``, the mixin's or one that the user declares instead."""
    name = overridden_column(cls, "path", "path")
    mapped = table.c.get(name)
    if mapped is None:
        raise MappingError(
            f"{cls.__name__!r} has an index of paths, and its table {table.fullname!r} has no column {name!r} for it; "
            "leave 'path' out of the class, so that the mixin adds it"
        )
    return mapped


class MaterializedPath:
    """An index for trees that are read a lot and change all the time: each node keeps the path from its root.

    Mix it in before `TreeNode` or `KeyedTreeNode`; everything about the tree stays as it is::

        class Page(MaterializedPath, TreeNode, Base):
            __tablename__ = "page"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]

    It adds one indexed column, ``path``: a step of six digits for each level, ``000003000000000012`` for the child at
    position 12 of the child at position 0 of root 3. Below a parent the step is the ``position``; where siblings sort
    themselves or have keys, and for roots, it is the next number that is free. Paths sort alike on every database: the
    column is compared byte by byte (collation ``C``, ``ascii_bin``). They are derived: read them, order by them, never
    write them. What you set is ignored.

    **What it makes faster.** `descendant_of` is one range of the index, also with ``max_depth``, also joined by another
    entity; no name or key gets into a pattern, so nothing has to be escaped. In a `TreeNode`, ``ORDER BY path`` is
    depth first with siblings in their order, in one query without recursion. The depth is ``length(path) / 6 - 1``.
    `ancestor_of` by key follows ``parent_id`` as without an index, which takes a few steps and works on every database.

    **What it costs.** A new last child or a whole new tree: only the path in its INSERT, and where siblings sort
    themselves one SELECT of the last one. A moved node changes the paths of all below it, in one UPDATE for the whole
    flush, in any mixture of moves and inserts; a subtree that gets deeper is measured beforehand with one SELECT. A
    node put *between* siblings shifts those behind it, and so the paths of everything below them; put it last, or let
    siblings sort themselves, where a parent has many children. For more than 200 moves and gaps in one flush the paths
    are read and written one by one, in one batch. A new root is one SELECT of the last path, under the lock of the list
    of roots. Loaded objects are updated likewise, without SQL.

    **Limits.** 400 levels, and 1,000,000 children of one parent, by position: beyond, `PathOverflowError` is raised
    before anything is written. Declare ``path`` yourself, as ``mapped_column("path", String(n))``, for n / 6 levels; it
    gets the same collations. Roots do not change places in the index: they come in the order in which they were made
    until `rebuild_tree`. Rows that were inserted without the ORM have no path and are below nothing: the first write
    below them raises `TreeDamagedError`, and `rebuild_tree` gives them paths.

    **When not to use it.** Trees of a few hundred nodes, where the recursive query of plain `TreeNode` is as fast.
    Trees that hardly ever change and in which siblings are put first all the time: `NestedSets` changes the same number
    of rows and has no limit of depth.
    """

    __tree_index__ = PathIndex
    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = (
        MaintainedColumn("path", "MaterializedPath"),
    )

    if TYPE_CHECKING:
        path: Mapped[str | None]
    else:

        @mixin_attr
        def path(cls):
            needs_tree(cls, "MaterializedPath")
            return mapped_column("path", String(_LENGTH), nullable=True)


def _binary_string(length: int) -> String:
    """Return a type of text that every database compares byte by byte; SQLite does so by itself."""
    # Here, where a class is mapped: importing a dialect listens to events.
    from sqlalchemy.dialects.mysql import VARCHAR

    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
    )
