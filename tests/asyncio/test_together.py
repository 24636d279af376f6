"""Gathering beside the other packages: tenants, soft deletion, global criteria, caches."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from sqlalchemy import String, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.asyncio import gather_calls, gather_scalars
from sqla_patterns.criteria import (
    GlobalCriteria,
    HasPrivate,
    SoftDelete,
    TenantChangedError,
    TenantNotSetError,
    TenantScoped,
    all_tenants,
    current_tenant,
    row_level_security,
    tenant_scope,
)
from tests.conftest import BaseFactory


class Base(DeclarativeBase):
    pass


class Order(TenantScoped, Base):
    __tablename__ = "order_of_tenant"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Bill(TenantScoped, Base):
    __tablename__ = "bill_of_tenant"
    id: Mapped[int] = mapped_column(primary_key=True)


class Post(SoftDelete, HasPrivate, Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)


NAMES = select(Order.name).order_by(Order.id)
TENANTS = ["acme", "zeta"]


async def _make(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(engine, expire_on_commit=False)
    for number, tenant in enumerate(TENANTS):
        with tenant_scope(tenant):
            async with maker() as session:
                session.add_all(Order(id=10 * number + n, name=f"{tenant}{n}") for n in (1, 2))
                await session.commit()
    return maker


async def test_each_task_reads_for_the_tenant_of_the_caller(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _make(pooled)

    async def whose(session: AsyncSession) -> object:
        await asyncio.sleep(0)
        return current_tenant()

    for tenant in TENANTS:
        with tenant_scope(tenant):
            assert await gather_scalars(maker, [NAMES] * 3) == [[f"{tenant}1", f"{tenant}2"]] * 3
            assert await gather_calls(maker, whose, whose) == (tenant, tenant)


async def test_callers_of_different_tenants_at_one_time_do_not_mix(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _make(pooled)

    async def read(tenant: str) -> Any:
        with tenant_scope(tenant):
            async with maker() as session:
                return await gather_scalars(maker, [select(Order).order_by(Order.id)] * 2, into=session, limit=2)

    found = await asyncio.gather(*(read(TENANTS[n % 2]) for n in range(10)))
    for number, results in enumerate(found):
        assert {order.tenant_id for result in results for order in result} == {TENANTS[number % 2]}


async def test_without_a_tenant_nothing_is_read(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _make(pooled)
    with pytest.raises(TenantNotSetError):
        await gather_scalars(maker, [NAMES])


async def test_administration_reads_all_tenants(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _make(pooled)
    with all_tenants():
        assert await gather_scalars(maker, [NAMES]) == [["acme1", "acme2", "zeta1", "zeta2"]]


async def test_what_is_merged_for_one_tenant_is_not_returned_to_another(
    runner: asyncio.Runner, pooled: AsyncEngine
) -> None:
    maker = await _make(pooled)
    async with maker() as session:
        with tenant_scope("acme"):
            (orders,) = await gather_scalars(maker, [select(Order)], into=session)
            assert await session.get(Order, orders[0].id) is orders[0]
        with tenant_scope("zeta"):
            assert await session.get(Order, orders[0].id) is None


async def test_a_session_that_served_a_tenant_refuses_its_next_statement_for_another(
    runner: asyncio.Runner, pooled: AsyncEngine
) -> None:
    maker = await _make(pooled)
    async with maker() as session:
        with tenant_scope("acme"):
            await session.scalars(NAMES)
        with tenant_scope("zeta"):
            await gather_scalars(maker, [select(Order)], into=session)
            with pytest.raises(TenantChangedError):
                await session.scalars(NAMES)


@pytest.mark.only_on("postgresql")
async def test_row_level_security_gets_the_transaction_that_it_needs(
    runner: asyncio.Runner, pooled: AsyncEngine, plain_bases: BaseFactory
) -> None:
    base: Any = plain_bases()

    # A class with policies goes with the test: while there is one, each transaction is told its tenant.
    class Secret(TenantScoped, base):
        __tablename__ = "secret_of_tenant"
        id: Mapped[int] = mapped_column(primary_key=True)

    policies = row_level_security(Secret)
    role = f"gather_{os.getpid()}"  # roles are the server's
    async with pooled.begin() as connection:
        await connection.run_sync(base.metadata.create_all)
        await connection.run_sync(policies.create)
        await connection.execute(text(f"DROP ROLE IF EXISTS {role}"))
        await connection.execute(text(f"CREATE ROLE {role}"))
        await connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {role}"))
        await connection.execute(text(f"GRANT SELECT ON secret_of_tenant TO {role}"))
    maker = async_sessionmaker(pooled)
    for number, tenant in enumerate(TENANTS):
        with tenant_scope(tenant):
            async with maker() as session:
                session.add_all(Secret(id=10 * number + n) for n in (1, 2))
                await session.commit()
    keys = select(Secret.id).order_by(Secret.id)

    async def names(session: AsyncSession) -> Any:
        # As the application's role, past the criteria of the library: the policies answer.
        await session.scalars(keys)
        await session.execute(text(f"SET LOCAL ROLE {role}"), execution_options={"all_tenants": True})
        counted: Any = text("SELECT count(*) FROM secret_of_tenant")
        return await session.scalar(counted, execution_options={"allow_text": True})

    try:
        with tenant_scope("zeta"):
            assert await gather_scalars(maker, [keys] * 2) == [[11, 12]] * 2
            assert await gather_calls(maker, names, names) == (2, 2)
    finally:
        async with pooled.begin() as connection:
            await connection.execute(text(f"DROP OWNED BY {role}"))
            await connection.execute(text(f"DROP ROLE {role}"))


async def test_deleted_rows_are_not_gathered(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    maker = await _make(pooled)
    async with maker() as session:
        session.add_all([Post(id=1, public=True), Post(id=2, public=True)])
        await session.commit()
        await session.delete(await session.get_one(Post, 1))
        await session.commit()
        everything = select(Post.id).order_by(Post.id).execution_options(include_deleted=True)
        assert await gather_scalars(maker, [select(Post.id), everything], into=session) == [[2], [1, 2]]


async def test_criteria_that_are_attached_to_the_factory_apply(runner: asyncio.Runner, pooled: AsyncEngine) -> None:
    await _make(pooled)
    maker = async_sessionmaker(pooled)
    criteria = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    with criteria.attach(maker):
        async with maker() as session:
            session.add_all([Post(id=1, public=True), Post(id=2, public=False)])
            await session.commit()
        counted = select(func.count(Post.id))
        opened = counted.execution_options(include_private=True)
        assert await gather_scalars(maker, [counted, opened]) == [[1], [2]]
