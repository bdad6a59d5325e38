"""Typed outputs from submitted values, and replies that are a `FINAL(...)`."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import dspy
import pydantic
import pytest
from submitting import parse_outputs

from dspy_rlm.replies.final_calls import final_code
from dspy_rlm.replies.python_source import Work
from dspy_rlm.signatures.outputs import ReplyError
from dspy_rlm.values.bool_checks import check_no_bool_as_number


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
        ("change", "message"),
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
    def test_a_wrong_value_is_told_with_its_place(self, change, message):
        """The LM gets the expected type, the place, and the actual value."""
        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {**GOOD, **change})
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("annotation", "text"),
        [
            (int, "3,000"),
            (int, "1 000"),
            (int | None, "3,000"),
            (int | float, "3,000"),
            (datetime.date | int, "[1, 2]"),
            (bool, "1, 2"),
            (list[int], "{'a': 1}"),
            (Item, "5, 6"),
        ],
    )
    def test_a_text_is_quoted_as_it_was_submitted(self, annotation, text):
        """A text that is parsed to something else on the way is quoted as the cell wrote it."""
        signature = dspy.Signature({"n": (annotation, dspy.OutputField())})

        with pytest.raises(ReplyError) as caught:
            parse_outputs(signature.output_fields, {"n": text})

        problems = [line for line in str(caught.value).splitlines() if line.startswith("- ")]
        assert problems
        assert [line for line in problems if not line.endswith(f"got {text!r}")] == []

    def test_a_part_of_a_text_is_quoted_alone(self):
        """The place of a wrong part of a long text, and the part, are quoted."""
        signature = dspy.Signature({"n": (list[int], dspy.OutputField())})

        with pytest.raises(ReplyError, match=r"at \[1\]: .*, got 'x'"):
            parse_outputs(signature.output_fields, {"n": "[1, 'x']"})

    def test_all_problems_are_told_at_once(self):
        """All problems are reported together, so that one more turn can fix them."""
        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {"kind": "c", "score": 99, "when": None})
        text = str(caught.value)
        assert "items: this output is missing" in text
        assert "kind:" in text
        assert "score:" in text

    def test_many_problems_have_an_example_of_each_kind(self):
        """Of sixty wrong items, the message names the kinds and their numbers: five examples would hide the rest."""
        items = [{"name": f"n{at}", "price": -1} for at in range(59)] + [{"price": "x"}]

        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {**GOOD, "items": items})

        _, *problems, _ = str(caught.value).splitlines()
        assert [line.partition(" at ")[2].partition(",")[0] for line in problems] == [
            "[0]['price']: Input should be greater than 0",
            "[59]['name']: Field required",
            "[59]['price']: Input should be a valid number",
        ]
        assert problems[0].endswith("got -1; and 58 more of this kind")

    def test_more_kinds_than_are_listed_are_counted(self):
        """Wrong values of many kinds are listed in part, and the rest is counted."""
        signature = dspy.Signature({"d": (dict[str, Item], dspy.OutputField())})
        values = {f"k{at}": {f"name{at}": at} for at in range(4)} | {"x": {"name": 1, "price": "y"}}
        values |= {"y": {"name": [], "price": 0}, "z": 5}

        with pytest.raises(ReplyError) as caught:
            parse_outputs(signature.output_fields, {"d": values})

        assert "more problems of other kinds" in str(caught.value)

    @pytest.mark.parametrize("annotation", [float, int, list[str], Literal["a", "b"]])
    def test_none_where_a_value_is_needed(self, annotation):
        """The refusal of None says what to do if there is no value: it is no request to invent one."""
        signature = dspy.Signature({"n": (annotation, dspy.OutputField())})

        with pytest.raises(ReplyError) as caught:
            parse_outputs(signature.output_fields, {"n": None})

        assert (
            "got None. If there is no such value, submit the nearest that the type allows"
            in str(caught.value)
        )

    def test_a_huge_wrong_value_is_abridged(self):
        """The message that goes back to the LM stays short."""
        with pytest.raises(ReplyError) as caught:
            parse_outputs(Task.output_fields, {**GOOD, "score": ["x" * 1000] * 100_000})
        assert len(str(caught.value)) < 1000


class Optional(dspy.Signature):
    """A task whose outputs may be missing, except the first."""

    q: str = dspy.InputField()
    answer: str = dspy.OutputField()
    note: str = dspy.OutputField(default="none")
    tags: list[str] = dspy.OutputField(default_factory=lambda: ["a"])
    until: datetime.date | None = dspy.OutputField()


FALLBACKS = {"note": "none", "tags": ["a"], "until": None}


class TestMissingOutputs:
    """An output that has a default, or may be None, may be left out, as in DSPy's adapters."""

    @pytest.mark.parametrize(
        "call",
        ["SUBMIT('x')", "SUBMIT(answer='x')", "SUBMIT({'answer': 'x'})", "FINAL({'answer': 'x'})"],
    )
    def test_of_a_run(self, play, call):
        """An output that SUBMIT leaves out has the same value as one that a reply to `dspy.Predict` leaves out."""
        rlm, server = play(Optional, call, sub=lambda _: "[[ ## answer ## ]]\nx")
        predict = dspy.Predict(Optional)

        submitted = rlm(q="?")
        with dspy.context(lm=server.lm("sub")):
            predicted = predict(q="?")

        assert dict(predicted) == {"answer": "x", **FALLBACKS}
        assert {name: submitted[name] for name in dict(predicted)} == dict(predicted)
        assert submitted.run.status == "submitted"
        assert len(submitted.trajectory) == 1

    def test_a_required_one(self, play):
        """One that must not be missing is asked for again, and SUBMIT shows which may be."""
        rlm, _ = play(Optional, "SUBMIT(note='n')", "SUBMIT('x', note='n')")

        prediction = rlm(q="?")

        assert (prediction.answer, prediction.note) == ("x", "n")
        assert (
            "SUBMIT() is missing 'answer'. Call SUBMIT(answer: str, note: str = ..., tags: list[str] = ..., "
            "until: datetime.date | None = ...)."
        ) in prediction.trajectory[0]["output"]

    def test_the_contract(self, play):
        """The prompt shows which outputs have a default."""
        rlm, server = play(Optional, "SUBMIT('x')")

        rlm(q="?")

        prompt = str(server.requests[0].messages)
        assert (
            "SUBMIT(answer: str, note: str = ..., tags: list[str] = ..., until: datetime.date | None)"
        ) in prompt


