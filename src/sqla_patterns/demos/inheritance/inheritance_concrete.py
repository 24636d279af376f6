"""Concrete-table inheritance: a table with all columns for each class."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, with_polymorphic

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.demos.inheritance._company import (
    Named,
    make_employees,
    show_found,
    show_refused_duplicate,
    show_whole_load,
    store_and_show,
)
from sqla_patterns.inheritance import ConcreteTable, subentity


class Base(DeclarativeBase):
    pass


class Company(Named, Base):
    __tablename__ = "demo_concrete_company"

    employees: Mapped[list[Person]] = relationship(back_populates="company", cascade="all, delete-orphan")


class Person(Named, ConcreteTable, Base):
    __tablename__ = "demo_concrete_person"

    company_id: Mapped[int] = mapped_column(ForeignKey(Company.id))
    company: Mapped[Company] = relationship(back_populates="employees")


class Engineer(Person):
    __tablename__ = "demo_concrete_engineer"

    status: Mapped[str] = mapped_column(String(50))
    engineer_name: Mapped[str] = mapped_column(String(50))
    primary_language: Mapped[str] = mapped_column(String(50))


class Manager(Person):
    __tablename__ = "demo_concrete_manager"

    status: Mapped[str] = mapped_column(String(50))
    manager_name: Mapped[str] = mapped_column(String(50))


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        company = Company(name="company1", employees=make_employees(Person, Engineer, Manager))
        store_and_show(options, session, company, company.employees)
        assert all(each.company is company for each in company.employees)

        spongebob = session.scalars(select(Engineer).where(Engineer.name == "spongebob")).one()
        assert spongebob is session.scalars(select(Person).where(Person.name == "spongebob")).one()
        spongebob.engineer_name = "hes spongebob!"
        session.commit()

        # Criteria on attributes of subclasses, and a join from the company.
        people = with_polymorphic(Person, "*")
        engineer, manager = subentity(people, Engineer), subentity(people, Manager)
        wanted = or_(engineer.engineer_name == "engineer2", manager.manager_name == "manager2")
        person = subentity(people, Person)
        found = select(person).where(wanted).order_by(person.name)
        employers = select(Company).join(Company.employees.of_type(people)).where(wanted).distinct()
        show_found(options, session.scalars(found).all(), session.scalars(employers).all())

        show_whole_load(options, session, Person, statements=1)
        table = Base.metadata.tables["demo_concrete_manager"]
        options.say("the library repeats:", ", ".join(column.name for column in table.c))
        assert [column.name for column in table.c] == ["company_id", "id", "name", "status", "manager_name"]
        assert [each.target_fullname for each in table.foreign_keys] == ["demo_concrete_company.id"]
        show_refused_duplicate(options, Person)

        session.delete(company)
        session.commit()
        assert session.scalars(select(Person)).all() == []
    return 0
