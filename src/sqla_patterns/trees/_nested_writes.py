"""Change the numbers of nested sets for a flush or `insert_tree`.

Rows are changed by one UPDATE, and loaded objects by the same arithmetic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, event, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_attribute, set_committed_value

from .._declarative import keep_onupdate
from .._locks import is_mysql, locking_read
from .._sql import chunks, update_rows
from .._sqlalchemy import objects_in_session, state_of
from .._typing import AnyColumn, AnyExpression, AnyState, MappedObject, PrimaryKey
from ._config import MAX_IN, ColumnValues, TreeConfig
from ._errors import TreeDamagedError, TreeProblem
from ._expire_on_rollback import expire_on_rollback
from ._flush_plan import FlushPlan, ParentLink
from ._index import IndexChange, IndexInsert
from ._loaded_state import pk_of
from ._nested_data import NewRow
from ._nested_numbers import Numbers, Renumbering, Shift, Shifts
from ._numbering import shifted

_NAMES = ("left", "right", "depth", "tree_id")
_NAMES_SET = frozenset(_NAMES)
# With more branches than this, the rows are read and written one by one, in one batch.
_BRANCHES = 100
# So many parents with gaps are looked up by one SELECT: each is a criterion of its own.
_PARENTS = 1_000
# MariaDB keeps a derived table apart from what it updates only beside a LIMIT.
_ALL = 2**31 - 1

#: The columns of `Numbers`, in their order.
_Columns: TypeAlias = tuple[AnyColumn, AnyColumn, AnyColumn, AnyColumn]


class _PendingTreeId:
    """Stands for the ``tree_id`` of a new root whose primary key is not known yet."""

    def __init__(self, root: ParentLink) -> None:
        self.root = root


class NestedChange(IndexChange):
    """The numbers of one flush."""

    def __init__(self, plan: FlushPlan) -> None:
        self.plan = plan
        self.renumbering = Renumbering()
        # Where siblings have no positions, a node that stays below its parent keeps its place among the numbers.
        placed = plan.config.position is not None
        self._links = [link for link in plan.links if link.new or link.moved or (placed and not link.to_root)]
        self._take_out()
        self._put_in()
        shifts = self.renumbering.run()
        # Of new roots without a primary key: the tree_id that their tree has until they get one.
        self._temporary_ids: dict[ParentLink, PrimaryKey] = {}
        self.shifts = Shifts(self._with_tree_ids(shifts))

    def _take_out(self) -> None:
        for link in self._links:
            if not link.new:
                self.renumbering.take_out(link, _numbers(self.plan, link.pk))

    def _put_in(self) -> None:
        plan = self.plan
        families: dict[object, list[ParentLink]] = defaultdict(list)
        new = {id(link.node): link for link in self._links if link.new}
        for link in self._links:
            if link.to_root:
                self.renumbering.make_root(link, _PendingTreeId(link) if link.pk is None else link.pk)
            else:
                # A new parent, whatever is known of its primary key, else the primary key of one that has numbers.
                families[new.get(id(link.parent), link.parent_pk)].append(link)
        if plan.config.position is not None:
            for family in families.values():
                family.sort(key=lambda link: cast("int", link.node.position))
        behind_gaps = self._behind_gaps({pk for pk in families if pk in plan.gaps})
        for parent, family in families.items():
            if isinstance(parent, ParentLink):
                for link in family:
                    self.renumbering.append(link, parent)
                continue
            numbers = _numbers(plan, parent)
            following = behind_gaps.get(parent, [])
            for link in family:
                index = bisect_right(following, (link.node.position, 0)) if following else 0
                at = following[index][1] if index < len(following) else numbers.right
                self.renumbering.insert(link, numbers, at)

    def _behind_gaps(self, parents: set[PrimaryKey]) -> dict[PrimaryKey, list[tuple[int, int]]]:
        """Return ``(position, left)`` of the children that stay and come after newcomers, in order; one SELECT."""
        plan, config = self.plan, self.plan.config
        column = config.position
        found: dict[PrimaryKey, list[tuple[int, int]]] = defaultdict(list)
        gone = {link.pk for link in self._links} | plan.deleted_pks
        left = _columns(config)[0]
        if column is None:
            return found
        for keys in chunks(parents, _PARENTS):
            behind = [and_(config.parent_id == pk, column >= plan.gaps[pk][0][0]) for pk in keys]
            statement = select(config.pk, config.parent_id, column, left).where(or_(*behind))
            for pk, parent, position, number in plan.connection.execute(locking_read(plan.connection, statement)):
                if pk in gone:
                    continue
                if number is None:
                    raise _missing(config, pk)
                found[parent].append((shifted(position, plan.gaps[parent]), number))
        for siblings in found.values():
            siblings.sort()
        return found

    def _with_tree_ids(self, shifts: Iterable[Shift]) -> Iterable[Shift]:
        """Yield the shifts with a ``tree_id`` for each tree.

        A tree whose root has no primary key yet takes that of a node that moves into it: no other tree can have it by
        then.
        """
        for shift in shifts:
            if isinstance(shift.to_tree, _PendingTreeId):
                temporary_id = self._temporary_ids.setdefault(shift.to_tree.root, self._moved_node(shift))
                yield shift._replace(to_tree=temporary_id)
            else:
                yield shift

    def _moved_node(self, shift: Shift) -> PrimaryKey:
        """Return the primary key of the moved node in whose old interval `shift` lies."""
        for link in self._links:
            if not link.new:
                old = _numbers(self.plan, link.pk)
                if old.tree == shift.tree and old.left <= shift.low <= old.right:
                    return link.pk
        raise LookupError(shift)  # pragma: no cover - only what was taken out comes to another tree

    # -- before the unit of work -----------------------------------------------------------------

    def write(self) -> None:
        """Shift the numbers of rows and loaded objects, and set those of new nodes."""
        plan = self.plan
        if len(self.shifts):
            _write_numbers(plan.config, plan.connection, self.shifts)
            plan.states_to_expire |= _show_numbers(plan.config, plan.session, self.shifts)
        for link in self._links:
            if link.new:
                numbers = self.renumbering.placed[link]
                tree = None if isinstance(numbers.tree, _PendingTreeId) else numbers.tree
                for name, value in zip(_NAMES, numbers._replace(tree=tree), strict=True):
                    set_attribute(link.node, name, value)

    # -- after it --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Set the ``tree_id`` of trees whose root has its primary key only now."""
        plan = self.plan
        roots = [link for link in self._links if link.new and link.to_root and link.pk is None]
        if not roots:
            return
        config, connection = plan.config, plan.connection
        # They have no identity before the flush is over, but the primary key is there.
        keys = {link: link.node.__dict__[config.pk_attr] for link in roots}
        _set_tree_ids(config, connection, list(keys.values()))
        for link, key in keys.items():
            set_committed_value(link.node, "tree_id", key)
            plan.states_to_expire.add(link.state)
        if self._temporary_ids:
            final_ids = {temporary: keys[link] for link, temporary in self._temporary_ids.items()}
            tree = _columns(config)[3]
            values = {**keep_onupdate(config.table), tree: case(final_ids, value=tree)}
            connection.execute(update(config.table).where(tree.in_(list(final_ids))).values(values))
            for node in plan.loaded_nodes():
                temporary = node.__dict__.get("tree_id")
                if temporary in final_ids:
                    set_committed_value(node, "tree_id", final_ids[temporary])
                    plan.states_to_expire.add(state_of(node))
        expire_on_rollback(plan.session, plan.states_to_expire)


