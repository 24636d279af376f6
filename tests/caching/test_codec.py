"""Entries keep their values and types, run no code, and are misses when they are damaged."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import pickle
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from sqla_patterns.caching import Codec, FromCache, PickleCodec, TypedCodec, UnsafeCodecError
from sqla_patterns.caching._codec import CorruptEntryError, UnencodableValueError
from sqla_patterns.caching._entries import pack, unpack_header, unpack_rows
from sqla_patterns.caching._replay import RawRows
from sqla_patterns.caching._stamps import Epoch
from tests.caching._world import Person, World, region_of

CODEC = TypedCodec()
BERLIN = ZoneInfo("Europe/Berlin")
people = select(Person).order_by(Person.id).options(FromCache())

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC) | st.just(BERLIN)),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.ip_addresses(),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=5,
)
tables = st.integers(0, 4).flatmap(lambda width: st.lists(st.tuples(*[values] * width), max_size=5))


@settings(deadline=None)
@given(tables)
def test_rows_come_back_as_they_were(rows: list[tuple[Any, ...]]) -> None:
    back = CODEC.loads(CODEC.dumps(rows))
    assert back == rows
    assert repr(back) == repr(rows)


@settings(deadline=None)
@given(st.lists(st.tuples(scalars.filter(lambda value: value is not None)), max_size=6))
def test_columns_of_mixed_types_come_back(rows: list[tuple[Any, ...]]) -> None:
    rows = [*rows, (None,)]
    assert repr(CODEC.loads(CODEC.dumps(rows))) == repr(rows)


def test_values_that_json_cannot_express() -> None:
    fold = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
    first = datetime(1, 1, 1, fold=1)  # noqa: DTZ001
    row = (math.inf, -math.inf, Decimal("NaN"), Decimal("-0.00"), 10**40, "\ud800", fold, first)
    (back,) = CODEC.loads(CODEC.dumps([row]))
    assert repr(back) == repr(row)
    assert back[6].utcoffset() == timedelta(hours=1)  # type: ignore[attr-defined]
    (found,) = CODEC.loads(CODEC.dumps([(math.nan,)]))
    assert math.isnan(found[0])  # type: ignore[arg-type]


def test_what_drivers_return_beside_is_kept() -> None:
    class DriverUUID(uuid.UUID):
        """A subclass of UUID, as asyncpg returns it."""

    row = (DriverUUID(int=1), bytearray(b"x"), ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_network("::/8"))
    assert CODEC.loads(CODEC.dumps([row])) == [row]
    assert CODEC.loads(CODEC.dumps([(memoryview(b"view"),)])) == [(b"view",)]
    eastern = timezone(timedelta(hours=-5))
    assert CODEC.loads(CODEC.dumps([(time(1, 2, tzinfo=eastern),)])) == [(time(1, 2, tzinfo=eastern),)]


class Odd:
    """A value of a type that no codec knows."""


class OddZone(tzinfo):
    """A time zone that has no form in a cache entry."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)


#: An integer that Python refuses to convert to text.
HUGE = 1 << 20_000
ODD_TIME = datetime(2024, 1, 1, tzinfo=OddZone())


@pytest.mark.parametrize(
    "value", [Odd(), {1, 2}, [Odd()], {"x": Odd()}, HUGE, ODD_TIME, ODD_TIME.timetz()], ids=range(7)
)
def test_a_value_without_a_form_is_refused(value: object) -> None:
    with pytest.raises(UnencodableValueError):
        CODEC.dumps([(value,), (None,)])


# -- entries -------------------------------------------------------------------------------------

RAW = RawRows((("id", 23), ("day", None)), [(1, date(2024, 1, 1)), (2, None)])


def entry() -> bytes:
    return pack(Epoch("g", 7), 1000.0, 0.5, RAW, CODEC)


def test_an_entry_says_when_it_was_read() -> None:
    header = unpack_header(entry())
    assert (header.epoch, header.created, header.fill_seconds) == (Epoch("g", 7), 1000.0, 0.5)
    assert unpack_rows(header, entry(), CODEC) == RAW


def test_every_shortened_or_altered_entry_is_corrupt() -> None:
    whole = entry()
    for cut in range(len(whole)):
        with pytest.raises(CorruptEntryError):
            unpack_rows(unpack_header(whole[:cut]), whole[:cut], CODEC)
    start = unpack_header(whole).offset
    for place in range(start, len(whole)):
        altered = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with pytest.raises(CorruptEntryError):
            unpack_rows(unpack_header(altered), altered, CODEC)


@pytest.mark.parametrize(
    "data",
    [
        *(None, 7, "text", b"", b"sqlap:1", b"sqlap:1\n", b"sqlap:1\n[]\n", b"sqlap:1\n{}\nx", b"sqlap:0\n[]"),
        b"sqlap:1\n" + b"[" * 100_000 + b"\n",
        pickle.dumps([(1, 2)]),
        (1, {"ct": 1}),
    ],
)
def test_what_is_no_entry_is_corrupt(data: object) -> None:
    with pytest.raises(CorruptEntryError):
        unpack_header(data)


@pytest.mark.parametrize(
    "document",
    [
        *(None, 1, {}, [], [1], [1, 2], [1, [[]]], [1, [["?", [1]]]], [2, [["", [1]]]], [1, [["", [1]], ["", []]]]),
        *([1, [["D", ["x"]]]], [1, [["D", [1]]]], [1, [["N", ["x"]]]], [1, [["U", ["x"]]]], [1, [["B", ["x"]]]]),
        *([1, [["I", [[10**12]]]]], [1, [["*", [["l"]]]]], [1, [["*", [["zz", 1]]]]], [1, [["M", ["#1No/Zone"]]]]),
        [1, [["M", ["2024-01-01T00:00:00#1../../etc/passwd"]]]],
        [1, [["*", [["d", [[["l", []], 1]]]]]]],
    ],
)
def test_what_the_codec_did_not_write_is_corrupt(document: object) -> None:
    with pytest.raises(CorruptEntryError):
        CODEC.loads(json.dumps(document).encode())


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_rows_or_corrupt(data: bytes) -> None:
    try:
        CODEC.loads(data)
    except CorruptEntryError:
        return


