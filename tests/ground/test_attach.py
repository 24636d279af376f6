"""The one attach/detach handle, over every target and both kinds of session."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import pytest
from sqlalchemy import create_engine, event, exc, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import ORMExecuteState, Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from sqla_patterns._attach import Attachment, SessionTarget, attach
from sqla_patterns.exceptions import InvalidArgumentError, PatternError

ENGINE = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


class Counter:
    """A component that counts executions."""

    def __init__(self) -> None:
        self.count = 0

    def attach(self, target: SessionTarget) -> Attachment:
        return attach(target, {"do_orm_execute": self._on_execute}, component=self)

    def _on_execute(self, state: ORMExecuteState) -> None:
        self.count += 1


T = TypeVar("T")


def subclass(base: type[T], name: str = "Custom", **attributes: object) -> type[T]:
    """Make a subclass of the user's, a new one for each test."""
    return cast("type[T]", type(name, (base,), attributes))


def wipe() -> None:
    """Remove all listeners behind the handles' back, as test suites do."""
    cast("Any", Session).dispatch.do_orm_execute.clear()


def heard_by_all() -> list[Any]:
    """Return what listens to the statements of every session."""
    with Session(ENGINE) as session:
        return list(cast("Any", session).dispatch.do_orm_execute)


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture(autouse=True)
def _shared_classes_stay_clean() -> Iterator[None]:
    """Let no test leave anything on the classes that all sessions share; what packages listen to there stays."""
    before = heard_by_all()
    yield
    assert AsyncSession.sync_session_class is Session
    left = heard_by_all()
    for listener in before:
        if listener not in left:  # A test has wiped it.
            event.listen(Session, "do_orm_execute", listener)
    assert not [listener for listener in left if listener not in before]
    assert "_sqla_patterns_listeners" not in vars(Session)


@pytest.fixture
def maker() -> sessionmaker[Session]:
    return sessionmaker(ENGINE)


@pytest.fixture
def async_maker() -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker()


def run(*sessions: Session) -> None:
    for session in sessions:
        session.execute(text("select 1"))
        session.close()


def run_async(*sessions: AsyncSession) -> None:
    """Execute once in each session, on an engine of the event loop's own."""

    async def main() -> None:
        engine = create_async_engine("sqlite+aiosqlite://")
        for session in sessions:
            session.bind = engine
            session.sync_session.bind = engine.sync_engine
            await session.execute(text("select 1"))
            await session.close()
        await engine.dispose()

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------- synchronous targets


def sync_targets() -> list[Any]:
    own = subclass(Session)
    return [
        pytest.param(lambda: (m := sessionmaker(ENGINE), m), id="sessionmaker"),
        pytest.param(lambda: (m := sessionmaker(ENGINE, class_=own), m), id="sessionmaker-of-class"),
        pytest.param(lambda: (m := scoped_session(sessionmaker(ENGINE)), m.session_factory), id="scoped_session"),
        pytest.param(lambda: (scoped_session(cast("Any", own)), lambda: own(ENGINE)), id="scoped_session-of-class"),
        pytest.param(lambda: (own, lambda: own(ENGINE)), id="subclass"),
        pytest.param(lambda: (Session, lambda: Session(ENGINE)), id="bare-Session"),
        pytest.param(lambda: (s := Session(ENGINE), lambda: s), id="instance"),
    ]


@pytest.mark.parametrize("make", sync_targets())
def test_every_synchronous_target_hears_a_listener_until_it_is_detached(make: Any, counter: Counter) -> None:
    target, session = make()
    handle = counter.attach(target)
    run(session())
    assert (counter.count, handle.attached) == (1, True)
    handle.detach()
    run(session())
    assert (counter.count, handle.attached) == (1, False)


@pytest.mark.parametrize("make", sync_targets())
def test_attaching_twice_leaves_one_listener_which_one_detach_removes(make: Any, counter: Counter) -> None:
    target, session = make()
    counter.attach(target)
    again = counter.attach(target)
    run(session())
    assert counter.count == 1
    again.detach()
    run(session())
    assert counter.count == 1