class NestedInsert(IndexInsert):
    """The numbers of `insert_tree`."""

    def __init__(
        self,
        config: TreeConfig,
        session: Session,
        connection: Connection,
        parent: Numbers | None,
        rows: Sequence[NewRow],
    ) -> None:
        self.config = config
        self.connection = connection
        self.roots = [row for row in rows if row.parent is None] if parent is None else []
        if parent is None:
            counter, depth, self._tree = 1, 0, None
        else:
            counter, depth, self._tree = parent.right, parent.depth + 1, parent.tree
            shifts = Shifts([Shift(parent.tree, parent.right, None, parent.tree, 2 * len(rows), 0)])
            _write_numbers(config, connection, shifts)
            expire_on_rollback(session, _show_numbers(config, session, shifts))
        path: list[NewRow] = []
        for row in rows:
            while len(path) > row.level:
                path.pop().values["right"] = counter
                counter += 1
            if row.level == 0 and parent is None:
                counter = 1  # Each tree has a number line of its own.
            row.values.update(left=counter, right=None, depth=depth + row.level, tree_id=self._tree)
            counter += 1
            path.append(row)
        while path:
            path.pop().values["right"] = counter
            counter += 1

    def complete(self, row: NewRow) -> None:
        """Set the ``tree_id`` of a row below a new root."""
        if self._tree is None:
            row.values["tree_id"] = row.pk if row.parent is None else _tree_id_of(row.parent)

    def finish(self) -> None:
        """Set the ``tree_id`` of roots whose primary key the database has made."""
        pending = [row.pk for row in self.roots if row.values["tree_id"] is None]
        if pending:
            _set_tree_ids(self.config, self.connection, pending)


