"""How paths follow a flush or `insert_tree`: in the rows by one UPDATE, in loaded objects by the same rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, bindparam, case, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from .._declarative import keep_onupdate
from .._locks import locking_read
from ..exceptions import StateError
from ._errors import PathOverflowError, TreeDamagedError, TreeProblem
from ._index import Change, Placement
from ._numbering import shifted
from ._path_locks import chunks
from ._path_rules import MOST, WIDTH, Rule, Rules, last_step
from ._peek import describe, identity_of
from ._plan import Link, Plan, Token
from ._sa import state_of
from ._touched import touch

if TYPE_CHECKING:
    from ._data import Entry
    from ._paths import PathIndex

__all__ = ("PathChange", "PathPlacement", "rewrite", "too_deep")

#: More rules than this, and the rows are better read and written one by one, in one batch.
BRANCHES = 200


class PathChange(Change):
    """The paths of one flush: where everything goes, told in rules over the paths that the rows have before it."""

    def __init__(self, plan: Plan, index: PathIndex) -> None:
        self.plan = plan
        self.index = index
        self.format = index.format
        self.path = index.columns()["path"]
        self._links: dict[Token, Link] = {link.token: link for link in plan.links}
        # What rules start from: nodes that have a link, and parents among whose children room is made, by their old paths.
        self._tops = {self._old(link.pk): link for link in plan.links if not link.new}
        self._crowded = {self._old(pk): (pk, gaps) for pk, gaps in plan.gaps.items() if pk is not None}
        self._steps: dict[Token, int] = {}
        self._number()
        self._final: dict[Token, str] = {}
        for token in self._links:
            self._resolve(token)
        self.rules = Rules(self._rules())
        self.rows: dict[Any, str] | None = None
        if len(self.rules) > BRANCHES:
            self.rows = self._read_rows()
        else:
            self._check_length()

    # -- where each node goes --------------------------------------------------------------------

    def _old(self, pk: Any) -> str:
        path = self.plan.kept[pk]["path"]
        if path is None:
            raise missing(self.index, pk)
        return cast("str", path)

    def _stays(self, link: Link) -> bool:
        """Whether a node has this parent in the table already."""
        new_parent = link.parent is not None and link.parent_pk is None
        return not link.new and not new_parent and self.plan.rows[link.pk] == link.parent_pk

    def _number(self) -> None:
        """Find each linked node its step: its position, else the next that is free."""
        position = self.plan.config.position
        newcomers: dict[Token, list[Link]] = defaultdict(list)
        for link in self.plan.links:
            if position is not None and not link.to_root:
                self._take(link, link.node.position)
            elif self._stays(link):
                self._steps[link.token] = last_step(self._old(link.pk))
            else:
                newcomers[link.parent_token].append(link)
        for pk, gaps in self.plan.gaps.items():
            if pk is not None and self.plan.last[pk] + sum(width for _, width in gaps) > MOST:
                raise too_many(self.index, f"the children of <{self.index.config.name} {pk!r}>")
        if not newcomers:
            return
        there: dict[Token, Any] = {
            token: token[1] for token in newcomers if token is not None and not self._is_new(token)
        }
        highest = self.index.highest_steps(self.plan.connection, list(there.values()), roots=None in newcomers)
        for token, links in newcomers.items():
            if position is not None:
                links.sort(key=lambda link: cast("int", link.node.position))
            last = highest.get(there.get(token), -1) if token is None or token in there else -1
            for step, link in enumerate(links, start=last + 1):
                self._take(link, step)

    def _is_new(self, token: Token) -> bool:
        link = self._links.get(token)
        return link.new if link is not None else token is not None and token[0] == "new"

    def _take(self, link: Link, step: int) -> None:
        if step > MOST:
            raise too_many(self.index, f"{describe(link.node)} and its siblings")
        self._steps[link.token] = step

    def _resolve(self, token: Token) -> str:
        """The path of a node after the flush; iterative, for depth."""
        final = self._final
        waiting: dict[Token, None] = {token: None}
        while waiting:
            at = next(reversed(waiting))
            source, rest = self._hangs_from(at)
            if source is None or source in final:
                path = rest if source is None else final[source] + rest
                if self.format.levels(path) > self.index.most_levels:
                    raise too_deep(self.index, self._name(at))
                final[at] = path
                waiting.pop(at)
            elif source in waiting:
                # The links were checked, so it is the paths that contradict each other.
                raise _contradictory(self.index, at)
            else:
                waiting[source] = None
        return final[token]

    def _hangs_from(self, token: Token) -> tuple[Token, str]:
        """The node whose new path the one of `token` begins with, None for none, and how it goes on."""
        link = self._links.get(token)
        if link is not None:
            above = link.parent_token
            return above, self.format.join(None if above is None else "", self._steps[token])
        if self._is_new(token):
            raise StateError(f"a new {self.index.config.name} is the parent of a node and in no session: add it")
        path = self._old(cast("tuple[str, Any]", token)[1])
        top: str | None = path
        while top is not None:
            if top in self._tops:
                return self._tops[top].token, path[len(top) :]
            above_path = self.format.above(top)
            if above_path in self._crowded:
                pk, gaps = self._crowded[above_path]
                step = last_step(top)
                if (new := shifted(step, gaps)) != step:
                    return ("pk", pk), self.format.join("", new) + path[len(top) :]
            top = above_path
        return None, path

    def _name(self, token: Token) -> str:
        link = self._links.get(token)
        return describe(link.node) if link is not None else f"<{self.index.config.name} {token and token[1]!r}>"

    def _rules(self) -> Iterable[Rule]:
        for old, link in self._tops.items():
            yield Rule(old, self.format.end(old), len(old), self._final[link.token])
        for old, (pk, gaps) in self._crowded.items():
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
        if not any(rule.longer > 0 for rule in self.rules.innermost_first):
            return
        text = self.index.text(self.path)
        lengths = [
            (rule.holds(self.path, self.index.value), func.length(text) + rule.longer)
            for rule in self.rules.innermost_first
        ]
        statement = select(func.max(case(*lengths, else_=0))).where(self._affected())
        longest = self.plan.connection.scalar(locking_read(self.plan.connection, statement))
        if longest is not None and longest > self.format.length(self.index.most_levels):
            first, *others = (link for link in self._tops.values() if link.moved)
            more = f" or below another of {len(others) + 1} moved nodes" if others else ""
            raise too_deep(self.index, f"what lies below {describe(first.node)}{more}")

    def _affected(self) -> Any:
        return or_(*(rule.holds(self.path, self.index.value) for rule in self.rules.outermost))

    def _read_rows(self) -> dict[Any, str]:
        """New paths by key, of all rows that change."""
        config, connection = self.plan.config, self.plan.connection
        tops = [*(link.pk for link in self._tops.values()), *(pk for pk, _ in self._crowded.values())]
        above, below = config.table.alias(), config.table.alias()
        here, there = above.c[self.path.key], below.c[self.path.key]
        pk = config.pk.key
        found: dict[Any, str] = {}
        for keys in chunks(tops):
            inside = self.index.inside(there, here, inclusive=True)
            statement = select(below.c[pk], there).where(above.c[pk].in_(keys), inside)
            for row in connection.execute(locking_read(connection, statement)):
                path = self.rules.apply(row[1])
                if path != row[1]:
                    found[row[0]] = path
        deep = next((key for key, path in found.items() if self.format.levels(path) > self.index.most_levels), None)
        if deep is not None:
            raise too_deep(self.index, f"<{config.name} {deep!r}>")
        return found

    # -- before the unit of work -----------------------------------------------------------------

    def write(self) -> None:
        plan, config = self.plan, self.plan.config
        if self.rows is not None:
            write_rows(self.index, plan.connection, self.rows)
        elif self.rules:
            values = {**keep_onupdate(config.table), self.path: self.index.value(self._new_path())}
            plan.connection.execute(update(config.table).where(self._affected()).values(values))
        if self.rules:
            for node in plan.loaded_nodes():
                old = node.__dict__.get("path")
                if old is not None and (new := self.rules.apply(old)) != old:
                    self._show(node, new)
        for token, link in self._links.items():
            if link.new:
                link.node.path = self._final[token]
            elif link.node.__dict__.get("path") != self._final[token]:
                self._show(link.node, self._final[token])

    def _new_path(self) -> Any:
        """What `Rules.apply` says, in SQL, of the path of an affected row."""
        text = self.index.text(self.path)
        first, *others = self.rules.innermost_first
        if not others:
            return first.expression(text)
        whens = [(rule.holds(self.path, self.index.value), rule.expression(text)) for rule in (first, *others)]
        return case(*whens, else_=text)

    def _show(self, node: Any, path: str) -> None:
        set_committed_value(node, "path", path)
        self.plan.touched.add(state_of(node))


class PathPlacement(Placement):
    """The paths of `insert_tree`, which stand in the rows that it inserts."""

    def __init__(
        self, index: PathIndex, connection: Connection, parent_pk: Any, above: str | None, entries: Sequence[Entry]
    ) -> None:
        config = index.config
        if parent_pk is not None and above is None:
            raise missing(index, parent_pk)
        positioned = config.position is not None
        counters: dict[int | None, int] = {}
        if parent_pk is None or not positioned:
            parents = [] if parent_pk is None else [parent_pk]
            highest = index.highest_steps(connection, parents, roots=parent_pk is None)
            counters[None] = highest.get(parent_pk, -1) + 1
        for entry in entries:
            over = entry.above
            before = above if over is None else cast("str", over.values["path"])
            if positioned and before is not None:
                step = cast("int", entry.values["position"])
            else:
                key = None if over is None else id(over)
                step = counters.get(key, 0)
                counters[key] = step + 1
            if step > MOST:
                raise too_many(index, "the nodes of the data and their siblings")
            path = index.format.join(before, step)
            if index.format.levels(path) > index.most_levels:
                raise too_deep(index, "a part of the data")
            entry.values["path"] = path


def write_rows(index: PathIndex, connection: Connection, rows: Mapping[Any, str]) -> None:
    """Write paths by key, in one batch."""
    config = index.config
    values: dict[Any, Any] = {**keep_onupdate(config.table), index.columns()["path"]: bindparam("_path")}
    statement = update(config.table).where(config.pk == bindparam("_pk")).values(values)
    if rows:
        connection.execute(statement, [{"_pk": pk, "_path": path} for pk, path in rows.items()])


def rewrite(
    index: PathIndex, session: Session, connection: Connection, wrong: Mapping[Any, str], final: Mapping[Any, str]
) -> None:
    """Write the paths of the rows that are `wrong`, and show the `final` ones on loaded objects, which may be wrong by themselves."""
    write_rows(index, connection, wrong)
    for node in session.identity_map.values():
        path = final.get(identity_of(node)) if isinstance(node, index.config.cls) else None
        if path is not None and node.__dict__.get("path") != path:
            set_committed_value(node, "path", path)
            touch(session, [state_of(node)])


# -- errors ------------------------------------------------------------------------------------------


def missing(index: PathIndex, pk: Any) -> TreeDamagedError:
    detail = f"<{index.config.name} {pk!r}> has no path"
    return TreeDamagedError(
        f"{detail}, so nothing can be put below it, and it cannot move: rows that came past the ORM need "
        f"rebuild_tree(session, {index.config.name})",
        [TreeProblem("missing_path", pk, detail)],
    )


def _contradictory(index: PathIndex, token: Token) -> TreeDamagedError:
    pk = None if token is None else token[1]
    detail = f"the path of <{index.config.name} {pk!r}> contradicts parent_id"
    return TreeDamagedError(
        f"{detail}: rebuild_tree(session, {index.config.name}) mends it", [TreeProblem("wrong_path", pk, detail)]
    )


def too_deep(index: PathIndex, what: str) -> PathOverflowError:
    return PathOverflowError(
        f"{what} would lie deeper than the {index.most_levels} levels that a path of {index.config.name} holds; "
        "keep the tree flatter, or use NestedSets or a plain tree, whose depth is not limited"
    )


def too_many(index: PathIndex, what: str) -> PathOverflowError:
    return PathOverflowError(
        f"{what} would need a number above {MOST:,}, and a step of a path of {index.config.name} has {WIDTH} digits; "
        "set lower positions, or close the gaps between them with rebuild_tree()"
    )
