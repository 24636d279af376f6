"""Fetch SQLAlchemy's own ``test_versioning.py`` and run it with a ``history_meta`` of the library, or with upstream's.

The file is part of no wheel. `pip download` gets the sdist of the installed SQLAlchemy, once for each version; only
this one file of it is kept, in pytest's cache and never in the repository.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
import sqlalchemy

#: All that a user of the recipe writes to use the library instead.
SHIM = """\
from sqla_patterns.versioning import Versioned, versioned_session
from sqla_patterns.versioning import history_mapper as _history_mapper
"""

# As in SQLAlchemy's test/base/test_examples.py: its fixtures parametrise `testing.variation`, and remove all ORM
# listeners after each test.
_CASES = """\
from sqlalchemy.testing import fixtures
from versioned_history import test_versioning


class LegacyBase(test_versioning.TestVersioning, fixtures.RemoveORMEventsGlobally, fixtures.TestBase):
    pass


class NewBase(test_versioning.TestVersioningNewBase, fixtures.RemoveORMEventsGlobally, fixtures.TestBase):
    pass
"""

_CONFTEST = """\
import pytest

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *
"""

_SETTINGS = """\
[sqla_testing]
requirement_cls = sqlalchemy.testing.requirements:SuiteRequirements
profile_file = profiles.txt

[db]
default = sqlite:///:memory:
sqlite = sqlite:///:memory:
"""

# How urllib3, inside pip, reports that the index cannot be reached. Any other error is a failure.
_UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ConnectionResetError|ReadTimeoutError|ProxyError"
    r"|Failed to establish a new connection|Temporary failure in name resolution|Network is unreachable"
)


def fetch(cache: Path, name: str) -> str:
    """Return the text of ``examples/versioned_history/NAME`` of the SQLAlchemy that runs."""
    version = sqlalchemy.__version__
    kept = cache / version
    if not (kept / name).exists():
        kept.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            _download(version, Path(folder))
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as opened:
                for member in opened:
                    extracted = opened.extractfile(member) if "/examples/versioned_history/" in member.name else None
                    if extracted is not None:
                        # Other processes of the test run may write it at the same time.
                        part = kept / f"{Path(member.name).name}.{os.getpid()}"
                        part.write_bytes(extracted.read())
                        part.replace(part.with_suffix(""))
    return (kept / name).read_text(encoding="utf-8")


def _download(version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "sqlalchemy", "--retries", "1"]
    command += ["--dest", str(folder), f"sqlalchemy=={version}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if result.returncode:
        output = result.stdout + result.stderr
        if _UNREACHABLE.search(output):
            pytest.skip(f"no package index can be reached for the sdist of SQLAlchemy {version}")
        raise AssertionError(f"{command} failed:\n{output}")


def run_upstream(cache: Path, folder: Path, history_meta: str) -> tuple[int, str]:
    """Run upstream's suite with a ``history_meta``; return the number of tests that passed, and the output."""
    package = folder / "versioned_history"
    package.mkdir(parents=True)
    files = {
        package / "__init__.py": "",
        package / "history_meta.py": history_meta,
        package / "test_versioning.py": fetch(cache, "test_versioning.py"),
        folder / "conftest.py": _CONFTEST,
        folder / "setup.cfg": _SETTINGS,
        folder / "test_upstream.py": _CASES,
    }
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "setup.cfg", "test_upstream.py"]
    # The options of this test run must not apply to it.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=110
    )
    passed = re.search(r"^(\d+) passed in ", result.stdout, re.MULTILINE)
    return (int(passed[1]) if passed and result.returncode == 0 else 0), result.stdout + result.stderr
