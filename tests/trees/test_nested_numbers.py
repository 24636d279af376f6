"""`Renumbering`: any mixture of edits gives the numbers of the tree that comes out, compared with nested lists."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sqla_patterns.trees._nested_numbers import Numbers, Renumbering, Shifts


class Model:
    """A forest of names: children in order by parent, roots below None."""

    def __init__(self) -> None:
        self.children: dict[Any, list[Any]] = {None: []}

    def add(self, name: Any, parent: Any, index: int) -> None:
        self.children[name] = []
        self.children[parent].insert(index, name)

    def parent(self, name: Any) -> Any:
        return next(parent for parent, below in self.children.items() if name in below)

    def below(self, name: Any) -> set[Any]:
        found = {name}
        for child in self.children[name]:
            found |= self.below(child)
        return found

    def numbers(self) -> dict[Any, Numbers]:
        """Return the numbers that `rebuild_tree` would write: depth first from 1 in each tree."""
        found: dict[Any, Numbers] = {}

        def walk(name: Any, counter: int, depth: int, tree: Any) -> int:
            left = counter
            counter += 1
            for child in self.children[name]:
                counter = walk(child, counter, depth + 1, tree)
            found[name] = Numbers(left, counter, depth, tree)
            return counter + 1

        for root in self.children[None]:
            walk(root, 1, 0, root)
        return found


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_mixture_of_edits(data: Any) -> None:
    """New nodes, moved ones, moves into what moves and to what is new: dense numbers before, dense numbers after."""
    model = Model()
    for name in range(data.draw(st.integers(1, 9), label="nodes")):
        parent = data.draw(st.sampled_from([None, *range(name)]), label="parent")
        model.add(name, parent, data.draw(st.integers(0, len(model.children[parent])), label="index"))
    before = model.numbers()
    old_children = {name: list(below) for name, below in model.children.items()}

    edited: set[Any] = set()
    for number in range(data.draw(st.integers(1, 6), label="edits")):
        present = [name for name in model.children if name is not None]
        if data.draw(st.booleans(), label="new"):
            name = f"new {number}"
            parent = data.draw(st.sampled_from([None, *present]), label="parent")
            model.add(name, parent, data.draw(st.integers(0, len(model.children[parent])), label="index"))
        else:
            name = data.draw(st.sampled_from(present), label="moved")
            allowed = [None, *(other for other in present if other not in model.below(name))]
            parent = data.draw(st.sampled_from(allowed), label="parent")
            model.children[model.parent(name)].remove(name)
            model.children[parent].insert(data.draw(st.integers(0, len(model.children[parent])), label="index"), name)
        edited.add(name)

    renumbering = Renumbering()
    for name in edited:
        if name in before:
            renumbering.take_out(name, before[name])
    for parent, below in model.children.items():
        for index, name in enumerate(below):
            if name not in edited:
                continue
            if parent is None:
                renumbering.make_root(name, name)
            elif parent in before:
                # Right before the next sibling that stays, or at the end.
                stays = [other for other in below[index + 1 :] if other not in edited and other in old_children[parent]]
                renumbering.insert(name, before[parent], before[stays[0]].left if stays else before[parent].right)
            else:
                renumbering.append(name, parent)
    shifts = Shifts(renumbering.run())

    after = {name: shifts.apply(numbers) for name, numbers in before.items()}
    after |= renumbering.placed
    assert after == model.numbers()
