"""What the tests share besides fixtures; import it as ``from tests._support import ...``."""

from __future__ import annotations

from ._alembic import assert_empty_diff, assert_migrates
from ._databases import SERVERS, Database, server_url
from ._examples import close_example
from ._statements import StatementLog, count_statements
from ._threads import PATIENCE, Outcome, together

__all__ = (
    "PATIENCE",
    "SERVERS",
    "Database",
    "Outcome",
    "StatementLog",
    "assert_empty_diff",
    "assert_migrates",
    "close_example",
    "count_statements",
    "server_url",
    "together",
)
