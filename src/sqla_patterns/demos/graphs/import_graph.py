"""The import graph of installed packages: its cycles, an order without them, and a DOT file.

It reads source files and does not import them::

    python -m sqla_patterns demo import_graph sqlalchemy asyncio --dot imports.dot
"""

from __future__ import annotations

import ast
import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_parser
from sqla_patterns.graphs import (
    GraphEdge,
    GraphNode,
    find_cycles,
    load_graph,
    shortest_path,
    to_dot,
    topological_order,
)


class Base(DeclarativeBase):
    pass


class Module(GraphNode, Base):
    __tablename__ = "graph_module"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)


class Imports(GraphEdge[Module], Base):
    """The lower module imports the higher one when it is executed, rather than inside a function."""

    __tablename__ = "graph_import"

    line: Mapped[int]


class Options(DemoOptions):
    packages: list[str]
    dot: str | None


def find_modules(package: str) -> Iterator[tuple[str, Path]]:
    """Yield the names and files of the modules of a package, or of a single module."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise SystemExit(f"there is no package {package!r} in Python source on this interpreter's path")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        yield package, origin
        return
    for file in sorted(origin.parent.rglob("*.py")):
        parts = file.relative_to(origin.parent).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def find_imports(name: str, file: Path, known: set[str]) -> dict[str, int]:
    """Return which of the `known` modules a module imports when it is executed, with the line of the first import."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return {}
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: dict[str, int] = {}
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        for target in _targets(node, package):
            # "from a import b" imports the module a.b, or a name of the module a.
            module = target if target in known else target.rpartition(".")[0]
            if module in known and module != name:
                line: int = getattr(node, "lineno", 0)
                found[module] = min(found.get(module, line), line)
        pending += (child for child in ast.iter_child_nodes(node) if not _is_deferred(child))
    return found


def _targets(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_deferred(node: ast.AST) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return True
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def main(argv: Sequence[str] | None = None) -> int:
    parser = demo_parser(__doc__)
    parser.add_argument("packages", nargs="*", default=["asyncio", "sqlalchemy.orm"], help="packages to read")
    parser.add_argument("--dot", metavar="FILE", help="write the graph there, in the language of Graphviz")
    options = parser.parse_args(argv, namespace=Options())

    files = {name: file for package in options.packages for name, file in find_modules(package)}
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        modules = {name: Module(name=name) for name in files}
        session.add_all(modules.values())
        for name, file in files.items():
            for target, line in find_imports(name, file, files.keys() & modules.keys()).items():
                modules[name].add_neighbor(modules[target], line=line)
        started = time.perf_counter()
        session.commit()
        count = session.scalar(select(func.count()).select_from(Imports))
        options.say(f"{len(modules)} modules, {count} imports, written in {time.perf_counter() - started:.2f} s")

        cycles = find_cycles(session, Module)
        options.say(f"\n{len(cycles)} groups of modules that import each other, one cycle of each:")
        for cycle in cycles:
            options.say("  ", " -> ".join(module.name for module in cycle))

        # Remove one import of each group until there are no cycles, as one would in the source.
        removed = 0
        while cycles:
            for lower, higher, *_ in cycles:
                removed += lower.remove_neighbor(higher)
            session.commit()
            cycles = find_cycles(session, Module)
        order = list(reversed(topological_order(session, Module)))
        place = {module.name: number for number, module in enumerate(order)}
        nodes = load_graph(session, Module)
        assert all(place[other.name] < place[node.name] for node in nodes for other in node.higher_neighbors())
        options.say(f"\nwithout {removed} of the imports, each module can come after those that it imports:")
        options.say("  ", ", ".join(module.name for module in order[:8]))

        most = max(nodes, key=lambda module: len(module.lower_neighbors()))
        options.say(f"\nimported by most others, {len(most.lower_neighbors())} modules: {most.name}")
        imported = func.count().label("imported")
        first = session.scalars(
            select(Module).where(Module.is_source()).join(Imports, Imports.lower_id == Module.name)
            .group_by(Module.name).order_by(imported.desc(), Module.name).limit(1)
        ).first()  # fmt: skip
        if first is not None:
            path = shortest_path(session, first, most)
            if path is not None:
                options.say(
                    "the shortest path there from", first.name, "is", " -> ".join(module.name for module in path)
                )

        if options.dot is not None:
            Path(options.dot).write_text(to_dot(nodes, name="imports"), encoding="utf-8")
            options.say(f"\nwritten {options.dot}: dot -Tsvg {options.dot} > imports.svg")
    return 0
