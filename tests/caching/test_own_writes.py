"""A transaction sees what it has written, also in lazy loads that were looked up before it wrote."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, String, Table, delete, insert, select, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RelationshipCache
from tests.caching._world import memory_region


class Base(DeclarativeBase):
    pass


link = Table(
    "own_link",
    Base.metadata,
    Column("node_id", ForeignKey("own_node.id", ondelete="CASCADE"), primary_key=True),
    Column("word_id", ForeignKey("own_word.id"), primary_key=True),
)


class Word(Base):
    __tablename__ = "own_word"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Place(Base):
    __tablename__ = "own_place"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Kid(Base):
    __tablename__ = "own_kid"
    id: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("own_node.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(20), default="kid")


class Card(Base):
    __tablename__ = "own_card"
    id: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[int | None] = mapped_column(ForeignKey("own_node.id"))
    name: Mapped[str] = mapped_column(String(20), default="card")


class Node(Base):
    __tablename__ = "own_node"
    id: Mapped[int] = mapped_column(primary_key=True)
    place_id: Mapped[int | None] = mapped_column(ForeignKey("own_place.id"))
    kids: Mapped[list[Kid]] = relationship(order_by=Kid.id, passive_deletes=True)
    words: Mapped[list[Word]] = relationship(secondary=link, order_by=Word.id, passive_deletes=True)
    place: Mapped[Place | None] = relationship()
    card: Mapped[Card | None] = relationship()


RELATIONSHIPS: dict[str, Any] = {
    "one to many": Node.kids,
    "many to many": Node.words,
    "many to one": Node.place,
    "one to one": Node.card,
}


class Nest:
    """Three nodes, each with related objects in each relationship, all of them cached."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        Base.metadata.create_all(engine)
        self.plain = sessionmaker(engine)
        with self.plain() as session:
            for number in (1, 2, 3):
                place, word = Place(id=number, name=f"place {number}"), Word(id=number, name=f"word {number}")
                node = Node(id=number, place=place, words=[word])
                node.kids, node.card = [Kid(id=number, name=f"kid {number}")], Card(id=number, name=f"card {number}")
                session.add(node)
            session.add_all([Place(id=9, name="place 9"), Word(id=9, name="word 9")])
            session.commit()
        self.region: Any = memory_region()
        self.cache = ORMCache({"default": self.region}, stamps=MemoryStamps())
        self.session = sessionmaker(engine)
        self.cache.listen_on_session(self.session)
        option = RelationshipCache(Node.kids)
        for attribute in (Node.words, Node.place, Node.card):
            option = option.and_(RelationshipCache(attribute))
        self.nodes = select(Node).order_by(Node.id).options(option)
        for _ in range(2):
            with self.session() as session:
                for node in session.scalars(self.nodes):
                    show(node)
        self.cache.stats.reset()


def names(value: Any) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [each.name for each in found if each is not None]


def show(node: Node) -> list[list[str]]:
    return [names(getattr(node, attribute.key)) for attribute in RELATIONSHIPS.values()]


@pytest.fixture
def nest(engine: Engine) -> Generator[Nest, None, None]:
    nest = Nest(engine)
    yield nest
    nest.cache.detach()


# -- every way of writing ------------------------------------------------------------------------


def _flush(session: Session, two: Node, three: Node) -> None:
    session.add(Kid(id=10, node_id=2, name="new"))
    session.execute(insert(link).values(node_id=2, word_id=9))
    session.add(Card(id=10, node_id=None, name="new"))
    two.place_id = 9
    session.flush()
    session.delete(session.get_one(Kid, 3))
    session.get_one(Card, 3).name = "changed"
    session.flush()


def _pending(session: Session, two: Node, three: Node) -> None:
    session.add(Kid(id=10, node_id=2, name="new"))
    two.place_id = 9
    session.get_one(Card, 3).name = "changed"


def _orm_bulk(session: Session, two: Node, three: Node) -> None:
    session.execute(insert(Kid), [{"id": 10, "node_id": 2, "name": "new"}])
    session.execute(update(Card).where(Card.node_id == 3).values(name="changed"))
    session.execute(delete(Kid).where(Kid.node_id == 3))
    session.execute(update(Node).where(Node.id == 2).values(place_id=9))
    session.execute(update(Place).where(Place.id == 3).values(name="moved"))


def _core(session: Session, two: Node, three: Node) -> None:
    session.execute(insert(Kid.__table__).values(id=10, node_id=2, name="new"))
    session.execute(update(Card.__table__).where(Card.node_id == 3).values(name="changed"))
    session.execute(delete(Kid.__table__).where(Kid.__table__.c.node_id == 3))
    session.execute(delete(link).where(link.c.node_id == 3))
    session.execute(update(Word.__table__).values(name="same"))
    session.execute(update(Place.__table__).where(Place.id == 3).values(name="moved"))


def _on_the_connection(session: Session, two: Node, three: Node) -> None:
    session.connection().execute(insert(Kid.__table__).values(id=10, node_id=2, name="new"))
    session.connection().execute(delete(link).where(link.c.node_id == 3))
    session.connection().exec_driver_sql("UPDATE own_card SET name = 'changed' WHERE node_id = 3")


