"""What a factory was given, resolved: the rule of each class, and the shard of each object."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import FromClause, String, Table, inspect
from sqlalchemy.orm import MANYTOONE, RelationshipProperty
from sqlalchemy.sql.elements import ColumnElement

from .._sqlalchemy import mapper_of
from .._typing import AnyColumn, AnyMapper, MappedClass, MappedObject
from ..exceptions import InvalidArgumentError
from ._conditions import IdKey, KeyOf, RuleKey
from ._errors import ShardNotNamedError, UnroutableKeyError
from ._ids import ShardId
from ._keys import FollowsParent, ShardKey, ShardRule
from ._shards import Shards

Scatter: TypeAlias = Literal["allow", "warn", "forbid"]
Merge: TypeAlias = Literal["strict", "concat"]

_PLANS: Final = 1000


class Choosers(NamedTuple):
    """The three functions of ``sqlalchemy.ext.horizontal_shard``, for code that has them already.

    A chooser that is given takes the place of the rules: it decides, and nobody checks it.

    Attributes:
        shard_chooser: Takes mapper, instance and clause, and returns the shard of an object.
        identity_chooser: Takes mapper and primary key, and returns the shards that may have it.
        execute_chooser: Takes the ``ORMExecuteState`` and returns the shards to ask.
    """

    shard_chooser: Any = None
    identity_chooser: Any = None
    execute_chooser: Any = None


class Parent(NamedTuple):
    """Where a `FollowsParent` leads.

    Attributes:
        prop: The relationship.
        mapper: The class of the parent.
        pairs: Columns of the child, each with the one of the parent that it refers to.
    """

    prop: RelationshipProperty[Any]
    mapper: AnyMapper
    pairs: tuple[tuple[AnyColumn, AnyColumn], ...]


class Routing:
    """The rules of a factory.

    Attributes:
        shards: The shards.
        home: The shard that answers for reference tables.
        everywhere: The names of all shards.
        plans: Plans of statements by cache key, the last 1,000 that were used.
        concurrency: How many shards may answer at once.
    """

    def __init__(
        self,
        shards: Shards,
        rules: Sequence[ShardRule],
        reference: Iterable[MappedClass | Table],
        scatter: Scatter,
        merge: Merge,
        choosers: Choosers,
        concurrency: int,
    ) -> None:
        if scatter not in ("allow", "warn", "forbid"):
            raise InvalidArgumentError(f"scatter={scatter!r} is not 'allow', 'warn' or 'forbid'")
        if merge not in ("strict", "concat"):
            raise InvalidArgumentError(f"merge={merge!r} is not 'strict' or 'concat'")
        if not isinstance(concurrency, int) or concurrency < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(
                f"concurrency={concurrency!r} is not a number of shards; 1 is one after the other"
            )
        self.shards: Final = shards
        self.concurrency: Final = concurrency
        self.home: Final = shards.names[0]
        self.everywhere: Final = frozenset(shards.names)
        self.dialect: Final = next(iter(shards.engines.values())).dialect
        self.scatter: Final[Scatter] = scatter
        self.merge: Final[Merge] = merge
        self.choosers: Final = choosers
        self.most_plans: Final = _PLANS
        self.plans: OrderedDict[object, Any] = OrderedDict()
        self._rules: dict[AnyMapper, ShardRule] = {}
        for rule in rules:
            if not isinstance(rule, (ShardKey, FollowsParent)):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidArgumentError(f"keys= has {rule!r}; give ShardKey(...) and FollowsParent(...)")
            if rule.mapper in self._rules:
                raise InvalidArgumentError(
                    f"{rule} is the second rule for its class, beside {self._rules[rule.mapper]}"
                )
            self._rules[rule.mapper] = rule
            if isinstance(rule, ShardKey):
                self._check(rule)
        self._reference = [each if isinstance(each, Table) else mapper_of(each) for each in reference]
        for each in self._reference:
            if each in self._rules:
                raise InvalidArgumentError(f"{each} has a rule and is a reference table too; it can be one of them")
        self._rule_of: dict[AnyMapper, ShardRule | None] = {}
        self._parents: dict[FollowsParent, Parent] = {}
        self._tables: dict[FromClause, bool] | None = None
        self._columns: dict[ColumnElement[Any], KeyOf] | None = None

    def _check(self, rule: ShardKey[Any]) -> None:
        unknown = [shard for shard in rule.router.shard_ids if shard not in self.everywhere]
        if unknown:
            raise InvalidArgumentError(
                f"The router of {rule.name} names the shard {unknown[0]!r}, which is not there; the shards are "
                f"{', '.join(self.shards.names)}"
            )
        type_ = rule.column.type
        collation = (getattr(type_, "collation", None) or "").lower() if isinstance(type_, String) else "binary"
        by_default = self.shards.dialect_name not in ("mysql", "mariadb", "mssql")
        if not (
            collation.endswith(("binary", "_bin", "_bin2"))
            or collation in ("c", "posix")
            or (by_default and not collation)
        ):
            raise InvalidArgumentError(
                f"The strings of {rule.name} are compared by the collation {collation or 'of the server'}, which may "
                "take different ones for equal, and a router cannot; give the column a binary collation, such as "
                "String(20, collation='utf8mb4_bin')"
            )

    # -- classes -------------------------------------------------------------------------------------------------------

    def rule_of(self, mapper: AnyMapper) -> ShardRule | None:
        """Return the rule of a class, which may be that of a class above it."""
        try:
            return self._rule_of[mapper]
        except KeyError:
            found = next((self._rules[each] for each in mapper.iterate_to_root() if each in self._rules), None)
            self._rule_of[mapper] = found
            return found

    def is_reference(self, mapper: AnyMapper) -> bool:
        """Return whether each shard has all rows of a class."""
        return any(each in self._reference for each in (*mapper.iterate_to_root(), mapper.local_table))

    def is_reference_table(self, table: FromClause) -> bool:
        """Return whether each shard has all rows of a table."""
        if self._tables is None:
            given = [
                table
                for each in self._reference
                for table in (
                    [each] if isinstance(each, Table) else [t for m in each.self_and_descendants for t in m.tables]
                )
            ]
            self._tables = dict.fromkeys(given, True)
        return table in self._tables

    def parent_of(self, rule: FollowsParent) -> Parent:
        """Return where `rule` leads.

        Raises:
            InvalidArgumentError: It is not a many-to-one relationship by foreign keys.
        """
        found = self._parents.get(rule)
        if found is None:
            # Asking for the relationships configures the mappers.
            prop = rule.mapper.relationships.get(rule.relationship.key)
            if prop is None or prop.direction is not MANYTOONE:
                raise InvalidArgumentError(f"{rule} needs a many-to-one relationship")
            pairs = tuple((local, remote) for local, remote in prop.local_remote_pairs or ())
            found = self._parents[rule] = Parent(prop, prop.mapper, pairs)  # type: ignore[arg-type]
        return found

    @property
    def rules(self) -> list[ShardRule]:
        """Return all rules."""
        return list(self._rules.values())

    @property
    def followers(self) -> list[FollowsParent]:
        """Return all rules that follow a parent."""
        return [rule for rule in self._rules.values() if isinstance(rule, FollowsParent)]

    @property
    def key_columns(self) -> dict[ColumnElement[Any], KeyOf]:
        """Return the columns that statements are routed by."""
        if self._columns is None:
            found: dict[ColumnElement[Any], KeyOf] = {}
            for mapper, rule in list(self._rules.items()):
                for each in mapper.self_and_descendants:
                    if isinstance(rule, ShardKey):
                        # A joined subclass may have the key among its own columns too.
                        found.update(dict.fromkeys(each.attrs[rule.attribute.key].columns, RuleKey(rule)))
                    for column in each.primary_key:
                        ids = ids_of(column)
                        if ids is not None:
                            found[column] = IdKey(ids)
            for rule in self.followers:
                for local, remote in self.parent_of(rule).pairs:
                    ids = ids_of(remote)
                    if ids is not None:
                        found[local] = IdKey(ids)
            self._columns = found
        return self._columns

    # -- values --------------------------------------------------------------------------------------------------------

    def shard_of_object(self, obj: MappedObject) -> str | None:
        """Return the shard of an object by what it holds; None if SQL is needed to find its parent.

        Raises:
            UnroutableKeyError: Its key, or its parent, is missing or has no shard.
            ShardNotNamedError: Its class has no rule.
        """
        state = inspect(obj)
        rule = self.rule_of(state.mapper)
        if isinstance(rule, ShardKey):
            return rule.shard_of(getattr(obj, rule.attribute.key))
        if self.is_reference(state.mapper):
            return self.home
        if rule is None:
            raise ShardNotNamedError(
                f"{state.mapper.class_.__name__} has no rule by which its rows are distributed; give its ShardKey or "
                "FollowsParent in keys=, list it in reference=, or use pinned_to()"
            )
        parent: MappedObject = getattr(obj, rule.relationship.key)
        if parent is not None:
            of_parent = inspect(parent)
            if of_parent.key is not None and of_parent.identity_token is not None:
                return str(of_parent.identity_token)
            return self.shard_of_object(parent)
        if any(getattr(obj, state.mapper.get_property_by_column(local).key) is None for local in self._locals(rule)):
            raise UnroutableKeyError(None, rule.name, why="the object has no parent to follow")
        return None

    def _locals(self, rule: FollowsParent) -> list[AnyColumn]:
        return [local for local, _ in self.parent_of(rule).pairs]


def ids_of(column: Any) -> ShardId | None:
    """Return what makes the values of a primary key with the shard inside."""
    default: Any = column.default
    made: object = getattr(default, "arg", None)
    return made if isinstance(made, ShardId) else None


def names_of(shards: Collection[str]) -> str:
    """Return shards for an error."""
    return ", ".join(sorted(shards))
