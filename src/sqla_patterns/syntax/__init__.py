"""QUALIFY, a WHERE for window functions, on every database.

``QUALIFY`` filters by a window function without a subquery: the newest row of each group, the best three, every row
above the average of its group. Snowflake, BigQuery, DuckDB, Databricks, ClickHouse and Teradata have it; PostgreSQL,
MariaDB, MySQL and SQLite do not, and get a subquery with the same rows::

    rank = func.row_number().over(partition_by=Post.author_id, order_by=Post.id.desc())
    select(Post).ext(qualify(rank == 1))  # SQLAlchemy 2.1
    qualified(select(Post), rank == 1)  # SQLAlchemy 2.0 and 2.1

Entities, aliases, loader options and global criteria work as they do without it.

**When to use it.** A SELECT of entities that shall stay one: with its options, in a function that takes and returns a
statement, for several databases.

**When not to, and the simpler choice.** On PostgreSQL alone, the first row of each group is ``DISTINCT ON``, and
``LATERAL`` reads a few rows of many groups by an index. One statement for one database is a subquery written by hand:
select the window function with a label, and filter the subquery by it. Where aggregates alone are compared, HAVING
does.

>>> from sqlalchemy import create_engine, func, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
>>> from sqla_patterns.syntax import qualified
>>> class Base(DeclarativeBase):
...     pass
>>> class Post(Base):
...     __tablename__ = "qualified_post"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     author: Mapped[str]
>>> engine = create_engine("sqlite://")
>>> Base.metadata.create_all(engine)
>>> newest = func.row_number().over(partition_by=Post.author, order_by=Post.id.desc()) == 1
>>> with Session(engine) as session:
...     session.add_all(Post(id=n, author="ann" if n < 3 else "bob") for n in range(1, 5))
...     session.commit()
...     print([post.id for post in session.scalars(qualified(select(Post).order_by(Post.id), newest))])
[2, 4]

**Order.** QUALIFY comes after WHERE, GROUP BY and HAVING, and before DISTINCT, ORDER BY and LIMIT, wherever it is
called. The predicates of one call all have to hold. A second call filters the rows that the first one has left.

**Cost.** No statement more. A form of statement is rewritten once, when it is compiled; after that it comes from
SQLAlchemy's cache. The database computes the window function for every row that WHERE has left, as it does for a
QUALIFY.

**Refused**, with a ``CompileError`` when the statement is compiled: a qualified SELECT that refers to the SELECT around
it, and columns of ``contains_eager()`` that it does not select.

.. seealso:: `Syntax Extensions <https://docs.sqlalchemy.org/en/21/core/compiler.html>`_ of SQLAlchemy 2.1
"""

from ._native import register_native
from ._qualify import Qualify, qualified, qualify

__all__ = ("Qualify", "qualified", "qualify", "register_native")
