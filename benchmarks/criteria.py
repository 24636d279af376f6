"""Criteria: what an attached criterion, soft deletion and tenancy add to a warm one-row select.

Each contestant executes the same statement, built each time, as an application does; the reference has the
condition as a hand-written WHERE. sqlalchemy-easy-softdelete is raced where it is installed; it cannot be among the
dependencies, since it requires SQLAlchemy below 2.1. It has its own mixin and its own rewriter, whose listener is put
on the sessions of its contestant only.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast
from unittest import mock

import sqlalchemy
from _harness import Contestant, benchmark, verify
from sqlalchemy import Engine, ForeignKey, String, event, exists, select
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, Session, mapped_column, relationship, sessionmaker

from sqla_patterns.criteria import (
    GlobalCriteria,
    HasPrivate,
    SoftDelete,
    TenantScoped,
    _soft_statements,
    _tenant_statements,
    tenant_scope,
)

CALLS = 300
IS_21 = not sqlalchemy.__version__.startswith("2.0")


class Base(DeclarativeBase):
    pass


class _Columns:
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default="x")


class Plain(_Columns, Base):
    __tablename__ = "bench_plain"
    public: Mapped[bool] = mapped_column(default=True)
    owner: Mapped[str] = mapped_column(String(20), default="t")
    removed: Mapped[str | None] = mapped_column(String(20))


class Private(HasPrivate, _Columns, Base):
    __tablename__ = "bench_private"
    author_id: Mapped[int | None] = mapped_column(ForeignKey("bench_author.id"))


class Author(_Columns, Base):
    __tablename__ = "bench_author"
    posts: Mapped[list[Private]] = relationship()
    notes: Mapped[list[Soft]] = relationship()


class Soft(SoftDelete, _Columns, Base):
    __tablename__ = "bench_soft"
    author_id: Mapped[int | None] = mapped_column(ForeignKey("bench_author.id"))


def easy_soft_class() -> Any:
    """Map a class with the mixin of sqlalchemy-easy-softdelete."""
    from sqlalchemy_easy_softdelete.handler.rewriter import SoftDeleteQueryRewriter
    from sqlalchemy_easy_softdelete.mixin import generate_soft_delete_mixin_class

    # It would register a listener on the Session class, for all contestants.
    with mock.patch("sqlalchemy_easy_softdelete.mixin.activate_soft_delete_hook", SoftDeleteQueryRewriter):
        easy_soft_delete: Any = generate_soft_delete_mixin_class()

    class EasySoft(easy_soft_delete, _Columns, Base):  # type: ignore[misc]
        __tablename__ = "bench_easy_soft"
        author_id: Mapped[int | None] = mapped_column(ForeignKey("bench_author.id"))
        author: Mapped[Author] = relationship(backref="easy_notes")

    return EasySoft


def rewrite_easily(state: ORMExecuteState) -> None:
    """Do what the listener of sqlalchemy-easy-softdelete does."""
    if state.is_select:
        state.statement = EASY_SOFT._sqlalchemy_easy_softdelete_rewriter.rewrite_statement(state.statement)


class Scoped(TenantScoped, _Columns, Base):
    __tablename__ = "bench_scoped"


EASY_SOFT = easy_soft_class() if find_spec("sqlalchemy_easy_softdelete") else None
PUBLIC = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
Make = Callable[[], Any]


#: What mapping classes with the mixins has registered on the Session class. Each contestant has its own, and the
# references none.
LISTENERS = {
    "soft": [("do_orm_execute", _soft_statements.on_execute)],
    "tenant": [
        ("do_orm_execute", _tenant_statements.on_execute),
        ("after_begin", _tenant_statements.after_begin),
        ("after_attach", _tenant_statements.after_attach),
    ],
}


@contextmanager
def only(kind: str) -> Generator[None, None, None]:
    """Take the listeners of the other kinds away."""
    others = [each for name, listeners in LISTENERS.items() if name != kind for each in listeners]
    for name, listener in others:
        event.remove(Session, name, listener)
    try:
        yield
    finally:
        for name, listener in others:
            event.listen(Session, name, listener, insert=True)


def contestant(make: Make, kind: str = "none") -> Callable[[Engine], Contestant[int]]:
    def start(engine: Engine) -> Contestant[int]:
        maker = sessionmaker(engine)
        if kind == "global":
            PUBLIC.attach(maker)
        if kind == "easy":
            event.listen(maker, "do_orm_execute", rewrite_easily)
        with only(kind), maker() as session, tenant_scope("t"):
            session.execute(make()).all()
            found = yield lambda: sum(len(session.execute(make()).all()) for _ in range(CALLS))
        verify(found == CALLS, "one row for each statement")

    return start


def _fill(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with tenant_scope("t"), Session(engine) as session:
        session.add_all([Plain(id=1), Author(id=1), Scoped(id=1)])
        session.add_all([Private(id=1, author_id=1), Soft(id=1, author_id=1)])
        if EASY_SOFT is not None:
            session.add(EASY_SOFT(id=1, author_id=1))
        session.commit()


def easy_contestants(name: str, make: Make) -> dict[str, Callable[[Engine], Contestant[int]]]:
    """Return a contestant with sqlalchemy-easy-softdelete, if that is installed."""
    return {} if EASY_SOFT is None else {name: contestant(make, "easy")}


def main() -> None:
    with benchmark(__doc__, rounds=20) as bench:
        _fill(bench.engine)
        race = bench.race(
            f"{CALLS} selects of one row, warm",
            {
                "WHERE public": contestant(lambda: select(Plain).where(Plain.id == 1, Plain.public.is_(True))),
                "GlobalCriteria": contestant(lambda: select(Private).where(Private.id == 1), "global"),
                "WHERE removed": contestant(lambda: select(Plain).where(Plain.id == 1, Plain.removed.is_(None))),
                "SoftDelete": contestant(lambda: select(Soft).where(Soft.id == 1), "soft"),
                **easy_contestants("sqlalchemy-easy-softdelete", lambda: select(EASY_SOFT).where(EASY_SOFT.id == 1)),
                "WHERE owner": contestant(lambda: select(Plain).where(Plain.id == 1, Plain.owner == "t")),
                "without criteria, TenantScoped mapped": contestant(
                    lambda: select(Plain).where(Plain.id == 1, Plain.owner == "t"), "tenant"
                ),
                "TenantScoped": contestant(lambda: select(Scoped).where(Scoped.id == 1), "tenant"),
            },
        )
        race.at_most("GlobalCriteria", ratio=1.15, of="WHERE public")
        race.at_most("SoftDelete", ratio=1.15, of="WHERE removed")
        race.at_most("TenantScoped", ratio=1.15, of="WHERE owner")
        deep = bench.race(
            f"{CALLS} selects with a relationship or a subquery in their WHERE, warm",
            {
                "any(public)": contestant(
                    lambda: select(Author.id).where(Author.posts.any(Private.public.is_(True)), Author.id == 1)
                ),
                "any()": contestant(lambda: select(Author.id).where(Author.posts.any(), Author.id == 1), "global"),
                "any(removed)": contestant(
                    lambda: select(Author.id).where(Author.notes.any(Soft.deleted_at.is_(None)), Author.id == 1)
                ),
                "any(), SoftDelete": contestant(
                    lambda: select(Author.id).where(Author.notes.any(), Author.id == 1), "soft"
                ),
                **easy_contestants(
                    "any(), sqlalchemy-easy-softdelete",
                    lambda: select(Author.id).where(cast("Any", Author).easy_notes.any(), Author.id == 1),
                ),
                "EXISTS public": contestant(
                    lambda: select(Author.id).where(
                        exists().where(Private.author_id == Author.id, Private.public.is_(True)), Author.id == 1
                    )
                ),
                "EXISTS": contestant(
                    lambda: select(Author.id).where(exists().where(Private.author_id == Author.id), Author.id == 1),
                    "global",
                ),
            },
        )
        deep.at_most("any()", ratio=1.15, of="any(public)")
        if IS_21:
            deep.at_most("EXISTS", ratio=1.15, of="EXISTS public")


if __name__ == "__main__":
    main()
