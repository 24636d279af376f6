"""The models of a small shop that uses several packages on one class, for any declarative base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqla_patterns.associations import proxied_list
from sqla_patterns.generic_associations import TablePerAssociation
from sqla_patterns.trees import MaterializedPath, TreeNode
from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions


@dataclass(frozen=True)
class Shop:
    """The classes of one mapping of the shop."""

    Category: Any
    Product: Any
    Comment: Any
    Revision: Any
    Order: Any
    OrderLine: Any


def map_shop(Base: Any) -> Shop:
    """Map the shop: a versioned tree with an index, versioned products, comments on both, orders with lines."""

    class Revision(RevisionLog, Base):  # type: ignore[misc]
        __tablename__ = "revision"

    class Comment(Base):  # type: ignore[misc]
        __tablename__ = "comment"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(Text)

    class HasComments:
        comments = TablePerAssociation(Comment, order_by="id")

    class Category(HasComments, MaterializedPath, TreeNode, Versioned, Base):  # type: ignore[misc]
        __tablename__ = "category"
        __versioned__ = VersionOptions(period=True, operation=True, revision=Revision)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))

    class Product(HasComments, Versioned, Base):  # type: ignore[misc]
        __tablename__ = "product"
        __versioned__ = VersionOptions(period=True, operation=True, revision=Revision)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(50))
        price: Mapped[int]
        category_id: Mapped[int | None] = mapped_column(ForeignKey("category.id", ondelete="SET NULL"))
        category: Mapped[Any] = relationship(lambda: Category, passive_deletes=True)

    class OrderLine(Base):  # type: ignore[misc]
        __tablename__ = "order_line"
        order_id: Mapped[int] = mapped_column(ForeignKey("shop_order.id"), primary_key=True)
        product_id: Mapped[int] = mapped_column(ForeignKey("product.id"), primary_key=True)
        amount: Mapped[int] = mapped_column(default=1)
        product: Mapped[Any] = relationship(lambda: Product)

    class Order(Base):  # type: ignore[misc]
        __tablename__ = "shop_order"
        id: Mapped[int] = mapped_column(primary_key=True)
        lines: Mapped[list[Any]] = relationship(lambda: OrderLine, cascade="all, delete-orphan")
        products = proxied_list("lines", lambda: OrderLine.product)

    return Shop(Category, Product, Comment, Revision, Order, OrderLine)


#: What the guides of the packages tell users to put into ``script.py.mako``.
IMPORTS = "import sqla_patterns.trees\nimport sqla_patterns.versioning"
