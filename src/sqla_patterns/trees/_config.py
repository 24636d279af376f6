"""What the room knows about one tree class, gathered while the class is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, get_args

from sqlalchemy import Column, ForeignKey, Index, Table, inspect
from sqlalchemy.orm import Mapper, RelationshipDirection
from sqlalchemy.types import NullType

from .._declarative import attribute_key, sole_primary_key
from ..exceptions import InvalidArgumentError, MappingError
from ._index import TreeIndex
from ._options import OnDelete, TreeOptions

__all__ = ("TreeConfig", "complete_table", "config_of", "options_of", "register")

_CONFIG = "__sqla_tree_config__"
_ONDELETE = {"cascade": "CASCADE", "root": "SET NULL"}


@dataclass(frozen=True, eq=False)
class TreeConfig:
    """Columns and attribute names of a tree; one for each class that mixes a tree in, shared by its subclasses."""

    cls: type[Any]
    mapper: Mapper[Any]
    table: Table
    pk: Column[Any]
    parent_id: Column[Any]
    position: Column[Any] | None
    keyed: bool
    options: TreeOptions
    index_class: type[TreeIndex] = TreeIndex

    @cached_property
    def index(self) -> TreeIndex:
        return self.index_class(self)

    @property
    def name(self) -> str:
        return self.cls.__name__

    @cached_property
    def pk_attr(self) -> str:
        return attribute_key(self.mapper, self.pk)

    @property
    def key_attr(self) -> str | None:
        return self.options.key

    @cached_property
    def key(self) -> Column[Any] | None:
        return None if self.options.key is None else self._column(self.options.key)

    @cached_property
    def order_attrs(self) -> tuple[str, ...]:
        """Attributes that siblings sort by; the primary key, last, decides between equals."""
        if self.options.order_by:
            return (*self.options.order_by, self.pk_attr)
        if self.position is not None:
            return ("position", self.pk_attr)
        return (self.options.key or self.pk_attr, self.pk_attr)

    @cached_property
    def order_by(self) -> tuple[Any, ...]:
        """The attributes of `order_attrs`, for ORDER BY."""
        return tuple(getattr(self.cls, name) for name in self.order_attrs)

    @property
    def orders_itself(self) -> bool:
        """Whether siblings sort by attributes of the user's, rather than by ``position``."""
        return self.position is None

    @cached_property
    def orm_deletes(self) -> bool:
        """Whether deleting a node means more than deleting its row, so that the unit of work has to see each node.

        That is so where a relationship of the user's cascades to, or clears, rows of another table, and where somebody
        listens for deletions of single nodes.
        """
        for mapper in self.mapper.self_and_descendants:
            if mapper.dispatch.before_delete or mapper.dispatch.after_delete:
                return True
            for rel in mapper.relationships:
                if rel.viewonly or rel.key in ("parent", "children"):
                    continue
                if rel.direction is RelationshipDirection.MANYTOONE:
                    if rel.cascade.delete:
                        return True
                elif not rel.passive_deletes:
                    return True
        return False

    @cached_property
    def database_unlinks(self) -> bool:
        """Whether the foreign key says what becomes of the children of a deleted row."""
        actions = {(fk.ondelete or "").upper() for fk in self.parent_id.foreign_keys if fk.references(self.table)}
        return actions <= {"CASCADE", "SET NULL"}

    @cached_property
    def dependent_tables(self) -> Sequence[Table]:
        """Tables of the hierarchy that hold a part of each node, those that refer to others first."""
        tables = {m.local_table for m in self.mapper.base_mapper.self_and_descendants}
        return [table for table in reversed(self.table.metadata.sorted_tables) if table in tables]

    def _column(self, attr: str) -> Column[Any]:
        prop = self.mapper.columns.get(attr)
        if prop is None or prop.table is not self.table:
            raise MappingError(
                f"TreeOptions of {self.name!r} names {attr!r}, which is no column attribute of table {self.table.fullname!r}"
            )
        return prop

    def check(self) -> None:
        """Refuse options that do not fit the mapped class."""
        for attr in self.options.order_by:
            self._column(attr)
        if self.options.key is not None:
            self._column(self.options.key)


