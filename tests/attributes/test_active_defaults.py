"""Defaults that are read before the flush: what they are, when they are made, and that the row gets the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, String, event, inspect, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    configure_mappers,
    defer,
    make_transient,
    mapped_column,
    registry,
    scoped_session,
    sessionmaker,
    validates,
)

from sqla_patterns.attributes import ActiveDefaults, enable_active_defaults
from sqla_patterns.exceptions import InvalidArgumentError, PatternError

from . import _models as models
from ._models import Color


def _listeners(attribute: Any) -> int:
    configure_mappers()
    return len(list(attribute.dispatch.init_scalar))


# -- each kind of default ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("radius", 30),
        ("zero", 0),
        ("color", Color.BLUE),
        ("serial", 1),
        ("plain", {"a": [1]}),
        ("tracked", {"a": 1}),
    ],
)
def test_a_python_default_is_read_before_the_flush(bases: Any, key: str, wanted: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    assert getattr(m.Widget(), key) == wanted


@pytest.mark.parametrize("key", ["created", "server", "none", "name", "parent", "parent_id"])
def test_what_the_database_makes_or_nobody_reads_as_none(bases: Any, key: str) -> None:
    m = models.widgets(bases, ActiveDefaults)
    assert getattr(m.Widget(), key) is None


def test_a_sequence_reads_as_none_and_fires_at_insert(plain_bases: Any) -> None:
    class Numbered(ActiveDefaults, plain_bases()):  # type: ignore[misc]
        __tablename__ = "numbered"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(sa.Sequence("numbers"))

    configure_mappers()
    assert Numbered().number is None


@pytest.mark.only_on("postgresql")
def test_the_database_fires_the_sequence_that_was_read_as_none(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class Numbered(ActiveDefaults, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "numbered"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(sa.Sequence("numbers", start=5, metadata=Base.metadata))

    Base.metadata.create_all(engine)
    numbered = Numbered()
    assert numbered.number is None
    session.add(numbered)
    session.commit()
    assert numbered.number == 5


def test_what_was_read_is_what_is_stored(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "Cog"
    keys = ("id", "radius", "zero", "color", "serial", "slug", "plain", "tracked")
    read = {key: getattr(widget, key) for key in keys}
    session.add(widget)
    session.commit()
    row = session.execute(select(*(getattr(m.Widget, key) for key in keys))).one()
    assert row._asdict() == read
    assert m.calls == ["number", "slug"]


def test_what_was_not_read_gets_its_default_at_insert(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "Cog"
    session.add(widget)
    session.commit()
    assert (widget.radius, widget.serial, widget.slug, widget.server) == (30, 1, "cog", 7)
    assert widget.created is not None


def test_a_primary_key_is_known_before_the_flush(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    parent, child = m.Widget(), m.Widget()
    parent.name = child.name = "x"
    child.parent_id = parent.id
    assert isinstance(parent.id, UUID)
    session.add_all([parent, child])
    session.flush()
    assert child.parent is parent


def test_a_callable_runs_once_for_each_object(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    one, two = m.Widget(), m.Widget()
    assert (one.serial, one.serial, two.serial, one.serial) == (1, 1, 2, 1)


def test_a_default_that_was_read_can_be_changed_and_is_stored_so(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "x"
    widget.radius += 1
    session.add(widget)
    session.commit()
    assert session.scalars(select(m.Widget.radius)).all() == [31]


def test_no_sql_is_emitted_to_read_a_default(
    bases: Any, engine: Engine, session: Session, statements: Callable[..., Any]
) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "x"
    with session.no_autoflush, statements() as log:
        session.add(widget)
        assert widget.slug == "x"
    assert len(log) == 0


def test_constructing_an_object_makes_no_default(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    widget = m.Widget()
    assert m.calls == []
    assert "radius" not in inspect(widget).dict


def test_an_object_that_is_only_constructed_calls_no_listener(plain_bases: Any) -> None:
    active, plain = models.widgets(plain_bases, ActiveDefaults), models.widgets(plain_bases)
    configure_mappers()
    listeners = [list(inspect(m.Widget).class_manager.dispatch.init) for m in (active, plain)]
    assert listeners[0] == listeners[1]


# -- explicit values -----------------------------------------------------------------------------


def test_an_explicit_none_reads_as_none(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    widget = m.Widget()
    widget.radius = None
    assert widget.radius is None


@pytest.mark.parametrize("active", [True, False])
def test_an_explicit_none_is_stored_as_plain_sqlalchemy_stores_it(
    bases: Any, engine: Engine, session: Session, active: bool
) -> None:
    m = models.widgets(bases, *([ActiveDefaults] if active else []))
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "x"
    widget.radius = None
    session.add(widget)
    session.commit()
    assert widget.radius == 30


def test_a_value_that_is_deleted_reads_as_the_default_again(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    widget = m.Widget()
    widget.radius = 5
    del widget.radius
    assert widget.radius == 30


# -- mutable defaults ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["plain", "tracked"])
def test_mutable_defaults_are_not_shared(bases: Any, key: str) -> None:
    m = models.widgets(bases, ActiveDefaults)
    one, two = m.Widget(), m.Widget()
    getattr(one, key)["b"] = 2
    assert "b" not in getattr(two, key)


def test_what_is_inside_a_mutable_default_is_not_shared(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    one, two = m.Widget(), m.Widget()
    one.plain["a"].append(2)
    assert two.plain == {"a": [1]}


def test_a_mutable_default_is_tracked_before_and_after_the_flush(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "x"
    assert isinstance(widget.tracked, MutableDict)
    widget.tracked["b"] = 2
    session.add(widget)
    session.flush()
    widget.tracked["c"] = 3
    assert widget in session.dirty
    session.commit()
    assert widget.tracked == {"a": 1, "b": 2, "c": 3}


def test_a_tracked_default_survives_pickling(plain_bases: Any) -> None:
    m = models.widgets(plain_bases, ActiveDefaults)
    widget = m.Widget()
    state: dict[str, Any] = {}
    widget.tracked["b"] = 2
    inspect(widget).manager.dispatch.pickle(inspect(widget), state)
    assert list(state["ext.mutable.values"]["tracked"]) == [widget.tracked]


def test_a_default_that_cannot_be_copied_is_shared_as_by_an_insert(plain_bases: Any) -> None:
    class Uncopied:
        def __deepcopy__(self, memo: object) -> Uncopied:
            raise TypeError("no copies")

    shared = Uncopied()

    class Holder(ActiveDefaults, plain_bases()):  # type: ignore[misc]
        __tablename__ = "holder"
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[Any] = mapped_column(sa.PickleType, default=shared)

    configure_mappers()
    assert Holder().value is shared


# -- listeners and validators --------------------------------------------------------------------


def test_a_default_made_by_a_read_is_heard_by_no_set_listener(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    configure_mappers()
    heard: list[Any] = []
    for key in ("radius", "tracked"):
        event.listen(getattr(m.Widget, key), "set", lambda *change: heard.append(change))
    widget = m.Widget()
    assert (widget.radius, widget.tracked) == (30, {"a": 1})
    assert heard == []


def test_a_default_made_by_a_read_is_heard_by_no_refresh_listener(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    heard: list[Any] = []
    event.listen(m.Widget, "refresh", lambda *refresh: heard.append(refresh))
    assert m.Widget().tracked == {"a": 1}
    assert heard == []


def test_a_default_made_by_a_read_is_heard_by_no_validator(plain_bases: Any) -> None:
    class Checked(ActiveDefaults, plain_bases()):  # type: ignore[misc]
        __tablename__ = "checked"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=-1)

        @validates("size")
        def _check(self, key: str, value: int) -> int:
            raise AssertionError(value)

    configure_mappers()
    assert Checked().size == -1


def test_reading_a_default_leaves_no_history(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    widget = m.Widget()
    _ = widget.radius
    assert inspect(widget).attrs.radius.history.deleted == ()


# -- defaults that take the context --------------------------------------------------------------


def test_a_default_that_takes_the_context_sees_what_is_set(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    widget = m.Widget()
    widget.name = "Big Cog"
    assert widget.slug == "big cog"


def test_a_default_that_needs_what_is_not_set_yet_reads_as_none_and_waits(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    assert widget.slug is None
    widget.name = "Cog"
    session.add(widget)
    session.commit()
    assert widget.slug == "cog"


def _context_default(bases: Any, function: Callable[[Any], Any]) -> Any:
    class Thing(ActiveDefaults, bases()):  # type: ignore[misc]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column(String(20))
        first: Mapped[int] = mapped_column(default=3)
        value: Mapped[Any] = mapped_column(sa.JSON, default=function)
        last: Mapped[int] = mapped_column(default=4)

    configure_mappers()
    return Thing


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda c: c.get_current_parameters()["first"] + 1, 4),
        (lambda c: c.get_current_parameters(isolate_multiinsert_groups=False)["first"], 3),
        (lambda c: c.current_parameters["first"], 3),
        (lambda c: c.current_column.name, "value"),
        (lambda c: "last" in c.get_current_parameters(), False),
        (lambda c: "nonsense" in c.get_current_parameters(), False),
        (lambda c: c.get_current_parameters().get("last", 9), 9),
        (lambda c: "value" in c.get_current_parameters(), False),
    ],
)
def test_the_context_knows_what_the_insert_would_know(plain_bases: Any, function: Any, wanted: Any) -> None:
    assert _context_default(plain_bases, function)().value == wanted


@pytest.mark.parametrize(
    "function",
    [
        lambda c: c.get_current_parameters()["name"],
        lambda c: c.get_current_parameters().get("name", "nobody"),
        lambda c: "name" in c.get_current_parameters(),
        lambda c: dict(c.get_current_parameters()),
        lambda c: c.connection.scalar(sa.text("select 1")),
        lambda c: c.dialect.name,
    ],
)
def test_what_is_known_at_insert_only_is_not_guessed(plain_bases: Any, function: Any) -> None:
    thing = _context_default(plain_bases, function)()
    assert thing.value is None
    assert "value" not in inspect(thing).dict


def test_an_sql_expression_that_was_assigned_is_not_known_yet(plain_bases: Any) -> None:
    thing = _context_default(plain_bases, lambda c: c.get_current_parameters()["name"])()
    thing.name = sa.func.upper("x")
    assert thing.value is None


def test_a_none_that_the_insert_will_replace_by_a_default_is_not_known_yet(plain_bases: Any) -> None:
    thing = _context_default(plain_bases, lambda c: c.get_current_parameters()["first"])()
    thing.first = None
    assert thing.value is None


def test_the_exception_of_a_default_comes_out_of_the_read(plain_bases: Any) -> None:
    thing = _context_default(plain_bases, lambda c: c.get_current_parameters()["nonsense"])()
    with pytest.raises(KeyError, match="nonsense"):
        _ = thing.value


# -- persistent objects --------------------------------------------------------------------------


def _stored(m: Any, engine: Engine, session: Session) -> Any:
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "x"
    widget.radius = 99
    session.add(widget)
    session.commit()
    return widget


def test_an_expired_attribute_is_loaded(bases: Any, engine: Engine, session: Session) -> None:
    widget = _stored(models.widgets(bases, ActiveDefaults), engine, session)
    assert widget.radius == 99


def test_a_deferred_attribute_is_loaded(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    _stored(m, engine, session)
    session.expunge_all()
    widget = session.scalars(select(m.Widget).options(defer(m.Widget.radius))).one()
    assert widget.radius == 99


def test_a_null_in_the_row_reads_as_none(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    _stored(m, engine, session)
    session.execute(sa.update(m.Widget).values(radius=None))
    session.expire_all()
    assert session.scalars(select(m.Widget)).one().radius is None


def test_an_attribute_that_was_deleted_on_a_persistent_object_reads_as_none(
    bases: Any, engine: Engine, session: Session
) -> None:
    widget = _stored(models.widgets(bases, ActiveDefaults), engine, session)
    assert widget.radius == 99
    del widget.radius
    assert widget.radius is None


def test_merging_a_new_object_takes_the_defaults_that_were_read_and_no_other(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.widgets(bases, ActiveDefaults)
    stored = _stored(m, engine, session)
    copy = m.Widget()
    copy.id = stored.id
    assert copy.zero == 0
    merged = session.merge(copy)
    assert merged is stored
    assert (merged.radius, merged.serial, m.calls) == (99, 1, ["number", "slug"])


def test_a_copy_that_was_made_transient_has_defaults_of_its_own(bases: Any, engine: Engine, session: Session) -> None:
    m = models.widgets(bases, ActiveDefaults)
    widget = _stored(m, engine, session)
    session.expunge(widget)
    make_transient(widget)
    assert widget.radius == 30


def test_an_object_whose_insert_was_rolled_back_keeps_its_defaults(
    bases: Any, engine: Engine, session: Session
) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    widget = m.Widget()
    widget.name = "x"
    key = widget.id
    session.add(widget)
    session.flush()
    session.rollback()
    session.add(widget)
    session.commit()
    assert (widget.id, widget.serial) == (key, 1)


async def test_defaults_are_read_without_awaiting(bases: Any, async_session: AsyncSession) -> None:
    m = models.widgets(bases, ActiveDefaults)
    await (await async_session.connection()).run_sync(m.Base.metadata.create_all)
    widget = m.Widget()
    widget.name = "x"
    async_session.add(widget)
    assert (widget.radius, widget.slug) == (30, "x")
    await async_session.commit()
    assert (await async_session.scalars(select(m.Widget.radius))).all() == [30]


def test_a_scoped_session_changes_nothing(bases: Any, engine: Engine) -> None:
    m = models.widgets(bases, ActiveDefaults)
    m.Base.metadata.create_all(engine)
    db = scoped_session(sessionmaker(engine))
    widget = m.Widget()
    widget.name = "x"
    db.add(widget)
    assert widget.radius == 30
    db.commit()
    assert db.scalars(select(m.Widget.radius)).all() == [30]
    db.remove()


# -- which classes -------------------------------------------------------------------------------


def test_subclasses_read_inherited_and_own_defaults(bases: Any) -> None:
    m = models.hierarchy(bases)
    circle, dot = m.Circle(), m.Dot()
    assert (circle.size, circle.radius, dot.size, dot.color) == (1, 2, 1, "black")


def test_a_joined_subclass_knows_its_key_before_the_flush(bases: Any, engine: Engine, session: Session) -> None:
    m = models.hierarchy(bases)
    m.Base.metadata.create_all(engine)
    circle = m.Circle()
    key = circle.id
    session.add(circle)
    session.commit()
    assert isinstance(key, UUID)
    tables = (m.Circle.__table__, m.Shape.__table__)
    assert [session.scalars(select(table.c.id)).one() for table in tables] == [key, key]


def test_an_attribute_has_one_listener_in_each_class_of_a_hierarchy(bases: Any) -> None:
    m = models.hierarchy(bases)
    with enable_active_defaults(m.Base), enable_active_defaults(m.Shape):
        assert [_listeners(cls.size) for cls in (m.Shape, m.Circle, m.Dot)] == [1, 1, 1]


def test_a_subclass_with_a_column_of_its_own_has_the_default_of_that(plain_bases: Any) -> None:
    class Top(ActiveDefaults, plain_bases()):  # type: ignore[misc]
        __tablename__ = "top"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=1)

    class Sub(Top):
        __tablename__ = "sub"
        __mapper_args__ = {"concrete": True}
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=2)

    configure_mappers()
    assert (Top().size, Sub().size) == (1, 2)


@pytest.mark.parametrize("order", ["first", "last", "base"])
def test_the_mixin_may_stand_anywhere_among_the_bases(order: str) -> None:
    class Base(DeclarativeBase):
        pass

    class Above(ActiveDefaults, DeclarativeBase):
        pass

    parents = {"first": (ActiveDefaults, Base), "last": (Base, ActiveDefaults), "base": (Above,)}[order]

    class Thing(*parents):  # type: ignore[misc]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=5)

    assert Thing().size == 5


def test_a_base_that_ends_the_chain_of_init_subclass_does_no_harm() -> None:
    class Base(DeclarativeBase):
        pass

    class Rude:
        def __init_subclass__(cls, **options: Any) -> None:
            DeclarativeBase.__init_subclass__.__func__(cls)  # type: ignore[attr-defined]

    class Thing(Rude, ActiveDefaults, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=5)

    assert Thing().size == 5


def test_classes_of_a_registry_have_active_defaults() -> None:
    m = models.mapped(ActiveDefaults)
    assert m.Plain().size == 5


def test_classes_that_are_mapped_imperatively_have_active_defaults() -> None:
    m = models.mapped(ActiveDefaults)
    assert m.Imperative().length == 6


def test_dataclass_defaults_and_column_defaults_agree() -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Thing(ActiveDefaults, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        size: Mapped[int] = mapped_column(default=5)
        other: Mapped[int] = mapped_column(insert_default=lambda: 6, init=False)
        made: Mapped[int] = mapped_column(insert_default=1, default_factory=lambda: 7)

    thing = Thing()
    assert (thing.size, thing.other, thing.made) == (5, 6, 7)


def test_a_column_that_is_added_after_configuration_has_an_active_default(plain_bases: Any) -> None:
    class Thing(ActiveDefaults, plain_bases()):  # type: ignore[misc]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    configure_mappers()
    Thing.late = mapped_column(sa.Integer, default=8)
    assert Thing().late == 8


def test_the_counter_of_versions_is_left_to_the_mapper(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Counted(ActiveDefaults, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "counted"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column(default=5)
        __mapper_args__ = {"version_id_col": version}

    Base.metadata.create_all(engine)
    counted = Counted()
    assert counted.version is None
    session.add(counted)
    session.commit()
    assert counted.version == 1


def test_a_computed_attribute_has_no_default(plain_bases: Any) -> None:
    class Thing(ActiveDefaults, plain_bases()):  # type: ignore[misc]
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=2)

    Thing.double = sa.orm.column_property(Thing.size * 2)
    configure_mappers()
    assert Thing().double is None


def test_a_mapping_after_clear_mappers_has_active_defaults_again() -> None:
    code = """
