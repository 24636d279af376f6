"""Run a statement in two halves, rows from the database and objects from rows, so that a cache can supply the rows.

SQLAlchemy's way to cache ORM results (freeze the objects, merge them later) loses pending changes, brings deleted rows
back and costs more than most queries. Here the *raw rows* of the cursor are kept instead, before the result processors
of types have converted them. They are replayed through a real ``CursorResult`` and the ORM's own loading of the
statement at hand. Rows that come from the database take the same way, so a hit cannot behave differently.

There is no public API for this. `probe()` looks once whether SQLAlchemy has the private names that are needed. If one
is missing the cache is bypassed: statements then run as if they had no cache option. The other modules of the cache do
not use private names; they call the functions of this package.
"""

from __future__ import annotations

from ._cursor import fetch as fetch
from ._cursor import primary_keys as primary_keys
from ._cursor import replay as replay
from ._lazy import KEPT as KEPT
from ._lazy import NOT_KEPT as NOT_KEPT
from ._lazy import KeptAttribute as KeptAttribute
from ._lazy import autoflush as autoflush
from ._lazy import in_identity_map as in_identity_map
from ._lazy import lazy_parameters as lazy_parameters
from ._lazy import loaded_together as loaded_together
from ._lazy import multiplies_rows as multiplies_rows
from ._prepare import BoundValue as BoundValue
from ._prepare import CompiledCache as CompiledCache
from ._prepare import Description as Description
from ._prepare import Prepared as Prepared
from ._prepare import RawRows as RawRows
from ._prepare import bound_types as bound_types
from ._prepare import bound_values as bound_values
from ._prepare import form_of_type as form_of_type
from ._prepare import given_values as given_values
from ._prepare import in_session as in_session
from ._prepare import later_listeners as later_listeners
from ._prepare import prepare as prepare
from ._prepare import run_later_listeners as run_later_listeners
from ._prepare import with_parameters as with_parameters
from ._probe import await_here as await_here
from ._probe import in_event_loop as in_event_loop
from ._probe import probe as probe
from ._statements import compile_neutrally as compile_neutrally
from ._statements import first_statement as first_statement
from ._statements import identity_token as identity_token
from ._statements import is_refresh as is_refresh
from ._statements import locks_rows as locks_rows
from ._statements import new_lru_cache as new_lru_cache
from ._statements import writes_rows as writes_rows