def test_a_session_made_before_attaching_hears_the_factory(maker: sessionmaker[Session], counter: Counter) -> None:
    session = maker()
    counter.attach(maker)
    run(session)
    assert counter.count == 1


def test_one_factory_does_not_hear_what_another_is_given(maker: sessionmaker[Session], counter: Counter) -> None:
    counter.attach(maker)
    run(sessionmaker(ENGINE)(), Session(ENGINE))
    assert counter.count == 0


def test_attaching_to_an_instance_touches_only_that_instance(maker: sessionmaker[Session], counter: Counter) -> None:
    one, other = maker(), maker()
    counter.attach(one)
    run(other, maker())
    assert counter.count == 0
    run(one)
    assert counter.count == 1


def test_overlapping_targets_are_two_attachments(counter: Counter) -> None:
    narrow = subclass(Session)
    with counter.attach(Session), counter.attach(narrow):
        run(narrow(ENGINE))
        assert counter.count == 2
        counter.attach(Session).detach()
        run(narrow(ENGINE))
        assert counter.count == 3


# ------------------------------------------------------------------------------------------------------- the handle


def test_detach_is_idempotent(maker: sessionmaker[Session], counter: Counter) -> None:
    handle = counter.attach(maker)
    handle.detach()
    handle.detach()
    assert not handle.attached


def test_a_with_block_attaches_for_its_length(maker: sessionmaker[Session], counter: Counter) -> None:
    with counter.attach(maker) as handle:
        run(maker())
        assert handle.attached
    run(maker())
    assert (counter.count, handle.attached) == (1, False)


def test_a_with_block_detaches_when_it_raises(maker: sessionmaker[Session], counter: Counter) -> None:
    def fail() -> None:
        with counter.attach(maker):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    run(maker())
    assert counter.count == 0


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_inner_with_block_leaves_the_outer_attachment(asynchronous: bool, counter: Counter) -> None:
    target: SessionTarget = async_sessionmaker() if asynchronous else sessionmaker()
    with counter.attach(target) as outer:
        with counter.attach(target):
            pass
        assert outer.attached
    assert not outer.attached


def test_a_with_block_leaves_what_was_attached_for_good(maker: sessionmaker[Session], counter: Counter) -> None:
    lasting = counter.attach(maker)
    with counter.attach(maker):
        pass
    assert lasting.attached


def test_one_handle_can_be_entered_inside_itself(maker: sessionmaker[Session], counter: Counter) -> None:
    with counter.attach(maker) as handle:
        with handle:
            pass
        assert handle.attached
    assert not handle.attached


def test_entering_after_detach_attaches_anew(maker: sessionmaker[Session], counter: Counter) -> None:
    handle = counter.attach(maker)
    handle.detach()
    with handle:
        run(maker())
    run(maker())
    assert counter.count == 1


def test_a_with_block_that_was_detached_leaves_a_later_attachment(
    maker: sessionmaker[Session], counter: Counter
) -> None:
    with counter.attach(maker) as handle:
        handle.detach()
        later = counter.attach(maker)
    assert later.attached


def test_a_with_block_removes_only_the_listeners_that_were_missing(maker: sessionmaker[Session]) -> None:
    def one(session: Session) -> None: ...

    def two(session: Session) -> None: ...

    first = attach(maker, {"after_commit": one})
    with attach(maker, {"after_commit": one, "after_rollback": two}) as both:
        assert both.attached
    assert first.attached
    assert not both.attached