def _text(session: Session, two: Node, three: Node) -> None:
    session.execute(text("INSERT INTO own_kid (id, node_id, name) VALUES (10, 2, 'new')"))
    session.execute(text("DELETE FROM own_kid WHERE node_id = 3"))
    session.execute(text("INSERT INTO own_link (node_id, word_id) VALUES (2, 9)"))
    session.execute(text("UPDATE own_place SET name = 'moved' WHERE id = 3"))
    session.execute(text("UPDATE own_card SET node_id = NULL WHERE id = 2"))


def _touching_text(session: Session, two: Node, three: Node) -> None:
    session.execute(
        text("INSERT INTO own_kid (id, node_id, name) VALUES (10, 2, 'new')"),
        execution_options={"cache_touches": [Kid]},
    )


def _savepoint(session: Session, two: Node, three: Node) -> None:
    session.execute(update(Word.__table__).values(name="same"))  # SQLite begins no transaction before it writes
    with session.begin_nested():
        session.execute(insert(Kid.__table__).values(id=10, node_id=2, name="new"))


def _rolled_back_savepoint(session: Session, two: Node, three: Node) -> None:
    nested = session.begin_nested()
    session.execute(insert(Kid.__table__).values(id=10, node_id=2, name="new"))
    nested.rollback()


WAYS: dict[str, Callable[[Session, Node, Node], None]] = {
    way.__name__.strip("_"): way
    for way in (
        *(_flush, _pending, _orm_bulk, _core, _on_the_connection, _text, _touching_text),
        *(_savepoint, _rolled_back_savepoint),
    )
}


def _after_write(factory: Any, nodes: Any, way: Any, attribute: Any) -> Any:
    """Return the value of an attribute after a write, where a batch was looked up before it."""
    with factory() as session:
        one, two, three = session.scalars(nodes)
        getattr(one, attribute.key)
        way(session, two, three)
        return [names(getattr(node, attribute.key)) for node in (two, three)]


@pytest.mark.parametrize("kind", RELATIONSHIPS)
@pytest.mark.parametrize("way", WAYS)
def test_an_own_write_is_seen_in_the_rest_of_a_batch(nest: Nest, way: str, kind: str) -> None:
    expected = _after_write(nest.plain, nest.nodes, WAYS[way], RELATIONSHIPS[kind])
    assert _after_write(nest.session, nest.nodes, WAYS[way], RELATIONSHIPS[kind]) == expected


def test_the_cascade_of_a_delete_is_seen_in_the_rest_of_a_batch(engine_factory: Callable[..., Engine]) -> None:
    from sqlalchemy import event

    engine = engine_factory()
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda dbapi, record: dbapi.execute("PRAGMA foreign_keys = ON"))
    nest = Nest(engine)

    def way(session: Session, two: Node, three: Node) -> None:
        session.execute(delete(Card.__table__))
        session.execute(delete(Node.__table__).where(Node.id == 3))

    expected = _after_write(nest.plain, nest.nodes, way, Node.kids)
    found = _after_write(nest.session, nest.nodes, way, Node.kids)
    nest.cache.detach()
    assert (found, expected) == ([["kid 2"], []], [["kid 2"], []])


def test_a_write_to_another_table_leaves_the_batch_as_it_is(nest: Nest) -> None:
    with nest.session() as session:
        one, two, three = session.scalars(nest.nodes)
        names(one.kids)
        session.execute(update(Word).values(name="other"))
        names(two.kids + three.kids)
    assert nest.cache.stats.regions["default"].hits == 3


def test_the_end_of_an_entry_leaves_a_batch_that_was_looked_up_before(nest: Nest) -> None:
    # As with selectinload(): a batch belongs to the moment when it was looked up.
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        nest.cache.invalidate_all()
        names(two.kids)
    assert nest.cache.stats.regions["default"].hits == 2


# -- what else there is between the look-up and the read -----------------------------------------


def test_objects_of_a_batch_are_made_when_they_are_read(nest: Nest) -> None:
    with nest.session() as session:
        one, *_ = session.scalars(nest.nodes)
        names(one.kids)
        assert [each.id for each in session.identity_map.values() if isinstance(each, Kid)] == [1]


def test_a_batch_ends_with_its_transaction(nest: Nest) -> None:
    factory = sessionmaker(nest.engine, expire_on_commit=False)
    nest.cache.listen_on_session(factory)
    with factory() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        session.commit()
        with nest.session() as other:
            other.execute(update(Kid).values(name="new"))
            other.commit()
        assert names(two.kids) == ["new"]


EXPIRY: dict[str, tuple[Callable[[Session, Node], object], int]] = {
    "nothing": (lambda session, node: None, 0),
    "another attribute": (lambda session, node: session.expire(node, ["place_id"]), 0),
    "the attribute": (lambda session, node: session.expire(node, ["kids"]), 1),
    "the object": (lambda session, node: session.expire(node), 2),
    "all": (lambda session, node: session.expire_all(), 2),
}


