"""Exit with 0 if the database or Redis at the URL answers, else say why not: ``python .ci/answers.py URL``."""

from __future__ import annotations

import sys


def main(url: str) -> None:
    """Connect, or exit with the reason."""
    try:
        if url.startswith(("redis", "rediss", "unix")):
            import redis

            redis.Redis.from_url(url, socket_connect_timeout=5).ping()
        else:
            from sqlalchemy import create_engine

            create_engine(url).connect().close()
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
        sys.exit(str(error).partition("\n")[0])


main(sys.argv[1])
