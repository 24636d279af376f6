"""What outlives one statement: held objects, statements that are executed twice, contexts, threads, listeners."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, String, bindparam, create_engine, event, func, lambda_stmt, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    lazyload,
    make_transient_to_detached,
    mapped_column,
    scoped_session,
    selectinload,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from sqla_patterns.criteria import (
    GlobalCriteria,
    SoftDelete,
    TenantChangedError,
    TenantNotSetError,
    TenantViolationError,
    all_tenants,
    soft_unique,
    tenant_scope,
)
from sqla_patterns.exceptions import InvalidArgumentError, MappingError

from ._outsider import FOREIGN, OWN, create, fill, make_models
from .conftest import StatementWatch

MINE = [1, 2, 3, 4]
THEIRS = [101, 102, 103, 104]


@pytest.fixture(scope="module")
def models() -> SimpleNamespace:
    return make_models("tenant")


@pytest.fixture
def engine(models: SimpleNamespace) -> Iterator[Engine]:
    made = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    create(models, made)
    fill(models, made, hidden=True)
    yield made
    made.dispose()


def ids(session: Session, statement: Any) -> list[Any]:
    return sorted(session.scalars(statement).unique().all())


# -- one statement for two tenants ---------------------------------------------------------------


def statements(m: SimpleNamespace) -> dict[str, Any]:
    cte = select(m.Post.id).cte()
    post = m.Post
    return {
        "select": select(m.Post.id),
        "with a parameter": select(m.Post.id).where(m.Post.id > bindparam("least", 0)),
        "cte": select(cte.c.id),
        "subquery": select(select(m.Post.id).subquery().c.id),
        "lambda": lambda_stmt(lambda: select(post.id)),
        "union": select(m.Post.id).union(select(m.Post.id)),
        "exists": select(m.Shop.id).where(m.Shop.posts.any(m.Post.author_id == 3)),
        "function": func.max(m.Post.id),
        "update": update(m.Post).values(score=0).returning(m.Post.id),
    }


@pytest.mark.parametrize("built", ["outside", "for another tenant", "within all_tenants()"])
@pytest.mark.parametrize("form", list(statements(make_models("tenant"))))
def test_a_statement_serves_each_tenant_in_turn(models: SimpleNamespace, engine: Engine, form: str, built: str) -> None:
    scopes = {"outside": None, "for another tenant": tenant_scope(FOREIGN), "within all_tenants()": all_tenants()}
    scope = scopes[built]
    if scope is None:
        statement = statements(models)[form]
    else:
        with scope, Session(engine) as session:
            statement = statements(models)[form]
            session.execute(statement).all()
            session.rollback()
    expected: dict[str, Any] = {OWN: MINE, FOREIGN: THEIRS}
    if form == "exists":
        expected = {OWN: [], FOREIGN: [1]}
    elif form == "function":
        expected = {OWN: [4], FOREIGN: [104]}
    for tenant in (OWN, FOREIGN, OWN, FOREIGN):
        with tenant_scope(tenant), Session(engine) as session:
            assert ids(session, statement) == expected[tenant]
            session.rollback()
    with Session(engine) as session, pytest.raises(TenantNotSetError):
        session.execute(statement)


def test_a_statement_that_a_listener_has_kept_serves_the_next_tenant(models: SimpleNamespace, engine: Engine) -> None:
    kept: list[Any] = []
    maker = sessionmaker(engine)
    event.listen(maker, "do_orm_execute", lambda state: kept.append(state.statement))
    with tenant_scope(FOREIGN), maker() as session:
        session.scalars(select(models.Post.id)).all()
    with tenant_scope(OWN), Session(engine) as session:
        assert ids(session, kept[0]) == MINE


@pytest.mark.parametrize("insert", [True, False])
@pytest.mark.parametrize("invoke", [True, False])
def test_a_listener_that_changes_the_statement_does_not_lose_the_tenant(
    models: SimpleNamespace, engine: Engine, insert: bool, invoke: bool
) -> None:
    def change(state: Any) -> Any:
        if invoke:
            return state.invoke_statement(statement=state.statement.order_by(models.Post.score))
        state.statement = state.statement.where(models.Post.id > 1)
        return None

    maker = sessionmaker(engine)
    event.listen(maker, "do_orm_execute", change, insert=insert)
    with tenant_scope(OWN), maker() as session:
        assert ids(session, select(models.Post.id)) == (MINE if invoke else MINE[1:])


@pytest.mark.parametrize("insert", [True, False])
def test_a_listener_that_executes_another_statement_in_the_session_does_so_for_the_tenant(
    models: SimpleNamespace, engine: Engine, insert: bool
) -> None:
    found: list[int] = []

    def look(state: Any) -> None:
        if not found:
            found.append(0)
            found.extend(state.session.scalars(select(models.Author.id)))

    maker = sessionmaker(engine)
    event.listen(maker, "do_orm_execute", look, insert=insert)
    with tenant_scope(OWN), maker() as session:
        assert ids(session, select(models.Post.id)) == MINE
    assert sorted(found) == [0, 1, 2, 3]


def test_a_listener_that_puts_another_statement_in_the_place_of_this_one_is_not_seen(
    models: SimpleNamespace, engine: Engine, statement_watch: StatementWatch
) -> None:
    # Documented: nothing is called after the listeners of the application.
    maker = sessionmaker(engine)
    event.listen(maker, "do_orm_execute", lambda state: setattr(state, "statement", select(models.Author.id)))
    with tenant_scope(OWN), maker() as session:
        assert 101 in ids(session, select(models.Post.id))
    assert len(statement_watch.faults) == 1
    statement_watch.faults.clear()


def test_a_query_that_was_built_for_another_tenant(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(FOREIGN):
        theirs = Session(engine)
        query = theirs.query(models.Post)
        assert query.count() == 4
    with tenant_scope(OWN), pytest.raises(TenantChangedError):
        query.all()
    with tenant_scope(OWN), Session(engine) as session:
        assert [each.id for each in query.with_session(session).order_by(models.Post.id)] == MINE
    theirs.close()


# -- a session that has served another -----------------------------------------------------------


@pytest.fixture
def mixed(models: SimpleNamespace, engine: Engine) -> Iterator[Session]:
    """Yield a session that holds objects of all tenants and serves one."""
    session = Session(engine, expire_on_commit=False)
    with all_tenants():
        session.info["held"] = session.scalars(select(models.Post)).all()
        session.info["authors"] = session.scalars(select(models.Author)).unique().all()
    with tenant_scope(OWN):
        assert session.scalar(select(func.count(models.Post.id))) == 4
        yield session
    session.close()


def test_get_returns_no_held_object_of_another(models: SimpleNamespace, mixed: Session) -> None:
    assert mixed.get(models.Post, 101) is None
    assert mixed.get(models.Post, 101, with_for_update=True) is None
    assert mixed.get(models.Post, 101, populate_existing=True) is None
    assert mixed.get(models.Post, 101, identity_token=None) is None
    assert [each for each in (mixed.get(models.Membership, key) for key in ((1, 2), (3, 1))) if each] == []


def test_many_to_one_returns_no_held_object_of_another(models: SimpleNamespace, mixed: Session) -> None:
    stray = mixed.get(models.Post, 4)
    assert stray is not None
    assert stray.author is None
    assert mixed.scalars(select(models.Post).where(models.Post.id == 4).options(lazyload("*"))).one().author is None


def test_merge_does_not_find_a_held_object_of_another(models: SimpleNamespace, mixed: Session) -> None:
    merged = mixed.merge(models.Post(id=101, title="taken"))
    assert merged.title == "taken"
    assert merged in mixed.new  # and its INSERT meets a key that is taken
    mixed.expunge(merged)


def test_a_held_object_of_another_is_not_changed(mixed: Session) -> None:
    theirs = next(each for each in mixed.info["held"] if each.id == 101)
    theirs.title = "taken"
    with pytest.raises(TenantViolationError):
        mixed.flush()
    mixed.rollback()


@pytest.mark.parametrize("way", ["refresh", "expire", "lazy", "delete"])
def test_a_held_object_of_another_is_not_completed(mixed: Session, way: str) -> None:
    theirs = next(each for each in mixed.info["held"] if each.id == 101)
    with pytest.raises(Exception) as error:  # noqa: PT011 - of SQLAlchemy's or ours, compared below
        if way == "refresh":
            mixed.refresh(theirs)
        elif way == "expire":
            mixed.expire(theirs)
            assert theirs.title
        elif way == "lazy":
            author = next(each for each in mixed.info["authors"] if each.id == 101)
            assert [each.id for each in author.posts] == [4]
            raise LookupError
        else:
            mixed.delete(theirs)
            mixed.flush()
    names = {"refresh": "InvalidRequestError", "expire": "ObjectDeletedError", "lazy": "LookupError"}
    assert type(error.value).__name__ == names.get(way, "TenantViolationError")
    mixed.rollback()


def test_a_collection_that_was_loaded_for_all_is_loaded_again_for_one(models: SimpleNamespace, engine: Engine) -> None:
    with Session(engine) as session:
        with all_tenants():
            author = session.scalars(
                select(models.Author).where(models.Author.id == 1).options(selectinload(models.Author.posts))
            ).one()
            assert [each.id for each in author.posts] == [1, 2, 101]
        with tenant_scope(OWN):
            session.expire(author, ["posts"])
            assert [each.id for each in author.posts] == [1, 2]


def test_a_key_of_another_is_not_taken_over(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(OWN), Session(engine) as session:
        post = session.get(models.Post, 1)
        assert post is not None
        post.id = 101  # a change of the key, onto a row of another tenant
        with pytest.raises(Exception) as error:  # noqa: PT011 - compared below
            session.flush()
        assert type(error.value).__name__ == "IntegrityError"


# -- contexts ------------------------------------------------------------------------------------


def test_a_result_that_is_read_in_another_scope_is_that_of_its_statement(
    models: SimpleNamespace, engine: Engine
) -> None:
    with tenant_scope(OWN), Session(engine) as session:
        rows = session.scalars(select(models.Post).execution_options(yield_per=1))
        first = next(rows)
        with tenant_scope(FOREIGN):
            assert sorted([first.id, *(each.id for each in rows)]) == MINE
            with pytest.raises(TenantChangedError):
                session.scalars(select(models.Post.id))


def test_a_generator_that_stays_open_does_not_take_its_scope_along(models: SimpleNamespace, engine: Engine) -> None:
    def theirs() -> Iterator[int]:
        with tenant_scope(FOREIGN), Session(engine) as session:
            yield from ids(session, select(models.Post.id))

    generator = theirs()
    with tenant_scope(OWN):
        assert next(generator) == 101
        # A generator runs in the context of its caller, so its scope is open here: other rows, never mixed ones.
        with Session(engine) as session:
            assert ids(session, select(models.Post.id)) == THEIRS
        generator.close()
    with Session(engine) as session, pytest.raises(TenantNotSetError):
        session.scalars(select(models.Post.id))


def test_a_session_that_threads_share_serves_one_tenant(models: SimpleNamespace, engine: Engine) -> None:
    session = Session(engine)
    with tenant_scope(OWN):
        assert ids(session, select(models.Post.id)) == MINE
    with tenant_scope(FOREIGN), ThreadPoolExecutor(1) as pool:
        with pytest.raises(TenantChangedError):
            pool.submit(copy_context().run, ids, session, select(models.Post.id)).result()
        with pytest.raises(TenantNotSetError):
            pool.submit(ids, session, select(models.Post.id)).result()
    session.close()


def test_a_scoped_session_does_not_carry_a_tenant_from_one_scope_to_another(
    models: SimpleNamespace, engine: Engine
) -> None:
    registry = scoped_session(sessionmaker(engine))
    with tenant_scope(OWN):
        assert registry.scalar(select(func.count(models.Post.id))) == 4
    with tenant_scope(FOREIGN), pytest.raises(TenantChangedError):
        registry.scalar(select(func.count(models.Post.id)))
    registry.remove()
    with tenant_scope(FOREIGN):
        assert sorted(registry.scalars(select(models.Post.id))) == THEIRS
    registry.remove()


def test_nested_sessions_serve_a_tenant_each(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(OWN), Session(engine) as outer:
        assert ids(outer, select(models.Post.id)) == MINE
        with tenant_scope(FOREIGN), Session(engine) as inner:
            assert ids(inner, select(models.Post.id)) == THEIRS
        assert ids(outer, select(models.Post.id)) == MINE


def test_a_savepoint_and_its_rollback_keep_the_tenant(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(OWN), Session(engine) as session:
        nested = session.begin_nested()
        assert ids(session, select(models.Post.id)) == MINE
        nested.rollback()
        with tenant_scope(FOREIGN), pytest.raises(TenantChangedError):
            session.scalars(select(models.Post.id))
        assert ids(session, select(models.Post.id)) == MINE


def test_an_object_of_another_that_is_added_is_not_completed(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(FOREIGN), Session(engine) as session:
        theirs = session.get(models.Author, 101)
        assert theirs is not None
        session.expunge(theirs)
    with tenant_scope(OWN), Session(engine) as session:
        session.add(theirs)
        session.expire(theirs, ["name"])
        with pytest.raises(Exception) as error:  # noqa: PT011 - compared below
            assert theirs.name
        assert type(error.value).__name__ == "ObjectDeletedError"


def test_objects_of_two_tenants_are_not_joined(models: SimpleNamespace, engine: Engine) -> None:
    with all_tenants(), Session(engine) as session:
        mine, theirs = session.get_one(models.Post, 1), session.get_one(models.Author, 101)
        mine.author = theirs
        with pytest.raises(TenantViolationError):
            session.flush()
        session.rollback()
        tag = session.get_one(models.Tag, 101)
        session.get_one(models.Post, 1).tags.append(tag)
        with pytest.raises(TenantViolationError):
            session.flush()


def test_deleting_takes_no_children_of_another_along(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(OWN), Session(engine) as session:
        session.delete(session.get_one(models.Author, 1))
        session.commit()
    with engine.connect() as connection:
        rows = connection.execute(text("select id, author_id from tenant_post order by id")).all()
    assert dict(map(tuple, rows))[101] == 1  # still refers to the author, as a foreign key would not let it
    assert dict(map(tuple, rows))[1] is None


def test_an_object_that_was_detached_by_hand_loads_nothing_of_another(models: SimpleNamespace, engine: Engine) -> None:
    with tenant_scope(OWN), Session(engine) as session:
        theirs = models.Author(id=101, tenant_id=OWN)
        make_transient_to_detached(theirs)
        session.add(theirs)
        assert [each.id for each in theirs.posts] == [4]  # mine, which refers to it


def test_threads_and_statements_of_all_forms_at_once(models: SimpleNamespace, engine: Engine, tmp_path: Any) -> None:
    shared = create_engine(f"sqlite:///{tmp_path / 'shared.db'}")
    create(models, shared)
    fill(models, shared, hidden=True)
    forms = {name: each for name, each in statements(models).items() if name not in ("update", "exists", "function")}
    wrong: list[object] = []
    start = threading.Barrier(4)

    def work(tenant: str) -> None:
        start.wait()
        for _ in range(25):
            for name, statement in forms.items():
                with tenant_scope(tenant), Session(shared) as session:
                    found = ids(session, statement)
                    if found != (MINE if tenant == OWN else THEIRS):
                        wrong.append((tenant, name, found))

    threads = [threading.Thread(target=work, args=(tenant,)) for tenant in (OWN, FOREIGN) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    shared.dispose()
    assert wrong == []


async def test_async_sessions_and_their_streams(models: SimpleNamespace, tmp_path: Any) -> None:
    plain = create_engine(f"sqlite:///{tmp_path / 'async.db'}")
    create(models, plain)
    fill(models, plain, hidden=True)
    plain.dispose()
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
    async with AsyncSession(engine) as session:
        with tenant_scope(OWN):
            assert await session.scalar(func.count(models.Post.id)) == 4
            streamed = await session.stream_scalars(select(models.Post.id).order_by(models.Post.id))
            assert [each async for each in streamed] == MINE
            assert await session.get(models.Post, 101) is None
            author = (await session.scalars(select(models.Author).where(models.Author.id == 1))).unique().one()
            posts = await session.run_sync(lambda _: [each.id for each in author.posts])
            assert posts == [1, 2]
        with tenant_scope(FOREIGN), pytest.raises(TenantChangedError):
            await session.stream(select(models.Post.id))
    await engine.dispose()


@pytest.mark.parametrize("mixin", [int, str, object, datetime, dict])
def test_global_criteria_refuse_types_below_which_nothing_is_mapped(mixin: type[Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="pass a mixin or a base"):
        GlobalCriteria(mixin, lambda cls: true(), option="include_them")


def test_soft_unique_names_the_columns_that_there_are() -> None:
    class Base(DeclarativeBase):
        pass

    with pytest.raises(MappingError, match="'slug', which is no column of 'page'; pass names of columns: id, label"):

        class Page(SoftDelete, Base):
            __tablename__ = "page"
            __table_args__ = (soft_unique("slug"),)
            id: Mapped[int] = mapped_column(primary_key=True)
            slug: Mapped[str] = mapped_column("label")


@pytest.mark.parametrize("flushed", ["new", "dirty"])
def test_a_value_that_reads_nothing_hidden_is_flushed(models: SimpleNamespace, engine: Engine, flushed: str) -> None:
    with tenant_scope(OWN), Session(engine) as session:
        shop = models.Shop(id=60) if flushed == "new" else session.get_one(models.Shop, 1)
        session.add(shop)
        shop.name = func.upper("open") + select(func.max(models.post_tag.c.tag_id)).scalar_subquery().cast(String)
        session.commit()
        assert shop.name == "OPEN101"
