"""Names of SQLAlchemy that are not public API: all are in the table, and each may be missing."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Column, ForeignKey, Integer, Table, create_engine, event, func, insert, inspect, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    RelationshipProperty,
    Session,
    configure_mappers,
    mapped_column,
    registry,
    relationship,
    selectinload,
)
from sqlalchemy.orm.exc import ObjectDeletedError, UnmappedClassError
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import JSON

import sqla_patterns
from sqla_patterns import _sqlalchemy
from sqla_patterns._sqlalchemy import _names
from sqla_patterns._sqlalchemy._names import PrivateName, missing_names
from sqla_patterns.caching._replay import _probe
from sqla_patterns.exceptions import MappingError, StateError
from sqla_patterns.generic_associations import GenericForeignKey
from sqla_patterns.graphs import GraphEdge, GraphNode
from sqla_patterns.syntax import qualified
from sqla_patterns.trees import TreeNode
from sqla_patterns.versioning import Versioned, VersionedRow, versions
from tests._support import count_statements

SERIES = sqlalchemy.__version__[:3]
SRC = Path(sqla_patterns.__file__).parent


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    data: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    pets: Mapped[list[Pet]] = relationship(back_populates="owner", cascade="all, delete-orphan")


class Price(VersionedRow, Base):
    __tablename__ = "price"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int]


class Pet(Base):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship(back_populates="pets")


class City(GraphNode, Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)


class Road(GraphEdge[City], Base):
    __tablename__ = "road"


class Folder(TreeNode, Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)


class Page(Versioned, Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")


Gone = Callable[..., None]


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Gone:
    """Take names away: the library finds no such attribute, while SQLAlchemy itself goes on to use it."""

    def take_away(*entries: PrivateName) -> None:
        for each in entries:
            monkeypatch.setattr(each, "name", "_a_name_that_no_release_has")

    return take_away


# -- the table ---------------------------------------------------------------------------------------------------------


def test_this_sqlalchemy_has_every_name_of_the_table() -> None:
    assert [str(each) for each in missing_names(SERIES)] == []


def test_a_name_that_is_missing_is_found(gone: Gone) -> None:
    gone(_names.FLUSHING)
    assert [each.used_for for each in missing_names(SERIES)] == [_names.FLUSHING.used_for]


def test_each_name_has_a_test_without_it() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    taken = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_names"
    }
    entries = {name for name, value in vars(_names).items() if isinstance(value, PrivateName)}
    assert entries - taken == set()


def _private_uses(tree: ast.AST) -> Iterator[str]:
    """Yield private names that are read off something other than ``self`` or ``cls``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            if not own:
                yield node.attr
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"getattr", "setattr", "hasattr"}
            and isinstance(node.args[1], ast.Constant)
        ):
            yield str(node.args[1].value)


def test_private_names_of_sqlalchemy_are_used_through_the_table_alone() -> None:
    sources = {
        path: ast.parse(path.read_bytes())
        for path in SRC.rglob("*.py")
        # Replaying and criteria have tables of their own, `_replay/_probe` and `criteria/_private`, as they go into the
        # compiler; each has a test without its names.
        if not {"demos", "_sqlalchemy", "_replay", "criteria"} & set(path.parts)
    }
    ours = {"_replace", "_asdict"}  # of named tuples
    for tree in sources.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                ours.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                ours.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "sqla_" in node.value:
                ours.add(node.value)
    found = {
        f"{path.relative_to(SRC)}: {name}"
        for path, tree in sources.items()
        for name in _private_uses(tree)
        if name.startswith("_") and not name.startswith("__") and name not in ours
    }
    assert found == set()


# -- objects -----------------------------------------------------------------------------------------------------------


def _owner_with_unloaded_pets(session: Session) -> Owner:
    session.add(Owner(id=1, pets=[Pet(id=1)]))
    session.commit()
    return session.get_one(Owner, 1)


def test_without_pending_mutations_unloaded_collections_seem_unchanged(session: Session, gone: Gone) -> None:
    owner = _owner_with_unloaded_pets(session)
    pet = Pet(id=2, owner=owner)
    assert _sqlalchemy.unflushed_additions(inspect(owner), "pets") == [pet]
    assert _sqlalchemy.has_pending_changes(inspect(owner), "pets")
    gone(_names.PENDING_MUTATIONS)
    assert _sqlalchemy.unflushed_additions(inspect(owner), "pets") == []
    assert _sqlalchemy.pending_additions(inspect(owner), "pets") == []
    assert not _sqlalchemy.has_pending_changes(inspect(owner), "pets")


