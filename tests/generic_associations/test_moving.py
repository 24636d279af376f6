"""A child that moves between parents of different classes: the strategies that keep children in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from ._models import ONE_CHILD_CLASS, Models, map_models


def streets(parent: Any) -> list[str]:
    return sorted(address.street for address in parent.addresses)


@pytest.fixture
def family(shared: Models, session: Session) -> tuple[Any, Any, Any]:
    """Add a customer with an address, and a supplier of the same id with another address."""
    customer, supplier = shared.Customer(), shared.Supplier()
    customer.addresses.append(shared.Target(street="Elm"))
    supplier.addresses.append(shared.Target(street="Oak"))
    session.add_all([customer, supplier])
    session.commit()
    assert customer.id == supplier.id
    return customer, customer.addresses[0], supplier


@pytest.mark.parametrize("loaded", [False, True], ids=["unloaded", "loaded"])
@pytest.mark.parametrize("how", ["assign", "append", "replace", "remove and append", "none and assign"])
def test_a_child_moves_to_a_parent_of_another_class(
    family: tuple[Any, Any, Any], session: Session, how: str, loaded: bool
) -> None:
    customer, child, supplier = family
    session.expire_all()
    if loaded:
        assert child.parent is customer
        assert (streets(customer), streets(supplier)) == (["Elm"], ["Oak"])
    with session.no_autoflush:
        if how == "assign":
            child.parent = supplier
        elif how == "append":
            supplier.addresses.append(child)
        elif how == "replace":
            supplier.addresses = [*supplier.addresses, child]
        elif how == "remove and append":
            customer.addresses.remove(child)
            supplier.addresses.append(child)
        else:
            child.parent = None
            child.parent = supplier
        assert child.parent is supplier
    assert (streets(customer), streets(supplier)) == ([], ["Elm", "Oak"])
    session.commit()
    assert (streets(customer), streets(supplier)) == ([], ["Elm", "Oak"])
    assert child.parent is supplier


def test_a_child_moves_to_a_parent_that_is_not_flushed_yet(family: tuple[Any, Any, Any], session: Session) -> None:
    customer, child, supplier = family
    new = type(supplier)()
    child.parent = new
    session.commit()
    assert (streets(customer), streets(new), streets(supplier)) == ([], ["Elm"], ["Oak"])
    assert child.parent is new


@pytest.mark.parametrize("loaded", [False, True], ids=["unloaded", "loaded"])
def test_a_child_outlives_the_parent_that_it_left_in_the_same_flush(
    family: tuple[Any, Any, Any], session: Session, loaded: bool
) -> None:
    customer, child, supplier = family
    if loaded:
        assert streets(customer) == ["Elm"]
    with session.no_autoflush:
        child.parent = supplier
        session.delete(customer)
    session.commit()
    assert streets(supplier) == ["Elm", "Oak"]


def test_a_child_that_goes_there_and_back_stays(family: tuple[Any, Any, Any], session: Session) -> None:
    customer, child, supplier = family
    with session.no_autoflush:
        child.parent = supplier
        child.parent = customer
    session.commit()
    assert (streets(customer), streets(supplier)) == (["Elm"], ["Oak"])
    assert child.parent is customer


def test_a_move_that_is_rolled_back_did_not_happen(family: tuple[Any, Any, Any], session: Session) -> None:
    customer, child, supplier = family
    child.parent = supplier
    session.flush()
    session.rollback()
    assert child.parent is customer
    assert (streets(customer), streets(supplier)) == (["Elm"], ["Oak"])


def test_a_transient_child_has_the_parent_that_it_was_given_last(shared: Models, session: Session) -> None:
    customer, supplier, child = shared.Customer(), shared.Supplier(), shared.Target(street="Elm")
    customer.addresses.append(child)
    supplier.addresses.append(child)
    assert (customer.addresses, supplier.addresses, child.parent) == ([], [child], supplier)
    child.parent = customer
    assert (customer.addresses, supplier.addresses, child.parent) == ([child], [], customer)
    session.add_all([customer, supplier])
    session.commit()
    assert (streets(customer), streets(supplier)) == (["Elm"], [])


def test_children_that_are_not_owned_stay_without_a_parent(plain_bases: Any, engine: Engine, session: Session) -> None:
    for name in ONE_CHILD_CLASS:
        models = map_models(name, plain_bases(), cascade="save-update, merge")
        models.metadata.create_all(engine)
        customer = models.Customer()
        customer.addresses = [models.Target(street="Elm"), models.Target(street="Oak")]
        session.add(customer)
        session.commit()
        elm, oak = customer.addresses
        customer.addresses.remove(elm)
        session.commit()
        assert elm.parent is None
        session.delete(customer)
        session.commit()
        assert oak.parent is None
        assert session.scalar(select(func.count()).select_from(models.Target)) == 2
        models.metadata.drop_all(session.connection())
        session.commit()


def test_selectin_asks_each_type_once_for_many_children(
    shared: Models, session: Session, statements: Callable[..., Any]
) -> None:
    parents = [(shared.Customer, shared.Supplier)[number % 2]() for number in range(100)]
    for parent in parents:
        parent.addresses.append(shared.Target(street="x"))
    session.add_all(parents)
    session.commit()
    expected = [type(child.parent) for child in session.scalars(select(shared.Target).order_by(shared.Target.id))]
    session.expunge_all()
    with statements() as log:
        children = session.scalars(
            select(shared.Target).order_by(shared.Target.id).options(shared.Target.parent.selectinload())
        ).all()
        assert [type(child.parent) for child in children] == expected
    assert len(log) == 3


# -- a model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ONE_CHILD_CLASS)
def test_any_sequence_of_changes_ends_as_in_a_plain_model(strategy: str, plain_bases: Any) -> None:
    models = map_models(strategy, plain_bases())
    engine = create_engine("sqlite://", poolclass=StaticPool)
    models.metadata.create_all(engine)
    places = ["none", "c0", "c1", "s0", "s1"]
    step = st.one_of(
        st.tuples(st.sampled_from(["assign", "append"]), st.integers(0, 2), st.sampled_from(places)),
        st.tuples(st.sampled_from(["flush", "commit", "rollback", "expire", "load"])),
    )

    @settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(step, max_size=12))
    def run(steps: list[tuple[Any, ...]]) -> None:
        with Session(engine) as session:
            parents = {
                "c0": models.Customer(), "c1": models.Customer(), "s0": models.Supplier(), "s1": models.Supplier()
            }  # fmt: skip
            children = [models.Target(street=str(number)) for number in range(3)]
            for child in children:
                child.parent = parents["c0"]
            session.add_all(parents.values())
            session.commit()
            model = dict.fromkeys(range(3), "c0")
            committed, gone = dict(model), set[int]()
            for name, *arguments in steps:
                if name in ("assign", "append"):
                    number, place = arguments
                    child = children[number]
                    if number in gone or (place == "none" and name == "append"):
                        continue
                    if name == "assign":
                        child.parent = parents.get(place)
                    elif child not in parents[place].addresses:
                        parents[place].addresses.append(child)
                    model[number] = place
                elif name == "rollback":
                    session.rollback()
                    model = dict(committed)
                elif name == "expire":
                    session.flush()
                    session.expire_all()
                elif name == "load":
                    assert all(streets(parent) is not None for parent in parents.values())
                else:
                    getattr(session, name)()
                # An orphan lives until the next flush, which loading brings about as well.
                if name != "assign" and name != "rollback":
                    session.flush()
                    model = {number: place for number, place in model.items() if place != "none"}
                gone = set(range(3)) - model.keys()
                if name == "commit":
                    committed = dict(model)
            session.flush()
            model = {number: place for number, place in model.items() if place != "none"}
            for place, parent in parents.items():
                assert streets(parent) == [str(number) for number in sorted(model) if model[number] == place]
            session.expire_all()
            for place, parent in parents.items():
                assert streets(parent) == [str(number) for number in sorted(model) if model[number] == place]
            for number in model:
                assert children[number].parent is parents[model[number]]
            session.rollback()
            for parent in parents.values():
                session.delete(parent)
            session.commit()
            assert session.scalar(select(func.count()).select_from(models.Target)) == 0

    run()
    engine.dispose()
