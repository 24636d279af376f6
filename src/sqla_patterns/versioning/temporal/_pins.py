"""Relationships that refer to one version: which there are, and how they follow when a version is replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import and_, bindparam, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_attribute, set_committed_value

from ..._declarative import attribute_key, keep_onupdate
from ..._sql import chunks, key_in, structural
from ..._sqlalchemy import load_unfiltered, mappers_of, objects_in_session, state_of
from ..._typing import AnyColumn, AnyMapper, AnyRelationship, AnyState, MappedObject
from ...exceptions import MappingError
from ._config import KeyValues, TemporalConfig, config_of

#: In ``relationship.info``: how many levels of references follow a new version.
FOLLOW: Final = "sqla_patterns.versioning.follow"


@dataclass(frozen=True)
class Pin:
    """A many-to-one relationship that refers to a version by its primary key.

    Attributes:
        relationship: The relationship.
        local: The columns of the owner that hold the key, in the order of the primary key.
        follow: How many levels follow; 0 where the owner keeps the version that it saw.
    """

    relationship: AnyRelationship
    local: Sequence[AnyColumn]
    follow: int

    @property
    def owner(self) -> AnyMapper:
        """Return the mapper of the class that has the relationship."""
        return self.relationship.parent

    def key_of(self, obj: MappedObject) -> KeyValues:
        """Return the key that a loaded object holds; None for what is not loaded."""
        return tuple(state_of(obj).dict.get(attribute_key(self.owner, column)) for column in self.local)


def pin_of(relationship: AnyRelationship) -> Pin | None:
    """Return a relationship as a pin, None if it does not refer to a version of temporal rows by its key."""
    config = config_of(relationship.mapper.class_)
    if config is None or relationship.direction.name != "MANYTOONE" or relationship.viewonly:
        return None
    by_remote = {remote: local for local, remote in relationship.local_remote_pairs or ()}
    if not all(column in by_remote for column in config.key):
        return None
    local = tuple(cast("AnyColumn", by_remote[column]) for column in config.key)
    return Pin(relationship, local, int(relationship.info.get(FOLLOW, 0)))


def pins_to(config: TemporalConfig) -> list[Pin]:
    """Return the relationships that refer to a version of this class."""
    found: list[Pin] = []
    for mapper in mappers_of(config.mapper.registry):
        for relationship in mapper.relationships:
            if relationship.parent is mapper and config_of(relationship.mapper.class_) is config:
                pin = pin_of(relationship)
                if pin is not None:
                    found.append(pin)
    return found


def check_cycles(config: TemporalConfig) -> None:
    """Refuse relationships that follow new versions in a circle of classes, each of which makes versions in turn.

    Raises:
        MappingError: There is such a circle.
    """
    _walk(config, config, [])


def _walk(start: TemporalConfig, config: TemporalConfig, path: list[str]) -> None:
    for pin in pins_to(config):
        owner = config_of(pin.owner.class_)
        if not pin.follow or owner is None:
            continue
        here = [*path, str(pin.relationship)]
        if owner is start:
            raise MappingError(
                f"{' and '.join(here)} follow new versions in a circle, so that each version would make another one; "
                "write follow=False in one of them, or use stable_relationship()"
            )
        if len(here) < _LONGEST:
            _walk(start, owner, here)


# A circle that does not come back to the class where the walk began is found from a class in it.
_LONGEST: Final = 20


def repoint_rows(session: Session, config: TemporalConfig, replaced: Mapping[KeyValues, AnyState]) -> None:
    """Have owners without versions refer to the new versions: one executemany for each relationship that follows."""
    for pin in pins_to(config):
        owner = pin.owner
        if not pin.follow or config_of(owner.class_) is not None:
            continue
        table: Any = pin.local[0].table
        values: dict[AnyColumn, Any] = keep_onupdate(table)
        values |= {column: bindparam(f"_new_{number}") for number, column in enumerate(pin.local)}
        matching = and_(*(column == bindparam(f"_old_{number}") for number, column in enumerate(pin.local)))
        connection = session.connection(bind_arguments={"mapper": owner})
        rows = [
            {f"_old_{number}": value for number, value in enumerate(old)}
            | {f"_new_{number}": value for number, value in enumerate(_new_key(config, state))}
            for old, state in replaced.items()
        ]
        connection.execute(structural(update(table).where(matching).values(values)), rows)


def _new_key(config: TemporalConfig, state: AnyState) -> KeyValues:
    return tuple(state.dict[config.attribute(column)] for column in config.key)


def settle_objects(
    session: Session, config: TemporalConfig, replaced: Mapping[KeyValues, AnyState], levels: Mapping[AnyState, int]
) -> dict[AnyState, int]:
    """Bring loaded objects into step with the new versions; called after the flush.

    Owners that have versions themselves are loaded and changed, so that the next flush makes their new versions.

    Returns:
        For each owner that was changed, how many levels lie between it and what the user has changed.
    """
    changed: dict[AnyState, int] = {}
    for pin in pins_to(config):
        name = pin.relationship.key
        owner_config = config_of(pin.owner.class_)
        if pin.follow and owner_config is not None:
            following = {old: state for old, state in replaced.items() if levels.get(state, 0) < pin.follow}
            for owner in _current_owners(session, owner_config, pin, list(following)):
                target = following.get(pin.key_of(owner))
                if target is not None:
                    for column, value in zip(pin.local, _new_key(config, target), strict=True):
                        set_attribute(owner, attribute_key(pin.owner, column), value)
                    changed[state_of(owner)] = levels.get(target, 0) + 1
            continue
        for owner in _loaded(session, pin.owner):
            target = replaced.get(pin.key_of(owner))
            if target is None:
                continue
            if pin.follow:
                for column, value in zip(pin.local, _new_key(config, target), strict=True):
                    set_committed_value(owner, attribute_key(pin.owner, column), value)
            elif state_of(owner).dict.get(name) is target.obj():
                session.expire(owner, [name])
    for state in replaced.values():
        stale = [each for each in _bound_to_version(config, state) if each in state.dict]
        if stale and state.persistent:
            session.expire(state.obj(), stale)
    return changed


def _bound_to_version(config: TemporalConfig, state: AnyState) -> Iterator[str]:
    """Yield the relationships in which other rows refer to one version of this class by its key."""
    changing = set(config.key) - set(config.stable)
    for relationship in state.mapper.relationships:
        if relationship.direction.name != "MANYTOONE" and changing & set(relationship.local_columns):
            yield relationship.key


def _loaded(session: Session, mapper: AnyMapper) -> list[MappedObject]:
    return objects_in_session(session, mapper.class_)


def _current_owners(
    session: Session, config: TemporalConfig, pin: Pin, keys: Sequence[KeyValues]
) -> Iterator[MappedObject]:
    """Load the current rows that refer to one of these versions; one SELECT for a thousand."""
    for chunk in chunks(keys):
        statement = select(config.table).where(key_in(pin.local, chunk), config.is_current())
        yield from load_unfiltered(session, pin.owner, statement)
