"""A cache that exists as long as the session.

It follows SQLAlchemy's ``examples/dogpile_caching/local_session_caching.py``, for any session and not only for a
``scoped_session``.
"""

from __future__ import annotations

from collections.abc import Sequence

from dogpile.cache import make_region
from sqlalchemy import select

from sqla_patterns.caching import FromCache, register_session_backend
from sqla_patterns.demos.caching._environment import CachingOptions, Person, Run, run_demo


def demonstrate(options: CachingOptions, run: Run) -> None:
    register_session_backend("sqlalchemy.session")
    run.regions["local_session"] = make_region().configure("sqlalchemy.session")
    statement = select(Person).where(Person.name == "person 10").options(FromCache("local_session"))

    run.statements()
    person = run.session.scalars(statement).one()
    assert run.session.scalars(statement).one() is person
    sent = run.statements()
    options.say(f"twice in one session: {sent} statement, and the same object")
    assert sent == 1

    run.session.remove()
    run.session.scalars(statement).one()
    sent = run.statements()
    options.say(f"in the next session: {sent} statement")
    assert sent == 1

    person = run.session.scalars(statement).one()
    person.name = "somebody else"
    run.session.flush()
    assert run.session.scalars(statement).one_or_none() is None
    options.say("after a change of its own the session asks the database:", dict(run.cache.stats.bypasses))
    run.session.rollback()


def main(argv: Sequence[str] | None = None) -> int:
    return run_demo(__doc__, argv, demonstrate)