def _removed_pet(session: Session) -> Pet:
    owner = _owner_with_unloaded_pets(session)
    pet = owner.pets[0]
    owner.pets.remove(pet)
    return pet


def test_without_the_mark_of_unsaved_orphans_none_is_one(gone: Gone) -> None:
    pet = Pet()
    Owner(pets=[pet]).pets.remove(pet)
    assert _sqlalchemy.is_unsaved_orphan(inspect(pet))
    gone(_names.ORPHANED_OUTSIDE)
    assert not _sqlalchemy.is_unsaved_orphan(inspect(pet))


def test_without_the_test_for_orphans_none_is_one(session: Session, gone: Gone) -> None:
    pet = _removed_pet(session)
    assert _sqlalchemy.is_orphan(inspect(pet))
    gone(_names.IS_ORPHAN)
    assert not _sqlalchemy.is_orphan(inspect(pet))


def test_without_the_list_of_orphan_relationships_no_class_has_one(gone: Gone) -> None:
    configure_mappers()
    assert _sqlalchemy.can_be_orphan(inspect(Pet))
    gone(_names.DELETE_ORPHANS)
    assert not _sqlalchemy.can_be_orphan(inspect(Pet))


def test_without_tokens_no_event_counts_as_propagated(gone: Gone) -> None:
    seen: list[bool] = []

    def note(target: Owner, value: Pet, initiator: Any) -> None:
        seen.append(_sqlalchemy.is_propagated(Owner.pets, initiator))

    event.listen(Owner.pets, "append", note)
    try:
        Pet(owner=Owner())
        gone(_names.PARENT_TOKEN)
        Pet(owner=Owner())
    finally:
        event.remove(Owner.pets, "append", note)
    assert seen == [True, False]


@pytest.mark.parametrize("adopt", ["coerce", "announce"])
def test_without_listeners_of_states_mutable_values_stay_as_they_are(adopt: str, gone: Gone) -> None:
    def adopted() -> type:
        owner = Owner()
        owner.__dict__["data"] = {}
        if adopt == "coerce":
            _sqlalchemy.coerce_mutable(inspect(owner), "data")
        else:
            _sqlalchemy.announce_refresh(inspect(owner), {"data"})
        return type(owner.__dict__["data"])

    assert adopted() is MutableDict
    gone(_names.STATE_LISTENERS)
    assert adopted() is dict


# -- sessions and flushes ----------------------------------------------------------------------------------------------


def _autoflush_in_a_flush(session: Session) -> None:
    event.listen(session, "before_flush", lambda *_: _sqlalchemy.autoflush(session))
    session.add(Owner())
    session.flush()


def test_without_the_flag_a_flush_within_a_flush_is_refused_by_sqlalchemy(session: Session, gone: Gone) -> None:
    gone(_names.FLUSHING)
    with pytest.raises(InvalidRequestError, match="already flushing"):
        _autoflush_in_a_flush(session)


def test_without_the_warning_flag_no_flush_counts_as_writing(session: Session, gone: Gone) -> None:
    seen: list[bool] = []
    event.listen(
        Owner, "before_insert", lambda *_: seen.append(_sqlalchemy.is_writing(session)), once=False, named=False
    )
    session.add(Owner())
    session.flush()
    gone(_names.WARN_ON_EVENTS)
    session.add(Owner())
    session.flush()
    assert seen == [True, False]


def test_without_the_record_of_deletions_objects_are_expunged(session: Session, gone: Gone) -> None:
    owner = _owner_with_unloaded_pets(session)
    gone(_names.REMOVE_NEWLY_DELETED)
    _sqlalchemy.mark_deleted(session, [owner])
    assert owner not in session
    assert inspect(owner).detached


