"""Tenancy as a security boundary: sessions, threads and tasks, held objects, references, and the cost of it."""

import asyncio
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    ForeignKey,
    String,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, joinedload, mapped_column, relationship, selectinload, sessionmaker
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import StaticPool

from sqla_patterns.criteria import (
    TenantChangedError,
    TenantNotSetError,
    TenantScoped,
    TenantViolationError,
    all_tenants,
    current_tenant,
    tenant_scope,
)
from sqla_patterns.exceptions import InvalidArgumentError, MappingError
from tests._support import StatementLog, count_statements, together
from tests.conftest import BaseFactory


class Shop:
    """Customers and their orders."""

    def __init__(self, base: Any) -> None:
        class Customer(TenantScoped, base):
            __tablename__ = "ten_customer"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(String(20), default="")
            orders: Mapped[list["Order"]] = relationship(back_populates="customer", order_by="Order.id")

        class Order(TenantScoped, base):
            __tablename__ = "ten_order"
            id: Mapped[int] = mapped_column(primary_key=True)
            customer_id: Mapped[int | None] = mapped_column(ForeignKey("ten_customer.id"))
            total: Mapped[int] = mapped_column(default=0)
            customer: Mapped[Customer | None] = relationship(back_populates="orders")

        self.base = base
        self.customer: Any = Customer
        self.order: Any = Order

    def fill(self, engine: Engine) -> None:
        self.base.metadata.create_all(engine)
        with engine.begin() as connection:
            for number, tenant in enumerate(("a", "b"), 1):
                connection.execute(insert(self.customer.__table__), {"id": number, "name": tenant, "tenant_id": tenant})
                rows = [
                    {"id": number * 10 + i, "customer_id": number, "total": i, "tenant_id": tenant} for i in range(3)
                ]
                connection.execute(insert(self.order.__table__), rows)


@pytest.fixture
def shop(plain_bases: BaseFactory) -> Shop:
    return Shop(plain_bases())


@pytest.fixture
def shop_engine(shop: Shop, engine: Engine) -> Engine:
    shop.fill(engine)
    return engine


def _rows(engine: Engine, cls: Any, column: str = "tenant_id") -> dict[int, Any]:
    table = cls.__table__
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(select(table.c.id, table.c[column]))}


# -- scopes --------------------------------------------------------------------------------------


def test_the_inner_scope_counts() -> None:
    with tenant_scope("a"):
        with tenant_scope("b"):
            inner = current_tenant()
        assert (inner, current_tenant()) == ("b", "a")


def test_there_is_no_current_tenant_outside_of_a_scope() -> None:
    with pytest.raises(TenantNotSetError, match="tenant_scope"):
        current_tenant()


def test_administration_has_no_current_tenant() -> None:
    with all_tenants(), pytest.raises(TenantNotSetError, match="all_tenants"):
        current_tenant()


def test_none_is_no_tenant() -> None:
    with pytest.raises(InvalidArgumentError, match="None"), tenant_scope(None):
        pass


