"""Draw a loaded tree as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from sqlalchemy import inspect

from ._config import TreeConfig, config_of
from ._node import NodeT
from ._peek import loaded_list, loaded_map

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ("render_tree",)


@overload
def render_tree(node: NodeT, *, label: Callable[[NodeT], str] | None = None, rich: Literal[False] = False) -> str: ...
@overload
def render_tree(node: NodeT, *, label: Callable[[NodeT], str] | None = None, rich: Literal[True]) -> Tree: ...
def render_tree(node: NodeT, *, label: Callable[[NodeT], str] | None = None, rich: bool = False) -> Any:
    """Draw `node` and what is loaded below it; a node whose children are not loaded ends in ``…``.

    Args:
        label: gives the text of a node; without it that is its key, its ``name`` or its ``str()``.
        rich: return a `rich.tree.Tree` to print in colour, which needs the extra ``cli``.

    No SQL: use `load_tree` first.

    Raises:
        ImportError: `rich` is asked for and not installed.
    """
    config = config_of(node)
    text = label or _default_label(config)
    return _rich_tree(node, text) if rich else _text(node, text)


def _default_label(config: TreeConfig) -> Callable[[Any], str]:
    attr = config.key_attr or ("name" if "name" in config.mapper.attrs else None)
    return str if attr is None else lambda node: str(getattr(node, attr))


def _children(node: Any) -> list[Any] | None:
    """Loaded children in order; None where they are not loaded."""
    by_key, in_order = loaded_map(node), loaded_list(node)
    if by_key is not None:
        return list(by_key.values())
    if in_order is not None:
        return list(in_order)
    return None if inspect(node).persistent else []


def _text(top: Any, label: Callable[[Any], str]) -> str:
    lines: list[str] = []
    # (node, what precedes its own branch, its branch, what precedes its children)
    stack: list[tuple[Any, str, str, str]] = [(top, "", "", "")]
    while stack:
        node, before, branch, below = stack.pop()
        children = _children(node)
        mark = " …" if children is None else ""
        first, *rest = label(node).splitlines() or [""]
        lines.append(f"{before}{branch}{first}{mark}")
        lines += [f"{below}{'│   ' if children else '    '}{line}" for line in rest]
        for index, child in enumerate(reversed(children or [])):
            last = index == 0
            stack.append((child, below, "└── " if last else "├── ", below + ("    " if last else "│   ")))
    return "\n".join(lines)


def _rich_tree(top: Any, label: Callable[[Any], str]) -> Any:
    try:
        from rich.markup import escape
        from rich.tree import Tree
    except ImportError as error:
        raise ImportError("render_tree(rich=True) needs rich: pip install 'sqla-patterns[cli]'") from error

    def text(node: Any) -> str:
        return escape(label(node)) + (" …" if _children(node) is None else "")

    root = Tree(text(top))
    stack: list[tuple[Tree, Iterable[Any]]] = [(root, _children(top) or ())]
    while stack:
        branch, children = stack.pop()
        stack.extend((branch.add(text(child)), _children(child) or ()) for child in children)
    return root
