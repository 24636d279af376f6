from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier, Thread

#: Seconds after which threads that should be through count as hanging.
PATIENCE = 60.0

Outcome = BaseException | None


def together(*jobs: Callable[[], None]) -> list[Outcome]:
    """Start all *jobs* at once, each in a thread; return what each raised."""
    outcomes: list[Outcome] = [None] * len(jobs)
    start = Barrier(len(jobs))

    def run(index: int, job: Callable[[], None]) -> None:
        try:
            start.wait(PATIENCE)
            job()
        except BaseException as error:  # noqa: BLE001  # the test judges it
            outcomes[index] = error

    threads = [Thread(target=run, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), f"{sum(t.is_alive() for t in threads)} threads hang"
    return outcomes
