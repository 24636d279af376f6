"""The functions `proxied_list`, `proxied_set` and `proxied_dict`, and the descriptors that they return."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypedDict, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.associationproxy import (
    AssociationProxy,
    AssociationProxyInstance,
    ColumnAssociationProxyInstance,
    ObjectAssociationProxyInstance,
)
from sqlalchemy.orm import QueryableAttribute, RelationshipProperty
from typing_extensions import Unpack

from .._functions import call_named
from .._sqlalchemy import attribute_options
from .._typing import AnyMapper, AnyRelationship, MappedClass
from ..exceptions import InvalidArgumentError
from ._dict import DictView
from ._endpoint import Endpoint, is_unique, member_class_of, name_of
from ._list import ListView
from ._set import SetView
from ._view import View

if TYPE_CHECKING:
    from sqlalchemy.orm.base import SQLORMOperations

K = TypeVar("K")
T = TypeVar("T")

Attribute: TypeAlias = QueryableAttribute[T] | AssociationProxyInstance[T]
OnReassign: TypeAlias = Literal["diff", "replace"]


class DataclassOptions(TypedDict, total=False):
    """Options of ``association_proxy()`` for an annotated attribute of a ``MappedAsDataclass``."""

    init: bool
    repr: bool
    default_factory: Callable[[], object]
    compare: bool
    kw_only: bool
    hash: bool | None


# -- functions -----------------------------------------------------------------------------------


def proxied_list(
    target: str,
    attr: Callable[[], Attribute[T]],
    *,
    creator: Callable[[T], object] | None = None,
    owner_creator: Callable[[Any, T], object] | None = None,
    on_reassign: OnReassign = "diff",
    **dataclass_options: Unpack[DataclassOptions],
) -> AssociationProxy[list[T]]:
    """Show a list of association objects as the list of their members.

    Args:
        target: the relationship to the association class, an ordinary list.
        attr: returns the attribute of the association class that is the member, as in ``lambda: OrderItem.item``. It is
            called when the proxy is used for the first time.
        creator: makes the association object of a new member. Without it the association class is called with the
            member by keyword, ``OrderItem(item=member)``.
        owner_creator: the same with the owner before the member. It may set the owner on the association object.
        on_reassign: ``"diff"`` keeps the association objects of members that stay when the list is reassigned,
            ``"replace"`` makes new ones for all members.
        dataclass_options: passed on to SQLAlchemy; they count for an annotated attribute of a dataclass only.

    Raises:
        InvalidArgumentError: on use, if the relationship is no list, ``attr`` is not an attribute of the association
            class, a member is of the wrong type, or an assignment is ambiguous.
        DuplicateKeyError: on use, if a member comes twice and a key of the association table allows it once.
    """
    return _ProxiedList(target, None, attr, creator, owner_creator, on_reassign, dataclass_options)


def proxied_set(
    target: str,
    attr: Callable[[], Attribute[T]],
    *,
    creator: Callable[[T], object] | None = None,
    owner_creator: Callable[[Any, T], object] | None = None,
    on_reassign: OnReassign = "diff",
    **dataclass_options: Unpack[DataclassOptions],
) -> AssociationProxy[set[T]]:
    """Show a set of association objects as the set of their members; the arguments are those of `proxied_list`.

    Raises:
        InvalidArgumentError: on use, if the relationship is no set, ``attr`` is not an attribute of the association
            class, or a member is of the wrong type.
    """
    return _ProxiedSet(target, None, attr, creator, owner_creator, on_reassign, dataclass_options)


def proxied_dict(
    target: str,
    key: Callable[[], QueryableAttribute[K]],
    attr: Callable[[], Attribute[T]],
    *,
    creator: Callable[[K, T], object] | None = None,
    owner_creator: Callable[[Any, K, T], object] | None = None,
    on_reassign: OnReassign = "diff",
    **dataclass_options: Unpack[DataclassOptions],
) -> AssociationProxy[dict[K, T]]:
    """Show a dictionary of association objects as the dictionary of their members, by the same keys.

    The other arguments are those of `proxied_list`; creators are given the key before the member.

    Args:
        target: the relationship to the association class, with ``attribute_keyed_dict()`` or a `GenDefaultCollection`.
        key: returns the attribute of the association class that is the key, as in ``lambda: Note.keyword``.
        attr: returns the attribute of the association class that is the member.
        creator: makes the association object; without it the class is called with key and member by keyword.
        owner_creator: the same with the owner first.
        on_reassign: ``"diff"`` keeps the association objects of keys that stay when the dictionary is reassigned,
            ``"replace"`` makes new ones for all keys.
        dataclass_options: passed on to SQLAlchemy.

    Raises:
        InvalidArgumentError: on use, if the relationship is no dictionary, ``key`` or ``attr`` is not an attribute of
            the association class, or a member is of the wrong type.
        KeyMismatchError: on use, if a creator makes an association object with another key.
    """
    return _ProxiedDict(target, key, attr, creator, owner_creator, on_reassign, dataclass_options)


# -- descriptors ---------------------------------------------------------------------------------


class _Proxied(AssociationProxy[Any]):
    """An association proxy that resolves its attribute when used, and shows a `View` on instances.

    SQLAlchemy keeps the proxy of an instance in the instance's ``__dict__``, from where it is pickled with all that it
    refers to, creators included. A view is made for each access instead, and refers to its owner only.
    """

    view: ClassVar[type[View]]

    def __init__(
        self,
        target: str,
        key: Callable[[], object] | None,
        attr: Callable[[], object],
        creator: Callable[..., object] | None,
        owner_creator: Callable[..., object] | None,
        on_reassign: OnReassign,
        dataclass_options: DataclassOptions,
    ) -> None:
        if creator is not None and owner_creator is not None:
            raise InvalidArgumentError(f"The proxy of {target!r} has creator and owner_creator; give one of them")
        if on_reassign not in ("diff", "replace"):
            raise InvalidArgumentError(
                f"The proxy of {target!r} has on_reassign={on_reassign!r}; give 'diff' or 'replace'"
            )
        for function in (attr,) if key is None else (key, attr):
            if not callable(function):
                raise InvalidArgumentError(
                    f"The proxy of {target!r} has {function!r} for an attribute; give a function that returns the "
                    "attribute, such as lambda: OrderItem.item"
                )
        super().__init__(target, "", attribute_options=attribute_options(target, dataclass_options))
        del self.value_attr  # ... so that it is looked up below, once the classes exist
        self._key: Final = key
        self._attr: Final = attr
        self._creator: Final = creator
        self._owner_creator: Final = owner_creator
        self._diff: Final = on_reassign == "diff"
        self._endpoints: Final = WeakKeyDictionary[MappedClass, Endpoint]()

    @cached_property
    def value_attr(self) -> str:  # type: ignore[override]  # an attribute there, which __init__ above takes away
        return _name_of(call_named(self._attr, f"The proxy of {self.target_collection!r}"), self.target_collection)

    def __get__(self, instance: object, owner: Any) -> Any:
        if instance is not None:
            return self._view_of(instance)
        if "value_attr" not in vars(self):
            # Here the name of the attribute is known, for the error if there is one.
            call_named(self._attr, self._label(inspect(owner)))
        try:
            found = cast("Any", super()).__get__(None, owner)
        except InvalidRequestError:
            # SQLAlchemy's text names neither the proxy nor the way out.
            self._relationship_of(inspect(owner).mapper)
            raise
        return _comparable(found)

    def __set__(self, instance: object, values: object) -> None:
        self._view_of(instance).reassign(values)

    def _view_of(self, instance: object) -> View:
        return self.view(instance, self.endpoint_of(instance.__class__))

    def for_class(self, class_: MappedClass, obj: object | None = None) -> Any:
        return _comparable(super().for_class(class_, obj))

    def endpoint_of(self, owner: MappedClass) -> Endpoint:
        """Return what the proxy shows on a class, resolved on first use."""
        if owner not in self._endpoints:
            self._endpoints[owner] = self._resolve(inspect(owner))
        return self._endpoints[owner]

    def _label(self, owner: AnyMapper) -> str:
        return f"{owner.class_.__name__}.{name_of(owner, self) or self.target_collection}"

    def _relationship_of(self, owner: AnyMapper) -> AnyRelationship:
        relationship = owner.relationships.get(self.target_collection)
        if relationship is None or not relationship.uselist:
            raise InvalidArgumentError(
                f"{self._label(owner)} goes through {self.target_collection!r}, which is no relationship of "
                f"{owner.class_.__name__} to a collection; name one"
            )
        return relationship

    def _resolve(self, owner: AnyMapper) -> Endpoint:
        label = self._label(owner)
        relationship = self._relationship_of(owner)
        row_class: MappedClass = relationship.mapper.class_
        functions = (self._attr,) if self._key is None else (self._key, self._attr)
        names = tuple(self._check_name(row_class, call_named(function, label), label) for function in functions)
        key_attr = None if self._key is None else names[0]
        attribute: Any = getattr(row_class, self.value_attr)
        member_class, optional = member_class_of(attribute)
        inner: Any = attribute.parent if _is_proxy(attribute) else None
        return Endpoint(
            label=label,
            relationship=self.target_collection,
            row_class=row_class,
            value_attr=self.value_attr,
            key_attr=key_attr,
            member_class=member_class,
            optional=optional,
            unique=key_attr is None and is_unique(relationship, attribute),
            inner=inner.endpoint_of(row_class) if isinstance(inner, _Proxied) else None,
            live=_is_collection(attribute) or (_is_proxy(attribute) and not attribute.scalar),
            creator=self._creator_for(row_class, names),
            takes_owner=self._owner_creator is not None,
            diff=self._diff,
        )

    def _check_name(self, row_class: MappedClass, attribute: Any, label: str) -> str:
        name = _name_of(attribute, self.target_collection)
        if not issubclass(row_class, attribute.owning_class if _is_proxy(attribute) else attribute.class_):
            raise InvalidArgumentError(
                f"{label} shows {attribute}, which is no attribute of {row_class.__name__}; "
                f"return one of {row_class.__name__}, the class that {self.target_collection!r} holds"
            )
        return name

    def _creator_for(self, row_class: MappedClass, names: tuple[str, ...]) -> Callable[..., object]:
        if self._owner_creator is not None:
            return self._owner_creator
        creator = self._creator

        def create(owner: object, *arguments: object) -> object:
            if creator is not None:
                return creator(*arguments)
            return row_class(**dict(zip(names, arguments, strict=True)))

        return create


class _ProxiedList(_Proxied):
    view = ListView


class _ProxiedSet(_Proxied):
    view = SetView


class _ProxiedDict(_Proxied):
    view = DictView


def _name_of(attribute: Any, target: str) -> str:
    """Return the name of a class-level attribute; that of an association proxy is known to its class only."""
    name: str | None = None
    if _is_proxy(attribute):
        name = name_of(inspect(attribute.owning_class), attribute.parent)
    elif isinstance(attribute, QueryableAttribute):
        name = attribute.key
    if name is None:
        raise InvalidArgumentError(
            f"The proxy of {target!r} was given {attribute!r} as an attribute; return an attribute of the association "
            "class, such as lambda: OrderItem.item"
        )
    return name


def _is_proxy(attribute: object) -> bool:
    return isinstance(attribute, AssociationProxyInstance)


# -- in SQL ----------------------------------------------------------------------------------------


class _Membership(AssociationProxyInstance[Any]):
    """A class-level proxy with ``contains()`` as Python's ``in``.

    SQLAlchemy's is a LIKE where members are columns, and so where these are nested.
    """

    #: The alias that the proxy is of; None for the class itself.
    _entity: object = None

    def contains(self, other: object, **kw: object) -> ColumnElement[bool]:
        remote: Any = self.remote_attr
        is_collection = isinstance(remote, ObjectAssociationProxyInstance | _Membership) or _is_collection(remote)
        return self.local_attr.any(remote.contains(other) if is_collection else remote == other)

    # ``aliased(Order).items``. SQLAlchemy 2.0 has nothing of the kind and 2.1 has it for members that are objects only:
    # the proxy of an alias would go on to mean the class itself, and the query something else. A proxy's other methods
    # build on local_attr and on _comparator, a private name that both series have.

    def adapt_to_entity(self, aliased_insp: Any) -> Any:
        adapted = type(self)(self.parent, self.owning_class, self.target_class, self.value_attr)
        adapted._entity = aliased_insp.entity
        return adapted

    @property
    def local_attr(self) -> SQLORMOperations[Any]:
        entity = self.owning_class if self._entity is None else self._entity
        return cast("SQLORMOperations[Any]", getattr(entity, self.target_collection))

    @property
    def _comparator(self) -> Any:
        return cast("Any", self.local_attr).comparator


class _ColumnMembers(_Membership, ColumnAssociationProxyInstance[Any]):
    pass


class _ObjectMembers(_Membership, ObjectAssociationProxyInstance[Any]):
    pass


def _is_collection(attribute: object) -> bool:
    prop = getattr(attribute, "property", None)
    return isinstance(prop, RelationshipProperty) and bool(prop.uselist)


def _comparable(found: Any) -> Any:
    """Return a `_Membership` in place of SQLAlchemy's class-level proxy; anything else as it is."""
    replacements = {ColumnAssociationProxyInstance: _ColumnMembers, ObjectAssociationProxyInstance: _ObjectMembers}
    make: Any = replacements.get(cast("Any", type(found)))
    return found if make is None else make(found.parent, found.owning_class, found.target_class, found.value_attr)
