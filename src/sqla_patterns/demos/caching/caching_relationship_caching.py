"""Lazy loads of related objects from the cache, in batches of one look-up.

It follows SQLAlchemy's ``examples/dogpile_caching/relationship_caching.py``: one statement loads persons and addresses,
and the postal code, city and country of each address come from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from sqla_patterns.demos.caching._environment import CachingOptions, Person, Run, cache_address_bits, run_demo


def demonstrate(options: CachingOptions, run: Run) -> None:
    statement = select(Person).options(joinedload(Person.addresses), cache_address_bits).order_by(Person.id)
    for what in ("postal codes, cities and countries as they are needed", "the same in a new session"):
        run.statements()
        run.cache.stats.reset()
        people = run.session.scalars(statement).unique().all()
        lines = [str(person) for person in people]
        run.session.remove()
        sent, stats = run.statements(), run.cache.stats
        options.say(f"{what}: {sent} statements, {stats.hits} lazy loads from the cache, {stats.misses} not")
    options.say(lines[0])
    assert len(lines) == 50
    assert sent == 1


def main(argv: Sequence[str] | None = None) -> int:
    return run_demo(__doc__, argv, demonstrate)
