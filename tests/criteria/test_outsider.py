"""What somebody who has not written it has tried in order to get around criteria, and what came of it.

Each spelling of `_spellings` runs beside hidden rows and without them, under each kind of rule and under all of them
(`_outsider` judges). `SAME` means that hidden rows make no difference, neither to what is returned nor to what is
written, and that they stay as they are. The name of an error means that the spelling is refused by it, whether there
are hidden rows or not. `OPEN` is what the guide says is not seen: the test fails once that is not so any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from tests._support._databases import Server

from ._outsider import KINDS, Outcome, Refused, create, make_models, run
from ._spellings import ON_POSTGRESQL, SPELLINGS

# Spellings of all ages, among them some of which SQLAlchemy warns.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning"),
]

SAME, OPEN = "same", "open"
TENANT, UNFILTERED = "TenantViolationError", "UnfilteredStatementError"
#: Refused because of a row of another tenant.
TOLD = "told"
SERIES = "2.0" if sqlalchemy.__version__.startswith("2.0.") else "2.1"

#: For rows of tenants, deleted rows, private rows, and all of these together: the spellings of which something else
#: than `SAME` comes.
OUTCOMES: dict[tuple[str, str, str, str], str] = {
    # Core, texts and bulk calls: refused for tenants, and filtered or harmless for the rest.
    (TENANT, SAME, SAME, TENANT): (
        "exists_of_table exists_select_of_table not_exists_of_table in_table not_in_table tuple_in_table "
        "scalar_of_table scalar_uncorrelated scalar_in_order_by_core scalar_in_having_core scalar_in_limit_core "
        "function_filter_core window_order_core implicit_join_core union_half_core union_core_first intersect "
        "except_core from_statement_core from_statement_update_core from_statement_insert "
        "from_statement_of_shop_by_posts alias_of_core_subquery_without_marks join_core_table "
        "join_core_table_column select_from_table_count selectin_scoped_secondary secondary_join_lazy "
        "secondary_join_any bundle_core any_of_core text_order_by text_prefix text_table_hint text_update_values "
        "update_returning_subquery_core update_subquery_core update_from_core delete_where_exists_core "
        "insert_value_subquery_core insert_from_select_core insert_table bulk_save bulk_insert query_count_core "
        "query_from_statement_core query_subquery_core query_join_core query_column_table "
        "from_statement_insert_many update_case_core cte_core_joined cte_recursive_half_core cte_add_unreferenced "
        "alias_of_renamed_marks join_core_subquery contains_scoped_secondary self_exists_core "
        "insert_foreign_tenant upsert_update upsert_plain_subquery_core upsert_plain_where lambda_in_where "
        "delete_using_core array_constructor any_array_core table_only cte_dml_insert_scoped lateral_core"
    ),
    # Core and texts as a whole: of nobody's class, so that only tenants are protected from them ("Where it holds").
    (TENANT, OPEN, OPEN, TENANT): (
        "table_select table_column selectable_of_mapper persist_selectable table_from_metadata table_alias "
        "table_count lightweight_table core_join core_update core_delete core_update_returning "
        "core_insert_from_select scalar_in_function literal_where_exists_core select_exists_core inherit_car_table "
        "text_whole text_columns text_dml text_dml_delete text_column text_column_quoted text_column_upper "
        "text_column_bracket text_column_comment text_column_schema text_select_from text_select_from_upper "
        "text_suffix text_suffix_of_post text_statement_hint text_operator text_unquoted_column "
        "text_unquoted_table text_func text_in text_exists update_by_key insert_from_text insert_or_replace "
        "bulk_update func_execute_core func_count_column_core ddl_create_table_as ddl_text_insert reflected "
        "reflected_in_exists other_table_object to_metadata lightweight_in_subquery lightweight_capital "
        "lightweight_schema cte_core cte_recursive_core text_columns_subquery text_columns_cte_joined "
        "bulk_save_existing lambda_core pickled_statement json_each_core expression_text_of_attribute "
        "ddl_create_table_as_core tablesample row_to_json regclass cte_dml_core"
    ),
    # What no criterion reaches.
    (TENANT, UNFILTERED, UNFILTERED, UNFILTERED): (
        "from_statement_text alias_of_core_subquery alias_of_core_cte full_join full_join_core "
        "outer_join_core_table select_from_orm_outerjoin select_from_core_outerjoin join_scoped_secondary "
        "outer_join_scoped_secondary joined_scoped_secondary subquery_scoped_secondary "
        "secondary_of_class_table_joined selectin_and_core contains_eager_core_table column_property_core "
        "column_property_core_undefer column_property_column_core hybrid_column_core with_expression_orm "
        "with_expression_core inherit_car_table_exists inherit_exists inherit_update_child "
        "inherit_update_child_where text_where_comment text_where_close query_from_statement user_criteria_core "
        "comment_open_in_text lazy_posts_of_core aliased_union_core nested_join contains_eager_core_alias "
        "contains_eager_subquery inherit_polymorphic_selectable expression_of_attribute "
        "expression_of_attribute_core expression_of_new_object expression_of_new_scoped_object "
        "expression_of_scoped_attribute expression_own_table column_property_core_of_new ddl_create_table_as_class "
        "ddl_create_view_of_class alias_of_limited_image"
    ),
    # What SQLAlchemy or the database does not take.
    ("ProgrammingError", "ProgrammingError", "ProgrammingError", "ProgrammingError"): (
        "expression_in_parameters expression_in_parameters_core expression_in_single_parameters "
        "expression_in_update_by_key expression_in_bulk_mappings expression_in_bulk_update"
    ),
    # An object that is held by hand names its row: tenants have no such row, the others see and write it.
    ("ObjectDeletedError", OPEN, OPEN, "ObjectDeletedError"): (
        "merge_transient_no_load detached_update detached_read detached_delete backref_of_hidden"
    ),
    # Keys that are taken, by rows that are not seen; and SQL that a function of the database executes.
    (OPEN, OPEN, OPEN, OPEN): ("insert_existing_hidden_key merge_transient_hidden merge_of_graph_hidden query_to_xml"),
    # A reference to a row of another tenant; one to no row at all is left to the database.
    (TOLD, SAME, SAME, TOLD): ("foreign_key_hidden foreign_key_update_hidden"),
    ("ObjectDeletedError", SAME, SAME, "ObjectDeletedError"): ("assign_hidden_parent secondary_append_hidden"),
    (TENANT, SAME, UNFILTERED, UNFILTERED): ("inherit_delete_child"),
    (TENANT, "OperationalError", "OperationalError", TENANT): ("text_where_union"),
    ("OperationalError", "OperationalError", "OperationalError", "OperationalError"): ("text_operator_or_comment"),
    (TENANT, "ProgrammingError", "ProgrammingError", TENANT): ("expression_in_parameters_scoped"),
    (SAME, UNFILTERED, SAME, UNFILTERED): ("from_statement_delete"),
    ("IntegrityError", "IntegrityError", "IntegrityError", "IntegrityError"): ("insert_existing_key"),
    (TENANT, "InvalidRequestError", "InvalidRequestError", TENANT): ("update_many_where"),
    ("InvalidRequestError", OPEN, OPEN, "InvalidRequestError"): ("detached_refresh"),
    (TENANT, TENANT, TENANT, TENANT): ("unicode_escape"),
}
#: Where 2.0 refuses what 2.1 filters.
OUTCOMES_OF_2_0: dict[tuple[str, str, str, str], str] = {
    (TENANT, UNFILTERED, UNFILTERED, UNFILTERED): (
        "selectin_scoped_secondary secondary_of_class_table_selectin upsert_plain_subquery_core upsert_plain_where"
    ),
}
#: Constructs of SQLAlchemy 2.1.
NEW_IN_2_1 = {"ddl_create_table_as_class", "ddl_create_view_of_class", "ddl_create_table_as_core"}


def _expected() -> dict[str, dict[str, str]]:
    found = {name: dict.fromkeys(KINDS, SAME) for name in (*SPELLINGS, *ON_POSTGRESQL)}
    for outcomes in (OUTCOMES, OUTCOMES_OF_2_0 if SERIES == "2.0" else {}):
        for by_kind, names in outcomes.items():
            for name in names.split():
                assert name in found, name
                found[name] = dict(zip(KINDS, by_kind, strict=True))
    return found


EXPECTED = _expected()


class Bench:
    """Models of each kind, with their tables, made when they are first asked for.

    Args:
        make_engine: Makes an engine.
        engines: How many databases there are: with two, one has hidden rows and the other has not, and neither is
            filled again as long as nobody writes.
    """

    def __init__(self, make_engine: Callable[[], Engine], engines: int) -> None:
        self._make_engine = make_engine
        self._number = engines
        self._made: dict[str, tuple[SimpleNamespace, list[Engine]]] = {}

    def run(self, spelling: Any, kind: str, *, hidden: bool) -> Outcome:
        if kind not in self._made:
            models, engines = make_models(kind), [self._make_engine() for _ in range(self._number)]
            for engine in engines:
                create(models, engine)
            self._made[kind] = models, engines
        models, engines = self._made[kind]
        return run(models, engines[hidden % len(engines)], spelling, hidden=hidden)

    def close(self) -> None:
        for models, engines in self._made.values():
            for engine in engines:
                for table in reversed(models.tables):
                    table.drop(engine, checkfirst=True)
                engine.dispose()


# A fixture, so that `-m full` runs all kinds, and every other run one of them for each spelling.
@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench(lambda: create_engine("sqlite://", poolclass=StaticPool), engines=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def postgresql_bench() -> Iterator[Bench]:
    server = Server("postgresql", "outsider")  # a database of its own, beside what other processes do
    made = Bench(lambda: create_engine(server.url), engines=1)
    yield made
    made.close()
    server.drop()


@pytest.mark.parametrize("name", [name for name in SPELLINGS if SERIES != "2.0" or name not in NEW_IN_2_1])
def test_a_spelling_on_sqlite(bench: Bench, name: str, kind: str) -> None:
    _check(bench, name, SPELLINGS[name], kind)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("name", [name for name in ON_POSTGRESQL if name != "unicode_escape"])
def test_a_spelling_of_postgresql(postgresql_bench: Bench, name: str, kind: str) -> None:
    _check(postgresql_bench, name, ON_POSTGRESQL[name], kind)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("scoped", ["tenant", "all"])
def test_an_escaped_name_on_postgresql(postgresql_bench: Bench, scoped: str) -> None:
    _check(postgresql_bench, "unicode_escape", ON_POSTGRESQL["unicode_escape"], scoped)


def _check(bench: Bench, name: str, spelling: Any, kind: str) -> None:
    beside, without = (bench.run(spelling, kind, hidden=hidden) for hidden in (True, False))
    expected = EXPECTED[name][kind]
    differs = (beside.result, beside.rows) != (without.result, without.rows) or bool(beside.hidden)
    if expected == OPEN:
        assert differs
        return
    assert beside.hidden == {}
    if expected == TOLD:
        assert beside.result == Refused(TENANT)
        assert without.result is None
        return
    assert (beside.result, beside.rows) == (without.result, without.rows)
    if expected == SAME:
        assert not isinstance(beside.result, Refused), beside.message
        assert not str(beside.result).endswith("Error"), beside.message
    elif expected in (TENANT, UNFILTERED):
        assert beside.result == Refused(expected)
        assert ";" in beside.message  # the way out
    else:
        assert beside.result == expected
