"""A real directory as a tree: tens of thousands of files inserted, measured, cleaned up and moved within seconds.

Reads the standard library's folder, or any other: ``python -m sqla_patterns demo tree_of_files ~/projects``. The files
themselves are only looked at.
"""

from __future__ import annotations

import os
import sysconfig
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import BigInteger, Engine, String, func, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_parser
from sqla_patterns.demos.trees import sql_of
from sqla_patterns.trees import (
    KeyedTreeNode,
    TreeOptions,
    TreeRow,
    insert_tree,
    load_tree,
    render_tree,
    verify_tree,
    walk_tree,
)

LEFTOVERS = ("__pycache__", "test", "tests")


class Base(DeclarativeBase):
    pass


class Entry(KeyedTreeNode, Base):
    __tablename__ = "file_entry"
    __tree__ = TreeOptions(key="name")

    id: Mapped[int] = mapped_column(primary_key=True)
    # 255 bytes, which need not be valid UTF-8: see _text().
    name: Mapped[str] = mapped_column(String(4 * 255))
    is_folder: Mapped[bool]
    size: Mapped[int] = mapped_column(BigInteger)


class Options(DemoOptions):
    path: str
    limit: int


class Scan:
    """A directory in the form that `insert_tree` takes: generators of mappings, each folder read when it is due."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.unreadable = 0

    def root_of(self, path: str) -> dict[str, object]:
        name = _text(os.path.basename(os.path.abspath(path)) or path)
        self.count += 1
        return {"name": name, "is_folder": True, "size": 0, "children": self.entries_of(path)}

    def entries_of(self, path: str) -> Iterator[dict[str, object]]:
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            self.unreadable += 1
            return
        names: set[str] = set()
        for entry in entries:
            if self.count == self.limit:
                return
            self.count += 1
            name = _text(entry.name)
            while name in names:
                # Two names can only meet here if one of them spells out the bytes of the other.
                name = f"{name}~"
            names.add(name)
            # Links are entries like others and are not followed, so that there are no cycles.
            if entry.is_dir(follow_symlinks=False):
                yield {"name": name, "is_folder": True, "size": 0, "children": self.entries_of(entry.path)}
            else:
                yield {"name": name, "is_folder": False, "size": self._size(entry)}

    def _size(self, entry: os.DirEntry[str]) -> int:
        try:
            return entry.stat(follow_symlinks=False).st_size
        except OSError:
            # Deleted since it was listed, or not readable.
            self.unreadable += 1
            return 0


def _text(name: str) -> str:
    """Return a name as text that any database takes; bytes that are no UTF-8 are spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    parser = demo_parser(__doc__)
    parser.add_argument("path", nargs="?", default=sysconfig.get_paths()["stdlib"], help="the directory to read")
    parser.add_argument("--limit", type=int, default=100_000, help="stop after so many entries")
    options = parser.parse_args(argv, namespace=Options())
    if not os.path.isdir(options.path):
        parser.error(f"{options.path!r} is no directory")
    if options.limit < 1:
        parser.error("--limit must be at least 1")
    with demo_engine(options, Base.metadata) as engine:
        demo = _Demo(options, engine)
        with Session(engine, expire_on_commit=False) as session:
            root = demo.insert(session)
            demo.add_up_in_sql(session, root)
            rows = demo.add_up_in_python(session)
            demo.delete_leftovers(session, rows)
            place = demo.move_largest(session, root)
        with Session(engine) as session:
            demo.render(session, place.id)
            demo.verify(session)
    return 0


