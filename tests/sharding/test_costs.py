"""What routing adds to a statement, in calls of Python functions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine, select
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

from sqla_patterns.sharding import Shards, create_all, sharded_sessionmaker
from tests.sharding._models import NAMES, Base, Location, rules


def _calls(session: Session) -> int:
    """Return how many Python functions one warm statement calls."""
    counted = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    def run() -> None:
        session.execute(select(Location).where(Location.continent == "Asia", Location.id == 1)).all()

    for _ in range(3):
        run()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counted


def added_calls() -> int:
    """Return how many more functions are called than by a bare ``ShardedSession``."""
    engines = {name: create_engine("sqlite://", poolclass=StaticPool) for name in NAMES}
    shards = Shards.from_engines(engines)
    create_all(shards, Base.metadata)
    bare = sessionmaker(
        class_=ShardedSession,
        shards=engines,
        shard_chooser=lambda mapper, instance, clause=None: "asia",
        identity_chooser=lambda mapper, key, **_: ["asia"],
        execute_chooser=lambda state: ["asia"],
    )
    with sharded_sessionmaker(shards, keys=rules())() as session, bare() as reference:
        return _calls(session) - _calls(reference)


def test_routing_with_a_kept_plan_adds_at_most_100_calls() -> None:
    # In a process of its own: other tests leave listeners on the Session class.
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    code = "from tests.sharding.test_costs import added_calls; print(added_calls())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert 0 < int(found.stdout) <= 100
