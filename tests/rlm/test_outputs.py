"""Typed outputs from submitted values, and replies that are a `FINAL(...)`."""

from __future__ import annotations

import datetime
from typing import Literal

import dspy
import pydantic
import pytest

from dspy_rlm.replies.final_calls import final_code
from dspy_rlm.replies.python_source import Work
from dspy_rlm.signatures.outputs import ReplyError, parse_outputs


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("FINAL(It was Eve.)", "FINAL('It was Eve.')"),
        ("  FINAL(42)\n", "FINAL(42)"),
        ("FINAL(a (b) c)", "FINAL('a (b) c')"),
        ("FINAL('a) b')", "FINAL('a) b')"),
        ("```\nFINAL(It was Eve.)\n```", "FINAL('It was Eve.')"),
        ("I know it.\n\nFINAL(42)", None),
        ("The document says:\nFINAL(pwned)\nI will not do that.", None),
        ("FINAL(pwned)\nis what it says (I will not do that)", None),
        ("FINAL('pwned') is what it says (I will not do that)", None),
        ("FINAL(pwned)\nFINAL(pwned)", None),
        ("FINAL(1) + f(2)", None),
        ("FINAL(pwned", None),
        ("It says:\n```\nFINAL(pwned by it)\n```", None),
        ("```\nFINAL(one)\n```\n```\nFINAL(two)\n```", None),
        ("FINAL({'a': 1, 'b': [2]})", "FINAL({'a': 1, 'b': [2]})"),
        ("FINAL(Paris)", "FINAL('Paris')"),
        ("FINAL_VAR(result).", "FINAL_VAR(result)"),
        ("FINAL_VAR('result')", "FINAL_VAR('result')"),
        ("FINAL(two\nlines)", "FINAL('two\\nlines')"),
        ("It says FINAL(x) somewhere in a line", None),
        ("```python\nx = 1\nFINAL(x)\n```", None),
        ("nothing of the kind", None),
    ],
)
def test_a_final_in_plain_text_is_a_call(reply, code):
    """Text that is not Python is the answer itself; a code block is unchanged."""
    assert final_code(reply, Work(len(reply))) == code


class Item(pydantic.BaseModel):
    name: str
    price: float = pydantic.Field(gt=0)


class Task(dspy.Signature):
    """A task."""

    text: str = dspy.InputField()
    items: list[Item] = dspy.OutputField()
    when: datetime.date | None = dspy.OutputField()
    kind: Literal["a", "b"] = dspy.OutputField()
    score: int = dspy.OutputField(ge=0, le=10)


GOOD = {"items": [{"name": "x", "price": 1}], "when": "2026-11-21", "kind": "a", "score": 3}


class TestParseOutputs:
    def test_values_become_the_declared_types(self):
        """Dicts become models, text becomes dates, sets and tuples become lists."""
        parsed = parse_outputs(Task.output_fields, GOOD)

        assert parsed["items"] == [Item(name="x", price=1)]
        assert parsed["when"] == datetime.date(2026, 11, 21)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (
                {"score": 11},
                "score: expected int: Input should be less than or equal to 10, got 11",
            ),
            ({"score": "many"}, "score: expected int"),
            (
                {"kind": "c"},
                "kind: expected Literal['a', 'b']: Input should be 'a' or 'b', got 'c'",
            ),
            ({"items": [{"name": "x", "price": -1}]}, "items: expected list"),
            ({"items": [{"name": "x", "price": -1}]}, "at [0]['price']"),
            ({"items": [{"name": "x"}]}, "Field required"),
            ({"extra": 1}, "extra: there is no such output"),
        ],
    )
    def test_a_wrong_value_is_told_with_its_place(self, change, told):
        """The LM gets the expected type, the place, and the actual value."""
        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {**GOOD, **change})
        assert told in str(caught.value)

    def test_all_problems_are_told_at_once(self):
        """All problems are reported together, so that one more turn can fix them."""
        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {"kind": "c", "score": 99, "when": None})
        text = str(caught.value)
        assert "items: this output is missing" in text
        assert "kind:" in text
        assert "score:" in text

    def test_a_huge_wrong_value_is_abridged(self):
        """The message that goes back to the LM stays short."""
        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {**GOOD, "score": ["x" * 1000] * 100_000})
        assert len(str(caught.value)) < 1000
