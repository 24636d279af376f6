"""Statements answered from a cache, and the effect of a write.

It follows SQLAlchemy's ``examples/dogpile_caching/helloworld.py``, and adds what that leaves to the user: a write ends
the entries that it concerns, at its commit, without a call.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select, true, update

from sqla_patterns.caching import FromCache
from sqla_patterns.demos.caching._environment import CachingOptions, Person, Run, run_demo


def between(first: int, last: int) -> ColumnElement[bool]:
    return Person.name.between(f"person {first:02}", f"person {last:02}")


def demonstrate(options: CachingOptions, run: Run) -> None:
    def load(what: str, criterion: ColumnElement[bool]) -> list[str]:
        statement = select(Person).where(criterion).order_by(Person.id).options(FromCache("default"))
        names = [person.name for person in run.session.scalars(statement)]
        run.session.remove()
        options.say(f"{what}: {len(names)} people, {run.statements()} statements")
        return names

    everybody = true()
    run.statements()
    load("everybody", everybody)
    again = load("everybody again, in a new session", everybody)
    assert run.cache.stats.hits >= 1
    # Other parameters, another entry.
    assert len(load("two to twelve", between(2, 12))) == 11
    assert len(load("five to fifteen", between(5, 15))) == 11
    assert len(load("two to twelve again", between(2, 12))) == 11

    options.say("person 50 changes the name, by a bulk update")
    name = "Fifty" if "person 50" in again else "person 50"
    run.session.execute(update(Person).where(Person.id == 50).values(name=name))
    run.session.commit()
    run.statements()
    assert load("everybody, as it is now", everybody)[-1] == name

    options.say("a write that the cache cannot see, such as one of an administrator's script, is announced")
    hits = run.cache.stats.hits
    run.cache.invalidate(run.session().query(Person).where(everybody).order_by(Person.id))
    load("everybody, after invalidate()", everybody)
    assert run.cache.stats.hits == hits
    load("five to fifteen, which was not meant", between(5, 15))


def main(argv: Sequence[str] | None = None) -> int:
    return run_demo(__doc__, argv, demonstrate)
