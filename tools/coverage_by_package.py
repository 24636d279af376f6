"""Print line and branch coverage by package, for each report: ``python tools/coverage_by_package.py coverage.json``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

KEYS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def by_package(report: Path) -> dict[str, Counter[str]]:
    """Return the counts of each package, of the modules above them as ``(ground)``, and of all."""
    packages: dict[str, Counter[str]] = {}
    for name, file in json.loads(report.read_text())["files"].items():
        parts = Path(name.partition("sqla_patterns/")[2]).parts
        for package in (parts[0] if len(parts) > 1 else "(ground)", "TOTAL"):
            packages.setdefault(package, Counter()).update({key: file["summary"][key] for key in KEYS})
    return packages


def main(reports: list[str]) -> None:
    """Print the table."""
    columns = [by_package(Path(report)) for report in reports]
    for package in sorted({package for column in columns for package in column}):
        cells = [f"{package:22}"]
        for column in columns:
            statements, lines, all_branches, branches = (column.get(package, Counter())[key] for key in KEYS)
            cells.append(f"lines {100 * lines / max(statements, 1):6.2f} % of {statements:5}")
            cells.append(f"branches {100 * branches / max(all_branches, 1):6.2f} % of {all_branches:4}")
        print(" | ".join(cells))


main(sys.argv[1:])
