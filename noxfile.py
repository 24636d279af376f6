"""The matrix: Python 3.11, 3.12 and 3.13 with SQLAlchemy 2.0 and 2.1.

    nox --list
    nox -s "tests-3.12(2.1)" -- --db sqlite --db postgresql
    nox -s "tests-3.11(2.0)" -- types
    nox -s docs wheel

A missing interpreter is skipped on a developer's machine and is an error where CI is set.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "virtualenv"

PYTHONS = ["3.11", "3.12", "3.13"]
SERIES = nox.parametrize(
    "sqlalchemy",
    [nox.param("sqlalchemy>=2.0.41,<2.1", id="2.0"), nox.param("sqlalchemy>=2.1,<2.2", id="2.1")],
)
ROOT = Path(__file__).parent


def _install(session: nox.Session, *groups: str, sqlalchemy: str | None = None) -> None:
    """Install the package with all extras, and dependency groups, in one go so that pip sees every constraint."""
    session.install("--quiet", "--upgrade", "pip>=25.1")
    chosen = [sqlalchemy] if sqlalchemy else []
    session.install("--quiet", "--editable", ".[all]", *chosen, *(f"--group={group}" for group in groups))


@nox.session(python=PYTHONS)
@SERIES
def tests(session: nox.Session, sqlalchemy: str) -> None:
    """Run the suite, with arguments for pytest as in ``-- --db postgresql``; with ``-- types``, the checkers instead.

    These are mypy and pyright, both strict, and the files of tests/typing with both. One environment serves both.
    """
    _install(session, "test", "lint", sqlalchemy=sqlalchemy)
    if session.posargs == ["types"]:
        session.run("mypy")
        session.run("pyright", "--project", "pyproject.toml", "--pythonpath", str(Path(session.bin) / "python"))
        session.run("pytest", "-q", "tests/test_typing.py")
    else:
        session.run("pytest", "-n", "auto", "--ignore=tests/test_typing.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    _install(session, "docs")
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", f"{session.create_tmp()}/html")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, and use it in this clean environment without any extra."""
    folder = Path(session.create_tmp()).resolve() / "dist"
    session.install("--quiet", "hatchling>=1.26")
    for old in folder.glob("*.whl"):
        old.unlink()
    session.run("hatchling", "build", "-t", "wheel", "-d", str(folder))
    (built,) = folder.glob("*.whl")
    session.install("--quiet", "--force-reinstall", str(built))
    # From another folder, so that what is imported is what was installed.
    with session.chdir(folder):
        session.run("python", "-I", str(ROOT / "tests" / "_support" / "check_wheel.py"), str(built))
        session.run("sqla-patterns", "demo")
