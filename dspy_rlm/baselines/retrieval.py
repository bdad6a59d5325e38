"""Retrieval: the model reads only the parts of the long inputs that match the question, by BM25 or by an embedder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from dspy_rlm.baselines import bm25
from dspy_rlm.baselines.long_inputs import chunks_of, question_of, split
from dspy_rlm.lms.model_facts import CHARS_A_TOKEN

Embedder = Callable[[list[str]], Any]

# Texts that an embedder gets at once.
BATCH = 256

# The text between two parts that are not neighbours.
GAP = "\n[...]\n"


class Retrieval(dspy.Module):
    """Answers from the best matching parts of the long inputs, in one call."""

    def __init__(
        self,
        signature: str | type[dspy.Signature],
        *,
        max_tokens: int = 8_000,
        chunk_tokens: int = 200,
        embedder: Embedder | None = None,
        predictor: type[dspy.Module] = dspy.Predict,
    ) -> None:
        """Configures the module.

        Args:
            signature: Inputs and outputs.
            max_tokens: Tokens of all retrieved parts together, at four characters a token.
            chunk_tokens: Tokens of a part.
            embedder: Returns a vector for each of a list of texts, such as a `dspy.Embedder`; None: BM25.
            predictor: The module that answers, such as `dspy.ChainOfThought`.
        """
        super().__init__()
        self.signature = dspy.ensure_signature(signature)
        self.max_tokens, self.chunk_tokens = max_tokens, chunk_tokens
        self.embedder = embedder
        self.answer = predictor(self.signature)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answers from what was retrieved."""
        return self.answer(**self.shortened(inputs))

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Answers from what was retrieved."""
        return await self.answer.acall(**self.shortened(inputs))

    def shortened(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Returns the inputs with the long ones reduced to their best parts."""
        long, short = split(inputs)
        question = question_of(self.signature, short)
        tokens = self.max_tokens // max(1, len(long))
        return {
            name: self._found(question, value, tokens) if name in long else value
            for name, value in inputs.items()
        }

    def _found(self, question: str, value: Any, tokens: int) -> Any:
        chunks = chunks_of(value, self.chunk_tokens)
        marks = (
            bm25.scores(question, chunks)
            if self.embedder is None
            else similarities(self.embedder, question, chunks)
        )
        chosen = bm25.best(marks, [*map(len, chunks)], tokens * CHARS_A_TOKEN)
        if not isinstance(value, str):
            return [chunks[index] for index in chosen]
        text, last = "", -1
        for index in chosen:
            text += (
                chunks[index]
                if index == last + 1
                else GAP.lstrip("\n" if not text else "") + chunks[index]
            )
            last = index
        return text


def similarities(embedder: Embedder, question: str, chunks: Sequence[str]) -> list[float]:
    """Returns the cosine of the angle between the vectors of a question and of each part, above -1."""
    (asked,) = _vectors(embedder, [question])
    found: list[float] = []
    for start in range(0, len(chunks), BATCH):
        vectors = _vectors(embedder, [*chunks[start : start + BATCH]])
        # Positive, as `best` skips what does not match at all.
        found += [1 + _cosine(asked, vector) for vector in vectors]
    return found


def _vectors(embedder: Embedder, texts: list[str]) -> list[list[float]]:
    return [[float(number) for number in vector] for vector in embedder(texts)]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    length = math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return product / length if length else 0.0
