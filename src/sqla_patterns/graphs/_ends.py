"""The two ends of an edge: as its row has them, and as they will be after the flush.

What is not in the ``dict`` of an object is not known: the attribute may be expired, deferred or never loaded, which is
the usual state of an edge after a commit. So the ends of an edge are read here and nowhere else. A persistent edge
whose primary key is the pair of its ends has them in its identity key. For an edge with a surrogate key they are read
from the table, for many edges in one SELECT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .._sql import chunks, key_in, structural
from .._sqlalchemy import UNKNOWN, changed, committed, load_unfiltered
from .._typing import MappedObject, PrimaryKey
from ._config import EdgeConfig

SIDES: Final = ("lower", "higher")

#: How many keys one IN may have: fewer parameters than SQLite (32,766) and asyncpg (32,767) accept in one statement.
MAX_KEYS: Final = 10_000

#: The primary keys of the lower and the higher node of an edge.
Pair: TypeAlias = tuple[PrimaryKey, PrimaryKey]
#: The primary key of an edge.
EdgeKey: TypeAlias = tuple[object, ...]
#: What distinguishes a node from others, new ones included: ("key", primary key) or ("new", id() of the node).
Token: TypeAlias = tuple[str, PrimaryKey]


@dataclass(frozen=True, eq=False)
class End:
    """One end of an edge.

    Attributes:
        key: The primary key of the node; None if the database will make it.
        node: The node; None if only the key is known.
    """

    key: PrimaryKey
    node: MappedObject

    @property
    def token(self) -> Token:
        """Return what distinguishes the node from others."""
        return ("key", self.key) if self.key is not None else ("new", id(self.node))


@dataclass(frozen=True, eq=False)
class NewEdge:
    """An edge that is about to be written, or that stays as it is."""

    lower: End
    higher: End

    @property
    def pair(self) -> Pair:
        """Return the primary keys of both nodes, as far as they are known."""
        return self.lower.key, self.higher.key

    @property
    def token(self) -> tuple[Token, Token]:
        """Return what distinguishes the edge from others."""
        return self.lower.token, self.higher.token


def end_changed(edge: object, side: str) -> bool:
    """Return whether one end of `edge` was set since the last flush, by key or by node."""
    state = instance_state(edge)
    return changed(state, f"{side}_id") or changed(state, f"{side}_node")


def ends_changed(edge: object) -> bool:
    """Return whether an end of `edge` was set since the last flush."""
    return any(end_changed(edge, side) for side in SIDES)


def loaded_pair(config: EdgeConfig, edge: object) -> Pair | None:
    """Return the keys of both ends as the row of `edge` has them; None if it is new, or if finding out takes SQL."""
    state = instance_state(edge)
    if state.identity is None:
        return None
    if config.pair_is_primary_key:
        identity = dict(zip(config.mapper.primary_key, state.identity, strict=True))
        return identity[config.lower], identity[config.higher]
    pair = committed(state, "lower_id"), committed(state, "higher_id")
    return None if any(value is UNKNOWN for value in pair) else pair


def stored_pairs(session: Session, config: EdgeConfig, edges: Iterable[object]) -> Mapping[int, Pair]:
    """Return the keys of both ends as the rows of persistent `edges` have them, by the ``id()`` of the edge.

    No SQL where the pair is the primary key or its columns are loaded; else one SELECT for all. An edge whose row no
    longer exists is left out.
    """
    found: dict[int, Pair] = {}
    unknown: dict[EdgeKey, int] = {}
    for edge in edges:
        pair, identity = loaded_pair(config, edge), instance_state(edge).identity
        if pair is not None:
            found[id(edge)] = pair
        elif identity is not None:
            unknown[tuple(identity)] = id(edge)
    if unknown:
        connection = session.connection(bind_arguments={"mapper": config.mapper})
        for key, pair in read_pairs(connection, config, list(unknown)).items():
            found[unknown[key]] = pair
    return found


def read_pairs(
    connection: Connection, config: EdgeConfig, keys: Sequence[EdgeKey], *, lock: bool = False
) -> Mapping[EdgeKey, Pair]:
    """Read the keys of both ends of edges from the database, and return them by the primary key of the edge.

    Args:
        connection: The connection to read on.
        config: The edge class.
        keys: The primary keys of the edges.
        lock: Lock the rows, which also reads what is committed now rather than an older snapshot.
    """
    key = config.mapper.primary_key
    found: dict[EdgeKey, Pair] = {}
    for some in chunks(keys, MAX_KEYS // len(key)):
        statement = structural(select(config.lower, config.higher, *key).where(key_in(key, some)))
        if lock:
            statement = statement.with_for_update()
        rows: list[tuple[PrimaryKey, ...]] = [tuple(row) for row in connection.execute(statement)]
        for lower, higher, *identity in rows:
            found[tuple(identity)] = lower, higher
    return found


def load_edges(session: Session, config: EdgeConfig, criterion: ColumnElement[bool]) -> Sequence[MappedObject]:
    """Load the edges whose rows match `criterion`, whatever criteria the session has."""
    rows = select(*config.mapper.persist_selectable.c).where(criterion)
    return load_unfiltered(session, config.mapper, rows)


def ends_of(config: EdgeConfig, edge: object, stored: Mapping[int, Pair]) -> NewEdge | None:
    """Return the ends that `edge` will have after the flush; None where one is missing.

    Args:
        config: The edge class.
        edge: An edge in any state.
        stored: Of `stored_pairs`, for persistent edges.
    """
    lower, higher = end_of(config, edge, "lower", stored), end_of(config, edge, "higher", stored)
    return None if lower is None or higher is None else NewEdge(lower, higher)


def end_of(config: EdgeConfig, edge: object, side: str, stored: Mapping[int, Pair]) -> End | None:
    """Return one end that `edge` will have after the flush; None where it is missing.

    Args:
        config: The edge class.
        edge: An edge in any state.
        side: "lower" or "higher".
        stored: Of `stored_pairs`, for persistent edges.
    """
    state = instance_state(edge)
    node, key = state.dict.get(f"{side}_node"), state.dict.get(f"{side}_id")
    # Where both are assigned, the unit of work writes the key of the node.
    if changed(state, f"{side}_node"):
        return None if node is None else End(config.pk_of(node), node)
    if not changed(state, f"{side}_id") and id(edge) in stored:
        key = stored[id(edge)][SIDES.index(side)]
    if key is None:
        return None if node is None else End(config.pk_of(node), node)
    return End(key, node if node is not None and config.pk_of(node) == key else None)
