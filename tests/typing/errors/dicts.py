"""What the checkers must refuse about dicts."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.dicts import async_write_only_dict, write_only_dict


class Base(DeclarativeBase):
    pass


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: WriteOnlyMapped[Child] = relationship()
    by_key = write_only_dict("children", lambda: Child, lambda: Child.key)
    by_key_async = async_write_only_dict("children", lambda: Child, lambda: Child.key)
    no_key = write_only_dict("children", lambda: Child, lambda: "key")  # E: "str"


async def wrong(parent: Parent, child: Child) -> None:
    parent.by_key[5]  # E: "int"
    parent.by_key["a"] = "child"  # E: "str"
    parent.by_key.update({5: child})  # E: "int"
    parent.by_key.setdefault("a")  # E: argument
    parent.by_key = {}  # E:
    await parent.by_key_async.get(5)  # E: "int"
    await parent.by_key_async.set("a", parent)  # E: "Parent"
    parent.by_key_async["a"]  # E: "AsyncWriteOnlyDict[str, Child]"
