"""Load nodes that the flush or a function of this package needs itself, without the session's criteria and eager joins.

The primary keys come from Core statements, which loader criteria, eager joins and autoflush do not change;
``from_statement()`` makes objects of their rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from .._locks import locking_read
from .._sql import chunks, structural
from .._typing import AnySelect, MappedObject, PrimaryKey
from ._config import MAX_IN, TreeConfig


def load_nodes(session: Session, config: TreeConfig, keys: Iterable[PrimaryKey]) -> list[MappedObject]:
    """Return the nodes with these primary keys, as far as they exist; one SELECT for each 10,000."""
    found: list[MappedObject] = []
    for batch in chunks(keys, MAX_IN):
        rows = _rows(config, config.pk.in_(batch))
        # A relationship that is eager loaded by a join is loaded later; one by a SELECT of its own is loaded here.
        statement = structural(select(config.cls).from_statement(rows))
        with session.no_autoflush:
            found += session.scalars(statement, bind_arguments={"mapper": config.mapper}).unique()
    return found


def load_children(
    session: Session, config: TreeConfig, keys: Iterable[PrimaryKey]
) -> list[tuple[MappedObject, PrimaryKey]]:
    """Return the children of nodes in their order, each with the primary key of its parent.

    That key is the one in the table: an object may show an older one.
    """
    connection = session.connection(bind_arguments={"mapper": config.mapper})
    order = [config.mapper.columns[name] for name in config.order_attrs]
    found: list[tuple[MappedObject, PrimaryKey]] = []
    for batch in chunks(keys, MAX_IN):
        rows = locking_read(connection, _rows(config, config.parent_id.in_(batch)).order_by(*order))
        statement = structural(select(config.cls, config.parent_id).from_statement(rows))
        with session.no_autoflush:
            pairs = session.execute(statement, bind_arguments={"mapper": config.mapper}).unique().all()
        found += [(node, parent_id) for node, parent_id in pairs]
    return found


def _rows(config: TreeConfig, criterion: ColumnElement[bool]) -> AnySelect:
    mapped = config.mapper.persist_selectable
    statement: AnySelect = select(*mapped.c).select_from(mapped).where(criterion)
    return statement
