"""Mappings for the tests, on any declarative base. No postponed annotations: these classes are local to functions."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, String
from sqlalchemy.orm import Mapped, mapped_column, registry, relationship

from sqla_patterns.inheritance import ConcreteTable, JoinedTable, SingleTable, shared_column

STRATEGIES = {"single": SingleTable, "joined": JoinedTable, "concrete": ConcreteTable}


class RegistryFactory:
    """A factory of registries for classes that ``registry.mapped`` maps, in the shape of the fixture `bases`."""

    kind = "registry"

    def __init__(self) -> None:
        self._made: list[registry] = []

    def __call__(self) -> registry:
        self._made.append(registry())
        return self._made[-1]

    def dispose(self) -> None:
        for each in self._made:
            each.dispose(cascade=True)


def company(bases: Any, strategy: str, *mixins: type) -> Any:
    """Map the people of a company, three levels deep: Person, Engineer, Senior below Engineer, and Manager."""
    mixin = STRATEGIES[strategy]
    registered = bases.kind == "registry"
    Base = bases()
    mapped: Any = Base.mapped if registered else (lambda cls: cls)
    dataclass = bases.kind == "dataclass"
    no_init: dict[str, Any] = {"init": False} if dataclass else {}
    keyword: dict[str, Any] = {"kw_only": True, "default": None} if dataclass else {}
    # SQLAlchemy 2.0 needs it for selectinload() of concrete objects, as the guide says.
    plain_join: dict[str, Any] = {"omit_join": False} if strategy == "concrete" else {}
    above = (mixin, *mixins) if registered else (mixin, *mixins, Base)

    @mapped
    class Company(*(() if registered else (Base,))):  # type: ignore[misc]
        __tablename__ = "company"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        name: Mapped[str | None] = mapped_column(String(30), **keyword)
        employees: Mapped[list["Person"]] = relationship(back_populates="company", **plain_join, **no_init)

    @mapped
    class Person(*above):  # type: ignore[misc]
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        name: Mapped[str | None] = mapped_column("person_name", String(30), **keyword)
        company_id: Mapped[int | None] = mapped_column(ForeignKey("company.id", ondelete="SET NULL"), **no_init)
        company: Mapped[Company | None] = relationship(back_populates="employees", **no_init)

    @mapped
    class Engineer(Person):
        language: Mapped[str | None] = mapped_column(String(30), **keyword)
        status: Mapped[str | None] = shared_column(String(30), **keyword)

    @mapped
    class Senior(Engineer):
        years: Mapped[int | None] = mapped_column(**keyword)

    @mapped
    class Manager(Person, identity="boss"):
        budget: Mapped[int | None] = mapped_column(**keyword)
        status: Mapped[str | None] = shared_column(String(30), **keyword)

    return SimpleNamespace(
        Base=Base,
        metadata=Base.metadata,
        Company=Company,
        Person=Person,
        Engineer=Engineer,
        Senior=Senior,
        Manager=Manager,
    )


def composite(bases: Any, strategy: str, *, schema: str | None = None) -> Any:
    """Map two levels below a class with a composite reference and a composite key, not named like its attributes."""
    Base = bases()
    mixin = STRATEGIES[strategy]
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}

    class Site(Base):  # type: ignore[misc,valid-type]
        __tablename__ = "site"
        area: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, **no_init)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, **no_init)

    class Asset(mixin, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "asset"
        __table_args__ = (
            ForeignKeyConstraint(["site_area", "site_number"], ["site.area", "site.number"], ondelete="CASCADE"),
            {"comment": "assets"},
        )
        book: Mapped[str] = mapped_column("book_name", String(10), primary_key=True, **no_init)
        page: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, **no_init)
        site_area: Mapped[int | None] = mapped_column(**no_init)
        site_number: Mapped[int | None] = mapped_column(**no_init)

    class Machine(Asset):
        power: Mapped[int | None] = mapped_column(**no_init)

    class Robot(Machine):
        arms: Mapped[int | None] = mapped_column(**no_init)

    return SimpleNamespace(Base=Base, metadata=Base.metadata, Site=Site, Asset=Asset, Machine=Machine, Robot=Robot)
