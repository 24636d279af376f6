"""The house rules that a program can check: exports, docstrings, the import DAG, imports without effects or extras."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import sqla_patterns

ROOT = Path(__file__).parents[1]
SRC = Path(sqla_patterns.__file__).parent
#: What stands on the packages. `syntax`, `asyncio` and the like are packages.
TOP = {"demos", "profiling", "__main__"}
#: Packages that need an extra: importing one without it tells the pip command.
NEEDS_EXTRA = {"caching": ("dogpile", "sqla-patterns[caching]")}


def _children() -> list[str]:
    return sorted(info.name for info in pkgutil.iter_modules([str(SRC)]))


def _is_ground(name: str) -> bool:
    return name == "exceptions" or (name.startswith("_") and name not in TOP)


#: A folder without __init__.py is no package yet.
PACKAGES = [name for name in _children() if not _is_ground(name) and name not in TOP]


def _modules() -> list[str]:
    found = pkgutil.walk_packages([str(SRC)], "sqla_patterns.")
    return sorted(info.name for info in found)


MODULES = _modules()
PUBLIC = [
    name for name in MODULES if not any(part.startswith("_") for part in name.split(".")) and ".demos" not in name
]

METHODS = (FunctionType, classmethod, staticmethod, property)

# -- exports and docstrings ----------------------------------------------------------------------


def _docless(module: ModuleType) -> Iterator[str]:
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not value.__doc__:
            yield name
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if attribute.startswith("_") or not isinstance(member, METHODS):
                    continue
                # An override may leave the words to the method that it overrides. Not by getattr: a mixin's
                # attributes are descriptors that want a mapped class.
                if not any(getattr(vars(base).get(attribute), "__doc__", None) for base in value.__mro__):
                    yield f"{name}.{attribute}"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_names_its_exports_in_a_tuple(name: str) -> None:
    module = importlib.import_module(name)
    exports = getattr(module, "__all__", None)
    assert isinstance(exports, tuple), f"{name} needs an __all__ tuple"
    assert [export for export in exports if not hasattr(module, export)] == []
    assert len(set(exports)) == len(exports)


@pytest.mark.parametrize("name", [name for name in MODULES if name.rpartition(".")[2].startswith("_")])
def test_a_private_module_has_no_list_of_exports(name: str) -> None:
    assert not hasattr(importlib.import_module(name), "__all__"), "only public modules have __all__"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_exports_every_public_definition_of_its_own(name: str) -> None:
    module = importlib.import_module(name)
    own = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
    }
    assert own - set(module.__all__) == set(), "define it with a leading underscore, or export it"


@pytest.mark.parametrize("name", ["sqla_patterns", "sqla_patterns.__main__", "sqla_patterns.demos", *PUBLIC])
def test_public_things_have_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    assert list(_docless(module)) == []


def test_the_root_exports_nothing_but_the_version() -> None:
    source = (SRC / "__init__.py").read_text(encoding="utf-8")
    imported = {name for name, _ in _imports("sqla_patterns", ast.parse(source), is_package=True)}
    assert not any(name.startswith("sqla_patterns.") for name in imported)
    assert sqla_patterns.__version__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sqla_patterns.no_such_name


# -- the import DAG ------------------------------------------------------------------------------


def _imports(module: str, tree: ast.Module, *, is_package: bool) -> Iterator[tuple[str, int]]:
    """Yield the full names that *module* imports, relative imports resolved, with their lines."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join(parents[: len(parents) - node.level + 1] + ([base] if base else []))
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def _offences(name: str) -> Iterator[str]:
    """Yield what *name* imports against the rule: the ground below packages below the top, no package in another."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_bytes())
    here = name.split(".")[1]
    for target, line in _imports(name, tree, is_package=spec.submodule_search_locations is not None):
        parts = target.split(".")
        if parts[0] != "sqla_patterns" or len(parts) < 2 or parts[1] in (here, "__version__"):
            continue
        if here in TOP or (_is_ground(parts[1]) and not target.startswith("sqla_patterns.__main__")):
            continue
        yield f"{name}:{line} imports {target}"


@pytest.mark.parametrize("name", MODULES)
def test_packages_import_the_ground_and_the_ground_imports_no_package(name: str) -> None:
    assert list(_offences(name)) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports for type checkers count: what knows each other only there is one thing all the same."""
    graph: dict[str, set[str]] = {}
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        is_package = spec.submodule_search_locations is not None
        targets = {
            target for target, _ in _imports(name, ast.parse(Path(spec.origin).read_bytes()), is_package=is_package)
        }
        # ``from ._names import X`` is about the module, ``from . import _names`` too.
        found = {each if each in MODULES else each.rpartition(".")[0] for each in targets} & set(MODULES)
        graph[name] = {each for each in found if not name.startswith(f"{each}.") and each != name}
    list(TopologicalSorter(graph).static_order())


# -- imports -------------------------------------------------------------------------------------

BLOCK = """
import sys
class _Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by a test)", name=name)
sys.meta_path.insert(0, _Blocked())
"""

# sqlalchemy.ext.mutable listens on import by itself; that is not the doing of a package which imports it.
EFFECTS = """
import importlib
import sqlalchemy.ext.mutable
from sqlalchemy import event
from sqlalchemy.event import registry
from sqlalchemy.orm import mapperlib

before = set(registry._key_to_collection)


def refuse(*args, **kwargs):
    raise AssertionError(f"a listener is registered on import: {args}")


# Fails at the line at fault; what reaches SQLAlchemy on other ways is found by the comparison below.
event.listen = refuse
importlib.import_module(NAME)
assert set(registry._key_to_collection) == before, "a listener was registered on import"
assert not any(each._managers for each in mapperlib._all_registries()), "something was mapped on import"
"""


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )


def _importable(name: str) -> str:
    return "sqla_patterns" if name == "" else f"sqla_patterns.{name}"


@pytest.mark.parametrize("name", ["", "exceptions", *PACKAGES])
def test_importing_registers_no_listener_and_maps_nothing(name: str) -> None:
    result = _python(EFFECTS.replace("NAME", repr(_importable(name))))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["", "exceptions", "__main__", "demos._runner", *PACKAGES])
def test_a_package_imports_without_extras(name: str) -> None:
    module = _importable(name)
    code = BLOCK.format(blocked={"dogpile", "greenlet", "rich"})
    if name in NEEDS_EXTRA:
        _, command = NEEDS_EXTRA[name]
        code += f"try:\n    import {module}\nexcept ImportError as error:\n    message = str(error)\n"
        code += f"assert 'pip install' in message and {command!r} in message, message"
    else:
        code += f"import {module}"
    result = _python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", sorted(NEEDS_EXTRA.keys() & set(PACKAGES)))
def test_a_package_with_an_extra_needs_nothing_beyond_it(name: str) -> None:
    blocked = {"dogpile", "greenlet", "rich"} - {NEEDS_EXTRA[name][0]}
    result = _python(BLOCK.format(blocked=blocked) + f"import {_importable(name)}")
    assert result.returncode == 0, result.stderr


# -- four paths ----------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_its_four_paths(package: str) -> None:
    wanted = {
        f"tests/{package}": ROOT / "tests" / package,
        f"docs/patterns/{package}.md": ROOT / "docs" / "patterns" / f"{package}.md",
        f"src/sqla_patterns/demos/{package}/__init__.py": SRC / "demos" / package / "__init__.py",
    }
    assert [name for name, path in wanted.items() if not path.exists()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_listed_in_the_readme(package: str) -> None:
    assert f"`sqla_patterns.{package}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_of_docstrings_documentation_and_readme_are_run(pytestconfig: pytest.Config) -> None:
    # conftest.py in the root and in docs collect them; here only that nobody takes them out of the run.
    assert {"src", "docs", "README.md"} <= set(pytestconfig.getini("testpaths"))


def test_the_suite_treats_warnings_as_errors_and_xfail_as_strict(pytestconfig: pytest.Config) -> None:
    assert "error" in pytestconfig.getini("filterwarnings")
    assert pytestconfig.getini("xfail_strict") in (True, "true")


# -- the architecture page -----------------------------------------------------------------------

#: Strings of the source that look like keys and are none: names of loggers, modules and bound parameters.
NO_KEYS = {
    "sqla_patterns",
    "sqla_patterns.",
    "sqla_patterns.caching",
    "sqla_patterns.trees",
    "sqla_patterns.versioning",
}


def _keys_of_the_source() -> set[str]:
    found: set[str] = set()
    for path in SRC.rglob("*.py"):
        if "demos" in path.parts:
            continue
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.findall(r"\A(?:_*sqla_patterns[\w.]*|__sqla_\w+__|_sqla_\w+)\Z", node.value))
    return found


def test_every_key_that_the_library_keeps_is_on_the_architecture_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert {key for key in _keys_of_the_source() - NO_KEYS if f"`{key}`" not in page} == set()


def test_the_architecture_page_names_no_key_that_is_gone() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = "\n".join(path.read_text(encoding="utf-8") for path in SRC.rglob("*.py"))
    named = re.findall(r"`(_*sqla_[\w.]+|_association_\w+)`", page)
    assert [key for key in named if key not in source] == []


# -- texts ---------------------------------------------------------------------------------------

#: Words that the project does not use, each with what it says instead.
PHRASES = {
    r"\b(the|a|each|every|this|these|which|another) rooms?\b": "package",
    r"\banew\b": "again, reassigned",
    r"\bgoes? past\b": "bypasses",
    r"\bbehind the back\b": "without telling",
    r"\bhas no eyes\b": "does not see",
    r"\b(of yours|of the user's own making)\b": "the user's",
    r"\bdoubles\b": "duplicates",
    r"\bwhat becomes of\b": "what happens to",
    r"\bnobody will take\b": "is ignored",
}


def _texts() -> list[Path]:
    folders = ("src", "tests", "docs", "benchmarks")
    found = [path for folder in folders for ending in ("py", "md") for path in (ROOT / folder).rglob(f"*.{ending}")]
    found += sorted(ROOT.glob("*.md"))
    return [path for path in found if "_build" not in path.parts and path != Path(__file__)]


@pytest.mark.parametrize("phrase", PHRASES)
def test_the_texts_use_plain_words(phrase: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(phrase, line, re.IGNORECASE)
    ]
    assert found == [], f"say: {PHRASES[phrase]}"


def test_pages_have_at_most_120_columns() -> None:
    """A table, a link target and a line of code cannot be broken."""
    found: list[str] = []
    for path in _texts():
        if path.suffix != ".md":
            continue
        fenced = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            breakable = not fenced and not line.startswith(("|", "`", "[")) and " " in line.strip()
            if len(line) > 120 and breakable:
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_the_performance_page_shows_what_the_benchmarks_have_printed() -> None:
    spec = importlib.util.spec_from_file_location("_tables", ROOT / "benchmarks" / "_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert tables.page_with_tables(page) == page
