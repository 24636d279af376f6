"""Attributes of the user's with names that mixins make: explicit compatible overrides, or a `MappingError`."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, Integer, String, create_engine, inspect
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, Session, configure_mappers, mapped_column, relationship

from sqla_patterns.exceptions import MappingError
from sqla_patterns.graphs import GraphEdge, GraphNode
from sqla_patterns.trees import KeyedTreeNode, MaterializedPath, NestedSets, TreeNode, TreeOptions
from sqla_patterns.versioning import RevisionLog, Versioned

#: (mixins, attribute, an annotation of another type) for every attribute that mixins make.
BARE: list[tuple[tuple[type[Any], ...], str, str]] = [
    ((TreeNode,), "position", "Mapped[str]"),
    ((TreeNode,), "parent_id", "Mapped[str]"),
    ((TreeNode,), "children", "Mapped[int]"),
    ((TreeNode,), "parent", "Mapped[str]"),
    ((KeyedTreeNode,), "children", "Mapped[str]"),
    ((NestedSets, TreeNode), "left", "Mapped[str]"),
    ((NestedSets, TreeNode), "depth", "Mapped[float]"),
    ((MaterializedPath, TreeNode), "path", "Mapped[int]"),
    ((Versioned,), "version", "Mapped[str]"),
    ((RevisionLog,), "actor", "Mapped[int]"),
    ((RevisionLog,), "at", "Mapped[str]"),
]


def _body(mixins: tuple[type[Any], ...], **body: Any) -> dict[str, Any]:
    annotations = {"id": "Mapped[int]", "name": "Mapped[str]", **body.pop("__annotations__", {})}
    body = {"id": mapped_column(primary_key=True), "name": mapped_column(String(50)), **body}
    if KeyedTreeNode in mixins:
        body["__tree__"] = TreeOptions(key="name")
    return {"__tablename__": "thing", "__module__": __name__, "__annotations__": annotations, **body}


@pytest.mark.parametrize(
    ("mixins", "name", "annotation"), BARE, ids=lambda value: str(getattr(value, "__name__", value))
)
def test_an_annotation_of_another_type_is_refused(
    bases: Any, mixins: tuple[type[Any], ...], name: str, annotation: str
) -> None:
    """A bare annotation of the user's is never replaced: the error names class and attribute."""
    with pytest.raises(MappingError, match=rf"Thing\.{name} is annotated as {annotation.replace('[', '.')[:-1]}"):
        type("Thing", (*mixins, bases()), _body(mixins, __annotations__={name: annotation}))


