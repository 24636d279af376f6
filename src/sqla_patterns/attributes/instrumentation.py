"""Keep the values of mapped attributes in a dictionary of your own, rather than in ``__dict__``.

SQLAlchemy stores what an object has in the object's ``__dict__``. A class whose ``__getattr__`` and ``__setattr__``
belong to another framework, or one with ``__slots__``, may need them elsewhere. `DictInstrumentation` says where;
everything else of the mapping stays as it is::

    from sqlalchemy import String, create_engine
    from sqlalchemy.orm import Mapped, Session, mapped_column, registry

    from sqla_patterns.attributes.instrumentation import DictInstrumentation

    mapping = registry()


    @mapping.mapped
    class Person:
        __sa_instrumentation_manager__ = DictInstrumentation.named("_values")
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))


    engine = create_engine("sqlite://")
    mapping.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        ada = Person(name="Ada")
        session.add(ada)
        session.commit()
    assert ada._values == {"name": "Ada", "id": 1}
    assert "name" not in vars(ada)

**When not to use it.** Almost always. If only *some* names need to be elsewhere, map them under another attribute name
(``mapped_column("name")``) with a property or hybrid on top. If you want to hear of changes, use
`sqla_patterns.attributes.listen_for_changes`.

**It changes the whole process.** Importing ``sqlalchemy.ext.instrumentation`` replaces SQLAlchemy's factory of class
managers. Mapping the first class with it replaces the functions by which SQLAlchemy finds the state of *any* object:
reading a mapped attribute, of any class, takes 1.8 times as long from then on (2.2 on SQLAlchemy 2.0), assigning one
1.6 times (1.8), constructing or loading an object 1.1 times, as ``benchmarks/attributes.py`` printed. Importing alone
made no measurable difference. Therefore no other module of this library imports this one.

**Imperative mapping and** ``registry.mapped`` **only.** All classes that are connected by base classes must use one
manager, and ``DeclarativeBase`` connects all declarative classes of the process, so that those are refused with a
`MappingError`.

.. seealso:: ``sqlalchemy.ext.instrumentation``, which calls its own interface semi-stable
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self, cast

from sqlalchemy import inspect
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, Mapper, instrumentation

from .._sqlalchemy._names import DISPATCH_UPDATE, INSTRUMENTATION_FACTORY
from .._typing import AnyState, MappedClass
from ..exceptions import InvalidArgumentError, MappingError

_former: Any = INSTRUMENTATION_FACTORY.get(instrumentation)

from sqlalchemy.ext.instrumentation import INSTRUMENTATION_MANAGER, InstrumentationManager  # noqa: E402

__all__ = ("DictInstrumentation",)


class DictInstrumentation(InstrumentationManager):
    """An instrumentation manager that keeps attribute values in one dictionary on each object.

    Put it, or a subclass that `named` makes, into ``__sa_instrumentation_manager__`` of the class to be mapped or of a
    base of it. The dictionary survives expiring, merging and pickling as ``__dict__`` does. With ``__slots__`` the
    class needs three: the name of the dictionary, ``_default_state`` and ``__weakref__``.

    Attributes:
        name: The attribute that holds the dictionary.

    Raises:
        MappingError: When the class is mapped: it is connected by its bases with a class that is instrumented in
            another way; it has ``__slots__`` without those three; or it maps an attribute called `name`.
    """

    name: ClassVar[str] = "_sqla_values"

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return a subclass that keeps the values in the attribute `name`.

        Raises:
            InvalidArgumentError: `name` cannot be the name of an attribute, or is one that Python or SQLAlchemy uses.
        """
        given = cast("object", name)
        if not isinstance(given, str) or not given.isidentifier() or _is_taken(given):
            raise InvalidArgumentError(
                f"DictInstrumentation.named({name!r}) cannot keep values there; pass the name of an attribute that "
                "nothing else uses"
            )
        space: dict[str, object] = {"name": name, "__module__": cls.__module__, "__doc__": cls.__doc__}
        return cast("type[Self]", type(f"{cls.__name__}_{name}", (cls,), space))

    def __init__(self, class_: MappedClass) -> None:
        # The initializer of the base does nothing, and has no types.
        _check(class_, type(self))

    def initialize_instance_dict(self, class_: MappedClass, instance: object) -> None:
        """Give a new object its dictionary."""
        self.get_instance_dict(class_, instance)

    def get_instance_dict(self, class_: MappedClass, instance: object) -> dict[str, object]:
        """Return the dictionary of an object, an empty one if it has none yet."""
        # Bypasses the class's own __getattribute__ and __setattr__, which may well go through the mapped attributes.
        try:
            values: dict[str, object] = object.__getattribute__(instance, self.name)
        except AttributeError:
            values = {}
            object.__setattr__(instance, self.name, values)
        return values

    def dict_getter(self, class_: MappedClass) -> Callable[..., dict[str, object]]:
        """Return the function that SQLAlchemy calls for the dictionary of an object."""

        def values_of(instance: object) -> dict[str, object]:
            return self.get_instance_dict(class_, instance)

        return values_of

    def instrument_attribute(self, class_: MappedClass, key: str, inst: object) -> None:
        """Refuse a mapped attribute under the name of the dictionary, whose value would be looked up in itself."""
        if key == self.name:
            raise MappingError(
                f"{class_.__name__} cannot map {key!r} and keep the values of attributes there too; choose another "
                "name for DictInstrumentation.named()"
            )

    def install_state(self, class_: MappedClass, instance: object, state: AnyState) -> None:
        """Keep what SQLAlchemy knows of an object; beside the dictionary, in which the user's names are."""
        object.__setattr__(instance, _STATE, state)

    def remove_state(self, class_: MappedClass, instance: object) -> None:
        """Forget what `install_state` has kept."""
        object.__delattr__(instance, _STATE)

    def state_getter(self, class_: MappedClass) -> Callable[..., AnyState]:
        """Return the function that SQLAlchemy calls for what `install_state` has kept."""

        def state_of(instance: object) -> AnyState:
            state: AnyState = object.__getattribute__(instance, _STATE)
            return state

        return state_of