def _tree_id_of(row: NewRow) -> PrimaryKey:
    """Return the ``tree_id`` of an inserted row, also of a root that got its primary key by the INSERT."""
    return row.pk if row.parent is None else row.values["tree_id"]


def _numbers(plan: FlushPlan, pk: PrimaryKey) -> Numbers:
    """Return the numbers of a row, as read under the lock."""
    return numbers_of(plan.config, pk, plan.stored_values[pk])


def numbers_of(config: TreeConfig, pk: PrimaryKey, values: ColumnValues) -> Numbers:
    """Return the numbers of a row.

    Raises:
        TreeDamagedError: It has none.
    """
    numbers = Numbers(values["left"], values["right"], values["depth"], values["tree_id"])
    if None in numbers:
        raise _missing(config, pk)
    return numbers


def _missing(config: TreeConfig, pk: PrimaryKey) -> TreeDamagedError:
    detail = f"<{config.name} {pk!r}> is not numbered"
    return TreeDamagedError(
        f"{detail}, so nothing can be put beside or below it: rows that were inserted without the ORM need "
        f"rebuild_tree(session, {config.name})",
        [TreeProblem("missing_numbers", pk, detail)],
    )


def _columns(config: TreeConfig) -> _Columns:
    left, right, depth, tree = (config.mapper.columns[name] for name in _NAMES)
    return left, right, depth, tree


def _set_tree_ids(config: TreeConfig, connection: Connection, roots: Sequence[PrimaryKey]) -> None:
    """Set ``tree_id`` of new roots to the primary keys that the database made."""
    tree = _columns(config)[3]
    for keys in chunks(roots, MAX_IN):
        values = {**keep_onupdate(config.table), tree: config.pk}
        connection.execute(update(config.table).where(config.pk.in_(keys)).values(values))


def inherit_tree_ids(config: TreeConfig) -> None:
    """Give nodes below a new root its primary key as their ``tree_id``, when it has one and before their own INSERT."""

    def before_insert(mapper: object, connection: object, node: MappedObject) -> None:
        values = node.__dict__
        parent = values.get("parent")
        if values.get("tree_id") is None and parent is not None:
            above = parent.__dict__.get("tree_id")
            # The unit of work inserts level by level: of two without a tree_id, the upper is a root that got its
            # primary key just now.
            tree_id = parent.__dict__.get(config.pk_attr) if above is None else above
            # No event, which would look like a listener of the user's that changes what was planned; the INSERT takes
            # what is there.
            set_committed_value(node, "tree_id", tree_id)

    event.listen(config.cls, "before_insert", before_insert, propagate=True)


# -- rows and objects --------------------------------------------------------------------------------


def _write_numbers(config: TreeConfig, connection: Connection, shifts: Shifts) -> None:
    """Change the numbers of all rows: one UPDATE, or for very many shifts one SELECT and one batch of UPDATEs."""
    columns = _columns(config)
    if len(shifts) > _BRANCHES:
        statement = select(config.pk, *columns).where(_affected(columns, shifts))
        rows = [tuple(row) for row in connection.execute(locking_read(connection, statement))]
        changed = {row[0]: shifts.apply(Numbers(*row[1:])) for row in rows}
        update_rows(connection, config.pk, columns, changed)
        return
    table = config.table
    kept = keep_onupdate(table)
    if is_mysql(connection):
        # MariaDB assigns from left to right, and later assignments see what earlier ones made of the row.
        wanted = select(config.pk, *columns).where(_affected(columns, shifts)).limit(_ALL).subquery()
        old = tuple(wanted.c[column.key] for column in columns)
        values = _shifted(columns, old, shifts)
        connection.execute(update(table).where(config.pk == wanted.c[config.pk.key]).values({**kept, **values}))
    else:
        values = _shifted(columns, columns, shifts)
        connection.execute(update(table).where(_affected(columns, shifts)).values({**kept, **values}))


