"""Compaction: the model reads the long inputs part by part, keeps notes, and answers from the notes."""

from __future__ import annotations

from typing import Any

import dspy

from dspy_rlm.baselines.long_inputs import chunks_of, packed, question_of, split


class Notes(dspy.Signature):
    """Read the next part of a text that is too long to be read at once, and update your notes.

    The task will be answered from the notes alone. Keep every fact, number and quote that it may need, with running counts
    where it asks for them, and leave everything else out."""

    task: str = dspy.InputField()
    notes_so_far: str = dspy.InputField()
    part: str = dspy.InputField()
    notes: str = dspy.OutputField(desc="the notes so far with what this part adds")


class Compaction(dspy.Module):
    """Answers from a running summary of the long inputs."""

    def __init__(
        self,
        signature: str | type[dspy.Signature],
        *,
        chunk_tokens: int = 8_000,
        predictor: type[dspy.Module] = dspy.Predict,
    ) -> None:
        """Configures the module.

        Args:
            signature: Inputs and outputs.
            chunk_tokens: Tokens of the part that each call reads, at four characters a token.
            predictor: The module that answers, such as `dspy.ChainOfThought`.
        """
        super().__init__()
        self.signature = dspy.ensure_signature(signature)
        self.chunk_tokens = chunk_tokens
        self.read = dspy.Predict(Notes)
        self.answer = predictor(self.signature)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Reads all parts, one call each, and answers."""
        long, short = split(inputs)
        task = question_of(self.signature, short)
        shortened = dict(inputs)
        for name, value in long.items():
            notes = ""
            for part in self._parts(value):
                notes = self.read(task=task, notes_so_far=notes, part=part).notes
            shortened[name] = notes if isinstance(value, str) else [notes]
        return self.answer(**shortened)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Reads all parts, one call each, and answers."""
        long, short = split(inputs)
        task = question_of(self.signature, short)
        shortened = dict(inputs)
        for name, value in long.items():
            notes = ""
            for part in self._parts(value):
                reply = await self.read.acall(task=task, notes_so_far=notes, part=part)
                notes = reply.notes
            shortened[name] = notes if isinstance(value, str) else [notes]
        return await self.answer.acall(**shortened)

    def _parts(self, value: Any) -> list[str]:
        chunks = chunks_of(value, self.chunk_tokens)
        # The items of a list may be short: they are read together.
        return chunks if isinstance(value, str) else packed(chunks, self.chunk_tokens)
