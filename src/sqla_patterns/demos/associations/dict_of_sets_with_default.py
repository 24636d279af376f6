"""A dictionary of sets of numbers over three tables, which makes the set of a missing key.

Proxies of proxies hide both mapped classes. A key that is *subscripted* gets its set, as with
`collections.defaultdict`; asking whether a key is there writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.associations import GenDefaultCollection, gen_default_collection, proxied_dict, proxied_set
from sqla_patterns.demos._support import demo_engine, demo_options


class Base(DeclarativeBase):
    pass


# The innermost class comes first: mypy infers the type of "values" before "collections" asks for it.
class C(Base):
    __tablename__ = "demo_dict_of_sets_c"

    id: Mapped[int] = mapped_column(primary_key=True)
    b_id: Mapped[int] = mapped_column(ForeignKey("demo_dict_of_sets_b.id"))
    value: Mapped[int]


class B(Base):
    __tablename__ = "demo_dict_of_sets_b"

    id: Mapped[int] = mapped_column(primary_key=True)
    a_id: Mapped[int] = mapped_column(ForeignKey("demo_dict_of_sets_a.id"))
    key: Mapped[str] = mapped_column(String(20))
    elements: Mapped[set[C]] = relationship(cascade="all, delete-orphan")
    values = proxied_set("elements", lambda: C.value)


class A(Base):
    __tablename__ = "demo_dict_of_sets_a"

    id: Mapped[int] = mapped_column(primary_key=True)
    associations: Mapped[GenDefaultCollection[str, B]] = relationship(
        collection_class=gen_default_collection(lambda: B.key, lambda key: B(key=key)), cascade="all, delete-orphan"
    )
    collections = proxied_dict("associations", lambda: B.key, lambda: B.values)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        # Only A is named here; the rest is a dictionary of sets.
        a = A(collections={"1": {1, 2, 3}})
        session.add_all([a, A(collections={"other": {12, 20}})])
        session.commit()

        a.collections["1"].add(4)
        a.collections["2"].update([7, 8, 9])
        session.commit()
        options.say("after adding:   ", a.collections)
        assert a.collections == {"1": {1, 2, 3, 4}, "2": {7, 8, 9}}

        assert a.collections.get("3") is None
        assert "3" not in a.collections
        assert not session.new, "reading makes no row"

        kept = {c.value: c.id for c in a.associations["1"].elements}
        a.collections = {"1": {3, 4, 5}}
        session.commit()
        options.say("after assigning:", a.collections)
        assert {c.value for c in a.associations["1"].elements if kept.get(c.value) == c.id} == {3, 4}
        # The key "2" went, and its rows with it: what is left is three numbers here and two of the other.
        assert session.scalar(select(func.count()).select_from(C)) == 5

        # Equality all the way down: 2 is not found in 12 or 20.
        found = session.scalars(select(A).where(A.collections.contains(3))).all()
        assert found == [a]
        assert session.scalars(select(A).where(A.collections.contains(2))).all() == []
        options.say("with a 3 in any set:", len(found), "object")
    return 0