def _affected(columns: _Columns, shifts: Shifts) -> ColumnElement[bool]:
    """Return the criterion for the rows with a number that shifts."""
    _, right, _, tree = columns
    return or_(*(and_(tree == tree_id, right >= found[0].low) for tree_id, found in shifts.by_tree.items()))


def _shifted(columns: _Columns, old: Sequence[AnyExpression], shifts: Shifts) -> dict[AnyColumn, AnyExpression]:
    """Return new values of `columns` from the `old` ones, for those that change: `Shifts.apply`, in SQL."""
    left, right, depth, tree = old
    whens: list[list[tuple[ColumnElement[bool], AnyExpression]]] = [[], [], [], []]
    for shift in shifts:
        by_left, by_right = _in(shift, left, tree), _in(shift, right, tree)
        if shift.offset:
            whens[0].append((by_left, left + shift.offset))
            whens[1].append((by_right, right + shift.offset))
        if shift.depth_change:
            whens[2].append((by_left, depth + shift.depth_change))
        if shift.to_tree != shift.tree:
            whens[3].append((by_left, bindparam(None, shift.to_tree, tree.type)))
    return {
        column: case(*cases, else_=value) for column, value, cases in zip(columns, old, whens, strict=True) if cases
    }


def _in(shift: Shift, number: AnyExpression, tree: AnyExpression) -> ColumnElement[bool]:
    """Return the criterion that a number lies in the run of `shift`."""
    within = number >= shift.low if shift.high is None else number.between(shift.low, shift.high)
    return and_(tree == shift.tree, within)


def _show_numbers(config: TreeConfig, session: Session, shifts: Shifts) -> set[AnyState]:
    """Change the loaded objects as `_write_numbers` changed their rows, and return their states; no SQL."""
    changed: set[AnyState] = set()
    for node in objects_in_session(session, config.cls):
        state = state_of(node)
        values = state.dict
        if not values.keys() >= _NAMES_SET:
            if (known := values.keys() & _NAMES_SET) and state.persistent:
                # Expired in part: where it is cannot be told, so it must not show what may be wrong by now.
                session.expire(node, known)
            continue
        tree, depth = values["tree_id"], values["depth"]
        if tree not in shifts.by_tree:
            continue
        left, right = shifts.find(tree, values["left"]), shifts.find(tree, values["right"])
        if left is None and right is None:
            continue
        # This is the loop over all that is loaded; `set_committed_value` takes several times as long, and does the same
        # to an attribute that has no changes.
        if left is not None:
            values["left"] += left.offset
            values["depth"], values["tree_id"] = depth + left.depth_change, left.to_tree
        if right is not None:
            values["right"] += right.offset
        changed.add(state)
    return changed


def rewrite(
    config: TreeConfig,
    session: Session,
    connection: Connection,
    *,
    wrong: Mapping[PrimaryKey, Numbers],
    final: Mapping[PrimaryKey, Numbers],
) -> None:
    """Write the numbers of the rows that are `wrong`, and show the `final` ones on loaded objects.

    An object may be wrong although its row is right.
    """
    update_rows(connection, config.pk, _columns(config), wrong)
    changed: set[AnyState] = set()
    for node in objects_in_session(session, config.cls):
        if (numbers := final.get(pk_of(node))) is not None:
            shown = tuple(node.__dict__.get(name) for name in _NAMES)
            if shown == numbers:
                continue
            for name, before, after in zip(_NAMES, shown, numbers, strict=True):
                if before != after:
                    set_committed_value(node, name, after)
            changed.add(state_of(node))
    expire_on_rollback(session, changed)