@pytest.mark.parametrize(
    ("mixins", "name", "annotation"),
    [
        ((TreeNode,), "position", "Mapped[int]"),
        ((TreeNode,), "parent_id", "Mapped[int | None]"),
        ((TreeNode,), "children", "Mapped[list['Thing']]"),
        ((TreeNode,), "parent", "Mapped['Thing | None']"),
        ((MaterializedPath, TreeNode), "path", "Mapped[str | None]"),
        ((Versioned,), "version", "Mapped[int]"),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_an_annotation_that_says_what_the_mixin_makes_is_kept(
    plain_bases: Any, mixins: tuple[type[Any], ...], name: str, annotation: str
) -> None:
    cls: Any = type("Thing", (*mixins, plain_bases()), _body(mixins, __annotations__={name: annotation}))
    configure_mappers()
    assert name in inspect(cls).attrs


#: (mixins, attribute, what makes the value in the class body, the fault that the error names).
VALUES: dict[str, tuple[tuple[type[Any], ...], str, Callable[[], Any], str]] = {
    "text position": ((TreeNode,), "position", lambda: mapped_column(String(5)), "is a column of type"),
    "not null parent": (
        (TreeNode,),
        "parent_id",
        lambda: mapped_column(ForeignKey("thing.id"), nullable=False),
        "is NOT NULL",
    ),
    "hybrid position": ((TreeNode,), "position", lambda: hybrid_property(lambda self: 1), "adds a column of that name"),
    "children": ((TreeNode,), "children", lambda: relationship("Thing"), "has the name of a relationship"),
    "parent": ((TreeNode,), "parent", lambda: property(lambda self: None), "has the name of a relationship"),
    "text left": ((NestedSets, TreeNode), "left", lambda: mapped_column("left", String(5)), "is a column of type"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_of_another_kind_is_refused(plain_bases: Any, case: str) -> None:
    mixins, name, value, fault = VALUES[case]
    with pytest.raises(MappingError, match=rf"Thing\.{name} .*{fault}|Thing\.{name} {fault}"):
        type("Thing", (*mixins, plain_bases()), _body(mixins, **{name: value()}))


def test_a_value_of_another_type_is_noticed_on_a_dataclass(bases: Any) -> None:
    """A dataclass base takes the column out of the class body before the mapper is made; it is noticed all the same."""
    with pytest.raises(MappingError, match=r"Thing\.position is a column of type String"):
        type(
            "Thing",
            (TreeNode, bases()),
            _body((TreeNode,), __annotations__={"position": "Mapped[str]"}, position=mapped_column(String(5))),
        )


def test_a_mixin_of_the_users_is_no_way_around(plain_bases: Any) -> None:
    class Ranked:
        position: Mapped[str]

    with pytest.raises(MappingError, match=r"Ranked\.position is annotated as Mapped\[str\]"):
        type("Thing", (Ranked, TreeNode, plain_bases()), _body((TreeNode,)))


def test_a_subclass_may_not_take_the_name_either(plain_bases: Any) -> None:
    """SQLAlchemy evaluates a mixin for the first class of a hierarchy only; the names of the others count as well."""
    base: Any = type("Thing", (TreeNode, plain_bases()), _body((TreeNode,)))
    body = {
        "__tablename__": "sub",
        "__module__": __name__,
        "__annotations__": {"sub_id": "Mapped[int]", "position": "Mapped[str]"},
    }
    with pytest.raises(MappingError, match=r"Sub\.position is annotated"):
        type("Sub", (base,), {**body, "sub_id": mapped_column(ForeignKey("thing.id"), primary_key=True)})


def test_a_column_of_the_same_kind_takes_the_mixins_place(bases: Any) -> None:
    cls: Any = type(
        "Thing",
        (TreeNode, bases()),
        _body(
            (TreeNode,),
            __annotations__={"parent_id": "Mapped[int | None]"},
            parent_id=mapped_column("up", ForeignKey("thing.id"), nullable=True, default=None),
        ),
    )
    configure_mappers()
    assert inspect(cls).columns["parent_id"].name == "up"


def test_a_name_that_the_options_leave_free_is_the_users(bases: Any) -> None:
    """With sorted siblings the library makes no position, and without an index no path or depth."""
    annotations = {"position": "Mapped[str]", "path": "Mapped[str]", "depth": "Mapped[str]", "left": "Mapped[str]"}
    cls: Any = type(
        "Thing",
        (TreeNode, bases()),
        _body((TreeNode,), __annotations__=annotations, __tree__=TreeOptions(order_by=("name",))),
    )
    assert {name: inspect(cls).columns[name].type.python_type for name in annotations} == dict.fromkeys(
        annotations, str
    )


def test_nested_sets_take_renamed_columns(plain_bases: Any) -> None:
    """`left` under another column name used to end in a raw KeyError."""
    cls: Any = type(
        "Thing",
        (NestedSets, TreeNode, plain_bases()),
        _body((NestedSets, TreeNode), left=mapped_column("ns_left", Integer, nullable=True)),
    )
    assert [column.name for index in cls.__table__.indexes for column in index.columns if column.name == "ns_left"]


def test_ends_of_an_edge_are_guarded(plain_bases: Any) -> None:
    Base = plain_bases()
    node: Any = type("Thing", (GraphNode, Base), _body((GraphNode,)))
    body = {"__tablename__": "edge", "__module__": __name__, "__annotations__": {"lower_node": "Mapped[str]"}}
    with pytest.raises(MappingError, match=r"Edge\.lower_node is annotated as Mapped\[str\]"):
        types.new_class("Edge", (GraphEdge[node], Base), exec_body=lambda namespace: namespace.update(body))


def test_a_refused_class_harms_no_other(plain_bases: Any) -> None:
    Base = plain_bases()
    with pytest.raises(MappingError):
        type("Thing", (TreeNode, Base), _body((TreeNode,), __annotations__={"position": "Mapped[str]"}))
    other: Any = type("Other", (Base,), {**_body(()), "__tablename__": "other"})
    configure_mappers()
    Base.metadata.create_all(engine := create_engine("sqlite://"))
    with Session(engine) as session:
        session.add(other(id=1, name="x"))
        session.commit()
    engine.dispose()


def test_the_registry_decorator_is_guarded_as_well(plain_bases: Any) -> None:
    Base = plain_bases()
    with pytest.raises(MappingError, match=r"Thing\.position is annotated"):
        Base.registry.mapped(
            type("Thing", (TreeNode,), _body((TreeNode,), __annotations__={"position": "Mapped[str]"}))
        )
