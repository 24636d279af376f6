"""The mixins `TreeNode` and `KeyedTreeNode`: attributes, predicates, and what happens when a class is mapped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal, TypeVar

from sqlalchemy import Column, ColumnElement, Integer, text
from sqlalchemy.orm import Mapped, Session, foreign, mapped_column, relationship, remote
from sqlalchemy.types import NullType

from .._declarative import listen_once, mixin_attr, on_mapped
from .._typing import AnyMapper, MappedClass, MappedObject, ParentKey, SelfLinked, ToSelf, ToSelfMap, ToSelves
from . import _moves, _predicates
from ._collections import Siblings, keyed_children, listen_to_attributes
from ._flush import SESSION_LISTENERS
from ._mapping import attach_tree, complete_table, options_of
from ._options import TreeOptions
from ._tree import tree_of

MovePosition = Literal["first_child", "last_child", "before", "after"]


def _prepare(cls: MappedClass, *, keyed: bool) -> None:
    """Set the tree up while SQLAlchemy maps `cls`, however it is mapped."""

    def constructed(mapper: AnyMapper) -> None:
        listen_to_attributes(attach_tree(mapper, keyed=keyed))
        for identifier, fn in SESSION_LISTENERS.items():
            listen_once(Session, identifier, fn)

    on_mapped(
        cls,
        table=lambda mapper: complete_table(mapper, keyed=keyed),
        constructed=constructed,
    )


def _children(cls: MappedClass, collection_class: Callable[[], Collection[MappedObject]]) -> object:
    return relationship(
        lambda: cls,
        primaryjoin=lambda: foreign(remote(tree_of(cls).config.parent_id)) == tree_of(cls).config.pk,
        uselist=True,
        back_populates="parent",
        order_by=lambda: tree_of(cls).config.order_by,
        collection_class=collection_class,
        # What happens to children of a deleted node is decided by this package, in one statement, not one node at a
        # time.
        cascade="save-update, merge, refresh-expire, expunge",
        passive_deletes="all",
    )


class _Node(SelfLinked):
    """The base of both mixins. Subclass `TreeNode` or `KeyedTreeNode`."""

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
                primaryjoin=lambda: foreign(tree_of(cls).config.parent_id) == remote(tree_of(cls).config.pk),
                uselist=False,
                back_populates="children",
            )

    @classmethod
    def descendant_of(
        cls, node: object, *, inclusive: bool = False, max_depth: int | None = None
    ) -> ColumnElement[bool]:
        """Match the nodes below `node`.

        Args:
            node: An instance, a primary key, a sequence of either, or another entity or alias of the tree, to join by.
            inclusive: Whether to match `node` itself too.
            max_depth: How many edges down; None for all of them.

        Raises:
            StateError: An instance has no primary key yet.
            InvalidArgumentError: `node` is none of the above, or `max_depth` is negative.

        A primary key that does not exist matches nothing. One recursive common table expression, which costs about the
        rows that it finds; by another entity it is computed once, for the whole table.
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
        """Move this node, with everything below it, at the next flush.

        Args:
            target: An instance of the same tree, in the same session or new; None makes this node the last root.
            position: ``"first_child"`` or ``"last_child"`` of `target`, or its sibling ``"before"`` or ``"after"`` it.

        Raises:
            InvalidMoveError: `target` is this node or, as far as loaded, below it. What is not loaded is checked by the
                flush, before its first write.
            InvalidArgumentError: `position` is unknown, or `target` is no node of this tree.

        No SQL. It uses only what is loaded, so it works under asyncio too.
        """
        _moves.move_to(self, target, position)


class TreeNode(_Node):
    """A node of a tree whose children are an ordered list.

    Mix it in before the declarative base. It adds ``parent_id`` (an indexed foreign key to the primary key of the same
    class), ``parent``, ``children`` and, unless ``TreeOptions(order_by=...)`` says otherwise, ``position``: an integer
    that orders siblings and may have gaps.
    """

    if TYPE_CHECKING:
        children = ToSelves()
        position: Mapped[int]
    else:

        @mixin_attr
        def _sqla_tree_node(cls):
            # Adds nothing; SQLAlchemy evaluates it while it maps the class.
            _prepare(cls, keyed=False)
            return

        @mixin_attr
        def children(cls):
            return _children(cls, Siblings)

        @mixin_attr
        def position(cls):
            if options_of(cls).order_by:
                return None
            # The default is for rows that are inserted without the ORM: they sort first, by primary key, until
            # `rebuild_tree` numbers them.
            return mapped_column("position", Integer(), nullable=False, server_default=text("0"))


class KeyedTreeNode(_Node):
    """A node of a tree whose children are a dictionary, keyed by one of their attributes.

    The attribute is named in ``__tree__ = TreeOptions(key="name")``. Keys are unique among siblings, roots included.
    """

    if TYPE_CHECKING:
        children = ToSelfMap()
    else:

        @mixin_attr
        def _sqla_tree_node(cls):
            # Adds nothing; SQLAlchemy evaluates it while it maps the class.
            _prepare(cls, keyed=True)
            return

        @mixin_attr
        def children(cls):
            return _children(cls, keyed_children(options_of(cls).key))


NodeT = TypeVar("NodeT", bound=TreeNode | KeyedTreeNode)
