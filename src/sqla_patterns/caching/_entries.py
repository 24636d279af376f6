"""The format of entries: a header that says when the rows were read, and the raw rows.

A region's serializer is not used, because dogpile's default one unpickles whatever is in the backend.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ._codec import CorruptEntryError
from ._keys import FORMAT
from ._replay import RawRows
from ._stamps import Epoch

if TYPE_CHECKING:
    from ._codec import Codec

_MAGIC: Final = f"{FORMAT}\n".encode()


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an entry before its rows are decoded.

    Attributes:
        epoch: The epoch of the read.
        created: When the entry was made, in seconds since 1970.
        fill_seconds: How long the database took for the rows.
        description: The names and types of the columns.
        checksum: That of the encoded rows.
        offset: Where the rows begin.
    """

    epoch: Epoch
    created: float
    fill_seconds: float
    description: tuple[tuple[str, int | str | None], ...]
    checksum: int
    offset: int


def pack(epoch: Epoch, created: float, fill_seconds: float, raw: RawRows, codec: Codec) -> bytes:
    """Return the bytes of an entry; raise what the codec raises for values that it does not know."""
    rows = codec.dumps(raw.rows)
    description = [[name, code if isinstance(code, (int, str)) else None] for name, code in raw.description]
    words = [epoch.generation, epoch.number, created, fill_seconds, description, zlib.crc32(rows)]
    return b"%b%b\n%b" % (_MAGIC, json.dumps(words, separators=(",", ":")).encode(), rows)


def unpack_header(data: object) -> Header:
    """Return the header, or raise `CorruptEntryError`: the backend may hold anything."""
    if not isinstance(data, bytes) or not data.startswith(_MAGIC):
        raise CorruptEntryError("not an entry of this version")
    end = data.find(b"\n", len(_MAGIC))
    try:
        generation, number, created, seconds, columns, checksum = json.loads(data[len(_MAGIC) : end])
        description = tuple((str(name), code) for name, code in columns)
        return Header(
            Epoch(str(generation), int(number)), float(created), float(seconds), description, int(checksum), end + 1
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptEntryError(f"broken header: {error}") from error


def unpack_rows(header: Header, data: bytes, codec: Codec) -> RawRows:
    """Return the rows, or raise `CorruptEntryError`."""
    body = data[header.offset :]
    if zlib.crc32(body) != header.checksum:
        raise CorruptEntryError("checksum does not match")
    rows = codec.loads(body)
    if not set(map(len, rows)) <= {len(header.description)}:
        raise CorruptEntryError("rows do not have the columns that are announced")
    return RawRows(header.description, rows)
