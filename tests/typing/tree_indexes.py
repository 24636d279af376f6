"""Indexes of trees as a checker sees them: the tree stays what it is, and the attributes of the index have types."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import assert_type

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, MappedAsDataclass, Session, mapped_column

from sqla_patterns.trees import (
    ClosureTable,
    KeyedTreeNode,
    LtreePath,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
    load_tree,
)
from sqla_patterns.versioning import Versioned


class Base(DeclarativeBase):
    pass


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    pass


class Topic(NestedSets, TreeNode, Base):
    __tablename__ = "topic"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Folder(NestedSets, KeyedTreeNode, DataclassBase):
    __tablename__ = "folder"
    __tree__ = TreeOptions(key="name")
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, insert_default=uuid.uuid4, init=False)
    name: Mapped[str]


class Chapter(MaterializedPath, TreeNode, Versioned, Base):
    __tablename__ = "chapter"
    id: Mapped[int] = mapped_column(primary_key=True)


class Verse(Versioned, LtreePath, TreeNode, Base):
    __tablename__ = "verse"
    id: Mapped[int] = mapped_column(primary_key=True)


class Unit(Versioned, NestedSets, TreeNode, Base):
    __tablename__ = "unit"
    id: Mapped[int] = mapped_column(primary_key=True)


class Group(ClosureTable, Versioned, TreeNode, Base):
    __tablename__ = "group"
    id: Mapped[int] = mapped_column(primary_key=True)


def nested_sets(session: Session, topic: Topic, folder: Folder) -> None:
    assert_type(topic.left, int)
    assert_type(topic.right, int)
    assert_type(topic.depth, int)
    assert_type(topic.tree_id, int | None)
    assert_type(folder.tree_id, uuid.UUID | None)
    assert_type(Topic.left, InstrumentedAttribute[int])
    assert_type(Topic.tree_id, InstrumentedAttribute[int | None])
    assert_type(Folder.depth, InstrumentedAttribute[int])
    assert_type(topic.parent, Topic | None)
    assert_type(topic.children, list[Topic])
    assert_type(folder.children, dict[str, Folder])
    assert_type(Topic.descendant_of(topic, max_depth=2), ColumnElement[bool])
    in_line = select(Topic).where(Topic.descendant_of(topic)).order_by(Topic.tree_id, Topic.left)
    assert_type(session.scalars(in_line).all(), Sequence[Topic])
    assert_type(load_tree(session, Folder), Sequence[Folder])
    Folder(name="a")
