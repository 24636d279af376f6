"""A versioned map is a mapping, and each flush that changes it makes a new version of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from sqla_patterns.exceptions import InvalidArgumentError, StateError
from sqla_patterns.versioning import (
    MapValue,
    MapValueError,
    UnversionedWriteError,
    VersionedMap,
    delete_stream,
    get_current,
    get_version,
    history_of,
    load_current,
)
from tests.versioning._versioned_maps import configs, count_rows, noted_configs, past, saved

# -- versions ----------------------------------------------------------------------------------------------------------


def test_a_change_makes_a_new_version_and_the_old_row_keeps_its_values(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"user_name": "twitter", "x": 27}, tenant="t1")
    first = config.id
    config["user_name"] = "yahoo"
    session.commit()
    assert (config.id != first, config.version) == (True, 2)
    assert dict(config) == {"user_name": "yahoo", "x": 27}
    old = session.get_one(Config, first)
    assert (dict(old), old.version, old is config) == ({"user_name": "twitter", "x": 27}, 1, False)


def test_values_that_stay_are_shared(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {str(number): number for number in range(10)}, tenant="t1")
    config["0"] = "new"
    session.commit()
    assert count_rows(session, Config) == (2, 11, 20)


def test_memory_equals_the_database_after_the_flush_and_needs_no_sql(
    bases: Any, session: Session, statements: Any
) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "b": [1, {"c": None}]}, tenant="t1")
    config.update({"a": 2, "d": None})
    del config["b"]
    session.flush()
    with statements() as log:
        seen = (config.version, config.tenant, dict(config))
        assert config.id > 1
    assert len(log) == 0
    assert past(session, Config, tenant="t1")[-1] == (seen[0], seen[2])
    assert seen == (2, "t1", {"a": 2, "d": None})


def test_taking_a_key_out_makes_a_version_without_it(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "b": 2}, tenant="t1")
    del config["a"]
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1, "b": 2}), (2, {"b": 2})]


def test_an_emptied_map_is_a_version(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config.clear()
    session.commit()
    assert (past(session, Config, tenant="t1")[-1], bool(config), len(config)) == ((2, {}), True, 0)


@pytest.mark.parametrize("value", [1, "1", True, 1.0, None, "", [1, 2], {"a": {"b": [1]}}, 2**40, "ü", -0.5])
def test_setting_an_equal_value_makes_no_version(bases: Any, session: Session, value: Any) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": value, "b": 1}, tenant="t1")
    key = config.id
    config["a"] = value
    session.commit()
    assert (config.id, config.version, type(config["a"]), config["a"]) == (key, 1, type(value), value)


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, True), (1, 1.0), (0, False), (1, "1"), (0.0, -0.0), (None, ""), ([1], [True]), ({"a": 1}, {"a": 1.0})],
)
def test_values_of_two_types_are_two_values(bases: Any, session: Session, before: Any, after: Any) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": before}, tenant="t1")
    config["a"] = after
    session.commit()
    assert (config.version, repr(config["a"])) == (2, repr(after))


@pytest.mark.parametrize("detour", ["set", "delete", "clear", "pop"])
def test_a_value_that_is_set_back_before_the_flush_makes_no_version(bases: Any, session: Session, detour: str) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "b": 2}, tenant="t1")
    match detour:
        case "set":
            config["a"] = 5
        case "delete":
            del config["a"]
        case "clear":
            config.clear()
        case _:
            config.pop("a")
    config.update({"a": 1, "b": 2})
    session.commit()
    assert (config.version, count_rows(session, Config)) == (1, (1, 2, 2))


def test_several_changes_before_a_flush_make_one_version(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    for number in range(5):
        config["a"] = number
        config[f"k{number}"] = number
    config.pop("k0")
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 4, "k1": 1, "k2": 2, "k3": 3, "k4": 4})]


def test_each_flush_of_a_transaction_makes_a_version(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    for number in (2, 3, 4):
        config["a"] = number
        session.flush()
    session.commit()
    assert past(session, Config, tenant="t1") == [(number, {"a": number}) for number in (1, 2, 3, 4)]


def test_streams_count_by_themselves(bases: Any, session: Session) -> None:
    Config = configs(bases())
    one = saved(session, Config, {"a": 1}, tenant="t1")
    two = saved(session, Config, {"a": 10}, tenant="t2")
    one["a"], two["a"] = 2, 20
    session.commit()
    two["a"] = 30
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 2})]
    assert past(session, Config, tenant="t2") == [(1, {"a": 10}), (2, {"a": 20}), (3, {"a": 30})]


def test_without_columns_of_the_user_there_is_one_stream(bases: Any, session: Session) -> None:
    class Config(VersionedMap[int], bases()):
        __tablename__ = "config"

    config = saved(session, Config, {"a": 1})
    config["a"] = 2
    session.commit()
    assert past(session, Config) == [(1, {"a": 1}), (2, {"a": 2})]
    assert (get_current(session, Config), history_of(session, Config, "a")) == (config, [(1, 1), (2, 2)])


def test_a_stream_may_be_told_by_several_columns(bases: Any, session: Session) -> None:
    class Config(VersionedMap[int], bases()):
        __tablename__ = "config"
        tenant: Mapped[str] = mapped_column("tenant_name", String(20))
        number: Mapped[int] = mapped_column()

    config = saved(session, Config, {"a": 1}, tenant="t", number=1)
    other = saved(session, Config, {"a": 5}, tenant="t", number=2)
    config["a"] = 2
    session.commit()
    assert history_of(session, Config, "a", tenant="t", number=1) == [(1, 1), (2, 2)]
    assert load_current(session, Config, Config.tenant == "t") == [other, config]
    assert delete_stream(session, Config, number=1, tenant="t") == 2
    session.commit()
    assert load_current(session, Config) == [other]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_history_of_a_key_names_the_versions_that_set_it(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": "x", "b": 1}, tenant="t1")
    saved(session, Config, {"a": "other"}, tenant="t2")
    for change in ({"b": 2}, {"a": "y"}, {"b": 3}):
        config.update(change)
        session.commit()
    del config["a"]
    session.commit()
    config["a"] = "y"
    session.commit()
    found = history_of(session, Config, "a", tenant="t1")
    assert found == [("x", 1), ("y", 3), ("y", 6)]
    assert (type(found[0]), found[0].value, found[0].version) == (MapValue, "x", 1)
    assert history_of(session, Config, "none", tenant="t1") == []
    assert history_of(session, Config, "a", tenant="t3") == []


def test_get_current_and_get_version(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.commit()
    with Session(session.get_bind()) as other:
        current, first = get_current(other, Config, tenant="t1"), get_version(other, Config, 1, tenant="t1")
        assert (current.version, dict(current), first.version, dict(first)) == (2, {"a": 2}, 1, {"a": 1})
        assert get_version(other, Config, 2, tenant="t1") is current
    assert get_current(session, Config, tenant="t1") is config
    assert get_current(session, Config, tenant="none") is None
    assert get_version(session, Config, 3, tenant="t1") is None


def test_reading_flushes_first(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    assert history_of(session, Config, "a", tenant="t1") == [(1, 1), (2, 2)]
    config["a"] = 3
    assert (get_current(session, Config, tenant="t1"), config.version) == (config, 3)


def test_current_versions_of_many_streams_and_by_criteria(bases: Any, session: Session) -> None:
    Config = configs(bases())
    for number in range(4):
        config = saved(session, Config, {"a": number}, tenant=f"t{number}")
        config["a"] = number + 10
    session.commit()
    found = load_current(session, Config, Config.tenant.in_(["t1", "t3"]))
    assert [(each.tenant, each.version, each["a"]) for each in found] == [("t1", 2, 11), ("t3", 2, 13)]
    assert len(load_current(session, Config)) == 4
    alias = aliased(Config)
    tenants = session.scalars(select(alias.tenant).where(alias.is_current()).order_by(alias.tenant)).all()
    assert list(tenants) == ["t0", "t1", "t2", "t3"]
    assert session.scalars(select(Config.version).where(~Config.is_current())).all() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (get_current, "get_current(session, Config, tenant=...)"),
        (lambda s, C: get_version(s, C, 1, tenant="x", other=1), "was given tenant, other"),
        (lambda s, C: history_of(s, C, "a", tenant=None), "None for Config.tenant"),
        (delete_stream, "delete_stream() tells a stream of Config by the values of tenant"),
        (lambda s, _: load_current(s, dict), "load_current() needs a class that is mapped with VersionedMap"),
        (lambda _, C: history_of("session", C, "a", tenant="t"), "history_of() needs a session"),
    ],
)
def test_a_wrong_argument_is_refused(plain_bases: Any, session: Session, call: Any, text: str) -> None:
    Config = configs(plain_bases())
    saved(session, Config, {}, tenant="t")
    with pytest.raises(InvalidArgumentError) as error:
        call(session, Config)
    assert text in str(error.value)


# -- the mapping -------------------------------------------------------------------------------------------------------


def test_it_is_a_mutable_mapping(plain_bases: Any, session: Session) -> None:
    Config = configs(plain_bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    assert isinstance(config, MutableMapping)
    match config:
        case {"a": found}:
            assert found == 1
        case _:
            pytest.fail("a match statement takes it for no mapping")
    assert {**config, "b": 2} == {"a": 1, "b": 2}


def test_the_methods_of_a_dictionary(bases: Any, session: Session) -> None:
    config = saved(session, configs(bases()), {"a": 1}, tenant="t1")
    model: dict[str, Any] = {"a": 1}
    for each in (config, model):
        each.update({"b": 2}, c=3)
        each.update([("d", 4)])
        each.update(e=5)
    for call in (
        lambda m: m.setdefault("a", 9),
        lambda m: m.setdefault("f", 6),
        lambda m: m.setdefault("n"),
        lambda m: m.get("a"),
        lambda m: m.get("zz"),
        lambda m: m.get("zz", 3),
        lambda m: m.get("n", 3),
        lambda m: m.pop("a"),
        lambda m: m.pop("zz", 7),
        sorted,
        lambda m: sorted(m.keys()),
        lambda m: sorted(map(repr, m.values())),
        lambda m: sorted(map(repr, m.items())),
        lambda m: m.keys() & {"b", "zz"},
        lambda m: ("b" in m, "a" in m, 5 in m, len(m), ("b", 2) in m.items()),
        dict,
    ):
        assert call(config) == call(model)
    key, value = config.popitem()
    assert model.pop(key) == value
    assert dict(config) == model
    session.commit()
    assert dict(config) == model
    for broken in (lambda m: m["zz"], lambda m: m.pop("zz"), lambda m: m.__delitem__("zz")):
        with pytest.raises(KeyError):
            broken(config)
    config.clear()
    with pytest.raises(KeyError):
        config.popitem()


def test_operators_and_copies_are_those_of_a_dictionary(bases: Any, session: Session) -> None:
    config = saved(session, configs(bases()), {"a": 1}, tenant="t1")
    assert (config | {"b": 2}, {"a": 0, "b": 2} | config, config.copy()) == (
        {"a": 1, "b": 2},
        {"a": 1, "b": 2},
        {"a": 1},
    )
    before = config
    config |= {"b": 2}
    config |= [("c", 3)]
    session.commit()
    assert (config is before, dict(config), config.version) == (True, {"a": 1, "b": 2, "c": 3}, 2)


def test_it_prints_what_is_loaded(plain_bases: Any, session: Session, statements: Any) -> None:
    config = saved(session, configs(plain_bases()), {"a": 1}, tenant="t1")
    with statements() as log:
        assert repr(config).startswith("<tests.")
    assert len(log) == 0
    session.refresh(config)
    assert repr(config) == "<Config(tenant='t1', version=1): {'a': 1}>"


def test_it_equals_a_dictionary_and_of_versioned_maps_only_itself(plain_bases: Any, session: Session) -> None:
    Config = configs(plain_bases())
    config, other = Config({"a": 1}, tenant="t1"), Config({"a": 1}, tenant="t2")
    assert config == {"a": 1}
    assert config != {"a": 2}
    assert config != other
    assert config == config
    assert [config, other].index(other) == 1
    assert len({config, other}) == 2
    assert (config == 5) is False


def test_a_value_that_can_be_changed_in_place_is_copied(bases: Any, session: Session) -> None:
    Config = configs(bases())
    given = [1]
    config = saved(session, Config, {"a": given}, tenant="t1")
    given.append(2)
    config["a"].append(3)
    next(iter(config.values())).append(4)
    session.commit()
    assert (config["a"], config.version) == ([1], 1)
    config["a"] = [*config["a"], 2]
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": [1]}), (2, {"a": [1, 2]})]


class Number(IntEnum):
    ONE = 1


class Text(StrEnum):
    ONE = "1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "is not finite"),
        ([math.inf], "is not finite"),
        ({1: 2}, "has the key 1"),
        ([(1,)], "has a tuple"),
        ("a\0", "has a NUL character"),
        (["\ud800"], "half a surrogate pair"),
        (b"x", "cannot be of type bytes"),
        (Number.ONE, "cannot be of type Number"),
        (Text.ONE, "cannot be of type Text"),
        (select(1), "a SQL expression"),
    ],
)
def test_a_value_that_would_not_come_back_is_refused_and_nothing_is_set(
    plain_bases: Any, session: Session, value: Any, text: str
) -> None:
    Config = configs(plain_bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    with pytest.raises(MapValueError) as error:
        config.update({"b": 1, "a": value})
    assert text in str(error.value)
    assert str(error.value).startswith("Config['a']")
    assert config == {"a": 1}
    assert not session.dirty


@pytest.mark.parametrize(
    ("key", "text"),
    [(1, "keys of type str"), ("x" * 256, "256 characters"), ("a ", "ends with a space"), ("\0", "NUL")],
)
def test_a_key_that_cannot_be_stored_is_refused(plain_bases: Any, session: Session, key: Any, text: str) -> None:
    config = saved(session, configs(plain_bases()), {"a": 1}, tenant="t1")
    with pytest.raises(InvalidArgumentError, match=text):
        config[key] = 1
    assert config == {"a": 1}
    assert key not in config


def test_a_type_that_the_class_does_not_name_is_refused(plain_bases: Any) -> None:
    class Config(VersionedMap[int | None], plain_bases()):
        __tablename__ = "config"

    with pytest.raises(MapValueError, match=r"VersionedMap\[None \| int\]"):
        Config({"a": "text"})
    assert Config({"a": True, "b": None}) == {"a": True, "b": None}


def test_what_update_cannot_take_is_refused(plain_bases: Any) -> None:
    config = configs(plain_bases())(tenant="t1")
    with pytest.raises(InvalidArgumentError, match="give a dictionary"):
        config.update([1, 2])


def test_keys_differ_by_case_and_accent(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1, "A": 2, "ä": 3, "": 4}, tenant="t1")
    config["A"] = 5
    session.commit()
    assert past(session, Config, tenant="t1")[-1] == (2, {"a": 1, "A": 5, "ä": 3, "": 4})


# -- what describes a version ------------------------------------------------------------------------------------------


def test_columns_outside_of_the_stream_describe_a_version(bases: Any, session: Session, statements: Any) -> None:
    Config = noted_configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1", note="first")
    config.remark = "kept"
    config.note = "second"
    session.commit()
    assert (config.version, config.note, dict(config)) == (2, "second", {"a": 1})
    config["a"] = 2
    session.commit()
    assert (config.version, config.note, config.remark) == (3, "second", "kept")
    assert [each.note for each in session.scalars(select(Config).order_by(Config.version))] == [
        "first",
        "second",
        "second",
    ]
    assert all(session.scalars(select(Config.created_at.is_not(None))))


def test_a_relationship_of_a_version_may_change_with_it(bases: Any, session: Session) -> None:
    Config = noted_configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    author = Config.Author()
    config.author = author
    session.commit()
    assert (config.version, config.author is author, config.author_id) == (2, True, author.id)
    config["a"] = 2
    session.commit()
    assert (config.version, config.author is author) == (3, True)
    assert session.scalars(select(Config.author_id).order_by(Config.version)).all() == [None, author.id, author.id]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["tenant", "version", "id"])
def test_the_key_of_a_version_never_changes(bases: Any, session: Session, attribute: str) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    session.expire(config)
    setattr(config, attribute, {"tenant": "t2"}.get(attribute, 7))
    with pytest.raises(StateError, match=f"{attribute} was set"):
        session.flush()
    session.rollback()
    assert (config.tenant, config.version, dict(config)) == ("t1", 1, {"a": 1})


def test_setting_the_present_key_is_no_change(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    session.expire(config)
    config.tenant, config.version = "t1", 1
    session.commit()
    assert config.version == 1


def test_a_version_is_not_deleted_by_itself(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config["a"] = 2
    session.commit()
    session.delete(config)
    with pytest.raises(StateError, match=r"delete_stream\(session, Config, ...\)"):
        session.flush()
    session.rollback()
    assert (dict(config), config.version) == ({"a": 2}, 2)
    config["a"] = 3
    session.commit()
    assert config.version == 3


def test_all_versions_of_a_stream_may_be_deleted_at_once(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    other = saved(session, Config, {"b": 1}, tenant="t2")
    config["a"] = 2
    session.commit()
    for each in session.scalars(select(Config).where(Config.tenant == "t1")):
        session.delete(each)
    session.commit()
    assert count_rows(session, Config) == (1, 1, 1)
    assert dict(other) == {"b": 1}


def test_delete_stream_and_begin_again(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    saved(session, Config, {"b": 1}, tenant="t2")
    config["a"] = 2
    session.commit()
    config["a"] = 3
    assert delete_stream(session, Config, tenant="t1") == 3
    assert config not in session
    session.commit()
    assert (count_rows(session, Config), delete_stream(session, Config, tenant="t1")) == ((1, 1, 1), 0)
    assert dict(saved(session, Config, {"a": 9}, tenant="t1")) == {"a": 9}
    assert past(session, Config, tenant="t1") == [(1, {"a": 9})]


def test_a_rollback_takes_delete_stream_back(bases: Any, session: Session) -> None:
    Config = configs(bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    delete_stream(session, Config, tenant="t1")
    session.rollback()
    assert (config in session, dict(config)) == (True, {"a": 1})
    config["a"] = 2
    session.commit()
    assert past(session, Config, tenant="t1") == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("kind", ["update", "delete", "query", "by_key", "value"])
def test_statements_that_would_change_the_past_are_refused(plain_bases: Any, session: Session, kind: str) -> None:
    from sqlalchemy import delete, update

    Config = configs(plain_bases())
    saved(session, Config, {"a": 1}, tenant="t1")
    with pytest.raises(UnversionedWriteError, match="are to stay as they are"):
        match kind:
            case "update":
                session.execute(update(Config).values(tenant="x"))
            case "delete":
                session.execute(delete(Config))
            case "query":
                session.query(Config).update({"tenant": "x"})
            case "by_key":
                session.execute(update(Config), [{"id": 1, "tenant": "x"}])
            case _:
                session.execute(update(Config.ValueRow).values(value=5))
    assert past(session, Config, tenant="t1") == [(1, {"a": 1})]


def test_a_shared_value_cannot_be_changed(plain_bases: Any, session: Session) -> None:
    Config = configs(plain_bases())
    config = saved(session, Config, {"a": 1}, tenant="t1")
    config.value_rows["a"].value = 5
    with pytest.raises(StateError, match="versions of the past share it"):
        session.flush()
    session.rollback()
    assert config == {"a": 1}


def test_a_mapping_of_another_kind_can_be_taken_over(plain_bases: Any) -> None:
    Config = configs(plain_bases())
    source = Config({"a": [1]}, tenant="t1")
    copy = Config(source, tenant="t2")
    copy["a"] = 2
    assert isinstance(source, Mapping)
    assert (source, copy) == ({"a": [1]}, {"a": 2})


def test_the_engine_is_left_alone_by_other_errors(plain_bases: Any, engine: Engine) -> None:
    from sqlalchemy.exc import IntegrityError

    Config = configs(plain_bases())
    with Session(engine) as session:
        saved(session, Config, {"a": 1}, tenant="t1")
        session.add(Config({"b": 1}, tenant="t2", id=1))
        session.expunge_all()
        session.add(Config({"b": 1}, tenant="t2", id=1))
        with pytest.raises(IntegrityError) as error:
            session.flush()
        assert type(error.value) is IntegrityError
