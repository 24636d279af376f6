"""The history table: what it copies from the main table, what it leaves out, and its names; Alembic finds no change."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    Engine,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    UniqueConstraint,
    Uuid,
    func,
    insert,
    inspect,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions
from tests._support import assert_empty_diff
from tests.versioning._models import count, history, history_table, library

CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def rich(base: Any, *, generated: bool = True, **options: Any) -> Any:
    """Map a class with everything that a table may have."""

    class Shelf(base):
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Rich(Versioned, base):
        __tablename__ = "rich"
        __table_args__ = (
            UniqueConstraint("a", "b", name="uq_rich_ab"),
            CheckConstraint("a > 0", name="positive"),
            Index("ix_rich_b_c", "b", "c", unique=True),
        )
        if options:
            __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(Integer, *([Identity(start=10)] if generated else []), primary_key=True)
        a: Mapped[int] = mapped_column(unique=True, server_default=text("7"))
        b: Mapped[str] = mapped_column(String(20), index=True, default="x", onupdate="y")
        c: Mapped[str | None] = mapped_column(String(20))
        colour: Mapped[Colour | None] = mapped_column(Enum(Colour, name="colour", create_constraint=False))
        price: Mapped[Any] = mapped_column(Numeric(10, 2), nullable=True)
        big: Mapped[int | None] = mapped_column(BigInteger)
        blob: Mapped[bytes | None] = mapped_column(LargeBinary)
        data: Mapped[Any] = mapped_column(JSON, nullable=True)
        uid: Mapped[Any] = mapped_column(Uuid, nullable=True)
        made: Mapped[datetime | None] = mapped_column(
            DateTime(timezone=True), server_default=func.now() if generated else None
        )
        double: Mapped[int | None] = mapped_column(Computed("a * 2", persisted=True))
        shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id", ondelete="SET NULL"))
        next_id: Mapped[int | None] = mapped_column(ForeignKey("rich.id"))

    return Rich


# -- columns ---------------------------------------------------------------------------------------


def test_without_options_the_columns_are_exactly_upstreams(bases: Any) -> None:
    Base = bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    assert list(Doc.__table__.c.keys()) == ["id", "title", "version"]
    assert list(history_table(Doc).c.keys()) == ["id", "title", "version", "changed"]
    assert [column.name for column in history_table(Doc).primary_key] == ["id", "version"]
    assert history_table(Doc).name == "doc_history"


def test_defaults_identity_computed_and_onupdate_are_dropped(plain_bases: Any) -> None:
    Rich = rich(plain_bases())
    for column in history_table(Rich).c:
        if column.name not in ("version", "changed"):
            assert column.default is column.server_default is column.onupdate is column.server_onupdate is None, column
            assert (column.computed, column.identity) == (None, None), column
            assert column.autoincrement is False or not column.primary_key, column
    assert Rich.__table__.c.a.server_default is not None
    assert Rich.__table__.c.b.onupdate is not None
    assert Rich.__table__.c.double.computed is not None


def test_foreign_keys_uniques_and_checks_are_dropped(plain_bases: Any) -> None:
    Rich = rich(plain_bases())
    table = history_table(Rich)
    assert list(table.foreign_keys) == []
    assert [type(each).__name__ for each in table.constraints] == ["PrimaryKeyConstraint"]
    assert not any(index.unique for index in table.indexes)
    assert not any(column.unique for column in table.c)


def test_types_are_kept(plain_bases: Any) -> None:
    Rich = rich(plain_bases())
    table = history_table(Rich)
    for column in Rich.__table__.c:
        copy = table.c[column.name]
        assert type(copy.type) is type(column.type), column
    assert table.c.price.type.scale == 2


def test_indexes_are_named_after_those_of_the_table(plain_bases: Any) -> None:
    Rich = rich(plain_bases(metadata=MetaData(naming_convention=CONVENTION)))
    names = {index.name for index in Rich.__table__.indexes}
    assert {index.name for index in history_table(Rich).indexes} == {f"{name}_history" for name in names}
    assert "ix_rich_b_c_history" in {index.name for index in history_table(Rich).indexes}


def test_the_naming_convention_is_followed(plain_bases: Any) -> None:
    Rich = rich(plain_bases(metadata=MetaData(naming_convention=CONVENTION)))
    assert str(history_table(Rich).primary_key.name) == "pk_rich_history"


def test_long_names_stay_within_the_limit_of_the_database(plain_bases: Any, engine: Engine, session: Session) -> None:
    # 63 bytes on PostgreSQL, 64 on MariaDB; what is too long is cut so that two names stay two.
    Base = plain_bases(metadata=MetaData(naming_convention=CONVENTION))
    long = "a_name_that_somebody_has_found_to_be_fit_for_a_column_xxxx"

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        __table_args__ = (Index(f"ix_{long}_1", "a"), Index(f"ix_{long}_2", "b"))
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[int] = mapped_column(default=0)
        b: Mapped[int] = mapped_column(default=0)
        c: Mapped[int] = mapped_column(default=0, index=True)

    Base.metadata.create_all(engine)
    assert_empty_diff(engine, Base.metadata)
    thing = Thing(id=1)
    session.add(thing)
    session.commit()
    thing.a = 5
    session.commit()
    assert history(session, Thing, "a") == [0]


def test_everything_that_a_table_may_carry_is_created_and_kept(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Rich = rich(plain_bases())
    Rich.metadata.create_all(engine)
    session.add_all([Rich(a=1, c="one", colour=Colour.RED, blob=b"1", data={"k": [1]}, big=2**40), Rich(a=2, c="two")])
    session.commit()
    first = session.query(Rich).filter_by(a=1).one()
    second = session.query(Rich).filter_by(a=2).one()
    first.a, second.a = 3, 4
    first.next_id = second.id
    session.commit()
    first.a = 1  # unique in the table, twice in the history
    session.commit()
    rows = history(session, Rich, "id", "version", "a", "c", "colour", "big", "blob", "data", "double")
    assert [row for row in rows if row[0] == first.id] == [
        (first.id, 1, 1, "one", Colour.RED, 2**40, b"1", {"k": [1]}, 2),
        (first.id, 2, 3, "one", Colour.RED, 2**40, b"1", {"k": [1]}, 6),
    ]
    second_key = second.id
    first.next_id = None
    session.delete(second)
    session.commit()
    assert [row[:3] for row in history(session, Rich, "id", "version", "a") if row[0] == second_key][-1] == (
        second_key,
        2,
        4,
    )


def test_a_parent_can_be_deleted_after_a_row_that_referred_to_it(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # Upstream copies the foreign key, so that the parent can never be deleted.
    Base = plain_bases()

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(Versioned, Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
        elder_id: Mapped[int | None] = mapped_column(ForeignKey("child.id"))

    Base.metadata.create_all(engine)
    session.add(Parent(id=1))
    session.flush()
    session.add(Child(id=1, parent_id=1))
    session.flush()
    child = Child(id=2, parent_id=1, elder_id=1)
    session.add(child)
    session.commit()
    for key in (2, 1):
        session.delete(session.get_one(Child, key))
        session.commit()
    session.delete(session.get_one(Parent, 1))
    session.commit()
    assert history(session, Child, "id", "parent_id", "elder_id") == [(1, 1, None), (2, 1, 1)]


# -- schema ----------------------------------------------------------------------------------------


@pytest.fixture
def schema(engine: Engine) -> str:
    if engine.dialect.name == "mysql":
        assert engine.url.database is not None
        return engine.url.database
    with engine.begin() as connection:
        connection.execute(
            text("ATTACH ':memory:' AS other" if engine.dialect.name == "sqlite" else "CREATE SCHEMA other")
        )
    return "other"


def test_a_schema_is_kept_with_inheritance_too(plain_bases: Any, engine: Engine, session: Session, schema: str) -> None:
    # Upstream looks the history table up without its schema and does not find it.
    Base = plain_bases()

    class Animal(Versioned, Base):
        __tablename__ = "animal"
        __table_args__ = {"schema": schema}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cat(Animal):
        lives: Mapped[int | None] = mapped_column()
        __mapper_args__ = {"polymorphic_identity": "cat"}

    class Dog(Animal):
        __tablename__ = "dog"
        __table_args__ = {"schema": schema}
        id: Mapped[int] = mapped_column(ForeignKey(f"{schema}.animal.id"), primary_key=True)
        trick: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "dog"}

    Base.metadata.create_all(engine)
    assert history_table(Animal).schema == history_table(Dog).schema == schema
    cat, dog = Cat(id=1, lives=7), Dog(id=2, trick="sit")
    session.add_all([cat, dog])
    session.commit()
    cat.lives, dog.trick = 6, "roll"
    session.commit()
    assert history(session, Cat, "lives") == [7]
    assert history(session, Dog, "trick", "kind") == [("sit", "dog")]
    session.close()
    if engine.dialect.name != "sqlite":
        Base.metadata.drop_all(engine)


def test_a_schema_that_is_translated_at_run_time(plain_bases: Any, engine: Engine, schema: str) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __table_args__ = {"schema": "tenant"}
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    translated = engine.execution_options(schema_translate_map={"tenant": schema})
    with translated.begin() as connection:
        Base.metadata.create_all(connection)
    with Session(translated) as session:
        doc = Doc(id=1, title="a")
        session.add(doc)
        session.commit()
        doc.title = "b"
        session.commit()
        assert history(session, Doc, "title") == ["a"]
    if engine.dialect.name != "sqlite":
        with translated.begin() as connection:
            Base.metadata.drop_all(connection)


# -- Alembic ---------------------------------------------------------------------------------------


def test_autogenerate_finds_nothing_to_do_for_a_plain_class(bases: Any, engine: Engine) -> None:
    Base = bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20), index=True)

    Base.metadata.create_all(engine)
    assert_empty_diff(engine, Base.metadata)


@pytest.mark.parametrize("convention", [None, CONVENTION])
def test_autogenerate_finds_nothing_to_do_for_everything(plain_bases: Any, engine: Engine, convention: Any) -> None:
    Base = plain_bases(metadata=MetaData(naming_convention=convention) if convention else MetaData())

    class Revision(RevisionLog, Base):
        __tablename__ = "revision"
        ip: Mapped[str | None] = mapped_column(String(40))

    # Autogenerate reports IDENTITY, and now() as a default, on databases that spell them otherwise, with and without
    # a history.
    generated = engine.dialect.name == "postgresql"
    Rich = rich(Base, generated=generated, period=True, operation=True, revision=Revision)
    Base.metadata.create_all(engine)
    assert_empty_diff(engine, Base.metadata)
    assert {"revision", "rich", "rich_history"} <= set(inspect(engine).get_table_names())
    assert Rich.__history_mapper__ is not None


def test_autogenerate_finds_nothing_to_do_for_inheritance(plain_bases: Any, engine: Engine) -> None:
    Base = plain_bases()

    class Animal(Versioned, Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cat(Animal):
        lives: Mapped[int | None] = mapped_column(index=True)
        __mapper_args__ = {"polymorphic_identity": "cat"}

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "dog"}

    Base.metadata.create_all(engine)
    assert_empty_diff(engine, Base.metadata)
    assert Cat is not None
    assert Dog is not None


# -- time ------------------------------------------------------------------------------------------


def test_changed_is_aware_of_its_time_zone(bases: Any, engine: Engine, session: Session) -> None:
    # Upstream puts an aware datetime into a naive column, and reads back a naive one.
    Base = bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    doc = Doc(id=1, title="a")
    session.add(doc)
    session.commit()
    before = datetime.now(UTC)
    doc.title = "b"
    session.commit()
    after = datetime.now(UTC)
    (changed,) = history(session, Doc, "changed")
    assert changed.utcoffset() is not None
    assert before <= changed <= after


def test_the_fields_of_a_revision_log(plain_bases: Any) -> None:
    world = library(plain_bases())
    assert {"id", "at", "actor", "request_id", "reason", "meta"} <= set(world.Revision.__table__.c.keys())
    assert "revision_id" in world.Book.__table__.c
    assert {"revision_id", "ended_by_id", "operation"} <= set(history_table(world.Book).c.keys())


def test_a_column_of_the_users_with_a_name_of_the_librarys_is_refused(plain_bases: Any) -> None:
    from sqla_patterns.exceptions import PatternError

    Base = plain_bases()
    with pytest.raises(PatternError, match="changed"):

        class Doc(Versioned, Base):
            __tablename__ = "doc"
            id: Mapped[int] = mapped_column(primary_key=True)
            changed: Mapped[datetime] = mapped_column()


def test_two_history_tables_of_one_name_are_refused(plain_bases: Any) -> None:
    from sqlalchemy.exc import InvalidRequestError

    from sqla_patterns.exceptions import PatternError

    Base = plain_bases()

    class Mine(Base):
        __tablename__ = "doc_history"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises((PatternError, InvalidRequestError), match="doc_history"):

        class Doc(Versioned, Base):
            __tablename__ = "doc"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_every_row_of_history_has_a_key_that_the_database_guards(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    from sqlalchemy.exc import IntegrityError

    world = library(plain_bases())
    world.metadata.create_all(engine)
    author = world.Author(id=1, name="a")
    session.add(author)
    session.commit()
    author.name = "b"
    session.commit()
    table = history_table(world.Author)
    row = dict(session.execute(table.select()).mappings().one())
    assert count(session, table) == 1
    with pytest.raises(IntegrityError):
        session.connection().execute(insert(table), row)
    session.rollback()
