"""A versioned map in every state that an object can have: pending, expired, detached, rolled back, merged, pickled."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import Engine, String, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    lazyload,
    make_transient,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.exceptions import PatternError, StateError
from sqla_patterns.versioning import (
    StaleVersionError,
    VersionedMap,
    delete_stream,
    get_current,
    get_version,
    history_of,
    load_current,
)
from tests.versioning._versioned_maps import configs, count_rows, make, noted_configs, past, saved

# -- pending, expired, detached ----------------------------------------------------------------------------------------


def test_a_pending_map_is_changed_until_the_flush(bases: Any, session: Session) -> None:
    Config = configs(bases())
    Config.metadata.create_all(session.connection())
    config = make(Config, {"a": 1, "b": 2}, tenant="t1")
    session.add(config)
    config["a"] = 3
    del config["b"]
    assert (dict(config), config.version) == ({"a": 3}, None)
    session.commit()
    assert (past(session, Config, tenant="t1"), count_rows(session, Config)) == ([(1, {"a": 3})], (1, 1, 1))


def test_a_new_map_begins_at_1_whatever_it_says(bases: Any, session: Session) -> None:
    Config = configs(bases())
    Config.metadata.create_all(session.connection())
    config = make(Config, {}, tenant="t1")
    config.version = 7
    session.add(config)
    session.commit()
    assert config.version == 1


@pytest.mark.parametrize("expire", ["all", "values", "columns"])
def test_what_is_not_loaded_is_loaded_before_it_is_judged(bases: Any, session: Session, expire: str) -> None:
    Config = noted_configs(bases())
    config = saved(session, Config, {"a": 1, "b": 2}, tenant="t1", note="n")
    if expire == "columns":
        assert len(config) == 2
    else:
        assert (config.tenant, config.note) == ("t1", "n")
    names = {"all": None, "values": ["value_rows"], "columns": ["version", "tenant", "note"]}
    session.expire(config, names[expire])
    config["a"] = 5
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1, "b": 2}), (2, {"a": 5, "b": 2})]
    assert config.note == "n"


def test_an_unloaded_map_keeps_its_values_when_a_column_changes(bases: Any, session: Session) -> None:
    Config = noted_configs(bases())
    saved(session, Config, {"a": 1}, tenant="t1")
    session.expunge_all()
    config = session.scalars(select(Config).options(lazyload(Config.value_rows))).one()
    config.note = "new"
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 1})]


def test_a_detached_map_is_changed_and_added_again(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "b": 2}, tenant="t1")
    session.refresh(config)
    session.expunge(config)
    config["a"] = 3
    assert dict(config) == {"a": 3, "b": 2}
    session.add(config)
    session.commit()
    assert past(session, Config, tenant="t1")[-1] == (2, {"a": 3, "b": 2})


def test_merge_copies_the_changes_of_a_detached_map(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "b": 2, "c": 3}, tenant="t1")
    session.refresh(config)
    session.expunge(config)
    config.update({"a": 5, "d": 4})
    del config["b"]
    merged = session.merge(config)
    assert merged is not config
    session.commit()
    assert past(session, Config, tenant="t1")[-1] == (2, {"a": 5, "c": 3, "d": 4})
    assert dict(merged) == {"a": 5, "c": 3, "d": 4}
    assert count_rows(session, Config) == (2, 5, 6)


def test_merging_an_unchanged_map_makes_no_version(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    session.refresh(config)
    session.expunge(config)
    assert session.merge(config).version == 1
    session.commit()
    assert count_rows(session, Config) == (1, 1, 1)


def test_merging_a_new_map_begins_a_stream(bases: Any, session: Session) -> None:
    Config = configs(bases())
    Config.metadata.create_all(session.connection())
    merged = session.merge(make(Config, {"a": 1}, tenant="t1"))
    session.commit()
    assert (dict(merged), past(session, Config, tenant="t1")) == ({"a": 1}, [(1, {"a": 1})])


@pytest.mark.parametrize("how", ["refresh", "expire"])
def test_refresh_and_expire_take_changes_back(bases: Any, session: Session, how: str) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 5
    getattr(session, how)(config)
    assert dict(config) == {"a": 1}
    session.commit()
    assert config.version == 1


def test_without_expiry_on_commit_nothing_is_loaded_again(bases: Any, engine: Engine, statements: Any) -> None:
    Config = configs(bases())
    with Session(engine, expire_on_commit=False) as session:
        config = saved(session, Config, {"a": 1, "b": 2}, tenant="t1")
        config["a"] = 2
        session.commit()
        with statements() as log:
            assert (dict(config), config.version) == ({"a": 2, "b": 2}, 2)
            config["b"] = 5
            session.commit()
        assert [each.split("(")[0].strip() for each in log] == [
            "INSERT INTO config",
            "INSERT INTO config_value",
            "INSERT INTO config_entry",
        ]


def test_a_map_moves_to_another_session(bases: Any, engine: Engine) -> None:
    Config = configs(bases())
    with Session(engine, expire_on_commit=False) as one, Session(engine) as two:
        config = saved(one, Config, {"a": 1, "b": 2}, tenant="t1")
        one.expunge(config)
        assert len(one.identity_map) == 0
        in_between = get_current(two, Config, tenant="t1")
        two.expunge(in_between)
        config["a"] = 3
        two.add(config)
        two.commit()
        assert past(two, Config, tenant="t1")[-1] == (2, {"a": 3, "b": 2})


# -- rollbacks ---------------------------------------------------------------------------------------------------------


def test_after_a_rollback_the_object_in_hand_is_what_it_was(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    key = config.id
    config["a"] = 2
    session.flush()
    config["a"] = 3
    session.flush()
    session.rollback()
    assert (config in session, inspect(config).persistent) == (True, True)
    assert (config.id, config.version, dict(config)) == (key, 1, {"a": 1})
    config["a"] = 4
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 4})]


def test_unflushed_changes_go_with_a_rollback(bases: Any, session: Session) -> None:
    config = saved(session, configs(bases()), {"a": 1}, tenant="t1")
    config["a"] = 2
    session.rollback()
    assert (config.version, dict(config)) == (1, {"a": 1})


def test_a_savepoint_gives_the_version_back_that_was_before_it(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.flush()
    savepoint = session.begin_nested()
    config["a"] = 3
    session.flush()
    savepoint.rollback()
    assert (config.version, dict(config)) == (2, {"a": 2})
    config["b"] = 1
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 2, "b": 1})]


def test_a_released_savepoint_goes_with_the_transaction(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    with session.begin_nested():
        config["a"] = 2
        session.flush()
        with session.begin_nested():
            config["a"] = 3
    assert config.version == 3
    session.rollback()
    assert (config.version, dict(config)) == (1, {"a": 1})


def test_a_rollback_within_a_savepoint_that_expires_the_object(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.begin_nested()
    config["a"] = 3
    session.rollback()
    assert (config.version, dict(config)) == (1, {"a": 1})


def test_a_savepoint_around_an_untouched_map_leaves_it(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.flush()
    session.begin_nested().rollback()
    assert (config.version, dict(config)) == (2, {"a": 2})
    session.rollback()
    assert config.version == 1


def test_a_new_map_is_transient_after_a_rollback_and_can_be_added_again(bases: Any, session: Session) -> None:
    Config = configs(bases())
    Config.metadata.create_all(session.connection())
    session.commit()
    config = make(Config, {"a": 1}, tenant="t1")
    session.add(config)
    session.flush()
    config["b"] = 2
    session.flush()
    session.rollback()
    assert inspect(config).transient
    session.add(config)
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1, "b": 2})]


def test_a_version_of_the_past_gives_way_when_the_object_goes_back_to_it(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.flush()
    old = get_version(session, Config, 1, tenant="t1")
    assert (old is config, dict(old)) == (False, {"a": 1})
    session.rollback()
    assert (config in session, old in session, config.version) == (True, False, 1)


def test_a_listener_that_fails_leaves_the_next_version_pending(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")

    def fail(*_: Any) -> None:
        raise LookupError

    event.listen(Config.ValueRow, "before_insert", fail)
    config["a"] = 2
    with pytest.raises(LookupError):
        session.flush()
    event.remove(Config.ValueRow, "before_insert", fail)
    session.rollback()
    assert (config.version, dict(config)) == (1, {"a": 1})
    config["a"] = 3
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 3})]


def test_a_closed_session_leaves_nothing_for_the_next_transaction(bases: Any, engine: Engine) -> None:
    Config = configs(bases())
    with Session(engine) as session:
        saved(session, Config, {"a": 1}, tenant="t1")
        config = get_current(session, Config, tenant="t1")
        config["a"] = 2
        session.flush()
        session.close()
        again = get_current(session, Config, tenant="t1")
        again["a"] = 3
        session.flush()
        session.rollback()
        assert (again.version, dict(again)) == (1, {"a": 1})


# -- other listeners ---------------------------------------------------------------------------------------------------


def test_what_a_listener_of_the_session_changes_is_in_the_version(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")

    @event.listens_for(session, "before_flush")
    def change(*_: Any) -> None:
        config["stamp"] = "x"

    for number in (2, 3):
        config["a"] = number
        session.commit()
    assert past(session, Config, tenant="t1")[1:] == [(2, {"a": 2, "stamp": "x"}), (3, {"a": 3, "stamp": "x"})]


def test_what_the_unit_of_work_changes_inside_of_the_flush_is_refused(bases: Any, session: Session) -> None:
    Config = noted_configs(bases())
    # One-to-many from its side alone: the foreign key of the map is set while the flush writes.
    Config.Author.configs = relationship(Config, overlaps="author")
    config = saved(session, Config, {"a": 1}, tenant="t1")
    author = Config.Author()
    author.configs.append(config)
    session.add(author)
    with pytest.raises(StateError, match="was changed inside of the flush"):
        session.flush()
    session.rollback()
    assert (config.version, config.author_id, dict(config)) == (1, None, {"a": 1})


# -- references --------------------------------------------------------------------------------------------------------


def test_a_reference_stays_at_the_version_that_it_was_given(plain_bases: Any, session: Session) -> None:
    from sqlalchemy import ForeignKey

    base = plain_bases()
    Config = configs(base)

    class Run(base):
        __tablename__ = "run"
        id: Mapped[int] = mapped_column(primary_key=True)
        config_id: Mapped[int] = mapped_column(ForeignKey("config.id"))
        config: Mapped[Any] = relationship(Config)

    config = saved(session, Config, {"a": 1}, tenant="t1")
    run = Run(config=config)
    session.add(run)
    session.flush()
    first = config.id
    config["a"] = 2
    later = Run(config=config)
    session.add(later)
    session.flush()
    assert (run.config_id, run.config is config, dict(run.config)) == (first, False, {"a": 1})
    assert (later.config_id, later.config is config) == (config.id, True)


def test_a_value_knows_the_version_that_it_comes_from(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "b": 1}, tenant="t1")
    config["a"] = 2
    session.flush()
    config["b"] = 2
    session.flush()
    assert [config.value_rows[key].origin.version for key in "ab"] == [2, 3]


# -- two writers -------------------------------------------------------------------------------------------------------


def test_the_second_writer_of_a_stream_is_told_and_can_go_on(bases: Any, engine_factory: Any) -> None:
    engine = engine_factory()
    Config = configs(bases())
    with Session(engine) as one, Session(engine) as two:
        saved(one, Config, {"a": 1}, tenant="t1")
        ours, theirs = (get_current(each, Config, tenant="t1") for each in (one, two))
        two.commit()
        assert theirs["a"] == 1
        two.commit()
        theirs["a"] = 3
        ours["a"] = 2
        one.commit()
        with pytest.raises(StaleVersionError, match="Config: the version that this flush was about to write") as error:
            two.commit()
        assert isinstance(error.value, StaleDataError)
        assert isinstance(error.value, PatternError)
        two.rollback()
        assert (theirs.version, dict(theirs)) == (1, {"a": 1})
        current = get_current(two, Config, tenant="t1")
        current["a"] = 3
        two.commit()
        assert past(one, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 3})]
        assert count_rows(one, Config) == (3, 3, 3)


def test_a_version_of_the_past_is_no_place_to_go_on_from(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.commit()
    old = get_version(session, Config, 1, tenant="t1")
    old["a"] = 9
    with pytest.raises(StaleVersionError):
        session.commit()
    session.rollback()
    assert (old.version, dict(old), dict(config)) == (1, {"a": 1}, {"a": 2})


def test_a_second_new_map_of_a_stream_is_refused(bases: Any, session: Session) -> None:
    Config = configs(bases())
    saved(session, Config, {"a": 1}, tenant="t1")
    session.add(make(Config, {"b": 1}, tenant="t1"))
    with pytest.raises(StaleVersionError, match="or it existed before a new object was made for it"):
        session.commit()
    session.rollback()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1})]


@pytest.mark.parametrize("shared", [True, False])
def test_a_change_of_a_stream_that_was_deleted_is_refused(bases: Any, engine_factory: Any, shared: bool) -> None:
    engine = engine_factory()
    Config = configs(bases())
    with Session(engine, expire_on_commit=False) as one, Session(engine) as two:
        config = saved(one, Config, {"a": 1, "b": 1} if shared else {"a": 1}, tenant="t1")
        delete_stream(two, Config, tenant="t1")
        two.commit()
        if engine.dialect.name == "sqlite":
            # Foreign keys do nothing there unless they are switched on.
            one.connection().exec_driver_sql("PRAGMA foreign_keys = ON")
        config["a"] = 2
        with pytest.raises(StaleVersionError, match="was deleted by another transaction"):
            one.commit()
        one.rollback()
        assert count_rows(one, Config) == (0, 0, 0)


def test_a_conflict_within_a_savepoint_leaves_the_transaction(bases: Any, engine_factory: Any) -> None:
    Config = configs(bases())
    with Session(engine_factory()) as session:
        config = saved(session, Config, {"a": 1}, tenant="t1")
        other = saved(session, Config, {"a": 1}, tenant="t2")
        config["a"] = 2
        session.commit()
        old = get_version(session, Config, 1, tenant="t1")
        other["a"] = 5
        session.flush()
        with pytest.raises(StaleVersionError), session.begin_nested():
            old["a"] = 3
            config["b"] = 1
            session.flush()
        assert (old.version, dict(old)) == (1, {"a": 1})
        assert (config.version, dict(config)) == (2, {"a": 2})
        assert (other.version, dict(other)) == (2, {"a": 5})
        config["a"] = 4
        session.commit()
        assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 4})]
        assert past(session, Config, tenant="t2") == [(1, {"a": 1}), (2, {"a": 5})]


def test_an_object_that_is_made_transient_begins_a_stream_of_its_own(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": [1], "b": 2}, tenant="t1")
    config["b"] = 3
    session.flush()
    make_transient(config)
    config.id, config.tenant = None, "t2"
    session.add(config)
    session.commit()
    assert delete_stream(session, Config, tenant="t1") == 2
    session.commit()
    assert (config.version, dict(config)) == (1, {"a": [1], "b": 3})
    assert history_of(session, Config, "a", tenant="t2") == [([1], 1)]


# -- sessions of all kinds ---------------------------------------------------------------------------------------------


def test_scoped_sessions(plain_bases: Any, engine: Engine) -> None:
    Config = configs(plain_bases())
    Config.metadata.create_all(engine)
    scoped = scoped_session(sessionmaker(engine))
    scoped.add(Config({"a": 1}, tenant="t1"))
    scoped.commit()
    config = get_current(scoped, Config, tenant="t1")
    assert config is not None
    config["a"] = 2
    scoped.commit()
    assert history_of(scoped, Config, "a", tenant="t1") == [(1, 1), (2, 2)]
    assert (load_current(scoped, Config), delete_stream(scoped, Config, tenant="t1")) == ([config], 2)
    scoped.remove()


async def test_under_asyncio(plain_bases: Any, async_engine: AsyncEngine, async_session: AsyncSession) -> None:
    Config = configs(plain_bases())
    async with async_engine.begin() as connection:
        await connection.run_sync(Config.metadata.create_all)
    session = async_session
    config = Config({"a": 1, "b": 2}, tenant="t1")
    session.add(config)
    await session.commit()
    config["a"] = 2
    await session.commit()
    assert (config.version, dict(config), config.tenant) == (2, {"a": 2, "b": 2}, "t1")
    session.expunge_all()
    current = await session.run_sync(get_current, Config, tenant="t1")
    assert current is not None
    current["b"] = 3
    await session.flush()
    assert (current.version, dict(current)) == (3, {"a": 2, "b": 3})
    await session.rollback()
    await session.refresh(current)
    assert (current.version, dict(current)) == (2, {"a": 2, "b": 2})
    loaded = (await session.scalars(select(Config).where(Config.is_current()))).one()
    assert loaded == {"a": 2, "b": 2}
    assert await session.run_sync(history_of, Config, "a", tenant="t1") == [(1, 1), (2, 2)]
    stale = make(Config, {}, tenant="t1")
    session.add(stale)
    with pytest.raises(StaleVersionError):
        await session.commit()
    await session.rollback()
    assert await session.run_sync(delete_stream, Config, tenant="t1") == 2
    await session.commit()


# -- pickles -----------------------------------------------------------------------------------------------------------


class _Base(DeclarativeBase):
    pass


class PickledConfig(VersionedMap[int | str], _Base):
    __tablename__ = "pickled_config"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(50))


def test_a_pickled_map_is_detached_and_can_go_on(session: Session) -> None:
    config = saved(session, PickledConfig, {"a": 1, "b": "x"}, tenant="t1")
    assert len(config) == 2
    copy = pickle.loads(pickle.dumps(config))
    session.expunge_all()
    assert (copy == {"a": 1, "b": "x"}, inspect(copy).detached) == (True, True)
    copy["a"] = 2
    session.add(pickle.loads(pickle.dumps(copy)))
    session.commit()
    current = get_current(session, PickledConfig, tenant="t1")
    assert (current == {"a": 2, "b": "x"}, current is not None and current.version) == (True, 2)


def test_an_unmapped_map_says_so(plain_bases: Any) -> None:
    class Abstract(VersionedMap[int], plain_bases()):
        __abstract__ = True

    with pytest.raises(StateError, match="is not mapped"):
        Abstract.__getitem__(object.__new__(Abstract), "a")


def test_a_class_listener_that_comes_later_does_not_keep_a_map_from_its_version(
    plain_bases: Any, engine: Engine
) -> None:
    # As that of another package does, whose classes are mapped after the map.
    Config = configs(plain_bases())
    Config.metadata.create_all(engine)
    called: list[int] = []

    def later(session: Session, context: object, instances: object) -> None:
        called.append(1)

    event.listen(Session, "before_flush", later)
    try:
        with Session(engine) as session:
            made = Config({"a": 1}, tenant="t")
            session.add(made)
            session.commit()
            assert made.version == 1
            made["a"] = 2
            session.commit()
            assert made.version == 2
    finally:
        event.remove(Session, "before_flush", later)
    assert len(called) == 2
