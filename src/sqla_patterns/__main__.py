"""The command line, ``python -m sqla_patterns`` or ``sqla-patterns``, which lists and runs the demos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


def _demo(argv: Sequence[str]) -> int:
    from sqla_patterns.demos._runner import main

    return main(argv)


# A command has a one-line summary, and a function that imports the module of the command only when it is called.
_COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "demo": ("list the demos, or run one or all of them", _demo),
}


def _usage() -> str:
    lines = ["usage: python -m sqla_patterns COMMAND [ARGS...]", "", "commands:"]
    lines += [f"  {name:<10} {summary}" for name, (summary, _) in _COMMANDS.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; 2 if there is no such command.

    Args:
        argv: The arguments of the command line; those of the process unless given.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        from sqla_patterns import __version__

        print(__version__)
        return 0
    command, *rest = arguments
    if command not in _COMMANDS:
        print(f"unknown command {command!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    return _COMMANDS[command][1](rest)


if __name__ == "__main__":
    sys.exit(main())
