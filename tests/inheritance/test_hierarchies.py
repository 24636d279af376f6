"""What all three strategies have in common: mixed objects are stored, found, changed and deleted as what they are."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, configure_mappers, scoped_session, selectinload, sessionmaker, with_polymorphic

from sqla_patterns.inheritance import load_polymorphic, subentity
from tests._support import assert_migrates

from . import _models as models

DISCRIMINATED = ["single", "joined"]


def make(cls: Any, **values: Any) -> Any:
    """Make an object; no class has a constructor with arguments on all bases."""
    made = cls()
    for key, value in values.items():
        setattr(made, key, value)
    return made


def _staff(m: Any, session: Session) -> Any:
    company = make(m.Company, name="ACME")
    session.add(company)
    session.add_all(
        [
            make(m.Engineer, name="Dilbert", language="COBOL", status="busy", company=company),
            make(m.Manager, name="Boss", budget=5, status="idle", company=company),
            make(m.Person, name="Joe", company=company),
            make(m.Senior, name="Wally", language="C", years=20, company=company),
        ]
    )
    session.commit()
    session.expunge_all()
    return company


def _people(m: Any, session: Session) -> list[Any]:
    return list(session.scalars(select(m.Person).order_by(m.Person.name)))


def _kinds(people: list[Any]) -> list[tuple[str, str]]:
    return [(type(person).__name__, person.name) for person in people]


def _by_name(people: Any) -> list[Any]:
    return sorted(people, key=lambda person: str(person.name))


ALL = [("Manager", "Boss"), ("Engineer", "Dilbert"), ("Person", "Joe"), ("Senior", "Wally")]


def test_a_query_for_the_base_finds_all_as_what_they_are(
    bases: Any, strategy: str, engine: Engine, session: Session
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    assert _kinds(_people(m, session)) == ALL


def test_a_query_for_a_subclass_finds_its_own_and_those_below(
    bases: Any, strategy: str, engine: Engine, session: Session
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    engineers = session.scalars(select(m.Engineer).order_by(m.Engineer.name)).all()
    assert [(type(each).__name__, each.language) for each in engineers] == [("Engineer", "COBOL"), ("Senior", "C")]


def test_a_collection_holds_all_kinds_and_each_refers_back(
    bases: Any, strategy: str, engine: Engine, session: Session
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    company = session.scalars(select(m.Company)).one()
    assert _kinds(_by_name(company.employees)) == ALL
    assert all(person.company is company for person in company.employees)


def test_a_member_of_each_kind_can_be_appended_to_the_collection(
    bases: Any, strategy: str, engine: Engine, session: Session
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    company = make(m.Company, name="ACME")
    session.add(company)
    company.employees.append(make(m.Senior, name="Asok", years=1))
    company.employees.append(make(m.Manager, name="Catbert"))
    session.commit()
    assert [(type(person).__name__, person.company_id) for person in _by_name(company.employees)] == [
        ("Senior", company.id),
        ("Manager", company.id),
    ]


def test_attributes_of_each_level_are_stored(bases: Any, strategy: str, engine: Engine, session: Session) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    wally = session.scalars(select(m.Senior)).one()
    assert (wally.name, wally.language, wally.years) == ("Wally", "C", 20)


def test_an_object_is_changed_and_deleted(bases: Any, strategy: str, engine: Engine, session: Session) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    wally = session.scalars(select(m.Senior)).one()
    wally.name, wally.years = "Walter", 21
    session.delete(session.scalars(select(m.Manager)).one())
    session.commit()
    session.expunge_all()
    assert _kinds(_people(m, session)) == [("Engineer", "Dilbert"), ("Person", "Joe"), ("Senior", "Walter")]
    assert session.scalars(select(m.Senior.years)).all() == [21]


def test_the_identities_are_names_in_snake_case_or_what_was_said(bases: Any, strategy: str) -> None:
    m = models.company(bases, strategy)
    identities = [inspect(cls).polymorphic_identity for cls in (m.Person, m.Engineer, m.Senior, m.Manager)]
    assert identities == ["person", "engineer", "senior", "boss"]


@pytest.mark.parametrize("discriminated", DISCRIMINATED)
def test_the_discriminator_is_set_on_a_new_object(bases: Any, discriminated: str) -> None:
    m = models.company(bases, discriminated)
    assert [cls().type for cls in (m.Person, m.Engineer, m.Senior, m.Manager)] == [
        "person",
        "engineer",
        "senior",
        "boss",
    ]


@pytest.mark.parametrize("discriminated", DISCRIMINATED)
def test_the_discriminator_can_be_queried(bases: Any, discriminated: str, engine: Engine, session: Session) -> None:
    m = models.company(bases, discriminated)
    m.metadata.create_all(engine)
    _staff(m, session)
    count = select(m.Person.type, func.count()).group_by(m.Person.type).order_by(m.Person.type)
    assert session.execute(count).all() == [("boss", 1), ("engineer", 1), ("person", 1), ("senior", 1)]


def test_a_polymorphic_entity_is_queried_by_attributes_of_subclasses(
    bases: Any, strategy: str, engine: Engine, session: Session
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    people = with_polymorphic(m.Person, "*")
    found = session.scalars(
        select(people)
        .where((subentity(people, m.Engineer).language == "COBOL") | (subentity(people, m.Manager).budget == 5))
        .order_by(people.name)
    ).all()
    assert _kinds(list(found)) == [("Manager", "Boss"), ("Engineer", "Dilbert")]


def test_people_of_a_kind_are_found_through_the_collection(
    bases: Any, strategy: str, engine: Engine, session: Session
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    # of_type() a concrete subclass would join its table, which the collection does not refer to.
    people = with_polymorphic(m.Person, "*")
    employs = select(m.Company.name).join(m.Company.employees.of_type(people))
    assert session.scalars(employs.where(subentity(people, m.Engineer).language == "COBOL")).all() == ["ACME"]
    assert session.scalars(employs.where(subentity(people, m.Engineer).language == "Ada")).all() == []


def test_scoped_sessions_work(bases: Any, strategy: str, engine: Engine, session: Session) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _staff(m, session)
    session.close()
    db = scoped_session(sessionmaker(engine))
    assert _kinds(list(db.scalars(select(m.Person).order_by(m.Person.name).options(load_polymorphic(m.Person))))) == ALL
    db.remove()


async def test_under_asyncio_nothing_is_left_to_load(bases: Any, strategy: str, async_session: AsyncSession) -> None:
    m = models.company(bases, strategy)
    await (await async_session.connection()).run_sync(m.metadata.create_all)
    await async_session.run_sync(lambda session: _staff(m, session))
    statement = select(m.Company).options(selectinload(m.Company.employees).options(load_polymorphic(m.Person)))
    company = (await async_session.scalars(statement)).one()
    values = [getattr(each, "budget", getattr(each, "language", None)) for each in _by_name(company.employees)]
    assert values == [5, "COBOL", None, "C"]


def test_a_migration_creates_it_and_finds_nothing_more(declarative_bases: Any, strategy: str, engine: Engine) -> None:
    m = models.company(declarative_bases, strategy)
    source = assert_migrates(engine, m.metadata)
    assert "concrete_type" not in source


def test_a_migration_of_composite_keys_and_references_finds_nothing_more(
    declarative_bases: Any, strategy: str, engine: Engine
) -> None:
    m = models.composite(declarative_bases, strategy)
    configure_mappers()
    assert_migrates(engine, m.metadata)


def test_composite_keys_work(declarative_bases: Any, strategy: str, engine: Engine, session: Session) -> None:
    m = models.composite(declarative_bases, strategy)
    m.metadata.create_all(engine)
    session.add(make(m.Site, area=1, number=2))
    session.flush()
    session.add(make(m.Robot, book="a", page=1, site_area=1, site_number=2, power=3, arms=4))
    session.add(make(m.Machine, book="a", page=2, power=5))
    session.commit()
    session.expunge_all()
    found = session.scalars(select(m.Asset).order_by(m.Asset.page)).all()
    assert [(type(each).__name__, each.power, getattr(each, "arms", None)) for each in found] == [
        ("Robot", 3, 4),
        ("Machine", 5, None),
    ]