class Answer(pydantic.BaseModel):
    answer: str
    number: float = 0
    is_sure: bool = False


def read(annotation, value):
    """The value that a single output `answer` of this type gets."""
    fields = {"q": (str, dspy.InputField()), "answer": (annotation, dspy.OutputField())}
    return parse_outputs(dspy.Signature(fields).output_fields, {"answer": value})["answer"]


class TestValuesThatLookRight:
    """Values that Python would convert without an error, although they are not the answer."""

    def test_none_is_no_text(self):
        """It would become the text 'None'; the message names functions that return it."""
        with pytest.raises(ReplyError, match=r"None is not a text.*print\(\)"):
            read(str, None)
        assert read(str | None, None) is None

    @pytest.mark.parametrize(
        ("annotation", "value", "place"),
        [
            (int, True, ""),
            (float, False, ""),
            (int, "True", ""),
            (int, "true", ""),
            (int | None, True, ""),
            (list[int], [1, True], "[1]"),
            (dict[str, int], {"a": 1, "b": False}, "['b']"),
            (list[tuple[int, bool]], [[1, True], [True, True]], "[1][0]"),
            (Answer, {"answer": "x", "number": True}, "['number']"),
            (list[Answer], [{"answer": "x", "number": True}], "[0]['number']"),
            (Answer, '{"answer": "x", "number": true}', "['number']"),
        ],
    )
    def test_a_bool_is_no_number(self, annotation, value, place):
        """True would become 1: code that submitted a condition instead of a count would give an answer."""
        with pytest.raises(ReplyError, match="is not a number") as caught:
            read(annotation, value)
        assert place in str(caught.value)

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (bool, True),
            (Answer, {"answer": "x", "is_sure": True}),
            (dict[str, bool], {"a": True}),
            (int | bool, True),
            (str, True),
        ],
    )
    def test_a_bool_where_one_is_declared(self, annotation, value):
        """Bools stay bools beside numbers, and become text where text is declared, as in DSPy."""
        read(annotation, value)

    def test_values_that_share_parts_cost_no_more_than_their_parts(self):
        """A list that holds one list twice, sixty times over, has sixty parts and not 2**60."""
        value: list = [1]
        for _ in range(60):
            value = [value, value]

        check_no_bool_as_number(value, value)

    def test_a_cyclic_value_is_checked_once(self):
        """A value that contains itself ends, and its bools are found."""
        value: list = [True]
        value.append(value)

        with pytest.raises(ValueError, match="True is not a number"):
            check_no_bool_as_number(value, [1, value])

    def test_bytes_are_decoded(self):
        """DSPy would make the text "b'...'" of them; bytes that are not UTF-8 are refused."""
        assert read(str, "é".encode()) == "é"
        with pytest.raises(ReplyError, match="not UTF-8"):
            read(str, b"\xe9")

    def test_a_point_in_time_is_no_date(self):
        """The class `datetime` is a subclass of `date`, but its time would be in the answer unseen."""
        assert type(read(datetime.date, datetime.datetime(2024, 1, 2))) is datetime.date
        with pytest.raises(ReplyError, match="zero time"):
            read(datetime.date, datetime.datetime(2024, 1, 2, 3))

    @pytest.mark.parametrize(
        ("annotation", "value", "result"),
        [
            (int, "42", 42),
            (int, " 42.0 ", 42),
            (int, 4.0, 4),
            (float, "1e3", 1000.0),
            (str, 42, "42"),
            (list[int], ["1"], [1]),
            (int, 2**53 + 1, 2**53 + 1),
            (int, str(2**64 + 1), 2**64 + 1),
        ],
    )
    def test_numbers_as_text_and_text_as_numbers(self, annotation, value, result):
        """They are converted where DSPy does so, without a loss of digits."""
        assert read(annotation, value) == result

    @pytest.mark.parametrize(
        ("annotation", "value"),
        [
            (int, "1,234"),
            (int, "12 apples"),
            (int, "about 5"),
            (int, 4.5),
            (int, float("nan")),
            (int, float("inf")),
            (float, "50%"),
            (float, 10**400),
            (list[str], [1]),
            (list[str], "a, b"),
        ],
    )
    def test_text_that_is_no_number_is_refused(self, annotation, value):
        """A part of a text is never read as the whole."""
        with pytest.raises(ReplyError, match="expected"):
            read(annotation, value)