def test_without_the_record_of_insertions_a_rollback_leaves_the_object(session: Session, gone: Gone) -> None:
    gone(_names.NEW_IN_TRANSACTION)
    session.execute(insert(Owner.__table__).values(id=5, name="", data={}))
    owner = session.get_one(Owner, 5)
    _sqlalchemy.mark_inserted(session, [owner])
    session.rollback()
    assert owner in session
    with pytest.raises(ObjectDeletedError):
        _ = owner.name


@pytest.mark.parametrize("entry", [_names.KEY_SWITCHES, _names.REGISTER_ALTERED])
def test_without_the_record_of_keys_update_of_loaded_temporal_rows_is_refused(
    session: Session, gone: Gone, entry: PrivateName
) -> None:
    price = Price(id=1, amount=1)
    session.add(price)
    session.commit()
    assert session.scalars(select(Price.amount)).all() == [1]
    gone(entry)
    statement = update(Price).values(amount=2)
    with pytest.raises(StateError, match="undoes changes of primary keys in a way that is not known"):
        session.execute(statement)
    assert price.amount == 1
    session.execute(statement.execution_options(synchronize_session=False))
    assert session.scalars(select(Price.amount)).all() == [2]


def test_without_the_list_of_listeners_none_is_the_last(session: Session, gone: Gone) -> None:
    def listener(*_: object) -> None: ...

    event.listen(session, "before_flush", listener)
    assert _sqlalchemy.is_last(session, listener)
    gone(_names.SESSION_LISTENERS)
    assert not _sqlalchemy.listens(session, listener)
    _sqlalchemy.listen_last(session, of_class=listener, of_session=listener)
    session.add(Folder(children=[Folder()]))
    session.flush()


def test_without_steps_of_a_flush_graphs_refuse_it(session: Session, gone: Gone) -> None:
    gone(_names.PRESORT_ACTIONS)
    session.add(City())
    with pytest.raises(StateError, match="cannot take part in this flush"):
        session.flush()


def test_without_the_record_of_steps_a_late_deletion_is_registered_all_the_same(session: Session, gone: Gone) -> None:
    gone(_names.PROCESSED)
    first, second = City(id=1), City(id=2)
    session.add_all([first, second, Road(lower_node=first, higher_node=second)])
    session.commit()
    event.listen(session, "before_flush", lambda *_: session.delete(first))
    second.id = 2
    session.add(City(id=3))
    session.commit()
    assert session.scalar(select(func.count()).select_from(Road)) == 0


class _Uow:
    """A unit of work with one object that is deleted."""

    def __init__(self, obj: object) -> None:
        state = inspect(obj)
        self.states = {state: (True, False)}
        self.mappers = {state.mapper: {state}}

    def states_for_mapper_hierarchy(self, mapper: Any, isdelete: bool, listonly: bool) -> Any:
        return self.mappers[mapper]


def test_without_states_of_a_flush_no_object_counts_as_deleted(gone: Gone) -> None:
    owner = Owner()
    assert _sqlalchemy.is_deleted(_Uow(owner), inspect(owner))
    gone(_names.FLUSHED_STATES)
    assert not _sqlalchemy.is_deleted(_Uow(owner), inspect(owner))


def test_without_mappers_of_a_flush_no_class_counts_as_flushed(gone: Gone) -> None:
    owner = Owner()
    assert _sqlalchemy.flushed_mappers(_Uow(owner)) == [inspect(Owner)]
    gone(_names.FLUSHED_MAPPERS)
    assert _sqlalchemy.flushed_mappers(_Uow(owner)) == []
    assert _sqlalchemy.flushed_of(_Uow(owner), inspect(Owner)) == []


def test_without_the_states_of_a_hierarchy_each_row_is_copied_by_itself(session: Session, gone: Gone) -> None:
    pages = [Page(text="a") for _ in range(3)]
    session.add_all(pages)
    session.commit()
    gone(_names.STATES_OF_HIERARCHY)
    for page in pages:
        page.text = "b"
    session.commit()
    assert [[each.object.text for each in versions(session, page)] for page in pages] == [["a", "b"]] * 3


def test_without_the_state_of_execution_listeners_see_reads_of_graphs(session: Session, gone: Gone) -> None:
    session.add(City(id=1))
    session.commit()
    heard: list[object] = []
    event.listen(session, "do_orm_execute", heard.append)
    rows = select(City.__table__)
    assert len(_sqlalchemy.load_unfiltered(session, inspect(City), rows)) == 1
    assert heard == []
    gone(_names.PARENT_EXECUTE_STATE)
    assert len(_sqlalchemy.load_unfiltered(session, inspect(City), rows)) == 1
    assert len(heard) == 1


