"""Show the history of articles: edits, a bulk update, who made them, differences, the past, and undoing a deletion.

It begins like SQLAlchemy's ``examples/versioned_history``, and goes further: the history is written in every session,
also for bulk statements; each version names who made it; and objects from the past are instances of the mapped class.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import JSON, Engine, String, delete, select, update
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.versioning import (
    PastObjectError,
    RevisionLog,
    Version,
    Versioned,
    VersionOptions,
    as_of,
    diff,
    erase,
    prune,
    restore,
    revert,
    revision,
    version_at,
    versions,
)


class Base(DeclarativeBase):
    pass


class Revision(RevisionLog, Base):
    __tablename__ = "versioning_revision"


class Article(Versioned, Base):
    __tablename__ = "versioning_article"
    __versioned__ = VersionOptions(period=True, operation=True, revision=Revision, ignore=("clicks",))

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))
    section: Mapped[str] = mapped_column(String(20))
    facts: Mapped[dict[str, str]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    clicks: Mapped[int] = mapped_column(default=0)


def moment() -> datetime:
    """Return the present time, which differs from that of every change before and after."""
    time.sleep(0.002)
    now = datetime.now(UTC)
    time.sleep(0.002)
    return now


def line(version: Version[Article]) -> str:
    made, ended = version.revision, version.ended_by
    by = made.actor if made is not None else None
    end = f", {version.operation} by {ended.actor}" if ended is not None else ""
    return f"  {version.number}: {version.object.title!r} in {version.object.section}, by {by}{end}"


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        key, morning = _write(engine)
        _look_back(options, engine, key, morning)
        _go_back(options, engine, key)
    return 0


def _write(engine: Engine) -> tuple[int, datetime]:
    """Insert, edit and delete articles, each in the name of another person; return a key and a time in between."""
    with Session(engine) as session:
        with revision(session, actor="ann", reason="first draft"):
            article = Article(title="A Bridge Falls", section="news", facts={"river": "Tay"})
            session.add_all([article, Article(title="Rain Again", section="weather")])
            session.commit()
        key = article.id
        morning = moment()

        with revision(session, actor="bob", request_id="r-17", reason="the desk asked for it"):
            article.title = "The Bridge Has Fallen"
            article.facts["year"] = "1879"  # changed in place
            session.commit()
        assert article.version == 2
        article.title = article.title  # nothing changes, so there is no version
        article.clicks += 100  # and of clicks alone there is none either
        session.commit()
        assert article.version == 2

        with revision(session, actor="desk", reason="sections have new names"):
            session.execute(update(Article).where(Article.section == "news").values(section="home"))
            session.commit()
        with revision(session, actor="eve"):
            session.execute(delete(Article))
            session.commit()
    return key, morning


def _look_back(options: DemoOptions, engine: Engine, key: int, morning: datetime) -> None:
    with Session(engine) as session:
        found = versions(session, Article, key)
        options.say("everything that the article has been:")
        for version in found:
            options.say(line(version))
        assert [version.operation for version in found] == ["update", "update", "delete"]
        assert [version.ended_by.actor if version.ended_by else None for version in found] == ["bob", "desk", "eve"]

        changes = diff(found[0], found[1])
        options.say("what bob changed:", changes)
        assert changes["title"] == ("A Bridge Falls", "The Bridge Has Fallen")
        assert changes["facts"] == ({"river": "Tay"}, {"river": "Tay", "year": "1879"})

        past = as_of(session, select(Article).where(Article.section == "news"), morning)
        options.say("the news of that morning:", [article.title for article in past])
        assert [article.title for article in past] == ["A Bridge Falls"]
        assert version_at(session, Article, key, moment()) is None
        try:
            session.add(past[0])
        except PastObjectError as error:
            options.say("the past cannot be added:", error)
        else:
            raise SystemExit("an object of the past was added to a session")


def _go_back(options: DemoOptions, engine: Engine, key: int) -> None:
    with Session(engine) as session:
        with revision(session, actor="ann", reason="it was not eve's to delete"):
            article = restore(session, Article, key)
            revert(session, article, to=2)
            session.commit()
        options.say("back again:", repr(article.title), "in", article.section, "as version", article.version)
        assert (article.title, article.section) == ("The Bridge Has Fallen", "news")

        removed = prune(session, Article, keep=1)
        session.commit()
        kept = versions(session, article)
        options.say(f"pruned {removed} rows; left:")
        for version in kept:
            options.say(line(version))

        erase(session, Article, key)
        session.commit()
        assert len(versions(session, Article, key)) == 0
        options.say("and erased: no row of it is left, in the table or in its history")