class TestTextsThatLookLikeOtherValues:
    """A text is submitted as a text, whatever it looks like, if the type takes texts besides others."""

    @pytest.mark.parametrize(
        "annotation",
        [Any, object, str | None, str | int, str | list[str], list[str] | str | None, str | dict],
    )
    @pytest.mark.parametrize(
        "text", ["null", "None", "42", "1e5", "true", "[note] see below", "[1, 2]", '{"a": 1}', "{x", "'q'", ""]
    )  # fmt: skip
    def test_it_stays_as_it_is(self, annotation, text):
        """DSPy parses such a text as a reply, and refuses it or makes another value of it."""
        task = dspy.Signature({"r": (annotation, dspy.OutputField())})

        assert parse_outputs(task.output_fields, {"r": text}) == {"r": text}

    @pytest.mark.parametrize(
        ("annotation", "text", "value"),
        [
            (list[int], "[1, 2]", [1, 2]),
            (dict[str, int], '{"a": 1}', {"a": 1}),
            (list[str] | None, "null", None),
            (int | None, "42", 42),
            (datetime.date | None, "2024-01-02", datetime.date(2024, 1, 2)),
        ],
    )
    def test_a_type_without_texts(self, annotation, text, value):
        """A reply that means no text is read as DSPy reads it."""
        task = dspy.Signature({"r": (annotation, dspy.OutputField())})

        assert parse_outputs(task.output_fields, {"r": text}) == {"r": value}

    def test_constraints_hold(self):
        """The text is validated as any other value."""
        short = Annotated[str, pydantic.Field(max_length=3)]
        task = dspy.Signature({"r": (short | list[str], dspy.OutputField())})

        with pytest.raises(ReplyError, match="at most 3"):
            parse_outputs(task.output_fields, {"r": "long text"})

    def test_of_a_run(self, play):
        """The prediction has the outputs that the code submits."""
        rlm, _ = play("q -> r: Any", "SUBMIT('[note] ' + q)")

        assert rlm(q="null").r == "[note] null"


class TestDictsNamedLikeTheirField:
    @pytest.mark.parametrize(
        ("annotation", "value", "result"),
        [
            (str, {"answer": "x"}, "x"),
            (int, {"answer": 5}, 5),
            (list[str], {"answer": ["a"]}, ["a"]),
            (dict[str, int], {"answer": {"a": 1}}, {"a": 1}),
            (dict[str, int], {"answer": 1}, {"answer": 1}),
            (Answer, {"answer": "x"}, Answer(answer="x")),
            (Answer, {"answer": {"answer": "x"}}, Answer(answer="x")),
            (Answer, "x", Answer(answer="x")),
        ],
    )
    def test_the_reading_that_fits_the_type(self, annotation, value, result):
        """A dict with the field's own name is its value if it fits the type, and else holds the value."""
        assert read(annotation, value) == result

    def test_a_problem_is_that_of_the_submitted_value(self):
        """If neither reading fits, the message shows the value as the LM wrote it."""
        with pytest.raises(ReplyError, match=r"got \{'answer': 'many'\}"):
            read(int, {"answer": "many"})
