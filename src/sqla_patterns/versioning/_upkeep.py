"""Upkeep of history tables: `prune` and `seed`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from ..exceptions import InvalidArgumentError
from ._association_sync import sync_all
from ._associations import association_of
from ._capture import stamp_of
from ._clauses import chunks, key_in
from ._config import VersionConfig, hierarchy, pairs_bottom_up, require_config, root_key_in
from ._reuse import last_versions
from ._sa import autoflush
from ._tables import CHANGED, REVISION, VALID_FROM, VERSION
from ._types import aware

__all__ = ("prune", "seed")


def prune(session: Session, entity: type[Any], *, keep: int | None = None, before: datetime | None = None) -> int:
    """Delete old rows of history, and return how many.

    Args:
        entity: the versioned class; its whole hierarchy is pruned.
        keep: how many rows each object keeps, the newest ones, the current version aside.
        before: delete only versions that ended before this moment.

    With both, a row goes only if both allow it. One DELETE for each table.

    Raises:
        InvalidArgumentError: neither is given, `keep` is negative, or `before` has no time zone.
    """
    config = require_config(entity)
    if keep is None and before is None:
        raise InvalidArgumentError(
            "prune() needs a rule: give keep=, the number of rows to keep for each object, or before=, a moment"
        )
    if keep is not None and keep < 0:
        raise InvalidArgumentError(f"prune() cannot keep {keep} rows; give keep=0 or more")
    if before is not None:
        aware(before)
    autoflush(session)
    root = config.root
    old = _old_rows(root, keep, before)
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    pruned = 0
    for pair in pairs_bottom_up(root):
        columns = [*root_key_in(root, pair), pair.history.c[VERSION]]
        gone = connection.execute(delete(pair.history).where(tuple_(*columns).in_(old)))
        pruned = gone.rowcount if pair is root.pair else pruned
    return pruned


def _old_rows(root: VersionConfig, keep: int | None, before: datetime | None) -> Select[Any]:
    history = root.pair.history
    columns = [*root.history_key, history.c[VERSION]]
    rank = func.row_number().over(partition_by=root.history_key, order_by=history.c[VERSION].desc())
    # In a subquery of its own: MySQL reads no table that it deletes from, but for what it has set aside before.
    ranked = select(*columns, history.c[CHANGED], rank.label("sqla_rank")).subquery()
    criteria: list[ColumnElement[bool]] = []
    if keep is not None:
        criteria.append(ranked.c.sqla_rank > keep)
    if before is not None:
        criteria.append(ranked.c[CHANGED] < before)
    chosen: Any = [ranked.c[column.key] for column in columns]
    statement: Select[Any] = select().add_columns(*chosen)
    return statement.where(and_(*criteria))


def seed(session: Session, entity: type[Any], *, batch_size: int = 1000) -> int:
    """Adopt a table that has rows from before it was versioned, and return how many rows were filled.

    Fills ``version``, ``valid_from`` and ``revision_id`` where they are NULL, and begins associations that have no history yet. Objects in the
    session are expired where they had none. Three statements for each batch.

    Raises:
        InvalidArgumentError: `batch_size` is not positive.
    """
    config = require_config(entity)
    if batch_size < 1:
        raise InvalidArgumentError(f"seed() cannot work in batches of {batch_size}")
    autoflush(session)
    root = config.root
    main, options = root.pair.main, root.options
    connection = session.connection(bind_arguments={"mapper": root.mapper})
    names = [VERSION, *([VALID_FROM] if options.period else []), *([REVISION] if options.revision is not None else [])]
    missing = or_(*(main.c[name].is_(None) for name in names))
    width, filled = len(root.key), 0
    while rows := connection.execute(select(*root.key).where(missing).order_by(*root.key).limit(batch_size)).all():
        stamp = stamp_of(session, root)
        values = {VERSION: 1, VALID_FROM: stamp.moment, REVISION: stamp.revision}
        keys = [tuple(row[:width]) for row in rows]
        last = last_versions(session, root, keys)
        for chunk in chunks(keys):
            filling = {main.c[name]: func.coalesce(main.c[name], values[name]) for name in names}
            plain = [key for key in chunk if key not in last]
            if plain:
                connection.execute(update(main).where(key_in(root.key, plain)).values(filling))
            for key in chunk:
                if key in last:
                    again = {**filling, main.c[VERSION]: func.coalesce(main.c[VERSION], last[key].version + 1)}
                    connection.execute(update(main).where(key_in(root.key, [key])).values(again))
        filled += len(keys)
    if filled:
        for obj in list(session.identity_map.values()):
            if isinstance(obj, root.cls):
                session.expire(obj, names)
    for member in hierarchy(root):
        for name in options.associations:
            if name in member.mapper.relationships:
                sync_all(session, association_of(member, name))
    return filled
