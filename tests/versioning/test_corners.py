"""Versions with special mappings: composites, expressions, custom types, loader options, cycles, past objects."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, TypeDecorator, delete, event, insert, select, update
from sqlalchemy.orm import (
    Mapped,
    Session,
    column_property,
    composite,
    mapped_column,
    relationship,
    selectinload,
    synonym,
    validates,
)
from sqlalchemy.orm.exc import DetachedInstanceError

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import (
    RevisionLog,
    Versioned,
    VersionOptions,
    as_of,
    diff,
    prune,
    restore,
    revert,
    revision,
    version_at,
    versions,
)
from tests._support import count_statements
from tests.versioning._models import count, docs, history, tick


@dataclass
class Point:
    x: int
    y: int


class Shouted(TypeDecorator[str]):
    """A text that is stored in capitals, so that what is read is not what was set."""

    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.upper()


def shapes(base: Any, engine: Engine) -> Any:
    class Shape(Versioned, base):
        __tablename__ = "shape"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(Shouted)
        x: Mapped[int]
        y: Mapped[int]
        point: Mapped[Point] = composite(Point, "x", "y")
        label: Mapped[str] = synonym("name")

        @validates("x")
        def not_negative(self, key: str, value: int) -> int:
            if value < 0:
                raise ValueError(key)
            return value

    Shape.total = column_property(Shape.x + Shape.y)
    base.metadata.create_all(engine)
    return Shape


def test_composites_synonyms_expressions_and_types_that_change_values(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Shape = shapes(plain_bases(), engine)
    shape = Shape(id=1, name="square", point=Point(1, 2))
    session.add(shape)
    session.commit()
    moment = tick()
    shape.point = Point(3, 4)
    session.commit()
    assert history(session, Shape, "name", "x", "y") == [("SQUARE", 1, 2)]
    old, new = versions(session, shape)
    changes = diff(old, new)
    assert changes["x"] == (1, 3)
    assert changes["y"] == (2, 4)
    past = version_at(session, Shape, 1, moment)
    assert (past.x, past.label, past.point) == (1, "SQUARE", Point(1, 2))
    assert [each.x for each in as_of(session, select(Shape).where(Shape.point == Point(1, 2)), moment)] == [1]
    revert(session, shape, to=1)
    session.commit()
    assert (shape.point, shape.total, shape.version) == (Point(1, 2), 3, 3)
    with pytest.raises(DetachedInstanceError):  # an expression is no column, so it is not loaded
        _ = past.total


def test_loader_options_and_relationships_in_as_of(plain_bases: Any, engine: Engine, session: Session) -> None:
    # A loader option is ignored, and the relationship is not loaded, instead of showing present objects.
    Base = plain_bases()

    class Parent(Versioned, Base):
        __tablename__ = "parent"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list[Child]] = relationship("Child", order_by="Child.id")

    class Child(Versioned, Base):
        __tablename__ = "child"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))

    Base.metadata.create_all(engine)
    session.add(Parent(id=1, children=[Child(id=1, name="a")]))
    session.commit()
    moment = tick()
    session.get_one(Child, 1).name = "b"
    session.add(Child(id=2, name="c", parent_id=1))
    session.commit()
    (past,) = as_of(session, select(Parent).options(selectinload(Parent.children)), moment)
    with pytest.raises(DetachedInstanceError):
        _ = past.children


def test_a_tree_that_cascades_into_itself(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Node(Versioned, Base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
        children: Mapped[list[Node]] = relationship("Node", passive_deletes="all")

    Base.metadata.create_all(engine)
    session.execute(insert(Node), [{"id": 1, "parent_id": None}])
    session.execute(insert(Node), [{"id": number, "parent_id": number // 2} for number in range(2, 4)])
    session.execute(insert(Node), [{"id": number, "parent_id": number // 2} for number in range(4, 8)])
    session.commit()
    session.delete(session.get_one(Node, 2))
    session.commit()
    assert history(session, Node, "id", "parent_id") == [(2, 1), (4, 2), (5, 2)]
    session.execute(delete(Node).where(Node.id == 1))
    session.commit()
    assert sorted(history(session, Node, "id")) == list(range(1, 8))
    assert count(session, Node) == 0


def test_two_tables_that_cascade_into_each_other(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class A(Versioned, Base):
        __tablename__ = "a"
        id: Mapped[int] = mapped_column(primary_key=True)
        b_id: Mapped[int | None] = mapped_column(ForeignKey("b.id", ondelete="CASCADE", use_alter=True, name="fk_a_b"))

    class B(Versioned, Base):
        __tablename__ = "b"
        id: Mapped[int] = mapped_column(primary_key=True)
        a_id: Mapped[int | None] = mapped_column(ForeignKey("a.id", ondelete="CASCADE"))

    Base.metadata.create_all(engine)
    session.execute(insert(A), [{"id": 1}])
    session.execute(insert(B), [{"id": 1, "a_id": 1}])
    session.execute(update(A).values(b_id=1))
    session.commit()
    session.delete(session.get_one(A, 1))
    session.commit()
    assert (count(session, A), count(session, B)) == (0, 0)
    assert history(session, B, "id", "a_id") == [(1, 1)]
    assert history(session, A, "version", "b_id") == [(1, None), (2, 1)]


def test_copies_and_pickles_of_the_past_are_of_the_past(plain_bases: Any, engine: Engine, session: Session) -> None:
    shape_class = docs(plain_bases(), period=True)
    shape_class.metadata.create_all(engine)
    doc = shape_class(title="a")
    session.add(doc)
    session.commit()
    moment = tick()
    doc.title = "b"
    session.commit()
    past = version_at(session, shape_class, doc.id, moment)
    shallow = copy.copy(past)
    with pytest.raises(PatternError):
        shallow.title = "forged"
    with pytest.raises(PatternError):
        session.add(shallow)
    session.expunge_all()
    assert session.get_one(shape_class, past.id).title == "b"
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(
            past
        )  # A class of this function cannot be pickled; a class of a module can, and stays past, below.


def test_merge_of_a_past_object_is_refused(plain_bases: Any, engine: Engine, session: Session) -> None:
    # `merge` copies its state into the present object, version and all.
    Doc = docs(plain_bases(), period=True)
    Doc.metadata.create_all(engine)
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    moment = tick()
    doc.title = "b"
    session.commit()
    past = version_at(session, Doc, doc.id, moment)
    session.merge(past)
    with pytest.raises(PatternError, match="version was set to 1 and is 2"):
        session.commit()
    session.rollback()
    assert (doc.title, history(session, Doc, "title")) == ("b", ["a"])


@pytest.mark.only_on("sqlite", "postgresql")
def test_an_update_that_returns_objects(plain_bases: Any, engine: Engine, session: Session) -> None:
    Doc = docs(plain_bases(), period=True)
    Doc.metadata.create_all(engine)
    session.add_all([Doc(title="a"), Doc(title="b")])
    session.commit()
    found = session.scalars(update(Doc).values(title="c").returning(Doc)).all()
    assert {doc.version for doc in found} == {2}
    assert {doc.title for doc in found} == {"c"}
    gone = session.scalars(delete(Doc).where(Doc.title == "c").returning(Doc.id)).all()
    assert len(gone) == 2
    assert sorted(history(session, Doc, "version")) == [1, 1, 2, 2]


def test_an_insert_that_returns_objects_of_a_key_that_comes_back(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    session.execute(insert(Doc), [{"id": 5, "title": "a"}])
    session.execute(delete(Doc))
    (doc,) = session.scalars(insert(Doc).returning(Doc), [{"id": 5, "title": "b"}]).all()
    session.refresh(doc)
    assert doc.version == 2
    doc.title = "c"
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "a"), (2, "b")]


def test_revisions_prune_and_restore_leave_one_another_sound(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    base = plain_bases()

    class Revision(RevisionLog, base):
        __tablename__ = "revision"

    Doc = docs(base, period=True, operation=True, revision=Revision)
    base.metadata.create_all(engine)
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    key = doc.id
    for title in "bcd":
        with revision(session, actor=title):
            doc.title = title
            session.commit()
    session.delete(doc)
    session.commit()
    assert prune(session, Doc, keep=0) == 4
    session.commit()
    with pytest.raises(PatternError):
        restore(session, Doc, key)
    session.rollback()
    again = Doc(id=key, title="e")
    session.add(again)
    session.commit()
    again.title = "f"
    session.commit()
    assert [version.object.title for version in versions(session, again)] == ["e", "f"]


def test_a_listener_of_the_users_that_loads_in_the_flush(plain_bases: Any, engine: Engine, session: Session) -> None:
    Doc = docs(plain_bases(), period=True)
    Doc.metadata.create_all(engine)
    one, two = Doc(title="a"), Doc(title="b")
    session.add_all([one, two])
    session.commit()

    @event.listens_for(Doc, "before_update")
    def look(mapper: Any, connection: Any, target: Any) -> None:
        connection.execute(select(Doc.__table__)).all()
        target.body = "seen"

    one.title, two.title = "c", "d"
    session.commit()
    assert history(session, Doc, "version", "title", "body") == [(1, "a", None), (1, "b", None)]
    assert (one.body, one.version, two.version) == ("seen", 2, 2)


def test_a_column_that_only_a_later_listener_changes(plain_bases: Any, engine: Engine, session: Session) -> None:
    # Documented: the listener of the library has found no change before. The next version is correct even so.
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    doc = Doc(title="a")
    session.add(doc)
    session.commit()

    @event.listens_for(Doc, "before_update")
    def touch(mapper: Any, connection: Any, target: Any) -> None:
        target.body = "touched"

    assert doc.title == "a"
    doc.title = "a"
    session.commit()
    doc.title = "b"
    session.commit()
    assert history(session, Doc, "title")[-1] == "a"
    numbers = history(session, Doc, "version")
    assert numbers == list(range(1, len(numbers) + 1))
    assert doc.version == len(numbers) + 1


def test_as_of_in_a_transaction_of_its_own_costs_no_flush(plain_bases: Any, engine: Engine, session: Session) -> None:
    Doc = docs(plain_bases(), period=True)
    Doc.metadata.create_all(engine)
    with session.no_autoflush:
        session.add(Doc(title="pending"))
        with count_statements(engine) as log:
            assert as_of(session, select(Doc), tick()) == []
    assert log.starting("INSERT") == []
