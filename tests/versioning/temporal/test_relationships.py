"""Relationships to an object, and to one of its versions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, ForeignKeyConstraint, String, inspect, select
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column, relationship, selectinload

from sqla_patterns.exceptions import InvalidArgumentError, MappingError
from sqla_patterns.versioning import (
    CopiedRow,
    UTCDateTime,
    VersionedRow,
    pinned_relationship,
    stable_relationship,
)
from tests.versioning.temporal._models import FORMS, HISTORY, MIXINS, key, library, past, stable_of

forms = pytest.mark.parametrize("form", FORMS)


# -- stable --------------------------------------------------------------------------------------


@forms
def test_a_stable_relationship_leads_to_the_object_whatever_its_version(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    book = world.Book(**key(form, 1), title="a", author=world.Author(**key(form, 7), name="Ann"))
    session.add(book)
    session.commit()
    author = book.author
    author.name = "Anna"
    session.commit()
    assert (book.author is author, book.author_id, len(past(session, world.Book))) == (True, stable_of(author), 1)


@forms
def test_children_that_were_not_loaded_keep_their_parent(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = library(plain_bases(), form)
    world.metadata.create_all(engine)
    author = world.Author(**key(form, 7), name="Ann", books=[world.Book(**key(form, 1), title="a")])
    session.add(author)
    session.commit()
    author.name = "Anna"
    session.commit()
    assert [book.title for book in author.books] == ["a"]


@forms
def test_a_stable_relationship_of_a_plain_class(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Price(MIXINS[form], base):
        __tablename__ = "price"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        amount: Mapped[int]

    class Product(base):
        __tablename__ = "product"
        id: Mapped[int] = mapped_column(primary_key=True)
        price_id: Mapped[int | None]
        price: Mapped[Any] = stable_relationship(lambda: Price, lambda: Product.price_id, lazy="joined")

    base.metadata.create_all(engine)
    product = Product(price=Price(**key(form, 3), amount=1))
    session.add(product)
    session.commit()
    product.price.amount = 2
    session.commit()
    session.expunge_all()
    assert session.scalars(select(Product)).one().price.amount == 2


def test_a_stable_relationship_to_a_class_without_temporal_rows_is_refused(plain_bases: Any) -> None:
    base = plain_bases()

    class Plain(base):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Owner(base):
        __tablename__ = "owner"
        id: Mapped[int] = mapped_column(primary_key=True)
        plain_id: Mapped[int]
        plain: Mapped[Any] = stable_relationship(lambda: Plain, lambda: Owner.plain_id)

    with pytest.raises(MappingError, match="Plain has no temporal rows"):
        configure_mappers()


# -- pinned --------------------------------------------------------------------------------------


def pins(base: Any, form: str, *, follow: bool | int, owner: Any = object) -> SimpleNamespace:
    """Map ``Child`` with temporal rows, and ``Parent``, which refers to one version by a foreign key."""
    temporal = owner is not object
    counted: dict[str, Any] = {} if form == "copied" else {"autoincrement": False}

    class Child(MIXINS[form], base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True, **counted)
        data: Mapped[str] = mapped_column(String(20))

    mixins = (owner, base) if temporal else (base,)
    body: dict[str, Any] = {
        "__tablename__": "parent",
        "__module__": __name__,
        "id": mapped_column(type_=Child.__table__.c.id.type, primary_key=True, autoincrement=not temporal),
        "child_id": mapped_column(Child.__table__.c.id.type, nullable=True),
    }
    columns = ["child_id"]
    if form != "copied":
        body["child_version"] = mapped_column(
            UTCDateTime() if form == "temporal" else Child.__table__.c.version_id.type, nullable=True
        )
        columns.append("child_version")
    body["__table_args__"] = (ForeignKeyConstraint(columns, list(Child.__table__.primary_key)),)
    body["child"] = pinned_relationship(
        lambda: Child, lambda: tuple(getattr(Parent, name) for name in columns), follow=follow, uselist=False
    )
    Parent: Any = type("Parent", mixins, body)
    return SimpleNamespace(Child=Child, Parent=Parent, metadata=base.metadata)


@forms
def test_a_pinned_relationship_that_follows_refers_to_the_new_version(
    plain_bases: Any, form: str, session: Session, engine: Engine, statements: Any
) -> None:
    world = pins(plain_bases(), form, follow=True)
    world.metadata.create_all(engine)
    loaded = world.Parent(child=world.Child(**key(form, 1), data="c1"))
    not_loaded = world.Parent(child=loaded.child)
    session.add_all([loaded, not_loaded])
    session.commit()
    key_of_other = not_loaded.id
    session.expunge(not_loaded)
    child = loaded.child
    child.data = "c2"
    session.flush()
    assert (loaded.child is child, loaded.child_id) == (True, child.id)
    other = session.get(world.Parent, key_of_other)
    assert other.child is child
    session.commit()
    assert (loaded.child.data, other.child.data) == ("c2", "c2")


@forms
def test_a_pinned_relationship_that_does_not_follow_keeps_what_it_saw(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = pins(plain_bases(), form, follow=False)
    world.metadata.create_all(engine)
    parent = world.Parent(child=world.Child(**key(form, 1), data="c1"))
    session.add(parent)
    session.commit()
    child = parent.child
    child.data = "c2"
    session.flush()
    assert (parent.child.data, parent.child is child) == ("c1", False)
    session.commit()
    session.expunge_all()
    statement = select(world.Parent).options(selectinload(world.Parent.child))
    assert session.scalars(statement).one().child.data == "c1"
    assert session.scalars(select(world.Child.data)).all() == ["c2"]


@forms
def test_a_rollback_takes_following_back(plain_bases: Any, form: str, session: Session, engine: Engine) -> None:
    world = pins(plain_bases(), form, follow=True)
    world.metadata.create_all(engine)
    parent = world.Parent(child=world.Child(**key(form, 1), data="c1"))
    session.add(parent)
    session.commit()
    child, former = parent.child, parent.child_id
    child.data = "lost"
    session.flush()
    session.rollback()
    assert (parent.child is child, parent.child_id, child.data) == (True, former, "c1")


@forms
def test_an_owner_with_temporal_rows_gets_a_version_by_following(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    world = pins(plain_bases(), form, follow=True, owner=VersionedRow)
    world.metadata.create_all(engine)
    parent = world.Parent(id=1, child=world.Child(**key(form, 1), data="c1"))
    session.add(parent)
    session.commit()
    parent.child.data = "c2"
    session.commit()
    assert (parent.version_id, parent.child.data) == (2, "c2")
    old = session.get(world.Parent, (1, 1), execution_options=HISTORY)
    assert old.child.data == "c1", "the closed owner keeps the version that it saw"


@pytest.mark.parametrize("follow", [1, 2])
def test_follow_says_how_many_levels_follow(plain_bases: Any, follow: int, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class Leaf(CopiedRow, base):
        __tablename__ = "leaf"
        id: Mapped[int] = mapped_column(primary_key=True)
        data: Mapped[str] = mapped_column(String(20))

    class Branch(CopiedRow, base):
        __tablename__ = "branch"
        id: Mapped[int] = mapped_column(primary_key=True)
        leaf_id: Mapped[int | None]
        leaf: Mapped[Any] = pinned_relationship(lambda: Leaf, lambda: Branch.leaf_id, follow=True)

    class Trunk(CopiedRow, base):
        __tablename__ = "trunk"
        id: Mapped[int] = mapped_column(primary_key=True)
        branch_id: Mapped[int | None]
        branch: Mapped[Any] = pinned_relationship(lambda: Branch, lambda: Trunk.branch_id, follow=follow)

    base.metadata.create_all(engine)
    trunk = Trunk(branch=Branch(leaf=Leaf(data="1")))
    session.add(trunk)
    session.commit()
    leaf = trunk.branch.leaf
    leaf.data = "2"
    session.commit()
    counts = [len(past(session, each)) for each in (Leaf, Branch, Trunk)]
    assert counts == [2, 2, follow]
    assert trunk.branch.leaf.data == str(follow)


def test_a_plain_relationship_to_a_copied_row_stays_where_it_points(
    plain_bases: Any, session: Session, engine: Engine
) -> None:
    base = plain_bases()

    class Page(CopiedRow, base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(String(20))
        marks: Mapped[list[Any]] = relationship(lambda: Mark, back_populates="page")

    class Mark(base):
        __tablename__ = "mark"
        id: Mapped[int] = mapped_column(primary_key=True)
        page_id: Mapped[int] = mapped_column(ForeignKey("page.id"))
        page: Mapped[Any] = relationship(Page, back_populates="marks")

    base.metadata.create_all(engine)
    mark = Mark(page=Page(text="old"))
    session.add(mark)
    session.commit()
    page = mark.page
    assert page.marks == [mark]
    page.text = "new"
    session.flush()
    assert (mark.page.text, page.marks) == ("old", [])
    page.marks.append(Mark())
    page.text = "newer"
    session.commit()
    assert [len(page.marks), mark.page.text] == [1, "old"]


def test_relationships_that_follow_in_a_circle_are_refused(plain_bases: Any, session: Session, engine: Engine) -> None:
    base = plain_bases()

    class One(CopiedRow, base):
        __tablename__ = "one"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        two_id: Mapped[int | None]
        two: Mapped[Any] = pinned_relationship(lambda: Two, lambda: One.two_id, follow=True)

    class Two(CopiedRow, base):
        __tablename__ = "two"
        id: Mapped[int] = mapped_column(primary_key=True)
        one_id: Mapped[int | None]
        one: Mapped[Any] = pinned_relationship(lambda: One, lambda: Two.one_id, follow=True)

    base.metadata.create_all(engine)
    one = One(name="a")
    session.add(one)
    session.commit()
    one.name = "b"
    with pytest.raises(MappingError, match=r"Two.one and One.two follow new versions in a circle"):
        session.commit()
    session.rollback()
    assert [each.name for each in past(session, One)] == ["a"]


def test_a_joined_load_of_a_pin_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="a join reads current rows only"):
        pinned_relationship(lambda: VersionedRow, lambda: None, lazy="joined")


def test_a_negative_number_of_levels_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="follow=-1"):
        pinned_relationship(lambda: VersionedRow, lambda: None, follow=-1)


def test_a_pin_needs_a_column_for_each_part_of_the_key(plain_bases: Any) -> None:
    base = plain_bases()

    class Child(VersionedRow, base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        child_id: Mapped[int]
        child: Mapped[Any] = pinned_relationship(lambda: Child, lambda: Parent.child_id)

    with pytest.raises(MappingError, match="was given 1 columns, and the key of Child has 2"):
        configure_mappers()


def test_following_a_thousand_versions_is_one_statement(
    plain_bases: Any, session: Session, engine: Engine, statements: Any
) -> None:
    world = pins(plain_bases(), "versioned", follow=True)
    world.metadata.create_all(engine)
    children = [world.Child(id=number, data="a") for number in range(100)]
    session.add_all(world.Parent(child=child) for child in children)
    session.commit()
    for child in session.scalars(select(world.Child)):
        child.data = "b"
    with statements(engine) as log:
        session.flush()
    assert [each.split()[1] for each in log] == ["child", "INTO", "parent"]
    assert inspect(children[0]).identity == (0, 2)


@forms
def test_a_stable_relationship_to_objects_of_the_same_class(
    plain_bases: Any, form: str, session: Session, engine: Engine
) -> None:
    base = plain_bases()

    class Node(MIXINS[form], base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True, **({} if form == "copied" else {"autoincrement": False}))
        name: Mapped[str] = mapped_column(String(20))
        parent_id: Mapped[int | None]
        # The annotation of a class in a function cannot name it.
        parent: Mapped[Any] = stable_relationship(
            lambda: Node, lambda: Node.parent_id, back_populates="children", uselist=False
        )
        children: Mapped[list[Any]] = stable_relationship(
            lambda: Node, lambda: Node.parent_id, back_populates="parent", uselist=True
        )

    base.metadata.create_all(engine)
    top = Node(**key(form, 1), name="top", children=[Node(**key(form, 2), name="below")])
    session.add(top)
    session.commit()
    top.name = "new top"
    session.commit()
    session.expunge_all()
    below = session.scalars(select(Node).where(Node.name == "below")).one()
    assert (below.parent.name, below.parent.children, below.children) == ("new top", [below], [])
