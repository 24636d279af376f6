"""Every demo can run twice and drops its tables; the runner lists demos, runs them and reports."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, inspect

from sqla_patterns import __main__ as command_line
from sqla_patterns.demos._runner import Demo, find_demos, main
from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from tests._support import Database

DEMOS = find_demos()
#: Of what a demo reads by default, as much as shows that it runs; ``make demo`` runs it on all of that.
LESS = {"tree_of_files": ["--limit", "3000"], "import_graph": ["json"]}


def test_demos_have_different_names_and_summaries() -> None:
    assert [name for name, count in Counter(demo.name for demo in DEMOS).items() if count > 1] == []
    assert [demo.module for demo in DEMOS if not demo.summary.endswith(".")] == []


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.name)
def test_a_demo_runs_twice_and_leaves_the_database_as_found(demo: Demo, database: Database) -> None:
    run = importlib.import_module(demo.module).main
    arguments = ["--url", database.url_string, *LESS.get(demo.name, ())]
    assert run(arguments) == 0
    assert run(arguments) == 0
    assert inspect(database.create_engine()).get_table_names() == []


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.name)
def test_a_quiet_demo_prints_nothing(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module(demo.module).main(["--quiet", *LESS.get(demo.name, ())]) == 0
    assert capsys.readouterr().out == ""


# -- the runner, with demos made for the test ----------------------------------------------------

GOOD = '''"""{summary}

More about it.
"""
import sqla_patterns.demos._support as support

def main(argv=None):
    options = support.demo_options(__doc__, argv)
    options.say("ran on", options.url)
    return 0
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return the name of a package of demos: two that pass, one that raises, and one that fails."""
    name = f"fake_demos_{abs(hash(request.node.nodeid))}"
    sources = {
        "birds/owl": GOOD.format(summary="Owls."),
        "birds/wren": GOOD.format(summary="Wrens."),
        "birds/_private": "raise RuntimeError('imported')",
        "fish/pike": '"""Pikes."""\ndef main(argv=None):\n    raise ValueError("pike bites")\n',
        "fish/roach": '"""Roaches."""\ndef main(argv=None):\n    return 3\n',
    }
    for path, source in sources.items():
        file = tmp_path / name / f"{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(source)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_without_a_name_the_demos_are_listed_by_package_and_not_imported(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], root=package) == 0
    assert capsys.readouterr().out.split("\n") == [
        "birds", "  owl    Owls.", "  wren   Wrens.", "", "fish", "  pike   Pikes.", "  roach  Roaches.", "",
    ]  # fmt: skip
    assert not [name for name in sys.modules if name.startswith(f"{package}.")]


def test_a_name_runs_that_demo_with_its_arguments(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["owl", "--url", "sqlite:///x.db"], root=package) == 0
    assert main(["--url", "sqlite:///y.db", "owl"], root=package) == 0
    assert main(["owl", "--quiet"], root=package) == 0
    assert capsys.readouterr().out == "ran on sqlite:///x.db\nran on sqlite:///y.db\n"


def test_an_unknown_name_exits_2_with_the_list_and_a_suggestion(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["owls"], root=package) == 2
    error = capsys.readouterr().err
    assert "there is no demo 'owls'. Did you mean 'owl'?" in error
    assert "roach" in error


def test_all_goes_on_after_a_failure_and_exits_1(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all"], root=package) == 1
    out, err = capsys.readouterr()
    assert out.endswith("\n2 of 4 demos passed; failed: pike, roach\n")
    assert "ran on sqlite://" in out
    assert "roach: FAILED with status 3" in out
    assert "ValueError: pike bites" in err


def test_all_quiet_prints_failures_and_the_summary_only(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--quiet"], root=package) == 1
    assert "owl" not in capsys.readouterr().out


def test_bad_options_of_a_demo_exit_2(package: str) -> None:
    assert main(["owl", "--nonsense"], root=package) == 2


def test_a_package_without_demos_is_reported_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no_demos_at_all").mkdir()
    (tmp_path / "no_demos_at_all" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert main([], root="no_demos_at_all") == 0
    assert main(["all"], root="no_demos_at_all") == 0
    assert capsys.readouterr().out.count("there are no demos yet") == 2


# -- the support -------------------------------------------------------------------------------


def _options(database: Database) -> DemoOptions:
    return demo_options("A demo.", ["--url", database.url_string])


def test_demo_engine_drops_its_tables_also_after_a_failure(database: Database, file_engine: Engine) -> None:
    metadata = MetaData()
    Table("demo_thing", metadata, Column("id", Integer, primary_key=True))
    with pytest.raises(ZeroDivisionError), demo_engine(_options(database), metadata) as engine:
        assert inspect(engine).has_table("demo_thing")
        raise ZeroDivisionError
    assert not inspect(file_engine).has_table("demo_thing")


def test_demo_engine_refuses_a_database_that_has_such_a_table(database: Database, file_engine: Engine) -> None:
    metadata = MetaData()
    thing = Table("demo_thing", metadata, Column("id", Integer, primary_key=True))
    metadata.create_all(file_engine)
    with file_engine.begin() as connection:
        connection.execute(insert(thing), {"id": 1})
    with pytest.raises(SystemExit, match="has a table 'demo_thing' already"), demo_engine(_options(database), metadata):
        pass
    assert inspect(file_engine).has_table("demo_thing")


# -- the command line --------------------------------------------------------------------------


def test_the_command_line_knows_demo_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == 0
    assert "demo" in capsys.readouterr().out
    assert command_line.main(["demo"]) == 0
    assert command_line.main(["nonsense"]) == 2
    assert "unknown command 'nonsense'" in capsys.readouterr().err


def test_the_command_line_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--version"]) == 0
    assert capsys.readouterr().out.strip().startswith("0.")
