"""A parent with 10,000 children as a dictionary: each lookup is one statement, whatever the size."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, ForeignKey, String, UniqueConstraint, event, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.dicts import write_only_dict
from sqla_patterns.exceptions import KeyMismatchError


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "demo_dynamic_dict_parent"

    id: Mapped[int] = mapped_column(primary_key=True)
    children: WriteOnlyMapped[Child] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    by_key = write_only_dict("children", lambda: Child, lambda: Child.key)


class Child(Base):
    __tablename__ = "demo_dynamic_dict_child"
    __table_args__ = (UniqueConstraint("parent_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey(Parent.id, ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(30))
    size: Mapped[int] = mapped_column(default=0)


@contextmanager
def counted(engine: Engine) -> Generator[list[str], None, None]:
    """Yield a list that collects the SQL statements of the block."""
    statements: list[str] = []

    def record(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        parent = Parent()
        session.add(parent)
        session.flush()
        rows = [{"parent_id": parent.id, "key": f"child {number}", "size": number} for number in range(10_000)]
        session.execute(insert(Child), rows)

        for title, ask in (
            ("len", lambda: len(parent.by_key)),
            ("in", lambda: "child 4711" in parent.by_key),
            ("[]", lambda: parent.by_key["child 4711"].size),
            ("get", lambda: parent.by_key.get("nobody")),
            ("pop", lambda: parent.by_key.pop("child 9999").size),
        ):
            session.flush()
            with counted(engine) as statements:
                answer = ask()
            options.say(f"{title:<4} {answer!s:<6} in {len(statements)} statement")
            assert len(statements) == 1

        # Add, replace and remove. The unique constraint sees the DELETE of a replaced row before the INSERT.
        parent.by_key["new"] = Child(key="new", size=1)
        parent.by_key["child 1"] = Child(key="child 1", size=-1)
        del parent.by_key["child 2"]
        parent.by_key.update({key: Child(key=key) for key in ("x", "y", "z")})
        session.commit()
        assert parent.by_key["child 1"].size == -1
        assert len(parent.by_key) == 10_000 - 1 + 1 - 1 + 3

        try:
            parent.by_key["zz"] = Child(key="other")
        except KeyMismatchError as error:
            options.say("refused:", str(error).partition(": ")[2])
        assert not session.new, "nothing is pending"

        # Iteration goes in pages, and the loop may execute other statements.
        total = sum(child.size for child in parent.by_key.values())
        options.say("sum of the sizes, never more than a page in memory:", total)
    return 0
