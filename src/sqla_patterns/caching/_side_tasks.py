"""Side tasks: what the cache does beside answering a statement, and what must not prevent the answer if it fails.

Finding the tag and the cache key of a statement, asking stores, decoding entries, counting and calling listeners are
side tasks. A failure in one is counted as an error and logged, and the statement continues as if it had no cache
option.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import Final, TypeVar

from sqlalchemy import exc

from ..exceptions import PatternError

T = TypeVar("T")
U = TypeVar("U")

LOGGER: Final = logging.getLogger("sqla_patterns.caching")


class SideTasks:
    """A runner of steps whose failure must not reach the user.

    Args:
        on_failure: Called for each failure with the region, what was being done, and the error.
    """

    def __init__(self, on_failure: Callable[[str, str, Exception], None]) -> None:
        self._on_failure: Final = on_failure
        self._lock: Final = Lock()
        #: The kinds of failures that have been logged: one traceback for each tells as much as thousands.
        self._logged: set[tuple[str, type[Exception]]] = set()

    def attempt(self, doing: str, region: str, step: Callable[[], T], otherwise: U) -> T | U:
        """Return what `step` returns, or `otherwise` if it fails.

        Errors of the library are raised: they tell the user of a mistake. So are errors of the database, which the
        statement would raise as well.
        """
        try:
            return step()
        except (PatternError, exc.DBAPIError, exc.TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - codecs, stores and callables of the user's may raise anything
            self._failed(doing, region, error)
            return otherwise

    def _failed(self, doing: str, region: str, error: Exception) -> None:
        kind = (doing, type(error))
        with self._lock:
            new = kind not in self._logged
            self._logged.add(kind)
        if new:
            LOGGER.warning(
                "The cache could not %s for region %r, and goes on without; the next failures of this kind are counted "
                "only.",
                *(doing, region),
                exc_info=error,
            )
        self._on_failure(region, doing, error)
