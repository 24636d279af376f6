"""What a tree may keep beside ``parent_id`` so that questions about it are answered faster, and how the room asks.

`TreeIndex` itself is the tree without an index: it follows ``parent_id`` with recursive common table expressions and keeps nothing. An
index replaces the questions that it answers faster, and derives what it keeps from `Plan.links`, which say where every node goes.

``parent_id`` stays the truth. Cycles, locks and deletions go by it in every tree, so an index that was damaged past the ORM can give
wrong answers, which `verify_tree` finds and `rebuild_tree` mends, but can neither let a cycle in nor delete what it should not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from sqlalchemy import CTE, Column, ColumnElement, Connection, Integer, Table, and_, false, literal, select, tuple_
from sqlalchemy.orm import Mapper, Session

from .._declarative import on_mapped
from .._typing import SelfLinked
from ..exceptions import MappingError
from ._errors import TreeProblem

if TYPE_CHECKING:
    from ._config import TreeConfig
    from ._data import Entry
    from ._plan import Plan

__all__ = ("Change", "Placement", "Row", "TreeIndex", "ancestors_cte", "descendants_cte", "needs_tree")


class Row(NamedTuple):
    """What `verify_tree` and `rebuild_tree` read of a node; `kept` are the values of the index attributes, by name."""

    pk: Any
    parent: Any
    position: Any
    key: Any
    kept: Mapping[str, Any]


class Change:
    """What an index does in one flush. Made under the lock; whoever makes it has checked that nothing will fail."""

    def write(self) -> None:
        """Change the rows and objects that exist, and set the attributes of new nodes, before the unit of work begins."""

    def finish(self) -> None:
        """Do what needs the keys or the rows of new nodes, after the unit of work."""


class Placement:
    """What an index does for `insert_tree`. Made before the first INSERT, when the place is locked."""

    def complete(self, entry: Entry) -> None:
        """Set what depends on the key of the entry or of those above it, right before its INSERT."""

    def finish(self) -> None:
        """Do what needs the rows of all entries."""


class TreeIndex:
    """The tree without an index: reads follow ``parent_id``.

    Attributes:
        attributes: names of the attributes that the index keeps on nodes.
        numbers_roots: a new root takes a number from a series that all roots share, so that they need its lock.
    """

    attributes: ClassVar[tuple[str, ...]] = ()
    numbers_roots: ClassVar[bool] = False

    def __init__(self, config: TreeConfig) -> None:
        self.config = config

    @property
    def keeps_anything(self) -> bool:
        """Whether a new or moved node changes more than its own row."""
        return type(self) is not TreeIndex

    # -- mapping ---------------------------------------------------------------------------------

    @classmethod
    def complete_table(cls, mapper: Mapper[Any], table: Table, pk: Column[Any]) -> None:
        """Add what the mixin cannot say before there is a table: types, indexes, tables."""

    @classmethod
    def listen(cls, config: TreeConfig) -> None:
        """Listen to events of the mapped class."""

    def columns(self) -> dict[str, Column[Any]]:
        """The columns of `attributes`."""
        return {name: self.config.mapper.columns[name] for name in self.attributes}

    # -- reading ---------------------------------------------------------------------------------

    def descendants(
        self, entity: Any, keys: Sequence[Any], *, inclusive: bool, max_depth: int | None
    ) -> ColumnElement[bool]:
        """Match `entity` below one of `keys`."""
        if max_depth == 0 and not inclusive:
            return false()
        down = descendants_cte(self.config, keys, inclusive=inclusive, max_depth=max_depth)
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(select(down.c.pk)))

    def ancestors(self, entity: Any, keys: Sequence[Any], *, inclusive: bool) -> ColumnElement[bool]:
        """Match `entity` above one of `keys`."""
        up = ancestors_cte(self.config, keys)
        # A node lies above another when it is the parent of something on the way up.
        wanted = up.c.pk if inclusive else up.c.parent_id
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(select(wanted).where(wanted.is_not(None))))

    def related(
        self, ancestor: Any, descendant: Any, *, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match pairs of two entities of which one lies above the other."""
        one, other = self.pk_of(ancestor), self.pk_of(descendant)
        closure = _closure(self.config, max_depth)
        pair = tuple_(one, other).in_(select(closure.c.ancestor, closure.c.descendant))
        return pair if inclusive else and_(pair, one != other)

    def within(self, entity: Any, max_depth: int) -> ColumnElement[bool]:
        """Match `entity` at most `max_depth` edges below a root."""
        pk, parent_id = self.config.pk, self.config.parent_id
        zero = literal(0, Integer)
        roots = select(pk.label("pk"), zero.label("depth")).where(parent_id.is_(None)).cte(recursive=True, nesting=True)
        deeper = select(pk, roots.c.depth + 1).join(roots, parent_id == roots.c.pk).where(roots.c.depth < max_depth)
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(select(roots.union(deeper).c.pk)))

    def pk_of(self, entity: Any) -> Any:
        return getattr(entity, self.config.pk_attr)

    # -- writing ---------------------------------------------------------------------------------

    def change(self, plan: Plan) -> Change | None:
        """Prepare what `plan` means for the index: SELECTs and checks, no writes. None if it means nothing."""
        return None

    def place(
        self,
        session: Session,
        connection: Connection,
        parent_pk: Any,
        kept: Mapping[str, Any],
        entries: Sequence[Entry],
    ) -> Placement:
        """Prepare new rows below `parent_pk`, behind its children, and make room for them.

        The place is locked, and `kept` is what the index keeps about the parent.

        Sets values of entries that are known by now; each entry gets the same keys, so that their rows make one batch.
        """
        return Placement()

    def forget(self, connection: Connection, keys: Collection[Any]) -> None:
        """Remove what the index keeps elsewhere about rows that are about to be deleted."""

    # -- integrity -------------------------------------------------------------------------------

    def problems(self, connection: Connection, rows: Sequence[Row]) -> Iterator[TreeProblem]:
        """Compare the index with ``parent_id`` of all nodes, siblings in order; their links are sound."""
        return iter(())

    def check(self, rows: Sequence[Row]) -> None:
        """Refuse a tree that the index cannot hold; `rebuild` follows, and positions are written in between."""

    def rebuild(self, session: Session, connection: Connection, rows: Sequence[Row]) -> set[Any]:
        """Derive the index anew and return the keys of rows that changed; loaded objects are brought into step."""
        return set()


