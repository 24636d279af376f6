"""Criteria of the user's own, attached to sessions; private rows; ranges."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from sqlalchemy import DateTime, Engine, ForeignKey, create_engine, insert, select, update
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import (
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    scoped_session,
    selectinload,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from sqla_patterns.criteria import GlobalCriteria, HasPrivate, HasTemporal, InvalidRangeError, temporal_range
from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from tests._support import count_statements
from tests.conftest import BaseFactory

from ._models import PUBLIC, Blog, Hider, fill, map_blog

PRIVATE = Hider("private", HasPrivate, {"public": True}, {"public": False}, "include_private")


@pytest.fixture
def blog(plain_bases: BaseFactory) -> Blog:
    return map_blog(plain_bases(), PRIVATE)


@pytest.fixture
def blog_engine(blog: Blog, engine: Engine) -> Engine:
    fill(engine, blog)
    return engine


def _seen(session: Session, blog: Blog) -> list[int]:
    return sorted(session.scalars(select(blog.post.id)))


# -- attaching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sessionmaker", "scoped_session", "class", "instance"])
def test_it_is_attached_to_whatever_makes_sessions(kind: str, blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    own: Any = type("Own", (Session,), {})
    target: Any = {"sessionmaker": maker, "scoped_session": scoped_session(maker), "class": own, "instance": maker()}[
        kind
    ]
    with PUBLIC.attach(target):
        session = own(blog_engine) if kind == "class" else target if kind == "instance" else target()
        assert _seen(session, blog) == [1, 3]
        session.close()


@pytest.mark.parametrize("scoped", [False, True])
async def test_it_is_attached_to_what_makes_async_sessions(scoped: bool, blog: Blog, async_engine: Any) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(blog.base.metadata.create_all)
        await connection.execute(insert(blog.post.__table__), [{"id": 1, "public": True, "title": "", "score": 0}])
        await connection.execute(insert(blog.post.__table__), [{"id": 2, "public": False, "title": "", "score": 0}])
    maker = async_sessionmaker(async_engine)
    with PUBLIC.attach(async_scoped_session(maker, lambda: 1) if scoped else maker):
        async with maker() as session:
            assert (await session.scalars(select(blog.post.id))).all() == [1]
            assert await session.get(blog.post, 2) is None


def test_attached_to_one_factory_it_leaves_other_sessions_alone(blog: Blog, blog_engine: Engine) -> None:
    with PUBLIC.attach(sessionmaker(blog_engine)), Session(blog_engine) as session:
        assert _seen(session, blog) == [1, 2, 3, 4]


def test_attached_twice_the_criterion_appears_once(blog: Blog, blog_engine: Engine) -> None:
    own: Any = type("Own", (Session,), {})
    maker = sessionmaker(blog_engine, class_=own)
    PUBLIC.attach(own)
    PUBLIC.attach(maker)
    PUBLIC.attach(maker)
    with maker() as session, count_statements() as log:
        _seen(session, blog)
    assert log.text.count("public IS") + log.text.count("public =") == 1


def test_a_lazy_load_has_the_criterion_once(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        post = session.get_one(blog.post, 1)
        with count_statements() as log:
            _ = post.comments
    assert log.text.count("public IS") + log.text.count("public =") == 1


def test_detached_everything_is_seen(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    handle = PUBLIC.attach(maker)
    handle.detach()
    with maker() as session:
        assert _seen(session, blog) == [1, 2, 3, 4]


def test_detached_held_objects_are_got_again(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    handle = PUBLIC.attach(maker)
    with maker() as session:
        held = session.get(blog.post, 2, execution_options={"include_private": True})
        before = session.get(blog.post, 2)
        handle.detach()
        assert (before, session.get(blog.post, 2)) == (None, held)


def test_two_criteria_over_one_mixin_both_hold(blog: Blog, blog_engine: Engine) -> None:
    first: GlobalCriteria[Any] = GlobalCriteria(blog.post, lambda cls: cls.id > 1, option="include_first")
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    first.attach(maker)
    with maker() as session:
        assert _seen(session, blog) == [3]


def test_it_is_matched_by_mixin_and_never_by_the_name_of_a_column(plain_bases: BaseFactory, engine: Engine) -> None:
    class Garden(plain_bases()):  # type: ignore[misc]
        __tablename__ = "crit_garden"
        id: Mapped[int] = mapped_column(primary_key=True)
        public: Mapped[bool]

    Garden.metadata.create_all(engine)
    maker = sessionmaker(engine)
    PUBLIC.attach(maker)
    with maker() as session:
        session.add(Garden(id=1, public=False))
        session.commit()
        assert session.scalars(select(Garden.id)).all() == [1]


def test_a_sharded_session_obeys(blog: Blog) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    fill(engine, blog)
    maker = sessionmaker(
        class_=ShardedSession,
        shards={"one": engine},
        shard_chooser=lambda mapper, instance, clause=None: "one",
        identity_chooser=lambda *args, **kw: ["one"],
        execute_chooser=lambda context: ["one"],
    )
    PUBLIC.attach(maker)
    with maker() as session:
        held = session.get(blog.post, 2, execution_options={"include_private": True})
        assert (held is not None, session.get(blog.post, 2), _seen(session, blog)) == (True, None, [1, 3])
    engine.dispose()


# -- what the option opens, and what is held -----------------------------------------------------


def test_the_option_opens_lazy_loads_of_what_it_loads(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        author = session.scalars(
            select(blog.author).where(blog.author.id == 3).execution_options(include_private=True)
        ).one()
        assert [each.id for each in author.posts] == [3, 4]
        assert [each.id for each in author.posts[1].comments] == [40, 41]


def test_what_is_made_in_the_session_loads_by_the_criterion(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        author = blog.author(id=9)
        session.add(author)
        session.flush()
        session.connection().execute(update(blog.post.__table__).values(author_id=9))
        session.expire(author)
        assert [each.id for each in author.posts] == [1, 3]


def test_a_held_hidden_object_is_not_got(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        held = session.get(blog.post, 2, execution_options={"include_private": True})
        assert (held is not None, session.get(blog.post, 2)) == (True, None)
        assert session.get(blog.post, 2, execution_options={"include_private": True}) is held


def test_a_held_hidden_object_is_no_parent(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        held = session.get(blog.post, 2, execution_options={"include_private": True})
        assert (held is not None, session.get_one(blog.comment, 20).post) == (True, None)


def test_a_new_object_that_is_hidden_is_not_got(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        post = blog.post(id=9, public=False)
        session.add(post)
        session.flush()
        assert session.get(blog.post, 9) is None


def test_a_held_object_that_is_seen_costs_no_sql(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        held = session.get_one(blog.post, 1)
        with count_statements() as log:
            assert session.get(blog.post, 1) is held
    assert log == []


def test_a_held_hidden_object_can_be_refreshed(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        held = session.get_one(blog.post, 2, execution_options={"include_private": True})
        session.expire(held)
        assert held.title == "p2"


def test_a_bare_session_shows_what_it_holds(blog: Blog, blog_engine: Engine) -> None:
    with Session(blog_engine) as session:
        held = session.get(blog.post, 2)
        assert session.get(blog.post, 2) is held


def test_options_of_loaded_objects_pickle(blog: Blog, blog_engine: Engine) -> None:
    maker = sessionmaker(blog_engine)
    PUBLIC.attach(maker)
    with maker() as session:
        post: Any = session.get_one(blog.post, 1)
        options = tuple(post._sa_instance_state.load_options)
    assert options
    assert pickle.loads(pickle.dumps(options))


@pytest.mark.parametrize(
    "arguments",
    [
        (object, lambda cls: cls.id > 1, "x"),
        ("Post", lambda cls: cls.id > 1, "x"),
        (HasPrivate, None, "x"),
        (HasPrivate, str, ""),
    ],
)
def test_bad_arguments_are_refused(arguments: Any) -> None:
    mixin, criterion, option = arguments
    with pytest.raises(InvalidArgumentError, match="GlobalCriteria"):
        GlobalCriteria(mixin, criterion, option=option)


# -- ranges --------------------------------------------------------------------------------------


class Times:
    """Orders and their items, a day apart."""

    def __init__(self, base: Any) -> None:
        class Order(HasTemporal, base):
            __tablename__ = "crit_time_order"
            id: Mapped[int] = mapped_column(primary_key=True)
            items: Mapped[list["Item"]] = relationship(order_by="Item.id", viewonly=False)

        class Item(HasTemporal, base):
            __tablename__ = "crit_time_item"
            id: Mapped[int] = mapped_column(primary_key=True)
            order_id: Mapped[int] = mapped_column(ForeignKey("crit_time_order.id"))

        self.base, self.order, self.item = base, Order, Item


def day(number: int) -> datetime:
    return datetime(2024, 5, number)  # noqa: DTZ001 - HasTemporal is naive, as upstream's


@pytest.fixture
def times(plain_bases: BaseFactory, engine: Engine) -> Times:
    times = Times(plain_bases())
    times.base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([times.order(id=n, timestamp=day(n)) for n in range(1, 6)])
        session.flush()
        session.add_all([times.item(id=n, order_id=1, timestamp=day(n)) for n in range(1, 6)])
        session.commit()
    return times


@pytest.mark.parametrize(
    ("bounds", "expected"), [("[]", [2, 3, 4]), ("[)", [2, 3]), ("(]", [3, 4]), ("()", [3]), (None, [2, 3, 4])]
)
def test_bounds(
    bounds: Literal["[]", "[)", "(]", "()"] | None, expected: list[int], times: Times, session: Session
) -> None:
    option = temporal_range(day(2), day(4)) if bounds is None else temporal_range(day(2), day(4), bounds=bounds)
    assert session.scalars(select(times.order.id).order_by(times.order.id).options(option)).all() == expected


@pytest.mark.parametrize("load", [None, joinedload, selectinload])
def test_a_range_reaches_loads(load: Callable[[Any], Any] | None, times: Times, session: Session) -> None:
    statement = select(times.order).order_by(times.order.id).options(temporal_range(day(1), day(3)))
    if load is not None:
        statement = statement.options(load(times.order.items))
    order = session.scalars(statement).unique().first()
    assert order is not None
    assert [each.id for each in order.items] == [1, 2, 3]


def test_a_range_with_populate_existing_loads_held_collections_again(times: Times, session: Session) -> None:
    statement = select(times.order).where(times.order.id == 1).options(selectinload(times.order.items))
    order = session.scalars(statement).one()
    before = len(order.items)
    ranged = statement.options(temporal_range(day(1), day(2))).execution_options(populate_existing=True)
    assert (before, len(session.scalars(ranged).one().items)) == (5, 2)


def test_ranges_share_one_compiled_statement(times: Times) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    times.base.metadata.create_all(engine)
    cache: Any = engine._compiled_cache
    sizes: list[int] = []
    with Session(engine) as session:
        for number in range(1, 28):
            found = session.scalars(select(times.order).options(temporal_range(day(number), day(number + 1)))).all()
            assert found == []
            sizes.append(len(cache))
    engine.dispose()
    assert sizes[0] == sizes[-1]


def test_a_range_over_another_attribute_of_one_class(times: Times, session: Session) -> None:
    statement = select(times.order.id).order_by(times.order.id)
    option = temporal_range(2, 3, on=times.order, attribute="id")
    assert session.scalars(statement.options(option)).all() == [2, 3]


def test_a_range_of_aware_moments(plain_bases: BaseFactory, engine: Engine) -> None:
    class Event(HasTemporal, plain_bases()):  # type: ignore[misc]
        __tablename__ = "crit_event"
        id: Mapped[int] = mapped_column(primary_key=True)
        timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    Event.metadata.create_all(engine)
    first, second = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    with Session(engine) as session:
        session.add_all([Event(id=1, timestamp=first), Event(id=2, timestamp=second)])
        session.flush()
        assert session.scalars(select(Event.id).options(temporal_range(first, first))).all() == [1]


BAD_RANGES: dict[str, tuple[Any, Any]] = {
    "reversed": (day(2), day(1)),
    "naive and aware": (day(1), datetime(2024, 6, 1, tzinfo=UTC)),
    "no upper bound": (day(1), None),
    "not comparable": (day(1), "x"),
}


@pytest.mark.parametrize("name", BAD_RANGES)
@pytest.mark.parametrize("error", [InvalidRangeError, PatternError, ValueError, ArgumentError])
def test_bounds_that_form_no_range_are_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="temporal_range"):
        temporal_range(*BAD_RANGES[name])


@pytest.mark.parametrize(
    "keywords", [{"bounds": "[["}, {"on": "Order"}, {"attribute": "timestomp"}], ids=["bounds", "on", "attribute"]
)
def test_other_bad_arguments_are_refused(keywords: dict[str, Any], times: Times) -> None:
    with pytest.raises(InvalidArgumentError, match="temporal_range"):
        temporal_range(day(1), day(2), **{"on": times.order, **keywords})


def test_options_of_a_range_pickle() -> None:
    assert pickle.loads(pickle.dumps(temporal_range(day(1), day(2)))) is not None


def test_an_async_session_is_no_target_as_a_bare_class() -> None:
    with pytest.raises(InvalidArgumentError, match="AsyncSession"):
        PUBLIC.attach(AsyncSession)
