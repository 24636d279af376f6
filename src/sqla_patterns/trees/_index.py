"""`TreeIndex`: columns or a table that a tree may have beside ``parent_id``, so that queries about it are faster.

`TreeIndex` itself is the tree without an index: it follows ``parent_id`` with recursive common table expressions and
keeps nothing. An index overrides the questions that it answers faster, and derives what it keeps from
`FlushPlan.links`, which say where every node goes.

``parent_id`` alone decides where a node is: in every tree, cycles are found and rows are locked and deleted by it. An
index that was damaged by statements outside of the ORM can give wrong answers, which `verify_tree` finds and
`rebuild_tree` repairs. It can neither let a cycle in nor delete the wrong rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, NamedTuple

from sqlalchemy import CTE, ColumnElement, Connection, Integer, Table, and_, false, literal, select, tuple_
from sqlalchemy.orm import Session

from .._declarative import on_mapped
from .._sql import structural_part
from .._typing import AnyColumn, AnyMapper, MappedClass, PrimaryKey, SelfLinked
from ..exceptions import MappingError
from ._config import ColumnValues, Entity, TreeConfig
from ._errors import TreeProblem
from ._flush_plan import FlushPlan
from ._nested_data import NewRow


class NodeRow(NamedTuple):
    """What `verify_tree` and `rebuild_tree` read of a node.

    Attributes:
        pk: The primary key.
        parent: The primary key of the parent.
        position: The position, where there is one.
        key: The key among the siblings, where there is one.
        index_values: The values of the index attributes, by name.
    """

    pk: PrimaryKey
    parent: PrimaryKey
    position: int | None
    key: object
    index_values: ColumnValues


class IndexChange:
    """What an index does in one flush. It is made under the lock, and its maker has checked that nothing will fail."""

    def write(self) -> None:
        """Change existing rows and objects, and set the attributes of new nodes, before the unit of work begins."""

    def finish(self) -> None:
        """Do what needs the keys or the rows of new nodes, after the unit of work."""


class IndexInsert:
    """What an index does for `insert_tree`. It is made before the first INSERT, when the list of children is locked."""

    def complete(self, row: NewRow) -> None:
        """Set what depends on the primary key of the row or of those above it, right before its INSERT."""

    def finish(self) -> None:
        """Do what needs the inserted rows."""


class TreeIndex:
    """The tree without an index: reads follow ``parent_id``.

    Attributes:
        attributes: The names of the attributes that the index keeps on nodes.
        numbers_roots: Whether a new root takes a number from a series that all roots share, so that it needs their
            lock.
    """

    attributes: ClassVar[tuple[str, ...]] = ()
    numbers_roots: ClassVar[bool] = False

    def __init__(self, config: TreeConfig) -> None:
        self.config = config

    @property
    def stores_data(self) -> bool:
        """Return whether a new or moved node changes more than its own row."""
        return type(self) is not TreeIndex

    # -- mapping ---------------------------------------------------------------------------------

    @classmethod
    def complete_table(cls, mapper: AnyMapper, table: Table, pk: AnyColumn) -> None:
        """Add what the mixin cannot say before there is a table: types, indexes, tables."""

    @classmethod
    def listen(cls, config: TreeConfig) -> None:
        """Listen to events of the mapped class."""

    @property
    def tables(self) -> Sequence[Table]:
        """Return the tables that the index keeps beside that of the nodes."""
        return ()

    def columns(self) -> dict[str, AnyColumn]:
        """Return the columns of `attributes`, by name."""
        return {name: self.config.mapper.columns[name] for name in self.attributes}

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        """Match `entity` below one of `keys`."""
        if max_depth == 0 and not inclusive:
            return false()
        down = descendants_cte(self.config, keys, inclusive=inclusive, max_depth=max_depth)
        return self.config.pk_attribute(entity).in_(select(down.c.pk))

    def ancestors(self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool) -> ColumnElement[bool]:
        """Match `entity` above one of `keys`."""
        up = ancestors_cte(self.config, keys)
        # A node lies above another when it is the parent of something on the way up.
        wanted = up.c.pk if inclusive else up.c.parent_id
        return self.config.pk_attribute(entity).in_(select(wanted).where(wanted.is_not(None)))

    def related(
        self, *, ancestor: Entity, descendant: Entity, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match pairs of two entities of which one lies above the other."""
        one, other = self.config.pk_attribute(ancestor), self.config.pk_attribute(descendant)
        closure = _closure_cte(self.config, max_depth)
        pair = tuple_(one, other).in_(select(closure.c.ancestor, closure.c.descendant))
        return pair if inclusive else and_(pair, one != other)

    def within_depth(self, entity: Entity, max_depth: int) -> ColumnElement[bool]:
        """Match `entity` at most `max_depth` edges below a root."""
        pk, parent_id = self.config.pk, self.config.parent_id
        zero = literal(0, Integer)
        top = structural_part(select(pk.label("pk"), zero.label("depth")).where(parent_id.is_(None)))
        roots = top.cte(recursive=True, nesting=True)
        deeper = select(pk, roots.c.depth + 1).join(roots, parent_id == roots.c.pk).where(roots.c.depth < max_depth)
        return self.config.pk_attribute(entity).in_(select(roots.union(structural_part(deeper)).c.pk))

    # -- writing ---------------------------------------------------------------------------------

    def plan_change(self, plan: FlushPlan) -> IndexChange | None:
        """Return what `plan` means for the index, None if it means nothing: SELECTs and checks, no writes."""
        return None

    def plan_insert(
        self,
        session: Session,
        connection: Connection,
        parent_pk: PrimaryKey,
        parent_values: ColumnValues,
        rows: Sequence[NewRow],
    ) -> IndexInsert:
        """Prepare new rows below a parent, behind its children, and make space for them.

        Each row gets the same keys in its values, so that they make one batch.

        Args:
            session: The session.
            connection: Its connection for the tree.
            parent_pk: The primary key of the parent, None for new roots. The list of its children is locked.
            parent_values: What the index keeps about the parent.
            rows: The new rows, parents first.
        """
        return IndexInsert()

    def delete_entries(self, connection: Connection, keys: Collection[PrimaryKey]) -> None:
        """Delete what the index keeps in other tables about rows that are about to be deleted."""

    # -- integrity -------------------------------------------------------------------------------

    def find_problems(self, connection: Connection, rows: Sequence[NodeRow]) -> Iterator[TreeProblem]:
        """Compare the index with ``parent_id`` of all nodes, siblings in order; the parent links are sound."""
        return iter(())

    def check_limits(self, rows: Sequence[NodeRow]) -> None:
        """Refuse a tree that the index cannot hold; `rebuild` follows, and positions are written in between."""

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[NodeRow]) -> set[PrimaryKey]:
        """Derive the index again and return the primary keys of rows that changed; loaded objects are updated too."""
        return set()


