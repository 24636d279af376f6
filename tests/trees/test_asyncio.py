"""Under asyncio: functions through ``run_sync``, moves as plain ORM, and nothing left to load behind one's back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from sqla_patterns.trees import (
    InvalidMoveError,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    render_tree,
    verify_tree,
    walk_tree,
)
from tests.conftest import BaseFactory
from tests.trees._shapes import CONTRACT, Shape, Tree, no_sql


@pytest.fixture(params=CONTRACT)
def tree(request: pytest.FixtureRequest, async_engine: AsyncEngine, runner: Any) -> Any:
    shape: Shape = request.param
    factory = BaseFactory("dataclass" if shape.base == "dataclass" else "plain")
    tree = Tree(shape, factory())

    async def create() -> None:
        async with async_engine.begin() as connection:
            await connection.run_sync(tree.metadata.create_all)

    runner.run(create())
    yield tree
    factory.dispose()


def _attributes(node: Any) -> None:
    """Read all that the library maintains; a lazy load would raise `MissingGreenlet`."""
    assert node.parent_id is None or node.parent is not None
    assert node.children is not None
    if "position" in inspect(node).mapper.attrs:
        assert node.position >= 0


async def test_new_nodes_need_no_load(tree: Tree, async_session: AsyncSession) -> None:
    """After a flush, a commit and a second flush all attributes of new nodes are there."""
    nodes = tree.pending("a(b c(d))")
    async_session.add(nodes.a)
    await async_session.flush()
    with no_sql():
        for node in vars(nodes).values():
            _attributes(node)
    tree.attach(nodes.b, tree.new("e"))
    await async_session.commit()
    with no_sql():
        for node in vars(nodes).values():
            _attributes(node)
        assert tree.names(tree.members(nodes.b)) == "e"


async def test_every_function_runs_in_run_sync(tree: Tree, async_session: AsyncSession) -> None:
    """Each takes the session first."""
    data = [{"name": "a", "children": [{"name": "b"}, {"name": "c"}]}]
    (a,) = await async_session.run_sync(insert_tree, tree.cls, data)
    (root,) = await async_session.run_sync(load_tree, tree.cls)
    assert root is a
    b, c = tree.members(a)
    assert render_tree(a).count("\n") == 2
    assert [depth for _, depth in await async_session.run_sync(walk_tree, tree.cls, a)] == [0, 1, 1]
    assert await async_session.run_sync(lowest_common_ancestor, b, c) is a
    assert len(await async_session.run_sync(dump_tree, tree.cls)) == 1
    assert await async_session.run_sync(verify_tree, tree.cls) == []
    assert await async_session.run_sync(delete_subtree, a) == 3
    await async_session.commit()
    assert (await async_session.scalars(select(tree.cls))).all() == []


async def test_moves_need_no_load(tree: Tree, async_session: AsyncSession) -> None:
    """Loaded nodes are moved by each spelling, and show the outcome without SQL."""
    nodes = tree.pending("a(b(x) c d) e")
    async_session.add_all([nodes.a, nodes.e])
    await async_session.commit()
    nodes.b.parent = nodes.e
    nodes.c.parent_id = tree.pk(nodes.e)
    nodes.d.move_to(nodes.b)
    nodes.x.move_to(None)
    await async_session.commit()
    with no_sql():
        for node in vars(nodes).values():
            _attributes(node)
        assert tree.names(tree.members(nodes.e)) == "b c"
        assert tree.names(tree.members(nodes.b)) == "d"
        assert tree.members(nodes.a) == []


async def test_expired_nodes_are_moved_without_a_hidden_load(tree: Tree, async_session: AsyncSession) -> None:
    """What the flush has to look up, it looks up in its own greenlet."""
    nodes = tree.pending("a(b c) d")
    async_session.add_all([nodes.a, nodes.d])
    await async_session.commit()
    async_session.expire_all()
    nodes.b.parent = nodes.d
    nodes.c.move_to(nodes.d)
    await async_session.commit()
    (a, d) = await async_session.run_sync(load_tree, tree.cls)
    assert tree.names(tree.members(d)) == "b c"
    assert tree.members(a) == []


async def test_a_refused_move_leaves_a_session_that_works(tree: Tree, async_session: AsyncSession) -> None:
    """After the rollback everything can be loaded and moved again."""
    nodes = tree.pending("a(b) c")
    async_session.add_all([nodes.a, nodes.c])
    await async_session.commit()
    nodes.a.parent = nodes.b
    with pytest.raises(InvalidMoveError):
        await async_session.flush()
    await async_session.rollback()
    await async_session.run_sync(load_tree, tree.cls)
    nodes.a.parent = nodes.c
    await async_session.commit()
    (c,) = await async_session.run_sync(load_tree, tree.cls)
    assert render_tree(c).split() == ["c", "└──", "a", "└──", "b"]
