"""`Endpoint`: what one proxy on one class leads to, and the rules for the members of the proxy.

It knows the association class and its attribute for the member, makes and compares association objects, and refuses
members that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MappingView, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard
from weakref import ReferenceType, WeakKeyDictionary

from sqlalchemy import UniqueConstraint, inspect
from sqlalchemy.orm import (
    ColumnProperty,
    InstanceState,
    InstrumentedAttribute,
    PassiveFlag,
    RelationshipProperty,
    Session,
    object_session,
)
from sqlalchemy.orm.attributes import get_history

from .._sql import is_column, is_table
from .._sqlalchemy import state_of
from .._typing import AnyColumn, AnyMapper, AnyRelationship, AnyState, MappedClass
from ..exceptions import DuplicateKeyError, InvalidArgumentError, KeyMismatchError

#: Stands for a member that is not in memory. A row whose member is not in the session cannot be the row of one that is.
_NOT_LOADED: Final = object()

# What the unit of work uses to compare foreign keys: it looks in the identity map, also at expired objects, and loads
# nothing.
_IN_MEMORY: Final = PassiveFlag.PASSIVE_NO_FETCH_RELATED | PassiveFlag.NO_RAISE


class NestedState:
    """State that all views of the members of one row share, as long as the row is in its collection with these members.

    Rows refer to it weakly: only while somebody holds a view must the members be read before they go.
    """

    #: The members that the row had when it was removed or given others; None as long as the views are live.
    former_members: object = None


class Nested:
    """A view that may be the member of another proxy."""

    #: Set where it is one.
    nested_state: NestedState | None = None


def name_of(mapper: AnyMapper, proxy: object) -> str | None:
    """Return the attribute under which a class has `proxy`, an association proxy."""
    return next((name for name, found in mapper.all_orm_descriptors.items() if found is proxy), None)


@dataclass(frozen=True)
class Endpoint:
    """The far end of one proxy on one class: what members are, and how association rows are made and compared."""

    #: ``Order.items``, for messages.
    label: str
    #: The name of the relationship to the association class.
    relationship: str
    row_class: MappedClass
    value_attr: str
    #: The attribute of the association class that holds the key, for dictionaries.
    key_attr: str | None
    #: What members must be, or None if they are values of a column.
    member_class: MappedClass | None
    #: Whether a member may be None.
    optional: bool
    #: Whether the tables allow a member only once in a collection.
    unique: bool
    #: The endpoint of the members, where these are collections of another proxy of this package.
    inner: Endpoint | None
    #: Whether members are collections that go on to change with their row: views of proxies, or relationships.
    live: bool
    #: Makes an association row from the owner, the key of a dictionary and the member.
    creator: Callable[..., object]
    #: Whether that is the user's ``owner_creator``, which may put the row into the owner's collection by itself.
    takes_owner: bool
    #: Whether the rows of members that stay are kept when the collection is reassigned.
    diff: bool
    #: By the state of a row. Not in the row's own `InstanceState.info`, which is pickled with the row.
    nested_states: WeakKeyDictionary[AnyState, ReferenceType[NestedState]] = field(
        default_factory=WeakKeyDictionary[AnyState, ReferenceType[NestedState]], compare=False
    )

    # -- members ---------------------------------------------------------------------------------

    def load_member(self, row: object) -> object:
        """Return the member of a row, loaded if need be."""
        member = getattr(row, self.value_attr)
        if self.inner is not None and isinstance(member, Nested):
            member.nested_state = self._share_state(row)
        return member

    def _share_state(self, row: object) -> NestedState:
        """Return what the views of the members of a row share; it is made with the first view that somebody holds."""
        state = state_of(row)
        reference = self.nested_states.get(state)
        shared = None if reference is None else reference()
        if shared is None:
            shared = NestedState()
            self.nested_states[state] = ReferenceType(shared)
        return shared

    def detach_views(self, rows: Iterable[object]) -> None:
        """Let views that somebody holds keep their members, before these rows go or are given others."""
        if self.inner is None:
            return
        for row in rows:
            reference = self.nested_states.pop(state_of(row), None)
            if reference is not None and (shared := reference()) is not None:
                shared.former_members = self.copy_live(getattr(row, self.value_attr))

    def find_member(self, row: object) -> object:
        """Return the member of a row if that is in memory, without any SQL."""
        if self.member_class is None:
            return getattr(row, self.value_attr)
        # Where it nearly always is; this is the inner loop of adding a member to a list that has many.
        if self.value_attr in row.__dict__:
            return row.__dict__[self.value_attr]
        history = get_history(row, self.value_attr, passive=_IN_MEMORY)
        found: list[object] = [*(history.added or ()), *(history.unchanged or ())]
        return found[0] if found else _NOT_LOADED

    def is_same(self, one: object, other: object) -> bool:
        """Return whether two members are one: objects by identity, values of columns by equality."""
        return one is other or (self.member_class is None and bool(one == other))

    def group_rows(self, rows: Iterable[object]) -> MemberGroups:
        """Return the rows by their members."""
        groups = MemberGroups(self)
        for row in rows:
            groups[self.find_member(row)].append(row)
        return groups

    def copy_live(self, member: object) -> object:
        """Return a plain collection with the members of one that is live, to any depth; anything else as it is.

        A view is empty when its row is gone, and has other members when they are assigned: what is handed out of the
        collection, or comes in, must have been read before anything changes.
        """
        if not self.live or isinstance(member, str | bytes):
            return member
        if isinstance(member, Nested) and member.nested_state is not None:
            former_members = member.nested_state.former_members
            if former_members is not None:
                return former_members
        inner = self.inner
        if is_mapping(member):
            return {key: each if inner is None else inner.copy_live(each) for key, each in member.items()}
        if not is_iterable(member):
            return member
        members = [each if inner is None else inner.copy_live(each) for each in member]
        return set(members) if _is(member, Set) and not _is(member, MappingView) else members

    # -- bad input -------------------------------------------------------------------------------

    def check_members(self, members: object) -> list[object]:
        """Return `members` as a list, each of them fit to be one."""
        if isinstance(members, str | bytes) or is_mapping(members) or not is_iterable(members):
            raise InvalidArgumentError(
                f"{self.label} takes a collection of members, and {members!r} is none; put a single member in a list"
            )
        return [self.check_member(each) for each in members]

    def check_mapping(self, members: Any) -> dict[object, object]:
        """Return `members` as a dictionary, each of its values fit to be a member."""
        try:
            found: dict[object, object] = dict(members)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"{self.label} takes a mapping or pairs of key and member, and {members!r} is neither"
            ) from error
        return {key: self.check_member(each) for key, each in found.items()}

    def check_member(self, member: object) -> object:
        """Return the member, or refuse what cannot be one."""
        member = self.copy_live(member)
        if self.inner is not None:
            if self.inner.key_attr is None:
                self.inner.check_members(member)
            else:
                self.inner.check_mapping(member)
        elif self.member_class is not None and not isinstance(member, self.member_class):
            if member is None and self.optional:
                return member
            raise InvalidArgumentError(
                f"{self.label} has members of {self.member_class.__name__}, and {member!r} is none; "
                f"if it is the association object itself, put it into {self.relationship!r}"
            )
        return member

    def refuse_duplicates(self, rows: Iterable[object], new: Iterable[object]) -> None:
        """Refuse new members that the tables allow once and that come twice or have a row, before anything is made."""
        if not self.unique:
            return
        groups = MemberGroups(self)
        for member in new:
            groups[member].append(member)
        for row in rows:
            if (member := self.find_member(row)) in groups:
                groups[member].append(row)
        for member, found in groups.items():
            if len(found) > 1 and member is not None:  # a unique key may hold NULL any number of times
                raise DuplicateKeyError(
                    f"{self.label} would hold {member!r} {len(found)} times, and a key of the table of "
                    f"{self.row_class.__name__} allows it once for each owner; add it once"
                )

    # -- association rows ------------------------------------------------------------------------

    def create_rows(self, owner: object, calls: Iterable[tuple[object, ...]]) -> list[object]:
        """Return one new association row for the arguments of each call; if one cannot be made, none is left behind."""
        calls, made = list(calls), list[object]()
        with ExitStack() as stack:
            # Creators may load what they need; that must not flush rows that back references know and no collection
            # holds yet.
            for session in _sessions_of((owner, *(arguments[-1] for arguments in calls))):
                stack.enter_context(session.no_autoflush)
            undo = stack.enter_context(ExitStack())
            undo.callback(self._discard, made)
            for arguments in calls:
                made.append(row := self.creator(owner, *arguments))
                self._check_row(row, arguments)
            undo.pop_all()
        return made

    def _check_row(self, row: object, arguments: tuple[object, ...]) -> None:
        if not isinstance(row, self.row_class):
            raise InvalidArgumentError(
                f"The creator of {self.label} returned {row!r}; it must return a {self.row_class.__name__}"
            )
        if self.key_attr is not None and getattr(row, self.key_attr) != arguments[0]:
            raise KeyMismatchError(
                f"The creator of {self.label} was asked for key {arguments[0]!r} and made a {self.row_class.__name__} "
                f"whose {self.key_attr!r} is {getattr(row, self.key_attr)!r}; it must set the key that it is given"
            )

    def _discard(self, rows: list[object]) -> None:
        """Undo what back references and creators may have done with rows that will not be used."""
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


class MemberGroups:
    """Rows by their members: objects by identity, values by equality, unhashable values included."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._by_identity: Final = endpoint.member_class is not None
        self._hashed: Final = dict[Hashable, tuple[object, list[object]]]()
        self._others: Final = list[tuple[object, list[object]]]()

    def __getitem__(self, member: object) -> list[object]:
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

    def __contains__(self, member: object) -> bool:
        if self._by_identity:
            return id(member) in self._hashed
        try:
            return member in self._hashed
        except TypeError:
            return any(known == member for known, _ in self._others)

    def items(self) -> Iterator[tuple[object, list[object]]]:
        """Yield each member with its rows."""
        yield from self._hashed.values()
        yield from self._others


