"""Run a statement in two halves, rows from the database and objects from rows, so that a cache can give the rows.

SQLAlchemy's way to cache ORM results (freeze the objects, merge them later) loses pending changes, brings deleted rows back and
costs more than most queries. Here the *raw rows* of the cursor are kept instead, below the result processors of types. They are
replayed through a real ``CursorResult`` and the ORM's own loading of the statement at hand. The database's rows take the
same way, so a hit cannot behave differently.

There is no public way in. This is the only package of the room that uses private names of SQLAlchemy; `probe()` looks for them once,
and where one is missing the cache is bypassed: statements then run as if they had no cache option. All else is
read through the functions here, which say what they stand for.
"""

from __future__ import annotations

from ._cursor import fetch as fetch
from ._cursor import identities as identities
from ._cursor import replay as replay
from ._lazy import lazy_parameters as lazy_parameters
from ._lazy import loaded_together as loaded_together
from ._lazy import multiplies_rows as multiplies_rows
from ._prepare import Description as Description
from ._prepare import Prepared as Prepared
from ._prepare import RawRows as RawRows
from ._prepare import bound_values as bound_values
from ._prepare import last_turn as last_turn
from ._prepare import prepare as prepare
from ._prepare import with_parameters as with_parameters
from ._probe import await_here as await_here
from ._probe import in_event_loop as in_event_loop
from ._probe import probe as probe
from ._statements import first_statement as first_statement
from ._statements import identity_token as identity_token
from ._statements import is_refresh as is_refresh
from ._statements import locks_rows as locks_rows
from ._statements import new_compiled_cache as new_compiled_cache
from ._statements import tag_of_statement as tag_of_statement
from ._statements import writes_rows as writes_rows

__all__ = (
    "Description",
    "Prepared",
    "RawRows",
    "await_here",
    "bound_values",
    "fetch",
    "first_statement",
    "identities",
    "identity_token",
    "in_event_loop",
    "is_refresh",
    "last_turn",
    "lazy_parameters",
    "loaded_together",
    "locks_rows",
    "multiplies_rows",
    "new_compiled_cache",
    "prepare",
    "probe",
    "replay",
    "tag_of_statement",
    "with_parameters",
    "writes_rows",
)
