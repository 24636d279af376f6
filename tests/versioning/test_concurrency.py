"""Concurrent writers: no version is lost or duplicated, every moment has one version, threads share nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.versioning import as_of, restore, revision, versioning_disabled, versions
from tests._support import Outcome, together
from tests.versioning._models import LONG_AGO, count, docs, history, library, natural_docs, tick

SERVERS = ("postgresql", "mariadb")


def all_well(outcomes: list[Outcome]) -> None:
    errors = [error for error in outcomes if error is not None]
    if errors:
        kinds = Counter(f"{type(error).__name__}: {str(error)[:200]}" for error in errors)
        raise AssertionError(f"{len(errors)} of {len(outcomes)} jobs failed: {dict(kinds)}") from errors[0]


def assert_sound(session: Session, cls: Any, moments: list[Any]) -> None:
    """Check that versions count up from 1 without a gap, and that each moment has one version at most."""
    by_key: dict[Any, list[Any]] = {}
    for key, number, start, end in history(session, cls, "id", "version", "valid_from", "valid_to"):
        by_key.setdefault(key, []).append((number, start, end))
    for obj in session.scalars(select(cls)):
        by_key.setdefault(obj.id, []).append((obj.version, obj.valid_from, None))
    for key, rows in by_key.items():
        assert [number for number, _, _ in rows] == list(range(1, len(rows) + 1)), key
        for (_, start, end), (_, following, _) in pairwise(rows):
            assert start <= end <= following, key
    for moment in moments:
        keys = [each.id for each in as_of(session, select(cls), moment)]
        assert len(keys) == len(set(keys)), moment


@pytest.mark.only_on(*SERVERS)
def test_many_threads_edit_one_row(plain_bases: Any, engine_factory: Callable[..., Engine]) -> None:
    # Without optimistic locking the last one wins, and each edit has left its version.
    Doc = docs(plain_bases(), period=True)
    engine = engine_factory(pool_size=10)
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Doc(title="0"))
        session.commit()
        key = session.scalar(select(Doc.id))
    moments = [tick()]

    def edit(who: int) -> Callable[[], None]:
        def job() -> None:
            for number in range(5):
                with Session(engine) as session:
                    doc = session.get_one(Doc, key, with_for_update=True)
                    doc.title = f"{who}-{number}"
                    session.commit()
                    moments.append(tick())

        return job

    all_well(together(*(edit(who) for who in range(6))))
    with Session(engine) as session:
        assert session.get_one(Doc, key).version == 31
        assert count(session, Doc.__history_mapper__.local_table) == 30
        titles = [version.object.title for version in versions(session, session.get_one(Doc, key))]
        assert len(set(titles)) == 31
        assert_sound(session, Doc, moments)


@pytest.mark.only_on(*SERVERS)
def test_many_threads_edit_one_row_that_none_has_locked(
    plain_bases: Any, engine_factory: Callable[..., Engine]
) -> None:
    # Each session has read the row before the others wrote: the history has what the row had, or the database refuses.
    from sqlalchemy.exc import DBAPIError

    Doc = docs(plain_bases(), period=True)
    engine = engine_factory(pool_size=10, isolation_level="READ COMMITTED")
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Doc(title="0"))
        session.commit()
        key = session.scalar(select(Doc.id))
    done: list[str] = []

    def edit(who: int) -> Callable[[], None]:
        def job() -> None:
            for number in range(5):
                try:
                    with Session(engine) as session:
                        doc = session.get_one(Doc, key)
                        title = doc.title = f"{who}-{number}"
                        session.commit()
                        done.append(title)
                except (DBAPIError, StaleDataError) as error:
                    refused.append(error)

        return job

    refused: list[Exception] = []
    all_well(together(*(edit(who) for who in range(6))))
    with Session(engine) as session:
        assert session.get_one(Doc, key).version == len(done) + 1
        titles = [version.object.title for version in versions(session, session.get_one(Doc, key))]
        assert sorted(titles) == sorted(["0", *done])
        assert_sound(session, Doc, [])
    # Conflicts are rare: because of row locks, most transactions wait.
    assert not refused, Counter(f"{type(error).__name__}: {str(error)[:300]}" for error in refused)


@pytest.mark.only_on(*SERVERS)
def test_many_threads_update_and_delete_in_bulk(plain_bases: Any, engine_factory: Callable[..., Engine]) -> None:
    Doc = docs(plain_bases(), period=True, operation=True)
    engine = engine_factory(pool_size=10, isolation_level="READ COMMITTED")
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Doc(title="0") for _ in range(5)])
        session.commit()

    def edit(who: int) -> Callable[[], None]:
        def job() -> None:
            for number in range(5):
                with Session(engine) as session:
                    session.execute(update(Doc).values(title=f"{who}-{number}"))
                    session.commit()

        return job

    all_well(together(*(edit(who) for who in range(4))))
    with Session(engine) as session:
        assert set(session.scalars(select(Doc.version))) == {21}
        assert_sound(session, Doc, [])
        for doc in session.scalars(select(Doc)).all():
            assert len({version.object.title for version in versions(session, doc)}) == 21
        session.execute(delete(Doc))
        session.commit()
        assert count(session, Doc.__history_mapper__.local_table) == 105


@pytest.mark.only_on(*SERVERS)
def test_a_long_transaction_writes_after_a_shorter_one(plain_bases: Any, engine_factory: Callable[..., Engine]) -> None:
    # Its time is before the other's change: no period may end before it began, and no moment have two versions.
    Doc = docs(plain_bases(), period=True)
    engine = engine_factory()
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Doc(title="a"), Doc(title="b")])
        session.commit()
        first, second = session.scalars(select(Doc.id).order_by(Doc.id)).all()
    moments = [tick()]
    with Session(engine) as long, Session(engine) as short:
        long.get_one(Doc, first).title = "long"
        long.flush()
        moments.append(tick())
        short.get_one(Doc, second).title = "short"
        short.commit()
        moments.append(tick())
        long.execute(update(Doc).where(Doc.id == second).values(title="long bulk"))
        long.get_one(Doc, second, populate_existing=True).title = "long too"
        long.commit()
        moments.append(tick())
    with Session(engine) as session:
        assert [each.object.title for each in versions(session, session.get_one(Doc, second))] == [
            "b", "short", "long bulk", "long too",
        ]  # fmt: skip
        assert_sound(session, Doc, moments)
        for moment in moments:
            assert len(as_of(session, select(Doc), moment)) == 2


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_snapshots_end_in_a_serialization_failure_and_no_lost_version(
    plain_bases: Any, engine_factory: Callable[..., Engine], isolation: str
) -> None:
    from sqlalchemy.exc import DBAPIError

    Doc = docs(plain_bases(), period=True)
    engine = engine_factory(isolation_level=isolation)
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Doc(title="a"))
        session.commit()
        key = session.scalar(select(Doc.id))
    with Session(engine) as one, Session(engine) as two:
        mine, theirs = one.get_one(Doc, key), two.get_one(Doc, key)
        theirs.title = "theirs"
        two.commit()
        mine.title = "mine"
        with pytest.raises((DBAPIError, StaleDataError)):
            one.commit()
        one.rollback()
        assert [each.object.title for each in versions(one, one.get_one(Doc, key))] == ["a", "theirs"]


@pytest.mark.only_on(*SERVERS)
def test_two_restores_of_one_object(plain_bases: Any, engine_factory: Callable[..., Engine]) -> None:
    # One restores it; the other gets an error, that it exists or of the primary key.
    Doc = docs(plain_bases())
    engine = engine_factory()
    Doc.metadata.create_all(engine)
    with Session(engine) as session:
        doc = Doc(title="a")
        session.add(doc)
        session.commit()
        key = doc.id
        session.delete(doc)
        session.commit()

    def job() -> None:
        with Session(engine) as session:
            restore(session, Doc, key)
            session.commit()

    outcomes = together(*[job] * 4)
    assert sum(outcome is None for outcome in outcomes) == 1
    with Session(engine) as session:
        assert session.get_one(Doc, key).version == 2


@pytest.mark.only_on(*SERVERS)
def test_threads_share_neither_revisions_nor_switches(plain_bases: Any, engine_factory: Callable[..., Engine]) -> None:
    world = library(plain_bases())
    engine = engine_factory(pool_size=10)
    world.metadata.create_all(engine)
    quiet = Event()

    def write(who: int) -> Callable[[], None]:
        def job() -> None:
            for number in range(5):
                with Session(engine) as session, revision(session, actor=f"actor{who}"):
                    author = world.Author(id=(who + 1) * 100 + number, name="a")
                    session.add(author)
                    session.commit()
                    author.name = "b"
                    session.commit()

        return job

    def off() -> None:
        with Session(engine) as session, versioning_disabled(session):
            author = world.Author(id=9999, name="a")
            session.add(author)
            session.commit()
            for number in range(10):
                author.name = f"b{number}"
                session.commit()
            quiet.set()

    all_well(together(*(write(who) for who in range(5)), off))
    assert quiet.is_set()
    with Session(engine) as session:
        actors = {row.id: row.actor for row in session.scalars(select(world.Revision))}
        rows = history(session, world.Author, "id", "revision_id", "ended_by_id")
        assert len(rows) == 25
        for key, made, ended in rows:
            assert actors[made] == actors[ended] == f"actor{key // 100 - 1}"
        assert_sound(session, world.Author, [LONG_AGO, tick()])


@pytest.mark.only_on(*SERVERS)
def test_a_natural_key_is_taken_deleted_and_taken_again_by_threads(
    plain_bases: Any, engine_factory: Callable[..., Engine]
) -> None:
    from sqlalchemy.exc import DBAPIError

    Country = natural_docs(plain_bases())
    engine = engine_factory(pool_size=10)
    Country.metadata.create_all(engine)

    def job() -> None:
        for _ in range(8):
            try:
                with Session(engine) as session:
                    found = session.get(Country, "xx", with_for_update=True)
                    if found is None:
                        session.add(Country(code="xx", name="new"))
                    else:
                        session.delete(found)
                    session.commit()
            except (DBAPIError, StaleDataError):
                pass  # Another transaction was faster.

    all_well(together(*[job] * 4))
    with Session(engine) as session:
        numbers = history(session, Country, "version")
        assert numbers == list(range(1, len(numbers) + 1))
        living = session.get(Country, "xx")
        assert living is None or living.version == len(numbers) + 1