def options_of(cls: type[Any]) -> TreeOptions:
    """The ``__tree__`` of `cls`, checked."""
    options = getattr(cls, "__tree__", None) or TreeOptions()
    if not isinstance(options, TreeOptions):
        raise MappingError(f"{cls.__name__}.__tree__ must be TreeOptions(...), not {type(options).__name__}")
    if isinstance(options.order_by, str):
        raise MappingError(f"TreeOptions.order_by of {cls.__name__!r} is a tuple of names: ({options.order_by!r},)")
    if options.on_delete not in get_args(OnDelete):
        known = ", ".join(repr(policy) for policy in get_args(OnDelete))
        raise MappingError(f"TreeOptions.on_delete of {cls.__name__!r} is {options.on_delete!r}; known are {known}")
    return options


def complete_table(mapper: Mapper[Any], *, keyed: bool) -> None:
    """Check the options of a class that is being mapped and complete its table: type, foreign key and index of ``parent_id``."""
    cls = mapper.class_
    mixin = "KeyedTreeNode" if keyed else "TreeNode"
    options = options_of(cls)
    if keyed and options.key is None:
        raise MappingError(
            f"{cls.__name__!r} is a KeyedTreeNode and needs the attribute that keys its children: "
            "__tree__ = TreeOptions(key='name')"
        )
    if not keyed and options.key is not None:
        raise MappingError(
            f"TreeOptions(key={options.key!r}) on {cls.__name__!r} needs KeyedTreeNode in place of TreeNode"
        )
    index_class = _index_class(cls)
    table = _table(mapper.local_table)
    if table is None:
        raise MappingError(
            f"{mixin} on {cls.__name__!r} needs a table, and the class is mapped to {mapper.local_table!r}"
        )
    pk = sole_primary_key(table, cls, mixin)
    index_class.complete_table(mapper, table, pk)
    parent_id = table.c.get("parent_id")
    if parent_id is None:
        return  # The class maps a column of its own as `parent_id`, with its own foreign key.
    if isinstance(parent_id.type, NullType):
        parent_id.type = pk.type
    if not any(fk.references(table) for fk in parent_id.foreign_keys):
        parent_id.append_foreign_key(ForeignKey(pk, ondelete=_ONDELETE.get(options.on_delete)))
    if not any(next(iter(index.columns), None) is parent_id for index in table.indexes):
        # Siblings are read in order and appended behind the last: one index serves both, and the foreign key.
        position = table.c.get("position")
        Index(None, parent_id, *(() if keyed or options.order_by or position is None else (position,)))


def _index_class(cls: type[Any]) -> type[TreeIndex]:
    """The index that a class mixes in."""
    found: list[Any] = [base for base in cls.__mro__ if "__tree_index__" in vars(base)]
    if len(found) > 1:
        names = " and ".join(base.__name__ for base in found)
        raise MappingError(f"{cls.__name__!r} has the indexes {names}; a tree has at most one")
    return cast("type[TreeIndex]", found[0].__tree_index__) if found else TreeIndex


def register(mapper: Mapper[Any], *, keyed: bool) -> TreeConfig:
    """Keep what the room knows about a class whose columns are mapped on the class itself."""
    options = options_of(mapper.class_)
    parent_id = mapper.columns["parent_id"]
    table = _table(parent_id.table)
    if table is None:
        raise MappingError(f"'parent_id' of {mapper.class_.__name__!r} must be a column of a table")
    position = None if keyed or options.order_by else mapper.columns["position"]
    config = TreeConfig(
        mapper.class_,
        mapper,
        table,
        next(iter(table.primary_key)),
        parent_id,
        position,
        keyed,
        options,
        _index_class(mapper.class_),
    )
    config.check()
    setattr(mapper.class_, _CONFIG, config)
    config.index.listen(config)
    return config


def _table(selectable: Any) -> Table | None:
    return cast("Any", selectable) if isinstance(selectable, Table) else None


def config_of(entity: Any) -> TreeConfig:
    """The tree of a class, an alias or an instance.

    Raises:
        InvalidArgumentError: `entity` is no mapped tree class.
    """
    insp = inspect(entity, raiseerr=False)
    cls = insp.mapper.class_ if insp is not None and hasattr(insp, "mapper") else entity
    config = getattr(cls, _CONFIG, None)
    if not isinstance(config, TreeConfig):
        raise InvalidArgumentError(
            f"{entity!r} is no tree: expected a mapped class with TreeNode or KeyedTreeNode among its bases"
        )
    return config
