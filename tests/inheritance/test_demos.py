"""The demos are shorter than the scripts of SQLAlchemy that they replace."""

from __future__ import annotations

import ast
import tokenize
from pathlib import Path

import pytest

import sqla_patterns.demos.inheritance as demos

FOLDER = Path(demos.__file__).parent
#: Lines of code of SQLAlchemy 2.0.44's examples/inheritance, in the format of this project: ruff format with 120
#: columns, sorted imports, and lines joined where a trailing comma alone keeps them apart.
UPSTREAM = {"concrete": 86, "joined": 86, "single": 101}


def _code_lines(path: Path) -> int:
    """Count the lines of a module without blank lines, comments and docstrings."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            skipped.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    layout = {
        *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
        *(tokenize.ENCODING, tokenize.ENDMARKER),
    }
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in layout]
    code = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return len(code - skipped)


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_demo_is_shorter_than_upstreams(name: str) -> None:
    assert _code_lines(FOLDER / f"inheritance_{name}.py") < UPSTREAM[name]


def test_the_demos_are_shorter_than_upstreams_with_all_that_they_share() -> None:
    assert sum(map(_code_lines, FOLDER.glob("*.py"))) < sum(UPSTREAM.values())
