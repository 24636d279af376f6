"""Who reports to whom, by ranges of numbers: `NestedSets` from the first employee to a reorganisation.

It follows SQLAlchemy's example ``nested_sets``: an organisation chart, an employee with all superiors, an employee with
all reports, and the chart indented by depth. It goes on where the example says that it stops: people change
departments, leave and found a second company in the same table, and the numbers of objects in memory follow.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, String, func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.demos.trees import sql_of
from sqla_patterns.trees import (
    InvalidMoveError,
    NestedSets,
    TreeNode,
    TreeOptions,
    load_tree,
    rebuild_tree,
    verify_tree,
)


class Base(DeclarativeBase):
    pass


class Employee(NestedSets, TreeNode, Base):
    __tablename__ = "personnel"
    # Whoever leaves is followed by their own superior.
    __tree__ = TreeOptions(on_delete="adopt")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        _hire(options, engine, session)
        _ask(options, session)
        _reorganise(options, engine, session)
        _leave(options, session)
        _found_another_company(options, session)
        _mend(options, session)
    return 0


def _chart(session: Session) -> list[str]:
    """Return the chart, by one SELECT without recursion: depth is a column, and `left` sorts as the chart does."""
    rows = session.scalars(select(Employee).order_by(Employee.tree_id, Employee.left))
    return [f"{'    ' * node.depth}{node.name}  ({node.left}, {node.right})" for node in rows]


def _shifts(statements: Sequence[str]) -> list[str]:
    return [text for text in statements if text.startswith("UPDATE personnel") and "lft=" in text]


def _named(session: Session, name: str) -> Employee:
    return session.scalars(select(Employee).where(Employee.name == name)).one()


def _hire(options: DemoOptions, engine: Engine, session: Session) -> None:
    albert = Employee(name="Albert")
    bert = Employee(name="Bert", parent=albert)
    chuck = Employee(name="Chuck", parent=albert)
    for name in ("Donna", "Eddie", "Fred"):
        chuck.children.append(Employee(name=name))
    session.add(albert)
    with sql_of(engine) as log:
        session.flush()
    assert not _shifts(log)
    # The numbers of the whole chart were known before the first INSERT, and objects show them.
    assert (albert.left, albert.right, bert.left, chuck.right) == (1, 12, 2, 11)
    session.commit()
    options.say("Six people, inserted without shifting anybody's numbers:\n")
    options.say("\n".join(_chart(session)))


def _ask(options: DemoOptions, session: Session) -> None:
    eddie, chuck = _named(session, "Eddie"), _named(session, "Chuck")
    above = session.scalars(
        select(Employee.name).where(Employee.ancestor_of(eddie, inclusive=True)).order_by(Employee.left)
    ).all()
    assert above == ["Albert", "Chuck", "Eddie"]
    options.say(f"\nEddie and everybody above: {', '.join(above)}")
    below = session.scalars(
        select(Employee.name).where(Employee.descendant_of(chuck, inclusive=True)).order_by(Employee.left)
    ).all()
    assert below == ["Chuck", "Donna", "Eddie", "Fred"]
    options.say(f"Chuck and everybody below: {', '.join(below)}")
    boss = aliased(Employee)
    counts = (
        select(boss.name, func.count(Employee.id))
        .join(Employee, Employee.descendant_of(boss))
        .group_by(boss.name)
        .order_by(boss.name)
    )
    reports = {row[0]: row[1] for row in session.execute(counts)}
    assert reports == {"Albert": 5, "Chuck": 3}
    options.say(f"How many report to whom, in one query: {reports}")


def _reorganise(options: DemoOptions, engine: Engine, session: Session) -> None:
    (albert,) = load_tree(session, Employee)
    bert, chuck = albert.children
    donna, eddie, _ = chuck.children
    with sql_of(engine) as log:
        eddie.move_to(bert)
        donna.move_to(bert, "before")
        bert.children.append(Employee(name="Gina"))
        session.flush()
    assert len(_shifts(log)) == 1
    options.say("\nTwo moves and a new colleague, in one flush, with one UPDATE of the numbers:\n")
    options.say("\n".join(_chart(session)))
    # No refresh: objects in memory were shifted by the same arithmetic.
    assert [(node.name, node.left, node.depth) for node in (albert, donna, bert, eddie, chuck)] == [
        ("Albert", 1, 0),
        ("Donna", 2, 1),
        ("Bert", 4, 1),
        ("Eddie", 5, 2),
        ("Chuck", 10, 1),
    ]
    session.commit()
    albert.parent_id = eddie.id
    try:
        session.flush()
    except InvalidMoveError as error:
        options.say(f"\nrefused, before anything was written: {error}")
        session.rollback()


def _leave(options: DemoOptions, session: Session) -> None:
    session.delete(_named(session, "Bert"))
    session.commit()
    assert verify_tree(session, Employee) == []
    (albert,) = load_tree(session, Employee)
    assert [node.name for node in albert.children] == ["Donna", "Eddie", "Gina", "Chuck"]
    options.say("\nBert leaves; those who reported to him report to Albert now, in his place:\n")
    options.say("\n".join(_chart(session)))


def _found_another_company(options: DemoOptions, session: Session) -> None:
    chuck = _named(session, "Chuck")
    rival = Employee(name="Rosa")
    session.add(rival)
    chuck.parent = rival
    session.commit()
    assert chuck.tree_id == rival.id
    assert verify_tree(session, Employee) == []
    options.say("\nRosa founds a company of her own and takes Chuck along, with his whole department:\n")
    options.say("\n".join(_chart(session)))


def _mend(options: DemoOptions, session: Session) -> None:
    session.execute(update(Employee).where(Employee.name == "Chuck").values(depth=7))
    problems = verify_tree(session, Employee)
    assert [problem.kind for problem in problems if problem.pk == _named(session, "Chuck").id] == ["wrong_depth"]
    options.say(f"\na statement outside of the ORM has done damage: {problems[0].detail}")
    rebuild_tree(session, Employee)
    assert verify_tree(session, Employee) == []
    session.commit()
    options.say("rebuild_tree derives the numbers again: nothing is wrong any more")
