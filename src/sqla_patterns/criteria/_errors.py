"""The errors of criteria."""

from __future__ import annotations

from ..exceptions import InvalidArgumentError, StateError


class UnfilteredStatementError(StateError):
    """A statement would return rows that its criteria hide, and cannot be given the criteria."""


class TenantNotSetError(StateError):
    """A statement or a flush touches rows of tenants, and no tenant is set."""


class TenantChangedError(StateError):
    """A session that has served one tenant is used for another one."""


class TenantViolationError(StateError):
    """A statement or a flush could read or write rows of another tenant."""


class InvalidRangeError(InvalidArgumentError, ValueError):
    """The bounds of a range are in the wrong order, or cannot be compared."""
