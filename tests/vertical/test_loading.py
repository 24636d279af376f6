"""`load_vertical`: what it returns, through which session, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session, aliased, scoped_session, sessionmaker, with_loader_criteria

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.vertical import load_vertical
from tests.vertical import _models as models
from tests.vertical._models import Zoo


def test_each_id_has_a_dictionary(zoo: Zoo, animal: Any, session: Session) -> None:
    session.add(empty := zoo.Animal())
    session.flush()
    found = load_vertical(session, zoo.Animal.attrs, [empty.id, animal.id, 999])
    assert found == {empty.id: {}, animal.id: zoo.facts(), 999: {}}
    assert list(found) == [empty.id, animal.id, 999]


def test_what_is_not_flushed_counts(zoo: Zoo, animal: Any, session: Session) -> None:
    animal.attrs["a"] = zoo.values[3]
    assert load_vertical(session, zoo.Animal.attrs, [animal.id])[animal.id]["a"] == zoo.values[3]


def test_a_scoped_session_and_an_iterator_of_ids_will_do(zoo: Zoo, animal: Any, engine: Engine) -> None:
    scoped = scoped_session(sessionmaker(engine))
    assert load_vertical(scoped, zoo.Animal.attrs, iter([animal.id])) == {animal.id: zoo.facts()}
    scoped.remove()


def test_an_alias_will_do(zoo: Zoo, animal: Any, session: Session) -> None:
    assert load_vertical(session, aliased(zoo.Animal).attrs, [animal.id]) == {animal.id: zoo.facts()}


def test_no_ids_are_no_statement(zoo: Zoo, animal: Any, session: Session, statements: Any) -> None:
    with statements() as log:
        assert load_vertical(session, zoo.Animal.attrs, []) == {}
    assert len(log) == 0


def test_criteria_of_the_session_apply(zoo: Zoo, animal: Any, engine: Engine) -> None:
    session = Session(engine)

    @event.listens_for(session, "do_orm_execute")
    def hide(state: Any) -> None:
        state.statement = state.statement.options(with_loader_criteria(zoo.Fact, zoo.Fact.key != "a"))

    with session:
        assert set(load_vertical(session, zoo.Animal.attrs, [animal.id])[animal.id]) == set("bcd")


def test_composite_keys_are_tuples(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.composite(plain_bases)
    m.Base.metadata.create_all(engine)
    for number in (1, 2):
        session.add(animal := m.Animal(zoo="Z", number=number))
        animal.attrs = {"x": number}
    session.commit()
    ids = [("Z", 1), ("Z", 2), ("Y", 1)]
    assert load_vertical(session, m.Animal.attrs, ids) == {("Z", 1): {"x": 1}, ("Z", 2): {"x": 2}, ("Y", 1): {}}
    found = session.query(m.Animal).where(m.Animal.attrs["x"] == 2).one()
    assert (found.number, found.attrs["x"]) == (2, 2)


def test_many_ids_of_a_composite_key_are_asked_for_in_parts(
    plain_bases: Any, engine: Engine, session: Session, statements: Any
) -> None:
    m = models.composite(plain_bases)
    m.Animal.metadata.create_all(engine)
    with statements() as log:
        found = load_vertical(session, m.Animal.attrs, [("Z", number) for number in range(2_500)])
    assert (len(found), len(log.starting("SELECT"))) == (2_500, 3)


def test_a_subclass_reads_its_own_objects(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.inherited(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(dog := m.Dog())
    dog.attrs = {"x": 1}
    session.flush()
    assert load_vertical(session, m.Dog.attrs, [dog.id]) == {dog.id: {"x": 1}}
    assert load_vertical(session, m.Cat.attrs, [dog.id]) == {dog.id: {}}


@pytest.mark.parametrize("ids", [5, "ab", b"ab", None])
def test_what_is_no_collection_of_ids_is_refused(plain_bases: Any, ids: Any) -> None:
    attrs = models.zoo(plain_bases).Animal.attrs
    with pytest.raises(InvalidArgumentError, match="takes a collection of primary keys"):
        load_vertical(Session(), attrs, ids)


def test_what_is_no_attribute_of_a_class_is_refused(plain_bases: Any) -> None:
    m = models.zoo(plain_bases)
    for wrong in (m.Animal, m.Animal().attrs, m.Animal.attrs["x"], m.Animal.facts):
        with pytest.raises(InvalidArgumentError, match=r"needs the attribute of a class, as in Animal\.attrs"):
            load_vertical(Session(), wrong, [1])


def test_what_is_no_session_is_refused(plain_bases: Any) -> None:
    attrs = models.zoo(plain_bases).Animal.attrs
    with pytest.raises(InvalidArgumentError, match=r"load_vertical\(\) needs a session"):
        load_vertical(sessionmaker(), attrs, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "ids", "text"),
    [
        (models.zoo, [(1,)], r"the primary key of Animal has 1 column, and \(1,\) is no value of it"),
        (models.zoo, [[1]], r"\[1\] is no value of it"),
        (models.zoo, [None], "None is no value of it"),
        (models.zoo, [{}], r"\{\} is no value of it"),
        (models.composite, ["Z1"], r"has 2 columns, and 'Z1' is no value of it; give tuples"),
        (models.composite, [("Z", 1, 2)], r"\('Z', 1, 2\) is no value of it"),
    ],
)
def test_what_is_no_primary_key_is_refused(plain_bases: Any, make: Any, ids: Any, text: str) -> None:
    attrs = make(plain_bases).Animal.attrs
    with pytest.raises(InvalidArgumentError, match=text):
        load_vertical(Session(), attrs, ids)


def test_ids_may_be_rows_of_a_result(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.composite(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(m.Animal(zoo="Z", number=1, attrs={"x": 1}))
    ids = session.execute(select(m.Animal.zoo, m.Animal.number)).all()
    assert load_vertical(session, m.Animal.attrs, ids) == {("Z", 1): {"x": 1}}


@pytest.mark.only_on("sqlite")
def test_an_id_that_only_the_database_takes_for_equal_is_refused(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    m = models.zoo(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(m.Animal(id=1, attrs={"a": 1}))
    with pytest.raises(InvalidArgumentError, match="found Animal 1, which equals none of the ids that it was given"):
        load_vertical(session, m.Animal.attrs, ["1"])
