"""Versions of objects, in history tables beside the main ones.

Draft.
"""

from ._errors import NoSuchVersionError, NotVersionedError, PastObjectError, UnversionedWriteError
from ._mapping import history_mapper
from ._model import Versioned
from ._options import VersionOptions
from ._reading import as_of, diff, version_at, versions, versions_of_association
from ._revision_log import RevisionLog
from ._session import SessionScope, revision, versioned_session, versioning_disabled
from ._types import UTCDateTime
from ._upkeep import prune, seed
from ._version import AssociationVersion, Version
from ._writing import erase, restore, revert

__all__ = (
    "AssociationVersion",
    "NoSuchVersionError",
    "NotVersionedError",
    "PastObjectError",
    "RevisionLog",
    "SessionScope",
    "UTCDateTime",
    "UnversionedWriteError",
    "Version",
    "VersionOptions",
    "Versioned",
    "as_of",
    "diff",
    "erase",
    "history_mapper",
    "prune",
    "restore",
    "revert",
    "revision",
    "seed",
    "version_at",
    "versioned_session",
    "versioning_disabled",
    "versions",
    "versions_of_association",
)
