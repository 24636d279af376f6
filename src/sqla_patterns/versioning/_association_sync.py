"""Bringing the histories of associations up to date after a flush."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, exists, insert, literal, or_, select, update
from sqlalchemy.orm import InstanceState, Session

from ._associations import TARGETS, Association, associations_of
from ._capture import stamp_of
from ._clauses import chunks, key_in
from ._config import config_of
from ._sa import flushed_mappers, flushed_of, old_values, pending_changes
from ._session import known_versions
from ._tables import ENDED_BY, REVISION, VALID_FROM, VALID_TO, revision_type
from ._types import UTCDateTime

__all__ = ("sync_all", "sync_associations")


def sync_associations(session: Session, context: object) -> None:
    """Bring the histories of those associations up to date that the flush may have changed."""
    versions = known_versions(session)
    if versions is not None and versions.disabled:
        return
    work: dict[Association, tuple[list[Any], list[Any]]] = {}
    for mapper in flushed_mappers(context):
        config = config_of(mapper.class_)
        for association in associations_of(config) if config is not None else ():
            key = association.relation.key
            for state, deleted in flushed_of(context, mapper):
                if deleted or key in old_values(state) or pending_changes(state, key):
                    values = tuple(_value(state, here) for _, here in association.owner)
                    work.setdefault(association, ([], []))[0].append(values)
        for association in vars(mapper.base_mapper.class_).get(TARGETS, {}).values():
            for state, deleted in flushed_of(context, mapper):
                if deleted and isinstance(state.obj(), association.relation.entity.class_):
                    values = tuple(_value(state, here) for _, here in association.target)
                    work.setdefault(association, ([], []))[1].append(values)
    for association, (owners, targets) in work.items():
        for keys, columns in ((owners, association.owner), (targets, association.target)):
            for chunk in chunks([key for key in dict.fromkeys(keys) if None not in key]):
                names = [column.key for column, _ in columns]
                _sync(session, association, names, chunk)


def _value(state: InstanceState[Any], column: Column[Any]) -> Any:
    key = state.mapper.get_property_by_column(column).key
    old = old_values(state).get(key, state.dict.get(key))
    value = state.dict.get(key, old)
    identity = dict(zip(state.mapper.primary_key, state.identity or (), strict=False))
    return identity.get(column) if value is None else value


def sync_all(session: Session, association: Association) -> None:
    """Bring a whole table up to date."""
    _sync(session, association, None, None)


def _sync(session: Session, association: Association, names: list[str] | None, keys: list[Any] | None) -> None:
    config = association.config.root
    secondary, history, options = association.secondary, association.history, config.options
    connection = session.connection(bind_arguments={"mapper": config.mapper, "clause": secondary})
    data = [column.key for column in association.data if column.primary_key] or [each.key for each in association.data]
    same = and_(*(secondary.c[name] == history.c[name] for name in data))
    is_open = history.c[VALID_TO].is_(None)

    def of_keys(table: Table) -> list[ColumnElement[bool]]:
        return [] if names is None else [key_in([table.c[name] for name in names], keys)]

    gone = [is_open, *of_keys(history), ~exists(select(1).select_from(secondary).where(same))]
    new = [*of_keys(secondary), ~exists(select(1).select_from(history).where(same, is_open))]
    # A revision exists only where something changed; so look first, where there are revisions.
    if options.revision is not None:
        changed = connection.scalar(
            select(1).where(
                or_(
                    exists(select(1).select_from(history).where(*gone)),
                    exists(select(1).select_from(secondary).where(*new)),
                )
            )
        )
        if changed is None:
            return
    stamp = stamp_of(session, config)
    ended: dict[str, Any] = {VALID_TO: stamp.moment}
    if options.revision is not None:
        ended[ENDED_BY] = stamp.revision
    connection.execute(update(history).where(*gone).values(ended))
    source: dict[str, Any] = {column.key: column for column in association.data}
    source[VALID_FROM] = literal(stamp.moment, UTCDateTime())
    if options.revision is not None:
        source[REVISION] = literal(stamp.revision, revision_type(options))
    rows = select(*source.values()).select_from(secondary).where(*new)
    connection.execute(insert(history).from_select(list(source), rows, include_defaults=False))
