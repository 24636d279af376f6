"""Say what pytest and pyright run for the changes since main: ``python tools/quick.py tests`` or ``... types``.

A changed test file stands for itself, any other file of a package for the package, and a module at the top of
sqla_patterns, or what all tests share, for the tests of the ground.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def changed_files() -> list[Path]:
    """Return what differs from where this branch left main, committed or not; new files included."""
    base = _git("merge-base", "HEAD", "main") or ["HEAD"]
    names = _git("diff", "--name-only", base[0]) + _git("ls-files", "--others", "--exclude-standard")
    return [Path(name) for name in dict.fromkeys(names) if (ROOT / name).exists()]


def tests_for(files: list[Path]) -> list[str]:
    """Return the arguments of pytest."""
    chosen: set[str] = set()
    for file in files:
        parts = file.parts
        if file.name.startswith("test_") and parts[0] == "tests":
            chosen.add(str(file))
        elif parts[0] == "tests":
            chosen.add(f"tests/{parts[1]}" if len(parts) > 2 and not parts[1].startswith("_") else "tests/ground")
        elif parts[:2] == ("src", "sqla_patterns"):
            package = parts[2] if len(parts) > 3 else "ground"
            chosen |= {f"tests/{package}", str(file), "tests/test_conventions.py"}
        elif file.suffix == ".md" and (parts[0] == "docs" or file.name == "README.md"):
            chosen.add(str(file))
    # The checkers run on their own.
    chosen -= {"tests/typing", "tests/test_typing.py"}
    return sorted(name for name in chosen if (ROOT / name).exists()) or ["tests/ground"]


def types_for(files: list[Path]) -> list[str]:
    """Return the files that pyright checks; mypy has a cache and checks all."""
    checked = [file for file in files if file.suffix == ".py" and file.parts[0] == "src"]
    checked += [file for file in files if file.suffix == ".py" and file.parts[:2] == ("tests", "typing")]
    return [str(file) for file in checked if "errors" not in file.parts]


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


print(" ".join({"tests": tests_for, "types": types_for}[sys.argv[1]](changed_files())))
