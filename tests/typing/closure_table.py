"""A tree with a closure table, as a checker sees it: like one without."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import assert_type

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    mapped_column,
    selectinload,
)

from sqla_patterns.trees import ClosureTable, KeyedTreeNode, TreeNode, TreeOptions, insert_tree, load_tree, verify_tree


class Base(DeclarativeBase):
    pass


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    pass


class Unit(ClosureTable, TreeNode, Base):
    __tablename__ = "unit"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Folder(ClosureTable, KeyedTreeNode, DataclassBase):
    __tablename__ = "folder"
    __tree__ = TreeOptions(key="name")
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, init=False, default_factory=uuid.uuid4)
    name: Mapped[str]


def attributes(unit: Unit, folder: Folder) -> None:
    assert_type(Unit.parent, InstrumentedAttribute[Unit | None])
    assert_type(unit.children, list[Unit])
    assert_type(unit.parent_id, int | None)
    assert_type(folder.children, dict[str, Folder])
    assert_type(folder.parent_id, uuid.UUID | None)
    assert_type(Folder(name="a").name, str)


def reading(session: Session, unit: Unit) -> None:
    assert_type(Unit.descendant_of(unit, max_depth=2), ColumnElement[bool])
    assert_type(Unit.ancestor_of(aliased(Unit)), ColumnElement[bool])
    assert_type(load_tree(session, Unit), Sequence[Unit])
    assert_type(insert_tree(session, Folder, {"a": {}}), Sequence[Folder])
    assert_type(session.scalars(select(Unit).options(selectinload(Unit.children))).all(), Sequence[Unit])
    assert_type([problem.kind for problem in verify_tree(session, Unit)], list[str])
