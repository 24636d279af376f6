"""What the cache does with a statement: key, tables, age, and whether caching it pays."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from sqla_patterns.caching import CacheEvent, FromCache
from sqla_patterns.demos.caching._environment import Address, CachingOptions, City, Person, PostalCode, Run, run_demo


def demonstrate(options: CachingOptions, run: Run) -> None:
    seen: list[str] = []

    @run.cache.events.listen
    def note(happened: CacheEvent) -> None:
        seen.append(happened.kind)

    by_city = (
        select(City.name, func.count(Person.id))
        .join(PostalCode, PostalCode.city_id == City.id)
        .join(Address, Address.postal_code_id == PostalCode.id)
        .join(Person)
        .group_by(City.name)
        .order_by(City.name)
        .options(FromCache())
    )
    session = run.session()
    plan = run.cache.explain(session, by_city)
    options.say(plan)
    assert len([tag for tag in plan.tags if tag.startswith("t:")]) == 4
    assert plan.worthwhile is not None

    locking = run.cache.explain(session, select(Person).with_for_update().options(FromCache()))
    options.say(locking.advice)
    assert locking.reason == "locks"

    session.add(Person(name="somebody new"))
    own = run.cache.explain(session, by_city)
    options.say(own.advice)
    assert own.reason == "own_writes"
    session.rollback()
    options.say("events:", ", ".join(seen))
    options.say(run.cache.stats)


def main(argv: Sequence[str] | None = None) -> int:
    return run_demo(__doc__, argv, demonstrate)
