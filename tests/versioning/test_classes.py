"""Which classes can be versioned: with every base, mapped in every way, in one or two databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, create_engine, select, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    declared_attr,
    mapped_column,
    registry,
    relationship,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import Versioned, VersionOptions, history_mapper, version_at, versioned_session, versions
from tests.versioning._models import history, history_class, history_table, tick, use_real_savepoints


def edit(session: Session, obj: Any) -> None:
    session.add(obj)
    session.commit()
    obj.name = "b"
    session.commit()


# -- bases -------------------------------------------------------------------------------------------


def test_a_dataclass_has_no_version_in_its_init(engine: Engine, session: Session) -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True, operation=True)
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(String(20))

    import inspect

    assert list(inspect.signature(Doc).parameters) == ["name"]
    Base.metadata.create_all(engine)
    doc = Doc("a")
    edit(session, doc)
    assert doc.version == 2
    assert history(session, Doc, "name") == ["a"]
    past = versions(session, doc)[0].object
    assert isinstance(past, Doc)
    assert past.name == "a"
    Base.registry.dispose()


def test_a_dataclass_with_required_and_keyword_only_fields(engine: Engine, session: Session) -> None:
    class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
        pass

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        size: Mapped[int]

        def __post_init__(self) -> None:
            self.seen = True

    Base.metadata.create_all(engine)
    doc = Doc(id=1, name="a", size=1)
    edit(session, doc)
    assert history(session, Doc, "name", "size") == [("a", 1)]
    past = version_at(session, Doc, 1, tick())
    assert past is not None
    Base.registry.dispose()


def test_a_base_whose_init_takes_arguments(engine: Engine, session: Session) -> None:
    # Upstream calls the history class without arguments.
    class Base(DeclarativeBase):
        def __init__(self, name: str, /) -> None:
            self.name = name

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        __versioned__ = VersionOptions(period=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    doc = Doc("a")
    edit(session, doc)
    session.delete(doc)
    session.commit()
    assert history(session, Doc, "name") == ["a", "b"]
    assert session.scalars(select(history_class(Doc))).first().name == "a"
    past = version_at(session, Doc, 1, history(session, Doc, "valid_from")[0])
    assert past is not None
    assert past.name == "a"
    Base.registry.dispose()


def test_table_args_of_the_users(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

        @declared_attr.directive
        def __table_args__(cls) -> Any:
            return {"info": {"mine": True}}

    Base.metadata.create_all(engine)
    doc = Doc(name="a")
    edit(session, doc)
    assert Doc.__table__.info["mine"]
    if engine.dialect.name == "sqlite":
        assert Doc.__table__.dialect_options["sqlite"]["autoincrement"]
    assert history(session, Doc, "name") == ["a"]


def test_mixins_of_the_users_on_either_side(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Named:
        @property
        def shout(self) -> str:
            return self.name.upper()  # type: ignore[attr-defined]

    class Before(Named, Versioned, Base):
        __tablename__ = "before"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class After(Versioned, Named, Base):
        __tablename__ = "after"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    for Doc in (Before, After):
        Doc.metadata.create_all(engine)
        doc = Doc(id=1, name="a")
        edit(session, doc)
        assert history(session, Doc, "name") == ["a"]
        assert session.scalars(select(history_class(Doc))).one().shout == "A"


def test_an_abstract_base_that_is_versioned(plain_bases: Any, engine: Engine, session: Session) -> None:
    Base = plain_bases()

    class Record(Versioned, Base):
        __abstract__ = True
        __versioned__ = VersionOptions(operation=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class A(Record):
        __tablename__ = "a"

    class B(Record):
        __tablename__ = "b"
        __versioned__ = VersionOptions()

    Base.metadata.create_all(engine)
    edit(session, A(name="a"))
    edit(session, B(name="a"))
    assert history(session, A, "name", "operation") == [("a", "update")]
    assert "operation" not in history_table(B).c


def test_registry_mapped_and_an_own_table(engine: Engine, session: Session) -> None:
    mapping = registry()

    @mapping.mapped
    class Doc(Versioned):
        __table__ = Table(
            "doc", mapping.metadata, Column("id", Integer, primary_key=True), Column("name", String(20), key="label")
        )

        def __init__(self, **values: Any) -> None:
            for key, value in values.items():
                setattr(self, key, value)

    mapping.metadata.create_all(engine)
    doc = Doc(label="a")
    session.add(doc)
    session.commit()
    doc.label = "b"
    session.commit()
    assert doc.version == 2
    assert history(session, Doc, "label") == ["a"]
    mapping.dispose()


def test_imperative_mapping(engine: Engine, session: Session) -> None:
    # Upstream's ``_history_mapper(mapper)``.
    mapping = registry()
    table = Table("doc", mapping.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))

    class Doc(Versioned):
        def __init__(self, name: str) -> None:
            self.name = name

    history_mapper(mapping.map_imperatively(Doc, table))
    history_mapper(Doc.__mapper__)  # type: ignore[attr-defined]  # a second time is none
    mapping.metadata.create_all(engine)
    doc = Doc("a")
    edit(session, doc)
    assert doc.version == 2
    assert history(session, Doc, "name") == ["a"]
    assert set(mapping.metadata.tables) == {"doc", "doc_history"}
    mapping.dispose()


def test_imperative_mapping_of_a_class_without_the_mixin(engine: Engine, session: Session) -> None:
    # As upstream's docstring shows it: ``m = mapper(SomeClass, sometable); _history_mapper(m)``.
    mapping = registry()
    table = Table("doc", mapping.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))

    class Doc:
        use_mapper_versioning = False

        def __init__(self, name: str) -> None:
            self.name = name

    history_mapper(mapping.map_imperatively(Doc, table))
    mapping.metadata.create_all(engine)
    doc = Doc("a")
    edit(session, doc)
    assert history(session, Doc, "name") == ["a"]
    mapping.dispose()


def test_a_class_without_a_primary_key_table_of_its_own_is_refused(plain_bases: Any) -> None:
    # A class over a join or a subquery has no one table to follow.
    Base = plain_bases()
    table = Table("doc", Base.metadata, Column("id", Integer, primary_key=True))

    with pytest.raises(PatternError):

        class Doc(Versioned, Base):
            __table__ = select(table).subquery()
            __mapper_args__ = {"primary_key": [__table__.c.id]}


# -- two databases -----------------------------------------------------------------------------------


def test_history_goes_where_the_class_is_bound(plain_bases: Any) -> None:
    Base = plain_bases()

    def make(name: str) -> Any:
        return type(
            name,
            (Versioned, Base),
            {
                "__tablename__": name.lower(),
                "id": mapped_column(Integer, primary_key=True),
                "name": mapped_column(String(9)),
            },
        )

    A, B = make("A"), make("B")
    one, two = (create_engine("sqlite://", poolclass=StaticPool) for _ in range(2))
    A.metadata.create_all(one, tables=[A.__table__, history_table(A)])
    B.metadata.create_all(two, tables=[B.__table__, history_table(B)])
    with Session(binds={A: one, B: two}) as session:
        a, b = A(name="a"), B(name="a")
        session.add_all([a, b])
        session.commit()
        a.name = b.name = "b"
        session.commit()
        session.execute(update(B).values(name="c"))
        session.delete(a)
        session.commit()
    with one.connect() as connection:
        assert connection.execute(select(history_table(A).c.name)).scalars().all() == ["a", "b"]
    with two.connect() as connection:
        assert connection.execute(select(history_table(B).c.name)).scalars().all() == ["a", "b"]
    one.dispose()
    two.dispose()


def test_a_session_bound_to_a_connection(plain_bases: Any, engine: Engine) -> None:
    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    use_real_savepoints(engine)
    Base.metadata.create_all(engine)
    with engine.connect() as connection, connection.begin() as transaction:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            edit(session, Doc(name="a"))
            assert history(session, Doc, "name") == ["a"]
        transaction.rollback()
    with Session(engine) as session:
        assert history(session, Doc) == []


# -- versioned_session -------------------------------------------------------------------------------


def test_versioned_session_accepts_every_kind_of_factory(plain_bases: Any, engine: Engine) -> None:
    # For users of SQLAlchemy's recipe: it exists, does no harm, and nothing is written twice.
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
    from sqlalchemy.orm import scoped_session

    Base = plain_bases()

    class Doc(Versioned, Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    versioned_session(factory)
    versioned_session(factory)
    versioned_session(scoped_session(sessionmaker(engine)))
    versioned_session(async_sessionmaker())
    versioned_session(async_scoped_session(async_sessionmaker(), scopefunc=lambda: 1))
    versioned_session(AsyncSession())
    versioned_session(type("Own", (Session,), {}))
    versioned_session(type("OwnAsync", (AsyncSession,), {}))
    with factory() as session:
        versioned_session(session)
        doc = Doc(name="a")
        edit(session, doc)
        assert history(session, Doc, "version", "name") == [(1, "a")]


def test_versioned_session_refuses_what_makes_no_sessions() -> None:
    with pytest.raises(PatternError):
        versioned_session("no session")  # type: ignore[arg-type]


# -- mapping with relationships ----------------------------------------------------------------------


def test_two_registries_with_classes_of_one_name(engine: Engine, session: Session) -> None:
    made = []
    for number in range(2):

        class Base(DeclarativeBase):
            metadata = MetaData()

        class Doc(Versioned, Base):
            __tablename__ = f"doc{number}"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(String(20))

        Base.metadata.create_all(engine)
        edit(session, Doc(name=f"a{number}"))
        made.append((Base, Doc))
    assert [history(session, Doc, "name") for _, Doc in made] == [["a0"], ["a1"]]
    for Base, _ in made:
        Base.registry.dispose()


def test_relationships_of_the_class_do_not_reach_its_history(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    Base = plain_bases()

    class Parent(Versioned, Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        children: Mapped[list[Child]] = relationship("Child", back_populates="parent", cascade="all, delete-orphan")

    class Child(Versioned, Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
        parent: Mapped[Parent] = relationship("Parent", back_populates="children")

    Base.metadata.create_all(engine)
    parent = Parent(name="a", children=[Child(name="c")])
    edit(session, parent)
    assert history(session, Parent, "name") == ["a"]
    assert history(session, Child) == []
    assert list(history_class(Parent).__mapper__.relationships) == []


def test_a_class_that_is_not_versioned_is_refused_by_name(plain_bases: Any, session: Session) -> None:
    Base = plain_bases()

    class Plain(Base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(PatternError, match="Plain"):
        versions(session, Plain(id=1))
    with pytest.raises(PatternError, match="Plain"):
        version_at(session, Plain, 1, tick())
