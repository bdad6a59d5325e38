"""Parsing a text as a value is bounded; any fault in it is reported to the LM and ends no run."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from typing import Any

import dspy
import pydantic
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.testing import Raw
from dspy_rlm.values.bounded_parsing import MAX_REPAIRED_CHARS, HardTextError, careful, parsed

# Texts whose repair takes the square of their length, or more stack or memory than there is.
HARD = {
    "open strings": lambda n: '["' * (n // 2),
    "open lists": lambda n: "[" * n,
    "open dicts": lambda n: "{" * n,
    "tuples": lambda n: '("' * (n // 2),
    "quotes in strings": lambda n: '["' + 'a"b' * (n // 3),
    "objects in objects": lambda n: '{"a":["b' * (n // 8),
    "minus signs": lambda n: "-" * n + "1",
    "tildes": lambda n: "~" * n + "1",
    "parentheses": lambda n: "(" * n + ")" * n,
    "powers": lambda n: "1" + "**1" * (n // 3),
    "a long number": lambda n: "9" * n,
    "sets": lambda n: "{" + "1," * (n // 2) + "}",
}

# CPU seconds of 500 kB, when quadratic: minutes. A bounded repair takes under one.
MOST_SECONDS = 8.0


@pytest.mark.sampled(6)
@pytest.mark.parametrize("make", HARD.values(), ids=HARD.keys())
@pytest.mark.parametrize(
    ("chars", "annotation"),
    [  # of the length that is repaired, and takes half a second, one type is enough
        *itertools.product([6_000, 500_000], [int, list[str], dict[str, Any]]),
        (60_000, list[str]),
    ],
)
def test_a_hard_text_is_refused_soon(make, chars, annotation):
    """A hard text is refused with a `ValueError`, in a time that does not depend on its length."""
    text = make(chars)
    began = time.thread_time()
    with contextlib.suppress(ValueError):
        parsed(text, annotation)
    assert time.thread_time() - began < MOST_SECONDS


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        (json.dumps([f"text {i}" for i in range(100_000)]), list[str], None),
        (json.dumps({f"key {i}": i for i in range(100_000)}), dict[str, int], None),
        (json.dumps(["x" * 10_000_000]), list[str], None),
        ("['it is', 'b', ]", list[str], ["it is", "b"]),
        ("[1, 2, 3", list[int], [1, 2, 3]),
        ('Here it is:\n```json\n{"a": 1}\n```\nDone.', dict[str, int], {"a": 1}),
        ("{'a': True, 'b': None}", dict[str, Any], {"a": True, "b": None}),
        ("5", int, 5),
        ("yes", bool, True),
    ],
    ids=["long list", "long dict", "long text", "quotes", "cut off", "fence", "python", "int", "bool"],
)  # fmt: skip
def test_honest_texts_are_read_as_before(text, annotation, value):
    """JSON of any length, and text that DSPy can repair, are parsed as before."""
    result = parsed(text, annotation)

    assert result == (json.loads(text) if value is None else value)


def test_a_long_text_of_python_is_repaired():
    """A table that an LM wrote as Python has it, with 2,500 rows, is within the bound."""
    rows = [{"name": f"item {i}", "price": i / 7, "left": None} for i in range(2_500)]
    text = str(rows)

    assert 100_000 < len(text) <= MAX_REPAIRED_CHARS
    assert parsed(text, list[dict[str, Any]]) == rows


def test_what_is_too_long_to_be_repaired_is_told():
    """Text that is too long to repair gives an error with its length, the bound, and what to do."""
    with pytest.raises(
        HardTextError,
        match=r"300,001 characters .*\(at most 200,000 characters are\)\. Give valid JSON",
    ):
        parsed("[" + "'a'" * 100_000, list[str])


class Ids(pydantic.BaseModel):
    ids: set[int]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("annotation", "make"),
    [
        (set[int], lambda numbers: numbers),
        (frozenset[int], json.dumps),
        (set[int], lambda numbers: json.dumps([str(n) for n in numbers])),
        (dict[int, int], lambda numbers: {str(n): 1 for n in numbers}),
        (dict[int, int], lambda numbers: json.dumps({str(n): 1 for n in numbers})),
        (set[tuple[int, int]], lambda numbers: [[n, n] for n in numbers]),
        (list[set[int]], lambda numbers: [numbers]),
        (Ids, lambda numbers: {"ids": numbers}),
    ],
)
def test_keys_that_collide_are_refused(annotation, make):
    """A list or text that becomes a set has its keys checked like a set that crosses."""
    collide = make([n * (2**61 - 1) for n in range(1, 20_000)])
    began = time.thread_time()
    with pytest.raises(ValueError, match="collide"):
        parsed(collide, annotation)

    assert time.thread_time() - began < MOST_SECONDS
    assert parsed(make(list(range(20_000))), annotation)


class Task(dspy.Signature):
    """A task."""

    text: str = dspy.InputField()
    items: list[str] = dspy.OutputField()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("make", HARD.values(), ids=HARD.keys())
def test_a_hard_submission_is_refused(make):
    """A hard submission is refused with short problems that name the expected type."""
    _, problems = typed_outputs(Task.output_fields, {"items": make(9_000)})

    assert all(problem.startswith("items: expected list[str]") for problem in problems)
    assert len("".join(problems)) < 4_000


@pytest.mark.sampled(4)
@pytest.mark.parametrize("text", ["'['*3000", "'-'*9000+'1'", "'[\"'*6000", "'{'*100_000"])
@pytest.mark.parametrize("output", ["answer: int", "answer: list[str]", "answer: dict[str, int]"])
def test_a_hard_submission_ends_no_run(play, text, output):
    """A hard submission ends no run, neither by an exception nor by its parsing time."""
    good = {"answer: int": "1", "answer: list[str]": "['a']"}.get(output, "{'a': 1}")
    rlm, _ = play(
        f"q -> {output}", f"SUBMIT(answer={text})", f"SUBMIT(answer={good})", max_seconds=60
    )
    began = time.process_time()
    result = rlm(q="?")

    assert result.run.iterations in (1, 2)
    assert result.run.status == "submitted"
    assert time.process_time() - began < 30


class Left(pydantic.BaseModel):
    part: Left | Right


class Right(pydantic.BaseModel):
    part: Left | Right


Left.model_rebuild()


class TestReplies:
    @pytest.mark.sampled(12)
    @pytest.mark.parametrize("make", HARD.values(), ids=HARD.keys())
    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
    @pytest.mark.parametrize(
        "chars", [6_000, 500_000, pytest.param(60_000, marks=pytest.mark.nightly)]
    )
    def test_a_hard_reply_cannot_be_parsed_and_says_so(self, make, adapter, chars):
        """Every adapter raises the error that DSPy expects for an unreadable reply."""
        text = make(chars)
        replies = [
            text,
            f"[[ ## items ## ]]\n{text}",
            json.dumps({"items": text}),
            f"<items>{text.replace('<', '')}</items>",
            f"It is: {text}",
            f"[1] {{ {text} }}",
        ]
        began = time.thread_time()
        for reply in replies:
            try:
                careful(adapter()).parse(Task, reply)
            except AdapterParseError:
                continue
        assert time.thread_time() - began < len(replies) * MOST_SECONDS

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
    def test_an_honest_reply_is_parsed_as_before(self, adapter):
        """An honest reply is parsed as before, including one that DSPy has to repair."""
        replies = {
            dspy.ChatAdapter: "[[ ## items ## ]]\n['a', 'b',]\n\n[[ ## completed ## ]]",
            dspy.JSONAdapter: "Sure!\n```json\n{\"items\": ['a', 'b']}\n```",
            dspy.XMLAdapter: "<items><item>a</item><item>b</item></items>",
        }
        reply = replies[adapter]

        assert careful(adapter()).parse(Task, reply) == adapter().parse(Task, reply)

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
    def test_a_reply_that_multiplies_the_work_of_its_types_is_refused(self, adapter):
        """Each level of the value doubles the tries of Pydantic, so a short reply would take for ever."""
        tree = '{"part": ' * 60 + "1" + "}" * 60
        reply = {
            dspy.ChatAdapter: f"[[ ## tree ## ]]\n{tree}",
            dspy.JSONAdapter: f'{{"tree": {tree}}}',
            dspy.XMLAdapter: f"<tree>{tree}</tree>",
        }[adapter]

        with pytest.raises(AdapterParseError, match=r"tree: .*unions in unions"):
            careful(adapter()).parse(
                dspy.Signature({"tree": (Left | Right, dspy.OutputField())}), reply
            )

    def test_types_that_multiply_the_work_are_refused_in_a_sub_call(self, play):
        """The check applies to the types of a cell, and the message has the reason."""
        tree = '{"part": ' * 60 + "1" + "}" * 60
        rlm, server = play(
            "q -> answer: str",
            "import dataclasses\n"
            "@dataclasses.dataclass\nclass Left:\n    part: 'Left | Right'\n"
            "@dataclasses.dataclass\nclass Right:\n    part: 'Left | Right'\n"
            "try:\n    predict('q -> tree: Left | Right', q=q)\n"
            "except Exception as error:\n    SUBMIT(str(error))",
            sub=lambda _: f"[[ ## tree ## ]]\n{tree}\n\n[[ ## completed ## ]]",
        )

        assert "unions in unions" in rlm(q="").answer
        assert len(server.requests_to("sub")) > 1

    def test_a_sub_lm_with_a_hard_reply_is_asked_again(self, play):
        """A sub-LM with a hard reply is called again with the reason, and the cell gets its outputs."""
        replies = iter(["[[ ## items ## ]]\n{}".format('["' * 30_000), "[[ ## items ## ]]\n['a']"])
        rlm, server = play(
            "q -> answer: list[str]",
            "SUBMIT(predict('q -> items: list[str]', q=q).items)",
            sub=lambda _: next(replies),
        )
        began = time.process_time()

        assert rlm(q="?").answer == ["a"]
        assert "too long to repair" in server.requests_to("sub")[1].prompt
        assert time.process_time() - began < 20

    def test_a_root_lm_with_a_hard_reply_loses_a_turn(self, play):
        """A hard reply of the root LM, in chat format or JSON, costs a turn, not the run."""
        rlm, _ = play("q -> answer", Raw('{"reasoning": ["' * 20_000), "SUBMIT('done')")
        began = time.process_time()

        assert rlm(q="?").answer == "done"
        assert time.process_time() - began < 30
