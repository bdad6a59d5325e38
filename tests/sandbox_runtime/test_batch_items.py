"""The items of `f.batched(items)`: one argument each, or several in a dict or a tuple, as in the rows of `predict_batched`."""

from __future__ import annotations

import collections
import inspect
from collections.abc import Sequence

import pytest

from sandbox_runtime import Completed
from sandbox_runtime.guest.namespace.batch_items import arguments_of
from sandbox_runtime.tools.batch_rows import batch_rows

Pair = collections.namedtuple("Pair", "term limit")


def lookup(term: str, limit: int = 5, *, exact: bool = False):
    """Has a first argument that is no container."""
    return [term, limit, exact]


def merge(left, right, sep=""):
    """Needs two arguments of any type."""
    return [left, right, sep]


def count(items: Sequence[int], start: int = 0):
    """May get a tuple as its first argument."""
    return sum(items) + start


def save(record, *, quiet=False):
    """May get a dict as its only argument."""
    return [record, quiet]


def ask(prompt: str, *media: object):
    """Takes any number of arguments."""
    return [prompt, *media]


@pytest.mark.parametrize(
    ("function", "item", "shared", "expected"),
    [
        (lookup, "a", {}, ["a", 5, False]),
        (lookup, ("a", 2), {}, ["a", 2, False]),
        (lookup, ["a", 2], {}, ["a", 2, False]),
        (lookup, Pair("a", 2), {}, ["a", 2, False]),
        (lookup, {"term": "a"}, {}, ["a", 5, False]),
        (lookup, {"term": "a", "exact": True}, {"limit": 1}, ["a", 1, True]),
        (lookup, {"word": "a"}, {}, [{"word": "a"}, 5, False]),  # the host says that it is no text
        (lookup, ("a", 2, True), {}, [("a", 2, True), 5, False]),
        (lookup, ("a", 2), {"exact": True}, ["a", 2, True]),
        (merge, (1, [2]), {}, [1, [2], ""]),
        (merge, (1, 2), {"sep": "-"}, [1, 2, "-"]),
        (merge, (1, 2), {"right": 3}, [(1, 2), 3, ""]),
        (merge, {"left": 1, "right": 2}, {}, [1, 2, ""]),
        (count, (1, 2), {}, 3),
        (save, {"record": 1}, {}, [{"record": 1}, False]),
        (ask, ("a", "b"), {}, [("a", "b")]),
    ],
)
def test_the_arguments_of_an_item(function, item, shared, expected):
    """Several arguments are taken apart only where the first of them cannot be a dict, a list or a tuple."""
    rows = batch_rows(inspect.signature(function))
    args, named = arguments_of(item, rows, shared) if rows else ([item], shared)

    assert function(*args, **named) == expected


@pytest.mark.parametrize("note", ["str", "datetime.date", "int | None", float, "float | int"])
def test_types_of_scalars(note):
    """A type is read as text too, as modules with postponed annotations have it."""
    first = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=note)

    assert batch_rows(inspect.Signature([first]))["scalar"]


@pytest.mark.parametrize("note", ["list[str]", "str | list[str]", "None", "Any", dict, "Pair"])
def test_types_that_may_be_containers(note):
    """An item for such a parameter is its value."""
    first = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=note)

    assert batch_rows(inspect.Signature([first])) == {}


def test_rows_in_a_sandbox(lent):
    """A cell passes rows to a tool, in threads too; `help` says so."""
    session = lent(tools={"lookup": lookup, "count": count})

    assert session.run_cell("lookup.batched([('a', 2), {'term': 'b'}, 'c'])") == Completed(
        "[['a', 2, False], ['b', 5, False], ['c', 5, False]]\n"
    )
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    print(pool.submit(lookup.batched, [('a', 2)]).result())\n"
        "print('a dict or a tuple' in lookup.__doc__, 'a dict or a tuple' in count.__doc__)"
    )
    assert session.run_cell(code).output == "[['a', 2, False]]\nTrue False\n"
