"""Read the histories of associations, and set the associations of objects from the past."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import ColumnElement, and_, null, or_, select, union_all
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from .._sql import chunks, key_in
from .._typing import AnyMapper, AnySelect, MappedObject
from . import _clock
from ._associations import Association, associations_of
from ._config import KeyValues, RowValues, VersionConfig, config_of, connection_of, require_config
from ._criteria import visible_versions
from ._names import ENDED_BY, HISTORY_ID, REVISION, VALID_FROM, VALID_TO
from ._past_objects import PastObjects
from ._revisions import load_revisions
from ._row_reader import reader_of
from ._version import AssociationVersion, Version

#: How objects are loaded as of a moment: `as_of`, which is passed in because it calls this module itself.
LoadAsOf: TypeAlias = "Callable[[Session, AnySelect, datetime], Sequence[MappedObject]]"


def load_association_versions(
    session: Session, config: VersionConfig, association: Association, key: KeyValues
) -> list[AssociationVersion]:
    """Return the periods of the associations of one owner, in the order in which they began."""
    history = association.history
    with_revisions = config.options.revision is not None
    targets = [history.c[column.key] for column, _ in association.target]
    owners = [history.c[column.key] for column, _ in association.owner]
    revisions = [history.c[REVISION], history.c[ENDED_BY]] if with_revisions else [null(), null()]
    statement = (
        select(*targets, history.c[VALID_FROM], history.c[VALID_TO], *revisions)
        .where(key_in(owners, [key]))
        .order_by(history.c[VALID_FROM], history.c[HISTORY_ID])
    )
    rows = association.connection(session).execute(statement).all()
    loaded = load_revisions(session, config.root, {key for row in rows for key in row[-2:]})
    width = len(targets)
    return [
        AssociationVersion(
            target=row[0] if width == 1 else tuple(row[:width]),
            valid_from=row[width],
            valid_to=row[width + 1],
            revision=loaded.get(row[width + 2]),
            ended_by=loaded.get(row[width + 3]),
        )
        for row in rows
    ]


def set_past_associations(
    session: Session, found: Mapping[KeyValues, MappedObject], moment: datetime, as_of: LoadAsOf
) -> None:
    """Give objects from the past the associations that they had at `moment`."""
    by_class: dict[VersionConfig, list[tuple[KeyValues, MappedObject]]] = {}
    for key, obj in found.items():
        by_class.setdefault(require_config(obj.__class__), []).append((key, obj))
    for config, entries in by_class.items():
        for association in associations_of(config):
            history = association.history
            owners = [history.c[column.key] for column, _ in association.owner]
            targets = [history.c[column.key] for column, _ in association.target]
            targets_of: dict[KeyValues, list[KeyValues]] = {}
            connection = association.connection(session)
            for chunk in chunks([key for key, _ in entries]):
                then = and_(
                    history.c[VALID_FROM] <= moment, or_(history.c[VALID_TO].is_(None), history.c[VALID_TO] > moment)
                )
                statement = select(*owners, *targets).where(then, key_in(owners, chunk)).order_by(history.c[HISTORY_ID])
                for row in connection.execute(statement):
                    targets_of.setdefault(tuple(row[: len(owners)]), []).append(tuple(row[len(owners) :]))
            wanted = list(dict.fromkeys(target for each in targets_of.values() for target in each))
            loaded = _load_targets(session, association, wanted, moment, as_of)
            for key, obj in entries:
                value = [loaded[target] for target in targets_of.get(key, ()) if target in loaded]
                set_committed_value(obj, association.relation.key, value)


def set_associations_of_versions(session: Session, key: KeyValues, versions: Sequence[Version[MappedObject]]) -> None:
    """Give the objects of all versions of one owner the associations that they had when the version ended.

    The current version gets the present associations. Emits two statements for each association, however many versions
    there are.
    """
    indexes: dict[Association, list[int]] = {}
    for at, version in enumerate(versions):
        for association in associations_of(require_config(version.object.__class__)):
            indexes.setdefault(association, []).append(at)
    for association, listed in indexes.items():
        history = association.history
        owners = [history.c[column.key] for column, _ in association.owner]
        targets = [history.c[column.key] for column, _ in association.target]
        statement: AnySelect = select(history.c[VALID_FROM], history.c[VALID_TO], *targets)
        statement = statement.where(key_in(owners, [key])).order_by(history.c[HISTORY_ID])
        rows: list[RowValues] = list(association.connection(session).execute(statement))
        target_at = _target_finder(session, association, list(dict.fromkeys(tuple(row[2:]) for row in rows)))
        for at in listed:
            # There is no gap between versions, so this one began when the one before ended.
            begun, ended = versions[at - 1].changed if at else None, versions[at].changed
            keys = dict.fromkeys(tuple(row[2:]) for row in rows if _lasted(row[0], row[1], begun, ended))
            value = [target for each in keys if (target := target_at(each, ended)) is not None]
            set_committed_value(versions[at].object, association.relation.key, value)


def _lasted(valid_from: datetime, valid_to: datetime | None, begun: datetime | None, ended: datetime | None) -> bool:
    """Return whether an association existed at the end of a version, or exists now if the version is the current one.

    Args:
        valid_from: When the association began.
        valid_to: When it ended.
        begun: When the version began, None for the first one.
        ended: When the version ended.
    """
    if ended is None:
        return valid_to is None
    # A version that began and ended in the same transaction has the associations with which it began.
    began_before = valid_from < ended or (begun == ended and valid_from <= ended)
    return began_before and (valid_to is None or valid_to >= ended)


def _target_finder(
    session: Session, association: Association, keys: list[KeyValues]
) -> Callable[[KeyValues, datetime | None], MappedObject]:
    """Return a function that finds the objects at the other end of an association.

    It takes one of `keys` and a moment, and returns the object as it was just before this moment, or as it is now if
    that is None; None if there was no object.
    """
    mapper: AnyMapper = association.relation.entity.mapper
    config = config_of(mapper.class_)
    if config is None or not config.options.period:
        present = _load_targets(session, association, keys, _clock.now(), None)
        return lambda key, _: present.get(key)
    reader = reader_of(config)
    columns = [column for _, column in association.target]
    connection = connection_of(session, config.root)
    attrs = [str(mapper.get_property_by_column(column).key) for column in columns]
    rows: list[tuple[KeyValues, RowValues]] = []
    for chunk in chunks(keys):
        old = reader.select_history().where(key_in([reader.history_column(column) for column in columns], chunk))
        found: list[RowValues] = list(
            connection.execute(union_all(old, reader.select_main().where(key_in(columns, chunk))))
        )
        for row in found:
            values = reader.values(row, reader.member(row))
            rows.append((tuple(values[attr] for attr in attrs), row))
    visible = visible_versions(session, config, list(dict.fromkeys(reader.key(row) for _, row in rows)))
    rows_of: dict[KeyValues, list[tuple[datetime, datetime | None, RowValues]]] = {}
    for key, row in rows:
        if visible is None or reader.versioned_key(row) in visible:
            entry = (reader.version_data(row, VALID_FROM), reader.version_data(row, VALID_TO), row)
            rows_of.setdefault(key, []).append(entry)

    def find(key: KeyValues, ended: datetime | None) -> MappedObject:
        for valid_from, valid_to, row in rows_of.get(key, ()):
            if valid_to is None if ended is None else valid_from < ended and (valid_to is None or valid_to >= ended):
                return reader.object_of(row)
        return None

    return find


def _load_targets(
    session: Session, association: Association, keys: list[KeyValues], moment: datetime, as_of: LoadAsOf | None
) -> dict[KeyValues, MappedObject]:
    """Return the objects with these keys at the other end of an association.

    With `as_of`, and if their class has periods, they are as of `moment`; else they are as they are now.
    """
    mapper: AnyMapper = association.relation.entity.mapper
    attrs = [str(mapper.get_property_by_column(column).key) for _, column in association.target]
    config = config_of(mapper.class_)
    found: dict[KeyValues, MappedObject] = {}
    for chunk in chunks(keys):
        columns = [getattr(mapper.class_, attr) for attr in attrs]
        if as_of is not None and config is not None and config.options.period:
            objects = as_of(session, select(mapper.class_).where(key_in(columns, chunk)), moment)
        else:
            objects = _load_detached(session, mapper, key_in(columns, chunk))
        for obj in objects:
            found[tuple(obj.__dict__[attr] for attr in attrs)] = obj
    return found


def _load_detached(session: Session, mapper: AnyMapper, criterion: ColumnElement[bool]) -> list[MappedObject]:
    """Return present objects of a class without periods, detached like those from the past."""
    attrs = list(mapper.column_attrs)
    statement = select(*(getattr(mapper.class_, attr.key) for attr in attrs)).where(criterion)
    with session.no_autoflush:
        rows = session.execute(statement).all()  # through the session, so that its criteria apply
    past = PastObjects(mapper, [attr.key for attr in attrs])
    return [past.make(row) for row in rows]
