"""Trees of any depth on an adjacency list: ordered children, or children by key, with an index where reads need one.

Mix `TreeNode` or `KeyedTreeNode` into a mapped class, and it has ``parent_id``, ``parent`` and ``children``; `TreeNode`
orders its children by a ``position``, `KeyedTreeNode` keeps them in a dictionary by one of their attributes. Nothing
else has to be set up: it works with every session, sync or async.

.. code-block:: python

    from sqlalchemy import create_engine, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    from sqla_patterns.trees import TreeNode, insert_tree, load_tree, render_tree


    class Base(DeclarativeBase):
        pass


    class Category(TreeNode, Base):
        __tablename__ = "category"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]


    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)

    with Session(engine) as session:
        shop = Category(name="shop")
        shop.children = [Category(name="books"), Category(name="music")]
        session.add(shop)
        session.flush()

        books, music = shop.children
        insert_tree(session, Category, [{"name": "fiction", "children": [{"name": "crime"}]}], parent=books)
        music.move_to(books, "before")
        session.commit()

        below = select(Category.name).where(Category.descendant_of(books)).order_by(Category.id)
        assert session.scalars(below).all() == ["fiction", "crime"]

        (root,) = load_tree(session, Category)  # one SELECT; walking the tree emits nothing more
        assert render_tree(root).splitlines() == [
            "shop",
            "├── music",
            "└── books",
            "    └── fiction",
            "        └── crime",
        ]

**When to use it.** Categories, folders, comments, organisation charts, menus: rows that have one parent of their own
kind, at a depth that is not known beforehand, that are moved and deleted as whole subtrees.

**When not to.** A hierarchy of fixed levels (country, region, city) is three tables and two foreign keys. A node with
two parents needs a graph. A document that is only read and written whole fits into a JSON column. If you never move,
never ask for descendants and never order siblings, a self-referential ``relationship()`` is enough.

**Indexes.** An index of a tree, which is not an index of the database, is a set of columns or a table that makes
queries about whole subtrees cheap and is derived from ``parent_id``. `NestedSets`, `MaterializedPath`, `LtreePath` and
`ClosureTable` are mixed in beside the tree: ``class Category(NestedSets, TreeNode, Base)``. Everything else stays as it
is. Start without one: a recursive query takes time for the rows that it finds only.

**What moves mean.** ``node.parent = other``, ``node.parent_id = key``, ``other.children.append(node)``,
``children.insert(i, node)`` and ``node.move_to(...)`` all say the same thing, may be mixed, and are carried out by the
next flush. Where no place is said, a node goes last. ``parent = None`` makes a root. Taking a node out of ``children``
deletes it unless it has another parent by the flush. A cycle raises `InvalidMoveError` before anything is written; a
parent and its child may change places in one flush. After a flush every loaded object shows what the database has,
without a refresh.

**Cost in statements.**

- `load_tree`, `walk_tree`, `dump_tree`, `verify_tree`, each predicate: one SELECT with a recursive CTE.
- Inserts and moves: for a whole flush, not for each node, one lock, one SELECT of the siblings, and one UPDATE more if
  nodes go between siblings. If columns sort the siblings (``order_by`` of `TreeOptions`), an insert is only its INSERT.
- INSERTs are batched by level; `insert_tree` needs fewer. On SQLite the ORM inserts rows with integer keys one by one,
  and `insert_tree` does not.
- Deleting a subtree: three statements, however large it is. Where relationships of the application cascade from the
  nodes, or listeners wait for their deletion, the nodes are loaded and deleted by the unit of work.
- In a session without trees, each flush looks at the class of each changed object once.

**Concurrency.** Writers of one tree queue up at its root (``FOR NO KEY UPDATE``, or an advisory lock for the list of
roots), which is locked before anything is read. On SQLite the flush takes the write lock before it reads, as ``BEGIN
IMMEDIATE`` would. On MariaDB and MySQL gaps between rows are locked too, and writers of different trees may be refused
with a deadlock error: try the transaction again, as for any write there. On PostgreSQL each writer also makes an UPDATE
that changes nothing, of the parents whose lists of children change, so that a writer with an older snapshot (REPEATABLE
READ, SERIALIZABLE) is refused with a serialization failure, whatever the level of the other one.

**Listeners.** Nodes that the application's ``before_flush`` listeners add, move or delete are handled as any others. A
listener that does so later in the flush raises `UnplannedChangeError` before the change is written, unless it assigns
the parent that the node has already.

**What the package does not see.** Core and bulk statements bypass it: positions of rows inserted that way are 0 until
`rebuild_tree`, and `verify_tree` names orphans, cycles and duplicates. Core DELETE follows the foreign key: ``ON DELETE
CASCADE`` or ``SET NULL``, depending on ``on_delete`` of `TreeOptions`, on databases that enforce foreign keys.

.. seealso:: `SQLAlchemy's adjacency list relationships
   <https://docs.sqlalchemy.org/en/20/orm/self_referential.html>`_, which this builds on.
"""

from __future__ import annotations

from ..exceptions import DuplicateKeyError
from ._bulk import dump_tree, insert_tree
from ._closure_table import ClosureTable
from ._deletes import delete_subtree
from ._errors import (
    DeleteRestrictedError,
    InvalidMoveError,
    PathOverflowError,
    TreeDamagedError,
    TreeProblem,
    UnplannedChangeError,
)
from ._integrity import rebuild_tree, verify_tree
from ._loading import TreeRow, load_tree, lowest_common_ancestor, walk_tree
from ._ltree import Ltree, LtreePath
from ._mixins import KeyedTreeNode, MovePosition, TreeNode
from ._nested_data import TreeData
from ._nested_sets import NestedSets
from ._options import OnDelete, TreeOptions
from ._paths import MaterializedPath
from ._render import render_tree

__all__ = (
    "ClosureTable",
    "DeleteRestrictedError",
    "DuplicateKeyError",
    "InvalidMoveError",
    "KeyedTreeNode",
    "Ltree",
    "LtreePath",
    "MaterializedPath",
    "MovePosition",
    "NestedSets",
    "OnDelete",
    "PathOverflowError",
    "TreeDamagedError",
    "TreeData",
    "TreeNode",
    "TreeOptions",
    "TreeProblem",
    "TreeRow",
    "UnplannedChangeError",
    "delete_subtree",
    "dump_tree",
    "insert_tree",
    "load_tree",
    "lowest_common_ancestor",
    "rebuild_tree",
    "render_tree",
    "verify_tree",
    "walk_tree",
)
