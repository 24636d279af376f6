"""Count the versions of an object in a composite primary key, with one current row by a unique index.

It does what SQLAlchemy's ``examples/versioned_rows/versioned_rows_w_versionid.py`` does, and goes on: two writers, the
second flush of a transaction, a rollback, and a key that is used again.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, ForeignKeyConstraint, String, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.versioning import VersionedRow, pinned_relationship

HISTORY = {"include_history": True}


class Base(DeclarativeBase):
    pass


class Child(VersionedRow, Base):
    __tablename__ = "w_versionid_child"

    # Set by hand here; a UUID with a default is better where nothing else is at hand.
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[str] = mapped_column(String(20))


class Parent(Base):
    __tablename__ = "w_versionid_parent"
    __table_args__ = (
        ForeignKeyConstraint(
            ["child_id", "child_version_id"], ["w_versionid_child.id", "w_versionid_child.version_id"]
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    child_id: Mapped[int]
    child_version_id: Mapped[int]
    child: Mapped[Child] = pinned_relationship(
        lambda: Child, lambda: (Parent.child_id, Parent.child_version_id), follow=True
    )


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        _recipe(options, engine)
        _beyond(options, engine)
    return 0


def rows(session: Session) -> list[tuple[int, int, bool, str]]:
    """Return all rows of children: id, version, whether it is current, data."""
    statement = select(Child.id, Child.version_id, Child.is_current, Child.data).order_by(Child.id, Child.version_id)
    return [(row[0], row[1], row[2], row[3]) for row in session.execute(statement.execution_options(**HISTORY))]


def _recipe(options: DemoOptions, engine: Engine) -> None:
    """Make the assertions of the recipe."""
    with Session(engine) as session:
        child = Child(id=1, data="c1")
        session.add(child)
        session.commit()
        child.data = "c2"
        session.commit()
        assert rows(session) == [(1, 1, False, "c1"), (1, 2, True, "c2")]
        assert (child.id, child.version_id, child.is_current) == (1, 2, True)

        parent = Parent(child=Child(id=2, data="c1"))
        session.add(parent)
        session.commit()
        assert (parent.child_id, parent.child_version_id, parent.child.version_id) == (2, 1, 1)
        parent.child.data = "elvis presley"
        session.commit()
        options.say("the parent refers to version", parent.child_version_id)
        assert (parent.child_id, parent.child_version_id, parent.child.version_id) == (2, 2, 2)
        assert rows(session)[2:] == [(2, 1, False, "c1"), (2, 2, True, "elvis presley")]
        # Only the current version is found, without a subquery for the highest number.
        assert session.scalars(select(Child.data).order_by(Child.id)).all() == ["c2", "elvis presley"]


def _beyond(options: DemoOptions, engine: Engine) -> None:
    with Session(engine, expire_on_commit=False) as session:
        child = session.scalars(select(Child).where(Child.id == 1)).one()
        # One transaction makes one version, however often it flushes.
        child.data = "c3"
        session.flush()
        child.data = "c4"
        session.commit()
        assert (child.version_id, child.data) == (3, "c4")

        # After a rollback the object in hand is alive, and as it was.
        child.data = "lost"
        session.flush()
        session.rollback()
        assert (child in session, child.version_id, child.data) == (True, 3, "c4")

        # Whoever has not seen version 4 cannot write a version 4 of their own.
        session.commit()
        with Session(engine) as other:
            other.scalars(select(Child).where(Child.id == 1)).one().data = "theirs"
            other.commit()
        child.data = "mine"
        try:
            session.flush()
        except StaleDataError as error:
            options.say("refused:", error)
            session.rollback()
        else:
            raise SystemExit("a version was overwritten unseen")
        session.expunge_all()

    # The database keeps to one current row as well, whoever writes.
    try:
        with engine.begin() as connection:
            connection.execute(insert(Child).values(id=1, version_id=9, is_current=True, data="x"))
    except IntegrityError:
        options.say("the database refuses a second current row")
    else:
        raise SystemExit("an object has two current rows")

    with Session(engine) as session:
        session.delete(session.scalars(select(Child).where(Child.id == 1)).one())
        session.commit()
        session.add(Child(id=1, data="back"))
        session.commit()
        found = rows(session)[:5]
        for row in found:
            options.say(" ", *row)
        assert [(number, is_current) for _, number, is_current, _ in found] == [
            (1, False),
            (2, False),
            (3, False),
            (4, False),
            (5, True),
        ]
