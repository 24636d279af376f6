"""Rewrite paths for a flush or `insert_tree`: in the rows by one UPDATE, in loaded objects by the same rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from sqlalchemy import ColumnElement, Connection, String, case, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_attribute, set_committed_value

from .._declarative import keep_onupdate
from .._locks import locking_read
from .._sql import chunks, update_rows
from .._sqlalchemy import objects_in_session, state_of
from .._typing import AnyExpression, MappedObject, PrimaryKey
from ..exceptions import StateError
from ._config import MAX_IN, TreeConfig
from ._errors import PathOverflowError, TreeDamagedError, TreeProblem
from ._expire_on_rollback import expire_on_rollback
from ._flush_plan import FlushPlan, ParentLink, Token
from ._index import IndexChange, IndexInsert
from ._loaded_state import describe, pk_of
from ._nested_data import NewRow
from ._numbering import shifted
from ._path_dialect import PathDialect
from ._path_rules import MOST, WIDTH, Rule, Rules, last_step

#: With more rules than this, the rows are read and written one by one, in one batch.
BRANCHES = 200


class PathChange(IndexChange):
    """The paths of one flush: where every node goes, told in rules over the paths that the rows have before it."""

    def __init__(self, plan: FlushPlan, dialect: PathDialect) -> None:
        self.plan = plan
        self.dialect = dialect
        self.format = dialect.format
        self.path = dialect.column
        self._links: dict[Token, ParentLink] = {link.token: link for link in plan.links}
        # What rules start from, by the old path: nodes that have a link, and parents among whose children gaps open.
        self._tops = {self._old(link.pk): link for link in plan.links if not link.new}
        self._with_gaps = {self._old(pk): (pk, gaps) for pk, gaps in plan.gaps.items() if pk is not None}
        self._steps: dict[Token, int] = {}
        self._number()
        self._final: dict[Token, str] = {}
        for token in self._links:
            self._resolve(token)
        self.rules = Rules(self._rules())
        self.rows: dict[PrimaryKey, str] | None = None
        if len(self.rules) > BRANCHES:
            self.rows = self._read_rows()
        else:
            self._check_length()

    # -- where each node goes --------------------------------------------------------------------

    def _old(self, pk: PrimaryKey) -> str:
        """Return the path of a row before the flush."""
        path = self.plan.stored_values[pk]["path"]
        if path is None:
            raise missing(self.dialect.config, pk)
        return cast("str", path)

    def _stays(self, link: ParentLink) -> bool:
        """Return whether a node has this parent in the table already."""
        new_parent = link.parent is not None and link.parent_pk is None
        return not link.new and not new_parent and bool(self.plan.stored_parents[link.pk] == link.parent_pk)

    def _number(self) -> None:
        """Find each linked node its step: its position, else the next that is free."""
        position = self.plan.config.position
        newcomers: dict[Token, list[ParentLink]] = defaultdict(list)
        for link in self.plan.links:
            if position is not None and not link.to_root:
                self._take(link, link.node.position)
            elif self._stays(link):
                self._steps[link.token] = last_step(self._old(link.pk))
            else:
                newcomers[link.parent_token].append(link)
        for pk, gaps in self.plan.gaps.items():
            if pk is not None and self.plan.last_positions[pk] + sum(width for _, width in gaps) > MOST:
                raise too_many(self.dialect, f"the children of <{self.plan.config.name} {pk!r}>")
        if not newcomers:
            return
        parents: dict[Token, PrimaryKey] = {
            token: token[1] for token in newcomers if token is not None and not self._is_new(token)
        }
        connection = self.plan.connection
        highest = _highest_steps(self.dialect, connection, list(parents.values()), roots=None in newcomers)
        for token, links in newcomers.items():
            if position is not None:
                links.sort(key=lambda link: cast("int", link.node.position))
            last = highest.get(parents.get(token), -1) if token is None or token in parents else -1
            for step, link in enumerate(links, start=last + 1):
                self._take(link, step)

    def _is_new(self, token: Token) -> bool:
        link = self._links.get(token)
        return link.new if link is not None else token is not None and token[0] == "new"

    def _take(self, link: ParentLink, step: int) -> None:
        if step > MOST:
            raise too_many(self.dialect, f"{describe(link.node)} and its siblings")
        self._steps[link.token] = step

    def _resolve(self, token: Token) -> str:
        """Return the path of a node after the flush; iterative, because trees may be deeper than Python recurses."""
        final = self._final
        waiting: dict[Token, None] = {token: None}
        while waiting:
            at = next(reversed(waiting))
            source, rest = self._prefix_of(at)
            if source is None or source in final:
                path = rest if source is None else final[source] + rest
                if self.format.levels(path) > self.dialect.most_levels:
                    raise too_deep(self.dialect, self._name(at))
                final[at] = path
                waiting.pop(at)
            elif source in waiting:
                # The links were checked, so it is the paths that contradict each other.
                raise _contradictory(self.dialect.config, at)
            else:
                waiting[source] = None
        return final[token]

    def _prefix_of(self, token: Token) -> tuple[Token, str]:
        """Return the node with whose new path the one of `token` begins, None for none, and the rest of the path."""
        link = self._links.get(token)
        if link is not None:
            above = link.parent_token
            return above, self.format.join(None if above is None else "", self._steps[token])
        if self._is_new(token) or token is None:
            raise StateError(f"a new {self.plan.config.name} is the parent of a node and in no session: add it")
        path = self._old(token[1])
        top: str | None = path
        while top is not None:
            if top in self._tops:
                return self._tops[top].token, path[len(top) :]
            above_path = self.format.above(top)
            if above_path in self._with_gaps:
                pk, gaps = self._with_gaps[above_path]
                step = last_step(top)
                if (new := shifted(step, gaps)) != step:
                    return ("pk", pk), self.format.join("", new) + path[len(top) :]
            top = above_path
        return None, path

    def _name(self, token: Token) -> str:
        link = self._links.get(token)
        return describe(link.node) if link is not None else f"<{self.plan.config.name} {token and token[1]!r}>"

    def _rules(self) -> Iterable[Rule]:
        """Yield the rules for what lies below linked nodes, and behind gaps."""
        for old, link in self._tops.items():
            yield Rule(old, self.format.end(old), len(old), self._final[link.token])
        for old, (pk, gaps) in self._with_gaps.items():
            new = self._resolve(("pk", pk)) + self.format.separator
            cut = len(old) + len(self.format.separator)
            starts = [self.format.join(old, start) for start, _ in gaps]
            total = 0
            for start, end, (_, width) in zip(starts, [*starts[1:], self.format.end(old)], gaps, strict=True):
                total += width
                yield Rule(start, end, cut, new, total)

    # -- what it needs to know beforehand --------------------------------------------------------

    def _check_length(self) -> None:
        """Refuse what becomes too long somewhere below a moved node; one SELECT, if anything gets deeper."""
        if not any(rule.growth > 0 for rule in self.rules.innermost_first):
            return
        text = self.dialect.text(self.path)
        lengths = [
            (rule.holds(self.path, self.dialect.value), func.length(text) + rule.growth)
            for rule in self.rules.innermost_first
        ]
        statement = select(func.max(case(*lengths, else_=0))).where(self._affected())
        longest = self.plan.connection.scalar(locking_read(self.plan.connection, statement))
        if longest is not None and longest > self.format.length(self.dialect.most_levels):
            first, *others = (link for link in self._tops.values() if link.moved)
            more = f" or below another of {len(others) + 1} moved nodes" if others else ""
            raise too_deep(self.dialect, f"what lies below {describe(first.node)}{more}")

    def _affected(self) -> ColumnElement[bool]:
        """Return the criterion for the rows whose path changes."""
        return or_(*(rule.holds(self.path, self.dialect.value) for rule in self.rules.outermost))

    def _read_rows(self) -> dict[PrimaryKey, str]:
        """Return the new paths of all rows that change, by primary key."""
        config, connection = self.plan.config, self.plan.connection
        tops = [*(link.pk for link in self._tops.values()), *(pk for pk, _ in self._with_gaps.values())]
        above, below = config.table.alias(), config.table.alias()
        here, there = above.c[self.path.key], below.c[self.path.key]
        pk = config.pk.key
        found: dict[PrimaryKey, str] = {}
        for keys in chunks(tops, MAX_IN):
            inside = self.dialect.inside(below=there, above=here, inclusive=True)
            statement = select(below.c[pk], there).where(above.c[pk].in_(keys), inside)
            for row in connection.execute(locking_read(connection, statement)):
                path = self.rules.apply(row[1])
                if path != row[1]:
                    found[row[0]] = path
        most = self.dialect.most_levels
        deep = next((key for key, path in found.items() if self.format.levels(path) > most), None)
        if deep is not None:
            raise too_deep(self.dialect, f"<{config.name} {deep!r}>")
        return found

    # -- before the unit of work -----------------------------------------------------------------

    def write(self) -> None:
        """Write the paths of existing rows and loaded objects, and set those of new nodes."""
        plan, config = self.plan, self.plan.config
        if self.rows is not None:
            _write_paths(self.dialect, plan.connection, self.rows)
        elif self.rules:
            values = {**keep_onupdate(config.table), self.path: self.dialect.expression(self._new_path())}
            plan.connection.execute(update(config.table).where(self._affected()).values(values))
        if self.rules:
            for node in plan.loaded_nodes():
                old = node.__dict__.get("path")
                if old is not None and (new := self.rules.apply(old)) != old:
                    self._show(node, new)
        for token, link in self._links.items():
            if link.new:
                set_attribute(link.node, "path", self._final[token])
            elif link.node.__dict__.get("path") != self._final[token]:
                self._show(link.node, self._final[token])

    def _new_path(self) -> ColumnElement[str]:
        """Return, in SQL, what `Rules.apply` returns for the path of an affected row."""
        text = self.dialect.text(self.path)
        first, *others = self.rules.innermost_first
        if not others:
            return first.expression(text)
        whens = [(rule.holds(self.path, self.dialect.value), rule.expression(text)) for rule in (first, *others)]
        return case(*whens, else_=text)

    def _show(self, node: MappedObject, path: str) -> None:
        set_committed_value(node, "path", path)
        self.plan.states_to_expire.add(state_of(node))


class PathInsert(IndexInsert):
    """The paths of `insert_tree`, which are part of the rows that it inserts."""

    def __init__(
        self,
        dialect: PathDialect,
        connection: Connection,
        parent_pk: PrimaryKey,
        above: str | None,
        rows: Sequence[NewRow],
    ) -> None:
        if parent_pk is not None and above is None:
            raise missing(dialect.config, parent_pk)
        positioned = dialect.config.position is not None
        counters: dict[int | None, int] = {}
        if parent_pk is None or not positioned:
            parents = [] if parent_pk is None else [parent_pk]
            highest = _highest_steps(dialect, connection, parents, roots=parent_pk is None)
            counters[None] = highest.get(parent_pk, -1) + 1
        for row in rows:
            parent = row.parent
            before = above if parent is None else cast("str", parent.values["path"])
            if positioned and before is not None:
                step = cast("int", row.values["position"])
            else:
                key = None if parent is None else id(parent)
                step = counters.get(key, 0)
                counters[key] = step + 1
            if step > MOST:
                raise too_many(dialect, "the nodes of the data and their siblings")
            path = dialect.format.join(before, step)
            if dialect.format.levels(path) > dialect.most_levels:
                raise too_deep(dialect, "a part of the data")
            row.values["path"] = path


def _highest_steps(
    dialect: PathDialect, connection: Connection, parents: Sequence[PrimaryKey], *, roots: bool
) -> dict[PrimaryKey, int]:
    """Return the last step of the last child of each of `parents`; with `roots`, that of the last root under None."""
    config, path = dialect.config, dialect.column
    found: dict[PrimaryKey, int] = {}
    for keys in chunks(parents, MAX_IN):
        last: AnyExpression = func.max(dialect.text(path), type_=String())
        statement = select(config.parent_id, last).where(config.parent_id.in_(keys)).group_by(config.parent_id)
        rows = connection.execute(locking_read(connection, statement)).all()
        found.update((parent, last_step(highest)) for parent, highest in rows if highest is not None)
    if roots:
        # The first step of the last path of all, which the index of paths knows.
        top = select(path).where(path.is_not(None)).order_by(path.desc()).limit(1)
        highest = connection.scalar(locking_read(connection, top))
        if highest is not None:
            found[None] = last_step(highest[:WIDTH])
    return found


def _write_paths(dialect: PathDialect, connection: Connection, paths: Mapping[PrimaryKey, str]) -> None:
    """Write paths by primary key, in one batch."""
    update_rows(connection, dialect.config.pk, [dialect.column], {pk: (path,) for pk, path in paths.items()})


def rewrite(
    dialect: PathDialect,
    session: Session,
    connection: Connection,
    *,
    wrong: Mapping[PrimaryKey, str],
    final: Mapping[PrimaryKey, str],
) -> None:
    """Write the paths of the rows that are `wrong`, and show the `final` ones on loaded objects.

    An object may be wrong although its row is right.
    """
    _write_paths(dialect, connection, wrong)
    for node in objects_in_session(session, dialect.config.cls):
        path = final.get(pk_of(node))
        if path is not None and node.__dict__.get("path") != path:
            set_committed_value(node, "path", path)
            expire_on_rollback(session, [state_of(node)])


# -- errors ------------------------------------------------------------------------------------------


def missing(config: TreeConfig, pk: PrimaryKey) -> TreeDamagedError:
    """Return the error about a row without a path."""
    detail = f"<{config.name} {pk!r}> has no path"
    return TreeDamagedError(
        f"{detail}, so nothing can be put below it, and it cannot move: rows that were inserted without the ORM need "
        f"rebuild_tree(session, {config.name})",
        [TreeProblem("missing_path", pk, detail)],
    )


def _contradictory(config: TreeConfig, token: Token) -> TreeDamagedError:
    pk = None if token is None else token[1]
    detail = f"the path of <{config.name} {pk!r}> contradicts parent_id"
    return TreeDamagedError(
        f"{detail}: rebuild_tree(session, {config.name}) mends it", [TreeProblem("wrong_path", pk, detail)]
    )


def too_deep(dialect: PathDialect, what: str) -> PathOverflowError:
    """Return the error about a path with too many steps."""
    return PathOverflowError(
        f"{what} would lie deeper than the {dialect.most_levels} levels that a path of {dialect.config.name} holds; "
        "keep the tree flatter, or use NestedSets or a plain tree, whose depth is not limited"
    )


def too_many(dialect: PathDialect, what: str) -> PathOverflowError:
    """Return the error about a step that is too high."""
    return PathOverflowError(
        f"{what} would need a number above {MOST:,}, and a step of a path of {dialect.config.name} has {WIDTH} "
        "digits; set lower positions, or close the gaps between them with rebuild_tree()"
    )
