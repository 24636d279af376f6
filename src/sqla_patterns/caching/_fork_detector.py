"""Detect that a cache which belongs to one process has been copied to another one by a fork."""

from __future__ import annotations

import mmap
import os
import warnings
from typing import Final


class ForkDetector:
    """A note of the process in which something was made that processes cannot share.

    A fork copies it, and from then on no copy learns what the others do. A page of memory that a fork does not copy but
    share tells the original process when a copy has been used to write.
    """

    def __init__(self) -> None:
        self._pid: Final = os.getpid()
        self._shared: Final = mmap.mmap(-1, 1)
        self._warned_in: int | None = None

    def problem(self, what: str, *, writes: bool) -> str | None:
        """Return why `what` must not be used, and warn of it once in each process; None where it may be used.

        Args:
            what: The name of what was made, for the text.
            writes: Whether it is being told of a write.
        """
        here = os.getpid()
        if here != self._pid:
            if writes:
                self._shared[0] = 1
            text = (
                f"{what} was made in process {self._pid} and is used in process {here}, to which a fork has copied it"
            )
        elif self._shared[0]:
            text = f"{what} was copied to another process by a fork, and that process has written"
        else:
            return None
        text += (
            ": no process hears of the writes of the others, so that nothing is cached here any more. Keep stamps that "
            "processes share, stamps=RedisStamps.from_url(...) or stamps=SQLStamps(engine), or make the cache after "
            "the fork."
        )
        if self._warned_in != here:
            self._warned_in = here
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return text
