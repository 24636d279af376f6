"""The names of SQLAlchemy that are not public API exist, and what happens where one does not."""

from typing import Any

import pytest
from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import InstanceState, LoaderCriteriaOption, Mapper, Session, evaluator
from sqlalchemy.sql import util as sql_util
from sqlalchemy.sql.compiler import SQLCompiler

from sqla_patterns.criteria import TenantViolationError
from sqla_patterns.criteria import _probe as probe_module
from sqla_patterns.criteria._private import WeakIdentityMap
from tests.conftest import BaseFactory

from ._models import HIDERS, fill, map_blog, reading

NAMES: list[tuple[Any, str]] = [
    (LoaderCriteriaOption, "_resolve_where_criteria"),
    (LoaderCriteriaOption, "_traverse_internals"),
    (Select, "_generate_cache_key"),
    (Select, "_with_options"),
    (Select, "_propagate_attrs"),
    (Select, "_annotations"),
    (Select, "_is_clone_of"),
    (Select, "_where_criteria"),
    (Select, "_having_criteria"),
    (Select, "_prefixes"),
    (Select, "_suffixes"),
    (Select, "_hints"),
    (Select, "_statement_hints"),
    (SQLCompiler, "_generate_delimited_and_list"),
    (SQLCompiler, "_compose_select_body"),
    (sql_util, "ClauseAdapter"),
    (sql_util, "_deep_annotate"),
    (sql_util, "_deep_deannotate"),
    (Session, "_identity_lookup"),
    (Session, "_bulk_save_mappings"),
    (Mapper, "_is_orphan"),
    (InstanceState, "_pending_mutations"),
]


@pytest.mark.parametrize(("owner", "name"), NAMES, ids=lambda value: getattr(value, "__name__", value))
def test_the_name_exists(owner: Any, name: str) -> None:
    assert hasattr(owner, name) or name in getattr(owner, "__annotations__", {})


def test_the_evaluator_exists() -> None:
    assert hasattr(evaluator, "_EvaluatorCompiler") or hasattr(evaluator, "EvaluatorCompiler")


def test_the_identity_map_is_the_one_of_sessions() -> None:
    assert type(Session().identity_map) is WeakIdentityMap


def test_a_statement_whose_conditions_cannot_be_seen_is_refused(
    plain_bases: BaseFactory, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    blog = map_blog(plain_bases(), next(each for each in HIDERS if each.strict))
    fill(engine, blog)
    # As if SQLAlchemy rendered WHERE by a method of another name.
    monkeypatch.delattr(probe_module._ProbeCompiler, "_generate_delimited_and_list")
    with reading(engine, blog) as session, pytest.raises(TenantViolationError):
        session.scalars(select(blog.post)).all()
