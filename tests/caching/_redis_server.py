"""A separate Redis server, to stop and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis


class RedisServer:
    """A redis-server on a free port of the loopback interface, with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._fork_detector: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what `stop(save=True)` has left."""
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("tests with SQLA_PATTERNS_REDIS_URL need the program redis-server")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self._fork_detector = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise RuntimeError("redis-server does not start")

    def stop(self, *, save: bool = False) -> None:
        """Stop it; without `save`, its data are lost."""
        if self._fork_detector is None:
            return
        if save:
            with redis.Redis.from_url(self.url) as client:
                client.save()
        self._fork_detector.kill()
        self._fork_detector.wait(30)
        self._fork_detector = None
