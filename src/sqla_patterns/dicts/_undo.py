"""Undo the unflushed changes of members while a flush deletes the members that they replace; repeat them afterwards.

A member that is put into a dictionary may just have been removed from one, or have got a new key. The flush that
deletes the row which has the key so far must not delete the row of this member too, or write its new key too early.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session, WriteOnlyCollection
from sqlalchemy.orm.attributes import instance_state, set_attribute

from ._reader import Reader


@dataclass(frozen=True)
class UndoneChanges:
    """The changes that `undo_unflushed` has undone.

    Attributes:
        stored_keys: The keys that renamed members have in the database.
        removed_ids: The ``id()`` of each member whose removal was undone.
    """

    stored_keys: list[Any]
    removed_ids: set[int]


@contextmanager
def undo_unflushed(
    reader: Reader[Any, Any], members: Iterable[object], session: Session | None
) -> Generator[UndoneChanges, None, None]:
    """Undo the unflushed removals and renames of `members` for the block, and repeat them at its end.

    A member that is put into a dictionary may have been popped from this dictionary or from another object's, and may
    have a new key. The block flushes, to delete the member that has the key now. Without the undo, that flush would
    delete the row of the new member as well, or write its new key before the old member's row is gone.
    """
    persistent = [] if session is None else [member for member in members if instance_state(member).persistent]
    if session is None or not persistent:
        yield UndoneChanges([], set())
        return
    config = reader.config
    renamed = [(member, config.key_of(member), config.stored_key_of(member)) for member in persistent]
    renamed = [(member, new, old) for member, new, old in renamed if old is not None and new != old]
    removed = list(_find_removals(reader, persistent, session))
    for collection, member in removed:
        collection.add(member)
    for member, _, old in renamed:
        set_attribute(member, config.key.key, old)
    try:
        yield UndoneChanges([old for *_, old in renamed], {id(member) for _, member in removed})
    finally:
        # A flush that has failed has discarded all changes.
        if session.is_active:
            for member, new, _ in renamed:
                set_attribute(member, config.key.key, new)
            for collection, member in removed:
                collection.remove(member)


def _find_removals(
    reader: Reader[Any, Any], members: list[object], session: Session
) -> Iterator[tuple[WriteOnlyCollection[Any], object]]:
    """Yield those of `members` that were removed from a collection of any object, with that collection."""
    config, wanted = reader.config, {id(member) for member in members}
    owners = {id(each): each for each in session.dirty if isinstance(each, config.owner)} | {
        id(reader.owner): reader.owner
    }
    for owner in owners.values():
        for member in config.history_of(owner).deleted:
            if id(member) in wanted:
                yield config.collection_of(owner), member
