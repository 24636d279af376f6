"""Generated reads answer what one SQLite database with all rows answers, or are refused by name."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Select, and_, create_engine, func, insert, not_, or_, select, update
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, aliased, sessionmaker

from sqla_patterns.sharding import (
    CrossShardJoinError,
    Shards,
    UnmergeableScatterError,
    create_all,
    sharded_sessionmaker,
)
from tests.sharding._models import (
    CONTINENTS,
    NAMES,
    UNITS,
    Base,
    Location,
    Report,
    Unit,
    location_rows,
    report_rows,
    rules,
)

L, R = Location, Report
A = aliased(Location)
Both = tuple[sessionmaker[ShardedSession], Session]


@pytest.fixture(scope="module", params=[1, 3], ids=["one after another", "at once"])
def both(request: pytest.FixtureRequest) -> Generator[Both, None, None]:
    """Provide a sharded factory and a session on one database, with the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        engines = {name: create_engine(f"sqlite:///{Path(folder) / name}.db") for name in NAMES}
        shards = Shards.from_engines(engines)
        create_all(shards, Base.metadata)
        maker = sharded_sessionmaker(shards, keys=rules(), reference=[Unit], concurrency=request.param)
        whole = create_engine("sqlite://")
        Base.metadata.create_all(whole)
        locations = location_rows()
        with maker.begin() as session, Session(whole) as plain:
            for target in (session, plain):
                target.execute(insert(Unit), UNITS)
                target.execute(insert(L), locations)
                target.execute(insert(R), report_rows(locations))
            plain.commit()
        with Session(whole) as plain:
            yield maker, plain
        for engine in (whole, *engines.values()):
            engine.dispose()


CONTINENT = st.sampled_from([*CONTINENTS, "Atlantis", ""])


def _atoms(cls: Any) -> st.SearchStrategy[ColumnElement[bool]]:
    return st.one_of(
        CONTINENT.map(lambda each: cls.continent == each),
        CONTINENT.map(lambda each: cls.continent != each),
        st.lists(CONTINENT, max_size=3).map(cls.continent.in_),
        st.lists(CONTINENT, max_size=3).map(cls.continent.not_in),
        st.sampled_from(["Asia", "Europe"]).map(lambda each: cls.continent.between(each, "North America")),
        st.integers(-3, 8).map(lambda each: cls.people > each),
        st.integers(0, 41).map(lambda each: cls.id == each),
        st.just(cls.kind.is_(None)),
        st.sampled_from([0.5, 20.25]).map(lambda each: cls.reports.any(R.degrees == each)),
        CONTINENT.map(lambda each: cls.id.in_(select(A.id).where(A.continent == each))),
    )


def _conditions(cls: Any) -> st.SearchStrategy[ColumnElement[bool]]:
    return st.recursive(
        _atoms(cls),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: and_(*pair)),
            st.tuples(inner, inner).map(lambda pair: or_(*pair)),
            inner.map(not_),
        ),
        max_leaves=5,
    )


COLUMNS = [L.city, L.people, L.area, L.height, L.founded, L.kind, L.continent]
AGGREGATES = [
    func.count(),
    func.count(L.people),
    func.sum(L.people),
    func.min(L.city),
    func.max(L.founded),
    func.avg(L.people),
    func.max(L.area),
    func.count(L.city.distinct()),
    func.coalesce(func.sum(L.people), 0),
]


@st.composite
def _sorted_by(draw: st.DrawFn, columns: list[Any]) -> list[Any]:
    found: list[Any] = []
    for column in draw(st.lists(st.sampled_from(columns), max_size=3, unique=True)):
        each = draw(st.sampled_from([column, column.desc(), column.asc()]))
        found.append(draw(st.sampled_from([each, each.nulls_first(), each.nulls_last()])))
    return found


KINDS = ["rows", "objects", "distinct", "groups", "aggregates", "join", "outer join", "subquery"]


