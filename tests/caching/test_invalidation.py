"""Each way of writing invalidates cached reads of the tables that it changes, and no others."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, event, exists, func, insert, select, text, union_all, update
from sqlalchemy.dialects import mysql as mysql_dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, aliased, joinedload, sessionmaker, with_loader_criteria

from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._memory_stamps import MemoryStamps
from sqla_patterns.caching._tags import tables_of
from sqla_patterns.caching._writes import RawWriteError
from sqla_patterns.exceptions import InvalidArgumentError
from tests.caching._reader import Reader
from tests.caching._shop import TABLES, Address, Base, Club, Employee, Parcel, Person, Unrelated, fill, membership

EVERY = frozenset(TABLES)


@pytest.fixture
def shop(file_engine: Engine) -> Engine:
    _begin_by_hand(file_engine)
    Base.metadata.create_all(file_engine)
    with Session(file_engine) as session:
        fill(session)
    return file_engine


def _begin_by_hand(engine: Engine) -> None:
    """Begin transactions as SQLAlchemy's documentation advises for SQLite: its driver begins none for a savepoint."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))


class World:
    """A shop, sessions on it, and a cache of each table of it."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.engine = engine
        self.make = sessionmaker(engine)
        self.reader = Reader(Freshness(MemoryStamps(), **options))
        self.handle = self.reader.attach(self.make)
        self.reader.freshness.track_engine(engine)
        self.warm()

    def look(self, name: str, session: Session | None = None) -> str:
        """Read a table, in a session of its own unless one is given, and tell where the rows came from."""
        statement = select(TABLES[name]).order_by(*TABLES[name].primary_key)
        if session is not None:
            rows = self.reader.rows(session, statement)
        else:
            with self.make() as own:
                rows = self.reader.rows(own, statement)
        with self.engine.connect() as connection:
            now = [tuple(row) for row in connection.execute(statement)]
        if session is None:
            assert rows == now, f"{name} is stale"
        return self.reader.last

    def warm(self) -> None:
        """Have every table in the cache."""
        for name in TABLES:
            self.look(name)
            self.look(name)
        assert self.changed() == set()

    def changed(self) -> set[str]:
        """Return the tables that are not served from the cache."""
        return {name for name in TABLES if self.look(name) != "hit"}

    def dispose(self) -> None:
        self.handle.detach()
        self.reader.freshness.detach()


@pytest.fixture
def world(shop: Engine) -> Generator[World, None, None]:
    world = World(shop)
    yield world
    world.dispose()


@pytest.fixture
def make_world(shop: Engine) -> Generator[Callable[..., World], None, None]:
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(shop, **options))
        return made[-1]

    yield make
    for each in made:
        each.dispose()


# -- writes, and the tables they reach -----------------------------------------------------------


def _flush_insert(session: Session) -> None:
    session.add(Unrelated(id=7, value=1))


def _flush_update(session: Session) -> None:
    session.get_one(Club, 1).name = "bridge"


def _flush_delete(session: Session) -> None:
    session.delete(session.get_one(Unrelated, 1))


def _secondary_add(session: Session) -> None:
    anna = session.get_one(Person, 1)
    anna.clubs.append(session.get_one(Club, 2))


def _secondary_remove(session: Session) -> None:
    anna = session.get_one(Person, 1)
    anna.clubs.clear()


def _joined_insert(session: Session) -> None:
    session.add(Employee(id=9, name="Cy", salary=1))


def _joined_update_below(session: Session) -> None:
    session.get_one(Employee, 2).salary = 99


def _joined_update_above(session: Session) -> None:
    session.get_one(Employee, 2).name = "Bob"


def _bulk_insert(session: Session) -> None:
    session.execute(insert(Unrelated), [{"id": 20, "value": 1}, {"id": 21, "value": 2}])


def _bulk_insert_joined(session: Session) -> None:
    session.execute(insert(Employee), [{"id": 30, "name": "Di", "kind": "employee", "salary": 3}])


def _bulk_update(session: Session) -> None:
    session.execute(update(Person).where(Person.id == 1).values(name="Ann"))


def _bulk_update_by_key(session: Session) -> None:
    session.execute(update(Employee), [{"id": 2, "salary": 77}])


def _bulk_save(session: Session) -> None:
    session.bulk_insert_mappings(Club, [{"id": 40, "name": "tennis"}])  # pyright: ignore[reportUnknownMemberType]


def _orm_delete(session: Session) -> None:
    session.execute(delete(Unrelated).where(Unrelated.value == 0))


def _query_update(session: Session) -> None:
    session.query(Club).filter_by(id=2).update({"name": "polo"})


def _core_insert(session: Session) -> None:
    session.execute(TABLES["unrelated"].insert().values(id=50, value=5))


def _core_through_the_connection(session: Session) -> None:
    session.connection().execute(TABLES["unrelated"].update().values(value=6))


def _core_many(session: Session) -> None:
    session.connection().execute(membership.insert(), [{"person_id": 2, "club_id": 1}, {"person_id": 2, "club_id": 2}])


def _insert_from_select(session: Session) -> None:
    session.execute(insert(Unrelated).from_select(["id", "value"], select(Person.id + 60, Person.id)))


def _delete_of_an_alias_in_where(session: Session) -> None:
    other = aliased(Club)
    session.execute(delete(Unrelated).where(Unrelated.id.in_(select(other.id))))


def _delete_parent(session: Session) -> None:
    session.execute(delete(Person).where(Person.id == 1))


def _flush_delete_parent(session: Session) -> None:
    session.delete(session.get_one(Person, 1))


def _delete_address(session: Session) -> None:
    session.execute(delete(TABLES["address"]))


def _update_key(session: Session) -> None:
    session.execute(update(Parcel).values(id=100))


def _savepoint(session: Session) -> None:
    with session.begin_nested():
        session.execute(update(Club).values(name="kept"))


def _savepoint_rolled_back(session: Session) -> None:
    nested = session.begin_nested()
    session.execute(update(Unrelated).values(value=9))
    nested.rollback()
    session.execute(update(Club).values(name="kept"))


_BELOW_PERSON = {"employee", "address", "membership", "parcel"}

WRITES: list[tuple[Callable[[Session], None], set[str]]] = [
    (_flush_insert, {"unrelated"}),
    (_flush_update, {"club"}),
    (_flush_delete, {"unrelated"}),
    (_secondary_add, {"membership"}),
    (_secondary_remove, {"membership"}),
    (_joined_insert, {"person", "employee"}),
    (_joined_update_below, {"employee"}),
    (_joined_update_above, {"person"}),
    (_bulk_insert, {"unrelated"}),
    (_bulk_insert_joined, {"person", "employee"}),
    (_bulk_update, {"person"}),
    (_bulk_update_by_key, {"employee"}),
    (_bulk_save, {"club"}),
    (_orm_delete, {"unrelated"}),
    (_query_update, {"club"}),
    (_core_insert, {"unrelated"}),
    (_core_through_the_connection, {"unrelated"}),
    (_core_many, {"membership"}),
    (_insert_from_select, {"unrelated"}),
    (_delete_of_an_alias_in_where, {"unrelated"}),
    (_delete_parent, {"person", *_BELOW_PERSON}),
    (_flush_delete_parent, {"person", *_BELOW_PERSON}),
    (_delete_address, {"address", "parcel"}),
    (_update_key, {"parcel", "stamped"}),
    (_savepoint, {"club"}),
    # What was rolled back is not distinguished: too much is invalid rather than too little.
    (_savepoint_rolled_back, {"club", "unrelated"}),
]


def check_commit(world: World, write: Callable[[Session], None], tables: set[str]) -> None:
    with world.make() as session:
        write(session)
        session.flush()
        for name in TABLES:
            assert (world.look(name, session) == "read") == (name in tables), name
        assert world.changed() == set(), "others still see what is committed"
        session.commit()
        assert world.changed() == tables
    assert world.changed() == set()


def check_rollback(world: World, write: Callable[[Session], None], tables: set[str]) -> None:
    with world.make() as session:
        write(session)
        session.flush()
        assert world.look(min(tables), session) == "read"
        session.rollback()
        assert world.changed() == set()
        assert world.look(min(tables), session) == "hit"


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(("write", "tables"), WRITES, ids=[write.__name__.strip("_") for write, _ in WRITES])
def test_a_write_reaches_its_tables_and_no_others(
    world: World, write: Callable[[Session], None], tables: set[str]
) -> None:
    check_rollback(world, write, tables)
    check_commit(world, write, tables)


@pytest.mark.only_on("postgresql", "mariadb")
def test_every_write_reaches_its_tables_and_no_others(world: World) -> None:
    for write, tables in WRITES:
        check_rollback(world, write, tables)
        check_commit(world, write, tables)
        with world.make() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
            fill(session)
        world.warm()


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("kind", ["insert", "update", "delete", "text", "nested in an insert"])
def test_dml_in_a_common_table_expression_is_a_write(world: World, kind: str) -> None:
    unrelated = TABLES["unrelated"]
    ctes: dict[str, Any] = {
        "insert": insert(unrelated).values(id=70, value=1).returning(unrelated.c.id),
        "update": update(unrelated).values(value=8).returning(unrelated.c.id),
        "delete": delete(unrelated).returning(unrelated.c.id),
        "text": text("DELETE FROM shop_unrelated RETURNING id").columns(unrelated.c.id),
        "nested in an insert": delete(unrelated).returning(unrelated.c.id),
    }
    cte = ctes[kind].cte()
    expected = {"unrelated"} if kind != "text" else EVERY
    statement: Any = select(func.count()).select_from(cte)
    if kind == "nested in an insert":
        statement = insert(Club).from_select(["id", "name"], select(cte.c.id + 500, func.now().op("||")("")))
        expected = {"unrelated", "club"}
    with world.make() as session:
        session.execute(statement)
        session.commit()
    assert world.changed() == expected


@pytest.mark.only_on("postgresql", "sqlite")
def test_returning_through_the_orm_is_a_write(world: World) -> None:
    with world.make() as session:
        statement = select(Unrelated).from_statement(insert(Unrelated).values(id=80, value=1).returning(Unrelated))
        assert session.scalars(statement).one().id == 80
        session.commit()
    assert world.changed() == {"unrelated"}


@pytest.mark.only_on("postgresql", "sqlite")
def test_an_upsert_counts_as_an_update(world: World) -> None:
    dialect: Any = postgresql if world.engine.dialect.name == "postgresql" else sqlite
    with world.engine.begin() as connection:
        upsert = dialect.insert(TABLES["parcel"]).values(id=1)
        connection.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"id": 3}))
    assert world.changed() == {"parcel", "stamped"}


@pytest.mark.only_on("mariadb")
def test_an_upsert_and_a_multi_table_update_count_on_mariadb(world: World) -> None:
    parcel, club, unrelated = TABLES["parcel"], TABLES["club"], TABLES["unrelated"]
    with world.engine.begin() as connection:
        connection.execute(mysql_dialect.insert(parcel).values(id=1).on_duplicate_key_update(id=4))
    assert world.changed() == {"parcel", "stamped"}
    with world.engine.begin() as connection:
        both = update(club).where(club.c.id == unrelated.c.id).values({club.c.name: "both", unrelated.c.value: 44})
        connection.execute(both)
    assert world.changed() == {"club", "unrelated"}


# -- plain text ----------------------------------------------------------------------------------

_TEXT = "UPDATE shop_club SET name = 'text'"


def test_text_that_writes_makes_everything_invalid(world: World) -> None:
    with world.make() as session:
        session.execute(text(_TEXT))
        assert {world.look(name, session) for name in TABLES} == {"read"}
        session.commit()
    assert world.changed() == EVERY


def test_driver_level_sql_that_writes_makes_everything_invalid(world: World) -> None:
    with world.engine.begin() as connection:
        connection.exec_driver_sql(_TEXT)
    assert world.changed() == EVERY


@pytest.mark.parametrize(
    "touched",
    [Club, Club.__table__, "shop_club", [Club], ("shop_club",)],
    ids=["class", "table", "name", "list", "tuple"],
)
def test_text_with_declared_tables_reaches_these(make_world: Callable[..., World], touched: Any) -> None:
    world = make_world(raw_dml="raise")
    with world.make() as session:
        session.execute(text(_TEXT), execution_options={"cache_touches": touched})
        session.commit()
    assert world.changed() == {"club"}


def test_declared_tables_add_to_those_of_a_statement(world: World) -> None:
    with world.engine.begin() as connection:
        statement = update(TABLES["unrelated"]).values(value=3)
        connection.execute(statement, execution_options={"cache_touches": [Club]})
    assert world.changed() == {"unrelated", "club"}


def test_declaring_no_table_is_a_promise_too(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE shop_club SET name = name"), execution_options={"cache_touches": []})
    assert world.changed() == set()


def test_a_declared_thing_that_names_no_table_is_refused(world: World) -> None:
    with world.engine.connect() as connection, pytest.raises(InvalidArgumentError, match="names no table"):
        connection.execute(text(_TEXT), execution_options={"cache_touches": [42]})


def test_text_that_writes_is_refused_before_it_runs_where_the_policy_says_so(make_world: Callable[..., World]) -> None:
    world = make_world(raw_dml="raise")
    with world.make() as session:
        with pytest.raises(RawWriteError, match="cache_touches"):
            session.execute(text(_TEXT))
        session.rollback()
        assert session.execute(text("SELECT name FROM shop_club WHERE id = 1")).scalar() == "chess"
    assert world.changed() == set()


def test_text_that_writes_can_be_ignored(make_world: Callable[..., World]) -> None:
    world = make_world(raw_dml="ignore")
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE shop_club SET name = name"))
    assert world.changed() == set()


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="flush_all"):
        Freshness(MemoryStamps(), raw_dml="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  -- a comment; DELETE\n SELECT 1",
        "/* UPDATE */ SELECT 'DELETE FROM x'",
        "(SELECT 1)",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "SELECT id FROM shop_club FOR UPDATE",
    ],
)
def test_text_that_reads_is_no_write(world: World, sql: str) -> None:
    if "FOR UPDATE" in sql and world.engine.dialect.name == "sqlite":
        sql = "SELECT 'for update'"
    if sql.startswith("(") and world.engine.dialect.name == "sqlite":
        sql = "VALUES (1)"
    with world.engine.begin() as connection:
        connection.execute(text(sql))
        connection.exec_driver_sql(sql)
    assert world.changed() == set()


def test_ddl_makes_everything_invalid(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("CREATE TABLE shop_new (id INTEGER)"))
    assert world.changed() == EVERY
    with world.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE shop_new")
    assert world.changed() == EVERY


@pytest.mark.only_on("postgresql", "mariadb")
def test_truncate_makes_everything_invalid(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("TRUNCATE TABLE shop_unrelated"), execution_options={})
    assert world.changed() == EVERY


@pytest.mark.only_on("mariadb")
def test_ddl_on_mariadb_commits_what_came_before_it(world: World) -> None:
    with world.engine.connect() as connection:
        connection.execute(update(TABLES["club"]).values(name="early"))
        connection.exec_driver_sql("CREATE TABLE shop_implicit (id INTEGER)")
        # The update is committed and this connection still open: nothing may be served that was read before.
        with world.make() as session:
            assert world.look("club", session) == "read"
        connection.rollback()
    assert world.look("club") != "hit"
    assert world.changed() - {"club"} == EVERY - {"club"}


def test_text_that_commits_is_a_commit(world: World) -> None:
    with world.engine.connect() as connection:
        connection.execute(update(TABLES["club"]).values(name="by hand"))
        connection.exec_driver_sql("COMMIT")
        assert world.look("club") != "hit"
        connection.rollback()
    assert "club" in world.changed()


# -- how a transaction ends ----------------------------------------------------------------------


def test_a_core_engine_that_is_tracked_needs_no_session(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(update(TABLES["club"]).values(name="core"))
        assert world.changed() == set()
    assert world.changed() == {"club"}


def test_an_engine_with_options_of_its_own_is_tracked_with_its_parent(world: World) -> None:
    with world.engine.execution_options(logging_token="x").begin() as connection:
        connection.execute(update(TABLES["club"]).values(name="option"))
    assert world.changed() == {"club"}


def test_autocommit_is_a_commit_a_statement(world: World) -> None:
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(update(TABLES["club"]).values(name="auto"))
        assert world.changed() == {"club"}
        connection.execute(insert(TABLES["unrelated"]), [{"id": 90, "value": 1}, {"id": 91, "value": 1}])
        assert world.changed() == {"unrelated"}
        connection.rollback()
    assert world.changed() == set()


def test_autocommit_statement_that_fails_ends_its_lease(world: World) -> None:
    engine = world.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            connection.execute(insert(TABLES["club"]).values(id=1, name="twice"))
        assert world.reader.freshness.store.read(["x"]).leased == frozenset()
        assert world.look("club") == "put"
    assert world.look("club") == "hit"


def test_a_core_commit_on_a_connection_that_stays_open_ends_its_lease(world: World) -> None:
    with world.engine.connect() as connection:
        connection.execute(update(TABLES["club"]).values(name="open"))
        connection.commit()
        assert world.look("club") == "put"
    assert world.changed() == set()


def test_what_another_listener_writes_in_the_very_event_of_the_commit_is_not_lost(world: World) -> None:
    def audit(connection: Any) -> None:
        if connection.info.pop("audit", False):
            connection.execute(update(TABLES["unrelated"]).values(value=77))

    event.listen(world.engine, "commit", audit)
    with world.engine.begin() as connection:
        connection.info["audit"] = True
        connection.execute(update(TABLES["club"]).values(name="audited"))
    event.remove(world.engine, "commit", audit)
    assert world.changed() == {"club", "unrelated"}


def test_a_session_on_an_external_connection_shares_what_it_has_written(world: World) -> None:
    with world.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(update(TABLES["club"]).values(name="outer"))
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            world.reader.attach(session)
            assert world.look("club", session) == "read"
            session.execute(update(Unrelated).values(value=3))
            session.commit()
            assert world.changed() == set()
            assert world.look("unrelated", session) == "read"
        transaction.commit()
    assert world.changed() == {"club", "unrelated"}


def test_a_session_on_an_external_connection_that_is_rolled_back_changes_nothing(world: World) -> None:
    with world.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(update(Unrelated).values(value=3))
            session.commit()
        transaction.rollback()
    assert world.changed() == set()


async def test_async_sessions_write_and_read_with_the_same_freshness(async_engine: AsyncEngine) -> None:
    reader = Reader(Freshness(MemoryStamps()))
    reader.freshness.track_engine(async_engine)
    make = async_sessionmaker(async_engine, expire_on_commit=False)
    reader.attach(make)
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with make() as session:
        await session.run_sync(fill)
    statement = select(Club.name).where(Club.id == 1)

    async def look() -> tuple[str, str]:
        async with make() as session:
            rows = await session.run_sync(lambda sync: reader.rows(sync, statement))
            return rows[0][0], reader.last

    assert await look() == ("chess", "put")
    assert await look() == ("chess", "hit")
    async with make() as session:
        await session.execute(update(Club).where(Club.id == 1).values(name="async"))
        assert (await look())[0] == "chess"
        assert await session.run_sync(lambda sync: reader.rows(sync, statement)) == [("async",)]
        assert reader.last == "read"
        await session.commit()
    assert await look() == ("async", "put")
    assert await look() == ("async", "hit")
    async with async_engine.begin() as connection:
        await connection.execute(update(TABLES["club"]).values(name="core"))
    assert await look() == ("core", "put")
    if async_engine.dialect.name != "sqlite":
        async with AsyncSession(async_engine.execution_options(isolation_level="REPEATABLE READ")) as session:
            reader.attach(session)
            assert await session.run_sync(lambda sync: reader.rows(sync, statement)) == [("core",)]
            assert reader.last == "hit"
            async with async_engine.begin() as connection:
                await connection.execute(update(TABLES["club"]).values(name="later"))
            assert (await session.scalars(statement)).one() == "core", "the snapshot was taken with the hit"


@pytest.mark.only_on("sqlite")
def test_a_savepoint_that_commits_on_sqlite_because_nothing_has_begun_counts_as_a_commit(
    engine_factory: Callable[..., Engine],
) -> None:
    engine = engine_factory()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    world = World(engine)
    with world.engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(update(Unrelated).values(value=3))
            session.commit()
            assert world.changed() == {"unrelated"}
        # As documented for the driver: too late, RELEASE SAVEPOINT has committed.
        transaction.rollback()
    assert world.changed() == {"unrelated"}
    world.dispose()


def test_a_transaction_that_began_before_it_was_watched_may_have_written_anything(shop: Engine) -> None:
    reader = Reader(Freshness(MemoryStamps()))
    with Session(shop) as session:
        session.execute(update(Club).values(name="early"))
        with reader.attach(session):
            reader.rows(session, select(Unrelated.id))
            assert reader.bypasses == ["own_writes"]
            session.commit()
            reader.rows(session, select(Unrelated.id))
            assert reader.bypasses == ["own_writes"]
    reader.freshness.detach()


def test_a_write_without_a_session_attached_is_seen_once_the_engine_is_tracked(world: World) -> None:
    with Session(world.engine) as session:
        session.execute(update(Club).values(name="plain session"))
        session.commit()
    assert world.changed() == {"club"}


def test_nothing_is_seen_after_detach(world: World) -> None:
    world.reader.freshness.detach()
    with world.engine.begin() as connection:
        connection.execute(update(TABLES["unrelated"]).values(value=0))
    assert world.changed() == set()


# PostgreSQL has prepared transactions switched off unless configured otherwise.
@pytest.mark.only_on("mariadb")
def test_two_phases_lease_from_prepare_to_the_end(world: World) -> None:
    with world.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(update(TABLES["club"]).values(name="two"))
        assert world.look("club") == "hit"
        transaction.prepare()
        assert world.reader.freshness.store.read(["x"]).leased == frozenset()
        with world.make() as session:
            assert world.look("club", session) == "read"
        transaction.commit()
    assert world.look("club") == "put"
    assert world.changed() == set()


@pytest.mark.only_on("mariadb")
def test_a_transaction_that_stays_prepared_stays_leased(world: World) -> None:
    with world.engine.connect() as connection:
        thread_id = connection.scalar(text("SELECT CONNECTION_ID()"))
        connection.rollback()
        transaction = connection.begin_twophase()
        connection.execute(update(TABLES["club"]).values(name="limbo"))
        transaction.prepare()
        xid = transaction.xid
        connection.detach()
        assert world.look("club") == "read"
        connection.invalidate()
    # MariaDB commits no prepared transaction within a transaction.
    with world.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        _wait_for_end(connection, thread_id)
        try:
            with world.make() as session:
                assert world.look("club", session) == "read"
        finally:
            connection.commit_prepared(xid, recover=True)
    assert world.look("club") == "put"
    world.reader.freshness.touch_all(drop_leases=True)
    assert world.changed() == EVERY


def _wait_for_end(connection: Connection, thread_id: int) -> None:
    """Wait until MariaDB has ended a connection whose socket is closed: it keeps a prepared transaction to itself."""
    deadline = time.monotonic() + 30
    running = text("SELECT count(*) FROM information_schema.processlist WHERE id = :id")
    while connection.scalar(running, {"id": thread_id}):
        assert time.monotonic() < deadline, f"connection {thread_id} does not end"
        time.sleep(0.01)


# -- what a read depends on ----------------------------------------------------------------------

cte = select(Address.person_id).cte()

DEPENDENT: dict[str, tuple[Any, set[str]]] = {
    "join": (select(Person.name).join(Address), {"person", "address"}),
    "outer join": (select(Person.name).outerjoin(Address), {"person", "address"}),
    "exists": (select(Person.name).where(exists().where(Address.person_id == Person.id)), {"person", "address"}),
    "any": (select(Person.name).where(Person.addresses.any()), {"person", "address"}),
    "secondary any": (select(Person.name).where(Person.clubs.any()), {"person", "club", "membership"}),
    "in subquery": (select(Club.name).where(Club.id.in_(select(Address.id))), {"club", "address"}),
    "scalar subquery": (select(Club.name, select(func.count(Address.id)).scalar_subquery()), {"club", "address"}),
    "cte": (select(Club.name).join(cte, cte.c.person_id == Club.id), {"club", "address"}),
    "union": (union_all(select(Club.id), select(Address.id)), {"club", "address"}),
    "joined inheritance": (select(Employee.salary, Employee.name), {"employee", "person"}),
    "alias": (select(aliased(Club).name), {"club"}),
    "criteria": (
        select(Club.name).options(with_loader_criteria(Club, Club.id.in_(select(Address.id)))),
        {"club", "address"},
    ),
    "criteria lambda": (
        select(Club.name).options(with_loader_criteria(Club, lambda club: club.id.in_(select(Address.id)))),
        {"club", "address"},
    ),
    "eager join": (select(Person).options(joinedload(Person.addresses)), {"person", "address"}),
}
CHANGES: dict[str, Any] = {
    name: update(table).values({list(table.c)[-1]: list(table.c)[-1]}) for name, table in TABLES.items()
}


def test_a_read_depends_on_every_table_of_its_compiled_form(world: World) -> None:
    for changed in TABLES:
        epochs: dict[str, Any] = {}
        for name, (statement, _) in DEPENDENT.items():
            with world.make() as session:
                epochs[name] = world.reader.take_read_epoch(session, statement).entry_epoch
                assert epochs[name] is not None, name
        with world.engine.begin() as connection:
            connection.execute(CHANGES[changed])
        for name, (statement, tables) in DEPENDENT.items():
            with world.make() as session:
                served = world.reader.take_read_epoch(session, statement).serves(epochs[name])
            assert served == (changed not in tables), f"{name}, after a change of {changed}"


def test_a_view_depends_on_what_it_is_declared_to(make_world: Callable[..., World]) -> None:
    world = make_world(depends={"shop_view": [Person, "shop_middle"], "shop_middle": [Unrelated.__table__]})
    freshness = world.reader.freshness
    from sqlalchemy import column, table

    statement = select(table("shop_view", column("id")))
    for changed, expected in [("person", False), ("unrelated", False), ("club", True)]:
        with world.make() as session:
            world.reader.take_read_epoch(session, statement)
            before = world.reader.take_read_epoch(session, statement).entry_epoch
        assert before is not None
        with world.engine.begin() as connection:
            connection.execute(CHANGES[changed])
        with world.make() as session:
            assert world.reader.take_read_epoch(session, statement).serves(before) is expected
    with pytest.raises(InvalidArgumentError, match="give a list"):
        Freshness(freshness.store, depends={"shop_view": "shop_person"})


def test_touching_tags_makes_their_entries_invalid(world: World) -> None:
    freshness = world.reader.freshness
    with world.make() as session:
        both = freshness.take_read_epoch(session, {"u:one", "u:two"})
        epoch = freshness.take_read_epoch(session, {"u:one", "u:two"}).entry_epoch
        assert epoch is not None
        assert both.narrow({"u:one"}).bypass is None
        session.rollback()
        freshness.touch({"u:one"})
        later = freshness.take_read_epoch(session, {"u:one", "u:two"})
        assert not later.serves(epoch)
        assert not later.narrow({"u:one"}).serves(epoch)
        assert later.narrow({"u:two"}).serves(epoch)
        with pytest.raises(KeyError):
            later.narrow({"u:three"})
        freshness.touch(())
        freshness.touch_all()
        session.rollback()
        assert not freshness.take_read_epoch(session, {"u:two"}).serves(epoch)


def test_touching_tables_makes_reads_of_them_invalid(world: World) -> None:
    freshness = world.reader.freshness
    freshness.touch_tables(tables_of(Club) | tables_of("unrelated"))
    assert world.changed() == {"club"}
    freshness.touch_tables(())
    assert world.changed() == set()
    with world.make() as session:
        freshness.tags(session.get_bind(), tables_of(Club), {None: "tenant"})
    freshness.touch_tables(tables_of(Club))
    assert world.changed() == EVERY, "the schema that the table is in is not known"
    freshness.touch_tables(tables_of(Club), {None: None})
    assert world.changed() == {"club"}


def test_a_replica_is_served_and_never_fills(world: World) -> None:
    replica = world.engine.execution_options(cache_replica=True)
    with Session(replica) as session, world.reader.attach(session):
        assert world.look("club", session) == "hit"
    with world.engine.begin() as connection:
        connection.execute(update(TABLES["club"]).values(name="new"))
    with Session(replica) as session, world.reader.attach(session):
        assert world.look("club", session) == "read"
    assert world.look("club") == "put"
