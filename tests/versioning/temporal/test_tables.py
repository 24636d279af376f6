"""What is in the MetaData: one current row by an index on every database, plain data, migrations that run."""

from __future__ import annotations

import pickle
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKeyConstraint, MetaData, String, insert, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import MappingError
from sqla_patterns.versioning import TemporalOptions
from tests._support import assert_empty_diff, assert_migrates
from tests.versioning.temporal._models import FORMS, MIXINS, items, names

forms = pytest.mark.parametrize("form", FORMS)
IMPORTS = "import sqla_patterns.versioning"
CONVENTION = {"ix": "ix_%(column_0_label)s", "pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}


@forms
def test_the_database_refuses_a_second_current_row(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="a", data={})
    session.add(item)
    session.commit()
    row = {"name": "b", "id": item.id}
    if form == "versioned":
        row |= {"version_id": 2, "is_current": True}
    elif form == "copied":
        row |= {"id": 99, "object_id": item.object_id, "is_current": True}
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(insert(Item.__table__), row)


@forms
def test_the_database_takes_many_closed_rows(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    Item = items(plain_bases(), form)
    Item.metadata.create_all(engine)
    item = Item(name="0")
    session.add(item)
    session.commit()
    for number in range(1, 4):
        item.name = str(number)
        session.commit()
    session.delete(item)
    session.commit()
    with engine.connect() as connection:
        assert len(connection.execute(Item.__table__.select()).all()) == 4


@pytest.mark.parametrize("on_delete", ["close", "delete"])
@pytest.mark.parametrize("period", [False, True])
@forms
def test_autogenerate_writes_a_migration_that_runs(
    plain_bases: Any, form: str, period: bool, on_delete: Any, engine: Engine
) -> None:
    base = plain_bases()
    items(base, form, period=period, on_delete=on_delete)
    imports = IMPORTS if period or form == "temporal" else ""
    assert "sqla_current" in assert_migrates(engine, base.metadata, imports)


@pytest.mark.only_on("postgresql", "mariadb")
@pytest.mark.parametrize("form", ["versioned", "temporal"])
def test_autogenerate_finds_nothing_where_the_database_counts(plain_bases: Any, form: str, engine: Engine) -> None:
    base = plain_bases()

    class Item(MIXINS[form], base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.metadata.create_all(engine)
    assert_empty_diff(engine, base.metadata)


@forms
def test_a_naming_convention_and_a_schema_work(plain_bases: Any, form: str, engine: Engine) -> None:
    base = plain_bases(metadata=MetaData(naming_convention=CONVENTION))
    Item = items(base, form, period=True)

    class Part(base):
        __tablename__ = "part"
        id: Mapped[int] = mapped_column(primary_key=True)
        item_id: Mapped[Any] = mapped_column(Item.__table__.c.id.type)
        version: Mapped[Any] = mapped_column(list(Item.__table__.primary_key)[-1].type)
        __table_args__ = (
            ForeignKeyConstraint(
                ["item_id", "version"][: len(Item.__table__.primary_key)], list(Item.__table__.primary_key)
            ),
        )

    assert_migrates(engine, base.metadata, IMPORTS)


@forms
def test_a_long_name_of_a_table_gives_an_index_of_its_own(plain_bases: Any, form: str, engine: Engine) -> None:
    base = plain_bases()
    for number in (1, 2):
        type(
            f"Long{number}",
            (MIXINS[form], base),
            {
                "__tablename__": "a_table_with_a_name_that_is_nearly_too_long_for_a_database" + str(number),
                "__module__": __name__,
                "__temporal__": TemporalOptions(),
                "id": mapped_column(String(36), primary_key=True, default=lambda: str(uuid.uuid4())),
            },
        )
    base.metadata.create_all(engine)
    assert_empty_diff(engine, base.metadata)


# -- no overlapping periods ----------------------------------------------------------------------


@pytest.fixture
def gist(engine: Engine) -> Engine:
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS btree_gist"))
    return engine


@pytest.mark.only_on("postgresql")
@forms
def test_overlapping_versions_are_refused_at_the_commit(
    plain_bases: Any, form: str, session: Session, gist: Engine
) -> None:
    Item = items(plain_bases(), form, period=True, no_overlap=True)
    Item.metadata.create_all(gist)
    item = Item(name="a")
    session.add(item)
    session.commit()
    item.name = "b"
    session.commit()
    begun = item.valid_from
    row = {"id": item.id, "name": "x", "valid_from": begun - timedelta(days=1), "valid_to": begun}
    if form == "versioned":
        row |= {"version_id": 9, "is_current": False}
    elif form == "copied":
        row |= {"id": 99, "object_id": item.object_id, "is_current": False}
    with pytest.raises(IntegrityError, match="ex_item_no_overlap"), gist.begin() as connection:
        connection.execute(insert(Item.__table__), row)


@pytest.mark.only_on("postgresql")
@forms
def test_flushes_and_statements_make_no_overlaps(plain_bases: Any, form: str, session: Session, gist: Engine) -> None:
    Item = items(plain_bases(), form, period=True, no_overlap=True)
    Item.metadata.create_all(gist)
    item = Item(name="a")
    session.add_all([item, Item(name="other")])
    session.commit()
    item.name = "b"
    session.flush()
    session.execute(update(Item).values(name=Item.name + "!"))
    session.commit()
    session.execute(update(Item).values(name=Item.name + "!"))
    session.commit()
    session.delete(item)
    session.commit()
    found = [name for name, _ in names(session, Item)]
    assert sorted(found) == ["a", "b", "b!", "b!!", "other", "other!", "other!!"]


@pytest.mark.only_on("postgresql")
@forms
def test_autogenerate_writes_the_exclusion_constraint(plain_bases: Any, form: str, gist: Engine) -> None:
    base = plain_bases()
    items(base, form, period=True, no_overlap=True)
    migration = assert_migrates(gist, base.metadata, IMPORTS)
    assert "ExcludeConstraint" in migration


@pytest.mark.only_on("postgresql")
def test_without_the_extension_no_overlap_is_refused(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()
    items(base, "temporal", no_overlap=True)
    with engine.begin() as connection:
        connection.execute(text("DROP EXTENSION IF EXISTS btree_gist"))
    with pytest.raises(MappingError, match="execute CREATE EXTENSION btree_gist first"):
        base.metadata.create_all(engine)


@pytest.mark.only_on("sqlite", "mariadb")
def test_other_databases_refuse_no_overlap(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()
    items(base, "temporal", no_overlap=True)
    with pytest.raises(MappingError, match="which only PostgreSQL has"):
        base.metadata.create_all(engine)


@pytest.mark.parametrize("form", ["versioned", "copied"])
def test_no_overlap_needs_times(plain_bases: Any, form: str) -> None:
    with pytest.raises(MappingError, match="period=True, no_overlap=True"):
        items(plain_bases(), form, no_overlap=True)


@forms
def test_tables_with_listeners_can_be_pickled(plain_bases: Any, form: str) -> None:
    base = plain_bases()
    items(base, form, period=True, no_overlap=True)

    class Counted(MIXINS[form], base):
        __tablename__ = "counted"
        id: Mapped[int] = mapped_column(primary_key=True)

    copy: MetaData = pickle.loads(pickle.dumps(base.metadata))
    assert set(copy.tables) == {"item", "counted"}


@forms
def test_the_metadata_can_be_pickled(plain_bases: Any, form: str, engine: Engine) -> None:
    base = plain_bases()
    items(base, form, period=True)
    copy: MetaData = pickle.loads(pickle.dumps(base.metadata))
    assert [column.name for column in copy.tables["item"].c] == [
        column.name for column in base.metadata.tables["item"].c
    ]
    copy.create_all(engine)
    assert_empty_diff(engine, base.metadata)


@forms
def test_nothing_is_stored_in_the_info_of_a_table(bases: Any, form: str) -> None:
    table = items(bases(), form).__table__
    assert (table.info, [column.info for column in table.c if column.info]) == ({}, [])


def test_the_generated_column_is_no_attribute(bases: Any) -> None:
    for form in FORMS:
        assert not hasattr(items(bases(), form), "sqla_current")