#: The name that SQLAlchemy's own InstrumentationManager uses.
_STATE = "_default_state"
_TAKEN = frozenset({"_default_class_manager", "_sa_class_manager", "_sa_instance_state", _STATE})


def _is_taken(name: str) -> bool:
    return name in _TAKEN or keyword.iskeyword(name) or (name.startswith("__") and name.endswith("__"))


def _check(class_: MappedClass, manager: type[DictInstrumentation]) -> None:
    missing = [] if class_.__dictoffset__ else [each for each in (manager.name, _STATE) if not hasattr(class_, each)]
    missing += [] if class_.__weakrefoffset__ else ["__weakref__"]
    if missing:
        raise MappingError(
            f"{class_.__name__} cannot have {INSTRUMENTATION_MANAGER}, because its __slots__ lack what it needs; add "
            f"{', '.join(map(repr, missing))}"
        )
    for base in class_.__mro__:
        if base in (DeclarativeBase, DeclarativeBaseNoMeta):
            raise MappingError(
                f"{class_.__name__} cannot have {INSTRUMENTATION_MANAGER}, because it derives from {base.__name__} and "
                "all such classes of the process must be instrumented in one way; map it with registry.mapped or "
                "imperatively"
            )
    for other in _connected(class_):
        if isinstance(inspect(other, raiseerr=False), Mapper):
            found = getattr(other, INSTRUMENTATION_MANAGER, None)
            if found is not manager:
                how = "SQLAlchemy's own" if found is None else repr(found)
                raise MappingError(
                    f"{class_.__name__} cannot have {manager!r} for its {INSTRUMENTATION_MANAGER}, because it shares a "
                    f"base class with {other.__name__}, whose instrumentation is {how}; put one manager on the common "
                    "base, or have none in common"
                )


def _connected(class_: MappedClass) -> Iterator[MappedClass]:
    """Yield the classes that are connected with `class_` by base classes, up and down."""
    seen: set[MappedClass] = {class_, object}
    rest: list[MappedClass] = [class_]
    while rest:
        cls = rest.pop()
        for other in (*cls.__bases__, *type.__subclasses__(cls)):
            if other not in seen:
                seen.add(other)
                rest.append(other)
                yield other


def _keep_listeners() -> None:
    """Hand the listeners for "attribute_instrument" and the like to the factory that has replaced SQLAlchemy's.

    They are registered with the factory, and the import above has made another: what was attached before, by this
    library or by the application, would not be heard again. Neither has a public name. Without them such listeners are
    lost, as they are when the application itself imports the extension.
    """
    factory: Any = INSTRUMENTATION_FACTORY.get(instrumentation)
    if None not in (factory, _former) and factory is not _former and hasattr(factory, "dispatch"):
        update: Any = DISPATCH_UPDATE.get(factory.dispatch)
        if update is not None:
            update(_former.dispatch, only_propagate=False)


_keep_listeners()
