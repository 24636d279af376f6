"""The mixins on every kind of declarative base that users have."""

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from sqla_patterns.criteria import HasPrivate, HasTemporal, SoftDelete, TenantScoped, restore, tenant_scope
from tests.integration._bases import BASES

from ._models import PUBLIC


@pytest.mark.parametrize("kind", BASES)
def test_a_class_with_all_mixins_works(kind: str, engine: Engine) -> None:
    build = BASES[kind]()
    cls: Any = build("Everything", (TenantScoped, SoftDelete, HasPrivate, HasTemporal), {})
    cls.metadata.create_all(engine)
    maker = sessionmaker(engine)
    PUBLIC.attach(maker)
    with tenant_scope("a"), maker() as session:
        one, two = cls(name="one"), cls(name="two")
        two.public = False
        session.add_all([one, two])
        session.commit()
        assert (one.tenant_id, one.public, one.deleted_at) == ("a", True, None)
        assert one.timestamp is not None
        assert list(session.scalars(select(cls.name))) == ["one"]
        session.delete(one)
        session.commit()
        assert list(session.scalars(select(cls.name))) == []
        restore(session, one)
        session.commit()
        assert list(session.scalars(select(cls.name))) == ["one"]
    with tenant_scope("b"), Session(engine) as session:
        assert list(session.scalars(select(cls.name))) == []
    build.dispose()
