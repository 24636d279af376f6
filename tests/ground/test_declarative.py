"""The helpers for mixins, on plain and dataclass bases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Computed, ForeignKeyConstraint, Integer, MetaData, String, Table, event, func, update
from sqlalchemy.orm import Mapped, Mapper, Session, configure_mappers, mapped_column, relationship

from sqla_patterns._declarative import (
    attribute_key,
    keep_onupdate,
    listen_once,
    mixin_attr,
    on_mapped,
    sole_primary_key,
)
from sqla_patterns.exceptions import MappingError, PatternError


def test_a_mixin_attribute_is_mapped_on_either_base(bases: Any) -> None:
    """2.1 refuses an annotated one on a dataclass base; ours is a column on both and no argument of __init__."""
    base = bases()

    class Player(_plain_rank(), base):
        __tablename__ = "player"
        if bases.kind == "dataclass":
            id: Mapped[int] = mapped_column(primary_key=True, init=False)
        else:
            id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    assert Player.__table__.c.keys() == ["id", "name", "rank_column"]
    player = Player(name="ann")
    if bases.kind == "dataclass":
        with pytest.raises(TypeError):
            Player(name="bob", rank=3)
    player.rank = 3
    assert player.rank == 3


def _plain_rank() -> type:
    class Rank:
        @mixin_attr
        def rank(cls) -> Mapped[int]:
            return mapped_column("rank_column", Integer(), nullable=False, server_default="0")

    return Rank


def test_a_mixin_relationship_to_the_own_class_works_on_either_base(bases: Any) -> None:
    """Target and uselist are written out, so that no annotation is needed."""
    base = bases()

    class Linked:
        @mixin_attr
        def previous(cls) -> Mapped[Any]:
            return relationship(lambda: cls, remote_side=lambda: cls.id, uselist=False)

    class Page(Linked, base):
        __tablename__ = "page"
        if bases.kind == "dataclass":
            id: Mapped[int] = mapped_column(primary_key=True, init=False)
        else:
            id: Mapped[int] = mapped_column(primary_key=True)
        previous_id = mapped_column(Integer)

    Page.__table__.append_constraint(ForeignKeyConstraint(["previous_id"], ["page.id"]))
    configure_mappers()
    first, second = Page(), Page()
    second.previous = first
    assert second.previous is first


def test_on_mapped_sees_the_table_before_and_the_attributes_after(bases: Any) -> None:
    """The table can be completed while the class is mapped; attributes are there when the mapper is constructed."""
    base = bases()
    seen: list[str] = []

    class Watched:
        @mixin_attr
        def note(cls) -> Mapped[Any]:
            def table(mapper: Mapper[Any]) -> None:
                seen.append(f"table {mapper.local_table.name}")

            def constructed(mapper: Mapper[Any]) -> None:
                seen.append(f"constructed {sorted(mapper.columns.keys())}")

            on_mapped(cls, table=table, constructed=constructed)
            return mapped_column("note", String(20), nullable=True)

    class Thing(Watched, base):
        __tablename__ = "thing"
        if bases.kind == "dataclass":
            id: Mapped[int] = mapped_column(primary_key=True, init=False)
        else:
            id: Mapped[int] = mapped_column(primary_key=True)

    assert seen == ["table thing", "constructed ['id', 'note']"]

    class SubThing(Thing):
        """A subclass in the same table adds nothing."""

    assert len(seen) == 2


def test_on_mapped_works_for_the_registry_decorator(plain_bases: Any) -> None:
    """Classes without a declarative base are mapped by a decorator, after __init_subclass__ has run."""
    registry = plain_bases().registry
    seen: list[str] = []

    class Watched:
        @mixin_attr
        def note(cls) -> Mapped[Any]:
            on_mapped(cls, constructed=lambda mapper: seen.append(mapper.class_.__name__))
            return mapped_column("note", String(20), nullable=True)

    @registry.mapped
    class Decorated(Watched):
        __tablename__ = "decorated"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert seen == ["Decorated"]


def test_listen_once_listens_again_after_a_wipe() -> None:
    """A test suite that removes all listeners must not leave the next mapped class deaf."""

    class Own(Session):
        pass

    calls: list[str] = []

    def listener(session: Session) -> None:
        calls.append("commit")

    for _ in range(3):
        listen_once(Own, "after_commit", listener)
    Own().commit()
    event.remove(Own, "after_commit", listener)
    listen_once(Own, "after_commit", listener)
    Own().commit()
    assert calls == ["commit", "commit"]


def test_a_composite_key_is_refused_with_a_way_out() -> None:
    """The error names class, table and columns, and derives from both families."""
    table = Table("pair", MetaData(), Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
    with pytest.raises(
        MappingError, match=r"'Pair' needs a primary key of one column.*'pair' has 'a', 'b'.*surrogate"
    ) as info:
        sole_primary_key(table, type("Pair", (), {}), "Pattern")
    assert isinstance(info.value, PatternError)
    with pytest.raises(MappingError, match="none"):
        sole_primary_key(Table("bare", MetaData(), Column("a", Integer)), type("Bare", (), {}), "Pattern")


def test_attribute_key_is_not_the_column_name(plain_bases: Any) -> None:
    """Attribute and column may differ in name."""

    class Oddly(plain_bases()):
        __tablename__ = "oddly"
        pk: Mapped[int] = mapped_column("oddly_id", primary_key=True)

    assert attribute_key(Oddly.__mapper__, Oddly.__table__.c.oddly_id) == "pk"


def test_keep_onupdate_holds_the_users_timestamps_still() -> None:
    """Python-side and server-side onupdate columns are set to themselves; computed columns cannot be set."""
    table = Table(
        "stamped",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("seen", Integer, onupdate=7),
        Column("edited", Integer, server_onupdate=func.now()),
        Column("twice", Integer, Computed("id * 2")),
    )
    assert [column.name for column in keep_onupdate(table)] == ["seen", "edited"]
    sql = str(update(table).values({**keep_onupdate(table), table.c.id: 1}))
    assert "seen=stamped.seen" in sql.replace('"', "")
    assert "edited=stamped.edited" in sql.replace('"', "")
