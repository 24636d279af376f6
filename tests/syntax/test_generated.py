"""Statements that a seed makes up return the rows of a subquery that is written by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import Session

from sqla_patterns.syntax import qualified

from ._models import Author, Base, Post

STATEMENTS = 500
COLUMNS = ["id", "author_id", "kind", "title", "score"]
FUNCTIONS = ["row_number", "rank", "dense_rank", "count", "sum", "max", "lag"]


@dataclass(frozen=True)
class Window:
    """A condition such as ``rank() OVER (PARTITION BY kind ORDER BY score, id) <= 2``."""

    function: str
    partition: tuple[str, ...]
    order: tuple[tuple[str, bool], ...]
    operator: str
    value: int

    def expression(self, columns: Any) -> Any:
        """Return the window function over `columns`: of the table, of a class or of a subquery."""
        functions = {
            "row_number": func.row_number,
            "rank": func.rank,
            "dense_rank": func.dense_rank,
            "count": func.count,
            "sum": lambda: func.sum(columns.score),
            "max": lambda: func.max(columns.score),
            "lag": lambda: func.lag(columns.id),
        }
        order = [getattr(columns, name).desc() if down else getattr(columns, name) for name, down in self.order]
        return functions[self.function]().over(
            partition_by=[getattr(columns, name) for name in self.partition] or None, order_by=order
        )

    def holds(self, value: Any) -> Any:
        return {
            "==": value == self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            "!=": value != self.value,
        }[self.operator]


@dataclass(frozen=True)
class Shape:
    """A statement."""

    selected: tuple[str, ...]
    levels: tuple[tuple[Window, ...], ...]
    where: int | None
    joined: bool
    distinct: bool
    order: tuple[tuple[str, bool], ...]
    limit: int | None
    offset: int | None

    def finish(self, statement: Select[Any], columns: Any) -> Select[Any]:
        """Add what comes after the conditions."""
        if self.distinct:
            statement = statement.distinct()
        order = [getattr(columns, name).desc() if down else getattr(columns, name) for name, down in self.order]
        return statement.order_by(*order).limit(self.limit).offset(self.offset)

    def start(self, statement: Select[Any], columns: Any) -> Select[Any]:
        """Add what comes before the conditions."""
        if self.joined:
            author: Any = Author.__table__
            statement = statement.join(author, author.c.id == columns.author_id).where(author.c.name != "author2")
        return statement if self.where is None else statement.where(columns.id > self.where)

    def qualified(self, columns: Any) -> Select[Any]:
        statement: Any = self.start(select(*(getattr(columns, name) for name in self.selected)), columns)
        for level in self.levels:
            statement = qualified(statement, *(window.holds(window.expression(columns)) for window in level))
        return self.finish(statement, columns)

    def by_hand(self) -> Select[Any]:
        columns: Any = Post.__table__.c
        inner: Any = self.start(select(*(getattr(columns, name) for name in COLUMNS)), columns)
        for level in self.levels:
            here = columns
            inner = inner.add_columns(*(window.expression(here).label(f"w{n}") for n, window in enumerate(level)))
            rows = inner.subquery()
            columns = rows.c
            chosen = [window.holds(columns[f"w{n}"]) for n, window in enumerate(level)]
            inner = select(*(columns[name] for name in COLUMNS)).where(*chosen)
        return self.finish(inner.with_only_columns(*(columns[name] for name in self.selected)), columns)


def _window(chance: random.Random) -> Window:
    function = chance.choice(FUNCTIONS)
    names = chance.sample(COLUMNS, chance.randint(0, 2))
    # By the key at last, so that every function has one answer.
    order = (*((name, chance.random() < 0.5) for name in names), ("id", chance.random() < 0.5))
    partition = tuple(chance.sample(["author_id", "kind", "score"], chance.randint(0, 2)))
    return Window(function, partition, order, chance.choice(["==", "<=", ">", "!="]), chance.randint(1, 6))


def _shape(chance: random.Random) -> Shape:
    selected = tuple(chance.sample(COLUMNS, chance.randint(1, 4)))
    distinct = chance.random() < 0.25
    # DISTINCT is ordered by what is selected.
    ordered = selected if distinct else (*chance.sample(COLUMNS, chance.randint(0, 2)), "id")
    return Shape(
        selected=selected,
        levels=tuple(
            tuple(_window(chance) for _ in range(chance.randint(1, 2))) for _ in range(chance.choice([1, 1, 1, 2, 3]))
        ),
        where=chance.choice([None, 5, 12]),
        joined=chance.random() < 0.3,
        distinct=distinct,
        order=tuple((name, chance.random() < 0.5) for name in ordered),
        limit=chance.choice([None, 3, 10]),
        offset=None,
    )


@pytest.fixture
def posts(engine: Engine, session: Session) -> Session:
    """Make 40 posts with values that repeat, and some without a score."""
    Base.metadata.create_all(engine)
    chance = random.Random(1)
    session.add_all(Author(id=n, name=f"author{n}") for n in range(1, 6))
    session.flush()
    session.add_all(
        Post(
            id=n,
            author_id=chance.randint(1, 5),
            title=f"t{chance.randint(1, 9)}",
            score=chance.choice([None, 1, 2, 3, 4]),
        )
        for n in range(1, 41)
    )
    session.commit()
    return session


@pytest.mark.timeout(600)
def test_500_statements_return_the_rows_of_a_subquery(posts: Session) -> None:
    chance = random.Random(2026)
    filled = 0
    for number in range(STATEMENTS):
        shape = _shape(chance)
        columns: Any = Post if number % 2 else Post.__table__.c
        expected = [tuple(row) for row in posts.execute(shape.by_hand())]
        assert [tuple(row) for row in posts.execute(shape.qualified(columns))] == expected, shape
        filled += bool(expected)
    # Most of them say something.
    assert filled > STATEMENTS / 2


def test_objects_of_100_statements_are_those_of_a_subquery(posts: Session) -> None:
    chance = random.Random(7)
    for _ in range(100):
        shape = _shape(chance)
        if shape.distinct:
            shape = Shape(**{**shape.__dict__, "distinct": False, "order": (("id", True),)})
        statement: Any = shape.start(select(Post), Post)
        for level in shape.levels:
            statement = qualified(statement, *(window.holds(window.expression(Post)) for window in level))
        by_hand = Shape(**{**shape.__dict__, "selected": ("id",)}).by_hand()
        found = posts.scalars(shape.finish(statement, Post)).all()
        assert [post.id for post in found] == posts.scalars(by_hand).all(), shape
