"""On SQLAlchemy 2.0, make ``any()`` and ``has()`` an EXISTS to which the ORM applies loader criteria, as 2.1 does.

To this end the comparators of relationships to the classes of a rule are replaced, when the first statement with such
an EXISTS is executed. Whether the criteria are in place is then checked as in any other statement. Without this module
the rows would be hidden too, but by a copy of the statement at each execution (`_rewrite`), which takes about twice as
long.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import sqlalchemy
from sqlalchemy import inspect
from sqlalchemy.orm import RelationshipProperty

from ._private import AnyElement, private
from ._rules import Rule, mapped_subclasses

#: 2.1 does all this by itself.
IS_NEEDED: Final = sqlalchemy.__version__.startswith("2.0.")

_Comparator: Final[Any] = RelationshipProperty.Comparator


class ExistsComparator(_Comparator):  # type: ignore[misc]
    """The comparator of relationships whose EXISTS the ORM compiles."""

    __slots__ = ()

    def _criterion_exists(self, criterion: AnyElement = None, **kwargs: AnyElement) -> AnyElement:
        found = private(super())._criterion_exists(criterion, **kwargs)
        of_type = self._of_type
        entity = inspect(of_type) if of_type is not None else self.property.mapper
        copy = found._clone()
        copy.element = found._regroup(partial(_annotated, entity=entity))
        return copy

    def of_type(self, class_: AnyElement) -> AnyElement:
        """Return the comparator for a subclass or an alias of the related class."""
        narrowed = private(super()).of_type(class_)
        narrowed.__class__ = ExistsComparator
        return narrowed


def _annotated(select: AnyElement, entity: AnyElement) -> AnyElement:
    plugin = {"compile_state_plugin": "orm", "plugin_subject": entity}
    annotations = {"parentmapper": entity.mapper, "entity_namespace": entity, "parententity": entity}
    target, *others = select._from_obj
    copy = select._generate()
    copy._from_obj = (target._annotate(annotations)._set_propagate_attrs(plugin), *others)
    return copy._set_propagate_attrs(plugin)


def carry_criteria(rule: Rule) -> None:
    """Exchange the comparators of all relationships to classes of a rule, unless the user has given others."""
    registries = {mapper.registry for mapper in mapped_subclasses(rule.mixin)}
    for mapper in [each for registry in registries for each in registry.mappers]:
        for relationship in mapper.relationships:
            if issubclass(relationship.mapper.class_, rule.mixin):
                comparator: object = private(getattr(mapper.class_, relationship.key)).comparator
                if type(comparator) is _Comparator:
                    private(comparator).__class__ = ExistsComparator
