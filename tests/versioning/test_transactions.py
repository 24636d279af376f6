"""Transactions: one time and version each, savepoints, rollbacks, stale objects, granularity."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, String, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.versioning import RevisionLog, Versioned, as_of, revision, version_at, versions
from tests.versioning._models import count, docs, history, history_table, tick, use_real_savepoints


def make(base: Any, engine: Engine, **options: Any) -> Any:
    use_real_savepoints(engine)
    Doc = docs(base, **options)
    Doc.metadata.create_all(engine)
    return Doc


def saved(session: Session, obj: Any) -> Any:
    session.add(obj)
    session.commit()
    return obj


# -- time ----------------------------------------------------------------------------------------


def test_a_transaction_has_one_time(plain_bases: Any, engine: Engine, session: Session) -> None:
    Doc = make(plain_bases(), engine, period=True)
    one, two = Doc(title="a"), Doc(title="b")
    session.add_all([one, two])
    session.commit()
    one.title = "c"
    session.flush()
    tick()
    two.title = "d"
    session.flush()
    session.execute(update(Doc).values(body="bulk"))
    session.commit()
    assert len(set(history(session, Doc, "changed"))) == 1
    assert len(set(history(session, Doc, "valid_to"))) == 1
    assert one.valid_from == two.valid_from
    assert one.valid_from == history(session, Doc, "changed")[0]
    assert one.valid_from.utcoffset() == timedelta(0)
    one.title = "e"
    session.commit()
    assert len(set(history(session, Doc, "changed"))) == 2


def test_a_rolled_back_transaction_does_not_lend_its_time_to_the_next(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Doc = make(plain_bases(), engine, period=True)
    doc = saved(session, Doc(title="a"))
    doc.title = "b"
    session.flush()
    session.rollback()
    moment = tick()
    doc.title = "c"
    session.commit()
    assert doc.valid_from > moment


def test_two_flushes_of_a_transaction_are_ordered_by_version(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # Both have the transaction's time, so the first one holds at no moment.
    Doc = make(plain_bases(), engine, period=True)
    doc = saved(session, Doc(title="a"))
    before = tick()
    doc.title = "b"
    session.flush()
    doc.title = "c"
    session.commit()
    moment = doc.valid_from
    assert [(version.number, version.object.title) for version in versions(session, doc)] == [
        (1, "a"), (2, "b"), (3, "c"),
    ]  # fmt: skip
    for when, title in ((before, "a"), (moment, "c"), (tick(), "c")):
        assert [each.title for each in as_of(session, select(Doc), when)] == [title]
        assert version_at(session, Doc, doc.id, when).title == title


def test_an_object_inserted_and_deleted_in_one_transaction_has_no_history(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Doc = make(plain_bases(), engine, period=True)
    doc = Doc(title="a")
    session.add(doc)
    session.flush()
    key = doc.id
    moment = doc.valid_from
    session.delete(doc)
    session.commit()
    assert version_at(session, Doc, key, moment) is None
    assert as_of(session, select(Doc), moment) == []


def test_a_clock_that_goes_back_leaves_every_moment_with_one_version(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # Clocks of servers differ, and a long transaction's time is earlier than those that committed in the meantime.
    Doc = make(plain_bases(), engine, period=True)
    doc = saved(session, Doc(title="a"))
    key = doc.id
    moments = [tick()]
    ahead = doc.valid_from + timedelta(hours=1)
    session.connection().execute(update(Doc.__table__).values(valid_from=ahead))
    session.commit()
    for title in "bc":
        doc.title = title
        session.commit()
    session.execute(update(Doc).values(title="d"))
    session.commit()
    session.expire_all()
    assert doc.valid_from >= ahead
    periods = history(session, Doc, "valid_from", "valid_to")
    assert all(start <= end for start, end in periods), periods
    assert [end for _, end in periods] == [start for start, _ in periods[1:]] + [doc.valid_from]
    for moment in [*moments, ahead - timedelta(seconds=1)]:
        assert [each.title for each in as_of(session, select(Doc), moment)] == []
    for moment in (ahead, ahead + timedelta(seconds=1)):
        assert [each.title for each in as_of(session, select(Doc), moment)] == ["d"]
        assert version_at(session, Doc, key, moment).title == "d"
    session.delete(doc)
    session.commit()
    periods = history(session, Doc, "valid_from", "valid_to")
    assert all(start <= end for start, end in periods), periods
    assert as_of(session, select(Doc), ahead + timedelta(seconds=1)) == []


# -- rollback and savepoints ---------------------------------------------------------------------


def test_a_rollback_takes_the_history_with_it(bases: Any, engine: Engine, session: Session) -> None:
    Doc = make(bases(), engine)
    doc = saved(session, Doc(title="a"))
    doc.title = "b"
    session.flush()
    assert doc.version == 2
    session.rollback()
    assert (doc.title, doc.version, history(session, Doc)) == ("a", 1, [])
    doc.title = "c"
    session.commit()
    assert (doc.version, history(session, Doc, "title")) == (2, ["a"])


def test_a_savepoint_that_is_rolled_back(bases: Any, engine: Engine, session: Session) -> None:
    Doc = make(bases(), engine)
    doc, other = Doc(title="a"), Doc(title="o")
    session.add_all([doc, other])
    session.commit()
    doc.title = "b"
    session.flush()
    with session.begin_nested() as savepoint:
        doc.title = "c"
        other.title = "p"
        session.flush()
        assert (doc.version, other.version) == (3, 2)
        savepoint.rollback()
    assert (doc.title, doc.version, other.version) == ("b", 2, 1)
    doc.title = "d"
    session.commit()
    assert doc.version == 3
    assert history(session, Doc, "version", "title") == [(1, "a"), (2, "b")]


def test_a_savepoint_that_is_released(bases: Any, engine: Engine, session: Session) -> None:
    Doc = make(bases(), engine)
    doc = saved(session, Doc(title="a"))
    with session.begin_nested():
        doc.title = "b"
    with session.begin_nested():
        session.execute(update(Doc).values(title="c"))
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "a"), (2, "b")]
    assert doc.version == 3


def test_a_flush_that_fails_leaves_nothing(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20), unique=True)

    Base.metadata.create_all(engine)
    one, two = Doc(id=1, name="a"), Doc(id=2, name="b")
    session.add_all([one, two])
    session.commit()
    one.name = "b"
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    assert history(session, Doc) == []
    one.name = "c"
    session.commit()
    assert (one.version, history(session, Doc, "name")) == (2, ["a"])


# -- stale objects -------------------------------------------------------------------------------


def optimistic(base: Any) -> Any:
    class Doc(Versioned, base):
        __tablename__ = "doc"
        use_mapper_versioning = True
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    return Doc


def test_optimistic_locking_counts_each_change_once(bases: Any, engine: Engine, session: Session) -> None:
    Doc = optimistic(bases())
    Doc.metadata.create_all(engine)
    doc = saved(session, Doc(id=1, title="a"))
    assert doc.version == 1
    for number, title in enumerate("bcd", start=2):
        doc.title = title
        session.flush()
        assert doc.version == number
    session.commit()
    session.execute(update(Doc).values(title="bulk"))
    session.commit()
    assert doc.version == 5
    doc.title = "e"
    session.commit()
    session.delete(doc)
    session.commit()
    assert history(session, Doc, "version", "title") == [
        (1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "bulk"), (6, "e"),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["update", "delete"])
def test_an_optimistic_conflict_is_stale_data(
    plain_bases: Any, engine_factory: Callable[..., Engine], how: str
) -> None:
    Doc = optimistic(plain_bases())
    engine = engine_factory()
    Doc.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as one, Session(engine, expire_on_commit=False) as two:
        saved(one, Doc(id=1, title="a"))
        mine = two.get_one(Doc, 1)
        two.commit()
        theirs = one.get_one(Doc, 1)
        theirs.title = "theirs"
        one.commit()
        if how == "update":
            mine.title = "mine"
        else:
            two.delete(mine)
        with pytest.raises(StaleDataError):
            two.flush()
        two.rollback()
        assert history(two, Doc, "version", "title") == [(1, "a")]
        assert (two.get_one(Doc, 1).title, two.get_one(Doc, 1).version) == ("theirs", 2)


@pytest.mark.parametrize("how", ["update", "delete"])
def test_without_locking_the_last_writer_wins_and_the_history_has_both(
    plain_bases: Any, engine_factory: Callable[..., Engine], how: str
) -> None:
    # The version in memory is not that of the row; the history has that of the row.
    Doc = docs(plain_bases(), period=True, operation=True)
    engine = engine_factory()
    Doc.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as one, Session(engine, expire_on_commit=False) as two:
        doc = saved(one, Doc(title="a"))
        mine = two.get_one(Doc, doc.id)
        two.commit()
        doc.title = "theirs"
        one.commit()
        if how == "update":
            mine.title = "mine"
        else:
            two.delete(mine)
        two.commit()
        assert history(two, Doc, "version", "title") == [(1, "a"), (2, "theirs")]
        if how == "update":
            two.refresh(mine)
            assert (mine.title, mine.version) == ("mine", 3)
            mine.title = "more"
            two.commit()
            assert history(two, Doc, "version")[-1] == 3


# -- one version a transaction -------------------------------------------------------------------


def test_granularity_of_a_transaction(bases: Any, engine: Engine, session: Session) -> None:
    Doc = make(bases(), engine, granularity="transaction", period=True)
    doc = saved(session, Doc(title="a"))
    for title in "bcd":
        doc.title = title
        session.flush()
    session.execute(update(Doc).values(title="e"))
    session.commit()
    assert (doc.title, doc.version) == ("e", 2)
    assert history(session, Doc, "version", "title") == [(1, "a")]
    doc.title = "f"
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "a"), (2, "e")]


def test_granularity_of_a_transaction_for_bulk_statements_of_several_rows(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Doc = make(plain_bases(), engine, granularity="transaction", period=True)
    session.add_all([Doc(title=title) for title in "ab"])
    session.commit()
    keys = session.scalars(select(Doc.id).order_by(Doc.id)).all()
    first = session.get_one(Doc, keys[0])
    first.title = "c"
    session.flush()
    session.execute(update(Doc).values(body="x"))
    session.execute(update(Doc).values(body="y"))
    session.commit()
    assert history(session, Doc, "id", "version", "title", "body") == [(keys[0], 1, "a", None), (keys[1], 1, "b", None)]
    assert [session.get_one(Doc, key).version for key in keys] == [2, 2]


def test_granularity_of_a_transaction_and_an_insert(plain_bases: Any, engine: Engine, session: Session) -> None:
    # Changes after the INSERT belong to the first version.
    Doc = make(plain_bases(), engine, granularity="transaction", period=True)
    doc = Doc(title="a")
    session.add(doc)
    session.flush()
    doc.title = "b"
    session.commit()
    assert (doc.version, history(session, Doc)) == (1, [])


def test_granularity_of_a_transaction_and_death(plain_bases: Any, engine: Engine, session: Session) -> None:
    # Changed and deleted in one transaction: the deletion has ended the version before.
    Doc = make(plain_bases(), engine, granularity="transaction", operation=True, period=True)
    doc = saved(session, Doc(title="a"))
    key = doc.id
    moment = tick()
    doc.title = "b"
    session.flush()
    session.delete(doc)
    session.commit()
    assert history(session, Doc, "version", "title", "operation") == [(1, "a", "delete")]
    assert version_at(session, Doc, key, moment).title == "a"
    assert version_at(session, Doc, key, tick()) is None


def test_granularity_of_a_transaction_ends_with_a_savepoint_that_is_rolled_back(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # What the savepoint wrote was rolled back, so that the change after it makes the version again.
    Doc = make(plain_bases(), engine, granularity="transaction", period=True)
    doc = saved(session, Doc(title="a"))
    with session.begin_nested() as savepoint:
        doc.title = "b"
        session.flush()
        savepoint.rollback()
    doc.title = "c"
    session.commit()
    assert (doc.version, history(session, Doc, "version", "title")) == (2, [(1, "a")])
    with session.begin_nested():
        doc.title = "d"
    doc.title = "e"
    session.commit()
    assert (doc.version, history(session, Doc, "version", "title")) == (3, [(1, "a"), (2, "c")])


def test_granularity_of_a_transaction_by_revisions(plain_bases: Any, engine: Engine, session: Session) -> None:
    # Two people in one transaction make two versions, as a version has one revision.
    base = plain_bases()

    class Revision(RevisionLog, base):
        __tablename__ = "revision"

    Doc = make(base, engine, granularity="transaction", revision=Revision)
    doc = saved(session, Doc(title="a"))
    with revision(session, actor="ann"):
        for title in "bc":
            doc.title = title
            session.flush()
    with revision(session, actor="bob"):
        for title in "de":
            doc.title = title
            session.flush()
    session.commit()
    found = versions(session, doc)
    assert [(each.object.title, each.revision.actor) for each in found] == [("a", None), ("c", "ann"), ("e", "bob")]


def test_granularity_of_a_transaction_needs_something_to_tell_transactions_by(plain_bases: Any) -> None:
    from sqla_patterns.exceptions import PatternError

    with pytest.raises(PatternError, match="period"):
        docs(plain_bases(), granularity="transaction")


def test_unknown_granularity_is_refused(plain_bases: Any) -> None:
    from sqla_patterns.exceptions import PatternError

    with pytest.raises(PatternError, match="century"):
        docs(plain_bases(), granularity="century")


# -- sessions ------------------------------------------------------------------------------------


def test_a_session_that_is_closed_and_used_again(plain_bases: Any, engine: Engine) -> None:
    Doc = make(plain_bases(), engine, period=True)
    factory = sessionmaker(engine)
    session = factory()
    doc = saved(session, Doc(title="a"))
    key = doc.id
    doc.title = "lost"
    session.flush()
    session.close()
    moment = tick()
    doc = session.get_one(Doc, key)
    doc.title = "b"
    session.commit()
    assert doc.valid_from > moment
    assert history(session, Doc, "version", "title") == [(1, "a")]
    session.close()


def test_autocommit_like_sessions_begin_blocks(plain_bases: Any, engine: Engine) -> None:
    Doc = make(plain_bases(), engine)
    with Session(engine) as session, session.begin():
        doc = Doc(title="a")
        session.add(doc)
    with Session(engine) as session, session.begin():
        session.scalars(select(Doc)).one().title = "b"
    with Session(engine) as session, session.begin():
        session.delete(session.scalars(select(Doc)).one())
    with Session(engine) as session:
        assert history(session, Doc, "version", "title") == [(1, "a"), (2, "b")]


def test_a_detached_object_that_is_merged_or_added_back(plain_bases: Any, engine: Engine) -> None:
    Doc = make(plain_bases(), engine)
    with Session(engine, expire_on_commit=False) as session:
        doc = saved(session, Doc(title="a"))
    doc.title = "b"
    with Session(engine) as session:
        session.merge(doc)
        session.commit()
        assert history(session, Doc, "title") == ["a"]
    with Session(engine, expire_on_commit=False) as session:
        doc = session.scalars(select(Doc)).one()
    doc.title = "c"
    with Session(engine) as session:
        session.add(doc)
        session.commit()
        assert history(session, Doc, "version", "title") == [(1, "a"), (2, "b")]
        assert count(session, history_table(Doc)) == 2
        session.execute(delete(Doc))
        session.commit()
        assert count(session, history_table(Doc)) == 3
