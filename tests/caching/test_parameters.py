"""Parameters that drivers wrap in objects, and results with such objects."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import JSON, Engine, ForeignKey, LargeBinary, String, cast, insert, literal, select, tuple_
from sqlalchemy.dialects.mysql import VARBINARY
from sqlalchemy.dialects.postgresql import ARRAY, INT4MULTIRANGE, INT4RANGE, JSONB, MultiRange, Range
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload, sessionmaker

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RelationshipCache, TypedCodec
from sqla_patterns.caching._codec import CorruptEntryError
from tests.caching._world import memory_region


class Base(DeclarativeBase):
    pass


KEY = LargeBinary().with_variant(VARBINARY(16), "mysql", "mariadb")
ONE, TWO = b"\x00\xff\x01", b"\x00\xff\x02"


class Token(Base):
    __tablename__ = "parameter_token"
    id: Mapped[bytes] = mapped_column(KEY, primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    uses: Mapped[list[Use]] = relationship(order_by="Use.id")


class Use(Base):
    __tablename__ = "parameter_use"
    id: Mapped[int] = mapped_column(primary_key=True)
    token_id: Mapped[bytes] = mapped_column(KEY, ForeignKey("parameter_token.id"))
    token: Mapped[Token] = relationship(back_populates="uses")


class Paper(Base):
    __tablename__ = "parameter_paper"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[Any] = mapped_column(JSON)


class PgBase(DeclarativeBase):
    pass


class Doc(PgBase):
    __tablename__ = "parameter_doc"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Any] = mapped_column(JSONB)
    span: Mapped[Range[int]] = mapped_column(INT4RANGE)
    spans: Mapped[Any] = mapped_column(INT4MULTIRANGE)
    parts: Mapped[Any] = mapped_column(ARRAY(JSONB))


DOCS: list[dict[str, Any]] = [
    {
        "id": 1,
        "data": {"a": 1},
        "span": Range(1, 5),
        "spans": MultiRange([Range(1, 2), Range(4, 6)]),
        "parts": [{"x": 1}],
    },
    {"id": 2, "data": {"a": 2}, "span": Range(empty=True), "spans": MultiRange([]), "parts": [{"x": 2}]},
    {"id": 3, "data": {"a": 3}, "span": Range(7, None), "spans": MultiRange([Range(None, 3)]), "parts": []},
]


class Shop:
    """A cache over the tables of this module, and the statements that it sends."""

    def __init__(self, engine: Engine) -> None:
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Token), [{"id": ONE, "name": "one"}, {"id": TWO, "name": "two"}])
            connection.execute(insert(Use), [{"id": 1, "token_id": ONE}, {"id": 2, "token_id": TWO}])
            connection.execute(insert(Paper), [{"id": 1, "body": {"a": 1}}, {"id": 2, "body": {"a": 2}}])
        self.cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
        self.session = sessionmaker(engine)
        self.cache.listen_on_session(self.session)

    def twice(self, read: Callable[[Any], Any]) -> list[Any]:
        """Return what two sessions get, one after the other."""
        found: list[Any] = []
        for _ in range(2):
            with self.session() as session:
                found.append(read(session))
        return found


@pytest.fixture
def shop(engine: Engine) -> Generator[Shop, None, None]:
    shop = Shop(engine)
    yield shop
    shop.cache.detach()


# -- every database ------------------------------------------------------------------------------


def test_bytes_are_a_parameter_like_any_other(shop: Shop) -> None:
    found = shop.twice(lambda s: s.scalars(select(Token.name).where(Token.id == ONE).options(FromCache())).all())
    assert (found, shop.cache.stats.hits) == ([["one"]] * 2, 1)


def test_other_bytes_are_another_key(shop: Shop) -> None:
    found: list[Any] = []
    for key in (ONE, TWO):
        with shop.session() as session:
            found += session.scalars(select(Token.name).where(Token.id == key).options(FromCache()))
    assert found == ["one", "two"]


def test_lists_and_tuples_of_bytes_are_told_apart(shop: Shop) -> None:
    found: list[Any] = []
    for key in (ONE, TWO, ONE):
        pairs = tuple_(Token.id, Token.name).in_([(key, "one"), (key, "two")])
        with shop.session() as session:
            found += session.scalars(select(Token.name).where(pairs).options(FromCache()))
    assert (found, shop.cache.stats.hits) == (["one", "two", "one"], 1)


def test_an_object_with_a_key_of_bytes_is_got_from_the_cache(shop: Shop) -> None:
    found = shop.twice(lambda s: shop.cache.get(s, Token, ONE).name)
    assert (found, shop.cache.stats.hits) == (["one"] * 2, 1)


@pytest.mark.parametrize(
    "option",
    [selectinload(Token.uses), RelationshipCache(Token.uses)],
    ids=["selectinload", "relationship"],
)
def test_collections_of_objects_with_keys_of_bytes_are_cached(shop: Shop, option: Any) -> None:
    statement = select(Token).order_by(Token.id).options(FromCache(), option)
    found = shop.twice(lambda s: [[use.id for use in token.uses] for token in s.scalars(statement)])
    assert (found, shop.cache.stats.bypasses) == ([[[1], [2]]] * 2, {})


def test_parents_with_keys_of_bytes_are_cached(shop: Shop) -> None:
    statement = select(Use).order_by(Use.id).options(FromCache(), RelationshipCache(Use.token))
    found = shop.twice(lambda s: [use.token.name for use in s.scalars(statement)])
    assert (found, shop.cache.stats.misses) == ([["one", "two"]] * 2, 3)


def _with_json(body: Any) -> Any:
    return select(Paper.id).where(Paper.body.is_not(None), literal(body, JSON).is_not(None))


@pytest.mark.parametrize("body", [{"a": 1}, [1, None, "x"], "text"], ids=["object", "list", "string"])
def test_a_json_parameter_is_one_like_any_other(shop: Shop, body: Any) -> None:
    statement = _with_json(body).options(FromCache())
    found = shop.twice(lambda s: s.scalars(statement).all())
    assert (found, shop.cache.stats.hits) == ([[1, 2]] * 2, 1)


def test_a_statement_with_a_json_parameter_is_invalidated_by_it(shop: Shop) -> None:
    statement = _with_json({"a": 1, "b": 2})
    for _ in range(2):
        with shop.session() as session:
            session.scalars(statement.options(FromCache())).all()
        # Equal, and written down in another order.
        shop.cache.invalidate(_with_json({"b": 2, "a": 1}))
    assert shop.cache.stats.misses == 2


def test_invalidating_for_one_json_parameter_leaves_the_entries_of_another(shop: Shop) -> None:
    for _ in range(2):
        with shop.session() as session:
            session.scalars(_with_json({"a": 1}).options(FromCache())).all()
        shop.cache.invalidate(_with_json({"a": 2}))
    assert shop.cache.stats.hits == 1


# -- PostgreSQL ----------------------------------------------------------------------------------

CRITERIA: dict[str, tuple[Any, list[int]]] = {
    "jsonb": (Doc.data.contains({"a": 1}), [1]),
    "range": (Doc.span.overlaps(Range(1, 5)), [1]),
    "open range": (Doc.span.overlaps(Range(5, None)), [3]),
    "empty range": (Doc.span == Range(empty=True), [2]),
    "list of ranges": (Doc.span.in_([Range(1, 5), Range(7, None)]), [1, 3]),
    "multirange": (Doc.spans.overlaps(MultiRange([Range(1, 2), Range(2, 3)])), [1, 3]),
    "range over a multirange": (Doc.spans.contains(literal(Range(4, 5), INT4RANGE)), [1]),
    "array of jsonb": (Doc.parts.contains([{"x": 2}]), [2]),
    "cast": (Doc.data.contains(cast({"a": 3}, JSONB)), [3]),
}


class PgShop:
    def __init__(self, engine: Engine | AsyncEngine) -> None:
        self.cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
        self.factory: Any = sessionmaker(engine) if isinstance(engine, Engine) else async_sessionmaker(engine)
        self.cache.listen_on_session(self.factory)
        self.engine: Any = engine

    async def fill(self) -> None:
        if isinstance(self.engine, Engine):
            with self.engine.begin() as connection:
                self._fill(connection)
        else:
            async with self.engine.begin() as connection:
                await connection.run_sync(self._fill)

    def _fill(self, connection: Any) -> None:
        PgBase.metadata.create_all(connection)
        connection.execute(insert(Doc), DOCS)

    async def scalars(self, statement: Any) -> list[Any]:
        if isinstance(self.engine, Engine):
            with self.factory() as session:
                return list(session.scalars(statement))
        async with self.factory() as session:
            return list(await session.scalars(statement))


@pytest.fixture(params=["psycopg", "asyncpg"])
def pg_shop(request: pytest.FixtureRequest) -> Generator[PgShop, None, None]:
    shop = PgShop(request.getfixturevalue("engine" if request.param == "psycopg" else "async_engine"))
    request.getfixturevalue("runner").run(shop.fill())
    yield shop
    shop.cache.detach()


@pytest.mark.only_on("postgresql")
@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("name", CRITERIA)
async def test_parameters_of_postgresql_have_forms(pg_shop: PgShop, runner: Any, name: str) -> None:
    criterion, expected = CRITERIA[name]
    statement = select(Doc.id).where(criterion).order_by(Doc.id).options(FromCache())
    found = [await pg_shop.scalars(statement) for _ in range(2)]
    assert (found, pg_shop.cache.stats.hits) == ([expected] * 2, 1)


@pytest.mark.only_on("postgresql")
@pytest.mark.usefixtures("database")
async def test_other_values_of_these_types_are_other_keys(pg_shop: PgShop, runner: Any) -> None:
    spans = [Doc.span.overlaps(span) for span in (Range(1, 5), Range(7, 9), Range(1, 5, bounds="[]"))]
    data = [Doc.data.contains(value) for value in ({"a": 1}, {"a": 2})]
    found = [await pg_shop.scalars(select(Doc.id).where(each).options(FromCache())) for each in spans + data]
    assert (found, pg_shop.cache.stats.hits) == ([[1], [3], [1], [1], [2]], 0)


@pytest.mark.only_on("postgresql")
@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("column", ["span", "spans", "data", "parts"])
async def test_results_of_these_types_are_kept(pg_shop: PgShop, runner: Any, column: str) -> None:
    statement = select(getattr(Doc, column)).order_by(Doc.id).options(FromCache())
    found = [await pg_shop.scalars(statement) for _ in range(2)]
    assert (found, pg_shop.cache.stats.hits) == ([[row[column] for row in DOCS]] * 2, 1)


# -- their form in entries -----------------------------------------------------------------------


def _driver_values() -> list[Any]:
    import asyncpg
    from psycopg.types.multirange import Multirange
    from psycopg.types.range import Range as PsycopgRange

    one = PsycopgRange(1, None, "[)")
    return [
        *(one, PsycopgRange(empty=True), PsycopgRange("a", "b", "(]"), Multirange([one]), Multirange()),
        *(asyncpg.Range(1, 5), asyncpg.Range(None, 5, upper_inc=True), asyncpg.Range(empty=True)),
        [asyncpg.Range(1, 2)],
    ]


@pytest.mark.parametrize("value", _driver_values(), ids=repr)
def test_a_range_of_a_driver_comes_back_from_an_entry(value: Any) -> None:
    codec = TypedCodec()
    ((found,),) = codec.loads(codec.dumps([(value,)]))
    assert (type(found), found) == (type(value), value)


def test_a_range_with_a_forged_content_is_a_corrupt_entry() -> None:
    with pytest.raises(CorruptEntryError):
        TypedCodec().loads(b'[1,[["*",[["pr",[1]]]]]]')
