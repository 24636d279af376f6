"""Several writers of one tree at a time: no row is lost, no place is taken twice, no cycle is ever committed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sqla_patterns import trees
from sqla_patterns.exceptions import DuplicateKeyError, PatternError
from sqla_patterns.trees import InvalidMoveError
from tests._support import PATIENCE, Outcome, together
from tests.trees._machine import KEYED, SIBLINGS, Shape, assert_sound, each

SERVERS = ("postgresql", "mariadb")

Make = Callable[..., "World"]


# -- harness -------------------------------------------------------------------------------------


class World:
    """One tree class on a database with many connections."""

    def __init__(self, engine: Engine, shape: Shape, Node: Any) -> None:
        self.engine, self.shape, self.Node = engine, shape, Node

    def session(self) -> Session:
        return Session(self.engine)

    def plant(self, *lines: str) -> dict[str, Any]:
        """Insert nodes, each line a path of names such as ``a/b/c`` whose last name is new; return keys by name."""
        with self.session() as session:
            nodes: dict[str, Any] = {}
            for tag, line in enumerate(lines):
                *above, name = line.split("/")
                parent = nodes[above[-1]] if above else None
                nodes[name] = self.shape.add(session, self.Node, name, tag, parent=parent)
            session.commit()
            return {name: node.id for name, node in nodes.items()}

    def clear(self) -> None:
        with self.engine.begin() as connection:
            table = self.Node.__table__
            connection.execute(table.update().values(parent_id=None))
            connection.execute(table.delete())

    def sound(self) -> dict[Any, list[Any]]:
        """Assert that the table holds a forest in order; return it."""
        with self.session() as session:
            return assert_sound(session, self.Node)

    def get(self, session: Session, pk: Any) -> Any:
        return session.get_one(self.Node, pk)

    def transact(self, work: Callable[[Session], None]) -> None:
        """Do *work* and commit it, again if MariaDB finds a deadlock: it locks gaps between rows of two trees too."""
        while True:
            try:
                with self.session() as session:
                    work(session)
                    session.commit()
                    return
            except OperationalError as error:
                if not is_deadlock(error):
                    raise

    @contextmanager
    def nodes(self, *keys: Any) -> Generator[tuple[Any, ...], None, None]:
        """Yield a session, and the nodes of *keys* in it; commit in the end."""
        with self.session() as session:
            yield (session, *(self.get(session, key) for key in keys))
            session.commit()


@pytest.fixture
def make_world(engine_factory: Callable[..., Engine], plain_bases: Any) -> Callable[..., World]:
    def make(shape: Shape, isolation: str | None = None, on_delete: str = "cascade") -> World:
        options: dict[str, Any] = {} if isolation is None else {"isolation_level": isolation}
        engine = engine_factory(**options)
        Node = shape.make(plain_bases(), on_delete=on_delete)
        Node.metadata.create_all(engine)
        return World(engine, shape, Node)

    return make


def all_well(outcomes: list[Outcome]) -> None:
    """Raise the first error of *outcomes*, with a count of all kinds."""
    errors = [error for error in outcomes if error is not None]
    if errors:
        kinds = Counter(f"{type(error).__name__}: {str(error)[:120]}" for error in errors)
        raise AssertionError(f"{len(errors)} of {len(outcomes)} jobs failed: {dict(kinds)}") from errors[0]


_WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # innodb_trx would tell, but it is refreshed only when it was not read for 100 ms. On a table of a few rows, a
    # statement that takes so long waits for a lock.
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
    " AND command = 'Query' AND time_ms > 150",
}


def one_after_the_other(
    world: World, first: Callable[[Session], None], second: Callable[[Session], None]
) -> list[Outcome]:
    """Flush *first*, then flush and commit *second* in a thread; commit *first* once *second* waits for it or is done.

    Both have read their snapshot before. What the locks do is so decided by the code and not by chance.
    """
    outcomes: list[Outcome] = [None, None]
    ready, go, done = Event(), Event(), Event()
    count = select(func.count()).select_from(world.Node.__table__)

    def run_second() -> None:
        try:
            with world.session() as session:
                session.execute(count)
                ready.set()
                assert go.wait(PATIENCE)
                second(session)
                session.commit()
        except BaseException as error:  # noqa: BLE001  # the test judges it
            outcomes[1] = error
        finally:
            ready.set()
            done.set()

    thread = Thread(target=run_second, daemon=True)
    with world.session() as session:
        session.execute(count)
        thread.start()
        assert ready.wait(PATIENCE)
        try:
            first(session)
            session.flush()
            go.set()
            _await_block(world.engine, done)
            session.commit()
        except (DBAPIError, PatternError, StaleDataError) as error:
            outcomes[0] = error
            session.rollback()
            go.set()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the second writer hangs"
    return outcomes


def _await_block(engine: Engine, done: Event) -> None:
    deadline = time.monotonic() + PATIENCE
    waiting = text(_WAITING[engine.dialect.name])
    while not done.is_set():
        with engine.connect() as connection:
            if connection.scalar(waiting):
                return
        assert time.monotonic() < deadline, "the second writer neither waits nor ends"
        done.wait(0.02)


def is_serialization_failure(error: Outcome) -> bool:
    """Return whether the database refused a transaction whose snapshot was out of date; the application tries again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "40001"