STATEMENTS: dict[str, Callable[[Session, Shop], Any]] = {
    "select": lambda s, m: s.scalars(select(m.order)).all(),
    "get": lambda s, m: s.get(m.order, 10),
    "count": lambda s, m: s.scalar(select(func.count(m.order.id))),
    "update": lambda s, m: s.execute(update(m.order).values(total=1)),
    "delete": lambda s, m: s.execute(delete(m.order)),
    "insert": lambda s, m: s.execute(insert(m.order).values(id=99)),
    "flush": lambda s, m: (s.add(m.order(id=99)), s.flush()),
    "Core": lambda s, m: s.execute(select(m.order.__table__)),
    "text": lambda s, m: s.execute(text("SELECT * FROM ten_order")),
    "from_statement": lambda s, m: s.execute(select(m.order).from_statement(text("SELECT 1"))),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_without_a_tenant_nothing_reaches_the_database(name: str, shop: Shop, shop_engine: Engine) -> None:
    refused = pytest.raises((TenantNotSetError, TenantViolationError))
    with Session(shop_engine) as session, count_statements(shop_engine) as log, refused:
        STATEMENTS[name](session, shop)
    assert log == []


@pytest.mark.parametrize("name", ["select", "get", "count", "update", "insert", "flush"])
def test_a_session_serves_one_tenant(name: str, shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine) as session:
        with tenant_scope("b"):
            session.scalars(select(shop.order)).all()
        with tenant_scope("a"), pytest.raises(TenantChangedError, match="'b'"):
            STATEMENTS[name](session, shop)


def test_a_lazy_load_runs_for_the_tenant_that_loaded_the_object(shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine) as session:
        with tenant_scope("a"):
            customer = session.get_one(shop.customer, 1)
        assert [each.id for each in customer.orders] == [10, 11, 12]


def test_a_lazy_load_for_another_tenant_is_refused(shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine) as session:
        with tenant_scope("a"):
            customer = session.get_one(shop.customer, 1)
        with tenant_scope("b"), pytest.raises(TenantChangedError):
            _ = customer.orders


def test_an_expired_object_is_loaded_for_the_tenant_that_loaded_it(shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine) as session:
        with tenant_scope("a"):
            customer = session.get_one(shop.customer, 1)
            session.commit()
        assert customer.name == "a"


def test_administration_sees_all_rows(shop: Shop, shop_engine: Engine) -> None:
    with all_tenants(), Session(shop_engine) as session:
        assert session.scalar(select(func.count(shop.order.id))) == 6


def test_one_statement_sees_all_rows_by_an_option(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        everything = session.scalar(select(func.count(shop.order.id)).execution_options(all_tenants=True))
        assert (everything, session.scalar(select(func.count(shop.order.id)))) == (6, 3)


def test_administration_writes_for_a_tenant_that_is_said(shop: Shop, shop_engine: Engine) -> None:
    with all_tenants(), Session(shop_engine) as session:
        session.add(shop.order(id=99, tenant_id="b"))
        session.commit()
    assert _rows(shop_engine, shop.order)[99] == "b"


def test_administration_has_to_say_a_tenant(shop: Shop, shop_engine: Engine) -> None:
    with all_tenants(), Session(shop_engine) as session, pytest.raises(TenantNotSetError, match="tenant_id"):
        session.add(shop.order(id=99))
        session.flush()


# -- writing -------------------------------------------------------------------------------------


def test_new_objects_get_the_tenant(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        order = shop.order(id=99, customer=shop.customer(id=9))
        session.add(order)
        session.flush()
        assert (order.tenant_id, order.customer.tenant_id) == ("a", "a")


def test_inserted_rows_get_the_tenant(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("b"), Session(shop_engine) as session:
        session.execute(insert(shop.order), [{"id": 91}, {"id": 92}])
        session.execute(insert(shop.order), {"id": 93})
        session.execute(insert(shop.order).values(id=94))
        session.execute(insert(shop.order).values([{"id": 95}, {"id": 96}]))
        session.execute(
            insert(shop.order).from_select(
                ["id", "total"], select(shop.order.id + 77, shop.order.total).where(shop.order.id < 23)
            )
        )
        session.commit()
    assert {key for key, tenant in _rows(shop_engine, shop.order).items() if tenant == "b" and key > 22} == {
        *range(91, 100)
    }


def test_a_new_object_of_another_tenant_is_refused(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session, pytest.raises(TenantViolationError, match="tenant_id"):
        session.add(shop.order(id=99, tenant_id="b"))
        session.flush()


def test_a_session_is_usable_after_a_refusal(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        session.add(shop.order(id=99, tenant_id="b"))
        with pytest.raises(TenantViolationError):
            session.flush()
        session.rollback()
        session.add(shop.order(id=98))
        session.commit()
    assert 98 in _rows(shop_engine, shop.order)


@pytest.mark.parametrize("administration", [False, True])
@pytest.mark.parametrize("expired", [False, True])
def test_a_row_never_changes_its_tenant(administration: bool, expired: bool, shop: Shop, shop_engine: Engine) -> None:
    with all_tenants() if administration else tenant_scope("a"), Session(shop_engine) as session:
        order = session.get_one(shop.order, 10)
        if expired:
            session.expire(order)
        order.tenant_id = "b"
        with pytest.raises(TenantViolationError, match="never changes"):
            session.flush()
    assert _rows(shop_engine, shop.order)[10] == "a"


def test_a_row_does_not_lose_its_tenant(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        order = session.get_one(shop.order, 10)
        order.tenant_id = None
        order.total = 5
        session.commit()
        assert order.tenant_id == "a"


def test_the_tenant_can_be_said_again(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        session.get_one(shop.order, 10).tenant_id = "a"
        session.add(shop.order(id=99, tenant_id="a"))
        session.commit()
    assert _rows(shop_engine, shop.order)[99] == "a"


def test_a_detached_object_of_another_tenant_is_not_written(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("b"), Session(shop_engine) as session:
        theirs = session.get_one(shop.order, 20)
    with tenant_scope("a"), Session(shop_engine) as session:
        session.add(theirs)
        theirs.total = 99
        with pytest.raises(TenantViolationError, match="'b'"):
            session.flush()


def test_a_detached_object_of_another_tenant_is_not_deleted(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("b"), Session(shop_engine) as session:
        theirs = session.get_one(shop.order, 20)
    with tenant_scope("a"), Session(shop_engine) as session:
        session.delete(theirs)
        with pytest.raises(TenantViolationError, match="'b'"):
            session.flush()


def test_updates_and_deletes_of_the_unit_of_work_carry_the_tenant(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        first, second, third = session.scalars(select(shop.order).order_by(shop.order.id)).all()
        first.total, second.total = 8, 9
        session.delete(third)
        with count_statements(shop_engine) as log:
            session.commit()
    written = log.starting("UPDATE", "DELETE")
    assert written
    assert all(each.count("tenant_id") == 1 for each in written)


@pytest.mark.parametrize("how", ["add", "change", "delete"])
def test_what_a_listener_of_the_users_does_late_is_checked(how: str, shop: Shop, shop_engine: Engine) -> None:
    maker = sessionmaker(shop_engine)

    @event.listens_for(maker, "before_flush")
    def late(session: Session, *_: object) -> None:
        if how == "add":
            session.add(shop.order(id=99, tenant_id="b"))
        elif how == "change":
            session.get_one(shop.order, 10).tenant_id = "b"
        else:
            theirs = session.get_one(shop.order, 20, execution_options={"all_tenants": True})
            session.delete(theirs)

    with tenant_scope("a"), maker() as session:
        session.add(shop.customer(id=9))
        with pytest.raises(TenantViolationError):
            session.flush()


# -- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize("administration", [False, True])
@pytest.mark.parametrize("how", ["key", "object", "collection", "new object with a key"])
def test_a_reference_across_tenants_is_refused(administration: bool, how: str, shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine, autoflush=False) as session, all_tenants():
        mine, theirs = session.get_one(shop.order, 10), session.get_one(shop.customer, 2)
        with all_tenants() if administration else tenant_scope("a"):
            if how == "key":
                mine.customer_id = 2
            elif how == "object":
                mine.customer = theirs
            elif how == "collection":
                theirs.orders.append(mine)
            else:
                session.add(shop.order(id=99, tenant_id="a", customer_id=2))
            with pytest.raises(TenantViolationError):
                session.flush()
    assert _rows(shop_engine, shop.order, "customer_id")[10] == 1


def test_foreign_keys_are_checked_by_one_select_a_flush(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        session.add_all([shop.order(id=100 + number, customer_id=1) for number in range(20)])
        with count_statements(shop_engine) as log:
            session.flush()
    assert len(log.starting("SELECT")) == 1


def test_taking_a_parent_away_keeps_the_tenant(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        session.get_one(shop.order, 10).customer = None
        session.commit()
    assert _rows(shop_engine, shop.order)[10] == "a"


# -- held objects --------------------------------------------------------------------------------


def test_a_held_object_of_another_tenant_is_not_got(shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine) as session:
        with all_tenants():
            held = session.get_one(shop.order, 20)
        with tenant_scope("a"):
            assert session.get(shop.order, held.id) is None


def test_a_held_object_of_another_tenant_is_no_parent(shop: Shop, shop_engine: Engine) -> None:
    with shop_engine.begin() as connection:
        connection.execute(update(shop.order.__table__).values(customer_id=2))
    with Session(shop_engine) as session:
        with all_tenants():
            held = session.get_one(shop.customer, 2)
        with tenant_scope("a"):
            assert session.get_one(shop.order, 10).customer is None
        assert held is not None


def test_a_held_object_of_another_tenant_is_not_refreshed(shop: Shop, shop_engine: Engine) -> None:
    with Session(shop_engine) as session:
        with all_tenants():
            held = session.get_one(shop.order, 20)
        with tenant_scope("a"), pytest.raises(Exception, match=r"(?i)refresh|deleted"):
            session.refresh(held)


def test_a_held_object_is_not_given_away_after_the_session_was_closed(shop: Shop, shop_engine: Engine) -> None:
    session = Session(shop_engine)
    with tenant_scope("b"):
        held = session.get_one(shop.order, 20)
    session.close()
    session.add(held)
    with tenant_scope("a"), pytest.raises(TenantChangedError):
        session.get(shop.order, 20)
    session.close()


def test_objects_of_the_tenant_are_held_as_ever(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        held = session.get_one(shop.order, 10)
        with count_statements(shop_engine) as log:
            assert session.get(shop.order, 10) is held
    assert log == []


def test_what_loaded_objects_hold_of_their_tenant_pickles(shop: Shop, shop_engine: Engine) -> None:
    with tenant_scope("a"), Session(shop_engine) as session:
        order: Any = session.get_one(shop.order, 10)
        options = tuple(order._sa_instance_state.load_options)
    assert options
    assert "'a'" not in repr(pickle.loads(pickle.dumps(options)))


# -- threads and tasks ---------------------------------------------------------------------------


def _ask(engine: Engine, shop: Shop, tenant: str) -> set[str]:
    with tenant_scope(tenant), Session(engine) as session:
        customers = session.scalars(select(shop.customer).options(selectinload(shop.customer.orders))).all()
        return {
            *(each.tenant_id for each in customers),
            *(order.tenant_id for each in customers for order in each.orders),
            *session.scalars(select(shop.order.tenant_id)),
            *session.scalars(select(shop.customer.tenant_id).where(shop.customer.orders.any())),
        }


def test_threads_never_see_another_tenant(shop: Shop, engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    shop.fill(engine)

    def work(start: int) -> None:
        for number in range(60):
            tenant = "ab"[(start + number) % 2]
            assert _ask(engine, shop, tenant) == {tenant}

    assert [outcome for outcome in together(*(lambda n=n: work(n) for n in range(4))) if outcome is not None] == []


async def test_tasks_never_see_another_tenant(shop: Shop, async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(shop.base.metadata.create_all)
        for number, tenant in enumerate(("a", "b"), 1):
            await connection.execute(insert(shop.customer.__table__), {"id": number, "name": "", "tenant_id": tenant})

    async def work(tenant: str) -> set[str]:
        found: set[str] = set()
        for _ in range(25):
            with tenant_scope(tenant):
                async with AsyncSession(async_engine) as session:
                    await asyncio.sleep(0)
                    found |= set((await session.scalars(select(shop.customer.tenant_id))).all())
                    await asyncio.sleep(0)
                    found |= {each.tenant_id for each in await session.scalars(select(shop.customer))}
        return found

    assert await asyncio.gather(*(work(tenant) for tenant in "abab")) == [{"a"}, {"b"}, {"a"}, {"b"}]


def test_a_pool_of_threads_has_no_tenant_of_its_own(shop: Shop, engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    shop.fill(engine)

    def count() -> int | None:
        with Session(engine) as session:
            return session.scalar(select(func.count(shop.order.id)))

    with ThreadPoolExecutor(1) as pool, tenant_scope("a"):
        assert isinstance(pool.submit(count).exception(), TenantNotSetError)


def test_a_pool_of_threads_takes_the_tenant_along_in_a_context(
    shop: Shop, engine_factory: Callable[..., Engine]
) -> None:
    engine = engine_factory()
    shop.fill(engine)

    def count() -> int | None:
        with Session(engine) as session:
            return session.scalar(select(func.count(shop.order.id)))

    with ThreadPoolExecutor(1) as pool, tenant_scope("a"):
        assert pool.submit(copy_context().run, count).result() == 3


def test_the_compiled_cache_does_not_grow_with_tenants(shop: Shop) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    shop.fill(engine)
    for tenant in ("a", "b"):
        _ask(engine, shop, tenant)
    cache: Any = engine._compiled_cache
    plans: Any = vars(engine.dialect)["_sqla_patterns_criteria"]
    before = len(cache), len(plans)
    for number in range(1000):
        with tenant_scope(f"tenant {number}"), Session(engine) as session:
            assert session.scalars(select(shop.order).where(shop.order.customer.has())).all() == []
            assert session.scalars(select(shop.customer).options(joinedload(shop.customer.orders))).unique().all() == []
            if number == 1:
                before = len(cache), len(plans)
    assert (len(cache), len(plans)) == before
    engine.dispose()


# -- every statement carries a tenant ------------------------------------------------------------


def test_every_sql_on_a_scoped_table_carries_the_tenant(shop: Shop, shop_engine: Engine) -> None:
    seen = StatementLog()

    def check(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        seen.append(statement)
        bound = str(parameters)
        number = statement.count("FROM ten_") + statement.count("JOIN ten_") + statement.count("UPDATE ten_")
        if "ten_" in statement:
            assert "'a'" in bound, statement
            assert statement.count("tenant_id = ") + statement.count("tenant_id != ") >= number, statement

    event.listen(shop_engine, "before_cursor_execute", check)
    order, customer = shop.order, shop.customer
    with tenant_scope("a"), Session(shop_engine) as session:
        session.scalars(select(order)).all()
        session.scalars(select(customer).options(joinedload(customer.orders))).unique().all()
        session.scalars(select(customer).options(selectinload(customer.orders))).all()
        session.scalars(select(customer).where(customer.orders.any(order.total > 1))).all()
        session.scalars(select(order.id).join(order.customer)).all()
        session.scalars(select(order.id).where(order.customer_id == customer.id)).all()
        session.scalars(select(order).where(order.id.in_(select(order.id)))).all()
        session.get(order, 10)
        session.expire_all()
        mine = session.get_one(order, 10)
        session.refresh(mine)
        _ = mine.customer.orders
        mine.total = 3
        session.add(order(id=99, customer_id=1))
        session.flush()
        session.delete(mine)
        session.flush()
        session.execute(update(order).values(total=4))
        session.execute(insert(order), [{"id": 97}, {"id": 98}])
        session.execute(insert(order).values(id=96))
        session.execute(delete(order).where(order.id > 90))
        session.commit()
    assert len(seen) > 20


# -- mapping -------------------------------------------------------------------------------------


def test_the_tenant_may_be_of_another_type(plain_bases: BaseFactory, engine: Engine) -> None:
    class Document(TenantScoped, plain_bases()):  # type: ignore[misc]
        __tablename__ = "ten_document"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant_id: Mapped[UUID] = mapped_column("owner", index=True)

    Document.metadata.create_all(engine)
    mine, theirs = uuid4(), uuid4()
    for number, tenant in enumerate((mine, theirs), 1):
        with tenant_scope(tenant), Session(engine) as session:
            session.add(Document(id=number))
            session.execute(insert(Document), [{"id": number + 10}])
            session.execute(insert(Document), {"id": number + 20})
            session.commit()
    with tenant_scope(mine), Session(engine) as session:
        assert sorted(session.scalars(select(Document.id))) == [1, 11, 21]
        assert session.get(Document, 2) is None


def test_the_type_may_be_said_by_an_annotation_alone(plain_bases: BaseFactory) -> None:
    class Document(TenantScoped, plain_bases()):  # type: ignore[misc]
        __tablename__ = "ten_document"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant_id: Mapped[int]

    assert Document.__table__.c.tenant_id.type.python_type is int


def test_a_tenant_that_may_be_null_is_refused(plain_bases: BaseFactory) -> None:
    with pytest.raises(MappingError, match="NULL"):

        class Document(TenantScoped, plain_bases()):  # type: ignore[misc]
            __tablename__ = "ten_document"
            id: Mapped[int] = mapped_column(primary_key=True)
            tenant_id: Mapped[str | None] = mapped_column(String(5))


def test_a_subclass_alone_cannot_be_scoped(plain_bases: BaseFactory) -> None:
    class Base(plain_bases()):  # type: ignore[misc]
        __tablename__ = "ten_person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(9))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    with pytest.raises(MappingError, match="topmost"):

        class Manager(TenantScoped, Base):
            __mapper_args__ = {"polymorphic_identity": "manager"}


def _hierarchy(base: Any) -> tuple[Any, Any]:
    class Person(TenantScoped, base):
        __tablename__ = "ten_person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(9))
        name: Mapped[str] = mapped_column(String(9), default="")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Manager(Person):
        __tablename__ = "ten_manager"
        id: Mapped[int] = mapped_column(ForeignKey("ten_person.id"), primary_key=True)
        grade: Mapped[int] = mapped_column(default=0)
        __mapper_args__ = {"polymorphic_identity": "manager"}

    return Person, Manager


@pytest.fixture
def people(plain_bases: BaseFactory, engine: Engine) -> tuple[Any, Any]:
    person, manager = _hierarchy(plain_bases())
    person.metadata.create_all(engine)
    for number, tenant in enumerate("ab"):
        with tenant_scope(tenant), Session(engine) as session:
            session.add_all([person(id=number + 1, name="p"), manager(id=number + 10, name="m", grade=number + 1)])
            session.commit()
    return person, manager


def test_joined_subclasses_belong_to_the_tenant(people: tuple[Any, Any], engine: Engine) -> None:
    person, manager = people
    with tenant_scope("a"), Session(engine) as session:
        assert sorted(session.scalars(select(manager.id))) == [10]
        assert sorted(session.scalars(select(person.id))) == [1, 10]
        assert session.scalars(select(manager.grade)).all() == [1]
        assert session.get(manager, 11) is None


def test_a_deferred_column_of_a_joined_subclass_is_loaded_for_the_tenant(
    people: tuple[Any, Any], engine: Engine
) -> None:
    person, _ = people
    with tenant_scope("a"), Session(engine) as session:
        found = session.get_one(person, 10)
        session.expire(found, ["grade"])
        assert found.grade == 1


def test_a_forged_object_of_a_joined_subclass_shows_nothing(people: tuple[Any, Any], engine: Engine) -> None:
    from sqlalchemy.orm import make_transient_to_detached

    _, manager = people
    with tenant_scope("a"), Session(engine) as session:
        forged = manager(id=11, tenant_id="a", kind="manager", name="x")
        make_transient_to_detached(forged)
        session.add(forged)
        session.expire(forged, ["grade"])
        with pytest.raises(Exception, match="failed to populate"):
            _ = forged.grade


def test_a_forged_object_of_a_joined_subclass_writes_nothing(people: tuple[Any, Any], engine: Engine) -> None:
    from sqlalchemy.orm import make_transient_to_detached

    _, manager = people
    with tenant_scope("a"), Session(engine) as session:
        forged = manager(id=11, tenant_id="a", kind="manager", name="x", grade=2)
        make_transient_to_detached(forged)
        session.add(forged)
        forged.grade = 77
        with pytest.raises(StaleDataError):
            session.flush()


@pytest.mark.parametrize("statement", ["update", "delete"])
def test_bulk_dml_of_a_joined_subclass_is_the_tenants_or_refused(
    statement: str, people: tuple[Any, Any], engine: Engine
) -> None:
    _, manager = people
    with tenant_scope("a"), Session(engine) as session:
        try:
            session.execute(update(manager).values(grade=99) if statement == "update" else delete(manager))
            session.commit()
        except TenantViolationError:
            session.rollback()
    with engine.connect() as connection:
        table = manager.__table__
        assert connection.scalar(select(table.c.grade).where(table.c.id == 11)) == 2


@pytest.mark.parametrize("kind", ["plain", "dataclass"])
def test_plain_and_dataclass_bases_work(kind: Any, engine: Engine) -> None:
    factory = BaseFactory(kind)

    class Note(TenantScoped, factory()):  # type: ignore[misc]
        __tablename__ = "ten_note"
        id: Mapped[int] = mapped_column(primary_key=True)

    Note.metadata.create_all(engine)
    with tenant_scope("a"), Session(engine) as session:
        session.add(Note(id=1))
        session.commit()
        assert session.get_one(Note, 1).tenant_id == "a"
    factory.dispose()