def test_detach_removes_what_another_handle_attached(maker: sessionmaker[Session], counter: Counter) -> None:
    first, second = counter.attach(maker), counter.attach(maker)
    second.detach()
    assert not first.attached


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_components_and_instances_of_one_component_detach_in_any_order(
    order: tuple[int, ...], asynchronous: bool
) -> None:
    target: Any = async_sessionmaker() if asynchronous else sessionmaker(ENGINE)
    counters = [Counter() for _ in order]
    handles = [counter.attach(target) for counter in counters]
    for gone, index in enumerate(order):
        handles[index].detach()
        before = [counter.count for counter in counters]
        run_async(target()) if asynchronous else run(target())
        heard = [counter.count - old for counter, old in zip(counters, before, strict=True)]
        assert heard == [int(i not in order[: gone + 1]) for i in range(len(order))]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_attaching_works_after_a_test_suite_has_wiped_all_listeners(asynchronous: bool, counter: Counter) -> None:
    target: Any = async_sessionmaker() if asynchronous else sessionmaker(ENGINE)
    handle = counter.attach(target)
    wipe()
    assert not handle.attached
    counter.attach(target)
    run_async(target()) if asynchronous else run(target())
    assert (counter.count, handle.attached) == (1, True)
    handle.detach()
    run_async(target()) if asynchronous else run(target())
    assert counter.count == 1


def test_attaching_takes_over_a_listener_that_was_registered_by_hand(
    maker: sessionmaker[Session], counter: Counter
) -> None:
    event.listen(maker.class_, "do_orm_execute", counter._on_execute)  # pyright: ignore[reportPrivateUsage]
    handle = counter.attach(maker)
    run(maker())
    assert counter.count == 1
    handle.detach()
    run(maker())
    assert counter.count == 1


def test_a_wiped_attachment_can_be_detached(async_maker: async_sessionmaker[AsyncSession], counter: Counter) -> None:
    handle = counter.attach(async_maker)
    wipe()
    handle.detach()
    assert "sync_session_class" not in async_maker.kw


@pytest.mark.parametrize("function", [False, True])
def test_a_new_factory_at_the_address_of_a_dead_one_hears_and_detaches(
    function: bool, counter: Counter, request: pytest.FixtureRequest
) -> None:
    """SQLAlchemy's registry goes by id(): without care most of these factories would hear nothing, or for ever."""

    def on_execute(state: ORMExecuteState) -> None:
        counter.count += 1

    other = Counter()
    # What earlier tests left alive need not be looked through sixty times.
    gc.freeze()
    request.addfinalizer(gc.unfreeze)
    for turn in range(1, 60):
        maker = sessionmaker(ENGINE)
        other.attach(maker)
        handle = attach(maker, {"do_orm_execute": on_execute}) if function else counter.attach(maker)
        run(maker())
        assert counter.count == turn
        if turn % 2:
            handle.detach()
            run(maker())
            assert counter.count == turn
        del maker, handle
        gc.collect()


def test_an_attachment_to_a_session_does_not_keep_it_alive(counter: Counter) -> None:
    session = Session(ENGINE)
    counter.attach(session)
    reference = weakref.ref(session)
    del session
    gc.collect()
    assert reference() is None


def test_the_handle_names_component_target_and_state(maker: sessionmaker[Session], counter: Counter) -> None:
    handle = counter.attach(maker)
    assert repr(handle) == f"<Attachment of {counter!r} to {maker!r}, attached>"
    handle.detach()
    assert repr(handle).endswith("detached>")


# ---------------------------------------------------------------------------------------------- asynchronous targets


def async_targets() -> list[Any]:
    def legacy() -> Any:
        return cast("Any", sessionmaker)(class_=AsyncSession)

    def of_class() -> tuple[Any, Any]:
        return (app := subclass(AsyncSession)), app

    def scoped() -> tuple[Any, Any]:
        maker = async_sessionmaker()
        return async_scoped_session(maker, scopefunc=lambda: 1), maker

    return [
        pytest.param(lambda: (m := async_sessionmaker(), m), id="async_sessionmaker"),
        pytest.param(
            lambda: (m := async_sessionmaker(class_=subclass(AsyncSession)), m), id="async_sessionmaker-of-class"
        ),
        pytest.param(lambda: (m := legacy(), m), id="sessionmaker-of-AsyncSession"),
        pytest.param(scoped, id="async_scoped_session"),
        pytest.param(of_class, id="subclass"),
        pytest.param(lambda: (s := AsyncSession(), lambda: s), id="instance"),
    ]


