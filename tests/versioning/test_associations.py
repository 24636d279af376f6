"""Many-to-many: rows of the association have a history if the class asks for it, and past objects show it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, String, Table, delete, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import (
    RevisionLog,
    Versioned,
    VersionOptions,
    as_of,
    erase,
    revision,
    seed,
    version_at,
    versions,
    versions_of_association,
)
from tests._support import assert_empty_diff, count_statements
from tests.versioning._models import count, history, tick


def make(base: Any, **options: Any) -> SimpleNamespace:
    class Revision(RevisionLog, base):
        __tablename__ = "revision"

    doc_tag = Table(
        "doc_tag",
        base.metadata,
        Column("doc_id", ForeignKey("doc.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )

    class Tag(base):
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Doc(Versioned, base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(
            period=True, operation=True, revision=Revision, associations=("tags",), **options
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20), default="t")
        tags: Mapped[list[Tag]] = relationship(Tag, secondary=doc_tag, order_by=Tag.id, backref="docs")

    return SimpleNamespace(Revision=Revision, Doc=Doc, Tag=Tag, doc_tag=doc_tag, metadata=base.metadata)


@pytest.fixture
def world(plain_bases: Any, engine: Engine, session: Session) -> SimpleNamespace:
    world = make(plain_bases())
    world.metadata.create_all(engine)
    world.a, world.b, world.c = (world.Tag(id=number, name=name) for number, name in enumerate("abc", start=1))
    world.doc = world.Doc(id=1)
    session.add_all([world.a, world.b, world.c, world.doc])
    session.commit()
    return world


def names(doc: Any) -> str:
    return "".join(tag.name for tag in sorted(doc.tags, key=lambda tag: tag.id))


def test_objects_of_the_past_show_the_relation_of_their_moment(world: Any, session: Session) -> None:
    doc = world.doc
    expected = {}
    for tags in ([], [world.a], [world.a, world.b], [world.b], [world.b, world.c], []):
        doc.tags = list(tags)
        session.commit()
        expected[tick()] = "".join(tag.name for tag in tags)
    for moment, found in expected.items():
        assert names(version_at(session, world.Doc, 1, moment)) == found
        (past,) = as_of(session, select(world.Doc), moment)
        assert names(past) == found
        assert isinstance(past.tags, list)


def test_the_relation_is_kept_after_a_tag_or_the_document_is_deleted(world: Any, session: Session) -> None:
    world.doc.tags = [world.a, world.b]
    session.commit()
    moment = tick()
    session.delete(world.doc)
    session.commit()
    assert names(version_at(session, world.Doc, 1, moment)) == "ab"
    assert version_at(session, world.Doc, 1, tick()) is None


def test_changes_from_the_other_side(world: Any, session: Session) -> None:
    world.a.docs.append(world.doc)
    session.commit()
    with_a = tick()
    world.a.docs.remove(world.doc)
    world.b.docs.append(world.doc)
    session.commit()
    with_b = tick()
    assert names(version_at(session, world.Doc, 1, with_a)) == "a"
    assert names(version_at(session, world.Doc, 1, with_b)) == "b"


def test_deleting_the_other_end(world: Any, session: Session) -> None:
    world.doc.tags = [world.a, world.b]
    session.commit()
    session.delete(world.a)
    session.commit()
    assert names(version_at(session, world.Doc, 1, tick())) == "b"
    ended = [row for row in versions_of_association(session, world.doc, "tags") if row.valid_to is not None]
    assert [row.target for row in ended] == [1]


def test_versions_of_an_association(world: Any, session: Session) -> None:
    with revision(session, actor="ann"):
        world.doc.tags = [world.a]
        session.commit()
    with revision(session, actor="bob"):
        world.doc.tags = [world.b]
        session.commit()
    with revision(session, actor="eve"):
        world.doc.tags = [world.a, world.b]
        session.commit()
    rows = versions_of_association(session, world.doc, "tags")
    told = [
        (row.target, row.revision and row.revision.actor, row.ended_by and row.ended_by.actor, row.valid_to is None)
        for row in rows
    ]
    assert sorted(told, key=str) == sorted(
        [(1, "ann", "bob", False), (2, "bob", None, True), (1, "eve", None, True)], key=str
    )
    assert all(row.valid_to is None or row.valid_from <= row.valid_to for row in rows)


def test_an_association_removed_and_added_in_one_transaction(world: Any, session: Session) -> None:
    world.doc.tags = [world.a]
    session.commit()
    world.doc.tags = []
    session.flush()
    world.doc.tags = [world.a]
    session.commit()
    moment = tick()
    assert names(version_at(session, world.Doc, 1, moment)) == "a"
    world.doc.tags = []
    session.commit()
    assert names(version_at(session, world.Doc, 1, moment)) == "a"
    assert names(version_at(session, world.Doc, 1, tick())) == ""


def test_a_rollback_takes_it_along(world: Any, session: Session) -> None:
    world.doc.tags = [world.a]
    session.flush()
    session.rollback()
    assert list(versions_of_association(session, world.doc, "tags")) == []


def test_many_objects_of_the_past_take_one_statement_more(world: Any, session: Session, engine: Engine) -> None:
    session.add_all([world.Doc(id=number, tags=[world.a, world.b]) for number in range(10, 60)])
    session.commit()
    moment = tick()
    for doc in session.scalars(select(world.Doc)):
        doc.tags = []
        doc.title = "later"
    session.commit()
    with count_statements(engine) as log:
        found = as_of(session, select(world.Doc).where(world.Doc.id >= 10), moment)
        assert {names(doc) for doc in found} == {"ab"}
    assert len(log) <= 3, log.text


def test_association_changes_of_many_objects_are_batched(world: Any, session: Session, engine: Engine) -> None:
    session.add_all([world.Doc(id=number, tags=[world.a]) for number in range(10, 60)])
    session.commit()
    docs = session.scalars(select(world.Doc).where(world.Doc.id >= 10)).all()
    for doc in docs:
        assert names(doc) == "a"
    for doc in docs:
        doc.tags = [world.b]
    with count_statements(engine) as log:
        session.flush()
    assert len(log) <= 8, log.text


def test_alembic_finds_nothing_to_do(plain_bases: Any, engine: Engine) -> None:
    world = make(plain_bases())
    world.metadata.create_all(engine)
    assert_empty_diff(engine, world.metadata)


def test_without_the_option_nothing_is_kept_and_the_question_is_refused(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    base = plain_bases()
    doc_tag = Table(
        "doc_tag",
        base.metadata,
        Column("doc_id", ForeignKey("doc.id"), primary_key=True),
        Column("tag_id", ForeignKey("tag.id"), primary_key=True),
    )

    class Tag(base):
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Doc(Versioned, base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        tags: Mapped[list[Tag]] = relationship(Tag, secondary=doc_tag)

    base.metadata.create_all(engine)
    assert set(base.metadata.tables) == {"doc", "doc_history", "doc_tag", "tag"}
    doc = Doc(id=1, tags=[Tag(id=1)])
    session.add(doc)
    session.commit()
    doc.tags = []
    session.commit()
    assert (doc.version, history(session, Doc)) == (1, [])
    with pytest.raises(PatternError, match="associations"):
        versions_of_association(session, doc, "tags")


def test_a_name_that_is_no_many_to_many_relationship_is_refused(plain_bases: Any) -> None:
    base = plain_bases()

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(PatternError, match="parent"):

        class Child(Versioned, base):
            __tablename__ = "child"
            __versioned__ = VersionOptions(period=True, associations=("parent",))
            id: Mapped[int] = mapped_column(primary_key=True)
            parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
            parent: Mapped[Parent] = relationship(Parent)

        inspect(Child).attrs
        base.registry.configure()


def test_erase_takes_the_history_of_associations_too(world: Any, session: Session, engine: Engine) -> None:
    world.doc.tags = [world.a, world.b]
    session.commit()
    world.doc.tags = [world.b]
    session.commit()
    erase(session, world.Doc, 1)
    session.commit()
    with engine.connect() as connection:
        for table in world.metadata.tables.values():
            if "doc_id" in table.c:
                assert connection.execute(select(table)).all() == [], table.name
    assert count(session, world.doc_tag) == 0


def test_versions_show_the_relation_of_each(world: Any, session: Session) -> None:
    world.doc.tags, world.doc.title = [world.a], "one"
    session.commit()
    world.doc.tags, world.doc.title = [world.b], "two"
    session.commit()
    told = [(version.object.title, names(version.object)) for version in versions(session, world.doc)]
    assert told[-2:] == [("one", "a"), ("two", "b")]


def test_versions_show_the_relation_that_each_ended_with(world: Any, session: Session) -> None:
    # A change of the relation alone makes no version.
    world.doc.title = "one"
    session.commit()
    world.doc.tags = [world.a]
    session.commit()
    world.doc.title = "two"
    session.commit()
    world.doc.tags = [world.b]
    session.commit()
    told = [(version.object.title, names(version.object)) for version in versions(session, world.doc)]
    assert told[-2:] == [("one", "a"), ("two", "b")]


def test_versions_of_a_deleted_object_show_its_last_relation(world: Any, session: Session) -> None:
    world.doc.tags = [world.a, world.b]
    session.commit()
    session.delete(world.doc)
    session.commit()
    assert names(versions(session, world.Doc, 1)[-1].object) == "ab"


def test_versions_show_related_objects_as_they_were(plain_bases: Any, engine: Engine, session: Session) -> None:
    base = plain_bases()
    pairs = Table(
        "pairs",
        base.metadata,
        Column("left_id", ForeignKey("person.id"), primary_key=True),
        Column("right_id", ForeignKey("person.id"), primary_key=True),
    )

    class Person(Versioned, base):
        __tablename__ = "person"
        __versioned__ = VersionOptions(period=True, associations=("friends",))
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(10))
        friends: Mapped[list[Person]] = relationship(
            "Person",
            secondary=pairs,
            primaryjoin=lambda: Person.id == pairs.c.left_id,
            secondaryjoin=lambda: Person.id == pairs.c.right_id,
        )

    base.metadata.create_all(engine)
    one, two = Person(id=1, name="one"), Person(id=2, name="two")
    one.friends = [two]
    session.add_all([one, two])
    session.commit()
    one.name, two.name = "eins", "zwei"
    session.commit()
    with count_statements(engine) as log:
        told = [(each.object.name, [friend.name for friend in each.object.friends]) for each in versions(session, one)]
    assert told == [("one", ["two"]), ("eins", ["zwei"])]
    assert len(log.starting("SELECT")) <= 4, log.text  # the expired object's key, versions, associations, targets


def test_a_core_delete_of_association_rows_through_the_session(world: Any, session: Session) -> None:
    # It is not seen, as the guide says; the next flush that changes the relationship writes its history.
    world.doc.tags = [world.a]
    session.commit()
    session.execute(delete(world.doc_tag))
    session.commit()
    world.doc.tags.append(world.b)
    session.commit()
    assert names(version_at(session, world.Doc, 1, tick())) == "b"


def test_seed_begins_associations_that_were_there_before(plain_bases: Any, engine: Engine, session: Session) -> None:
    world = make(plain_bases())
    world.metadata.create_all(engine)
    session.add(world.Tag(id=1, name="a"))
    session.add(world.Doc(id=1))
    session.commit()
    # Without the session: as if the table had existed before its history.
    session.connection().execute(world.doc_tag.insert(), {"doc_id": 1, "tag_id": 1})
    session.commit()
    assert list(versions_of_association(session, session.get_one(world.Doc, 1), "tags")) == []
    seed(session, world.Doc)
    session.commit()
    assert names(version_at(session, world.Doc, 1, tick())) == "a"
    seed(session, world.Doc)
    session.commit()
    assert len(versions_of_association(session, session.get_one(world.Doc, 1), "tags")) == 1


def test_associations_of_a_self_referential_relationship(plain_bases: Any, engine: Engine, session: Session) -> None:
    base = plain_bases()
    pairs = Table(
        "friends",
        base.metadata,
        Column("left_id", ForeignKey("person.id"), primary_key=True),
        Column("right_id", ForeignKey("person.id"), primary_key=True),
    )

    class Person(Versioned, base):
        __tablename__ = "person"
        __versioned__ = VersionOptions(period=True, associations=("friends",))
        id: Mapped[int] = mapped_column(primary_key=True)
        friends: Mapped[list[Person]] = relationship(
            "Person",
            secondary=pairs,
            primaryjoin=lambda: Person.id == pairs.c.left_id,
            secondaryjoin=lambda: Person.id == pairs.c.right_id,
        )

    base.metadata.create_all(engine)
    one, two, three = (Person(id=number) for number in (1, 2, 3))
    one.friends = [two]
    session.add_all([one, two, three])
    session.commit()
    moment = tick()
    one.friends = [three]
    session.commit()
    assert [friend.id for friend in version_at(session, Person, 1, moment).friends] == [2]
    assert [friend.id for friend in version_at(session, Person, 1, tick()).friends] == [3]
    assert version_at(session, Person, 2, moment).friends == []
