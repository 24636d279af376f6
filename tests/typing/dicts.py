"""What a user of dicts reads, without an annotation of a dictionary."""

from __future__ import annotations

from collections.abc import AsyncIterator, ItemsView, Iterator, KeysView, ValuesView
from typing import assert_type

from sqlalchemy.orm import DeclarativeBase, Mapped, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.dicts import (
    AsyncWriteOnlyDict,
    DictAttribute,
    WriteOnlyDict,
    async_write_only_dict,
    write_only_dict,
)


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: WriteOnlyMapped[Child] = relationship()
    by_key = write_only_dict("children", lambda: Child, lambda: Child.key)
    by_key_async = async_write_only_dict("children", lambda: Child, lambda: Child.key)


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]


def synchronous(parent: Parent, child: Child) -> None:
    children = parent.by_key
    assert_type(children, WriteOnlyDict[str, Child])
    assert_type(Parent.by_key, DictAttribute[WriteOnlyDict[str, Child]])
    assert_type(children["a"], Child)
    assert_type(children.get("a"), Child | None)
    assert_type(children.get("a", child), Child)
    assert_type(children.get("a", 5), Child | int)
    assert_type(children.pop("a"), Child)
    assert_type(children.pop("a", None), Child | None)
    assert_type(children.popitem(), tuple[str, Child])
    assert_type(children.setdefault("a", child), Child)
    assert_type("a" in children, bool)
    assert_type(len(children), int)
    assert_type(iter(children), Iterator[str])
    assert_type(children.keys(), KeysView[str])
    assert_type(children.values(), ValuesView[Child])
    assert_type(children.items(), ItemsView[str, Child])
    children["a"] = child
    children.update({"a": child})
    children.update([("a", child)])
    children.update(parent.by_key)
    del children["a"]


async def asynchronous(parent: Parent, child: Child) -> None:
    children = parent.by_key_async
    assert_type(children, AsyncWriteOnlyDict[str, Child])
    assert_type(Parent.by_key_async, DictAttribute[AsyncWriteOnlyDict[str, Child]])
    assert_type(await children.get("a"), Child | None)
    assert_type(await children.get("a", child), Child)
    assert_type(await children.contains("a"), bool)
    assert_type(await children.count(), int)
    assert_type(await children.pop("a"), Child)
    assert_type(await children.setdefault("a", child), Child)
    assert_type(children.items(), AsyncIterator[tuple[str, Child]])
    assert_type(children.keys(), AsyncIterator[str])
    assert_type(children.values(), AsyncIterator[Child])
    await children.set("a", child)
    await children.update({"a": child})
    await children.delete("a")
    await children.clear()
    async for key, value in children.items():
        assert_type((key, value), tuple[str, Child])
