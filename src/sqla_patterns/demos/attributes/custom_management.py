"""Mapped classes that keep their values in ``_goofy_dict``; it runs in a separate process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from sqla_patterns.demos._support import demo_options


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    # The extension that makes this possible changes how SQLAlchemy finds the state of every object in the process: not
    # here.
    arguments = ["--url", options.url, *(["--echo"] if options.echo else []), *(["--quiet"] if options.quiet else [])]
    command = [sys.executable, "-m", "sqla_patterns.demos.attributes._goofy", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    print(result.stdout, end="")
    print(result.stderr, end="", file=sys.stderr)
    return result.returncode
