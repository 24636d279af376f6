"""Map the histories of many-to-many relationships.

A table ``<secondary>_history`` has a row for each period during which two objects were associated; the period of a
present association has no end. After a flush that has changed such a relationship, two statements compare both tables
for the objects concerned, end periods and begin new ones. So it does not matter how, and from which side, the unit of
work has changed the associations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard, cast

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    Table,
    event,
)
from sqlalchemy.orm import RelationshipProperty, Session

from .._sql import is_table
from .._sqlalchemy import has_secondary, secondary_argument
from .._typing import AnyColumn, AnyExpression, AnyMapper, AnyRelationship, MappedClass
from ..exceptions import MappingError
from . import _tables
from ._config import VersionConfig, require_config
from ._errors import NotVersionedError
from ._names import ASSOCIATIONS_ATTRIBUTE, ENDED_BY, HISTORY_ID, REVISION, TARGETS_ATTRIBUTE, VALID_FROM, VALID_TO
from ._table_records import ASSOCIATION_HISTORY, record, recorded
from ._types import UTCDateTime


@dataclass(eq=False)
class Association:
    """A many-to-many relationship of a versioned class, with the history of its rows.

    Attributes:
        config: The configuration of the class.
        relation: The relationship.
        secondary: The table between both classes.
        history: The history of `secondary`.
    """

    config: VersionConfig
    relation: AnyRelationship
    secondary: Table
    history: Table

    @property
    def owner(self) -> list[tuple[AnyColumn, AnyColumn]]:
        """Return the columns of the secondary table with those of the owner that they refer to."""
        return _pairs_of_columns(self.relation.synchronize_pairs)

    @property
    def target(self) -> list[tuple[AnyColumn, AnyColumn]]:
        """Return the columns of the secondary table with those of the target that they refer to."""
        return _pairs_of_columns(self.relation.secondary_synchronize_pairs or ())

    @property
    def data(self) -> list[AnyColumn]:
        """Return the columns of the secondary table that the history has too."""
        return [column for column in self.secondary.c if column.key in self.history.c]

    def connection(self, session: Session) -> Connection:
        """Return the connection on which a session reads the history."""
        return session.connection(bind_arguments={"mapper": self.config.root.mapper, "clause": self.history})


def _pairs_of_columns(pairs: Iterable[tuple[AnyExpression, AnyExpression]]) -> list[tuple[AnyColumn, AnyColumn]]:
    """Return the columns of a secondary table with the columns that they refer to."""
    return [(cast("AnyColumn", secondary), cast("AnyColumn", referred)) for referred, secondary in pairs]


# -- mapping -------------------------------------------------------------------------------------


def map_associations(config: VersionConfig) -> None:
    """Make history tables for the associations of a class, as soon as their secondary tables are known.

    Raises:
        MappingError: ``VersionOptions(associations=...)`` names something else than a many-to-many relationship.
    """
    for name in config.options.associations:
        relation = config.mapper.get_property(name) if config.mapper.has_property(name) else None
        if relation is None:
            if config.parent is None and not config.mapper.polymorphic_map:
                raise MappingError(
                    f"{config.name}: associations= names {name!r}, which is no relationship of the class"
                )
            continue
        if config.parent is not None and config.parent.mapper.has_property(name):
            continue
        if not _is_relationship(relation):
            raise MappingError(f"{config.name}: associations= names {name!r}, which is no relationship")
        table = secondary_argument(relation, config.mapper)
        if table is not None:
            _register(config, relation, table)
        elif not has_secondary(relation):
            raise MappingError(
                f"{config.name}: associations= names {name!r}, which has no secondary= table; version the class at its "
                "other end instead"
            )
        else:
            _register_later(config, relation)
    if config.options.associations:
        event.listen(config.cls, "mapper_configured", _register_targets)


def _is_relationship(value: object) -> TypeGuard[AnyRelationship]:
    return isinstance(value, RelationshipProperty)


def _register_later(config: VersionConfig, relation: AnyRelationship) -> None:
    """Register an association when mappers are configured, and its secondary table is known."""

    def configured(mapper: AnyMapper, _: MappedClass) -> None:
        table = relation.secondary
        if is_table(table) and relation.key not in _associations_on(config.cls, ASSOCIATIONS_ATTRIBUTE):
            _register(config, relation, table)

    event.listen(config.cls, "mapper_configured", configured)


def _associations_on(cls: MappedClass, name: str) -> dict[str, Association]:
    """Return the dictionary of associations that a class has in attribute `name`, which is made if it is missing."""
    found: dict[str, Association] | None = vars(cls).get(name)
    if found is None:
        found = {}
        setattr(cls, name, found)
    return found


def _register(config: VersionConfig, relation: AnyRelationship, secondary: Table) -> None:
    """Add an association to a class, and make the history of its secondary table."""
    history = recorded(secondary, ASSOCIATION_HISTORY)
    if history is None:
        history = _build_history(config, secondary)
        record(secondary, ASSOCIATION_HISTORY, history)
    _associations_on(config.cls, ASSOCIATIONS_ATTRIBUTE)[relation.key] = Association(
        config, relation, secondary, history
    )


def _build_history(config: VersionConfig, secondary: Table) -> Table:
    """Return a new history table for a secondary table."""
    columns: list[AnyColumn] = [Column(HISTORY_ID, Integer, primary_key=True)]
    taken = {HISTORY_ID, VALID_FROM, VALID_TO, REVISION, ENDED_BY}
    for column in secondary.c:
        if column.key in taken:
            raise MappingError(
                f"table {secondary.fullname!r} has a column {column.key!r}, and its history one of its own; give yours "
                "another key"
            )
        copy = _tables.copy_column(column)
        # NOT NULL as in the secondary table for what refers to owner and target; the rest may come later, as NULL.
        is_key = column.primary_key or bool(column.foreign_keys)
        copy.primary_key, copy.nullable = False, column.nullable and not column.primary_key if is_key else True
        columns.append(copy)
    columns += [Column(VALID_FROM, UTCDateTime(), nullable=False), Column(VALID_TO, UTCDateTime(), nullable=True)]
    if config.options.revision is not None:
        kind = _tables.revision_type(config.options.revision)
        columns += [Column(REVISION, kind, nullable=True), Column(ENDED_BY, kind, nullable=True)]
    history = Table(_tables.history_name(secondary.name), secondary.metadata, *columns, schema=secondary.schema)
    keys = [history.c[column.key] for column in secondary.primary_key or secondary.c if column.key in history.c]
    Index(_tables.history_name(f"ix_{secondary.name}"), *keys)
    complete = _tables.complete_types(history, [(column, history.c[column.key]) for column in secondary.c])
    event.listen(config.cls, "mapper_configured", complete)
    return history


def _register_targets(mapper: AnyMapper, cls: MappedClass) -> None:
    """Store the associations of a class on the classes at the other end, for when their objects are deleted."""
    for association in associations_of(require_config(cls)):
        target = association.relation.entity.mapper.base_mapper.class_
        _associations_on(target, TARGETS_ATTRIBUTE)[f"{association.config.name}.{association.relation.key}"] = (
            association
        )


def associations_of(config: VersionConfig) -> list[Association]:
    """Return the associations of a class, with inherited ones."""
    found: list[Association] = []
    member: VersionConfig | None = config
    while member is not None:
        found += vars(member.cls).get(ASSOCIATIONS_ATTRIBUTE, {}).values()
        member = member.parent
    return found


def association_of(config: VersionConfig, name: str) -> Association:
    """Return the association of a class by the name of its relationship.

    Raises:
        NotVersionedError: The relationship has no history.
    """
    _ = config.mapper.relationships  # configures mappers
    for association in associations_of(config):
        if association.relation.key == name:
            return association
    raise NotVersionedError(
        f"{config.name}.{name} has no history; say __versioned__ = VersionOptions(associations=({name!r},)) in "
        f"{config.root.name}"
    )
