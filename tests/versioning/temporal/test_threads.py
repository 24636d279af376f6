"""Threads that update one object at once: one current row, no version lost, and a conflict is `StaleDataError`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from tests._support import together
from tests.versioning.temporal._models import FORMS, is_current, items, past

forms = pytest.mark.parametrize("form", FORMS)
SERVERS = ("postgresql", "mariadb")
THREADS, ROUNDS = 6, 5


def _start(form: str, plain_bases: Any, engine: Engine) -> tuple[Any, Any]:
    Item = items(plain_bases(), form, period=True)
    Item.metadata.create_all(engine)
    with Session(engine) as session:
        item = Item(name="start", size=0, note="", data={})
        session.add(item)
        session.commit()
        return Item, item.id


def assert_sound(engine: Engine, cls: Any, written: int) -> None:
    """Check that there is one current row, that each write has left a version, and that periods follow each other."""
    with Session(engine) as session:
        found = past(session, cls)
        found = sorted(found, key=lambda each: each.valid_from)
        assert [is_current(each) for each in found] == [False] * written + [True]
        assert all(one.valid_to <= following.valid_from for one, following in pairwise(found))
        assert [each.size for each in found] == list(range(written + 1)), "each version builds on the one before"


@pytest.mark.only_on(*SERVERS)
@forms
def test_objects_are_changed_by_many_threads(
    plain_bases: Any, form: str, engine_factory: Callable[..., Engine]
) -> None:
    engine = engine_factory(pool_size=THREADS)
    Item, _ = _start(form, plain_bases, engine)
    counts: Counter[str] = Counter()

    def job() -> None:
        for _ in range(ROUNDS):
            while True:
                with Session(engine) as session:
                    item = session.scalars(select(Item)).one()
                    item.size += 1
                    try:
                        session.commit()
                    except StaleDataError:
                        counts["conflicts"] += 1
                        continue
                    counts["written"] += 1
                    break

    outcomes = together(*[job] * THREADS)
    assert [each for each in outcomes if each is not None] == []
    assert counts["written"] == THREADS * ROUNDS
    assert_sound(engine, Item, THREADS * ROUNDS)


@pytest.mark.only_on(*SERVERS)
@forms
def test_the_second_of_two_writers_meets_stale_data(
    plain_bases: Any, form: str, engine_factory: Callable[..., Engine]
) -> None:
    engine = engine_factory(pool_size=2)
    Item, _ = _start(form, plain_bases, engine)
    sessions = [Session(engine, expire_on_commit=False) for _ in range(2)]
    loaded = [session.scalars(select(Item)).one() for session in sessions]

    def change(number: int) -> Callable[[], None]:
        def job() -> None:
            loaded[number].size += 1
            sessions[number].commit()

        return job

    outcomes = together(change(0), change(1))
    for session in sessions:
        session.close()
    errors = [each for each in outcomes if each is not None]
    assert [isinstance(each, StaleDataError) for each in errors] == [True]
    assert_sound(engine, Item, 1)


@pytest.mark.only_on(*SERVERS)
@forms
def test_statements_of_many_threads(plain_bases: Any, form: str, engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory(pool_size=THREADS)
    Item, _ = _start(form, plain_bases, engine)
    counts: Counter[str] = Counter()

    def job() -> None:
        for _ in range(ROUNDS):
            with Session(engine) as session:
                try:
                    session.execute(update(Item).values(size=Item.size + 1))
                    session.commit()
                    counts["written"] += 1
                except StaleDataError:
                    counts["conflicts"] += 1

    outcomes = together(*[job] * THREADS)
    unexpected = [f"{type(each).__name__}: {str(each)[:150]}" for each in outcomes if each is not None]
    assert unexpected == []
    assert counts["written"] + counts["conflicts"] == THREADS * ROUNDS
    assert_sound(engine, Item, counts["written"])


# PostgreSQL gives up the locks of a savepoint that is rolled back, so that another transaction can come in between.
@pytest.mark.only_on("postgresql")
def test_a_version_of_another_transaction_is_not_taken_for_one_that_was_rolled_back(
    plain_bases: Any, engine_factory: Callable[..., Engine]
) -> None:
    engine = engine_factory(pool_size=2)
    Item, _ = _start("versioned", plain_bases, engine)
    with Session(engine) as mine, Session(engine) as theirs:
        item = mine.scalars(select(Item)).one()
        with mine.begin_nested() as savepoint:
            item.size = 100
            mine.flush()
            savepoint.rollback()
        theirs.scalars(select(Item)).one().size = 1
        theirs.commit()
        mine.expunge_all()
        current = mine.scalars(select(Item)).one()
        current.size += 1
        mine.commit()
        assert current.version_id == 3
    assert_sound(engine, Item, 2)
