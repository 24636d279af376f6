"""The one place that uses private API of SQLAlchemy: the selectin loader of a generic foreign key, and two small things.

``registry.mappers`` fails for good once mapping a class has failed, as happens in a notebook; `mapped_classes` leaves that class out.

Several relationships write the same columns of a child, and this room sees to it that only one does so in a flush. SQLAlchemy warns
of such an overlap unless ``overlaps=`` names the others, which are not all known yet; `ANY_OVERLAP` is the wildcard that its own
extensions pass. Without it there would be warnings and nothing worse.

``selectinload()`` has two ways to load a many-to-one. Where the join is a plain key it asks for the *referenced keys*, 500 a
statement; where the join says more, it joins from the *referring rows*, all of them. The hidden relationships of a generic foreign
key also compare the discriminator, so SQLAlchemy would take the second way: for 1,000 objects that refer to two types it would ask
each type about all 1,000. Here the objects are first narrowed to those of the type, after which the first way is right.

If a future SQLAlchemy has these names no more, loading falls back to its own second way: correct, with more statements.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import RelationshipProperty, registry

__all__ = ("ANY_OVERLAP", "mapped_classes", "narrow_selectinload")

ANY_OVERLAP = "__*"

_SELECTIN = (("lazy", "selectin"),)


def mapped_classes(registry: registry) -> list[type[Any]]:
    """The classes that are mapped in a registry, by name."""
    managers: Any = getattr(registry, "_managers", None)
    if managers is None:
        classes = [mapper.class_ for mapper in registry.mappers]
    else:
        classes = [manager.class_ for manager in list(managers) if manager.is_mapped]
    return sorted(classes, key=lambda cls: cls.__name__)


def narrow_selectinload(prop: RelationshipProperty[Any], discriminator: str, identity: str) -> bool:
    """Let ``selectinload()`` of `prop` ask only for what objects with this identity refer to; False if it cannot."""
    mutable: Any = prop
    try:
        joining: Any = mutable._get_strategy(_SELECTIN)
        plain: Any = joining.__class__
        _ = plain._init_for_omit_join_m2o, plain._load_for_path, mutable._strategies
    except AttributeError:
        return False

    class NarrowSelectInLoader(plain):  # type: ignore[misc]
        __slots__ = ()

        def _load_for_path(self, context: Any, path: Any, states: Any, *args: Any, **kwargs: Any) -> None:
            # Not the attribute itself: reading one that is deferred or expired would emit a statement for each object. For those
            # SQLAlchemy's second way does, which asks the database for the discriminator.
            unknown = [each for each in states if discriminator not in each[0].dict]
            if unknown:
                joining._load_for_path(context, path, unknown, *args, **kwargs)
            matching = [each for each in states if each[0].dict.get(discriminator) == identity]
            if matching:
                plain._load_for_path(self, context, path, matching, *args, **kwargs)

    former = mutable.omit_join
    mutable.omit_join = True
    try:
        mutable._strategies[_SELECTIN] = NarrowSelectInLoader(prop, _SELECTIN)
    except (AttributeError, KeyError, TypeError):
        mutable.omit_join = former
        return False
    return True
