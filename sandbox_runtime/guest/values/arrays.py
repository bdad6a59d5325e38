"""Arrays of the host and the columns of its tables: machine numbers, converted to values on access.

Runs inside the sandbox, so it uses only the standard library.
"""

from __future__ import annotations

import datetime
import itertools
import math
import operator
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from sandbox_runtime.guest.values.masks import (
    AMBIGUOUS,
    MASK_TYPES,
    Operator,
    compared,
    is_mask,
    selected,
)

# Enough to see the contents of an array; code can inspect the rest.
SHOWN_ITEMS = 10
SHOWN_CHARS = 40

_EPOCH = datetime.datetime(1970, 1, 1)


class Cells(Sequence[Any]):
    """A flat sequence of values, stored as machine numbers, each converted on access."""

    def __init__(
        self, data: Any, nulls: bytes | None = None, show: Callable[[Any], Any] | None = None
    ) -> None:
        self._data = data
        self._nulls = nulls
        self._show = show

    @property
    def machine(self) -> Any:
        """The numbers themselves if they need no conversion, else None."""
        return None if self._nulls or self._show else self._data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Cells(self._data[at], self._nulls and self._nulls[at], self._show)
        if self._nulls and self._nulls[at]:
            return None
        value = self._data[at]
        return self._show(value) if self._show else value

    def __iter__(self) -> Iterator[Any]:
        values = map(self._show, self._data) if self._show else iter(self._data)
        if not self._nulls:
            return iter(values)
        return (None if null else v for v, null in zip(values, self._nulls, strict=True))


class _Moment:
    """Converts microseconds since 1970 to a datetime."""

    def __init__(self, zone: datetime.tzinfo | None) -> None:
        self._zone = zone

    def __call__(self, microseconds: int) -> datetime.datetime:
        moment = _EPOCH + datetime.timedelta(microseconds=microseconds)
        if self._zone is None:
            return moment
        return moment.replace(tzinfo=datetime.UTC).astimezone(self._zone)


def _microseconds(count: int) -> datetime.timedelta:
    return datetime.timedelta(microseconds=count)


class _Category:
    """Converts a code to its category."""

    def __init__(self, categories: list[Any]) -> None:
        self._categories = categories

    def __call__(self, code: int) -> Any:
        return None if code < 0 else self._categories[code]


def numbers(typecode: str, data: Any, nulls: Any = None) -> Cells:
    """Builds a column of machine numbers, from little-endian bytes. `nulls` has a 1 for each missing one."""
    missing = None if nulls is None else bytes(nulls)
    if typecode == "?":
        return Cells(bytes(data), missing, bool)
    values = array(typecode)
    values.frombytes(data)
    return Cells(values, missing)


def moments(data: Any, nulls: Any, zone: datetime.tzinfo | None) -> Cells:
    """Builds a column of datetimes, from 64-bit microseconds since 1970."""
    cells = numbers("q", data, nulls)
    return Cells(cells._data, cells._nulls, _Moment(zone))


def durations(data: Any, nulls: Any) -> Cells:
    """Builds a column of timedeltas, from 64-bit microseconds."""
    cells = numbers("q", data, nulls)
    return Cells(cells._data, cells._nulls, _microseconds)


def categories(typecode: str, codes: Any, labels: list[Any]) -> Cells:
    """Builds a column of values of a short list, from their positions in it; -1 is None."""
    return Cells(numbers(typecode, codes)._data, None, _Category(labels))


def plain(value: Any) -> Any:
    """Returns a single value, in place of one with a type of another package."""
    return value


def first(cells: Cells) -> Any:
    """Returns the only value of a column, which carried it."""
    return cells[0]


def values(items: list[Any]) -> Cells:
    """Builds a column of values of any kind."""
    return Cells(items)


