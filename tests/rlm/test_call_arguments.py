"""The arguments of an LM call: two calls share a digest exactly if they are the same call."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import tracemalloc
from typing import Any

import dspy
import pydantic
import pytest
from dspy.utils import DummyLM

from dspy_rlm.lms.call_arguments import CallArguments


def _digest(prompt: Any = None, lm: Any = None, **options: Any) -> bytes:
    return CallArguments(lm or DummyLM([]), prompt, options).digest()


class Reply(pydantic.BaseModel):
    """A type of a reply, as a class and as a value."""

    text: str = ""


@dataclasses.dataclass
class Config:
    """A part of a request."""

    stop: tuple[str, ...] = ()


MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "first"}, "last"]}]

# Different calls, many of which differ in one part only.
CALLS: list[tuple[Any, dict[str, Any]]] = [
    (None, {}),
    ("", {}),
    ("a", {}),
    ("a", {"n": 1}),
    ("a", {"n": "1"}),
    ("a", {"n": 1.0}),
    ("a", {"n": True}),
    ("a", {"n": None}),
    ("a", {"stop": ["ab", "c"]}),
    ("a", {"stop": ["a", "bc"]}),
    ("a", {"stop": ("a", "bc")}),
    ("a", {"stop": ["a", ["bc"]]}),
    ("a", {"stop": [["a"], "bc"]}),
    ("a", {"stop": b"abc"}),
    ("a", {"stop": "abc"}),
    ("a", {"stop": {"a": "bc"}}),
    ("a", {"stop": {"ab": "c"}}),
    ("a", {"stop": {"a": {}, "bc": {}}}),
    ("a", {"config": Config(("ab", "c"))}),
    ("a", {"config": Config(("a", "bc"))}),
    ("a", {"response_format": Reply}),
    ("a", {"response_format": Reply()}),
    ("a", {"response_format": Reply(text="x")}),
    (None, {"messages": MESSAGES}),
    (None, {"messages": [*MESSAGES, *MESSAGES]}),
    (None, {"messages": [{**MESSAGES[0], "role": "system"}]}),
    (
        None,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "First"}, "last"]}]},
    ),
    ("x" * 2_100_000 + "end", {}),
    ("x" * 2_100_000 + "End", {}),
    ("x" * 2_100_000 + "end", {"n": 1}),
]


def test_different_calls_have_different_digests():
    """A digest depends on every part of a call, on the types and borders of the parts, and on the end of a long text."""
    digests = [_digest(prompt, **options) for prompt, options in CALLS]

    same = [pair for pair in itertools.combinations(range(len(CALLS)), 2) if digests[pair[0]] == digests[pair[1]]]  # fmt: skip
    assert same == []


def test_equal_calls_have_equal_digests():
    """A digest does not depend on the objects that a call consists of."""
    copies = [(prompt and "".join(list(prompt)), copy.deepcopy(o)) for prompt, o in CALLS]

    assert [_digest(p, **o) for p, o in copies] == [_digest(p, **o) for p, o in CALLS]


def test_the_lm_and_its_own_options_are_part_of_the_call():
    """The same prompt to another model, or at another temperature, is another call."""
    lms = [
        dspy.LM("openai/a"),
        dspy.LM("openai/b"),
        dspy.LM("openai/a", temperature=0.5),
    ]

    assert len({_digest("q", lm) for lm in lms}) == 3
    assert _digest("q", dspy.LM("openai/a")) == _digest("q", lms[0])


def test_no_copy_of_a_long_prompt_is_made():
    """The digest of a prompt of 40 million characters takes a few megabytes of memory."""
    arguments = CallArguments(DummyLM([]), None, {"messages": [{"content": "ä" * 40_000_000}]})
    tracemalloc.start()
    try:
        arguments.digest()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10_000_000


@pytest.mark.parametrize("depth", [19, 20, 21, 200])
def test_differences_at_any_depth_count(depth):
    """Parts that are nested too deeply to be followed enter as a whole."""

    def nested(value: str) -> Any:
        parts: Any = value
        for _ in range(depth):
            parts = [parts]
        return parts

    assert _digest("q", extra=nested("a")) != _digest("q", extra=nested("b"))
    assert _digest("q", extra=nested("a")) == _digest("q", extra=nested("a"))


def test_a_lone_surrogate_and_a_cycle_are_no_errors():
    """Neither text that is no valid Unicode nor a list in itself makes the digest fail."""
    cycle: list[Any] = []
    cycle.append(cycle)
    arguments = CallArguments(DummyLM([]), None, {"stop": ["x"]})
    arguments.options = {"stop": ["\ud800"], "extra": cycle}

    assert arguments.digest() == arguments.digest()
