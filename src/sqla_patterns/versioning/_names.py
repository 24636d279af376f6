"""The names under which this package stores things: keys of columns, parameters, options and attributes."""

from __future__ import annotations

from typing import Final

# -- keys of columns -----------------------------------------------------------------------------

VERSION: Final = "version"
CHANGED: Final = "changed"
VALID_FROM: Final = "valid_from"
VALID_TO: Final = "valid_to"
OPERATION: Final = "operation"
REVISION: Final = "revision_id"
ENDED_BY: Final = "ended_by_id"
#: What a history table has beside the columns of the main table.
HISTORY_COLUMNS: Final = frozenset({VERSION, CHANGED, VALID_FROM, VALID_TO, OPERATION, REVISION, ENDED_BY})
#: The primary key of the history of an association.
HISTORY_ID: Final = "history_id"

# -- bound parameters of statements that are built once and executed many times ------------------

MOMENT_PARAMETER: Final = "sqla_moment"
OPERATION_PARAMETER: Final = "sqla_operation"
REVISION_PARAMETER: Final = "sqla_revision"
KEYS_PARAMETER: Final = "sqla_keys"

# -- execution options ---------------------------------------------------------------------------

#: The `VersionStamp` with which the defaults of an INSERT fill ``valid_from`` and ``revision_id``.
STAMP_OPTION: Final = "sqla_patterns_version_stamp"
#: Marks a SELECT that is passed to the session's listeners for their criteria, and is not executed.
DRY_RUN_OPTION: Final = "sqla_patterns_versioning_dry_run"

# -- keys of session.info ------------------------------------------------------------------------

SESSION_KEY: Final = "sqla_patterns.versioning"
FLUSH_KEY: Final = "sqla_patterns.versioning.flush"

# -- attributes of classes, objects and MetaData -------------------------------------------------

CONFIG_ATTRIBUTE: Final = "__sqla_version_config__"
ASSOCIATIONS_ATTRIBUTE: Final = "__sqla_version_associations__"
TARGETS_ATTRIBUTE: Final = "__sqla_version_targets__"
#: Stands in the ``__dict__`` of an object from the past.
PAST_ATTRIBUTE: Final = "_sqla_patterns_past"
#: The records of tables; see `_table_records`.
RECORDS_ATTRIBUTE: Final = "_sqla_patterns_versioning"
