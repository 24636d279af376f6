"""Association objects behind lists, sets and dictionaries of what they lead to."""

from ._default import GenDefaultCollection, gen_default_collection
from ._proxy import DataclassOptions, proxied_dict, proxied_list, proxied_set

__all__ = (
    "DataclassOptions",
    "GenDefaultCollection",
    "gen_default_collection",
    "proxied_dict",
    "proxied_list",
    "proxied_set",
)
