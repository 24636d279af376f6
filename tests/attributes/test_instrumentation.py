"""Values in a dictionary of the user's; each test is a function of `_instrumented`, in a separate process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SOURCE = Path(__file__).parent / "_instrumented.py"
_CHECKS = [
    node.name
    for node in ast.parse(_SOURCE.read_bytes()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]


def _python(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    found: dict[str, str] = json.loads(_python("-m", "tests.attributes._instrumented"))
    return found


@pytest.mark.parametrize("check", _CHECKS)
def test_with_values_in_a_dictionary_of_the_users(check: str, outcomes: dict[str, str]) -> None:
    assert outcomes[check] == ""


@pytest.mark.parametrize("name", ["attributes", "versioning", "dicts"])
def test_no_other_package_imports_the_extension(name: str) -> None:
    code = f"import sys, sqla_patterns.{name}; assert 'sqlalchemy.ext.instrumentation' not in sys.modules"
    _python("-c", code)


def test_importing_it_alone_leaves_the_lookups_of_state_as_they_are() -> None:
    code = """
from sqlalchemy.orm import base
before = base.instance_state, base.instance_dict
import sqla_patterns.attributes.instrumentation
assert (base.instance_state, base.instance_dict) == before
"""
    _python("-c", code)


def _examples() -> dict[str, str]:
    """Return the examples that the run of the documentation leaves out, since they change the process that runs it."""
    import re

    from sqla_patterns.attributes import instrumentation

    manual = instrumentation.__doc__ or ""
    guide = (ROOT / "docs" / "patterns" / "attributes.md").read_text(encoding="utf-8")
    skipped = re.search(r"<!--- skip: next -->\s*```python\n(.*?)```", guide, re.DOTALL)
    literal = re.search(r"::\n\n((?:    .*\n|\n)+)", manual)
    assert skipped is not None
    assert literal is not None
    return {"guide": skipped[1], "docstring": textwrap.dedent(literal[1])}


@pytest.mark.parametrize("where", ["guide", "docstring"])
def test_the_examples_of_the_documentation_run(where: str) -> None:
    example = _examples()[where]
    assert "DictInstrumentation.named(" in example
    _python("-c", example)
