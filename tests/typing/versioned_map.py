"""What a user of versioned maps reads: both checkers must infer these types."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, MutableMapping, Sequence, ValuesView
from typing import Any, assert_type
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, String, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    scoped_session,
    selectinload,
)

from sqla_patterns.versioning import (
    JSONValue,
    MapValue,
    MapValueError,
    StaleVersionError,
    VersionedMap,
    VersionedMapOptions,
    delete_stream,
    get_current,
    get_version,
    history_of,
    load_current,
)


class Base(DeclarativeBase):
    pass


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Config(VersionedMap[int | str], Base):
    __tablename__ = "config"
    __versioned_map__ = VersionedMapOptions(stream=("tenant",), value_type=JSONValue())
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(50))


class Flags(VersionedMap[bool | None], DataBase):
    __tablename__ = "flags"
    name: Mapped[str] = mapped_column(String(50))
    id: Mapped[UUID] = mapped_column(primary_key=True, insert_default=uuid4, init=False)


def takes_a_mapping(values: Mapping[str, int | str]) -> MutableMapping[str, int | str] | None:
    return values if isinstance(values, Config) else None


def the_object_is_a_mapping() -> None:
    config = Config({"user_name": "twitter", "x": 27}, tenant="t1")
    Config([("a", 1)])
    Config(config, tenant="t2")
    assert_type(config["x"], int | str)
    config["x"] = "text"
    del config["x"]
    assert_type(config.get("x"), int | str | None)
    assert_type(config.get("x", 1.5), int | str | float)
    assert_type(config.pop("x"), int | str)
    assert_type(config.pop("x", None), int | str | None)
    assert_type(config.popitem(), tuple[str, int | str])
    assert_type(config.setdefault("x", 5), int | str)
    config.update({"a": 1}, b="c")
    config.update([("a", 1)])
    config.update(config)
    assert_type(iter(config), Iterator[str])
    assert_type(config.keys(), KeysView[str])
    assert_type(config.values(), ValuesView[int | str])
    assert_type(config.items(), ItemsView[str, int | str])
    assert_type(dict(config), dict[str, int | str])
    assert_type({**config}, dict[str, int | str])
    assert_type(len(config), int)
    assert_type(config | {"z": 1.5}, dict[str, int | str | float])
    assert_type({"z": 1.5} | config, dict[str, int | str | float])
    assert_type(config.copy(), dict[str, int | str])
    config |= {"a": 1}
    assert_type(config, Config)
    takes_a_mapping(config)
    assert_type(config.version, int)
    assert_type(config.id, int)
    assert_type(config.tenant, str)


def a_dataclass_is_one_too() -> None:
    flags = Flags(name="f")
    assert_type(flags["beta"], bool | None)
    assert_type(flags.setdefault("beta"), bool | None)
    assert_type(flags.id, UUID)


def on_the_class() -> None:
    assert_type(Config.version, InstrumentedAttribute[int])
    assert_type(Config.is_current(), ColumnElement[bool])
    select(Config).where(Config.is_current(), Config.version > 1).options(selectinload(Config.value_rows))


def reading(session: Session, scoped: scoped_session[Session]) -> None:
    assert_type(get_current(session, Config, tenant="t1"), Config | None)
    assert_type(get_version(scoped, Config, 1, tenant="t1"), Config | None)
    assert_type(load_current(session, Config, Config.tenant == "t1"), Sequence[Config])
    history = history_of(session, Config, "user_name", tenant="t1")
    assert_type(history, Sequence[MapValue[int | str]])
    value, version = history[0]
    assert_type(value, int | str)
    assert_type(version, int)
    assert_type(history[0].value, int | str)
    assert_type([each.version for each in history_of(session, Flags, "beta", name="f")], list[int])
    assert_type(delete_stream(session, Config, tenant="t1"), int)


async def under_asyncio(session: AsyncSession) -> None:
    def current(sync: Session) -> Config | None:
        return get_current(sync, Config, tenant="t1")

    assert_type(await session.run_sync(current), Config | None)


def errors(error: MapValueError, stale: StaleVersionError) -> tuple[Any, ...]:
    refused: TypeError = error
    return refused.args + stale.args
