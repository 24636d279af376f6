"""Row level security of PostgreSQL, with a role that does not own the tables."""

from collections.abc import Generator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.criteria import (
    RowLevelSecurity,
    TenantScoped,
    TenantViolationError,
    row_level_security,
    tenant_key,
    tenant_scope,
)
from sqla_patterns.exceptions import InvalidArgumentError
from tests._support import Database
from tests.conftest import BaseFactory

RAW = text("SELECT id FROM rls_order ORDER BY id").execution_options(allow_text=True)


class Secured:
    """Orders with policies, and an engine of a role that owns nothing, with one connection."""

    def __init__(self, base: Any, database: Database, owner: Engine) -> None:
        class Customer(TenantScoped, base):
            __tablename__ = "rls_customer"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Order(TenantScoped, base):
            __tablename__ = "rls_order"
            __table_args__ = (tenant_key(lambda: Order.customer_id, lambda: Customer.id),)
            id: Mapped[int] = mapped_column(primary_key=True)
            customer_id: Mapped[int | None]
            total: Mapped[int] = mapped_column(default=0)

        self.database, self.owner = database, owner
        self.customer: Any = Customer
        self.order: Any = Order
        self.policies: list[RowLevelSecurity] = [row_level_security(Customer), row_level_security(Order)]
        self.role = f"rls_{uuid4().hex[:10]}"
        with owner.begin() as connection:
            base.metadata.create_all(connection)
            for number, tenant in enumerate("ab", 1):
                connection.execute(insert(Customer.__table__), {"id": number, "tenant_id": tenant})
                rows = [{"id": number * 10 + i, "tenant_id": tenant, "customer_id": number} for i in range(3)]
                connection.execute(insert(Order.__table__), rows)
            for each in self.policies:
                each.create(connection)
            connection.exec_driver_sql(f"CREATE ROLE {self.role} LOGIN PASSWORD 'x'")
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {self.role}")
            connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {self.role}")
        self.options = {"connect_args": {"options": f"-crole={self.role}"}}
        self.engine = database.create_engine(pool_size=1, max_overflow=0, **self.options)


@pytest.fixture
def secured(plain_bases: BaseFactory, database: Database) -> Generator[Secured, None, None]:
    owner = database.create_engine()
    secured = Secured(plain_bases(), database, owner)
    yield secured
    secured.engine.dispose()
    with owner.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {secured.role}")
        connection.exec_driver_sql(f"DROP ROLE {secured.role}")


pytestmark = pytest.mark.only_on("postgresql")


def test_even_raw_sql_sees_the_rows_of_the_tenant_only(secured: Secured) -> None:
    for tenant, expected in (("a", [10, 11, 12]), ("b", [20, 21, 22]), ("a", [10, 11, 12])):
        with tenant_scope(tenant), Session(secured.engine) as session:
            assert session.scalars(RAW).all() == expected


def test_each_transaction_of_a_session_is_told(secured: Secured) -> None:
    with tenant_scope("a"), Session(secured.engine) as session:
        for _ in range(3):
            assert session.scalars(RAW).all() == [10, 11, 12]
            session.commit()


def test_the_pool_gets_a_connection_back_without_a_tenant(secured: Secured) -> None:
    with tenant_scope("a"), Session(secured.engine) as session:
        session.scalars(select(secured.order)).all()
        session.commit()
    with secured.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM rls_order")) == 0


def test_a_row_of_another_tenant_cannot_be_written_by_any_sql(secured: Secured) -> None:
    statement = text("INSERT INTO rls_order (id, tenant_id, total) VALUES (99, 'b', 0)").execution_options(
        allow_text=True
    )
    with tenant_scope("a"), Session(secured.engine) as session, pytest.raises(ProgrammingError, match="row-level"):
        session.execute(statement)


def test_a_scope_that_is_entered_late_is_told(secured: Secured) -> None:
    with Session(secured.engine) as session:
        session.execute(text("SELECT 1"))
        with tenant_scope("a"):
            assert len(session.scalars(select(secured.order)).all()) == 3


def test_a_savepoint_that_is_rolled_back_does_not_take_the_tenant_with_it(secured: Secured) -> None:
    with Session(secured.engine) as session:
        session.execute(text("SELECT 1"))
        with tenant_scope("a"):
            savepoint = session.begin_nested()
            inside = len(session.scalars(select(secured.order)).all())
            savepoint.rollback()
            session.expunge_all()
            assert (inside, len(session.scalars(select(secured.order)).all())) == (3, 3)
            assert session.scalars(RAW).all() == [10, 11, 12]


def test_raw_sql_first_after_the_rollback_of_a_savepoint(secured: Secured) -> None:
    with Session(secured.engine) as session:
        session.execute(text("SELECT 1"))
        with tenant_scope("a"):
            with session.begin_nested() as savepoint:
                session.scalars(select(secured.order)).all()
                savepoint.rollback()
            assert session.scalars(RAW).all() == [10, 11, 12]


