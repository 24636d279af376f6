"""mypy and pyright, both strict, over tests/typing.

A file there states with ``assert_type`` what both checkers must infer. A file in tests/typing/errors states what both
must refuse: a line that ends in ``# E: text`` must be an error in both, with the text in the message of one of them
(in which, and in what words, is the checkers' affair; the text may be empty), and no other line may be one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "typing"
FILES = sorted(path for path in FOLDER.glob("**/*.py") if path.name != "__init__.py")
EXPECTED = re.compile(r"#\s*E:[ \t]*(?P<text>.*?)\s*$")

pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Found:
    file: Path
    line: int
    message: str


def _run(*command: str) -> str:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), f"{command} broke: {result.stdout}{result.stderr}"
    return result.stdout


def _mypy() -> list[Found]:
    output = _run("mypy", "--config-file", "mypy.ini", "--output", "json", "--no-pretty", *map(str, FILES))
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [
        Found((ROOT / row["file"]).resolve(), row["line"], f"{row['message']} [{row['code']}]")
        for row in rows
        if row["severity"] == "error"
    ]


def _pyright() -> list[Found]:
    # A project of its own: the settings of the root leave errors/ out.
    output = _run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(FOLDER))
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] >= len(FILES), report["summary"]
    return [
        Found(
            Path(row["file"]).resolve(),
            row["range"]["start"]["line"] + 1,
            f"{row['message']} [{row.get('rule', 'error')}]",
        )
        for row in report["generalDiagnostics"]
        if row["severity"] == "error"
    ]


@pytest.fixture(scope="module")
def found() -> dict[str, list[Found]]:
    """Return what each checker refuses, from one run of each over the whole folder."""
    return {"mypy": _mypy(), "pyright": _pyright()}


def _name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_both_checkers_infer_and_refuse_what_the_file_says(file: Path, found: dict[str, list[Found]]) -> None:
    expected = {
        number: match["text"]
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := EXPECTED.search(line))
    }
    if expected:
        assert file.parent.name == "errors", "expected errors belong in tests/typing/errors"
    complaints: list[str] = []
    messages: dict[int, str] = dict.fromkeys(expected, "")
    for checker, errors in found.items():
        here = [error for error in errors if error.file == file.resolve()]
        for error in here:
            if error.line in expected:
                messages[error.line] += f"\n  {checker}: {error.message}"
            else:
                complaints.append(f"line {error.line}: {checker} refuses it: {error.message}")
        silent = expected.keys() - {error.line for error in here}
        complaints += [f"line {number}: {checker} takes it" for number in sorted(silent)]
    complaints += [
        f"line {number}: neither message says {text!r}:{messages[number]}"
        for number, text in expected.items()
        if messages[number] and text not in messages[number]
    ]
    assert not complaints, "\n".join([_name(file), *complaints])


def test_errors_outside_the_files_are_none(found: dict[str, list[Found]]) -> None:
    files = {file.resolve() for file in FILES}
    report: Callable[[Found], str] = lambda error: f"{error.file}:{error.line}: {error.message}"  # noqa: E731
    assert [report(error) for errors in found.values() for error in errors if error.file not in files] == []
