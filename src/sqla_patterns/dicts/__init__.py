"""DOC"""

from ._asyncio import AsyncWriteOnlyDict
from ._attribute import DictAttribute, async_write_only_dict, write_only_dict
from ._mapping import WriteOnlyDict

__all__ = ("AsyncWriteOnlyDict", "DictAttribute", "WriteOnlyDict", "async_write_only_dict", "write_only_dict")
