"""Make the tables of ``docs/performance.md`` from what the benchmarks have printed.

``python benchmarks/_tables.py`` writes, behind each marker ``<!-- results/NAME.txt -->`` of the page, the tables of
that file; a test compares the two. A result is the output of a benchmark as it was printed, with the command in its
first line: ``.venv/bin/python benchmarks/trees.py > benchmarks/results/trees-sqlite.txt``, and the command put before
it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
RESULTS = Path(__file__).parent / "results"

_MARKER = re.compile(r"<!-- results/(\S+) -->\n(?:(?!<!-- end -->).*\n)*<!-- end -->")


def page_with_tables(page: str) -> str:
    """Return the page with the tables that belong behind its markers."""

    def write(found: re.Match[str]) -> str:
        tables = "\n".join(tables_of((RESULTS / found[1]).read_text(encoding="utf-8")))
        return f"<!-- results/{found[1]} -->\n\n{tables}\n<!-- end -->"

    return _MARKER.sub(write, page)


def tables_of(output: str) -> Iterator[str]:
    """Yield the lines of the tables for the output of a benchmark, those of each part under its title."""
    lines = output.splitlines()
    yield f"`{lines[0]}`"
    yield ""
    facts = [line for line in lines[1:6] if line.startswith("Python ") or "load " in line]
    yield from textwrap.wrap("; ".join(facts) + ".", 120)
    yield ""
    for number, line in enumerate(lines):
        unit = re.match(r"  (milliseconds|nanoseconds) +best", line)
        if unit is None:
            continue
        yield from _table(lines[number - 1], unit[1], line, lines[number + 1 :])


def _table(title: str, unit: str, header: str, rows: list[str]) -> Iterator[str]:
    columns = re.findall(r"best|median|worst|rounds|statements|ratio|of medians", header)
    shown = [name for name in ("best", "statements", "ratio") if name in columns]
    heads = {"best": f"{unit}, best", "statements": "statements", "ratio": "ratio"}
    yield f"| {title} | {' | '.join(heads[name] for name in shown)} |"
    yield f"| --- |{' ---: |' * len(shown)}"
    for row in rows:
        if not row.startswith("  ") or row.startswith(("  PASS", "  FAIL")):
            break
        cells = re.split(r"\s+", row.strip())
        values = dict(zip(columns, cells[-len(columns) :], strict=True))
        name = " ".join(cells[: -len(columns)])
        yield f"| {name} | {' | '.join(values[each] for each in shown)} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
