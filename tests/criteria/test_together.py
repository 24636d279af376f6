"""Criteria together with the other packages: caches in both orders of attachment, trees, histories."""

from datetime import UTC, datetime
from typing import Any

import pytest
from dogpile.cache import make_region
from sqlalchemy import Engine, ForeignKey, String, create_engine, delete, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import StaticPool

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.criteria import SoftDelete, TenantScoped, all_tenants, hard_delete, tenant_scope
from sqla_patterns.exceptions import MappingError
from sqla_patterns.trees import TreeNode, TreeOptions
from sqla_patterns.versioning import (
    CopiedRow,
    TemporalRow,
    Versioned,
    VersionedRow,
    VersionOptions,
    as_of,
    erase,
    versions,
)
from tests._support import count_statements
from tests.conftest import BaseFactory

from ._models import PUBLIC, HasPrivate, Hider, fill, map_blog

PRIVATE = Hider("private", HasPrivate, {"public": True}, {"public": False}, "include_private")


def _cache() -> ORMCache:
    region = make_region().configure("dogpile.cache.memory")
    return ORMCache({"default": region})


# -- caches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["criteria", "cache"])
def test_a_cache_never_gives_hidden_rows_away(first: str, plain_bases: BaseFactory, engine: Engine) -> None:
    blog = map_blog(plain_bases(), PRIVATE)
    fill(engine, blog)
    maker, cache = sessionmaker(engine), _cache()
    if first == "criteria":
        PUBLIC.attach(maker)
        cache.attach(maker)
    else:
        cache.attach(maker)
        PUBLIC.attach(maker)
    statement = select(blog.post.id).order_by(blog.post.id).options(FromCache())
    opened = statement.execution_options(include_private=True)
    seen: list[list[int]] = []
    for asked in (opened, statement, opened, statement):
        with maker() as session:
            seen.append(list(session.scalars(asked)))
    assert seen == [[1, 2, 3, 4], [1, 3], [1, 2, 3, 4], [1, 3]]
    cache.detach()


@pytest.mark.parametrize("first", ["criteria", "cache"])
def test_a_cache_still_has_hits(first: str, plain_bases: BaseFactory, engine: Engine) -> None:
    blog = map_blog(plain_bases(), PRIVATE)
    fill(engine, blog)
    maker, cache = sessionmaker(engine), _cache()
    if first == "criteria":
        PUBLIC.attach(maker)
        cache.attach(maker)
    else:
        cache.attach(maker)
        PUBLIC.attach(maker)
    statement = select(blog.post.id).order_by(blog.post.id).options(FromCache())
    with maker() as session:
        list(session.scalars(statement))
    with maker() as session, count_statements(engine) as log:
        assert list(session.scalars(statement)) == [1, 3]
    assert log.starting("SELECT") == []
    cache.detach()


@pytest.mark.parametrize("attached", ["before", "after"])
def test_a_cache_never_gives_rows_of_another_tenant_away(
    attached: str, plain_bases: BaseFactory, engine: Engine
) -> None:
    maker, cache = sessionmaker(engine), _cache()
    if attached == "before":
        cache.attach(maker)
    base: Any = plain_bases()

    class Order(TenantScoped, base):
        __tablename__ = "tog_order"
        id: Mapped[int] = mapped_column(primary_key=True)

    if attached == "after":
        cache.attach(maker)
    base.metadata.create_all(engine)
    for number, tenant in enumerate("ab"):
        with tenant_scope(tenant), maker() as session:
            session.add(Order(id=number + 1))
            session.commit()
    seen: list[list[int]] = []
    with count_statements(engine) as log:
        for tenant in "abab":
            with tenant_scope(tenant), maker() as session:
                seen.append(list(session.scalars(select(Order.id).options(FromCache()))))
    with all_tenants(), maker() as session:
        assert sorted(session.scalars(select(Order.id).options(FromCache()))) == [1, 2]
    assert seen == [[1], [2], [1], [2]]
    assert len(log.starting("SELECT")) == 2
    cache.detach()


