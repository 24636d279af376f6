"""Alembic's autogenerate writes migrations of versioned classes that run; the metadata is plain data."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, MetaData, String, Table, select, text
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column, registry, relationship

from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions, as_of
from tests._support import assert_migrates
from tests.versioning._models import history, history_table, tick
from tests.versioning.test_tables import CONVENTION

IMPORTS = "import sqla_patterns.versioning"


def no_options(base: Any) -> None:
    class Doc(Versioned, base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20), index=True)


def _doc(base: Any, **options: Any) -> None:
    class Doc(Versioned, base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))
        secret: Mapped[str] = mapped_column(String(20))


def _log(base: Any) -> Any:
    class Revision(RevisionLog, base):
        __tablename__ = "revision"
        ip: Mapped[str | None] = mapped_column(String(40))

    return Revision


def period(base: Any) -> None:
    _doc(base, period=True)


def operation(base: Any) -> None:
    _doc(base, operation=True)


def revision(base: Any) -> None:
    _doc(base, revision=_log(base))


def granularity(base: Any) -> None:
    _doc(base, period=True, granularity="transaction")


def exclude_and_ignore(base: Any) -> None:
    _doc(base, exclude=("secret",), ignore=("title",))


def everything(base: Any) -> None:
    _doc(base, period=True, operation=True, revision=_log(base), granularity="transaction", exclude=("secret",))


def associations(base: Any) -> None:
    doc_tag = Table(
        "doc_tag",
        base.metadata,
        Column("doc_id", ForeignKey("doc.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
        Column("note", String(10), nullable=False, server_default="x"),
    )

    class Tag(base):
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Doc(Versioned, base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True, associations=("tags",), revision=_log(base))
        id: Mapped[int] = mapped_column(primary_key=True)
        tags: Mapped[list[Tag]] = relationship(Tag, secondary=doc_tag)


def _animals(base: Any) -> Any:
    class Animal(Versioned, base):
        __tablename__ = "animal"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    return Animal


def single_inheritance(base: Any) -> None:
    class Cat(_animals(base)):
        lives: Mapped[int | None] = mapped_column(index=True)
        __mapper_args__ = {"polymorphic_identity": "cat"}


def joined_inheritance(base: Any) -> None:
    class Dog(_animals(base)):
        __tablename__ = "dog"
        dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        trick: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "dog"}


def concrete_inheritance(base: Any) -> None:
    class Shape(Versioned, base):
        __tablename__ = "shape"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Circle(Shape):
        __tablename__ = "circle"
        id: Mapped[int] = mapped_column(primary_key=True)
        radius: Mapped[int] = mapped_column()
        __mapper_args__ = {"concrete": True}


def cascade_from_above(base: Any) -> None:
    class Grandparent(base):
        __tablename__ = "grandparent"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        above_id: Mapped[int] = mapped_column(ForeignKey("grandparent.id", ondelete="CASCADE"))

    class Child(Versioned, base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))


MODELS = [
    no_options,
    period,
    operation,
    revision,
    granularity,
    exclude_and_ignore,
    everything,
    associations,
    single_inheritance,
    joined_inheritance,
    concrete_inheritance,
    cascade_from_above,
]


@pytest.mark.parametrize("define", MODELS, ids=lambda define: define.__name__)
def test_a_rendered_migration_runs_both_ways(plain_bases: Any, engine: Engine, define: Callable[[Any], None]) -> None:
    base = plain_bases()
    define(base)
    configure_mappers()
    assert_migrates(engine, base.metadata, IMPORTS)


@pytest.mark.parametrize("define", [no_options, everything, joined_inheritance], ids=lambda define: define.__name__)
def test_a_rendered_migration_of_named_constraints_runs_both_ways(
    plain_bases: Any, engine: Engine, define: Callable[[Any], None]
) -> None:
    base = plain_bases(metadata=MetaData(naming_convention=CONVENTION))
    define(base)
    configure_mappers()
    assert_migrates(engine, base.metadata, IMPORTS)


def test_a_rendered_migration_of_a_dataclass_base_runs_both_ways(bases: Any, engine: Engine) -> None:
    base = bases()
    no_options(base)
    configure_mappers()
    assert_migrates(engine, base.metadata, IMPORTS)


@pytest.mark.only_on("postgresql")
def test_a_rendered_migration_of_another_schema_runs_both_ways(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases(metadata=MetaData(schema="other"))
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA other"))
    no_options(base)
    assert_migrates(engine, base.metadata, IMPORTS, include_schemas=True)


def test_moments_are_rendered_by_their_public_path(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()
    period(base)
    assert "sqla_patterns.versioning.UTCDateTime(timezone=True)" in assert_migrates(engine, base.metadata, IMPORTS)


@pytest.mark.parametrize("define", MODELS, ids=lambda define: define.__name__)
def test_nothing_of_the_library_is_in_the_info_of_a_table_or_column(
    plain_bases: Any, define: Callable[[Any], None]
) -> None:
    base = plain_bases()
    define(base)
    configure_mappers()
    infos = [table.info for table in base.metadata.tables.values()]
    infos += [column.info for table in base.metadata.tables.values() for column in table.c]
    assert [info for info in infos if info] == []


def test_data_columns_of_a_history_table_take_null(plain_bases: Any) -> None:
    # A NOT NULL column that is added to the class later has no value in old rows.
    base = plain_bases()
    everything(base)
    table = base.metadata.tables["doc_history"]
    assert {column.name for column in table.c if not column.nullable} == {"id", "version"}


def test_data_columns_of_an_association_history_take_null(plain_bases: Any) -> None:
    base = plain_bases()
    associations(base)
    table = base.metadata.tables["doc_tag_history"]
    required = {column.name for column in table.c if not column.nullable}
    assert required == {"history_id", "doc_id", "tag_id", "valid_from"}


def test_a_column_added_later_leaves_old_versions_readable(plain_bases: Any, engine: Engine, session: Session) -> None:
    first, second = plain_bases(), plain_bases()
    period(first)
    first.metadata.create_all(engine)
    with Session(engine) as before:
        Doc = next(mapper.class_ for mapper in first.registry.mappers if mapper.class_.__name__ == "Doc")
        doc = Doc(id=1, title="a", secret="s")
        before.add(doc)
        before.commit()
        moment = tick()
        doc.title = "b"
        before.commit()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE doc ADD COLUMN size INTEGER DEFAULT 1 NOT NULL"))
        connection.execute(text("ALTER TABLE doc_history ADD COLUMN size INTEGER"))

    class Later(Versioned, second):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))
        secret: Mapped[str] = mapped_column(String(20))
        size: Mapped[int] = mapped_column(server_default=text("1"))

    assert [(each.title, each.size) for each in as_of(session, select(Later), moment)] == [("a", None)]


def test_a_copy_of_the_metadata_knows_nothing_of_the_library(plain_bases: Any) -> None:
    base = plain_bases()
    everything(base)
    other = MetaData()
    for table in base.metadata.tables.values():
        table.to_metadata(other)
    assert pickle.loads(pickle.dumps(other)).tables.keys() == base.metadata.tables.keys()
    assert [name for name in vars(other) if "sqla_patterns" in name] == []


def test_two_registries_over_one_metadata_version_their_own_classes(engine: Engine, session: Session) -> None:
    metadata = MetaData()
    one, two = registry(metadata=metadata), registry(metadata=metadata)

    @one.mapped
    class Left(Versioned):
        __tablename__ = "left"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column()

    @two.mapped
    class Right(Versioned):
        __tablename__ = "right"
        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int] = mapped_column()

    metadata.create_all(engine)
    objects: list[Any] = [Left(id=1, n=1), Right(id=1, n=1)]  # type: ignore[call-arg]
    session.add_all(objects)
    session.commit()
    session.execute(Left.__table__.update().values(n=2))  # type: ignore[attr-defined]
    session.execute(Right.__table__.update().values(n=2))  # type: ignore[attr-defined]
    session.commit()
    assert (history(session, Left, "n"), history(session, Right, "n")) == ([1], [1])
    assert (history_table(Left).name, history_table(Right).name) == ("left_history", "right_history")
    one.dispose()
    two.dispose()
