"""Find, list and run the demos: ``python -m sqla_patterns demo``."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.util
import pkgutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """A demo that was found and is not imported yet.

    Attributes:
        name: The name of the module, which is that of the demo.
        package: The folder, which is named after the package that the demo shows.
        module: The full name of the module.
        summary: The first line of its docstring.
    """

    name: str
    package: str
    module: str
    summary: str


def _submodules(folders: Sequence[str], *, packages: bool) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for info in pkgutil.iter_modules([folder]):
            if info.ispkg is packages and not info.name.startswith("_"):
                yield info.name, Path(folder) / (info.name if packages else f"{info.name}.py")


def find_demos(root: str = "sqla_patterns.demos") -> list[Demo]:
    """Return the demos in the package `root`, sorted by package and name, without importing any of them."""
    spec = importlib.util.find_spec(root)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return sorted(
        (
            Demo(name, package, f"{root}.{package}.{name}", _summary(file))
            for package, folder in _submodules(folders, packages=True)
            for name, file in _submodules([str(folder)], packages=False)
        ),
        key=lambda demo: (demo.package, demo.name),
    )


def _summary(file: Path) -> str:
    doc = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    return doc.partition("\n")[0]


def run_demo(demo: Demo, argv: Sequence[str]) -> int:
    """Run one demo and return its exit status; if it raises, print the traceback and return 1."""
    try:
        status = importlib.import_module(demo.module).main(argv)
    except SystemExit as stop:
        # Raised by argparse, and by a demo that refuses the database.
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except Exception:  # noqa: BLE001 - one demo that fails must not keep the others from running
        traceback.print_exc()
        return 1
    return int(status)


def _listing(demos: Sequence[Demo]) -> str:
    if not demos:
        return "there are no demos yet"
    width = max(len(demo.name) for demo in demos)
    lines: list[str] = []
    for package, members in groupby(demos, key=lambda demo: demo.package):
        lines += ["", package, *(f"  {demo.name:<{width}}  {demo.summary}".rstrip() for demo in members)]
    return "\n".join(lines[1:])


def _run_all(demos: Sequence[Demo], argv: Sequence[str], *, quiet: bool) -> int:
    if not demos:
        print("there are no demos yet: nothing to run")
        return 0
    failed: list[str] = []
    for demo in demos:
        if not quiet:
            print(f"\n=== {demo.package}/{demo.name}: {demo.summary}\n", flush=True)
        started = time.perf_counter()
        status = run_demo(demo, argv)
        if status:
            failed.append(demo.name)
        if not quiet or status:
            outcome = f"FAILED with status {status}" if status else "ok"
            print(f"\n--- {demo.name}: {outcome}, {time.perf_counter() - started:.2f} s", flush=True)
    print(f"\n{len(demos) - len(failed)} of {len(demos)} demos passed", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None, *, root: str = "sqla_patterns.demos") -> int:
    """List the demos, run one, or run all, and return the exit status.

    Args:
        argv: The arguments of the command line; those of the process unless given.
        root: The package that has the demos.

    Returns:
        0; 1 if a demo has failed; 2 if there is no such demo.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sqla_patterns demo",
        description="List the demos; run one by its name; run them all on SQLite with 'all'.",
        epilog="Every demo takes --url, --echo and --quiet; 'demo NAME --help' shows what else it takes.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a demo's name, or 'all'; none lists them")
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="...", help="options of the demo")
    # Options before the name are passed to the demo as well: 'demo --quiet all' is 'demo all --quiet'.
    common, arguments = _split_leading_options(sys.argv[1:] if argv is None else argv)
    parsed = parser.parse_args(arguments)
    name: str | None = parsed.name
    rest: list[str] = common + parsed.args

    demos = find_demos(root)
    if name is None:
        print(_listing(demos))
        return 0
    if name == "all":
        return _run_all(demos, rest, quiet="--quiet" in rest)
    by_name = {demo.name: demo for demo in demos}
    if name in by_name:
        return run_demo(by_name[name], rest)
    close = difflib.get_close_matches(name, by_name, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    print(f"there is no demo {name!r}.{hint}\n\n{_listing(demos)}", file=sys.stderr)
    return 2


def _split_leading_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options before the first argument that is none, and the remaining arguments."""
    leading: list[str] = []
    rest = list(arguments)
    while rest and rest[0].startswith("--") and rest[0] != "--help":
        leading.append(rest.pop(0))
        if leading[-1] == "--url" and rest:
            leading.append(rest.pop(0))
    return leading, rest
