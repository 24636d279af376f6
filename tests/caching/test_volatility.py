"""Statements that may answer differently in another session or at another time share no entry by default."""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import (
    Date,
    DateTime,
    Engine,
    FunctionElement,
    String,
    cast,
    extract,
    func,
    insert,
    literal,
    literal_column,
    select,
    tablesample,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, sessionmaker

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache
from tests.caching._world import memory_region


class Base(DeclarativeBase):
    pass


class Doc(Base):
    __tablename__ = "volatile_doc"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(20))
    made: Mapped[datetime]


class utcnow(FunctionElement[Any]):
    type = DateTime()
    inherit_cache = True


@compiles(utcnow)
def _utcnow(element: Any, compiler: Any, **options: Any) -> str:
    return "CURRENT_TIMESTAMP"


class whoami(FunctionElement[Any]):
    type = String()
    inherit_cache = True


@compiles(whoami)
def _whoami(element: Any, compiler: Any, **options: Any) -> str:
    return "current_setting('app.tenant')" if compiler.dialect.name == "postgresql" else "changes()"


class Office:
    def __init__(self, engine: Engine) -> None:
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            made = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - a column without time zone
            rows = [{"id": 1, "tenant": "a", "made": made}, {"id": 2, "tenant": "b", "made": made}]
            connection.execute(insert(Doc), rows)
        self.engine = engine
        self.cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
        self.session = sessionmaker(engine)
        self.cache.listen_on_session(self.session)

    def reasons(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """Execute a statement twice, and return why it went to the database."""
        for _ in range(2):
            with self.session() as session:
                session.execute(statement.options(FromCache(**options)), parameters).all()
        return dict(self.cache.stats.bypasses)


@pytest.fixture
def office(engine: Engine) -> Generator[Office, None, None]:
    office = Office(engine)
    yield office
    office.cache.detach()


ids = select(Doc.id).order_by(Doc.id)
made = Doc.made

POSTGRESQL: dict[str, Any] = {
    "current_setting": (ids.where(Doc.tenant == func.current_setting("app.tenant", True)), "session"),
    "qualified": (ids.where(Doc.tenant == func.pg_catalog.current_setting("app.tenant", True)), "session"),
    "current_user": (ids.where(Doc.tenant == func.current_user()), "session"),
    "session_user": (ids.where(Doc.tenant == func.session_user()), "session"),
    "literal_column current_user": (ids.where(Doc.tenant == literal_column("current_user")), "session"),
    "literal_column user": (ids.where(Doc.tenant == literal_column("user")), "session"),
    "text current_setting": (ids.where(text("tenant = current_setting('app.tenant', true)")), "session"),
    "in a subquery": (ids.where(Doc.tenant.in_(select(func.session_user()))), "session"),
    "in a CTE": (ids.where(Doc.tenant.in_(select(select(func.current_user().label("u")).cte().c.u))), "session"),
    "table function": (ids.join(func.current_schemas(True).table_valued("name"), literal(True)), "session"),
    "timestamp now": (ids.where(made < literal_column("timestamp 'now'")), "volatile"),
    "today::date": (ids.where(made < literal_column("'today'::date")), "volatile"),
    "cast in text": (ids.where(text("made < cast('now' as timestamp)")), "volatile"),
    "dollar quotes": (ids.where(text("made < $$now$$::timestamp")), "volatile"),
    "cast": (ids.where(made < cast("now", DateTime)), "volatile"),
    "cast of a string": (ids.where(made < cast(literal("today", String), Date)), "volatile"),
    "date()": (ids.where(made < func.date("tomorrow")), "volatile"),
    "compared with a time": (ids.where(made < cast("yesterday 12:00", DateTime)), "volatile"),
    "age of one": (select(func.age(made)), "volatile"),
    "age in text": (select(Doc.id, literal_column("age(made)")), "volatile"),
    "txid_current": (select(Doc.id, func.txid_current()), "volatile"),
    "sample": (select(tablesample(Doc.__table__, func.system(100)).c.id), "volatile"),
    "sample in text": (ids.where(text("id in (select 1 from volatile_doc tablesample system(100))")), "volatile"),
    "clock of a compiler": (ids.where(made < utcnow()), "volatile"),
    "session of a compiler": (ids.where(Doc.tenant == whoami()), "session"),
    "advisory lock": (select(Doc.id, func.pg_advisory_xact_lock(1)), "acts"),
}
SQLITE: dict[str, Any] = {
    "last_insert_rowid": (select(Doc.id, func.last_insert_rowid()), "session"),
    "changes in text": (select(Doc.id, literal_column("changes()")), "session"),
    "session of a compiler": (select(Doc.id, whoami()), "session"),
    "datetime()": (ids.where(made < func.datetime()), "volatile"),
    "strftime of one": (select(Doc.id, func.strftime("%s")), "volatile"),
    "unixepoch()": (select(Doc.id, func.unixepoch()), "volatile"),
    "strftime of now": (select(Doc.id, func.strftime("%f", "now")), "volatile"),
    "strftime in text": (select(Doc.id, literal_column("strftime('%f','now')")), "volatile"),
    "strftime of one in text": (select(Doc.id, literal_column("strftime('%s')")), "volatile"),
    "date() in text": (select(Doc.id, literal_column("date()")), "volatile"),
    "random": (select(Doc.id, func.random()), "volatile"),
    "clock of a compiler": (ids.where(made < utcnow()), "volatile"),
    "time zone": (select(Doc.id, func.datetime(made, "localtime")), "session"),
}
MARIADB: dict[str, Any] = {
    "last_insert_id": (select(Doc.id, func.last_insert_id()), "session"),
    "user variable": (select(Doc.id, literal_column("@tenant")), "session"),
    "setting": (select(Doc.id, literal_column("@@session.time_zone")), "session"),
    "user()": (select(Doc.id, literal_column("user()")), "session"),
    "unix_timestamp()": (select(Doc.id, func.unix_timestamp()), "volatile"),
    "sysdate": (ids.where(made < func.sysdate()), "volatile"),
    "curdate in text": (ids.where(text("made < curdate()")), "volatile"),
    "clock of a compiler": (ids.where(made < utcnow()), "volatile"),
    "lock": (select(Doc.id, func.get_lock("x", 0)), "acts"),
}


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("name", POSTGRESQL)
def test_postgresql_is_asked_for_what_depends_on_session_or_time(office: Office, name: str) -> None:
    statement, reason = POSTGRESQL[name]
    with office.session() as session:
        session.execute(text("select set_config('app.tenant', 'a', false)"))
        session.commit()
    assert office.reasons(statement, tags=(Doc,)) == {reason: 2}


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("name", SQLITE)
def test_sqlite_is_asked_for_what_depends_on_session_or_time(office: Office, name: str) -> None:
    statement, reason = SQLITE[name]
    assert office.reasons(statement) == {reason: 2}


@pytest.mark.only_on("mariadb")
@pytest.mark.parametrize("name", MARIADB)
def test_mariadb_is_asked_for_what_depends_on_session_or_time(office: Office, name: str) -> None:
    statement, reason = MARIADB[name]
    assert office.reasons(statement) == {reason: 2}


CONSTANT: dict[str, Any] = {
    "label": select(Doc.id.label("current_date")).order_by("current_date"),
    "label of a function": select(Doc.id.label("now")),
    "string": ids.where(Doc.tenant == "now"),
    "string with a name": ids.where(Doc.tenant != "current_user()"),
    "string in text": ids.where(text("tenant != 'current_user'")),
    "extract": select(Doc.id, extract("year", made)),
    "coalesce": select(Doc.id, func.coalesce(Doc.tenant, "now")),
    "window": select(Doc.id, func.last_value(Doc.id).over(order_by=Doc.id)),
    "alias": select(Doc.id).select_from(Doc).where(Doc.id.in_(select(Doc.id.label("random")).subquery().select())),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_what_only_looks_like_it_is_cached(office: Office, name: str) -> None:
    assert office.reasons(CONSTANT[name]) == {}
    assert office.cache.stats.hits == 1


@pytest.mark.only_on("sqlite")
def test_a_clock_of_sqlite_that_is_given_a_time_is_cached(office: Office) -> None:
    assert office.reasons(select(func.strftime("%Y", made), literal_column("strftime('%Y', made)"), Doc.id)) == {}


@pytest.mark.only_on("postgresql")
def test_the_age_between_two_times_is_cached(office: Office) -> None:
    assert office.reasons(select(Doc.id, func.age(made, made))) == {}


@pytest.mark.only_on("postgresql")
def test_a_parameter_that_means_now_is_told_from_others_of_the_same_statement(office: Office) -> None:
    at = lambda word: ids.where(made < cast(word, DateTime))  # noqa: E731
    office.reasons(at("2020-01-01 00:00:00"))
    assert office.cache.stats.hits == 1
    assert office.reasons(at("now")) == {"volatile": 2}


# -- what covers them ----------------------------------------------------------------------------


@pytest.mark.only_on("postgresql")
def test_vary_covers_what_depends_on_the_session(office: Office) -> None:
    option = FromCache(vary=lambda state: state.session.info["tenant"])
    statement = ids.where(Doc.tenant == func.current_setting("app.tenant")).options(option)
    found: list[Any] = []
    for tenant in ("a", "b", "a"):
        with office.session(info={"tenant": tenant}) as session:
            session.execute(text("select set_config('app.tenant', :tenant, true)"), {"tenant": tenant})
            found.append(session.scalars(statement).all())
    assert (found, office.cache.stats.hits) == ([[1], [2], [1]], 1)


@pytest.mark.only_on("postgresql")
def test_without_vary_each_tenant_gets_its_rows(office: Office) -> None:
    statement = ids.where(Doc.tenant == func.current_setting("app.tenant")).options(FromCache())
    found: list[Any] = []
    for tenant in ("a", "b", "a"):
        with office.session() as session:
            session.execute(text("select set_config('app.tenant', :tenant, true)"), {"tenant": tenant})
            found.append(session.scalars(statement).all())
    assert found == [[1], [2], [1]]


@pytest.mark.only_on("postgresql")
def test_a_time_to_live_does_not_cover_what_depends_on_the_session(office: Office) -> None:
    statement = ids.where(Doc.tenant == func.current_setting("app.tenant", True))
    assert office.reasons(statement, expiration_time=60) == {"session": 2}


@pytest.mark.parametrize("options", [{"expiration_time": 60}, {"vary": "today"}], ids=["time to live", "vary"])
def test_a_time_to_live_or_vary_covers_what_depends_on_time(office: Office, options: Any) -> None:
    assert office.reasons(ids.where(made < func.current_timestamp()), **options) == {}


@pytest.mark.only_on("postgresql")
def test_vary_does_not_cover_what_acts(office: Office) -> None:
    assert office.reasons(select(Doc.id, func.pg_advisory_xact_lock(1)), vary="x") == {"acts": 2}


def test_a_column_of_the_mapping_that_shows_the_session_is_found(engine: Engine) -> None:
    class Local(DeclarativeBase):
        pass

    class Row(Local):
        __tablename__ = "volatile_row"
        id: Mapped[int] = mapped_column(primary_key=True)
        reader: Mapped[Any] = column_property(func.current_timestamp())

    Local.metadata.create_all(engine)
    office = Office(engine)
    with office.session() as session:
        office.cache.get(session, Row, 1)
    office.cache.detach()
    assert office.cache.stats.bypasses == {"volatile": 1}


@pytest.mark.only_on("postgresql", "mariadb")
def test_engines_that_differ_in_their_time_zone_share_no_entry(engine_factory: Callable[..., Engine]) -> None:
    found: list[Any] = []
    region, stamps = memory_region(), MemoryStamps()
    for zone in ("UTC", "Asia/Tokyo"):
        if engine_factory().dialect.name == "postgresql":
            engine = engine_factory(connect_args={"options": f"-c timezone={zone}"})
            shown = literal_column("extract(hour from timestamptz '2024-01-01 00:00:00+00')")
        else:
            offset = {"UTC": "+00:00", "Asia/Tokyo": "+09:00"}[zone]
            engine = engine_factory(connect_args={"init_command": f"SET time_zone = '{offset}'"})
            shown = literal_column("hour(from_unixtime(1704067200))")
        if not found:
            Office(engine).cache.detach()
        cache = ORMCache({"default": region}, stamps=stamps)
        factory = sessionmaker(engine)
        cache.listen_on_session(factory)
        with factory() as session:
            found.append(int(session.scalars(select(shown, Doc.id).options(FromCache())).first()))
        cache.detach()
    assert found == [0, 9]
