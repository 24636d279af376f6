"""Histories of many-to-many relationships.

The rows of a ``secondary`` table get intervals in a table ``<secondary>_history``, one row for each time two objects were associated; the interval
of what is associated now is open. After a flush that touched such a relationship, two statements compare both tables for the objects
concerned, and close and open intervals. What the unit of work does to associations, from which side and how, does not matter then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    Table,
    and_,
    event,
    exists,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session
from sqlalchemy.orm.attributes import set_committed_value

from ..exceptions import MappingError
from . import _tables
from ._capture import chunks, key_in, stamp_of
from ._config import VersionConfig, config_of
from ._errors import NotVersionedError
from ._sa import flushed_mappers, flushed_of, has_secondary, old_values, pending_changes, secondary_argument
from ._session import known_versions
from ._tables import ASSOCIATION, ENDED_BY, REVISION, VALID_FROM, VALID_TO
from ._types import UTCDateTime
from ._version import AssociationVersion

__all__ = (
    "Association",
    "association_of",
    "associations_of",
    "load_association",
    "map_associations",
    "show_associations",
    "sync_all",
    "sync_associations",
)

_ASSOCIATIONS = "__sqla_version_associations__"
_TARGETS = "__sqla_version_targets__"
_HISTORY_ID = "history_id"


@dataclass(eq=False)
class Association:
    """A many-to-many relationship of a versioned class, and the history of its rows."""

    config: VersionConfig
    relation: RelationshipProperty[Any]
    secondary: Table
    history: Table

    @property
    def owner(self) -> list[tuple[Column[Any], Column[Any]]]:
        """Columns of the secondary table with those of the owner that they refer to."""
        return [(cast("Any", there), cast("Any", here)) for here, there in self.relation.synchronize_pairs]

    @property
    def target(self) -> list[tuple[Column[Any], Column[Any]]]:
        """Columns of the secondary table with those of the target that they refer to."""
        pairs = self.relation.secondary_synchronize_pairs or ()
        return [(cast("Any", there), cast("Any", here)) for here, there in pairs]

    @property
    def data(self) -> list[Column[Any]]:
        return [column for column in self.secondary.c if column.key in self.history.c]


# -- mapping -------------------------------------------------------------------------------------


def map_associations(config: VersionConfig) -> None:
    """Make history tables for the associations of a class, as soon as their tables are known."""
    for name in config.options.associations:
        found: Any = config.mapper.get_property(name) if config.mapper.has_property(name) else None
        if found is None:
            if config.parent is None and not config.mapper.polymorphic_map:
                raise MappingError(
                    f"{config.name}: associations= names {name!r}, which is no relationship of the class"
                )
            continue
        if config.parent is not None and config.parent.mapper.has_property(name):
            continue
        if not _is_relationship(found):
            raise MappingError(f"{config.name}: associations= names {name!r}, which is no relationship")
        relation = found
        table = secondary_argument(relation, config.mapper)
        if table is not None:
            _register(config, relation, table)
        elif not has_secondary(relation):
            raise MappingError(
                f"{config.name}: associations= names {name!r}, which has no secondary= table; version the class at its other end instead"
            )
        else:
            _register_later(config, relation)
    if config.options.associations:
        event.listen(config.cls, "mapper_configured", _mark_targets)


def _is_relationship(found: Any) -> TypeGuard[RelationshipProperty[Any]]:
    return isinstance(found, RelationshipProperty)


def _register_later(config: VersionConfig, relation: RelationshipProperty[Any]) -> None:
    def configured(mapper: Mapper[Any], _: type[Any]) -> None:
        table = relation.secondary
        if _tables.is_table(table) and relation.key not in _own(config.cls, _ASSOCIATIONS):
            _register(config, relation, table)

    event.listen(config.cls, "mapper_configured", configured)


def _own(cls: type[Any], name: str) -> dict[str, Association]:
    found = vars(cls).get(name)
    if found is None:
        found = {}
        setattr(cls, name, found)
    return cast("dict[str, Association]", found)


def _register(config: VersionConfig, relation: RelationshipProperty[Any], secondary: Table) -> None:
    history = secondary.info.get(ASSOCIATION)
    if history is None:
        history = _build(config, secondary)
        secondary.info[ASSOCIATION] = history
    _own(config.cls, _ASSOCIATIONS)[relation.key] = Association(config, relation, secondary, history)


def _build(config: VersionConfig, secondary: Table) -> Table:
    columns: list[Column[Any]] = [Column(_HISTORY_ID, Integer, primary_key=True)]
    taken = {_HISTORY_ID, VALID_FROM, VALID_TO, REVISION, ENDED_BY}
    for column in secondary.c:
        if column.key in taken:
            raise MappingError(
                f"table {secondary.fullname!r} has a column {column.key!r}, and its history one of its own; give yours another key"
            )
        copy = _tables.copy_column(column)
        copy.primary_key, copy.nullable = False, column.nullable and not column.primary_key
        columns.append(copy)
    columns += [Column(VALID_FROM, UTCDateTime(), nullable=False), Column(VALID_TO, UTCDateTime(), nullable=True)]
    if config.options.revision is not None:
        kind = _tables.revision_type(config.options)
        columns += [Column(REVISION, kind, nullable=True), Column(ENDED_BY, kind, nullable=True)]
    history = Table(_tables.history_name(secondary.name), secondary.metadata, *columns, schema=secondary.schema)
    keys = [history.c[column.key] for column in secondary.primary_key or secondary.c if column.key in history.c]
    Index(_tables.history_name(f"ix_{secondary.name}"), *keys)
    pairs = [(column, history.c[column.key]) for column in secondary.c]

    def complete(*_: object, **__: object) -> None:
        _tables.complete_types(pairs)

    complete()
    event.listen(history, "before_create", complete)
    return history


def _mark_targets(mapper: Mapper[Any], cls: type[Any]) -> None:
    """Have the classes at the other end found when their objects are deleted."""
    for association in associations_of(cast("VersionConfig", config_of(cls))):
        target = association.relation.entity.mapper.base_mapper.class_
        _own(target, _TARGETS)[f"{association.config.name}.{association.relation.key}"] = association


def associations_of(config: VersionConfig) -> list[Association]:
    """The associations of a class, inherited ones included."""
    found: list[Association] = []
    member: VersionConfig | None = config
    while member is not None:
        found += vars(member.cls).get(_ASSOCIATIONS, {}).values()
        member = member.parent
    return found


def association_of(config: VersionConfig, name: str) -> Association:
    """The association called `name`.

    Raises:
        NotVersionedError: there is none.
    """
    _ = config.mapper.relationships  # configures mappers
    for association in associations_of(config):
        if association.relation.key == name:
            return association
    raise NotVersionedError(
        f"{config.name}.{name} has no history; say __versioned__ = VersionOptions(associations=({name!r},)) in {config.root.name}"
    )


# -- the flush -----------------------------------------------------------------------------------


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
        for association in vars(mapper.base_mapper.class_).get(_TARGETS, {}).values():
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
        source[REVISION] = literal(stamp.revision, _tables.revision_type(options))
    rows = select(*source.values()).select_from(secondary).where(*new)
    connection.execute(insert(history).from_select(list(source), rows, include_defaults=False))


# -- reading -------------------------------------------------------------------------------------


def load_association(
    session: Session,
    config: VersionConfig,
    association: Association,
    key: tuple[Any, ...],
    load_revisions: Callable[..., Mapping[Any, Any]],
) -> list[AssociationVersion]:
    """The intervals of one owner."""
    history = association.history
    with_revisions = config.options.revision is not None
    targets = [history.c[column.key] for column, _ in association.target]
    owners = [history.c[column.key] for column, _ in association.owner]
    revisions = [history.c[REVISION], history.c[ENDED_BY]] if with_revisions else [null(), null()]
    statement = (
        select(*targets, history.c[VALID_FROM], history.c[VALID_TO], *revisions)
        .where(key_in(owners, [key]))
        .order_by(history.c[VALID_FROM], history.c[_HISTORY_ID])
    )
    connection = session.connection(bind_arguments={"mapper": config.root.mapper, "clause": history})
    rows = connection.execute(statement).all()
    known = load_revisions(session, config.root, {each for row in rows for each in row[-2:]})
    width = len(targets)
    return [
        AssociationVersion(
            target=row[0] if width == 1 else tuple(row[:width]),
            valid_from=row[width],
            valid_to=row[width + 1],
            revision=known.get(row[width + 2]),
            ended_by=known.get(row[width + 3]),
        )
        for row in rows
    ]


def show_associations(session: Session, found: Mapping[tuple[Any, ...], Any], moment: datetime) -> None:
    """Give objects of the past the associations that they had at `moment`."""
    from ._reading import as_of, detached_rows

    by_class: dict[VersionConfig, list[tuple[tuple[Any, ...], Any]]] = {}
    for key, obj in found.items():
        by_class.setdefault(cast("VersionConfig", config_of(obj.__class__)), []).append((key, obj))
    for config, entries in by_class.items():
        for association in associations_of(config):
            history = association.history
            owners = [history.c[column.key] for column, _ in association.owner]
            targets = [history.c[column.key] for column, _ in association.target]
            links: dict[Any, list[Any]] = {}
            connection = session.connection(bind_arguments={"mapper": config.root.mapper, "clause": history})
            for chunk in chunks([key for key, _ in entries]):
                then = and_(
                    history.c[VALID_FROM] <= moment, or_(history.c[VALID_TO].is_(None), history.c[VALID_TO] > moment)
                )
                statement = (
                    select(*owners, *targets).where(then, key_in(owners, chunk)).order_by(history.c[_HISTORY_ID])
                )
                for row in connection.execute(statement):
                    links.setdefault(tuple(row[: len(owners)]), []).append(tuple(row[len(owners) :]))
            wanted = list(dict.fromkeys(target for each in links.values() for target in each))
            target_mapper: Mapper[Any] = association.relation.entity.mapper
            known = _load_targets(session, target_mapper, association, wanted, moment, as_of, detached_rows)
            for key, obj in entries:
                value = [known[target] for target in links.get(key, ()) if target in known]
                set_committed_value(obj, association.relation.key, value)


def _load_targets(
    session: Session,
    mapper: Mapper[Any],
    association: Association,
    keys: list[tuple[Any, ...]],
    moment: datetime,
    as_of: Callable[..., Any],
    detached_rows: Callable[..., Iterable[tuple[tuple[Any, ...], Any]]],
) -> dict[tuple[Any, ...], Any]:
    attrs = [str(mapper.get_property_by_column(here).key) for _, here in association.target]
    config = config_of(mapper.class_)
    found: dict[tuple[Any, ...], Any] = {}
    for chunk in chunks(keys):
        columns = [getattr(mapper.class_, attr) for attr in attrs]
        if config is not None and config.options.period:
            objects = as_of(session, select(mapper.class_).where(key_in(columns, chunk)), moment)
        else:
            objects = detached_rows(session, mapper, key_in(columns, chunk))
        for obj in objects:
            found[tuple(obj.__dict__[attr] for attr in attrs)] = obj
    return found
