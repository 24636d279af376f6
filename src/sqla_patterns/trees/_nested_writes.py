"""How nested set numbers follow a flush or `insert_tree`: in the rows by one UPDATE, in loaded objects by the same arithmetic."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Column, ColumnElement, Connection, and_, bindparam, case, event, inspect, or_, select, update
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value

from .._declarative import keep_onupdate
from .._locks import is_mysql, locking_read
from ._errors import TreeDamagedError, TreeProblem
from ._index import Change, Placement
from ._lines import Numbers, Piece, Pieces, Splice
from ._numbering import shifted
from ._path_locks import chunks
from ._plan import Link
from ._sa import state_of
from ._touched import touch

if TYPE_CHECKING:
    from ._config import TreeConfig
    from ._data import Entry
    from ._plan import Plan

__all__ = ("NestedChange", "NestedPlacement", "name_trees_of_new_nodes", "rewrite")

_NAMES = ("left", "right", "depth", "tree_id")
_NAMES_SET = frozenset(_NAMES)
# More branches than this and the rows are better read and written one by one, in one batch.
_BRANCHES = 100
# MariaDB keeps a derived table apart from what it updates only beside a LIMIT.
_ALL = 2**31 - 1


class _Unnamed:
    """Stands for the name of a tree until its new root has a key."""

    def __init__(self, link: Link) -> None:
        self.link = link


class NestedChange(Change):
    """The numbers of one flush."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.splice = Splice()
        # Where siblings have no positions, a node that stays below its parent stays where it is on the line.
        placed = plan.config.position is not None
        self._links = [link for link in plan.links if link.new or link.moved or (placed and not link.to_root)]
        self._cut()
        self._put_in()
        pieces = self.splice.run()
        self._unnamed: dict[Link, Any] = {}
        self.pieces = Pieces(self._named(pieces))

    def _cut(self) -> None:
        for link in self._links:
            if not link.new:
                self.splice.cut(link, _numbers(self.plan, link.pk))

    def _put_in(self) -> None:
        plan = self.plan
        families: dict[Any, list[Link]] = defaultdict(list)
        new = {id(link.node): link for link in self._links if link.new}
        for link in self._links:
            if link.to_root:
                self.splice.begin_line(link, _Unnamed(link) if link.pk is None else link.pk)
            else:
                # A new parent, whatever is known of its key, else the key of one that has numbers.
                families[new.get(id(link.parent), link.parent_pk)].append(link)
        if plan.config.position is not None:
            for family in families.values():
                family.sort(key=lambda link: cast("int", link.node.position))
        crowded = self._following({pk for pk in families if pk in plan.gaps})
        for parent, family in families.items():
            if isinstance(parent, Link):
                for link in family:
                    self.splice.append(link, parent)
                continue
            numbers = _numbers(plan, parent)
            following = crowded.get(parent, [])
            for link in family:
                index = bisect_right(following, (link.node.position, 0)) if following else 0
                at = following[index][1] if index < len(following) else numbers.right
                self.splice.insert(link, numbers, at)

    def _following(self, parents: set[Any]) -> dict[Any, list[tuple[int, int]]]:
        """``(position, left)`` of the children that stay and come after newcomers, in order; one SELECT."""
        plan, config = self.plan, self.plan.config
        own = config.position
        found: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        gone = {link.pk for link in self._links} | plan.deleted_pks
        left = config.index.columns()["left"]
        if own is None:
            return found
        for keys in chunks(parents, 1_000):
            behind = [and_(config.parent_id == pk, own >= plan.gaps[pk][0][0]) for pk in keys]
            statement = select(config.pk, config.parent_id, own, left).where(or_(*behind))
            for pk, parent, position, number in plan.connection.execute(locking_read(plan.connection, statement)):
                if pk in gone:
                    continue
                if number is None:
                    raise _missing(config, pk)
                found[parent].append((shifted(position, plan.gaps[parent]), number))
        for siblings in found.values():
            siblings.sort()
        return found

    def _named(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        """Name trees whose root has no key yet after a node that comes with one; no other tree can have that name by then."""
        for piece in pieces:
            if isinstance(piece.to_tree, _Unnamed):
                link = piece.to_tree.link
                name = self._unnamed.setdefault(link, self._lender(piece))
                yield piece._replace(to_tree=name)
            else:
                yield piece

    def _lender(self, piece: Piece) -> Any:
        """Key of the moved node in whose old stretch `piece` lies."""
        for link in self._links:
            if not link.new:
                old = _numbers(self.plan, link.pk)
                if old.tree == piece.tree and old.left <= piece.low <= old.right:
                    return link.pk
        raise LookupError(piece)  # pragma: no cover - only what was cut out comes to another tree

    # -- before the unit of work -----------------------------------------------------------------

    def write(self) -> None:
        plan = self.plan
        if len(self.pieces):
            write_numbers(plan.config, plan.connection, self.pieces)
            plan.touched |= show_numbers(plan.config, plan.session, self.pieces)
        for link in self._links:
            if link.new:
                numbers = self.splice.placed[link]
                node = link.node
                node.left, node.right, node.depth, tree = numbers
                node.tree_id = None if isinstance(tree, _Unnamed) else tree

    # -- after it --------------------------------------------------------------------------------

    def finish(self) -> None:
        plan = self.plan
        roots = [link for link in self._links if link.new and link.to_root and link.pk is None]
        if not roots:
            return
        config, connection = plan.config, plan.connection
        # They have no identity before the flush is over, but the key is there.
        keys = {link: link.node.__dict__[config.pk_attr] for link in roots}
        name_trees(config, connection, list(keys.values()))
        for link, key in keys.items():
            set_committed_value(link.node, "tree_id", key)
            plan.touched.add(link.state)
        if self._unnamed:
            names = {lent: keys[link] for link, lent in self._unnamed.items()}
            tree = config.index.columns()["tree_id"]
            values = {**keep_onupdate(config.table), tree: case(names, value=tree)}
            connection.execute(update(config.table).where(tree.in_(list(names))).values(values))
            for node in plan.loaded_nodes():
                lent = node.__dict__.get("tree_id")
                if lent in names:
                    set_committed_value(node, "tree_id", names[lent])
                    plan.touched.add(state_of(node))
        touch(plan.session, plan.touched)


class NestedPlacement(Placement):
    """The numbers of `insert_tree`."""

    def __init__(
        self,
        config: TreeConfig,
        session: Session,
        connection: Connection,
        parent: Numbers | None,
        entries: Sequence[Entry],
    ) -> None:
        self.config = config
        self.connection = connection
        self.roots = [entry for entry in entries if entry.above is None] if parent is None else []
        if parent is None:
            counter, depth, self._tree = 1, 0, None
        else:
            counter, depth, self._tree = parent.right, parent.depth + 1, parent.tree
            pieces = Pieces([Piece(parent.tree, parent.right, None, parent.tree, 2 * len(entries), 0)])
            write_numbers(config, connection, pieces)
            touch(session, show_numbers(config, session, pieces))
        path: list[Entry] = []
        for entry in entries:
            while len(path) > entry.level:
                path.pop().values["right"] = counter
                counter += 1
            if entry.level == 0 and parent is None:
                counter = 1  # Each tree has a line of its own.
            entry.values.update(left=counter, right=None, depth=depth + entry.level, tree_id=self._tree)
            counter += 1
            path.append(entry)
        while path:
            path.pop().values["right"] = counter
            counter += 1

    def complete(self, entry: Entry) -> None:
        if self._tree is None:
            entry.values["tree_id"] = entry.pk if entry.above is None else _tree_of(entry.above)

    def finish(self) -> None:
        unnamed = [entry.pk for entry in self.roots if entry.values["tree_id"] is None]
        if unnamed:
            name_trees(self.config, self.connection, unnamed)


def _tree_of(entry: Entry) -> Any:
    """Name of the tree of an entry that has a row: a root that got its key by the INSERT knows it since."""
    return entry.pk if entry.above is None else entry.values["tree_id"]


def _numbers(plan: Plan, pk: Any) -> Numbers:
    """What the row of a node says, as read under the lock."""
    return numbers_of(plan.config, pk, plan.kept[pk])


def numbers_of(config: TreeConfig, pk: Any, kept: Mapping[str, Any]) -> Numbers:
    """The numbers of a row.

    Raises:
        TreeDamagedError: it has none.
    """
    numbers = Numbers(kept["left"], kept["right"], kept["depth"], kept["tree_id"])
    if None in numbers:
        raise _missing(config, pk)
    return numbers


def _key(node: Any) -> Any:
    return inspect(node).identity[0]


def _missing(config: TreeConfig, pk: Any) -> TreeDamagedError:
    detail = f"<{config.name} {pk!r}> is not numbered"
    return TreeDamagedError(
        f"{detail}, so nothing can be put beside or below it: rows that came past the ORM need "
        f"rebuild_tree(session, {config.name})",
        [TreeProblem("missing_numbers", pk, detail)],
    )


def name_trees(config: TreeConfig, connection: Connection, roots: Sequence[Any]) -> None:
    """Name the trees of new roots after the keys that the database made."""
    tree = config.index.columns()["tree_id"]
    for keys in chunks(roots):
        values = {**keep_onupdate(config.table), tree: config.pk}
        connection.execute(update(config.table).where(config.pk.in_(keys)).values(values))


def name_trees_of_new_nodes(config: TreeConfig) -> None:
    """Give nodes below a new root its key as their ``tree_id``, when it has one and before their own INSERT."""

    def before_insert(mapper: Any, connection: Any, node: Any) -> None:
        values = node.__dict__
        parent = values.get("parent")
        if values.get("tree_id") is None and parent is not None:
            above = parent.__dict__.get("tree_id")
            # The unit of work inserts level by level: of two without a name, the upper is a root that got its key just now.
            node.tree_id = parent.__dict__.get(config.pk_attr) if above is None else above

    event.listen(config.cls, "before_insert", before_insert, propagate=True)


# -- rows and objects --------------------------------------------------------------------------------


def write_numbers(config: TreeConfig, connection: Connection, pieces: Pieces) -> None:
    """Change the numbers of all rows: one UPDATE, or for very many pieces one SELECT and one batch of UPDATEs."""
    if len(pieces) > _BRANCHES:
        names = tuple(config.index.columns().values())
        statement = select(config.pk, *names).where(_affected(tuple(names), pieces))
        rows: Sequence[Any] = connection.execute(locking_read(connection, statement)).all()
        _write_rows(config, connection, {row[0]: pieces.apply(Numbers(row[1], row[2], row[3], row[4])) for row in rows})
        return
    table = config.table
    columns = tuple(config.index.columns().values())
    kept = keep_onupdate(table)
    if is_mysql(connection):
        # MariaDB assigns from left to right, and later assignments see what earlier ones made of the row.
        wanted = select(config.pk, *columns).where(_affected(columns, pieces)).limit(_ALL).subquery()
        old = tuple(wanted.c[column.key] for column in columns)
        values = _moved(columns, old, pieces)
        connection.execute(update(table).where(config.pk == wanted.c[config.pk.key]).values({**kept, **values}))
    else:
        values = _moved(columns, columns, pieces)
        connection.execute(update(table).where(_affected(columns, pieces)).values({**kept, **values}))


def _affected(columns: Sequence[Any], pieces: Pieces) -> ColumnElement[bool]:
    _, right, _, tree = columns
    return or_(*(and_(tree == name, right >= found[0].low) for name, found in pieces.by_tree.items()))


def _moved(columns: Sequence[Any], old: Sequence[Any], pieces: Pieces) -> dict[Any, Any]:
    """New values of `columns` from the `old` ones, for those that change: what `Pieces.apply` says, in SQL."""
    left, right, depth, tree = old
    whens: list[list[tuple[ColumnElement[bool], Any]]] = [[], [], [], []]
    for piece in pieces:
        by_left, by_right = _in(piece, left, tree), _in(piece, right, tree)
        if piece.shift:
            whens[0].append((by_left, left + piece.shift))
            whens[1].append((by_right, right + piece.shift))
        if piece.deepen:
            whens[2].append((by_left, depth + piece.deepen))
        if piece.to_tree != piece.tree:
            whens[3].append((by_left, bindparam(None, piece.to_tree, tree.type)))
    return {
        column: case(*cases, else_=value) for column, value, cases in zip(columns, old, whens, strict=True) if cases
    }


def _in(piece: Piece, number: Any, tree: Any) -> ColumnElement[bool]:
    within = number >= piece.low if piece.high is None else number.between(piece.low, piece.high)
    return and_(tree == piece.tree, within)


def _write_rows(config: TreeConfig, connection: Connection, rows: Mapping[Any, Numbers]) -> None:
    columns: tuple[Column[Any], ...] = tuple(config.index.columns().values())
    names = [f"_{column.key}" for column in columns]
    values: dict[Any, Any] = {column: bindparam(name) for column, name in zip(columns, names, strict=True)}
    statement = (
        update(config.table).where(config.pk == bindparam("_pk")).values({**keep_onupdate(config.table), **values})
    )
    if rows:
        connection.execute(
            statement, [{"_pk": pk, **dict(zip(names, numbers, strict=True))} for pk, numbers in rows.items()]
        )


def show_numbers(config: TreeConfig, session: Session, pieces: Pieces) -> set[InstanceState[Any]]:
    """Do to the loaded objects what `write_numbers` did to their rows; no SQL."""
    changed: set[InstanceState[Any]] = set()
    cls = config.cls
    for node in session.identity_map.values():
        if not isinstance(node, cls):
            continue
        state = state_of(node)
        values = state.dict
        if values.get("tree_id") not in pieces.by_tree or not values.keys() >= _NAMES_SET:
            continue
        tree, depth = values["tree_id"], values["depth"]
        left, right = pieces.find(tree, values["left"]), pieces.find(tree, values["right"])
        if left is None and right is None:
            continue
        # This is the loop over all that is loaded; `set_committed_value` takes several times as long, and does the same to an
        # attribute that nobody has changed.
        if left is not None:
            values["left"] += left.shift
            values["depth"], values["tree_id"] = depth + left.deepen, left.to_tree
        if right is not None:
            values["right"] += right.shift
        changed.add(state)
    return changed


def _show(node: Any, old: Sequence[Any], new: Sequence[Any]) -> bool:
    if old == new:
        return False
    for name, before, after in zip(_NAMES, old, new, strict=True):
        if before != after:
            set_committed_value(node, name, after)
    return True


def rewrite(
    config: TreeConfig,
    session: Session,
    connection: Connection,
    wrong: Mapping[Any, Numbers],
    final: Mapping[Any, Numbers],
) -> None:
    """Write the numbers of the rows that are `wrong`, and show the `final` ones on loaded objects, which may be wrong by themselves."""
    _write_rows(config, connection, wrong)
    changed: set[InstanceState[Any]] = set()
    for node in session.identity_map.values():
        if isinstance(node, config.cls) and (numbers := final.get(_key(node))) is not None:
            shown: list[Any] = [node.__dict__.get(name) for name in _NAMES]
            if _show(node, shown, numbers):
                changed.add(state_of(node))
    touch(session, changed)
