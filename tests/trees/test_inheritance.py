"""Trees of several classes: single-table and joined inheritance below the class that mixes the tree in."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from sqla_patterns.trees import (
    DuplicateKeyError,
    InvalidMoveError,
    KeyedTreeNode,
    TreeNode,
    TreeOptions,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    verify_tree,
    walk_tree,
)
from tests._support import count_statements
from tests.trees._shapes import no_sql


class Models:
    """A base class of nodes, and two kinds of them."""

    def __init__(self, Base: Any, *, joined: bool, keyed: bool, dataclass_base: bool) -> None:
        no_init: dict[str, Any] = {"init": False} if dataclass_base else {}
        mixin: Any = KeyedTreeNode if keyed else TreeNode
        self.keyed = keyed

        class Entry(mixin, Base):  # type: ignore[misc]
            __tablename__ = "entry"
            __tree__ = TreeOptions(key="name") if keyed else TreeOptions()
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "entry"}
            id: Mapped[int] = mapped_column(primary_key=True, **no_init)
            kind: Mapped[str] = mapped_column(String(20), **no_init)
            name: Mapped[str] = mapped_column(String(50))

        def own_table(name: str) -> dict[str, Any]:
            if not joined:
                return {}
            return {"__tablename__": name, "id": mapped_column(ForeignKey("entry.id"), primary_key=True, **no_init)}

        def subclass(name: str, column: str, column_type: Any) -> Any:
            body: dict[str, Any] = {
                "__module__": __name__,
                "__mapper_args__": {"polymorphic_identity": name.lower()},
                "__annotations__": {column: Mapped[column_type | None], **({"id": Mapped[int]} if joined else {})},
                column: mapped_column(default=None),
                **own_table(name.lower()),
            }
            return type(name, (Entry,), body)

        self.Entry: Any = Entry
        self.Folder = subclass("Folder", "quota", int)
        self.File = subclass("File", "size", int)

    def put(self, parent: Any, *children: Any) -> None:
        for child in children:
            if self.keyed:
                parent.children[child.name] = child
            else:
                parent.children.append(child)


@pytest.fixture(params=["single", "joined"])
def joined(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "joined")


@pytest.fixture(params=["list", "keyed"])
def m(request: pytest.FixtureRequest, joined: bool, bases: Any, engine: Engine) -> Models:
    Base = bases()
    models = Models(Base, joined=joined, keyed=request.param == "keyed", dataclass_base=bases.kind == "dataclass")
    Base.metadata.create_all(engine)
    return models


def _plant(m: Models, session: Session) -> Any:
    top, inner, file, plain = m.Folder(name="top"), m.Folder(name="inner"), m.File(name="file"), m.Entry(name="plain")
    m.put(top, inner, file)
    m.put(inner, plain)
    session.add(top)
    session.commit()
    return top


def _outline(session: Session, m: Models) -> list[tuple[str, str, int]]:
    session.expire_all()
    return [(type(node).__name__, node.name, depth) for node, depth in walk_tree(session, m.Entry)]


def test_kinds_may_be_mixed(m: Models, session: Session) -> None:
    """Children of any class of the hierarchy hang below any other, and come back as what they are."""
    _plant(m, session)
    session.expunge_all()
    expected = [("Folder", "top", 0), ("Folder", "inner", 1), ("Entry", "plain", 2), ("File", "file", 1)]
    if m.keyed:
        expected = [expected[0], expected[3], expected[1], expected[2]]
    assert _outline(session, m) == expected
    assert verify_tree(session, m.Entry) == []


def test_any_class_of_the_hierarchy_names_the_tree(m: Models, session: Session) -> None:
    """Loaders and predicates work on subclasses: a subclass filters the result, never the way to it."""
    top = _plant(m, session)
    assert session.scalars(select(m.File.name).where(m.File.descendant_of(top))).all() == ["file"]
    assert session.scalars(select(m.Folder.name).where(m.Folder.is_root())).all() == ["top"]
    session.expunge_all()
    with count_statements() as log:
        (root,) = load_tree(session, m.Folder)
    assert len(log) == 1
    with no_sql():
        members = list(root.children.values()) if m.keyed else root.children
        assert {child.name for child in members} == {"inner", "file"}


def test_moves_work_across_classes(m: Models, session: Session) -> None:
    """A file moves, a cycle through two classes is refused, a key is shared by all classes."""
    top = _plant(m, session)
    inner = session.scalars(select(m.Folder).where(m.Folder.name == "inner")).one()
    file = session.scalars(select(m.File)).one()
    file.parent = inner
    session.commit()
    assert session.scalar(select(func.count()).select_from(m.Entry).where(m.Entry.child_of(inner))) == 2
    top.parent_id = file.id
    with pytest.raises(InvalidMoveError), session.no_autoflush:
        session.flush()
    session.rollback()
    if m.keyed:
        session.add(m.Entry(name="top"))
        with pytest.raises(DuplicateKeyError):
            session.flush()
        session.rollback()
    assert verify_tree(session, m.Entry) == []


@pytest.mark.parametrize("way", ["session", "function"])
def test_deleting_takes_every_table_along(m: Models, session: Session, joined: bool, way: str) -> None:
    """A subtree of three classes goes with one DELETE for each table."""
    top = _plant(m, session)
    with count_statements() as log:
        if way == "session":
            session.delete(top)
            session.flush()
        else:
            assert delete_subtree(session, top) == 4
    session.commit()
    assert len(log.starting("DELETE")) == (3 if joined else 1), log.text
    for table in m.Entry.metadata.sorted_tables:
        assert session.scalar(select(func.count()).select_from(table)) == 0


def test_bulk_data_names_classes_by_the_discriminator(m: Models, session: Session) -> None:
    """What `dump_tree` gives makes objects of the same classes, with their own columns."""
    _plant(m, session)
    file = session.scalars(select(m.File)).one()
    file.size = 7
    session.commit()
    before = _outline(session, m)
    saved = dump_tree(session, m.Entry)
    delete_subtree(session, load_tree(session, m.Entry)[0])
    insert_tree(session, m.Entry, saved)
    session.commit()
    assert _outline(session, m) == before
    assert session.scalars(select(m.File.size)).all() == [7]


def test_a_tree_in_the_middle_of_a_hierarchy(engine: Engine, session: Session, plain_bases: Any) -> None:
    """A joined subclass may be the tree, and its siblings in the hierarchy know nothing of it."""
    Base = plain_bases()

    class Document(Base):  # type: ignore[misc]
        __tablename__ = "document"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "document"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))

    class Chapter(TreeNode, Document):
        __tablename__ = "chapter"
        __mapper_args__ = {"polymorphic_identity": "chapter"}
        id: Mapped[int] = mapped_column(ForeignKey("document.id"), primary_key=True)
        title: Mapped[str] = mapped_column(String(50))

    Base.metadata.create_all(engine)
    a = Chapter(title="a", children=[Chapter(title="b"), Chapter(title="c")])  # type: ignore[call-arg]
    session.add_all([a, Document()])
    session.commit()
    a.children[1].move_to(a.children[0], "before")
    session.commit()
    session.expire_all()
    assert [row.node.title for row in walk_tree(session, Chapter)] == ["a", "c", "b"]
    session.delete(a)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Document)) == 1
    assert session.scalar(select(func.count()).select_from(Chapter.__table__)) == 0


def test_relationships_of_the_users_cascade(engine: Engine, session: Session, plain_bases: Any) -> None:
    """Rows of other tables that belong to deleted nodes go by the user's cascade, nodes below included."""
    Base = plain_bases()

    class Folder(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "folder"
        id: Mapped[int] = mapped_column(primary_key=True)
        labels: Mapped[list[Label]] = relationship(lambda: Label, cascade="all, delete-orphan")

    class Label(Base):  # type: ignore[misc]
        __tablename__ = "label"
        id: Mapped[int] = mapped_column(primary_key=True)
        folder_id: Mapped[int] = mapped_column(ForeignKey("folder.id"))

    Base.metadata.create_all(engine)
    top = Folder(labels=[Label()], children=[Folder(labels=[Label(), Label()])])  # type: ignore[call-arg]
    session.add_all([top, Folder(labels=[Label()])])  # type: ignore[call-arg]
    session.commit()
    session.delete(top)
    session.commit()
    assert session.scalar(select(func.count()).select_from(Label)) == 1
    assert session.scalar(select(func.count()).select_from(Folder)) == 1