class Array:
    """Numbers or other values in one or more dimensions: `shape`, `dtype`, indexing, slicing.

    Iteration goes over the first dimension. `tolist()` returns nested lists. `sum`, `min`, `max` and
    `mean` cover all elements and skip missing ones: None and NaN. Comparisons are made element by element, and their results, combined
    with `&`, `|` and `~`, select: `a[a > 3]`.
    """

    def __init__(self, cells: Sequence[Any], shape: tuple[int, ...], dtype: str) -> None:
        self.dtype = dtype
        self.shape = shape
        self._cells = cells

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return len(self._cells)

    @property
    def flat(self) -> Sequence[Any]:
        """All elements, row by row."""
        return self._cells

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dimensions has no length; use item()")
        return self.shape[0]

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, tuple):
            return self._part(at)
        if (mask := self._mask(at)) is not None:
            chosen_cells = [self._cells[index] for index in selected(mask, self.size)]
            return Array(chosen_cells, (len(chosen_cells),), self.dtype)
        if not self.shape:
            raise IndexError("an array without dimensions has no elements to index; use item()")
        size, inner = self.shape[0], self.shape[1:]
        width = self.size // size if size else 0
        if isinstance(at, slice):
            chosen = range(size)[at]
            if chosen.step == 1 or not inner:
                cells = (
                    self._cells[at]
                    if not inner
                    else self._cells[chosen.start * width : chosen.stop * width]
                )
            else:
                cells = [v for i in chosen for v in self._cells[i * width : (i + 1) * width]]
            return Array(cells, (len(chosen), *inner), self.dtype)
        index = range(size)[operator.index(at)]
        if not inner:
            return self._cells[index]
        return Array(self._cells[index * width : (index + 1) * width], inner, self.dtype)

    def __iter__(self) -> Iterator[Any]:
        if self.ndim <= 1:
            return iter(self._cells) if self.ndim else iter(range(len(self)))
        inner, dtype, cells = self.shape[1:], self.dtype, self._cells
        width = math.prod(inner)
        ends = range(0, width * self.shape[0], width) if width else [0] * self.shape[0]
        return (Array(cells[at : at + width], inner, dtype) for at in ends)

    def _part(self, at: tuple[Any, ...]) -> Any:
        """Returns the elements at an index of each of the first dimensions."""
        if len(at) > self.ndim:
            raise IndexError(
                f"an array of {self.ndim} dimensions has no element at {len(at)} indexes; use item()"
            )
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim)]
        rests = [slice(None)] * (self.ndim - len(at))
        begin, axes = 0, list[tuple[range, int]]()
        for index, size, stride in zip((*at, *rests), self.shape, strides, strict=True):
            chosen = range(size)[index if isinstance(index, slice) else operator.index(index)]
            if isinstance(chosen, range):
                axes.append((chosen, stride))
            else:
                begin += chosen * stride
        if not axes:
            return self._cells[begin]
        shape = tuple(len(chosen) for chosen, _ in axes)
        return Array(_gathered(self._cells, begin, axes, shape), shape, self.dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python itself looks these up on any object
            raise AttributeError(name)
        raise AttributeError(
            f"an Array has no {name!r}. It has: shape, dtype, ndim, size, flat, item(), tolist(), sum(), min(), "
            "max(), mean(), count(), unique(), nunique(), value_counts(), any(), all(), isin(values), isna(), notna(), and "
            "comparisons. For everything else "
            "use plain Python on list(a)."
        )

    # ---- Comparisons ----

    @staticmethod
    def _mask(at: Any) -> Sequence[bool] | None:
        """Returns the elements of an index that is a mask; None for other indexes."""
        if isinstance(at, Array) and at.dtype in MASK_TYPES:
            return at._cells
        return at if isinstance(at, list) and is_mask(at) else None

    def _compared(self, compare: Operator, other: Any) -> Array:
        if isinstance(other, Array):
            if other.shape != self.shape:
                raise ValueError(
                    f"arrays of the shapes {self.shape} and {other.shape} cannot be combined"
                )
            other = list(other._cells)
        return Array(compared(compare, self._cells, other), self.shape, "bool")

    def __eq__(self, other: object) -> Array:  # type: ignore[override]
        return self._compared(operator.eq, other)

    def __ne__(self, other: object) -> Array:  # type: ignore[override]
        return self._compared(operator.ne, other)

    def __lt__(self, other: Any) -> Array:
        return self._compared(operator.lt, other)

    def __le__(self, other: Any) -> Array:
        return self._compared(operator.le, other)

    def __gt__(self, other: Any) -> Array:
        return self._compared(operator.gt, other)

    def __ge__(self, other: Any) -> Array:
        return self._compared(operator.ge, other)

    def __and__(self, other: Any) -> Array:
        return self._compared(operator.and_, other)

    def __or__(self, other: Any) -> Array:
        return self._compared(operator.or_, other)

    def __xor__(self, other: Any) -> Array:
        return self._compared(operator.xor, other)

    def __invert__(self) -> Array:
        if self.dtype not in MASK_TYPES:
            raise TypeError("~ takes the result of a comparison, such as ~(a > 3)")
        return Array([not cell for cell in self._cells], self.shape, "bool")

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError(AMBIGUOUS)
        return any(self._cells)

    def any(self) -> bool:
        """Returns whether any element is true."""
        return any(self._cells)

    def all(self) -> bool:
        """Returns whether all elements are true."""
        return all(self._cells)

    def isin(self, values: Iterable[Any]) -> Array:
        """Returns for each element whether it is one of the values."""
        options: Any = list(values)
        with suppress(TypeError):  # not all of them are hashable
            options = frozenset(options)
        return Array([cell in options for cell in self._cells], self.shape, "bool")

    def isna(self) -> Array:
        """Returns for each element whether it is missing: None, or NaN."""
        return Array([cell is None or cell != cell for cell in self._cells], self.shape, "bool")

    def notna(self) -> Array:
        """Returns for each element whether it is present: neither None nor NaN."""
        return ~self.isna()

    __hash__ = None  # type: ignore[assignment]

    def item(self) -> Any:
        """The only element."""
        if self.size != 1:
            raise ValueError(f"item() needs exactly one element, and there are {self.size:,}")
        return self._cells[0]

    def tolist(self) -> Any:
        """The elements as nested lists."""
        if not self.shape:
            return self._cells[0]
        return list(self) if self.ndim == 1 else [part.tolist() for part in self]

    def sum(self) -> Any:
        """The sum of all elements that are not missing."""
        return sum(self._present())

    def min(self) -> Any:
        """The smallest element."""
        return min(self._present())

    def max(self) -> Any:
        """The largest element."""
        return max(self._present())

    def mean(self) -> Any:
        """The mean of all elements."""
        values = list(self._present())
        return sum(values) / len(values)

    def unique(self) -> list[Any]:
        """The distinct elements, in order of appearance."""
        return list(dict.fromkeys(self._cells))

    def nunique(self) -> int:
        """The number of distinct elements that are not missing."""
        return len(set(self._present()))

    def count(self) -> int:
        """The number of elements that are not missing."""
        return sum(1 for _ in self._present())

    def value_counts(self) -> dict[Any, int]:
        """Counts of each element that is not missing, the most frequent first."""
        return dict(Counter(self._present()).most_common())

    def _present(self) -> Iterator[Any]:
        if isinstance(self._cells, Cells) and self._cells.machine is not None:
            machine = self._cells.machine
            if machine.typecode not in "fd":
                return iter(machine)
        return (value for value in self._cells if value is not None and value == value)

    def __repr__(self) -> str:
        items = [short_repr(value) for value in islice(self._cells, SHOWN_ITEMS)]
        rest = ", ..." if self.size > len(items) else ""
        return f"Array(shape={self.shape}, dtype={self.dtype}, elements: {', '.join(items)}{rest})"


def _gathered(
    cells: Sequence[Any], begin: int, axes: list[tuple[range, int]], shape: tuple[int, ...]
) -> list[Any]:
    """Returns the cells at the products of positions and strides of several axes, in their order.

    The longest axis is read by slices, so that the others cost one step of Python per element at most.
    """
    total = math.prod(shape)
    result: list[Any] = [None] * total
    if not total:
        return result
    longest = max(range(len(axes)), key=shape.__getitem__)
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    others = [
        [(n * step, position * stride) for n, position in enumerate(chosen)]
        for axis, ((chosen, stride), step) in enumerate(zip(axes, steps, strict=True))
        if axis != longest
    ]
    chosen, stride = axes[longest]
    size, step = shape[longest], steps[longest]
    first, last = sorted((chosen[0], chosen[-1]))
    for combination in itertools.product(*others):
        to = sum(pair[0] for pair in combination)
        offset = begin + sum(pair[1] for pair in combination)
        line = cells[
            offset + first * stride : offset + last * stride + 1 : abs(chosen.step) * stride
        ]
        result[to : to + (size - 1) * step + 1 : step] = list(line)[:: 1 if chosen.step > 0 else -1]
    return result


def short_repr(value: Any) -> str:
    """Returns the repr of a value, truncated."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