def is_deadlock(error: Outcome) -> bool:
    """Return whether MariaDB refused a transaction for a deadlock; the application tries again."""
    return isinstance(error, OperationalError) and "1213" in str(error)


def is_refused(error: Outcome, isolation: str | None, *kinds: type[BaseException]) -> bool:
    return isinstance(error, kinds) or (isolation == "REPEATABLE READ" and is_serialization_failure(error))


def _by_parent(world: World, node: Any, target: Any) -> None:
    node.parent = target


def _by_key(world: World, node: Any, target: Any) -> None:
    node.parent_id = target.id


def _by_collection(world: World, node: Any, target: Any) -> None:
    world.shape.put(target, node)


def _by_move(world: World, node: Any, target: Any) -> None:
    node.move_to(target)


SPELLINGS: dict[str, Callable[[World, Any, Any], None]] = {
    "parent": _by_parent,
    "parent_id": _by_key,
    "children": _by_collection,
    "move_to": _by_move,
}
LEVELS = ("READ COMMITTED", "REPEATABLE READ")

spellings = pytest.mark.parametrize("spelling", SPELLINGS)
levels = pytest.mark.parametrize("isolation", LEVELS)
shapes = each()
ordered_shapes = each("siblings", "client_keys")
two_shapes = each("siblings", "keyed")


# -- inserts -------------------------------------------------------------------------------------


@pytest.mark.only_on(*SERVERS)
@shapes
def test_inserts_below_two_siblings_lose_no_row_and_share_no_position(make_world: Make, shape: Shape) -> None:
    world = make_world(shape)
    keys = world.plant("root", "root/a", "root/b")

    def insert_ten(thread: int) -> None:
        for number in range(10):
            with world.nodes(keys["ab"[thread % 2]]) as (session, parent):
                name = f"{thread}-{number}"
                if number % 2:
                    shape.put(parent, shape.new(world.Node, name))
                else:
                    shape.add(session, world.Node, name, parent_id=parent.id)

    all_well(together(*(lambda n=n: insert_ten(n) for n in range(8))))
    forest = world.sound()
    assert [len(forest[keys[name]]) for name in "ab"] == [40, 40]
    for name in "ab":
        for thread in range(8):
            mine = [row.name for row in forest[keys[name]] if row.name.startswith(f"{thread}-")]
            assert mine == sorted(mine), "later inserts come later"


