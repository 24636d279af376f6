"""Criteria that are added to ORM statements, to hide deleted or private rows, or rows of other tenants or times.

- `SoftDelete`: rows that are marked as deleted instead of removed, and are hidden from then on; with `restore`,
  `hard_delete` and `soft_unique`.
- `TenantScoped`: rows that belong to a tenant; classes with this mixin are called *scoped*. `tenant_scope`,
  `all_tenants` and `current_tenant` set and read the tenant; `tenant_key` and `row_level_security` have the database
  check it as well.
- `GlobalCriteria`: a criterion of your own for all classes below a mixin, such as `HasPrivate`, attached to sessions.
- `temporal_range`: a range for one statement, on `HasTemporal` or any other class.

The first two are part of the mapping and hold in every session, so that nobody can forget to switch them on. The third
holds in the sessions to which you attach it.

**When not to use it.** One query that filters is shorter with ``where()``. A few rows that users may hide are a column
and a condition, not a `GlobalCriteria`. To keep former versions of rows, and who changed them, use
`sqla_patterns.versioning`; a row that is marked as deleted has its last values only. Where tenants are few and large,
or a contract forbids them to share a database, a schema or a database for each (``schema_translate_map``, a bind)
isolates better than a column.

>>> from sqlalchemy import create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.criteria import SoftDelete, TenantScoped, restore, tenant_scope
>>> class Base(DeclarativeBase): ...
>>> class Order(TenantScoped, SoftDelete, Base):
...     __tablename__ = "order_of_a_tenant"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     total: Mapped[int]
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> with tenant_scope("acme"), Session(engine) as session:
...     session.add_all([Order(total=5), Order(total=7)])  # tenant_id is filled in
...     session.commit()
>>> with tenant_scope("zeta"), Session(engine) as session:
...     session.scalars(select(Order)).all()
[]
>>> with tenant_scope("acme"), Session(engine) as session:
...     order = session.scalars(select(Order).where(Order.total == 7)).one()
...     session.delete(order)  # an UPDATE
...     session.commit()
...     print(session.scalars(select(Order.total)).all())
...     restore(session, order)
...     print(session.scalars(select(Order.total).order_by(Order.total)).all())
[5]
[5, 7]

**How it works.** When a statement is first executed, it is compiled once more, to see which tables with hidden rows it
reads, at any depth, and whether the criteria are in place: SQLAlchemy's own (``with_loader_criteria``) where they have
an effect, added ones elsewhere. A statement that cannot be filtered is refused before any SQL, and the error says what
to write instead. The result is kept under the statement's cache key. Every version of SQLAlchemy therefore hides the
same rows; only the cost differs.

**Cost.** No SQL, with one exception: a flush in which foreign keys to scoped classes were set by value executes one
SELECT for each such foreign key. A statement that was executed before takes 1 to 1.15 times as long as the same
statement with a WHERE written by hand (``benchmarks/criteria.py``); a new one is compiled twice. On SQLAlchemy 2.0,
statements with an explicit EXISTS, or with joins written as conditions, are copied at each execution. A statement is
compiled once for all tenants.

.. seealso:: :func:`sqlalchemy.orm.with_loader_criteria`
"""

from ._columns import HasPrivate, HasTemporal
from ._errors import (
    InvalidRangeError,
    TenantChangedError,
    TenantNotSetError,
    TenantViolationError,
    UnfilteredStatementError,
)
from ._global import GlobalCriteria
from ._moments import DeletedAt
from ._range import Bounds, temporal_range
from ._row_level_security import RowLevelSecurity, row_level_security
from ._soft_delete import SoftDelete, hard_delete, restore
from ._soft_unique import soft_unique
from ._tenant import all_tenants, current_tenant, tenant_scope
from ._tenant_key import tenant_key
from ._tenant_scoped import TenantScoped

__all__ = (
    "Bounds",
    "DeletedAt",
    "GlobalCriteria",
    "HasPrivate",
    "HasTemporal",
    "InvalidRangeError",
    "RowLevelSecurity",
    "SoftDelete",
    "TenantChangedError",
    "TenantNotSetError",
    "TenantScoped",
    "TenantViolationError",
    "UnfilteredStatementError",
    "all_tenants",
    "current_tenant",
    "hard_delete",
    "restore",
    "row_level_security",
    "soft_unique",
    "temporal_range",
    "tenant_key",
    "tenant_scope",
)
