"""What a flush writes to the history: the old values, once a flush, however the change was made."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Computed,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    event,
    func,
    select,
    update,
)
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import Mapped, Session, deferred, mapped_column, relationship

from sqla_patterns.versioning import Versioned, VersionOptions
from tests._support import count_statements
from tests.versioning._models import count, docs, history, history_class, history_table, natural_docs


@pytest.fixture(name="Doc")
def _doc(bases: Any, engine: Engine) -> Any:
    Doc = docs(bases())
    Doc.metadata.create_all(engine)
    return Doc


def saved(session: Session, obj: Any) -> Any:
    session.add(obj)
    session.commit()
    return obj


# -- one version a flush, the old values ---------------------------------------------------------


def test_an_insert_writes_no_history_and_is_version_1(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    assert doc.version == 1
    assert history(session, Doc) == []


def test_an_update_keeps_the_old_values(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a", body="x"))
    doc.title = "b"
    session.commit()
    assert doc.version == 2
    assert history(session, Doc, "id", "version", "title", "body") == [(doc.id, 1, "a", "x")]


def test_each_flush_is_a_version(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    doc.title = "b"
    session.flush()
    doc.title = "c"
    doc.body = "y"
    session.commit()
    assert doc.version == 3
    assert history(session, Doc, "version", "title", "body") == [(1, "a", None), (2, "b", None)]


def test_a_new_object_that_is_changed_after_its_flush_is_version_2(Doc: Any, session: Session) -> None:
    doc = Doc(title="a")
    session.add(doc)
    session.flush()
    doc.title = "b"
    session.commit()
    assert (doc.version, history(session, Doc, "title")) == (2, ["a"])


def test_a_delete_keeps_the_last_values(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    doc.title = "b"
    session.commit()
    session.delete(doc)
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "a"), (2, "b")]
    assert count(session, Doc) == 0


def test_an_object_that_is_changed_and_deleted_in_one_flush_keeps_what_was_stored(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    doc.title = "never stored"
    session.delete(doc)
    session.commit()
    assert history(session, Doc, "version", "title") == [(1, "a")]


def test_no_wrapper_of_sessions_is_needed(Doc: Any, engine: Engine) -> None:
    # History is written whichever session writes.
    class Own(Session):
        pass

    for number, kind in enumerate((Session, Own)):
        with kind(engine) as session:
            doc = saved(session, Doc(title="a"))
            doc.title = "b"
            session.commit()
            assert len(history(session, Doc)) == number + 1


# -- no net change makes no version --------------------------------------------------------------


def test_a_value_set_to_what_it_was_makes_no_version(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    doc.title = "a"
    session.commit()
    doc.title = "b"
    doc.title = "a"
    session.commit()
    assert (doc.version, history(session, Doc)) == (1, [])


def test_an_expired_attribute_set_to_what_it_was_makes_no_version(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    assert "title" not in doc.__dict__
    doc.title = "a"
    session.flush()
    session.refresh(doc)
    assert (doc.version, history(session, Doc)) == (1, [])


def test_expired_attributes_of_many_objects_are_compared_in_one_query(
    Doc: Any, session: Session, engine: Engine
) -> None:
    objects = [Doc(title=f"t{number}") for number in range(20)]
    session.add_all(objects)
    session.commit()
    loaded = session.scalars(select(Doc).order_by(Doc.id)).all()
    for number, doc in enumerate(loaded):
        session.expire(doc, ["title"])
        doc.title = f"t{number}" if number % 2 else "changed"
    with count_statements(engine) as log:
        session.flush()
    # A SELECT of the old values, the copy; the UPDATE with a new version and the one without.
    assert len(log.starting("SELECT", "INSERT")) == 2, log.text
    assert history(session, Doc, "title") == [f"t{number}" for number in range(0, 20, 2)]
    session.commit()
    assert [doc.version for doc in loaded] == [2, 1] * 10


def test_a_collection_that_changes_makes_no_version_of_its_owner(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Parent(Versioned, Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"), default=None)
        parent: Mapped[Parent | None] = (
            relationship(Parent, backref="children", default=None)
            if bases.kind == "dataclass"
            else relationship(Parent, backref="children")
        )

    Base.metadata.create_all(engine)
    parent = saved(session, Parent(id=1))
    child = saved(session, Child(id=1, parent=parent))
    child.parent = None
    session.commit()
    session.delete(child)
    session.commit()
    assert (parent.version, history(session, Parent)) == (1, [])


# -- kinds of columns ----------------------------------------------------------------------------


def test_json_and_mutables_changed_in_place_keep_the_old_value(bases: Any, engine: Engine, session: Session) -> None:
    # Upstream stores the new value, as it does not notice the change.
    Base = bases()

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        settings: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON))
        tags: Mapped[Any] = mapped_column(MutableList.as_mutable(JSON))

    Base.metadata.create_all(engine)
    thing = saved(session, Thing(id=1, settings={"k": 1}, tags=["a"]))
    thing.settings["k"] = 2
    session.commit()
    thing.tags.append("b")
    thing.settings["deep"] = {"x": [1]}
    session.commit()
    assert history(session, Thing, "version", "settings", "tags") == [(1, {"k": 1}, ["a"]), (2, {"k": 2}, ["a"])]
    assert thing.version == 3


def test_json_flagged_as_modified_keeps_the_old_value(plain_bases: Any, engine: Engine, session: Session) -> None:
    from sqlalchemy.orm.attributes import flag_modified

    Base = plain_bases()

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        settings: Mapped[Any] = mapped_column(JSON)

    Base.metadata.create_all(engine)
    thing = saved(session, Thing(id=1, settings={"k": 1}))
    thing.settings["k"] = 2
    flag_modified(thing, "settings")
    session.commit()
    assert history(session, Thing, "settings") == [{"k": 1}]


def test_deferred_and_binary_columns_are_copied_without_being_loaded(
    bases: Any, engine: Engine, session: Session
) -> None:
    Base = bases()

    class File(Versioned, Base):
        __tablename__ = "file"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        content: Mapped[bytes] = deferred(mapped_column(LargeBinary))

    Base.metadata.create_all(engine)
    saved(session, File(id=1, name="a", content=b"\x00\xff" * 10))
    session.expunge_all()
    file = session.scalars(select(File)).one()
    file.name = "b"
    with count_statements(engine) as log:
        session.flush()
    assert "content" not in file.__dict__
    assert [statement for statement in log.starting("SELECT") if "content" in statement] == []
    assert history(session, File, "name", "content") == [("a", b"\x00\xff" * 10)]


def test_computed_columns_are_copied(bases: Any, engine: Engine, session: Session) -> None:
    # Upstream tries to insert into a generated column of the history table.
    Base = bases()

    class Box(Versioned, Base):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True)
        side: Mapped[int]
        area: Mapped[int | None] = mapped_column(
            Computed("side * side", persisted=True), **({"init": False} if bases.kind == "dataclass" else {})
        )

    Base.metadata.create_all(engine)
    box = saved(session, Box(id=1, side=3))
    box.side = 4
    session.commit()
    assert history(session, Box, "side", "area") == [(3, 9)]
    assert box.area == 16


def test_attributes_under_other_names_than_their_columns(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        key: Mapped[int] = mapped_column("id", primary_key=True)
        label: Mapped[str] = mapped_column("name", String(20))

    Base.metadata.create_all(engine)
    thing = saved(session, Thing(key=1, label="a"))
    thing.label = "b"
    session.commit()
    assert history(session, Thing, "key", "label", "version") == [(1, "a", 1)]
    assert {"id", "name"} <= set(history_table(Thing).c.keys())


def test_onupdate_fires_once_on_the_row_and_never_on_the_history(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()
    stamps = iter(range(1, 100))

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        stamp: Mapped[int] = mapped_column(default=lambda: next(stamps), onupdate=lambda: next(stamps))

    Base.metadata.create_all(engine)
    thing = saved(session, Thing(id=1, name="a"))
    thing.name = "b"
    session.commit()
    assert history(session, Thing, "stamp") == [1]
    assert thing.stamp == 2


def test_a_sql_expression_as_a_value_is_a_change(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    doc.title = func.upper("b")
    session.commit()
    assert (doc.title, doc.version, history(session, Doc, "title")) == ("B", 2, ["a"])


# -- changes that only the flush itself makes ------------------------------------------------------


def family(base: Any, engine: Engine, **relation: Any) -> Any:
    """Map parents and versioned children, which have no relationship to their parent, only the key."""

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list[Child]] = relationship("Child", order_by="Child.id", **relation)

    class Child(Versioned, base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20), default="c")
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"), default=None)

    base.metadata.create_all(engine)
    return Parent, Child


def test_a_foreign_key_that_the_flush_sets_makes_a_version(plain_bases: Any, engine: Engine, session: Session) -> None:
    # One-to-many without a backref: upstream looks before the key has changed.
    Parent, Child = family(plain_bases(), engine)
    parent, child = saved(session, Parent(id=1)), saved(session, Child(id=1))
    parent.children.append(child)
    session.commit()
    assert (child.parent_id, child.version) == (1, 2)
    assert history(session, Child, "version", "parent_id") == [(1, None)]


def test_a_foreign_key_that_goes_with_the_parent_makes_a_version(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Parent, Child = family(plain_bases(), engine)
    parent = saved(session, Parent(id=1, children=[Child(id=1), Child(id=2)]))
    children = list(parent.children)
    session.delete(parent)
    session.commit()
    assert [(child.parent_id, child.version) for child in children] == [(None, 2), (None, 2)]
    assert history(session, Child, "id", "version", "parent_id") == [(1, 1, 1), (2, 1, 1)]


def test_a_change_of_its_own_and_one_by_the_flush_are_one_version(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Parent, Child = family(plain_bases(), engine)
    parent, child = saved(session, Parent(id=1)), saved(session, Child(id=1))
    assert parent.children == []  # or reading them would flush the new name by itself
    child.name = "renamed"
    parent.children.append(child)
    session.commit()
    assert (child.parent_id, child.version) == (1, 2)
    assert history(session, Child, "version", "name", "parent_id") == [(1, "c", None)]


def test_an_orphan_that_the_flush_deletes_leaves_its_history(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Parent, Child = family(plain_bases(), engine, cascade="all, delete-orphan")
    parent = saved(session, Parent(id=1, children=[Child(id=1), Child(id=2)]))
    parent.children.pop()
    session.commit()
    assert history(session, Child, "id", "version", "parent_id") == [(2, 1, 1)]
    assert count(session, Child) == 1


def test_children_that_cascade_in_the_unit_of_work_leave_their_history(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Parent, Child = family(plain_bases(), engine, cascade="all, delete-orphan")
    parent = saved(session, Parent(id=1, children=[Child(id=1), Child(id=2)]))
    session.expunge_all()
    session.delete(session.get_one(Parent, 1))
    session.commit()
    assert history(session, Child, "id", "version", "parent_id") == [(1, 1, 1), (2, 1, 1)]
    assert parent is not None


@pytest.mark.parametrize("versioned_parent", [True, False])
def test_children_that_cascade_in_the_database_leave_their_history(
    plain_bases: Any, engine: Engine, session: Session, versioned_parent: bool
) -> None:
    # ``passive_deletes`` and ``ON DELETE CASCADE``: the unit of work does not see these deletions, two levels deep.
    Base = plain_bases()
    mixins = (Versioned, Base) if versioned_parent else (Base,)

    class Parent(*mixins):  # type: ignore[misc]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list[Child]] = relationship("Child", passive_deletes="all")

    class Child(Versioned, Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))
        toys: Mapped[list[Toy]] = relationship("Toy", passive_deletes="all")

    class Toy(Versioned, Base):
        __tablename__ = "toy"
        id: Mapped[int] = mapped_column(primary_key=True)
        child_id: Mapped[int] = mapped_column(ForeignKey("child.id", ondelete="CASCADE"))

    Base.metadata.create_all(engine)
    session.add(Parent(id=1))
    session.add(Parent(id=2))
    session.flush()
    session.add_all(Child(id=number, name=f"c{number}", parent_id=1 + number % 2) for number in range(1, 5))
    session.flush()
    session.add_all(Toy(id=number, child_id=number) for number in range(1, 5))
    session.commit()
    session.expunge_all()
    session.delete(session.get_one(Parent, 1))
    session.commit()
    assert session.scalars(select(Child.id).order_by(Child.id)).all() == [1, 3]
    assert history(session, Child, "id", "version", "name") == [(2, 1, "c2"), (4, 1, "c4")]
    assert history(session, Toy, "id", "child_id") == [(2, 2), (4, 4)]


def test_children_whose_key_the_database_nulls_have_a_version_more(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # ``ON DELETE SET NULL`` changes rows without the unit of work, as CASCADE deletes them.
    Base = plain_bases()

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list[Child]] = relationship("Child", passive_deletes="all")

    class Child(Versioned, Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id", ondelete="SET NULL"))

    Base.metadata.create_all(engine)
    saved(session, Parent(id=1))
    saved(session, Child(id=1, parent_id=1))
    session.expunge_all()
    session.delete(session.get_one(Parent, 1))
    session.commit()
    child = session.get_one(Child, 1)
    assert (child.parent_id, child.version) == (None, 2)
    assert history(session, Child, "version", "parent_id") == [(1, 1)]


def test_a_change_made_in_a_listener_of_the_flush_is_a_version(Doc: Any, session: Session) -> None:
    @event.listens_for(session, "before_flush")
    def touch(session: Session, *_: object) -> None:
        for obj in session.dirty:
            obj.body = "touched"

    doc = saved(session, Doc(title="a"))
    doc.title = "b"
    session.commit()
    assert history(session, Doc, "version", "title", "body") == [(1, "a", None)]
    assert (doc.body, doc.version) == ("touched", 2)


# -- identity --------------------------------------------------------------------------------------


def natural(base: Any, engine: Engine) -> Any:
    Country = natural_docs(base)
    Country.metadata.create_all(engine)
    return Country


def test_a_natural_key_that_comes_back_goes_on_with_its_versions(bases: Any, engine: Engine, session: Session) -> None:
    Country = natural(bases(), engine)
    country = saved(session, Country(code="xx", name="a"))
    country.name = "b"
    session.commit()
    session.delete(country)
    session.commit()
    again = saved(session, Country(code="xx", name="c"))
    assert again.version == 3
    again.name = "d"
    session.commit()
    assert again.version == 4
    assert history(session, Country, "version", "name") == [(1, "a"), (2, "b"), (3, "c")]


def test_a_row_switch_in_one_flush_is_one_version(bases: Any, engine: Engine, session: Session) -> None:
    # Deleting an object and adding another under its key is an UPDATE of the row.
    Country = natural(bases(), engine)
    old = saved(session, Country(code="xx", name="a"))
    session.delete(old)
    new = Country(code="xx", name="b")
    session.add(new)
    session.commit()
    assert (new.name, new.version) == ("b", 2)
    assert history(session, Country, "version", "name") == [(1, "a")]


def test_a_row_switch_is_told_by_merge_as_well(bases: Any, engine: Engine, session: Session) -> None:
    Country = natural(bases(), engine)
    saved(session, Country(code="xx", name="a"))
    session.expunge_all()
    merged = session.merge(Country(code="xx", name="b"))
    session.commit()
    assert (merged.name, merged.version) == ("b", 2)
    assert history(session, Country, "version", "name") == [(1, "a")]


def test_a_primary_key_that_changes_keeps_the_history_of_the_old_one(
    bases: Any, engine: Engine, session: Session
) -> None:
    Country = natural(bases(), engine)
    country = saved(session, Country(code="xx", name="a"))
    country.name = "b"
    session.commit()
    country.code = "yy"
    session.commit()
    assert history(session, Country, "code", "version", "name") == [("xx", 1, "a"), ("xx", 2, "b")]
    country.name = "c"
    session.commit()
    country.code = "xx"
    session.commit()
    country.name = "d"
    session.commit()
    versions = history(session, Country, "code", "version")
    assert len(set(versions)) == len(versions)
    assert {("xx", 1), ("xx", 2)} < set(versions)


def test_keys_of_deleted_rows_are_not_given_out_again_by_sqlite(bases: Any, engine: Engine, session: Session) -> None:
    # With ``__table_args__`` in the class, upstream's ``sqlite_autoincrement`` is lost, and two histories merge.
    Base = bases()

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        __table_args__ = {"comment": "a comment"}
        id: Mapped[int] = mapped_column(primary_key=True, **({"init": False} if bases.kind == "dataclass" else {}))
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    first = saved(session, Thing(name="a"))
    key = first.id
    session.delete(first)
    session.commit()
    second = saved(session, Thing(name="b"))
    assert second.id != key


def test_a_composite_key(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Seat(Versioned, Base):
        __tablename__ = "seat"
        hall: Mapped[str] = mapped_column(String(5), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        guest: Mapped[str | None] = mapped_column(String(20), default=None)

    Base.metadata.create_all(engine)
    session.add_all([Seat(hall=hall, number=number) for hall in "ab" for number in (1, 2)])
    session.commit()
    seat = session.get_one(Seat, ("b", 1))
    seat.guest = "ann"
    session.commit()
    assert history(session, Seat, "hall", "number", "version", "guest") == [("b", 1, 1, None)]


# -- tables that the user defines ------------------------------------------------------------------


def test_several_versioned_classes_in_one_flush(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    def make(name: str) -> Any:
        return type(
            name,
            (Versioned, Base),
            {
                "__tablename__": name.lower(),
                "id": mapped_column(Integer, primary_key=True),
                "name": mapped_column(String(9)),
            },
        )

    classes = [make("A"), make("B"), make("C")]
    Base.metadata.create_all(engine)
    objects = [cls(id=number, name="a") for cls in classes for number in (1, 2)]
    session.add_all(objects)
    session.commit()
    for obj in objects[::2]:
        obj.name = "b"
    for obj in objects[1::2]:
        session.delete(obj)
    session.commit()
    for cls in classes:
        assert history(session, cls, "id", "version", "name") == [(1, 1, "a"), (2, 1, "a")]


def test_a_table_trigger_or_default_of_the_database_is_what_history_copies(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # The row is copied, not the values in the session.
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    doc = saved(session, Doc(title="a"))
    assert doc.title == "a"
    key = doc.id
    with session.no_autoflush:
        session.connection().execute(update(Doc.__table__).values(body="without the ORM"))
    doc.title = "b"
    session.commit()
    assert history(session, Doc, "id", "title", "body") == [(key, "a", "without the ORM")]


def test_exclude_leaves_a_column_out_of_the_history(bases: Any, engine: Engine, session: Session) -> None:
    # An excluded column is not in the history table, and a change of it alone makes no version.
    Base = bases()

    class Page(Versioned, Base):
        __tablename__ = "page"
        __versioned__ = VersionOptions(exclude=("cache",))
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))
        cache: Mapped[str | None] = mapped_column(String(20), default=None)

    Base.metadata.create_all(engine)
    assert "cache" not in history_table(Page).c
    page = saved(session, Page(id=1, title="a", cache="x"))
    page.cache = "y"
    session.commit()
    assert (page.version, history(session, Page)) == (1, [])
    page.title = "b"
    page.cache = "z"
    session.commit()
    assert (page.version, page.cache, history(session, Page, "title")) == (2, "z", ["a"])


def test_ignore_keeps_a_column_but_its_changes_make_no_version(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Page(Versioned, Base):
        __tablename__ = "page"
        __versioned__ = VersionOptions(ignore=("seen",))
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))
        seen: Mapped[int] = mapped_column(default=0)

    Base.metadata.create_all(engine)
    page = saved(session, Page(id=1, title="a"))
    page.seen = 5
    session.commit()
    assert (page.version, history(session, Page)) == (1, [])
    page.seen = 6
    page.title = "b"
    session.commit()
    assert (page.version, history(session, Page, "title", "seen")) == (2, [("a", 5)])


@pytest.mark.parametrize("option", ["exclude", "ignore"])
def test_options_that_name_no_column_are_refused_when_mapped(plain_bases: Any, option: str) -> None:
    from sqla_patterns.exceptions import PatternError

    Base = plain_bases()
    with pytest.raises(PatternError, match="nonsense"):

        class Page(Versioned, Base):
            __tablename__ = "page"
            __versioned__ = VersionOptions(**{option: ("nonsense",)})
            id: Mapped[int] = mapped_column(primary_key=True)


def test_the_history_class_can_be_queried_and_joined(Doc: Any, session: Session) -> None:
    doc = saved(session, Doc(title="a"))
    doc.title = "b"
    session.commit()
    DocHistory = history_class(Doc)
    found = session.execute(
        select(Doc.title, DocHistory.title).join(DocHistory, DocHistory.id == Doc.id).where(DocHistory.version == 1)
    ).all()
    assert [tuple(row) for row in found] == [("b", "a")]
    assert DocHistory.__name__ == "DocHistory"
    assert DocHistory is Doc.__history_mapper__.class_
