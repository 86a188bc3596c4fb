"""How long work reports that it moves, without knowing who looks."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Track(Protocol):
    """Passes items through and shows how many of them have come, as tqdm does."""

    def __call__(self, items: Iterable[Item], label: str, total: int) -> Iterable[Item]:
        """Wrap the items.

        Args:
            items: What is being worked through.
            label: What the work is, in a word or two.
            total: How many items there will be.

        Returns:
            The same items, in the same order.
        """


def silent(items: Iterable[Item], label: str, total: int) -> Iterable[Item]:
    """Show nothing: the `Track` of a library call."""
    return items
