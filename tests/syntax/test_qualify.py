"""Rows of qualified statements, in whichever way they are written."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, Select, case, delete, exists, func, insert, select, text, true, union_all
from sqlalchemy.exc import CompileError
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    joinedload,
    load_only,
    selectinload,
    undefer,
    with_loader_criteria,
)

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.syntax import qualified, qualify
from tests._support import StatementLog

from ._models import Author, Post, Review, fill

Statements = Callable[..., AbstractContextManager[StatementLog]]
Qualified = Callable[..., Any]

NEWEST = func.row_number().over(partition_by=Post.author_id, order_by=Post.id.desc())
post: Any = Post.__table__
NEWEST_ROW = func.row_number().over(partition_by=post.c.author_id, order_by=post.c.id.desc())


def _by_extension(statement: Any, *predicates: Any) -> Any:
    return statement.ext(qualify(*predicates))


WAYS: dict[str, Qualified] = {"function": qualified}
if hasattr(Select, "ext"):
    WAYS["extension"] = _by_extension


@pytest.fixture(params=WAYS)
def qualifying(request: pytest.FixtureRequest) -> Qualified:
    """Return the function that qualifies, and what calls ``ext()`` where SQLAlchemy has it."""
    return WAYS[request.param]


@pytest.fixture
def filled(session: Session) -> Session:
    """Return a session on a database with posts."""
    fill(session)
    return session


# -- rows --------------------------------------------------------------------------------------------------------------


def test_the_first_row_of_each_group(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(select(Post).order_by(Post.id), NEWEST == 1)
    assert [each.title for each in filled.scalars(statement)] == ["t14", "t24", "t34"]


def test_a_qualified_statement_is_one_statement(filled: Session, qualifying: Qualified, statements: Statements) -> None:
    with statements() as log:
        filled.scalars(qualifying(select(Post), NEWEST == 1)).all()
    assert len(log) == 1


def test_order_limit_and_offset_come_after(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(select(Post.title).order_by(Post.author_id.desc()).limit(1).offset(1), NEWEST == 1)
    assert filled.scalars(statement).all() == ["t24"]


def test_order_by_what_is_not_selected(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(
        select(Post.title).order_by(Post.score.is_(None), (Post.score % 3).desc(), Post.id), NEWEST <= 2
    )
    plain = select(Post.title, NEWEST.label("n"), Post.score, Post.id).subquery()
    by_hand = (
        select(plain.c.title)
        .where(plain.c.n <= 2)
        .order_by(plain.c.score.is_(None), (plain.c.score % 3).desc(), plain.c.id)
    )
    assert filled.scalars(statement).all() == filled.scalars(by_hand).all()


def test_order_by_a_window_function(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(select(Post.title).order_by(NEWEST.desc(), Post.id), NEWEST <= 2)
    assert filled.scalars(statement).all() == ["t13", "t23", "t33", "t14", "t24", "t34"]


def test_order_by_the_name_of_a_label(filled: Session, qualifying: Qualified) -> None:
    label = func.lower(Post.title).label("lower_title")
    for order in (label.desc(), sqlalchemy.desc("lower_title")):
        statement = qualifying(select(label).order_by(order), NEWEST == 1)
        assert filled.scalars(statement).all() == ["t34", "t24", "t14"]


def test_distinct_comes_after(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(select(Post.kind).distinct().order_by(Post.kind), NEWEST <= 2)
    assert filled.scalars(statement).all() == ["post", "review"]


def test_where_comes_before_wherever_it_is_called(filled: Session, qualifying: Qualified) -> None:
    first = qualifying(select(Post.title).where(Post.kind == "post"), NEWEST == 1).order_by(Post.id)
    later = qualifying(select(Post.title), NEWEST == 1).where(Post.kind == "post").order_by(Post.id)
    assert filled.scalars(first).all() == filled.scalars(later).all() == ["t13", "t23", "t33"]


def test_groups_and_having_come_before(filled: Session, qualifying: Qualified) -> None:
    total = func.sum(Post.score)
    statement = qualifying(
        select(Post.author_id, total.label("total")).group_by(Post.author_id).having(func.count() > 1),
        func.rank().over(order_by=total.desc()) == 1,
    )
    by_author = select(Post.author_id, total).group_by(Post.author_id)
    assert [tuple(row) for row in filled.execute(statement)] == [
        max((tuple(row) for row in filled.execute(by_author)), key=lambda row: row[1])
    ]


def test_several_predicates_all_hold(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(select(Post.title).order_by(Post.id), NEWEST >= 2, NEWEST <= 3, Post.author_id == 2)
    assert filled.scalars(statement).all() == ["t22", "t23"]


def test_qualifying_again_filters_what_is_left(filled: Session, qualifying: Qualified) -> None:
    oldest = func.row_number().over(partition_by=Post.author_id, order_by=Post.id)
    statement = qualifying(qualifying(select(Post).order_by(Post.id), NEWEST <= 2), oldest == 1)
    assert [each.title for each in filled.scalars(statement)] == ["t13", "t23", "t33"]
    both = qualifying(select(Post).order_by(Post.id), NEWEST <= 2, oldest == 1)
    assert filled.scalars(both).all() == []


def test_qualifying_three_times(filled: Session, qualifying: Qualified) -> None:
    position = func.row_number().over(order_by=Post.id)
    statement = qualifying(qualifying(qualifying(select(Post.title), position > 2), position > 2), position == 1)
    assert filled.scalars(statement).all() == ["t21"]


def test_qualifying_groups_again(filled: Session, qualifying: Qualified) -> None:
    by_total = func.row_number().over(order_by=(func.sum(Post.score).desc(), Post.author_id))
    statement = qualifying(
        qualifying(
            select(Post.author_id).group_by(Post.author_id), func.row_number().over(order_by=Post.author_id) > 1
        ),
        by_total == 1,
    )
    totals = filled.execute(select(func.sum(Post.score), Post.author_id).group_by(Post.author_id)).all()
    best = min((-total, author) for total, author in totals if author > 1)[1]
    assert filled.scalars(statement).all() == [best]


# -- what is selected --------------------------------------------------------------------------------------------------


def test_core_columns_keep_their_names_and_are_found_by_column(filled: Session, qualifying: Qualified) -> None:
    label = (post.c.score + 1).label("more")
    plain = select(post.c.title, label, func.lower(post.c.title))
    statement = qualifying(plain.order_by(post.c.id), NEWEST_ROW == 1)
    result = filled.execute(statement)
    assert list(result.keys()) == list(filled.execute(plain).keys())
    row = result.first()
    assert row is not None
    assert row._mapping[post.c.title] == row.title == row[0] == "t14"
    assert row._mapping[label] == row.more


def test_columns_of_one_name_stay_two(filled: Session, qualifying: Qualified) -> None:
    author: Any = Author.__table__
    statement = select(post.c.id, author.c.id).join(author, author.c.id == post.c.author_id)
    found = filled.execute(qualifying(statement.order_by(post.c.id), NEWEST_ROW == 1))
    assert list(found.keys()) == list(filled.execute(statement).keys())
    assert [tuple(row) for row in found] == [(14, 1), (24, 2), (34, 3)]


def test_a_whole_table(filled: Session, qualifying: Qualified) -> None:
    rows = filled.execute(qualifying(select(post).order_by(post.c.id), NEWEST_ROW == 1)).mappings().all()
    assert [row["title"] for row in rows] == ["t14", "t24", "t34"]
    assert list(rows[0]) == [column.name for column in post.c]


def test_attributes_are_found_by_attribute(filled: Session, qualifying: Qualified) -> None:
    row = filled.execute(qualifying(select(Post.title, Post.id).order_by(Post.id), NEWEST == 1)).first()
    assert row is not None
    assert (row._mapping[Post.title], row.title, row.id) == ("t14", "t14", 14)


def test_entities_beside_expressions(filled: Session, qualifying: Qualified) -> None:
    statement = select(Author, Post, func.upper(Post.title).label("upper")).join(Author.posts).order_by(Post.id)
    found = [
        (author.name, each.title, upper) for author, each, upper in filled.execute(qualifying(statement, NEWEST == 1))
    ]
    assert found == [("author1", "t14", "T14"), ("author2", "t24", "T24"), ("author3", "t34", "T34")]


def test_an_alias_of_a_class(filled: Session, qualifying: Qualified) -> None:
    other = aliased(Post)
    number = func.row_number().over(partition_by=other.author_id, order_by=other.id)
    statement = select(other, Author.name).join(other.author).options(selectinload(other.author)).order_by(Author.name)
    found = filled.execute(qualifying(statement, number == 2)).all()
    assert [(each.title, each.author.name, name) for each, name in found] == [
        ("t12", "author1", "author1"),
        ("t22", "author2", "author2"),
        ("t32", "author3", "author3"),
    ]


def test_two_aliases_of_one_class(filled: Session, qualifying: Qualified) -> None:
    first, second = aliased(Post), aliased(Post)
    statement = (
        select(first, second)
        .join(second, (second.author_id == first.author_id) & (second.id > first.id))
        .order_by(first.id)
    )
    nearest = func.row_number().over(partition_by=first.id, order_by=second.id)
    found = [(one.title, two.title) for one, two in filled.execute(qualifying(statement, nearest == 1))]
    assert found[:3] == [("t11", "t12"), ("t12", "t13"), ("t13", "t14")]
    assert len(found) == 9


def test_a_subclass_selects_its_rows_only(filled: Session, qualifying: Qualified) -> None:
    position = func.row_number().over(order_by=Review.id.desc())
    found = filled.scalars(qualifying(select(Review), position <= 2)).all()
    assert {type(each) for each in found} == {Review}
    assert len(found) == 2


def test_a_bundle(filled: Session, qualifying: Qualified) -> None:
    bundle = Bundle("both", Post.id, func.lower(Post.title).label("low"))
    found = filled.scalars(qualifying(select(bundle).order_by(Post.id), NEWEST == 1)).all()
    assert [(each.id, each.low) for each in found] == [(14, "t14"), (24, "t24"), (34, "t34")]


def test_a_column_property_is_loaded(filled: Session, qualifying: Qualified) -> None:
    position = func.row_number().over(order_by=Author.id)
    found: Any = filled.scalars(qualifying(select(Author), position == 2)).one()
    assert found.post_count == 4


# -- loader options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [joinedload, selectinload])
def test_collections_are_loaded_and_do_not_count(load: Any, filled: Session, qualifying: Qualified) -> None:
    position = func.row_number().over(order_by=Author.name)
    statement = select(Author).options(load(Author.posts)).order_by(Author.name.desc()).limit(1)
    found = filled.scalars(qualifying(statement, position <= 2)).unique().all()
    assert [(author.name, len(author.posts)) for author in found] == [("author2", 4)]


def test_eager_loads_take_no_more_statements_than_without(
    filled: Session, qualifying: Qualified, statements: Statements
) -> None:
    with statements() as log:
        found = filled.scalars(qualifying(select(Post).options(joinedload(Post.author)), NEWEST == 1)).all()
        assert {each.author.name for each in found} == {"author1", "author2", "author3"}
    assert len(log) == 1


def test_deferred_columns_follow_the_options(filled: Session, qualifying: Qualified) -> None:
    for options, loaded in (((), False), ((undefer(Post.body),), True), ((load_only(Post.body),), True)):
        filled.expunge_all()
        found = filled.scalars(qualifying(select(Post).options(*options), NEWEST == 1)).first()
        assert found is not None
        assert ("body" in found.__dict__) is loaded


def test_criteria_apply_before_the_window(filled: Session, qualifying: Qualified) -> None:
    statement = qualifying(select(Post.title).order_by(Post.id), NEWEST == 1)
    option = with_loader_criteria(Post, Post.kind == "post")
    assert filled.scalars(statement.options(option)).all() == ["t13", "t23", "t33"]


def test_criteria_reach_eager_loads_too(filled: Session, qualifying: Qualified) -> None:
    position = func.row_number().over(order_by=Author.id)
    option = with_loader_criteria(Post, Post.kind == "review")
    found = filled.scalars(qualifying(select(Author).options(selectinload(Author.posts), option), position == 1)).one()
    assert [each.title for each in found.posts] == ["t14"]


def test_contains_eager_of_what_is_not_selected_is_refused(filled: Session, qualifying: Qualified) -> None:
    statement = select(Post).join(Post.author).options(contains_eager(Post.author))
    with pytest.raises(CompileError, match="needs columns of author that it does not select"):
        filled.scalars(qualifying(statement, NEWEST == 1)).all()


# -- inside of other statements ----------------------------------------------------------------------------------------


def test_in_a_subquery(filled: Session, qualifying: Qualified) -> None:
    subquery = qualifying(select(Post), NEWEST == 1).subquery()
    newest = aliased(Post, subquery)
    statement = select(Author.name, newest.title).join(newest, newest.author_id == Author.id).order_by(Author.id)
    assert [row.title for row in filled.execute(statement)] == ["t14", "t24", "t34"]
    assert filled.scalar(select(func.count()).select_from(subquery)) == 3


def test_in_a_cte(filled: Session, qualifying: Qualified) -> None:
    cte = qualifying(select(Post.title, Post.id), NEWEST == 1).cte("newest")
    assert filled.scalars(select(cte.c.title).order_by(cte.c.id)).all() == ["t14", "t24", "t34"]


def test_in_an_in(filled: Session, qualifying: Qualified) -> None:
    chosen = qualifying(select(Post.id), NEWEST == 1)
    assert filled.scalars(select(Post.title).where(Post.id.in_(chosen)).order_by(Post.id)).all() == [
        "t14",
        "t24",
        "t34",
    ]


def test_in_a_union(filled: Session, qualifying: Qualified) -> None:
    both = union_all(qualifying(select(Post.id), NEWEST == 1), select(Post.id).where(Post.id == 11))
    assert sorted(filled.scalars(both)) == [11, 14, 24, 34]


def test_in_an_exists_without_correlation(filled: Session, qualifying: Qualified) -> None:
    there = exists(qualifying(select(Post.id), NEWEST == 4))
    assert filled.scalars(select(Author.id).where(there).order_by(Author.id)).all() == [1, 2, 3]


def test_in_a_delete(filled: Session, qualifying: Qualified) -> None:
    # MariaDB does not let a DELETE read its own table, but through a subquery of a subquery.
    chosen = qualifying(select(Post.id), NEWEST > 1).subquery()
    filled.execute(delete(Post).where(Post.id.in_(select(chosen.c.id))))
    assert sorted(filled.scalars(select(Post.id))) == [14, 24, 34]


def test_in_an_insert_from_select(filled: Session, qualifying: Qualified) -> None:
    chosen = qualifying(select(Post.id + 100, Post.author_id, Post.kind, Post.title, Post.body), NEWEST == 1)
    filled.execute(insert(Post).from_select(["id", "author_id", "kind", "title", "body"], chosen))
    assert sorted(filled.scalars(select(Post.id).where(Post.id > 100))) == [114, 124, 134]


@pytest.mark.parametrize("form", ["exists", "scalar subquery", "explicit"])
def test_a_correlated_statement_is_refused(form: str, filled: Session, qualifying: Qualified) -> None:
    inner = qualifying(select(Post.id).where(Post.author_id == Author.id), NEWEST == 1)
    if form == "explicit":
        inner = inner.correlate(Author)
    condition = exists(inner) if form == "exists" else inner.scalar_subquery() > 0
    with pytest.raises(CompileError, match="cannot refer to the SELECT around it"):
        filled.scalars(select(Author).where(condition)).all()


# -- caching and copies ------------------------------------------------------------------------------------------------


def test_values_of_parameters_are_those_of_the_execution(filled: Session, engine: Engine) -> None:
    for number, expected in ((1, ["t14", "t24", "t34"]), (2, ["t13", "t23", "t33"]), (4, ["t11", "t21", "t31"])):
        assert filled.scalars(qualified(select(Post.title).order_by(Post.id), number == NEWEST)).all() == expected


def test_statements_of_one_form_are_compiled_once(filled: Session, qualifying: Qualified, engine: Engine) -> None:
    def run(number: int) -> None:
        filled.scalars(qualifying(select(Post), number == NEWEST)).all()

    run(1)
    cache: Any = engine._compiled_cache
    before = len(cache)
    for number in range(2, 10):
        run(number)
    assert len(cache) == before


def test_the_conditions_are_part_of_the_cache_key(qualifying: Qualified) -> None:
    def key(*statements: Any) -> set[Any]:
        return {each._generate_cache_key().key for each in statements}

    plain = select(Post)
    assert len(key(plain, qualifying(plain, NEWEST == 1), qualifying(plain, NEWEST <= 1))) == 3
    assert len(key(qualifying(plain, NEWEST == 1), qualifying(plain, NEWEST == 2))) == 1
    twice = qualifying(qualifying(plain, NEWEST == 1), NEWEST == 1)
    assert len(key(twice, qualifying(plain, NEWEST == 1, NEWEST == 1))) == 2


def test_the_statement_that_is_qualified_stays_as_it_was(filled: Session, qualifying: Qualified) -> None:
    plain = select(Post.id)
    first = qualifying(plain, NEWEST == 1)
    qualifying(first, NEWEST == 7)
    assert len(filled.scalars(plain).all()) == 12
    assert len(filled.scalars(first).all()) == 3


def test_a_core_statement_can_be_pickled(filled: Session, qualifying: Qualified) -> None:
    # SQLAlchemy 2.1 itself cannot unpickle an OVER.
    statement = qualifying(select(post.c.title).order_by(post.c.id.desc()).limit(1), post.c.kind == "post")
    again: Select[Any] = pickle.loads(pickle.dumps(statement))
    assert filled.scalars(again).all() == ["t33"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_no_predicate_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"qualified\(\) was given no predicate"):
        qualified(select(Post))


@pytest.mark.parametrize("statement", [text("select 1"), union_all(select(Post.id), select(Post.id)), Post, None])
def test_what_is_no_select_is_refused(statement: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"needs a select\(\)"):
        qualified(statement, NEWEST == 1)


def test_a_text_among_the_columns_is_refused(filled: Session) -> None:
    statement = qualified(select(text("title"), Post.id).select_from(Post), NEWEST == 1)
    with pytest.raises(CompileError, match="cannot select title"):
        filled.execute(statement)


def test_predicates_without_window_functions_filter_as_well(filled: Session, qualifying: Qualified) -> None:
    assert filled.scalars(qualifying(select(Post.id), Post.id == 14)).all() == [14]
    assert len(filled.scalars(qualifying(select(Post.id), true())).all()) == 12
    assert len(filled.scalars(qualifying(select(Post.id), case((Post.id > 30, True), else_=False))).all()) == 4


@pytest.mark.usefixtures("no_select_ext")
def test_without_ext_qualify_names_the_function_to_use() -> None:
    with pytest.raises(InvalidArgumentError, match=r"write: qualified\(statement, predicate\)"):
        qualify(NEWEST == 1)