@st.composite
def _reads(draw: st.DrawFn) -> tuple[Select[Any], bool]:
    """Draw a statement, and whether it says the order of all of its rows."""
    kind = draw(st.sampled_from(KINDS))
    statement: Select[Any]
    order: list[Any] = []
    if kind == "groups":
        keys = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=2, unique=True))
        aggregates = draw(st.lists(st.sampled_from(AGGREGATES), max_size=3))
        statement = select(*keys, *aggregates).select_from(L).group_by(*keys)
        if draw(st.integers(0, 9)) == 0:
            statement = statement.having(func.count() > 1)
        order = draw(_sorted_by([*keys, func.count(), func.sum(L.people)])) + keys
    elif kind == "aggregates":
        statement = select(*draw(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=4))).select_from(L)
    elif kind == "distinct":
        columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True))
        statement = select(*columns).distinct()
        order = draw(_sorted_by(columns)) + columns
    elif kind == "objects":
        statement, order = select(L), [*draw(_sorted_by(COLUMNS)), L.id]
    elif kind == "subquery":
        inner = aliased(L, select(L).where(draw(_atoms(L))).subquery())
        statement, order = select(inner.id, inner.city).where(draw(_atoms(inner))), [inner.city, inner.id]
    else:
        columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=3, unique=True))
        statement, order = select(L.id, *columns), draw(_sorted_by(COLUMNS))
        if kind == "join":
            statement = statement.join(R, R.location_id == L.id).add_columns(R.id)
            order = [*order, R.degrees.desc(), R.id]
        elif kind == "outer join":
            on = and_(R.location_id == L.id, draw(st.sampled_from([R.degrees > 1, L.continent == "Asia"])))
            statement = statement.outerjoin(R, on).add_columns(R.id)
            order = [*order, L.id, R.id]
        else:
            order = [*order, L.id]
    if kind != "subquery" and draw(st.booleans()):
        statement = statement.where(draw(_conditions(L)))
    is_ordered = bool(order) and draw(st.booleans())
    if is_ordered:
        statement = statement.order_by(*order)
        if draw(st.booleans()):
            statement = statement.limit(draw(st.integers(0, 12)))
        if draw(st.booleans()):
            statement = statement.limit(draw(st.integers(0, 50))).offset(draw(st.integers(0, 8)))
    return statement, is_ordered


def _plain(rows: Any) -> list[Any]:
    return [
        tuple(
            each.id if isinstance(each, Location) else round(each, 6) if isinstance(each, float) else each
            for each in row
        )
        for row in rows
    ]


def test_a_generated_read_is_that_of_one_database_or_refused_by_name(both: Both) -> None:
    maker, whole = both
    outcomes = Counter[str]()

    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(read=_reads())
    def read_both(read: tuple[Select[Any], bool]) -> None:
        statement, is_ordered = read
        expected = _plain(whole.execute(statement))
        with maker() as session:
            try:
                found = _plain(session.execute(statement))
            except (UnmergeableScatterError, CrossShardJoinError):
                outcomes["refused"] += 1
                return
        outcomes["answered"] += 1
        if not is_ordered:
            found, expected = sorted(found, key=repr), sorted(expected, key=repr)
        assert found == expected, str(statement)

    read_both()
    # Who refuses all answers nothing wrong.
    assert outcomes["answered"] > 2 * outcomes["refused"], outcomes


def test_a_generated_update_changes_the_rows_that_it_would_change_in_one_database(both: Both) -> None:
    maker, whole = both
    outcomes = Counter[str]()

    @settings(max_examples=60, deadline=None)
    @given(condition=_conditions(L))
    def update_both(condition: ColumnElement[bool]) -> None:
        statement = update(L).where(condition).values(people=L.people + 1)
        with maker() as session:
            try:
                changed: Any = session.execute(statement, execution_options={"synchronize_session": False})
            except CrossShardJoinError:
                outcomes["refused"] += 1
                return
            outcomes["answered"] += 1
            also: Any = whole.execute(statement, execution_options={"synchronize_session": False})
            everything = select(L.id, L.people).order_by(L.id)
            found, expected = session.execute(everything).all(), whole.execute(everything).all()
            whole.rollback()
            assert changed.rowcount == also.rowcount, str(statement)
            assert found == expected, str(statement)

    update_both()
    assert outcomes["answered"] > 2 * outcomes["refused"], outcomes
