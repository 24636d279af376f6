"""What the checkers must refuse about versioned maps."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.versioning import VersionedMap, VersionedMapOptions, get_current, history_of


class Base(DeclarativeBase):
    pass


class Config(VersionedMap[int | str], Base):
    __tablename__ = "config"
    __versioned_map__ = VersionedMapOptions(streams=("tenant",))  # E: "streams"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(50))


class Wrong(VersionedMap[int], Base):
    __tablename__ = "wrong"
    id: Mapped[int] = mapped_column(primary_key=True)
    __versioned_map__ = ("tenant",)  # E: "VersionedMapOptions | None"


def values(config: Config) -> None:
    config["x"] = 1.5  # E: "float"
    config[1] = "x"  # E: "int"
    config.update(a=None)  # E: "None"
    config.setdefault("a", b"x")  # E: "bytes"
    Config({"a": None})  # E:


def sessions(session: Session, a: AsyncSession) -> None:
    get_current(a, Config, tenant="t")  # E: "AsyncSession"
    get_current(session, dict, tenant="t")  # E:
    history_of(session, Config, 1, tenant="t")  # E: "int"
