"""Write the histories of associations after a flush."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, and_, exists, insert, literal, or_, select, update
from sqlalchemy.orm import Session

from .._sql import chunks, key_in
from .._sqlalchemy import flushed_mappers, flushed_of, has_pending_changes, values_before_changes
from .._typing import AnyColumn, AnyExpression, AnyState
from ._associations import Association, associations_of
from ._config import KeyValues, config_of
from ._names import ENDED_BY, REVISION, TARGETS_ATTRIBUTE, VALID_FROM, VALID_TO
from ._session import get_stamp, known_versions
from ._tables import revision_type
from ._types import UTCDateTime


def sync_associations(session: Session, context: object) -> None:
    """Write the histories of those associations that the flush may have changed."""
    versions = known_versions(session)
    if versions is not None and versions.disabled:
        return
    # The keys of owners and of targets.
    work: dict[Association, tuple[list[KeyValues], list[KeyValues]]] = {}
    for mapper in flushed_mappers(context):
        config = config_of(mapper.class_)
        for association in associations_of(config) if config is not None else ():
            key = association.relation.key
            for state, deleted in flushed_of(context, mapper):
                if deleted or key in values_before_changes(state) or has_pending_changes(state, key):
                    values = tuple(_value(state, column) for _, column in association.owner)
                    work.setdefault(association, ([], []))[0].append(values)
        for association in vars(mapper.base_mapper.class_).get(TARGETS_ATTRIBUTE, {}).values():
            for state, deleted in flushed_of(context, mapper):
                if deleted and isinstance(state.obj(), association.relation.entity.class_):
                    values = tuple(_value(state, column) for _, column in association.target)
                    work.setdefault(association, ([], []))[1].append(values)
    for association, (owners, targets) in work.items():
        for keys, columns in ((owners, association.owner), (targets, association.target)):
            for chunk in chunks([key for key in dict.fromkeys(keys) if None not in key]):
                names = [column.key for column, _ in columns]
                _sync(session, association, names, chunk)


def _value(state: AnyState, column: AnyColumn) -> object:
    """Return what an object had in a column before the flush, or has now."""
    key = state.mapper.get_property_by_column(column).key
    old = values_before_changes(state).get(key, state.dict.get(key))
    value = state.dict.get(key, old)
    identity = dict(zip(state.mapper.primary_key, state.identity or (), strict=False))
    return identity.get(column) if value is None else value


def sync_whole_table(session: Session, association: Association) -> None:
    """Write the history of all rows of an association."""
    _sync(session, association, [], [])


def _sync(session: Session, association: Association, names: list[str], keys: list[KeyValues]) -> None:
    """End the periods of rows that the secondary table no longer has, and begin those of new rows.

    Args:
        session: The session.
        association: The association.
        names: Columns of the secondary table, to restrict the rows; if there are none, all rows are compared.
        keys: What these columns have in the rows.
    """
    config = association.config.root
    secondary, history, options = association.secondary, association.history, config.options
    connection = session.connection(bind_arguments={"mapper": config.mapper, "clause": secondary})
    data = [column.key for column in association.data if column.primary_key] or [each.key for each in association.data]
    same = and_(*(secondary.c[name] == history.c[name] for name in data))
    is_open = history.c[VALID_TO].is_(None)

    def of_keys(table: Table) -> list[ColumnElement[bool]]:
        return [key_in([table.c[name] for name in names], keys)] if names else []

    gone = [is_open, *of_keys(history), ~exists(select(1).select_from(secondary).where(same))]
    new = [*of_keys(secondary), ~exists(select(1).select_from(history).where(same, is_open))]
    # A revision is inserted only if something has changed, so this is asked first if there are revisions.
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
    stamp = get_stamp(session, config)
    ended: dict[str, object] = {VALID_TO: stamp.moment}
    if options.revision is not None:
        ended[ENDED_BY] = stamp.revision
    connection.execute(update(history).where(*gone).values(ended))
    source: dict[str, AnyExpression] = {column.key: column for column in association.data}
    source[VALID_FROM] = literal(stamp.moment, UTCDateTime())
    if options.revision is not None:
        source[REVISION] = literal(stamp.revision, revision_type(options.revision))
    rows = select(*source.values()).select_from(secondary).where(*new)
    connection.execute(insert(history).from_select(list(source), rows, include_defaults=False))
