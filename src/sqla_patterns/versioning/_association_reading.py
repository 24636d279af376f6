"""Reading the histories of associations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

from sqlalchemy import and_, null, or_, select
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import set_committed_value

from ._associations import HISTORY_ID, Association, associations_of
from ._clauses import chunks, key_in
from ._config import VersionConfig, config_of
from ._past import PastObjects
from ._tables import ENDED_BY, REVISION, VALID_FROM, VALID_TO
from ._version import AssociationVersion

__all__ = ("load_association", "show_associations")


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
        .order_by(history.c[VALID_FROM], history.c[HISTORY_ID])
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


def show_associations(
    session: Session, found: Mapping[tuple[Any, ...], Any], moment: datetime, as_of: Callable[..., Any]
) -> None:
    """Give objects of the past the associations that they had at `moment`."""
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
                statement = select(*owners, *targets).where(then, key_in(owners, chunk)).order_by(history.c[HISTORY_ID])
                for row in connection.execute(statement):
                    links.setdefault(tuple(row[: len(owners)]), []).append(tuple(row[len(owners) :]))
            wanted = list(dict.fromkeys(target for each in links.values() for target in each))
            target_mapper: Mapper[Any] = association.relation.entity.mapper
            known = _load_targets(session, target_mapper, association, wanted, moment, as_of)
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


def detached_rows(session: Session, mapper: Mapper[Any], criterion: Any) -> list[Any]:
    """Present objects of a class that keeps no periods, detached like those of the past."""
    attrs = list(mapper.column_attrs)
    statement = select(*(getattr(mapper.class_, attr.key) for attr in attrs)).where(criterion)
    connection = session.connection(bind_arguments={"mapper": mapper})
    rows = connection.execute(statement)
    past = PastObjects(mapper, [attr.key for attr in attrs])
    return [past.make(row) for row in rows]
