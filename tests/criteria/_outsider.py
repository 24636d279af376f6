"""The models and the judge of `test_outsider`: rows that are seen, and hidden ones that must make no difference.

A spelling runs twice, once beside hidden rows and once without them. What it returns, and what it leaves of the rows
that are seen, must be the same both times; hidden rows must stay as they are. So no spelling needs an expected value
that somebody could get wrong, and what can only be inferred, such as a count or a collision, is found as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, ForeignKey, String, Table, func, inspect, select
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    aliased,
    column_property,
    foreign,
    mapped_column,
    query_expression,
    relationship,
    sessionmaker,
)
from sqlalchemy.orm.attributes import instance_dict

from sqla_patterns.criteria import GlobalCriteria, HasPrivate, SoftDelete, TenantScoped, tenant_scope
from sqla_patterns.exceptions import PatternError

OWN, FOREIGN = "acme", "zeta"
KINDS = ("tenant", "soft", "private", "all")
MIXINS: dict[str, tuple[type, ...]] = {
    "tenant": (TenantScoped,),
    "soft": (SoftDelete,),
    "private": (HasPrivate,),
    "all": (TenantScoped, SoftDelete, HasPrivate),
}
DELETED = datetime(2024, 5, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Refused:
    """That a spelling was refused, and by what."""

    error: str


@dataclass
class Outcome:
    """What a spelling has returned, and what it has left."""

    result: object
    rows: dict[str, list[tuple[object, ...]]]
    hidden: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    message: str = ""


def make_models(kind: str) -> SimpleNamespace:
    """Map one set of classes whose rows are hidden by the rules of *kind*."""
    mixins = MIXINS[kind]

    class Base(DeclarativeBase):
        pass

    class Membership(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_membership"
        author_id = mapped_column(ForeignKey(f"{kind}_author.id"), primary_key=True)
        tag_id = mapped_column(ForeignKey(f"{kind}_tag.id"), primary_key=True)
        tag = relationship("Tag", viewonly=True)

    class Author(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_author"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        name = mapped_column(String(40))
        rank = mapped_column(sa.Integer, default=0, server_default="0")
        posts = relationship("Post", back_populates="author", order_by="Post.id")
        posts_select = relationship("Post", viewonly=True)
        posts_selectin = relationship("Post", viewonly=True, lazy="selectin")
        posts_subquery = relationship("Post", viewonly=True, lazy="subquery")
        posts_immediate = relationship("Post", viewonly=True, lazy="immediate")
        posts_dynamic = relationship("Post", viewonly=True, lazy="dynamic")
        posts_write = relationship("Post", lazy="write_only", overlaps="posts,author", passive_deletes=True)
        tags = relationship("Tag", secondary=Membership.__table__, viewonly=True)
        memberships = relationship("Membership", viewonly=True)
        member_tags = association_proxy("memberships", "tag")
        post_titles = association_proxy("posts", "title")
        commented = relationship(
            "Comment",
            secondary=f"{kind}_post",
            primaryjoin="Author.id == foreign(Post.author_id)",
            secondaryjoin="Post.id == foreign(Comment.post_id)",
            viewonly=True,
        )
        extra = query_expression()

        @hybrid_property
        def best(self) -> Any:
            return max((post.score for post in self.posts), default=None)

        @best.inplace.expression
        @classmethod
        def _best(cls) -> Any:
            return select(func.max(Post.score)).where(Post.author_id == cls.id).scalar_subquery()

        @hybrid_property
        def best_core(self) -> Any:
            return None

        @best_core.inplace.expression
        @classmethod
        def _best_core(cls) -> Any:
            table = Post.__table__
            return select(func.max(table.c.score)).where(table.c.author_id == cls.id).scalar_subquery()

    class Shop(Base):
        """Of nobody: its rows are seen by all."""

        __tablename__ = f"{kind}_shop"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        name = mapped_column(String(40))
        posts = relationship("Post", viewonly=True)

    post_tag = Table(
        f"{kind}_post_tag",
        Base.metadata,
        sa.Column("post_id", ForeignKey(f"{kind}_post.id"), primary_key=True),
        sa.Column("tag_id", ForeignKey(f"{kind}_tag.id"), primary_key=True),
    )

    class Post(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_post"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        author_id = mapped_column(ForeignKey(f"{kind}_author.id"))
        shop_id = mapped_column(ForeignKey(f"{kind}_shop.id"))
        title = mapped_column(String(40))
        score = mapped_column(sa.Integer, default=0, server_default="0")
        author = relationship("Author", back_populates="posts")
        shop = relationship("Shop", viewonly=True)
        comments = relationship("Comment", back_populates="post", order_by="Comment.id")
        tags = relationship("Tag", secondary=post_tag, back_populates="posts")

    class Comment(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_comment"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        post_id = mapped_column(ForeignKey(f"{kind}_post.id"))
        body = mapped_column(String(40))
        post = relationship("Post", back_populates="comments")
        post_joined = relationship("Post", viewonly=True, lazy="joined")

    class Tag(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_tag"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        name = mapped_column(String(40))
        posts = relationship("Post", secondary=post_tag, back_populates="tags")

    class Node(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_node"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        parent_id = mapped_column(ForeignKey(f"{kind}_node.id"))
        children = relationship("Node", back_populates="parent", order_by="Node.id")
        parent = relationship("Node", back_populates="children", remote_side=[id])

    class Vehicle(*mixins, Base):  # type: ignore[misc]
        __tablename__ = f"{kind}_vehicle"
        id = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
        type = mapped_column(String(10))
        wheels = mapped_column(sa.Integer)
        owner_id = mapped_column(ForeignKey(f"{kind}_shop.id"))
        load = mapped_column(sa.Integer)
        __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "vehicle"}

    class Car(Vehicle):
        __tablename__ = f"{kind}_car"
        id = mapped_column(ForeignKey(f"{kind}_vehicle.id"), primary_key=True)
        doors = mapped_column(sa.Integer)
        __mapper_args__ = {"polymorphic_identity": "car"}

    class Truck(Vehicle):
        __mapper_args__ = {"polymorphic_identity": "truck"}

    Author.post_count = column_property(
        select(func.count(Post.id)).where(Post.author_id == Author.id).correlate_except(Post).scalar_subquery()
    )
    Author.post_count_core = column_property(
        select(func.count(Post.__table__.c.id))
        .where(Post.__table__.c.author_id == Author.__table__.c.id)
        .correlate_except(Post.__table__)
        .scalar_subquery(),
        deferred=True,
    )
    Shop.post_count = column_property(
        select(func.count(Post.id)).where(Post.shop_id == Shop.id).correlate_except(Post).scalar_subquery()
    )
    best = aliased(Post, select(Post).where(Post.score >= 1).subquery())
    Author.posts_of_subquery = relationship(
        best, primaryjoin=Author.id == foreign(best.author_id), viewonly=True, uselist=True
    )
    core = aliased(Post, select(Post.__table__).where(Post.__table__.c.score >= 1).subquery())
    Author.posts_of_core = relationship(
        core, primaryjoin=Author.id == foreign(core.author_id), viewonly=True, uselist=True
    )
    joined = (
        select(Post.__table__.c.author_id, Comment.__table__.c.id.label("comment_id"))
        .join_from(Post.__table__, Comment.__table__, Post.__table__.c.id == Comment.__table__.c.post_id)
        .subquery()
    )
    Author.comments_by_join = relationship(
        Comment,
        secondary=joined,
        primaryjoin=Author.id == foreign(joined.c.author_id),
        secondaryjoin=foreign(joined.c.comment_id) == Comment.id,
        viewonly=True,
    )
    maker = sessionmaker()
    if kind in ("private", "all"):
        GlobalCriteria(HasPrivate, lambda cls: cls.public.is_(True), option="include_private").attach(maker)
    models = SimpleNamespace(
        kind=kind, Base=Base, Author=Author, Shop=Shop, Post=Post, Comment=Comment, Tag=Tag, Node=Node,
        Vehicle=Vehicle, Car=Car, Truck=Truck, Membership=Membership, post_tag=post_tag, maker=maker,
    )  # fmt: skip
    #: What stands in the databases of which nothing was changed: whether with hidden rows, and the rows.
    models.filled = {}
    models.T, models.A, models.N = Post.__table__, Author.__table__, Node.__table__
    Base.registry.configure()
    return models


SEEN: list[tuple[str, dict[str, object]]] = [
    ("Shop", {"id": 1, "name": "corner"}),
    ("Shop", {"id": 2, "name": "mall"}),
    ("Author", {"id": 1, "name": "ann", "rank": 1}),
    ("Author", {"id": 2, "name": "bob", "rank": 2}),
    ("Author", {"id": 3, "name": "cid", "rank": 3}),
    ("Post", {"id": 1, "author_id": 1, "shop_id": 1, "title": "one", "score": 1}),
    ("Post", {"id": 2, "author_id": 1, "shop_id": 2, "title": "two", "score": 2}),
    ("Post", {"id": 3, "author_id": 2, "shop_id": 1, "title": "three", "score": 3}),
    ("Post", {"id": 4, "author_id": 101, "shop_id": 1, "title": "stray", "score": 4}),
    ("Comment", {"id": 1, "post_id": 1, "body": "yes"}),
    ("Comment", {"id": 2, "post_id": 2, "body": "no"}),
    ("Comment", {"id": 3, "post_id": 101, "body": "stray"}),
    ("Tag", {"id": 1, "name": "red"}),
    ("Tag", {"id": 2, "name": "blue"}),
    ("post_tag", {"post_id": 1, "tag_id": 1}),
    ("post_tag", {"post_id": 1, "tag_id": 2}),
    ("post_tag", {"post_id": 3, "tag_id": 1}),
    ("Membership", {"author_id": 1, "tag_id": 1}),
    ("Membership", {"author_id": 2, "tag_id": 2}),
    ("Membership", {"author_id": 2, "tag_id": 101}),
    ("Node", {"id": 1, "parent_id": None}),
    ("Node", {"id": 2, "parent_id": 1}),
    ("Node", {"id": 3, "parent_id": 2}),
    ("Node", {"id": 4, "parent_id": 101}),
    ("Vehicle", {"id": 1, "type": "car", "wheels": 4, "owner_id": 1}),
    ("car", {"id": 1, "doors": 5}),
    ("Vehicle", {"id": 2, "type": "truck", "wheels": 6, "owner_id": 1, "load": 7}),
    ("Vehicle", {"id": 3, "type": "vehicle", "wheels": 1, "owner_id": 2}),
]
HIDDEN: list[tuple[str, dict[str, object]]] = [
    ("Author", {"id": 101, "name": "hidden-x", "rank": 99}),
    ("Author", {"id": 102, "name": "hidden-y", "rank": 98}),
    ("Author", {"id": 103, "name": "ann", "rank": 97}),
    ("Post", {"id": 101, "author_id": 1, "shop_id": 1, "title": "hidden-p", "score": 99}),
    ("Post", {"id": 102, "author_id": 2, "shop_id": 2, "title": "hidden-q", "score": 98}),
    ("Post", {"id": 103, "author_id": 101, "shop_id": 1, "title": "hidden-r", "score": 97}),
    ("Post", {"id": 104, "author_id": 3, "shop_id": 1, "title": "one", "score": 96}),
    ("Comment", {"id": 101, "post_id": 1, "body": "hidden"}),
    ("Comment", {"id": 102, "post_id": 101, "body": "hidden"}),
    ("Comment", {"id": 103, "post_id": 3, "body": "hidden"}),
    ("Tag", {"id": 101, "name": "hidden"}),
    ("Tag", {"id": 102, "name": "red"}),
    ("post_tag", {"post_id": 2, "tag_id": 101}),
    ("post_tag", {"post_id": 101, "tag_id": 1}),
    ("post_tag", {"post_id": 101, "tag_id": 101}),
    ("Membership", {"author_id": 1, "tag_id": 2}),
    ("Membership", {"author_id": 3, "tag_id": 1}),
    ("Membership", {"author_id": 1, "tag_id": 101}),
    ("Node", {"id": 101, "parent_id": 1}),
    ("Node", {"id": 102, "parent_id": 101}),
    ("Node", {"id": 103, "parent_id": 3}),
    ("Vehicle", {"id": 101, "type": "car", "wheels": 44, "owner_id": 1}),
    ("car", {"id": 101, "doors": 55}),
    ("Vehicle", {"id": 102, "type": "truck", "wheels": 66, "owner_id": 2, "load": 77}),
    ("Vehicle", {"id": 103, "type": "vehicle", "wheels": 11, "owner_id": 1}),
]
#: Rows of plain tables are no secret. They stand in both databases, although what they refer to does not.
_OPEN = {"Shop", "post_tag"}


def _table(models: SimpleNamespace, name: str) -> Table:
    if name == "car":
        return models.Car.__table__  # type: ignore[no-any-return]
    found = getattr(models, name)
    return found if isinstance(found, Table) else found.__table__  # type: ignore[no-any-return]


def _marks(models: SimpleNamespace, table: Table, number: int, hidden: bool) -> dict[str, object]:
    """Return the values that hide a row, or not; of several rules each hides some rows."""
    marks: dict[str, object] = {}
    rules = [name for name in ("tenant_id", "deleted_at", "public") if name in table.c]
    hiding = rules[number % len(rules)] if rules and hidden else None
    for rule in rules:
        if rule == "tenant_id":
            marks[rule] = FOREIGN if rule == hiding else OWN
        elif rule == "deleted_at":
            marks[rule] = DELETED if rule == hiding else None
        else:
            marks[rule] = rule != hiding
    return marks


def create(models: SimpleNamespace, engine: Engine) -> None:
    """Create the tables, without foreign keys: rows refer to hidden ones that are not always there."""
    copied = sa.MetaData()
    for table in models.Base.metadata.sorted_tables:
        columns = [
            sa.Column(
                column.name,
                column.type,
                primary_key=column.primary_key,
                nullable=column.nullable,
                server_default=column.server_default.arg if column.server_default is not None else None,
                autoincrement=False,
            )
            for column in table.columns
        ]
        Table(table.name, copied, *columns)
    copied.drop_all(engine)
    copied.create_all(engine)
    models.tables = list(copied.sorted_tables)


def fill(models: SimpleNamespace, engine: Engine, *, hidden: bool) -> None:
    """Empty the tables and insert the rows."""
    numbers: dict[str, int] = {}
    with engine.begin() as connection:
        for table in models.tables:
            connection.execute(table.delete())
        for name, values in SEEN:
            table = _table(models, name)
            connection.execute(_plain(models, table).insert(), values | _marks(models, table, 0, hidden=False))
        for name, values in HIDDEN:
            table = _table(models, name)
            numbers[name] = number = numbers.get(name, -1) + 1
            if hidden or name in _OPEN:
                marks = _marks(models, table, number, hidden=True)
                connection.execute(_plain(models, table).insert(), values | marks)


def _plain(models: SimpleNamespace, table: Table) -> Table:
    return next(each for each in models.tables if each.name == table.name)


def snapshot(models: SimpleNamespace, engine: Engine) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the rows that were hidden in the beginning, and all others; the moment of a mark does not matter."""
    seen: dict[str, list[Any]] = {}
    hidden: dict[str, list[Any]] = {}
    names = {_table(models, name).name: name for name, _ in HIDDEN}
    keys: dict[str, set[tuple[object, ...]]] = {}
    for name, values in HIDDEN:
        if name not in _OPEN:
            table = _table(models, name)
            keys.setdefault(table.name, set()).add(tuple(values[column.name] for column in table.primary_key))
    with engine.connect() as connection:
        for table in models.tables:
            for row in connection.execute(select(table)):
                key = tuple(row._mapping[column.name] for column in table.primary_key)
                # The moments of rows that were hidden must stay, others only be there.
                was_hidden = names.get(table.name) is not None and key in keys.get(table.name, set())
                values = tuple(
                    value is not None and not was_hidden if column.name == "deleted_at" and not was_hidden else value
                    for column, value in zip(table.columns, row, strict=True)
                )
                (hidden if was_hidden else seen).setdefault(table.name, []).append(values)
    for each in (seen, hidden):
        for rows in each.values():
            rows.sort(key=repr)
    return seen, hidden


