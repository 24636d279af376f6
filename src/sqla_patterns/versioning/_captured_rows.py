"""`CapturedRows`: what the history writer tells about the rows that it has copied to history."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ._config import KeyValues


class CapturedRow(NamedTuple):
    """What a row had when it was copied to history.

    Attributes:
        version: The number of its version.
        moment: When its next version begins; None where there are no periods.
    """

    version: int
    moment: datetime | None


class CapturedRows(NamedTuple):
    """The result of `capture_keys`.

    Attributes:
        captured: The keys of the rows that were copied, with what the rows had. If they are to be deleted, and none is
            missing, their versions are not read and are 0.
        made_now: The keys of the rows whose current version was made by the present transaction or revision, so that
            they need no copy, with what the rows have.
        missing: The keys that have no row.
    """

    captured: dict[KeyValues, CapturedRow]
    made_now: dict[KeyValues, CapturedRow]
    missing: list[KeyValues]
