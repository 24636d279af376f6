"""The two mixins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import Column, ColumnElement, Integer, text
from sqlalchemy.orm import Mapped, Mapper, Session, foreign, mapped_column, relationship, remote
from sqlalchemy.types import NullType

from .._declarative import listen_once, mixin_attr, on_mapped
from .._typing import ParentKey, SelfLinked, ToSelf, ToSelfMap, ToSelves
from . import _moves, _predicates
from ._collections import Siblings, keyed_children, listen_to_attributes
from ._config import complete_table, config_of, options_of, register
from ._flush import SESSION_LISTENERS
from ._options import TreeOptions

__all__ = ("KeyedTreeNode", "MovePosition", "NodeT", "TreeNode")

MovePosition = Literal["first_child", "last_child", "before", "after"]


def _prepare(cls: type[Any], *, keyed: bool) -> None:
    """Have the tree set up while SQLAlchemy maps `cls`, however it is mapped."""

    def constructed(mapper: Mapper[Any]) -> None:
        listen_to_attributes(register(mapper, keyed=keyed))
        for identifier, fn in SESSION_LISTENERS.items():
            listen_once(Session, identifier, fn)

    on_mapped(
        cls,
        table=lambda mapper: complete_table(mapper, keyed=keyed),
        constructed=constructed,
    )


def _children(cls: type[Any], collection_class: Any) -> Any:
    return relationship(
        lambda: cls,
        primaryjoin=lambda: foreign(remote(config_of(cls).parent_id)) == config_of(cls).pk,
        uselist=True,
        back_populates="parent",
        order_by=lambda: config_of(cls).order_by,
        collection_class=collection_class,
        # What happens to children of a deleted node is decided by the room, in one statement, not one node at a time.
        cascade="save-update, merge, refresh-expire, expunge",
        passive_deletes="all",
    )


class _Node(SelfLinked):
    """What both mixins share. Subclass `TreeNode` or `KeyedTreeNode`."""

    __tree__: TreeOptions | None = None

    if TYPE_CHECKING:
        parent_id = ParentKey()
        parent = ToSelf()
    else:

        @mixin_attr
        def parent_id(cls):
            # The type is the primary key's and is set once the table exists; `mapped_column` insists on one now.
            return Column("parent_id", NullType(), nullable=True)

        @mixin_attr
        def parent(cls):
            return relationship(
                lambda: cls,
                primaryjoin=lambda: foreign(config_of(cls).parent_id) == remote(config_of(cls).pk),
                uselist=False,
                back_populates="children",
            )

    @classmethod
    def descendant_of(
        cls, node: object, *, inclusive: bool = False, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match the nodes below `node`.

        Args:
            node: an instance, a primary key, a sequence of either, or another entity or alias of the tree, to join by.
            inclusive: match `node` itself too.
            max_depth: how many edges down; None for all of them.

        Raises:
            StateError: an instance has no primary key yet.
            InvalidArgumentError: `node` is nothing of the above, or `max_depth` is negative.

        A key that does not exist matches nothing. One recursive common table expression, which costs about the rows that it
        finds; by another entity it is computed once, for the whole table.
        """
        return _predicates.descendant_of(cls, node, inclusive=inclusive, max_depth=max_depth)

    @classmethod
    def ancestor_of(cls, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
        """Match the nodes above `node`; arguments and errors as in `descendant_of`."""
        return _predicates.ancestor_of(cls, node, inclusive=inclusive)

    @classmethod
    def child_of(cls, node: object) -> ColumnElement[bool]:
        """Match the nodes one step below `node`; arguments and errors as in `descendant_of`."""
        return _predicates.child_of(cls, node)

    @classmethod
    def sibling_of(cls, node: object, *, inclusive: bool = False) -> ColumnElement[bool]:
        """Match the nodes that share a parent with `node`. Roots are siblings of each other.

        Arguments and errors as in `descendant_of`; `inclusive` matches `node` itself too.
        """
        return _predicates.sibling_of(cls, node, inclusive=inclusive)

    @classmethod
    def is_root(cls) -> ColumnElement[bool]:
        """Match the nodes without a parent."""
        return _predicates.is_root(cls)

    @classmethod
    def is_leaf(cls) -> ColumnElement[bool]:
        """Match the nodes without children."""
        return _predicates.is_leaf(cls)

    def move_to(self, target: SelfLinked | None, position: MovePosition = "last_child") -> None:
        """Put this node, with everything below it, somewhere else at the next flush.

        Args:
            target: an instance of the same tree, in the same session or new; None makes this node the last root.
            position: ``"first_child"`` or ``"last_child"`` of `target`, or its sibling ``"before"`` or ``"after"`` it.

        Raises:
            InvalidMoveError: `target` is this node or, as far as loaded, below it. What is not loaded is checked by the flush,
                before its first write.
            InvalidArgumentError: `position` is unknown, or `target` is no node of this tree.

        No SQL. Works on what is loaded, so it serves under asyncio too.
        """
        _moves.move_to(self, target, position)


class TreeNode(_Node):
    """A node of a tree whose children are an ordered list.

    Mix it in before the declarative base. It adds ``parent_id`` (an indexed foreign key to the class's own primary key),
    ``parent``, ``children`` and, unless ``TreeOptions(order_by=...)`` says otherwise, ``position``: an integer that
    orders siblings and may have gaps.
    """

    if TYPE_CHECKING:
        children = ToSelves()
        position: Mapped[int]
    else:

        @mixin_attr
        def children(cls):
            _prepare(cls, keyed=False)
            return _children(cls, Siblings)

        @mixin_attr
        def position(cls):
            if options_of(cls).order_by:
                return None
            # The default is for rows that come past the ORM: they sort first, by key, until `rebuild_tree` numbers them.
            return mapped_column("position", Integer(), nullable=False, server_default=text("0"))


class KeyedTreeNode(_Node):
    """A node of a tree whose children are a dictionary, keyed by one of their attributes.

    The attribute is named in ``__tree__ = TreeOptions(key="name")``. Keys are unique among siblings, roots included.
    """

    if TYPE_CHECKING:
        children = ToSelfMap()
    else:

        @mixin_attr
        def children(cls):
            _prepare(cls, keyed=True)
            return _children(cls, keyed_children(options_of(cls).key))


NodeT = TypeVar("NodeT", bound=TreeNode | KeyedTreeNode)
