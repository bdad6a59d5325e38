"""Common words, after RULER: a numbered list of words, of which ten come ten times as often as the others.

RULER repeats common words 30 times and the others three times, and has more words in a longer list. English has not enough words for
that, so this list repeats its words more often when it is longer.
https://arxiv.org/abs/2404.06654
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.words import ADJECTIVES, NOUNS
from dspy_rlm.tasks.library import sources
from dspy_rlm.tasks.task import Form, Item

COMMON = 10
RATIO = 10
"""The ratio of a common word's frequency to that of another one."""
MIN_REPEATS = 3
_MAX_WORDS = 2_000
# The average length of a word of the vocabulary, and of what is around it in a line besides its number.
_WORD_CHARS = 7
_FRAME_CHARS = 3

FORM = Form(
    list[str],
    "The text is a numbered list of words. Some words come far more often than the others.",
    "the ten most common words",
    scoring.same_set,
    scoring.ruler_all,
)


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items: a shuffled list with ten common words."""
    for at in range(n):
        yield _item(draws.stream(at), chars, at)


def _item(draws: Draws, chars: int, at: int) -> Item:
    digits = len(str(chars // (_WORD_CHARS + _FRAME_CHARS)))
    lines = max(chars // (_WORD_CHARS + _FRAME_CHARS + digits), 400)
    repeats = max(MIN_REPEATS, lines // (_MAX_WORDS + COMMON * RATIO))
    others = max(COMMON, lines // repeats - COMMON * RATIO)
    words = draws.sample(vocabulary(), COMMON + min(others, _MAX_WORDS))
    common, rare = words[:COMMON], words[COMMON:]
    listed = [*common * (repeats * RATIO), *rare * repeats]
    draws.shuffle(listed)
    context = "\n".join(f"{number}. {word}" for number, word in enumerate(listed, 1))
    question = f"What are the {COMMON} most common words in the list?"
    counts = {"lines": len(listed), "words": len(words)}
    return Item(f"common-words-{at}", context, question, sorted(common), counts)


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Returns different words: of the word lists, and the more frequent ones of the standard library's sources."""
    counted: Counter[str] = Counter()
    for text in sources().values():
        counted.update(set(re.findall(r"(?<![\w.])[a-z]{4,10}(?![\w.])", text)))
    frequent = [word for word, files in counted.items() if files >= 4]
    return tuple(sorted({*ADJECTIVES, *NOUNS, *frequent}))


def solve(context: str, question: str) -> list[str]:
    """Returns the answer by counting."""
    (count,) = re.findall(r"the (\d+) most", question)
    words: dict[str, int] = {}
    for line in context.splitlines():
        word = line.partition(". ")[2]
        words[word] = words.get(word, 0) + 1
    return sorted(sorted(words, key=lambda word: -words[word])[: int(count)])
