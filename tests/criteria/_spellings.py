"""Ways to spell a statement or a write, each a function of a session and the models of `_outsider`.

What comes of each stands in `test_outsider`. A spelling returns what it has read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    inspect,
    lambda_stmt,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    text,
    true,
    tuple_,
    type_coerce,
    union,
    union_all,
    update,
    values,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext import baked
from sqlalchemy.orm import (
    Bundle,
    aliased,
    contains_eager,
    defer,
    immediateload,
    joinedload,
    load_only,
    make_transient_to_detached,
    raiseload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_expression,
    with_loader_criteria,
    with_parent,
    with_polymorphic,
)
from sqlalchemy.orm import join as orm_join
from sqlalchemy.orm import outerjoin as orm_outerjoin
from sqlalchemy.orm.util import identity_key

Spelling = Callable[[Any, Any], object]

#: By name. A spelling of one database only is in `ON_POSTGRESQL`.
SPELLINGS: dict[str, Spelling] = {}
ON_POSTGRESQL: dict[str, Spelling] = {}


def everywhere(spelling: Spelling) -> Spelling:
    SPELLINGS[spelling.__name__] = spelling
    return spelling


def on_postgresql(spelling: Spelling) -> Spelling:
    ON_POSTGRESQL[spelling.__name__] = spelling
    return spelling


def nothing(*results: object) -> None:
    """Return nothing: what was written counts, not what came back."""


def _dialect_insert(s):
    return postgresql.insert if s.get_bind().dialect.name == "postgresql" else sqlite.insert


def _values():
    return values(column("k", sa.Integer), name="v").data([(1,), (101,), (103,)])


def _worst(m):
    return select(func.max(cast(m.Post.score, sa.String))).scalar_subquery()


def _worst_core(m):
    return select(func.max(cast(m.T.c.score, sa.String))).scalar_subquery()


# -- spellings of one expression -------------------------------------------------------------------

SPELLINGS |= {
    "table_select": lambda s, m: s.execute(select(m.T)).all(),
    "table_column": lambda s, m: s.execute(select(m.T.c.id)).all(),
    "selectable_of_mapper": lambda s, m: s.execute(select(inspect(m.Post).selectable)).all(),
    "persist_selectable": lambda s, m: s.execute(select(inspect(m.Post).persist_selectable.c.title)).all(),
    "table_from_metadata": lambda s, m: s.execute(select(m.Base.metadata.tables[m.T.name].c.title)).all(),
    "table_alias": lambda s, m: s.execute(select(m.T.alias().c.title)).all(),
    "table_count": lambda s, m: s.scalar(select(func.count()).select_from(m.T)),
    "lightweight_table": lambda s, m: s.execute(select(table(m.T.name, column("title")).c.title)).all(),
    "core_join": lambda s, m: s.execute(
        select(m.A.c.name, m.T.c.title).join_from(m.A, m.T, m.A.c.id == m.T.c.author_id)
    ).all(),
    "core_update": lambda s, m: nothing(s.execute(update(m.T).values(score=0))),
    "core_delete": lambda s, m: nothing(s.execute(delete(m.T))),
    "core_update_returning": lambda s, m: s.execute(m.T.update().values(score=0).returning(m.T.c.title)).all(),
    "core_insert_from_select": lambda s, m: nothing(
        s.execute(insert(m.Shop.__table__).from_select(["id", "name"], select(m.T.c.id + 50, m.T.c.title)))
    ),
    "exists_of_table": lambda s, m: s.scalars(
        select(m.Author.id).where(exists().where(m.T.c.author_id == m.Author.id))
    ).all(),
    "exists_select_of_table": lambda s, m: s.scalars(
        select(m.Author.id).where(select(m.T.c.id).where(m.T.c.author_id == m.Author.id).exists())
    ).all(),
    "not_exists_of_table": lambda s, m: s.scalars(
        select(m.Author.id).where(~exists().where(m.T.c.author_id == m.Author.id))
    ).all(),
    "in_table": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.id.in_(select(m.T.c.author_id)))).all(),
    "not_in_table": lambda s, m: s.scalars(
        select(m.Author.id).where(m.Author.id.not_in(select(m.T.c.author_id)))
    ).all(),
    "tuple_in_table": lambda s, m: s.scalars(
        select(m.Author.id).where(tuple_(m.Author.id, m.Author.name).in_(select(m.T.c.author_id, m.T.c.title)))
    ).all(),
    "scalar_of_table": lambda s, m: s.execute(
        select(m.Author.id, select(func.count(m.T.c.id)).where(m.T.c.author_id == m.Author.id).scalar_subquery())
    ).all(),
    "scalar_uncorrelated": lambda s, m: s.execute(
        select(m.Author.id, select(func.count(m.T.c.id)).scalar_subquery())
    ).all(),
    "scalar_in_function": lambda s, m: s.scalars(
        select(func.coalesce(select(func.max(m.T.c.score)).scalar_subquery(), 0))
    ).all(),
    "scalar_in_function_orm": lambda s, m: s.scalars(
        select(func.coalesce(select(func.max(m.Post.score)).scalar_subquery(), 0))
    ).all(),
    "scalar_in_case": lambda s, m: s.scalars(
        select(case((m.Author.id > 0, select(func.max(m.Post.score)).scalar_subquery()), else_=0))
    ).all(),
    "scalar_in_cast": lambda s, m: s.scalars(
        select(cast(select(func.max(m.Post.score)).scalar_subquery(), sa.String))
    ).all(),
    "scalar_in_type_coerce": lambda s, m: s.scalars(
        select(type_coerce(select(func.max(m.Post.score)).scalar_subquery(), sa.Integer))
    ).all(),
    "scalar_in_label": lambda s, m: s.scalars(select(select(func.max(m.Post.score)).label("x"))).all(),
    "scalar_in_order_by": lambda s, m: s.scalars(
        select(m.Shop.id)
        .order_by(select(func.max(m.Post.score)).where(m.Post.shop_id == m.Shop.id).scalar_subquery().desc())
        .limit(1)
    ).all(),
    "scalar_in_order_by_core": lambda s, m: s.scalars(
        select(m.Shop.id)
        .order_by(select(func.max(m.T.c.score)).where(m.T.c.shop_id == m.Shop.id).scalar_subquery().desc())
        .limit(1)
    ).all(),
    "scalar_in_having": lambda s, m: s.scalars(
        select(m.Shop.name)
        .group_by(m.Shop.name)
        .having(func.count(m.Shop.id) < select(func.count(m.Post.id)).scalar_subquery())
    ).all(),
    "scalar_in_having_core": lambda s, m: s.scalars(
        select(m.Shop.name)
        .group_by(m.Shop.name)
        .having(func.count(m.Shop.id) < select(func.count(m.T.c.id)).scalar_subquery())
    ).all(),
    "scalar_in_limit": lambda s, m: len(
        s.scalars(
            select(m.Shop.id).limit(select(func.count(m.Post.id)).where(m.Post.author_id == 3).scalar_subquery())
        ).all()
    ),
    "scalar_in_limit_core": lambda s, m: len(
        s.scalars(
            select(m.Shop.id).limit(select(func.count(m.T.c.id)).where(m.T.c.author_id == 3).scalar_subquery())
        ).all()
    ),
    "scalar_in_offset": lambda s, m: len(
        s.scalars(
            select(m.Shop.id)
            .limit(5)
            .offset(select(func.count(m.Post.id)).where(m.Post.author_id == 3).scalar_subquery())
        ).all()
    ),
    "scalar_in_between": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            m.Shop.id.between(0, select(func.count(m.Post.id)).where(m.Post.author_id == 3).scalar_subquery())
        )
    ).all(),
    "scalar_in_tuple": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            tuple_(m.Shop.id, 1)
            == tuple_(1, select(func.count(m.Post.id)).where(m.Post.author_id == 3).scalar_subquery())
        )
    ).all(),
    "function_filter": lambda s, m: s.scalars(
        select(func.count(m.Shop.id).filter(exists().where(m.Post.shop_id == m.Shop.id, m.Post.author_id == 3)))
    ).all(),
    "function_filter_core": lambda s, m: s.scalars(
        select(func.count(m.Shop.id).filter(exists().where(m.T.c.shop_id == m.Shop.id, m.T.c.author_id == 3)))
    ).all(),
    "window_order": lambda s, m: s.execute(
        select(
            m.Shop.id,
            func.row_number().over(
                order_by=select(func.max(m.Post.score)).where(m.Post.shop_id == m.Shop.id).scalar_subquery()
            ),
        )
    ).all(),
    "window_order_core": lambda s, m: s.execute(
        select(
            m.Shop.id,
            func.row_number().over(
                order_by=select(func.max(m.T.c.score)).where(m.T.c.shop_id == m.Shop.id).scalar_subquery()
            ),
        )
    ).all(),
    "window_entity": lambda s, m: s.execute(
        select(
            m.Post.id,
            func.rank().over(partition_by=m.Post.author_id, order_by=m.Post.score.desc()),
            func.count().over(),
        )
    ).all(),
    "distinct_scalars": lambda s, m: s.scalars(select(m.Post.author_id).distinct()).all(),
    "count_distinct": lambda s, m: s.scalar(select(func.count(m.Post.author_id.distinct()))),
    "count_star_from_class": lambda s, m: s.scalar(select(func.count()).select_from(m.Post)),
    "literal_where_exists": lambda s, m: s.scalars(
        select(literal(1)).where(exists(select(m.Post.id).where(m.Post.score > 90)))
    ).all(),
    "literal_where_exists_core": lambda s, m: s.scalars(
        select(literal(1)).where(exists(select(m.T.c.id).where(m.T.c.score > 90)))
    ).all(),
    "select_exists": lambda s, m: s.scalar(select(exists().where(m.Post.score > 90))),
    "select_exists_core": lambda s, m: s.scalar(select(exists().where(m.T.c.score > 90))),
    "select_exists_of_class": lambda s, m: s.scalar(select(exists(m.Post).where(m.Post.score > 90))),
    "exists_nested_twice": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            exists().where(m.Post.shop_id == m.Shop.id, exists().where(m.Comment.post_id == m.Post.id))
        )
    ).all(),
    "exists_in_core_shop": lambda s, m: s.scalars(
        select(m.Shop.__table__.c.id).where(
            exists().where(m.Post.shop_id == m.Shop.__table__.c.id, m.Post.author_id == 3)
        )
    ).all(),
    "in_within_core_shop": lambda s, m: s.scalars(
        select(m.Shop.__table__.c.id).where(m.Shop.__table__.c.id.in_(select(m.Post.shop_id)))
    ).all(),
    "any_all": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            m.Shop.id.in_(union(select(m.Post.shop_id).where(m.Post.author_id == 3), select(literal(7))))
        )
    ).all(),
    "implicit_join": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id).where(m.Author.id == m.Post.author_id)
    ).all(),
    "implicit_join_column": lambda s, m: s.execute(select(m.Author.id).where(m.Author.id == m.Post.author_id)).all(),
    "implicit_join_core": lambda s, m: s.execute(select(m.Author.id).where(m.Author.id == m.T.c.author_id)).all(),
    "union_orm": lambda s, m: s.execute(union(select(m.Post.id), select(m.Author.id))).all(),
    "union_half_core": lambda s, m: s.execute(union_all(select(m.Post.id), select(m.T.c.id))).all(),
    "union_core_first": lambda s, m: s.execute(union_all(select(m.T.c.id), select(m.Post.id))).all(),
    "intersect": lambda s, m: s.execute(select(m.Post.title).intersect(select(m.T.c.title))).all(),
    "except_": lambda s, m: s.execute(
        select(m.Shop.id).except_(select(m.Post.shop_id).where(m.Post.author_id == 3))
    ).all(),
    "except_core": lambda s, m: s.execute(
        select(m.Shop.id).except_(select(m.T.c.shop_id).where(m.T.c.author_id == 3))
    ).all(),
    "union_ordered": lambda s, m: s.execute(
        union(select(m.Post.id.label("x")), select(m.Author.id)).order_by("x").limit(3)
    ).all(),
    "from_statement_union": lambda s, m: s.scalars(
        select(m.Post).from_statement(union_all(select(m.Post), select(m.Post)))
    ).all(),
    "from_statement_orm": lambda s, m: s.scalars(
        select(m.Post).from_statement(select(m.Post).where(m.Post.score > 0))
    ).all(),
    "from_statement_core": lambda s, m: s.scalars(select(m.Post).from_statement(select(m.T))).all(),
    "from_statement_text": lambda s, m: s.scalars(
        select(m.Post).from_statement(text(f"select * from {m.T.name}"))
    ).all(),
    "from_statement_text_harmless": lambda s, m: s.scalars(
        select(m.Shop).from_statement(text(f"select * from {m.Shop.__table__.name}"))
    ).all(),
    "from_statement_update": lambda s, m: s.scalars(
        select(m.Post).from_statement(update(m.Post).values(score=0).returning(m.Post))
    ).all(),
    "from_statement_update_core": lambda s, m: s.scalars(
        select(m.Post).from_statement(update(m.T).values(score=0).returning(m.T))
    ).all(),
    "from_statement_insert": lambda s, m: s.scalars(
        select(m.Post).from_statement(insert(m.Post).values(id=60, title="new").returning(m.Post))
    ).all(),
    "from_statement_of_shop_by_posts": lambda s, m: s.scalars(
        select(m.Shop).from_statement(select(m.T.c.shop_id.label("id"), m.T.c.title.label("name")))
    ).all(),
    "alias_entity": lambda s, m: s.scalars(select(aliased(m.Post))).all(),
    "alias_flat": lambda s, m: s.scalars(select(aliased(m.Post, flat=True))).all(),
    "alias_of_subquery": lambda s, m: s.scalars(select(aliased(m.Post, select(m.Post).subquery()))).all(),
    "alias_of_subquery_with_limit": lambda s, m: s.scalars(
        select(aliased(m.Post, select(m.Post).order_by(m.Post.score.desc()).limit(2).subquery()))
    ).all(),
    "alias_of_core_subquery": lambda s, m: s.scalars(select(aliased(m.Post, select(m.T).subquery()))).all(),
    "alias_of_core_subquery_without_marks": lambda s, m: s.scalars(
        select(aliased(m.Post, select(m.T.c.id, m.T.c.title).subquery()).title)
    ).all(),
    "alias_of_core_alias": lambda s, m: s.scalars(select(aliased(m.Post, m.T.alias("z")))).all(),
    "alias_of_core_cte": lambda s, m: s.scalars(select(aliased(m.Post, select(m.T).cte()))).all(),
    "alias_joined_inheritance_flat": lambda s, m: s.scalars(select(aliased(m.Car, flat=True).doors)).all(),
    "alias_of_joined_join": lambda s, m: s.execute(select(aliased(m.Car).id)).all(),
    "join_on_core": lambda s, m: s.execute(
        select(m.Author.id, m.Post.title).join(m.Post, m.T.c.author_id == m.A.c.id)
    ).all(),
    "join_on_true": lambda s, m: s.execute(select(m.Shop.id, m.Post.title).join(m.Post, true())).all(),
    "join_on_text": lambda s, m: s.execute(select(m.Shop.id, m.Post.title).join(m.Post, text("1=1 or 1=1"))).all(),
    "outer_join": lambda s, m: s.execute(
        select(m.Author.id, m.Post.title).outerjoin(m.Post, m.Post.author_id == m.Author.id)
    ).all(),
    "outer_join_anti": lambda s, m: s.scalars(
        select(m.Author.id).outerjoin(m.Post, m.Post.author_id == m.Author.id).where(m.Post.id.is_(None))
    ).all(),
    "outer_join_relationship": lambda s, m: s.execute(
        select(m.Author.id, m.Post.title).outerjoin(m.Author.posts)
    ).all(),
    "outer_join_from_hidden": lambda s, m: s.execute(
        select(m.Shop.id, m.Post.id).select_from(m.Post).outerjoin(m.Shop, m.Shop.id == m.Post.shop_id)
    ).all(),
    "full_join": lambda s, m: s.execute(
        select(m.Shop.id, m.Post.title).join(m.Post, m.Post.shop_id == m.Shop.id, full=True)
    ).all(),
    "full_join_core": lambda s, m: s.execute(
        select(m.Shop.id, m.T.c.title).join(m.T, m.T.c.shop_id == m.Shop.id, full=True)
    ).all(),
    "join_core_table": lambda s, m: s.execute(select(m.Author.id).join(m.T, m.T.c.author_id == m.Author.id)).all(),
    "join_core_table_column": lambda s, m: s.execute(
        select(m.Author.id, m.T.c.title).join(m.T, m.T.c.author_id == m.Author.id)
    ).all(),
    "outer_join_core_table": lambda s, m: s.execute(
        select(m.Author.id, m.T.c.title).outerjoin(m.T, m.T.c.author_id == m.Author.id)
    ).all(),
    "select_from_orm_join": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id).select_from(orm_join(m.Author, m.Post, m.Author.posts))
    ).all(),
    "select_from_orm_outerjoin": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id).select_from(orm_outerjoin(m.Author, m.Post, m.Author.posts))
    ).all(),
    "select_from_core_join": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id).select_from(sa.join(m.Author, m.Post, m.Author.id == m.Post.author_id))
    ).all(),
    "select_from_core_outerjoin": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id).select_from(sa.outerjoin(m.Author, m.Post, m.Author.id == m.Post.author_id))
    ).all(),
    "select_from_table_join": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id).select_from(m.A.join(m.T, m.A.c.id == m.T.c.author_id))
    ).all(),
    "select_from_table_count": lambda s, m: s.execute(
        select(func.count(m.Shop.id)).select_from(m.Shop.__table__.join(m.T, m.T.c.shop_id == m.Shop.__table__.c.id))
    ).all(),
    "join_through_secondary": lambda s, m: s.execute(select(m.Post.id, m.Tag.name).join(m.Post.tags)).all(),
    "join_secondary_table": lambda s, m: s.execute(
        select(m.Post.id, m.post_tag.c.tag_id).join(m.post_tag, m.post_tag.c.post_id == m.Post.id)
    ).all(),
    "join_scoped_secondary": lambda s, m: s.execute(select(m.Author.id, m.Tag.name).join(m.Author.tags)).all(),
    "outer_join_scoped_secondary": lambda s, m: s.execute(
        select(m.Author.id, m.Tag.name).outerjoin(m.Author.tags)
    ).all(),
    "any_scoped_secondary": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.tags.any())).all(),
    "any_scoped_secondary_of": lambda s, m: s.scalars(
        select(m.Author.id).where(m.Author.tags.any(m.Tag.name == "red"))
    ).all(),
    "joined_scoped_secondary": lambda s, m: [
        [t.id for t in a.tags]
        for a in s.scalars(select(m.Author).options(joinedload(m.Author.tags)).order_by(m.Author.id)).unique()
    ],
    "selectin_scoped_secondary": lambda s, m: [
        sorted(t.id for t in a.tags)
        for a in s.scalars(select(m.Author).options(selectinload(m.Author.tags)).order_by(m.Author.id))
    ],
    "subquery_scoped_secondary": lambda s, m: [
        sorted(t.id for t in a.tags)
        for a in s.scalars(select(m.Author).options(subqueryload(m.Author.tags)).order_by(m.Author.id))
    ],
    "lazy_scoped_secondary": lambda s, m: [
        sorted(t.id for t in a.tags) for a in s.scalars(select(m.Author).order_by(m.Author.id))
    ],
    "exists_scoped_secondary": lambda s, m: s.scalars(
        select(m.Author.id).where(m.Author.tags.any(), exists().where(m.Membership.author_id == m.Author.id))
    ).all(),
    "secondary_lazy": lambda s, m: [
        sorted(t.id for t in p.tags) for p in s.scalars(select(m.Post).order_by(m.Post.id))
    ],
    "secondary_joined": lambda s, m: [
        sorted(t.id for t in p.tags)
        for p in s.scalars(select(m.Post).options(joinedload(m.Post.tags)).order_by(m.Post.id)).unique()
    ],
    "secondary_joined_inner": lambda s, m: [
        sorted(t.id for t in p.tags)
        for p in s.scalars(select(m.Post).options(joinedload(m.Post.tags, innerjoin=True)).order_by(m.Post.id)).unique()
    ],
    "secondary_of_class_table": lambda s, m: [
        sorted(t.id for t in a.commented) for a in s.scalars(select(m.Author).order_by(m.Author.id))
    ],
    "secondary_of_class_table_selectin": lambda s, m: [
        sorted(t.id for t in a.commented)
        for a in s.scalars(select(m.Author).options(selectinload(m.Author.commented)).order_by(m.Author.id))
    ],
    "secondary_of_class_table_joined": lambda s, m: [
        sorted(t.id for t in a.commented)
        for a in s.scalars(select(m.Author).options(joinedload(m.Author.commented)).order_by(m.Author.id)).unique()
    ],
    "secondary_of_class_table_any": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.commented.any())).all(),
    "secondary_join_lazy": lambda s, m: [
        sorted(t.id for t in a.comments_by_join) for a in s.scalars(select(m.Author).order_by(m.Author.id))
    ],
    "secondary_join_any": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.comments_by_join.any())).all(),
    "dynamic_all": lambda s, m: [
        [p.id for p in a.posts_dynamic] for a in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "dynamic_count": lambda s, m: [
        a.posts_dynamic.count() for a in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "dynamic_filter": lambda s, m: [
        a.posts_dynamic.filter(m.Post.score > 0).with_entities(m.Post.title).all()
        for a in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "write_only_select": lambda s, m: [
        s.scalars(a.posts_write.select()).all() for a in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "write_only_update": lambda s, m: nothing(s.execute(s.get(m.Author, 1).posts_write.update().values(score=0))),
    "write_only_delete": lambda s, m: nothing(s.execute(s.get(m.Author, 1).posts_write.delete())),
    "write_only_insert": lambda s, m: nothing(
        s.execute(s.get(m.Author, 1).posts_write.insert(), [{"id": 60, "title": "n"}])
    ),
    "with_parent_": lambda s, m: s.scalars(select(m.Post).where(with_parent(s.get(m.Author, 1), m.Author.posts))).all(),
    "selectin_and": lambda s, m: [
        [p.id for p in a.posts]
        for a in s.scalars(
            select(m.Author).options(selectinload(m.Author.posts.and_(m.Post.score > 1))).order_by(m.Author.id)
        ).unique()
    ],
    "joined_and_or": lambda s, m: [
        [p.id for p in a.posts]
        for a in s.scalars(
            select(m.Author)
            .options(joinedload(m.Author.posts.and_(or_(m.Post.score > 1, true()))))
            .order_by(m.Author.id)
        ).unique()
    ],
    "selectin_and_core": lambda s, m: [
        [p.id for p in a.posts]
        for a in s.scalars(
            select(m.Author)
            .options(selectinload(m.Author.posts.and_(exists().where(m.Comment.__table__.c.post_id == m.Post.id))))
            .order_by(m.Author.id)
        ).unique()
    ],
    "joined_chain": lambda s, m: [
        [(p.id, [c.id for c in p.comments]) for p in a.posts]
        for a in s.scalars(
            select(m.Author).options(joinedload(m.Author.posts).joinedload(m.Post.comments)).order_by(m.Author.id)
        ).unique()
    ],
    "subquery_chain": lambda s, m: [
        [(p.id, [c.id for c in p.comments]) for p in a.posts]
        for a in s.scalars(
            select(m.Author).options(subqueryload(m.Author.posts).subqueryload(m.Post.comments)).order_by(m.Author.id)
        ).unique()
    ],
    "many_to_one_lazy": lambda s, m: [
        (p.id, p.author and p.author.name) for p in s.scalars(select(m.Post).order_by(m.Post.id))
    ],
    "many_to_one_joined": lambda s, m: [
        (p.id, p.author and p.author.name)
        for p in s.scalars(select(m.Post).options(joinedload(m.Post.author)).order_by(m.Post.id))
    ],
    "many_to_one_joined_inner": lambda s, m: [
        (p.id, p.author and p.author.name)
        for p in s.scalars(select(m.Post).options(joinedload(m.Post.author, innerjoin=True)).order_by(m.Post.id))
    ],
    "many_to_one_selectin": lambda s, m: [
        (p.id, p.author and p.author.name)
        for p in s.scalars(select(m.Post).options(selectinload(m.Post.author)).order_by(m.Post.id))
    ],
    "many_to_one_subquery": lambda s, m: [
        (p.id, p.author and p.author.name)
        for p in s.scalars(select(m.Post).options(subqueryload(m.Post.author)).order_by(m.Post.id))
    ],
    "many_to_one_immediate": lambda s, m: [
        (p.id, p.author and p.author.name)
        for p in s.scalars(select(m.Post).options(immediateload(m.Post.author)).order_by(m.Post.id))
    ],
    "many_to_one_raise_sql": lambda s, m: [
        (p.id, p.author and p.author.name)
        for p in s.scalars(select(m.Post).options(selectinload(m.Post.author), raiseload("*")).order_by(m.Post.id))
    ],
    "contains_eager_join": lambda s, m: [
        (a.id, [p.id for p in a.posts])
        for a in s.scalars(select(m.Author).join(m.Author.posts).options(contains_eager(m.Author.posts))).unique()
    ],
    "contains_eager_core_table": lambda s, m: [
        (a.id, [x.id for x in a.posts])
        for a in s.scalars(
            select(m.Author).outerjoin(m.T, m.T.c.author_id == m.Author.id).options(contains_eager(m.Author.posts))
        ).unique()
    ],
    "parent_of_stray": lambda s, m: [
        (n.id, n.parent and n.parent.id) for n in s.scalars(select(m.Node).order_by(m.Node.id))
    ],
    "self_any": lambda s, m: s.scalars(select(m.Node.id).where(m.Node.children.any())).all(),
    "self_has": lambda s, m: s.scalars(select(m.Node.id).where(m.Node.parent.has(m.Node.parent.has()))).all(),
    "column_property_entity": lambda s, m: [
        (x.id, x.post_count) for x in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "column_property_core": lambda s, m: [
        (x.id, x.post_count_core) for x in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "column_property_core_undefer": lambda s, m: [
        (x.id, x.post_count_core)
        for x in s.scalars(select(m.Author).options(undefer(m.Author.post_count_core)).order_by(m.Author.id)).unique()
    ],
    "column_property_column": lambda s, m: s.execute(select(m.Author.id, m.Author.post_count)).all(),
    "column_property_column_core": lambda s, m: s.execute(select(m.Author.id, m.Author.post_count_core)).all(),
    "column_property_of_plain": lambda s, m: [(x.id, x.post_count) for x in s.scalars(select(m.Shop))],
    "column_property_of_plain_get": lambda s, m: s.get(m.Shop, 1).post_count,
    "column_property_where": lambda s, m: s.scalars(select(m.Shop.id).where(m.Shop.post_count > 2)).all(),
    "column_property_order": lambda s, m: s.scalars(
        select(m.Shop.id).order_by(m.Shop.post_count.desc()).limit(1)
    ).all(),
    "column_property_joined": lambda s, m: [
        p.shop.post_count for p in s.scalars(select(m.Post).options(joinedload(m.Post.shop)).order_by(m.Post.id))
    ],
    "column_property_of_alias": lambda s, m: s.execute(select(aliased(m.Shop).post_count)).all(),
    "hybrid_where": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.best > 50)).all(),
    "hybrid_column": lambda s, m: s.execute(select(m.Author.id, m.Author.best)).all(),
    "hybrid_column_core": lambda s, m: s.execute(select(m.Author.id, m.Author.best_core)).all(),
    "with_expression_orm": lambda s, m: [
        (a.id, a.extra)
        for a in s.scalars(
            select(m.Author).options(
                with_expression(
                    m.Author.extra,
                    select(func.max(m.Post.score))
                    .where(m.Post.author_id == m.Author.id)
                    .correlate(m.Author)
                    .scalar_subquery(),
                )
            )
        ).unique()
    ],
    "with_expression_core": lambda s, m: [
        (a.id, a.extra)
        for a in s.scalars(
            select(m.Author).options(
                with_expression(
                    m.Author.extra,
                    select(func.max(m.T.c.score))
                    .where(m.T.c.author_id == m.Author.id)
                    .correlate(m.A)
                    .scalar_subquery(),
                )
            )
        ).unique()
    ],
    "proxy_any": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.member_tags.any(m.Tag.name == "red"))).all(),
    "proxy_value_any": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.post_titles == "hidden-p")).all(),
    "proxy_contains": lambda s, m: s.scalars(
        select(m.Author.id).where(m.Author.post_titles.contains("hidden-p"))
    ).all(),
    "proxy_read": lambda s, m: [
        sorted(a.post_titles) for a in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "proxy_tags": lambda s, m: [
        sorted(t.name for t in a.member_tags if t) for a in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ],
    "bundle": lambda s, m: s.execute(select(Bundle("b", m.Post.id, m.Post.title))).all(),
    "bundle_core": lambda s, m: s.execute(select(Bundle("b", m.T.c.id, m.T.c.title))).all(),
    "bundle_two": lambda s, m: s.execute(select(Bundle("b", m.Author.id, m.Post.title)).join(m.Author.posts)).all(),
    "any_": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.posts.any(m.Post.score > 90))).all(),
    "any_not": lambda s, m: s.scalars(select(m.Author.id).where(~m.Author.posts.any())).all(),
    "any_of_plain": lambda s, m: s.scalars(select(m.Shop.id).where(m.Shop.posts.any(m.Post.author_id == 3))).all(),
    "any_of_subquery": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.posts_of_subquery.any())).all(),
    "any_of_core": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.posts_of_core.any())).all(),
    "has_": lambda s, m: s.scalars(select(m.Post.id).where(m.Post.author.has(m.Author.rank > 50))).all(),
    "has_not": lambda s, m: s.scalars(select(m.Post.id).where(~m.Post.author.has())).all(),
    "any_any": lambda s, m: s.scalars(select(m.Author.id).where(m.Author.posts.any(m.Post.comments.any()))).all(),
    "any_tags": lambda s, m: s.scalars(select(m.Post.id).where(m.Post.tags.any())).all(),
    "any_text": lambda s, m: s.scalars(
        select(m.Shop.id).where(m.Shop.posts.any(text("author_id = 3 or author_id = 3")))
    ).all(),
    "relationship_equals": lambda s, m: s.scalars(select(m.Post.id).where(m.Post.author == s.get(m.Author, 1))).all(),
    "relationship_is_none": lambda s, m: s.scalars(select(m.Post.id).where(m.Post.author == None)).all(),  # noqa: E711
    "relationship_contains": lambda s, m: s.scalars(
        select(m.Shop.id).where(m.Shop.posts.contains(s.get(m.Post, 1)))
    ).all(),
    "aggregate_order_by": lambda s, m: s.execute(
        select(m.Post.shop_id, func.sum(m.Post.score)).group_by(m.Post.shop_id).having(func.sum(m.Post.score) > 5)
    ).all(),
    "group_by_join": lambda s, m: s.execute(
        select(m.Shop.id, func.count(m.Post.id)).outerjoin(m.Shop.posts).group_by(m.Shop.id)
    ).all(),
    "inherit_base": lambda s, m: s.scalars(select(m.Vehicle)).all(),
    "inherit_car": lambda s, m: s.scalars(select(m.Car)).all(),
    "inherit_car_column": lambda s, m: s.scalars(select(m.Car.doors)).all(),
    "inherit_truck": lambda s, m: s.scalars(select(m.Truck.load)).all(),
    "inherit_car_table": lambda s, m: s.execute(select(m.Car.__table__)).all(),
    "inherit_car_table_exists": lambda s, m: s.execute(
        select(m.Shop.id).where(exists().where(m.Car.__table__.c.doors == 55))
    ).all(),
    "inherit_car_table_join": lambda s, m: s.execute(
        select(m.Vehicle.id, m.Car.__table__.c.doors).outerjoin(m.Car.__table__, m.Car.__table__.c.id == m.Vehicle.id)
    ).all(),
    "inherit_polymorphic": lambda s, m: s.scalars(select(with_polymorphic(m.Vehicle, "*"))).all(),
    "inherit_selectin": lambda s, m: s.scalars(
        select(m.Vehicle).options(selectin_polymorphic(m.Vehicle, [m.Car, m.Truck]))
    ).all(),
    "inherit_exists": lambda s, m: s.scalars(
        select(m.Shop.id).where(exists().where(m.Car.owner_id == m.Shop.id, m.Car.doors > 50))
    ).all(),
    "inherit_in": lambda s, m: s.scalars(select(m.Shop.id).where(m.Shop.id.in_(select(m.Truck.owner_id)))).all(),
    "inherit_update": lambda s, m: nothing(s.execute(update(m.Truck).values(load=0))),
    "inherit_update_base": lambda s, m: nothing(s.execute(update(m.Vehicle).values(wheels=0))),
    "inherit_update_child": lambda s, m: nothing(s.execute(update(m.Car).values(doors=0))),
    "inherit_update_child_where": lambda s, m: nothing(
        s.execute(update(m.Car).where(m.Car.id == m.Vehicle.id, m.Vehicle.wheels > 0).values(doors=0))
    ),
    "inherit_delete_child": lambda s, m: nothing(s.execute(delete(m.Car))),
    "inherit_delete_base": lambda s, m: nothing(s.execute(delete(m.Vehicle))),
    "inherit_get": lambda s, m: [s.get(m.Vehicle, 101), s.get(m.Car, 101), s.get(m.Truck, 102), s.get(m.Car, 1)],
    "inherit_car_count": lambda s, m: s.scalar(select(func.count(m.Car.doors))),
    "text_whole": lambda s, m: s.execute(text(f"select title from {m.T.name}")).all(),
    "text_columns": lambda s, m: s.execute(text(f"select title from {m.T.name}").columns(column("title"))).all(),
    "text_dml": lambda s, m: nothing(s.execute(text(f"update {m.T.name} set score = 0"))),
    "text_dml_delete": lambda s, m: nothing(s.execute(text(f"delete from {m.T.name}"))),
    "text_where_or": lambda s, m: s.scalars(select(m.Post.id).where(text("1=1 or 1=1"))).all(),
    "text_where_comment": lambda s, m: s.scalars(select(m.Post.id).where(text("1=1 --"))).all(),
    "text_where_close": lambda s, m: s.scalars(select(m.Post.id).where(text("1=1) or (1=1"))).all(),
    "text_where_union": lambda s, m: s.execute(
        select(m.Post.title).where(text(f"1=1 union select title from {m.T.name}"))
    ).all(),
    "text_column": lambda s, m: s.scalars(select(literal_column(f"(select max(score) from {m.T.name})"))).all(),
    "text_column_quoted": lambda s, m: s.scalars(
        select(literal_column(f'(select max(score) from "{m.T.name}")'))
    ).all(),
    "text_column_upper": lambda s, m: s.scalars(
        select(literal_column(f"(SELECT max(score) FROM\t{m.T.name.upper()})"))
    ).all(),
    "text_column_bracket": lambda s, m: s.scalars(
        select(literal_column(f"(select max(score) from [{m.T.name}])"))
    ).all(),
    "text_column_comment": lambda s, m: s.scalars(
        select(literal_column(f"(select max(score) from/**/{m.T.name}/**/)"))
    ).all(),
    "text_column_schema": lambda s, m: s.scalars(
        select(literal_column(f"(select max(score) from main.{m.T.name})"))
    ).all(),
    "text_order_by": lambda s, m: s.scalars(
        select(m.Shop.id)
        .order_by(text(f"(select max(score) from {m.T.name} p where p.shop_id = {m.Shop.__table__.name}.id) desc"))
        .limit(1)
    ).all(),
    "text_order_by_harmless": lambda s, m: s.scalars(select(m.Post.id).order_by(text("score desc")).limit(2)).all(),
    "text_group_by": lambda s, m: s.execute(select(func.count(m.Post.id)).group_by(text("author_id"))).all(),
    "text_select_from": lambda s, m: s.execute(select(text("title")).select_from(text(m.T.name))).all(),
    "text_select_from_upper": lambda s, m: s.execute(
        select(text("title")).select_from(text(f'"{m.T.name.upper()}"'))
    ).all(),
    "text_select_from_class": lambda s, m: s.execute(select(text("title")).select_from(m.Post)).all(),
    "text_column_of_class": lambda s, m: s.execute(select(literal_column("count(*)")).select_from(m.Post)).all(),
    "text_prefix": lambda s, m: s.scalars(
        select(m.Shop.name).prefix_with(text(f"(select max(score) from {m.T.name}) as x,"))
    ).all(),
    "text_suffix": lambda s, m: s.execute(select(m.Shop.name).suffix_with(f"union select title from {m.T.name}")).all(),
    "text_suffix_of_post": lambda s, m: s.execute(select(m.Post.title).suffix_with("or 1=1")).all(),
    "text_prefix_distinct": lambda s, m: s.execute(select(m.Post.author_id).prefix_with("distinct")).all(),
    "text_table_hint": lambda s, m: s.execute(select(m.Post.title).with_hint(m.Post, "NOT INDEXED", "sqlite")).all(),
    "text_statement_hint": lambda s, m: s.execute(select(m.Post.title).with_statement_hint("or 1=1")).all(),
    "text_operator": lambda s, m: s.scalars(
        select(m.Shop.id).where(m.Shop.id.op(f"in (select shop_id from {m.T.name} where author_id = 3) and 1 =")(1))
    ).all(),
    "text_operator_or": lambda s, m: s.scalars(
        select(m.Post.id).where(m.Post.id.op("= 0 or 1 =", is_comparison=True)(1))
    ).all(),
    "text_operator_or_loose": lambda s, m: s.scalars(
        select(m.Post.id).where(m.Post.id.bool_op("= 0 or 1 =", precedence=100)(1))
    ).all(),
    "text_operator_or_comment": lambda s, m: s.scalars(select(m.Post.id).where(m.Post.id.op("= 0 or 1=1 --")(1))).all(),
    "text_unquoted_column": lambda s, m: s.execute(
        select(column(sa.quoted_name(f"(select max(score) from {m.T.name})", False)))
    ).all(),
    "text_unquoted_table": lambda s, m: s.execute(
        select(func.count()).select_from(table(sa.quoted_name(f"(select * from {m.T.name})", False)))
    ).all(),
    "text_collate": lambda s, m: s.execute(select(m.Shop.id).order_by(m.Shop.name.collate("nocase"))).all(),
    "text_and": lambda s, m: s.scalars(select(m.Post.id).where(and_(text("1=1"), text("1=1 or 1=1")))).all(),
    "text_literal_column_or": lambda s, m: s.scalars(select(m.Post.id).where(literal_column("1=1 or 1=1"))).all(),
    "text_literal_column_or_boolean": lambda s, m: s.scalars(
        select(m.Post.id).where(literal_column("1=1 or 1=1", sa.Boolean))
    ).all(),
    "text_having": lambda s, m: s.execute(
        select(m.Post.author_id).group_by(m.Post.author_id).having(text("1=1 or 1=1"))
    ).all(),
    "text_update_where": lambda s, m: nothing(
        s.execute(update(m.Post).where(text("1=1 or 1=1")).values(score=0).execution_options(synchronize_session=False))
    ),
    "text_delete_where": lambda s, m: nothing(
        s.execute(delete(m.Post).where(text("1=1 or 1=1")).execution_options(synchronize_session=False))
    ),
    "text_update_values": lambda s, m: nothing(
        s.execute(
            update(m.Shop)
            .values(name=text(f"(select max(title) from {m.T.name})"))
            .execution_options(synchronize_session=False)
        )
    ),
    "text_update_values_where": lambda s, m: nothing(
        s.execute(update(m.Post).values(score=text("score + 1")).execution_options(synchronize_session=False))
    ),
    "text_case": lambda s, m: s.scalars(select(case((text("1=1"), m.Post.id), else_=literal_column("0")))).all(),
    "text_func": lambda s, m: s.scalars(select(func.coalesce(text(f"(select max(score) from {m.T.name})"), 0))).all(),
    "text_in": lambda s, m: s.scalars(
        select(m.Author.id).where(m.Author.id.in_(text(f"select author_id from {m.T.name}")))
    ).all(),
    "text_exists": lambda s, m: s.scalars(
        select(m.Shop.id).where(text(f"exists (select 1 from {m.T.name} where author_id = 3)"))
    ).all(),
    "text_from_dual": lambda s, m: s.execute(text("select 1")).all(),
    "update_all": lambda s, m: nothing(s.execute(update(m.Post).values(score=0))),
    "update_evaluate": lambda s, m: nothing(
        s.execute(update(m.Post).values(score=m.Post.score + 1).execution_options(synchronize_session="evaluate"))
    ),
    "update_returning": lambda s, m: s.execute(update(m.Post).values(score=0).returning(m.Post.id, m.Post.title)).all(),
    "update_returning_entity": lambda s, m: s.scalars(update(m.Post).values(score=0).returning(m.Post)).all(),
    "update_returning_subquery": lambda s, m: s.execute(
        update(m.Shop).values(name="x").returning(m.Shop.id, select(func.max(m.Post.score)).scalar_subquery())
    ).all(),
    "update_returning_subquery_core": lambda s, m: s.execute(
        update(m.Shop).values(name="x").returning(m.Shop.id, select(func.max(m.T.c.score)).scalar_subquery())
    ).all(),
    "update_subquery": lambda s, m: nothing(
        s.execute(
            update(m.Shop).values(
                name=select(func.max(cast(m.Post.score, sa.String)))
                .where(m.Post.shop_id == m.Shop.id)
                .scalar_subquery()
            )
        )
    ),
    "update_subquery_core": lambda s, m: nothing(
        s.execute(
            update(m.Shop).values(
                name=select(func.max(cast(m.T.c.score, sa.String))).where(m.T.c.shop_id == m.Shop.id).scalar_subquery()
            )
        )
    ),
    "update_where_in": lambda s, m: nothing(
        s.execute(
            update(m.Shop).where(m.Shop.id.in_(select(m.Post.shop_id).where(m.Post.author_id == 3))).values(name="x")
        )
    ),
    "update_where_exists": lambda s, m: nothing(
        s.execute(
            update(m.Shop).where(exists().where(m.Post.shop_id == m.Shop.id, m.Post.author_id == 3)).values(name="x")
        )
    ),
    "update_where_any": lambda s, m: nothing(
        s.execute(
            update(m.Shop)
            .where(m.Shop.posts.any(m.Post.author_id == 3))
            .values(name="x")
            .execution_options(synchronize_session="fetch")
        )
    ),
    "update_from": lambda s, m: nothing(
        s.execute(
            update(m.Shop)
            .where(m.Shop.id == m.Post.shop_id, m.Post.author_id == 3)
            .values(name=m.Post.title)
            .execution_options(synchronize_session=False)
        )
    ),
    "update_from_scoped": lambda s, m: nothing(
        s.execute(
            update(m.Author)
            .where(m.Author.id == m.Post.author_id)
            .values(rank=m.Post.score)
            .execution_options(synchronize_session=False)
        )
    ),
    "update_from_core": lambda s, m: nothing(
        s.execute(
            update(m.Shop)
            .where(m.Shop.id == m.T.c.shop_id, m.T.c.author_id == 3)
            .values(name=m.T.c.title)
            .execution_options(synchronize_session=False)
        )
    ),
    "update_table_of_plain": lambda s, m: nothing(
        s.execute(
            update(m.Shop.__table__)
            .where(m.Shop.__table__.c.id == m.Post.shop_id, m.Post.author_id == 3)
            .values(name="x")
        )
    ),
    "update_table_of_plain_subquery": lambda s, m: nothing(
        s.execute(
            update(m.Shop.__table__).values(name=select(func.max(cast(m.Post.score, sa.String))).scalar_subquery())
        )
    ),
    "update_or": lambda s, m: nothing(s.execute(update(m.Post).where(or_(m.Post.id == 1, true())).values(score=0))),
    "update_by_key": lambda s, m: nothing(
        s.execute(update(m.Post), [{"id": 101, "title": "owned"}, {"id": 1, "title": "mine"}])
    ),
    "update_ordered": lambda s, m: nothing(
        s.execute(update(m.Post).ordered_values((m.Post.score, 0), (m.Post.title, "t")))
    ),
    "delete_all": lambda s, m: nothing(s.execute(delete(m.Post))),
    "delete_hidden": lambda s, m: s.execute(delete(m.Post).where(m.Post.id == 101)).rowcount,
    "delete_returning": lambda s, m: s.execute(delete(m.Post).returning(m.Post.id, m.Post.title)).all(),
    "delete_fetch": lambda s, m: nothing(
        s.execute(delete(m.Post).where(m.Post.score > 2).execution_options(synchronize_session="fetch"))
    ),
    "delete_where_in": lambda s, m: nothing(
        s.execute(delete(m.Shop).where(m.Shop.id.in_(select(m.Post.shop_id).where(m.Post.author_id == 3))))
    ),
    "delete_where_exists_core": lambda s, m: nothing(
        s.execute(delete(m.Shop).where(exists().where(m.T.c.shop_id == m.Shop.id, m.T.c.author_id == 3)))
    ),
    "update_rowcount": lambda s, m: s.execute(update(m.Post).where(m.Post.id == 101).values(score=0)).rowcount,
    "insert_values": lambda s, m: nothing(s.execute(insert(m.Post).values(id=60, title="n"))),
    "insert_many": lambda s, m: nothing(
        s.execute(insert(m.Post), [{"id": 60, "title": "n"}, {"id": 61, "title": "o"}])
    ),
    "insert_returning": lambda s, m: s.scalars(
        insert(m.Post).returning(m.Post.title), [{"id": 60, "title": "n"}]
    ).all(),
    "insert_returning_subquery": lambda s, m: s.execute(
        insert(m.Shop).values(id=60, name="n").returning(m.Shop.id, select(func.max(m.Post.score)).scalar_subquery())
    ).all(),
    "insert_value_subquery": lambda s, m: nothing(
        s.execute(insert(m.Shop).values(id=60, name=select(func.max(cast(m.Post.score, sa.String))).scalar_subquery()))
    ),
    "insert_value_subquery_core": lambda s, m: nothing(
        s.execute(insert(m.Shop).values(id=60, name=select(func.max(cast(m.T.c.score, sa.String))).scalar_subquery()))
    ),
    "insert_value_subquery_scoped": lambda s, m: nothing(
        s.execute(
            insert(m.Author).values(id=60, name=select(func.max(cast(m.Post.score, sa.String))).scalar_subquery())
        )
    ),
    "insert_multi_values_subquery": lambda s, m: nothing(
        s.execute(
            insert(m.Shop).values(
                [
                    {"id": 60, "name": select(func.max(cast(m.Post.score, sa.String))).scalar_subquery()},
                    {"id": 61, "name": "x"},
                ]
            )
        )
    ),
    "insert_from_select": lambda s, m: nothing(
        s.execute(insert(m.Shop).from_select(["id", "name"], select(m.Post.id + 50, m.Post.title)))
    ),
    "insert_from_select_core": lambda s, m: nothing(
        s.execute(insert(m.Shop).from_select(["id", "name"], select(m.T.c.id + 50, m.T.c.title)))
    ),
    "insert_from_select_scoped": lambda s, m: nothing(
        s.execute(insert(m.Author).from_select(["id", "name"], select(m.Post.id + 50, m.Post.title)))
    ),
    "insert_from_union": lambda s, m: nothing(
        s.execute(
            insert(m.Shop).from_select(
                ["id", "name"], union_all(select(m.Post.id + 50, m.Post.title), select(m.Author.id + 70, m.Author.name))
            )
        )
    ),
    "insert_from_text": lambda s, m: nothing(
        s.execute(
            insert(m.Shop).from_select(
                ["id", "name"], text(f"select id + 50, title from {m.T.name}").columns(column("id"), column("title"))
            )
        )
    ),
    "insert_table_from_orm": lambda s, m: nothing(
        s.execute(insert(m.Shop.__table__).from_select(["id", "name"], select(m.Post.id + 50, m.Post.title)))
    ),
    "insert_table": lambda s, m: nothing(s.execute(insert(m.T).values(id=60, title="n"))),
    "insert_existing_hidden_key": lambda s, m: nothing(s.execute(insert(m.Post).values(id=101, title="n"))),
    "upsert_nothing": lambda s, m: nothing(
        s.execute(_dialect_insert(s)(m.Post).values(id=1, title="taken").on_conflict_do_nothing())
    ),
    "insert_or_replace": lambda s, m: nothing(
        s.execute(insert(m.Author).prefix_with("OR REPLACE").values(id=101, name="x"))
    ),
    "bulk_save": lambda s, m: nothing(s.bulk_save_objects([m.Post(id=60, title="n")])),
    "bulk_insert": lambda s, m: nothing(s.bulk_insert_mappings(m.Post, [{"id": 60, "title": "n"}])),
    "bulk_update": lambda s, m: nothing(s.bulk_update_mappings(m.Post, [{"id": 101, "title": "n"}])),
    "get_hidden": lambda s, m: s.get(m.Post, 101),
    "get_hidden_for_update": lambda s, m: s.get(m.Post, 101, with_for_update=True),
    "get_hidden_options": lambda s, m: s.get(m.Author, 101, options=[selectinload(m.Author.posts)]),
    "get_token": lambda s, m: s.get(m.Post, 101, identity_token="x"),
    "get_populate": lambda s, m: s.get(m.Post, 101, populate_existing=True),
    "get_composite": lambda s, m: [
        s.get(m.Membership, (1, 2)),
        s.get(m.Membership, {"author_id": 1, "tag_id": 2}),
        s.get(m.Membership, (1, 1)),
    ],
    "get_one_hidden": lambda s, m: s.get_one(m.Post, 101),
    "query_all": lambda s, m: s.query(m.Post).all(),
    "query_get": lambda s, m: s.query(m.Post).get(101),
    "query_get_populate": lambda s, m: s.query(m.Post).populate_existing().get(101),
    "query_count": lambda s, m: s.query(m.Post).count(),
    "query_count_core": lambda s, m: s.query(m.T).count(),
    "query_exists": lambda s, m: s.query(s.query(m.Post).filter(m.Post.score > 90).exists()).scalar(),
    "query_literal_exists": lambda s, m: (
        s.query(literal(True)).filter(s.query(m.Post).filter(m.Post.score > 90).exists()).scalar()
    ),
    "query_update": lambda s, m: s.query(m.Post).update({"score": 0}),
    "query_update_fetch": lambda s, m: (
        s.query(m.Post).filter(m.Post.score > 0).update({"score": 0}, synchronize_session="fetch")
    ),
    "query_delete": lambda s, m: s.query(m.Post).filter(m.Post.score > 1).delete(),
    "query_with_entities": lambda s, m: s.query(m.Post).with_entities(func.sum(m.Post.score)).scalar(),
    "query_union": lambda s, m: s.query(m.Post).union(s.query(m.Post)).all(),
    "query_union_count": lambda s, m: s.query(m.Post).union_all(s.query(m.Post)).count(),
    "query_from_statement": lambda s, m: s.query(m.Post).from_statement(text(f"select * from {m.T.name}")).all(),
    "query_from_statement_core": lambda s, m: s.query(m.Post).from_statement(select(m.T)).all(),
    "query_select_from_core": lambda s, m: s.query(m.Author.id).select_from(m.A).all(),
    "query_select_from_entity": lambda s, m: s.query(m.Post).select_from(m.Post).filter_by(score=99).all(),
    "query_select_from_subquery": lambda s, m: s.query(aliased(m.Post, s.query(m.Post).subquery())).all(),
    "query_set_base": lambda s, m: s.query(m.Post).select_from(orm_join(m.Author, m.Post, m.Author.posts)).all(),
    "query_subquery_core": lambda s, m: s.query(m.Author.id).filter(m.Author.id.in_(s.query(m.T.c.author_id))).all(),
    "query_subquery": lambda s, m: (
        s.query(m.Shop.id).filter(m.Shop.id.in_(s.query(m.Post.shop_id).filter(m.Post.author_id == 3))).all()
    ),
    "query_scalar_subquery": lambda s, m: s.query(m.Shop.id, s.query(func.max(m.Post.score)).scalar_subquery()).all(),
    "query_statement": lambda s, m: s.execute(s.query(m.Post).statement).all(),
    "query_enable_assertions": lambda s, m: s.query(m.Post).enable_assertions(False).filter(text("1=1 or 1=1")).all(),
    "query_yield_per": lambda s, m: s.query(m.Post).yield_per(2).all(),
    "query_slice": lambda s, m: s.query(m.Post).order_by(m.Post.score.desc())[:2],
    "query_filter_by": lambda s, m: s.query(m.Post.title).filter_by(id=101).all(),
    "query_join_core": lambda s, m: s.query(m.Author.id).join(m.T, m.T.c.author_id == m.Author.id).all(),
    "query_outerjoin": lambda s, m: s.query(m.Author.id, m.Post.id).outerjoin(m.Author.posts).all(),
    "query_with_for_update": lambda s, m: s.query(m.Post).with_for_update().all(),
    "query_column_table": lambda s, m: s.query(m.T.c.title).all(),
    "query_group": lambda s, m: s.query(m.Post.shop_id, func.count()).group_by(m.Post.shop_id).all(),
    "query_params": lambda s, m: s.query(m.Post).filter(text("score > :x or score > :x")).params(x=0).all(),
    "query_only_return_tuples": lambda s, m: s.query(m.Post).only_return_tuples(True).all(),
    "query_merge_result": lambda s, m: list(s.query(m.Post).merge_result(s.query(m.Post).all())),
    "yield_per": lambda s, m: s.scalars(select(m.Post).execution_options(yield_per=2)).all(),
    "partitions": lambda s, m: [list(p) for p in s.execute(select(m.Post.id).order_by(m.Post.id)).partitions(2)],
    "stream_results": lambda s, m: s.scalars(select(m.Post), execution_options={"stream_results": True}).all(),
    "scalar_string": lambda s, m: s.scalar(select(func.max(m.Post.title))),
    "func_execute": lambda s, m: s.scalar(func.coalesce(select(func.max(m.Post.score)).scalar_subquery(), 0)),
    "func_execute_core": lambda s, m: s.scalar(func.coalesce(select(func.max(m.T.c.score)).scalar_subquery(), 0)),
    "func_count_column": lambda s, m: s.scalar(func.count(m.Post.id)),
    "func_count_column_core": lambda s, m: s.scalar(func.count(m.T.c.id)),
    "aggregate_concat": lambda s, m: (
        sorted(s.scalar(select(func.group_concat(m.Post.title))).split(","))
        if s.get_bind().dialect.name == "sqlite"
        else None
    ),
    "user_criteria_overrides": lambda s, m: s.scalars(
        select(m.Post.id).options(with_loader_criteria(m.Post, lambda c: or_(c.id > 0, c.id < 0)))
    ).all(),
    "user_criteria_core": lambda s, m: s.scalars(
        select(m.Author.id).options(with_loader_criteria(m.Author, m.Author.id.in_(select(m.T.c.author_id))))
    ).all(),
    "user_criteria_include_aliases": lambda s, m: s.scalars(
        select(aliased(m.Post).id).options(with_loader_criteria(m.Post, true(), include_aliases=True))
    ).all(),
    "where_or_true": lambda s, m: s.scalars(select(m.Post.id).where(or_(m.Post.id > 0, true()))).all(),
    "with_only_columns": lambda s, m: s.execute(select(m.Post).with_only_columns(func.count())).all(),
    "with_only_columns_maintain": lambda s, m: s.execute(
        select(m.Post).with_only_columns(func.count(), maintain_column_froms=True)
    ).all(),
    "reduce_columns": lambda s, m: s.execute(
        select(m.Author, m.Post).join(m.Author.posts).with_only_columns(m.Post.title)
    ).all(),
    "correlate_all": lambda s, m: s.scalars(
        select(m.Author.id).where(select(m.Post.id).where(m.Post.author_id == m.Author.id).correlate(m.Author).exists())
    ).all(),
    "correlate_except_": lambda s, m: s.scalars(
        select(m.Author.id).where(
            select(m.Post.id).where(m.Post.author_id == m.Author.id).correlate_except(m.Post).exists()
        )
    ).all(),
    "for_update_of": lambda s, m: s.scalars(select(m.Post).with_for_update(of=m.Post)).all(),
    "expression_in_parameters": lambda s, m: nothing(s.execute(insert(m.Shop), [{"id": 60, "name": _worst(m)}])),
    "expression_in_parameters_core": lambda s, m: nothing(
        s.execute(insert(m.Shop), [{"id": 60, "name": _worst_core(m)}])
    ),
    "expression_in_single_parameters": lambda s, m: nothing(s.execute(insert(m.Shop), {"id": 60, "name": _worst(m)})),
    "expression_in_parameters_scoped": lambda s, m: nothing(
        s.execute(insert(m.Author), [{"id": 60, "name": _worst_core(m)}])
    ),
    "expression_in_update_by_key": lambda s, m: nothing(s.execute(update(m.Shop), [{"id": 1, "name": _worst(m)}])),
    "expression_in_bulk_mappings": lambda s, m: nothing(
        s.bulk_insert_mappings(m.Shop, [{"id": 60, "name": _worst(m)}])
    ),
    "expression_in_bulk_update": lambda s, m: nothing(s.bulk_update_mappings(m.Shop, [{"id": 1, "name": _worst(m)}])),
    "expression_in_query_update": lambda s, m: nothing(
        s.query(m.Shop).update({"name": _worst(m)}, synchronize_session=False)
    ),
    "expression_in_connection_parameters": lambda s, m: nothing(
        s.execute(select(m.Shop.id).where(m.Shop.name != bindparam("x")), {"x": "y"})
    ),
    "from_statement_delete": lambda s, m: s.scalars(
        select(m.Post).from_statement(delete(m.Post).where(m.Post.score > 2).returning(m.Post))
    ).all(),
    "from_statement_insert_many": lambda s, m: s.scalars(
        select(m.Post).from_statement(insert(m.Post).values([{"id": 60, "title": "n"}]).returning(m.Post))
    ).all(),
    "from_statement_insert_subquery": lambda s, m: s.scalars(
        select(m.Shop).from_statement(insert(m.Shop).values(id=60, name=_worst(m)).returning(m.Shop))
    ).all(),
    "executed_window": lambda s, m: s.execute(select(func.count(m.Post.id).over())).all(),
    "function_over_entity_of_alias": lambda s, m: s.scalar(func.count(aliased(m.Post).id)),
    "function_of_plain": lambda s, m: s.scalar(func.count(m.Shop.id)),
    "function_of_nothing": lambda s, m: s.scalar(func.coalesce(1, 2)),
    "function_of_two": lambda s, m: s.scalar(func.count(m.Car.doors)),
    "query_function": lambda s, m: s.query(func.count(m.Post.id)).scalar(),
    "next_value": lambda s, m: s.scalar(func.lower("X")),
    "ddl_text_harmless": lambda s, m: nothing(s.execute(sa.DDL("create table if not exists ddl_probe (id integer)"))),
    "ddl_text_insert": lambda s, m: nothing(s.execute(sa.DDL(f"update {m.T.name} set score = 0"))),
    "many_to_one_lazy_joined_by_mapping": lambda s, m: [
        (c.id, c.post_joined and c.post_joined.title) for c in s.scalars(select(m.Comment).order_by(m.Comment.id))
    ],
    "with_hidden_selectable": lambda s, m: s.scalars(
        select(func.count()).select_from(select(m.Post.id).subquery())
    ).all(),
    "schema_translated": lambda s, m: s.scalars(
        select(m.Post.title).execution_options(schema_translate_map={None: None})
    ).all(),
    "outer_join_chain": lambda s, m: s.execute(
        select(m.Author.id, m.Post.id, m.Comment.id).outerjoin(m.Author.posts).outerjoin(m.Post.comments)
    ).all(),
    "outer_then_inner": lambda s, m: s.execute(
        select(m.Author.id, m.Comment.id).outerjoin(m.Author.posts).join(m.Post.comments)
    ).all(),
    "outer_join_car": lambda s, m: s.execute(
        select(m.Shop.id, m.Car.doors).outerjoin(m.Car, m.Car.owner_id == m.Shop.id)
    ).all(),
    "alias_of_car_entity": lambda s, m: s.scalars(select(aliased(m.Car))).all(),
    "exists_car_select": lambda s, m: s.scalars(
        select(m.Shop.id).where(select(m.Car).where(m.Car.owner_id == m.Shop.id, m.Car.doors > 50).exists())
    ).all(),
    "identity_key_lookup": lambda s, m: s.get(m.Post, identity_key(m.Post, 101)[1]),
    "self_any_nested": lambda s, m: s.scalars(select(m.Node.id).where(m.Node.children.any(m.Node.id > 100))).all(),
    "self_joined_load": lambda s, m: [
        (n.id, [c.id for c in n.children])
        for n in s.scalars(select(m.Node).options(joinedload(m.Node.children)).order_by(m.Node.id)).unique()
    ],
    "self_subquery_load": lambda s, m: [
        (n.id, [c.id for c in n.children])
        for n in s.scalars(select(m.Node).options(subqueryload(m.Node.children)).order_by(m.Node.id)).unique()
    ],
    "delete_self_any": lambda s, m: nothing(
        s.execute(
            delete(m.Shop).where(m.Shop.posts.any(m.Post.author_id == 3)).execution_options(synchronize_session=False)
        )
    ),
    "insert_existing_key": lambda s, m: nothing(s.execute(insert(m.Post).values(id=1, title="n"))),
    "is_distinct": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            m.Shop.id.is_distinct_from(select(func.max(m.Post.shop_id)).where(m.Post.author_id == 3).scalar_subquery())
        )
    ).all(),
    "regexp_or_like": lambda s, m: s.scalars(
        select(m.Post.title).where(m.Post.title.like("hidden%") | m.Post.title.contains("t"))
    ).all(),
    "negated_exists_any": lambda s, m: s.scalars(
        select(m.Shop.id).where(not_(and_(m.Shop.posts.any(m.Post.author_id == 3), true())))
    ).all(),
    "text_bound": lambda s, m: s.execute(select(m.Post.id).where(text("score > :x or :x = 0").bindparams(x=0))).all(),
    "comment_in_text": lambda s, m: s.execute(select(m.Post.id).where(text("1=1 /* harmless */ or 1=1"))).all(),
    "comment_open_in_text": lambda s, m: s.execute(select(m.Post.id).where(text("1=1 /*"), text("*/ or 1=1"))).all(),
    "string_in_text": lambda s, m: s.execute(select(m.Post.id).where(text("title <> 'a) or (1=1'"))).all(),
    "cross_apply_count": lambda s, m: s.execute(
        select(m.Shop.id, func.count(m.Post.id)).select_from(m.Shop).join(m.Post, isouter=True).group_by(m.Shop.id)
    ).all(),
    "filter_by_join": lambda s, m: s.scalars(select(m.Author.name).join(m.Author.posts).filter_by(score=99)).all(),
    "having_exists": lambda s, m: s.scalars(
        select(m.Shop.id).group_by(m.Shop.id).having(exists().where(m.Post.shop_id == m.Shop.id, m.Post.author_id == 3))
    ).all(),
    "order_by_exists": lambda s, m: s.scalars(
        select(m.Shop.id)
        .order_by(exists().where(m.Post.shop_id == m.Shop.id, m.Post.author_id == 3).desc(), m.Shop.id)
        .limit(1)
    ).all(),
    "aliased_of_cte": lambda s, m: s.scalars(select(aliased(m.Post, select(m.Post).cte()))).all(),
    "polymorphic_any": lambda s, m: s.scalars(
        select(m.Shop.id).where(exists(select(with_polymorphic(m.Vehicle, "*").id)))
    ).all(),
    "load_only_entity": lambda s, m: [
        p.title for p in s.scalars(select(m.Post).options(load_only(m.Post.id)).order_by(m.Post.id))
    ],
    "defer_entity": lambda s, m: [
        p.title for p in s.scalars(select(m.Post).options(defer(m.Post.title)).order_by(m.Post.id))
    ],
    "update_limit_subquery": lambda s, m: nothing(
        s.execute(
            update(m.Post)
            .where(m.Post.id.in_(select(m.Post.id).order_by(m.Post.score.desc()).limit(1)))
            .values(title="top")
        )
    ),
    "delete_limit_subquery": lambda s, m: nothing(
        s.execute(delete(m.Post).where(m.Post.id.in_(select(m.Post.id).order_by(m.Post.score.desc()).limit(1))))
    ),
    "update_case": lambda s, m: nothing(
        s.execute(
            update(m.Shop)
            .values(
                name=case((exists().where(m.Post.shop_id == m.Shop.id, m.Post.author_id == 3), "hit"), else_="miss")
            )
            .execution_options(synchronize_session=False)
        )
    ),
    "update_case_core": lambda s, m: nothing(
        s.execute(
            update(m.Shop)
            .values(name=case((exists().where(m.T.c.shop_id == m.Shop.id, m.T.c.author_id == 3), "hit"), else_="miss"))
            .execution_options(synchronize_session=False)
        )
    ),
}
SPELLINGS |= {
    f"lazy_{attribute}": lambda s, m, attribute=attribute: [
        (author.id, sorted(post.id for post in getattr(author, attribute)))
        for author in s.scalars(select(m.Author).order_by(m.Author.id)).unique()
    ]
    for attribute in (
        "posts",
        "posts_select",
        "posts_selectin",
        "posts_subquery",
        "posts_immediate",
        "posts_of_subquery",
        "posts_of_core",
    )
}
ON_POSTGRESQL |= {
    "delete_using": lambda s, m: nothing(
        s.execute(
            delete(m.Shop)
            .where(m.Shop.id == m.Post.shop_id, m.Post.author_id == 3)
            .execution_options(synchronize_session=False)
        )
    ),
    "delete_using_core": lambda s, m: nothing(
        s.execute(
            delete(m.Shop)
            .where(m.Shop.id == m.T.c.shop_id, m.T.c.author_id == 3)
            .execution_options(synchronize_session=False)
        )
    ),
    "distinct_on": lambda s, m: s.execute(
        select(m.Post.author_id, m.Post.title)
        .distinct(m.Post.author_id)
        .order_by(m.Post.author_id, m.Post.score.desc())
    ).all(),
    "array_of": lambda s, m: s.scalar(select(func.array(select(m.Post.id).scalar_subquery()))),
    "array_constructor": lambda s, m: s.scalar(
        select(sa.func.cardinality(postgresql.array([select(func.max(m.T.c.score)).scalar_subquery()])))
    ),
    "array_agg_order": lambda s, m: s.scalar(
        select(func.array_agg(postgresql.aggregate_order_by(m.Post.id, m.Post.id)))
    ),
    "any_array": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            m.Shop.id == sa.any_(select(m.Post.shop_id).where(m.Post.author_id == 3).scalar_subquery())
        )
    ).all(),
    "any_array_core": lambda s, m: s.scalars(
        select(m.Shop.id).where(
            m.Shop.id == sa.any_(select(m.T.c.shop_id).where(m.T.c.author_id == 3).scalar_subquery())
        )
    ).all(),
    "tablesample": lambda s, m: s.scalar(select(func.count()).select_from(sa.tablesample(m.T, 100))),
    "tablesample_orm": lambda s, m: s.scalars(select(aliased(m.Post, sa.tablesample(m.Post, 100)).title)).all(),
    "table_only": lambda s, m: s.execute(select(m.Post.title).with_hint(m.Post, "ONLY", "postgresql")).all(),
    "within_group": lambda s, m: s.scalar(select(func.percentile_disc(0.99).within_group(m.Post.score))),
    "row_to_json": lambda s, m: s.scalars(select(func.row_to_json(m.T.table_valued()))).all(),
    "row_to_json_orm": lambda s, m: s.scalars(
        select(func.row_to_json(m.Post.__table__.table_valued())).select_from(m.Post)
    ).all(),
    "query_to_xml": lambda s, m: s.scalar(
        select(sa.cast(func.query_to_xml(f"select max(score) from {m.T.name}", True, True, ""), sa.String))
    ),
    "regclass": lambda s, m: s.scalar(select(func.count()).select_from(text(f'public."{m.T.name}"'))),
    "unicode_escape": lambda s, m: (
        s.scalar(select(literal_column(f'(select max(score) from U&"{m.T.name[:-1]}\\0074")')))
        if m.T.name.endswith("t")
        else None
    ),
}

# -- spellings of several lines ---------------------------------------------------------------------


@everywhere
def reflected(s: Any, m: Any) -> object:
    t = sa.Table(m.T.name, sa.MetaData(), autoload_with=s.get_bind())
    return s.execute(select(t.c.title)).all()


@everywhere
def reflected_in_exists(s: Any, m: Any) -> object:
    t = sa.Table(m.T.name, sa.MetaData(), autoload_with=s.get_bind())
    return s.scalars(select(m.Author.id).where(exists().where(t.c.author_id == m.Author.id))).all()


@everywhere
def other_table_object(s: Any, m: Any) -> object:
    t = sa.Table(
        m.T.name, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("author_id", sa.Integer)
    )
    return s.scalars(select(m.Author.id).join(t, t.c.author_id == m.Author.id)).all()


@everywhere
def to_metadata(s: Any, m: Any) -> object:
    t = m.T.to_metadata(sa.MetaData())
    return s.scalars(select(m.Author.id).where(m.Author.id.in_(select(t.c.author_id)))).all()


@everywhere
def lightweight_in_subquery(s: Any, m: Any) -> object:
    t = table(m.T.name, column("author_id"))
    return s.scalars(select(m.Author.id).where(m.Author.id.in_(select(t.c.author_id)))).all()


@everywhere
def lightweight_capital(s: Any, m: Any) -> object:
    t = table(m.T.name.upper(), column("author_id"))
    return s.scalars(select(m.Author.id).where(m.Author.id.in_(select(t.c.author_id)))).all()


@everywhere
def lightweight_schema(s: Any, m: Any) -> object:
    t = table(m.T.name, column("author_id"), schema="main")
    return s.scalars(select(m.Author.id).where(m.Author.id.in_(select(t.c.author_id)))).all()


@everywhere
def scalar_in_group_by(s: Any, m: Any) -> object:
    q = select(func.count(m.Post.id)).where(m.Post.shop_id == m.Shop.id).scalar_subquery()
    return s.execute(select(q, func.count()).select_from(m.Shop).group_by(q)).all()


@everywhere
def window_named_subquery(s: Any, m: Any) -> object:
    q = select(m.Post.id, func.row_number().over(order_by=m.Post.score.desc()).label("n")).subquery()
    return s.execute(select(q.c.id, q.c.n).where(q.c.n <= 2)).all()


@everywhere
def cte_orm(s: Any, m: Any) -> object:
    c = select(m.Post.id, m.Post.title).cte()
    return s.execute(select(c)).all()


@everywhere
def cte_core(s: Any, m: Any) -> object:
    c = select(m.T.c.id, m.T.c.title).cte()
    return s.execute(select(c)).all()


@everywhere
def cte_core_joined(s: Any, m: Any) -> object:
    c = select(m.T.c.author_id).cte()
    return s.scalars(select(m.Author.id).join(c, c.c.author_id == m.Author.id)).all()


@everywhere
def cte_of_cte(s: Any, m: Any) -> object:
    a = select(m.Post.id, m.Post.author_id).cte("a")
    b = select(a.c.id, a.c.author_id).cte("b")
    return s.execute(select(b.c.id, m.Author.name).join(m.Author, m.Author.id == b.c.author_id)).all()


@everywhere
def cte_only_in_exists(s: Any, m: Any) -> object:
    c = select(m.Post.shop_id.label("k")).where(m.Post.author_id == 3).cte()
    return s.scalars(select(m.Shop.id).where(exists().where(c.c.k == m.Shop.id))).all()


@everywhere
def cte_recursive(s: Any, m: Any) -> object:
    c = select(m.Node.id, literal(0).label("depth")).where(m.Node.id == 1).cte(recursive=True)
    c = c.union_all(select(m.Node.id, c.c.depth + 1).where(m.Node.parent_id == c.c.id))
    return s.execute(select(c.c.id, c.c.depth)).all()


@everywhere
def cte_recursive_join(s: Any, m: Any) -> object:
    c = select(m.Node.id).where(m.Node.id == 1).cte(recursive=True)
    c = c.union(select(m.Node.id).join(c, m.Node.parent_id == c.c.id))
    return s.execute(select(m.Node).join(c, c.c.id == m.Node.id)).all()


@everywhere
def cte_recursive_alias(s: Any, m: Any) -> object:
    c = select(m.Node.id).where(m.Node.id == 1).cte(recursive=True)
    n = aliased(m.Node)
    d = c.alias()
    c = c.union(select(n.id).where(n.parent_id == d.c.id))
    return s.execute(select(c)).all()


@everywhere
def cte_recursive_core(s: Any, m: Any) -> object:
    c = select(m.N.c.id).where(m.N.c.id == 1).cte(recursive=True)
    c = c.union_all(select(m.N.c.id).where(m.N.c.parent_id == c.c.id))
    return s.execute(select(c)).all()


@everywhere
def cte_recursive_half_core(s: Any, m: Any) -> object:
    c = select(m.Node.id).where(m.Node.id == 1).cte(recursive=True)
    c = c.union_all(select(m.N.c.id).where(m.N.c.parent_id == c.c.id))
    return s.execute(select(c)).all()


@everywhere
def cte_add_unreferenced(s: Any, m: Any) -> object:
    c = select(m.T.c.id).cte("x")
    return s.execute(select(m.Shop.id).add_cte(c)).all()


@everywhere
def cte_in_update(s: Any, m: Any) -> object:
    c = select(m.Post.shop_id).where(m.Post.author_id == 3).cte()
    s.execute(update(m.Shop).where(m.Shop.id.in_(select(c.c.shop_id))).values(name="x"))


@everywhere
def cte_in_delete(s: Any, m: Any) -> object:
    c = select(m.Post.shop_id.label("k")).where(m.Post.author_id == 3).cte()
    s.execute(delete(m.Shop).where(m.Shop.id.in_(select(c.c.k))))


@everywhere
def cte_nesting(s: Any, m: Any) -> object:
    c = select(m.Post.id).cte(nesting=True)
    return s.execute(select(select(func.count(c.c.id)).scalar_subquery())).all()


@on_postgresql
def cte_dml_orm(s: Any, m: Any) -> object:
    c = update(m.Post).values(score=0).returning(m.Post.id, m.Post.title).cte()
    return s.execute(select(c)).all()


@on_postgresql
def cte_dml_delete_orm(s: Any, m: Any) -> object:
    c = delete(m.Post).returning(m.Post.id, m.Post.title).cte()
    return s.execute(select(c)).all()


@on_postgresql
def cte_dml_core(s: Any, m: Any) -> object:
    c = update(m.T).values(score=0).returning(m.T.c.id).cte()
    return s.execute(select(c)).all()


@on_postgresql
def cte_dml_unreferenced(s: Any, m: Any) -> object:
    c = delete(m.Post).cte()
    return s.execute(select(m.Shop.id).add_cte(c)).all()


@on_postgresql
def cte_dml_insert(s: Any, m: Any) -> object:
    c = insert(m.Shop).from_select(["id", "name"], select(m.Post.id + 50, m.Post.title)).returning(m.Shop.id).cte()
    return s.execute(select(c)).all()


@on_postgresql
def cte_dml_insert_scoped(s: Any, m: Any) -> object:
    c = insert(m.Post).values(id=60, title="new").returning(m.Post.id).cte()
    return s.execute(select(c)).all()


@everywhere
def aliased_union(s: Any, m: Any) -> object:
    q = union_all(select(m.Post), select(m.Post)).subquery()
    return s.scalars(select(aliased(m.Post, q))).all()


@everywhere
def aliased_union_core(s: Any, m: Any) -> object:
    q = union_all(select(m.T), select(m.T)).subquery()
    return s.scalars(select(aliased(m.Post, q))).all()


@everywhere
def alias_twice(s: Any, m: Any) -> object:
    a, b = aliased(m.Post), aliased(m.Post)
    return s.execute(select(a.id, b.id).join(b, a.author_id == b.author_id)).all()


@everywhere
def alias_adapt_on_names(s: Any, m: Any) -> object:
    q = select(m.Shop.id, m.Shop.name.label("title")).subquery()
    return s.execute(select(aliased(m.Post, q, adapt_on_names=True).id)).all()


@everywhere
def alias_of_renamed_marks(s: Any, m: Any) -> object:
    cols = [c for c in m.T.c if c.name not in ("tenant_id", "deleted_at", "public")]
    q = select(
        *cols, sa.literal("acme").label("tenant_id"), sa.null().label("deleted_at"), sa.true().label("public")
    ).subquery()
    return s.execute(select(aliased(m.Post, q, adapt_on_names=True).title)).all()


@everywhere
def orm_subquery_with_forged_marks(s: Any, m: Any) -> object:
    q = select(m.Post.title, sa.literal("acme").label("tenant_id"), sa.null().label("deleted_at")).subquery()
    return s.execute(select(q.c.title)).all()


@everywhere
def alias_in_exists(s: Any, m: Any) -> object:
    p = aliased(m.Post)
    return s.scalars(select(m.Shop.id).where(exists().where(p.shop_id == m.Shop.id, p.author_id == 3))).all()


@everywhere
def subquery_of_alias(s: Any, m: Any) -> object:
    q = select(aliased(m.Post)).subquery()
    return s.execute(select(q.c.title)).all()


@everywhere
def full_join_of_subquery(s: Any, m: Any) -> object:
    q = select(m.Post.shop_id, m.Post.title).subquery()
    return s.execute(select(m.Shop.id, q.c.title).join(q, q.c.shop_id == m.Shop.id, full=True)).all()


@everywhere
def join_orm_subquery(s: Any, m: Any) -> object:
    q = select(m.Post.author_id, func.count(m.Post.id).label("n")).group_by(m.Post.author_id).subquery()
    return s.execute(select(m.Author.id, q.c.n).outerjoin(q, q.c.author_id == m.Author.id)).all()


@everywhere
def join_core_subquery(s: Any, m: Any) -> object:
    q = select(m.T.c.author_id, func.count(m.T.c.id).label("n")).group_by(m.T.c.author_id).subquery()
    return s.execute(select(m.Author.id, q.c.n).outerjoin(q, q.c.author_id == m.Author.id)).all()


@everywhere
def nested_join(s: Any, m: Any) -> object:
    j = sa.join(m.Post, m.Comment, m.Post.id == m.Comment.post_id)
    return s.execute(select(m.Shop.id, m.Comment.id).outerjoin(j, m.Post.shop_id == m.Shop.id)).all()


@everywhere
def contains_scoped_secondary(s: Any, m: Any) -> object:
    tag = s.get(m.Tag, 1)
    return s.scalars(select(m.Author.id).where(m.Author.tags.contains(tag))).all()


@everywhere
def selectin_populate_existing(s: Any, m: Any) -> object:
    held = s.scalars(select(m.Author)).unique().all()
    assert held
    return [
        [p.id for p in a.posts]
        for a in s.scalars(
            select(m.Author)
            .options(selectinload(m.Author.posts))
            .order_by(m.Author.id)
            .execution_options(populate_existing=True)
        ).unique()
    ]


@everywhere
def contains_eager_alias(s: Any, m: Any) -> object:
    p = aliased(m.Post)
    return [
        (a.id, [x.id for x in a.posts])
        for a in s.scalars(
            select(m.Author).outerjoin(m.Author.posts.of_type(p)).options(contains_eager(m.Author.posts.of_type(p)))
        ).unique()
    ]


@everywhere
def contains_eager_core_alias(s: Any, m: Any) -> object:
    t = m.T.alias("zz")
    p = aliased(m.Post, t)
    return [
        (a.id, [x.id for x in a.posts])
        for a in s.scalars(
            select(m.Author)
            .outerjoin(t, t.c.author_id == m.Author.id)
            .options(contains_eager(m.Author.posts.of_type(p)))
        ).unique()
    ]


@everywhere
def contains_eager_subquery(s: Any, m: Any) -> object:
    q = select(m.T).subquery()
    p = aliased(m.Post, q)
    return [
        (a.id, [x.id for x in a.posts])
        for a in s.scalars(
            select(m.Author).outerjoin(p, p.author_id == m.Author.id).options(contains_eager(m.Author.posts.of_type(p)))
        ).unique()
    ]


@everywhere
def lazy_after_expire(s: Any, m: Any) -> object:
    a = s.scalars(select(m.Author).where(m.Author.id == 1)).unique().one()
    s.expire(a)
    return (a.name, [p.id for p in a.posts])


@everywhere
def refresh_all(s: Any, m: Any) -> object:
    a = s.get(m.Author, 1)
    s.refresh(a, ["posts", "tags", "name"])
    return [p.id for p in a.posts], [t.id for t in a.tags]


@everywhere
def refresh_for_update(s: Any, m: Any) -> object:
    a = s.get(m.Author, 1)
    s.refresh(a, with_for_update=True)
    return a.name


@everywhere
def children_recursive(s: Any, m: Any) -> object:
    n = s.scalars(select(m.Node).where(m.Node.id == 1).options(selectinload(m.Node.children, recursion_depth=-1))).one()
    return [(c.id, [d.id for d in c.children]) for c in n.children]


@everywhere
def self_join(s: Any, m: Any) -> object:
    p = aliased(m.Node)
    return s.execute(select(m.Node.id, p.id).join(m.Node.parent.of_type(p))).all()


@everywhere
def self_outer_join(s: Any, m: Any) -> object:
    p = aliased(m.Node)
    return s.execute(select(m.Node.id, p.id).outerjoin(p, m.Node.parent_id == p.id)).all()


@everywhere
def self_exists_core(s: Any, m: Any) -> object:
    t = m.N.alias()
    return s.scalars(select(m.Node.id).where(exists().where(t.c.parent_id == m.Node.id))).all()


@everywhere
def column_property_refresh(s: Any, m: Any) -> object:
    x = s.get(m.Shop, 1)
    s.refresh(x, ["post_count"])
    return x.post_count


@everywhere
def column_property_expired(s: Any, m: Any) -> object:
    x = s.get(m.Shop, 1)
    s.expire(x, ["post_count"])
    return x.post_count


@everywhere
def column_property_after_commit(s: Any, m: Any) -> object:
    x = s.get(m.Shop, 1)
    s.commit()
    return x.post_count


@everywhere
def any_of_alias(s: Any, m: Any) -> object:
    a = aliased(m.Shop)
    return s.scalars(select(a.id).where(a.posts.any(m.Post.author_id == 3))).all()


@everywhere
def any_of_type(s: Any, m: Any) -> object:
    p = aliased(m.Post)
    return s.scalars(select(m.Shop.id).where(m.Shop.posts.of_type(p).any(p.author_id == 3))).all()


@everywhere
def inherit_polymorphic_flat(s: Any, m: Any) -> object:
    w = with_polymorphic(m.Vehicle, [m.Car], flat=True, aliased=True)
    return s.execute(select(w.id, w.Car.doors)).all()


@everywhere
def inherit_polymorphic_inner(s: Any, m: Any) -> object:
    w = with_polymorphic(m.Vehicle, [m.Car], innerjoin=True)
    return s.execute(select(w.Car.doors)).all()


@everywhere
def inherit_polymorphic_selectable(s: Any, m: Any) -> object:
    q = (
        select(m.Vehicle.__table__, m.Car.__table__.c.doors)
        .outerjoin(m.Car.__table__, m.Car.__table__.c.id == m.Vehicle.__table__.c.id)
        .subquery()
    )
    w = with_polymorphic(m.Vehicle, [m.Car], selectable=q)
    return s.execute(select(w.id, w.Car.doors)).all()


@everywhere
def inherit_orm_column_of_child_only(s: Any, m: Any) -> object:
    q = select(m.Car.doors).subquery()
    return s.execute(select(func.max(q.c.doors))).all()


@everywhere
def text_columns_subquery(s: Any, m: Any) -> object:
    q = text(f"select id, title from {m.T.name}").columns(column("id"), column("title")).subquery()
    return s.execute(select(q.c.title)).all()


@everywhere
def text_columns_cte_joined(s: Any, m: Any) -> object:
    q = text(f"select author_id from {m.T.name}").columns(column("author_id")).cte()
    return s.execute(select(m.Author.id).join(q, q.c.author_id == m.Author.id)).all()


@everywhere
def update_fetch(s: Any, m: Any) -> object:
    held = s.scalars(select(m.Post)).all()
    s.execute(update(m.Post).values(score=0).execution_options(synchronize_session="fetch"))
    return sorted(p.score for p in held)


@everywhere
def update_alias(s: Any, m: Any) -> object:
    p = aliased(m.Post)
    s.execute(
        update(m.Author).where(m.Author.id == p.author_id).values(name="x").execution_options(synchronize_session=False)
    )


@everywhere
def update_many_where(s: Any, m: Any) -> object:
    s.connection()
    s.execute(
        update(m.Post).where(m.Post.id == bindparam("k")).values(title=bindparam("v")),
        [{"k": 101, "v": "x"}, {"k": 1, "v": "y"}],
    )


@everywhere
def insert_from_cte(s: Any, m: Any) -> object:
    c = select(m.Post.id, m.Post.title).cte()
    s.execute(insert(m.Shop).from_select(["id", "name"], select(c.c.id + 50, c.c.title)))


@everywhere
def insert_foreign_tenant(s: Any, m: Any) -> object:
    if "tenant_id" in m.T.c:
        s.execute(insert(m.Post).values(id=60, title="n", tenant_id="zeta"))


@everywhere
def upsert_update(s: Any, m: Any) -> object:
    i = _dialect_insert(s)(m.Post).values(id=1, title="taken")
    s.execute(i.on_conflict_do_update(index_elements=["id"], set_={"title": "taken"}))


@everywhere
def upsert_plain_subquery(s: Any, m: Any) -> object:
    i = _dialect_insert(s)(m.Shop).values(id=1, name="t")
    s.execute(
        i.on_conflict_do_update(
            index_elements=["id"], set_={"name": select(func.max(cast(m.Post.score, sa.String))).scalar_subquery()}
        )
    )


@everywhere
def upsert_plain_subquery_core(s: Any, m: Any) -> object:
    i = _dialect_insert(s)(m.Shop).values(id=1, name="t")
    s.execute(
        i.on_conflict_do_update(
            index_elements=["id"], set_={"name": select(func.max(cast(m.T.c.score, sa.String))).scalar_subquery()}
        )
    )


@everywhere
def upsert_plain_where(s: Any, m: Any) -> object:
    i = _dialect_insert(s)(m.Shop).values(id=1, name="t")
    s.execute(
        i.on_conflict_do_update(index_elements=["id"], set_={"name": "hit"}, where=exists().where(m.T.c.score > 90))
    )


@everywhere
def merge_transient_hidden(s: Any, m: Any) -> object:
    s.merge(m.Post(id=101, title="taken"))
    s.flush()


@everywhere
def merge_transient_no_load(s: Any, m: Any) -> object:
    p = m.Post(id=101, title="taken")
    make_transient_to_detached(p)
    x = s.merge(p, load=False)
    x.title = "more"
    s.flush()


@everywhere
def detached_update(s: Any, m: Any) -> object:
    p = m.Post(id=101)
    make_transient_to_detached(p)
    s.add(p)
    p.title = "taken"
    s.flush()


@everywhere
def detached_read(s: Any, m: Any) -> object:
    p = m.Post(id=101)
    make_transient_to_detached(p)
    s.add(p)
    return p.title


@everywhere
def detached_refresh(s: Any, m: Any) -> object:
    p = m.Post(id=101)
    make_transient_to_detached(p)
    s.add(p)
    s.refresh(p)
    return p.title


@everywhere
def detached_delete(s: Any, m: Any) -> object:
    p = m.Post(id=101)
    make_transient_to_detached(p)
    s.add(p)
    s.delete(p)
    s.flush()


@everywhere
def detached_lazy(s: Any, m: Any) -> object:
    p = m.Author(id=101)
    make_transient_to_detached(p)
    s.add(p)
    return [x.id for x in p.posts]


@everywhere
def detached_author_of(s: Any, m: Any) -> object:
    p = m.Post(id=104, author_id=102)
    make_transient_to_detached(p)
    s.add(p)
    return p.author


@everywhere
def transient_load_parent(s: Any, m: Any) -> object:
    p = m.Post(id=70, author_id=101)
    s.enable_relationship_loading(p)
    return p.author and p.author.name


@everywhere
def foreign_key_hidden(s: Any, m: Any) -> object:
    s.add(m.Comment(id=60, post_id=101))
    s.flush()


@everywhere
def foreign_key_update_hidden(s: Any, m: Any) -> object:
    s.get(m.Comment, 1).post_id = 101
    s.flush()


@everywhere
def bulk_save_existing(s: Any, m: Any) -> object:
    p = m.Post(id=101)
    make_transient_to_detached(p)
    p.title = "t"
    s.bulk_save_objects([p])


@everywhere
def delete_parent(s: Any, m: Any) -> object:
    s.delete(s.get(m.Author, 1))
    s.flush()


@everywhere
def delete_with_collection(s: Any, m: Any) -> object:
    s.delete(s.get(m.Post, 1))
    s.flush()


@everywhere
def replace_collection(s: Any, m: Any) -> object:
    s.get(m.Author, 1).posts = [s.get(m.Post, 3)]
    s.flush()


@everywhere
def replace_tags(s: Any, m: Any) -> object:
    s.get(m.Post, 1).tags = [s.get(m.Tag, 2)]
    s.flush()


@everywhere
def query_cte(s: Any, m: Any) -> object:
    c = s.query(m.Post.id).cte()
    return s.query(c).all()


@everywhere
def query_baked(s: Any, m: Any) -> object:
    bakery = baked.bakery()
    return bakery(lambda x: x.query(m.Post))(s).all()


@everywhere
def query_baked_get(s: Any, m: Any) -> object:
    bakery = baked.bakery()
    return bakery(lambda x: x.query(m.Post))(s).get(101)


@everywhere
def query_baked_count(s: Any, m: Any) -> object:
    bakery = baked.bakery()
    return bakery(lambda x: x.query(m.Post))(s).count()


@everywhere
def lambda_statement(s: Any, m: Any) -> object:
    P = m.Post
    return s.scalars(lambda_stmt(lambda: select(P))).all()


@everywhere
def lambda_statement_parts(s: Any, m: Any) -> object:
    P = m.Post
    k = 101
    q = lambda_stmt(lambda: select(P.title))
    q += lambda x: x.where(P.id >= k)
    return s.scalars(q).all()


@everywhere
def lambda_core(s: Any, m: Any) -> object:
    t = m.T
    return s.scalars(lambda_stmt(lambda: select(t.c.title))).all()


@everywhere
def lambda_in_where(s: Any, m: Any) -> object:
    t = m.T
    A = m.Author
    return s.scalars(select(A.id).where(lambda: A.id.in_(select(t.c.author_id)))).all()


@everywhere
def pickled_statement(s: Any, m: Any) -> object:
    from sqlalchemy.ext.serializer import dumps, loads

    return s.scalars(loads(dumps(select(m.T.c.title)), m.Base.metadata, s)).all()


@everywhere
def json_each(s: Any, m: Any) -> object:
    f = func.json_each(select(func.json_group_array(m.Post.title)).scalar_subquery()).table_valued("value")
    return s.scalars(select(f.c.value)).all()


@everywhere
def json_each_core(s: Any, m: Any) -> object:
    f = func.json_each(select(func.json_group_array(m.T.c.title)).scalar_subquery()).table_valued("value")
    return s.scalars(select(f.c.value)).all()


@everywhere
def where_mark(s: Any, m: Any) -> object:
    marks = [c for c in (getattr(m.Post, n, None) for n in ("tenant_id",)) if c is not None]
    return s.scalars(select(m.Post.id).where(or_(*[c == "zeta" for c in marks], m.Post.id == 101))).all()


@on_postgresql
def lateral_core(s: Any, m: Any) -> object:
    q = select(m.T.c.title).where(m.T.c.author_id == m.Author.id).lateral()
    return s.execute(select(m.Author.id, q.c.title).join(q, true())).all()


@on_postgresql
def lateral_in_from(s: Any, m: Any) -> object:
    q = select(m.Post.title).where(m.Post.shop_id == m.Shop.id).lateral()
    return s.execute(select(m.Shop.id, q.c.title)).all()


@on_postgresql
def lateral_orm(s: Any, m: Any) -> object:
    q = select(m.Post.title).where(m.Post.author_id == m.Author.id).lateral()
    return s.execute(select(m.Author.id, q.c.title).join(q, true())).all()


@on_postgresql
def values_join(s: Any, m: Any) -> object:
    v = _values()
    return s.scalars(select(m.Post.title).join(v, v.c.k == m.Post.id)).all()


@on_postgresql
def values_first(s: Any, m: Any) -> object:
    v = _values()
    return s.execute(select(v.c.k, m.Post.title).select_from(v).outerjoin(m.Post, v.c.k == m.Post.id)).all()


@on_postgresql
def values_exists(s: Any, m: Any) -> object:
    v = _values()
    return s.scalars(select(v.c.k).where(exists().where(m.Post.id == v.c.k))).all()


@everywhere
def expression_of_attribute(s: Any, m: Any) -> object:
    s.get(m.Shop, 1).name = _worst(m)
    s.flush()


@everywhere
def expression_of_attribute_core(s: Any, m: Any) -> object:
    s.get(m.Shop, 1).name = _worst_core(m)
    s.flush()


@everywhere
def expression_of_new_object(s: Any, m: Any) -> object:
    s.add(m.Shop(id=60, name=_worst(m)))
    s.flush()


@everywhere
def expression_of_new_scoped_object(s: Any, m: Any) -> object:
    s.add(m.Author(id=60, name=_worst(m)))
    s.flush()


@everywhere
def expression_of_scoped_attribute(s: Any, m: Any) -> object:
    s.get(m.Author, 1).name = _worst_core(m)
    s.flush()


@everywhere
def expression_text_of_attribute(s: Any, m: Any) -> object:
    s.get(m.Shop, 1).name = literal_column(f"(select max(score) from {m.T.name})")
    s.flush()


@everywhere
def expression_harmless(s: Any, m: Any) -> object:
    s.get(m.Author, 1).rank = m.Author.rank + 1
    s.get(m.Shop, 1).name = func.upper("x")
    s.flush()


@everywhere
def expression_own_table(s: Any, m: Any) -> object:
    s.get(m.Author, 1).rank = select(func.max(m.Author.rank)).scalar_subquery()
    s.flush()


@everywhere
def column_property_of_new(s: Any, m: Any) -> object:
    x = m.Shop(id=60, name="n")
    s.add(x)
    s.flush()
    s.execute(update(m.Post).where(m.Post.id == 1).values(shop_id=60))
    s.commit()
    return x.post_count


@everywhere
def column_property_of_new_author(s: Any, m: Any) -> object:
    x = m.Author(id=60, name="n")
    s.add(x)
    s.flush()
    s.commit()
    return x.post_count


@everywhere
def column_property_refresh_new(s: Any, m: Any) -> object:
    x = m.Shop(id=1)
    make_transient_to_detached(x)
    s.add(x)
    s.refresh(x, ["post_count"])
    return x.post_count


@everywhere
def column_property_core_of_new(s: Any, m: Any) -> object:
    x = m.Author(id=60, name="n")
    s.add(x)
    s.flush()
    s.execute(update(m.Post).where(m.Post.id == 1).values(author_id=60).execution_options(synchronize_session=False))
    s.expire_all()
    return x.post_count_core


@everywhere
def lazy_of_new(s: Any, m: Any) -> object:
    x = m.Author(id=60, name="n")
    s.add(x)
    s.flush()
    s.commit()
    return [p.id for p in x.posts]


@everywhere
def lazy_of_new_plain(s: Any, m: Any) -> object:
    x = m.Shop(id=1)
    make_transient_to_detached(x)
    s.add(x)
    return [p.id for p in x.posts]


@everywhere
def from_statement_cte(s: Any, m: Any) -> object:
    c = select(m.Post).cte()
    return s.scalars(select(m.Post).from_statement(select(c))).all()


@everywhere
def ddl_create_table(s: Any, m: Any) -> object:
    t = sa.Table("ddl_other", sa.MetaData(), sa.Column("id", sa.Integer))
    s.execute(sa.schema.CreateTable(t, if_not_exists=True))
    s.execute(sa.schema.DropTable(t))


@everywhere
def ddl_create_table_as_class(s: Any, m: Any) -> object:
    if not hasattr(sa, "CreateTableAs"):
        return None
    s.execute(sa.DDL("drop table if exists as_select"))
    s.execute(sa.CreateTableAs(select(m.Post.id, m.Post.score), "as_select"))
    return s.execute(text("select max(score) from as_select")).all()


@everywhere
def ddl_create_view_of_class(s: Any, m: Any) -> object:
    if not hasattr(sa, "CreateView"):
        return None
    s.execute(sa.DDL("drop view if exists as_view"))
    s.execute(sa.CreateView(select(m.Post.id, m.Post.score), "as_view"))
    return s.execute(text("select max(score) from as_view")).all()


@everywhere
def ddl_create_table_as_core(s: Any, m: Any) -> object:
    if not hasattr(sa, "CreateTableAs"):
        return None
    s.execute(sa.DDL("drop table if exists as_select"))
    s.execute(sa.CreateTableAs(select(m.T.c.id, m.T.c.score), "as_select"))
    return s.execute(text("select max(score) from as_select")).all()


@everywhere
def outer_join_polymorphic(s: Any, m: Any) -> object:
    w = with_polymorphic(m.Vehicle, "*", flat=True)
    return s.execute(select(m.Shop.id, w.id).outerjoin(w, w.owner_id == m.Shop.id)).all()


@everywhere
def alias_of_car_join(s: Any, m: Any) -> object:
    c = aliased(m.Car)
    return s.execute(select(m.Shop.id, c.doors).join(c, c.owner_id == m.Shop.id)).all()


@everywhere
def self_any_of_alias(s: Any, m: Any) -> object:
    a, b = aliased(m.Node), aliased(m.Node)
    return s.scalars(select(a.id).where(a.children.of_type(b).any(b.id > 100))).all()


@everywhere
def self_join_relationship(s: Any, m: Any) -> object:
    b = aliased(m.Node)
    return s.execute(select(m.Node.id, b.id).outerjoin(m.Node.children.of_type(b))).all()


@everywhere
def alias_of_limited_image(s: Any, m: Any) -> object:
    q = select(m.Vehicle.__table__.join(m.Car.__table__)).limit(1).subquery()
    return s.execute(select(aliased(m.Car, q).id)).all()


@everywhere
def recursive_alias_in_exists(s: Any, m: Any) -> object:
    c = select(m.Node.id).where(m.Node.id == 1).cte(recursive=True)
    n = aliased(m.Node)
    c = c.union_all(select(n.id).join(c, n.parent_id == c.c.id))
    return s.scalars(select(m.Shop.id).where(exists().where(c.c.id == 102))).all()


@everywhere
def intersect_of_subqueries(s: Any, m: Any) -> object:
    q = select(m.Post.shop_id).where(m.Post.author_id == 3).intersect(select(m.Shop.id)).subquery()
    return s.execute(select(q)).all()


@everywhere
def nested_union_alias(s: Any, m: Any) -> object:
    q = union_all(select(m.Post.id, m.Post.title), select(m.Comment.id, m.Comment.body)).alias()
    return s.execute(select(func.count()).select_from(q)).all()


@everywhere
def with_loader_aliased_name(s: Any, m: Any) -> object:
    p = aliased(m.Post, name="tricky")
    return s.execute(select(p.title).where(p.score > literal_column("tricky.id"))).all()


@everywhere
def text_names_alias(s: Any, m: Any) -> object:
    p = aliased(m.Post, name="pp")
    return s.execute(select(text("pp.title")).select_from(p)).all()


@everywhere
def merge_of_graph(s: Any, m: Any) -> object:
    s.merge(m.Author(id=1, name="new", posts=[m.Post(id=1, title="one")]))
    s.flush()


@everywhere
def merge_of_graph_hidden(s: Any, m: Any) -> object:
    s.merge(m.Author(id=1, name="new", posts=[m.Post(id=101, title="taken")]))
    s.flush()


@everywhere
def backref_of_hidden(s: Any, m: Any) -> object:
    p = m.Post(id=101)
    make_transient_to_detached(p)
    m.Author(id=60, posts=[p])
    s.add(p)
    s.flush()


@everywhere
def assign_hidden_parent(s: Any, m: Any) -> object:
    a = m.Author(id=101)
    make_transient_to_detached(a)
    s.add(a)
    s.get(m.Post, 1).author = a
    s.flush()


@everywhere
def secondary_append_hidden(s: Any, m: Any) -> object:
    t = m.Tag(id=101)
    make_transient_to_detached(t)
    s.add(t)
    p = s.get(m.Post, 1)
    p.tags.append(t)
    s.flush()


@everywhere
def refresh_collection_of_parent(s: Any, m: Any) -> object:
    a = s.get(m.Author, 1)
    a.posts
    s.execute(update(m.Post).values(author_id=1).execution_options(synchronize_session=False))
    s.refresh(a, ["posts"])
    return sorted(p.id for p in a.posts)


@everywhere
def begin_nested(s: Any, m: Any) -> object:
    with s.begin_nested():
        return s.scalars(select(m.Post.id)).all()


@everywhere
def update_alias_subquery(s: Any, m: Any) -> object:
    p = aliased(m.Post)
    s.execute(update(m.Post).where(m.Post.score < select(func.max(p.score)).scalar_subquery()).values(score=-1))


@everywhere
def ddl_create_table_as(s: Any, m: Any) -> object:
    s.execute(sa.DDL("drop table if exists as_copy"))
    s.execute(sa.DDL(f"create table as_copy as select * from {m.T.name}"))
    return s.execute(text("select max(score) from as_copy")).all()
