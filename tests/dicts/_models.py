"""Mappings for the tests, on any declarative base.

Annotations are not postponed, because these classes are local to functions.
"""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.dicts import async_write_only_dict, write_only_dict


def family(bases: Any, *, unique: bool = True, orphans: bool = False, composite: bool = False) -> Any:
    """Map parents with named children.

    Args:
        bases: Makes the declarative base.
        unique: Put a unique constraint over parent and name.
        orphans: Let a child outlive its parent.
        composite: Make parent and name the primary key of a child.
    """
    Base = bases()
    dataclass = bases.kind == "dataclass"
    no_init: dict[str, Any] = {"init": False} if dataclass else {}
    kw_only: dict[str, Any] = {"kw_only": True} if dataclass else {}

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        name: Mapped[str | None] = mapped_column(String(20), default=None, **kw_only)
        children: WriteOnlyMapped["Child"] = relationship(
            back_populates="parent",
            cascade="save-update, merge" if orphans else "all, delete-orphan",
            passive_deletes=True,
            **no_init,
        )
        by_key = write_only_dict("children", lambda: Child, lambda: Child.key)
        by_key_async = async_write_only_dict("children", lambda: Child, lambda: Child.key)

    class Child(Base, **({"eq": False} if dataclass else {})):
        __tablename__ = "child"
        __table_args__ = (UniqueConstraint("parent_id", "child_key"),) if unique and not composite else ()
        if not composite:
            id: Mapped[int] = mapped_column(primary_key=True, **no_init)
        parent_id: Mapped[int | None] = mapped_column(
            ForeignKey("parent.id", ondelete="CASCADE"), primary_key=composite, nullable=orphans, **no_init
        )
        # A column whose name is not that of its attribute.
        key: Mapped[str] = mapped_column("child_key", String(30), primary_key=composite, **kw_only)
        size: Mapped[int] = mapped_column(default=0, **kw_only)
        parent: Mapped[Parent | None] = relationship(back_populates="children", **no_init)

    return SimpleNamespace(Base=Base, Parent=Parent, Child=Child)


def groups(bases: Any) -> Any:
    """Map groups with members by name: a many-to-many relationship, with members of two classes."""
    from sqlalchemy import Column, Table

    Base = bases()
    link = Table(
        "link",
        Base.metadata,
        Column("group_id", ForeignKey("grp.id"), primary_key=True),
        Column("member_id", ForeignKey("member.id"), primary_key=True),
    )

    class Group(Base):
        __tablename__ = "grp"
        id: Mapped[int] = mapped_column(primary_key=True)
        members: WriteOnlyMapped["Member"] = relationship(secondary=link, passive_deletes=True)
        by_name = write_only_dict("members", lambda: Member, lambda: Member.name)

    class Member(Base):
        __tablename__ = "member"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "member"}

    class Admin(Member):
        __tablename__ = "admin"
        id: Mapped[int] = mapped_column(ForeignKey("member.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "admin"}

    return SimpleNamespace(Base=Base, Group=Group, Member=Member, Admin=Admin)
