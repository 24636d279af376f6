"""The root of the package as a checker sees it."""

from __future__ import annotations

from typing import assert_type

import sqla_patterns
from sqla_patterns.exceptions import PatternError

assert_type(sqla_patterns.__version__, str)


def subclass_of_exception(error: PatternError) -> Exception:
    return error
