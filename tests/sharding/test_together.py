"""Histories, caches and tenants work through a sharded session, whichever was attached first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from dogpile.cache import make_region
from sqlalchemy import Column, ForeignKey, String, Table, delete, func, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.criteria import GlobalCriteria, HasPrivate, SoftDelete, TenantScoped, tenant_scope
from sqla_patterns.criteria import restore as undelete
from sqla_patterns.graphs import (
    CycleError,
    GraphEdge,
    GraphNode,
    GraphOptions,
    all_paths,
    connected_component,
    load_graph,
    shortest_path,
)
from sqla_patterns.sharding import (
    CrossShardRelationshipError,
    FollowsParent,
    LookupRouter,
    ShardKey,
    ShardNotNamedError,
    Shards,
    TenantRouter,
    create_all,
    explain,
    pinned_to,
    sharded_sessionmaker,
)
from sqla_patterns.trees import (
    TreeNode,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    verify_tree,
    walk_tree,
)
from sqla_patterns.versioning import (
    Versioned,
    VersionedRow,
    VersionOptions,
    as_of,
    erase,
    restore,
    revert,
    version_at,
    versions,
)
from tests.sharding._models import Traffic

Maker = sessionmaker[ShardedSession]
ROUTER = LookupRouter({"Asia": "asia", "Europe": "europe"})


class Base(DeclarativeBase):
    pass


class Station(Versioned, Base):
    __tablename__ = "shard_station"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20))


class Gauge(Versioned, Base):
    __tablename__ = "shard_gauge"
    __versioned__ = VersionOptions(period=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20))


class Rate(VersionedRow, Base):
    __tablename__ = "shard_rate"
    id: Mapped[str] = mapped_column(String(10), primary_key=True)
    continent: Mapped[str] = mapped_column(String(20))
    amount: Mapped[int]


class Topic(TreeNode, Base):
    __tablename__ = "shard_topic"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))


class Task(GraphNode, Base):
    __tablename__ = "shard_task"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))


class Needs(GraphEdge[Task], Base):
    __tablename__ = "shard_needs"
    __graph__ = GraphOptions(acyclic=True)


class Note(HasPrivate, Base):
    __tablename__ = "shard_note"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))


class Order(TenantScoped, SoftDelete, Base):
    __tablename__ = "shard_order"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[int]


LABELS = Table(
    "shard_note_label",
    Base.metadata,
    Column("page_id", ForeignKey("shard_page.id"), primary_key=True),
    Column("label_id", ForeignKey("shard_label.id"), primary_key=True),
)


class Label(Base):
    __tablename__ = "shard_label"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))


class Page(Base):
    __tablename__ = "shard_page"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    continent: Mapped[str] = mapped_column(String(20))
    labels: Mapped[list[Label]] = relationship(secondary=LABELS, order_by=Label.id)


@pytest.fixture
def pair(make_shards: Any) -> Shards:
    shards: Shards = make_shards(["asia", "europe"])
    create_all(shards, Base.metadata)
    return shards


@pytest.fixture
def maker(pair: Shards) -> Maker:
    tenants = TenantRouter({"acme": "asia", "zeta": "europe"}, default=["asia", "europe"])
    return sharded_sessionmaker(
        pair,
        keys=[
            ShardKey(Station.continent, ROUTER),
            ShardKey(Gauge.continent, ROUTER),
            ShardKey(Rate.continent, ROUTER),
            ShardKey(Topic.continent, ROUTER),
            ShardKey(Task.continent, ROUTER),
            FollowsParent(Needs.lower_node),
            ShardKey(Note.continent, ROUTER),
            ShardKey(Label.continent, ROUTER),
            ShardKey(Page.continent, ROUTER),
            ShardKey(Order.tenant_id, tenants),
        ],
    )


# -- versioning --------------------------------------------------------------------------------------------------------


def test_one_flush_writes_versions_on_two_shards(maker: Maker) -> None:
    with maker() as session:
        stations = [Station(id=1, continent="Asia", name="a"), Station(id=2, continent="Europe", name="b")]
        session.add_all(stations)
        session.commit()
        for station in stations:
            station.name += "!"
        session.commit()
        for station in stations:
            assert [each.number for each in versions(session, station)] == [1, 2]
            revert(session, station, 1)
        session.commit()
        assert [station.name for station in stations] == ["a", "b"]
        session.delete(stations[0])
        stations[1].name = "c"
        session.commit()
        assert [each.number for each in versions(session, stations[1])] == [1, 2, 3, 4]
        with pinned_to("asia"):
            assert len(versions(session, Station, 1)) == 3
        with pinned_to("europe"):
            assert versions(session, Station, 1) == []


def test_the_past_is_read_and_brought_back_within_a_pin(maker: Maker) -> None:
    with maker() as session:
        session.add_all([Gauge(id=1, continent="Asia", name="a"), Gauge(id=2, continent="Europe", name="b")])
        session.commit()
        moment = datetime.now(UTC)
        for gauge in session.scalars(select(Gauge)):
            gauge.name += "!"
        session.commit()
        session.delete(session.get_one(Gauge, 2))
        session.commit()
        with pinned_to("europe"):
            then = version_at(session, Gauge, 2, moment)
            assert then is not None
            assert then.name == "b"
            assert [each.name for each in as_of(session, select(Gauge), moment)] == ["b"]
            assert restore(session, Gauge, 2).name == "b!"
            session.commit()
        assert sorted(session.scalars(select(Gauge.name))) == ["a!", "b!"]


@pytest.mark.parametrize("read", ["version_at", "as_of"])
def test_without_a_pin_what_needs_one_shard_says_so(maker: Maker, read: str) -> None:
    reads: dict[str, Callable[[Session], object]] = {
        "version_at": lambda session: version_at(session, Gauge, 1, datetime.now(UTC)),
        "as_of": lambda session: as_of(session, select(Gauge), datetime.now(UTC)),
    }
    with maker() as session:
        session.add(Gauge(id=1, continent="Asia", name="a"))
        session.commit()
        with pytest.raises(ShardNotNamedError, match="use pinned_to"):
            reads[read](session)
        session.rollback()
        assert session.scalars(select(Gauge.name)).all() == ["a"]
        with pinned_to("asia"):
            reads[read](session)


# -- trees -------------------------------------------------------------------------------------------------------------


def test_each_shard_has_trees_of_its_own(maker: Maker) -> None:
    with maker() as session:
        for first, continent in ((1, "Asia"), (11, "Europe")):
            session.add_all(Topic(id=first + n, continent=continent, parent_id=first if n else None) for n in range(3))
        session.commit()
        session.get_one(Topic, 3).move_to(session.get_one(Topic, 2))
        session.delete(session.get_one(Topic, 12))
        session.commit()
        with pinned_to("asia"):
            (root,) = load_tree(session, Topic)
            assert [[child.id for child in each.children] for each in (root, *root.children)] == [[2], [3]]
            assert verify_tree(session, Topic) == []
        with pinned_to("europe"):
            assert [child.id for child in load_tree(session, Topic)[0].children] == [13]
            assert verify_tree(session, Topic) == []
        with pytest.raises(ShardNotNamedError, match="use pinned_to"):
            load_tree(session, Topic)


def test_functions_that_are_given_an_object_work_on_its_shard(maker: Maker) -> None:
    """Without a pin, although the keys are on both shards."""
    with maker() as session:
        for continent in ("Asia", "Europe"):
            session.add_all(Topic(id=n, continent=continent, parent_id=n - 1 if n > 1 else None) for n in (1, 2, 3))
            tasks = [Task(id=n, continent=continent) for n in (1, 2, 3)]
            session.add_all([*tasks, Needs(lower_node=tasks[0], higher_node=tasks[1])])
            session.flush()
        session.commit()
        for shard in ("asia", "europe"):
            first, second, third = (session.get_one(Topic, n, identity_token=shard) for n in (1, 2, 3))
            assert load_tree(session, Topic, root=first) == [first]
            assert [row.node for row in walk_tree(session, Topic, [second])] == [second, third]
            assert lowest_common_ancestor(session, second, third) is second
            assert len(dump_tree(session, Topic, first)) == 1
            insert_tree(session, Topic, [{"id": 4, "continent": second.continent}], parent=third)
            session.commit()
            assert [each.id for each in third.children] == [4]
            assert delete_subtree(session, second) == 3
            session.commit()
            a, b, c = (session.get_one(Task, n, identity_token=shard) for n in (1, 2, 3))
            assert [each.lower_node for each in a.add_neighbor(b, c)] == [a, a]
            session.commit()
            assert [set(each.higher_neighbors()) for each in (a, b)] == [{b, c}, set()]
            assert shortest_path(session, a, c) == [a, c]
            assert all_paths(session, a, b, limit=5) == [[a, b]]
            assert set(connected_component(session, b)) == {a, b, c}
            assert load_graph(session, Task, start=[a]) == [a, b, c]
            assert a.remove_neighbor(c) == 1
            session.commit()
        for shard in ("asia", "europe"):
            with pinned_to(shard):
                assert [each.id for each in load_tree(session, Topic)] == [1]
                assert verify_tree(session, Topic) == []
                assert [(each.lower_id, each.higher_id) for each in session.scalars(select(Needs))] == [(1, 2)]


def test_what_is_loaded_of_trees_shows_what_the_flush_has_done(maker: Maker, log: Traffic) -> None:
    """Also where the other shard has the same keys."""
    with maker() as session:
        for continent in ("Asia", "Europe"):
            session.add_all(Topic(id=n, continent=continent, parent_id=1 if n > 1 else None) for n in range(1, 6))
            session.flush()
        session.commit()
        shards = {
            shard: [session.get_one(Topic, n, identity_token=shard) for n in range(1, 6)]
            for shard in ("asia", "europe")
        }
        for root, *children in shards.values():
            assert root.children == children
            assert [each.position for each in children] == [0, 1, 2, 3]
        for root, *children in shards.values():
            children[3].move_to(root, "first_child")
        session.flush()
        log.clear()
        for root, *children in shards.values():
            assert [each.position for each in children] == [1, 2, 3, 0]
            assert root.children == [children[3], *children[:3]]
        assert len(log) <= 4
        session.rollback()


def test_erase_within_a_pin(maker: Maker) -> None:
    with maker() as session:
        for continent in ("Asia", "Europe"):
            session.add(Station(id=1, continent=continent, name="a"))
            session.flush()
        session.commit()
        for each in session.scalars(select(Station)).all():
            each.name = "b"
        session.commit()
        with pinned_to("europe"):
            assert erase(session, Station, 1) == 1
            session.commit()
            assert session.scalars(select(Station)).all() == []
        with pinned_to("asia"):
            assert [each.object.name for each in versions(session, Station, 1)] == ["a", "b"]


def test_a_flush_within_such_a_function_writes_to_all_shards(maker: Maker) -> None:
    with maker() as session:
        session.add_all([Topic(id=1, continent="Asia"), Topic(id=2, continent="Europe")])
        session.commit()
        asia, europe = session.get_one(Topic, 1), session.get_one(Topic, 2)
        session.add(Topic(id=3, continent="Europe", parent=europe))
        assert delete_subtree(session, asia) == 1
        session.commit()
        assert session.scalars(select(Topic.id).order_by(Topic.id)).all() == [2, 3]


def test_one_flush_locks_the_graphs_of_two_shards(maker: Maker) -> None:
    with maker() as session:
        tasks = [Task(id=each, continent="Asia" if each < 10 else "Europe") for each in (1, 2, 3, 11, 12, 13)]
        session.add_all([*tasks, Needs(lower_node=tasks[0], higher_node=tasks[1])])
        session.add(Needs(lower_node=tasks[3], higher_node=tasks[4]))
        session.commit()
        # Between nodes that are stored, so that another transaction could close a cycle meanwhile.
        session.add_all(Needs(lower_node=tasks[each], higher_node=tasks[each + 1]) for each in (1, 4))
        session.commit()
        session.add(Needs(lower_node=tasks[5], higher_node=tasks[3]))
        with pytest.raises(CycleError):
            session.commit()
        session.rollback()
        with pinned_to("europe"):
            assert [task.id for task in tasks[3].higher_neighbors()] == [12]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_version_that_fails_on_one_shard_leaves_none_on_another(maker: Maker) -> None:
    with maker() as session:
        stations = [Station(id=1, continent="Asia", name="a"), Station(id=2, continent="Europe", name="b")]
        session.add_all(stations)
        session.commit()
        stations[0].name = "changed"
        broken = Station(id=3, continent="Europe", name=None)
        session.add(broken)
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        assert broken not in session
        assert stations[0].name == "a"
        assert [each.number for each in versions(session, stations[0])] == [1]


def test_objects_that_wait_for_another_shard_leave_the_session_when_the_flush_fails(maker: Maker) -> None:
    with maker() as session:
        session.add(Station(id=1, continent="Asia", name="a"))
        session.commit()
        waiting = Station(id=2, continent="Europe", name="b")
        session.add_all([Station(id=3, continent="Asia", name=None), waiting])
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        assert waiting not in session
        assert inspect(waiting).transient
        assert session.scalar(select(func.count()).select_from(Station)) == 1


@pytest.mark.parametrize("cls", [Station, Gauge])
def test_bulk_statements_on_versioned_rows_leave_their_history_on_each_shard(maker: Maker, cls: Any) -> None:
    with maker() as session:
        session.execute(insert(cls), [{"id": 1, "continent": "Asia", "name": "a"}])
        session.execute(insert(cls), [{"id": n, "continent": "Europe", "name": "b"} for n in (2, 3)])
        session.commit()
        held = session.get_one(cls, 2)
        assert session.execute(update(cls).where(cls.id < 3).values(name="x")).rowcount == 2
        assert (held.name, session.scalars(select(cls.name).order_by(cls.id)).all()) == ("x", ["x", "x", "b"])
        session.commit()
        session.execute(update(cls), [{"id": 1, "name": "y"}, {"id": 3, "name": "y"}])
        session.commit()
        assert session.execute(delete(cls).where(cls.id != 1)).rowcount == 2
        session.commit()
        assert held not in session
        with pinned_to("asia"):
            assert [each.object.name for each in versions(session, cls, 1)] == ["a", "x", "y"]
        with pinned_to("europe"):
            assert [each.object.name for each in versions(session, cls, 2)] == ["b", "x"]
            assert [each.object.name for each in versions(session, cls, 3)] == ["b", "y"]
            assert versions(session, cls, 1) == []


def test_a_bulk_statement_on_versioned_rows_of_one_shard_touches_no_other(maker: Maker, log: Traffic) -> None:
    with maker() as session:
        session.add_all([Station(id=1, continent="Asia", name="a"), Station(id=2, continent="Europe", name="b")])
        session.commit()
        log.clear()
        session.execute(update(Station).where(Station.continent == "Europe").values(name="x"))
        assert {shard for shard, _ in log} == {"europe"}


# -- temporal rows -----------------------------------------------------------------------------------------------------


def _rates(session: Session) -> list[tuple[str, int, int, bool]]:
    every = select(Rate).order_by(Rate.id, Rate.version_id).execution_options(include_history=True)
    return [(each.id, each.version_id, each.amount, each.is_current) for each in session.scalars(every)]


def test_temporal_rows_have_their_versions_on_their_shard(maker: Maker) -> None:
    with maker() as session:
        rates = [Rate(id=n, continent=c, amount=1) for n, c in (("a", "Asia"), ("b", "Europe"), ("c", "Europe"))]
        session.add_all(rates)
        session.commit()
        for rate in rates[:2]:
            rate.amount = 2
        session.commit()
        assert session.execute(update(Rate).where(Rate.amount == 2).values(amount=3)).rowcount == 2
        assert [rate.amount for rate in rates] == [3, 3, 1]
        session.commit()
        assert session.execute(delete(Rate).where(Rate.id != "a")).rowcount == 2
        assert [rate in session for rate in rates] == [True, False, False]
        session.commit()
        rates[0].amount = 4
        session.commit()
    with maker() as session:
        europe = [("b", 1, 1, False), ("b", 2, 2, False), ("b", 3, 3, False), ("c", 1, 1, False)]
        asia = [("a", 1, 1, False), ("a", 2, 2, False), ("a", 3, 3, False), ("a", 4, 4, True)]
        assert _rates(session) == asia + europe
        with pinned_to("europe"):
            assert _rates(session) == europe


def test_a_statement_on_temporal_rows_leaves_objects_of_another_shard_alone(maker: Maker) -> None:
    with maker() as session:
        rates = [Rate(id=n, continent=c, amount=1) for n, c in (("a", "Asia"), ("b", "Europe"))]
        session.add_all(rates)
        session.commit()
        with pinned_to("europe"):
            session.execute(update(Rate).values(amount=2))
            assert [rate.amount for rate in rates] == [1, 2]
            session.execute(delete(Rate))
        assert [rate in session for rate in rates] == [True, False]
        rates[0].amount = 3
        session.commit()
        assert _rates(session) == [("a", 1, 1, False), ("a", 2, 3, True), ("b", 1, 1, False), ("b", 2, 2, False)]


# -- many-to-many ------------------------------------------------------------------------------------------------------


def test_one_flush_writes_many_to_many_rows_on_two_shards(maker: Maker, log: Traffic) -> None:
    with maker() as session:
        for number, continent in enumerate(("Asia", "Europe"), 1):
            labels = [Label(id=10 * number + i, continent=continent) for i in range(2)]
            session.add(Page(id=number, continent=continent, labels=labels))
        session.commit()
        assert [shard for shard, statement in log if "INTO shard_note_label" in statement.replace(f"{shard}.", "")] == [
            "asia",
            "europe",
        ]
        pages = session.scalars(select(Page).order_by(Page.id)).all()
        assert [[label.id for label in page.labels] for page in pages] == [[10, 11], [20, 21]]
        joined = select(Page.id, Label.id).join(Page.labels).order_by(Label.id.desc()).limit(3)
        assert session.execute(joined).all() == [(2, 21), (2, 20), (1, 11)]
        pages[0].labels.append(pages[1].labels[0])
        with pytest.raises(CrossShardRelationshipError):
            session.flush()
        session.rollback()
        del pages[0].labels[0], pages[1].labels[0]
        session.commit()
        assert [[label.id for label in page.labels] for page in pages] == [[11], [21]]


# -- caching -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["cache", "criteria"])
def test_a_cached_read_is_kept_for_each_shard(maker: Maker, log: Traffic, first: str) -> None:
    cache = ORMCache(make_region().configure("dogpile.cache.memory"))
    public = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    for component in (cache, public) if first == "cache" else (public, cache):
        component.attach(maker)
    with maker() as session:
        session.add_all([Note(id=1, continent="Asia"), Note(id=2, continent="Europe")])
        session.add(Note(id=3, continent="Asia", public=False))
        session.commit()
    asia = select(Note).where(Note.continent == "Asia").options(FromCache())
    everything = select(Note).order_by(Note.id.desc()).options(FromCache())
    for turn in range(2):
        with maker() as session:
            log.clear()
            (note,) = session.scalars(asia)
            assert (note.id, inspect(note).identity_token) == (1, "asia")
            assert [each.id for each in session.scalars(everything)] == [2, 1]
            assert log.of("SELECT") == (["asia", "asia", "europe"] if turn == 0 else [])
    with maker() as session:
        session.get_one(Note, 1).public = False
        session.commit()
        log.clear()
        assert session.scalars(asia).all() == []
        assert log.of("SELECT") == ["asia"]


def test_one_key_on_two_shards_is_two_entries(maker: Maker, log: Traffic) -> None:
    ORMCache(make_region().configure("dogpile.cache.memory")).attach(maker)
    with maker() as session:
        session.add_all([Note(id=1, continent="Asia"), Note(id=2, continent="Europe")])
        session.commit()
    count = select(func.count(Note.id)).where(Note.id == 1).options(FromCache())
    for _ in range(2):
        with maker() as session:
            for shard, expected in (("asia", 1), ("europe", 0)):
                with pinned_to(shard):
                    assert session.scalar(count) == expected
    assert log.of("SELECT") == ["asia", "europe"]


# -- criteria and tenancy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach", [True, False], ids=["attached after", "on the class"])
def test_criteria_reach_each_shard_of_a_merge(maker: Maker, attach: bool) -> None:
    public = GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private")
    with public.attach(maker if attach else Session), maker() as session:
        notes = [Note(id=n, continent=("Asia", "Europe")[n % 2], public=n % 3 > 0) for n in range(1, 9)]
        session.add_all(notes)
        session.commit()
        session.expunge_all()
        assert session.scalars(select(Note.id).order_by(Note.id.desc()).limit(3)).all() == [8, 7, 5]
        assert session.scalar(select(func.count()).select_from(Note)) == 6


def test_a_tenant_is_on_its_shard_and_its_reads_go_there(maker: Maker, log: Traffic) -> None:
    for number, tenant in enumerate(("acme", "zeta", "other"), 1):
        with tenant_scope(tenant), maker() as session:
            session.add(Order(id=number, total=number))
            session.commit()
    with tenant_scope("zeta"), maker() as session:
        log.clear()
        assert session.scalars(select(Order.total)).all() == [2]
        assert session.scalar(select(func.sum(Order.total))) == 2
        assert log.shards == ["europe", "europe"]
        assert explain(session, select(Order)).scatter
        assert session.get(Order, 1) is None
        order = session.get_one(Order, 2)
        session.execute(update(Order).values(total=7))
        session.delete(order)
        session.commit()
        assert session.scalars(select(Order.total)).all() == []
        undelete(session, order)
        session.commit()
        assert session.scalars(select(Order.total)).all() == [7]
    with tenant_scope("acme"), maker() as session:
        assert session.scalars(select(Order.total)).all() == [1]
