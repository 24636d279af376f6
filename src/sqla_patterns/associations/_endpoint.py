"""What one proxy is about on one class: the association class, the attribute that is the member, and the rules for both."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Table, UniqueConstraint, inspect
from sqlalchemy.orm import (
    ColumnProperty,
    InstanceState,
    InstrumentedAttribute,
    Mapper,
    PassiveFlag,
    RelationshipProperty,
    Session,
    object_session,
)
from sqlalchemy.orm.attributes import get_history

from ..exceptions import DuplicateKeyError, InvalidArgumentError, KeyMismatchError

#: Stands for a member that is not in memory. A row whose member is not in the session cannot be the row of one that is.
_ELSEWHERE: Final = object()

# What the unit of work uses to compare foreign keys: it looks in the identity map, also at expired objects, and loads nothing.
_IN_MEMORY: Final = PassiveFlag.PASSIVE_NO_FETCH_RELATED | PassiveFlag.NO_RAISE


def name_of(mapper: Mapper[Any], proxy: object) -> str | None:
    """The attribute under which a class has `proxy`, an association proxy."""
    return next((name for name, found in mapper.all_orm_descriptors.items() if found is proxy), None)


@dataclass(frozen=True)
class Endpoint:
    """What one proxy is about on one class."""

    #: ``Order.items``, for messages.
    label: str
    #: The name of the relationship to the association class.
    relationship: str
    row_class: type[Any]
    value_attr: str
    #: The attribute of the association class that holds the key, for dictionaries.
    key_attr: str | None
    #: What members must be, or None if they are values of a column.
    member_class: type[Any] | None
    #: Whether a member may be None.
    optional: bool
    #: Whether the tables allow a member only once in a collection.
    unique: bool
    #: The endpoint of the members, where these are collections of another proxy of ours.
    inner: Endpoint | None
    #: Makes an association row from the owner, the key of a dictionary and the member.
    creator: Callable[..., object]
    #: Whether that was the user's own, which may put the row into the owner's collection by itself.
    takes_owner: bool
    #: Whether the rows of members that stay are kept when the collection is assigned anew.
    diff: bool

    # -- members ---------------------------------------------------------------------------------

    def member(self, row: object) -> Any:
        """The member of a row, loaded if need be."""
        return getattr(row, self.value_attr)

    def peek(self, row: Any) -> Any:
        """The member of a row if that is in memory, without any SQL."""
        if self.member_class is None:
            return getattr(row, self.value_attr)
        # Where it nearly always is; this is the inner loop of adding a member to a list that has many.
        if self.value_attr in row.__dict__:
            return row.__dict__[self.value_attr]
        history = get_history(row, self.value_attr, passive=_IN_MEMORY)
        found = [*(history.added or ()), *(history.unchanged or ())]
        return found[0] if found else _ELSEWHERE

    def same(self, one: object, other: object) -> bool:
        """Whether two members are one: objects by identity, values of columns by equality."""
        return one is other or (self.member_class is None and bool(one == other))

    def rows_by_member(self, rows: Iterable[Any]) -> Groups:
        groups = Groups(self)
        for row in rows:
            groups[self.peek(row)].append(row)
        return groups

    # -- bad input -------------------------------------------------------------------------------

    def checked(self, members: Any) -> list[Any]:
        """`members` as a list, each of them fit to be one."""
        if isinstance(members, str | bytes | Mapping) or not hasattr(members, "__iter__"):
            raise InvalidArgumentError(
                f"{self.label} takes a collection of members, and {members!r} is none; put a single member in a list"
            )
        return [self.check(each) for each in members]

    def checked_mapping(self, members: Any) -> dict[Any, Any]:
        """`members` as a dictionary, each of its values fit to be a member."""
        try:
            found = dict[Any, Any](members)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"{self.label} takes a mapping or pairs of key and member, and {members!r} is neither"
            ) from error
        return {key: self.check(each) for key, each in found.items()}

    def check(self, member: Any) -> Any:
        """Return the member, or refuse what cannot be one."""
        if self.inner is not None:
            if _is(member, Iterator):
                member = list[Any](member)  # to be read here and again when it is assigned
            if self.inner.key_attr is None:
                self.inner.checked(member)
            else:
                self.inner.checked_mapping(member)
        elif self.member_class is not None and not isinstance(member, self.member_class):
            if member is None and self.optional:
                return member
            raise InvalidArgumentError(
                f"{self.label} has members of {self.member_class.__name__}, and {member!r} is none; "
                f"if it is the association object itself, put it into {self.relationship!r}"
            )
        return member

    def refuse_duplicates(self, rows: Iterable[Any], new: Iterable[Any]) -> None:
        """Refuse new members twice, or beside their row, where the tables have place for one, before anything is made."""
        if not self.unique:
            return
        groups = Groups(self)
        for member in new:
            groups[member].append(member)
        for row in rows:
            if (member := self.peek(row)) in groups:
                groups[member].append(row)
        for member, found in groups.items():
            if len(found) > 1 and member is not None:  # a key may hold NULL as often as one likes
                raise DuplicateKeyError(
                    f"{self.label} would hold {member!r} {len(found)} times, and a key of the table of "
                    f"{self.row_class.__name__} allows it once for each owner; add it once"
                )

    # -- association rows ------------------------------------------------------------------------

    def create(self, owner: object, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """One new association row for the arguments of each call; if one cannot be made, none is left behind."""
        calls, made = list(calls), list[Any]()
        with ExitStack() as stack:
            # Creators may load what they need; that must not flush rows that back references know and no collection holds yet.
            for session in _sessions((owner, *(arguments[-1] for arguments in calls))):
                stack.enter_context(session.no_autoflush)
            undo = stack.enter_context(ExitStack())
            undo.callback(self._discard, made)
            for arguments in calls:
                made.append(row := self.creator(owner, *arguments))
                self._check_row(row, arguments)
            undo.pop_all()
        return made

    def _check_row(self, row: object, arguments: tuple[Any, ...]) -> None:
        if not isinstance(row, self.row_class):
            raise InvalidArgumentError(
                f"The creator of {self.label} returned {row!r}; it must return a {self.row_class.__name__}"
            )
        if self.key_attr is not None and getattr(row, self.key_attr) != arguments[0]:
            raise KeyMismatchError(
                f"The creator of {self.label} was asked for key {arguments[0]!r} and made a {self.row_class.__name__} "
                f"whose {self.key_attr!r} is {getattr(row, self.key_attr)!r}; it must set the key that it is given"
            )

    def _discard(self, rows: list[Any]) -> None:
        """Undo what back references and creators may have done with rows that nobody will use."""
        for row in rows:
            state = inspect(row, raiseerr=False)
            if state is None or state.has_identity:
                continue
            if isinstance(row, self.row_class):
                for prop in state.mapper.relationships:
                    if not prop.uselist and not prop.viewonly and state.dict.get(prop.key) is not None:
                        setattr(row, prop.key, None)
            if (session := object_session(row)) is not None and row in session.new:
                session.expunge(row)


class Groups:
    """Rows by member: objects by identity, values by equality, unhashable values included."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._by_identity: Final = endpoint.member_class is not None
        self._hashed: Final = dict[Hashable, tuple[Any, list[Any]]]()
        self._others: Final = list[tuple[Any, list[Any]]]()

    def __getitem__(self, member: Any) -> list[Any]:
        if self._by_identity:
            return self._hashed.setdefault(id(member), (member, []))[1]
        try:
            return self._hashed.setdefault(member, (member, []))[1]
        except TypeError:
            for known, rows in self._others:
                if known == member:
                    return rows
            self._others.append((member, []))
            return self._others[-1][1]

    def __contains__(self, member: Any) -> bool:
        if self._by_identity:
            return id(member) in self._hashed
        try:
            return member in self._hashed
        except TypeError:
            return any(known == member for known, _ in self._others)

    def items(self) -> Iterator[tuple[Any, list[Any]]]:
        yield from self._hashed.values()
        yield from self._others


