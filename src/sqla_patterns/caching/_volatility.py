"""Find out whether a statement has effects, or may answer differently in another session or at another time.

Functions are judged by their name where the statement names them as functions, which cannot be mistaken for labels or
columns. What users write as text, in ``text()`` and ``literal_column()``, is searched for the same names, and the whole
SQL for calls of them, since a construct with a compiler function of the user's shows nowhere else. In doubt the
statement goes to the database: that costs time, whereas a cached answer could be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CalledFunction:
    """A function in a statement, and how many arguments it has there."""

    name: str
    arguments: int


@dataclass(frozen=True, slots=True)
class Volatility:
    """What the answer of a statement depends on beside tables and parameters.

    Attributes:
        acts: Whether it is executed for its effects.
        session: Whether it shows something of the session: its user, its settings, its last insert.
        volatile: Whether it shows the time, or something random.
        has_clock: Whether it calls a function that takes some words for the present time (SQLite).
    """

    acts: bool = False
    session: bool = False
    volatile: bool = False
    has_clock: bool = False


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ACTS: Final = _names(
    "nextval setval next_value lastval currval get_lock release_lock release_all_locks is_free_lock is_used_lock sleep "
    "benchmark pg_sleep pg_sleep_for pg_sleep_until set_config pg_notify pg_cancel_backend pg_terminate_backend "
    "load_extension dblink dblink_exec lo_create lo_import lo_unlink"
)
_ACTS_LIKE: Final = re.compile(r"pg_(?:try_)?advisory\w*|lo_put|pg_logical\w*", re.IGNORECASE)

#: Functions that show something of the session.
_SESSION: Final = _names(
    # PostgreSQL
    "current_setting current_schema current_schemas current_database current_query inet_client_addr inet_client_port "
    "pg_backend_pid pg_my_temp_schema pg_is_other_temp_schema pg_trigger_depth pg_listening_channels "
    "has_table_privilege has_column_privilege has_any_column_privilege has_schema_privilege has_database_privilege "
    "has_function_privilege has_sequence_privilege has_language_privilege has_tablespace_privilege "
    "has_foreign_data_wrapper_privilege has_server_privilege has_type_privilege has_parameter_privilege pg_has_role "
    "row_security_active "
    # MariaDB and MySQL
    "user system_user connection_id database schema last_insert_id row_count found_rows "
    # SQLite
    "last_insert_rowid changes total_changes "
    # Others
    "suser_sname suser_name original_login user_name user_id session_context context_info app_name host_name "
    "scope_identity ident_current userenv sys_context"
)
#: Those that are called without parentheses too.
_SESSION_KEYWORDS: Final = _names("current_user session_user current_role current_catalog current_schema system_user")

#: Functions that may return another value each time.
_VOLATILE: Final = _names(
    "now clock_timestamp statement_timestamp transaction_timestamp timeofday txid_current txid_current_if_assigned "
    "txid_current_snapshot txid_snapshot_xmin pg_current_xact_id pg_current_xact_id_if_assigned pg_current_snapshot "
    "pg_current_wal_lsn pg_postmaster_start_time random random_normal setseed gen_random_uuid gen_random_bytes uuidv4 "
    "uuidv7 curdate curtime utc_date utc_time utc_timestamp rand random_bytes uuid uuid_short sys_guid randomblob "
    "getdate getutcdate sysdatetime sysutcdatetime sysdatetimeoffset newid newsequentialid"
)
_VOLATILE_LIKE: Final = re.compile(r"uuid_generate_v\w+|pg_stat_get\w*|dbms_random\w*", re.IGNORECASE)
#: Those that are called without parentheses too.
_VOLATILE_KEYWORDS: Final = _names(
    "current_timestamp current_date current_time localtime localtimestamp sysdate systimestamp utc_timestamp utc_date "
    "utc_time"
)
#: Functions that use the present time in place of a missing argument: up to how many arguments they do so.
_VOLATILE_UP_TO: Final = {
    "postgresql": {"age": 1},
    "mysql": {"unix_timestamp": 0},
    "mariadb": {"unix_timestamp": 0},
    "sqlite": {"date": 0, "time": 0, "datetime": 0, "julianday": 0, "unixepoch": 0, "strftime": 1},
}
#: Functions of PostgreSQL that convert a string to a time, as a cast does.
_CONVERSIONS: Final = _names("date time timetz timestamp timestamptz abstime age date_part date_trunc extract overlaps")
#: Functions of SQLite that do so, and take some words for the present time.
_CLOCKS: Final = _names("date time datetime julianday unixepoch strftime timediff")

_LITERAL: Final = re.compile(r"'(?:[^']|'')*'")
# Names that are quoted are names of tables, columns and labels; so is what follows AS or a dot.
_QUOTED: Final = re.compile(
    r"\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[\w+\]|\bAS\s+\w+\b|\.\s*\w+\b(?!\s*\()", re.IGNORECASE
)
_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_CALL: Final = re.compile(r"([A-Za-z_]\w*)\s*\(")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_NEXT_VALUE: Final = re.compile(r"\bNEXT\s+VALUE\s+FOR\b|\.\s*(?:NEXTVAL|CURRVAL)\b", re.IGNORECASE)
_SAMPLE: Final = re.compile(r"\bTABLESAMPLE\b", re.IGNORECASE)
#: Variables of the session: @name, @@name. For PostgreSQL these are operators.
_VARIABLE: Final = re.compile(r"(?<![\w@])@{1,2}[A-Za-z_$.'\"`]")
#: For PostgreSQL, USER alone is CURRENT_USER; it is often the name of a table as well.
_BARE_USER: Final = re.compile(r"(?<![\w.\"])(?<!\bfrom )(?<!\bjoin )user\b(?!\s*[.\w\"(])", re.IGNORECASE)
#: Words that PostgreSQL takes for a time that depends on the present one, where it expects a date or time.
_SPECIAL: Final = re.compile(r"\s*(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_DOLLAR: Final = re.compile(r"\$(\w*)\$\s*(?:now|today|tomorrow|yesterday)\b.*?\$\1\$", re.IGNORECASE | re.DOTALL)
_TOO_FEW: Final = {
    "postgresql": re.compile(r"\bage\s*\(", re.IGNORECASE),
    "mysql": re.compile(r"\bunix_timestamp\s*\(\s*\)", re.IGNORECASE),
    "mariadb": re.compile(r"\bunix_timestamp\s*\(\s*\)", re.IGNORECASE),
    "sqlite": re.compile(
        r"\b(?:date|time|datetime|julianday|unixepoch)\s*\(\s*\)|\bstrftime\s*\([^,()]*\)", re.IGNORECASE
    ),
}


def volatility_of(
    sql: str, functions: Iterable[CalledFunction], texts: Iterable[str], dialect: str, *, samples: bool
) -> Volatility:
    """Judge a compiled statement.

    Args:
        sql: The whole statement.
        functions: What it calls through SQLAlchemy's ``func``.
        texts: The parts of it that the user wrote as text.
        dialect: The name of the dialect.
        samples: Whether it reads a sample of a table.
    """
    called = list(functions)
    found = [_of_call(function, dialect) for function in called]
    found += [_of_text(text, dialect) for text in texts]
    bare = _QUOTED.sub(" ", _LITERAL.sub("''", _COMMENT.sub(" ", sql)))
    found.append(_of_names(name.lower() for name in _CALL.findall(bare)))
    found.append(_of_keywords(bare))
    found.append(Volatility(acts=_NEXT_VALUE.search(bare) is not None, volatile=samples))
    return Volatility(
        any(each.acts for each in found),
        any(each.session for each in found),
        any(each.volatile for each in found),
        any(each.has_clock for each in found),
    )


def _of_call(function: CalledFunction, dialect: str) -> Volatility:
    name = function.name.lower()
    too_few = _VOLATILE_UP_TO.get(dialect, {}).get(name)
    by_name = _of_names([name])
    by_keyword = name in _SESSION_KEYWORDS
    return Volatility(
        by_name.acts,
        by_name.session or by_keyword,
        by_name.volatile or name in _VOLATILE_KEYWORDS or (too_few is not None and function.arguments <= too_few),
        dialect == "sqlite" and name in _CLOCKS,
    )


def _of_names(names: Iterable[str]) -> Volatility:
    acts = session = volatile = False
    for name in names:
        acts = acts or name in _ACTS or _ACTS_LIKE.fullmatch(name) is not None
        session = session or name in _SESSION
        volatile = volatile or name in _VOLATILE or _VOLATILE_LIKE.fullmatch(name) is not None
    return Volatility(acts, session, volatile)


def _of_keywords(bare: str) -> Volatility:
    words = {word.lower() for word in _WORD.findall(bare)}
    return Volatility(
        session=not words.isdisjoint(_SESSION_KEYWORDS), volatile=not words.isdisjoint(_VOLATILE_KEYWORDS)
    )


def _of_text(text: str, dialect: str) -> Volatility:
    without_comments = _COMMENT.sub(" ", text)
    bare = _LITERAL.sub("''", without_comments)
    literals = [literal[1:-1] for literal in _LITERAL.findall(without_comments)]
    names = _of_names(name.lower() for name in _CALL.findall(bare))
    words = _of_keywords(_QUOTED.sub(" ", bare))
    too_few = _TOO_FEW.get(dialect)
    calls = {name.lower() for name in _CALL.findall(bare)}
    has_clock = dialect == "sqlite" and not calls.isdisjoint(_CLOCKS)
    session = names.session or words.session
    session = session or (dialect in {"mysql", "mariadb"} and _VARIABLE.search(bare) is not None)
    session = session or (dialect == "postgresql" and _BARE_USER.search(bare) is not None)
    session = session or (has_clock and any(map(is_time_zone_word, literals)))
    volatile = (
        names.volatile
        or words.volatile
        or _SAMPLE.search(bare) is not None
        or (too_few is not None and too_few.search(bare) is not None)
        or (dialect != "sqlite" and (any(map(means_now, literals)) or _DOLLAR.search(text) is not None))
        or (has_clock and any(map(is_clock_word, literals)))
    )
    return Volatility(names.acts or _NEXT_VALUE.search(bare) is not None, session, volatile, has_clock)


def converts_to_times(functions: Iterable[CalledFunction]) -> bool:
    """Return whether PostgreSQL converts strings to dates or times in one of these functions."""
    return any(function.name.lower() in _CONVERSIONS for function in functions)


def means_now(value: str) -> bool:
    """Return whether PostgreSQL takes a string for a time that depends on the present one, where it expects a time."""
    return _SPECIAL.match(value) is not None


def is_clock_word(value: str) -> bool:
    """Return whether the functions of SQLite take a string for the present time."""
    return value.strip().lower() in {"now", "subsec", "subsecond"}


def is_time_zone_word(value: str) -> bool:
    """Return whether the functions of SQLite take a string for the time zone of the process."""
    return value.strip().lower() in {"localtime", "utc"}
