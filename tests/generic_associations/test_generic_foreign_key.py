"""What only a generic foreign key does: loading by reference, columns set by hand, declared types, hierarchies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Integer, String, Uuid, inspect, select, update
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import Mapped, Session, configure_mappers, joinedload, load_only, mapped_column, selectinload

from sqla_patterns.exceptions import InvalidArgumentError, MappingError, StateError
from sqla_patterns.generic_associations import GenericForeignKey, GenericRelationship

from ._models import Models

# -- loading -------------------------------------------------------------------------------------


def make_many(session: Session, models: Models, count: int, distinct: int) -> None:
    """Add children of `distinct` customers and as many suppliers, and parents without a child."""
    customers = [models.Customer() for _ in range(distinct)]
    suppliers = [models.Supplier() for _ in range(distinct)]
    session.add_all([*customers, *suppliers, *(models.Customer() for _ in range(10))])
    session.flush()
    parents = [parent for pair in zip(customers, suppliers, strict=True) for parent in pair]
    session.add_all(
        models.Target(street="x", kind="customer", parent_id=parent.id)
        if isinstance(parent, models.Customer)
        else models.Target(street="x", kind="supplier", parent_id=parent.id)
        for number in range(count)
        for parent in [parents[number % len(parents)]]
    )
    session.commit()
    session.expunge_all()


@pytest.mark.parametrize(("distinct", "selectin"), [(500, 3), (501, 5), (2, 3)])
def test_a_thousand_mixed_parents_load_in_few_statements_and_only_what_is_referenced(
    generic: Models, session: Session, statements: Callable[..., Any], distinct: int, selectin: int
) -> None:
    make_many(session, generic, max(1000, 2 * distinct), distinct)
    Target = generic.Target
    for option, expected in ((Target.parent.selectinload(), selectin), (Target.parent.joinedload(), 1)):
        session.expunge_all()
        with statements() as log:
            children = session.scalars(select(Target).options(option)).unique().all()
            parents = {child.parent for child in children}
        assert len(log) == expected
        assert {type(parent) for parent in parents} == {generic.Customer, generic.Supplier}
        assert len(parents) == 2 * distinct
        loaded = [obj for obj in session.identity_map.values() if not isinstance(obj, Target)]
        assert set(loaded) == parents


def test_parents_are_loaded_eagerly_also_without_the_discriminator(
    generic: Models, session: Session, statements: Callable[..., Any]
) -> None:
    make_many(session, generic, 40, 5)
    Target = generic.Target
    query = select(Target).options(load_only(Target.street), Target.parent.selectinload())
    with statements() as log:
        children = session.scalars(query).all()
    assert len(log) == 3
    keys = [route for route in inspect(children[0]).dict if route.startswith("_parent")]
    assert len(keys) == 2
    assert len({getattr(child, key) for child in children for key in keys} - {None}) == 10


def test_one_type_alone_can_be_loaded(generic: Models, session: Session, statements: Callable[..., Any]) -> None:
    make_many(session, generic, 8, 2)
    with statements() as log:
        session.scalars(select(generic.Target).options(generic.Target.parent.selectinload(generic.Customer))).all()
    assert len(log) == 2
    assert not any(isinstance(obj, generic.Supplier) for obj in session.identity_map.values())


def test_a_parent_in_the_session_is_found_without_a_statement(
    generic: Models, session: Session, statements: Callable[..., Any]
) -> None:
    make_many(session, generic, 40, 2)
    parents = [*session.scalars(select(generic.Customer)), *session.scalars(select(generic.Supplier))]
    children = session.scalars(select(generic.Target)).all()
    with statements() as log:
        assert {child.parent for child in children} <= set(parents)
    assert len(log) == 0


def test_children_of_one_parent_do_not_ask_for_it_again(
    generic: Models, session: Session, statements: Callable[..., Any]
) -> None:
    make_many(session, generic, 40, 1)
    children = session.scalars(select(generic.Target)).all()
    with statements() as log:
        assert len({child.parent for child in children}) == 2
    assert len(log) == 2


def test_loaded_absence_is_not_asked_for_again(
    generic: Models, session: Session, statements: Callable[..., Any]
) -> None:
    session.add(generic.Target(street="x", kind="customer", parent_id=77))
    session.commit()
    for option in (generic.Target.parent.selectinload(), generic.Target.parent.joinedload()):
        session.expunge_all()
        child = session.scalars(select(generic.Target).options(option)).one()
        with statements() as log:
            assert child.parent is None
        assert len(log) == 0


# -- columns that are set by hand ----------------------------------------------------------------


def test_columns_set_by_hand_lead_to_the_parent_that_they_mean(generic: Models, session: Session) -> None:
    first, second, supplier = generic.Customer(), generic.Customer(), generic.Supplier()
    child = generic.Target(street="x")
    first.addresses.append(child)
    session.add_all([first, second, supplier])
    session.commit()
    assert child.parent is first
    child.parent_id = second.id
    assert child.parent is second
    session.flush()
    assert child.parent is second
    child.kind, child.parent_id = "supplier", supplier.id
    assert child.parent is supplier
    child.kind = child.parent_id = None
    assert child.parent is None
    session.commit()
    assert child.parent is None


def test_a_parent_that_is_assigned_again_wins_over_columns_set_by_hand(generic: Models, session: Session) -> None:
    first, second = generic.Customer(), generic.Customer()
    child = generic.Target(street="x")
    first.addresses.append(child)
    session.add_all([first, second])
    session.commit()
    assert child.parent is first
    child.parent_id = second.id
    child.parent = first
    assert child.parent_id == first.id
    session.commit()
    assert child.parent is first


def test_merging_without_loading_keeps_the_parent(generic: Models, engine: Engine, session: Session) -> None:
    customer = generic.Customer(addresses=[generic.Target(street="x")])
    session.add(customer)
    session.commit()
    child = customer.addresses[0]
    session.refresh(child)
    assert child.parent is customer
    assert customer.id
    with Session(engine) as second:
        merged = second.merge(child, load=False)
        assert merged.parent.id == customer.id
        assert not second.dirty


def test_columns_set_by_hand_after_a_parent_was_missing_are_looked_up_anew(generic: Models, session: Session) -> None:
    session.add_all([generic.Customer(), generic.Target(street="x", kind="customer", parent_id=77)])
    session.commit()
    session.expunge_all()
    child = session.scalars(select(generic.Target).options(generic.Target.parent.selectinload())).one()
    assert child.parent is None
    child.parent_id = session.scalar(select(generic.Customer.id))
    session.flush()
    assert isinstance(child.parent, generic.Customer)


def test_an_assigned_parent_is_in_the_columns_at_once_if_it_has_a_key(generic: Models, session: Session) -> None:
    customer = generic.Customer()
    session.add(customer)
    session.flush()
    child = generic.Target(street="x")
    child.parent = customer
    assert (child.kind, child.parent_id) == ("customer", customer.id)
    child.parent = generic.Supplier()
    assert (child.kind, child.parent_id) == ("supplier", None)
    child.parent = None
    assert (child.kind, child.parent_id) == (None, None)


def test_an_unknown_discriminator_is_an_error_that_names_the_known_ones(generic: Models, session: Session) -> None:
    customer = generic.Customer()
    customer.addresses.append(generic.Target(street="x"))
    session.add(customer)
    session.commit()
    child = customer.addresses[0]
    session.execute(update(generic.Target).values(kind="planet"))
    session.expire_all()
    with pytest.raises(StateError, match=r"has kind = 'planet', .*\(customer, supplier\)") as caught:
        _ = child.parent
    assert isinstance(caught.value, InvalidRequestError)
    assert not session.new
    assert not session.dirty
    child.parent = customer
    session.commit()
    assert child.parent is customer


def test_a_dangling_reference_reads_as_none(generic: Models, session: Session) -> None:
    session.add(generic.Target(street="x", kind="customer", parent_id=77))
    session.commit()
    child = session.scalars(select(generic.Target)).one()
    assert child.parent is None
    child.parent = None
    session.commit()
    assert session.scalars(select(generic.Target)).all() == []


# -- which classes -------------------------------------------------------------------------------


def note_class(Base: Any, type_: Any = None, **options: Any) -> Any:
    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        kind = mapped_column(String(50))
        parent_id = mapped_column(Integer)
        parent = (
            GenericForeignKey("kind", "parent_id", **options)
            if type_ is None
            else GenericForeignKey[type_]("kind", "parent_id", **options)
        )

    return Note


def parent_class(Base: Any, name: str, *mixins: Any, **namespace: Any) -> Any:
    body = {"__tablename__": name.lower(), "id": mapped_column(Integer, primary_key=True), **namespace}
    return type(name, (*mixins, Base), body)


def stored(session: Session, Note: Any, parent: Any) -> str:
    note = Note(parent=parent)
    session.add(note)
    session.flush()
    value: str = note.kind
    session.expunge_all()
    assert type(session.scalars(select(Note)).one().parent) is type(parent)
    session.rollback()
    return value


def test_classes_can_be_named_by_a_union_a_quoted_union_a_mixin_or_not_at_all(
    plain_bases: Any, engine: Any, session: Session
) -> None:
    class Mixin:
        pass

    for kind in ("union", "quoted", "mixin", "collections", "identities"):
        Base = plain_bases()
        if kind == "union":
            A, B = parent_class(Base, "A"), parent_class(Base, "B")
            Note = note_class(Base, A | B | None)
        elif kind == "quoted":
            Note = note_class(Base, "A | B")
            A, B = parent_class(Base, "A"), parent_class(Base, "B")
        elif kind == "mixin":
            Note = note_class(Base, Mixin)
            A, B = parent_class(Base, "A", Mixin), parent_class(Base, "B", Mixin)
        elif kind == "identities":
            Note = note_class(Base, identities={"A": "a", "B": "b"})
            A, B = parent_class(Base, "A"), parent_class(Base, "B")
        else:
            Note = note_class(Base)

            class HasNotes:
                notes = GenericRelationship(lambda: Note, "parent")  # noqa: B023

            A, B = parent_class(Base, "A", HasNotes), parent_class(Base, "B", HasNotes)
        Base.metadata.create_all(engine)
        assert [stored(session, Note, A()), stored(session, Note, B())] == ["a", "b"]
        Base.metadata.drop_all(engine)


def test_a_class_that_is_mapped_after_the_mappers_are_configured_is_known(
    plain_bases: Any, engine: Any, session: Session
) -> None:
    class HasNotes:
        notes = GenericRelationship(lambda: Note, "parent")

    Base = plain_bases()
    Note = note_class(Base, HasNotes)
    parent_class(Base, "A", HasNotes)
    configure_mappers()
    B = parent_class(Base, "B", HasNotes)
    Base.metadata.create_all(engine)
    b = B(notes=[Note()])
    session.add(b)
    session.commit()
    assert b.notes[0].parent is b
    assert (
        session.scalars(select(Note).where(Note.parent.is_type(B)).options(Note.parent.selectinload())).one().parent
        is b
    )


def test_identities_outlive_the_names_of_classes(plain_bases: Any, engine: Any, session: Session) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A")
    B = parent_class(Base, "B", notes=GenericRelationship(lambda: Note, "parent", identity="bee"))
    C = parent_class(Base, "C")
    Note = note_class(Base, A | B | C, identities={A: "stable", "B": "first wins"})
    Base.metadata.create_all(engine)
    assert stored(session, Note, A()) == "stable"
    assert stored(session, Note, B()) == "first wins"
    assert stored(session, Note, C()) == "c"


def test_a_child_can_be_the_parent_of_others(plain_bases: Any, engine: Any, session: Session) -> None:
    Base = plain_bases()

    class Comment(Base):
        __tablename__ = "comment"
        id = mapped_column(Integer, primary_key=True)
        kind = mapped_column(String(50))
        parent_id = mapped_column(Integer)
        parent = GenericForeignKey["Comment | Page"]("kind", "parent_id")
        replies = GenericRelationship(lambda: Comment, "parent")

    class Page(Base):
        __tablename__ = "page"
        id = mapped_column(Integer, primary_key=True)
        comments = GenericRelationship(lambda: Comment, "parent")

    Base.metadata.create_all(engine)
    page = Page(comments=[Comment(replies=[Comment(replies=[Comment()])])])
    session.add(page)
    session.commit()
    session.expunge_all()
    leaf = session.scalars(select(Comment).where(~Comment.replies.any())).one()
    assert type(leaf.parent.parent.parent) is Page
    assert session.scalars(select(Comment).where(Comment.parent.is_type(Page))).one() is leaf.parent.parent
    session.delete(leaf.parent.parent.parent)
    session.commit()
    assert session.scalars(select(Comment)).all() == []


def test_a_child_can_have_two_generic_foreign_keys(plain_bases: Any, engine: Any, session: Session) -> None:
    Base = plain_bases()
    A, B = parent_class(Base, "A"), parent_class(Base, "B")

    class Message(Base):
        __tablename__ = "message"
        id = mapped_column(Integer, primary_key=True)
        from_kind = mapped_column(String(50))
        from_id = mapped_column(Integer)
        to_kind = mapped_column(String(50))
        to_id = mapped_column(Integer)
        sender = GenericForeignKey[A | B]("from_kind", "from_id")
        receiver = GenericForeignKey[A | B]("to_kind", "to_id")

    Base.metadata.create_all(engine)
    a, b = A(), B()
    message = Message(sender=a, receiver=b)
    session.add(message)
    session.commit()
    assert (message.sender, message.receiver) == (a, b)
    message.receiver = a
    session.commit()
    assert (message.sender, message.receiver) == (a, a)
    assert session.scalars(select(Message).where(Message.sender == a, Message.receiver == a)).one() is message


# -- hierarchies ---------------------------------------------------------------------------------


@pytest.fixture
def people(plain_bases: Any, engine: Any) -> Any:
    Base = plain_bases()

    class Person(Base):
        __tablename__ = "person"
        id = mapped_column(Integer, primary_key=True)
        type = mapped_column(String(20))
        notes = GenericRelationship(lambda: Note, "parent")
        __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "person"}

    class Engineer(Person):
        __tablename__ = "engineer"
        id = mapped_column(None, ForeignKey("person.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "engineer"}

    class Manager(Person):
        __mapper_args__ = {"polymorphic_identity": "manager"}

    Company = parent_class(Base, "Company")
    Note = note_class(Base, Person | Company)
    Base.metadata.create_all(engine)
    return Person, Engineer, Manager, Company, Note


def test_subclasses_of_a_parent_are_parents(people: Any, session: Session, statements: Callable[..., Any]) -> None:
    Person, Engineer, Manager, Company, Note = people
    parents = [Person(), Engineer(), Manager(), Company()]
    notes = [Note(parent=parent) for parent in parents]
    session.add_all(notes)
    session.commit()
    assert [note.kind for note in notes] == ["person", "person", "person", "company"]
    assert parents[1].notes == [notes[1]]
    for type_, expected in ((Person, notes[:3]), (Engineer, notes[1:2]), (Manager, notes[2:3]), (Company, notes[3:])):
        found = session.scalars(select(Note).where(Note.parent.is_type(type_)).order_by(Note.id)).all()
        assert found == expected
    assert session.scalars(select(Note).where(Note.parent.is_type(Engineer, Company)).order_by(Note.id)).all() == [
        notes[1],
        notes[3],
    ]
    session.expunge_all()
    loaded = session.scalars(select(Note).order_by(Note.id).options(Note.parent.selectinload())).all()
    assert [type(note.parent) for note in loaded] == [Person, Engineer, Manager, Company]
    session.expire_all()
    assert [type(note.parent) for note in loaded] == [Person, Engineer, Manager, Company]


def test_of_type_narrows_to_a_subclass(people: Any, session: Session) -> None:
    Person, Engineer, _, _, Note = people
    session.add_all([Note(parent=Person()), Note(parent=Engineer())])
    session.commit()
    criterion = Note.parent.of_type(Engineer).has(Engineer.id > 0)
    assert type(session.scalars(select(Note).where(criterion)).one().parent) is Engineer


def test_a_subclass_of_the_child_has_the_parent_too(plain_bases: Any, engine: Any, session: Session) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A", notes=GenericRelationship(lambda: Note, "parent"))

    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        type = mapped_column(String(20))
        kind = mapped_column(String(50))
        parent_id = mapped_column(Integer)
        parent = GenericForeignKey[A]("kind", "parent_id")
        __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "note"}

    class Alarm(Note):
        __mapper_args__ = {"polymorphic_identity": "warning"}

    Base.metadata.create_all(engine)
    a = A()
    warning = Alarm(parent=a)
    a.notes.append(Note())
    session.add(a)
    session.commit()
    assert warning.parent is a
    assert {type(note) for note in a.notes} == {Note, Alarm}
    assert session.scalars(select(Alarm).where(Alarm.parent == a).options(Alarm.parent.selectinload())).one() is warning


# -- refusals ------------------------------------------------------------------------------------


def check(message: str) -> None:
    with pytest.raises(MappingError, match=message) as caught:
        configure_mappers()
    assert isinstance(caught.value, ArgumentError)


def test_two_classes_of_one_identity_are_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    A, B = parent_class(Base, "A"), parent_class(Base, "B")
    note_class(Base, A | B, identities={"A": "b"})
    check(r"would store 'b' for A and for B; .*identities=")


def test_a_class_that_is_not_mapped_is_refused(plain_bases: Any) -> None:
    note_class(plain_bases(), int)
    check("names <class 'int'>, which is not mapped")


def test_a_name_that_cannot_be_resolved_is_refused(plain_bases: Any) -> None:
    note_class(plain_bases(), "Nobody | Nothing")
    check("'Nobody | Nothing', which cannot be resolved .* import the modules")


def test_identities_of_unknown_classes_are_refused(plain_bases: Any) -> None:
    note_class(plain_bases(), identities={"Nobody": "x"})
    check(r"identities of Note.parent names \['Nobody'\], which are not mapped")


def test_a_key_of_more_columns_than_the_child_has_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()

    class Pair(Base):
        __tablename__ = "pair"
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[int] = mapped_column(primary_key=True)

    note_class(Base, Pair)
    check(r"keeps 1 value\(s\) for the key, and the primary key of Pair has 2")


def test_a_key_of_another_type_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A")

    class Other(Base):
        __tablename__ = "other"
        id = mapped_column(Uuid, primary_key=True)

    note_class(Base, A | Other)
    check(r"keeps keys as Integer\(\) in 'parent_id', and Other has Uuid\(\)")


def test_columns_that_do_not_exist_are_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A")

    class Note(Base):
        __tablename__ = "note"
        id = mapped_column(Integer, primary_key=True)
        parent = GenericForeignKey[A]("kind", "parent_id")

    check("'kind', 'parent_id', and Note has no such column")


def test_a_collection_on_a_class_that_is_not_declared_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A")
    parent_class(Base, "B", notes=GenericRelationship(lambda: Note, "parent"))
    Note = note_class(Base, A)
    check("B has a collection of Note by Note.parent, which is declared for A; name B there too")


def test_a_collection_by_what_is_no_generic_foreign_key_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A")
    parent_class(Base, "B", notes=GenericRelationship(lambda: A, "parent"))
    check("no mapped class with a GenericForeignKey of this name")


def test_a_subclass_beside_its_base_is_refused(plain_bases: Any) -> None:
    Base = plain_bases()
    A = parent_class(Base, "A")

    class Special(A):
        pass

    note_class(Base, A | Special)
    check("would store 'a' for A and for Special|Special is a subclass of A")


def test_of_type_of_several_classes_is_refused(generic: Models) -> None:
    with pytest.raises(InvalidArgumentError, match="has several relationships to object"):
        generic.Target.parent.of_type(object)


def test_options_reach_the_hidden_relationship(generic: Models, session: Session) -> None:
    make_many(session, generic, 4, 1)
    Target, Customer = generic.Target, generic.Customer
    option = selectinload(Target.parent.of_type(Customer)).options(joinedload(Customer.addresses))
    children = session.scalars(select(Target).options(option)).all()
    customer = next(child.parent for child in children if child.kind == "customer")
    assert "addresses" not in inspect(customer).unloaded
