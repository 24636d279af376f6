"""Break one module in many small ways, and say which of them no test notices.

    python tools/mutate.py trees._numbering
    python tools/mutate.py versioning._capture --tests tests/versioning --mutants 40 --seed 1

Each mutant is one change of one expression or statement, in a copy of ``src``; the tests of the module's package run
over it on SQLite until one fails. One that survives the cases that run by default runs again with ``-m full``, which
says whether all combinations of parameters would have noticed. The same seed gives the same mutants as long as the
module stays the same. mutmut 3.8 has no sample by seed, and all mutants of a module take hours here.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]

_PAIRS: list[tuple[type[ast.AST], type[ast.AST]]] = [
    (ast.Eq, ast.NotEq),
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.FloorDiv),
    (ast.BitOr, ast.BitAnd),
]
OPPOSITES = {one: other() for pair in _PAIRS for one, other in (pair, pair[::-1])}


@dataclass(frozen=True)
class Mutant:
    """One change of a module: what stands at `start` to `end` of its source, and what replaces it."""

    line: int
    start: int
    end: int
    replacement: str

    def applied_to(self, source: bytes) -> bytes:
        """Return the module with the change."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]

    def text(self, source: bytes) -> str:
        """Return the lines before and after."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        before = source[first:last].decode().strip()
        after = (source[first : self.start] + self.replacement.encode() + source[self.end : last]).decode().strip()
        return f"line {self.line}\n  - {before}\n  + {after}"


def mutants_of(source: bytes) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, replacement in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        found.append(Mutant(node.lineno, start, end, replacement))
    return sorted(set(found), key=lambda mutant: (mutant.start, mutant.end, mutant.replacement))


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    for node in _executed(tree):
        match node:
            case ast.Compare(left, [operator], comparators):
                yield node, f"({ast.unparse(ast.Compare(left, [OPPOSITES[type(operator)]], comparators))})"  # type: ignore[list-item]
            case ast.BoolOp(operator, values):
                yield node, f"({ast.unparse(ast.BoolOp(OPPOSITES[type(operator)], values))})"  # type: ignore[arg-type]
            case ast.BinOp(left, operator, right) if type(operator) in OPPOSITES:
                yield node, f"({ast.unparse(ast.BinOp(left, OPPOSITES[type(operator)], right))})"  # type: ignore[arg-type]
            case ast.UnaryOp(ast.Not(), operand):
                yield node, f"bool({ast.unparse(operand)})"
            case ast.Constant(bool() as value):
                yield node, repr(not value)
            case ast.Constant(int() as value):
                yield node, repr(value + 1)
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                yield test, f"(not ({ast.unparse(test)}))"
            case ast.Return(value) if value is not None and not (
                isinstance(value, ast.Constant) and value.value is None
            ):
                yield node, "return None"
            case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield node, "pass"
            case ast.Continue() | ast.Break():
                yield node, "pass"


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs: no annotations, no imports for checkers, no texts of errors, no decorators."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params") or isinstance(
            node, (ast.Raise, ast.JoinedStr)
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            ):
                continue
            yield from _executed(child)


def run_tests(source_folder: Path, arguments: list[str], timeout: float) -> bool | None:
    """Return whether the tests pass; None if they took too long."""
    environment = {**os.environ, "PYTHONPATH": str(source_folder)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, timeout=timeout, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode not in (0, 1, 2, 3):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.returncode == 0


def main() -> int:
    """Print each mutant and what became of it; return how many survived all tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="below sqla_patterns, as in trees._numbering")
    parser.add_argument("--tests", nargs="+", help="what pytest runs; default: the tests of the package")
    parser.add_argument("--mutants", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-full", action="store_true", help="do not run -m full over survivors")
    options = parser.parse_args()

    relative = Path("sqla_patterns", *options.module.split(".")).with_suffix(".py")
    source = (ROOT / "src" / relative).read_bytes()
    tests = options.tests or [f"tests/{relative.parts[1]}"]
    every = mutants_of(source)
    chosen = random.Random(options.seed).sample(every, min(options.mutants, len(every)))
    chosen.sort(key=lambda mutant: mutant.start)
    print(
        f"{relative}: {len(chosen)} of {len(every)} mutants, seed {options.seed}; tests: {' '.join(tests)}", flush=True
    )

    with tempfile.TemporaryDirectory() as scratch:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            folder = Path(scratch, str(number), "src")
            shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("__pycache__"))
            folders.put(folder)
        began = time.monotonic()
        if not run_tests(ROOT / "src", tests, timeout=3600):
            sys.exit("the tests fail without any mutant")
        timeout = 3 * options.jobs * (time.monotonic() - began) + 60

        def judge(mutant: Mutant) -> str:
            folder = folders.get()
            try:
                # A .pyc of the mutant before could be of the same size and second.
                for compiled in (folder / relative).parent.glob(f"__pycache__/{relative.stem}.*"):
                    compiled.unlink()
                (folder / relative).write_bytes(mutant.applied_to(source))
                passed = run_tests(folder, tests, timeout)
                if not passed:
                    return "killed" if passed is False else "killed (time)"
                if options.no_full:
                    return "SURVIVED"
                return "SURVIVED" if run_tests(folder, ["-m", "full", *tests], 10 * timeout) else "KILLED BY FULL ONLY"
            finally:
                folders.put(folder)

        verdicts: list[str] = []
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
                verdicts.append(verdict)
                print(f"{verdict}: {mutant.text(source)}", flush=True)
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    print(f"{relative}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
