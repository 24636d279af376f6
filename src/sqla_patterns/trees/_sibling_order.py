"""Put loaded children that sort by attributes of the user's into the order of the database, once they are written.

Python does not know that order: NULLs, collations, times without a zone, and values that do not compare at all.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from .._sql import chunks, structural
from .._typing import MappedObject, PrimaryKey
from ._config import TreeConfig
from ._loaded_children import replace_list
from ._loaded_state import known_pk, loaded_list


class SiblingOrder:
    """The parents whose loaded children may be in another order than the database would return them in."""

    def __init__(self, session: Session, config: TreeConfig, parents: Iterable[MappedObject]) -> None:
        self._session = session
        self._config = config
        self._parents = list(parents)

    def finish(self) -> None:
        """Sort the children, after the flush has written them; one SELECT for a thousand parents."""
        config = self._config
        lists: dict[PrimaryKey, list[MappedObject]] = {}
        for parent in self._parents:
            children = loaded_list(parent)
            if children is not None and len(children) > 1:
                lists[known_pk(config, parent)] = children
        if not lists:
            return
        connection = self._session.connection(bind_arguments={"mapper": config.mapper})
        place: dict[PrimaryKey, int] = {}
        for keys in chunks(lists):
            statement = select(config.pk).where(config.parent_id.in_(keys)).order_by(*config.order_columns)
            for (key,) in connection.execute(structural(statement)):
                place[key] = len(place)
        for children in lists.values():
            # What the flush has left elsewhere, for instance in another transaction's row, stays last.
            ordered = sorted(children, key=lambda child: place.get(known_pk(config, child), len(place)))
            if ordered != children:
                replace_list(children, ordered)
