"""A stamp store that calls functions between its steps, and that can be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqla_patterns.caching._stamps import Epoch, Snapshot, StampStore, StampsUnavailableError


class HookedStamps:
    """A store that calls a function before or after a step, for instance ``hooks["after mark"]``, once."""

    def __init__(self, store: StampStore) -> None:
        self.inner = store
        self.hooks: dict[str, Callable[[], object]] = {}
        #: Steps that fail, as if the store were out of reach.
        self.broken: set[str] = set()
        self.calls: list[str] = []

    def read(self, tags: Collection[str]) -> Snapshot:
        return self._step("read", lambda: self.inner.read(tags))

    def epoch(self) -> Epoch:
        return self._step("epoch", self.inner.epoch)

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        return self._step("mark", lambda: self.inner.mark(lease, tags, seconds))

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        return self._step("done", lambda: self.inner.done(lease, tags))

    def touch(self, tags: Collection[str]) -> Epoch:
        return self._step("touch", lambda: self.inner.touch(tags))

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        return self._step("new_generation", lambda: self.inner.new_generation(drop_leases=drop_leases))

    def _step(self, name: str, step: Callable[[], Any]) -> Any:
        self._call(f"before {name}")
        self.calls.append(name)
        if name in self.broken:
            raise StampsUnavailableError(f"{name} is broken")
        answer = step()
        self._call(f"after {name}")
        return answer

    def _call(self, moment: str) -> None:
        hook = self.hooks.pop(moment, None)
        if hook is not None:
            hook()
