"""Variable tracking, after RULER: chains of assignments, spread over a text.

https://arxiv.org/abs/2404.06654
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.haystack import haystack, hidden, length_of
from dspy_rlm.tasks.task import Form, Item

CHAINS = 3
HOPS = 4
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

FORM = Form(
    list[str],
    "Track the assignments of variables that are hidden in the text.",
    "the names of all variables with this value",
    scoring.same_set,
    scoring.ruler_all,
)


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items with several chains; the question asks for all variables of one."""
    for at in range(n):
        yield _item(draws.stream(at), chars, at)


def _item(draws: Draws, chars: int, at: int) -> Item:
    names = _names(draws, CHAINS * (HOPS + 1))
    values = _values(draws)
    chains = [names[start::CHAINS] for start in range(CHAINS)]
    lines = _interleaved(
        draws,
        [_assignments(chain, value) for chain, value in zip(chains, values, strict=True)],
    )
    context = hidden(draws, haystack(draws, chars - length_of(lines)), lines)
    question = f"Which variables have the value {values[0]}, directly or by way of other variables?"
    return Item(
        f"variable-tracking-{at}",
        context,
        question,
        sorted(chains[0]),
        {"assignments": len(lines), "chains": CHAINS},
    )


def _assignments(chain: list[str], value: str) -> list[str]:
    first, *others = chain
    copies = [f"VAR {name} = VAR {before}" for before, name in zip(chain, others, strict=False)]
    return [f"VAR {first} = {value}", *copies]


def _interleaved(draws: Draws, lists: list[list[str]]) -> list[str]:
    """Returns the items of all lists in a random order that keeps the order of each list."""
    order = [number for number, items in enumerate(lists) for _ in items]
    draws.shuffle(order)
    left = [iter(items) for items in lists]
    return [next(left[number]) for number in order]


def _names(draws: Draws, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draws.choice(_LETTERS) for _ in range(5))] = None
    return list(found)


def _values(draws: Draws) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < CHAINS:
        found[draws.digits(5)] = None
    return list(found)


def solve(context: str, question: str) -> list[str]:
    """Returns the answer by running the assignments in the order of the text."""
    held: dict[str, str] = {}
    for name, source in re.findall(r"^VAR (\w+) = (?:VAR )?(\w+)$", context, re.MULTILINE):
        held[name] = held.get(source, source)
    (wanted,) = re.findall(r"value (\d+)", question)
    return sorted(name for name, value in held.items() if value == wanted)
