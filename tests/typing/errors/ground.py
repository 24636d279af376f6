"""What the checkers must refuse about the root of the package."""

from __future__ import annotations

import sqla_patterns
from sqla_patterns.exceptions import PatternError

number: int = sqla_patterns.__version__  # E: "int"
text: str = PatternError("x")  # E: "str"
