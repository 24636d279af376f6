"""Put the answers of several shards together to that of one database, or say which clause cannot be.

- Rows without an order are listed shard by shard.
- With ORDER BY, each shard sorts, with LIMIT plus OFFSET rows at most, and the sorted rows are merged. What they are
  sorted by is selected too, and taken off again.
- DISTINCT rows are compared in Python.
- Aggregates and GROUP BY: each shard aggregates, groups with equal keys are added up, and an average is made of sums
  and counts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import chain, islice
from typing import Any, Final, cast

from sqlalchemy import Connection, func, inspect, type_coerce
from sqlalchemy.sql import operators
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from .._sqlalchemy import SelectParts, joined_result, must_be_unique, no_rows, parts_of
from .._typing import AnyExpression, AnyResult, AnySelect
from ._errors import UnmergeableScatterError
from ._expressions import AGGREGATES, is_aggregate
from ._kinds import BIND, FUNCTION, FUNCTION_FILTER, LABEL, OVER, UNARY
from ._order import Rank, Sorting, has_strings, ranks, raw, resolve_label, sorting_of
from ._shards import Shards

#: Execute a statement on each shard, and return the results in the order of the shards.
Invoke = Callable[[AnySelect], list[AnyResult]]
Row = tuple[Any, ...]

_HIDDEN: Final = "sqla_patterns_hidden_"


@dataclass(frozen=True)
class Reading:
    """A SELECT that is to be read from several shards.

    Attributes:
        statement: The statement of the user's.
        parameters: What is bound at execution.
        invoke: Executes a statement on each of the shards.
        connect: Returns the connection to the first of them, for questions about collations.
        all_shards: All shards.
        is_single: Whether ``Query`` gives objects for it.
        yield_per: How many rows to fetch at once; None for all.
    """

    statement: AnySelect
    parameters: dict[str, Any]
    invoke: Invoke
    connect: Callable[[], Connection]
    all_shards: Shards
    is_single: bool
    yield_per: int | None

    @property
    def dialect(self) -> str:
        return self.all_shards.dialect_name


def merge_concat(reading: Reading) -> AnyResult:
    """Return the rows of each shard, one shard after the other, whatever the statement says."""
    results = reading.invoke(reading.statement)
    return results[0].merge(*results[1:]) if results else empty(reading.statement)


def merge(reading: Reading) -> AnyResult:
    """Return the answer that one database with all rows would give.

    Raises:
        UnmergeableScatterError: It cannot be known.
    """
    parts = parts_of(reading.statement)
    columns = _columns_of(reading.statement)
    _refuse(parts, columns, reading)
    if parts.group_by or any(_aggregate_in(each) for each in columns):
        return _merge_groups(reading, parts, columns)
    return _merge_rows(reading, parts, columns)


def empty(statement: Any) -> AnyResult:
    """Return the answer to a statement for which no shard has a row."""
    described: list[dict[str, Any]] = getattr(statement, "column_descriptions", [])
    return no_rows([str(each["name"]) for each in described])


def empty_aggregate(statement: AnySelect) -> AnyResult | None:
    """Return the row of aggregates of no rows; None if something else is selected, which a shard has to answer."""
    parts = parts_of(statement)
    columns = _columns_of(statement)
    if parts.group_by or parts.having or parts.limit is not None or parts.offset is not None:
        return None
    kinds = [
        _bare(each).name if _aggregate_in(each) and isinstance(_bare(each), FunctionElement) else None
        for each in columns
    ]
    if not all(kind in AGGREGATES for kind in kinds):
        return None
    return no_rows(
        [str(each["name"]) for each in statement.column_descriptions],
        [tuple(0 if kind == "count" else None for kind in kinds)],
    )


def has_aggregates(statement: AnySelect) -> bool:
    """Return whether a SELECT without GROUP BY gives a row even if there is none to read."""
    return not parts_of(statement).group_by and any(_aggregate_in(each) for each in _columns_of(statement))


def _refuse(parts: SelectParts, columns: Sequence[AnyExpression], reading: Reading) -> None:
    found = None
    if parts.having:
        found = "HAVING"
    elif parts.fetch is not None:
        found = "FETCH FIRST (use limit())"
    elif parts.distinct_on:
        found = "DISTINCT ON"
    elif parts.is_distinct and (parts.group_by or any(_aggregate_in(each) for each in columns)):
        found = "DISTINCT of groups"
    if found is not None:
        raise _error(found)


def _error(clause: str) -> UnmergeableScatterError:
    return UnmergeableScatterError(
        f"{clause}: the answers of several shards cannot be put together; hold the statement to one shard by its shard "
        "key or pinned_to(), or use execution_options(shard_merge='concat') and put the rows together yourself"
    )


# -- rows --------------------------------------------------------------------------------------------------------------


def _merge_rows(reading: Reading, parts: SelectParts, columns: Sequence[AnyExpression]) -> AnyResult:
    sortings = _sortings(parts, columns, reading)
    if parts.is_distinct:
        for sorting in sortings:
            if not _is_selected(sorting.expression, columns):
                raise _error(f"DISTINCT with ORDER BY {sorting.expression}, which is not selected")
    limit, offset = _number(parts.limit, "LIMIT", reading), _number(parts.offset, "OFFSET", reading) or 0
    statement = reading.statement
    if sortings:
        hidden = [raw(each.expression).label(f"{_HIDDEN}{place}") for place, each in enumerate(sortings)]
        statement = statement.add_columns(*hidden)
    if limit is not None:
        statement = statement.limit(limit + offset)
    if parts.offset is not None:
        statement = statement.offset(None)
    results = reading.invoke(statement)
    template = results[0]
    width = len(list(template.keys())) - len(sortings)
    unique = must_be_unique(template)
    # The series of SQLAlchemy disagree on what a row is to a type checker.
    sources: list[Any] = [each.unique() if unique else each for each in results]
    listed: list[Iterator[Row]] = [iter(each) for each in sources]
    rows: Iterator[Row] = chain.from_iterable(listed)
    if sortings:
        rows = heapq.merge(*listed, key=lambda row: ranks(row[width:], sortings))
    if parts.is_distinct:
        rows = _distinct(rows, width)
    if limit is not None or offset:
        rows = islice(rows, offset, None if limit is None else offset + limit)
    # SQLAlchemy makes rows of tuples.
    cut = (tuple(row)[:width] for row in rows)
    joined = joined_result(template, width, cut, is_single=reading.is_single, unique=unique)
    return joined if reading.yield_per is None else joined.yield_per(reading.yield_per)


def _distinct(rows: Iterator[Row], width: int) -> Iterator[Row]:
    seen: set[Row] = set()
    for row in rows:
        key = _key(row[:width])
        if key not in seen:
            seen.add(key)
            yield row


def _key(values: Sequence[Any]) -> Row:
    """Return what makes rows equal: objects by identity, NULLs and NaNs among each other."""
    found = tuple("nan" if each != each else each for each in values)
    try:
        hash(found)
    except TypeError:
        found = tuple(id(each) if inspect(each, raiseerr=False) is not None else each for each in values)
        try:
            hash(found)
        except TypeError as error:
            raise _error(f"DISTINCT or GROUP BY of {values!r}, whose values Python cannot tell apart") from error
    return found


def _sortings(parts: SelectParts, columns: Sequence[AnyExpression], reading: Reading) -> list[Sorting]:
    found = [sorting_of(each, columns, reading.dialect) for each in parts.order_by]
    for sorting in found:
        _check_strings(sorting.expression, sorting.collation, f"ORDER BY {sorting.expression}", reading, sorting.labels)
    return found


def _check_strings(
    expression: AnyExpression, collation: str | None, what: str, reading: Reading, labels: Sequence[str] = ()
) -> None:
    if has_strings(expression, labels) and not reading.all_shards.compares_bytes(reading.connect(), collation):
        raise _error(
            f"{what}: the collation of the database sorts strings in an order that Python does not know (a binary "
            "collation, as in column.collate('C'), would do)"
        )


def _is_selected(expression: AnyExpression, columns: Sequence[AnyExpression]) -> bool:
    return any(expression.compare(_bare(each)) for each in columns)


def _number(clause: Any, name: str, reading: Reading) -> int | None:
    if clause is None:
        return None
    if not isinstance(clause, BIND):
        raise _error(f"{name} {clause}, which is no number,")
    value: Any = reading.parameters.get(clause.key, clause.effective_value)
    return None if value is None else int(value)


# -- groups ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fold:
    """How a column of the answer is made.

    Attributes:
        kind: "key" of a group, or the name of an aggregate.
        places: The columns of the shards' rows that it is made of.
        sorting: How the values of min() and max() compare.
    """

    kind: str
    places: tuple[int, ...]
    sorting: Sorting | None = None


def _merge_groups(reading: Reading, parts: SelectParts, columns: Sequence[AnyExpression]) -> AnyResult:
    keys = [resolve_label(each, columns, "GROUP BY") for each in parts.group_by]
    for key in keys:
        if isinstance(key, FUNCTION) and is_aggregate(key):
            raise _error(f"GROUP BY {key}")
    sortings = _sortings(parts, columns, reading)
    width = len(columns)
    hidden: list[AnyExpression] = list(keys)

    def hide(expression: AnyExpression) -> int:
        hidden.append(expression)
        return width + len(hidden) - 1

    def fold(column: AnyExpression, place: int) -> _Fold:
        inner = _bare(column)
        if not _aggregate_in(inner):
            if not (isinstance(inner, BIND) or any(inner.compare(key) for key in keys)):
                raise _error(f"{inner}, which is neither an aggregate nor in GROUP BY")
            return _Fold("key", (place,))
        name, argument, wrap = _aggregate_of(inner)
        if name == "avg":
            return _Fold(name, (hide(_plain(wrap(func.sum(argument)))), hide(wrap(func.count(argument)))))
        if name in ("min", "max"):
            sorting = sorting_of(argument, columns, reading.dialect)
            _check_strings(argument, sorting.collation, f"{name}({argument})", reading, sorting.labels)
            return _Fold(name, (place, hide(raw(inner))), sorting)
        return _Fold(name, (place,))

    folds = [fold(column, place) for place, column in enumerate(columns)]
    # What a group is sorted by is a key of it, or an aggregate that is folded as well.
    for sorting in sortings:
        expression = sorting.expression if _aggregate_in(sorting.expression) else raw(sorting.expression)
        if not (_aggregate_in(expression) or any(sorting.expression.compare(key) for key in keys)):
            raise _error(f"ORDER BY {sorting.expression}, which is neither an aggregate nor in GROUP BY")
        place = hide(expression)
        folds.append(fold(expression, place) if _aggregate_in(expression) else _Fold("key", (place,)))
    limit, offset = _number(parts.limit, "LIMIT", reading), _number(parts.offset, "OFFSET", reading) or 0
    labelled = [each.label(f"{_HIDDEN}{place}") for place, each in enumerate(hidden)]
    statement = reading.statement.order_by(None).limit(None).offset(None).add_columns(*labelled)
    results = reading.invoke(statement)
    template = results[0]
    groups: dict[Row, list[Row]] = {}
    for row in chain.from_iterable(results):
        groups.setdefault(_key(row[width : width + len(keys)]), []).append(tuple(row))
    rows: list[Row] = [tuple(_folded(each, found, reading.dialect) for each in folds) for found in groups.values()]
    if sortings:
        rows.sort(key=lambda row: ranks(row[width:], sortings))
    rows = rows[offset : None if limit is None else offset + limit]
    return joined_result(template, width, [row[:width] for row in rows], is_single=False, unique=False)


def _folded(fold: _Fold, rows: Sequence[Row], dialect: str) -> Any:
    if fold.kind == "key":
        return rows[0][fold.places[0]]
    if fold.kind == "avg":
        sums, counts = ([row[place] for row in rows] for place in fold.places)
        return _average(_sum(sums), sum(counts), dialect)
    if fold.kind in ("min", "max"):
        value, compared = fold.places
        found = [row for row in rows if row[value] is not None]
        if not found:
            return None
        sorting = cast("Sorting", fold.sorting)
        choose: Any = min if fold.kind == "min" else max
        ranked = [(Rank(row[compared], sorting), row[value]) for row in found]
        return choose(ranked, key=_rank)[1]
    values = [row[fold.places[0]] for row in rows]
    return sum(values) if fold.kind == "count" else _sum(values)


def _rank(pair: tuple[Rank, Any]) -> Rank:
    return pair[0]


def _plain(total: AnyExpression) -> AnyExpression:
    """Return a sum as the driver gives it: a type may have made a Decimal of a float, and rounded."""
    return type_coerce(total, NullType())


def _sum(values: Sequence[Any]) -> Any:
    found = [each for each in values if each is not None]
    return sum(found[1:], found[0]) if found else None


def _average(total: Any, count: int, dialect: str) -> Any:
    """Divide as the database does: SQLite by floats, PostgreSQL and MySQL exactly, to a scale of their own."""
    if total is None or not count:
        return None
    if dialect == "sqlite" or isinstance(total, float):
        return float(total) / count
    if dialect == "postgresql":
        return _divide_numeric(Decimal(total), Decimal(count))
    if dialect in ("mysql", "mariadb"):
        scale = max(0, -int(Decimal(total).as_tuple().exponent)) + 4
        return (Decimal(total) / count).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
    raise _error(f"avg() on {dialect}")


def _divide_numeric(total: Decimal, count: Decimal) -> Decimal:
    """Return the quotient with as many digits as PostgreSQL gives it (``select_div_scale`` in ``numeric.c``)."""

    def weight(value: Decimal) -> tuple[int, int]:
        # Of the first group of four digits: which power of 10,000 it stands at, and what it is.
        if not value:
            return 0, 0
        power = value.adjusted() // 4
        return power, int(abs(value).scaleb(-4 * power))

    (one, first), (two, second) = weight(total), weight(count)
    quotient = one - two - (1 if first <= second else 0)
    scale = min(1000, max(16 - quotient * 4, -int(total.as_tuple().exponent), 0))
    with localcontext() as context:
        context.prec = scale + max(total.adjusted(), 0) + 20
        return (total / count).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)


# -- columns -----------------------------------------------------------------------------------------------------------


def _columns_of(statement: AnySelect) -> list[AnyExpression]:
    """Return what a statement selects, objects as one column each."""
    return [cast("AnyExpression", each) for each in parts_of(statement).columns]


def _bare(column: Any) -> Any:
    while isinstance(column, LABEL):
        column = column.element
    return column


def _aggregate_in(column: Any) -> bool:
    waiting = [column]
    while waiting:
        each = waiting.pop()
        if is_aggregate(each):
            return True
        if each.__visit_name__ not in ("select", "scalar_select", "compound_select", "exists", "table", "alias"):
            waiting += each.get_children()
    return False


def _aggregate_of(column: Any) -> tuple[str, AnyExpression, Callable[[Any], Any]]:
    """Return the name of an aggregate, its argument, and what puts the FILTER around another one that it has."""

    def same(aggregate: Any) -> Any:
        return aggregate

    wrap = same
    function = column
    if isinstance(function, FUNCTION_FILTER):
        criterion = function.criterion
        function = function.func

        def filtered(aggregate: Any) -> Any:
            return aggregate.filter(criterion)

        wrap = filtered
    if isinstance(function, OVER):
        raise _error("A window function (OVER)")
    name = str(getattr(function, "name", "")).lower()
    arguments = list(getattr(function, "clauses", ()))
    if not isinstance(function, FUNCTION) or name not in AGGREGATES:
        raise _error(f"{column}, which is not one of {', '.join(sorted(AGGREGATES))} by itself")
    if any(isinstance(each, UNARY) and each.operator is operators.distinct_op for each in arguments):
        raise _error(f"{column}")
    return name, arguments[0] if arguments else function, wrap
