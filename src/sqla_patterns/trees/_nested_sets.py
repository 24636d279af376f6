"""`NestedSets`: each node keeps the interval of numbers in which everything below it lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Index, Integer, Table, and_, select
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import NullType

from .._declarative import mixin_attr, overridden_column
from .._maintained import MaintainedColumn
from .._sql import structural_part
from .._typing import AnyColumn, AnyExpression, AnyMapper, ParentKey, PrimaryKey
from ._config import ColumnValues, Entity, TreeConfig
from ._errors import TreeProblem
from ._flush_plan import FlushPlan
from ._index import IndexChange, IndexInsert, NodeRow, TreeIndex, needs_tree
from ._nested_data import NewRow
from ._nested_numbers import Numbers
from ._nested_writes import NestedChange, NestedInsert, inherit_tree_ids, numbers_of, rewrite


class _NumberColumns(NamedTuple):
    """The columns of `Numbers`, or expressions for them."""

    left: AnyExpression
    right: AnyExpression
    depth: AnyExpression
    tree: AnyExpression


class NestedSetsIndex(TreeIndex):
    """An index that reads by ranges of numbers; `NestedChange` writes them."""

    attributes: ClassVar[tuple[str, ...]] = ("left", "right", "depth", "tree_id")

    @classmethod
    def complete_table(cls, mapper: AnyMapper, table: Table, pk: AnyColumn) -> None:
        """Give ``tree_id`` the type of the primary key, and add the index."""
        cls_ = mapper.class_
        tree = table.c[overridden_column(cls_, "tree_id", "tree_id")]
        if isinstance(tree.type, NullType):
            tree.type = pk.type
        Index(None, tree, table.c[overridden_column(cls_, "left", "lft")])

    @classmethod
    def listen(cls, config: TreeConfig) -> None:
        """Have nodes below a new root inherit its ``tree_id``."""
        inherit_tree_ids(config)

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        """Match `entity` below one of `keys`: one range of the index."""
        above = self.config.table.alias()
        is_above = above.c[self.config.pk.key].in_(keys)
        if len(keys) == 1:
            # Scalar subqueries make the range a constant: the planner takes the index whatever it estimates.
            ends = (
                structural_part(select(column).where(is_above)).scalar_subquery() for column in self._of_table(above)
            )
            one = _NumberColumns(*ends)
            return _inside(below=_of_entity(entity), above=one, inclusive=inclusive, max_depth=max_depth)
        below = self.config.table.alias()
        pair = _inside(
            below=self._of_table(below), above=self._of_table(above), inclusive=inclusive, max_depth=max_depth
        )
        found = select(below.c[self.config.pk.key]).where(is_above, pair)
        return self.config.pk_attribute(entity).in_(structural_part(found))

    def related(
        self, *, ancestor: Entity, descendant: Entity, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match pairs of two entities of which the interval of one encloses that of the other."""
        return _inside(
            below=_of_entity(descendant), above=_of_entity(ancestor), inclusive=inclusive, max_depth=max_depth
        )

    def within_depth(self, entity: Entity, max_depth: int) -> ColumnElement[bool]:
        """Match `entity` by its column ``depth``."""
        depth: AnyExpression = entity.depth
        return depth <= max_depth

    def _of_table(self, alias: FromClause) -> _NumberColumns:
        return _NumberColumns(*(alias.c[column.key] for column in self.columns().values()))

    # -- writing ---------------------------------------------------------------------------------

    def plan_change(self, plan: FlushPlan) -> IndexChange | None:
        """Return the change of the numbers, None if no node is new or moves."""
        return NestedChange(plan) if plan.links else None

    def plan_insert(
        self,
        session: Session,
        connection: Connection,
        parent_pk: PrimaryKey,
        parent_values: ColumnValues,
        rows: Sequence[NewRow],
    ) -> IndexInsert:
        """Set the numbers of new rows, and make space for them."""
        parent = None if parent_pk is None else numbers_of(self.config, parent_pk, parent_values)
        return NestedInsert(self.config, session, connection, parent, rows)

    # -- integrity -------------------------------------------------------------------------------

    def find_problems(self, connection: Connection, rows: Sequence[NodeRow]) -> Iterator[TreeProblem]:
        """Yield the rows that are not numbered, and intervals that are not nested as the nodes are."""
        name = self.config.name
        children, by_key = _families(rows), {row.pk: row for row in rows}
        for row in _depth_first(children):
            left, right, depth, tree = row.index_values.values()
            if None in (left, right, depth, tree):
                yield TreeProblem("missing_numbers", row.pk, f"<{name} {row.pk!r}> is not numbered")
                continue
            if right <= left:
                detail = f"left = {left} and right = {right} of <{name} {row.pk!r}> enclose nothing"
                yield TreeProblem("wrong_interval", row.pk, detail)
            parent = by_key.get(row.parent)
            if parent is None:
                wanted_tree, wanted_depth = row.pk, 0
            else:
                p_left, p_right, p_depth, p_tree = parent.index_values.values()
                if None in (p_left, p_right, p_depth, p_tree):
                    continue
                wanted_tree, wanted_depth = p_tree, p_depth + 1
                if not p_left < left < right < p_right:
                    detail = (
                        f"{left} to {right} of <{name} {row.pk!r}> do not lie between {p_left} and {p_right} "
                        f"of its parent <{name} {parent.pk!r}>"
                    )
                    yield TreeProblem("outside_parent", row.pk, detail)
            if tree != wanted_tree:
                detail = f"tree_id of <{name} {row.pk!r}> is {tree!r}, and its root is {wanted_tree!r}"
                yield TreeProblem("wrong_tree", row.pk, detail)
            if depth != wanted_depth:
                detail = f"depth of <{name} {row.pk!r}> is {depth}, and it lies {wanted_depth} below its root"
                yield TreeProblem("wrong_depth", row.pk, detail)
        for parent_pk, siblings in children.items():
            if parent_pk is not None:
                yield from self._overlaps(siblings)

    def _overlaps(self, siblings: Sequence[NodeRow]) -> Iterator[TreeProblem]:
        name = self.config.name
        numbered = [row for row in siblings if None not in row.index_values.values()]
        by_left = sorted(numbered, key=lambda row: row.index_values["left"])
        for row, following in pairwise(by_left):
            if following.index_values["left"] <= row.index_values["right"]:
                detail = f"the numbers of <{name} {following.pk!r}> overlap those of its sibling <{name} {row.pk!r}>"
                yield TreeProblem("overlap", following.pk, detail)
        if self.config.position is None:
            return  # Siblings that sort themselves are numbered in the order in which they came.
        for row, following in pairwise(numbered):
            if following.index_values["left"] < row.index_values["left"] and following.position != row.position:
                detail = f"<{name} {following.pk!r}> comes after <{name} {row.pk!r}> by position, and before it by left"
                yield TreeProblem("wrong_order", following.pk, detail)

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[NodeRow]) -> set[PrimaryKey]:
        """Derive the numbers from ``parent_id`` and return the primary keys of rows that changed."""
        children = _families(rows)
        final: dict[PrimaryKey, Numbers] = {}
        for root in children.get(None, ()):
            counter = 0
            opened: list[tuple[PrimaryKey, int]] = []
            stack: list[NodeRow | None] = [root]
            while stack:
                row = stack.pop()
                counter += 1
                if row is None:
                    pk, left = opened.pop()
                    final[pk] = Numbers(left, counter, len(opened), root.pk)
                else:
                    opened.append((row.pk, counter))
                    stack.append(None)
                    stack += reversed(children.get(row.pk, []))
        wrong = {row.pk: final[row.pk] for row in rows if tuple(row.index_values.values()) != final[row.pk]}
        rewrite(self.config, session, connection, wrong=wrong, final=final)
        return set(wrong)


