"""Keys of entries and names of tags: digests over typed, length-prefixed parts, the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final, cast
from uuid import UUID

from ._errors import UncacheableParameterError

__all__ = ("FORMAT", "bucket", "encode", "key_of")

#: Changes whenever entries or keys do, so that another version of the library finds nothing of ours.
FORMAT: Final = "sqlap:1"

_BY_STR: Final[tuple[type[Any], ...]] = (
    *(Decimal, UUID),
    *(IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
)


def encode(value: Any, where: str) -> bytes:
    """Bytes for a value, different for different values and types; never its ``repr()``.

    Raises:
        UncacheableParameterError: there is no such form. ``where`` says whose value it is.
    """
    mark, data = _encode(value, where)
    return b"%b%d:%b" % (mark, len(data), data)


def _encode(value: Any, where: str) -> tuple[bytes, bytes]:
    if value is None:
        return b"0", b""
    type_: type[Any] = cast("Any", type(value))
    if type_ is str:
        return b"s", value.encode("utf-8", "surrogatepass")
    if type_ is bool:
        return b"b", b"1" if value else b"0"
    if type_ is int:
        return b"i", b"%x" % value if value >= 0 else b"-%x" % -value
    if type_ is float:
        return b"f", value.hex().encode()
    if isinstance(value, Enum):
        return b"E", f"{type_.__module__}.{type_.__qualname__}.{value.name}".encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b"y", bytes(cast("Any", value))
    if isinstance(value, (datetime, time)):
        zone = getattr(value.tzinfo, "key", "")
        return type_.__name__.encode(), f"{value.isoformat()}#{value.fold}{zone}".encode()
    if isinstance(value, date):
        return b"D", value.isoformat().encode()
    if isinstance(value, timedelta):
        return b"I", f"{value.days},{value.seconds},{value.microseconds}".encode()
    for base in _BY_STR:
        if isinstance(value, base):
            return base.__name__.encode(), str(value).encode()
    return _encode_container(value, where)


def _encode_container(value: Any, where: str) -> tuple[bytes, bytes]:
    if isinstance(value, (list, tuple)):
        return b"(", b"".join(encode(each, where) for each in cast("Sequence[Any]", value))
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = cast("Any", value).items()
        pairs = [encode(key, where) + encode(each, where) for key, each in items]
        return b"{", b"".join(sorted(pairs))
    if isinstance(value, Set):
        members: Iterable[Any] = cast("Any", value)
        return b"<", b"".join(sorted(encode(each, where) for each in members))
    # Subclasses of the scalars stand for what they are; a str Enum was met above.
    for base in (str, int, float):
        if isinstance(value, base):
            mark, data = _encode(base(value), where)
            return type(value).__qualname__.encode() + b"/" + mark, data
    type_: type[Any] = cast("Any", type(value))
    raise UncacheableParameterError(
        f"{where} is a {type_.__module__}.{type_.__qualname__}, for which there is no form that is the same in every "
        "process; give it a column type with a bind processor (a TypeDecorator) or pass a plain value."
    )


def key_of(parts: Iterable[bytes]) -> str:
    """A key over the parts, in order."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return f"{FORMAT}:{digest.hexdigest()}"


def bucket(mark: str, parts: Iterable[bytes]) -> str:
    """The tag of one statement or object: one of 65,536 of its kind, so that a stamp store stays bounded.

    Two that meet in one bucket are invalidated together, which costs a miss and nothing else.
    """
    digest = hashlib.blake2b(digest_size=2)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return f"{mark}:{digest.hexdigest()}"
