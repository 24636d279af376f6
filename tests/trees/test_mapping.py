"""How a class becomes a tree: tables that Alembic sees whole, options that are wrong, copies of mapped objects."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Index, MetaData, String, UniqueConstraint, create_engine, inspect, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry

from sqla_patterns.exceptions import InvalidArgumentError, MappingError, PatternError
from sqla_patterns.trees import KeyedTreeNode, TreeNode, TreeOptions, load_tree, verify_tree
from tests._support import assert_empty_diff
from tests.trees._shapes import Tree, any_key, assert_in_step, no_sql

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# -- tables --------------------------------------------------------------------------------------


def test_autogenerate_finds_nothing_to_do(tree: Tree, engine: Engine) -> None:
    """A table that was created from the model is what Alembic expects."""
    assert_empty_diff(engine, tree.metadata)


@any_key
def test_autogenerate_finds_nothing_to_do_for_any_key(tree: Tree, engine: Engine) -> None:
    """Neither with keys of other types and names."""
    if tree.schema is None:
        assert_empty_diff(engine, tree.metadata)


@pytest.mark.parametrize("on_delete", ["cascade", "restrict", "adopt", "root"])
def test_names_follow_the_naming_convention(engine: Engine, bases: Any, on_delete: Any) -> None:
    """Foreign key and index are named by the user's convention, and the policy is in the foreign key."""
    Base = bases(metadata=MetaData(naming_convention=NAMING))

    class Category(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "category"
        __tree__ = TreeOptions(on_delete=on_delete)
        id: Mapped[int] = mapped_column(primary_key=True)

    table: Any = Category.__table__
    (key,) = table.foreign_key_constraints
    (index,) = table.indexes
    assert key.name == "fk_category_parent_id_category"
    assert key.ondelete == {"cascade": "CASCADE", "root": "SET NULL"}.get(on_delete)
    assert index.name == "ix_category_parent_id_position"
    Base.metadata.create_all(engine)
    assert_empty_diff(engine, Base.metadata)


def test_a_table_of_the_users_own_is_taken_as_it_is(engine: Engine, plain_bases: Any) -> None:
    """Columns that the class declares itself keep their names, foreign keys and indexes."""
    Base = plain_bases()

    class Page(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "page"
        __table_args__ = (Index("by_up", "up"), UniqueConstraint("up", "place", name="one_place"))
        nr: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column("up", ForeignKey("page.nr", name="to_page"))
        position: Mapped[int] = mapped_column("place")

    Base.metadata.create_all(engine)
    assert {key.name for key in Page.__table__.foreign_key_constraints} == {"to_page"}  # type: ignore[attr-defined]
    assert {index.name for index in Page.__table__.indexes} == {"by_up"}  # type: ignore[attr-defined]
    with Session(engine) as session:
        top = Page()
        top.children = [Page(), Page()]
        session.add(top)
        session.commit()
        assert [page.position for page in top.children] == [0, 1]
        assert verify_tree(session, Page) == []


def test_a_class_that_is_mapped_by_decorator(engine: Engine) -> None:
    """``registry.mapped`` makes trees too."""
    reg = registry()

    @reg.mapped
    class Page(TreeNode):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)

    reg.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Page(children=[Page()]))  # type: ignore[call-arg]
        session.commit()
        (top,) = load_tree(session, Page)
        assert len(top.children) == 1
    reg.dispose()


def test_several_trees_in_one_table(engine: Engine, tree: Tree, session: Session) -> None:
    """Trees of one table do not see each other's nodes."""
    t = tree.make(session, "a(b c) d(e(f))")
    t.e.parent = t.a
    session.commit()
    assert tree.outline(session) == "a(b c e(f)) d"
    assert tree.matching(session, tree.cls.descendant_of(t.a)) == "b c e f"


# -- errors --------------------------------------------------------------------------------------


def _refused(match: str) -> Any:
    return pytest.raises(MappingError, match=match)


def test_a_composite_key_is_refused_when_the_class_is_mapped(plain_bases: Any) -> None:
    """The error names the columns and says what to do, and it is SQLAlchemy's kind of error as well."""
    with _refused(r"primary key of one column.*'a', 'b'.*surrogate key") as caught:

        class Both(TreeNode, plain_bases()):  # type: ignore[misc]
            __tablename__ = "both"
            a: Mapped[int] = mapped_column(primary_key=True)
            b: Mapped[int] = mapped_column(primary_key=True)

    assert isinstance(caught.value, PatternError)
    assert isinstance(caught.value, ArgumentError)