# -- trees ---------------------------------------------------------------------------------------


def test_a_tree_with_a_hidden_child_keeps_its_structure(plain_bases: BaseFactory, engine: Engine) -> None:
    from sqla_patterns.trees import verify_tree

    base: Any = plain_bases()

    class Topic(TreeNode, SoftDelete, base):
        __tablename__ = "tog_topic"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    base.metadata.create_all(engine)
    with Session(engine) as session:
        root = Topic(id=1, name="root", children=[Topic(id=2, name="a"), Topic(id=3, name="b"), Topic(id=4, name="c")])
        session.add(root)
        session.commit()
        session.delete(session.get_one(Topic, 3))
        session.commit()
        session.expire_all()
        assert [child.id for child in session.get_one(Topic, 1).children] == [2, 4]
        session.get_one(Topic, 4).move_to(session.get_one(Topic, 2), "before")
        session.commit()
        assert verify_tree(session, Topic) == []


def test_a_tree_that_cascades_cannot_be_soft_deletable(plain_bases: BaseFactory) -> None:
    with pytest.raises(MappingError, match="cascade"):

        class Topic(TreeNode, SoftDelete, plain_bases()):  # type: ignore[misc]
            __tablename__ = "tog_topic"
            __tree__ = TreeOptions(on_delete="cascade")
            id: Mapped[int] = mapped_column(primary_key=True)


# -- histories -----------------------------------------------------------------------------------


@pytest.fixture
def documents(plain_bases: BaseFactory, engine: Engine) -> Any:
    base: Any = plain_bases()

    class Document(Versioned, TenantScoped, SoftDelete, base):
        __tablename__ = "tog_document"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    base.metadata.create_all(engine)
    for number, tenant in enumerate("ab"):
        with tenant_scope(tenant), Session(engine) as session:
            session.add(Document(id=number + 1, name="first"))
            session.commit()
            session.get_one(Document, number + 1).name = "second"
            session.commit()
    return Document


