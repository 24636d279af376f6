"""The base of all strategies, which gives each class its identity before the class is mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sqlalchemy import event
from sqlalchemy.orm import Mapped

from .._sqlalchemy import own_mapper_of
from .._typing import AnyMapper, MappedClass
from ..exceptions import MappingError
from ._classes import dunder, mapped_parent, will_be_mapped
from ._identity import UNSET, check_fits, discriminator_arguments, identity_arguments


def prepare(cls: type[Polymorphic], identity: object) -> None:
    """Give a class that is about to be mapped its identity, and what its strategy needs.

    Raises:
        MappingError: Its identity is missing or that of another class, it does not fit its base, or is mapped already.
    """
    if own_mapper_of(cls) is not None:
        bases = ", ".join(base.__name__ for base in cls.__bases__)
        raise MappingError(
            f"{cls.__name__}({bases}) was mapped before its mixin had a chance to prepare it; name the mixin before "
            "the declarative base"
        )
    parent = mapped_parent(cls)
    if vars(cls).get("__abstract__", False) or (parent is None and not will_be_mapped(cls)):
        if identity is not UNSET:
            raise MappingError(
                f"{cls.__name__} was given identity={identity!r} and is no class that is mapped; give it to those that "
                "are"
            )
        return
    arguments = dict(cast("dict[str, object]", dunder(cls, "__mapper_args__") or {}))
    discriminated = cls.__sqla_discriminated__
    if parent is None:
        if discriminated:
            arguments |= discriminator_arguments(cls, arguments)
        arguments |= identity_arguments(cls, arguments, identity, None, discriminated=discriminated)
        _after_mapping(cls, _check_root)
    else:
        _check_strategy(cls, parent)
        arguments |= identity_arguments(cls, arguments, identity, parent, discriminated=discriminated)
        arguments |= cls.__sqla_prepare_subclass__(parent)
        _after_mapping(cls, cls.__sqla_check_subclass__)
    type.__setattr__(cls, "__mapper_args__", arguments)


class Polymorphic:
    """A class of a hierarchy, with an identity; a subclass of this mixin says how the hierarchy is stored."""

    #: Whether a column tells the classes apart, rather than the table in which a row is.
    __sqla_discriminated__: ClassVar[bool] = True

    if not TYPE_CHECKING:

        def __init_subclass__(cls, *, identity=UNSET, **options):
            prepare(cls, identity)
            super().__init_subclass__(**options)

    else:

        def __init_subclass__(cls, *, identity: object = ..., **options: Any) -> None: ...

    @classmethod
    def __sqla_prepare_subclass__(cls, parent: AnyMapper) -> dict[str, object]:
        """Declare on a subclass what the strategy needs, and return its mapper arguments."""
        return {}

    @classmethod
    def __sqla_check_subclass__(cls, mapper: AnyMapper) -> None:
        """Raise if a subclass that has just been mapped does not fit the strategy."""


class PolymorphicIdentity(Polymorphic):
    """A class hierarchy whose classes are told apart by a column, with the tables that you declare.

    Mix it into the first class, before the declarative base. That class gets a column ``type``, unless it declares a
    column of that name or another ``polymorphic_on``. The identity of each class is its name in snake case, or what the
    class argument ``identity`` says::

        class Person(PolymorphicIdentity, Base): ...


        class Manager(Person, identity="boss"): ...

    ``polymorphic_identity`` and ``polymorphic_abstract`` in ``__mapper_args__`` are respected. For declarative bases
    and ``registry.mapped``.

    Raises:
        MappingError: When a class is defined: its identity is that of another class or does not fit the column; or the
            mixin stands after the declarative base.
    """

    __sqla_discriminated__: ClassVar[bool] = True

    if TYPE_CHECKING:
        #: The discriminator; a string unless you declare another type.
        type: Mapped[Any]


def _check_root(mapper: AnyMapper) -> None:
    if mapper.polymorphic_on is not None and not mapper.polymorphic_abstract:
        check_fits(mapper.class_, mapper.polymorphic_identity, mapper.polymorphic_on.type)


def _check_strategy(cls: type[Polymorphic], parent: AnyMapper) -> None:
    if cls.__sqla_discriminated__ is not getattr(parent.class_, "__sqla_discriminated__", not parent.concrete):
        raise MappingError(
            f"{cls.__name__} cannot be a subclass of {parent.class_.__name__}: one of them has a table with all of its "
            "columns, as ConcreteTable makes it, and the other has not; use one strategy for the whole hierarchy"
        )
    if cls.__sqla_discriminated__ and parent.polymorphic_on is None:
        raise MappingError(
            f"{cls.__name__} cannot be a subclass of {parent.class_.__name__}, which has no column that tells its "
            "classes apart; mix PolymorphicIdentity into the first class of the hierarchy"
        )


def _after_mapping(cls: MappedClass, check: Callable[[AnyMapper], None]) -> None:
    def listener(mapper: AnyMapper, _: MappedClass) -> None:
        check(mapper)

    event.listen(cls, "after_mapper_constructed", listener)
