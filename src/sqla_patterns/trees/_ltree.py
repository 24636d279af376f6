"""`LtreePath`: materialized paths in PostgreSQL's own type for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sqlalchemy import BindParameter, ColumnElement, Connection, Index, String, Table, and_, func, literal, select
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import UserDefinedType

from .._declarative import mixin_attr
from .._maintained import MaintainedColumn
from .._sql import structural_part
from .._typing import AnyColumn, AnyExpression, AnyMapper, AnyType, PrimaryKey
from ..exceptions import StateError
from ._config import ColumnValues, Entity
from ._flush_plan import FlushPlan
from ._index import IndexChange, IndexInsert, needs_tree
from ._nested_data import NewRow
from ._path_dialect import PathDialect
from ._path_rules import PathFormat
from ._paths import PathIndex, path_column

#: A GiST index keeps pairs of paths, at 8 bytes a label, and needs two of them on a page of 8,192 bytes; beyond some
#: 250 levels PostgreSQL runs out of stack when it splits one.
_LEVELS = 200


class Ltree(UserDefinedType[str]):
    """PostgreSQL's type ``ltree``, from the extension of that name; a `str` in Python, on psycopg and asyncpg.

    >>> from sqlalchemy import Column
    >>> from sqlalchemy.schema import CreateColumn
    >>> print(CreateColumn(Column("path", Ltree())))
    path LTREE
    """

    # Migrations name the type by its module, and shall name the public one.
    __module__ = "sqla_patterns.trees"

    #: Statements with this type are cached; it has no options.
    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        """Return the name of the type in DDL."""
        return "LTREE"

    def bind_expression(self, bindvalue: BindParameter[str]) -> ColumnElement[str]:
        """Return a call with which the server makes an ltree of the text that is sent."""
        # Drivers that ask the server for the types of parameters would need a codec for the extension's type.
        return func.text2ltree(bindvalue, type_=self)


class LtreeDialect(PathDialect):
    """Paths in a column of the type `Ltree`, with its operators."""

    format: ClassVar[PathFormat] = PathFormat(separator=".", beyond=".A")

    def text(self, path: AnyExpression) -> ColumnElement[str]:
        """Return a path as text."""
        return func.ltree2text(path, type_=String())

    def value(self, text: str) -> str | AnyExpression:
        """Return a string as a path, to compare with."""
        return literal(text, Ltree())

    def expression(self, text: ColumnElement[str]) -> AnyExpression:
        """Return text, an expression, as a path."""
        return func.text2ltree(text, type_=Ltree())

    def inside(
        self, *, below: AnyExpression, above: AnyExpression, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Return the criterion that path `below` begins with path `above`."""
        criteria: list[ColumnElement[bool]] = [below.bool_op("<@")(above)]
        if not inclusive:
            criteria.append(below != above)
        if max_depth is not None:
            criteria.append(func.nlevel(below) <= func.nlevel(above) + max_depth)
        return and_(*criteria)

    def within_depth(self, path: AnyExpression, max_depth: int) -> ColumnElement[bool]:
        """Return the criterion that a path has at most `max_depth` steps below its root."""
        return func.nlevel(path) <= max_depth + 1


