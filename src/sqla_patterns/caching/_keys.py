"""Cache keys and names of tags: digests over typed, length-prefixed parts, the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, cast
from uuid import UUID

from ._driver_values import wrapped_content
from ._errors import UncacheableParameterError

#: Changes whenever entries or cache keys do, so that one version of the library does not read the entries of another.
FORMAT: Final = "sqlap:1"

_BY_STR: Final[tuple[type, ...]] = (
    *(Decimal, UUID),
    *(IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
)


def encode(value: object, where: str) -> bytes:
    """Return bytes for a value, different for different values and types; never its ``repr()``.

    Args:
        value: The value.
        where: Says in the error whose value it is.

    Raises:
        UncacheableParameterError: There is no such form.
    """
    mark, data = _encode(value, where)
    return b"%b%d:%b" % (mark, len(data), data)


def encode_for_tag(value: object) -> bytes:
    """Return bytes for a value that a tag is made of.

    Values without a form share one: what has a common tag is invalidated together, which costs a miss and nothing else.
    """
    try:
        return encode(value, "the value")
    except UncacheableParameterError:
        return b"?"


def _encode(value: object, where: str) -> tuple[bytes, bytes]:
    """Return the mark of a value's type, and its bytes."""
    if value is None:
        return b"0", b""
    # Not isinstance(): subclasses of the scalars are encoded by _encode_container().
    if type(value) is str:
        return b"s", value.encode("utf-8", "surrogatepass")
    if type(value) is bool:
        return b"b", b"1" if value else b"0"
    if type(value) is int:
        return b"i", b"%x" % value if value >= 0 else b"-%x" % -value
    if type(value) is float:
        return b"f", value.hex().encode()
    if isinstance(value, Enum):
        return b"E", f"{_name_of_type(value)}.{value.name}".encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b"y", bytes(cast("bytes", value))
    if isinstance(value, (datetime, time)):
        zone = getattr(value.tzinfo, "key", "")
        return type(value).__name__.encode(), f"{value.isoformat()}#{value.fold}{zone}".encode()
    if isinstance(value, date):
        return b"D", value.isoformat().encode()
    if isinstance(value, timedelta):
        return b"I", f"{value.days},{value.seconds},{value.microseconds}".encode()
    for base in _BY_STR:
        if isinstance(value, base):
            return base.__name__.encode(), str(value).encode()
    content = wrapped_content(value)
    if content is not None:
        return _name_of_type(value).encode(), encode(content, where)
    return _encode_container(value, where)


def _encode_container(value: object, where: str) -> tuple[bytes, bytes]:
    if isinstance(value, (list, tuple)):
        return b"(", b"".join(encode(each, where) for each in cast("Sequence[object]", value))
    if isinstance(value, Mapping):
        pairs = [
            encode(key, where) + encode(each, where) for key, each in cast("Mapping[object, object]", value).items()
        ]
        return b"{", b"".join(sorted(pairs))
    if isinstance(value, Set):
        return b"<", b"".join(sorted(encode(each, where) for each in cast("Set[object]", value)))
    # Subclasses of the scalars are encoded as the scalar with the name of the class; a str Enum has been encoded above.
    for base in (str, int, float):
        if isinstance(value, base):
            mark, data = _encode(base(value), where)
            return type(value).__qualname__.encode() + b"/" + mark, data
    raise UncacheableParameterError(
        f"{where} is a {_name_of_type(value)}, for which there is no form that is the same in every "
        "process; give it a column type with a bind processor (a TypeDecorator) or pass a plain value."
    )


def _name_of_type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def make_cache_key(parts: Iterable[bytes]) -> str:
    """Return the cache key of the parts, in order."""
    return f"{FORMAT}:{_digest(parts, 20)}"


def bucket(mark: str, parts: Iterable[bytes]) -> str:
    """Return the tag of one statement or object: one of 65,536 of its kind, so that a stamp store stays bounded.

    Two that share a bucket are invalidated together, which costs a miss and nothing else.
    """
    return f"{mark}:{_digest(parts, 2)}"


def _digest(parts: Iterable[bytes], size: int) -> str:
    digest = hashlib.blake2b(digest_size=size)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()
