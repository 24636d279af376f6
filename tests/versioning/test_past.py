"""Reading the past: `versions`, `version_at`, `as_of`, `diff`, and the objects that they return."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import JSON, Engine, ForeignKey, LargeBinary, String, delete, func, inspect, select, update
from sqlalchemy.orm import Mapped, Session, aliased, deferred, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from sqla_patterns.exceptions import InvalidArgumentError, PatternError
from sqla_patterns.versioning import Version, Versioned, VersionOptions, as_of, diff, version_at, versions
from tests._support import count_statements
from tests.versioning._models import LONG_AGO, TICK, count, docs, tick


@pytest.fixture(name="Doc")
def _doc(bases: Any, engine: Engine) -> Any:
    Doc = docs(bases(), period=True, operation=True)
    Doc.metadata.create_all(engine)
    return Doc


@pytest.fixture
def story(Doc: Any, session: Session) -> SimpleNamespace:
    """Insert a document that was a, b and c and then was deleted, and one that still exists; with the times between."""
    before = tick()
    doc, other = Doc(title="a", body="x"), Doc(title="other")
    session.add_all([doc, other])
    session.commit()
    key = doc.id
    moments, edges = [tick()], [doc.valid_from]
    for title in "bc":
        doc.title = title
        session.commit()
        moments.append(tick())
        edges.append(doc.valid_from)
    session.delete(doc)
    session.commit()
    gone = tick()
    return SimpleNamespace(
        Doc=Doc, doc=doc, other=other, key=key, before=before, moments=moments, edges=edges, gone=gone
    )


# -- versions ------------------------------------------------------------------------------------


def test_versions_are_oldest_first_with_the_current_one_last(Doc: Any, session: Session, engine: Engine) -> None:
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    for title in "bc":
        doc.title = title
        session.commit()
    found = versions(session, doc)
    assert [version.number for version in found] == [1, 2, 3]
    assert [version.object.title for version in found] == ["a", "b", "c"]
    assert [version.operation for version in found] == ["update", "update", None]
    assert all(isinstance(version, Version) for version in found)
    assert all(type(version.object) is Doc for version in found)
    assert found[0].changed is not None
    assert found[0].changed <= found[1].changed
    assert [version.revision for version in found] == [None, None, None]
    session.refresh(doc)
    with count_statements(engine) as log:
        versions(session, doc)
    assert len(log) <= 2, log.text


def test_versions_of_an_object_that_never_changed(Doc: Any, session: Session) -> None:
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    (only,) = versions(session, doc)
    assert (only.number, only.object.title, only.operation) == (1, "a", None)


def test_versions_of_a_deleted_object_are_its_history(story: Any, session: Session) -> None:
    found = versions(session, story.doc)
    assert [(version.number, version.object.title, version.operation) for version in found] == [
        (1, "a", "update"), (2, "b", "update"), (3, "c", "delete"),
    ]  # fmt: skip


def test_versions_without_any_option(bases: Any, engine: Engine, session: Session) -> None:
    # Upstream's columns alone are enough for `versions` and `diff`.
    Doc = docs(bases())
    Doc.metadata.create_all(engine)
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    doc.title = "b"
    session.commit()
    one, two = versions(session, doc)
    assert (one.number, one.object.title, one.operation, one.revision) == (1, "a", None, None)
    assert diff(one, two) == {"title": ("a", "b")}


def test_versions_of_an_object_that_is_not_stored_is_refused(Doc: Any, session: Session) -> None:
    with pytest.raises(PatternError, match="Doc"):
        versions(session, Doc(title="a"))


def test_versions_sees_what_is_pending(Doc: Any, session: Session) -> None:
    # As any query, it flushes first.
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    doc.title = "b"
    assert [version.object.title for version in versions(session, doc)] == ["a", "b"]


# -- version_at ----------------------------------------------------------------------------------


def test_version_at_every_moment(story: Any, session: Session) -> None:
    at = lambda moment: version_at(session, story.Doc, story.key, moment)  # noqa: E731
    assert at(LONG_AGO) is None
    assert at(story.before) is None
    assert [at(moment).title for moment in story.moments] == ["a", "b", "c"]
    assert at(story.gone) is None
    assert at(story.gone + timedelta(days=365)) is None


def test_bounds_are_half_open(story: Any, session: Session) -> None:
    # From its first microsecond up to, and without, the first one of the next version.
    for number, edge in enumerate(story.edges):
        before, at = (version_at(session, story.Doc, story.key, when) for when in (edge - TICK, edge))
        assert at.title == "abc"[number]
        assert (None if before is None else before.title) == ([None, "a", "b"][number])
    deleted = versions(session, story.doc)[-1].changed
    assert version_at(session, story.Doc, story.key, deleted - TICK).title == "c"
    assert version_at(session, story.Doc, story.key, deleted) is None


def test_version_at_of_another_time_zone(story: Any, session: Session) -> None:
    from datetime import timezone

    moment = story.moments[1].astimezone(timezone(timedelta(hours=-7)))
    assert version_at(session, story.Doc, story.key, moment).title == "b"
    assert [each.title for each in as_of(session, select(story.Doc).order_by(story.Doc.id), moment)] == ["b", "other"]


def test_a_day_is_refused_as_a_moment(story: Any, session: Session) -> None:
    day: Any = date(2026, 1, 1)
    with pytest.raises(InvalidArgumentError, match="no datetime"):
        version_at(session, story.Doc, story.key, day)
    with pytest.raises(InvalidArgumentError, match="no datetime"):
        as_of(session, select(story.Doc), day)


def test_a_naive_moment_is_refused(story: Any, session: Session) -> None:
    # A time without a time zone is ambiguous.
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(PatternError, match=r"time.?zone|aware|naive"):
        version_at(session, story.Doc, story.key, naive)
    with pytest.raises(PatternError, match=r"time.?zone|aware|naive"):
        as_of(session, select(story.Doc), naive)


def test_the_past_needs_a_period(plain_bases: Any, engine: Engine, session: Session) -> None:
    Doc = docs(plain_bases())
    Doc.metadata.create_all(engine)
    with count_statements(engine) as log:
        with pytest.raises(PatternError, match="period=True"):
            version_at(session, Doc, 1, tick())
        with pytest.raises(PatternError, match="period=True"):
            as_of(session, select(Doc), tick())
    assert not log


def test_version_at_costs_one_statement(story: Any, session: Session, engine: Engine) -> None:
    session.commit()
    with count_statements(engine) as log:
        version_at(session, story.Doc, story.key, story.moments[0])
    assert len(log) == 1, log.text


def test_version_at_by_a_composite_key(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Seat(Versioned, Base):
        __tablename__ = "seat"
        __versioned__ = VersionOptions(period=True)
        hall: Mapped[str] = mapped_column(String(5), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        guest: Mapped[str | None] = mapped_column(String(20), default=None)

    Base.metadata.create_all(engine)
    seat = Seat(hall="a", number=1, guest="ann")
    session.add(seat)
    session.commit()
    moment = tick()
    seat.guest = None
    session.commit()
    assert version_at(session, Seat, ("a", 1), moment).guest == "ann"
    assert version_at(session, Seat, ("a", 2), moment) is None
    with pytest.raises(PatternError):
        version_at(session, Seat, "a", moment)


def test_a_key_that_was_used_twice(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Country(Versioned, Base):
        __tablename__ = "country"
        __versioned__ = VersionOptions(period=True)
        code: Mapped[str] = mapped_column(String(2), primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    session.add(Country(code="xx", name="first"))
    session.commit()
    first = tick()
    session.delete(session.get_one(Country, "xx"))
    session.commit()
    between = tick()
    session.add(Country(code="xx", name="second"))
    session.commit()
    second = tick()
    found = [version_at(session, Country, "xx", moment) for moment in (first, between, second)]
    assert [each and each.name for each in found] == ["first", None, "second"]
    assert [len(as_of(session, select(Country), moment)) for moment in (first, between, second)] == [1, 0, 1]


# -- as_of ---------------------------------------------------------------------------------------


def test_as_of_meets_criteria_at_that_moment(story: Any, session: Session) -> None:
    Doc = story.Doc
    for moment, title in zip(story.moments, "abc", strict=True):
        for wanted in "abc":
            found = as_of(session, select(Doc).where(Doc.title == wanted), moment)
            assert [each.title for each in found] == ([title] if wanted == title else [])
        assert [each.title for each in as_of(session, select(Doc).order_by(Doc.id), moment)] == [title, "other"]
    assert [each.title for each in as_of(session, select(Doc), story.gone)] == ["other"]
    assert as_of(session, select(Doc), story.before) == []


def test_as_of_orders_limits_and_filters_as_the_statement_says(Doc: Any, session: Session) -> None:
    session.add_all([Doc(title=f"t{number}", body="even" if number % 2 == 0 else None) for number in range(6)])
    session.commit()
    moment = tick()
    session.execute(update(Doc).values(title="later"))
    session.execute(delete(Doc).where(Doc.body.is_(None)))
    session.commit()
    statement = select(Doc).where(Doc.body == "even").order_by(Doc.title.desc()).limit(2).offset(1)
    assert [each.title for each in as_of(session, statement, moment)] == ["t2", "t0"]
    assert [each.title for each in as_of(session, select(Doc).filter_by(title="t3"), moment)] == ["t3"]
    statement = select(Doc).where(func.upper(Doc.title).in_(["T1", "T2"])).order_by(Doc.id)
    assert [each.title for each in as_of(session, statement, moment)] == ["t1", "t2"]


def test_as_of_is_one_statement(story: Any, session: Session, engine: Engine) -> None:
    session.commit()
    with count_statements(engine) as log:
        found = as_of(session, select(story.Doc), story.moments[0])
        assert sorted(str(each.body) for each in found) == ["None", "x"]
    assert len(log) == 1, log.text


def test_as_of_takes_subqueries_to_that_moment_too(story: Any, session: Session) -> None:
    # ``Doc.id IN (SELECT ... FROM doc)`` reads the table twice, and both times as of the moment.
    Doc = story.Doc
    Other = aliased(Doc)
    statement = select(Doc).where(Doc.id.in_(select(Other.id).where(Other.title == "a")))
    assert [each.title for each in as_of(session, statement, story.moments[0])] == ["a"]


def test_as_of_refuses_to_select_an_alias(story: Any, session: Session) -> None:
    Other = aliased(story.Doc)
    with pytest.raises(PatternError, match="wants a SELECT of one versioned class"):
        as_of(session, select(Other).where(Other.title == "a"), story.moments[0])


@pytest.mark.parametrize("what", ["columns", "two", "core", "count"])
def test_as_of_refuses_what_selects_no_versioned_class(story: Any, session: Session, what: str) -> None:
    Doc = story.Doc
    statement: Any = {
        "columns": select(Doc.title),
        "two": select(Doc, Doc.title),
        "core": select(Doc.__table__),
        "count": select(func.count()),
    }[what]
    with pytest.raises(PatternError):
        as_of(session, statement, story.moments[0])


def test_as_of_across_a_join(plain_bases: Any, engine: Engine, session: Session) -> None:
    # The joined class is read as of the same moment.
    Base = plain_bases()

    class Author(Versioned, Base):
        __tablename__ = "author"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Book(Versioned, Base):
        __tablename__ = "book"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20))
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author] = relationship(Author)

    Base.metadata.create_all(engine)
    ann = Author(id=1, name="ann")
    session.add(Book(id=1, title="t", author=ann))
    session.commit()
    moment = tick()
    ann.name = "anne"
    session.commit()
    for statement in (
        select(Book).join(Book.author).where(Author.name == "ann"),
        select(Book).where(Book.author.has(Author.name == "ann")),
        select(Book).where(Book.author_id == Author.id, Author.name == "ann"),
    ):
        assert [each.title for each in as_of(session, statement, moment)] == ["t"], statement


def test_as_of_does_not_see_the_session(story: Any, session: Session) -> None:
    # Pending changes are flushed, as by any query, and the object of the session is another one.
    story.other.title = "pending"
    assert [each.title for each in as_of(session, select(story.Doc), tick())] == ["other"]
    assert story.other not in session.dirty
    found = as_of(session, select(story.Doc), tick())
    assert [each.title for each in found] == ["pending"]
    assert found[0] is not story.other
    (old,) = [each for each in as_of(session, select(story.Doc), story.moments[0]) if each.id == story.other.id]
    assert old.title == "other"
    assert story.other.title == "pending"


# -- the objects ---------------------------------------------------------------------------------


def past_of(story: Any, session: Session) -> Any:
    return version_at(session, story.Doc, story.key, story.moments[0])


def test_past_objects_are_detached_instances_of_the_entity(story: Any, session: Session) -> None:
    past = past_of(story, session)
    assert type(past) is story.Doc
    assert past not in session
    assert inspect(past).detached
    assert len([each for each in session.identity_map.values() if each is past]) == 0
    assert past_of(story, session) is not past
    assert past.version == 1


def test_past_objects_are_fully_loaded(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class File(Versioned, Base):
        __tablename__ = "file"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        content: Mapped[bytes] = deferred(mapped_column(LargeBinary))
        data: Mapped[Any] = mapped_column(JSON)

    Base.metadata.create_all(engine)
    file = File(id=1, name="a", content=b"123", data={"k": [1]})
    session.add(file)
    session.commit()
    moment = tick()
    file.content, file.data = b"456", {"k": [2]}
    session.commit()
    found = [
        version_at(session, File, 1, moment),
        *as_of(session, select(File), moment),
        versions(session, file)[0].object,
    ]
    session.close()
    for past in found:
        assert (past.name, past.content, past.data) == ("a", b"123", {"k": [1]})


def test_past_objects_are_refused_by_every_session(story: Any, session: Session, engine: Engine) -> None:
    for past in (
        past_of(story, session),
        as_of(session, select(story.Doc), story.moments[0])[0],
        versions(session, story.doc)[0].object,
    ):
        with pytest.raises(PatternError, match=r"Doc"):
            session.add(past)
        with Session(engine) as other, pytest.raises(PatternError):
            other.add(past)
        with pytest.raises(PatternError):
            session.add_all([past])
        with pytest.raises(PatternError):
            session.delete(past)
    session.commit()
    assert count(session, story.Doc) == 1


def test_past_objects_are_refused_by_cascades(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(20), default="a")

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        doc_id: Mapped[int | None] = mapped_column(ForeignKey("doc.id"))
        doc: Mapped[Doc | None] = relationship(Doc)

    Base.metadata.create_all(engine)
    doc = Doc(id=1)
    session.add(doc)
    session.commit()
    past = versions(session, doc)[0].object
    with pytest.raises(PatternError):
        session.add(Note(id=1, doc=past))
        session.flush()


def test_past_objects_are_read_only(story: Any, session: Session) -> None:
    past = past_of(story, session)
    with pytest.raises(PatternError, match="title"):
        past.title = "forged"
    with pytest.raises(PatternError):
        del past.title
    assert past.title == "a"
    story.other.title = "the living may change"
    session.commit()


def test_past_objects_do_not_pretend_to_know_the_relations_of_today(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Book(Versioned, Base):
        __tablename__ = "book"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author | None] = relationship(Author)

    Base.metadata.create_all(engine)
    ann, bob = Author(id=1, name="ann"), Author(id=2, name="bob")
    book = Book(id=1, author=ann)
    session.add_all([book, bob])
    session.commit()
    moment = tick()
    book.author = bob
    session.commit()
    past = version_at(session, Book, 1, moment)
    assert past.author_id == 1
    with pytest.raises(DetachedInstanceError):  # not in the history, so not loaded
        _ = past.author


# -- diff ----------------------------------------------------------------------------------------


def test_diff_names_what_differs(Doc: Any, session: Session) -> None:
    doc = Doc(title="a", body="x")
    session.add(doc)
    session.commit()
    doc.title = "b"
    session.commit()
    doc.title, doc.body = "c", None
    session.commit()
    one, two, three = versions(session, doc)
    assert diff(one, two) == {"title": ("a", "b")}
    assert diff(two, three) == {"title": ("b", "c"), "body": ("x", None)}
    assert diff(one, three) == {"title": ("a", "c"), "body": ("x", None)}
    assert diff(three, one) == {"title": ("c", "a"), "body": (None, "x")}
    assert diff(one, one) == {}


def test_diff_takes_objects_and_versions(Doc: Any, session: Session) -> None:
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    moment = tick()
    doc.title = "b"
    session.commit()
    one, two = versions(session, doc)
    past = version_at(session, Doc, doc.id, moment)
    for old in (one, one.object, past):
        for new in (two, two.object, doc):
            assert diff(old, new) == {"title": ("a", "b")}


def test_diff_of_different_classes_is_refused(Doc: Any, plain_bases: Any, session: Session) -> None:
    Other = docs(plain_bases())
    with pytest.raises(PatternError):
        diff(Doc(title="a"), Other(title="a"))


def test_diff_compares_by_value_and_by_attribute(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Thing(Versioned, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column("name", String(20))
        data: Mapped[Any] = mapped_column(JSON)

    Base.metadata.create_all(engine)
    thing = Thing(id=1, label="a", data={"k": 1})
    session.add(thing)
    session.commit()
    thing.label, thing.data = "b", {"k": 1}
    session.commit()
    one, two = versions(session, thing)
    assert diff(one, two) == {"label": ("a", "b")}


def test_versions_are_values(Doc: Any, session: Session) -> None:
    doc = Doc(title="a")
    session.add(doc)
    session.commit()
    version = versions(session, doc)[0]
    with pytest.raises((AttributeError, TypeError)):
        version.number = 5
