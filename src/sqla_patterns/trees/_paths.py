"""Materialized paths: each node knows the way down to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sqlalchemy import ColumnElement, Connection, Index, String, Table, and_, func, select
from sqlalchemy.orm import Mapped, Mapper, Session, mapped_column

from .._declarative import mixin_attr
from .._locks import locking_read
from ..exceptions import MappingError
from ._errors import TreeProblem
from ._index import Change, Placement, Row, TreeIndex, needs_tree
from ._path_locks import chunks
from ._path_rules import MOST, WIDTH, PathFormat, last_step
from ._path_writes import PathChange, PathPlacement, rewrite, too_deep, too_many

if TYPE_CHECKING:
    from sqlalchemy import Column

    from ._config import TreeConfig
    from ._data import Entry
    from ._plan import Plan

__all__ = ("MaterializedPath", "PathIndex")

#: 400 levels: what an entry of a B-tree of PostgreSQL (2,704 bytes) and of InnoDB (3,072) has room for.
_LENGTH = 2_400


class PathIndex(TreeIndex):
    """Reads by ranges of paths; `PathChange` says how the paths change."""

    attributes: ClassVar[tuple[str, ...]] = ("path",)
    numbers_roots: ClassVar[bool] = True
    format: ClassVar[PathFormat] = PathFormat(separator="", beyond=":")

    def __init__(self, config: TreeConfig) -> None:
        super().__init__(config)
        length = getattr(self.columns()["path"].type, "length", None)
        #: How many levels a path holds.
        self.most_levels: int = (length or _LENGTH) // WIDTH

    @classmethod
    def complete_table(cls, mapper: Mapper[Any], table: Table, pk: Column[Any]) -> None:
        path = path_column(table, mapper.class_)
        if type(path.type) is String and path.type.collation is None:
            path.type = _binary_string(path.type.length or _LENGTH)
        if not any(next(iter(index.columns), None) is path for index in table.indexes):
            Index(None, path)

    # -- paths in SQL ----------------------------------------------------------------------------

    def text(self, path: Any) -> ColumnElement[str]:
        """A path as text."""
        return cast("ColumnElement[str]", path)

    def value(self, text: Any) -> Any:
        """Text, an expression or a string, as a path."""
        return text

    def inside(self, below: Any, above: Any, *, inclusive: bool, max_depth: int | None = None) -> ColumnElement[bool]:
        """Whether path `below` begins with path `above`."""
        criteria = [below >= above if inclusive else below > above, below < above.concat(self.format.beyond)]
        if max_depth is not None:
            criteria.append(func.length(below) <= func.length(above) + self.format.length(max_depth))
        return and_(*criteria)

    def depth(self, path: Any, max_depth: int) -> ColumnElement[bool]:
        """Whether a path has at most `max_depth` steps below its root."""
        return func.length(path) <= self.format.length(max_depth + 1)

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Any, keys: Sequence[Any], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        path, is_above, above = self._paths_of(keys)
        if len(keys) == 1:
            # A scalar subquery makes the range a constant: the planner takes the index whatever it thinks of the table.
            one = select(path).where(is_above).scalar_subquery()
            return self.inside(entity.path, one, inclusive=inclusive, max_depth=max_depth)
        below = self.config.table.alias()
        there = below.c[self.columns()["path"].key]
        pair = self.inside(there, path, inclusive=inclusive, max_depth=max_depth)
        found = select(below.c[self.config.pk.key]).select_from(above).where(is_above, pair)
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(found))

    def related(
        self, ancestor: Any, descendant: Any, *, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        return self.inside(descendant.path, ancestor.path, inclusive=inclusive, max_depth=max_depth)

    def within(self, entity: Any, max_depth: int) -> ColumnElement[bool]:
        return self.depth(entity.path, max_depth)

    def _paths_of(self, keys: Sequence[Any]) -> tuple[Any, ColumnElement[bool], Any]:
        """The path of an alias of the table, what makes it that of `keys`, and the alias."""
        alias = self.config.table.alias()
        pk = alias.c[self.config.pk.key]
        return alias.c[self.columns()["path"].key], pk == keys[0] if len(keys) == 1 else pk.in_(keys), alias

    # -- writing ---------------------------------------------------------------------------------

    def change(self, plan: Plan) -> Change | None:
        return PathChange(plan, self) if plan.links else None

    def place(
        self,
        session: Session,
        connection: Connection,
        parent_pk: Any,
        kept: Mapping[str, Any],
        entries: Sequence[Entry],
    ) -> Placement:
        return PathPlacement(self, connection, parent_pk, kept.get("path"), entries)

    def highest_steps(self, connection: Connection, parents: Sequence[Any], *, roots: bool) -> dict[Any, int]:
        """The last step of the last child of each of `parents`; of the last root under None."""
        config, path = self.config, self.columns()["path"]
        found: dict[Any, int] = {}
        for keys in chunks(parents):
            last = func.max(self.text(path), type_=String())
            statement = select(config.parent_id, last).where(config.parent_id.in_(keys)).group_by(config.parent_id)
            rows: Sequence[Any] = connection.execute(locking_read(connection, statement)).all()
            found.update((parent, last_step(highest)) for parent, highest in rows if highest is not None)
        if roots:
            # The first step of the last path of all, which the index of paths knows.
            top = select(path).where(path.is_not(None)).order_by(path.desc()).limit(1)
            highest = connection.scalar(locking_read(connection, top))
            if highest is not None:
                found[None] = last_step(highest[:WIDTH])
        return found

    # -- integrity -------------------------------------------------------------------------------

    def problems(self, connection: Connection, rows: Sequence[Row]) -> Iterator[TreeProblem]:
        name = self.config.name
        paths = {row.pk: row.kept["path"] for row in rows}
        taken = Counter(paths.values())
        for row in rows:
            path = row.kept["path"]
            if path is None:
                yield TreeProblem("missing_path", row.pk, f"<{name} {row.pk!r}> has no path")
                continue
            above = paths.get(row.parent)
            if row.parent is not None and above is None:
                continue  # The parent has none, which is named, so nothing says what this one should be.
            step = path[-WIDTH:]
            if not (step.isascii() and step.isdigit()) or path != self.format.join(above, int(step)):
                wanted = "one step" if above is None else f"that of its parent, {above!r}, and one step"
                detail = f"path of <{name} {row.pk!r}> is {path!r}, and should be {wanted}"
            elif above is not None and self.config.position is not None and int(step) != row.position:
                detail = f"path of <{name} {row.pk!r}> is {path!r}, and its position is {row.position}"
            elif taken[path] > 1:
                detail = f"path of <{name} {row.pk!r}> is {path!r}, and so is that of another"
            else:
                continue
            yield TreeProblem("wrong_path", row.pk, detail)

    def check(self, rows: Sequence[Row]) -> None:
        self._derive(rows)

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[Row]) -> set[Any]:
        final = self._derive(rows)
        wrong = {row.pk: final[row.pk] for row in rows if row.kept["path"] != final[row.pk]}
        rewrite(self, session, connection, wrong, final)
        return set(wrong)

    def _derive(self, rows: Sequence[Row]) -> dict[Any, str]:
        """The paths of all nodes, without gaps and in the order of siblings."""
        children: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            children[row.parent].append(row)
        final: dict[Any, str] = {}
        level: list[Any] = [None]
        depth = 0
        while level:
            below: list[Any] = []
            for parent in level:
                family = children.get(parent, [])
                if len(family) > MOST + 1:
                    raise too_many(self, f"the children of <{self.config.name} {parent!r}>")
                for step, row in enumerate(family):
                    final[row.pk] = self.format.join(final.get(parent), step)
                    below.append(row.pk)
            depth += 1
            if below and depth > self.most_levels:
                raise too_deep(self, f"<{self.config.name} {below[0]!r}>")
            level = below
        return final


def path_column(table: Table, cls: type[Any]) -> Column[Any]:
    """The column of the attribute ``path``, the mixin's or one that the user declares instead."""
    mapped = table.c.get("path")
    if mapped is None:
        raise MappingError(
            f"{cls.__name__!r} has an index of paths and no column 'path'; "
            "a column of your own for it must have that name in the table too"
        )
    return mapped


