"""Attach listeners to a session factory, class or instance, and take them off again.

A *session policy*, such as caching or global criteria, changes what sessions do. It therefore has an effect only on the
sessions to which the user attaches it. A component names its listeners, and `attach()` does the rest::

    class StatementCounter:
        def __init__(self) -> None:
            self.count = 0

        def attach(self, target: SessionTarget) -> Attachment:
            return attach(target, {"do_orm_execute": self._on_execute}, component=self)

        def _on_execute(self, state: ORMExecuteState) -> None:
            self.count += 1


    Session = sessionmaker(engine)
    with StatementCounter().attach(Session):  # or: handle = ...; handle.detach()
        Session().scalars(select(User))

A target is a ``sessionmaker``, ``async_sessionmaker``, ``scoped_session``, ``async_scoped_session``, or a ``Session``
or ``AsyncSession`` class or instance. Attaching the same listeners twice to one target leaves one listener. Two
components, or two instances of one component, never disturb each other.

**When not to use it.** A pattern that belongs to a *mapped class* (a tree, a history table) must not depend on a policy
being attached: the mixin registers its listeners when the class is mapped. A listener that lives as long as the process
needs no handle: ``sqlalchemy.event.listen()`` is enough.

**Which sessions are affected.**

- A synchronous factory or class: all of its sessions at once, also those made before attaching.
- An async factory, or a subclass of ``AsyncSession``: the sessions that it makes *after* attaching. SQLAlchemy sends
  the events of an ``AsyncSession`` to its synchronous ``Session``, whose class all async factories share. `attach()`
  therefore gives the target a sync session class of its own, a subclass of the former one, and puts the former one back
  when the last attachment is detached. If an ``AsyncSession`` subclass gets its own class after a factory made from it,
  the factory does not inherit from that: attach to the subclass first. A ``sync_session_class=`` passed to one call of
  a factory bypasses the attachment. The bare ``AsyncSession`` class is refused, since everybody shares it.
- Targets that overlap (``Session`` and one of its factories) are two attachments, as they are two ``event.listen()``
  calls: the listener runs once for each. Attach at one level.

**Cost.** No SQL; nothing at all for sessions that are not targets. Attach and detach while the application is being
configured: there is no lock here, and SQLAlchemy does not allow listeners to change while they are being called.

.. seealso:: :class:`sqlalchemy.orm.SessionEvents` for the names of the events.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType, new_class
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, TypeGuard, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionEvents, scoped_session, sessionmaker

from .exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker


Listener: TypeAlias = Callable[..., object]

# Strings, because the asyncio names are imported for type checkers only: SQLAlchemy 2.1 does not install greenlet.
# Factories are invariant in their session, so that sessionmaker[Session] would refuse one of a user's own class.
_SyncTarget: TypeAlias = "sessionmaker[Any] | scoped_session[Any] | Session | type[Session]"
_AsyncTarget: TypeAlias = "async_sessionmaker[Any] | async_scoped_session[Any] | AsyncSession | type[AsyncSession]"
SessionTarget: TypeAlias = "_SyncTarget | _AsyncTarget"

_Home: TypeAlias = "Session | type[Session]"  # what SQLAlchemy registers session listeners on
_Mark: TypeAlias = tuple[str, Listener]

_T = TypeVar("_T")

_SYNC_CLASS: Final = "sync_session_class"
_MARKS: Final = "_sqla_patterns_listeners"
_OWNER: Final = "_sqla_patterns_owner"
_ORIGINAL: Final = "_sqla_patterns_original"
_ABSENT: Final = object()


class _Scoped(Protocol):
    """What scoped_session and async_scoped_session have in common."""

    session_factory: object


class _Factory(Protocol):
    """What sessionmaker and async_sessionmaker have in common."""

    class_: type[object]
    kw: dict[str, Any]


def attach(
    target: SessionTarget, listeners: Mapping[str, Listener], *, component: object = None, first: bool = False
) -> Attachment:
    """Attach session event listeners to ``target`` and return the handle that detaches them.

    :param listeners: names of :class:`~sqlalchemy.orm.SessionEvents`, each with the function or bound method to call.
    :param component: whom the handle's ``repr()`` names.
    :param first: whether to call them before the listeners that are there already, for what decides what others see.

    :raises InvalidArgumentError: if ``target`` is not something that makes sessions, or if ``listeners`` is empty or
        names an event that sessions do not have. Nothing is attached then.

    >>> Session = sessionmaker()
    >>> with attach(Session, {"after_commit": lambda session: None}) as handle:
    ...     handle.attached
    True
    >>> handle.attached
    False
    """
    return Attachment(target, listeners, component, first=first)


class Attachment:
    """The handle of one attachment; made by `attach()`.

    As a context manager it undoes, on leaving, only what it attached itself: an inner ``with`` for listeners that an
    outer one has attached to the same target leaves them in place. Entering it after ``detach()`` attaches again.
    """

    def __init__(
        self,
        target: SessionTarget,
        listeners: Mapping[str, Listener],
        component: object = None,
        *,
        first: bool = False,
    ) -> None:
        self.target: Final = target
        self.listeners: Final = dict(listeners)
        self.component: Final = component
        self._place: Final = _place_of(target, target)
        if not self.listeners:
            raise InvalidArgumentError(f"Nothing to attach to {target!r}: give at least one event and its listener.")
        for name, listener in self.listeners.items():
            if name.startswith("_") or not hasattr(SessionEvents, name) or not callable(listener):
                raise InvalidArgumentError(
                    f"Cannot attach {name!r}: {listener!r} to {target!r}: this is not an event of sessions with a "
                    "callable; sqlalchemy.orm.SessionEvents lists the events."
                )
        self._first: Final = first
        self._depth = 0
        self._mine = self._listen()

    @property
    def attached(self) -> bool:
        """Return whether the target has all of the listeners, whoever attached them."""
        home = self._place.current
        return all(_has(home, mark) for mark in self.listeners.items())

    def detach(self) -> None:
        """Remove the listeners from the target, whoever attached them; do nothing where they are gone already."""
        self._mine.clear()
        self._unlisten(set(self.listeners.items()))

    def __enter__(self) -> Self:
        self._mine |= self._listen()
        self._depth += 1
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            mine, self._mine = self._mine, set[_Mark]()
            self._unlisten(mine)

    def __repr__(self) -> str:
        state = "attached" if self.attached else "detached"
        component = list(self.listeners) if self.component is None else self.component
        return f"<Attachment of {component!r} to {self.target!r}, {state}>"

    def _listen(self) -> set[_Mark]:
        """Attach the listeners that the target does not have yet, and return them."""
        if self.attached:
            return set[_Mark]()
        home = self._place.claim()
        missing = [mark for mark in self.listeners.items() if not _has(home, mark)]
        for mark in missing:
            _listen(home, mark, first=self._first)
        return set(missing)

    def _unlisten(self, marks: set[_Mark]) -> None:
        home = self._place.current
        for mark in marks:
            _remove(home, mark)
        self._place.release()


# SQLAlchemy's registry knows a class-level listener by id(class), and keeps that entry when the class dies. The next
# class at the address, typically the next sessionmaker of a test suite, then "contains" a listener that it never had,
# and cannot remove it once it has. event.contains() alone would so leave a policy off without a word; a mark alone
# would not notice that a test suite has wiped all listeners. A target has the listeners that both confirm.


def _marks(home: _Home) -> frozenset[_Mark]:
    return cast("frozenset[_Mark]", vars(home).get(_MARKS, frozenset()))


def _has(home: _Home, mark: _Mark) -> bool:
    return mark in _marks(home) and event.contains(home, *mark)


def _listen(home: _Home, mark: _Mark, *, first: bool) -> None:
    if event.contains(home, *mark):
        # Drop the dead class's entry, whose listener is not here to be removed; or take over from event.listen().
        with suppress(ValueError):
            event.remove(home, *mark)
    event.listen(home, *mark, insert=first)
    setattr(home, _MARKS, _marks(home) | {mark})


def _remove(home: _Home, mark: _Mark) -> None:
    if mark not in _marks(home):
        return
    if event.contains(home, *mark):
        event.remove(home, *mark)
    if rest := _marks(home) - {mark}:
        setattr(home, _MARKS, rest)
    else:
        delattr(home, _MARKS)


class _Sync:
    """A session or a synchronous session class; it carries the listeners itself."""

    def __init__(self, home: _Home) -> None:
        self.current: Final = home

    def claim(self) -> _Home:
        return self.current

    def release(self) -> None:
        """Do nothing: only the listeners were changed."""


class _Async:
    """An async factory or class; a sync session class of its own, made when needed, carries the listeners."""

    def __init__(self, owner: _Factory | type[AsyncSession]) -> None:
        self._owner: Final = owner
        self._settings: Final[Mapping[str, Any]] = vars(owner) if isinstance(owner, type) else owner.kw

    @property
    def current(self) -> type[Session]:
        """The class of the sync sessions to come, be it the owner's own or one that it shares."""
        async_class = cast("type[AsyncSession]", self._owner if isinstance(self._owner, type) else self._owner.class_)
        return cast("type[Session]", self._settings.get(_SYNC_CLASS) or async_class.sync_session_class)

    def claim(self) -> type[Session]:
        """Return the sync class of the owner's own, after making it if there is none."""
        base = self.current
        if not _is_class(base, Session):
            raise InvalidArgumentError(
                f"Cannot attach to {self._owner!r}: its sync_session_class is {base!r}; give it a subclass of Session."
            )
        if not self._is_own(base):
            # What was set here, or _ABSENT if it was inherited, is kept on the class that takes its place.
            space = {_OWNER: self._owner, _ORIGINAL: self._settings.get(_SYNC_CLASS, _ABSENT)}
            space |= {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
            self._set(new_class(base.__name__, (base,), exec_body=lambda namespace: namespace.update(space)))
        return self.current

    def release(self) -> None:
        """Give the original back, unless another attachment is left or the user has configured something else."""
        own = self.current
        if self._is_own(own) and not any(_has(own, mark) for mark in _marks(own)):
            self._set(vars(own)[_ORIGINAL])

    def _is_own(self, sync_class: type[Session]) -> bool:
        # A factory made from another's kw, or a subclass, finds the class of the other: its owner tells them apart.
        return vars(sync_class).get(_OWNER) is self._owner

    def _set(self, sync_class: object) -> None:
        if isinstance(self._owner, type):
            if sync_class is _ABSENT:
                del self._owner.sync_session_class
            else:
                self._owner.sync_session_class = cast("type[Session]", sync_class)
        elif sync_class is _ABSENT:
            del self._owner.kw[_SYNC_CLASS]
        else:
            self._owner.kw[_SYNC_CLASS] = sync_class


def _is_class(candidate: object, base: type[_T]) -> TypeGuard[type[_T]]:
    return isinstance(candidate, type) and issubclass(candidate, base)


def _place_of(given: object, target: object) -> _Sync | _Async:
    """Find what carries the listeners of ``target``, to which the ``given`` target of the user has led."""
    if isinstance(target, Session) or _is_class(target, Session):
        return _Sync(target)
    if isinstance(target, scoped_session):
        return _place_of(given, cast(_Scoped, target).session_factory)
    if sys.modules.get("sqlalchemy.ext.asyncio") is not None:  # or else there is no async target in this process
        from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

        if isinstance(target, AsyncSession):
            return _Sync(target.sync_session)
        if isinstance(target, async_scoped_session):
            return _place_of(given, cast(_Scoped, target).session_factory)
        if target is AsyncSession:
            raise InvalidArgumentError(
                f"Cannot attach to {given!r}: all async sessions of the process share the AsyncSession class; "
                "attach to an async_sessionmaker, to a subclass of AsyncSession or to one session."
            )
        # Before SQLAlchemy 2.0 an async factory was spelled sessionmaker(class_=AsyncSession); it still works.
        is_factory = isinstance(target, (sessionmaker, async_sessionmaker))
        async_class: object = cast(_Factory, target).class_ if is_factory else target
        if _is_class(async_class, AsyncSession):
            return _Async(cast(_Factory, target) if is_factory else async_class)
    if isinstance(target, sessionmaker):
        return _Sync(cast("type[Session]", cast(_Factory, target).class_))
    through = "it" if target is given else f"its session_factory {target!r}"
    raise InvalidArgumentError(
        f"Cannot attach to {given!r}: {through} is neither a session factory nor a session; attach to a sessionmaker, "
        "async_sessionmaker, a scoped_session over one of them, or a Session or AsyncSession class or instance."
    )
