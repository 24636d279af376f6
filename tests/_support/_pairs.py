"""Choose, of the combinations of a test's parameters, a subset that is small and leaves out nothing that matters.

Faults need one or two particular values as a rule, hardly ever three (D. R. Kuhn, D. R. Wallace, A. M. Gallo: "Software
Fault Interactions and Implications for Software Testing", IEEE TSE 30(6), 2004).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

T = TypeVar("T")

#: A parameter and one of its values.
Value = tuple[str, Hashable]


@dataclass(frozen=True)
class Case(Generic[T]):
    """One combination of the parameters of a test."""

    item: T
    #: What has to occur in one of the chosen cases.
    required: frozenset[Hashable]
    #: What decides between cases that add as much of `required`.
    wished: frozenset[Hashable] = frozenset()


def required(own: Iterable[Value], surroundings: Iterable[Value]) -> frozenset[Hashable]:
    """Return what a case stands for: pairs of values of the test's own parameters, and each value of its surroundings.

    Args:
        own: Parameters that the test names itself, by ``pytest.mark.parametrize``; all pairs of their values count.
        surroundings: What fixtures put the test into, such as the mapping of a class; each value counts for itself.
    """
    values = sorted(own, key=lambda value: value[0])
    pairs: list[Hashable] = list(combinations(values, 2)) if len(values) > 1 else [*values]
    return frozenset([*pairs, *surroundings])


def covering_subset(cases: Sequence[Case[T]], turn: int = 0) -> list[T]:
    """Return items of cases that together have everything that any case requires, in their order; one at least.

    Greedy: the case with the most that is still missing is taken; of several, the one with the most missing wishes; of
    several, the first one, counted from number *turn*: another *turn* chooses other cases, and each of them the same
    ones every time.
    """
    missing = set[Hashable]().union(*(case.required for case in cases))
    wishes = set[Hashable]().union(*(case.wished for case in cases))
    left = [(turn + offset) % len(cases) for offset in range(len(cases))]
    chosen: list[int] = []
    while left and (missing or not chosen):
        best = max(left, key=lambda index: (len(cases[index].required & missing), len(cases[index].wished & wishes)))
        chosen.append(best)
        left.remove(best)
        missing -= cases[best].required
        wishes -= cases[best].wished
    return [cases[index].item for index in sorted(chosen)]
