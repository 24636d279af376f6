"""Bulk statements write history too: ORM UPDATE and DELETE in all forms; and what no ORM event can see."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, bindparam, delete, event, exists, func, insert, select, update
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, mapped_column, sessionmaker

from sqla_patterns.versioning import Versioned, VersionOptions
from tests._support import count_statements
from tests.versioning._models import count, docs, history, history_table


@pytest.fixture(name="Doc")
def _doc(plain_bases: Any, engine: Engine, session: Session) -> Any:
    """Map a class, and insert ten rows, t0 to t9."""
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    session.execute(insert(Doc), [{"id": number + 1, "title": f"t{number}", "body": "x"} for number in range(10)])
    session.commit()
    return Doc


def versions(session: Session, Doc: Any) -> list[int]:
    return list(session.scalars(select(Doc.version).order_by(Doc.id)))


# -- UPDATE ----------------------------------------------------------------------------------------


def test_an_orm_update_versions_every_row_it_matches(Doc: Any, session: Session, engine: Engine) -> None:
    with count_statements(engine) as log:
        session.execute(update(Doc).where(Doc.id > 7).values(title="new"))
    assert len(log) <= 3, log.text
    assert history(session, Doc, "id", "version", "title") == [(8, 1, "t7"), (9, 1, "t8"), (10, 1, "t9")]
    assert versions(session, Doc) == [1] * 7 + [2] * 3


def test_it_versions_rows_that_get_the_value_they_have(Doc: Any, session: Session) -> None:
    # Bulk DML versions every row that it matches: values are not compared.
    session.execute(update(Doc).where(Doc.id == 1).values(title="t0"))
    assert history(session, Doc, "id", "title") == [(1, "t0")]


def test_updates_one_after_the_other_number_their_versions(Doc: Any, session: Session) -> None:
    for title in "abc":
        session.execute(update(Doc).where(Doc.id == 1).values(title=title))
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "t0"), (2, "a"), (3, "b")]
    assert session.get_one(Doc, 1).version == 4


def test_an_update_of_an_expression_and_by_a_subquery(Doc: Any, session: Session) -> None:
    other = select(func.max(Doc.id)).scalar_subquery()
    session.execute(
        update(Doc)
        .where(Doc.id.in_(select(Doc.id).where(Doc.title == "t3").subquery().select()))
        .values(title=Doc.title + "!")
    )
    assert history(session, Doc, "title") == ["t3"]
    assert other is not None
    assert session.scalar(select(Doc.title).where(Doc.id == 4)) == "t3!"


def test_the_criteria_are_those_of_before_the_update(Doc: Any, session: Session) -> None:
    # An UPDATE after which no row meets its own criteria.
    session.execute(update(Doc).where(Doc.title == "t5").values(title="gone"))
    assert history(session, Doc, "id", "title") == [(6, "t5")]


def test_query_update_and_delete(Doc: Any, session: Session) -> None:
    session.query(Doc).filter(Doc.id == 1).update({"title": "new"})
    session.query(Doc).filter_by(id=2).delete()
    assert history(session, Doc, "id", "version", "title") == [(1, 1, "t0"), (2, 1, "t1")]
    assert count(session, Doc) == 9


@pytest.mark.parametrize("synchronize", ["auto", "evaluate", "fetch", False])
def test_loaded_objects_are_in_step(Doc: Any, session: Session, synchronize: Any) -> None:
    doc = session.get_one(Doc, 1)
    session.execute(update(Doc).values(title="new").execution_options(synchronize_session=synchronize))
    if synchronize is False:
        session.expire_all()
    assert (doc.title, doc.version) == ("new", 2)
    doc.title = "newer"
    session.commit()
    assert history(session, Doc, "id", "version", "title")[:2] == [(1, 1, "t0"), (1, 2, "new")]
    assert doc.version == 3


def test_an_object_in_a_session_that_was_not_synchronised_goes_on_with_the_right_version(
    Doc: Any, session: Session
) -> None:
    # The object still has version 1, so the history would have two rows with this version.
    doc = session.get_one(Doc, 1)
    session.execute(update(Doc).values(title="new").execution_options(synchronize_session=False))
    doc.body = "changed"
    session.commit()
    assert history(session, Doc, "id", "version", "title", "body")[:2] == [(1, 1, "t0", "x"), (1, 2, "new", "x")]
    assert session.scalar(select(Doc.version).where(Doc.id == 1)) == 3


def test_pending_changes_are_flushed_first(Doc: Any, session: Session) -> None:
    doc = session.get_one(Doc, 1)
    doc.title = "flushed"
    session.execute(update(Doc).where(Doc.title == "flushed").values(body="y"))
    session.commit()
    assert history(session, Doc, "version", "title", "body") == [(1, "t0", "x"), (2, "flushed", "x")]
    assert doc.version == 3


def test_an_update_by_primary_key(Doc: Any, session: Session, engine: Engine) -> None:
    rows = [{"id": key, "title": f"new{key}"} for key in range(1, 6)]
    with count_statements(engine) as log:
        session.execute(update(Doc), rows)
    assert len(log) <= 3, log.text
    assert history(session, Doc, "id", "version", "title") == [(key, 1, f"t{key - 1}") for key in range(1, 6)]
    assert versions(session, Doc) == [2] * 5 + [1] * 5
    assert session.scalar(select(Doc.title).where(Doc.id == 3)) == "new3"


def test_an_update_by_primary_key_of_many_rows_takes_a_few_statements(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    session.execute(insert(Doc), [{"id": number, "title": "a"} for number in range(1, 1001)])
    with count_statements(engine) as log:
        session.execute(update(Doc), [{"id": number, "title": "b"} for number in range(1, 1001)])
    assert len(log) <= 3, log.text
    assert count(session, history_table(Doc)) == 1000


@pytest.mark.only_on("sqlite", "postgresql")
def test_an_update_with_returning(Doc: Any, session: Session) -> None:
    found = session.execute(update(Doc).where(Doc.id < 3).values(title="new").returning(Doc.id, Doc.version)).all()
    assert sorted(map(tuple, found)) == [(1, 2), (2, 2)]
    assert history(session, Doc, "id", "title") == [(1, "t0"), (2, "t1")]


def test_an_update_of_ordered_values_and_parameters(Doc: Any, session: Session) -> None:
    session.execute(
        update(Doc).where(Doc.id == bindparam("key")).values(title=bindparam("name")), {"key": 2, "name": "n"}
    )
    session.execute(update(Doc).where(Doc.id == 3).ordered_values((Doc.title, "o"), (Doc.body, "p")))
    assert history(session, Doc, "id", "title") == [(2, "t1"), (3, "t2")]
    assert session.execute(select(Doc.title, Doc.version).where(Doc.id.in_([2, 3])).order_by(Doc.id)).all() == [
        ("n", 2),
        ("o", 2),
    ]


def test_an_update_that_sets_the_version_itself_does_not_set_it_back(Doc: Any, session: Session) -> None:
    session.execute(update(Doc).where(Doc.id == 1).values(title="b", version=1))
    session.execute(update(Doc).where(Doc.id == 1).values(title="c"))
    rows = history(session, Doc, "version", "title")
    assert [title for _, title in rows] == ["t0", "b"]


def test_an_update_of_ignored_columns_alone_makes_no_version(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    Base = plain_bases()

    class Page(Versioned, Base):
        __tablename__ = "page"
        __versioned__ = VersionOptions(ignore=("seen",), exclude=("cache",))
        id: Mapped[int] = mapped_column(primary_key=True)
        seen: Mapped[int] = mapped_column(default=0)
        cache: Mapped[int] = mapped_column(default=0)
        title: Mapped[str] = mapped_column(String(20), default="a")

    Base.metadata.create_all(engine)
    session.add(Page(id=1))
    session.commit()
    session.execute(update(Page).values(seen=1, cache=1))
    assert history(session, Page) == []
    session.execute(update(Page).values(seen=2, title="b"))
    assert history(session, Page, "version", "seen") == [(1, 1)]


def test_an_update_that_matches_nothing_writes_nothing(Doc: Any, session: Session) -> None:
    session.execute(update(Doc).where(Doc.id == 99).values(title="new"))
    assert history(session, Doc) == []


def test_an_update_of_a_class_without_history_pays_nothing(
    Doc: Any, plain_bases: Any, session: Session, engine: Engine
) -> None:
    Base = plain_bases()

    class Other(Base):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    with count_statements(engine) as log:
        session.execute(insert(Other), [{"id": 1, "name": "a"}])
        session.execute(update(Other).values(name="b"))
        session.execute(delete(Other))
    assert len(log) == 3, log.text


# -- DELETE ----------------------------------------------------------------------------------------


def test_an_orm_delete_keeps_every_row_it_matches(Doc: Any, session: Session, engine: Engine) -> None:
    with count_statements(engine) as log:
        session.execute(delete(Doc).where(Doc.id <= 3))
    assert len(log) <= 3, log.text
    assert history(session, Doc, "id", "version", "title") == [(1, 1, "t0"), (2, 1, "t1"), (3, 1, "t2")]
    assert count(session, Doc) == 7


def test_a_delete_of_all(Doc: Any, session: Session) -> None:
    session.execute(delete(Doc))
    assert len(history(session, Doc)) == 10


def test_a_delete_by_a_correlated_subquery(Doc: Any, plain_bases: Any, session: Session, engine: Engine) -> None:
    Base = plain_bases()

    class Mark(Base):
        __tablename__ = "mark"
        doc_id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(engine)
    session.add_all([Mark(doc_id=2), Mark(doc_id=4)])
    session.flush()
    session.execute(delete(Doc).where(exists().where(Mark.doc_id == Doc.id)))
    assert history(session, Doc, "id") == [2, 4]


@pytest.mark.only_on("postgresql", "mariadb")
def test_a_delete_and_an_update_of_several_tables(Doc: Any, plain_bases: Any, session: Session, engine: Engine) -> None:
    # ``DELETE ... USING`` and ``UPDATE ... FROM``: the criteria name another table without a join.
    Base = plain_bases()

    class Mark(Base):
        __tablename__ = "mark"
        doc_id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(5))

    Base.metadata.create_all(engine)
    session.add_all([Mark(doc_id=2, kind="a"), Mark(doc_id=4, kind="a"), Mark(doc_id=5, kind="b")])
    session.flush()
    off = {"synchronize_session": False}
    session.execute(
        update(Doc).where(Doc.id == Mark.doc_id, Mark.kind == "a").values(title="m").execution_options(**off)
    )
    session.execute(delete(Doc).where(Doc.id == Mark.doc_id, Mark.kind == "b").execution_options(**off))
    assert history(session, Doc, "id", "title") == [(2, "t1"), (4, "t3"), (5, "t4")]


def test_a_bulk_delete_takes_children_that_cascade_in_the_database_along(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    Base = plain_bases()

    class Parent(Versioned, Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(Versioned, Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))

    Base.metadata.create_all(engine)
    session.execute(insert(Parent), [{"id": 1}, {"id": 2}])
    session.execute(insert(Child), [{"id": number, "parent_id": 1 + number % 2} for number in range(1, 5)])
    session.execute(delete(Parent).where(Parent.id == 1))
    session.commit()
    assert history(session, Parent, "id") == [1]
    assert history(session, Child, "id", "parent_id") == [(2, 1), (4, 1)]


def test_keys_that_come_back_after_a_bulk_delete_go_on_with_their_versions(Doc: Any, session: Session) -> None:
    session.execute(update(Doc).where(Doc.id == 1).values(title="b"))
    session.execute(delete(Doc).where(Doc.id == 1))
    doc = Doc(id=1, title="c")
    session.add(doc)
    session.commit()
    assert doc.version == 3


# -- INSERT ----------------------------------------------------------------------------------------


def test_an_insert_of_a_thousand_rows_adds_no_statement_a_row(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    # Upstream asks for the highest version before each row.
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    with count_statements(engine) as log:
        session.execute(insert(Doc), [{"title": f"t{number}"} for number in range(1000)])
    assert len(log) <= 3, log.text
    assert set(session.scalars(select(Doc.version))) == {1}


def test_an_insert_from_select_has_its_version(Doc: Any, session: Session) -> None:
    session.execute(insert(Doc).from_select(["id", "title"], select(Doc.id + 100, Doc.title)))
    assert session.scalar(select(func.count()).where(Doc.version == 1)) == 20


def test_a_core_insert_of_a_natural_key_that_comes_back_goes_on(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    # ``insert(Country)`` with keys that have a history must not begin at 1 again: the next change would collide.
    Base = plain_bases()

    class Country(Versioned, Base):
        __tablename__ = "country"
        code: Mapped[str] = mapped_column(String(2), primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    session.execute(insert(Country), [{"code": code, "name": "a"} for code in ("xx", "yy")])
    session.execute(delete(Country).where(Country.code == "xx"))
    session.execute(insert(Country), [{"code": code, "name": "b"} for code in ("xx", "zz")])
    session.execute(update(Country).values(name="c"))
    session.commit()
    assert history(session, Country, "code", "version", "name") == [
        ("xx", 1, "a"), ("xx", 2, "b"), ("yy", 1, "a"), ("zz", 1, "b"),
    ]  # fmt: skip


def test_a_bulk_insert_by_a_flush_needs_no_query_for_versions_of_generated_keys(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    session.add_all([Doc(title=f"t{number}") for number in range(200)])
    with count_statements(engine) as log:
        session.flush()
    assert log.starting("SELECT") == []


def test_natural_keys_of_a_flush_are_looked_up_together(plain_bases: Any, session: Session, engine: Engine) -> None:
    Base = plain_bases()

    class Country(Versioned, Base):
        __tablename__ = "country"
        code: Mapped[str] = mapped_column(String(5), primary_key=True)

    Base.metadata.create_all(engine)
    session.add_all([Country(code=f"k{number}") for number in range(200)])
    with count_statements(engine) as log:
        session.flush()
    assert len(log) <= 2, log.text


# -- what ORM hooks cannot see ---------------------------------------------------------------------


def test_core_statements_on_the_connection_go_past(Doc: Any, session: Session) -> None:
    # Documented: a statement on a connection belongs to no session.
    session.connection().execute(update(Doc.__table__).values(title="behind"))
    assert history(session, Doc) == []


def test_core_statements_on_the_table_through_the_session_are_seen(Doc: Any, session: Session) -> None:
    # ``session.execute(update(Doc.__table__))`` goes through the session, so its history is written.
    session.execute(update(Doc.__table__).where(Doc.__table__.c.id == 1).values(title="core"))
    assert history(session, Doc, "id", "title") == [(1, "t0")]


@pytest.mark.parametrize("how", ["bulk_save_objects", "bulk_update_mappings"])
def test_the_legacy_bulk_methods_are_no_silent_hole(Doc: Any, session: Session, how: str) -> None:
    # They call no session event and make no version, as the guide says; the next change is correct.
    doc = session.get_one(Doc, 1)
    session.expunge(doc)
    if how == "bulk_save_objects":
        doc.title = "bulk"
        session.bulk_save_objects([doc])
    else:
        session.bulk_update_mappings(Doc, [{"id": 1, "title": "bulk"}])
    later = session.get_one(Doc, 1)
    later.title = "later"
    session.commit()
    assert history(session, Doc, "id", "version", "title") == [(1, 1, "bulk")]


# -- listeners of others ---------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["class", "factory", "session"])
@pytest.mark.parametrize("options", [{}, {"operation": True}, {"period": True, "granularity": "transaction"}])
def test_a_listener_that_is_attached_later_narrows_statement_and_history(
    plain_bases: Any, engine: Engine, options: dict[str, Any], target: str
) -> None:
    """Their class is mapped, so that the library's listener is there, and is called, before theirs."""
    Doc = docs(plain_bases(), **options)
    Doc.metadata.create_all(engine)

    def narrow(state: ORMExecuteState) -> None:
        if state.bind_mapper is not None and state.bind_mapper.class_ is Doc and (state.is_update or state.is_delete):
            state.statement = state.statement.where(Doc.id == 1)  # type: ignore[attr-defined]

    factory = sessionmaker(engine)
    with factory() as session:
        session.add_all([Doc(id=number, title=f"t{number}", body="x") for number in (1, 2, 3)])
        session.commit()
        listened: Any = {"class": Session, "factory": factory, "session": session}[target]
        event.listen(listened, "do_orm_execute", narrow)
        try:
            assert session.execute(update(Doc).values(title="new")).rowcount == 1
            session.commit()
            assert session.execute(delete(Doc)).rowcount == 1
            session.commit()
        finally:
            event.remove(listened, "do_orm_execute", narrow)
        assert history(session, Doc, "id", "version", "title") == [(1, 1, "t1"), (1, 2, "new")]
        assert session.scalars(select(Doc.id).order_by(Doc.id)).all() == [2, 3]


def test_a_listener_that_is_attached_later_narrows_what_a_cascade_leaves(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()

    class Shelf(base):
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    class Book(Versioned, base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id", ondelete="CASCADE"))

    base.metadata.create_all(engine)

    def narrow(state: ORMExecuteState) -> None:
        if state.is_delete:
            state.statement = state.statement.where(Shelf.id == 1)  # type: ignore[attr-defined]

    with Session(engine) as session:
        session.add_all([Shelf(id=1), Shelf(id=2)])
        session.flush()
        session.add_all([Book(id=1, shelf_id=1), Book(id=2, shelf_id=2)])
        session.commit()
        event.listen(session, "do_orm_execute", narrow)
        session.execute(delete(Shelf))
        session.commit()
        assert history(session, Book, "id") == [1]