@pytest.mark.parametrize(
    ("mixin", "options", "match"),
    [
        (KeyedTreeNode, None, r"needs the attribute that keys"),
        (KeyedTreeNode, TreeOptions(key="nme"), r"'nme', which is no column attribute"),
        (TreeNode, TreeOptions(key="name"), r"needs KeyedTreeNode"),
        (TreeNode, TreeOptions(order_by=("nme",)), r"'nme', which is no column attribute"),
        (TreeNode, TreeOptions(order_by="name"), r"tuple of names: \('name',\)"),
        (TreeNode, TreeOptions(on_delete="cascad"), r"'cascad'; known are 'cascade'"),  # type: ignore[arg-type]
        (TreeNode, {"order_by": ("name",)}, r"must be TreeOptions\(\.\.\.\), not dict"),
    ],
)
def test_wrong_options_are_refused_when_the_class_is_mapped(
    plain_bases: Any, mixin: Any, options: Any, match: str
) -> None:
    """Each names the class and the option."""
    with _refused(match) as caught:

        class Wrong(mixin, plain_bases()):  # type: ignore[misc]
            __tablename__ = "wrong"
            __tree__ = options
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(String(50))

    assert "Wrong" in str(caught.value)


def test_a_class_that_is_no_tree_is_refused(session: Session, plain_bases: Any) -> None:
    """Functions name what they were given."""

    class Plain(plain_bases()):  # type: ignore[misc]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(InvalidArgumentError, match=r"Plain.*is no tree"):
        load_tree(session, Plain)  # type: ignore[type-var]


# -- copies --------------------------------------------------------------------------------------


class PickledBase(DeclarativeBase):
    """Pickle finds classes by name, so these stand in the module."""


class PickledPage(TreeNode, PickledBase):
    __tablename__ = "pickled_page"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class PickledFolder(KeyedTreeNode, PickledBase):
    __tablename__ = "pickled_folder"
    __tree__ = TreeOptions(key="name")
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_a_loaded_tree_survives_pickling() -> None:
    """Links and collections are there again, work, and go on working in a session."""
    engine = create_engine("sqlite://")
    PickledBase.metadata.create_all(engine)
    with Session(engine) as session:
        page = PickledPage(name="a", children=[PickledPage(name="b"), PickledPage(name="c")])
        folder = PickledFolder(name="a")
        folder.children["b"] = PickledFolder(name="b")
        session.add_all([page, folder])
        session.commit()
        load_tree(session, PickledPage)
        load_tree(session, PickledFolder)
        data = pickle.dumps((page, folder))
    page, folder = pickle.loads(data)
    assert [child.name for child in page.children] == ["b", "c"]
    assert page.children[0].parent is page
    assert list(folder.children) == ["b"]
    with Session(engine) as session:
        session.add_all([page, folder])
        page.children.reverse()
        folder.children["b"].name = "x"
        session.commit()
        assert [child.name for child in page.children] == ["c", "b"]
        assert list(folder.children) == ["x"]
    engine.dispose()


@pytest.mark.parametrize("spelling", ["parent", "parent_id"])
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "unloaded"])
def test_merge_moves_a_node(tree: Tree, session: Session, spelling: str, loaded: bool) -> None:
    """A detached node that got another parent is merged like any object, though a list still shows it elsewhere."""
    t = tree.make(session, "a(b) c")
    keys = {name: tree.pk(node) for name, node in vars(t).items()}
    load_tree(session, tree.cls)
    session.expunge_all()
    if spelling == "parent":
        t.b.parent = t.c
    else:
        t.b.parent_id = keys["c"]
    if loaded:
        load_tree(session, tree.cls)
    merged = session.merge(t.b)
    session.flush()
    assert tree.pk(merged.parent) == keys["c"]
    assert tree.outline(session) == "a c(b)"
    assert_in_step(session, tree)


def test_merge_adds_a_whole_tree(tree: Tree, session: Session) -> None:
    """A transient tree that is merged is inserted, in its order."""
    merged = session.merge(tree.pending("a(c b(d))").a)
    session.flush()
    assert tree.names([merged]) == "a"
    assert tree.outline(session) in ("a(c b(d))", "a(b(d) c)")
    if tree.positioned:
        assert tree.outline(session) == "a(c b(d))"
    assert_in_step(session, tree)


def test_expunge_and_refresh_work_as_ever(tree: Tree, session: Session) -> None:
    """A node can be refreshed, and expunged with what is loaded below it."""
    t = tree.make(session, "a(b(c))")
    session.refresh(t.a)
    load_tree(session, tree.cls)
    session.expunge(t.a)
    assert all(inspect(node).detached for node in (t.a, t.b, t.c))
    with no_sql():
        assert tree.members(t.a) == [t.b]
    assert session.scalars(select(tree.cls.name).where(tree.cls.is_root())).all() == ["a"]
