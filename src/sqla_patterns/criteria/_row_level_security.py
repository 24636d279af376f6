"""Row level security of PostgreSQL: the database itself shows the rows of one tenant only.

The tenant is a setting of the *transaction*, so that a connection goes back to its pool without it. A session sets it
when its transaction begins, before the first statement on a scoped class after `tenant_scope` was entered, and again
after the rollback of a savepoint, which undoes settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, cast

from sqlalchemy import Connection, TextClause, inspect, select, text
from sqlalchemy.orm import Mapper, Session, SessionTransaction

from .._maintained import ALL_TENANTS
from .._typing import AnyMapper, MappedClass
from ..exceptions import InvalidArgumentError
from ._errors import TenantViolationError
from ._private import private
from ._rules import mapped_subclasses
from ._tenant_rule import Scoped, generation, note_mapping, tenant_column

#: The setting of PostgreSQL that holds the tenant of a transaction.
SETTING: Final = "sqla_patterns.tenant"
#: On a class: that its table has policies.
_SECURED: Final = "__sqla_row_level_security__"
#: On `Scoped`: a mapper with policies, and when it was looked for.
_KNOWN: Final = "__sqla_tenant_secured__"
#: In `session.info`: what each connection was told, and in which transaction.
_TOLD: Final = "sqla_patterns.criteria.told"

_ROLE: Final = text("SELECT current_user, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
_TABLE: Final = text(
    "SELECT relrowsecurity, relforcerowsecurity, pg_has_role(current_user, relowner, 'MEMBER') "
    "FROM pg_class WHERE oid = to_regclass(:table)"
)
_POLICIES: Final = text("SELECT count(*) FROM pg_policy WHERE polrelid = to_regclass(:table) AND polname = :name")


class RowLevelSecurity:
    """The policies of the tables of a scoped class; made by `row_level_security()`.

    Attributes:
        entity: The class.
        statements: The DDL that makes them, for ``op.execute()`` in a migration.
        drop_statements: The DDL that takes them away.
    """

    def __init__(self, entity: MappedClass) -> None:
        self.entity: Final = entity
        column = tenant_column(cast("AnyMapper", inspect(entity)))
        self._table: Final = column.table
        # Not at the top: importing the dialect registers listeners.
        dialect: Any = import_module("sqlalchemy.dialects.postgresql").dialect()
        preparer = dialect.identifier_preparer
        self._name: Final = preparer.format_table(self._table)
        type_ = column.type.dialect_impl(dialect).compile(dialect)
        condition = (
            f"{preparer.format_column(column)} = CAST(nullif(current_setting('{SETTING}', true), '') AS {type_})"
        )
        self._policy: Final = f"tenant_of_{self._table.name}"[:63]
        policy = preparer.quote(self._policy)
        self.statements: Final[Sequence[str]] = (
            f"ALTER TABLE {self._name} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {self._name} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY {policy} ON {self._name} USING ({condition}) WITH CHECK ({condition})",
        )
        self.drop_statements: Final[Sequence[str]] = (
            f"DROP POLICY IF EXISTS {policy} ON {self._name}",
            f"ALTER TABLE {self._name} NO FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE {self._name} DISABLE ROW LEVEL SECURITY",
        )

    def create(self, connection: Connection) -> None:
        """Make the policies; three statements."""
        self._execute(connection, self.statements, "create")

    def drop(self, connection: Connection) -> None:
        """Take the policies away; three statements."""
        self._execute(connection, self.drop_statements, "drop")

    def check(self, connection: Connection) -> None:
        """Make sure that the policies bind the role of this connection; three statements.

        Call it when the application starts, with the role that it works with.

        Raises:
            TenantViolationError: The role is a superuser, has BYPASSRLS or owns a table whose policies are not forced,
                or the policies are missing.
        """
        self._require_postgresql(connection, "check")
        role, superuser, bypasses = connection.execute(_ROLE).one()
        enabled, forced, owns = connection.execute(_TABLE, {"table": self._name}).first() or (False, False, False)
        count = connection.scalar(_POLICIES, {"table": self._name, "name": self._policy})
        fault = None
        if superuser:
            fault = "is a superuser"
        elif bypasses:
            fault = "has BYPASSRLS"
        elif not enabled or not count:
            fault = "finds no policies: execute the statements of row_level_security()"
        elif owns and not forced:
            fault = "owns the table, whose policies are not forced"
        if fault is not None:
            raise TenantViolationError(
                f"Row level security of {self._name} does not protect from the role {role!r}, which {fault}; let the "
                f"application "
                "connect as a role of its own"
            )

    def _execute(self, connection: Connection, statements: Sequence[str], method: str) -> None:
        self._require_postgresql(connection, method)
        for statement in statements:
            connection.execute(_plain(statement))

    @staticmethod
    def _require_postgresql(connection: Connection, method: str) -> None:
        if connection.dialect.name != "postgresql":
            raise InvalidArgumentError(
                f"RowLevelSecurity.{method}() needs PostgreSQL and was given a connection to {connection.dialect.name}"
            )

    def __repr__(self) -> str:
        return f"<RowLevelSecurity of {self.entity.__name__}>"


def _plain(statement: str) -> TextClause:
    return text(statement.replace(":", "\\:"))


def row_level_security(entity: MappedClass) -> RowLevelSecurity:
    """Declare that the table of a scoped class has policies, and return these; `RowLevelSecurity.create` makes them.

    Call it beside the class, so that sessions know that PostgreSQL has to be told the tenant. It emits no SQL.

    Raises:
        InvalidArgumentError: `entity` is not a mapped class with `TenantScoped`.
    """
    mapper: object = inspect(entity, raiseerr=False) if isinstance(cast("object", entity), type) else None
    if not isinstance(mapper, Mapper) or not issubclass(entity, Scoped):
        raise InvalidArgumentError(
            f"row_level_security() needs a mapped class with TenantScoped and was given {entity!r}; pass one"
        )
    setattr(entity, _SECURED, True)
    note_mapping()
    return RowLevelSecurity(entity)


def has_policy(cls: MappedClass) -> bool:
    """Return whether policies were declared for a class."""
    return bool(getattr(cls, _SECURED, False))


def _secured() -> AnyMapper | None:
    """Return the mapper of a class with policies, if there is one; looked for again after another class was mapped."""
    known: tuple[int, AnyMapper | None] | None = vars(Scoped).get(_KNOWN)
    if known is None or known[0] != generation():
        found = next((mapper for mapper in mapped_subclasses(Scoped) if has_policy(mapper.class_)), None)
        known = generation(), found
        setattr(Scoped, _KNOWN, known)
    return known[1]


def begin_for(session: Session, connection: Connection, tenant: object | None) -> None:
    """Tell the tenant to the connection of a transaction that begins."""
    if connection.dialect.name == "postgresql" and tenant is not None and _secured() is not None:
        _tell(session, connection, tenant)


def tell_database(session: Session, tenant: object) -> None:
    """Tell the tenant, unless this transaction was told."""
    mapper = _secured()
    if mapper is None or _is_told(session, tenant):
        return
    connection = session.connection(bind_arguments={"mapper": mapper})
    if connection.dialect.name == "postgresql" and not _is_told(session, tenant):
        _tell(session, connection, tenant)


def _is_told(session: Session, tenant: object) -> bool:
    told: tuple[object, SessionTransaction] | None = session.info.get(_TOLD)
    if told is None or told[0] != tenant:
        return False
    transaction = session.get_nested_transaction() or session.get_transaction()
    while transaction is not None:
        if transaction is told[1]:
            return True
        transaction = transaction.parent
    return False


def _tell(session: Session, connection: Connection, tenant: object) -> None:
    if tenant is ALL_TENANTS:
        return  # A role for administration is one that the policies do not bind.
    dbapi: Any = connection.connection.dbapi_connection
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT" or private(dbapi).autocommit is True:
        raise TenantViolationError(
            "Row level security needs a transaction, to whose end the tenant is set, and this connection is in "
            "AUTOCOMMIT; use "
            "another isolation level"
        )
    connection.execute(select(text("set_config(:setting, :tenant, true)")), {"setting": SETTING, "tenant": str(tenant)})
    transaction = session.get_nested_transaction() or session.get_transaction()
    session.info[_TOLD] = (tenant, transaction)
