"""The collections of children, and the attribute listeners, which note placement hints and refuse invalid changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import event, inspect
from sqlalchemy.orm import KeyFuncDict
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.collections import CollectionAdapter, collection, collection_adapter

from .._sqlalchemy import changed
from .._typing import MappedClass, MappedObject
from ..exceptions import DuplicateKeyError, InvalidArgumentError
from ._loaded_children import rekey
from ._loaded_state import describe, loaded_map, loaded_parent
from ._placement_hints import PlacementHint, clear_hint, hint_of, set_hint
from ._tree import Tree
from ._unplanned_changes import refuse_late_change

_UNKNOWN = object()
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., object])


def _internally_instrumented(fn: _F) -> _F:
    """Call `collection.internally_instrumented`, which SQLAlchemy leaves without types."""
    return cast("_F", cast("Any", collection).internally_instrumented(fn))


class Siblings(list[_T]):
    """The ordered children of a node: a list whose `sort` and `reverse` are changes like any other."""

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """Sort the children; the next flush writes their new order."""
        super().sort(key=key, reverse=reverse)
        self._reordered()

    def reverse(self) -> None:
        """Reverse the children; the next flush writes their new order."""
        super().reverse()
        self._reordered()

    def _reordered(self) -> None:
        # None after another collection took its place.
        adapter = cast("CollectionAdapter | None", collection_adapter(self))
        owner = adapter.owner_state.obj() if adapter is not None else None
        if owner is not None:
            flag_modified(owner, "children")


class KeyedChildren(KeyFuncDict[Any, Any]):
    """The children of a node by key; refuses to replace one child by another, which a plain keyed collection does."""

    def __init__(self, key_attr: str) -> None:
        super().__init__(lambda node: getattr(node, key_attr))
        self.key_attr = key_attr

    def __reduce__(self) -> Any:
        # What `KeyFuncDict` gives leaves out the adapter that links a collection to its owner, and cannot be a lambda.
        attributes = {name: value for name, value in vars(self).items() if name != "keyfunc"}
        return KeyedChildren, (self.key_attr,), (dict(self), attributes)

    def __setstate__(self, state: tuple[dict[object, MappedObject], dict[str, object]]) -> None:
        items, attributes = state
        vars(self).update(attributes)
        for key, value in items.items():
            dict[object, MappedObject].__setitem__(self, key, value)

    @_internally_instrumented
    def __setitem__(self, key: object, value: MappedObject, _sa_initiator: object = None) -> None:
        # False is the ORM loading rows; keys that are duplicates already must stay readable, for verify_tree to name.
        if _sa_initiator is not False:
            present_key = getattr(value, self.key_attr, None)
            if present_key is None:
                setattr(value, self.key_attr, key)
            elif present_key != key:
                raise InvalidArgumentError(
                    f"children[{key!r}] cannot hold {describe(value)}, whose {self.key_attr} is {present_key!r}; "
                    f"use that as the key, or set {self.key_attr} first"
                )
            present = self.get(key)
            if present is not None and present is not value:
                raise _duplicate(value, key, present)
        # KeyFuncDict takes the initiator too, and its annotations leave that out.
        cast("Any", super()).__setitem__(key, value, _sa_initiator)


def keyed_children(key_attr: str) -> Callable[[], KeyedChildren]:
    """Return a ``collection_class`` whose members are keyed by the attribute `key_attr`."""
    return lambda: KeyedChildren(key_attr)


def _duplicate(node: MappedObject, key: object, present: MappedObject) -> DuplicateKeyError:
    return DuplicateKeyError(
        f"{describe(node)} cannot have the key {key!r}: its sibling {describe(present)} has it; "
        "rename one of them, or take the other out first with `del parent.children[key]`"
    )


def _assigned(before: PlacementHint | None) -> PlacementHint:
    """Return the hint of a node whose parent is assigned, which may turn out to be no change."""
    return PlacementHint(assigned=True, position=None if before is None else before.position)


class _Initiator(Protocol):
    """The event token that SQLAlchemy passes to listeners of attributes: which attribute a change started from."""

    key: str


def listen_to_attributes(tree: Tree) -> None:
    """Listen to the attributes of one tree class and of its subclasses.

    Call it before mappers are configured: SQLAlchemy then appends the listeners that mirror `parent` in `children`, and
    an assignment that these here refuse must not leave half of it behind.
    """
    config = tree.config
    cls = config.cls

    def appended(owner: MappedObject, node: MappedObject, initiator: _Initiator | None) -> MappedObject:
        if initiator is not None and initiator.key == "children" and inspect(node).key is not None:
            set_hint(node, PlacementHint(), flag="position")
        return node

    def removed(owner: MappedObject, node: MappedObject, initiator: _Initiator | None) -> None:
        if initiator is not None and initiator.key == "children":
            set_hint(node, PlacementHint(removed=True))

    def parent_set(node: MappedObject, parent: MappedObject, old: object, initiator: _Initiator | None) -> None:
        refuse_late_change(node, "parent", parent)
        if parent is not None and not isinstance(parent, cls):
            raise InvalidArgumentError(
                f"the parent of {describe(node)} must be a {config.name}, not {type(parent).__name__}"
            )
        if (initiator is None or initiator.key == "parent") and inspect(node).key is not None:
            hint = hint_of(node)
            removed = hint is not None and hint.removed
            if removed or "parent" not in node.__dict__ or node.__dict__["parent"] is not parent:
                set_hint(node, _assigned(hint))

    def parent_id_set(node: MappedObject, value: object, old: object, initiator: _Initiator | None) -> None:
        refuse_late_change(node, "parent_id", value)
        state = inspect(node)
        if state.key is None:
            return
        hint = hint_of(node)
        if hint is not None and hint.removed:
            # A node that was taken out of a collection gets another parent by its key: no conflict with `parent`, which
            # is None.
            set_hint(node, PlacementHint(removed=True))
        elif not changed(state, "parent") and node.__dict__.get("parent_id", _UNKNOWN) != value:
            # Beside a changed `parent` it says the same once more, or is refused.
            set_hint(node, _assigned(hint))

    def position_set(node: MappedObject, value: object, old: object, initiator: _Initiator | None) -> None:
        refuse_late_change(node, "position", value)
        if value is not None:
            set_hint(node, PlacementHint(position=value))

    def derived_set(node: MappedObject, value: object, old: object, initiator: _Initiator | None) -> None:
        refuse_late_change(node, initiator.key if initiator is not None else "", value)

    def expired(node: MappedObject, names: Iterable[str] | None) -> None:
        # None: the object is gone, and only its state is left.
        if node is not None and (names is None or not {"parent", "parent_id", "position"}.isdisjoint(names)):
            hint = hint_of(node)
            clear_hint(node)
            reordered_parent = None if hint is None else hint.reordered_parent
            if reordered_parent is not None and inspect(reordered_parent).persistent:
                inspect(reordered_parent).session.expire(reordered_parent, ["children"])

    event.listen(cls, "expire", expired, propagate=True)
    for name in tree.index.attributes:
        event.listen(getattr(cls, name), "set", derived_set, propagate=True)
    event.listen(cls.children, "append", appended, propagate=True)
    event.listen(cls.children, "remove", removed, propagate=True)
    event.listen(cls.parent, "set", parent_set, propagate=True)
    event.listen(cls.parent_id, "set", parent_id_set, propagate=True)
    if config.position is not None:
        event.listen(cls.position, "set", position_set, propagate=True)
    if config.keyed and config.key_attr is not None:
        _listen_to_keys(cls, config.key_attr)


def _listen_to_keys(cls: MappedClass, key_attr: str) -> None:
    def parent_set(node: MappedObject, parent: MappedObject, old: object, initiator: _Initiator | None) -> None:
        children = loaded_map(parent)
        key = node.__dict__.get(key_attr)
        if children and key is not None:
            present = children.get(key)
            if present is not None and present is not node:
                raise _duplicate(node, key, present)

    def renamed(node: MappedObject, new: object, old: object, initiator: _Initiator | None) -> None:
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
            rekey(children, node, old=old, new=new)

    event.listen(cls.parent, "set", parent_set, propagate=True)
    event.listen(getattr(cls, key_attr), "set", renamed, propagate=True)
