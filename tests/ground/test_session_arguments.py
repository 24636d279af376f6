"""Every public function that takes a session takes every kind of session, or says what to write instead."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_patterns._session import resolve_any_session, resolve_session
from sqla_patterns.exceptions import InvalidArgumentError
from tests.test_conventions import PACKAGES

#: Context managers and the like, which emit no SQL of their own and take async sessions too.
TAKE_ASYNC = {
    "versioning.revision",
    "versioning.versioning_disabled",
    "caching.cache.bypass",
    "caching.cache.refresh",
    "caching.backend.entries",
    # Iterates asynchronously then.
    "asyncio.stream_batches",
}


def _takes_session(function: Any) -> bool:
    parameters = [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]
    return bool(parameters) and parameters[0] == "session"


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each function, and each method as it is called on an object, whose first argument is a session."""
    for package in PACKAGES:
        module = importlib.import_module(f"sqla_patterns.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) and _takes_session(value):
                yield f"{package}.{name}", value
            elif inspect.isclass(value):
                for attribute, member in vars(value).items():
                    if attribute.startswith("_") or not inspect.isfunction(member) or not _takes_session(member):
                        continue
                    yield f"{package}.{_variable(value)}.{attribute}", member.__get__(_instance(value))


def _variable(cls: type[Any]) -> str:
    return {"ORMCache": "cache", "SessionLocalBackend": "backend"}.get(cls.__name__, cls.__name__)


def _instance(cls: type[Any]) -> Any:
    if cls.__name__ == "ORMCache":
        from dogpile.cache import make_region

        return cls({"default": make_region().configure("dogpile.cache.memory")})
    return cls({})


FUNCTIONS = dict(_functions())


def _call(name: str, session: Any) -> Any:
    """Call a function with `session`, and with None for whatever else it needs: the session is looked at first."""
    function = FUNCTIONS[name]
    rest = list(inspect.signature(function).parameters.values())[1:]
    needed = [parameter for parameter in rest if parameter.default is parameter.empty]
    positional = [None for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    keywords = {each.name: None for each in needed if each.kind is each.KEYWORD_ONLY}
    result = function(session, *positional, **keywords)
    if hasattr(result, "__enter__"):
        with result:
            pass
    return result


class _Unresolved(scoped_session[Session]):
    """A scoped session that may only be asked for its session."""

    def __init__(self) -> None:
        super().__init__(sessionmaker())
        self.asked = 0

    def __call__(self, **kw: Any) -> Session:
        self.asked += 1
        return super().__call__(**kw)


for _name in (
    "execute",
    "scalars",
    "scalar",
    "get",
    "get_one",
    "connection",
    "add",
    "flush",
    "get_bind",
    "delete",
    "refresh",
):

    def _refuse(self: Any, *args: Any, _name: str = _name, **kw: Any) -> Any:
        raise AssertionError(f"scoped_session.{_name} is used, and the session is not resolved")

    setattr(_Unresolved, _name, _refuse)


def test_functions_of_the_packages_are_found() -> None:
    found = set(FUNCTIONS)
    assert {"trees.load_tree", "versioning.revert", "caching.cache.get", "graphs.find_cycles"} <= found
    assert found >= TAKE_ASYNC


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_scoped_session_is_resolved_before_anything_else(name: str) -> None:
    session = _Unresolved()
    # What is wrong with the other arguments, which are all None, is not of interest here.
    try:
        _call(name, session)
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001
        pass
    assert session.asked >= 1
    session.remove()


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - TAKE_ASYNC))
@pytest.mark.parametrize("scoped", [False, True], ids=["plain", "scoped"])
def test_an_async_session_is_refused_with_the_line_to_write(name: str, scoped: bool) -> None:
    session: Any = async_scoped_session(AsyncSession, lambda: 1) if scoped else AsyncSession()  # type: ignore[arg-type]
    spelling = name.partition(".")[2]
    with pytest.raises(InvalidArgumentError, match=rf"await session\.run_sync\({spelling}, \.\.\.\)"):
        _call(name, session)


@pytest.mark.parametrize("name", sorted(TAKE_ASYNC))
@pytest.mark.parametrize("scoped", [False, True], ids=["plain", "scoped"])
def test_a_context_manager_takes_an_async_session(name: str, scoped: bool) -> None:
    session: Any = async_scoped_session(AsyncSession, lambda: 1) if scoped else AsyncSession()  # type: ignore[arg-type]
    error = ""
    try:
        _call(name, session)
    except TypeError:
        pass  # `revision` enters with `async with` where it has to await
    except InvalidArgumentError as caught:
        error = str(caught)
    # The other arguments are None, and are looked at after the session.
    assert not error or "was given None" in error


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_session_factory_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="call the sessionmaker"):
        _call(name, sessionmaker())


@pytest.mark.parametrize("resolve", [resolve_session, resolve_any_session])
def test_what_is_no_session_is_refused(resolve: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"load_tree\(\) needs a session as its first argument and was given None"
    ):
        resolve(None, "load_tree")


def test_the_session_of_every_kind_is_found() -> None:
    plain, own = Session(), AsyncSession()
    scoped = scoped_session(sessionmaker())
    async_scoped = async_scoped_session(AsyncSession, lambda: 1)  # type: ignore[arg-type]
    assert resolve_session(plain, "f") is plain
    assert resolve_session(scoped, "f") is scoped()
    assert resolve_any_session(plain, "f") is plain
    assert resolve_any_session(own, "f") is own.sync_session
    assert resolve_any_session(scoped, "f") is scoped()
    assert resolve_any_session(async_scoped, "f") is async_scoped.registry().sync_session