class LtreeIndex(PathIndex):
    """`PathIndex` with a column of the type `Ltree`."""

    dialect_class: ClassVar[type[PathDialect]] = LtreeDialect

    @classmethod
    def _most_levels(cls, column: AnyColumn) -> int:
        return _LEVELS

    @classmethod
    def complete_table(cls, mapper: AnyMapper, table: Table, pk: AnyColumn) -> None:
        """Add the two indexes of the column."""
        # Here, where a class uses the type: importing a dialect maps tables and listens to events.
        from sqlalchemy.dialects.postgresql.base import PGDialect

        # A migration compares the table with what it reflects, and PostgreSQL's dialect does not know the type of an
        # extension.
        cast("dict[str, type[AnyType]]", PGDialect.ischema_names).setdefault("ltree", Ltree)
        path = path_column(table, mapper.class_)
        present = [index for index in table.indexes if next(iter(index.columns), None) is path]
        by_method = {index.dialect_options["postgresql"]["using"] or "btree": index for index in present}
        # One for ranges and ORDER BY, and one for the operators; a convention gives both the same name.
        ordered = by_method.get("btree") or Index(None, path)
        if "gist" not in by_method:
            Index(f"{ordered.name}_gist", path, postgresql_using="gist")

    def plan_change(self, plan: FlushPlan) -> IndexChange | None:
        """Return the change of the paths, None if no node is new or moves."""
        if plan.links:
            self._require_postgresql(plan.connection)
        return super().plan_change(plan)

    def plan_insert(
        self,
        session: Session,
        connection: Connection,
        parent_pk: PrimaryKey,
        parent_values: ColumnValues,
        rows: Sequence[NewRow],
    ) -> IndexInsert:
        """Set the paths of new rows."""
        self._require_postgresql(connection)
        return super().plan_insert(session, connection, parent_pk, parent_values, rows)

    def ancestors(self, entity: Entity, keys: Sequence[PrimaryKey], *, inclusive: bool) -> ColumnElement[bool]:
        """Match `entity` above one of `keys` by the operator ``@>``."""
        path, is_below, below = self._paths_of(keys)
        if len(keys) == 1:
            one = structural_part(select(path).where(is_below)).scalar_subquery()
            criteria = [entity.path.bool_op("@>")(one), *([] if inclusive else [entity.path != one])]
            return and_(*criteria)
        above = self.config.table.alias()
        pair = self.dialect.inside(below=path, above=above.c[self.dialect.column.key], inclusive=inclusive)
        found = select(above.c[self.config.pk.key]).select_from(below).where(is_below, pair)
        return self.config.pk_attribute(entity).in_(structural_part(found))

    def _require_postgresql(self, connection: Connection) -> None:
        # Not when the class is mapped, since the database is not known by then.
        if connection.dialect.name != "postgresql":
            raise StateError(
                f"{self.config.name} has a LtreePath, which needs PostgreSQL and its extension ltree, and this session "
                f"is connected to {connection.dialect.name}; use MaterializedPath, which works everywhere"
            )


class LtreePath:
    """`MaterializedPath` in PostgreSQL's type ``ltree``, with its operators and its GiST index.

    Mix it in like `MaterializedPath`::

        class Area(LtreePath, TreeNode, Base):
            __tablename__ = "area"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

    The column ``path`` is an ``ltree`` of labels of six digits, ``000003.000000.000012``, with a GiST index for the
    operators and a B-tree for ``ORDER BY path`` and for the writes. What the steps say, what a write costs, and what is
    derived, is as in `MaterializedPath`.

    **What it gives beyond** `MaterializedPath`: ``nlevel(path)``, ``lca(path, ...)`` and queries by pattern in your own
    SQL, such as ``Area.path.bool_op("~")(cast("*{2}", LQUERY))``; a range by ``<@`` with any right side; `ancestor_of`
    by ``@>``.

    **The extension is expected, not created.** A migration has to create it before the table, with a role that is
    allowed to::

        op.execute("CREATE EXTENSION IF NOT EXISTS ltree")

    In a migration the type is `Ltree`, with ``import sqla_patterns.trees`` in it. The extension has to be in the
    ``search_path``.

    **Limits.** 200 levels, and 1,000,000 children of one parent, by position: beyond, `PathOverflowError` is raised
    before anything is written.

    **When not to use it.** Where the application shall run on another database too: `MaterializedPath` does the same
    there. Where nothing asks by patterns: the plain string takes two thirds of the space, and one index instead of two.
    """

    __tree_index__ = LtreeIndex
    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = (MaintainedColumn("path", "LtreePath"),)

    if TYPE_CHECKING:
        path: Mapped[str | None]
    else:

        @mixin_attr
        def path(cls):
            needs_tree(cls, "LtreePath")
            return mapped_column("path", Ltree(), nullable=True)
