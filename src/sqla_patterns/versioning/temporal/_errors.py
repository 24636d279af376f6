"""The exceptions of temporal rows."""

from __future__ import annotations

from sqlalchemy.orm.exc import StaleDataError

from ...exceptions import StateError


class ClosedVersionError(StateError, StaleDataError):
    """A closed version would be changed or deleted; only the current version of an object can be.

    It is a `StaleDataError` too, because another transaction may have closed the version in the meantime.
    """
