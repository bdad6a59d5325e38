"""The systems: the model reads all, or what BM25 finds, or what a scripted root passes on. The same words and schemas for all.

A model of this size does not write DSPy's field markers, so it is asked in plain words; where answers are from a list, llama.cpp
restricts it to them by a JSON schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from benchmarks.real_model.items import BEST, FILMS
from benchmarks.real_model.server import RealServer
from dspy_rlm import RLM
from dspy_rlm.baselines import bm25
from dspy_rlm.testing import Action, Player, PolicyServer, scripted

READ = (
    "Read the text and answer the question with two or three words only.\n\n"
    "Text:\n{context}\n\nQuestion: {question}"
)

# About four lines.
RETRIEVED_CHARS = 400

FIND_AND_READ = f"""\
name = question.removeprefix("What did ").removesuffix(" have?")
lines = [line for line in context.split("\\n") if name in line]
SUBMIT(answer=sub_llm({READ!r}.format(context="\\n".join(lines), question=question)))"""

# A reply that ends before its JSON does is no vote for the film.
COUNT = """\
import collections
ask = "What is the sentiment of this film review? Answer as JSON.\\n\\n"
lines = [line.split(": ", 1) for line in context.split("\\n")]
replies = sub_llm_batched([ask + text for _, text in lines])
good = collections.Counter(
    film for (film, _), reply in zip(lines, replies) if '"positive"' in reply
)
SUBMIT(answer=good.most_common(1)[0][0] if good else "Amber")"""

PLAYERS: dict[str, Player] = {
    "needle": scripted(Action("Code finds the line, the sub-LM reads it.", FIND_AND_READ)),
    "film": scripted(Action("The sub-LM judges each line, code counts.", COUNT)),
}


def one_of(field: str, values: Sequence[str]) -> dict[str, Any]:
    """Returns the response format for an object with one field, which has one of these values."""
    schema = {
        "type": "object",
        "properties": {field: {"enum": [*values]}},
        "required": [field],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": schema},
    }


def needle_systems(model: RealServer, root: PolicyServer) -> dict[str, Callable[..., Any]]:
    """Returns the systems for the needle."""
    lm = model.lm(max_tokens=16)

    def direct(context: str, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=_reply(lm, READ.format(context=context, question=question)))

    def retrieval(context: str, question: str) -> dspy.Prediction:
        lines = context.split("\n")
        scores = bm25.scores(question, lines)
        found = bm25.best(scores, [*map(len, lines)], RETRIEVED_CHARS)
        return direct("\n".join(lines[index] for index in found), question)

    return {
        "scripted root": _rlm(root, "needle", lm),
        "retrieval": retrieval,
        "direct": direct,
    }


def film_systems(model: RealServer, root: PolicyServer) -> dict[str, Callable[..., Any]]:
    """Returns the systems for the film with the most good reviews."""
    whole = model.lm(max_tokens=24, response_format=one_of("film", FILMS))
    line = model.lm(max_tokens=24, response_format=one_of("sentiment", ("positive", "negative")))

    def direct(context: str, question: str) -> dspy.Prediction:
        prompt = f"Film reviews, one a line:\n\n{context}\n\n{BEST} Answer as JSON."
        return dspy.Prediction(answer=json.loads(_reply(whole, prompt))["film"])

    return {"scripted root": _rlm(root, "film", line), "direct": direct}


def _rlm(root: PolicyServer, name: str, sub_lm: dspy.LM) -> RLM:
    rlm = RLM(
        "context: str, question: str -> answer: str",
        sub_lm=sub_lm,
        max_iterations=2,
        max_llm_calls=60,
        max_concurrency=1,
    )
    rlm.set_lm(root.lm(name))
    return rlm


def _reply(lm: dspy.LM, prompt: str) -> str:
    reply = lm(prompt)[0]
    return reply if isinstance(reply, str) else str(reply["text"])
