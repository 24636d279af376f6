from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session


def close_example(namespace: dict[str, Any]) -> None:
    """Close what the examples of one document leave open, as the end of a script would.

    Python 3.13 warns of it otherwise.
    """
    for value in namespace.values():
        if isinstance(value, Session):
            value.close()
    for value in namespace.values():
        if isinstance(value, Engine):
            value.dispose()