def test_autocommit_is_refused(secured: Secured) -> None:
    engine = secured.engine.execution_options(isolation_level="AUTOCOMMIT")
    with tenant_scope("a"), Session(engine) as session, pytest.raises(TenantViolationError, match="AUTOCOMMIT"):
        session.scalars(select(secured.order)).all()


def test_new_objects_are_inserted(secured: Secured) -> None:
    with tenant_scope("b"), Session(secured.engine) as session:
        session.add(secured.order(id=99, customer_id=2))
        session.commit()
        assert session.scalars(RAW).all() == [20, 21, 22, 99]


def test_a_foreign_key_to_a_hidden_row_is_refused_at_flush(secured: Secured) -> None:
    with tenant_scope("a"), Session(secured.engine) as session, pytest.raises(TenantViolationError, match="refer"):
        session.add(secured.order(id=99, customer_id=2))
        session.flush()


def test_a_tenant_key_refuses_a_reference_by_any_sql(secured: Secured) -> None:
    statement = text("UPDATE rls_order SET customer_id = 2 WHERE id = 10").execution_options(allow_text=True)
    with tenant_scope("a"), Session(secured.engine) as session, pytest.raises(DBAPIError, match="foreign key"):
        session.execute(statement)


def test_the_tenant_is_told_once_a_transaction(secured: Secured) -> None:
    seen: list[str] = []
    event.listen(secured.engine, "before_cursor_execute", lambda c, cursor, sql, *_: seen.append(sql))
    with tenant_scope("a"), Session(secured.engine) as session:
        for _ in range(5):
            session.scalars(select(secured.order)).all()
    assert sum("set_config" in sql for sql in seen) == 1


def test_check_is_content_with_a_role_of_its_own(secured: Secured) -> None:
    with secured.engine.connect() as connection:
        for each in secured.policies:
            each.check(connection)


def test_check_names_a_superuser(secured: Secured) -> None:
    with secured.owner.connect() as connection, pytest.raises(TenantViolationError, match="superuser"):
        secured.policies[0].check(connection)


def test_check_names_a_role_that_bypasses_policies(secured: Secured) -> None:
    with secured.owner.begin() as connection:
        connection.exec_driver_sql(f"ALTER ROLE {secured.role} BYPASSRLS")
    with secured.engine.connect() as connection, pytest.raises(TenantViolationError, match="BYPASSRLS"):
        secured.policies[0].check(connection)


def test_check_names_an_owner_whose_policies_are_not_forced(secured: Secured) -> None:
    with secured.owner.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE rls_order OWNER TO {secured.role}")
        connection.exec_driver_sql("ALTER TABLE rls_order NO FORCE ROW LEVEL SECURITY")
    with secured.engine.connect() as connection, pytest.raises(TenantViolationError, match="owns"):
        secured.policies[1].check(connection)
    with secured.owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE rls_order OWNER TO CURRENT_USER")


def test_an_owner_is_bound_by_policies_that_are_forced(secured: Secured) -> None:
    with secured.owner.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE rls_order OWNER TO {secured.role}")
    with secured.engine.connect() as connection:
        secured.policies[1].check(connection)
        assert connection.scalar(select(func.count()).select_from(secured.order.__table__)) == 0
    with secured.owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE rls_order OWNER TO CURRENT_USER")


def test_check_names_missing_policies(secured: Secured) -> None:
    with secured.owner.begin() as connection:
        secured.policies[1].drop(connection)
    with secured.engine.connect() as connection, pytest.raises(TenantViolationError, match="no policies"):
        secured.policies[1].check(connection)


def test_statements_make_what_create_makes(secured: Secured) -> None:
    with secured.owner.begin() as connection:
        secured.policies[1].drop(connection)
        for statement in secured.policies[1].statements:
            connection.exec_driver_sql(statement)
    with secured.engine.connect() as connection:
        secured.policies[1].check(connection)


def test_create_all_makes_no_policies(plain_bases: BaseFactory, database: Database) -> None:
    class Thing(TenantScoped, plain_bases()):  # type: ignore[misc]
        __tablename__ = "rls_thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant_id: Mapped[int] = mapped_column(index=True)

    policies = row_level_security(Thing)
    engine = database.create_engine()
    Thing.metadata.create_all(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_policy")) == 0
    assert "AS INTEGER)" in policies.statements[-1]


async def test_asyncpg_is_told(secured: Secured) -> None:
    settings = {"role": secured.role}
    engine = create_async_engine(secured.database.async_url, connect_args={"server_settings": settings})
    with tenant_scope("a"):
        async with AsyncSession(engine) as session:
            assert (await session.scalars(RAW)).all() == [10, 11, 12]
            assert len((await session.scalars(select(secured.order))).all()) == 3
    await engine.dispose()


@pytest.mark.parametrize("given", [int, object(), "Order"])
def test_only_scoped_classes_have_policies(given: Any, database: Database) -> None:
    with pytest.raises(InvalidArgumentError, match="TenantScoped"):
        row_level_security(given)
