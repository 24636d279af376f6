"""Set a tree up while its class is mapped: check its options, complete its table, and attach its `Tree`."""

from __future__ import annotations

from typing import cast, get_args

from sqlalchemy import ForeignKey, Index
from sqlalchemy.types import NullType

from .._declarative import sole_primary_key
from .._maintained import MAINTAINED_COLUMNS, MaintainedColumn
from .._sql import is_table
from .._typing import AnyMapper, MappedClass
from ..exceptions import MappingError
from ._config import TreeConfig
from ._index import TreeIndex
from ._options import OnDelete, TreeOptions
from ._tree import TREE, Tree

_ONDELETE = {"cascade": "CASCADE", "root": "SET NULL"}


def options_of(cls: MappedClass) -> TreeOptions:
    """Return the ``__tree__`` of `cls`, checked.

    Raises:
        MappingError: It is no `TreeOptions`, or one of its values is wrong.
    """
    options = getattr(cls, "__tree__", None) or TreeOptions()
    if not isinstance(options, TreeOptions):
        raise MappingError(f"{cls.__name__}.__tree__ must be TreeOptions(...), not {type(options).__name__}")
    if isinstance(options.order_by, str):
        raise MappingError(f"TreeOptions.order_by of {cls.__name__!r} is a tuple of names: ({options.order_by!r},)")
    if options.on_delete not in get_args(OnDelete):
        known = ", ".join(repr(policy) for policy in get_args(OnDelete))
        raise MappingError(f"TreeOptions.on_delete of {cls.__name__!r} is {options.on_delete!r}; known are {known}")
    return options


def complete_table(mapper: AnyMapper, *, keyed: bool) -> None:
    """Complete the table of a class that is being mapped: type, foreign key and index of ``parent_id``.

    Raises:
        MappingError: The options do not fit the class, or it has no table with one primary key column.
    """
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
    table = mapper.local_table
    if not is_table(table):
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


def attach_tree(mapper: AnyMapper, *, keyed: bool) -> Tree:
    """Attach the `Tree` of a class whose columns are mapped to the class, and return it.

    Raises:
        MappingError: The options name what is no column of the class.
    """
    cls = mapper.class_
    options = options_of(cls)
    parent_id = mapper.columns["parent_id"]
    table: object = parent_id.table
    if not is_table(table):
        raise MappingError(f"'parent_id' of {cls.__name__!r} must be a column of a table")
    config = TreeConfig(
        cls=cls,
        mapper=mapper,
        table=table,
        pk=next(iter(table.primary_key)),
        parent_id=parent_id,
        position=None if keyed or options.order_by else mapper.columns["position"],
        keyed=keyed,
        options=options,
    )
    config.check()
    index_class = _index_class(cls)
    tree = Tree(config, index_class(config))
    setattr(cls, TREE, tree)
    if config.position is not None:
        # Declared here and not by the mixin: whether there is one depends on the options.
        declared = vars(cls).get(MAINTAINED_COLUMNS, ())
        position = MaintainedColumn("position", "TreeNode", in_history=True, settable=True, shifted=True)
        setattr(cls, MAINTAINED_COLUMNS, (*declared, position))
    index_class.listen(config)
    return tree


def _index_class(cls: MappedClass) -> type[TreeIndex]:
    """Return the class of the index that a class mixes in."""
    bases: list[MappedClass] = [base for base in cls.__mro__ if "__tree_index__" in vars(base)]
    if len(bases) > 1:
        names = " and ".join(base.__name__ for base in bases)
        raise MappingError(f"{cls.__name__!r} has the indexes {names}; a tree has at most one")
    return cast("type[TreeIndex]", bases[0].__tree_index__) if bases else TreeIndex