@pytest.mark.parametrize("make", async_targets())
def test_every_async_target_hears_a_listener_until_it_is_detached(make: Any, counter: Counter) -> None:
    target, session = make()
    handle = counter.attach(target)
    counter.attach(target)
    run_async(session())
    assert (counter.count, handle.attached) == (1, True)
    handle.detach()
    run_async(session())
    assert (counter.count, handle.attached) == (1, False)


@pytest.mark.parametrize("make", async_targets())
def test_other_async_factories_and_plain_sessions_hear_nothing(make: Any, counter: Counter) -> None:
    target, _ = make()
    with counter.attach(target):
        run_async(AsyncSession(), async_sessionmaker()(), subclass(AsyncSession)())
        run(Session(ENGINE), sessionmaker(ENGINE)())
    assert counter.count == 0


def test_an_async_session_made_before_attaching_hears_nothing(
    async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    session = async_maker()
    counter.attach(async_maker)
    run_async(session)
    assert counter.count == 0


def test_an_async_session_made_before_detaching_stops_hearing(
    async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    handle = counter.attach(async_maker)
    session = async_maker()
    handle.detach()
    run_async(session)
    assert counter.count == 0


def test_a_factory_gets_its_sync_class_back_when_the_last_attachment_goes(
    async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    before = dict(async_maker.kw)
    first, second = counter.attach(async_maker), Counter().attach(async_maker)
    own = async_maker.kw["sync_session_class"]
    assert own is not Session
    first.detach()
    assert async_maker.kw["sync_session_class"] is own
    second.detach()
    assert async_maker.kw == before


@pytest.mark.parametrize("custom", [None, subclass(Session, __doc__="mine")])
def test_a_factorys_configured_sync_class_is_extended_and_restored(
    custom: type[Session] | None, counter: Counter
) -> None:
    maker = async_sessionmaker(sync_session_class=custom)
    with counter.attach(maker):
        sync_class = type(maker().sync_session)
        base = custom or Session
        assert issubclass(sync_class, base)
        assert (sync_class.__name__, sync_class.__module__, sync_class.__doc__) == (
            base.__name__,
            base.__module__,
            base.__doc__,
        )
    assert maker.kw["sync_session_class"] is custom


def test_a_factory_extends_the_sync_class_of_its_session_class(counter: Counter) -> None:
    custom = subclass(Session)
    app = subclass(AsyncSession, sync_session_class=custom)
    maker = async_sessionmaker(class_=app)
    with counter.attach(maker):
        assert isinstance(maker().sync_session, custom)
        assert app.sync_session_class is custom
    assert "sync_session_class" not in maker.kw


def test_a_class_gets_back_the_sync_class_that_it_had_or_inherited(counter: Counter) -> None:
    inheriting, custom = subclass(AsyncSession), subclass(Session)
    defining = subclass(AsyncSession, sync_session_class=custom)
    with counter.attach(inheriting), Counter().attach(defining):
        assert inheriting.sync_session_class is not Session
        assert issubclass(defining.sync_session_class, custom)
        assert defining.sync_session_class is not custom
    assert "sync_session_class" not in vars(inheriting)
    assert defining.sync_session_class is custom


def test_a_class_and_its_factory_are_two_targets_that_detach_in_any_order(counter: Counter) -> None:
    app, other = subclass(AsyncSession), Counter()
    maker = async_sessionmaker(class_=app)
    wide, narrow = counter.attach(app), other.attach(maker)
    run_async(maker())
    assert (counter.count, other.count) == (1, 1)
    run_async(app())
    assert (counter.count, other.count) == (2, 1)
    wide.detach()
    run_async(maker(), app())
    assert (counter.count, other.count) == (2, 2)
    narrow.detach()
    assert maker().sync_session_class is Session


def test_a_factory_copied_from_another_gets_its_own_sync_class(
    async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    other = Counter()
    with counter.attach(async_maker):
        shared = async_maker.kw["sync_session_class"]
        copied = async_sessionmaker(**async_maker.kw)
        with other.attach(copied):
            run_async(async_maker())
            assert other.count == 0
        assert copied.kw["sync_session_class"] is shared


def test_a_sync_class_configured_meanwhile_is_kept(
    async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    custom = subclass(Session)
    handle = counter.attach(async_maker)
    async_maker.configure(sync_session_class=custom)
    assert not handle.attached
    handle.detach()
    assert async_maker.kw["sync_session_class"] is custom


def test_attaching_to_an_async_instance_touches_only_that_instance(
    async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    one = async_maker()
    counter.attach(one)
    run_async(async_maker())
    assert (counter.count, async_maker.kw.get("sync_session_class")) == (0, None)
    run_async(one)
    assert counter.count == 1


# ------------------------------------------------------------------------------------------------------------ errors


def custom_factory() -> Session:
    return Session(ENGINE)


@pytest.mark.parametrize(
    "target",
    [
        ENGINE,
        "Session",
        None,
        object,
        scoped_session,
        scoped_session[Session](cast("Any", custom_factory)),
        custom_factory,
    ],
    ids=lambda target: type(target).__name__,
)
def test_an_unknown_target_is_refused_by_name_with_the_way_out(target: Any, counter: Counter) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        counter.attach(target)
    assert isinstance(caught.value, PatternError)
    assert isinstance(caught.value, exc.ArgumentError)
    message = str(caught.value)
    assert repr(target) in message
    assert "neither a session factory nor a session" in message
    assert "attach to a sessionmaker" in message
    if isinstance(target, scoped_session):
        assert "custom_factory" in message


@pytest.mark.parametrize(
    "target",
    [AsyncSession, async_scoped_session(cast("Any", AsyncSession), scopefunc=int)],
    ids=["AsyncSession", "async_scoped_session"],
)
def test_the_bare_async_session_class_is_refused(target: Any, counter: Counter) -> None:
    with pytest.raises(InvalidArgumentError, match="share the AsyncSession class; attach to an async_sessionmaker"):
        counter.attach(target)


def test_a_sync_session_class_that_cannot_be_subclassed_is_refused(counter: Counter) -> None:
    maker = async_sessionmaker(sync_session_class=custom_factory)
    with pytest.raises(InvalidArgumentError, match=r"custom_factory.*give it a subclass of Session"):
        counter.attach(maker)


@pytest.mark.parametrize(
    "listeners", [{}, {"do_orm_exceute": custom_factory}, {"_listen": repr}, {"after_commit": None}]
)
def test_bad_listeners_are_refused_and_nothing_is_attached(
    listeners: Any, async_maker: async_sessionmaker[AsyncSession], counter: Counter
) -> None:
    with pytest.raises(InvalidArgumentError, match="async_sessionmaker"):
        attach(async_maker, {"do_orm_execute": counter.attach, **listeners} if listeners else listeners)
    assert "sync_session_class" not in async_maker.kw


# ------------------------------------------------------------------------------------------------------------ import


def test_it_works_without_greenlet_and_does_not_import_asyncio() -> None:
    """SQLAlchemy 2.1 does not install greenlet, and an application that is not async never needs it."""
    script = """
import sys
sys.modules["greenlet"] = None
from sqlalchemy.orm import Session, sessionmaker
from sqla_patterns._attach import attach
with attach(sessionmaker(), {"after_commit": print}), attach(Session, {"after_commit": print}) as handle:
    assert handle.attached
try:
    attach("Session", {"after_commit": print})
except Exception as error:
    assert type(error).__name__ == "InvalidArgumentError", error
assert "sqlalchemy.ext.asyncio" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_listeners_get_the_arguments_that_sqlalchemy_documents(maker: sessionmaker[Session]) -> None:
    seen: list[object] = []

    def on_begin(session: Session, transaction: object, connection: object) -> None:
        seen.append(session)

    with attach(maker, {"after_begin": on_begin, "after_soft_rollback": print}):
        session = maker()
        run(session)
    assert seen == [session]
    assert not event.contains(maker.class_, "after_begin", on_begin)