# -- what the mapping says ---------------------------------------------------------------------------


def member_class_of(attribute: Any) -> tuple[type[Any] | None, bool]:
    """The class that members must be of, if the attribute is a relationship to one object, and whether None will do."""
    relationship, _ = _mapped(attribute)
    if relationship is None:
        return None, True
    return relationship.mapper.class_, any(column.nullable for column in _columns(relationship.local_columns))


def is_unique(owner: RelationshipProperty[Any], attribute: Any) -> bool:
    """Whether a key of the association table consists of the owner's foreign key and the member's columns."""
    _, columns = _mapped(attribute)
    value, table = set(columns), owner.mapper.local_table
    if not isinstance(table, Table):
        return False
    keys = [
        table.primary_key.columns,
        *(each.columns for each in table.constraints if isinstance(each, UniqueConstraint)),
        *(each.columns for each in table.indexes if each.unique and not _is_partial(each)),
    ]
    allowed = value | set(_columns(owner.remote_side))
    return any(value & set(key) and set(key) <= allowed for key in keys)


def _mapped(attribute: Any) -> tuple[RelationshipProperty[Any] | None, list[Column[Any]]]:
    """The relationship to one object that an attribute is, if it is one, and the columns that it consists of."""
    prop: Any = attribute.property if _is(attribute, InstrumentedAttribute) else None
    if _is(prop, RelationshipProperty) and not prop.uselist:
        return prop, list(_columns(prop.local_columns))
    return None, list(_columns(prop.columns)) if _is(prop, ColumnProperty) else []


def _is(value: object, kind: type[object]) -> bool:
    """``isinstance()`` that leaves `Any` as it is: checkers narrow it to a class with unknown parameters."""
    return isinstance(value, kind)


def _sessions(objects: Iterable[Any]) -> set[Session]:
    states = (inspect(each, raiseerr=False) for each in objects)
    return {state.session for state in states if isinstance(state, InstanceState) and state.session is not None}


def _is_partial(index: Any) -> bool:
    return any(name.endswith("_where") and value is not None for name, value in index.dialect_kwargs.items())


def _columns(columns: Iterable[Any]) -> Iterator[Column[Any]]:
    return (column for column in columns if _is(column, Column))
