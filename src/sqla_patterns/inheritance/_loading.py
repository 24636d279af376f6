"""Query a hierarchy: the attributes of subclasses, in few statements and with their types."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.orm import Load
from sqlalchemy.orm.util import AliasedClass

from .._sqlalchemy import entity_of, own_mapper_of
from .._typing import AnyMapper, MappedClass
from ..exceptions import InvalidArgumentError

E = TypeVar("E")


def subentity(entity: AliasedClass[Any], cls: type[E]) -> type[E]:
    """Return the part of a ``with_polymorphic()`` that stands for one subclass, with its type.

    ``people.Engineer.language`` is of unknown type; ``subentity(people, Engineer).language`` is what it is on
    ``Engineer``.

    Args:
        entity: What ``with_polymorphic(Person, [Engineer, Manager])`` has returned.
        cls: One of the classes, or that of the entity itself.

    Raises:
        InvalidArgumentError: `entity` is no such thing, or does not have `cls`.
    """
    found: Any = inspect(entity, raiseerr=False)
    if not getattr(found, "is_aliased_class", False):
        raise InvalidArgumentError(f"subentity() was given {entity!r}; pass what with_polymorphic() has returned")
    mapper: AnyMapper = found.mapper
    if mapper.class_ is cls:
        return cast("type[E]", entity)
    if not isinstance(cast("object", cls), type):
        raise InvalidArgumentError(f"subentity() was given {cls!r} for a class; pass a mapped class")
    part: Any = entity_of(entity, cls)
    if part is None or inspect(part).mapper.class_ is not cls:
        raise InvalidArgumentError(
            f"subentity() found no {cls.__name__} in {entity!r}; add the class: with_polymorphic("
            f"{mapper.class_.__name__}, [..., {cls.__name__}])"
        )
    return cast("type[E]", part)


def load_polymorphic(cls: MappedClass) -> Load:
    """Return the loader option that loads all attributes of mixed objects of a hierarchy, those of subclasses included.

    Use it as ``select(Person).options(load_polymorphic(Person))``, or below another option:
    ``selectinload(Company.employees).options(load_polymorphic(Person))``. One SELECT more for each
    subclass of which there are objects, however deep the hierarchy is, and for each 500 of its objects; none with
    concrete tables, whose union has all columns.

    Raises:
        InvalidArgumentError: `cls` is no mapped class.
    """
    mapper = own_mapper_of(cls) if isinstance(cast("object", cls), type) else None
    if mapper is None:
        raise InvalidArgumentError(f"load_polymorphic() was given {cls!r}; pass a mapped class")
    # A concrete subclass has no row in the table of its base that could be completed.
    classes = [each.class_ for each in mapper.self_and_descendants if each is not mapper and not each.concrete]
    return Load(cls).selectin_polymorphic(classes)
