"""`VerticalAttributes`: the attribute that is a dictionary on instances and makes criteria on the class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

from .._declarative import listen_once
from .._typing import AnyMapper, MappedClass
from ..exceptions import InvalidArgumentError, MappingError
from ._criteria import VerticalCriteria
from ._inspection import MappedEntity, is_a
from ._mapping import VerticalDict
from ._schema import VerticalSchema
from ._shape import Shape, resolve

V = TypeVar("V")

#: The attribute of a class with the names of its `VerticalAttributes`, for the listener on sessions.
_NAMES: Final = "__sqla_vertical_attributes__"


class VerticalAttributes(Generic[V]):
    """An attribute that shows the rows of a relationship as a dictionary of values.

    On instances the attribute is a `VerticalDict`, which may be assigned a mapping; on the class it is a
    `VerticalCriteria`.

    Args:
        relationship: The name of the relationship to a class with `VerticalValue` or `PlainVerticalValue`; a dictionary
            by key, with ``collection_class=attribute_keyed_dict("key")`` and ``cascade="all, delete-orphan"``.
        schema: Which keys there are and of which types, if not any key may have any type.

    Raises:
        MappingError: Once mappers are configured, if the relationship is mapped in another way, or the schema names a
            type for which there is no value column; when it is used, if it was assigned to a class after that was made.
    """

    def __init__(self, relationship: str, *, schema: VerticalSchema | None = None) -> None:
        if schema is not None and not is_a(schema, VerticalSchema):
            raise InvalidArgumentError(
                f"VerticalAttributes({relationship!r}) was given {schema!r} as its schema; give a VerticalSchema"
            )
        self._relationship: Final = relationship
        self._schema: Final = schema
        self._name = ""
        # By class, since subclasses share the attribute. It is no dictionary of the module's: it goes with the class.
        self._shapes: Final = WeakKeyDictionary[MappedClass, Shape]()

    def __set_name__(self, owner: MappedClass, name: str) -> None:
        self._name = name
        setattr(owner, _NAMES, (*getattr(owner, _NAMES, ()), name))
        # The owner is not mapped yet, or is a mixin: SQLAlchemy passes these on to what will be mapped.
        for identifier, listener in (
            ("mapper_configured", self._configure),
            ("before_insert", self._check_row),
            ("before_update", self._check_row),
        ):
            event.listen(owner, identifier, listener, propagate=True)

    @overload
    def __get__(self, instance: None, owner: MappedClass) -> VerticalCriteria[V]: ...
    @overload
    def __get__(self, instance: object, owner: MappedClass) -> VerticalDict[V]: ...
    def __get__(self, instance: object | None, owner: MappedClass) -> VerticalCriteria[V] | VerticalDict[V]:
        if instance is None:
            return VerticalCriteria[V](owner, self._shape_of_entity)
        return VerticalDict[V](instance, self.shape(type(instance)))

    @overload
    def __set__(self, instance: object, values: Mapping[str, V]) -> None: ...
    @overload
    def __set__(self, instance: object, values: Iterable[tuple[str, V]]) -> None: ...
    def __set__(self, instance: object, values: Mapping[str, V] | Iterable[tuple[str, V]]) -> None:
        VerticalDict[V](instance, self.shape(type(instance))).replace(values)

    def shape(self, owner: MappedClass) -> Shape:
        """Return how the attribute works on a class; for the library."""
        if owner not in self._shapes:
            self._shapes[owner] = resolve(self._mapper_of(owner), self._name, self._relationship, self._schema)
        return self._shapes[owner]

    def _mapper_of(self, owner: MappedClass) -> AnyMapper:
        if not self._name:
            raise MappingError(
                f"The VerticalAttributes over {self._relationship!r} was assigned to {owner.__name__} after that was "
                "made, when flushes can no longer be checked for it; write it in the class body"
            )
        mapper: AnyMapper | None = inspect(owner, raiseerr=False)
        if mapper is None:
            raise MappingError(
                f"{owner.__name__}.{self._name} cannot be used, since {owner.__name__} is not mapped; map the class, "
                "or use a mapped subclass"
            )
        return mapper

    def is_over(self, relationship: str) -> bool:
        """Return whether it shows the rows of this relationship; for the library."""
        return self._relationship == relationship

    def _shape_of_entity(self, entity: MappedEntity) -> Shape:
        return self.shape(entity if isinstance(entity, type) else inspect(entity).mapper.class_)

    def _configure(self, mapper: AnyMapper, cls: MappedClass) -> None:
        # A subclass may have another under the same name, with another schema.
        if attribute_named(cls, self._name) is self:
            self.shape(cls)
            listen_once(Session, "before_flush", _before_flush)

    def _check_row(self, mapper: AnyMapper, connection: object, owner: object) -> None:
        # Once more, for what a listener of the user's has added or changed after the check before the flush.
        if attribute_named(type(owner), self._name) is self:
            self.shape(type(owner)).check_owner(owner)


def _before_flush(session: Session, flush_context: object, instances: object) -> None:
    """Refuse what is missing or misplaced before anything is written."""
    for owner in [*session.new, *session.dirty]:
        cls: MappedClass = owner.__class__
        if not hasattr(cls, _NAMES):
            continue
        for name in attribute_names(cls):
            attribute = attribute_named(cls, name)
            if attribute is not None:
                attribute.shape(cls).check_owner(owner)


def attribute_names(cls: MappedClass) -> tuple[str, ...]:
    """Return the names of the `VerticalAttributes` of a class."""
    names: tuple[str, ...] = ()
    for base in cls.__mro__:
        names += vars(base).get(_NAMES, ())
    return tuple(dict.fromkeys(names))


def attribute_named(cls: MappedClass, name: str) -> VerticalAttributes[Any] | None:
    """Return a `VerticalAttributes` of a class; None if a subclass has something else in its place."""
    for base in cls.__mro__:
        if name in vars(base):
            found: object = vars(base)[name]
            return cast("VerticalAttributes[Any]", found) if is_a(found, VerticalAttributes) else None
    return None
