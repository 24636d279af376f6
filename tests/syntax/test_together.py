"""Qualified statements beside the other packages: soft deletion, tenants, criteria, caches."""

from __future__ import annotations

from typing import Any

import pytest
from dogpile.cache import make_region
from sqlalchemy import Engine, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, selectinload, sessionmaker

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.criteria import (
    GlobalCriteria,
    HasPrivate,
    SoftDelete,
    TenantNotSetError,
    TenantScoped,
    tenant_scope,
)
from sqla_patterns.syntax import qualified
from tests._support import count_statements

from ._models import Author, Post, fill


class Base(DeclarativeBase):
    pass


class Order(TenantScoped, SoftDelete, HasPrivate, Base):
    __tablename__ = "qualified_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(10))


NEWEST = func.row_number().over(partition_by=Order.customer, order_by=Order.id.desc())
STATEMENT = qualified(select(Order).order_by(Order.id), NEWEST == 1)


@pytest.fixture
def orders(engine: Engine) -> Engine:
    """Make orders of two customers for each of two tenants; the newest of one customer is deleted, of one private."""
    Base.metadata.create_all(engine)
    for number, tenant in enumerate(("acme", "zeta")):
        with tenant_scope(tenant), Session(engine) as session:
            session.add_all(
                Order(id=10 * number + n, customer="ab"[n % 2], public=not (number == 0 and n == 3))
                for n in range(1, 5)
            )
            session.commit()
            session.delete(session.get_one(Order, 10 * number + 4))
            session.commit()
    return engine


def _ids(session: Session, statement: Any = STATEMENT) -> list[int]:
    return [order.id for order in session.scalars(statement)]


def test_deleted_rows_and_those_of_other_tenants_do_not_count(orders: Engine) -> None:
    for tenant, expected in (("acme", [2, 3]), ("zeta", [12, 13])):
        with tenant_scope(tenant), Session(orders) as session:
            assert _ids(session) == expected


def test_the_option_shows_deleted_rows_to_the_window_too(orders: Engine) -> None:
    with tenant_scope("acme"), Session(orders) as session:
        assert _ids(session, STATEMENT.execution_options(include_deleted=True)) == [3, 4]


def test_columns_are_filtered_as_entities_are(orders: Engine) -> None:
    with tenant_scope("acme"), Session(orders) as session:
        statement = qualified(select(Order.id).order_by(Order.id), NEWEST == 1)
        assert session.scalars(statement).all() == [2, 3]


def test_a_subquery_is_filtered(orders: Engine) -> None:
    with tenant_scope("acme"), Session(orders) as session:
        subquery = qualified(select(Order.id), NEWEST == 1).subquery()
        assert sorted(session.scalars(select(subquery.c.id))) == [2, 3]
        inside = select(Order.id).where(Order.id.in_(qualified(select(Order.id), NEWEST == 1)))
        assert sorted(session.scalars(inside)) == [2, 3]


def test_a_second_condition_is_filtered(orders: Engine) -> None:
    with tenant_scope("acme"), Session(orders) as session:
        last = func.row_number().over(order_by=Order.id.desc())
        assert _ids(session, qualified(STATEMENT, last == 1)) == [3]


def test_attached_criteria_apply_before_the_window(orders: Engine) -> None:
    maker = sessionmaker(orders)
    criteria = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    with criteria.attach(maker), tenant_scope("acme"), maker() as session:
        assert _ids(session) == [1, 2]
        assert _ids(session, STATEMENT.execution_options(include_private=True)) == [2, 3]


def test_without_a_tenant_it_is_refused(orders: Engine) -> None:
    with Session(orders) as session, pytest.raises(TenantNotSetError):
        _ids(session)


def test_a_cached_statement_answers_without_sql_until_a_write(engine: Engine, session: Session) -> None:
    fill(session)
    maker = sessionmaker(engine)
    ORMCache({"default": make_region().configure("dogpile.cache.memory")}).listen_on_session(maker)
    number = func.row_number().over(partition_by=Post.author_id, order_by=Post.id.desc())
    statement = qualified(
        select(Post).order_by(Post.id).options(selectinload(Post.author), FromCache("default")), number == 1
    )

    def titles() -> list[tuple[str, str]]:
        with maker() as reader:
            return [(post.title, post.author.name) for post in reader.scalars(statement)]

    expected = [("t14", "author1"), ("t24", "author2"), ("t34", "author3")]
    assert titles() == expected
    with count_statements(engine) as log:
        assert titles() == expected
    assert log.starting("SELECT post", "SELECT anon") == []
    with maker() as writer:
        writer.add(Post(id=15, author=writer.get_one(Author, 1), title="new"))
        writer.commit()
    assert titles() == [("new", "author1"), *expected[1:]]
