"""A class with columns that another package maintains: a mixin that stands for a tree with an index."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, String, Table, exists, func, select, update
from sqlalchemy import event as sa_event
from sqlalchemy.orm import Mapped, Session, aliased, declared_attr, mapped_column

from sqla_patterns._maintained import MaintainedColumn, before_maintenance
from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.versioning import (
    NotVersionedError,
    RevisionLog,
    Versioned,
    VersionOptions,
    as_of,
    diff,
    restore,
    revert,
    version_at,
    versions,
)
from tests._support import assert_migrates, count_statements
from tests.versioning._models import count, history, history_table, tick


class Ranked:
    """A row with ``rank``, which is derived from other columns, and ``place``, which is shifted in other rows too."""

    __sqla_maintained_columns__ = (
        MaintainedColumn("rank", "Ranked"),
        MaintainedColumn("place", "Ranked", in_history=True, shifted=True),
    )

    @declared_attr
    def rank(cls) -> Mapped[int]:
        return mapped_column("rk", Integer, default=0, nullable=False)

    @declared_attr
    def place(cls) -> Mapped[int]:
        return mapped_column(Integer, default=0, nullable=False)


def shift(session: Session, context: object, instances: object) -> None:
    """Announce whose rows will change, and change rows with Core statements, as a tree does in a flush."""
    moved = [
        obj for obj in [*session.dirty, *session.deleted] if isinstance(obj, Ranked) and not session.info.get("idle")
    ]
    for cls in {type(obj) for obj in moved}:
        before_maintenance(session, cls, [obj for obj in moved if type(obj) is cls])
        root: Any = next(base for base in reversed(cls.__mro__) if "__table__" in vars(base))
        table = root.__table__
        session.connection().execute(update(table).values(rk=table.c.rk + 10, place=table.c.place + 10))


@pytest.fixture(params=["before the library's", "after the library's"])
def shifting(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    sa_event.listen(Session, "before_flush", shift, insert=request.param == "before the library's")
    yield
    sa_event.remove(Session, "before_flush", shift)


def make(base: Any, **options: Any) -> Any:
    class Revision(RevisionLog, base):
        __tablename__ = "revision"

    settings = {"period": True, "operation": True, "revision": Revision, **options}

    class Item(Ranked, Versioned, base):
        __tablename__ = "item"
        __versioned__ = VersionOptions(**settings)
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        title: Mapped[str] = mapped_column(String(20))
        secret: Mapped[str] = mapped_column(String(20), default="s")

    closure = Table(
        "item_closure",
        base.metadata,
        Column("above_id", ForeignKey("item.id", ondelete="CASCADE"), primary_key=True),
        Column("below_id", ForeignKey("item.id", ondelete="CASCADE"), primary_key=True),
    )
    Item.__sqla_maintained_tables__ = (closure,)  # type: ignore[attr-defined]
    return SimpleNamespace(Item=Item, Revision=Revision, closure=closure, metadata=base.metadata)


@pytest.fixture(name="world")
def _world(plain_bases: Any, engine: Engine) -> Any:
    world = make(plain_bases(), exclude=("secret",))
    world.metadata.create_all(engine)
    return world


@pytest.fixture(name="item")
def _item(world: Any, session: Session) -> Any:
    item = world.Item(id=1, title="a", rank=1, place=1)
    session.add_all([item, world.Item(id=2, title="x", rank=2, place=2)])
    session.commit()
    return item


# -- history and comparison ------------------------------------------------------------------------


def test_what_a_package_derives_is_not_in_the_history(world: Any) -> None:
    assert "rk" not in history_table(world.Item).c


def test_what_a_package_says_may_be_in_the_history_is(world: Any) -> None:
    assert "place" in history_table(world.Item).c


def test_a_derived_column_of_a_joined_subclass_is_not_in_its_history(plain_bases: Any) -> None:
    base = plain_bases()

    class Root(Versioned, base):
        __tablename__ = "root"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "root"}

    class Sub(Ranked, Root):
        __tablename__ = "sub"
        id: Mapped[int] = mapped_column(ForeignKey("root.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "sub"}

    assert "rk" not in history_table(Sub).c
    assert "rk" in Sub.__table__.c  # type: ignore[attr-defined]


def test_migrations_of_it_run(plain_bases: Any, engine: Engine) -> None:
    world = make(plain_bases())
    assert_migrates(engine, world.metadata, "import sqla_patterns.versioning")


def test_a_change_of_a_derived_column_alone_makes_no_version(item: Any, session: Session, world: Any) -> None:
    item.rank = 50
    session.commit()
    assert (item.rank, item.version, history(session, world.Item)) == (50, 1, [])


def test_a_bulk_update_of_a_derived_column_alone_makes_no_version(item: Any, session: Session, world: Any) -> None:
    session.execute(update(world.Item).values(rank=7))
    session.commit()
    assert (item.rank, item.version, history(session, world.Item)) == (7, 1, [])


def test_diff_leaves_out_what_is_derived(item: Any, session: Session, world: Any) -> None:
    other = session.get_one(world.Item, 2)
    session.refresh(item)
    assert diff(item, other) == {"id": (1, 2), "title": ("a", "x"), "place": (1, 2)}


def test_revert_leaves_alone_what_is_derived(item: Any, session: Session) -> None:
    item.title, item.rank = "b", 9
    session.commit()
    revert(session, item, to=1)
    session.commit()
    assert (item.title, item.rank) == ("a", 9)


def test_restore_leaves_what_is_derived_to_its_package(plain_bases: Any, engine: Engine, session: Session) -> None:
    world = make(plain_bases())
    world.metadata.create_all(engine)
    item = world.Item(id=1, title="a", rank=5)
    session.add(item)
    session.commit()
    session.delete(item)
    session.commit()
    assert restore(session, world.Item, 1).rank == 0  # the default, as nothing maintains it here


# -- announcements -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("shifting")
def test_the_history_has_what_was_before_the_shift(item: Any, session: Session, world: Any) -> None:
    item.title = "b"
    session.commit()
    assert history(session, world.Item, "id", "version", "title", "place") == [(1, 1, "a", 1)]
    assert (item.version, item.place, item.rank) == (2, 11, 11)


@pytest.mark.usefixtures("shifting")
def test_an_announced_row_is_copied_once(item: Any, session: Session, engine: Engine) -> None:
    session.refresh(item)
    item.title = "b"
    with count_statements(engine) as log:
        session.flush()
    assert len([each for each in log if "INSERT INTO item_history" in each]) == 1, log.text


@pytest.mark.usefixtures("shifting")
def test_an_object_that_was_expired_is_compared_with_what_it_had(item: Any, session: Session, world: Any) -> None:
    session.expire(item)
    item.title = "b"
    session.commit()
    assert history(session, world.Item, "title", "place") == [("a", 1)]


@pytest.mark.usefixtures("shifting")
def test_an_announced_object_without_a_net_change_gets_no_version(item: Any, session: Session, world: Any) -> None:
    session.expire(item)
    revisions = count(session, world.Revision.__table__)
    item.title = "a"
    session.commit()
    assert (item.version, history(session, world.Item)) == (1, [])
    assert count(session, world.Revision.__table__) == revisions


@pytest.mark.usefixtures("shifting")
def test_a_revision_of_an_earlier_flush_stays(item: Any, session: Session, world: Any) -> None:
    item.title = "b"
    session.flush()
    other = session.get_one(world.Item, 2)
    session.expire(other)
    other.title = "x"
    session.commit()
    assert item.revision_id in session.scalars(select(world.Revision.id)).all()
    assert other.version == 1


@pytest.mark.usefixtures("shifting")
def test_an_announced_object_that_only_its_package_changes_gets_no_version(
    item: Any, session: Session, world: Any
) -> None:
    item.rank = 4
    session.commit()
    assert (item.version, history(session, world.Item)) == (1, [])


@pytest.mark.usefixtures("shifting")
def test_an_announced_deletion_is_one(item: Any, session: Session, world: Any) -> None:
    session.delete(item)
    session.commit()
    assert history(session, world.Item, "version", "place", "operation") == [(1, 1, "delete")]


@pytest.mark.usefixtures("shifting")
def test_an_announced_change_that_ends_in_a_deletion_says_so(item: Any, session: Session, world: Any) -> None:
    # A listener deletes the object after it was announced.
    def change_mind(flushing: Session, context: object, instances: object) -> None:
        flushing.delete(item)

    item.title = "b"
    sa_event.listen(session, "before_flush", change_mind)
    session.flush()
    sa_event.remove(session, "before_flush", change_mind)
    session.commit()
    assert history(session, world.Item, "version", "title", "operation") == [(1, "a", "delete")]


@pytest.mark.usefixtures("shifting")
def test_an_announcement_goes_with_a_rollback(item: Any, session: Session, world: Any) -> None:
    item.title = "b"
    session.flush()
    session.rollback()
    item.title = "c"
    session.commit()
    assert history(session, world.Item, "title", "place") == [("a", 1)]
    assert item.version == 2


@pytest.mark.usefixtures("shifting")
def test_a_flush_that_is_refused_after_the_announcement_can_be_tried_again(
    item: Any, session: Session, world: Any
) -> None:
    def refuse(*_: object) -> None:
        raise LookupError

    item.title = "b"
    sa_event.listen(session, "before_flush", refuse)
    with pytest.raises(LookupError):
        session.flush()
    sa_event.remove(session, "before_flush", refuse)
    session.info["idle"] = True  # it has already shifted, and nothing was rolled back
    item.title = "c"
    session.commit()
    assert history(session, world.Item, "title", "place") == [("a", 1)]
    assert item.version == 2


@pytest.mark.usefixtures("shifting")
def test_a_number_behind_the_history_is_corrected_here_too(item: Any, session: Session, world: Any) -> None:
    item.title = "b"
    session.commit()
    session.bulk_update_mappings(world.Item, [{"id": 1, "version": 1}])
    session.commit()
    item.title = "c"
    session.commit()
    assert (item.version, history(session, world.Item, "version", "title")) == (3, [(1, "a"), (2, "b")])


@pytest.mark.usefixtures("shifting")
def test_granularity_by_transaction_keeps_the_first_state(plain_bases: Any, engine: Engine, session: Session) -> None:
    world = make(plain_bases(), granularity="transaction")
    world.metadata.create_all(engine)
    item = world.Item(id=1, title="a", place=1)
    session.add(item)
    session.commit()
    for title in "bc":
        item.title = title
        session.flush()
    session.commit()
    assert (item.version, history(session, world.Item, "title", "place")) == (2, [("a", 1)])


@pytest.mark.usefixtures("shifting")
def test_tables_that_are_joined_are_copied_before_the_shift(plain_bases: Any, engine: Engine, session: Session) -> None:
    base = plain_bases()

    class Item(Ranked, Versioned, base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}

    class Sub(Item):
        __tablename__ = "sub"
        id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
        note: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "sub"}

    base.metadata.create_all(engine)
    sub = Sub(id=1, note="a", place=1)
    session.add(sub)
    session.commit()
    sub.note = "b"
    session.commit()
    assert history(session, Sub, "note", "place", "version") == [("a", 1, 1)]
    sub.rank = 3
    session.commit()
    assert history(session, Sub, "note", "place", "version") == [("a", 1, 1)]


# -- the past ----------------------------------------------------------------------------------------


Clause = Callable[[Any], Any]


def by_where(world: Any, name: str) -> Any:
    return select(world.Item).where(getattr(world.Item, name) == 1)


def by_order(world: Any, name: str) -> Any:
    return select(world.Item).order_by(getattr(world.Item, name).desc())


def by_exists(world: Any, name: str) -> Any:
    other = aliased(world.Item)
    return select(world.Item).where(exists().where(getattr(other, name) == world.Item.id))


def by_join(world: Any, name: str) -> Any:
    other = aliased(world.Item, name="other")
    return select(world.Item).join(other, getattr(other, name) == world.Item.id)


def by_group(world: Any, name: str) -> Any:
    column = getattr(world.Item, name)
    return select(world.Item).group_by(world.Item.id).having(func.max(column) == 1)


@pytest.mark.parametrize("clause", [by_where, by_order, by_exists, by_join, by_group])
@pytest.mark.parametrize(
    ("name", "said"),
    [("rank", "Ranked derives it"), ("place", "Ranked also changes it in rows"), ("secret", "exclude=")],
)
@pytest.mark.usefixtures("item")
def test_a_clause_with_what_history_does_not_know_is_refused_by_name(
    world: Any, session: Session, clause: Callable[[Any, str], Any], name: str, said: str
) -> None:
    with pytest.raises(NotVersionedError, match=rf"the past cannot be asked for Item\.{name}: .*{said}"):
        as_of(session, clause(world, name), tick())


@pytest.mark.parametrize("alias", [False, True])
@pytest.mark.usefixtures("item")
def test_a_table_that_a_package_derives_is_refused_by_name(world: Any, session: Session, alias: bool) -> None:
    closure = world.closure.alias() if alias else world.closure
    statement = select(world.Item).where(world.Item.id.in_(select(closure.c.below_id).where(closure.c.above_id == 1)))
    with pytest.raises(InvalidArgumentError, match=r"'item_closure'.* follows from the rows of Item"):
        as_of(session, statement, tick())


@pytest.mark.usefixtures("item")
def test_other_clauses_are_answered(world: Any, session: Session) -> None:
    statement = select(world.Item).where(world.Item.title != "x").order_by(world.Item.title)
    assert [each.title for each in as_of(session, statement, tick())] == ["a"]


def test_objects_of_a_moment_do_not_claim_to_know_what_is_shifted(item: Any, world: Any, session: Session) -> None:
    item.title = "b"
    moment = tick()
    session.commit()
    found = version_at(session, world.Item, 2, moment)
    assert found is not None
    assert not {"rank", "place", "secret"} & vars(found).keys()


def test_a_version_shows_what_it_had_when_it_ended(item: Any, session: Session) -> None:
    item.title, item.place = "b", 5
    session.commit()
    assert [version.object.place for version in versions(session, item)] == [1, 5]
