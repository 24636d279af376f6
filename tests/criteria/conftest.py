"""While the tests of criteria run, every statement on the way to a database is looked at.

Whatever a session executes within a `tenant_scope` and names a table with a tenant's column must have that tenant among
its parameters, whatever it says otherwise. This holds at the cursor, so that it does not depend on how the package
comes to its criteria. Exceptions, of which there are no others:

- what does not come from a session: `engine.connect()`, `session.connection().execute()`, DDL;
- what other packages of the library read and write below a flush in order to maintain a structure, such as locks and
  positions of a tree: by the option `STRUCTURAL`, or on the connection itself;
- statements for which the application says ``all_tenants=True`` or ``allow_text=True``;
- tables of joined subclasses, which have no such column: the unit of work names their rows by key, and SELECTs join the
  table above, which is looked at.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect

from sqla_patterns._maintained import ALL_TENANTS
from sqla_patterns._sql import STRUCTURAL
from sqla_patterns.criteria._tenant import CURRENT_TENANT
from sqla_patterns.criteria._tenant_rule import TENANCY, tenant_column

_WORD = re.compile(r"\w+")
_LABEL = re.compile(r"\bAS \W?\w+")
_OPEN = (STRUCTURAL, "all_tenants", "allow_text")


class StatementWatch:
    """Looks at statements before a cursor executes them.

    Attributes:
        seen: How many statements named a table of tenants and had the tenant.
        faults: The others.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.faults: list[str] = []
        self._tables: dict[tuple[int, str], bool] = {}
        self._busy = False

    def __call__(self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        tenant = CURRENT_TENANT.get()
        if self._busy or tenant is None or tenant is ALL_TENANTS or not _from_session():
            return
        if any(context.execution_options.get(option) for option in _OPEN):
            return
        columns = {table.name: tenant_column(each.mapper).name for table, each in TENANCY.tables().items()}
        named = set(_WORD.findall(_LABEL.sub("", statement))) & set(columns)
        rows = context.compiled_parameters or [{}]
        if named and all(any(str(value) == str(tenant) for value in row.values()) for row in rows):
            self.seen += 1
        elif any(self._has_column(connection, name, columns[name]) for name in named):
            self.faults.append(f"for {tenant!r}: {statement} {parameters!r}")

    def _has_column(self, connection: Any, table: str, column: str) -> bool:
        """Return whether it is a table of tenants in this database; other tests may use the name for another one."""
        key = (id(connection.engine), table)
        if key not in self._tables:
            self._busy = True
            try:
                found = inspect(connection)
                self._tables[key] = found.has_table(table) and any(
                    each["name"] == column for each in found.get_columns(table)
                )
            finally:
                self._busy = False
        return self._tables[key]


def _from_session() -> bool:
    """Return whether a session executes the statement, and no package of the library on the session's connection."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if "/sqla_patterns/" in code.co_filename and "/criteria/" not in code.co_filename:
            return False
        if code.co_name in ("_execute_internal", "_flush", "_bulk_save_mappings") and code.co_filename.endswith(
            "session.py"
        ):
            return True
        frame = frame.f_back
    return False


@pytest.fixture(autouse=True)
def statement_watch() -> Iterator[StatementWatch]:
    """Fail a test that has executed a statement without its tenant."""
    watch = StatementWatch()
    event.listen(Engine, "before_cursor_execute", watch)
    yield watch
    event.remove(Engine, "before_cursor_execute", watch)
    assert not watch.faults, "\n".join(watch.faults)
