"""Call functions that users pass in place of an attribute, such as ``lambda: OrderItem.item``, and report their errors.

They are functions because the class may not exist yet when they are passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .exceptions import InvalidArgumentError

R = TypeVar("R")


def call_named(function: Callable[[], R], place: str) -> R:
    """Return what a function of the user's returns.

    Args:
        function: The function; it takes no arguments.
        place: What it was given to, such as ``Order.items``.

    Raises:
        InvalidArgumentError: It asks for an attribute that does not exist. An `AttributeError` that is raised in a
            descriptor is swallowed by ``hasattr()``, and then says that the descriptor does not exist.
    """
    try:
        return function()
    except AttributeError as error:
        raise InvalidArgumentError(
            f"{place} was given a function that asks for an attribute which does not exist: {error}; "
            "correct its name there"
        ) from error