@pytest.mark.only_on(*SERVERS)
@shapes
def test_new_roots_get_positions_of_their_own(make_world: Make, shape: Shape) -> None:
    world = make_world(shape)
    world.plant("first")

    def insert_roots(thread: int) -> None:
        for number in range(8):
            world.transact(lambda session, number=number: shape.add(session, world.Node, f"{thread}-{number}"))

    all_well(together(*(lambda n=n: insert_roots(n) for n in range(8))))
    assert len(world.sound()[None]) == 65


def _race_for_first_roots(world: Any, shape: Shape) -> list[BaseException]:
    """Insert six roots into an empty table at the same time, check the tree, and return what was raised."""
    world.clear()

    def insert_root(thread: int) -> None:
        with world.session() as session:
            shape.add(session, world.Node, f"{thread}")
            session.commit()

    failed = [error for error in together(*(lambda n=n: insert_root(n) for n in range(6))) if error is not None]
    assert len(world.sound()[None]) == 6 - len(failed)
    return failed


@pytest.mark.only_on("postgresql")
@shapes
def test_first_roots_of_an_empty_table_are_all_kept_on_postgresql(make_world: Make, shape: Shape) -> None:
    world = make_world(shape)
    assert [_race_for_first_roots(world, shape) for _ in range(5)] == [[]] * 5


@pytest.mark.only_on("mariadb")
@shapes
def test_only_a_deadlock_keeps_first_roots_out_of_an_empty_table_on_mariadb(make_world: Make, shape: Shape) -> None:
    """An empty table has no row to lock; that the database then finds a deadlock is documented."""
    world = make_world(shape)
    failed = [error for _ in range(5) for error in _race_for_first_roots(world, shape)]
    assert [error for error in failed if not is_deadlock(error)] == []


@pytest.mark.only_on(*SERVERS)
@ordered_shapes
@pytest.mark.parametrize("where", ["insert", "first_child", "before"])
def test_inserts_into_the_same_gap_keep_positions_distinct(make_world: Make, shape: Shape, where: str) -> None:
    world = make_world(shape)
    keys = world.plant("root", "root/a", "a/x", "a/y", "a/z")

    def insert_first(thread: int) -> None:
        def insert(session: Session, name: str) -> None:
            parent, last = world.get(session, keys["a"]), world.get(session, keys["z"])
            node = shape.add(session, world.Node, name)
            if where == "insert":
                parent.children.insert(0, node)
            elif where == "first_child":
                node.move_to(parent, "first_child")
            else:
                node.move_to(last, "before")

        for number in range(5):
            world.transact(lambda session, number=number: insert(session, f"{thread}-{number}"))

    all_well(together(*(lambda n=n: insert_first(n) for n in range(8))))
    names = [row.name for row in world.sound()[keys["a"]]]
    assert len(names) == 43
    assert [name for name in names if name in "xyz"] == ["x", "y", "z"]
    assert names[-1] == "z", names
    assert names[-3:] == ["x", "y", "z"] if where == "first_child" else True
    for thread in range(8):
        mine = [name for name in names if name.startswith(f"{thread}-")]
        if where == "first_child":
            assert mine == sorted(mine, reverse=True)
        elif where == "before":
            assert mine == sorted(mine)


@pytest.mark.only_on("postgresql")
@two_shapes
@pytest.mark.parametrize("below", ["a", None], ids=["child", "root"])
def test_an_insert_with_an_old_snapshot_takes_no_place_twice(make_world: Make, shape: Shape, below: str | None) -> None:
    world = make_world(shape, "REPEATABLE READ")
    keys = world.plant("root", "root/a")

    def insert_last(session: Session) -> None:
        shape.add(session, world.Node, "same", parent_id=keys[below] if below else None)

    outcomes = one_after_the_other(world, insert_last, insert_last)
    assert outcomes[0] is None
    world.sound()
    if shape.keyed:
        assert is_refused(outcomes[1], "REPEATABLE READ", DuplicateKeyError), outcomes
    else:
        assert outcomes[1] is None or is_serialization_failure(outcomes[1]), outcomes


