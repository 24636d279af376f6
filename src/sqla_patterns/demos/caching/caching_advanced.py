"""A statement and its lazy loads from the cache; one collection, or all of them, are invalidated.

It follows SQLAlchemy's ``examples/dogpile_caching/advanced.py``, whose invalidation of collections has no effect.
Here it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from sqla_patterns.caching import FromCache, RelationshipCache
from sqla_patterns.demos.caching._environment import (
    Address,
    CachingOptions,
    Person,
    Run,
    cache_address_bits,
    run_demo,
)


def demonstrate(options: CachingOptions, run: Run) -> None:
    def load_name_range(start: int, end: int, invalidate: bool = False) -> list[str]:
        statement = (
            select(Person)
            .where(Person.name.between(f"person {start:02}", f"person {end:02}"))
            .order_by(Person.name)
            .options(cache_address_bits)
            .options(FromCache("default", "name_range"))
            .options(RelationshipCache(Person.addresses, "default"))
        )
        if invalidate:
            run.cache.invalidate(statement, {}, FromCache("default", "name_range"))
            run.cache.invalidate(statement, {}, RelationshipCache(Person.addresses, "default"))
        run.statements()
        lines = [str(person) for person in run.session.scalars(statement)]
        run.session.remove()
        return lines

    options.say(f"two to twelve: {len(load_name_range(2, 12))} people, {run.statements()} statements")
    load_name_range(2, 12)
    again = run.statements()
    options.say(f"again: {again} statements")
    assert again == 0
    load_name_range(2, 12, invalidate=True)
    after = run.statements()
    options.say(f"after invalidate() of the statement and of the collections: {after} statements")
    assert after == 1 + 11

    # One collection of one object.
    person = run.session.scalars(select(Person).where(Person.name == "person 05")).one()
    run.cache.invalidate_relationship(person, Person.addresses)
    run.session.remove()
    load_name_range(2, 12)
    one = run.statements()
    options.say(f"after invalidate_relationship(): {one} statement")
    assert one == 1

    # A write needs no call.
    address = run.session.scalars(select(Address).order_by(Address.id)).first()
    assert address is not None
    address.street = "street 01" if address.street.endswith("!") else "street 01!"
    run.session.commit()
    load_name_range(2, 12)
    written = run.statements()
    options.say(f"after a write to the table of addresses: {written} statements, the persons are still cached")
    assert written == 11
    options.say(run.cache.stats)


def main(argv: Sequence[str] | None = None) -> int:
    return run_demo(__doc__, argv, demonstrate)
