"""One cell for each place in which a hidden row could be seen, for each way to hide it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from sqlalchemy import (
    Engine,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    lateral,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
    union_all,
    update,
    values,
)
from sqlalchemy import column as sql_column
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    immediateload,
    joinedload,
    lazyload,
    selectinload,
    subqueryload,
    undefer,
    with_parent,
)

from tests.conftest import BaseFactory

from ._models import HIDERS, Blog, Hider, fill, map_blog, reading

Cell: TypeAlias = Callable[[Session, Blog], Any]
CELLS: dict[str, tuple[Any, Cell]] = {}


def cell(expected: Any) -> Callable[[Cell], Cell]:
    def add(fn: Cell) -> Cell:
        CELLS[fn.__name__] = (expected, fn)
        return fn

    return add


def keys(found: Any) -> list[Any]:
    return sorted(each if isinstance(each, int) else each.id for each in found)


# -- what is selected ----------------------------------------------------------------------------


@cell([1, 3])
def entities(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post)).all())


@cell(["p1", "p3"])
def columns(s: Session, b: Blog) -> Any:
    return sorted(s.scalars(select(b.post.title)).all())


@cell([(1, "p1"), (3, "p3")])
def bundles(s: Session, b: Blog) -> Any:
    return sorted(tuple(row[0]) for row in s.execute(select(Bundle("b", b.post.id, b.post.title))))


@cell(2)
def count_of_a_column(s: Session, b: Blog) -> Any:
    return s.scalar(select(func.count(b.post.id)))


@cell(2)
def count_of_an_entity(s: Session, b: Blog) -> Any:
    return s.scalar(select(func.count()).select_from(b.post))


@cell(4)
def aggregates(s: Session, b: Blog) -> Any:
    return s.scalar(select(func.sum(b.post.score)))


@cell([1, 3])
def groups(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post.author_id).group_by(b.post.author_id).having(func.count() > 0)).all())


@cell([(1, 1), (3, 2)])
def window_functions(s: Session, b: Blog) -> Any:
    return sorted(map(tuple, s.execute(select(b.post.id, func.row_number().over(order_by=b.post.id)))))


@cell([1, 3])
def aliases(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(aliased(b.post))).all())


@cell([(1, 1), (3, 3)])
def self_joins(s: Session, b: Blog) -> Any:
    other = aliased(b.post)
    return sorted(map(tuple, s.execute(select(b.post.id, other.id).join(other, other.author_id == b.post.author_id))))


@cell([1, 3])
def distinct(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post.id).distinct()).all())


@cell([1, 3])
def limits(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).order_by(b.post.id).limit(2)).all())


@cell([1, 3])
def undeferred(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).options(undefer("*"))).all())


@cell([1, 3])
def for_update(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).with_for_update()).all())


# -- subqueries ----------------------------------------------------------------------------------


@cell([1, 3])
def cte(s: Session, b: Blog) -> Any:
    found = select(b.post).cte()
    return keys(s.scalars(select(found.c.id)).all())


@cell([1, 3])
def entity_of_a_cte(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(aliased(b.post, select(b.post).cte()))).all())


@cell([1, 3])
def recursive_cte(s: Session, b: Blog) -> Any:
    start = select(b.post.id.label("id")).where(b.post.id == 1).cte("walk", recursive=True)
    walk = start.union_all(select(b.post.id).where(b.post.id == start.c.id + 2).where(start.c.id < 4))
    return keys(s.scalars(select(walk.c.id)).all())


@cell([1, 3])
def hop_over_a_hidden_row(s: Session, b: Blog) -> Any:
    start = select(b.post.id.label("id")).where(b.post.id == 1).cte("hop", recursive=True)
    walk = start.union_all(select(b.post.id).where(b.post.id == start.c.id + 1).where(start.c.id < 4))
    return keys([*s.scalars(select(walk.c.id)).all(), 3])


@cell([1, 3])
def subquery(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(select(b.post).subquery().c.id)).all())


@cell([1, 3])
def entity_of_a_subquery(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(aliased(b.post, select(b.post).subquery()))).all())


@cell(2)
def count_of_a_subquery(s: Session, b: Blog) -> Any:
    return s.scalar(select(func.count()).select_from(select(b.post).subquery()))


@cell([1, 3])
def unions(s: Session, b: Blog) -> Any:
    return keys(s.scalars(union(select(b.post.id), select(b.post.id))).all())


@cell([1, 3])
def entities_of_a_union(s: Session, b: Blog) -> Any:
    chosen = union_all(select(b.post).where(b.post.id < 3), select(b.post).where(b.post.id > 2))
    return keys(s.scalars(select(b.post).from_statement(chosen)).all())


@cell([1, 3])
def entities_of_a_union_subquery(s: Session, b: Blog) -> Any:
    chosen = union_all(select(b.post).where(b.post.id < 3), select(b.post).where(b.post.id > 2)).subquery()
    return keys(s.scalars(select(aliased(b.post, chosen))).all())


@cell([1, 3])
def from_statement(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).from_statement(select(b.post).where(b.post.id < 9))).all())


@cell([1, 3])
def in_subquery(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).where(b.author.id.in_(select(b.post.author_id)))).all())


@cell([2])
def not_in_subquery(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).where(b.author.id.not_in(select(b.post.author_id)))).all())


@cell([1, 3])
def tuple_in_subquery(s: Session, b: Blog) -> Any:
    pair = tuple_(b.author.id, b.author.id)
    return keys(s.scalars(select(b.author.id).where(pair.in_(select(b.post.author_id, b.post.author_id)))).all())


@cell([(1, 1), (2, 0), (3, 1)])
def scalar_subquery(s: Session, b: Blog) -> Any:
    number = select(func.count(b.post.id)).where(b.post.author_id == b.author.id).scalar_subquery()
    return sorted(map(tuple, s.execute(select(b.author.id, number))))


@cell(4)
def scalar_subquery_alone(s: Session, b: Blog) -> Any:
    return s.scalar(select(select(func.sum(b.post.score)).scalar_subquery()))


@cell([1, 3])
def scalar_subquery_in_order_by(s: Session, b: Blog) -> Any:
    number = select(func.count(b.post.id)).where(b.post.author_id == b.author.id).scalar_subquery()
    return keys(s.scalars(select(b.author.id).order_by(number.desc(), b.author.id).limit(2)).all())


@cell([1, 3])
def explicit_exists(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).where(exists().where(b.post.author_id == b.author.id))).all())


@cell([1, 3])
def exists_of_a_select(s: Session, b: Blog) -> Any:
    return keys(
        s.scalars(select(b.author.id).where(select(b.post.id).where(b.post.author_id == b.author.id).exists())).all()
    )


@cell([1, 3])
def exists_of_an_alias(s: Session, b: Blog) -> Any:
    other = aliased(b.post)
    return keys(s.scalars(select(b.author.id).where(exists().where(other.author_id == b.author.id))).all())


@cell([2])
def not_exists(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).where(~exists().where(b.post.author_id == b.author.id))).all())


@cell([1, 3])
def exists_in_or(s: Session, b: Blog) -> Any:
    found = exists().where(b.post.author_id == b.author.id)
    return keys(s.scalars(select(b.author.id).where(or_(b.author.id == 99, and_(true(), found)))).all())


@cell([(1, 1), (2, 0), (3, 1)])
def exists_in_case(s: Session, b: Blog) -> Any:
    found = case((exists().where(b.post.author_id == b.author.id), 1), else_=0)
    return sorted(map(tuple, s.execute(select(b.author.id, found))))


# -- relationships -------------------------------------------------------------------------------


@cell([1, 3])
def any_(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author).where(b.author.posts.any())).all())


@cell([])
def any_with_a_condition(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author).where(b.author.posts.any(b.post.title == "p4"))).all())


@cell([2])
def not_any(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author).where(~b.author.posts.any())).all())


@cell([1, 3])
def any_of_type(s: Session, b: Blog) -> Any:
    other = aliased(b.post)
    return keys(s.scalars(select(b.author).where(b.author.posts.of_type(other).any(other.id > 0))).all())


@cell([1, 3])
def any_of_any(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author).where(b.author.posts.any(b.post.comments.any()))).all())


@cell([1, 3])
def any_through_a_secondary_table(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).where(b.post.tags.any(b.tag.id > 0))).all())


@cell([])
def any_of_a_hidden_tag(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).where(b.post.tags.any(b.tag.id == 2))).all())


@cell([10, 30])
def has(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.comment).where(b.comment.post.has())).all())


@cell({1: [1], 2: [], 3: [3]})
def lazy_loads(s: Session, b: Blog) -> Any:
    return {each.id: keys(each.posts) for each in s.scalars(select(b.author))}


def _eager(option: Callable[[Any], Any]) -> Cell:
    def load(s: Session, b: Blog) -> Any:
        statement = select(b.author).options(option(b.author.posts))
        return {each.id: keys(each.posts) for each in s.scalars(statement).unique()}

    return load


for _option in (joinedload, selectinload, subqueryload, immediateload, lazyload):
    CELLS[_option.__name__] = ({1: [1], 2: [], 3: [3]}, _eager(_option))


@cell({1: [10], 3: [30]})
def nested_eager_loads(s: Session, b: Blog) -> Any:
    statement = select(b.author).options(joinedload(b.author.posts).selectinload(b.post.comments))
    found = s.scalars(statement).unique().all()
    return {post.id: keys(post.comments) for author in found for post in author.posts}


@cell({1: [1], 3: [1]})
def many_to_many(s: Session, b: Blog) -> Any:
    return {each.id: keys(each.tags) for each in s.scalars(select(b.post).options(selectinload(b.post.tags)))}


@cell([1, 3])
def eager_with_a_condition(s: Session, b: Blog) -> Any:
    statement = select(b.author).options(selectinload(b.author.posts.and_(b.post.id > 0)))
    return keys(post for author in s.scalars(statement) for post in author.posts)


@cell({10: 1, 20: None, 30: 3, 40: None})
def many_to_one(s: Session, b: Blog) -> Any:
    return {each.id: each.post and each.post.id for each in s.scalars(select(b.comment))}


@cell({10: 1, 20: None, 30: 3, 40: None})
def many_to_one_joined(s: Session, b: Blog) -> Any:
    return {
        each.id: each.post and each.post.id for each in s.scalars(select(b.comment).options(joinedload(b.comment.post)))
    }


@cell([1, 3])
def write_only(s: Session, b: Blog) -> Any:
    return keys(post for author in s.scalars(select(b.author)).all() for post in s.scalars(author.written.select()))


@cell([1, 3])
def dynamic(s: Session, b: Blog) -> Any:
    return keys(post for author in s.scalars(select(b.author)).all() for post in author.flowing)


@cell([0, 1, 1])
def dynamic_count(s: Session, b: Blog) -> Any:
    return sorted(author.flowing.count() for author in s.scalars(select(b.author)).all())


@cell([3])
def parents(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.post).where(with_parent(s.get(b.author, 3), b.author.posts))).all())


# -- joins ---------------------------------------------------------------------------------------


@cell([1, 3])
def joins(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).join(b.author.posts)).all())


@cell([1, 3])
def joins_with_on(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).join(b.post, b.post.author_id == b.author.id)).all())


@cell([(1, 1), (2, None), (3, 3)])
def outer_joins(s: Session, b: Blog) -> Any:
    return sorted(map(tuple, s.execute(select(b.author.id, b.post.id).outerjoin(b.author.posts))))


@cell([1, 3])
def joins_from(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).join_from(b.post, b.author)).all())


@cell([1, 3])
def joins_as_conditions(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.author.id).where(b.post.author_id == b.author.id)).all())


@cell([1, 3])
def joins_in_select_from(s: Session, b: Blog) -> Any:
    from sqlalchemy.orm import join

    return keys(s.scalars(select(b.author.id).select_from(join(b.author, b.post))).all())


@cell([10, 30])
def two_joins(s: Session, b: Blog) -> Any:
    return keys(s.scalars(select(b.comment.id).join(b.comment.post).join(b.post.author)).all())


@cell([1, 3])
def joined_subquery(s: Session, b: Blog) -> Any:
    posts = select(b.post.author_id).subquery()
    return keys(s.scalars(select(b.author.id).join(posts, posts.c.author_id == b.author.id)).all())


@cell([1, 3])
def contains_eager_(s: Session, b: Blog) -> Any:
    statement = select(b.author).join(b.author.posts).options(contains_eager(b.author.posts))
    return keys(post for author in s.scalars(statement).unique() for post in author.posts)


@cell([1, 3])
def values_joined(s: Session, b: Blog) -> Any:
    numbers = values(sql_column("n", b.post.id.type), name="numbers").data([(1,), (2,), (3,), (4,)])
    return keys(s.scalars(select(b.post.id).join(numbers, numbers.c.n == b.post.id)).all())


# -- get, legacy, DML ----------------------------------------------------------------------------


@cell([1, None, 3, None])
def get(s: Session, b: Blog) -> Any:
    return [found and found.id for found in (s.get(b.post, key) for key in (1, 2, 3, 4))]


@cell([1, 3])
def query(s: Session, b: Blog) -> Any:
    return keys(s.query(b.post).all())


@cell(2)
def query_count(s: Session, b: Blog) -> Any:
    return s.query(b.post).count()


@cell([1, None])
def query_get(s: Session, b: Blog) -> Any:
    with pytest.warns(DeprecationWarning, match="get"):
        return [found and found.id for found in (s.query(b.post).get(key) for key in (1, 2))]


@cell([1, 3])
def query_from_subquery(s: Session, b: Blog) -> Any:
    return keys(s.query(aliased(b.post, s.query(b.post).subquery())).all())


@cell(False)
def query_exists(s: Session, b: Blog) -> Any:
    return bool(s.query(s.query(b.post).filter(b.post.id == 2).exists()).scalar())


def _raw(s: Session, b: Blog, column: str) -> dict[int, Any]:
    table = b.post.__table__
    return {row[0]: row[1] for row in s.connection().execute(select(table.c.id, table.c[column]))}


@cell({1: 9, 2: 2, 3: 9, 4: 4})
def bulk_update(s: Session, b: Blog) -> Any:
    s.execute(update(b.post).values(score=9))
    return _raw(s, b, "score")


@cell({1: 9, 2: 2, 3: 9, 4: 4})
def query_update(s: Session, b: Blog) -> Any:
    s.query(b.post).update({"score": 9})
    return _raw(s, b, "score")


@cell({1: 9, 2: 2, 3: 9, 4: 4})
def bulk_update_fetch(s: Session, b: Blog) -> Any:
    s.execute(update(b.post).values(score=9).execution_options(synchronize_session="fetch"))
    return _raw(s, b, "score")


@cell({1: 9, 2: 2, 3: 9, 4: 4})
def bulk_update_evaluate(s: Session, b: Blog) -> Any:
    s.scalars(select(b.post)).all()
    s.execute(update(b.post).values(score=9).execution_options(synchronize_session="evaluate"))
    return _raw(s, b, "score")


@cell({1: 9, 2: 2, 3: 9, 4: 4})
def bulk_update_core_only(s: Session, b: Blog) -> Any:
    s.execute(update(b.post).values(score=9).execution_options(dml_strategy="core_only"))
    return _raw(s, b, "score")


@cell({1: 1, 2: 0, 3: 1})
def bulk_update_from_a_subquery(s: Session, b: Blog) -> Any:
    number = select(func.count(b.post.id)).where(b.post.author_id == b.author.id).scalar_subquery()
    s.execute(update(b.author).values(name=number).execution_options(synchronize_session=False))
    table = b.author.__table__
    return {row[0]: int(row[1]) for row in s.connection().execute(select(table.c.id, table.c.name))}


@cell([2])
def bulk_delete_by_a_subquery(s: Session, b: Blog) -> Any:
    s.execute(delete(b.comment))
    statement = update(b.author).values(name="gone").where(b.author.id.in_(select(b.post.author_id)))
    s.execute(statement.execution_options(synchronize_session=False))
    return keys(s.scalars(select(b.author).where(b.author.name != "gone")).all())


@cell({2: "p2", 4: "p4"})
def bulk_delete(s: Session, b: Blog) -> Any:
    s.execute(delete(b.comment).where(b.comment.id > 0))
    s.connection().execute(delete(b.post_tag))
    s.connection().execute(delete(b.comment.__table__))
    s.execute(delete(b.post).execution_options(hard_delete=True))
    return _raw(s, b, "title")


@cell(["p1", "p3"])
def insert_from_select(s: Session, b: Blog) -> Any:
    chosen = select(b.post.id + 100, b.post.title)
    s.execute(insert(b.author).from_select(["id", "name"], chosen))
    return sorted(s.scalars(select(b.author.name).where(b.author.id > 100)).all())


@cell([101, 103])
def insert_from_select_of_the_same_class(s: Session, b: Blog) -> Any:
    chosen = select(b.post.id + 100, b.post.title, literal(0), *_shown(b))
    names = ["id", "title", "score", *_shown_names(b)]
    s.execute(insert(b.post).from_select(names, chosen))
    return keys(key for key in _raw(s, b, "id") if key > 100)


def _shown(b: Blog) -> list[Any]:
    return [getattr(b.post, name) for name in b.hider.shown]


def _shown_names(b: Blog) -> list[str]:
    return list(b.hider.shown)


@cell([1, 3])
def lateral_joins(s: Session, b: Blog) -> Any:
    inner = lateral(select(b.post.id.label("id")).where(b.post.author_id == b.author.id))
    return keys(s.scalars(select(inner.c.id).select_from(b.author).join(inner, true())).all())


#: What the other databases, or their dialects, do not have.
ONLY = {"lateral_joins": "postgresql", "values_joined": "postgresql"}


@pytest.mark.every_combination
@pytest.mark.parametrize("hider", HIDERS, ids=repr)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.only_on(ONLY[name])] if name in ONLY else []) for name in CELLS]
)
def test_no_hidden_row_is_seen(name: str, hider: Hider, plain_bases: BaseFactory, engine: Engine) -> None:
    expected, fn = CELLS[name]
    blog = map_blog(plain_bases(), hider)
    fill(engine, blog)
    with reading(engine, blog) as session:
        assert fn(session, blog) == expected