def plain(value: object) -> object:
    """Return what can be compared: rows and objects as their values, sorted, since nothing promises an order."""
    if isinstance(value, sa.Row):
        return tuple(plain(each) for each in value)
    if isinstance(value, dict):
        return sorted(((repr(key), plain(each)) for key, each in value.items()), key=repr)
    if isinstance(value, (list, set, frozenset)) or type(value).__name__ in ("InstrumentedList", "_AssociationList"):
        return sorted((plain(each) for each in value), key=repr)  # type: ignore[union-attr]
    if isinstance(value, tuple):
        return tuple(plain(each) for each in value)
    state = inspect(value, raiseerr=False)
    if state is not None and getattr(state, "is_instance", False):
        loaded = instance_dict(value)
        names = [each.key for each in state.mapper.column_attrs if each.key != "deleted_at"]
        return (type(value).__name__, *((name, loaded[name]) for name in names if name in loaded))
    return value


Spelling = Callable[[Session, Any], object]


def run(models: SimpleNamespace, engine: Engine, spelling: Spelling, *, hidden: bool) -> Outcome:
    """Run a spelling for the own tenant, commit, and return what came of it."""
    filled, stands = models.filled.pop(engine, (None, None))
    if filled is not hidden:
        fill(models, engine, hidden=hidden)
        stands = snapshot(models, engine)
    before = stands[1]
    message = ""
    with ExitStack() as stack:
        if models.kind in ("tenant", "all"):
            stack.enter_context(tenant_scope(OWN))
        session = stack.enter_context(models.maker(bind=engine))
        result: object
        try:
            result = plain(spelling(session, models))
            session.commit()
        except PatternError as error:
            session.rollback()
            result, message = Refused(type(error).__name__), str(error)
        except sa.exc.SQLAlchemyError as error:
            session.rollback()
            result, message = f"{type(error).__name__}", str(error)
    seen, after = snapshot(models, engine)
    if (seen, after) == stands:
        models.filled[engine] = hidden, stands  # as good as new
    changed = {
        name: [row for row in rows if row not in after.get(name, [])]
        for name, rows in before.items()
        if rows != after.get(name)
    }
    return Outcome(result, seen, changed, message)
