"""Check SQL that is written as text: whether it is complete in itself, and whether it names a table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

_QUOTES: Final = {"'": "'", '"': '"', "`": "`"}
_COMMENT: Final = re.compile(r"/\*(?!M?!).*?\*/", re.DOTALL)
_WORD: Final = re.compile(r"[^\W\d][\w$]*", re.UNICODE)
_QUOTED: Final = re.compile(r'"((?:[^"]|"")*)"|`((?:[^`]|``)*)`|\[([^\]]*)\]')
# Not /*! and /*M!, whose content MariaDB and MySQL execute.
_HINT: Final = re.compile(r"\s*(/\*(?!M?!)[^*]*\*/|\w+)?\s*")


def is_closed(text: str, *, hash_comments: bool = False) -> bool:
    """Return whether parentheses around a text enclose it: it closes what it opens, comments nothing out and ends no
    statement.

    Args:
        text: A piece of SQL.
        hash_comments: Whether ``#`` begins a comment, as in MariaDB and MySQL.
    """
    depth, position, rest = 0, 0, _COMMENT.sub(" ", text)
    if "/*" in rest or "*/" in rest:
        return False
    while position < len(rest):
        char = rest[position]
        if char in _QUOTES:
            end = rest.find(_QUOTES[char], position + 1)
            if end < 0 or "\\" in rest[position:end]:
                return False  # an open quote; or a backslash, of which databases differ whether it escapes
            position = end
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
            if depth < 0:
                return False
        elif char == ";" or rest.startswith("--", position) or (char == "#" and hash_comments) or char == "$":
            return False
        position += 1
    return depth == 0


def is_harmless_piece(text: str, *, words: bool) -> bool:
    """Return whether a prefix, suffix or hint is one comment, or, where `words` is true, one word."""
    return _HINT.fullmatch(text) is not None and (words or "/*" in text or not text.strip())


def named_table(sql: str, names: Collection[str], reserved: Collection[str]) -> str | None:
    """Return which of `names`, in lower case, occurs in `sql` as an identifier: bare, quoted, in any case.

    Args:
        sql: Text, or a compiled statement whose other identifiers were left out.
        names: The names of tables, in lower case.
        reserved: Words that are part of the language, so that a table of such a name is meant only in quotes.
    """
    if "u&" in sql.lower():
        # PostgreSQL: U&"\006frders" is the identifier orders.
        return next(iter(names), None)
    quoted = {name.lower() for name in _quoted(sql)}
    found = {word.lower() for word in _WORD.findall(sql)} - {word.lower() for word in reserved}
    return next((name for name in sorted(names) if name in found or name in quoted), None)


def _quoted(sql: str) -> Iterator[str]:
    for match in _QUOTED.finditer(sql):
        yield next(group for group in match.groups() if group is not None).replace('""', '"').replace("``", "`")