def test_without_the_state_of_execution_get_bind_gets_one_argument_more(session: Session, gone: Gone) -> None:
    engine = session.get_bind()
    given: set[str] = set()

    class Routing(Session):
        def get_bind(self, *args: Any, **options: Any) -> Any:
            given.update(options)
            return engine

    for is_gone in (False, True):
        given.clear()
        with Routing() as routing:
            event.listen(routing, "do_orm_execute", _sqlalchemy.invoke, retval=True)
            assert routing.scalars(select(City)).all() == []
        assert ("_sa_skip_events" in given) is is_gone
        gone(_names.PARENT_EXECUTE_STATE)


@pytest.mark.parametrize("name", [_names.EXECUTE_LISTENERS, _names.PARENT_EXECUTE_STATE], ids=str)
def test_without_the_listeners_of_an_execution_later_ones_do_not_see_the_statement(
    name: PrivateName, session: Session, gone: Gone
) -> None:
    heard: list[str] = []

    def execute(state: ORMExecuteState) -> Any:
        heard.append("executed")
        return _sqlalchemy.invoke(state)

    def first(state: ORMExecuteState) -> Any:
        return _sqlalchemy.execute_last(state, execute)

    event.listen(session, "do_orm_execute", first, retval=True)
    event.listen(session, "do_orm_execute", lambda state: heard.append("later"))
    assert session.scalars(select(City)).all() == []
    assert heard == ["later", "executed"]
    heard.clear()
    gone(name)
    assert session.scalars(select(City)).all() == []
    assert heard == ["executed", "later"]


def _make_criterion(value: str) -> Callable[[Any], Any]:
    return lambda cls: cls.name == value


def test_without_the_given_criterion_options_with_values_are_not_pickled(gone: Gone) -> None:
    def make() -> Any:
        return _sqlalchemy.criteria_made_by(Owner, _make_criterion, "a")

    assert str(select(Owner).options(pickle.loads(pickle.dumps(make())))) == str(select(Owner).options(make()))
    gone(_names.GIVEN_CRITERION)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(make())


# -- mapping -----------------------------------------------------------------------------------------------------------


def test_without_the_managers_a_registry_with_a_failed_class_has_no_mappers(gone: Gone) -> None:
    gone(_names.MANAGERS)
    failing = SimpleNamespace(_managers=[])

    class Mapped_(type(failing)):  # type: ignore[misc]
        @property
        def mappers(self) -> Any:
            raise UnmappedClassError(Owner, "the mapping of a class has failed")

    broken: Any = Mapped_()
    assert _sqlalchemy.mappers_of(broken) == []


def test_without_names_of_attributes_the_column_counts_as_not_renamed(gone: Gone) -> None:
    mapper = SimpleNamespace(_init_properties={"low": Road.__table__.c.lower_id})
    column = Road.__table__.c.lower_id
    assert _sqlalchemy.renamed_attribute(mapper, column) == "low"  # type: ignore[arg-type]
    gone(_names.INIT_PROPERTIES)
    assert _sqlalchemy.renamed_attribute(mapper, column) == "lower_id"  # type: ignore[arg-type]
    assert _sqlalchemy.renamed_column(mapper, "low") is None  # type: ignore[arg-type]


def test_without_arguments_a_relationship_tells_nothing_before_it_is_configured(gone: Gone) -> None:
    table = Table("link", registry().metadata, Column("a", Integer))
    relation: Any = relationship("Owner", secondary=lambda: table)
    assert isinstance(relation, RelationshipProperty)
    assert _sqlalchemy.joins_by_hand(relation)
    assert _sqlalchemy.secondary_argument(relation, inspect(Owner)) is table
    gone(_names.INIT_ARGS)
    assert not _sqlalchemy.joins_by_hand(relation)
    assert not _sqlalchemy.has_secondary(relation)
    assert _sqlalchemy.secondary_argument(relation, inspect(Owner)) is None


