"""Ways around the criteria: what is not the ORM's, at every depth, and texts.

A statement that would show a hidden row is filtered or refused; a test fails where it is executed and shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, Select, exists, func, insert, literal_column, select, text, union_all, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, aliased, joinedload, make_transient_to_detached, selectinload, with_loader_criteria
from sqlalchemy.sql.functions import FunctionElement

from sqla_patterns.criteria import TenantViolationError, UnfilteredStatementError, all_tenants
from sqla_patterns.exceptions import PatternError
from tests._support import count_statements
from tests.conftest import BaseFactory

from ._models import HIDERS, THEIRS, Blog, Hider, fill, map_blog, reading

DELETED, PRIVATE, TENANT = (
    next(each for each in HIDERS if each.name == name) for name in ("deleted", "private", "tenant")
)


class Opaque(FunctionElement[bool]):
    """A construct of the user's that renders an OR without parentheses."""

    inherit_cache = True
    type = sa.Boolean()


@compiles(Opaque)
def _render(element: Opaque, compiler: Any, **kw: Any) -> str:
    return "1=1 OR 1=1"


Smuggle: TypeAlias = Callable[[Blog], Any]


def table(b: Blog) -> Any:
    return b.post.__table__


#: Spellings of a Core table, as a condition on authors, by what it says.
CONDITIONS: dict[str, Smuggle] = {
    "exists of a table": lambda b: exists().where(table(b).c.author_id == b.author.id),
    "exists of an alias": lambda b: exists().where(table(b).alias().c.author_id == b.author.id),
    "in a select of a column": lambda b: b.author.id.in_(select(table(b).c.author_id)),
    "in a select of an alias": lambda b: b.author.id.in_(select(table(b).alias("x").c.author_id)),
    "scalar subquery": lambda b: (
        select(func.count()).select_from(table(b)).where(table(b).c.author_id == b.author.id).scalar_subquery() > 0
    ),
    "in a CTE": lambda b: b.author.id.in_(select(select(table(b)).cte().c.author_id)),
    "in a subquery": lambda b: b.author.id.in_(select(select(table(b)).subquery().c.author_id)),
    "in a union": lambda b: b.author.id.in_(union_all(select(table(b).c.author_id), select(table(b).c.author_id))),
    "select of an alias of a select": lambda b: exists(select(table(b).alias("y"))).where(
        select(table(b).c.id).where(table(b).c.author_id == b.author.id).exists()
    ),
    "lateral": lambda b: b.author.id.in_(select(select(table(b).c.author_id).lateral().c.author_id)),
    "tablesample": lambda b: b.author.id.in_(select(sa.tablesample(table(b), 100).c.author_id)),
}
#: Where it stands.
POSITIONS: dict[str, Callable[[Blog, Any], Select[Any]]] = {
    "where": lambda b, condition: select(b.author.id).where(condition),
    "not": lambda b, condition: select(b.author.id).where(~sa.not_(condition)),
    "or": lambda b, condition: select(b.author.id).where(sa.or_(b.author.id == 99, condition)),
    "case": lambda b, condition: select(sa.case((condition, b.author.id), else_=0)),
    "order by": lambda b, condition: select(b.author.id).where(condition).order_by(sa.case((condition, 1), else_=0)),
    "on": lambda b, condition: select(b.author.id).join(aliased(b.author), condition, isouter=False).distinct(),
    "exists": lambda b, condition: select(b.author.id).where(select(aliased(b.author).id).where(condition).exists()),
    "subquery": lambda b, condition: select(select(b.author.id).where(condition).subquery().c.id),
    "cte": lambda b, condition: select(select(b.author.id).where(condition).cte().c.id),
    "union": lambda b, condition: union_all(
        select(b.author.id).where(condition), select(b.author.id).where(sa.false())
    ),
    "having": lambda b, condition: select(b.author.id).group_by(b.author.id).having(condition),
}
#: Statements that are a smuggler as a whole, and name what is hidden; each selects authors or posts.
STATEMENTS: dict[str, Smuggle] = {
    "join of a table": lambda b: select(b.author.id).join(table(b), table(b).c.author_id == b.author.id),
    "join of an alias": lambda b: select(b.author.id).join(p := table(b).alias(), p.c.author_id == b.author.id),
    "outer join of a table": lambda b: select(b.author.id).outerjoin(table(b)).where(table(b).c.id > 0),
    "second FROM": lambda b: select(b.author.id).where(table(b).c.author_id == b.author.id),
    "select_from of a join": lambda b: select(b.author.id).select_from(
        sa.join(b.author.__table__, table(b), table(b).c.author_id == b.author.__table__.c.id)
    ),
    "column beside an entity": lambda b: select(b.author.id, table(b).c.id).where(table(b).c.author_id == b.author.id),
    "alias beside its entity": lambda b: (
        select(b.post.author_id).join(p := table(b).alias(), p.c.id > 0).with_only_columns(p.c.author_id)
    ),
    "from_statement of a Core select": lambda b: select(b.post).from_statement(select(table(b))),
    "from_statement of a Core union": lambda b: select(b.post).from_statement(
        union_all(select(table(b)), select(table(b)))
    ),
    "alias of a Core subquery": lambda b: select(aliased(b.post, select(table(b)).subquery())),
    "alias of a forged subquery": lambda b: select(
        aliased(
            b.post,
            select(
                *(c for c in table(b).c if c.name not in b.hider.shown),
                *(sa.literal(value, table(b).c[name].type).label(name) for name, value in b.hider.shown.items()),
            ).subquery(),
            adapt_on_names=True,
        )
    ),
    "full join": lambda b: (
        select(b.post.author_id).select_from(b.author).join(b.post, b.post.author_id == -1, full=True)
    ),
    "aggregate over a table": lambda b: (
        select(b.author.id)
        .where(b.author.id <= select(func.max(table(b).c.author_id)).scalar_subquery())
        .where(b.author.id == 2)
    ),
}


