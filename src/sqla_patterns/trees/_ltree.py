"""Materialized paths in PostgreSQL's own type for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sqlalchemy import ColumnElement, Index, String, Table, and_, func, literal, select
from sqlalchemy.orm import Mapped, Mapper, mapped_column
from sqlalchemy.types import UserDefinedType

from .._declarative import mixin_attr
from ._index import needs_tree
from ._path_rules import PathFormat
from ._paths import PathIndex, path_column

if TYPE_CHECKING:
    from sqlalchemy import Column

    from ._config import TreeConfig

__all__ = ("Ltree", "LtreePath")

#: A GiST index keeps pairs of paths, at 8 bytes a label, and needs two of them on a page of 8,192 bytes; past some 250 levels
#: PostgreSQL runs out of stack trying to split one.
_LEVELS = 200


class Ltree(UserDefinedType[str]):
    """PostgreSQL's type ``ltree``, from the extension of that name; a `str` in Python, on psycopg and asyncpg.

    >>> from sqlalchemy import Column
    >>> from sqlalchemy.schema import CreateColumn
    >>> print(CreateColumn(Column("path", Ltree())))
    path LTREE
    """

    #: Statements with this type are cached; it has no options.
    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        """The name of the type in DDL."""
        return "LTREE"

    def bind_expression(self, bindvalue: Any) -> ColumnElement[str]:
        """Have the server make an ltree of the text that is sent."""
        # Drivers that ask the server for the types of parameters would want a codec of the extension's type.
        return func.text2ltree(bindvalue, type_=self)


class LtreeIndex(PathIndex):
    """`PathIndex` with the operators of ltree for reads."""

    format: ClassVar[PathFormat] = PathFormat(separator=".", beyond=".A")

    def __init__(self, config: TreeConfig) -> None:
        super().__init__(config)
        self.most_levels = _LEVELS

    @classmethod
    def complete_table(cls, mapper: Mapper[Any], table: Table, pk: Column[Any]) -> None:
        # Here, where somebody uses the type: importing a dialect maps tables and listens to events.
        from sqlalchemy.dialects.postgresql.base import PGDialect

        # A migration compares the table with what it reflects, and PostgreSQL's dialect does not know the type of an extension.
        cast("dict[str, Any]", PGDialect.ischema_names).setdefault("ltree", Ltree)
        path = path_column(table, mapper.class_)
        mine = [index for index in table.indexes if next(iter(index.columns), None) is path]
        by_method = {index.dialect_options["postgresql"]["using"] or "btree": index for index in mine}
        # One for ranges and ORDER BY, and one for the operators; a convention gives both the same name.
        ordered = by_method.get("btree") or Index(None, path)
        if "gist" not in by_method:
            Index(f"{ordered.name}_gist", path, postgresql_using="gist")

    # -- paths in SQL ----------------------------------------------------------------------------

    def text(self, path: Any) -> ColumnElement[str]:
        return func.ltree2text(path, type_=String())

    def value(self, text: Any) -> Any:
        return literal(text, Ltree()) if isinstance(text, str) else func.text2ltree(text, type_=Ltree())

    def inside(self, below: Any, above: Any, *, inclusive: bool, max_depth: int | None = None) -> ColumnElement[bool]:
        criteria = [below.bool_op("<@")(above)]
        if not inclusive:
            criteria.append(below != above)
        if max_depth is not None:
            criteria.append(func.nlevel(below) <= func.nlevel(above) + max_depth)
        return and_(*criteria)

    def depth(self, path: Any, max_depth: int) -> ColumnElement[bool]:
        return func.nlevel(path) <= max_depth + 1

    # -- reading ---------------------------------------------------------------------------------

    def ancestors(self, entity: Any, keys: Sequence[Any], *, inclusive: bool) -> ColumnElement[bool]:
        path, is_below, below = self._paths_of(keys)
        if len(keys) == 1:
            one = select(path).where(is_below).scalar_subquery()
            criteria = [entity.path.bool_op("@>")(one), *([] if inclusive else [entity.path != one])]
            return and_(*criteria)
        above = self.config.table.alias()
        pair = self.inside(path, above.c[self.columns()["path"].key], inclusive=inclusive)
        found = select(above.c[self.config.pk.key]).select_from(below).where(is_below, pair)
        return cast("ColumnElement[bool]", self.pk_of(entity).in_(found))


class LtreePath:
    """`MaterializedPath` in PostgreSQL's type ``ltree``, with its operators and its GiST index.

    Mix it in as `MaterializedPath`::

        class Area(LtreePath, TreeNode, Base):
            __tablename__ = "area"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

    The column ``path`` is an ``ltree`` of labels of six digits, ``000003.000000.000012``, with a GiST index for the operators and
    a B-tree for ``ORDER BY path`` and for the writes. What the steps say, what a write costs, and what is derived, is as in
    `MaterializedPath`.

    **What it gives beyond** `MaterializedPath`: ``nlevel(path)``, ``lca(path, ...)`` and queries by pattern in SQL of yours, such
    as ``Area.path.bool_op("~")(cast("*{2}", LQUERY))``; a range by ``<@`` with any right side; `ancestor_of` by ``@>``.

    **The extension is expected, not created**: that is the business of a migration, which may need a role that is allowed to::

        op.execute("CREATE EXTENSION IF NOT EXISTS ltree")

    before the table. In a migration the type is `Ltree`, with ``import sqla_patterns.trees`` in it. The extension has to be in
    the ``search_path``.

    **Limits.** 200 levels, and 1,000,000 children of one parent, by position: beyond, `PathOverflowError` is raised before
    anything is written.

    **When not to use it.** Where the application shall run on another database too: `MaterializedPath` does the same there. Where
    nobody asks by patterns: the plain string takes two thirds of the room, and one index instead of two.
    """

    __tree_index__ = LtreeIndex

    if TYPE_CHECKING:
        path: Mapped[str | None]
    else:

        @mixin_attr
        def path(cls):
            needs_tree(cls, "LtreePath")
            return mapped_column("path", Ltree(), nullable=True)
