"""A hierarchy whose objects are nodes of a tree, have a history, readable defaults and listeners."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from sqla_patterns.attributes import ActiveDefaults, AttributeChange, listen_for_changes
from sqla_patterns.inheritance import JoinedTable, SingleTable, load_polymorphic
from sqla_patterns.trees import NestedSets, TreeNode
from sqla_patterns.versioning import Versioned


@pytest.mark.parametrize("mixin", [SingleTable, JoinedTable])
def test_a_tree_with_a_history_of_several_classes(
    plain_bases: Any, engine: Engine, session: Session, mixin: Any
) -> None:
    Base = plain_bases()

    class Item(mixin, ActiveDefaults, NestedSets, TreeNode, Versioned, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20), default="unnamed")

    class Folder(Item):
        color: Mapped[str | None] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    told: list[AttributeChange[Any]] = []
    folder, item = Folder(color="red"), Item()
    assert (item.name, item.type, folder.name) == ("unnamed", "item", "unnamed")
    folder.children.append(item)
    session.add(folder)
    session.commit()
    with listen_for_changes(Item, told.append, keys=["color"]):
        folder.color = "blue"
    session.commit()
    session.expunge_all()

    found = session.scalars(select(Item).order_by(Item.left).options(load_polymorphic(Item))).all()
    assert [(type(each), each.left, each.right, each.version) for each in found] == [(Folder, 1, 4, 2), (Item, 2, 3, 1)]
    former = session.scalars(select(Folder.__history_mapper__.class_)).one()
    assert (former.color, former.name, former.type) == ("red", "unnamed", "folder")
    assert [(change.verb, change.value) for change in told] == [("set", "blue")]
