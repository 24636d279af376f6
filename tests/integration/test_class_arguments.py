"""Functions that take a class say so when they are given an object of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.graphs import GraphEdge, GraphNode, find_cycles, load_graph, topological_order
from sqla_patterns.trees import TreeNode, dump_tree, insert_tree, load_tree, rebuild_tree, verify_tree, walk_tree

TREES: list[tuple[Callable[..., object], list[Any], str]] = [
    (load_tree, [], ", root=..."),
    (walk_tree, [], ", root=..."),
    (dump_tree, [], ", root=..."),
    (insert_tree, [[{"id": 2}]], ", parent=..."),
    (verify_tree, [], ""),
    (rebuild_tree, [], ""),
]
GRAPHS: list[tuple[Callable[..., object], list[Any], str]] = [
    (load_graph, [], ", start=..."),
    (topological_order, [], ""),
    (find_cycles, [], ""),
]


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    ("function", "arguments", "keyword"), [*TREES, *GRAPHS], ids=lambda value: getattr(value, "__name__", "")
)
def test_an_object_is_refused(
    function: Any, arguments: list[Any], keyword: str, plain_bases: Any, engine: Engine
) -> None:
    base = plain_bases()

    class Topic(TreeNode, base):
        __tablename__ = "topic"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Task(GraphNode, base):
        __tablename__ = "task"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Needs(GraphEdge[Task], base):
        __tablename__ = "needs"

    base.metadata.create_all(engine)
    cls = Topic if function in [each[0] for each in TREES] else Task
    with Session(engine) as session:
        obj = cls(id=1)
        session.add(obj)
        session.commit()
        name = function.__name__
        with pytest.raises(InvalidArgumentError) as caught:
            function(session, obj, *arguments)
        assert str(caught.value).endswith(f"write {name}(session, {cls.__name__}{keyword})")
        assert f"{name}() takes a class and was given " in str(caught.value)
        function(session, cls, *arguments)