def _run(session: Session, statement: Any) -> list[Any] | str:
    """Return the keys that a statement shows, or the name of the error with which the library refuses it."""
    try:
        found = session.execute(statement).all()
    except PatternError as error:
        return type(error).__name__
    keys = [getattr(row[0], "author_id", row[0]) for row in found]
    return sorted(key for key in keys if key)


def _without_hidden_rows(blog: Blog) -> Engine:
    engine = _engine(blog)
    column = next(iter(blog.hider.hidden))
    with engine.begin() as connection:
        for cls in (blog.comment, blog.post, blog.tag):
            connection.execute(sa.delete(cls.__table__).where(cls.__table__.c[column] == blog.hider.hidden[column]))
    return engine


def _expected(setting: Setting, statement: Any) -> list[Any] | str:
    """Return what the statement shows where nothing is hidden, since the hidden rows were removed."""
    with reading(setting.clean, setting.blog) as session:
        return _run(session, statement.execution_options(**{setting.blog.hider.option: True}))


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_core_table_at_any_depth_shows_nothing(
    condition: str, position: str, hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog, engine = setting.blog, setting.engine
    statement = POSITIONS[position](blog, CONDITIONS[condition](blog))
    if condition in {"lateral", "tablesample"}:
        pytest_compiles_only(engine, blog, statement)
        return
    with reading(engine, blog) as session:
        found = _run(session, statement)
    if hider.strict:
        assert found == "TenantViolationError"
    else:
        assert found in ("UnfilteredStatementError", _expected(setting, statement))


def pytest_compiles_only(engine: Engine, blog: Blog, statement: Any) -> None:
    """Where SQLite has no such clause: whatever happens, no row is returned."""
    with reading(engine, blog) as session, pytest.raises(SQLAlchemyError):
        session.execute(statement).all()


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_with_a_core_table_shows_nothing(
    name: str, hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog = setting.blog
    statement = STATEMENTS[name](blog)
    with reading(setting.engine, blog) as session:
        found = _run(session, statement)
    if hider.strict:
        assert found == "TenantViolationError"
    else:
        assert found in ("UnfilteredStatementError", _expected(setting, statement))


def _engine(blog: Blog) -> Engine:
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    fill(engine, blog)
    return engine


@dataclass(frozen=True)
class Setting:
    """A blog in a database that every test leaves as it was."""

    blog: Blog
    engine: Engine
    #: The same without the rows that are hidden.
    clean: Engine


@pytest.fixture(scope="module")
def settings() -> Generator[Callable[[Hider], Setting], None, None]:
    made: dict[str, Setting] = {}
    factory = BaseFactory("plain")

    def setting(hider: Hider) -> Setting:
        if hider.name not in made:
            blog = map_blog(factory(), hider)
            made[hider.name] = Setting(blog, _engine(blog), _without_hidden_rows(blog))
        return made[hider.name]

    yield setting
    for each in made.values():
        each.engine.dispose()
        each.clean.dispose()
    factory.dispose()


# -- texts ---------------------------------------------------------------------------------------

#: Texts that are a part of a condition, and that get around a criterion that is ANDed after them.
ORS: dict[str, Smuggle] = {
    "text": lambda b: text("1=1 OR 1=1"),
    "literal_column": lambda b: literal_column("1=1 OR 1=1"),
    "operator with a precedence": lambda b: b.post.id.op("or", precedence=100, is_comparison=True)(1),
    "operator deeper": lambda b: b.post.title == b.post.title.op("or", precedence=100, is_comparison=True)("x"),
    "construct of the user's": lambda b: Opaque(),
    "text in and_()": lambda b: sa.and_(b.post.id > 0, text("1=1 OR 1=1")),
    "text in a function": lambda b: func.coalesce(text("1 OR 1"), 1) == 1,
}
OR_POSITIONS: dict[str, Callable[[Blog, Any], Any]] = {
    "where": lambda b, condition: select(b.post.author_id).where(condition),
    "before another": lambda b, condition: select(b.post.author_id).where(condition).where(b.post.id > 0),
    "on": lambda b, condition: select(b.author.id).join(b.post, sa.and_(b.post.author_id == b.author.id, condition)),
    "on as it is": lambda b, condition: (
        select(b.post.author_id).select_from(b.author).join(b.post, condition).where(b.post.author_id == b.author.id)
    ),
    "any()": lambda b, condition: select(b.author.id).where(b.author.posts.any(condition)),
    "exists": lambda b, condition: select(b.author.id).where(
        exists().where(b.post.author_id == b.author.id, condition).correlate(b.author)
    ),
    "subquery": lambda b, condition: select(select(b.post.author_id).where(condition).subquery().c.author_id),
    "from_statement": lambda b, condition: select(b.post).from_statement(select(b.post).where(condition)),
}


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize("position", OR_POSITIONS)
@pytest.mark.parametrize("condition", ORS)
def test_an_or_in_a_text_does_not_come_out_on_top(
    condition: str, position: str, hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog = setting.blog
    with reading(setting.engine, blog) as session:
        found = _run(session, OR_POSITIONS[position](blog, ORS[condition](blog)))
    assert isinstance(found, str) or 2 not in found  # the author of hidden posts only


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize(
    "written", ["1=1) OR (1=1", "1=1 -- ", "1=1 /* ", "1=1; SELECT 1", "'a", "1=1 OR 'x\\' = '", "$$a"]
)
def test_a_text_that_parentheses_do_not_enclose_is_refused(
    written: str, hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog = setting.blog
    with reading(setting.engine, blog) as session, pytest.raises((UnfilteredStatementError, TenantViolationError)):
        session.execute(select(blog.post).where(text(written.replace(":", "\\:"))))


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize("option", [joinedload, selectinload])
def test_a_text_in_a_loader_option_does_not_come_out_on_top(
    option: Callable[[Any], Any], hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog = setting.blog
    statement = select(blog.author).options(option(blog.author.posts.and_(literal_column("1=1 OR 1=1"))))
    with reading(setting.engine, blog) as session:
        try:
            found = [post.id for author in session.scalars(statement).unique() for post in author.posts]
        except PatternError:
            found = []
    assert not {2, 4} & set(found)


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
def test_a_text_in_criteria_of_the_users_does_not_come_out_on_top(
    hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog = setting.blog
    statement = select(blog.post).options(with_loader_criteria(blog.post, literal_column("1=1 OR 1=1", sa.Boolean)))
    with reading(setting.engine, blog) as session:
        try:
            found = [post.id for post in session.scalars(statement)]
        except PatternError:
            found = []
    assert not {2, 4} & set(found)


#: Texts that name a table of tenants.
NAMED: dict[str, Smuggle] = {
    "text": lambda b: text("SELECT id FROM crit_post"),
    "quoted": lambda b: text('SELECT id FROM "crit_post"'),
    "in capitals": lambda b: text("SELECT id FROM CRIT_POST"),
    "behind a tab": lambda b: text("SELECT id FROM\tcrit_post"),
    "in backquotes": lambda b: text("SELECT id FROM `crit_post`"),
    "in brackets": lambda b: text("SELECT id FROM [crit_post]"),
    "with a schema": lambda b: text("SELECT id FROM main.crit_post"),
    "after a comment": lambda b: text("SELECT id FROM/**/crit_post"),
    "in an executable comment": lambda b: text("SELECT 1 /*! UNION SELECT id FROM crit_post */"),
    "as a Unicode identifier": lambda b: text('SELECT id FROM U&"crit\\005fpost"'),
    "columns of a text": lambda b: text("SELECT id FROM crit_post").columns(b.post.id),
    "subquery of a text": lambda b: select(text("SELECT id FROM crit_post").columns(b.author.id).subquery()),
    "CTE of a text": lambda b: select(text("SELECT id FROM crit_post").columns(b.author.id).cte()),
    "literal_column": lambda b: select(literal_column("(SELECT count(*) FROM crit_post)")),
    "literal_column beside an entity": lambda b: select(
        b.author.id, literal_column("(SELECT count(*) FROM crit_post)")
    ),
    "in (text)": lambda b: select(b.author.id).where(b.author.id.in_(text("SELECT author_id FROM crit_post"))),
    "where": lambda b: select(b.author.id).where(text("EXISTS (SELECT 1 FROM crit_post)")),
    "order by": lambda b: select(b.author.id).order_by(text("(SELECT count(*) FROM crit_post)")),
    "group by": lambda b: select(b.author.id).group_by(text("(SELECT count(*) FROM crit_post)")),
    "having": lambda b: select(func.count(b.author.id)).having(text("(SELECT count(*) FROM crit_post) > 0")),
    "limit": lambda b: select(b.author.id).limit(literal_column("(SELECT count(*) FROM crit_post)")),
    "select_from": lambda b: select(literal_column("id")).select_from(text("crit_post")),
    "prefix": lambda b: select(b.author.id).prefix_with("id FROM crit_post UNION SELECT"),
    "suffix": lambda b: select(b.author.id).suffix_with("UNION SELECT id FROM crit_post"),
    "hint": lambda b: select(b.author.id).with_statement_hint("UNION SELECT id FROM crit_post"),
    "lightweight table": lambda b: select(sa.table("crit_post", sa.column("id"))),
    "lightweight table in capitals": lambda b: select(sa.table("CRIT_POST", sa.column("id"))),
    "lightweight table in exists": lambda b: select(b.author.id).where(
        exists().where(sa.table("crit_post", sa.column("author_id")).c.author_id == b.author.id)
    ),
    "table of another MetaData": lambda b: select(sa.Table("crit_post", sa.MetaData(), sa.Column("id", sa.Integer))),
    "function of a name": lambda b: select(func.crit_post()),
    "update": lambda b: text("UPDATE crit_post SET score = 1"),
    "insert": lambda b: text("INSERT INTO crit_post (id) VALUES (99)"),
    "lightweight update": lambda b: update(sa.table("crit_post", sa.column("score"))).values(score=1),
    "lightweight insert": lambda b: insert(sa.table("crit_post", sa.column("id"))).values(id=99),
    "lightweight delete": lambda b: sa.delete(sa.table("crit_post", sa.column("id"))),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_names_a_table_of_tenants_is_refused_before_any_sql(
    name: str, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(TENANT)
    blog, engine = setting.blog, setting.engine
    with reading(engine, blog) as session, count_statements(engine) as log, pytest.raises(TenantViolationError):
        session.execute(NAMED[name](blog))
    assert log == []


#: Parts of a statement that are put in as they are written.
PIECES: dict[str, Smuggle] = {
    "suffix": lambda b: select(b.post.id).suffix_with("OR 1=1"),
    "suffix of one word": lambda b: select(b.post.id).suffix_with("x"),
    "statement hint": lambda b: select(b.post.id).with_statement_hint("OR 1=1"),
    "hint of a table": lambda b: select(b.post.id).with_hint(b.post, "WHERE 1=1 UNION SELECT 1 --", "sqlite"),
    "prefix": lambda b: select(b.post.id).prefix_with("1 UNION SELECT"),
    "prefix of an insert": lambda b: insert(b.post).values(id=2).prefix_with("OR REPLACE"),
    "prefix of an update": lambda b: update(b.post).values(score=0).prefix_with("OR REPLACE"),
    "executable comment": lambda b: select(b.post.id).prefix_with("/*! 1 UNION SELECT */"),
    "suffix of a subquery": lambda b: select(b.author.id).where(
        b.author.id.in_(select(b.post.author_id).suffix_with("OR 1=1"))
    ),
}


@pytest.mark.parametrize("name", PIECES)
def test_a_prefix_suffix_or_hint_that_is_more_than_a_comment_is_refused_for_tenants(
    name: str, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(TENANT)
    blog = setting.blog
    with reading(setting.engine, blog) as session, pytest.raises(TenantViolationError):
        session.execute(PIECES[name](blog))


#: What passes, since it names nothing and changes nothing.
HARMLESS: dict[str, Smuggle] = {
    "select 1": lambda b: text("SELECT 1"),
    "a longer name": lambda b: text("SELECT 1 AS crit_posts"),
    "optimizer hint": lambda b: select(b.post.id).prefix_with("/*+ NO_INDEX */"),
    "distinct": lambda b: select(b.post.id).prefix_with("DISTINCT"),
    "unscoped": lambda b: select(b.author.id).where(text("1=1")),
    "Core on an unscoped table": lambda b: select(b.author.__table__),
    "association table": lambda b: select(b.post_tag),
    "text in columns": lambda b: select(b.post.id, text("1")),
    "label": lambda b: select(b.author.id.label("crit_post")),
    "literal": lambda b: select(sa.literal("crit_post")),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_names_nothing_passes(name: str, settings: Callable[[Hider], Setting]) -> None:
    setting = settings(TENANT)
    blog = setting.blog
    with reading(setting.engine, blog) as session:
        assert session.execute(HARMLESS[name](blog)).all()


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize("written", ["SELECT * FROM crit_post", "SELECT 1 AS id", "SELECT 2 AS id, 'x' AS title"])
@pytest.mark.parametrize("columns", [False, True])
def test_objects_are_not_loaded_from_a_text(
    written: str, columns: bool, hider: Hider, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(hider)
    blog = setting.blog
    given: Any = text(written)
    statement = select(blog.post).from_statement(given.columns(blog.post.id) if columns else given)
    with reading(setting.engine, blog) as session, pytest.raises((UnfilteredStatementError, TenantViolationError)):
        session.execute(statement)


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
def test_the_option_loads_objects_from_a_text(hider: Hider, settings: Callable[[Hider], Setting]) -> None:
    setting = settings(hider)
    blog = setting.blog
    statement = select(blog.post).from_statement(text(f"SELECT * FROM {blog.post.__tablename__}"))
    with reading(setting.engine, blog) as session:
        found = session.scalars(statement.execution_options(**{hider.option: True})).all()
    assert len(found) == 4


# -- writing -------------------------------------------------------------------------------------

WRITES: dict[str, Smuggle] = {
    "update of tenant_id": lambda b: update(b.post).values(tenant_id=THEIRS),
    "update of the attribute": lambda b: update(b.post).values({b.post.tenant_id: THEIRS}),
    "ordered update": lambda b: update(b.post).ordered_values((b.post.tenant_id, THEIRS)),
    "Core update": lambda b: update(table(b)).values(score=0),
    "Core update with an ORM condition": lambda b: update(table(b)).values(tenant_id=THEIRS).where(b.post.id > 0),
    "Core insert": lambda b: insert(table(b)).values(id=99, tenant_id=THEIRS),
    "Core delete": lambda b: sa.delete(table(b)),
    "insert of another tenant": lambda b: insert(b.post).values(id=99, tenant_id=THEIRS),
    "insert of an expression": lambda b: insert(b.post).values(id=99, tenant_id=func.lower("ZETA")),
    "insert of a subquery": lambda b: insert(b.post).values(
        id=99, tenant_id=select(sa.literal(THEIRS)).scalar_subquery()
    ),
    "insert of rows": lambda b: insert(b.post).values([{"id": 98}, {"id": 99, "tenant_id": THEIRS}]),
    "upsert": lambda b: sqlite.insert(b.post).values(id=2).on_conflict_do_update(set_={"title": "x"}),
    "insert in a CTE": lambda b: select(insert(table(b)).values(id=99).returning(table(b).c.id).cte().c.id),
    "update in a CTE": lambda b: select(update(table(b)).values(score=9).returning(table(b).c.id).cte().c.id),
    "delete in a CTE": lambda b: select(sa.delete(table(b)).returning(table(b).c.id).cte().c.id),
    "ORM update in a CTE": lambda b: select(update(b.post).values(tenant_id=THEIRS).returning(b.post.id).cte().c.id),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_is_not_the_tenants_is_refused_before_any_sql(
    name: str, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(TENANT)
    blog, engine = setting.blog, setting.engine
    with reading(engine, blog) as session, count_statements(engine) as log, pytest.raises(TenantViolationError):
        session.execute(WRITES[name](blog))
    assert log == []


PARAMETERS: dict[str, Callable[[Blog], tuple[Any, Any]]] = {
    "rows of another tenant": lambda b: (insert(b.post), [{"id": 98}, {"id": 99, "tenant_id": THEIRS}]),
    "a row of another tenant": lambda b: (insert(b.post), {"id": 99, "tenant_id": THEIRS}),
    "a row with a text": lambda b: (
        insert(b.post),
        [{"id": 99, "title": text("(SELECT max(title) FROM crit_post)")}],
    ),
    "a row with a subquery": lambda b: (
        insert(b.post),
        [{"id": 99, "title": select(func.max(b.post.title)).scalar_subquery()}],
    ),
    "update by primary keys": lambda b: (update(b.post), [{"id": 2, "title": "x"}]),
    "update of tenant_id by parameters": lambda b: (update(b.post).where(b.post.id == 1), {"tenant_id": THEIRS}),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_that_are_not_the_tenants_are_refused_before_any_sql(
    name: str, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(TENANT)
    blog, engine = setting.blog, setting.engine
    statement, parameters = PARAMETERS[name](blog)
    with reading(engine, blog) as session, count_statements(engine) as log, pytest.raises(TenantViolationError):
        session.execute(statement, parameters)
    assert log == []


LEGACY: dict[str, Callable[[Session, Blog], Any]] = {
    "bulk_save_objects, new": lambda s, b: s.bulk_save_objects([b.post(id=99, tenant_id=THEIRS)]),
    "bulk_save_objects, update": lambda s, b: s.bulk_save_objects([_forged(b)]),
    "bulk_insert_mappings": lambda s, b: s.bulk_insert_mappings(b.post, [{"id": 99, "tenant_id": THEIRS}]),
    "bulk_update_mappings": lambda s, b: s.bulk_update_mappings(b.post, [{"id": 2, "title": "x"}]),
}


def _forged(b: Blog, **values: Any) -> Any:
    """Return an object that says that it is the row of another tenant, and that it is this tenant's."""
    obj = b.post(id=2, **b.hider.shown)
    make_transient_to_detached(obj)
    for key, value in (values or {"title": "x"}).items():
        setattr(obj, key, value)
    return obj


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_bulk_calls_are_refused_before_any_sql(name: str, settings: Callable[[Hider], Setting]) -> None:
    setting = settings(TENANT)
    blog, engine = setting.blog, setting.engine
    with reading(engine, blog) as session, count_statements(engine) as log:
        with pytest.raises(TenantViolationError):
            LEGACY[name](session, blog)
        session.rollback()
        assert session.get(blog.post, 1) is not None
    assert not log.starting("INSERT", "UPDATE")


def test_legacy_bulk_calls_of_other_classes_pass(settings: Callable[[Hider], Setting]) -> None:
    setting = settings(TENANT)
    blog = setting.blog
    with reading(setting.engine, blog) as session:
        session.bulk_insert_mappings(blog.author, [{"id": 9, "name": "nine"}])
        session.bulk_save_objects([blog.author(id=10)])
        assert session.scalar(select(func.count(blog.author.id))) == 5


def test_legacy_bulk_calls_pass_in_administration(settings: Callable[[Hider], Setting]) -> None:
    setting = settings(TENANT)
    blog = setting.blog
    with reading(setting.engine, blog) as session, all_tenants():
        session.bulk_insert_mappings(blog.post, [{"id": 99, "tenant_id": THEIRS}])
        assert session.get(blog.post, 99) is not None


def _clean(b: Blog) -> Any:
    obj = b.post(id=2, title="", score=0, author_id=None, **b.hider.shown)
    make_transient_to_detached(obj)
    return obj


def _with_another_key(s: Session, b: Blog) -> None:
    from sqlalchemy.orm.attributes import set_committed_value

    obj = s.get_one(b.post, 1)
    set_committed_value(obj, "id", 2)
    obj.title = "x"
    s.flush()


FORGERIES: dict[str, Callable[[Session, Blog], Any]] = {
    "attribute": lambda s, b: (s.add(o := _forged(b, title="x")), s.expire(o), o.title),
    "expired attribute": lambda s, b: (s.add(o := _forged(b, title="x")), s.expire(o, ["score"]), o.score),
    "refresh": lambda s, b: (s.add(o := _forged(b)), s.refresh(o)),
    "write": lambda s, b: (s.add(_forged(b)), s.flush()),
    "delete": lambda s, b: (s.add(o := _forged(b)), s.delete(o), s.flush()),
    "merge without loading": lambda s, b: (
        s.merge(_clean(b), load=False),
        setattr(s.get(b.post, 2), "title", "x"),
        s.flush(),
    ),
    "merge": lambda s, b: (s.merge(_forged(b)), s.flush()),
    "key below the unit of work": _with_another_key,
}


def _row_of_another_tenant(session: Session, blog: Blog) -> Any:
    if not session.is_active:
        session.rollback()
    statement = select(table(blog)).where(table(blog).c.id == 2)
    return session.connection().execute(statement).one()


@pytest.mark.filterwarnings("ignore:DELETE statement on table")
@pytest.mark.parametrize("name", FORGERIES)
def test_an_object_made_by_hand_gives_no_access_to_the_row_of_another_tenant(
    name: str, settings: Callable[[Hider], Setting]
) -> None:
    setting = settings(TENANT)
    blog, engine = setting.blog, setting.engine
    shown: Any = None
    with reading(engine, blog) as session:
        try:
            shown = FORGERIES[name](session, blog)
            session.flush()
        except SQLAlchemyError:
            pass
        row = _row_of_another_tenant(session, blog)
    assert (row.title, row.tenant_id) == ("p2", THEIRS)
    assert "p2" not in str(shown)


def test_every_refusal_says_a_way_out(settings: Callable[[Hider], Setting]) -> None:
    setting = settings(TENANT)
    blog = setting.blog
    with reading(setting.engine, blog) as session:
        for make in (*NAMED.values(), *PIECES.values(), *WRITES.values()):
            with pytest.raises(TenantViolationError, match=r"use|insert|execute|pass|leave|never|put|select|switches"):
                session.execute(make(blog))
