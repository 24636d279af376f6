"""The wheel holds what an application needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

import sqla_patterns

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Build without isolation, from hatchling of the test group, so that nothing is downloaded."""
    target = tmp_path_factory.mktemp("wheel")
    result = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = target.glob("*.whl")
    return ZipFile(built)


def test_the_wheel_is_typed_and_holds_only_the_package(wheel: ZipFile) -> None:
    names = wheel.namelist()
    assert "sqla_patterns/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"sqla_patterns", f"sqla_patterns-{version('sqla-patterns')}.dist-info"}
    assert [name for name in names if "test" in name or name.endswith((".pyc", ".db"))] == []


def test_the_wheel_states_its_needs_extras_licence_and_command(wheel: ZipFile) -> None:
    info = f"sqla_patterns-{version('sqla-patterns')}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: MIT" in metadata
    for extra in ("caching", "asyncio", "cli", "all"):
        assert f"Provides-Extra: {extra}" in metadata
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(line.split()[1].partition(">")[0].partition("<")[0] for line in needed) == [
        "sqlalchemy",
        "typing-extensions",
    ]
    assert "sqla-patterns = sqla_patterns.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_version_is_that_of_the_distribution() -> None:
    assert sqla_patterns.__version__ == version("sqla-patterns")
