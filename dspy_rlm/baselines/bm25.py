"""BM25: the parts of a text that share rare words with a question (Robertson and Zaragoza, The Probabilistic Relevance
Framework: BM25 and Beyond, 2009), with the parameters and the smoothed idf of Lucene.

Only the question's words are counted, so a text of millions of words takes seconds and no index.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

# The saturation of a word's count, and the weight of a part's length.
K1, B = 1.2, 0.75

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Returns the words of a text, without case."""
    return _WORD.findall(text.casefold())


def scores(question: str, parts: Sequence[str]) -> list[float]:
    """Returns the score of each part for a question; 0 for one that shares no word with it."""
    asked = Counter(words_of(question))
    counts: list[Counter[str]] = []
    lengths: list[int] = []
    for part in parts:
        words = words_of(part)
        lengths.append(len(words))
        counts.append(Counter(word for word in words if word in asked))
    average = sum(lengths) / len(lengths) if lengths else 0.0
    documents = Counter(word for found in counts for word in found)
    idf = {word: math.log(1 + (len(parts) - n + 0.5) / (n + 0.5)) for word, n in documents.items()}
    return [
        sum(
            times * idf[word] * found[word] * (K1 + 1)
            / (found[word] + K1 * (1 - B + B * length / (average or 1)))
            for word, times in asked.items()
            if word in found
        )
        for found, length in zip(counts, lengths, strict=True)
    ]  # fmt: skip


def best(marks: Sequence[float], sizes: Sequence[int], room: int) -> list[int]:
    """Returns the positions of the best parts that fit, in their order in the text. At least one is returned."""
    ranked = sorted(range(len(marks)), key=lambda index: (-marks[index], index))
    chosen: list[int] = []
    for index in ranked:
        if chosen and (marks[index] <= 0 or sizes[index] > room):
            continue
        chosen.append(index)
        room -= sizes[index]
    return sorted(chosen)
