"""The subset of a test's parameters that runs unless all combinations are asked for."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests._support._pairs import Case, covering_subset, required


def _cases(sizes: list[int], surroundings: tuple[int, ...] = (), kinds: int = 1) -> list[Case[tuple[int, ...]]]:
    own = range(len(sizes))
    every = product(*(range(size) for size in (*sizes, *surroundings, kinds)))
    return [
        Case(
            values,
            required(
                [(f"own {number}", values[number]) for number in own],
                [(f"around {number}", values[number]) for number in range(len(sizes), len(sizes) + len(surroundings))],
            ),
            frozenset([values[-1]]),
        )
        for values in every
    ]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False), st.integers(0, 99))
def test_every_pair_that_occurs_is_chosen(sizes: list[int], random: Any, turn: int) -> None:
    """Also where combinations are missing, as tests leave out those that mean nothing."""
    cases = _cases(sizes)
    cases = [case for case in cases if random.random() < 0.8] or cases
    chosen = covering_subset(cases, turn)

    def pairs(every: list[tuple[int, ...]]) -> set[Any]:
        return {pair for values in every for pair in combinations(enumerate(values), 2)}

    assert pairs(chosen) == pairs([case.item for case in cases])


def test_a_product_of_five_shrinks_to_about_the_largest_pair() -> None:
    cases = _cases([6, 6, 3, 3, 2])
    assert 36 <= len(covering_subset(cases)) <= 45
    assert len(cases) == 648


def test_each_value_of_the_surroundings_is_chosen_and_its_pairs_are_not() -> None:
    chosen = covering_subset(_cases([2], surroundings=(3, 4)))
    assert len(chosen) == 4
    assert {values[1] for values in chosen} == {0, 1, 2}
    assert {values[2] for values in chosen} == {0, 1, 2, 3}


def test_what_is_only_wished_for_adds_no_case() -> None:
    assert len(covering_subset(_cases([], kinds=2))) == 1


def test_what_is_wished_for_is_chosen_where_that_adds_no_case() -> None:
    assert {values[-1] for values in covering_subset(_cases([3], kinds=2))} == {0, 1}


def test_another_turn_chooses_another_case() -> None:
    cases = _cases([], kinds=2)
    assert covering_subset(cases, 0) != covering_subset(cases, 1)


def test_the_choice_is_the_same_in_every_run() -> None:
    cases = _cases([4, 3, 3, 2])
    assert covering_subset(cases, 5) == covering_subset(cases, 5)
