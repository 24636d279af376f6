"""Keys that are deleted, used again and changed, by one writer and by several at a time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine, String, delete, insert, literal, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.versioning import StaleVersionError, Versioned, VersionOptions, versions

KEYS = "abcd"


def country(base: Any, **options: Any) -> Any:
    class Country(Versioned, base):
        __tablename__ = "country"
        __versioned__ = VersionOptions(**options)
        key: Mapped[str] = mapped_column(String(10), primary_key=True)
        size: Mapped[int] = mapped_column(default=0)

    return Country


def numbers(session: Session, cls: Any, key: str) -> list[int]:
    return [each.number for each in versions(session, cls, key)]


def test_a_key_that_changes_to_one_used_before_goes_on_with_its_numbers(plain_bases: Any, engine: Engine) -> None:
    Country = country(plain_bases(), period=True)
    Country.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Country(key="a"))
        session.commit()
        for size in (1, 2):
            session.get_one(Country, "a").size = size
            session.commit()
        session.delete(session.get_one(Country, "a"))
        session.add(Country(key="b"))
        session.commit()
        moved = session.get_one(Country, "b")
        moved.key = "a"
        session.flush()
        assert moved.version == 4
        session.commit()
        assert numbers(session, Country, "a") == [1, 2, 3, 4]
        assert numbers(session, Country, "b") == [1]
        moved.size = 9
        session.commit()
        assert numbers(session, Country, "a") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("how", ["rows", "values", "many values", "select"])
def test_a_bulk_insert_goes_on_with_the_versions_of_used_keys(plain_bases: Any, engine: Engine, how: str) -> None:
    Country = country(plain_bases(), period=True)
    Country.metadata.create_all(engine)
    rows = [{"key": "a", "size": 1}, {"key": "new", "size": 2}]
    with Session(engine) as session:
        session.execute(insert(Country), [{"key": "a", "size": 0}, {"key": "other", "size": 7}])
        session.execute(delete(Country).where(Country.key == "a"))
        session.commit()
        if how == "rows":
            session.execute(insert(Country), rows)
        elif how == "values":
            for row in rows:
                session.execute(insert(Country).values(row))
        elif how == "many values":
            session.execute(insert(Country).values(rows))
        else:
            for row in rows:
                session.execute(
                    insert(Country).from_select(["key", "size"], select(literal(row["key"]), literal(row["size"])))
                )
        session.commit()
        assert (numbers(session, Country, "a"), numbers(session, Country, "new")) == ([1, 2], [1])
        session.get_one(Country, "a").size = 5
        session.commit()
        assert numbers(session, Country, "a") == [1, 2, 3]


def test_rows_that_are_gone_are_not_written(plain_bases: Any, engine_factory: Callable[..., Engine]) -> None:
    Country = country(plain_bases())
    engine = engine_factory()
    Country.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Country(key="a"), Country(key="b")])
        session.commit()
        with pytest.raises(StaleVersionError, match="'gone'"):
            session.execute(update(Country), [{"key": "a", "size": 1}, {"key": "gone", "size": 1}])
        session.rollback()
    with Session(engine, expire_on_commit=False) as session:
        held = session.get_one(Country, "a")
        session.commit()
        with Session(engine) as other:
            other.delete(other.get_one(Country, "a"))
            other.commit()
        held.size = 3
        with pytest.raises(StaleVersionError, match="'a'"):
            session.flush()
        session.rollback()
        assert numbers(session, Country, "a") == [1]
        assert numbers(session, Country, "b") == [1]


@pytest.mark.only_on("postgresql", "mariadb")
def test_many_writers_of_few_keys_leave_no_gap_and_no_duplicate(
    plain_bases: Any, engine_factory: Callable[..., Engine]
) -> None:
    # Objects, bulk statements, deletions and insertions under the same keys: losers get errors, the history is correct.
    Country = country(plain_bases(), period=True, operation=True)
    engine = engine_factory(pool_size=10)
    Country.metadata.create_all(engine)
    unexpected: list[BaseException] = []
    deadline = time.monotonic() + 3.0

    def change(session: Session, dice: random.Random) -> None:
        key, what = dice.choice(KEYS), dice.randrange(7)
        held = session.get(Country, key) if what < 3 else None
        if what < 2:
            if held is not None:
                held.size += 1
        elif what == 2:
            if held is not None:
                session.delete(held)
        elif what == 3:
            session.add(Country(key=key))
        elif what == 4:
            session.execute(update(Country).where(Country.size < 5).values(size=Country.size + 1))
        elif what == 5:
            session.execute(update(Country), [{"key": key, "size": dice.randrange(9)}])
        else:
            session.execute(delete(Country).where(Country.key == key))
        session.commit()

    def work(seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < deadline:
            try:
                with Session(engine) as session:
                    change(session, dice)
            except (IntegrityError, OperationalError, StaleDataError) as error:
                if "_history" in str(getattr(error, "orig", "")):
                    unexpected.append(error)
            except BaseException as error:  # noqa: BLE001  # the test judges it
                unexpected.append(error)

    threads = [Thread(target=work, args=(seed,), daemon=True) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "threads hang"
    assert not unexpected, unexpected[0]
    history = Country.__history_mapper__.class_
    with Session(engine) as session:
        for key in KEYS:
            columns = (history.version, history.valid_from, history.valid_to)
            rows = [
                tuple(row)
                for row in session.execute(select(*columns).where(history.key == key).order_by(history.version))
            ]
            present = session.get(Country, key)
            if present is not None:
                rows.append((present.version, present.valid_from, None))
            assert [number for number, _, _ in rows] == list(range(1, len(rows) + 1)), key
            for (_, begun, ended), (_, following, _) in pairwise(rows):
                assert begun <= ended <= following, key
