"""`PathDialect`: what differs between a path that is kept as a string and one in a database's own type for paths."""

from __future__ import annotations

from typing import ClassVar, cast

from sqlalchemy import ColumnElement, and_, func

from .._typing import AnyColumn, AnyExpression
from ._config import TreeConfig
from ._path_rules import PathFormat


class PathDialect:
    """Paths in the column of one tree, as strings: their format, their limit, and what is asked about them in SQL.

    Attributes:
        format: How steps are joined.
        config: The tree.
        column: The column with the paths.
        most_levels: How many steps a path can have.
    """

    format: ClassVar[PathFormat] = PathFormat(separator="", beyond=":")

    def __init__(self, config: TreeConfig, column: AnyColumn, most_levels: int) -> None:
        self.config = config
        self.column = column
        self.most_levels = most_levels

    def text(self, path: AnyExpression) -> ColumnElement[str]:
        """Return a path as text."""
        return cast("ColumnElement[str]", path)

    def value(self, text: str) -> str | AnyExpression:
        """Return a string as a path, to compare with."""
        return text

    def expression(self, text: ColumnElement[str]) -> AnyExpression:
        """Return text, an expression, as a path."""
        return text

    def inside(
        self, *, below: AnyExpression, above: AnyExpression, inclusive: bool, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Return the criterion that path `below` begins with path `above`."""
        criteria = [below >= above if inclusive else below > above, below < above.concat(self.format.beyond)]
        if max_depth is not None:
            criteria.append(func.length(below) <= func.length(above) + self.format.length(max_depth))
        return and_(*criteria)

    def within_depth(self, path: AnyExpression, max_depth: int) -> ColumnElement[bool]:
        """Return the criterion that a path has at most `max_depth` steps below its root."""
        return func.length(path) <= self.format.length(max_depth + 1)