def test_without_copies_of_columns_they_have_to_be_declared(gone: Gone) -> None:
    column: Column[int] = Column("size", Integer)
    assert _sqlalchemy.mapped_copy(column, deferred=False).column is not column
    gone(_names.COPY_COLUMN)
    with pytest.raises(MappingError, match="declare it by hand"):
        _sqlalchemy.mapped_copy(column, deferred=False)


STRATEGY_NAMES = {
    "get": _names.GET_STRATEGY,
    "kept": _names.STRATEGIES,
    "load": _names.LOAD_FOR_PATH,
    "omit": _names.OMIT_JOIN,
}


@pytest.mark.parametrize("missing", STRATEGY_NAMES)
def test_without_loader_strategies_a_generic_foreign_key_loads_all_the_same(
    missing: str, session: Session, gone: Gone
) -> None:
    gone(STRATEGY_NAMES[missing])

    class Own(DeclarativeBase):
        pass

    class Dog(Own):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Cat(Own):
        __tablename__ = "cat"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Note(Own):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        about_id: Mapped[int]
        about = GenericForeignKey[Dog | Cat]("kind", "about_id")

    Own.metadata.create_all(session.connection())
    session.add_all([Note(id=1, about=Dog(id=1)), Note(id=2, about=Cat(id=1))])
    session.commit()
    with count_statements() as log:
        notes = session.scalars(select(Note).order_by(Note.id).options(Note.about.selectinload())).all()
        assert [type(note.about).__name__ for note in notes] == ["Dog", "Cat"]
    assert len(log) == 3


def test_without_the_instrumentation_factory_the_extension_can_be_used(gone: Gone) -> None:
    from sqla_patterns.attributes import instrumentation

    gone(_names.INSTRUMENTATION_FACTORY)
    instrumentation._keep_listeners()


def test_without_the_update_of_listeners_the_extension_can_be_used(gone: Gone) -> None:
    from sqla_patterns.attributes import instrumentation

    gone(_names.DISPATCH_UPDATE)
    instrumentation._keep_listeners()


def test_without_attribute_options_a_proxy_takes_none(gone: Gone) -> None:
    assert _sqlalchemy.attribute_options("pets", {"init": False}) is not None
    gone(_names.ATTRIBUTE_OPTIONS)
    assert _sqlalchemy.attribute_options("pets", {}) is None
    with pytest.raises(MappingError, match="cannot take init"):
        _sqlalchemy.attribute_options("pets", {"init": False})


# -- statements --------------------------------------------------------------------------------------------------------


def test_without_the_mark_of_the_orm_statements_are_about_tables(gone: Gone) -> None:
    assert _sqlalchemy.is_orm(update(Owner))
    gone(_names.PROPAGATE_ATTRS)
    assert not _sqlalchemy.is_orm(update(Owner))


def test_without_its_criteria_a_statement_is_not_restricted(gone: Gone) -> None:
    def criteria(source: Any) -> list[Any]:
        return [source.c.id > 5]

    statement = select(Owner).where(Owner.pets.any())
    assert "pet.id > " in str(_sqlalchemy.restrict_where(statement, criteria))
    gone(_names.WHERE_CRITERIA)
    assert _sqlalchemy.restrict_where(statement, criteria) is statement
    clause = Owner.pets.any()
    assert "pet.id > " not in str(_sqlalchemy.restrict_subqueries(clause, criteria))


def test_without_its_options_a_statement_has_none(gone: Gone) -> None:
    statement = select(Owner).options(selectinload(Owner.pets))
    assert len(_sqlalchemy.options_of(statement)) == 1
    gone(_names.WITH_OPTIONS)
    assert _sqlalchemy.options_of(statement) == ()


def test_without_the_clause_an_upsert_is_an_insert(gone: Gone) -> None:
    statement = sqlite.insert(Owner).values(id=1).on_conflict_do_update(index_elements=["id"], set_={"name": "x"})
    assert _sqlalchemy.is_upsert(statement)
    gone(_names.POST_VALUES_CLAUSE)
    assert not _sqlalchemy.is_upsert(statement)


def test_without_prefixes_a_replacing_insert_is_an_insert(gone: Gone) -> None:
    statement = insert(Owner).values(id=1).prefix_with("OR REPLACE")
    assert _sqlalchemy.is_upsert(statement)
    gone(_names.PREFIXES)
    assert not _sqlalchemy.is_upsert(statement)