# -- moves ---------------------------------------------------------------------------------------


@pytest.mark.only_on(*SERVERS)
@shapes
def test_subtrees_move_back_and_forth_while_others_insert(make_world: Make, shape: Shape) -> None:
    world = make_world(shape)
    keys = world.plant("root", "root/a", "root/b", "other", "a/s", "s/t", "t/u", "b/v", "v/w")

    def insert_many(thread: int) -> None:
        for number in range(10):
            parent = ("a", "b", "s", "u", "v", "w", "t", "other")[(thread + number) % 8]
            values = {"name": f"{thread}-{number}", "parent_id": keys[parent]}
            world.transact(lambda session, values=values: shape.add(session, world.Node, **values))

    def move_many(moving: str, targets: tuple[str, ...]) -> None:
        for number in range(15):

            def move(session: Session, number: int = number) -> None:
                target = world.get(session, keys[targets[number % len(targets)]])
                SPELLINGS[list(SPELLINGS)[number % 4]](world, world.get(session, keys[moving]), target)

            world.transact(move)

    jobs: list[Callable[[], None]] = [lambda n=n: insert_many(n) for n in range(5)]
    jobs += [lambda: move_many("s", ("b", "other", "a")), lambda: move_many("v", ("other", "root", "b"))]
    all_well(together(*jobs))
    forest = world.sound()
    rows = [row for rows in forest.values() for row in rows]
    assert len(rows) == 9 + 50
    where = {row.id: row.parent_id for row in rows}
    for rows_of in forest.values():
        for row in rows_of:
            if "-" in row.name:
                thread, number = map(int, row.name.split("-"))
                assert where[row.id] == keys[("a", "b", "s", "u", "v", "w", "t", "other")[(thread + number) % 8]]


@pytest.mark.only_on(*SERVERS)
@ordered_shapes
def test_siblings_that_change_places_all_the_time_keep_distinct_positions(make_world: Make, shape: Shape) -> None:
    world = make_world(shape)
    names = [f"s{n}" for n in range(8)]
    keys = world.plant("root", *(f"root/{name}" for name in names))

    def shuffle(thread: int) -> None:
        places = ("before", "after", "first_child", "last_child")
        for number in range(10):
            target = names[(thread + 1 + number % 7) % 8]
            place = places[(thread + number) % 4]
            with world.nodes(keys[names[thread]], keys[target], keys["root"]) as (_, node, sibling, root):
                node.move_to(sibling if place in ("before", "after") else root, place)

    all_well(together(*(lambda n=n: shuffle(n) for n in range(8))))
    assert sorted(row.name for row in world.sound()[keys["root"]]) == names


LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, str], tuple[str, str]]] = {
    "roots": (("a", "b"), ("a", "b"), ("b", "a")),
    "two_trees": (("a", "b", "a/a1", "a1/a2", "b/b1", "b1/b2"), ("a", "b2"), ("b", "a2")),
    "one_tree": (("r", "r/a", "r/b", "a/a1", "a1/a2", "b/b1", "b1/b2"), ("a", "b2"), ("b", "a2")),
    "deep_in_two_trees": (
        ("q", "r", "q/x", "r/y", "x/a", "y/b", "a/a1", "b/b1"),
        ("a", "b1"),
        ("b", "a1"),
    ),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def crossing(world: World, spelling: str, keys: dict[str, Any], pair: tuple[str, str]) -> Callable[[Session], None]:
    def move(session: Session) -> None:
        node, target = (world.get(session, keys[name]) for name in pair)
        SPELLINGS[spelling](world, node, target)
        session.flush()

    return move


@pytest.mark.only_on(*SERVERS)
@layouts
@levels
@spellings
@two_shapes
def test_of_two_moves_that_cross_the_later_is_refused(
    make_world: Make, shape: Shape, spelling: str, isolation: str, layout: str, database: Any
) -> None:
    world = make_world(shape, isolation)
    lines, one, other = LAYOUTS[layout]
    keys = world.plant(*lines)
    outcomes = one_after_the_other(world, crossing(world, spelling, keys, one), crossing(world, spelling, keys, other))
    assert outcomes[0] is None, outcomes
    world.sound()
    assert is_refused(outcomes[1], isolation if database.name == "postgresql" else None, InvalidMoveError), outcomes


@pytest.mark.only_on(*SERVERS)
@levels
@layouts
@two_shapes
def test_of_moves_that_cross_at_the_same_instant_exactly_one_is_refused(
    make_world: Make, shape: Shape, isolation: str, layout: str, database: Any
) -> None:
    world = make_world(shape, isolation)
    lines, one, other = LAYOUTS[layout]

    def once(number: int) -> None:
        world.clear()
        keys = world.plant(*lines)
        ready = Barrier(2)

        def move(pair: tuple[str, str], spelling: str) -> None:
            with world.session() as session:
                node, target = (world.get(session, keys[name]) for name in pair)
                SPELLINGS[spelling](world, node, target)
                ready.wait(PATIENCE)
                session.commit()

        names = list(SPELLINGS)
        outcomes = together(
            lambda: move(one, names[number % 4]),
            lambda: move(other, names[number // 4 % 4]),
        )
        world.sound()
        assert sum(error is None for error in outcomes) == 1, outcomes
        refused = next(error for error in outcomes if error is not None)
        assert is_refused(refused, isolation if database.name == "postgresql" else None, InvalidMoveError), outcomes

    for number in range(12):
        once(number)


@pytest.mark.only_on(*SERVERS)
def test_of_three_moves_that_close_a_ring_at_least_one_is_refused(make_world: Make) -> None:
    world = make_world(SIBLINGS)

    def once() -> None:
        world.clear()
        keys = world.plant("r", "r/a", "r/b", "r/c", "a/a1", "b/b1", "c/c1")
        ready = Barrier(3)

        def move(name: str, below: str) -> None:
            with world.nodes(keys[name], keys[below]) as (_, node, target):
                node.parent = target
                ready.wait(PATIENCE)

        outcomes = together(*(lambda p=p: move(*p) for p in (("a", "b1"), ("b", "c1"), ("c", "a1"))))
        world.sound()
        assert [type(error) for error in outcomes if error is not None] == [InvalidMoveError], outcomes

    for _ in range(15):
        once()


# -- keys ----------------------------------------------------------------------------------------


def _add_key(world: World, session: Session, keys: dict[str, Any], below: str | None, number: int) -> None:
    parent = world.get(session, keys[below]) if below else None
    if number % 2 or parent is None:
        world.shape.add(session, world.Node, "x", number, parent=parent)
    else:
        parent.children["x"] = world.shape.new(world.Node, "x", number)


def _rename_to_key(world: World, session: Session, keys: dict[str, Any], below: str | None, number: int) -> None:
    world.get(session, keys[f"{below or 'top'}{number}"]).name = "x"


def _move_to_key(world: World, session: Session, keys: dict[str, Any], below: str | None, number: int) -> None:
    node = world.get(session, keys[f"x{number}"])
    node.parent_id = None if below is None else keys[below]


@pytest.mark.only_on(*SERVERS)
@pytest.mark.parametrize("below", ["a", None], ids=["children", "roots"])
@pytest.mark.parametrize("way", [_add_key, _rename_to_key, _move_to_key], ids=["add", "rename", "move"])
def test_of_many_that_take_one_key_exactly_one_wins(make_world: Make, below: str | None, way: Any) -> None:
    world = make_world(KEYED)

    def once() -> None:
        world.clear()
        lines = ["root", "root/a"]
        lines += [f"root/a/a{n}" if below else f"top{n}" for n in range(6)] if way is _rename_to_key else []
        keys = world.plant(*lines)
        if way is _move_to_key:
            for number in range(6):
                keys |= {f"x{number}": world.plant(f"p{number}", f"p{number}/x")["x"]}
        ready = Barrier(6)

        def take(number: int) -> None:
            with world.session() as session:
                way(world, session, keys, below, number)
                ready.wait(PATIENCE)
                session.commit()

        outcomes = together(*(lambda n=n: take(n) for n in range(6)))
        world.sound()
        assert sum(error is None for error in outcomes) == 1, outcomes
        assert all(isinstance(error, DuplicateKeyError) for error in outcomes if error is not None), outcomes

    for _ in range(4):
        once()


# -- deletes -------------------------------------------------------------------------------------


def _by_session(world: World, session: Session, pk: Any) -> None:
    session.delete(world.get(session, pk))


def _by_subtree(world: World, session: Session, pk: Any) -> None:
    delete_subtree: Any = getattr(trees, "delete_subtree", None)
    assert delete_subtree is not None, "sqla_patterns.trees.delete_subtree is missing"
    delete_subtree(session, world.get(session, pk))


def _by_removal(world: World, session: Session, pk: Any) -> None:
    node = world.get(session, pk)
    if world.shape.keyed:
        del node.parent.children[node.name]
    else:
        node.parent.children.remove(node)


deletes = pytest.mark.parametrize(
    "delete", [_by_session, _by_subtree, _by_removal], ids=["session", "subtree", "removal"]
)
DOOMED = ("root", "root/doomed", "root/safe", "doomed/c", "c/d", "d/e", "safe/f")


@pytest.mark.only_on(*SERVERS)
@deletes
@levels
@pytest.mark.parametrize("below", ["doomed", "d"])
@two_shapes
def test_a_node_inserted_below_one_that_is_deleted_then_goes_with_it(
    make_world: Make, shape: Shape, delete: Any, below: str, isolation: str
) -> None:
    world = make_world(shape, isolation)
    keys = world.plant(*DOOMED)
    outcomes = one_after_the_other(
        world,
        lambda session: shape.add(session, world.Node, "late", parent_id=keys[below]),
        lambda session: delete(world, session, keys["doomed"]),
    )
    forest = world.sound()
    assert outcomes[0] is None, outcomes
    present = {row.name for rows in forest.values() for row in rows}
    if outcomes[1] is None:
        assert present == {"root", "safe", "f"}
    else:
        assert is_refused(outcomes[1], isolation, PatternError), outcomes
        assert len(present) == 8


@pytest.mark.only_on(*SERVERS)
@deletes
@levels
@pytest.mark.parametrize("below", ["doomed", "d"])
@two_shapes
def test_an_insert_below_a_node_that_was_deleted_meanwhile_is_refused(
    make_world: Make, shape: Shape, delete: Any, below: str, isolation: str
) -> None:
    world = make_world(shape, isolation)
    keys = world.plant(*DOOMED)
    outcomes = one_after_the_other(
        world,
        lambda session: delete(world, session, keys["doomed"]),
        lambda session: shape.add(session, world.Node, "late", parent_id=keys[below]),
    )
    forest = world.sound()
    assert outcomes[0] is None, outcomes
    assert is_refused(outcomes[1], isolation, InvalidMoveError), outcomes
    assert {row.name for rows in forest.values() for row in rows} == {"root", "safe", "f"}


@pytest.mark.only_on(*SERVERS)
@deletes
@spellings
def test_a_subtree_moved_out_of_a_node_survives_its_deletion(make_world: Make, delete: Any, spelling: str) -> None:
    world = make_world(SIBLINGS)
    keys = world.plant(*DOOMED)
    outcomes = one_after_the_other(
        world,
        crossing(world, spelling, keys, ("d", "safe")),
        lambda session: delete(world, session, keys["doomed"]),
    )
    forest = world.sound()
    assert outcomes[0] is None, outcomes
    present = {row.name for rows in forest.values() for row in rows}
    if outcomes[1] is None:
        assert present == {"root", "safe", "f", "d", "e"}
    else:
        assert isinstance(outcomes[1], PatternError) or is_serialization_failure(outcomes[1]), outcomes
        assert present == {"root", "doomed", "safe", "c", "d", "e", "f"}


@pytest.mark.only_on(*SERVERS)
@deletes
@spellings
def test_a_subtree_moved_below_a_node_goes_with_it(make_world: Make, delete: Any, spelling: str) -> None:
    world = make_world(SIBLINGS)
    keys = world.plant(*DOOMED)
    outcomes = one_after_the_other(
        world,
        crossing(world, spelling, keys, ("safe", "d")),
        lambda session: delete(world, session, keys["doomed"]),
    )
    forest = world.sound()
    assert outcomes == [None, None], outcomes
    assert {row.name for rows in forest.values() for row in rows} == {"root"}


@pytest.mark.only_on(*SERVERS)
@deletes
@spellings
def test_a_subtree_that_was_deleted_meanwhile_cannot_move_out(make_world: Make, delete: Any, spelling: str) -> None:
    world = make_world(SIBLINGS)
    keys = world.plant(*DOOMED)
    with world.session() as session:
        moving = [world.get(session, keys[name]) for name in ("d", "safe")]
        outcomes = one_after_the_other(
            world,
            lambda session: delete(world, session, keys["doomed"]),
            # The nodes were loaded by another transaction, as those of a long request are.
            lambda other: SPELLINGS[spelling](world, *(other.merge(node, load=False) for node in moving)),
        )
    forest = world.sound()
    assert outcomes[0] is None, outcomes
    assert isinstance(outcomes[1], PatternError | StaleDataError), outcomes
    assert {row.name for rows in forest.values() for row in rows} == {"root", "safe", "f"}


@pytest.mark.only_on(*SERVERS)
@pytest.mark.parametrize("on_delete", ["restrict", "adopt", "root"])
@pytest.mark.parametrize("above", ["root/", ""], ids=["inner", "top"])
def test_a_child_inserted_below_a_node_that_is_deleted_is_kept_by_the_other_policies(
    make_world: Make, on_delete: str, above: str
) -> None:
    world = make_world(SIBLINGS, on_delete=on_delete)
    keys = world.plant("root", f"{above}doomed", *(f"{above}s{n}" for n in range(3)))
    outcomes = one_after_the_other(
        world,
        lambda session: SIBLINGS.add(session, world.Node, "late", parent_id=keys["doomed"]),
        lambda session: _by_session(world, session, keys["doomed"]),
    )
    forest = world.sound()
    assert outcomes[0] is None, outcomes
    present = {row.name for rows in forest.values() for row in rows}
    assert "late" in present
    # The foreign key of "restrict" and "adopt" may be the one that refuses.
    assert outcomes[1] is None or isinstance(outcomes[1], PatternError | IntegrityError), outcomes
    assert ("doomed" in present) == (outcomes[1] is not None)
    if on_delete == "restrict":
        assert outcomes[1] is not None


@pytest.mark.only_on(*SERVERS)
@deletes
@pytest.mark.parametrize("doomed", ["tree", "t1"])
@each("client_keys", "keyed")
def test_inserts_and_moves_race_with_the_deletion_of_their_tree(
    make_world: Make, shape: Shape, delete: Any, doomed: str
) -> None:
    world = make_world(shape)
    inner = [
        "root",
        "root/out",
        "root/tree",
        *(f"root/tree/t{n}" for n in range(5)),
        *(f"tree/t{n}/u{n}" for n in range(5)),
    ]

    def once(lines: list[str]) -> None:
        world.clear()
        keys = world.plant(*lines)
        ready = Barrier(4)
        top = doomed in lines

        def insert_below(thread: int) -> None:
            ready.wait(PATIENCE)
            for number in range(4):
                values = {"name": f"{thread}-{number}", "parent_id": keys["tu"[number % 2] + "1"]}
                world.transact(lambda session, values=values: shape.add(session, world.Node, **values))

        def move_out() -> None:
            with world.nodes(keys["u1"], keys["out"]) as (_, node, target):
                node.parent = target
                ready.wait(PATIENCE)

        def delete_it() -> None:
            ready.wait(PATIENCE)
            # A root is in no collection.
            way = _by_session if top and delete is _by_removal else delete
            world.transact(lambda session: way(world, session, keys[doomed]))

        outcomes = together(lambda: insert_below(1), lambda: insert_below(2), move_out, delete_it)
        forest = world.sound()
        for error in outcomes[:2]:
            assert error is None or isinstance(error, InvalidMoveError), outcomes
        refused = isinstance(outcomes[2], PatternError | StaleDataError) or is_deadlock(outcomes[2])
        assert outcomes[2] is None or refused, outcomes
        assert outcomes[3] is None, outcomes
        present = {row.name for rows in forest.values() for row in rows}
        assert doomed not in present
        assert ("u1" in present) == (outcomes[2] is None), outcomes

    for number in range(8):
        once(inner if number % 2 else [line.removeprefix("root/") for line in inner])


# -- SQLite: one writer for the whole file -------------------------------------------------------


def _locked(error: Outcome) -> bool:
    return isinstance(error, OperationalError) and "locked" in str(error)


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("begin", ["deferred", "immediate"])
@shapes
def test_two_threads_on_a_sqlite_file_do_no_harm(make_world: Make, shape: Shape, begin: str) -> None:
    world = make_world(shape)
    _begin(world.engine, begin)
    keys = world.plant("root", "root/a", "root/b", "a/s", "s/t")

    def work(thread: int) -> None:
        for number in range(15):
            with world.nodes(keys["a"], keys["b"], keys["s"]) as (session, a, b, s):
                shape.add(session, world.Node, f"{thread}-{number}", parent=(a, b, s)[number % 3])
                if number % 5 == 0:
                    s.parent = (a, b)[(thread + number) % 2]

    outcomes = together(lambda: work(0), lambda: work(1))
    assert all(error is None or _locked(error) for error in outcomes), outcomes
    rows = [row for rows in world.sound().values() for row in rows]
    if outcomes == [None, None]:
        assert len(rows) == 5 + 30


@pytest.mark.only_on("sqlite")
@pytest.mark.parametrize("begin", ["deferred", "immediate"])
@layouts
@shapes
def test_moves_that_cross_on_a_sqlite_file_never_both_commit(
    make_world: Make, shape: Shape, layout: str, begin: str
) -> None:
    world = make_world(shape)
    _begin(world.engine, begin)
    lines, one, other = LAYOUTS[layout]

    def once(number: int) -> None:
        world.clear()
        keys = world.plant(*lines)
        names = list(SPELLINGS)
        ready = Barrier(2)

        def move(pair: tuple[str, str], spelling: str) -> None:
            with world.session() as session:
                if begin == "immediate":
                    ready.wait(PATIENCE)
                node, target = (world.get(session, keys[name]) for name in pair)
                SPELLINGS[spelling](world, node, target)
                if begin == "deferred":
                    ready.wait(PATIENCE)
                session.commit()

        outcomes = together(lambda: move(one, names[number % 4]), lambda: move(other, names[number // 2]))
        world.sound()
        assert sum(error is None for error in outcomes) <= 1, outcomes
        assert all(error is None or isinstance(error, InvalidMoveError) or _locked(error) for error in outcomes), (
            outcomes
        )
        assert not all(isinstance(error, InvalidMoveError) for error in outcomes), outcomes

    for number in range(4):
        once(number)


def _begin(engine: Engine, mode: str) -> None:
    """Begin transactions on SQLite as they begin by default, or by ``BEGIN IMMEDIATE`` as SQLAlchemy's manual shows."""
    if mode == "deferred":
        return

    @event.listens_for(engine, "connect")
    def no_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin_immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()
