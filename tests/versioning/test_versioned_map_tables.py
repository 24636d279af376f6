"""How a versioned map is mapped: its tables, what a class may say, and which classes are refused."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any, TypedDict
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    JSON,
    DateTime,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    PickleType,
    String,
    UniqueConstraint,
    Uuid,
    delete,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column, registry, relationship

from sqla_patterns.criteria import TenantScoped, tenant_scope
from sqla_patterns.exceptions import MappingError
from sqla_patterns.versioning import (
    JSONValue,
    MapValueError,
    Versioned,
    VersionedMap,
    VersionedMapOptions,
    delete_stream,
    get_current,
    history_of,
    load_current,
)
from tests._support import assert_migrates
from tests.versioning._versioned_maps import configs, count_rows, make, past, saved
from tests.versioning.test_tables import CONVENTION

IMPORTS = "import sqla_patterns.versioning"

_numbers = count(1)


def _next_number() -> int:
    return next(_numbers)


# -- tables ------------------------------------------------------------------------------------------------------------


def test_the_tables(bases: Any) -> None:
    metadata = configs(bases()).metadata
    assert {name: table.c.keys() for name, table in metadata.tables.items()} == {
        "config": ["id", "version", "tenant"],
        "config_value": ["origin_id", "key", "value"],
        "config_entry": ["owner_id", "key", "origin_id"],
    }
    unique = [each for each in metadata.tables["config"].constraints if isinstance(each, UniqueConstraint)]
    assert [each.columns.keys() for each in unique] == [["tenant", "version"]]
    assert all(not table.info and not any(column.info for column in table.c) for table in metadata.tables.values())


def test_a_naming_convention_and_a_schema(bases: Any) -> None:
    class Config(VersionedMap[int], bases(metadata=MetaData(naming_convention=CONVENTION, schema="s"))):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))

    tables = Config.metadata.tables
    assert set(tables) == {"s.config", "s.config_value", "s.config_entry"}
    names = {str(each.name) for table in tables.values() for each in table.constraints}
    assert "None" not in names
    targets = {
        element.target_fullname
        for table in tables.values()
        for each in table.constraints
        if isinstance(each, ForeignKeyConstraint)
        for element in each.elements
    }
    assert targets == {"s.config.id", "s.config_value.origin_id", "s.config_value.key"}


def test_two_maps_in_one_module(bases: Any, session: Session) -> None:
    base = bases()
    Config = configs(base)

    class Flags(VersionedMap[bool], base):
        __tablename__ = "flags"

    config, flags = saved(session, Config, {"a": 1}, tenant="t1"), saved(session, Flags, {"a": True})
    config["a"], flags["a"] = 2, False
    session.commit()
    assert (history_of(session, Config, "a", tenant="t1"), history_of(session, Flags, "a")) == (
        [(1, 1), (2, 2)],
        [(True, 1), (False, 2)],
    )


def test_names_and_types_are_the_users_to_choose(bases: Any, session: Session) -> None:
    class Config(VersionedMap[bytes | Decimal], bases()):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(
            value_type=PickleType(), key_length=20, value_table="values_of_{table}", entry_table="{table}_has"
        )
        tenant: Mapped[str] = mapped_column(String(50))

    assert set(Config.metadata.tables) == {"config", "values_of_config", "config_has"}
    config = saved(session, Config, {"a": b"\0", "b": Decimal("1.50")}, tenant="t1")
    config["a"] = b"\1"
    session.commit()
    assert dict(config) == {"a": b"\1", "b": Decimal("1.50")}
    assert history_of(session, Config, "a", tenant="t1") == [(b"\0", 1), (b"\1", 2)]
    with pytest.raises(MapValueError, match="cannot be of type int"):
        config["c"] = 1


def test_a_key_of_another_type_and_name(plain_bases: Any, session: Session) -> None:
    class Config(VersionedMap[int], plain_bases()):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))
        key: Mapped[UUID] = mapped_column("pk", Uuid(), primary_key=True, default=uuid4)

    assert (inspect(Config).primary_key[0].name, "id" in Config.__table__.c) == ("pk", False)
    config = saved(session, Config, {"a": 1, "b": 1}, tenant="t1")
    first = config.key
    config["a"] = 2
    session.commit()
    assert (config.key != first, dict(config)) == (True, {"a": 2, "b": 1})
    assert history_of(session, Config, "a", tenant="t1") == [(1, 1), (2, 2)]


def test_a_class_of_registry_mapped(session: Session) -> None:
    mappers = registry()

    @mappers.mapped
    class Config(VersionedMap[int]):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))

    Config.metadata = mappers.metadata
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 2})]
    assert Config({"b": 1}, tenant="x").tenant == "x"
    mappers.dispose()


def test_a_constructor_of_the_user_is_called(plain_bases: Any, session: Session) -> None:
    class Config(VersionedMap[int], plain_bases()):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))

        def __init__(self, tenant: str) -> None:
            super().__init__({"made": 1}, tenant=tenant)

    config = Config("t1")
    assert (config.tenant, dict(config)) == ("t1", {"made": 1})


def test_single_table_inheritance_without_columns(bases: Any, session: Session) -> None:
    class Config(VersionedMap[int], bases()):
        __tablename__ = "config"
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}

    class Special(Config):
        __mapper_args__ = {"polymorphic_identity": "special"}

    args = {"kind": "special"}
    special = saved(session, Special, {"a": 1}, **args)
    special["a"] = 2
    session.commit()
    current = get_current(session, Config, kind="special")
    assert (current is special, type(current), dict(special), special.version) == (True, Special, {"a": 2}, 2)


def test_the_database_deletes_streams_with_what_they_belong_to(bases: Any, engine_factory: Any) -> None:
    base, engine = bases(), engine_factory()

    class Tenant(base):
        __tablename__ = "tenant"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))

    base.metadata.create_all(engine)
    with Session(engine) as session:
        if engine.dialect.name == "sqlite":
            session.connection().exec_driver_sql("PRAGMA foreign_keys = ON")
        session.add(Tenant(id=1))
        config = make(Config, {"a": 1, "b": 1}, tenant_id=1)
        session.add(config)
        for number in range(3):
            session.flush()
            config["a"] = number + 5
        session.flush()
        assert count_rows(session, Config) == (4, 5, 8)
        session.execute(delete(Tenant.__table__))
        assert count_rows(session, Config) == (0, 0, 0)


def test_a_tenants_maps_go_with_it_by_a_cascade_of_the_orm(bases: Any, session: Session) -> None:
    base = bases()

    class Tenant(base):
        __tablename__ = "tenant"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))

    Tenant.configs = relationship(Config, cascade="all")
    base.metadata.create_all(session.connection())
    session.add(Tenant(id=1))
    config = make(Config, {"a": 1}, tenant_id=1)
    session.add(config)
    session.commit()
    config["a"] = 2
    session.commit()
    session.delete(session.get_one(Tenant, 1))
    session.commit()
    assert count_rows(session, Config) == (0, 0, 0)


def test_the_tenant_mixin_tells_streams(plain_bases: Any, engine: Engine) -> None:
    class Config(VersionedMap[int], TenantScoped, plain_bases()):
        __tablename__ = "config"
        name: Mapped[str] = mapped_column(String(20))

    Config.metadata.create_all(engine)
    for number, tenant in enumerate(("t1", "t2")):
        with tenant_scope(tenant), Session(engine) as session:
            config = Config({"a": number, "b": 0}, name="x")
            session.add(config)
            session.commit()
            config["a"] = number + 10
            session.commit()
            assert (config.version, config.tenant_id) == (2, tenant)
    unique = next(each for each in Config.__table__.constraints if isinstance(each, UniqueConstraint))
    assert sorted(unique.columns.keys()) == ["name", "tenant_id", "version"]
    with tenant_scope("t2"), Session(engine) as session:
        assert history_of(session, Config, "a", tenant_id="t2", name="x") == [(1, 1), (11, 2)]
        assert history_of(session, Config, "a", tenant_id="t1", name="x") == []
        assert [each.tenant_id for each in load_current(session, Config)] == ["t2"]
        assert delete_stream(session, Config, tenant_id="t1", name="x") == 0
        assert delete_stream(session, Config, tenant_id="t2", name="x") == 2
        session.commit()
    with tenant_scope("t1"), Session(engine) as session:
        assert [dict(each) for each in load_current(session, Config)] == [{"a": 10, "b": 0}]


@pytest.mark.parametrize(
    ("again", "options"),
    [
        (True, {"default": _next_number}),
        (True, {"default": func.abs(-5)}),
        (True, {"server_default": func.abs(-5)}),
        (True, {"server_default": text("abs(-5)")}),
        (False, {"default": 5}),
        (False, {"server_default": "5"}),
        (False, {"server_default": text("5")}),
        (False, {}),
    ],
)
def test_a_column_with_a_computed_default_gets_a_new_value(
    plain_bases: Any, engine: Engine, again: bool, options: Any
) -> None:
    class Config(VersionedMap[int], plain_bases()):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(stream=())
        detail: Mapped[int] = mapped_column(**options)

    with Session(engine) as session:
        config = saved(session, Config, {"a": 1}, detail=77)
        config["a"] = 2
        session.commit()
        assert (config.detail == 77, session.get_one(Config, 1).detail) == (not again, 77)
        config["a"], config.detail = 3, 78
        session.commit()
        assert config.detail == 78


# -- migrations --------------------------------------------------------------------------------------------------------


def _one_stream(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"


def _new_key(_: Any) -> UUID:
    # SQLAlchemy wraps a function without an argument, and such a wrapper does not pickle.
    return uuid4()


def _uuid_key(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column(String(50))
        id: Mapped[UUID] = mapped_column(primary_key=True, default=_new_key)


def _described(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(stream=("tenant",))
        tenant: Mapped[str] = mapped_column(String(50))
        note: Mapped[str | None] = mapped_column(String(50))


def _own_types(base: Any) -> None:
    class Config(VersionedMap[bytes], base):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(value_type=LargeBinary(), key_length=30, value_table="v")
        first: Mapped[int] = mapped_column()
        second: Mapped[datetime] = mapped_column(DateTime())


@pytest.mark.parametrize("convention", [True, False])
@pytest.mark.parametrize("define", [configs, _described, _one_stream, _uuid_key, _own_types])
def test_alembic_writes_what_creates_the_tables(
    plain_bases: Any, engine: Engine, define: Any, convention: bool
) -> None:
    base = plain_bases(metadata=MetaData(naming_convention=CONVENTION) if convention else MetaData())
    define(base)
    assert_migrates(engine, base.metadata, IMPORTS)


# -- types of values ---------------------------------------------------------------------------------------------------


class Document(TypedDict):
    a: int


@pytest.mark.parametrize("argument", [int | str, int, str | None, list[int], dict[str, Any], Document, Any, bool])
def test_what_json_can_say_is_stored_as_json(plain_bases: Any, argument: Any) -> None:
    class Config(VersionedMap[argument], plain_bases()):  # type: ignore[valid-type]
        __tablename__ = "config"

    assert isinstance(Config.metadata.tables["config_value"].c.value.type, JSONValue)


@pytest.mark.parametrize("argument", [datetime, Decimal | int, bytes, UUID | None])
def test_what_json_cannot_say_needs_a_type(plain_bases: Any, argument: Any) -> None:
    with pytest.raises(MappingError, match="which JSON cannot store"):

        class Config(VersionedMap[argument], plain_bases()):  # type: ignore[valid-type]
            __tablename__ = "config"


def test_a_column_of_json_is_taken_for_one(plain_bases: Any) -> None:
    class Config(VersionedMap[Any], plain_bases()):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(value_type=JSON(none_as_null=True))

    with pytest.raises(MapValueError, match="has a tuple"):
        Config({"a": (1,)})


# -- what is refused ---------------------------------------------------------------------------------------------------


def _nullable(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        tenant: Mapped[str | None] = mapped_column(String(50))


def _composite(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[int] = mapped_column(primary_key=True)


def _given_key(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        name: Mapped[str] = mapped_column(String(20), primary_key=True)


def _method(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        items: Mapped[int] = mapped_column()


def _number(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        version: Mapped[str] = mapped_column(String(5))


def _both(base: Any) -> None:
    class Config(VersionedMap[int], Versioned, base):
        __tablename__ = "config"


def _unknown_stream(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        __versioned_map__ = VersionedMapOptions(stream=("tennant",))
        tenant: Mapped[str] = mapped_column(String(50))


def _other_options(base: Any) -> None:
    class Config(VersionedMap[int], base):
        __tablename__ = "config"
        __versioned_map__ = ("tenant",)


def _joined(base: Any) -> None:
    class Special(configs(base)):
        __tablename__ = "special"
        id: Mapped[int] = mapped_column(ForeignKey("config.id"), primary_key=True)


def _more_columns(base: Any) -> None:
    class Special(configs(base)):
        color: Mapped[str] = mapped_column(String(5))


def _plain_above(base: Any) -> None:
    class Plain(base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Config(VersionedMap[int], Plain):
        pass


def _same_table(base: Any) -> None:
    class Other(base):
        __tablename__ = "config_value"
        id: Mapped[int] = mapped_column(primary_key=True)

    configs(base)


def _collection(base: Any) -> None:
    Config = configs(base)

    class Comment(base):
        __tablename__ = "comment"
        id: Mapped[int] = mapped_column(primary_key=True)
        config_id: Mapped[int] = mapped_column(ForeignKey("config.id"))

    Config.comments = relationship(Comment)
    configure_mappers()


@pytest.mark.parametrize(
    ("define", "text"),
    [
        (_nullable, "Config.tenant tells streams apart and may be NULL"),
        (_composite, "needs a primary key of one column"),
        (_given_key, "Config.name is the primary key of a version and gets no value by itself"),
        (_method, "Config.items has a name that VersionedMap needs"),
        (_number, "Config.version"),
        (_both, "Config is both Versioned and a VersionedMap"),
        (_unknown_stream, "names 'tennant' in stream, and the class has the columns 'tenant'"),
        (_other_options, "give VersionedMapOptions"),
        (_joined, "Special adds columns to the versioned map Config"),
        (_more_columns, "Special adds columns to the versioned map Config"),
        (_plain_above, "mix VersionedMap into Plain"),
        (_same_table, "needs a table 'config_value'"),
        (_collection, "Config.comments holds rows that refer to one version"),
    ],
)
def test_a_class_that_cannot_work_is_refused(plain_bases: Any, define: Any, text: str) -> None:
    base = plain_bases()
    with pytest.raises(MappingError) as error:
        define(base)
    assert text in str(error.value)


def test_a_collection_that_is_only_for_viewing_is_fine(plain_bases: Any, session: Session) -> None:
    base = plain_bases()
    Config = configs(base)

    class Comment(base):
        __tablename__ = "comment"
        id: Mapped[int] = mapped_column(Integer, primary_key=True)
        config_id: Mapped[int] = mapped_column(ForeignKey("config.id"))

    Config.comments = relationship(Comment, viewonly=True)
    config = saved(session, Config, {"a": 1}, tenant="t1")
    session.add(Comment(config_id=config.id))
    session.commit()
    assert len(config.comments) == 1
    config["a"] = 2
    session.commit()
    assert (config.comments, session.scalar(select(func.count(Comment.id)))) == ([], 1)
