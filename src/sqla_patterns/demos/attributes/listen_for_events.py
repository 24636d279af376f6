"""Every change to the objects of a base, in one function."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.attributes import AttributeChange, listen_for_changes
from sqla_patterns.demos._support import demo_engine, demo_options


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "demo_listen_member"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str | None] = mapped_column(String(50))
    stars: Mapped[int | None]
    related_id: Mapped[int | None] = mapped_column(ForeignKey("demo_listen_related.id"))
    related: Mapped[Related | None] = relationship(back_populates="mapped")

    def __repr__(self) -> str:
        return f"Member({inspect(self).dict.get('data')!r})"


class Related(Base):
    __tablename__ = "demo_listen_related"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str | None] = mapped_column(String(50))
    mapped: Mapped[list[Member]] = relationship(back_populates="related")

    def __repr__(self) -> str:
        return f"Related({inspect(self).dict.get('data')!r})"


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    changes: list[AttributeChange[Base]] = []

    def report(change: AttributeChange[Base]) -> None:
        changes.append(change)
        old = f", which replaces {change.old!r}" if change.old_known and change.verb == "set" else ""
        why = " (from the other end)" if change.propagated else ""
        options.say(f"{change.target!r}.{change.key}: {change.verb} {change.value!r}{old}{why}")

    def last() -> tuple[str, str, object, object]:
        change = changes[-1]
        return change.verb, change.key, change.old, change.value

    with (
        demo_engine(options, Base.metadata) as engine,
        Session(engine) as session,
        listen_for_changes(Base, report) as handle,
    ):
        related = Related(data="r1")
        first = Member(data="m1", stars=0, related=related)
        first.data = "m1mod"
        assert last() == ("set", "data", "m1", "m1mod")

        second = Member(data="m2")
        related.mapped.append(second)
        assert {(change.verb, change.key, change.propagated) for change in changes[-2:]} == {
            ("append", "mapped", False),
            ("set", "related", True),
        }

        # Where upstream stops: a falsy old value is one, and `del` is not a removal from a collection.
        first.stars = 5
        assert last() == ("set", "stars", 0, 5)
        del first.data
        assert last() == ("delete", "data", "m1mod", None)

        related.mapped = [first]
        assert [change.verb for change in changes[-3:] if change.key == "mapped"][-1] == "remove"

        # What was not loaded is said to be unknown, or loaded if you ask for that.
        session.add_all([first, second])
        session.commit()
        first.stars = 6
        assert (changes[-1].old, changes[-1].old_known) == (None, False)
        session.commit()
        known: list[AttributeChange[Member]] = []
        with listen_for_changes(Member, known.append, keys=["stars"], active_history=True):
            first.stars = 7
        assert (known[0].old, known[0].old_known) == (6, True)

        handle.detach()
        count = len(changes)
        first.stars = 8
        assert len(changes) == count
        options.say(f"heard {count} changes")
    return 0
