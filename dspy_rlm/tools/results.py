"""Turns the results of tools that are lazy, or only make sense on the host, into values that cells can use."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import io
import itertools
from collections.abc import AsyncIterator, ItemsView, Iterator, KeysView, Sequence, ValuesView
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import dspy

# A lazy result becomes a list of at most this many items, and its texts of at most this many characters.
MAX_ITEMS = 100_000
MAX_CHARS = 256 * 1024 * 1024

# The iterators that become a list. Open files, which are iterators too, are refused.
_LAZY: tuple[type, ...] = (
    *(GeneratorType, map, filter, zip, enumerate, reversed, KeysView, ValuesView, ItemsView),
    *(itertools.chain, itertools.islice, itertools.takewhile, itertools.dropwhile),
    *(itertools.starmap, itertools.accumulate, itertools.count, itertools.cycle, itertools.repeat),
    *(itertools.product, itertools.permutations, itertools.combinations, itertools.filterfalse),
    *(itertools.compress, itertools.pairwise, itertools.zip_longest),
    *(type(iter([])), type(iter(())), type(iter({})), type(iter(set())), type(iter(range(0)))),
)


def is_async_lazy(result: object) -> bool:
    """Returns whether the items of a result must be awaited."""
    return isinstance(result, AsyncGeneratorType)


def settled(name: str, result: Any, outputs: Sequence[str] | None = None) -> Any:
    """Returns the value of a result: a list for an iterator, a record for a prediction.

    Args:
        name: The tool, for error messages.
        result: What it returned.
        outputs: The fields of a prediction that count; None: all of them.

    Raises:
        ValueError: The iterator has too many items.
        TypeError: The result is a future or an open file.
    """
    if isinstance(result, dspy.Prediction):
        return _record(result, outputs)
    if isinstance(result, _LAZY):
        items: Iterator[Any] = iter(result)  # type: ignore[call-overload]
        return _listed(name, items)
    if isinstance(result, io.IOBase):
        raise TypeError(
            f"{name}() returned an open file. The tool must return its content: file.read()."
        )
    if isinstance(result, concurrent.futures.Future):
        raise TypeError(
            f"{name}() returned a Future. The tool must return its value: future.result()."
        )
    return result


async def asettled(name: str, items: AsyncIterator[Any]) -> list[Any]:
    """Returns the items of an asynchronous generator as a list; see `settled`."""
    collected = _Collected(name)
    async for item in items:
        collected.add(item)
    return collected.items


def _listed(name: str, items: Iterator[Any]) -> list[Any]:
    collected = _Collected(name)
    for item in items:
        collected.add(item)
    return collected.items


class _Collected:
    """The items of an iterator, counted."""

    def __init__(self, name: str) -> None:
        self.items: list[Any] = []
        self._name = name
        self._chars = 0

    def add(self, item: Any) -> None:
        """Adds an item. Raises `ValueError` if it is one too many."""
        if isinstance(item, (str, bytes)):
            self._chars += len(item)
        if len(self.items) >= MAX_ITEMS or self._chars > MAX_CHARS:
            raise ValueError(
                f"{self._name}() yields more than a result may have ({MAX_ITEMS:,} items, {MAX_CHARS:,} "
                "characters). Ask for less of it, or the tool must return a list of what is needed."
            )
        self.items.append(item)


def _record(prediction: dspy.Prediction, outputs: Sequence[str] | None) -> Any:
    """Returns a prediction as a record: cells read `result.answer` and `result["answer"]`."""
    values = dict(prediction.items())
    if outputs is not None and all(name in values for name in outputs):
        values = {name: values[name] for name in outputs}
    if not all(name.isidentifier() and not name.startswith("_") for name in values):
        return values
    try:
        return _record_class(tuple(values))(**values)
    except (TypeError, ValueError):  # a name that no field can have
        return values


@functools.lru_cache(maxsize=256)
def _record_class(names: tuple[str, ...]) -> Any:
    cls = dataclasses.make_dataclass("Prediction", names)
    cls.__module__ = __name__
    return cls