def needs_tree(cls: MappedClass, mixin: str) -> None:
    """Refuse `cls`, which is being mapped with the index `mixin`, unless it is a tree."""

    def check(mapper: AnyMapper) -> None:
        if not issubclass(mapper.class_, SelfLinked):
            raise MappingError(
                f"{mixin} on {mapper.class_.__name__!r} is an index of a tree and no tree by itself; "
                f"mix in TreeNode or KeyedTreeNode too: class {mapper.class_.__name__}({mixin}, TreeNode, Base)"
            )

    on_mapped(cls, table=check)


def descendants_cte(
    config: TreeConfig, keys: Sequence[PrimaryKey], *, inclusive: bool, max_depth: int | None = None
) -> CTE:
    """Return ``(pk)`` of everything below `keys`; with `max_depth`, ``(pk, depth)``.

    UNION, not UNION ALL: it ends on a cycle that was written outside of the ORM. A depth would tell the rounds apart,
    so there is one only where it also bounds them.
    """
    table, pk, parent_id = config.table, config.pk, config.parent_id
    start = pk.in_(keys) if inclusive else parent_id.in_(keys)
    if max_depth is None:
        top = structural_part(select(pk.label("pk")).select_from(table).where(start))
        down = top.cte(recursive=True, nesting=True)
        return down.union(structural_part(select(pk).join(down, parent_id == down.c.pk)))
    first = literal(0 if inclusive else 1, Integer)
    bounded = structural_part(select(pk.label("pk"), first.label("depth")).select_from(table).where(start))
    down = bounded.cte(recursive=True, nesting=True)
    deeper = select(pk, down.c.depth + 1).join(down, parent_id == down.c.pk).where(down.c.depth < max_depth)
    return down.union(structural_part(deeper))


def ancestors_cte(config: TreeConfig, keys: Sequence[PrimaryKey]) -> CTE:
    """Return ``(pk, parent_id)`` of `keys` and of everything above them."""
    pk, parent_id = config.pk, config.parent_id
    start = structural_part(select(pk.label("pk"), parent_id.label("parent_id")).where(pk.in_(keys)))
    up = start.cte(recursive=True, nesting=True)
    return up.union(structural_part(select(pk, parent_id).join(up, pk == up.c.parent_id)))


def _closure_cte(config: TreeConfig, max_depth: int | None = None) -> CTE:
    """Return ``(ancestor, descendant)`` for the whole table, each node with itself included.

    A CTE that refers to the outer query is refused by MariaDB; this one refers to nothing and is computed once.
    """
    pk, parent_id = config.pk, config.parent_id
    columns = [pk.label("ancestor"), pk.label("descendant")]
    if max_depth is None:
        pairs = structural_part(select(*columns)).cte(recursive=True, nesting=True)
        return pairs.union(structural_part(select(pairs.c.ancestor, pk).join(pairs, parent_id == pairs.c.descendant)))
    pairs = structural_part(select(*columns, literal(0, Integer).label("depth"))).cte(recursive=True, nesting=True)
    deeper = (
        select(pairs.c.ancestor, pk, pairs.c.depth + 1)
        .join(pairs, parent_id == pairs.c.descendant)
        .where(pairs.c.depth < max_depth)
    )
    return pairs.union(structural_part(deeper))
