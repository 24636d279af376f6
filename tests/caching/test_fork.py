"""After a fork no process serves stale rows silently: stamps in memory belong to one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.only_on("sqlite"),
    pytest.mark.usefixtures("tmp_path"),
]
if not hasattr(os, "fork"):  # pragma: no cover
    pytest.skip("there is no fork here", allow_module_level=True)

_PROLOGUE = """
import json, os, sys, warnings
from dogpile.cache import make_region
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool
from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RedisStamps, SQLStamps, StampsUnavailableError

class Base(DeclarativeBase):
    pass

class P(Base):
    __tablename__ = "p"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

folder = sys.argv[1]
engine = create_engine(f"sqlite:///{folder}/app.db", poolclass=NullPool)
Base.metadata.create_all(engine)
S = sessionmaker(engine)
with S() as s:
    s.add(P(id=1, name="old"))
    s.commit()

caught = []
warnings.showwarning = lambda message, category, *rest, **more: caught.append(f"{category.__name__}: {message}")
warnings.simplefilter("always")

def cached():
    with S() as s:
        return s.scalar(select(P.name).options(FromCache()))

def write(name):
    with S() as s:
        s.execute(update(P).values(name=name))
        s.commit()

def child(work):
    # What the child returns comes back through a pipe.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        caught.clear()
        try:
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps([answer, caught, cache.stats.hits]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        data = file.read()
    os.waitpid(pid, 0)
    return json.loads(data)

def region():
    return {"default": make_region().configure("dogpile.cache.memory")}
"""


def forked(folder: Path, script: str) -> Any:
    """Execute a script that prints JSON in a separate process: a fork of a process with threads is no test."""
    code = _PROLOGUE + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MEMORY = {
    "default stamps": "cache = ORMCache(region())",
    "memory stamps": "cache = ORMCache(region(), stamps=MemoryStamps())",
    "memory_pickle": 'cache = ORMCache({"default": make_region().configure("dogpile.cache.memory_pickle")})',
}


@pytest.mark.parametrize("make", MEMORY)
def test_the_parent_is_not_stale_after_a_commit_of_the_child(tmp_path: Path, make: str) -> None:
    found = forked(
        tmp_path,
        f"""
        {MEMORY[make]}
        cache.listen_on_session(S)
        before = [cached(), cached()]
        child(lambda: write("new"))
        print(json.dumps([before, cached(), cached()]))
        """,
    )
    assert found == [["old", "old"], "new", "new"]


@pytest.mark.parametrize("make", MEMORY)
def test_the_child_is_not_stale_after_a_commit_of_the_parent(tmp_path: Path, make: str) -> None:
    found = forked(
        tmp_path,
        f"""
        {MEMORY[make]}
        cache.listen_on_session(S)
        cached(), cached()
        ready, go = os.pipe()
        def work():
            os.read(ready, 1)
            return [cached(), cached()]
        import threading
        pid_answer = []
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, json.dumps(work()).encode())
            os._exit(0)
        write("new")
        os.write(go, b"x")
        os.waitpid(pid, 0)
        print(os.read(reader, 1000).decode())
        """,
    )
    assert found == ["new", "new"]


def test_two_children_are_not_stale_to_each_other(tmp_path: Path) -> None:
    # A server that loads the application and forks its workers; the store would be made in each of them.
    found = forked(
        tmp_path,
        """
        cache = ORMCache(region())
        cache.listen_on_session(S)
        first = child(lambda: [cached(), write("new")] and cached())
        second = child(lambda: [cached(), cached()])
        print(json.dumps([first[0], second[0]]))
        """,
    )
    assert found == ["new", ["new", "new"]]


def test_the_child_says_so_once_and_names_what_to_use(tmp_path: Path) -> None:
    _, caught, hits = forked(
        tmp_path,
        """
        cache = ORMCache(region())
        cache.listen_on_session(S)
        cached()
        print(json.dumps(child(lambda: [cached() for _ in range(3)])))
        """,
    )
    assert len(caught) == 1
    assert "RuntimeWarning" in caught[0]
    assert "RedisStamps" in caught[0]
    assert "SQLStamps" in caught[0]
    assert hits == 0


def test_the_parent_says_so_once_a_child_has_written(tmp_path: Path) -> None:
    found = forked(
        tmp_path,
        """
        cache = ORMCache(region())
        cache.listen_on_session(S)
        cached()
        child(lambda: cached())
        after_read = list(caught)
        child(lambda: write("new"))
        cached(), cached()
        print(json.dumps([len(after_read), len(caught), "another process" in caught[-1]]))
        """,
    )
    assert found == [0, 1, True]


def test_the_parent_goes_on_caching_while_children_only_read(tmp_path: Path) -> None:
    found = forked(
        tmp_path,
        """
        cache = ORMCache(region())
        cache.listen_on_session(S)
        cached()
        child(lambda: cached())
        cached()
        print(json.dumps(cache.stats.hits))
        """,
    )
    assert found == 1


def test_the_child_refuses_to_commit_where_that_was_chosen(tmp_path: Path) -> None:
    answer, *_ = forked(
        tmp_path,
        """
        cache = ORMCache(region(), on_error="raise")
        cache.listen_on_session(S)
        cached()
        print(json.dumps(child(lambda: write("new"))))
        """,
    )
    assert answer.startswith("StampsUnavailableError: MemoryStamps() was made in process")


def test_a_cache_that_the_child_makes_works(tmp_path: Path) -> None:
    _, caught, hits = forked(
        tmp_path,
        """
        def work():
            global cache
            cache = ORMCache(region())
            cache.listen_on_session(S)
            cached(), cached()
        cache = None
        print(json.dumps(child(work)))
        """,
    )
    assert (caught, hits) == ([], 1)


def test_stamps_in_a_database_are_shared_with_a_child(tmp_path: Path) -> None:
    # With a pool, whose connections must not be used by two processes.
    found = forked(
        tmp_path,
        """
        store = SQLStamps(create_engine(f"sqlite:///{folder}/stamps.db"))
        store.create_tables()
        cache = ORMCache(region(), stamps=store)
        cache.listen_on_session(S)
        before = [cached(), cached()]
        answer = child(lambda: write("new"))
        print(json.dumps([before, answer[1], cached(), cached(), cache.stats.hits, store.engine.pool.checkedin()]))
        """,
    )
    assert found == [["old", "old"], [], "new", "new", 2, 1]


def test_stamps_in_redis_are_shared_with_a_child(tmp_path: Path, redis_url: str) -> None:
    found = forked(
        tmp_path,
        f"""
        cache = ORMCache(region(), stamps=RedisStamps.from_url({redis_url!r}, prefix="test:fork"))
        cache.listen_on_session(S)
        cache.invalidate_all()
        before = [cached(), cached()]
        answer = child(lambda: write("new"))
        print(json.dumps([before, answer[1], cached(), cached(), cache.stats.hits]))
        """,
    )
    assert found == [["old", "old"], [], "new", "new", 2]
