"""The collections of children, and the attribute events that keep them honest before a flush."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from sqlalchemy import event, inspect
from sqlalchemy.orm import KeyFuncDict
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.collections import collection, collection_adapter

from ..exceptions import DuplicateKeyError, InvalidArgumentError
from ._config import TreeConfig
from ._marks import Mark, mark_of, set_mark
from ._members import rekey
from ._peek import describe, loaded_map, loaded_parent

__all__ = ("KeyedChildren", "Siblings", "keyed_children", "listen_to_attributes")

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


def _internally_instrumented(fn: _F) -> _F:
    """`collection.internally_instrumented`, which SQLAlchemy leaves without types."""
    return cast("_F", cast("Any", collection).internally_instrumented(fn))


class Siblings(list[_T]):
    """The ordered children of a node: a list whose `sort` and `reverse` are changes like any other."""

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        super().sort(key=key, reverse=reverse)
        self._reordered()

    def reverse(self) -> None:
        super().reverse()
        self._reordered()

    def _reordered(self) -> None:
        adapter: Any = collection_adapter(self)  # None once another collection took its place.
        owner = adapter.owner_state.obj() if adapter is not None else None
        if owner is not None:
            flag_modified(owner, "children")


class KeyedChildren(KeyFuncDict[Any, Any]):
    """The children of a node by key; never evicts one child for another, as a plain keyed collection does."""

    def __init__(self, key_attr: str) -> None:
        super().__init__(lambda node: getattr(node, key_attr))
        self.key_attr = key_attr

    def __reduce__(self) -> Any:
        # What `KeyFuncDict` gives leaves out the adapter that links a collection to its owner, and cannot be a lambda.
        attributes = {name: value for name, value in vars(self).items() if name != "keyfunc"}
        return KeyedChildren, (self.key_attr,), (dict(self), attributes)

    def __setstate__(self, state: tuple[dict[Any, Any], dict[str, Any]]) -> None:
        items, attributes = state
        vars(self).update(attributes)
        for key, value in items.items():
            dict[Any, Any].__setitem__(self, key, value)

    @_internally_instrumented
    def __setitem__(self, key: Any, value: Any, _sa_initiator: Any = None) -> None:
        # False is the ORM loading rows; data that is already double must stay readable, for verify_tree to name.
        if _sa_initiator is not False:
            own = getattr(value, self.key_attr, None)
            if own is None:
                setattr(value, self.key_attr, key)
            elif own != key:
                raise InvalidArgumentError(
                    f"children[{key!r}] cannot hold {describe(value)}, whose {self.key_attr} is {own!r}; "
                    f"use that as the key, or set {self.key_attr} first"
                )
            present = self.get(key)
            if present is not None and present is not value:
                raise _duplicate(value, key, present)
        # KeyFuncDict takes the initiator too, and its annotations leave that out.
        cast("Any", super()).__setitem__(key, value, _sa_initiator)


def keyed_children(key_attr: str) -> Callable[[], KeyedChildren]:
    """A ``collection_class`` whose members are keyed by the attribute `key_attr`."""
    return lambda: KeyedChildren(key_attr)


def _duplicate(node: Any, key: Any, present: Any) -> DuplicateKeyError:
    return DuplicateKeyError(
        f"{describe(node)} cannot have the key {key!r}: its sibling {describe(present)} has it; "
        "rename one of them, or take the other out first with `del parent.children[key]`"
    )


def listen_to_attributes(config: TreeConfig) -> None:
    """Listen to the attributes of one tree class and of its subclasses.

    Call it before mappers are configured: SQLAlchemy then appends the listeners that mirror `parent` in `children`, and an
    assignment that ours refuses must not leave half of it behind.
    """
    cls = config.cls

    def appended(owner: Any, node: Any, initiator: Any) -> Any:
        if initiator is not None and initiator.key == "children" and inspect(node).key is not None:
            set_mark(node, Mark(), touch="position")
        return node

    def removed(owner: Any, node: Any, initiator: Any) -> None:
        if initiator is not None and initiator.key == "children":
            set_mark(node, Mark(removed=True))

    def parent_set(node: Any, parent: Any, old: Any, initiator: Any) -> None:
        if parent is not None and not isinstance(parent, cls):
            raise InvalidArgumentError(
                f"the parent of {describe(node)} must be a {config.name}, not {type(parent).__name__}"
            )
        if (initiator is None or initiator.key == "parent") and inspect(node).key is not None:
            set_mark(node, Mark())

    def parent_id_set(node: Any, value: Any, old: Any, initiator: Any) -> None:
        mark = mark_of(node)
        if inspect(node).key is not None:
            # A node that was taken out of a collection gets another parent by its key: no conflict with `parent`, which is None.
            set_mark(node, Mark(removed=mark is not None and mark.removed))

    def position_set(node: Any, value: Any, old: Any, initiator: Any) -> None:
        if value is not None:
            set_mark(node, Mark(at=value))

    event.listen(cls.children, "append", appended, propagate=True)
    event.listen(cls.children, "remove", removed, propagate=True)
    event.listen(cls.parent, "set", parent_set, propagate=True)
    event.listen(cls.parent_id, "set", parent_id_set, propagate=True)
    if config.position is not None:
        event.listen(cls.position, "set", position_set, propagate=True)
    if config.keyed and config.key_attr is not None:
        _listen_to_keys(cls, config.key_attr)


def _listen_to_keys(cls: type[Any], key_attr: str) -> None:
    def parent_set(node: Any, parent: Any, old: Any, initiator: Any) -> None:
        children = loaded_map(parent)
        key = node.__dict__.get(key_attr)
        if children and key is not None:
            present = children.get(key)
            if present is not None and present is not node:
                raise _duplicate(node, key, present)

    def renamed(node: Any, new: Any, old: Any, initiator: Any) -> None:
        children = loaded_map(loaded_parent(node))
        if not children or old == new:
            return
        present = children.get(new)
        if present is not None and present is not node:
            raise _duplicate(node, new, present)
        if children.get(old) is not node:
            # The old key is not known, as with an expired node.
            old = next((key for key, child in children.items() if child is node), None)
        if old is not None:
            rekey(children, old, new, node)

    event.listen(cls.parent, "set", parent_set, propagate=True)
    event.listen(getattr(cls, key_attr), "set", renamed, propagate=True)
