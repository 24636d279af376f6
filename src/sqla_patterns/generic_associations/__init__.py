"""Objects that belong to parents of several classes."""

from __future__ import annotations

from ._collection import related_class as related_class
from ._discriminator import DiscriminatorAssociation as DiscriminatorAssociation
from ._generic_foreign_key import GenericForeignKey as GenericForeignKey
from ._generic_foreign_key import GenericRelationship as GenericRelationship
from ._parent import AssociationParent as AssociationParent
from ._parent import ParentComparator as ParentComparator
from ._table_per_association import TablePerAssociation as TablePerAssociation
from ._table_per_related import TablePerRelated as TablePerRelated

__all__ = (
    "AssociationParent",
    "DiscriminatorAssociation",
    "GenericForeignKey",
    "GenericRelationship",
    "ParentComparator",
    "TablePerAssociation",
    "TablePerRelated",
    "related_class",
)
