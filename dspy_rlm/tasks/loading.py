"""The tasks by name: `load` generates one, `read` imports a published data set from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators import (
    browsecomp,
    code_qa,
    common_words,
    function_search,
    graphwalks,
    mrcr,
    niah,
    no_overlap,
    oolong,
    oolong_pairs,
    variable_tracking,
)
from dspy_rlm.tasks.library import source_of_library
from dspy_rlm.tasks.task import CHARS_PER_TOKEN, Form, Item, Task, make_task

MIN_TOKENS = 4_000
MAX_TOKENS = 4_000_000


@dataclass(frozen=True)
class Kind:
    """A task that can be generated."""

    form: Form
    generate: Callable[..., Iterable[Item]]
    solve: Callable[[str, str], Any]
    """Answers a question from its context alone, by another way than `generate`."""
    real_text: bool = True
    """True if the contexts have text of Python's standard library."""


KINDS = {
    "s-niah": Kind(niah.ONE, niah.single, niah.solve_one),
    "mk-niah": Kind(niah.ONE, niah.multi_key, niah.solve_one),
    "mv-niah": Kind(niah.ALL, niah.multi_value, niah.solve_all),
    "niah-no-overlap": Kind(no_overlap.FORM, no_overlap.generate, no_overlap.solve),
    "variable-tracking": Kind(
        variable_tracking.FORM, variable_tracking.generate, variable_tracking.solve
    ),
    "common-words": Kind(common_words.FORM, common_words.generate, common_words.solve),
    "oolong-counting": Kind(oolong.COUNTING, oolong.counting, oolong.solve, real_text=False),
    "oolong-users": Kind(oolong.USERS, oolong.users, oolong.solve, real_text=False),
    "oolong-timeline": Kind(oolong.TIMELINE, oolong.timeline, oolong.solve, real_text=False),
    "oolong-pairs": Kind(
        oolong_pairs.FORM, oolong_pairs.generate, oolong_pairs.solve, real_text=False
    ),
    "code-qa": Kind(code_qa.FORM, code_qa.generate, code_qa.solve),
    "function-search": Kind(function_search.FORM, function_search.generate, function_search.solve),
    "mrcr": Kind(mrcr.FORM, mrcr.generate, mrcr.solve),
    "graphwalks": Kind(graphwalks.FORM, graphwalks.generate, graphwalks.solve, real_text=False),
}
DOCUMENT_TASKS = {"browsecomp": browsecomp.READ, "browsecomp-fetch": browsecomp.FETCH}


def names() -> tuple[str, ...]:
    """Returns the names of the tasks that `load` generates."""
    return (*KINDS, *DOCUMENT_TASKS)


def load(name: str, *, tokens: int = 32_000, n: int = 20, seed: int = 0, **options: Any) -> Task:
    """Generates a task. The same arguments give the same examples, byte for byte, in every version of Python.

    Args:
        name: One of `names()`.
        tokens: The length of each context, in tokens of four characters.
        n: The number of examples.
        seed: Another seed gives other examples.
        options: For `oolong-pairs`: `users`, the number of users, and `conditions`, the numbers of the conditions to ask for.

    Raises:
        ValueError: There is no such task, or no task of this size.
    """
    if name not in names():
        raise ValueError(f"There is no task {name!r}. Choose one of: {', '.join(names())}.")
    if not MIN_TOKENS <= tokens <= MAX_TOKENS:
        raise ValueError(f"tokens={tokens:,} is not between {MIN_TOKENS:,} and {MAX_TOKENS:,}.")
    if n < 1:
        raise ValueError(f"n={n} is not a number of examples.")
    draws, chars = Draws(name, seed, tokens), tokens * CHARS_PER_TOKEN
    if name in DOCUMENT_TASKS:
        return _document_task(name, draws, chars, n, partial(make_task, seed=seed, tokens=tokens))
    kind = KINDS[name]
    items = list(kind.generate(draws, chars, n, **options))
    sources = {"standard library": source_of_library()} if kind.real_text else {}
    return make_task(name, kind.form, items, seed=seed, tokens=tokens, sources=sources)


def _document_task(name: str, draws: Draws, chars: int, n: int, make: Callable[..., Task]) -> Task:
    world, documents = browsecomp.corpus(draws, chars)
    fetched = name == "browsecomp-fetch"
    context = browsecomp.titles_of(documents) if fetched else browsecomp.text_of(documents)
    items = list(browsecomp.items(draws, world, context, n, name, len(documents)))
    tools = [browsecomp.fetcher(documents)] if fetched else []
    sources = {"standard library": source_of_library()}
    return make(name, DOCUMENT_TASKS[name], items, sources=sources, tools=tools)
