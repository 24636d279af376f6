"""`ActiveDefaults` and `enable_active_defaults`: column defaults that can be read before the object is flushed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Column, event
from sqlalchemy.orm import ColumnProperty

from .._declarative import listen_once, mixin_attr
from .._sqlalchemy import coerce_mutable
from .._typing import AnyAttribute, AnyColumn, AnyMapper, AnyState, MappedClass
from ._attachment import AttributeAttachment, check_target
from ._context import DefaultContext, NotYetKnown, has_python_default
from ._watch import AttributeWatch, stop_listening, subclasses, visit_attributes, visit_late_attribute

#: The attribute of a mapped class with its `ReadableDefault` objects, by the names of their attributes.
_DEFAULTS: Final = "__sqla_active_defaults__"


class ActiveDefaults:
    """A mixin for classes whose column defaults can be read before the first flush.

    Mix it into a class, or into the declarative base for all classes. ``widget.radius`` is 30 where the column has
    ``default=30`` and nothing was assigned; the value that was read is the one that is inserted. Python makes defaults
    of three kinds: scalars, callables, and callables that take the execution context. Defaults that the database makes
    read as None until then.

    It adds no column and emits no SQL. Constructing an object costs nothing; the default is made when it is read.
    """

    if not TYPE_CHECKING:

        def __init_subclass__(cls, **options):
            # Before the class is mapped. A class that is mapped imperatively has no other hook.
            _listen()
            super().__init_subclass__(**options)

        @mixin_attr
        def _sqla_active_defaults(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps a class whose base has an __init_subclass__ that does
            # not call the one above.
            _listen()
            return


def enable_active_defaults(target: type[object]) -> AttributeAttachment:
    """Make the column defaults of all mapped classes below `target` readable before they are flushed.

    It does what `ActiveDefaults` does, for a base that you cannot change, or for a limited time.

    Args:
        target: A declarative base, a mixin or a mapped class. Subclasses that are mapped later are included.

    Returns:
        The handle that ends it. Values that were read by then stay with their objects.

    Raises:
        InvalidArgumentError: `target` is no class, or one from which classes of other libraries derive too, as
            ``DeclarativeBase``.
    """
    check_target(target, "enable_active_defaults")
    return AttributeAttachment(ClassDefaults(target))


class ClassDefaults:
    """The active defaults of a class and its subclasses; they can be attached."""

    def __init__(self, target: MappedClass) -> None:
        self.target: Final = target
        self._watch: Final = AttributeWatch(target, self._visit)

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()
        for cls in subclasses(self.target):
            for default in list(_defaults_of(cls).values()):
                default.release(self.target)

    def _visit(self, mapper: AnyMapper, attribute: AnyAttribute) -> None:
        _make_readable(mapper, attribute, self.target)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassDefaults) and other.target is self.target

    def __hash__(self) -> int:
        return hash(self.target)

    def __repr__(self) -> str:
        return "active defaults"


class ReadableDefault:
    """The listener that makes the default of one attribute of one class; one for all who have asked for it."""

    def __init__(self, attribute: AnyAttribute, column: AnyColumn) -> None:
        self.attribute: Final = attribute
        self._column: Final = column
        self._holders: Final = set[MappedClass]()

    def hold(self, holder: MappedClass) -> None:
        if not self._holders:
            event.listen(self.attribute, "init_scalar", self._init_scalar, retval=True, raw=True)
        self._holders.add(holder)

    def release(self, holder: MappedClass) -> None:
        if holder in self._holders:
            self._holders.remove(holder)
            if not self._holders:
                stop_listening(self.attribute, "init_scalar", self._init_scalar)

    def _init_scalar(self, state: AnyState, value: object, values: dict[str, object]) -> object:
        # A persistent object has what its row has: where SQLAlchemy finds nothing to load there is nothing to make.
        if state.key is not None:
            return value
        try:
            made = self._make(state)
        except NotYetKnown:
            return value
        # Bypasses all "set" listeners, as nobody has set anything. An INSERT takes all that is in the dictionary.
        key = self.attribute.key
        values[key] = made
        coerce_mutable(state, key)
        return values[key]

    def _make(self, state: AnyState) -> object:
        default: Any = self._column.default
        if default.is_callable:
            return default.arg(DefaultContext(state, self._column))
        return _copied(default.arg)


def _listen() -> None:
    # On the mixin itself, so that a hierarchy is heard once. Not on import: classes that do without it pay nothing.
    listen_once(ActiveDefaults, "mapper_configured", _on_configured, propagate=True)
    listen_once(ActiveDefaults, "attribute_instrument", _on_instrument)


def _on_configured(mapper: AnyMapper, _: MappedClass) -> None:
    visit_attributes(mapper, _make_readable_by_mixin)


def _on_instrument(cls: MappedClass, key: str, _: object) -> None:
    visit_late_attribute(cls, key, _make_readable_by_mixin)


def _make_readable_by_mixin(mapper: AnyMapper, attribute: AnyAttribute) -> None:
    _make_readable(mapper, attribute, ActiveDefaults)


def _make_readable(mapper: AnyMapper, attribute: AnyAttribute, holder: MappedClass) -> None:
    """Listen to one attribute of one class, if its column has a default that Python makes.

    Each class has its own listeners, which SQLAlchemy does not propagate: a subclass may map the attribute to
    another column.
    """
    column = _column_of(mapper, attribute)
    if column is None:
        return
    cls = mapper.class_
    known = _defaults_of(cls)
    if attribute.key not in known or known[attribute.key].attribute is not attribute:
        type.__setattr__(cls, _DEFAULTS, {**known, attribute.key: ReadableDefault(attribute, column)})
    _defaults_of(cls)[attribute.key].hold(holder)


def _defaults_of(cls: MappedClass) -> dict[str, ReadableDefault]:
    return cast("dict[str, ReadableDefault]", vars(cls).get(_DEFAULTS, {}))


def _column_of(mapper: AnyMapper, attribute: AnyAttribute) -> AnyColumn | None:
    """Return the column whose default an INSERT would use for an attribute, None if Python makes none."""
    prop = mapper.get_property(attribute.key)
    if not isinstance(prop, ColumnProperty):
        return None
    # The key of a joined subclass has two columns, and it is the one of the base that has the default.
    columns = [each for each in prop.columns if isinstance(each, Column) and has_python_default(each)]
    # The counter of versions is written by the mapper, which does not ask the default.
    return None if not columns or columns[0] is mapper.version_id_col else columns[0]


def _copied(value: object) -> object:
    """Return a copy of a mutable default for one object; what cannot be copied is shared, as by an INSERT."""
    try:
        return copy.deepcopy(value)
    except (TypeError, copy.Error):
        return value
