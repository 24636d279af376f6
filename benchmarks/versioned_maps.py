"""Change and read 1,000 dictionaries that keep their versions: a versioned map, and two JSON columns.

Each has 10 keys, of which one changes in a round. The reference is a JSON column that is overwritten and keeps nothing.
The other column is one of a class with a history table, which copies the document as it was. Both are assigned as a
whole, so that SQLAlchemy sees the change. Deep is what reading costs after 20 more versions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from _harness import benchmark, verify
from sqlalchemy import JSON, Engine, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.versioning import Versioned, VersionedMap, history_of, load_current, versions

OBJECTS, KEYS = 1_000, 10
Start = Callable[[Engine], Generator[Callable[[], Any], Any, None]]


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(20))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class WithHistory(Versioned, Base):
    __tablename__ = "with_history"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(20))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class Config(VersionedMap[int | str], Base):
    __tablename__ = "config"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(20))


def values() -> dict[str, int | str]:
    return {f"key {number}": f"a text of some length {number}" for number in range(KEYS)}


def column(cls: type[Plain] | type[WithHistory]) -> Start:
    def start(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
        with Session(engine) as session:
            found = session.scalars(select(cls)).all()

            def timed() -> None:
                for each in found:
                    each.data = {**each.data, "key 1": len(each.data["key 1"]) * "x" + "y"}
                session.flush()

            yield timed
            verify(found[0].data["key 1"].endswith("y"), "a change")
            session.commit()

    return start


def mapping(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
    with Session(engine) as session:
        found = load_current(session, Config)

        def timed() -> None:
            for each in found:
                each["key 1"] = len(str(each["key 1"])) * "x" + "y"
            session.flush()

        yield timed
        verify(found[0].version > 1, "a version")
        session.commit()


def reading(read: Callable[[Session], int]) -> Start:
    def start(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
        with Session(engine) as session:
            verify((yield lambda: read(session)) == OBJECTS * KEYS, "values")

    return start


def read_maps(session: Session) -> int:
    return sum(len(dict(each)) for each in load_current(session, Config))


def read_columns(session: Session) -> int:
    return sum(len(dict(each.data)) for each in session.scalars(select(Plain)))


def history_by_map(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
    with Session(engine) as session:
        found = yield lambda: history_of(session, Config, "key 1", tenant="t7")
        verify(len(found) > 20, "versions")


def history_by_versions(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
    with Session(engine) as session:
        doc = session.scalars(select(WithHistory).where(WithHistory.tenant == "t7")).one()
        found = yield lambda: [(each.object.data["key 1"], each.number) for each in versions(session, doc)]
        verify(len(found) > 20, "versions")


def main(argv: list[str] | None = None) -> None:
    with benchmark(__doc__, argv) as bench:
        Base.metadata.create_all(bench.engine)
        with Session(bench.engine) as session:
            for number in range(OBJECTS):
                tenant = f"t{number}"
                session.add_all([Plain(tenant=tenant, data=values()), WithHistory(tenant=tenant, data=values())])
                session.add(Config(values(), tenant=tenant))
            session.commit()
        read = {"JSON column": reading(read_columns), "versioned map": reading(read_maps)}
        bench.race("read 1,000 dictionaries of one version", read).at_most("versioned map", statements=1)
        contestants = {
            "JSON column, no past": column(Plain),
            "JSON column with history": column(WithHistory),
            "versioned map": mapping,
        }
        bench.race("change a key of 1,000 dictionaries", contestants)
        with Session(bench.engine) as session:
            for number in range(20):
                for each in load_current(session, Config):
                    each["key 1"] = f"{number}"
                for doc in session.scalars(select(WithHistory)):
                    doc.data = {**doc.data, "key 1": f"{number}"}
                session.commit()
        bench.race("read 1,000 dictionaries of many versions", read).at_most("versioned map", statements=1)
        contestants = {"versions() of a JSON column": history_by_versions, "history_of": history_by_map}
        bench.race("the values of a key", contestants).at_most("history_of", statements=1)


if __name__ == "__main__":
    main()