class MaterializedPath:
    """An index for trees that are read a lot and change all the time: each node keeps the way from its root as a string.

    Mix it in before `TreeNode` or `KeyedTreeNode`; everything about the tree stays as it is::

        class Page(MaterializedPath, TreeNode, Base):
            __tablename__ = "page"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]

    It adds one indexed column, ``path``: a step of six digits for each level, ``000003000000000012`` for the child at position 12 of
    the child at position 0 of root 3. Below a parent the step is the ``position``; where siblings sort themselves or have keys, and
    for roots, it is the next number that is free. Paths sort alike on every database: the column is compared byte by byte
    (collation ``C``, ``ascii_bin``). They are derived: read them, order by them, never write them. What you set is ignored.

    **What it makes faster.** `descendant_of` is one range of the index, also with ``max_depth``, also joined by another entity; no name
    or key of yours gets into a pattern, so nothing has to be escaped. In a `TreeNode`, ``ORDER BY path`` is depth first with siblings
    in their order, in one query without recursion. The depth is ``length(path) / 6 - 1``. `ancestor_of` by key climbs ``parent_id``
    as ever, which takes a few steps and works on every database.

    **What it costs.** A new last child or a whole new tree: nothing but the path in its INSERT, and where siblings sort themselves a look
    at the last one. A moved node changes the paths of all below it, in one UPDATE for the whole flush, in any mixture of moves and inserts;
    a subtree that gets deeper is measured beforehand with one SELECT. A node put *between* siblings shifts those behind it, and
    so the paths of everything below them; put it last, or let siblings sort themselves, where families are large. For more than 200
    moves and gaps in one flush the paths are read and written one by one, in one batch. A new root is one look at the last path,
    under the lock of the list of roots. Loaded objects are brought into step likewise, without SQL.

    **Limits.** 400 levels, and 1,000,000 children of one parent, by position: beyond, `PathOverflowError` is raised before
    anything is written. Declare ``path`` yourself, as ``String(n)``, for n / 6 levels; it gets the same collations. Roots do
    not change places in the index: they come in the order in which they were made until `rebuild_tree`. Rows that came past the ORM
    have no path and are below nothing: the first write below them raises `TreeDamagedError`, and `rebuild_tree` gives them paths.

    **When not to use it.** Trees of a few hundred nodes, where the recursive query of plain `TreeNode` is as fast. Trees that
    are hardly ever changed and in which siblings are put first all the time: `NestedSets` counts the same rows and has no limit of depth.
    """

    __tree_index__ = PathIndex

    if TYPE_CHECKING:
        path: Mapped[str | None]
    else:

        @mixin_attr
        def path(cls):
            needs_tree(cls, "MaterializedPath")
            return mapped_column("path", String(_LENGTH), nullable=True)


def _binary_string(length: int) -> String:
    """Text that every database compares byte by byte; SQLite does by itself."""
    # Here, where somebody maps a class: importing a dialect listens to events.
    from sqlalchemy.dialects.mysql import VARCHAR

    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
    )
