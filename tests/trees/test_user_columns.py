"""What is the user's stays the user's: ``onupdate`` and ``version_id_col`` see edits, not the library's bookkeeping."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import Engine, Integer, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.trees import TreeNode


@pytest.fixture
def stamped(engine: Engine, plain_bases: Any) -> Any:
    Base = plain_bases()
    counter = itertools.count(1)

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        edits: Mapped[int] = mapped_column(Integer, default=0, onupdate=lambda: next(counter))
        version: Mapped[int] = mapped_column(Integer)
        __mapper_args__ = {"version_id_col": version}

    Base.metadata.create_all(engine)
    return Page


def test_siblings_keep_their_onupdate_and_version(stamped: Any, session: Session) -> None:
    """A sibling that is only shifted was not edited: neither ``onupdate`` nor ``version_id_col`` notices."""
    a, b, c, x = (stamped(name=name) for name in "abcx")
    a.children = [b, c]
    session.add_all([a, x])
    session.commit()
    a.children.insert(0, stamped(name="n"))
    x.move_to(a, "before")
    session.commit()
    rows = {row.name: (row.edits, row.version) for row in session.execute(select(stamped.__table__))}
    assert rows["a"] == rows["b"] == rows["c"] == (0, 1)
    assert rows["x"][1] == 2


def test_a_moved_node_is_edited(stamped: Any, session: Session) -> None:
    """The node that moves is an ordinary UPDATE: ``onupdate`` fires and its version counts."""
    a, b, c = (stamped(name=name) for name in "abc")
    session.add_all([a, b, c])
    session.commit()
    b.parent = a
    session.commit()
    assert b.version == 2
    assert b.edits > 0
    b.name = "other"
    c.move_to(b)
    session.commit()
    assert (b.version, c.version, a.version) == (3, 2, 1)


def test_versions_after_a_delete_beside(stamped: Any, session: Session) -> None:
    """A parent whose child is deleted or removed is not edited either."""
    a, b, c = (stamped(name=name) for name in "abc")
    a.children = [b, c]
    session.add(a)
    session.commit()
    session.delete(b)
    a.children.remove(c)
    session.commit()
    assert a.version == 1
    assert a.edits == 0
