"""Turn raw rows to bytes and back, without running anything that the bytes contain."""

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
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable
from uuid import UUID
from zoneinfo import ZoneInfo

from ._errors import UnsafeCodecError

__all__ = ("Codec", "CorruptEntryError", "PickleCodec", "TypedCodec", "UnencodableValueError")

Rows: TypeAlias = "Sequence[Sequence[Any]]"


class UnencodableValueError(TypeError):
    """A codec has no form for a value; the result is then not cached."""


class CorruptEntryError(ValueError):
    """Bytes are not what the codec wrote; the entry is then a miss."""


@runtime_checkable
class Codec(Protocol):
    """Turns rows to bytes and back; ``loads(dumps(rows))`` has equal values of the same types."""

    @property
    def name(self) -> str:
        """Goes into the key: entries of another codec are not found."""
        ...

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        """Return bytes for the rows, or raise `UnencodableValueError`."""
        ...

    def loads(self, data: bytes) -> Sequence[Sequence[object]]:
        """Return the rows, or raise `CorruptEntryError`; anybody may have written ``data``."""
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
    """ISO 8601, with the name of a time zone that has one and the offset that it has at that time."""
    zone = value.tzinfo
    if zone is None or type(zone).__module__ == "datetime":
        return f"{value.isoformat()}#1" if value.fold else value.isoformat()
    if type(zone) is ZoneInfo and zone.key:
        return f"{value.isoformat()}#{value.fold}{zone.key}"
    raise UnencodableValueError(f"{value!r} has a time zone that no other process can be told of")


def _to_datetime(value: str) -> datetime:
    text, mark, rest = value.partition("#")
    found = datetime.fromisoformat(text)
    if not mark:
        return found
    zone = ZoneInfo(rest[1:]) if rest[1:] else found.tzinfo
    return found.replace(tzinfo=zone, fold=int(rest[:1]))


def _from_time(value: time) -> str:
    if value.tzinfo is not None and type(value.tzinfo).__module__ != "datetime":
        raise UnencodableValueError(f"{value!r} has a time zone that no other process can be told of")
    return f"{value.isoformat()}#1" if value.fold else value.isoformat()


def _to_time(value: str) -> time:
    text, mark, _ = value.partition("#")
    found = time.fromisoformat(text)
    return found.replace(fold=1) if mark else found


#: The mark of a column, its type, to JSON, from JSON.
_KINDS: Final[tuple[tuple[str, type[Any], Callable[[Any], Any], Callable[[Any], Any]], ...]] = (
    ("M", datetime, _from_datetime, _to_datetime),
    ("m", datetime, _from_datetime, datetime.fromisoformat),
    ("D", date, date.isoformat, date.fromisoformat),
    ("T", time, _from_time, _to_time),
    ("I", timedelta, _from_timedelta, _to_timedelta),
    ("N", Decimal, str, Decimal),
    ("U", UUID, str, UUID),
    ("B", bytes, _from_bytes, binascii.a2b_base64),
    ("A", bytearray, _from_bytes, _to_bytearray),
    ("V", memoryview, _from_bytes, binascii.a2b_base64),
    ("4", ipaddress.IPv4Address, str, ipaddress.IPv4Address),
    ("6", ipaddress.IPv6Address, str, ipaddress.IPv6Address),
    ("i4", ipaddress.IPv4Interface, str, ipaddress.IPv4Interface),
    ("i6", ipaddress.IPv6Interface, str, ipaddress.IPv6Interface),
    ("n4", ipaddress.IPv4Network, str, ipaddress.IPv4Network),
    ("n6", ipaddress.IPv6Network, str, ipaddress.IPv6Network),
)
_BY_TYPE: Final = {kind[1]: kind for kind in reversed(_KINDS)}
_DECODE: Final = {kind[0]: kind[3] for kind in _KINDS}


def _kind(type_: type[Any]) -> tuple[str, type[Any], Callable[[Any], Any], Callable[[Any], Any]] | None:
    found = _BY_TYPE.get(type_)
    # asyncpg has a UUID of its own, which is one in every respect.
    return _BY_TYPE[UUID] if found is None and issubclass(type_, UUID) else found


def _tagged(value: Any) -> Any:
    """Any value as JSON that says its type; scalars of JSON stand for themselves."""
    type_: type[Any] = cast("Any", type(value))
    if type_ in _PLAIN:
        return value
    if type_ is list:
        return ["l", [_tagged(each) for each in value]]
    if type_ is tuple:
        return ["t", [_tagged(each) for each in value]]
    if type_ is dict:
        return ["d", [[_tagged(key), _tagged(each)] for key, each in value.items()]]
    kind = _kind(type_)
    if kind is None:
        raise UnencodableValueError(f"{type_.__module__}.{type_.__qualname__} has no form in a cache entry")
    return [kind[0], kind[2](value)]


def _untagged(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    mark, inner = cast("tuple[str, Any]", value)
    if mark == "l":
        return [_untagged(each) for each in inner]
    if mark == "t":
        return tuple(_untagged(each) for each in inner)
    if mark == "d":
        return {_untagged(key): _untagged(each) for key, each in inner}
    return _DECODE[mark](inner)


class TypedCodec:
    """The codec used unless another is given: JSON, column by column, with the types of the values.

    It knows what drivers return: numbers, strings, bytes, dates and times, intervals, `Decimal`, `UUID`, network addresses, and lists and
    dictionaries of them. Values of an ``Enum`` or a ``TypeDecorator`` column are kept in the form that the database has. A result with a
    value of another type is not cached.

    >>> codec = TypedCodec()
    >>> codec.loads(codec.dumps([(1, date(2024, 2, 29)), (2, None)]))
    [(1, datetime.date(2024, 2, 29)), (2, None)]
    """

    name = "typed1"

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        """Return JSON in UTF-8."""
        columns: list[list[Any]] = [_column(column) for column in zip(*rows, strict=True)]
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
                # Rows without columns are not told apart by their values.
                rows = [()] * count if not columns else []
        # What decoding raises on bytes that are not of this codec: malformed text or structure, and values out of range.
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
            raise CorruptEntryError(f"not an entry of this codec: {error}") from error
        if len(rows) != count:
            raise CorruptEntryError(f"{len(rows)} rows where {count} are announced")
        return rows


def _column(values: Sequence[Any]) -> list[Any]:
    types = set(map(type, values))
    if types <= _PLAIN:
        return ["", values]
    optional = type(None) in types
    types.discard(type(None))
    kind = _kind(types.pop()) if len(types) == 1 else None
    if kind is None:
        return ["*", [_tagged(value) for value in values]]
    mark, _, convert, _ = kind
    converted = [None if value is None else convert(value) for value in values]
    if mark == "M" and not any("#" in value for value in converted if value is not None):
        mark = "m"  # nothing but ISO 8601: the constructor in C will do
    return [f"{mark}?" if optional else mark, converted]


def _values(mark: str, values: list[Any]) -> Iterable[Any]:
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
    """Pickles rows, for values that `TypedCodec` does not know, and signs them: unpickling runs what a pickle says.

    :param secret: at least 16 bytes that every process of the application has and nobody else. An entry that is not signed with it is a
        miss and is never unpickled.

    Raises:
        UnsafeCodecError: there is no secret, or it is too short.
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
        """Check the signature, then unpickle."""
        signature, pickled = data[:_DIGEST], data[_DIGEST:]
        if not hmac.compare_digest(signature, self._sign(pickled)):
            raise CorruptEntryError("not signed with the secret of this codec")
        try:
            rows: Sequence[Sequence[object]] = pickle.loads(pickled)
        # Signed, but of a class that is gone or has changed.
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
