"""Players for typed calls: fields in, fields out; and the choice between players."""

from __future__ import annotations

import datetime
import enum
from typing import Literal

import dspy
import pydantic
import pytest
from dspy.utils.exceptions import AdapterParseError, LMError

from dspy_rlm.testing import asks_for, fields, route, rules


class Town(pydantic.BaseModel):
    name: str
    founded: int


class Colour(enum.Enum):
    RED = "red"


class Everything(dspy.Signature):
    """Give one of each."""

    question: str = dspy.InputField()
    text: str = dspy.OutputField()
    number: int = dspy.OutputField()
    ratio: float = dspy.OutputField()
    sure: bool = dspy.OutputField()
    day: datetime.date = dspy.OutputField()
    colour: Colour = dspy.OutputField()
    size: Literal["small", "large"] = dspy.OutputField()
    names: list[str] = dspy.OutputField()
    counts: dict[str, int] = dspy.OutputField()
    town: Town = dspy.OutputField()
    note: str | None = dspy.OutputField()


EVERYTHING = {
    "text": "several\n\nlines, 'quotes' and \"more\" 🙂",
    "number": 3,
    "ratio": 0.5,
    "sure": True,
    "day": datetime.date(2024, 2, 29),
    "colour": Colour.RED,
    "size": "large",
    "names": ["a", "b"],
    "counts": {"a": 1},
    "town": Town(name="Ur", founded=-3800),
    "note": None,
}


def predict(lm, signature, adapter=None, **inputs):
    with dspy.context(lm=lm, adapter=adapter or dspy.ChatAdapter()):
        return dspy.Predict(signature)(**inputs)


class TestFields:
    """`fields` plays any signature."""

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
    @pytest.mark.parametrize("model", ["a-model", "gpt-4o"])
    def test_every_type_arrives(self, serve, adapter, model):
        """Values of any type are written so that DSPy reads them back, with either adapter.

        DSPy sends a response_format only to models that it knows to accept one.
        """
        server = serve(**{model: fields(lambda fields_in: EVERYTHING)})

        prediction = predict(server.lm(model), Everything, adapter, question="?")

        assert dict(prediction.items()) == EVERYTHING

    def test_it_reads_the_inputs(self, serve):
        """The function gets each input field as the prompt shows it, in order."""
        seen = []
        server = serve(
            m=fields(lambda fields_in: seen.append(dict(fields_in)) or {"answer": "yes"})
        )

        predict(
            server.lm("m"), "text, numbers: list[int] -> answer", text=" a\n\nb ", numbers=[1, 2]
        )

        assert seen == [{"text": " a\n\nb ", "numbers": "[1, 2]"}]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n\n",
            "a\n\n[[ ## question ## ]]\nnot this",
            "a\n\n[[ ## answer ## ]]\nb\n\n[[ ## completed ## ]]",
            "a\n\nRespond with the corresponding output fields, starting with the field `x`.",
        ],
    )
    def test_values_may_look_like_a_prompt(self, serve, text):
        """Another field's marker, or the reminder's words, inside a value do not mislead the parser."""
        server = serve(
            m=fields(lambda fields_in: {"answer": "-".join(fields_in), "echo": fields_in["text"]})
        )

        prediction = predict(
            server.lm("m"), "text, question -> answer, echo", dspy.JSONAdapter(),
            text=text, question="?",
        )  # fmt: skip

        assert (prediction.answer, prediction.echo) == ("text-question", text)

    def test_it_plays_a_chain_of_thought(self, serve):
        """Reasoning is an output field like any other."""
        server = serve(m=fields(lambda fields_in: {"reasoning": "because", "answer": "yes"}))

        with dspy.context(lm=server.lm("m")):
            prediction = dspy.ChainOfThought("question -> answer")(question="?")

        assert (prediction.reasoning, prediction.answer) == ("because", "yes")

    def test_demonstrations_are_not_the_question(self, serve):
        """Only the last message counts, whatever examples an optimizer put before it."""
        server = serve(m=fields(lambda fields_in: {"answer": fields_in["question"]}))
        program = dspy.Predict("question -> answer")
        program.demos = [dspy.Example(question="old", answer="example")]

        with dspy.context(lm=server.lm("m")):
            assert program(question="new").answer == "new"

    def test_a_signature_may_have_no_inputs(self, serve):
        """A signature without inputs is answered like any other."""
        server = serve(m=fields(lambda fields_in: {"answer": str(dict(fields_in))}))

        assert predict(server.lm("m"), dspy.Signature(" -> answer")).answer == "{}"

    def test_a_missing_field_is_dspys_error(self, serve):
        """The player sends what it was given, so a program's handling of slips can be tested."""
        server = serve(m=fields(lambda fields_in: {"anser": "yes"}))

        with pytest.raises(AdapterParseError):
            predict(server.lm("m"), "question -> answer", question="?")

        assert len(server.requests) == 2

    def test_a_plain_prompt_is_refused(self, serve):
        """A prompt without sections says where it belongs."""
        server = serve(m=fields(lambda fields_in: {}))

        with pytest.raises(LMError, match=r"Play plain prompts with `rules`"):
            server.lm("m")("Hello?")


class TestRoute:
    """`route` chooses a player."""

    def test_the_first_branch_that_accepts_plays(self, serve):
        """Branches are tried in order."""
        player = route(
            (lambda request: "a" in request.prompt, lambda request: "first"),
            (lambda request: "b" in request.prompt, lambda request: "second"),
            otherwise=lambda request: "last",
        )
        lm = serve(m=player).lm("m")

        assert [lm("ab"), lm("b"), lm("c")] == [["first"], ["second"], ["last"]]

    def test_no_branch_is_an_error(self, serve):
        """The error for an unexpected prompt shows the prompt."""
        with pytest.raises(LMError, match=r"NoPlayerError: No branch accepts this prompt: 'why\?'"):
            serve(m=route()).lm("m")("why?")

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
    def test_calls_are_told_apart_by_what_they_ask_for(self, serve, adapter):
        """`asks_for` looks at the output fields; a plain prompt asks for none."""
        player = route(
            (asks_for("count", "names"), fields(lambda fields_in: {"count": 1, "names": ["a"]})),
            (asks_for("count"), fields(lambda fields_in: {"count": 2})),
            otherwise=rules([], default="plain"),
        )
        lm = serve(m=player).lm("m")

        both = predict(lm, "text -> names: list[str], count: int", adapter, text="count")
        one = predict(lm, "text -> count: int", adapter, text="`names`")

        assert (both.count, both.names, one.count, lm("count")) == (1, ["a"], 2, ["plain"])
