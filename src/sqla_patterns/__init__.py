"""The patterns of SQLAlchemy's ORM examples, as typed mixins, attributes and functions for applications.

There is one package for each pattern, and its public names are imported from there::

    from sqla_patterns.trees import NestedSets, TreeNode

The root exports nothing, and importing it or any package changes nothing: no listener is registered, nothing is mapped.
(The one module whose import has effects is ``sqla_patterns.attributes.instrumentation``, which no other imports.)
``python -m sqla_patterns demo`` lists a runnable demo of every pattern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        # Reading the metadata of an installed distribution costs milliseconds that most imports need not pay.
        from importlib.metadata import version

        return version("sqla-patterns")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