from sqlalchemy.orm import *
from sqla_patterns.attributes import ActiveDefaults
def thing():
    class Base(DeclarativeBase):
        pass
    class Thing(ActiveDefaults, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=5)
    return Thing
assert thing()().size == 5
clear_mappers()
assert thing()().size == 5
"""
    _in_a_process_of_its_own(code)


def test_after_all_listeners_were_removed_the_next_class_has_active_defaults_again() -> None:
    code = """
from sqlalchemy import event
from sqlalchemy.orm import *
from sqla_patterns.attributes import ActiveDefaults, _defaults
def thing():
    class Base(DeclarativeBase):
        pass
    class Thing(ActiveDefaults, Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=5)
    return Thing
assert thing()().size == 5
event.remove(ActiveDefaults, "mapper_configured", _defaults._on_configured)
event.remove(ActiveDefaults, "attribute_instrument", _defaults._on_instrument)
assert thing()().size == 5
"""
    _in_a_process_of_its_own(code)


def _in_a_process_of_its_own(code: str) -> None:
    import subprocess
    import sys

    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# -- enable_active_defaults() --------------------------------------------------------------------


def test_a_base_is_enabled_for_classes_that_exist_and_for_those_to_come(bases: Any) -> None:
    m = models.widgets(bases)
    configure_mappers()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}
    with enable_active_defaults(m.Base):

        class Later(m.Base):  # type: ignore[misc,name-defined]
            __tablename__ = "later"
            id: Mapped[int] = mapped_column(primary_key=True, **no_init)
            size: Mapped[int] = mapped_column(insert_default=4, **no_init)

        assert (m.Widget().radius, Later().size) == (30, 4)


def test_a_class_that_is_mapped_and_not_configured_is_enabled(bases: Any) -> None:
    m = models.widgets(bases)
    with enable_active_defaults(m.Base):
        assert m.Widget().radius == 30


def test_detaching_takes_it_back(bases: Any) -> None:
    m = models.widgets(bases)
    handle = enable_active_defaults(m.Base)
    read = m.Widget()
    assert (read.radius, handle.attached) == (30, True)
    handle.detach()
    assert (m.Widget().radius, read.radius, handle.attached) == (None, 30, False)
    assert _listeners(m.Widget.radius) == 0


def test_detaching_before_configuration_takes_it_back(bases: Any) -> None:
    m = models.widgets(bases)
    enable_active_defaults(m.Base).detach()
    assert m.Widget().radius is None


def test_detaching_twice_does_nothing(bases: Any) -> None:
    m = models.widgets(bases)
    handle = enable_active_defaults(m.Base)
    handle.detach()
    handle.detach()
    assert not handle.attached


def test_enabling_twice_is_enabling_once(bases: Any) -> None:
    m = models.widgets(bases)
    with enable_active_defaults(m.Base), enable_active_defaults(m.Base):
        assert _listeners(m.Widget.radius) == 1


def test_an_inner_with_leaves_the_outer_one_in_place(bases: Any) -> None:
    m = models.widgets(bases)
    with enable_active_defaults(m.Base):
        with enable_active_defaults(m.Base):
            pass
        assert m.Widget().radius == 30
    assert m.Widget().radius is None


def test_a_handle_can_be_entered_again(bases: Any) -> None:
    m = models.widgets(bases)
    handle = enable_active_defaults(m.Base)
    handle.detach()
    with handle:
        assert m.Widget().radius == 30
    assert m.Widget().radius is None


def test_detaching_the_base_leaves_the_mixin_in_place(bases: Any) -> None:
    m = models.widgets(bases, ActiveDefaults)
    enable_active_defaults(m.Base).detach()
    assert m.Widget().radius == 30


def test_a_handle_says_what_it_is(plain_bases: Any) -> None:
    m = models.widgets(plain_bases)
    with enable_active_defaults(m.Base) as handle:
        assert repr(handle).startswith("<AttributeAttachment of active defaults to <class ")
        assert repr(handle).endswith(", attached>")


def test_two_bases_do_not_disturb_each_other(bases: Any) -> None:
    one, two = models.widgets(bases), models.widgets(bases)
    with enable_active_defaults(one.Base):
        assert (one.Widget().radius, two.Widget().radius) == (30, None)


@pytest.mark.parametrize("target", [object, DeclarativeBase, MappedAsDataclass])
def test_a_class_that_all_share_is_refused(target: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="pass your own declarative base"):
        enable_active_defaults(target)


@pytest.mark.parametrize("target", [None, "Base", registry()])
def test_what_is_no_class_is_refused(target: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"enable_active_defaults\(\) needs a class and was given") as raised:
        enable_active_defaults(target)
    assert isinstance(raised.value, PatternError)
    assert isinstance(raised.value, ArgumentError)


def test_metadata_holds_nothing_of_the_librarys(plain_bases: Any) -> None:
    m = models.widgets(plain_bases, ActiveDefaults)
    configure_mappers()
    assert set(pickle.loads(pickle.dumps(m.Base.metadata.tables["widget"].info))) == set()
    assert m.Base.metadata.tables["widget"].c.radius.info == {}
