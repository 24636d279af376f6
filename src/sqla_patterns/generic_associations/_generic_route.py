"""The route of a generic foreign key: what the two columns of a child mean."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import object_session
from sqlalchemy.orm.attributes import set_committed_value

from ._routes import Route, mapper_of, remember_leaving, state_of

__all__ = ("GenericRoute",)


class GenericRoute(Route):
    """A route by the value of a discriminator column and a key."""

    shares_columns = True

    def __init__(self, *args: Any, discriminator: str, keys: tuple[str, ...], identity: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.discriminator = discriminator
        self.keys = keys
        self.identity = identity

    def _columns(self, child: Any) -> tuple[Any, ...]:
        return tuple(getattr(child, key) for key in self.keys)

    def agrees(self, child: Any, parent: Any) -> bool:
        """Whether the parent in memory is still the one that the columns mean; they may have been set by hand."""
        if getattr(child, self.discriminator) != self.identity:
            return False
        key = self._columns(child)
        identity = state_of(parent).identity
        # An assignment that is not flushed yet wins, as it will in the flush.
        return identity is None or key == identity or None in key or bool(state_of(child).attrs[self.key].history.added)

    def applies(self, child: Any) -> bool:
        """Whether the child's columns refer to this class."""
        return getattr(child, self.discriminator) == self.identity and None not in self._columns(child)

    def recall(self, child: Any) -> Any:
        """The parent, if it is in the session; if it is not, it has no collection in memory that could go out of step."""
        session = object_session(child)
        if session is None or not self.applies(child):
            return None
        identity = mapper_of(self.parent).identity_key_from_primary_key(self._columns(child))
        parent = session.identity_map.get(identity)
        if parent is None or not isinstance(parent, self.parent):
            return None
        set_committed_value(child, self.key, parent)
        return parent

    def load(self, child: Any) -> Any:
        """The parent, from the session or else from the database."""
        if (parent := self.recall(child)) is not None:
            return parent
        state = state_of(child)
        held = state.dict.get(self.key)
        if held is not None and not self.agrees(child, held):
            # What was loaded before the columns were set by hand.
            self._drop(child)
        return getattr(child, self.key)

    def _drop(self, child: Any) -> None:
        state = state_of(child)
        if not state.attrs[self.key].history.has_changes():
            state.dict.pop(self.key, None)

    def forget_absence(self, child: Any) -> None:
        """The columns are being set: that nothing was found by the former values says nothing about the new ones."""
        if state_of(child).dict.get(self.key, self) is None:
            self._drop(child)

    def assigned(self, child: Any, parent: Any) -> None:
        """Set the discriminator, and the key if the parent has one; if not, the flush copies it once the parent has its row."""
        key = state_of(parent).identity or (None,) * len(self.keys)
        setattr(child, self.discriminator, self.identity)
        for name, value in zip(self.keys, key, strict=True):
            setattr(child, name, value)

    def cleared(self, child: Any) -> None:
        """Refer to nothing."""
        if getattr(child, self.discriminator) == self.identity:
            for name in (self.discriminator, *self.keys):
                setattr(child, name, None)

    def release(self, child: Any) -> None:
        """Take the child off the route, also where its parent is not in memory: the columns are enough."""
        super().release(child)
        if self.applies(child):
            self.cleared(child)
            set_committed_value(child, self.key, None)
            remember_leaving(child, self, None)

    def inserted(self, child: Any) -> None:
        """A row that refers to this class by hand has a parent that is not in memory."""
        if getattr(child, self.discriminator) is None:
            super().inserted(child)

    @property
    def none_criterion(self) -> object:
        """What routes with the same criterion for none have in common."""
        return self.discriminator

    def is_none(self, entity: Any) -> ColumnElement[bool]:
        """The criterion that the columns refer to nothing."""
        columns = (self.discriminator, *self.keys)
        return or_(*(getattr(entity, name).is_(None) for name in columns))

    def is_set(self, entity: Any, type_: type[Any]) -> ColumnElement[bool]:
        """The criterion that the columns refer to `type_`."""
        if issubclass(self.parent, type_):
            return cast("ColumnElement[bool]", getattr(entity, self.discriminator) == self.identity)
        return super().is_set(entity, type_)
