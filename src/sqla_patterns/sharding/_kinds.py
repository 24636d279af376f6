"""Classes of SQLAlchemy's elements, for ``isinstance()``.

They are generic: type checkers would make an element with an unknown parameter of each that is recognised.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CTE,
    Alias,
    BindParameter,
    Join,
    Label,
    Select,
    Subquery,
    Table,
    TableValuedAlias,
    UnaryExpression,
    Values,
)
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, False_, FunctionFilter, Grouping, Over
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import CompoundSelect, ScalarSelect, SelectBase

ALIAS: Final[Any] = Alias
BINARY: Final[Any] = BinaryExpression
BIND: Final[Any] = BindParameter
BOOLEAN: Final[Any] = BooleanClauseList
COMPOUND: Final[Any] = CompoundSelect
FALSE: Final[Any] = False_
FUNCTION: Final[Any] = FunctionElement
FUNCTION_FILTER: Final[Any] = FunctionFilter
GROUPING: Final[Any] = Grouping
JOIN: Final[Any] = Join
LABEL: Final[Any] = Label
OVER: Final[Any] = Over
ROWS: Final[Any] = (Values, TableValuedAlias)
SCALAR_SELECT: Final[Any] = ScalarSelect
SELECT: Final[Any] = Select
SELECT_BASE: Final[Any] = SelectBase
STACKED: Final[Any] = (Subquery, CTE, Alias, Grouping)
SUBQUERY: Final[Any] = (Subquery, CTE)
TABLE: Final[Any] = Table
UNARY: Final[Any] = UnaryExpression