def needs_tree(cls: type[Any], mixin: str) -> None:
    """Refuse `cls`, which is being mapped with the index `mixin`, unless it is a tree."""

    def check(mapper: Mapper[Any]) -> None:
        if not issubclass(mapper.class_, SelfLinked):
            raise MappingError(
                f"{mixin} on {mapper.class_.__name__!r} is an index of a tree and no tree by itself; "
                f"mix in TreeNode or KeyedTreeNode too: class {mapper.class_.__name__}({mixin}, TreeNode, Base)"
            )

    on_mapped(cls, table=check)


def descendants_cte(config: TreeConfig, keys: Sequence[Any], *, inclusive: bool, max_depth: int | None = None) -> CTE:
    """``(pk)`` of everything below `keys`; with `max_depth`, ``(pk, depth)``.

    UNION, not UNION ALL: it ends on a cycle that somebody wrote past the ORM. A depth would tell the rounds apart, so there is
    one only where it also bounds them.
    """
    table, pk, parent_id = config.table, config.pk, config.parent_id
    start = pk.in_(keys) if inclusive else parent_id.in_(keys)
    if max_depth is None:
        down = select(pk.label("pk")).select_from(table).where(start).cte(recursive=True, nesting=True)
        return down.union(select(pk).join(down, parent_id == down.c.pk))
    first = literal(0 if inclusive else 1, Integer)
    down = (
        select(pk.label("pk"), first.label("depth")).select_from(table).where(start).cte(recursive=True, nesting=True)
    )
    deeper = select(pk, down.c.depth + 1).join(down, parent_id == down.c.pk).where(down.c.depth < max_depth)
    return down.union(deeper)


def ancestors_cte(config: TreeConfig, keys: Sequence[Any]) -> CTE:
    """``(pk, parent_id)`` of `keys` and of everything above them."""
    pk, parent_id = config.pk, config.parent_id
    up = select(pk.label("pk"), parent_id.label("parent_id")).where(pk.in_(keys)).cte(recursive=True, nesting=True)
    return up.union(select(pk, parent_id).join(up, pk == up.c.parent_id))


def _closure(config: TreeConfig, max_depth: int | None = None) -> CTE:
    """``(ancestor, descendant)`` for the whole table, each node with itself included.

    A CTE that refers to the outer query is refused by MariaDB; this one refers to nothing and is computed once.
    """
    pk, parent_id = config.pk, config.parent_id
    columns = [pk.label("ancestor"), pk.label("descendant")]
    if max_depth is None:
        pairs = select(*columns).cte(recursive=True, nesting=True)
        return pairs.union(select(pairs.c.ancestor, pk).join(pairs, parent_id == pairs.c.descendant))
    pairs = select(*columns, literal(0, Integer).label("depth")).cte(recursive=True, nesting=True)
    deeper = (
        select(pairs.c.ancestor, pk, pairs.c.depth + 1)
        .join(pairs, parent_id == pairs.c.descendant)
        .where(pairs.c.depth < max_depth)
    )
    return pairs.union(deeper)
