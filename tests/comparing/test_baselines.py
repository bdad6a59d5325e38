"""Retrieval and compaction: real baselines, on texts whose answers are known."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping

import dspy
import pytest

from dspy_rlm.baselines import bm25
from dspy_rlm.baselines.compaction import Compaction
from dspy_rlm.baselines.long_inputs import chunks_of, packed, split
from dspy_rlm.baselines.retrieval import GAP, Retrieval
from dspy_rlm.testing import PolicyServer, fields

FILLER = "The weather stayed mild and nothing of note was written down that day."
FACT = "The badge number of Ingrid Mori is 4471."


def document(lines: int = 2_000, fact_at: int = 1_234) -> str:
    """A text of many lines with one fact."""
    written = [f"{number}. {FILLER}" for number in range(lines)]
    written[fact_at] = FACT
    return "\n".join(written)


class TestChunks:
    @pytest.mark.parametrize("tokens", [1, 7, 50, 10_000])
    def test_the_parts_are_the_text(self, tokens):
        """Nothing is lost, nothing is repeated, and no part is longer than it may be."""
        rng = random.Random(tokens)
        text = "".join(rng.choice("ab \nä") for _ in range(3_000))

        parts = chunks_of(text, tokens)

        assert "".join(parts) == text
        assert max(map(len, parts)) <= 4 * tokens

    def test_parts_end_with_lines(self):
        """A sentence on a line is not cut in two if the lines are short enough."""
        assert all(part.endswith("\n") for part in chunks_of(document(100, 50), 50)[:-1])

    def test_items_of_a_list_are_parts(self):
        """A short item is a part; a long one is cut."""
        assert chunks_of(["one", "two" * 10], 5) == ["one", "two" * 6 + "tw", "o" + "two" * 3]

    def test_short_parts_are_read_together(self):
        """As many as fit are joined, in order."""
        assert packed(["a" * 10, "b" * 10, "c" * 30], 6) == ["a" * 10 + "\n" + "b" * 10, "c" * 30]

    def test_only_long_texts_are_shortened(self):
        """Numbers, short texts and lists of other things stay whole."""
        long, short = split({"log": "x" * 5_000, "question": "Why?", "ids": [1] * 5_000})

        assert (set(long), set(short)) == ({"log"}, {"question", "ids"})


class TestBM25:
    def test_the_part_with_the_rare_words_is_the_best(self):
        """Common words hardly count, whatever their case."""
        parts = chunks_of(document(), 50)

        scores = bm25.scores("What is the BADGE number of Ingrid Mori?", parts)

        assert FACT in parts[scores.index(max(scores))]

    def test_the_scores_are_those_of_the_formula(self):
        """Computed by hand for two parts of two words: idf = ln(1 + 1.5 / 1.5), the count's part is 1."""
        first, second = bm25.scores("red", ["red car", "blue car"])

        assert first == pytest.approx(0.6931, abs=1e-4)
        assert second == 0.0

    def test_the_best_parts_that_fit_come_in_the_order_of_the_text(self):
        """A part that does not fit is skipped, one without a match is left out."""
        assert bm25.best([1.0, 3.0, 0.0, 2.0], [10, 10, 1, 50], 25) == [0, 1]
        assert bm25.best([0.0, 0.0], [10, 10], 5) == [0]


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    """A model that answers with the badge number if it is in its prompt, and keeps lines with a badge as notes."""

    def reply(inputs: Mapping[str, str]) -> dict[str, object]:
        if "part" in inputs:
            found = [line for line in inputs["part"].splitlines() if "badge" in line]
            kept = [inputs["notes_so_far"], *found] if inputs["notes_so_far"] != "" else found
            return {"notes": "\n".join(kept)}
        return {"answer": "4471" if "4471" in str(inputs) else "unknown"}

    with PolicyServer({"reader": fields(reply)}) as server, dspy.context(lm=server.lm("reader")):
        yield server


SIGNATURE = "context: str, question: str -> answer: str"
QUESTION = "What is the badge number of Ingrid Mori?"


class TestRetrieval:
    @pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
    def test_one_call_reads_only_the_best_parts(self, server, asynchronous):
        """The answer of a text of 40,000 tokens comes from a prompt of a few hundred."""
        module = Retrieval(SIGNATURE, max_tokens=300, chunk_tokens=50)
        inputs = {"context": document(), "question": QUESTION}

        found = asyncio.run(module.acall(**inputs)) if asynchronous else module(**inputs)

        assert found.answer == "4471"
        (request,) = server.requests
        assert len(request.prompt) < 3_000

    def test_parts_from_different_places_are_set_apart(self):
        """The model sees where text was left out."""
        text = f"{FACT}\n" + document(500, 400).replace(FACT, "Ingrid Mori lost her badge.")
        module = Retrieval(SIGNATURE, max_tokens=100, chunk_tokens=25)

        context = module.shortened({"context": text, "question": QUESTION})["context"]

        assert context.index(FACT) < context.index("lost her badge")
        assert GAP in context

    def test_a_list_stays_a_list(self):
        """Its matching items are passed on."""
        lines = document().splitlines()
        module = Retrieval("lines: list[str], question: str -> answer: str", max_tokens=20)

        assert module.shortened({"lines": lines, "question": QUESTION})["lines"] == [FACT]

    def test_an_embedder_finds_what_shares_no_word(self):
        """Vectors decide instead of words."""

        def embed(texts: list[str]) -> list[list[float]]:
            return [
                [1.0, 0.0] if "4471" in text or "employee" in text else [0.0, 1.0] for text in texts
            ]

        module = Retrieval(SIGNATURE, max_tokens=50, chunk_tokens=50, embedder=embed)

        found = module.shortened({"context": document(), "question": "Which employee?"})

        assert FACT in found["context"]


class TestCompaction:
    @pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
    def test_each_part_is_read_once_and_the_notes_answer(self, server, asynchronous):
        """The last call sees the notes in place of the text."""
        module = Compaction(SIGNATURE, chunk_tokens=10_000)
        inputs = {"context": document(), "question": QUESTION}

        found = asyncio.run(module.acall(**inputs)) if asynchronous else module(**inputs)

        assert found.answer == "4471"
        *reading, last = server.requests
        assert len(reading) == -(-len(document()) // 40_000)
        assert FILLER not in last.prompt

    def test_a_short_text_is_not_summarized(self, server):
        """Input that fits is answered in one call, as a direct call would."""
        Compaction(SIGNATURE)(context=FACT, question=QUESTION)

        assert len(server.requests) == 1