class _Demo:
    def __init__(self, options: Options, engine: Engine) -> None:
        self.options = options
        self.engine = engine
        self.say = options.say

    @contextmanager
    def _step(self, what: str) -> Generator[list[str], None, None]:
        started = time.perf_counter()
        with sql_of(self.engine) as log:
            yield log
        seconds = time.perf_counter() - started
        self.say(f"{what}: {seconds:.2f} s, {len(log)} statement{'s' * (len(log) != 1)}")

    def insert(self, session: Session) -> Entry:
        scan = Scan(self.options.limit)
        self.say(f"{_text(self.options.path)}\n")
        with self._step("read it and insert_tree() it, from generators"):
            (root,) = insert_tree(session, Entry, scan.root_of(self.options.path))
            session.commit()
        assert _count(session) == scan.count
        self.say(f"  entries: {scan.count:,}, not readable: {scan.unreadable:,}")
        if scan.count == self.options.limit:
            self.say("  stopped there: --limit")
        return root

    def add_up_in_sql(self, session: Session, root: Entry) -> None:
        """Print the sizes of the folders at the top, each with all that lies below it."""
        top = aliased(Entry)
        total = func.sum(Entry.size)
        statement = (
            select(top.name, func.count(), total)
            .join(Entry, Entry.descendant_of(top))
            .where(top.child_of(root), top.is_folder)
            .group_by(top.id, top.name)
            .order_by(total.desc())
            .limit(6)
        )
        self.say()
        with self._step("folders at the top, joined with their descendants"):
            found = session.execute(statement).all()
        for name, count, size in found:
            self.say(f"  {_bytes(int(size)):>9}  {count:>7,} entries  {name}")

    def add_up_in_python(self, session: Session) -> Sequence[TreeRow[Entry]]:
        """Print the sizes of the largest folders, and return all rows.

        The rows come depth first, so backwards a folder follows what it holds.
        """
        self.say()
        with self._step("walk_tree(), and add up every folder in Python"):
            rows = walk_tree(session, Entry)
            totals = Counter[int | None]()
            for entry, _ in reversed(rows):
                totals[entry.id] += entry.size
                totals[entry.parent_id] += totals[entry.id]
        root, _ = rows[0]
        in_sql = session.scalar(select(func.sum(Entry.size)).where(Entry.descendant_of(root, inclusive=True)))
        assert totals[root.id] == in_sql
        deepest = max(depth for _, depth in rows)
        self.say(f"  {_bytes(totals[root.id])} in all, {deepest} levels deep; the largest folders two levels down:")
        second = [entry for entry, depth in rows if depth == 2 and entry.is_folder]
        for entry in sorted(second, key=lambda entry: totals[entry.id], reverse=True)[:6]:
            self.say(f"  {_bytes(totals[entry.id]):>9}  {_path(entry)}")
        return rows

    def delete_leftovers(self, session: Session, rows: Sequence[TreeRow[Entry]]) -> None:
        self.say()
        with self._step(f"session.delete() each folder named {', '.join(LEFTOVERS)}") as log:
            named = select(Entry).where(Entry.is_folder, Entry.name.in_(LEFTOVERS), ~Entry.is_root())
            found = session.scalars(named).all()
            for entry in found:
                session.delete(entry)
            session.commit()
        left = _count(session)
        gone = sum(1 for entry, _ in rows if inspect(entry).was_deleted)
        assert gone == len(rows) - left
        assert len([statement for statement in log if statement.startswith("DELETE")]) <= 2 + len(rows) // 10_000
        self.say(f"  folders: {len(found):,}, with all that they held: {gone:,}; left: {left:,}")

    def move_largest(self, session: Session, root: Entry) -> Entry:
        folders = [entry for entry in root.children.values() if entry.is_folder]
        sizes = {folder.id: self._size(session, folder) for folder in folders}
        folders.sort(key=lambda folder: sizes[folder.id], reverse=True)
        largest = folders[:5]
        name = "largest"
        while name in root.children:
            name = f"{name}~"
        self.say()
        with self._step(f"move the largest folders ({len(largest)}) into a new one"):
            place = Entry(name=name, is_folder=True, size=0, parent=root)
            session.add(place)
            for folder in largest:
                folder.parent = place
            session.commit()
        assert [folder.name in root.children for folder in largest] == [False] * len(largest)
        assert self._size(session, place) == sum(sizes[folder.id] for folder in largest)
        return place

    def render(self, session: Session, key: int) -> None:
        self.say()
        with self._step("load_tree() of that folder, max_depth=1, and render_tree()"):
            (place,) = load_tree(session, Entry, key, max_depth=1)
            text = render_tree(place, label=lambda entry: f"{entry.name}/")
        self.say("\n".join(f"  {line}" for line in text.splitlines()))

    def verify(self, session: Session) -> None:
        self.say()
        with self._step("verify_tree()"):
            problems = verify_tree(session, Entry)
        assert problems == []
        self.say("  no problem found")

    def _size(self, session: Session, folder: Entry) -> int:
        return int(session.scalar(select(func.sum(Entry.size)).where(Entry.descendant_of(folder, inclusive=True))) or 0)


def _count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Entry)) or 0


def _path(entry: Entry) -> str:
    names: list[str] = []
    above: Entry | None = entry
    while above is not None:
        names.append(above.name)
        above = above.parent  # Loaded already.
    return "/".join(reversed(names))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.0f} TB"
