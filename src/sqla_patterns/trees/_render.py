"""Draw a loaded tree as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, overload

from sqlalchemy import inspect

from .._typing import MappedObject
from ._config import TreeConfig
from ._loaded_state import describe, loaded_list, loaded_map
from ._mixins import NodeT
from ._tree import tree_of

if TYPE_CHECKING:
    from rich.tree import Tree


@overload
def render_tree(node: NodeT, *, label: Callable[[NodeT], str] | None = None, rich: Literal[False] = False) -> str: ...
@overload
def render_tree(node: NodeT, *, label: Callable[[NodeT], str] | None = None, rich: Literal[True]) -> Tree: ...
def render_tree(node: NodeT, *, label: Callable[[NodeT], str] | None = None, rich: bool = False) -> str | Tree:
    """Draw `node` and what is loaded below it.

    A node whose children are not loaded, or that was drawn already, ends in ``…``. No SQL: use `load_tree` first.

    Args:
        node: The node at the top.
        label: Returns the text of a node; without it that is its key or its ``name``, and class and primary key where
            there is none or it is not loaded.
        rich: Whether to return a `rich.tree.Tree` to print in colour, which needs the extra ``cli``.

    Raises:
        ImportError: `rich` is asked for and not installed.
    """
    config = tree_of(node).config
    text = label or _default_label(config)
    return _rich_tree(node, text) if rich else _text(node, text)


def _default_label(config: TreeConfig) -> Callable[[MappedObject], str]:
    attr = config.key_attr or ("name" if "name" in config.mapper.attrs else None)

    def label(node: MappedObject) -> str:
        # From what is loaded: an expired name would be a SELECT.
        value = node.__dict__.get(attr)
        return describe(node) if value is None else str(value)

    return label


def _children(node: MappedObject, seen: set[int]) -> list[MappedObject] | None:
    """Return the loaded children in order; None where they are not loaded, or the node is in `seen`, as in a cycle."""
    if id(node) in seen:
        return None
    seen.add(id(node))
    by_key, in_order = loaded_map(node), loaded_list(node)
    if by_key is not None:
        return list(by_key.values())
    if in_order is not None:
        return list(in_order)
    return None if inspect(node).key is not None else []


def _text(top: MappedObject, label: Callable[[MappedObject], str]) -> str:
    lines: list[str] = []
    seen: set[int] = set()
    # (node, what precedes its own branch, its branch, what precedes its children)
    stack: list[tuple[MappedObject, str, str, str]] = [(top, "", "", "")]
    while stack:
        node, before, branch, below = stack.pop()
        children = _children(node, seen)
        ellipsis = " …" if children is None else ""
        first, *rest = label(node).splitlines() or [""]
        lines.append(f"{before}{branch}{first}{ellipsis}")
        lines += [f"{below}{'│   ' if children else '    '}{line}" for line in rest]
        for index, child in enumerate(reversed(children or [])):
            last = index == 0
            stack.append((child, below, "└── " if last else "├── ", below + ("    " if last else "│   ")))
    return "\n".join(lines)


def _rich_tree(top: MappedObject, label: Callable[[MappedObject], str]) -> Tree:
    try:
        from rich.text import Text
        from rich.tree import Tree
    except ImportError as error:
        raise ImportError("render_tree(rich=True) needs rich: pip install 'sqla-patterns[cli]'") from error

    seen: set[int] = set()

    def text(node: MappedObject, children: list[MappedObject] | None) -> Text:
        # No markup: a name is a name.
        return Text(label(node) + (" …" if children is None else ""))

    children = _children(top, seen)
    root = Tree(text(top, children))
    stack: list[tuple[Tree, Iterable[MappedObject]]] = [(root, children or ())]
    while stack:
        branch, nodes = stack.pop()
        for node in nodes:
            children = _children(node, seen)
            stack.append((branch.add(text(node, children)), children or ()))
    return root