# -- poison --------------------------------------------------------------------------------------


class Poison:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class EntryReplacer:
    """An attacker who knows the cache keys, and replaces the entries in the backend."""

    def __init__(self, world: World) -> None:
        self.keys: list[str] = []
        self.backend: Any = world.regions["default"].backend
        world.cache.events.listen(lambda event: self.keys.append(event.key) if event.kind == "put" else None)

    def replace(self, data: object) -> None:
        for key in self.keys:
            self.backend.set_serialized(key, data)


@pytest.mark.parametrize("backend", ["dogpile.cache.memory", "dogpile.cache.memory_pickle", "dogpile.cache.dbm"])
def test_a_poisoned_entry_runs_nothing(backend: str, worlds: Callable[..., World], tmp_path: Path) -> None:
    # 38
    world = worlds(regions={"default": region_of(backend, tmp_path)})
    replacer = EntryReplacer(world)
    world.rows(people)
    bomb = pickle.dumps(Poison(tmp_path / "harm"))
    header = unpack_header(replacer.backend.get_serialized(replacer.keys[0]))

    class Attacker(TypedCodec):
        def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
            return bytes(rows[0])  # type: ignore[arg-type]

    def forged(body: bytes) -> bytes:
        """Return an entry that is valid except for its rows."""
        return pack(header.epoch, header.created, 0.0, RawRows(header.description, [list(body)]), Attacker())

    # In dogpile's format, as an entry, and as an entry of PickleCodec.
    for poison in (bomb, b'{"ct": 1, "v": 2}|' + bomb, forged(bomb), forged(bytes(32) + bomb)):
        replacer.replace(poison)
        assert world.rows(people)[1] == 1
    assert not (tmp_path / "harm").exists()
    assert world.cache.stats.errors == 4
    assert world.rows(people)[1] == 0


def test_random_damage_is_a_miss(world: World) -> None:
    replacer = EntryReplacer(world)
    chance = random.Random(7)
    world.rows(people)
    (key,) = replacer.keys
    good = replacer.backend.get_serialized(key)
    for _ in range(30):
        data = bytearray(good)
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        replacer.replace(bytes(data))
        found, _ = world.rows(people, lambda result: [person.name for person in result.scalars()])
        assert len(found) in {0, 12}
        assert found == [f"person {i:02}" for i in range(1, 13)]


# -- pickle --------------------------------------------------------------------------------------

SECRET = "a secret of the application"


@pytest.mark.parametrize("secret", [None, "", "short", b"x" * 15])
def test_pickle_needs_a_secret(secret: Any) -> None:
    with pytest.raises(UnsafeCodecError, match="secret"):
        PickleCodec(secret)


def test_pickle_keeps_what_json_cannot() -> None:
    codec = PickleCodec(SECRET)
    assert codec.loads(codec.dumps([({1, 2}, 3)])) == [({1, 2}, 3)]
    with pytest.raises(UnencodableValueError):
        codec.dumps([(lambda: None,)])


def test_pickle_reads_only_what_was_signed(tmp_path: Path) -> None:
    codec, other = PickleCodec(SECRET), PickleCodec(SECRET + "!")
    good = codec.dumps([(1,)])
    bomb = pickle.dumps(Poison(tmp_path / "harm"))
    for data in (b"", bomb, bytes(32) + bomb, good[:32] + bomb, other.dumps([(1,)]), good[:-1]):
        with pytest.raises(CorruptEntryError):
            codec.loads(data)
    assert not (tmp_path / "harm").exists()


def test_a_signed_pickle_of_a_class_that_is_gone_is_corrupt() -> None:
    codec = PickleCodec(SECRET)
    data = pickle.dumps(Odd()).replace(b"Odd", b"Old")
    with pytest.raises(CorruptEntryError):
        codec.loads(codec._sign(data) + data)


def test_codecs_do_not_read_each_other(worlds: Callable[..., World]) -> None:
    one = worlds()
    two = worlds(regions=one.regions, codec=PickleCodec(SECRET))
    assert [world.rows(people)[1] for world in (one, two, one, two)] == [1, 1, 0, 0]


class ShoutingCodec:
    """A codec of the user's."""

    name = "shout"

    def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
        return repr([tuple(row) for row in rows]).encode()

    def loads(self, data: bytes) -> Sequence[Sequence[object]]:
        import ast

        found: list[tuple[object, ...]] = ast.literal_eval(data.decode())
        return found


def test_a_codec_of_ones_own(worlds: Callable[..., World]) -> None:
    assert isinstance(ShoutingCodec(), Codec)
    world = worlds(codec=ShoutingCodec())
    statement = select(Person.id, Person.name).where(Person.id < 3).options(FromCache())
    assert world.rows(statement)[0] == world.rows(statement)[0] == [(1, "person 01"), (2, "person 02")]
    assert world.cache.stats.hits == 1


def test_a_result_that_the_codec_does_not_know_is_answered_and_not_kept(worlds: Callable[..., World]) -> None:
    class Picky(ShoutingCodec):
        def dumps(self, rows: Sequence[Sequence[object]]) -> bytes:
            raise UnencodableValueError("not for me")

    world = worlds(codec=Picky())
    assert [world.rows(people)[1] for _ in range(2)] == [1, 1]
    assert world.cache.stats.refused == {"unencodable: not for me": 2}
