"""Keep all versions of a configuration, a mapping whose unchanged values are shared between versions.

It begins like SQLAlchemy's ``examples/versioned_rows/versioned_map.py``, and goes on where that stops: several streams
of versions, keys that are taken out, two writers, a rollback, going back, and deleting a stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.demos._support import demo_engine, demo_options
from sqla_patterns.versioning import (
    MapValueError,
    StaleVersionError,
    VersionedMap,
    VersionedMapOptions,
    delete_stream,
    get_current,
    get_version,
    history_of,
    load_current,
)


class Base(DeclarativeBase):
    pass


class Config(VersionedMap[int | str | list[str]], Base):
    __tablename__ = "demo_config"
    # All other columns describe a version; without this, each of them would tell streams apart as well.
    __versioned_map__ = VersionedMapOptions(stream=("tenant",))

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(String(50))
    author: Mapped[str | None] = mapped_column(String(50))


class Run(Base):
    """Something that was done with a configuration, and knows with which version."""

    __tablename__ = "demo_config_run"

    id: Mapped[int] = mapped_column(primary_key=True)
    config_id: Mapped[int] = mapped_column(ForeignKey("demo_config.id"))
    config: Mapped[Config] = relationship()


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        config = Config({"user_name": "twitter", "hash_id": "4fedffca37eaf", "x": 27, "y": 450}, tenant="t1")
        session.add(config)
        session.commit()
        version_one = config.id

        config["user_name"] = "yahoo"
        session.commit()
        version_two = config.id
        assert version_one != version_two

        # Two versions have been made.
        assert config == {"user_name": "yahoo", "hash_id": "4fedffca37eaf", "x": 27, "y": 450}
        old_config = session.get_one(Config, version_one)
        assert old_config == {"user_name": "twitter", "hash_id": "4fedffca37eaf", "x": 27, "y": 450}
        options.say("version", config.version, "of", config.tenant, "is", dict(config))

        # The values of a key, each with the version that set it: one statement.
        history = history_of(session, Config, "user_name", tenant="t1")
        options.say("user_name:", history)
        assert history == [("twitter", 1), ("yahoo", 2)]
        assert [(each.value, old_config.version) for each in history[:1]] == [("twitter", 1)]

        # Three values have been shared: five are stored for two versions of four.
        assert session.scalar(select(func.count()).select_from(Config.metadata.tables["demo_config_value"])) == 5

        # An equal value makes no version, also after a detour. A value is its type as well: 27 is not "27".
        config["x"] = 28
        config["x"] = 27
        session.commit()
        assert config.version == 2
        config["x"] = "27"
        config["hosts"] = ["a", "b"]
        config.author = "ann"
        session.commit()
        assert (config.version, config["x"], config["hosts"]) == (3, "27", ["a", "b"])

        # What could not be stored as it is is refused before anything is set.
        try:
            config.update({"x": 1, "y": "a\0"})
        except MapValueError as error:
            options.say("refused:", error)
        assert config["x"] == "27"

        # A key that is taken out is missing from the new version only.
        run = Run(config=config)
        session.add(run)
        session.commit()
        del config["hash_id"]
        session.commit()
        assert "hash_id" not in config
        assert run.config.version == 3
        assert run.config["hash_id"] == "4fedffca37eaf"

        # A rollback, also of a savepoint, gives the object back what it was.
        savepoint = session.begin_nested()
        config["y"] = 0
        session.flush()
        assert config.version == 5
        savepoint.rollback()
        assert (config.version, config["y"]) == (4, 450)

        # Each tenant has versions of its own. The current ones of all are one SELECT.
        session.add(Config({"user_name": "other"}, tenant="t2"))
        session.commit()
        current = load_current(session, Config, Config.tenant.in_(["t1", "t2"]))
        options.say("current:", {each.tenant: each.version for each in current})
        assert {each.tenant: each.version for each in current} == {"t1": 4, "t2": 1}

        # Two writers: the second one is told, and nothing is lost.
        mine = get_current(session, Config, tenant="t2")
        assert mine is not None
        session.commit()
        with Session(engine) as other:
            theirs = get_current(other, Config, tenant="t2")
            assert theirs is not None
            theirs["user_name"] = "first"
            other.commit()
        mine["user_name"] = "second"
        try:
            session.commit()
        except StaleVersionError as error:
            options.say("refused:", str(error).partition(" (")[0])
            session.rollback()
        assert (mine.version, mine["user_name"]) == (1, "other")
        now = get_current(session, Config, tenant="t2")
        assert now is not None
        assert now["user_name"] == "first"
        now["user_name"] = "second"
        session.commit()
        assert history_of(session, Config, "user_name", tenant="t2") == [("other", 1), ("first", 2), ("second", 3)]

        # Going back is a new version with old values, which are read from the version of then.
        first = get_version(session, Config, 1, tenant="t1")
        assert first is not None
        config.clear()
        config.update(first)
        session.commit()
        assert (config == dict(first), config.version) == (True, 5)
        options.say("back to version 1 with version", config.version)

        # A stream goes as a whole.
        deleted = delete_stream(session, Config, tenant="t2")
        session.commit()
        options.say("deleted", deleted, "versions of t2")
        assert (deleted, get_current(session, Config, tenant="t2")) == (3, None)
    return 0