def test_versions_obey_the_tenant(documents: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        mine = session.get_one(documents, 1)
        assert [version.object.name for version in versions(session, mine)] == ["first", "second"]


def test_as_of_obeys_the_tenant(documents: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        found = as_of(session, select(documents), datetime.now(UTC))
        assert [document.id for document in found] == [1]


def test_a_marked_row_has_a_version_and_can_be_removed(documents: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        mine = session.get_one(documents, 1)
        session.delete(mine)
        session.commit()
        assert mine.version == 3  # marking is a change like any other
        hard_delete(session, mine)
        session.commit()
    with all_tenants(), Session(engine) as session:
        assert list(session.scalars(select(documents.id).execution_options(include_deleted=True))) == [2]


def test_erase_after_hard_delete_erases_the_history(documents: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        hard_delete(session, session.get_one(documents, 1))
        assert erase(session, documents, 1) > 0
        session.commit()


def test_erase_really_erases(documents: Any, engine: Engine) -> None:
    with tenant_scope("a"), Session(engine) as session:
        erase(session, documents, 1)
        session.commit()
    with engine.connect() as connection:
        assert list(connection.scalars(select(documents.__table__.c.id))) == [2]


def test_inserts_into_a_joined_subclass_beside_tenants_warn_of_nothing(
    plain_bases: BaseFactory, engine: Engine, session: Session
) -> None:
    """A class with tenants anywhere in the process has each statement looked at, also those of other classes."""
    base: Any = plain_bases()

    class Order(TenantScoped, base):  # type: ignore[misc]
        __tablename__ = "together_order"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Entry(base):  # type: ignore[misc]
        __tablename__ = "together_entry"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "entry"}

    class File(Entry):
        __tablename__ = "together_file"
        id: Mapped[int] = mapped_column(ForeignKey("together_entry.id"), primary_key=True)
        size: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "file"}

    base.metadata.create_all(engine)
    session.scalars(insert(File).returning(File.id), [{"size": 1}, {"size": 2}]).all()
    assert session.scalar(select(func.count()).select_from(File)) == 2


class _Rotating(Session):
    """A session that sends each statement to the next of its engines, as one with several replicas does."""

    engines: list[Engine]
    asked: int

    def get_bind(self, *args: Any, **kw: Any) -> Any:
        if kw.get("bind") is not None:
            return kw["bind"]
        self.asked += 1
        return self.engines[self.asked % len(self.engines)]


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("about", ["marked", "plain"])
def test_a_session_is_asked_once_for_the_bind_of_a_statement(plain_bases: BaseFactory, about: str) -> None:
    """Of classes with criteria, and of others, whose statements are looked at all the same."""
    base: Any = plain_bases()

    class Marked(SoftDelete, base):  # type: ignore[misc]
        __tablename__ = "together_marked"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Owned(TenantScoped, base):  # type: ignore[misc]
        __tablename__ = "together_owned"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Plain(base):  # type: ignore[misc]
        __tablename__ = "together_plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    engines = [create_engine("sqlite://", poolclass=StaticPool) for _ in range(2)]
    for each in engines:
        base.metadata.create_all(each)
    entity = {"marked": Marked, "plain": Plain}[about]
    with _Rotating() as session:
        session.engines, session.asked = engines, 0
        for number in range(1, 5):
            assert session.scalars(select(entity)).all() == []
            assert session.asked == number
    for each in engines:
        each.dispose()


@pytest.mark.only_on("sqlite")
def test_a_session_whose_binds_are_chosen_as_in_the_manual_is_asked_without_a_bind(
    plain_bases: BaseFactory, engine: Engine
) -> None:
    """The example of SQLAlchemy's manual has two parameters, and its author did not expect a third."""
    base: Any = plain_bases()

    class Marked(SoftDelete, base):  # type: ignore[misc]
        __tablename__ = "together_marked"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Routing(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            return engine

    base.metadata.create_all(engine)
    with Routing() as session:
        session.add(Marked())
        session.commit()
        held = session.scalars(select(Marked)).one()
        session.delete(held)
        session.commit()
        assert session.scalars(select(Marked)).all() == []


# -- temporal rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [VersionedRow, TemporalRow, CopiedRow])
def test_an_object_with_temporal_rows_gets_its_new_key_within_a_tenant(
    form: type[Any], plain_bases: BaseFactory, engine: Engine
) -> None:
    """A flush gives the object another primary key, which is not that of another tenant's row."""
    base: Any = plain_bases()

    class Contract(form, TenantScoped, base):  # type: ignore[misc]
        __tablename__ = "together_contract"
        if form is CopiedRow:
            id: Mapped[int] = mapped_column(primary_key=True)
        else:
            id: Mapped[str] = mapped_column(String(10), primary_key=True)  # type: ignore[no-redef]
        title: Mapped[str] = mapped_column(String(20))

    base.metadata.create_all(engine)
    key = {} if form is CopiedRow else {"id": "a"}
    with tenant_scope("a"), Session(engine) as session:
        contract = Contract(title="one", **key)
        session.add(contract)
        session.commit()
        for title in ("two", "three"):
            contract.title = title
            session.commit()
        every = select(Contract.title).execution_options(include_history=True)
        assert sorted(session.scalars(every)) == ["one", "three", "two"]
    with tenant_scope("b"), Session(engine) as session:
        assert session.scalars(every).all() == []
        for statement in (update(Contract).values(title="mine"), delete(Contract)):
            assert session.execute(statement).rowcount == 0
        session.commit()
    with tenant_scope("a"), Session(engine) as session:
        assert session.scalars(select(Contract.title)).all() == ["three"]
        assert session.execute(update(Contract).values(title=Contract.title + "!")).rowcount == 1
        assert session.scalars(select(Contract.title)).all() == ["three!"]
        session.delete(session.scalars(select(Contract)).one())
        session.commit()
        assert session.scalars(select(Contract)).all() == []
