"""Histories of many-to-many relationships.

The rows of a ``secondary`` table get intervals in a table ``<secondary>_history``, one row for each time two objects were associated; the interval
of what is associated now is open. After a flush that touched such a relationship, two statements compare both tables for the objects
concerned, and close and open intervals. What the unit of work does to associations, from which side and how, does not matter then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from sqlalchemy import (
    Column,
    Index,
    Integer,
    Table,
    event,
)
from sqlalchemy.orm import Mapper, RelationshipProperty

from ..exceptions import MappingError
from . import _tables
from ._config import VersionConfig, config_of
from ._errors import NotVersionedError
from ._sa import has_secondary, secondary_argument
from ._tables import ASSOCIATION, ENDED_BY, REVISION, VALID_FROM, VALID_TO
from ._types import UTCDateTime

__all__ = ("HISTORY_ID", "TARGETS", "Association", "association_of", "associations_of", "map_associations")

_ASSOCIATIONS = "__sqla_version_associations__"
TARGETS = "__sqla_version_targets__"
HISTORY_ID = "history_id"


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
    columns: list[Column[Any]] = [Column(HISTORY_ID, Integer, primary_key=True)]
    taken = {HISTORY_ID, VALID_FROM, VALID_TO, REVISION, ENDED_BY}
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
        _own(target, TARGETS)[f"{association.config.name}.{association.relation.key}"] = association


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
