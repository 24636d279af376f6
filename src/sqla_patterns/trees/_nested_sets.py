"""Nested sets: each node knows the stretch of numbers that everything below it lies in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from sqlalchemy import Column, ColumnElement, Connection, Index, Integer, Table, and_, select
from sqlalchemy.orm import Mapped, Mapper, Session, mapped_column
from sqlalchemy.types import NullType

from .._declarative import mixin_attr
from .._typing import ParentKey
from ._errors import TreeProblem
from ._index import Change, Placement, Row, TreeIndex, needs_tree
from ._lines import Numbers
from ._nested_writes import NestedChange, NestedPlacement, name_trees_of_new_nodes, numbers_of, rewrite

if TYPE_CHECKING:
    from ._config import TreeConfig
    from ._data import Entry
    from ._plan import Plan

__all__ = ("NestedSets",)


class _Ends(NamedTuple):
    """`Numbers`, as expressions."""

    left: Any
    right: Any
    depth: Any
    tree: Any


class NestedSetsIndex(TreeIndex):
    """Reads by ranges of numbers; `Splice` says how the numbers change."""

    attributes: ClassVar[tuple[str, ...]] = ("left", "right", "depth", "tree_id")

    @classmethod
    def complete_table(cls, mapper: Mapper[Any], table: Table, pk: Column[Any]) -> None:
        tree = table.c.tree_id
        if isinstance(tree.type, NullType):
            tree.type = pk.type
        Index(None, tree, table.c.lft)

    @classmethod
    def listen(cls, config: TreeConfig) -> None:
        name_trees_of_new_nodes(config)

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Any, keys: Sequence[Any], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        above = self.config.table.alias()
        is_above = above.c[self.config.pk.key].in_(keys)
        if len(keys) == 1:
            # Scalar subqueries make the range a constant: the planner takes the index whatever it thinks of the table.
            ends = (select(column).where(is_above).scalar_subquery() for column in self._of_table(above))
            return _inside(_of_entity(entity), _Ends(*ends), inclusive=inclusive, max_depth=max_depth)
        below = self.config.table.alias()
        pair = _inside(self._of_table(below), self._of_table(above), inclusive=inclusive, max_depth=max_depth)
        found = select(below.c[self.config.pk.key]).where(is_above, pair)
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(found))

    def related(
        self, ancestor: Any, descendant: Any, *, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        return _inside(_of_entity(descendant), _of_entity(ancestor), inclusive=inclusive, max_depth=max_depth)

    def within(self, entity: Any, max_depth: int) -> ColumnElement[bool]:
        return cast("ColumnElement[bool]", entity.depth <= max_depth)

    def _of_table(self, alias: Any) -> _Ends:
        return _Ends(*(alias.c[column.key] for column in self.columns().values()))

    # -- writing ---------------------------------------------------------------------------------

    def change(self, plan: Plan) -> Change | None:
        return NestedChange(plan) if plan.links else None

    def place(
        self,
        session: Session,
        connection: Connection,
        parent_pk: Any,
        kept: Mapping[str, Any],
        entries: Sequence[Entry],
    ) -> Placement:
        parent = None if parent_pk is None else numbers_of(self.config, parent_pk, kept)
        return NestedPlacement(self.config, session, connection, parent, entries)

    # -- integrity -------------------------------------------------------------------------------

    def problems(self, connection: Connection, rows: Sequence[Row]) -> Iterator[TreeProblem]:
        name = self.config.name
        children, by_key = _families(rows), {row.pk: row for row in rows}
        for row in _depth_first(children):
            left, right, depth, tree = row.kept.values()
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
                p_left, p_right, p_depth, p_tree = parent.kept.values()
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

    def _overlaps(self, siblings: Sequence[Row]) -> Iterator[TreeProblem]:
        name = self.config.name
        numbered = [row for row in siblings if None not in row.kept.values()]
        in_line = sorted(numbered, key=lambda row: row.kept["left"])
        for row, following in pairwise(in_line):
            if following.kept["left"] <= row.kept["right"]:
                detail = f"the numbers of <{name} {following.pk!r}> overlap those of its sibling <{name} {row.pk!r}>"
                yield TreeProblem("overlap", following.pk, detail)
        if self.config.position is None:
            return  # Siblings that sort themselves stand on the line in the order in which they came.
        for row, following in pairwise(numbered):
            if following.kept["left"] < row.kept["left"] and following.position != row.position:
                detail = f"<{name} {following.pk!r}> comes after <{name} {row.pk!r}> by position, and before it by left"
                yield TreeProblem("wrong_order", following.pk, detail)

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[Row]) -> set[Any]:
        children = _families(rows)
        final: dict[Any, Numbers] = {}
        for root in children.get(None, ()):
            counter = 0
            opened: list[tuple[Any, int]] = []
            stack: list[Row | None] = [root]
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
        wrong = {row.pk: final[row.pk] for row in rows if tuple(row.kept.values()) != final[row.pk]}
        rewrite(self.config, session, connection, wrong, final)
        return set(wrong)


def _of_entity(entity: Any) -> _Ends:
    return _Ends(entity.left, entity.right, entity.depth, entity.tree_id)


def _inside(below: _Ends, above: _Ends, *, inclusive: bool, max_depth: int | None) -> ColumnElement[bool]:
    criteria = [
        below.tree == above.tree,
        below.left >= above.left if inclusive else below.left > above.left,
        below.left < above.right,
    ]
    if max_depth is not None:
        criteria.append(below.depth <= above.depth + max_depth)
    return and_(*criteria)


def _families(rows: Sequence[Row]) -> dict[Any, list[Row]]:
    families: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        families[row.parent].append(row)
    return families


def _depth_first(children: dict[Any, list[Row]]) -> Iterator[Row]:
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

    It adds four columns (Celko, *Trees and Hierarchies in SQL for Smarties*, nested sets): ``left`` and ``right`` (in the table
    ``lft`` and ``rgt``), between which lie the numbers of everything below the node; ``depth``, 0 for roots; and ``tree_id``, the key of
    the root. They are derived: read them, order by them, never write them. In a `TreeNode`,
    ``ORDER BY tree_id, left`` is depth first with siblings in their order, in one query without recursion; siblings that sort
    themselves or have keys stand there in the order in which they came, until `rebuild_tree`.

    **What it makes faster.** `descendant_of` is one range of the index ``(tree_id, lft)``, also with ``max_depth``, also joined by
    another entity. The depth is a column. `ancestor_of` by key climbs ``parent_id`` as ever, which beats a range of this index.

    **What it costs.** A new or moved node shifts the numbers of all that comes after it in its tree: one UPDATE for a whole flush, in
    any mixture of moves and inserts, which touches every row to the right and every ancestor. A whole tree at once, by
    `insert_tree` or ``session.add``, shifts nothing. Loaded objects are shifted likewise, without SQL. A new root whose key the
    database makes costs one UPDATE more, that names the tree after it. Deletions leave holes, which cost nothing.

    **When not to use it.** Where nodes come and go all the time in large trees, each of those writes touches half of a tree on average:
    take `MaterializedPath`, or no index. Where trees are small, the recursive query of plain `TreeNode` is as fast.

    Depth is not limited. Rows that came past the ORM have no numbers: the first write below them raises `TreeDamagedError`, and
    `rebuild_tree` numbers them.
    """

    __tree_index__ = NestedSetsIndex

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
