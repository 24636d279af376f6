"""The table of the names of SQLAlchemy that the library uses and that are not public API: `PRIVATE_NAMES`.

The library reads such an attribute by the entry for its name: `PrivateName.get` returns a default, and raises no
`AttributeError`, with a release of SQLAlchemy that lacks the name. One test compares the table with SQLAlchemy and
another with this library's source; further tests take away one name after the other and look at what the library does
then. Two parts of the library work on statements inside the ORM and have tables of their own:
``caching/_replay/_probe`` and ``criteria/_private``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, Column, ColumnElement, Executable, Insert, Select, Update
from sqlalchemy.engine import Dialect, Result
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.event import base as event_base
from sqlalchemy.ext.associationproxy import AssociationProxy
from sqlalchemy.orm import (
    AttributeEventToken,
    InstanceState,
    LoaderCriteriaOption,
    Mapper,
    ORMExecuteState,
    QueryContext,
    RelationshipProperty,
    Session,
    SessionTransaction,
    context,
    instrumentation,
    registry,
    strategies,
    unitofwork,
)
from sqlalchemy.orm.identity import IdentityMap
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql import base, compiler, elements, selectable, util
from sqlalchemy.sql.selectable import HasCTE


@dataclass(eq=False)
class PrivateName:
    """A name of SQLAlchemy that is not public API.

    Attributes:
        owner: The class or module that has it.
        name: The name.
        used_for: What the library reads it for.
        without: What happens where SQLAlchemy does not have it.
        series: The series of SQLAlchemy that has it, such as "2.0"; empty for all.
    """

    owner: object
    name: str
    used_for: str
    without: str
    series: str = ""

    def get(self, obj: object, default: object = None) -> Any:
        """Return the attribute of `obj`, or `default` if it has none."""
        return getattr(obj, self.name, default)

    def exists(self) -> bool:
        """Return whether the owner has the name: as an attribute, annotated, a parameter, or set in ``__init__``."""
        parameters: Mapping[str, object] = getattr(self.owner, "__kwdefaults__", None) or {}
        if hasattr(self.owner, self.name) or self.name in parameters:
            return True
        bases: tuple[type, ...] = getattr(self.owner, "__mro__", ())
        return any(
            self.name in vars(each).get("__annotations__", {}) or self.name in _names_in_init(each) for each in bases
        )

    def __str__(self) -> str:
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"


def _names_in_init(cls: type) -> tuple[str, ...]:
    code: object = getattr(vars(cls).get("__init__"), "__code__", None)
    names: tuple[str, ...] = getattr(code, "co_names", ())
    return names


def _either(module: object, name: str) -> Any:
    """Return a class that SQLAlchemy 2.1 has renamed with a leading underscore."""
    return getattr(module, name, None) or getattr(module, f"_{name}", None)


# -- objects -----------------------------------------------------------------------------------------------------------

PENDING_MUTATIONS: Final = PrivateName(
    InstanceState,
    "_pending_mutations",
    "changes to a collection that is not loaded",
    "members that come or go there are known once they are flushed",
)
ORPHANED_OUTSIDE: Final = PrivateName(
    InstanceState,
    "_orphaned_outside_of_session",
    "objects that lost their parent before they came into the session",
    "they are planned for as if they were written",
)
IS_ORPHAN: Final = PrivateName(
    Mapper, "_is_orphan", "whether the flush deletes an object as an orphan", "no object counts as an orphan"
)
DELETE_ORPHANS: Final = PrivateName(
    Mapper, "_delete_orphans", "classes whose objects can be orphans", "no class counts as one of them"
)
PARENT_TOKEN: Final = PrivateName(
    AttributeEventToken,
    "parent_token",
    "whether the other end of a relationship started an event",
    "no event counts as started there",
)
STATE_LISTENERS: Final = PrivateName(
    instrumentation.ClassManager,
    "dispatch",
    "having ext.mutable take over a value that the library puts into an object",
    "changes inside of such a value are not tracked",
)

# -- sessions and flushes ----------------------------------------------------------------------------------------------

FLUSHING: Final = PrivateName(
    Session, "_flushing", "whether a flush is going on, in which no other may begin", "a flush is begun, and refused"
)
WARN_ON_EVENTS: Final = PrivateName(
    Session, "_warn_on_events", "whether a flush is writing", "changes to edges in mapper events are not refused"
)
REMOVE_NEWLY_DELETED: Final = PrivateName(
    Session,
    "_remove_newly_deleted",
    "telling the session which objects a statement has deleted",
    "they are expunged, and a rollback does not bring them back",
)
NEW_IN_TRANSACTION: Final = PrivateName(
    SessionTransaction,
    "_new",
    "telling the session which objects a statement has inserted",
    "a rollback leaves them in the session, and reading one says that its row is gone",
)
KEY_SWITCHES: Final = PrivateName(
    SessionTransaction,
    "_key_switches",
    "having a rollback give objects their former primary key back",
    "update() of temporal rows is refused while objects of the class are loaded",
)
REGISTER_ALTERED: Final = PrivateName(
    Session, "_register_altered", "having a rollback to a savepoint expire objects", KEY_SWITCHES.without
)
IS_CLEAN: Final = PrivateName(
    Session, "_is_clean", "passing over the flushes of a sharded session that write nothing", "each looks for objects"
)
_UNDIVIDED: Final = (
    "the flush of a sharded session is not divided, and packages refuse one that concerns several shards"
)
NEW_OBJECTS: Final = PrivateName(
    Session, "_new", "flushing the objects of one shard after those of another", _UNDIVIDED
)
DELETED_OBJECTS: Final = PrivateName(Session, "_deleted", NEW_OBJECTS.used_for, _UNDIVIDED)
MODIFIED_OBJECTS: Final = PrivateName(IdentityMap, "_modified", NEW_OBJECTS.used_for, _UNDIVIDED)
CONNECTIONS: Final = PrivateName(
    SessionTransaction,
    "_connections",
    "rolling back only those connections of a session whose COMMIT was not tried",
    "SQLAlchemy rolls back all, and warns of those that have committed",
)
SESSION_LISTENERS: Final = PrivateName(
    Session,
    "dispatch",
    "the order of the listeners to before_flush",
    "listeners that come after ours are not waited for",
)
PRESORT_ACTIONS: Final = PrivateName(
    unitofwork.UOWTransaction,
    "presort_actions",
    "a step of a flush that runs when all listeners have run",
    "a flush of nodes or edges of a graph is refused",
)
PROCESSED: Final = PrivateName(
    _either(unitofwork, "Preprocess"),
    "processed",
    "having the flush look again at an object that is deleted late",
    "what such a deletion deletes with it is left to the database",
)
FLUSHED_STATES: Final = PrivateName(
    unitofwork.UOWTransaction,
    "states",
    "which objects a flush deletes",
    "deletions by cascades are not told from updates",
)
FLUSHED_MAPPERS: Final = PrivateName(
    unitofwork.UOWTransaction,
    "mappers",
    "the objects of a flush by class",
    "changes of many-to-many relationships have no history",
)
STATES_OF_HIERARCHY: Final = PrivateName(
    unitofwork.UOWTransaction,
    "states_for_mapper_hierarchy",
    "the objects of a class in a flush",
    "each row is copied to its history by itself: the same versions with more statements",
)
PARENT_EXECUTE_STATE: Final = PrivateName(
    Session.execute,
    "_parent_execute_state",
    "executing a statement without do_orm_execute listeners, or from within one of them",
    "they are called for statements that load whole structures; get_bind() of users gets one argument more",
)
EXECUTE_LISTENERS: Final = PrivateName(
    ORMExecuteState,
    "_events_todo",
    "making versions of what a statement changes when all do_orm_execute listeners have changed the statement",
    "listeners that are called later do not see the statement",
)

# -- mapping -----------------------------------------------------------------------------------------------------------

MANAGERS: Final = PrivateName(
    registry,
    "_managers",
    "the classes of a registry after the mapping of one has failed",
    "registry.mappers is asked, which raises then",
)
INIT_PROPERTIES: Final = PrivateName(
    Mapper,
    "_init_properties",
    "the names of attributes while a class is mapped",
    "a class that renames the columns of an edge is refused",
)
INIT_ARGS: Final = PrivateName(
    RelationshipProperty,
    "_init_args",
    "the arguments of a relationship before mappers are configured",
    "many-to-many histories are made when mappers are configured; a copied relationship counts as joined by its keys",
)
COPY_COLUMN: Final = PrivateName(
    Column, "_copy", "copies of inherited columns for a concrete table", "inherited columns have to be declared by hand"
)
GET_STRATEGY: Final = PrivateName(
    RelationshipProperty,
    "_get_strategy",
    "loading a generic foreign key by the keys that it holds",
    "selectinload() of it joins, which takes more statements",
)
STRATEGIES: Final = PrivateName(RelationshipProperty, "_strategies", GET_STRATEGY.used_for, GET_STRATEGY.without)
LOAD_FOR_PATH: Final = PrivateName(
    _either(strategies, "SelectInLoader"), "_load_for_path", GET_STRATEGY.used_for, GET_STRATEGY.without
)
OMIT_JOIN: Final = PrivateName(
    _either(strategies, "SelectInLoader"), "_init_for_omit_join_m2o", GET_STRATEGY.used_for, GET_STRATEGY.without
)
INSTRUMENTATION_FACTORY: Final = PrivateName(
    instrumentation,
    "_instrumentation_factory",
    "keeping the listeners of the factory that ext.instrumentation replaces",
    "listeners for instrumentation that were attached before are not called any more",
)
DISPATCH_UPDATE: Final = PrivateName(
    _either(event_base, "Dispatch"), "_update", INSTRUMENTATION_FACTORY.used_for, INSTRUMENTATION_FACTORY.without
)

ATTRIBUTE_OPTIONS: Final = PrivateName(
    AssociationProxy,
    "_attribute_options",
    "dataclass options of a proxied attribute",
    "init=, default= and the like of a proxied attribute are refused",
)

# -- statements --------------------------------------------------------------------------------------------------------

PROPAGATE_ATTRS: Final = PrivateName(
    Executable, "_propagate_attrs", "whether a statement is about a class or a table", "all are about tables"
)
WITH_OPTIONS: Final = PrivateName(
    Executable, "_with_options", "loader criteria that a statement has collected", "the statement counts as having none"
)
POST_VALUES_CLAUSE: Final = PrivateName(
    Insert, "_post_values_clause", "ON CONFLICT and ON DUPLICATE KEY", "the statement counts as a plain INSERT"
)
PREFIXES: Final = PrivateName(
    Insert, "_prefixes", "OR REPLACE, and TEMPORARY of a table", "the statement or table counts as having none"
)
MULTI_VALUES: Final = PrivateName(
    Insert, "_multi_values", "the rows of VALUES (...), (...)", "the statement counts as having one row"
)
VALUES: Final = PrivateName(Insert, "_values", "what a statement sets", "it counts as setting nothing by itself")
SELECT_NAMES: Final = PrivateName(
    Insert, "_select_names", "the columns of INSERT ... SELECT", "all columns count as given"
)
ORDERED_VALUES: Final = PrivateName(
    Update, "_ordered_values", "what ordered_values() sets", "the order of the user's values is not kept", series="2.0"
)
MAINTAIN_ORDER: Final = PrivateName(
    Update, "_maintain_values_ordering", ORDERED_VALUES.used_for, ORDERED_VALUES.without, series="2.1"
)
DEANNOTATE: Final = PrivateName(
    util,
    "_deep_deannotate",
    "having criteria inside of has() and any() meet rows of the past",
    "as_of() with such criteria is refused",
)

GIVEN_CRITERION: Final = PrivateName(
    LoaderCriteriaOption,
    "_where_crit_orig",
    "pickling objects that were loaded as of a moment",
    "they cannot be pickled",
)

# -- a SELECT that is rewritten when it is compiled -------------------------------------------------------------------

_REWRITES: Final = "rewriting a qualified SELECT where the database has no QUALIFY"
_REFUSED: Final = "qualify() and qualified() refuse every statement"
_SCATTER: Final = "statements for several shards are refused"
_REWRITES_AND_DIVIDES: Final = f"{_REWRITES}; dividing a statement between shards"
_REFUSED_AND_SCATTER: Final = f"{_REFUSED}; {_SCATTER}"

COMPILE_STATE_FACTORY: Final = PrivateName(Select, "_compile_state_factory", _REWRITES, _REFUSED)
CREATE_FOR_STATEMENT: Final = PrivateName(base.CompileState, "create_for_statement", _REWRITES, _REFUSED)
PLUGIN_CLASS: Final = PrivateName(base.CompileState, "get_plugin_class", _REWRITES, _REFUSED)
SELECT_STATE: Final = PrivateName(selectable, "SelectState", _REWRITES, _REFUSED)
DISPLAY_FROMS: Final = PrivateName(
    _either(selectable, "SelectState"), "_get_display_froms", "refusing a qualified SELECT that is correlated", _REFUSED
)
COMPILER_STACK: Final = PrivateName(compiler.SQLCompiler, "stack", DISPLAY_FROMS.used_for, _REFUSED)
DEFAULT_COMPILE_OPTIONS: Final = PrivateName(
    _either(context, "ORMCompileState"), "default_compile_options", _REWRITES, _REFUSED
)
SAFE_MERGE: Final = PrivateName(base.Options, "safe_merge", _REWRITES, _REFUSED)
SET_BASE_ALIAS: Final = PrivateName(
    _either(context, "ORMCompileState").default_compile_options,
    "_set_base_alias",
    "taking the columns of entities from the subquery of a qualified SELECT",
    _REFUSED,
)
MULTI_ROW_LOADERS: Final = PrivateName(
    _either(context, "ORMSelectCompileState"),
    "multi_row_eager_loaders",
    "joined eager loads beside a native QUALIFY, which would count the rows that they add",
    _REFUSED,
)
COMPILE_OPTIONS: Final = PrivateName(Select, "_compile_options", _REWRITES, _REFUSED)
SUFFIXES: Final = PrivateName(Select, "_suffixes", "what a SELECT is qualified by", _REFUSED)
RAW_COLUMNS: Final = PrivateName(Select, "_raw_columns", _REWRITES_AND_DIVIDES, _REFUSED_AND_SCATTER)
FROM_OBJ: Final = PrivateName(Select, "_from_obj", _REWRITES, _REFUSED)
SETUP_JOINS: Final = PrivateName(Select, "_setup_joins", _REWRITES, _REFUSED)
MEMOIZED_ENTITIES: Final = PrivateName(Select, "_memoized_select_entities", _REWRITES, _REFUSED)
WHERE_CRITERIA: Final = PrivateName(
    Select,
    "_where_criteria",
    f"{_REWRITES}; criteria of temporal rows inside of any() and has()",
    f"{_REFUSED}; any() and has() see closed versions",
)
HAVING_CRITERIA: Final = PrivateName(Select, "_having_criteria", _REWRITES_AND_DIVIDES, _REFUSED_AND_SCATTER)
ORDER_BY_CLAUSES: Final = PrivateName(Select, "_order_by_clauses", _REWRITES_AND_DIVIDES, _REFUSED_AND_SCATTER)
GROUP_BY_CLAUSES: Final = PrivateName(Select, "_group_by_clauses", _REWRITES_AND_DIVIDES, _REFUSED_AND_SCATTER)
DISTINCT: Final = PrivateName(Select, "_distinct", _REWRITES_AND_DIVIDES, _REFUSED_AND_SCATTER)
DISTINCT_ON: Final = PrivateName(Select, "_distinct_on", _REWRITES_AND_DIVIDES, _REFUSED_AND_SCATTER)
ANNOTATIONS: Final = PrivateName(ColumnElement, "_annotations", "which columns of a SELECT are the ORM's", _REFUSED)
ALT_NAMES: Final = PrivateName(
    ColumnElement, "_alt_names", "finding a column in a row by the column that was selected", _REFUSED
)
LABEL_REFERENCE: Final = PrivateName(elements, "_label_reference", "what a qualified SELECT is ordered by", _REFUSED)
TEXTUAL_LABEL_REFERENCE: Final = PrivateName(
    elements, "_textual_label_reference", "what a qualified SELECT is ordered by", _REFUSED
)

#: What the rewriting of a qualified SELECT needs.
NEEDED_TO_REWRITE: Final = (
    COMPILE_STATE_FACTORY,
    CREATE_FOR_STATEMENT,
    PLUGIN_CLASS,
    SELECT_STATE,
    DISPLAY_FROMS,
    COMPILER_STACK,
    DEFAULT_COMPILE_OPTIONS,
    SAFE_MERGE,
    SET_BASE_ALIAS,
    MULTI_ROW_LOADERS,
    COMPILE_OPTIONS,
    PREFIXES,
    SUFFIXES,
    RAW_COLUMNS,
    FROM_OBJ,
    SETUP_JOINS,
    MEMOIZED_ENTITIES,
    WHERE_CRITERIA,
    HAVING_CRITERIA,
    ORDER_BY_CLAUSES,
    GROUP_BY_CLAUSES,
    DISTINCT,
    DISTINCT_ON,
    ANNOTATIONS,
    ALT_NAMES,
    LABEL_REFERENCE,
    TEXTUAL_LABEL_REFERENCE,
)

# -- a statement for several shards ------------------------------------------------------------------------------------

LIMIT: Final = PrivateName(Select, "_limit_clause", "the LIMIT of a statement for several shards", _SCATTER)
OFFSET: Final = PrivateName(Select, "_offset_clause", "the OFFSET of a statement for several shards", _SCATTER)
FETCH: Final = PrivateName(Select, "_fetch_clause", "the FETCH of a statement for several shards", _SCATTER)
INDEPENDENT_CTES: Final = PrivateName(HasCTE, "_independent_ctes", "the CTEs that are added by add_cte()", _SCATTER)
AUTO_CORRELATE: Final = PrivateName(
    Select, "_auto_correlate", "whether a subquery chooses its tables by itself", _SCATTER
)
CORRELATE: Final = PrivateName(Select, "_correlate", "the tables that correlate() names", _SCATTER)
CORRELATE_EXCEPT: Final = PrivateName(Select, "_correlate_except", "the tables that correlate_except() names", _SCATTER)
PROXY_SET: Final = PrivateName(
    ColumnElement, "proxy_set", "the columns that a column of an alias or subquery stands for", _SCATTER
)
CLONED_SET: Final = PrivateName(
    BindParameter, "_cloned_set", "the parameter that one of an adapted statement was copied from", _SCATTER
)
CACHE_KEY: Final = PrivateName(
    Select, "_generate_cache_key", "keeping how statements of one form are routed", "each is analysed"
)
LOAD_OPTIONS: Final = PrivateName(
    QueryContext,
    "default_load_options",
    "marking objects that an INSERT returns with their shard",
    "they are not marked, and SQLAlchemy refuses to write them",
)

# -- engines and results -----------------------------------------------------------------------------------------------

ISOLATION_ON_CONNECT: Final = PrivateName(
    Dialect,
    "_on_connect_isolation_level",
    "the level given to create_engine()",
    "AUTOCOMMIT that was given there is not recognised, and the driver is asked",
)
PROXIED_ENGINE: Final = PrivateName(
    OptionEngine,
    "_proxied",
    "the engine that execution_options() of an engine was called on",
    "an engine stands for itself",
)
MAX_OVERFLOW: Final = PrivateName(
    QueuePool,
    "_max_overflow",
    "how many connections a pool makes beyond its size",
    "a pool counts as making none, so that fewer statements are gathered at once",
)
RESULT_ATTRIBUTES: Final = PrivateName(
    Result,
    "_attributes",
    "whether a result of joined collections needs unique()",
    "explain() of it raises as the query would",
)
RESULT_METADATA: Final = PrivateName(
    Result, "_metadata", "results that are put together of those of several shards", _SCATTER
)
RESULT_UNIQUE: Final = PrivateName(Result, "_unique_filter_state", RESULT_METADATA.used_for, _SCATTER)

#: The table. Names without an underscore are in it where no page documents them.
PRIVATE_NAMES: Final = tuple(each for each in vars().values() if isinstance(each, PrivateName))


def missing_names(series: str) -> list[PrivateName]:
    """Return the names that the installed SQLAlchemy does not have, of those that it should have.

    Args:
        series: The series of SQLAlchemy, such as "2.1".
    """
    return [each for each in PRIVATE_NAMES if each.series in ("", series) and not each.exists()]
