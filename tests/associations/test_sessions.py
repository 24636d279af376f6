"""Proxies of objects that are unloaded, merged, rolled back, inherited or used with asyncio."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, UniqueConstraint, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, selectinload

from sqla_patterns.associations import proxied_list
from sqla_patterns.exceptions import InvalidArgumentError
from tests._support import assert_empty_diff

from . import _models as models


def _saved(m: Any, engine: Engine, session: Session) -> tuple[Any, Any, Any]:
    m.Base.metadata.create_all(engine)
    mug, hat = m.Item(name="mug"), m.Item(name="hat")
    order = m.Order()
    order.items = [mug]
    session.add_all([order, hat])
    session.commit()
    order.order_items[0].price = 9
    session.commit()
    return order, mug, hat


def test_rollback_and_savepoint_rollback_bring_the_members_back(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases)
    order, mug, hat = _saved(m, engine, session)
    order.items = [hat]
    session.flush()
    session.rollback()
    assert order.items == [mug]
    savepoint = session.begin_nested()
    order.items = [hat, mug]
    session.flush()
    savepoint.rollback()
    assert order.items == [mug]
    session.commit()
    assert [row.price for row in order.order_items] == [9]


def test_the_session_is_usable_after_the_database_refuses_a_member(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.shop(bases)
    order, mug, hat = _saved(m, engine, session)
    order.order_items.append(m.OrderItem(item=mug))
    with pytest.warns(match="conflicts with persistent instance"), pytest.raises(IntegrityError):
        session.flush()
    session.rollback()
    order.items.append(hat)
    session.commit()
    assert len(order.items) == 2


def test_merging_an_owner_merges_its_rows(bases: Any, engine: Engine, session: Session) -> None:
    m = models.shop(bases)
    order, mug, hat = _saved(m, engine, session)
    assert order.items[0] is mug
    session.close()
    order.items.append(hat)
    with Session(engine) as other:
        merged = other.merge(order)
        other.commit()
        assert sorted((row.item.name, row.price) for row in merged.order_items) == [("hat", 1), ("mug", 9)]


def test_members_load_with_their_rows(bases: Any, engine: Engine, session: Session, statements: Any) -> None:
    m = models.shop(bases)
    _saved(m, engine, session)
    session.expunge_all()
    with statements() as log:
        order = session.scalars(
            select(m.Order).options(selectinload(m.Order.order_items).joinedload(m.OrderItem.item))
        ).one()
        assert [item.name for item in order.items] == ["mug"]
    assert len(log) == 2


def test_the_tables_are_the_users_own(bases: Any, engine: Engine) -> None:
    m = models.shop(bases)
    m.Base.metadata.create_all(engine)
    assert_empty_diff(engine, m.Base.metadata)


def test_a_proxy_of_a_mixin_and_of_a_parent_class_serves_subclasses(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class HasParts:
        parts = proxied_list("links", lambda: Link.part)

    class Machine(HasParts, Base):
        __tablename__ = "machine"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        links: Mapped[list[Any]] = relationship("Link", cascade="all, delete-orphan")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "machine"}

    class Robot(Machine):
        __mapper_args__ = {"polymorphic_identity": "robot"}

    class Part(Base):
        __tablename__ = "part"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "part"}

    class Wheel(Part):
        __mapper_args__ = {"polymorphic_identity": "wheel"}

    class Link(Base):
        __tablename__ = "link"
        machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id"), primary_key=True)
        part_id: Mapped[int] = mapped_column(ForeignKey("part.id"), primary_key=True)
        part: Mapped[Any] = relationship("Part")

    Base.metadata.create_all(engine)
    wheel = Wheel()
    robot, machine = Robot(parts=[wheel]), Machine(parts=[Part(), wheel])
    session.add_all([robot, machine])
    session.commit()
    assert robot.parts == [wheel]
    assert session.scalars(select(Robot).where(Robot.parts.contains(wheel))).all() == [robot]
    robot.parts = [wheel]
    assert not session.dirty
    with pytest.raises(InvalidArgumentError, match=r"Robot\.parts has members of Part"):
        robot.parts.append(machine)


async def test_everything_works_under_asyncio_once_loaded(bases: Any, async_engine: AsyncEngine) -> None:
    m = models.shop(bases)
    async with async_engine.begin() as connection:
        await connection.run_sync(m.Base.metadata.create_all)
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        mug, hat = m.Item(name="mug"), m.Item(name="hat")
        order = m.Order()
        order.items = [mug]
        order.order_items[0].price = 9
        session.add_all([order, hat])
        await session.commit()
        order.items = [hat, mug]
        await session.commit()
        assert {(row.item.name, row.price) for row in order.order_items} == {("hat", 1), ("mug", 9)}
        assert order.items.index(mug) == 1
        order_id = order.id
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        order = await session.get(m.Order, order_id, options=[selectinload(m.Order.order_items)])
        # The members are not loaded, and need not be to find out which of them stay.
        order.items = [mug := await session.scalar(select(m.Item).where(m.Item.name == "mug"))]
        await session.commit()
        assert [(row.item, row.price) for row in order.order_items] == [(mug, 9)]


def test_members_that_are_not_loaded_are_not_taken_for_one_another(
    bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.shop(bases)
    m.Base.metadata.create_all(engine)
    order, cap = m.Order(), m.Item(name="cap")
    order.items = [m.Item(name="mug"), m.Item(name="hat"), m.Item(name="shirt")]
    session.add_all([order, cap])
    session.commit()
    order_id, cap_id = order.id, cap.id
    session.expunge_all()
    order, cap = session.get(m.Order, order_id), session.get(m.Item, cap_id)
    with statements() as log:
        order.items.append(cap)
        order.items.insert(0, m.Item(name="pin"))
        assert cap in order.items
    assert len(log) == 1, log.text  # the collection; the key of the table makes it compare members, and loads none
    session.commit()
    assert {item.name for item in order.items} == {"mug", "hat", "shirt", "cap", "pin"}


def test_a_nested_member_may_be_an_iterator(plain_bases: Any) -> None:
    a = models.numbered(plain_bases).A(collections={"x": iter([1, 2])})
    a.collections["y"] = (number for number in (3,))
    a.collections["x"] = iter([2])
    assert a.collections == {"x": {2}, "y": {3}}


def test_members_that_may_be_none_may_be_none(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Team(Base):
        __tablename__ = "team"
        id: Mapped[int] = mapped_column(primary_key=True)
        places: Mapped[list[Any]] = relationship("Place", cascade="all, delete-orphan", order_by="Place.id")
        people = proxied_list("places", lambda: Place.person)

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Place(Base):
        __tablename__ = "place"
        __table_args__ = (UniqueConstraint("team_id", "person_id"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
        person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
        person: Mapped[Any] = relationship("Person", uselist=False)

    Base.metadata.create_all(engine)
    ann = Person()
    team = Team(people=[None, ann, None])
    session.add(team)
    session.commit()
    assert team.people == [None, ann, None]
    assert team.people.count(None) == 2
    team.people = [ann, None, None]
    session.commit()
    assert sorted(row.id for row in team.places) == [1, 2, 3]
