"""What the checkers must refuse about trees."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column

from sqla_patterns.trees import (
    KeyedTreeNode,
    MaterializedPath,
    TreeNode,
    TreeOptions,
    dump_tree,
    insert_tree,
    load_tree,
    lowest_common_ancestor,
    rebuild_tree,
    render_tree,
    verify_tree,
    walk_tree,
)


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
    __tree__ = TreeOptions(key="name")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Topic(TreeNode, DataclassBase):
    __tablename__ = "topic"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]


class Chapter(MaterializedPath, TreeNode, Base):
    __tablename__ = "chapter"

    id: Mapped[int] = mapped_column(primary_key=True)


class Leaf(Base):
    """Mapped, and no node of any tree."""

    __tablename__ = "leaf"

    id: Mapped[int] = mapped_column(primary_key=True)


def assignments(category: Category, folder: Folder, leaf: Leaf) -> None:
    category.parent = leaf  # E: "Leaf"
    category.parent = "root"  # E: "str"
    category.parent = 1  # E: "int"
    category.children = [leaf]  # E: "Leaf"
    category.children = None  # E: "None"
    category.children = category  # E: "Category"
    category.children = {"x": leaf}  # E: "dict[str, Leaf]"
    category.children.append(leaf)  # E: "Leaf"
    category.children.append(folder)  # E: "Folder"
    category.children["x"]  # E: "str"
    category.position = "first"  # E: "str"
    category.position = None  # E: "None"
    folder.children = {"x": leaf}  # E: "Leaf"
    folder.children = [folder]  # E: "list[Folder]"
    folder.children["x"] = leaf  # E: "Leaf"
    folder.children["x"] = category  # E: "Category"
    folder.children.append(folder)  # E: append
    folder.position  # E: position


def reads(category: Category, folder: Folder) -> None:
    name: str = category.parent.name  # E: "None"
    number: int = category.parent_id  # E: "None"
    parent: Category = category.parent  # E: "None"
    other: list[Folder] = category.children  # E: "list[Folder]"
    nodes: list[Folder] = folder.children  # E: "list[Folder]"
    whole: str = Category.descendant_of(category)  # E: "str"


def paths(chapter: Chapter, category: Category) -> None:
    chapter.path = 7  # E: "int"
    path: str = chapter.path  # E: "None"
    category.path  # E: path


def moves(category: Category) -> None:
    category.move_to(category, "inside")  # E: 'inside'
    category.move_to(category, 0)  # E: Literal[0]
    category.move_to()  # E: target


def predicates(category: Category) -> None:
    Category.descendant_of()  # E: node
    Category.descendant_of(category, True)  # E: positional
    Category.descendant_of(category, max_depth="2")  # E: "str"
    Category.ancestor_of(category, max_depth=2)  # E: "max_depth"
    Category.is_root(category)  # E: positional


def options() -> None:
    TreeOptions(on_delete="nullify")  # E: 'nullify'
    TreeOptions(order_by=1)  # E: "int"
    TreeOptions(sort="name")  # E: "sort"
    TreeOptions("name").key = "other"  # E: "key"


class Wrong(TreeNode, Base):
    __tablename__ = "wrong"
    __tree__ = {"key": "name"}  # E: "dict[str, str]"

    id: Mapped[int] = mapped_column(primary_key=True)


def constructors(topic: Topic) -> None:
    Topic(name="a", parent=topic)  # E: "parent"
    Topic(name="a", children=[topic])  # E: "children"
    Topic(name="a", parent_id=1)  # E: "parent_id"
    Topic(name="a", position=1)  # E: "position"
    Topic()  # E: "name"


def functions(session: Session, category: Category, leaf: Leaf) -> None:
    load_tree(session, Leaf)  # E: "Leaf"
    load_tree(session, category)  # E: "Category"
    load_tree(session, Category, 1, 2)  # E: positional
    walk_tree(session, Leaf)  # E: "Leaf"
    insert_tree(session, Leaf, {})  # E: "Leaf"
    insert_tree(session, Category, 1)  # E: "int"
    insert_tree(session, Category, ["a"])  # E: "str"
    dump_tree(session, Leaf)  # E: "Leaf"
    render_tree(leaf)  # E: "Leaf"
    render_tree(category, label=lambda node: node.id)  # E: "int"
    lowest_common_ancestor(session, leaf, leaf)  # E: "Leaf"
    verify_tree(session, Leaf)  # E: "Leaf"
    rebuild_tree(session, Leaf)  # E: "Leaf"
