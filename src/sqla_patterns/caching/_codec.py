"""Codecs turn raw rows into bytes and back; the default one runs nothing that the bytes contain."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import ipaddress
import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable
from uuid import UUID
from zoneinfo import ZoneInfo

from ._driver_values import rebuild_range, rebuildable_content
from ._errors import UnsafeCodecError

#: What json.loads() returns.
Json: TypeAlias = Any


class UnencodableValueError(TypeError):
    """A codec has no form for a value; the result is then not cached."""


class CorruptEntryError(ValueError):
    """Bytes are not what the codec wrote; the entry is then a miss."""


@runtime_checkable
class Codec(Protocol):
    """A codec turns rows into bytes and back; ``loads(dumps(rows))`` has equal values of the same types."""

    @property
    def name(self) -> str:
        """The name, which is a part of the cache key: entries of another codec are not found."""
        ...

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        """Return bytes for the rows, or raise `UnencodableValueError`."""
        ...

    def loads(self, data: bytes) -> Sequence[Sequence[object]]:
        """Return the rows, or raise `CorruptEntryError`; ``data`` may have been written by anyone."""
        ...


# -- values --------------------------------------------------------------------------------------

_PLAIN: Final = frozenset({type(None), bool, int, float, str})


def _from_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _to_timedelta(value: Sequence[int]) -> timedelta:
    return timedelta(*value)


def _from_bytes(value: bytes | bytearray | memoryview) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _to_bytearray(value: str) -> bytearray:
    return bytearray(binascii.a2b_base64(value))


def _from_datetime(value: datetime) -> str:
    """Return ISO 8601 with the offset, and the name of the time zone if it has one."""
    zone = value.tzinfo
    if zone is None or type(zone).__module__ == "datetime":
        return f"{value.isoformat()}#1" if value.fold else value.isoformat()
    if type(zone) is ZoneInfo and zone.key:
        return f"{value.isoformat()}#{value.fold}{zone.key}"
    raise _unknown_zone(value)


def _unknown_zone(value: datetime | time) -> UnencodableValueError:
    # Without the value: the text is counted as a reason, and may appear in logs and metrics.
    zone = type(value.tzinfo)
    return UnencodableValueError(
        f"a {type(value).__name__} with a time zone of {zone.__module__}.{zone.__qualname__} has no form in a cache "
        "entry"
    )


def _to_datetime(value: str) -> datetime:
    text, mark, rest = value.partition("#")
    found = datetime.fromisoformat(text)
    if not mark:
        return found
    zone = ZoneInfo(rest[1:]) if rest[1:] else found.tzinfo
    return found.replace(tzinfo=zone, fold=int(rest[:1]))


def _from_time(value: time) -> str:
    if value.tzinfo is not None and type(value.tzinfo).__module__ != "datetime":
        raise _unknown_zone(value)
    return f"{value.isoformat()}#1" if value.fold else value.isoformat()


def _to_time(value: str) -> time:
    text, mark, _ = value.partition("#")
    found = time.fromisoformat(text)
    return found.replace(fold=1) if mark else found


class _Kind(NamedTuple):
    """How values of one type are written as JSON.

    Attributes:
        mark: The mark of a column of such values.
        type_: The type.
        encode: Converts a value to JSON.
        decode: Converts JSON to a value.
    """

    mark: str
    type_: type
    encode: Callable[[Any], Json]
    decode: Callable[[Json], object]


_KINDS: Final = (
    _Kind("M", datetime, _from_datetime, _to_datetime),
    _Kind("m", datetime, _from_datetime, datetime.fromisoformat),
    _Kind("D", date, date.isoformat, date.fromisoformat),
    _Kind("T", time, _from_time, _to_time),
    _Kind("I", timedelta, _from_timedelta, _to_timedelta),
    _Kind("N", Decimal, str, Decimal),
    _Kind("U", UUID, str, UUID),
    _Kind("B", bytes, _from_bytes, binascii.a2b_base64),
    _Kind("A", bytearray, _from_bytes, _to_bytearray),
    _Kind("V", memoryview, _from_bytes, binascii.a2b_base64),
    _Kind("4", ipaddress.IPv4Address, str, ipaddress.IPv4Address),
    _Kind("6", ipaddress.IPv6Address, str, ipaddress.IPv6Address),
    _Kind("i4", ipaddress.IPv4Interface, str, ipaddress.IPv4Interface),
    _Kind("i6", ipaddress.IPv6Interface, str, ipaddress.IPv6Interface),
    _Kind("n4", ipaddress.IPv4Network, str, ipaddress.IPv4Network),
    _Kind("n6", ipaddress.IPv6Network, str, ipaddress.IPv6Network),
)
# Of the two kinds of datetimes the first one.
_BY_TYPE: Final = {kind.type_: kind for kind in reversed(_KINDS)}
_DECODE: Final = {kind.mark: kind.decode for kind in _KINDS}


def _kind(type_: type) -> _Kind | None:
    found = _BY_TYPE.get(type_)
    # asyncpg returns instances of a subclass, which behaves like UUID in every respect.
    return _BY_TYPE[UUID] if found is None and issubclass(type_, UUID) else found


def _tagged(value: Any) -> Json:
    """Return a value as JSON that says its type; scalars of JSON are returned as they are."""
    type_: type = value.__class__
    if type_ in _PLAIN:
        return value
    if type_ is list:
        return ["l", [_tagged(each) for each in value]]
    if type_ is tuple:
        return ["t", [_tagged(each) for each in value]]
    if type_ is dict:
        return ["d", [[_tagged(key), _tagged(each)] for key, each in value.items()]]
    kind = _kind(type_)
    if kind is not None:
        return [kind.mark, kind.encode(value)]
    range_ = rebuildable_content(value)
    if range_ is None:
        raise UnencodableValueError(f"{type_.__module__}.{type_.__qualname__} has no form in a cache entry")
    mark, content = range_
    return [mark, [_tagged(each) for each in content]]


def _untagged(value: Json) -> object:
    """Return the value that `_tagged()` has written."""
    if not isinstance(value, list):
        return value
    mark, inner = cast("tuple[str, Json]", value)
    if mark == "l":
        return [_untagged(each) for each in inner]
    if mark == "t":
        return tuple(_untagged(each) for each in inner)
    if mark == "d":
        return {_untagged(key): _untagged(each) for key, each in inner}
    decode = _DECODE.get(mark)
    return rebuild_range(mark, map(_untagged, inner)) if decode is None else decode(inner)


class TypedCodec:
    """The codec used unless another is given: JSON, column by column, with the types of the values.

    It knows what drivers return: numbers, strings, bytes, dates and times, intervals, `Decimal`, `UUID`, network
    addresses, ranges of psycopg and asyncpg, and lists and dictionaries of them. Values of an ``Enum`` or a
    ``TypeDecorator`` column are kept in the form that the database has. A result with a value of another type is not
    cached.

    >>> codec = TypedCodec()
    >>> codec.loads(codec.dumps([(1, date(2024, 2, 29)), (2, None)]))
    [(1, datetime.date(2024, 2, 29)), (2, None)]
    """

    name = "typed1"

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        """Return JSON in UTF-8."""
        columns = [_column(column) for column in zip(*rows, strict=True)]
        try:
            text = json.dumps([len(rows), columns], ensure_ascii=False, separators=(",", ":"))
        except ValueError as error:  # an int of thousands of digits
            raise UnencodableValueError(str(error)) from error
        return text.encode("utf-8", "surrogatepass")

    def loads(self, data: bytes) -> Sequence[Sequence[object]]:
        """Return the rows as tuples."""
        try:
            count, columns = json.loads(data.decode("utf-8", "surrogatepass"))
            rows: list[Sequence[object]] = list(zip(*(_values(*column) for column in columns), strict=True))
            if len(rows) != count:
                # Rows without columns have no values to count them by.
                rows = [()] * count if not columns else []
        # Decoding raises these on bytes that this codec did not write: malformed text or structure, and values out of
        # range. ImportError: a range of a driver that is not installed here.
        except (
            ValueError,
            TypeError,
            LookupError,
            ArithmeticError,
            AttributeError,
            RecursionError,
            ImportError,
        ) as error:
            raise CorruptEntryError(f"not an entry of this codec: {error}") from error
        if len(rows) != count:
            raise CorruptEntryError(f"{len(rows)} rows where {count} are announced")
        return rows


def _column(values: Sequence[object]) -> list[Json]:
    """Return the mark of a column and its values as JSON."""
    types: set[type] = set(map(type, values))
    if types <= _PLAIN:
        return ["", values]
    optional = type(None) in types
    types.discard(type(None))
    kind = _kind(types.pop()) if len(types) == 1 else None
    if kind is None:
        return ["*", [_tagged(value) for value in values]]
    mark = kind.mark
    converted = [None if value is None else kind.encode(value) for value in values]
    if mark == "M" and not any("#" in value for value in converted if value is not None):
        mark = "m"  # plain ISO 8601, which the faster constructor in C reads
    return [f"{mark}?" if optional else mark, converted]


def _values(mark: str, values: list[Json]) -> Iterable[object]:
    """Return the values of a column."""
    if mark == "":
        return values
    if mark == "*":
        return [_untagged(value) for value in values]
    if mark.endswith("?"):
        convert = _DECODE[mark[:-1]]
        return [None if value is None else convert(value) for value in values]
    return map(_DECODE[mark], values)


# -- pickle --------------------------------------------------------------------------------------

_SHORTEST_SECRET: Final = 16
_DIGEST: Final = hashlib.sha256().digest_size


class PickleCodec:
    """A codec that pickles and signs rows, for values that `TypedCodec` does not know: unpickling may run any code.

    Args:
        secret: At least 16 bytes that every process of the application has, and that is secret to others. An entry that
            is not signed with it is a miss and is never unpickled.

    Raises:
        UnsafeCodecError: There is no secret, or it is too short.
    """

    name = "pickle1"

    def __init__(self, secret: str | bytes | None = None) -> None:
        key = secret.encode() if isinstance(secret, str) else secret
        if key is None or len(key) < _SHORTEST_SECRET:
            raise UnsafeCodecError(
                "PickleCodec unpickles cache entries, which runs whatever they contain; give it a secret of at least "
                f"{_SHORTEST_SECRET} bytes to sign them with, PickleCodec(secret=...), or use TypedCodec."
            )
        self._secret: Final = key

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        """Return the signature and the pickle."""
        try:
            data = pickle.dumps([tuple(row) for row in rows], protocol=pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise UnencodableValueError(str(error)) from error
        return self._sign(data) + data

    def loads(self, data: bytes) -> Sequence[Sequence[object]]:
        """Check the signature, and return the unpickled rows."""
        signature, pickled = data[:_DIGEST], data[_DIGEST:]
        if not hmac.compare_digest(signature, self._sign(pickled)):
            raise CorruptEntryError("not signed with the secret of this codec")
        try:
            rows: Sequence[Sequence[object]] = pickle.loads(pickled)
        # Signed, but with a class that was removed or has changed.
        except (
            pickle.UnpicklingError,
            ImportError,
            AttributeError,
            TypeError,
            ValueError,
            LookupError,
            EOFError,
        ) as error:
            raise CorruptEntryError(str(error)) from error
        return rows

    def _sign(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, "sha256")