def test_without_multiple_values_an_insert_has_one_row(gone: Gone) -> None:
    statement = insert(Owner).values([{"id": 1}, {"id": 2}])
    assert _sqlalchemy.inserted_rows(statement, None) == [{"id": 1}, {"id": 2}]
    gone(_names.MULTI_VALUES)
    assert _sqlalchemy.inserted_rows(statement, None) == [{}]


def test_without_values_a_statement_sets_what_its_parameters_say(gone: Gone) -> None:
    statement = update(Owner).values(name="x")
    assert _sqlalchemy.set_columns(statement, None) == {"name"}
    gone(_names.VALUES)
    assert _sqlalchemy.set_columns(statement, {"data": {}}) == {"data"}


def test_without_the_columns_of_a_select_all_count_as_given(gone: Gone) -> None:
    statement = insert(Owner).from_select(["name"], select(Owner.name))
    assert not _sqlalchemy.selects_any(statement, ["id"])
    gone(_names.SELECT_NAMES)
    assert _sqlalchemy.selects_any(statement, ["id"])


def test_without_the_order_of_values_more_can_still_be_set(gone: Gone) -> None:
    ordered = update(Owner).ordered_values((Owner.name, "x"))
    text = str(_sqlalchemy.with_values(ordered, inspect(Owner), {"id": 2}))
    assert text.startswith("UPDATE owner SET name=:name, id=:id")
    gone(_names.ORDERED_VALUES, _names.MAINTAIN_ORDER)
    text = str(_sqlalchemy.with_values(update(Owner).values(name="x"), inspect(Owner), {"id": 2}))
    assert "name=:name" in text
    assert "id=:id" in text


def test_without_the_removal_of_annotations_reading_the_past_of_such_criteria_is_refused(gone: Gone) -> None:
    gone(_names.DEANNOTATE)
    with pytest.raises(StateError, match="release of SQLAlchemy"):
        _sqlalchemy.unprotected(select(Owner))


REWRITING = (
    _names.COMPILE_STATE_FACTORY,
    _names.CREATE_FOR_STATEMENT,
    _names.PLUGIN_CLASS,
    _names.SELECT_STATE,
    _names.DISPLAY_FROMS,
    _names.COMPILER_STACK,
    _names.DEFAULT_COMPILE_OPTIONS,
    _names.SAFE_MERGE,
    _names.SET_BASE_ALIAS,
    _names.MULTI_ROW_LOADERS,
    _names.COMPILE_OPTIONS,
    _names.PREFIXES,
    _names.SUFFIXES,
    _names.RAW_COLUMNS,
    _names.FROM_OBJ,
    _names.SETUP_JOINS,
    _names.MEMOIZED_ENTITIES,
    _names.WHERE_CRITERIA,
    _names.HAVING_CRITERIA,
    _names.ORDER_BY_CLAUSES,
    _names.GROUP_BY_CLAUSES,
    _names.DISTINCT,
    _names.DISTINCT_ON,
    _names.ANNOTATIONS,
    _names.ALT_NAMES,
    _names.LABEL_REFERENCE,
    _names.TEXTUAL_LABEL_REFERENCE,
)


def test_what_rewriting_needs_is_taken_away_below() -> None:
    assert set(_names.NEEDED_TO_REWRITE) == set(REWRITING)


@pytest.mark.parametrize("missing", REWRITING, ids=str)
def test_without_one_of_its_names_no_statement_is_qualified(missing: PrivateName, gone: Gone) -> None:
    gone(missing)
    with pytest.raises(StateError, match=r"qualified\(\) cannot rewrite statements for this release of SQLAlchemy"):
        qualified(select(Owner), Owner.id == 1)


NEEDED_TO_DIVIDE = (
    _names.LIMIT,
    _names.OFFSET,
    _names.FETCH,
    _names.DISTINCT,
    _names.DISTINCT_ON,
    _names.ORDER_BY_CLAUSES,
    _names.GROUP_BY_CLAUSES,
    _names.HAVING_CRITERIA,
    _names.RAW_COLUMNS,
    _names.INDEPENDENT_CTES,
    _names.AUTO_CORRELATE,
    _names.CORRELATE,
    _names.CORRELATE_EXCEPT,
    _names.PROXY_SET,
    _names.CLONED_SET,
    _names.RESULT_METADATA,
    _names.RESULT_UNIQUE,
)


