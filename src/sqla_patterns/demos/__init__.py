"""Runnable demos of every pattern, with a folder for each package and a module for each demo.

``python -m sqla_patterns demo`` lists them. A demo is a module whose docstring begins with a one-line summary and that
has a function ``main(argv: Sequence[str] | None = None) -> int``. It does nothing on import, takes the options
``--url``, ``--echo`` and ``--quiet``, asserts what it claims, prints its results, and drops its tables at the end.
"""
