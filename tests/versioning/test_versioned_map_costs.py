"""What versioned maps cost in statements."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column, selectinload

from sqla_patterns.versioning import VersionedMap, delete_stream, get_current, get_version, history_of, load_current
from tests.versioning._versioned_maps import configs, make

INSERTS = ["INSERT INTO config", "INSERT INTO config_value", "INSERT INTO config_entry"]


def heads(log: Any, engine: Engine | None = None) -> list[str]:
    """Return how the statements begin.

    On SQLite, SQLAlchemy inserts rows whose integer keys it has to fetch one by one, whatever the class; they count as
    one here, where the engine is given. With keys that Python makes there is an executemany there too, see below.
    """
    found = [" ".join(each.replace("(", " ").split()[:3]) for each in log]
    if engine is not None and engine.dialect.name == "sqlite":
        return [head for number, head in enumerate(found) if head != INSERTS[0] or found[number - 1] != head]
    return found


@pytest.fixture
def config_class(plain_bases: Any, engine: Engine) -> Any:
    cls = configs(plain_bases())
    cls.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(
            make(cls, {f"k{each}": each for each in range(10)}, tenant=f"t{number:03}") for number in range(100)
        )
        session.commit()
    return cls


def test_reading_many_maps_takes_one_statement(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        with statements() as log:
            found = load_current(session, config_class)
            assert sum(len(each) for each in found) == 1000
            assert found[7].tenant == "t007"
        assert heads(log) == ["SELECT config.id, config.version,"]


@pytest.mark.parametrize("read", [lambda s, C: get_current(s, C, tenant="t001"), lambda s, C: s.get(C, 2)])
def test_reading_one_map(config_class: Any, engine: Engine, statements: Any, read: Any) -> None:
    with Session(engine) as session:
        with statements() as log:
            assert dict(read(session, config_class)) == {f"k{each}": each for each in range(10)}
        assert len(log) <= 2


def test_get_current_and_get_version_take_one_statement(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        for read in (
            lambda: get_current(session, config_class, tenant="t001"),
            lambda: get_version(session, config_class, 1, tenant="t002"),
        ):
            with statements() as log:
                assert len(read()) == 10
            assert len(log) == 1


def test_a_select_of_many_maps_takes_a_second_statement_for_the_values(
    config_class: Any, engine: Engine, statements: Any
) -> None:
    with Session(engine) as session:
        with statements() as log:
            found = session.scalars(select(config_class).options(selectinload(config_class.value_rows))).all()
            assert sum(len(each) for each in found) == 1000
        assert len(log) == 2


def test_changing_100_maps_takes_three_executemany(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        for config in load_current(session, config_class):
            config["k1"] = "new"
            config["k2"] = config["k2"] + 1
            del config["k3"]
        with statements() as log:
            session.flush()
        assert heads(log, engine) == INSERTS
        session.commit()
        assert session.scalar(select(config_class.id).order_by(config_class.id.desc()).limit(1)) == 200


def test_with_keys_made_in_python_sqlite_has_an_executemany_too(
    plain_bases: Any, engine: Engine, statements: Any
) -> None:
    class Config(VersionedMap[int], plain_bases()):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)

    Config.metadata.create_all(engine)
    with Session(engine) as session:
        maps = [make(Config, {"a": 1, "b": 2}, tenant=f"t{number}") for number in range(100)]
        session.add_all(maps)
        with statements() as log:
            session.flush()
        assert heads(log) == INSERTS
        for config in maps:
            config["a"] = 2
        with statements() as log:
            session.flush()
        assert heads(log) == INSERTS
        assert len({config.id for config in maps}) == 100


def test_the_number_of_changed_keys_does_not_matter(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        config = get_current(session, config_class, tenant="t001")
        config.update({f"k{each}": "new" for each in range(9)}, more=1)
        with statements() as log:
            session.flush()
        assert heads(log) == INSERTS


def test_a_map_that_shares_no_value_is_looked_up_once(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        for config in load_current(session, config_class):
            config.clear()
        with statements() as log:
            session.flush()
        assert heads(log, engine) == ["SELECT config.id, config.version,", INSERTS[0]]


def test_taking_keys_out_writes_no_values(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        for config in load_current(session, config_class):
            config.pop("k1")
        with statements() as log:
            session.flush()
        assert heads(log, engine) == [INSERTS[0], INSERTS[2]]


def test_expired_maps_are_read_in_one_statement_before_they_change(
    config_class: Any, engine: Engine, statements: Any
) -> None:
    with Session(engine) as session:
        found = load_current(session, config_class)
        for config in found:
            session.expire(config, ["tenant", "version"])
            config["k1"] = "new"
        with statements() as log:
            session.flush()
        assert heads(log, engine) == ["SELECT config.id, config.version,", *INSERTS]


def test_no_change_takes_no_statement(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        for config in load_current(session, config_class):
            config["k1"] = 5
            config["k1"] = 1
        with statements() as log:
            session.flush()
        assert len(log) == 0


def test_the_history_of_a_key_takes_one_statement(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        config = get_current(session, config_class, tenant="t001")
        for number in range(20):
            config["k1"] = -number
            session.flush()
        with statements() as log:
            assert len(history_of(session, config_class, "k1", tenant="t001")) == 21
        assert len(log) == 1


def test_deleting_a_stream(config_class: Any, engine: Engine, statements: Any) -> None:
    with Session(engine) as session:
        config = get_current(session, config_class, tenant="t001")
        for number in range(20):
            config["k1"] = -number
            session.flush()
        with statements() as log:
            assert delete_stream(session, config_class, tenant="t001") == 21
        assert [each.partition(" ")[0] for each in heads(log)].count("DELETE") == 3
        assert len(log) <= 6


def test_a_flush_without_maps_leaves_no_trace(config_class: Any, plain_bases: Any, engine: Engine) -> None:
    class Plain(plain_bases()):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    Plain.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Plain())
        session.commit()
        assert "sqla_patterns.versioning.maps" not in session.info
