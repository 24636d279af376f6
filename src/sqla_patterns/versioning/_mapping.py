"""stub"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Mapper

__all__ = ("add_columns", "history_mapper", "map_history")


def add_columns(mapper: Mapper[Any]) -> None: ...
def map_history(mapper: Mapper[Any]) -> None: ...


def history_mapper(mapper: Mapper[Any]) -> Mapper[Any]:
    """Version a class that is mapped imperatively, and return the mapper of its history class.

    Upstream's ``_history_mapper``. The class need not mix in `Versioned`; ``__versioned__`` and ``use_mapper_versioning`` are honoured where
    it has them. Calling it twice changes nothing.
    """
    raise NotImplementedError
