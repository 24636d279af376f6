"""Attributes of subclasses: with their types, and in few statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select
from sqlalchemy.orm import (
    Mapped,
    Session,
    aliased,
    configure_mappers,
    joinedload,
    mapped_column,
    selectinload,
    with_loader_criteria,
    with_polymorphic,
)

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.inheritance import load_polymorphic, subentity

from . import _models as models
from .test_hierarchies import make


class Unmapped:
    pass


def _fill(m: Any, session: Session, count: int, **values: Any) -> None:
    company = make(m.Company, name="ACME")
    session.add(company)
    for number in range(count):
        name = f"{number:05}"
        session.add_all(
            [
                make(m.Person, name=name, company=company, **values),
                make(m.Engineer, name=name, company=company, language="C", status="busy", **values),
                make(m.Senior, name=name, company=company, language="C", years=number, **values),
                make(m.Manager, name=name, company=company, budget=number, status="idle", **values),
            ]
        )
    session.commit()
    session.expunge_all()


def _read_all(m: Any, people: Any) -> set[str]:
    for person in people:
        _ = person.name
        if isinstance(person, m.Engineer):
            assert (person.language, person.status) in (("C", "busy"), ("C", None))
        if isinstance(person, m.Senior):
            assert person.years is not None
        if isinstance(person, m.Manager):
            assert (person.budget is not None, person.status) == (True, "idle")
    return {type(person).__name__ for person in people}


KINDS = {"Person", "Engineer", "Senior", "Manager"}
#: One for the query, one for each of the three subclasses; the union of concrete tables has all columns.
STATEMENTS = {"single": 4, "joined": 4, "concrete": 1}


@pytest.mark.parametrize("count", [1, 250])
def test_a_mixed_hierarchy_loads_in_one_statement_and_one_for_each_subclass(
    plain_bases: Any, strategy: str, engine: Engine, session: Session, statements: Callable[..., Any], count: int
) -> None:
    m = models.company(plain_bases, strategy)
    m.metadata.create_all(engine)
    _fill(m, session, count)
    with statements() as log:
        people = session.scalars(select(m.Person).options(load_polymorphic(m.Person))).all()
        kinds = _read_all(m, people)
    assert (len(people), kinds) == (4 * count, KINDS)
    assert len(log) == STATEMENTS[strategy], log.text


def test_each_five_hundred_objects_of_a_subclass_take_a_statement(
    plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    session.add_all([make(m.Manager, name="x", budget=1, status="idle") for _ in range(1001)])
    session.commit()
    session.expunge_all()
    with statements() as log:
        _read_all(m, session.scalars(select(m.Person).options(load_polymorphic(m.Person))).all())
    assert len(log) == 1 + 3


def test_on_all_bases_it_takes_as_many_statements(
    bases: Any, strategy: str, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.company(bases, strategy)
    m.metadata.create_all(engine)
    _fill(m, session, 3)
    with statements() as log:
        _read_all(m, session.scalars(select(m.Person).options(load_polymorphic(m.Person))).all())
    assert len(log) == STATEMENTS[strategy], log.text


def test_without_the_option_each_object_takes_a_statement(
    plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    _fill(m, session, 3)
    with statements() as log:
        _read_all(m, session.scalars(select(m.Person)).all())
    assert len(log) == 1 + 3 * 3


def test_classes_of_which_there_are_no_objects_take_no_statement(
    plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    session.add(make(m.Manager, name="x", budget=1, status="idle"))
    session.commit()
    session.expunge_all()
    with statements() as log:
        _read_all(m, session.scalars(select(m.Person).options(load_polymorphic(m.Person))).all())
    assert len(log) == 2


def test_a_part_of_the_hierarchy_loads_in_its_own_statements(
    plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    _fill(m, session, 2)
    with statements() as log:
        kinds = _read_all(m, session.scalars(select(m.Engineer).options(load_polymorphic(m.Engineer))).all())
    assert (kinds, len(log)) == ({"Engineer", "Senior"}, 2)


@pytest.mark.parametrize("loader", [selectinload, joinedload])
def test_below_a_relationship_it_takes_as_many_more(
    plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any], loader: Any
) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    _fill(m, session, 3)
    option = loader(m.Company.employees).options(load_polymorphic(m.Person))
    with statements() as log:
        company = session.scalars(select(m.Company).options(option)).unique().one()
        kinds = _read_all(m, company.employees)
    assert kinds == KINDS
    assert len(log) == 3 + (2 if loader is selectinload else 1), log.text


def _tenants(bases: Any, strategy: str) -> Any:
    class Tenant:
        tenant: Mapped[int] = mapped_column(insert_default=1)

    return models.company(bases, strategy, Tenant), Tenant


@pytest.mark.parametrize("when", ["always", "at the first statement"])
def test_under_global_criteria_it_takes_as_many_and_shows_no_more(
    plain_bases: Any, strategy: str, engine: Engine, session: Session, statements: Callable[..., Any], when: str
) -> None:
    m, Tenant = _tenants(plain_bases, strategy)
    m.metadata.create_all(engine)
    _fill(m, session, 2, tenant=1)
    _fill(m, session, 3, tenant=2)

    def only_one_tenant(state: Any) -> None:
        first = not state.is_column_load and not state.is_relationship_load
        if state.is_select and (first or when == "always"):
            criteria = with_loader_criteria(Tenant, lambda cls: cls.tenant == 1, include_aliases=True)
            state.statement = state.statement.options(criteria)

    event.listen(session, "do_orm_execute", only_one_tenant)
    with statements() as log:
        people = session.scalars(select(m.Person).options(load_polymorphic(m.Person))).all()
        kinds = _read_all(m, people)
    assert (len(people), kinds) == (8, KINDS)
    assert len(log) == STATEMENTS[strategy], log.text


def test_under_a_criterion_on_the_base_it_takes_as_many(
    plain_bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    _fill(m, session, 3)
    criteria = with_loader_criteria(m.Person, m.Person.name != "00000", include_aliases=True)
    with statements() as log:
        people = session.scalars(select(m.Person).options(load_polymorphic(m.Person), criteria)).all()
        _read_all(m, people)
    assert (len(people), len(log)) == (8, 4)


def test_a_class_that_is_not_mapped_is_refused() -> None:
    for wrong in (Unmapped, "Person", None):
        with pytest.raises(InvalidArgumentError, match="pass a mapped class"):
            load_polymorphic(wrong)  # type: ignore[arg-type]


# -- subentity() ---------------------------------------------------------------------------------


def test_a_subentity_is_the_part_of_the_polymorphic_entity(bases: Any, strategy: str) -> None:
    m = models.company(bases, strategy)
    configure_mappers()
    people = with_polymorphic(m.Person, "*")
    assert subentity(people, m.Engineer) is people.Engineer
    assert subentity(people, m.Person) is people


def test_a_subentity_orders_and_aggregates(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.company(plain_bases, "joined")
    m.metadata.create_all(engine)
    _fill(m, session, 3)
    people = with_polymorphic(m.Person, [m.Senior, m.Manager], flat=True)
    total = select(func.sum(subentity(people, m.Senior).years) + func.sum(subentity(people, m.Manager).budget))
    assert session.scalar(total) == 6


def test_a_subentity_that_is_not_included_is_refused(plain_bases: Any) -> None:
    m = models.company(plain_bases, "joined")
    people = with_polymorphic(m.Person, [m.Engineer])
    with pytest.raises(
        InvalidArgumentError, match=r"found no Manager in .*with_polymorphic\(Person, \[\.\.\., Manager\]\)"
    ):
        subentity(people, m.Manager)


def test_a_namesake_of_a_class_is_refused(plain_bases: Any) -> None:
    m, other = models.company(plain_bases, "joined"), models.company(plain_bases, "joined")
    with pytest.raises(InvalidArgumentError, match="found no Engineer"):
        subentity(with_polymorphic(m.Person, "*"), other.Engineer)


def test_what_is_no_polymorphic_entity_is_refused(plain_bases: Any) -> None:
    m = models.company(plain_bases, "joined")
    for wrong in (m.Person, "Person", None, m.Person.name):
        with pytest.raises(InvalidArgumentError, match=r"pass what with_polymorphic\(\) has returned"):
            subentity(wrong, m.Engineer)


def test_a_subentity_of_what_is_no_class_is_refused(plain_bases: Any) -> None:
    m = models.company(plain_bases, "joined")
    wrong: Any = None
    with pytest.raises(InvalidArgumentError, match=r"given None for a class; pass a mapped class"):
        subentity(with_polymorphic(m.Person, "*"), wrong)


def test_an_alias_that_is_not_polymorphic_has_no_subentities(plain_bases: Any) -> None:
    m = models.company(plain_bases, "joined")
    with pytest.raises(InvalidArgumentError, match="found no Engineer"):
        subentity(aliased(m.Person), m.Engineer)
