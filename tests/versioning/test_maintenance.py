"""Going back and maintenance: `revert`, `restore`, `versioning_disabled`, `prune`, `seed`, `erase`."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import JSON, Column, Engine, ForeignKey, MetaData, String, Table, insert, select, update
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import (
    RevisionLog,
    Versioned,
    VersionOptions,
    erase,
    prune,
    restore,
    revert,
    revision,
    seed,
    version_at,
    versioning_disabled,
    versions,
)
from tests._support import assert_empty_diff, count_statements
from tests.versioning._models import count, docs, history, history_table, library, tick


@pytest.fixture(name="Doc")
def _doc(bases: Any, engine: Engine) -> Any:
    Doc = docs(bases(), period=True, operation=True)
    Doc.metadata.create_all(engine)
    return Doc


def edited(session: Session, Doc: Any, titles: str = "abc") -> Any:
    doc = Doc(title=titles[0], body="x")
    session.add(doc)
    session.commit()
    for title in titles[1:]:
        doc.title = title
        session.commit()
    return doc


# -- revert --------------------------------------------------------------------------------------


def test_revert_makes_a_new_version(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc)
    revert(session, doc, to=1)
    session.commit()
    assert (doc.title, doc.version) == ("a", 4)
    assert [version.object.title for version in versions(session, doc)] == ["a", "b", "c", "a"]


def test_revert_to_what_is_current_changes_nothing(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc)
    revert(session, doc, to=3)
    session.commit()
    assert doc.version == 3


def test_revert_to_a_version_that_is_not_there_is_refused_before_anything_is_written(
    Doc: Any, session: Session, engine: Engine
) -> None:
    doc = edited(session, Doc)
    for number in (0, 7, -1):
        with count_statements(engine) as log, pytest.raises(PatternError, match=str(number)):
            revert(session, doc, to=number)
        assert log.starting("INSERT", "UPDATE") == []
    session.commit()
    assert (doc.title, doc.version) == ("c", 3)


def test_revert_sets_json_deferred_and_foreign_keys(plain_bases: Any, engine: Engine, session: Session) -> None:
    world = library(plain_bases())
    world.metadata.create_all(engine)
    ann, bob = world.Author(id=1, name="ann"), world.Author(id=2, name="bob")
    book = world.Book(id=1, title="t", price=3, author=ann)
    session.add_all([book, bob])
    session.commit()
    book.author, book.price = bob, None
    session.commit()
    with revision(session, actor="undo"):
        revert(session, book, to=1)
        session.commit()
    assert (book.author_id, book.price, book.version) == (1, 3, 3)
    assert book.author is ann
    assert versions(session, book)[-1].revision.actor == "undo"


@pytest.mark.parametrize("to", [1, 2])
def test_revert_of_a_stale_object_reverts_what_the_row_says(
    Doc: Any, session: Session, engine: Engine, to: int
) -> None:
    # It has the values of version 1, and another session has made version 2 and 3.
    with Session(engine, expire_on_commit=False) as stale:
        doc = Doc(title="a", body="x")
        stale.add(doc)
        stale.commit()
        theirs = session.get_one(Doc, doc.id)
        for title in "bc":
            theirs.title = title
            session.commit()
        session.close()
        revert(stale, doc, to=to)
        told = (doc.title, doc.body, doc.version)
        stale.commit()
        stale.refresh(doc)
        assert (doc.title, doc.body, doc.version) == told == ("ab"[to - 1], "x", 4)
        assert history(stale, Doc, "title") == ["a", "b", "c"]


def test_revert_of_a_stale_object_to_the_current_version_shows_it(Doc: Any, session: Session, engine: Engine) -> None:
    with Session(engine, expire_on_commit=False) as stale:
        doc = Doc(title="a", body="x")
        stale.add(doc)
        stale.commit()
        session.get_one(Doc, doc.id).title = "b"
        session.commit()
        session.close()
        revert(stale, doc, to=2)
        assert (doc.title, doc.version) == ("b", 2)
        stale.commit()
        assert history(stale, Doc, "title") == ["a"]


def test_revert_of_an_object_whose_attributes_are_not_loaded(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc)
    session.expire(doc)
    revert(session, doc, to=1)
    session.commit()
    assert (doc.title, doc.version, history(session, Doc, "title")) == ("a", 4, ["a", "b", "c"])


def test_revert_of_an_object_that_another_transaction_has_deleted_is_refused(
    Doc: Any, session: Session, engine: Engine
) -> None:
    doc = edited(session, Doc)
    session.refresh(doc)
    session.commit()
    with Session(engine) as other:
        other.delete(other.query(Doc).one())
        other.commit()
    with pytest.raises(PatternError, match="restore"):
        revert(session, doc, to=1)


def test_revert_of_a_foreign_key_shows_the_other_object_at_once(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    world = library(plain_bases())
    world.metadata.create_all(engine)
    ann, bob = world.Author(id=1, name="ann"), world.Author(id=2, name="bob")
    book = world.Book(id=1, title="t", author=ann)
    session.add_all([book, bob])
    session.commit()
    book.author = bob
    session.commit()
    assert book.author is bob
    revert(session, book, to=1)
    assert book.author is ann


def test_a_reverted_mutable_is_still_tracked(plain_bases: Any, engine: Engine, session: Session) -> None:
    class Doc(Versioned, plain_bases()):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()))
        other: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()))

    Doc.metadata.create_all(engine)
    doc = Doc(id=1, data={"a": 1}, other={"a": 1})
    session.add(doc)
    session.commit()
    doc.data["a"] = 2
    session.commit()
    revert(session, doc, to=1)
    doc.data["a"] = doc.other["a"] = 3
    session.commit()
    assert (doc.data, doc.other, history(session, Doc, "version")) == ({"a": 3}, {"a": 3}, [1, 2, 3])


def test_revert_leaves_excluded_columns_alone(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Page(Versioned, Base):
        __tablename__ = "page"
        __versioned__ = VersionOptions(exclude=("cache",))
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))
        cache: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    page = Page(id=1, title="a", cache="x")
    session.add(page)
    session.commit()
    page.title, page.cache = "b", "y"
    session.commit()
    revert(session, page, to=1)
    session.commit()
    assert (page.title, page.cache) == ("a", "y")


def test_revert_of_something_deleted_or_new_is_refused(Doc: Any, session: Session) -> None:
    with pytest.raises(PatternError):
        revert(session, Doc(title="new"), to=1)
    doc = edited(session, Doc)
    session.delete(doc)
    session.commit()
    with pytest.raises(PatternError, match="restore"):
        revert(session, doc, to=1)


# -- restore -------------------------------------------------------------------------------------


def test_restore_brings_back_what_was_deleted_with_its_old_key(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc)
    key = doc.id
    session.delete(doc)
    session.commit()
    gone = tick()
    again = restore(session, Doc, key)
    session.commit()
    assert type(again) is Doc
    assert again in session
    assert (again.id, again.title, again.body, again.version) == (key, "c", "x", 4)
    assert [version.number for version in versions(session, again)] == [1, 2, 3, 4]
    assert version_at(session, Doc, key, gone) is None
    assert version_at(session, Doc, key, tick()).title == "c"
    again.title = "d"
    session.commit()
    assert again.version == 5


def test_restore_of_the_living_or_the_unknown_is_refused(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc)
    with pytest.raises(PatternError, match="Doc"):
        restore(session, Doc, doc.id)
    with pytest.raises(PatternError, match="Doc"):
        restore(session, Doc, 12345)
    assert count(session, Doc) == 1


def test_restore_after_a_bulk_delete_and_twice(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc)
    key = doc.id
    for number in (4, 5):
        session.query(Doc).delete()
        session.commit()
        assert restore(session, Doc, key).id == key
        session.commit()
        assert session.get_one(Doc, key).version == number


def test_restore_by_a_composite_key(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Seat(Versioned, Base):
        __tablename__ = "seat"
        hall: Mapped[str] = mapped_column(String(5), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        guest: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    session.add(Seat(hall="a", number=1, guest="ann"))
    session.commit()
    session.delete(session.get_one(Seat, ("a", 1)))
    session.commit()
    assert restore(session, Seat, ("a", 1)).guest == "ann"
    session.commit()
    assert count(session, Seat) == 1


def test_restore_does_not_call_the_constructor_or_defaults(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str | None] = mapped_column(String(20), default="default")

        def __init__(self, must: int) -> None:
            self.id = must

    Base.metadata.create_all(engine)
    doc = Doc(1)
    session.add(doc)
    session.commit()
    doc.title = None
    session.commit()
    session.delete(doc)
    session.commit()
    assert restore(session, Doc, 1).title is None
    session.commit()
    assert session.get_one(Doc, 1).title is None


# -- disabled ------------------------------------------------------------------------------------


def test_versioning_can_be_disabled_for_a_block(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "a")
    with versioning_disabled(session):
        doc.title = "b"
        session.flush()
        session.execute(update(Doc).values(body="y"))
        doc.title = "c"
    session.commit()
    assert (doc.title, doc.version, history(session, Doc)) == ("c", 1, [])
    doc.title = "d"
    session.commit()
    assert (doc.version, history(session, Doc, "title")) == (2, ["c"])


def test_versioning_is_enabled_again_after_an_error_and_in_other_sessions(
    Doc: Any, session: Session, engine: Engine
) -> None:
    doc = edited(session, Doc, "a")
    with pytest.raises(ZeroDivisionError), versioning_disabled(session):
        raise ZeroDivisionError
    doc.title = "b"
    session.commit()
    assert history(session, Doc, "title") == ["a"]
    key = doc.id
    with versioning_disabled(session):
        with versioning_disabled(session):
            pass
        doc.title = "c"
        session.commit()
        with Session(engine) as other:
            other.get_one(Doc, key).title = "d"
            other.commit()
    assert history(session, Doc, "title") == ["a", "c"]


def test_a_delete_while_disabled_leaves_nothing(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "a")
    with versioning_disabled(session):
        session.delete(doc)
        session.commit()
    assert history(session, Doc) == []


def test_what_was_pending_before_the_block_is_versioned(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "a")
    doc.title = "b"
    with versioning_disabled(session):
        session.commit()
    assert history(session, Doc, "title") == ["a"]


def test_disabled_with_optimistic_locking(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        use_mapper_versioning = True
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    doc = Doc(id=1, title="a")
    session.add(doc)
    session.commit()
    with versioning_disabled(session):
        doc.title = "b"
        session.commit()
    doc.title = "c"
    session.commit()
    doc.title = "d"
    session.commit()
    assert history(session, Doc, "title") == ["b", "c"]


# -- prune ---------------------------------------------------------------------------------------


def test_prune_keeps_so_many_rows_of_each_object(Doc: Any, session: Session, engine: Engine) -> None:
    one, two = edited(session, Doc, "abcdef"), edited(session, Doc, "xy")
    with count_statements(engine) as log:
        removed = prune(session, Doc, keep=2)
    assert removed == 3
    assert len(log) <= 3, log.text
    session.commit()
    assert [version.object.title for version in versions(session, one)] == ["d", "e", "f"]
    assert [version.object.title for version in versions(session, two)] == ["x", "y"]
    assert prune(session, Doc, keep=2) == 0
    one.title = "g"
    session.commit()
    assert one.version == 7


def test_prune_removes_what_ended_before_a_moment(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "abc")
    moment = tick()
    doc.title = "d"
    session.commit()
    assert prune(session, Doc, before=moment) == 2
    session.commit()
    assert history(session, Doc, "title") == ["c"]
    assert version_at(session, Doc, doc.id, moment).title == "c"


def test_prune_with_both_removes_what_both_allow(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "abcd")
    moment = tick()
    for title in "ef":
        doc.title = title
        session.commit()
    assert prune(session, Doc, keep=4, before=moment) == 1
    assert history(session, Doc, "title") == ["b", "c", "d", "e"]
    assert prune(session, Doc, keep=0, before=moment) == 2
    assert history(session, Doc, "title") == ["d", "e"]


def test_prune_of_deleted_objects_counts_their_rows_too(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "abc")
    session.delete(doc)
    session.commit()
    assert prune(session, Doc, keep=1) == 2
    assert history(session, Doc, "title") == ["c"]


def test_prune_needs_a_rule_that_makes_sense(Doc: Any, session: Session) -> None:
    with pytest.raises(PatternError, match="keep"):
        prune(session, Doc)
    with pytest.raises(PatternError, match="keep"):
        prune(session, Doc, keep=-1)


def test_prune_of_a_hierarchy_leaves_no_half_rows(plain_bases: Any, engine: Engine, session: Session) -> None:
    from tests.versioning.test_inheritance import joined

    zoo = joined(plain_bases())
    zoo.metadata.create_all(engine)
    puppy = zoo.Puppy(id=1, name="a", trick="t", weeks=1)
    session.add(puppy)
    session.commit()
    for name in "bcd":
        puppy.name = name
        session.commit()
    assert prune(session, zoo.Animal, keep=1) == 2
    for cls in (zoo.Animal, zoo.Dog, zoo.Puppy):
        assert count(session, history_table(cls)) == 1
    assert history(session, zoo.Puppy, "name") == ["c"]


# -- seed ----------------------------------------------------------------------------------------


def test_seed_adopts_the_rows_that_a_table_had(plain_bases: Any, engine: Engine, session: Session) -> None:
    # A migration adds the columns of the library, nullable, to a table with rows; `seed` fills them.
    world = library(plain_bases())
    table = world.Author.__table__
    maintained = ("version", "valid_from", "revision_id")
    bare = Table(
        "author",
        MetaData(),
        *(
            Column(column.name, column.type, primary_key=column.primary_key, nullable=column.name in maintained)
            for column in table.c
        ),
    )
    bare.create(engine)
    world.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(bare), [{"id": number, "name": f"n{number}"} for number in range(1, 26)])
    before = tick()
    with revision(session, actor="migration"), count_statements(engine) as log:
        adopted = seed(session, world.Author)
        session.commit()
    assert adopted == 25
    assert len(log.starting("UPDATE")) <= 25, log.text
    rows = session.execute(select(bare.c.version, bare.c.valid_from, bare.c.revision_id)).all()
    assert {row.version for row in rows} == {1}
    assert len({row.valid_from for row in rows}) == 1
    assert {session.get_one(world.Revision, row.revision_id).actor for row in rows} == {"migration"}
    assert history(session, world.Author) == []
    assert version_at(session, world.Author, 3, before) is None
    assert version_at(session, world.Author, 3, tick()).name == "n3"
    assert seed(session, world.Author) == 0
    author = session.get_one(world.Author, 3)
    author.name = "changed"
    session.commit()
    assert (author.version, history(session, world.Author, "name")) == (2, ["n3"])


def test_seed_goes_by_batches(plain_bases: Any, engine: Engine, session: Session) -> None:
    Doc = docs(plain_bases())
    bare = Table("doc", MetaData(), *(Column(c.name, c.type, primary_key=c.primary_key) for c in Doc.__table__.c))
    bare.create(engine)
    Doc.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(bare), [{"title": "t"} for _ in range(2500)])
    assert seed(session, Doc) == 2500
    session.commit()
    assert set(session.scalars(select(Doc.version))) == {1}


# -- erase ---------------------------------------------------------------------------------------


def test_erase_leaves_nothing_of_an_object(bases: Any, engine: Engine, session: Session) -> None:
    Doc = docs(bases(), period=True, operation=True)
    Doc.metadata.create_all(engine)
    doc, other = edited(session, Doc, "abc"), edited(session, Doc, "xy")
    key = doc.id
    erase(session, Doc, key)
    session.commit()
    assert session.get(Doc, key) is None
    assert history(session, Doc, "id", "title") == [(other.id, "x")]
    assert version_at(session, Doc, key, tick()) is None
    with pytest.raises(PatternError):
        restore(session, Doc, key)


def test_erase_of_a_deleted_object(Doc: Any, session: Session) -> None:
    doc = edited(session, Doc, "abc")
    key = doc.id
    session.delete(doc)
    session.commit()
    erase(session, Doc, key)
    session.commit()
    assert history(session, Doc) == []


def test_erase_of_a_hierarchy_and_its_cascades(plain_bases: Any, engine: Engine, session: Session) -> None:
    from tests.versioning.test_inheritance import joined

    zoo = joined(plain_bases())
    zoo.metadata.create_all(engine)
    puppy = zoo.Puppy(id=1, name="a", trick="t", weeks=1)
    session.add(puppy)
    session.commit()
    puppy.name = "b"
    session.commit()
    erase(session, zoo.Puppy, 1)
    session.commit()
    for cls in (zoo.Animal, zoo.Dog, zoo.Puppy):
        assert count(session, history_table(cls)) == count(session, cls.__table__) == 0


def test_erase_of_a_parent_with_children(plain_bases: Any, engine: Engine, session: Session) -> None:
    # The children are other objects: they are deleted as the mapping says, and their history is written.
    Base = plain_bases()

    class Parent(Versioned, Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20), default="p")
        children: Mapped[list[Child]] = relationship("Child", cascade="all, delete-orphan")

    class Child(Versioned, Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))

    Base.metadata.create_all(engine)
    parent = Parent(id=1, children=[Child(id=1)])
    session.add(parent)
    session.commit()
    parent.name = "q"
    session.commit()
    erase(session, Parent, 1)
    session.commit()
    assert count(session, Parent) == count(session, Child) == 0
    assert history(session, Parent) == []


def test_erase_of_nothing_is_said(Doc: Any, session: Session) -> None:
    with pytest.raises(PatternError, match="Doc"):
        erase(session, Doc, 12345)


# -- a migration ---------------------------------------------------------------------------------


def test_adopting_a_class_step_by_step_ends_with_an_empty_diff(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # As the guide says about Alembic: add nullable columns, create the history, seed, then forbid NULL.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    Base = plain_bases()

    class Revision(RevisionLog, Base):
        __tablename__ = "revision"

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True, operation=True, revision=Revision)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))

    table = Doc.__table__
    maintained = ["version", "valid_from", "revision_id"]
    old = MetaData()
    Table(
        "doc",
        old,
        *(
            Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable)
            for c in table.c
            if c.name not in maintained
        ),
        sqlite_autoincrement=True,
    ).create(engine)
    with engine.begin() as connection:
        connection.execute(insert(old.tables["doc"]), [{"title": "t"} for _ in range(3)])

    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("doc", recreate="auto") as batch:
            for name in maintained:
                batch.add_column(Column(name, table.c[name].type, nullable=True))
    Base.metadata.create_all(engine)
    seed(session, Doc)
    session.commit()
    session.close()
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("doc") as batch:
            for name in maintained:
                if not table.c[name].nullable:
                    batch.alter_column(name, existing_type=table.c[name].type, nullable=False)
            for constraint in table.foreign_key_constraints:
                batch.create_foreign_key("fk_doc_revision", "revision", ["revision_id"], ["id"])
                assert constraint.elements[0].column.table.name == "revision"
    assert_empty_diff(engine, Base.metadata)
    doc = session.scalars(select(Doc)).first()
    doc.title = "new"
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "t")]
