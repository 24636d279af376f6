"""`Tree`: the mapping of a tree class together with its index, which is found on the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import inspect

from ..exceptions import InvalidArgumentError
from ._config import TreeConfig
from ._index import TreeIndex

#: The attribute of a mapped class with its `Tree`.
TREE: Final = "__sqla_tree__"


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree class: its mapping, and the index that answers questions about it."""

    config: TreeConfig
    index: TreeIndex

    @property
    def is_referred_to(self) -> bool:
        """Return whether tables beside those of the tree have foreign keys to nodes."""
        node_tables = self.config.dependent_tables
        tree_tables = {*node_tables, *self.index.tables}
        others = [table for table in self.config.table.metadata.tables.values() if table not in tree_tables]
        return any(fk.references(each) for table in others for fk in table.foreign_keys for each in node_tables)


def find_tree(cls: type[object]) -> Tree | None:
    """Return the tree of a class, None where it has none."""
    found = getattr(cls, TREE, None)
    return found if isinstance(found, Tree) else None


def tree_of(entity: object) -> Tree:
    """Return the tree of a class, an alias or an instance.

    Raises:
        InvalidArgumentError: `entity` is no mapped tree class.
    """
    insp = inspect(entity, raiseerr=False)
    cls = insp.mapper.class_ if insp is not None and hasattr(insp, "mapper") else entity
    found = getattr(cls, TREE, None)
    if not isinstance(found, Tree):
        raise InvalidArgumentError(
            f"{entity!r} is no tree: expected a mapped class with TreeNode or KeyedTreeNode among its bases"
        )
    return found