def _of_entity(entity: Entity) -> _NumberColumns:
    return _NumberColumns(entity.left, entity.right, entity.depth, entity.tree_id)


def _inside(
    *, below: _NumberColumns, above: _NumberColumns, inclusive: bool, max_depth: int | None
) -> ColumnElement[bool]:
    """Return the criterion that the interval `below` lies in the interval `above`."""
    criteria = [
        below.tree == above.tree,
        below.left >= above.left if inclusive else below.left > above.left,
        below.left < above.right,
    ]
    if max_depth is not None:
        criteria.append(below.depth <= above.depth + max_depth)
    return and_(*criteria)


def _families(rows: Sequence[NodeRow]) -> dict[PrimaryKey, list[NodeRow]]:
    """Return the nodes by their parent."""
    families: dict[PrimaryKey, list[NodeRow]] = defaultdict(list)
    for row in rows:
        families[row.parent].append(row)
    return families


def _depth_first(children: dict[PrimaryKey, list[NodeRow]]) -> Iterator[NodeRow]:
    """Yield all nodes, parents before their children."""
    stack = list(reversed(children.get(None, [])))
    while stack:
        row = stack.pop()
        yield row
        stack += reversed(children.get(row.pk, []))


class NestedSets:
    """An index for trees that are read far more often than they change: ranges of numbers.

    Mix it in before `TreeNode` or `KeyedTreeNode`; everything about the tree stays as it is::

        class Topic(NestedSets, TreeNode, Base):
            __tablename__ = "topic"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

    It adds four columns (Celko, *Trees and Hierarchies in SQL for Smarties*, nested sets): ``left`` and ``right`` (in
    the table ``lft`` and ``rgt``), between which lie the numbers of everything below the node; ``depth``, 0 for roots;
    and ``tree_id``, the primary key of the root. They are derived: read them, order by them, never write them. In a
    `TreeNode`, ``ORDER BY tree_id, left`` is depth first with siblings in their order, in one query without recursion;
    siblings that sort themselves or have keys are there in the order in which they came, until `rebuild_tree`.

    **What it makes faster.** `descendant_of` is one range of the index ``(tree_id, lft)``, also with ``max_depth``,
    also joined by another entity. The depth is a column. `ancestor_of` by key follows ``parent_id`` as without an
    index, which is faster than a range of this one.

    **What it costs.** A new or moved node shifts the numbers of all that comes after it in its tree: one UPDATE for a
    whole flush, in any mixture of moves and inserts, which changes every row to the right and every ancestor. A whole
    tree at once, by `insert_tree` or ``session.add``, shifts nothing. Loaded objects are shifted likewise, without SQL.
    A new root whose key the database makes costs one UPDATE more, which sets its ``tree_id``. Deletions leave gaps,
    which cost nothing.

    **When not to use it.** Where nodes come and go all the time in large trees, each of those writes changes half of a
    tree on average: take `MaterializedPath`, or no index. Where trees are small, the recursive query of plain
    `TreeNode` is as fast.

    Depth is not limited. Rows that were inserted without the ORM have no numbers: the first write below them raises
    `TreeDamagedError`, and `rebuild_tree` numbers them.
    """

    __tree_index__ = NestedSetsIndex
    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = tuple(
        MaintainedColumn(name, "NestedSets") for name in ("left", "right", "depth", "tree_id")
    )

    if TYPE_CHECKING:
        left: Mapped[int]
        right: Mapped[int]
        depth: Mapped[int]
        tree_id = ParentKey()
    else:

        @mixin_attr
        def left(cls):
            needs_tree(cls, "NestedSets")
            return mapped_column("lft", Integer(), nullable=True)

        @mixin_attr
        def right(cls):
            return mapped_column("rgt", Integer(), nullable=True)

        @mixin_attr
        def depth(cls):
            return mapped_column("depth", Integer(), nullable=True)

        @mixin_attr
        def tree_id(cls):
            # The type is the primary key's and is set once the table exists.
            return Column("tree_id", NullType(), nullable=True)