@pytest.mark.parametrize("name", NEEDED_TO_DIVIDE, ids=str)
def test_without_a_clause_statements_are_not_divided_between_shards(name: PrivateName, gone: Gone) -> None:
    assert _sqlalchemy.parts_of(select(Owner).limit(1)).limit is not None
    gone(name)
    with pytest.raises(StateError, match="cannot be divided"):
        _sqlalchemy.parts_of(select(Owner).limit(1))


def test_without_cache_keys_each_statement_is_analysed(gone: Gone) -> None:
    assert _sqlalchemy.form_of(select(Owner)) is not None
    gone(_names.CACHE_KEY)
    assert _sqlalchemy.form_of(select(Owner)) is None


def test_without_load_options_inserted_objects_are_not_marked(gone: Gone) -> None:
    assert list(_sqlalchemy.options_of_shard("asia")) == ["_sa_orm_load_options"]
    gone(_names.LOAD_OPTIONS)
    assert _sqlalchemy.options_of_shard("asia") == {}


# -- sessions over shards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [_names.NEW_OBJECTS, _names.DELETED_OBJECTS, _names.MODIFIED_OBJECTS], ids=str)
def test_without_what_is_pending_a_flush_is_not_divided(name: PrivateName, session: Session, gone: Gone) -> None:
    assert _sqlalchemy.can_hide(session)
    gone(name)
    assert not _sqlalchemy.can_hide(session)


def test_without_its_answer_no_session_is_clean(session: Session, gone: Gone) -> None:
    assert _sqlalchemy.is_clean(session)
    gone(_names.IS_CLEAN)
    assert not _sqlalchemy.is_clean(session)


def test_without_its_connections_a_transaction_keeps_them(session: Session, gone: Gone) -> None:
    connection = session.connection()
    transaction = session.get_transaction()
    assert transaction is not None
    gone(_names.CONNECTIONS)
    _sqlalchemy.release(transaction, connection)
    assert not connection.closed


# -- engines and results -----------------------------------------------------------------------------------------------

CACHING = (_names.ISOLATION_ON_CONNECT, _names.PROXIED_ENGINE, _names.RESULT_ATTRIBUTES)


def test_without_the_level_on_connect_a_dialect_tells_none(gone: Gone) -> None:
    engine = create_engine("sqlite://", isolation_level="AUTOCOMMIT")
    assert _names.ISOLATION_ON_CONNECT.get(engine.dialect) == "AUTOCOMMIT"
    gone(_names.ISOLATION_ON_CONNECT)
    assert _names.ISOLATION_ON_CONNECT.get(engine.dialect) is None


def test_without_the_way_back_an_engine_stands_for_itself(gone: Gone) -> None:
    engine = create_engine("sqlite://")
    derived = engine.execution_options(x=1)
    assert _names.PROXIED_ENGINE.get(derived) is engine
    gone(_names.PROXIED_ENGINE)
    assert _names.PROXIED_ENGINE.get(derived) is None


def test_without_attributes_a_result_needs_no_unique(session: Session, gone: Gone) -> None:
    result = session.execute(select(Owner))
    assert _names.RESULT_ATTRIBUTES.get(result) is not None
    gone(_names.RESULT_ATTRIBUTES)
    assert _names.RESULT_ATTRIBUTES.get(result, {}) == {}


def test_without_the_overflow_a_pool_counts_by_its_size(gone: Gone) -> None:
    pool = QueuePool(lambda: None, pool_size=3, max_overflow=4)
    assert _sqlalchemy.capacity(pool) == 7
    gone(_names.MAX_OVERFLOW)
    assert _sqlalchemy.capacity(pool) == 3
    assert _sqlalchemy.has_room(pool)
    assert _sqlalchemy.unused_connections(pool, 9) == 3


# -- what replaying needs ----------------------------------------------------------------------------------------------


def test_replaying_finds_all_that_it_needs() -> None:
    assert _probe.probe() is None
