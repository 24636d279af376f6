"""Sessions whose ``get_bind()`` takes what the example in SQLAlchemy's manual takes, and nothing more.

``ORMExecuteState.invoke_statement()`` gives it one argument more, so that packages which execute statements from within
their listeners must do it in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from dogpile.cache import make_region
from sqlalchemy import Engine, String, delete, insert, select, update
from sqlalchemy.orm import Mapped, Session, joinedload, mapped_column, sessionmaker, with_loader_criteria

from sqla_patterns.caching import FromCache, ORMCache
from sqla_patterns.criteria import GlobalCriteria, SoftDelete, TenantScoped, tenant_scope
from sqla_patterns.versioning import CopiedRow, Versioned, VersionedRow, VersionOptions


class Marked:
    """A mixin for which criteria are."""


def _write_all(cls: type[Any], session: Session) -> Sequence[str]:
    """Write by each kind of statement, and return the names that are left."""
    session.execute(insert(cls), [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    session.execute(insert(cls), {"id": 3, "name": "c"})
    session.execute(insert(cls).values([{"id": 4, "name": "d"}, {"id": 5, "name": "e"}]))
    session.commit()
    session.execute(update(cls).where(cls.id < 3).values(name=cls.name + "!"))
    session.execute(update(cls).where(cls.id == 3).options(with_loader_criteria(cls, cls.name == "c")).values(name="z"))
    session.execute(delete(cls).where(cls.id == 4))
    session.commit()
    return session.scalars(select(cls.name).order_by(cls.id)).all()


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize(
    "mixins",
    [
        (Versioned,),
        (CopiedRow,),
        (VersionedRow,),
        (SoftDelete,),
        (TenantScoped,),
        (TenantScoped, SoftDelete, Versioned),
    ],
    ids=lambda mixins: "+".join(each.__name__ for each in mixins),
)
def test_statements_of_classes(mixins: tuple[type[Any], ...], plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()
    cls: Any = type(
        "Thing",
        (*mixins, base),
        {
            "__tablename__": "thing",
            "__annotations__": {"id": Mapped[int], "name": Mapped[str]},
            "id": mapped_column(primary_key=True, **({} if CopiedRow in mixins else {"autoincrement": False})),
            "name": mapped_column(String(10)),
        },
    )

    class Routing(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            return engine

    base.metadata.create_all(engine)
    with tenant_scope("t"), Routing() as session:
        # The new version of a copied row has a key of its own, and so comes last.
        assert sorted(_write_all(cls, session)) == ["a!", "b!", "e", "z"]


@pytest.mark.only_on("sqlite")
def test_updates_by_key_of_versioned_classes(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()

    class Thing(Versioned, base):
        __tablename__ = "thing"
        __versioned__ = VersionOptions(period=True, operation=True)
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = mapped_column(String(10))

    class Routing(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            return engine

    base.metadata.create_all(engine)
    with Routing() as session:
        session.execute(insert(Thing), [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
        session.commit()
        session.execute(update(Thing), [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])
        session.commit()
        assert session.execute(select(Thing.name, Thing.version)).all() == [("x", 2), ("y", 2)]


@pytest.mark.only_on("sqlite")
def test_caches_and_criteria_of_a_factory(plain_bases: Any, engine: Engine) -> None:
    base = plain_bases()

    class Thing(Marked, base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = mapped_column(String(10))

    class Routing(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            return engine

    base.metadata.create_all(engine)
    factory = sessionmaker(class_=Routing)
    cache = ORMCache({"default": make_region().configure("dogpile.cache.memory")})
    cache.attach(factory)
    GlobalCriteria(Marked, lambda cls: cls.name != "hidden", option="everything").attach(factory)
    reading = select(Thing.name).order_by(Thing.id).options(FromCache("default"), joinedload("*"))
    with factory() as session:
        session.execute(insert(Thing), [{"id": 1, "name": "a"}, {"id": 2, "name": "hidden"}])
        session.commit()
        assert session.scalars(reading).all() == ["a"]
        assert session.scalars(reading).all() == ["a"]
        assert session.execute(update(Thing).values(name="b")).rowcount == 1
        session.commit()
        assert session.scalars(reading).all() == ["b"]
    with Session(engine) as session:
        assert session.scalars(select(Thing.name).order_by(Thing.id)).all() == ["b", "hidden"]
