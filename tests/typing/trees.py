"""Trees as a checker sees them: attributes, predicates and functions, on plain and dataclass bases."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TypeVar, assert_type

from rich.tree import Tree
from sqlalchemy import ColumnElement, ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    InstrumentedAttribute,
    Mapped,
    MappedAsDataclass,
    Session,
    aliased,
    joinedload,
    mapped_column,
    raiseload,
    selectinload,
)

from sqla_patterns.exceptions import DuplicateKeyError, PatternError
from sqla_patterns.trees import (
    DeleteRestrictedError,
    InvalidMoveError,
    KeyedTreeNode,
    Ltree,
    LtreePath,
    MaterializedPath,
    PathOverflowError,
    TreeDamagedError,
    TreeData,
    TreeNode,
    TreeOptions,
    TreeProblem,
    TreeRow,
    delete_subtree,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    rebuild_tree,
    render_tree,
    verify_tree,
    walk_tree,
)

N = TypeVar("N", bound=TreeNode)


class Base(DeclarativeBase):
    pass


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    pass


class Category(TreeNode, Base):
    __tablename__ = "category"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Folder(KeyedTreeNode, Base):
    __tablename__ = "folder"
    __tree__ = TreeOptions(key="name", on_delete="restrict")

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]


class Topic(TreeNode, DataclassBase):
    __tablename__ = "topic"
    __tree__ = TreeOptions(order_by=("name",), on_delete="adopt")

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]


class Drawer(KeyedTreeNode, DataclassBase):
    __tablename__ = "drawer"
    __tree__ = TreeOptions(key="name")

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(default="")


class Page(TreeNode, Base):
    """The key has another name than ``id``."""

    __tablename__ = "page"

    slug: Mapped[str] = mapped_column(primary_key=True)


class Chapter(MaterializedPath, TreeNode, Base):
    __tablename__ = "chapter"

    id: Mapped[int] = mapped_column(primary_key=True)


class Area(LtreePath, KeyedTreeNode, Base):
    __tablename__ = "area"
    __tree__ = TreeOptions(key="name")

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]


class Region(MaterializedPath, KeyedTreeNode, DataclassBase):
    __tablename__ = "region"
    __tree__ = TreeOptions(key="name")

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]


class Item(TreeNode, Base):
    __tablename__ = "item"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Book(Item):
    __tablename__ = "book"
    __mapper_args__ = {"polymorphic_identity": "book"}

    id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    pages: Mapped[int]


# -- attributes ----------------------------------------------------------------------------------


def attributes_of_the_class() -> None:
    assert_type(Category.parent, InstrumentedAttribute[Category | None])
    assert_type(Category.children, InstrumentedAttribute[list[Category]])
    assert_type(Category.parent_id, InstrumentedAttribute[int | None])
    assert_type(Category.position, InstrumentedAttribute[int])
    assert_type(Folder.parent, InstrumentedAttribute[Folder | None])
    assert_type(Folder.children, InstrumentedAttribute[dict[str, Folder]])
    assert_type(Folder.parent_id, InstrumentedAttribute[uuid.UUID | None])
    assert_type(Topic.children, InstrumentedAttribute[list[Topic]])
    assert_type(Topic.parent_id, InstrumentedAttribute[int | None])
    assert_type(Drawer.children, InstrumentedAttribute[dict[str, Drawer]])
    assert_type(Page.parent_id, InstrumentedAttribute[object])
    assert_type(Book.parent, InstrumentedAttribute[Book | None])
    assert_type(Book.children, InstrumentedAttribute[list[Book]])
    assert_type(Book.parent_id, InstrumentedAttribute[int | None])


def attributes_of_an_instance(category: Category, folder: Folder, topic: Topic, drawer: Drawer, page: Page) -> None:
    assert_type(category.parent, Category | None)
    assert_type(category.children, list[Category])
    assert_type(category.parent_id, int | None)
    assert_type(category.position, int)
    assert_type(folder.parent, Folder | None)
    assert_type(folder.children, dict[str, Folder])
    assert_type(folder.children["x"].children["y"].name, str)
    assert_type(folder.parent_id, uuid.UUID | None)
    assert_type(topic.parent, Topic | None)
    assert_type(topic.children, list[Topic])
    assert_type(topic.parent_id, int | None)
    assert_type(drawer.parent, Drawer | None)
    assert_type(drawer.children, dict[str, Drawer])
    assert_type(page.parent, Page | None)
    assert_type(page.parent_id, object)


def attributes_of_a_subclass(book: Book) -> None:
    assert_type(book.parent, Book | None)
    assert_type(book.children, list[Book])
    assert_type(book.parent_id, int | None)
    assert_type(book.position, int)


def attributes_of_an_index(chapter: Chapter, area: Area, region: Region) -> None:
    """Read a path and order by it; all else is as without one."""
    assert_type(Chapter.path, InstrumentedAttribute[str | None])
    assert_type(chapter.path, str | None)
    assert_type(chapter.children, list[Chapter])
    assert_type(Chapter.parent_id, InstrumentedAttribute[int | None])
    assert_type(Chapter.descendant_of(chapter), ColumnElement[bool])
    assert_type(Area.path, InstrumentedAttribute[str | None])
    assert_type(area.path, str | None)
    assert_type(area.children, dict[str, Area])
    assert_type(area.parent, Area | None)
    assert_type(region.path, str | None)
    assert_type(Region("north"), Region)
    assert_type(Ltree(), Ltree)
    select(Area).where(Area.path.bool_op("@>")(area.path)).order_by(Area.path.desc())


def functions_over_an_index(session: Session, chapter: Chapter) -> None:
    assert_type(load_tree(session, Chapter, chapter), Sequence[Chapter])
    assert_type(insert_tree(session, Area, {"north": None}), Sequence[Area])
    assert_type(rebuild_tree(session, Region), int)


def attributes_of_an_alias() -> None:
    other = aliased(Category)
    select(other).where(other.parent_id == 1, other.parent_id.is_(None)).order_by(other.position)
    select(other).join(other.parent).join(other.children)


def assignments(category: Category, other: Category, folder: Folder, page: Page, item: Item, book: Book) -> None:
    category.parent = other
    category.parent = None
    category.parent_id = 5
    category.parent_id = None
    category.position = 0
    category.children = [other]
    category.children.append(other)
    category.children[1:] = [other]
    folder.children = {"x": folder}
    folder.children["x"] = folder
    folder.parent_id = uuid.uuid4()
    page.parent_id = "home"
    item.children.append(book)
    book.parent = item


def constructors(category: Category, topic: Topic) -> None:
    assert_type(Category(name="a", parent=category), Category)
    assert_type(Category(name="a", children=[category], parent_id=1), Category)
    assert_type(Folder(name="a"), Folder)
    assert_type(Topic(name="a"), Topic)
    assert_type(Topic("a"), Topic)
    assert_type(Drawer(), Drawer)


# -- in statements -------------------------------------------------------------------------------


def relationships_in_statements() -> None:
    select(Category).options(
        selectinload(Category.children),
        selectinload(Category.children, recursion_depth=4),
        joinedload(Category.parent).selectinload(Category.children),
        raiseload("*"),
    )
    select(Folder).options(selectinload(Folder.children).joinedload(Folder.parent))
    select(Topic).options(selectinload(Topic.children))
    select(Book).options(selectinload(Book.children))
    select(Category).join(Category.parent).order_by(Category.position)
    select(Category).join(Category.children.of_type(aliased(Category)))
    assert_type(Category.children.any(), ColumnElement[bool])
    assert_type(Category.children.any(Category.name == "x"), ColumnElement[bool])
    assert_type(Category.parent.has(), ColumnElement[bool])
    assert_type(Category.parent.has(Category.name == "x"), ColumnElement[bool])
    assert_type(Folder.children.any(), ColumnElement[bool])
    assert_type(Folder.parent.has(), ColumnElement[bool])
    assert_type(Topic.children.any(), ColumnElement[bool])


def predicates_on_the_class(category: Category, folder: Folder) -> None:
    assert_type(Category.descendant_of(category), ColumnElement[bool])
    assert_type(Category.descendant_of(1, inclusive=True, max_depth=2), ColumnElement[bool])
    assert_type(Category.descendant_of([category, 1]), ColumnElement[bool])
    assert_type(Category.ancestor_of(category), ColumnElement[bool])
    assert_type(Category.ancestor_of(aliased(Category), inclusive=True), ColumnElement[bool])
    assert_type(Category.child_of(Category), ColumnElement[bool])
    assert_type(Category.sibling_of(category, inclusive=True), ColumnElement[bool])
    assert_type(Category.is_root(), ColumnElement[bool])
    assert_type(Category.is_leaf(), ColumnElement[bool])
    assert_type(Folder.descendant_of(folder), ColumnElement[bool])
    assert_type(Folder.is_root(), ColumnElement[bool])
    assert_type(Topic.is_leaf(), ColumnElement[bool])
    assert_type(Drawer.child_of(uuid.uuid4()), ColumnElement[bool])
    assert_type(Book.descendant_of(1), ColumnElement[bool])


def predicates_on_an_alias(category: Category) -> None:
    other = aliased(Category)
    assert_type(other.descendant_of(category), ColumnElement[bool])
    assert_type(other.descendant_of(Category, inclusive=True, max_depth=2), ColumnElement[bool])
    assert_type(other.ancestor_of(category, inclusive=True), ColumnElement[bool])
    assert_type(other.child_of(category), ColumnElement[bool])
    assert_type(other.sibling_of(category), ColumnElement[bool])
    assert_type(other.is_root(), ColumnElement[bool])
    assert_type(other.is_leaf(), ColumnElement[bool])


def predicates_in_a_select(session: Session, category: Category) -> None:
    found = session.scalars(select(Category).where(Category.descendant_of(category), ~Category.is_leaf())).all()
    assert_type(found, Sequence[Category])


# -- functions -----------------------------------------------------------------------------------


def loading(session: Session, category: Category, folder: Folder) -> None:
    assert_type(load_tree(session, Category), Sequence[Category])
    assert_type(load_tree(session, Category, category, max_depth=2), Sequence[Category])
    assert_type(load_tree(session, Category, [1, 2]), Sequence[Category])
    assert_type(load_tree(session, Folder, uuid.uuid4()), Sequence[Folder])
    assert_type(load_tree(session, Topic), Sequence[Topic])
    assert_type(load_tree(session, Drawer), Sequence[Drawer])
    assert_type(load_tree(session, Book), Sequence[Book])
    assert_type(lowest_common_ancestor(session, category, category), Category | None)
    assert_type(lowest_common_ancestor(session, folder, folder), Folder | None)


def walking(session: Session) -> None:
    rows = walk_tree(session, Category, 1, max_depth=3)
    assert_type(rows, Sequence[TreeRow[Category]])
    assert_type(rows[0].node, Category)
    assert_type(rows[0].depth, int)
    for node, depth in rows:
        assert_type(node, Category)
        assert_type(depth, int)
    for keyed, _ in walk_tree(session, Folder):
        assert_type(keyed, Folder)
    for topic, _ in walk_tree(session, Topic):
        assert_type(topic, Topic)


async def loading_under_asyncio(session: AsyncSession, category: Category) -> None:
    assert_type(await session.run_sync(load_tree, Category), Sequence[Category])
    assert_type(await session.run_sync(load_tree, Folder, uuid.uuid4(), max_depth=1), Sequence[Folder])
    assert_type(await session.run_sync(walk_tree, Category), Sequence[TreeRow[Category]])
    assert_type(await session.run_sync(insert_tree, Category, {"name": "a"}), Sequence[Category])
    assert_type(await session.run_sync(delete_subtree, category), int)
    assert_type(await session.run_sync(lowest_common_ancestor, category, category), Category | None)
    assert_type(await session.run_sync(verify_tree, Category), Sequence[TreeProblem])
    assert_type(await session.run_sync(rebuild_tree, Category), int)
    assert_type(await session.run_sync(lambda sync: dump_tree(sync, Category)), list[dict[str, object]])


def nested_data(session: Session, category: Category) -> None:
    assert_type(insert_tree(session, Category, {"name": "a", "children": [{"name": "b"}]}), Sequence[Category])
    assert_type(insert_tree(session, Category, [{"name": "a"}, {"name": "b"}], category), Sequence[Category])
    assert_type(insert_tree(session, Category, ({"name": str(n)} for n in range(3)), parent=1), Sequence[Category])
    assert_type(insert_tree(session, Folder, {"a": {"children": {"b": {}}}}), Sequence[Folder])
    assert_type(insert_tree(session, Drawer, {"a": None}), Sequence[Drawer])
    data: TreeData = {"name": "a"}
    assert_type(insert_tree(session, Topic, data), Sequence[Topic])
    assert_type(dump_tree(session, Category), list[dict[str, object]])
    assert_type(dump_tree(session, Topic, 1), list[dict[str, object]])
    assert_type(dump_tree(session, Folder), dict[str, dict[str, object]])
    assert_type(dump_tree(session, Drawer, 1), dict[str, dict[str, object]])
    assert_type(insert_tree(session, Category, dump_tree(session, Category)), Sequence[Category])
    assert_type(insert_tree(session, Folder, dump_tree(session, Folder)), Sequence[Folder])


def drawing(category: Category, folder: Folder, topic: Topic) -> None:
    assert_type(render_tree(category), str)
    assert_type(render_tree(category, label=lambda node: node.name), str)
    assert_type(render_tree(folder, label=lambda node: node.name, rich=False), str)
    assert_type(render_tree(topic, rich=True), Tree)
    assert_type(render_tree(folder, label=lambda node: str(node.id), rich=True), Tree)


def keeping(session: Session, category: Category, folder: Folder) -> None:
    assert_type(delete_subtree(session, category), int)
    assert_type(delete_subtree(session, folder), int)
    problems = verify_tree(session, Category)
    assert_type(problems, Sequence[TreeProblem])
    assert_type(problems[0].kind, str)
    assert_type(problems[0].pk, object)
    assert_type(problems[0].detail, str)
    assert_type(rebuild_tree(session, Category), int)
    assert_type(rebuild_tree(session, Folder), int)


def moving(category: Category, folder: Folder, item: Item, book: Book) -> None:
    category.move_to(category)
    category.move_to(category, "first_child")
    category.move_to(category, "last_child")
    category.move_to(category, "before")
    category.move_to(category, position="after")
    category.move_to(None)
    folder.move_to(folder)
    book.move_to(item)
    item.move_to(book)


def generic(session: Session, node: TreeNode, keyed: KeyedTreeNode, entity: type[TreeNode]) -> None:
    """Use the mixins themselves as types, for code over all trees."""
    assert_type(node.children, list[TreeNode])
    assert_type(keyed.children, dict[str, KeyedTreeNode])
    assert_type(node.parent, TreeNode | None)
    assert_type(load_tree(session, entity), Sequence[TreeNode])
    node.move_to(node)


def with_a_type_variable(session: Session, entity: type[N], node: N) -> Sequence[N]:
    assert_type(node.parent, N | None)
    assert_type(node.children, list[N])
    assert_type(walk_tree(session, entity, node), Sequence[TreeRow[N]])
    assert_type(session.scalars(select(entity).where(entity.descendant_of(node))).all(), Sequence[N])
    return load_tree(session, entity, node)


# -- options and errors --------------------------------------------------------------------------


def options() -> None:
    options = TreeOptions(key="name", order_by=["name", "id"], on_delete="root")
    assert_type(options.key, str | None)
    assert_type(options.order_by, Sequence[str])
    for policy in (TreeOptions(), TreeOptions(on_delete="cascade"), TreeOptions(on_delete="restrict")):
        assert_type(policy, TreeOptions)
    assert_type(Category.__tree__, TreeOptions | None)


def errors(
    move: InvalidMoveError,
    restricted: DeleteRestrictedError,
    damaged: TreeDamagedError,
    key: DuplicateKeyError,
    path: PathOverflowError,
) -> tuple[PatternError, ...]:
    assert_type(damaged.problems, Sequence[TreeProblem])
    return move, restricted, damaged, key, path
