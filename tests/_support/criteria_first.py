"""A plugin for pytest (``-p tests._support.criteria_first``): map classes with criteria before any other.

As soon as one class is soft-deletable or has tenants, listeners look at every statement of every session in the
process, whatever it is about. Nothing may change for the other packages.
"""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column

from sqla_patterns.criteria import SoftDelete, TenantScoped


class _Base(DeclarativeBase):
    pass


class _SoftDeletable(SoftDelete, _Base):
    __tablename__ = "sqla_criteria_first_soft"
    id: Mapped[int] = mapped_column(primary_key=True)


class _Owned(TenantScoped, _Base):
    __tablename__ = "sqla_criteria_first_owned"
    id: Mapped[int] = mapped_column(primary_key=True)


configure_mappers()
