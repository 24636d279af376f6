"""Have a MariaDB or MySQL that only tests use write its log once a second: ``python .ci/hurry.py URL``.

It flushes the disk for each CREATE TABLE otherwise, which is most of the time of a suite that makes its tables for each
test. Only a crash of the machine could lose anything by it. For PostgreSQL the suite does the same for its own
databases alone; here it is a setting of the whole server, so it is made where no URL was given, on the server of the
machine that CI runs on.
"""

from __future__ import annotations

import sys

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError


def main(url: str) -> None:
    """Set the variable, or say why not; the suite is right without it."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    except SQLAlchemyError as error:
        sys.stdout.write(f"tables will be made slowly: {error}\n")
    finally:
        engine.dispose()


main(sys.argv[1])
