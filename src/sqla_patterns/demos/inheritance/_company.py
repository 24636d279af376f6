"""What the demos of inheritance share: the employees of a company, and what is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import new_class
from typing import Final, TypeVar

from sqlalchemy import Engine, String, event, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.demos._support import DemoOptions
from sqla_patterns.exceptions import MappingError
from sqla_patterns.inheritance import load_polymorphic

P = TypeVar("P")
_SHOWN: Final = ("name", "status", "engineer_name", "primary_language", "manager_name")


class Named:
    """Something with a key and a name, which shows its columns."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {getattr(self, name)}" for name in _SHOWN if hasattr(self, name))
        return f"{type(self).__name__} {shown}"


def make_employees(person: Callable[..., P], engineer: Callable[..., P], manager: Callable[..., P]) -> list[P]:
    """Return five new employees of three classes."""
    return [
        manager(name="mr krabs", status="AAB", manager_name="manager1"),
        engineer(name="spongebob", status="BBA", engineer_name="engineer1", primary_language="java"),
        person(name="joesmith"),
        engineer(name="patrick", status="CGG", engineer_name="engineer2", primary_language="python"),
        manager(name="jsmith", status="ABA", manager_name="manager2"),
    ]


def store_and_show(options: DemoOptions, session: Session, company: object, employees: Sequence[object]) -> None:
    """Store a company, and print its employees as they come back from the database."""
    session.add(company)
    session.commit()
    for employee in employees:
        options.say(employee)
    names = ["Engineer", "Engineer", "Manager", "Manager", "Person"]
    assert sorted(type(employee).__name__ for employee in employees) == names


def show_found(options: DemoOptions, found: Sequence[Named], employers: Sequence[object]) -> None:
    """Print those who meet a condition on attributes of subclasses; a join finds their one employer."""
    options.say("found:", found)
    assert [each.name for each in found] == ["jsmith", "patrick"]
    assert len(employers) == 1


def show_whole_load(options: DemoOptions, session: Session, person: type[object], *, statements: int) -> None:
    """Load the mixed employees whole, in a number of statements that is known, where upstream loads one by one."""
    session.expire_all()
    with _counted(session.get_bind().engine) as log:
        texts = [repr(each) for each in session.scalars(select(person).options(load_polymorphic(person)))]
    options.say(f"{len(texts)} people in {len(log)} statement(s)")
    assert len(log) == statements


def show_refused_duplicate(options: DemoOptions, person: type[object]) -> None:
    """Define a class with the identity of another, which is refused."""
    try:
        new_class("Second", (person,), {"identity": "engineer"})
    except MappingError as error:
        options.say("refused:", error)
    else:
        raise AssertionError("two classes have one identity")


@contextmanager
def _counted(engine: Engine) -> Generator[list[str], None, None]:
    """Collect the statements of a block."""
    statements: list[str] = []

    def record(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)
