"""``version``, ``valid_from``, ``revision_id``: their current values may be assigned, other values are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Mapped, Session, make_transient, mapped_column

from sqla_patterns.exceptions import StateError
from sqla_patterns.versioning import Versioned, versioning_disabled, versions
from tests._support import count_statements
from tests.versioning._models import docs, history, library, natural_docs


@pytest.fixture(name="Doc")
def _doc(bases: Any, engine: Engine) -> Any:
    Doc = docs(bases(), period=True)
    Doc.metadata.create_all(engine)
    return Doc


def stored(session: Session, cls: Any) -> Any:
    """Return an object at version 3."""
    obj = cls(title="a")
    session.add(obj)
    session.commit()
    for title in "bc":
        obj.title = title
        session.commit()
    return obj


def test_the_present_version_is_nothing(Doc: Any, session: Session, engine: Engine) -> None:
    doc = stored(session, Doc)
    assert doc.version == 3
    doc.version = 3
    doc.valid_from = doc.valid_from
    with count_statements(engine) as log:
        session.flush()
    assert not log, log.text


def test_the_present_version_of_an_expired_object_is_nothing(Doc: Any, session: Session) -> None:
    doc = stored(session, Doc)
    session.expire(doc)
    doc.version = 3
    session.commit()
    assert (doc.version, history(session, Doc, "version")) == (3, [1, 2])


def test_a_form_that_sends_the_present_state_back_as_text_is_taken(Doc: Any, session: Session) -> None:
    doc = stored(session, Doc)
    form = {"title": "d", "version": str(doc.version), "valid_from": doc.valid_from.isoformat()}
    for name, value in form.items():
        setattr(doc, name, value)
    session.commit()
    assert (doc.title, doc.version, history(session, Doc, "title")) == ("d", 4, ["a", "b", "c"])


@pytest.mark.parametrize("expired", [False, True])
def test_an_old_version_is_refused_and_nothing_is_written(
    Doc: Any, session: Session, engine: Engine, expired: bool
) -> None:
    doc = stored(session, Doc)
    (session.expire if expired else session.refresh)(doc)
    doc.title, doc.version = "a", 1
    with (
        count_statements(engine) as log,
        pytest.raises(StateError, match=r"of Doc \(1,\) version was set to 1 and is 3"),
    ):
        session.flush()
    assert log.starting("INSERT", "UPDATE", "DELETE") == []
    session.rollback()
    doc.title = "d"
    session.commit()
    assert (doc.version, history(session, Doc, "title")) == (4, ["a", "b", "c"])


def test_the_way_out_of_the_error_works(Doc: Any, session: Session) -> None:
    doc = stored(session, Doc)
    doc.title, doc.version = "d", 9
    with pytest.raises(StateError, match="expire"):
        session.flush()
    session.expire(doc, ["version"])
    session.commit()
    assert (doc.title, doc.version) == ("d", 4)


def test_another_moment_is_refused(Doc: Any, session: Session) -> None:
    doc = stored(session, Doc)
    doc.valid_from = datetime(2001, 1, 1, tzinfo=UTC)
    with pytest.raises(StateError, match="valid_from"):
        session.flush()


def test_another_revision_is_refused(plain_bases: Any, engine: Engine, session: Session) -> None:
    world = library(plain_bases())
    world.metadata.create_all(engine)
    author = world.Author(id=1, name="a")
    session.add(author)
    session.commit()
    author.revision_id = 77
    with pytest.raises(StateError, match="revision_id"):
        session.flush()


def test_a_listener_that_sets_the_version_after_the_librarys_is_refused(Doc: Any, session: Session) -> None:
    doc = stored(session, Doc)

    @event.listens_for(session, "before_flush")
    def set_back(*_: object) -> None:
        doc.version = 1

    doc.title = "d"
    with pytest.raises(StateError, match="version was set to 1"):
        session.flush()


def test_a_stale_object_that_is_merged_is_refused(Doc: Any, session: Session, engine: Engine) -> None:
    doc = stored(session, Doc)
    session.refresh(doc)
    session.expunge(doc)
    with Session(engine) as other:
        other.get_one(Doc, doc.id).title = "theirs"
        other.commit()
    session.rollback()
    doc.title = "mine"
    session.merge(doc)
    with pytest.raises(StateError, match="version was set to 3 and is 4"):
        session.flush()


def test_repairs_may_set_it(Doc: Any, session: Session) -> None:
    doc = stored(session, Doc)
    with versioning_disabled(session):
        doc.version = 7
    session.commit()
    assert (doc.version, history(session, Doc, "version")) == (7, [1, 2])


def test_a_constructor_that_names_a_version_is_not_believed(plain_bases: Any, engine: Engine, session: Session) -> None:
    Country = natural_docs(plain_bases())
    Country.metadata.create_all(engine)
    both = [Country(code="at", name="a", version=7), Country(code="be", name="b", version=8)]
    session.add_all(both)
    session.commit()
    both[0].name = "c"
    session.commit()
    assert [each.version for each in both] == [2, 1]
    assert history(session, Country, "code", "version") == [("at", 1)]


@pytest.mark.parametrize("optimistic", [False, True])
def test_a_clone_begins_at_one(plain_bases: Any, engine: Engine, session: Session, optimistic: bool) -> None:
    class Doc(Versioned, plain_bases()):
        __tablename__ = "doc"
        use_mapper_versioning = optimistic
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column()

    Doc.__table__.c.title.type.length = 20  # type: ignore[attr-defined]
    Doc.metadata.create_all(engine)
    clone: Any = stored(session, Doc)
    session.refresh(clone)
    make_transient(clone)
    clone.id = None
    session.add(clone)
    session.commit()
    assert [(version.number, version.object.title) for version in versions(session, clone)] == [(1, "c")]


def test_a_new_object_in_the_place_of_a_deleted_one_goes_on_whatever_it_says(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Country = natural_docs(plain_bases())
    Country.metadata.create_all(engine)
    session.add_all([Country(code="at", name="a"), Country(code="be", name="b")])
    session.commit()
    for old in session.query(Country).all():
        session.delete(old)
    session.add_all([Country(code="at", name="c", version=9), Country(code="be", name="d", version=9)])
    session.commit()
    assert [each.version for each in session.query(Country).all()] == [2, 2]
    session.delete(session.get_one(Country, "at"))
    session.commit()
    session.add(Country(code="at", name="e", version=9))
    session.commit()
    assert session.get_one(Country, "at").version == 3
