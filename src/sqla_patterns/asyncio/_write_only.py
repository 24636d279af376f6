"""`count`, `exists`, `page`, `add_all`, `delete_where` and `stream_batches`, which do not load the collection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from sqlalchemy import ColumnExpressionArgument, CursorResult, func, inspect, literal, tuple_
from sqlalchemy.orm import Session, WriteOnlyCollection, scoped_session

from .. import _sqlalchemy
from .._session import SyncSession, resolve_any_session, resolve_session
from .._typing import AnyAttribute, AnyMapper, AnySelect
from ..exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

T = TypeVar("T")


def count(session: SyncSession, collection: WriteOnlyCollection[Any], *criteria: ColumnExpressionArgument[bool]) -> int:
    """Return the number of members that meet the criteria; one SELECT COUNT.

    Args:
        session: The session.
        collection: The attribute of an object, such as ``author.books``.
        criteria: Conditions on the member, all of which must hold.
    """
    session = resolve_session(session, "count")
    statement = _select(collection, "count").where(*criteria)
    counted = statement.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    return int(session.scalar(counted) or 0)


def exists(
    session: SyncSession, collection: WriteOnlyCollection[Any], *criteria: ColumnExpressionArgument[bool]
) -> bool:
    """Return whether a member meets the criteria; one SELECT of at most one row.

    Args:
        session: The session.
        collection: The attribute of an object, such as ``author.books``.
        criteria: Conditions on the member, all of which must hold.
    """
    session = resolve_session(session, "exists")
    # Not by EXISTS, inside of which SQLAlchemy 2.0 applies no loader criteria.
    statement = _select(collection, "exists").where(*criteria).order_by(None).limit(1)
    return session.scalar(statement.with_only_columns(literal(1), maintain_column_froms=True)) is not None


def page(
    session: SyncSession,
    collection: WriteOnlyCollection[T],
    *,
    size: int,
    number: int = 1,
    order_by: ColumnExpressionArgument[Any] | Sequence[ColumnExpressionArgument[Any]] | None = None,
) -> Sequence[T]:
    """Return one page of the members; one SELECT with LIMIT and OFFSET.

    The primary key comes last in the order, so that no member is on two pages or on none. A page far down is slow,
    because the database reads all pages above it: remember the last key instead.

    Args:
        session: The session.
        collection: The attribute of an object, such as ``author.books``.
        size: How many members a page has.
        number: Which page, from 1.
        order_by: What comes before the primary key; the order of the relationship unless given.

    Raises:
        InvalidArgumentError: `size` or `number` is no positive integer.
    """
    session = resolve_session(session, "page")
    _check_positive(size, "page", "size")
    _check_positive(number, "page", "number")
    statement = _select(collection, "page")
    if order_by is not None:
        given: Sequence[Any] = cast("Sequence[Any]", order_by) if isinstance(order_by, Sequence) else [order_by]
        statement = statement.order_by(None).order_by(*given)
    ordered = statement.order_by(*_pk(statement)).limit(size).offset((number - 1) * size)
    return _sqlalchemy.all_scalars(session.execute(ordered))


def add_all(session: SyncSession, collection: WriteOnlyCollection[T], objects: Iterable[T]) -> None:
    """Add members and flush once, so that a mistake shows here; the collection is not loaded.

    Args:
        session: The session.
        collection: The attribute of an object, such as ``author.books``.
        objects: The members.
    """
    session = resolve_session(session, "add_all")
    _check_collection(collection, "add_all")
    collection.add_all(objects)
    session.flush()


def delete_where(
    session: SyncSession, collection: WriteOnlyCollection[Any], *criteria: ColumnExpressionArgument[bool]
) -> int:
    """Delete the members that meet the criteria and return how many they were; one DELETE, and a flush before it.

    Objects in the session are brought into step. The ORM's cascades do not run: members of members go by the database's
    own ``ON DELETE``.

    Args:
        session: The session.
        collection: The attribute of an object, such as ``author.books``.
        criteria: Conditions on the member, all of which must hold; without any, all members are deleted.
    """
    session = resolve_session(session, "delete_where")
    _check_collection(collection, "delete_where")
    result = session.execute(collection.delete().where(*criteria))
    return cast("CursorResult[Any]", result).rowcount


@overload
def stream_batches(
    session: SyncSession, collection: WriteOnlyCollection[T], size: int = 1000
) -> Iterator[Sequence[T]]: ...
@overload
def stream_batches(
    session: AsyncSession | async_scoped_session[Any], collection: WriteOnlyCollection[T], size: int = 1000
) -> AsyncIterator[Sequence[T]]: ...
def stream_batches(session: Any, collection: WriteOnlyCollection[T], size: int = 1000) -> Any:
    """Iterate over the members in batches, by primary key: ``for`` with a session, ``async for`` with an async one.

    One SELECT for each batch, and none for the end unless the last one is full. There is no cursor that stays open: the
    loop may execute statements, commit, or be left at any time. Members that come meanwhile are seen if their key is
    still ahead.

    Args:
        session: A session of either kind.
        collection: The attribute of an object, such as ``author.books``.
        size: How many members a batch has at most.

    Raises:
        InvalidArgumentError: `size` is no positive integer.
    """
    plain = resolve_any_session(session, "stream_batches")
    _check_positive(size, "stream_batches", "size")
    batches = _Batches(plain, _select(collection, "stream_batches"), size)
    if isinstance(session, (Session, scoped_session)):
        return iter(batches)
    # An async_scoped_session may be asked in another task later on.
    return batches.iterate(session.registry() if hasattr(session, "registry") else session)


class _Batches:
    """The batches of one collection; each is looked for when it is asked for."""

    def __init__(self, session: Session, statement: AnySelect, size: int) -> None:
        self._session: Final = session
        self._pk: Final = _pk(statement)
        self._statement: Final = statement.order_by(None).order_by(*self._pk).limit(size)
        self._size: Final = size
        self._last: tuple[Any, ...] | None = None
        self._ended = False

    def __iter__(self) -> Iterator[Sequence[Any]]:
        while batch := self._next(self._session):
            yield batch

    async def iterate(self, session: AsyncSession) -> AsyncIterator[Sequence[Any]]:
        while batch := await session.run_sync(self._next):
            yield batch

    def _next(self, session: Session) -> Sequence[Any]:
        if self._ended:
            return []
        statement = self._statement
        if self._last is not None:
            after: Any = tuple_(*self._pk) > self._last if len(self._pk) > 1 else self._pk[0] > self._last[0]
            statement = statement.where(after)
        found = _sqlalchemy.all_scalars(session.execute(statement))
        self._ended = len(found) < self._size
        if found:
            # Now, because the loop may expire or delete the object.
            self._last = tuple(inspect(found[-1]).identity)
        return found


def _select(collection: WriteOnlyCollection[Any], function: str) -> AnySelect:
    _check_collection(collection, function)
    return collection.select()


def _check_collection(collection: object, function: str) -> None:
    if not isinstance(collection, WriteOnlyCollection):
        raise InvalidArgumentError(
            f"{function}() needs a write-only collection and was given {collection!r}; pass the attribute of an "
            "object whose relationship is annotated as WriteOnlyMapped"
        )


def _pk(statement: AnySelect) -> list[AnyAttribute]:
    """Return the primary key of the class that a statement selects."""
    entity: Any = statement.column_descriptions[0]["entity"]
    mapper: AnyMapper = inspect(entity).mapper
    return [getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]


def _check_positive(value: object, function: str, name: str) -> None:
    if not isinstance(value, int) or value < 1:
        raise InvalidArgumentError(f"{function}() needs a {name} of at least 1 and was given {value!r}")
