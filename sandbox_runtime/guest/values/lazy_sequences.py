"""Sequences whose items are built when they are read: as cheap as an iterator, and used like a list.

Runs inside the sandbox, so it uses only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

# Enough to see what the items are.
SHOWN_ITEMS = 3


class LazySequence(Sequence[Any]):
    """Items that are built when they are read: len(), [i], [a:b], and loops, as often as wanted."""

    def __init__(
        self, count: Callable[[], int], item: Callable[[int], Any], iterate: Callable[[], Any]
    ) -> None:
        """Describes the items.

        Args:
            count: Returns their number.
            item: Returns the item at a position from 0.
            iterate: Returns a new iterator over them.
        """
        self._count = count
        self._item = item
        self._iterate = iterate

    def __len__(self) -> int:
        return self._count()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterate())

    def __getitem__(self, at: Any) -> Any:
        """An item by its position, or a list of items by a slice."""
        places = range(len(self))[at]
        return (
            [self._item(place) for place in places] if isinstance(at, slice) else self._item(places)
        )

    def __repr__(self) -> str:
        count = len(self)
        shown = [f"{self._item(at)!r:.300}" for at in range(min(count, SHOWN_ITEMS))]
        more = [f"... {count - SHOWN_ITEMS:,} more"] if count > SHOWN_ITEMS else []
        return f"[{', '.join([*shown, *more])}]"


class OneWay(Iterator[Any]):
    """An iterator of a named method: it can be read once, and says so where it is used like a list."""

    def __init__(self, name: str, items: Iterator[Any]) -> None:
        self._name = name
        self._items = items

    def __next__(self) -> Any:
        return next(self._items)

    def __bool__(self) -> bool:
        return True  # like every iterator; `__len__` would decide otherwise

    def __len__(self) -> NoReturn:
        self._refuse("len()")

    def __getitem__(self, at: object) -> NoReturn:
        self._refuse("[i]")

    def _refuse(self, use: str) -> NoReturn:
        raise TypeError(
            f"{self._name}() returns an iterator, which has no {use}: use list({self._name}(...))"
        )
