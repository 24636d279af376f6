"""Check an installed wheel: ``python -I check_wheel.py FILE``, in an environment with no extra installed."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

NEEDS_EXTRA = {"caching"}


def _import_error(name: str) -> str:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return str(error)
    raise AssertionError(f"{name} imports without its extra")


def main(wheel: str) -> None:
    names = ZipFile(wheel).namelist()
    assert "sqla_patterns/py.typed" in names
    assert not [name for name in names if "test" in name], "tests in the wheel"

    import sqla_patterns

    assert "site-packages" in Path(sqla_patterns.__file__).parts, sqla_patterns.__file__
    assert find_spec("dogpile") is None, "dogpile is installed, so this checks nothing"
    assert find_spec("rich") is None, "rich is installed, so this checks nothing"
    for info in pkgutil.iter_modules(sqla_patterns.__path__):
        name = f"sqla_patterns.{info.name}"
        if info.name in NEEDS_EXTRA:
            assert "pip install" in _import_error(name)
        elif info.name != "__main__":
            importlib.import_module(name)
    print(f"sqla_patterns {sqla_patterns.__version__}: the wheel imports without extras")


if __name__ == "__main__":
    main(sys.argv[1])