@pytest.mark.parametrize("what", EXPIRY)
def test_what_is_expired_before_it_is_read_is_looked_up_again(
    nest: Nest, what: str, statements: Callable[..., Any]
) -> None:
    expire, count = EXPIRY[what]
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        # What is not in the region any more can only come from the batch.
        nest.region.actual_backend._cache.clear()
        expire(session, two)
        with statements(nest.engine) as log:
            assert names(two.kids) == ["kid 2"]
        assert len(log) == count


def test_refresh_reads_an_unread_attribute_from_the_database(nest: Nest, statements: Callable[..., Any]) -> None:
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        with statements(nest.engine) as log:
            session.refresh(two, ["kids"])
        assert "own_kid" in log.text


def test_a_detached_object_has_no_value_of_a_batch(nest: Nest) -> None:
    from sqlalchemy.orm.exc import DetachedInstanceError

    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
    with pytest.raises(DetachedInstanceError):
        names(two.kids)


def test_an_object_with_an_unread_value_can_be_pickled(nest: Nest) -> None:
    with nest.session() as session:
        one, two, _ = session.scalars(select(Node).order_by(Node.id).options(RelationshipCache(Node.kids)))
        names(one.kids)
        copy = pickle.loads(pickle.dumps(two))
    with nest.plain() as session:
        session.add(copy)
        assert names(copy.kids) == ["kid 2"]


def test_an_object_with_an_unread_value_can_be_merged_elsewhere(nest: Nest) -> None:
    with nest.session() as session, nest.session() as other:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        copy = other.merge(two, load=False)
        other.execute(update(Kid).values(name="new"))
        assert names(copy.kids) == ["new"]


def test_setting_an_unread_attribute_knows_what_was_there(nest: Nest) -> None:
    from sqlalchemy import inspect

    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        show(one)
        two.kids = []
        assert names(inspect(two).attrs.kids.history.deleted) == ["kid 2"]


@pytest.mark.parametrize("option", [joinedload, selectinload])
def test_an_eager_load_of_an_unread_attribute_is_not_overruled(nest: Nest, option: Any) -> None:
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        session.execute(update(Kid).values(name="new"))
        statement = select(Node).order_by(Node.id).options(option(Node.kids)).execution_options(populate_existing=True)
        session.scalars(statement).unique().all()
        with nest.cache.bypass(session):
            assert names(two.kids) == ["new"]


def test_bypass_holds_for_what_a_batch_has_found(nest: Nest) -> None:
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        hits = nest.cache.stats.hits
        with nest.cache.bypass(session):
            names(two.kids)
        assert nest.cache.stats.hits == hits


def test_without_autoflush_what_is_pending_is_not_seen(nest: Nest) -> None:
    with nest.session(autoflush=False) as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        session.add(Kid(id=10, node_id=2, name="new"))
        assert names(two.kids) == ["kid 2"]


def test_a_parent_that_was_changed_in_memory_is_the_one_that_is_loaded(nest: Nest) -> None:
    with nest.session(autoflush=False) as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.place)
        two.place_id = 9
        assert names(two.place) == ["place 9"]


def test_a_parent_that_the_session_has_is_not_made_again(nest: Nest) -> None:
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.place)
        place = session.get_one(Place, 2)
        session.expire(place)
        assert two.place is place


@pytest.mark.only_on("postgresql", "mariadb")
def test_own_writes_are_seen_where_each_statement_commits(engine_factory: Callable[..., Engine]) -> None:
    nest = Nest(engine_factory(isolation_level="AUTOCOMMIT"))
    found = _after_write(nest.session, nest.nodes, _core, Node.kids)
    nest.cache.detach()
    assert found == [["kid 2", "new"], []]


def test_detaching_the_cache_takes_kept_values_along(nest: Nest) -> None:
    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes.options(FromCache()))
        names(one.kids)
        nest.cache.detach()
        session.execute(insert(Kid.__table__).values(id=10, node_id=2, name="new"))
        assert names(two.kids) == ["kid 2", "new"]


def test_a_flush_that_fails_when_an_unread_attribute_is_read_raises_its_own_error(nest: Nest) -> None:
    from sqlalchemy import event

    def fail(*args: Any) -> None:
        raise KeyError("the user's")

    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        event.listen(session, "before_flush", fail)
        session.add(Word(id=10, name="new"))
        with pytest.raises(KeyError, match="the user's"):
            names(two.kids)


def test_kept_rows_that_cannot_be_loaded_cost_the_cache(nest: Nest, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqla_patterns.caching import _lazy_loads

    def fail(*args: Any) -> None:
        raise IndexError("forged")

    with nest.session() as session:
        one, two, _ = session.scalars(nest.nodes)
        names(one.kids)
        monkeypatch.setattr(_lazy_loads._KeptValue, "_load", fail)
        assert names(two.kids) == ["kid 2"]


def test_a_session_is_not_kept_alive_by_values_that_are_not_read(nest: Nest) -> None:
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        session = nest.session()
        nodes = session.scalars(select(Node).order_by(Node.id).options(RelationshipCache(Node.kids))).all()
        names(nodes[0].kids)
        gone = weakref.ref(session)
        session.close()
        del session
        assert gone() is None
    finally:
        gc.enable()