# -- what the mapping says ---------------------------------------------------------------------------


def member_class_of(attribute: object) -> tuple[MappedClass | None, bool]:
    """Return the class of members if the attribute is a relationship to one object, and whether they may be None."""
    relationship, _ = _mapped_as(attribute)
    if relationship is None:
        return None, True
    return relationship.mapper.class_, any(column.nullable for column in _only_columns(relationship.local_columns))


def is_unique(owner: AnyRelationship, attribute: object) -> bool:
    """Return whether a key of the association table consists of the owner's foreign key and the member's columns."""
    _, columns = _mapped_as(attribute)
    value, table = set(columns), owner.mapper.local_table
    if not is_table(table):
        return False
    keys = [
        table.primary_key.columns,
        *(each.columns for each in table.constraints if isinstance(each, UniqueConstraint)),
        *(each.columns for each in table.indexes if each.unique and not _is_partial(each)),
    ]
    allowed = value | set(_only_columns(owner.remote_side))
    return any(value & set(key) and set(key) <= allowed for key in keys)


def _mapped_as(attribute: Any) -> tuple[AnyRelationship | None, list[AnyColumn]]:
    """Return the relationship to one object that an attribute is, if it is one, and the columns that it consists of."""
    prop: Any = attribute.property if _is(attribute, InstrumentedAttribute) else None
    if _is(prop, RelationshipProperty) and not prop.uselist:
        return prop, list(_only_columns(prop.local_columns))
    return None, list(_only_columns(prop.columns)) if _is(prop, ColumnProperty) else []


def is_iterable(value: object) -> TypeGuard[Iterable[object]]:
    """Return whether a value can be iterated over."""
    return hasattr(value, "__iter__")


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Return whether a value is a mapping."""
    return isinstance(value, Mapping)


def _is(value: object, kind: type[object]) -> bool:
    """Do what ``isinstance()`` does and leave `Any` as it is: checkers narrow it to a class with unknown parameters."""
    return isinstance(value, kind)


def _sessions_of(objects: Iterable[Any]) -> set[Session]:
    states = (inspect(each, raiseerr=False) for each in objects)
    return {state.session for state in states if isinstance(state, InstanceState) and state.session is not None}


def _is_partial(index: Any) -> bool:
    return any(name.endswith("_where") and value is not None for name, value in index.dialect_kwargs.items())


def _only_columns(columns: Iterable[object]) -> Iterator[AnyColumn]:
    return (column for column in columns if is_column(column))
