"""Runnable demos of every pattern: a folder a room, a module a demo.

``python -m sqla_patterns demo`` lists them. A demo is a module whose docstring opens with a one-line summary and which
has ``main(argv: Sequence[str] | None = None) -> int``. It does nothing on import, takes ``--url``, ``--echo`` and
``--quiet``, asserts what it claims, prints what a learner wants to see, and leaves the database as it found it.
"""
