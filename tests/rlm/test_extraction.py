"""The extraction of outputs when the turns are used up: replies that do not fit are asked for again, with the reason."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import dspy
import pydantic
import pytest
from dspy import AdapterParseError

from dspy_rlm import RLM, RunFailedError
from dspy_rlm.replies.outputs import read_outputs
from dspy_rlm.testing import Action, PolicyServer, asks_for, route, scripted


def sections(**values: object) -> str:
    """A reply in the format of `ChatAdapter`."""
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items())


class TestReading:
    @pytest.mark.parametrize(
        "reply",
        [
            sections(n=3, a="x"),
            "Sure!\n[[ ## n ## ]] = 3\n**[[ ## a ## ]]**\nx\n[[ ## completed ## ]]",
            "[[ ## n ## ]]\n```json\n3\n```\n[[ ## a ## ]]\nx",
            '{"n": "3", "a": "x"}',
            'The outputs are:\n```json\n{"n": "3", "a": "x", "more": {"b": []}}\n```\nDone. {}',
            "{'n': '3', 'a': 'x',}",
            "<n>3</n>\n<a>x</a>",
        ],
    )
    def test_any_known_format_is_read(self, reply):
        """Sections, JSON and elements, with text around them, whatever was asked for."""
        assert read_outputs(reply, ["n", "a"]) == {"n": "3", "a": "x"}

    @pytest.mark.parametrize(
        "reply",
        [
            '{"n": "3", "a": "half of the te',
            '{"n": "3", "a": ["one", "tw',
            '```json\n{"n": "3", "a": {"b": {"c": 1}, "d": "',
            '{"n": "3", "a": "a quote \\"',
        ],
    )
    def test_json_that_was_cut_off_loses_its_last_value(self, reply):
        """A part of a value is not an output, though JSON can be repaired into one."""
        assert read_outputs(reply, ["n", "a"]) == {"n": "3"}

    @pytest.mark.parametrize(
        "reply", ["", "I do not know.", "{", "[1, 2]", "[[ ## b ## ]]\n1", '{"b": 1}']
    )
    def test_a_reply_without_outputs_has_none(self, reply):
        """Prose, other fields, and nothing at all."""
        assert read_outputs(reply, ["n", "a"]) == {}


class Grade(dspy.Signature):
    """Grade the text."""

    text: str = dspy.InputField()
    score: Annotated[int, pydantic.Field(ge=1, le=5)] = dspy.OutputField()
    mood: Literal["good", "bad"] = dspy.OutputField()
    why: str = dspy.OutputField()


class Thing:
    """Has no form as text."""


class Find(dspy.Signature):
    """Find the thing."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    text: str = dspy.InputField()
    thing: Thing = dspy.OutputField()


GOOD = {"score": 4, "mood": "good", "why": "short"}


@pytest.fixture
def extract(kept):
    """Returns `extract(*replies, ...)`: the prediction of a run whose extraction gets these replies, and the prompts."""

    def run(*replies, signature=Grade, adapter=None, is_async=False, reply_tokens=None, **options):
        left = list(replies)
        turn = scripted(Action("", "print(text)"))
        player = route((asks_for("code"), turn), otherwise=lambda _request: left.pop(0))
        with PolicyServer({"root": player}) as server:
            with dspy.context(lm=server.lm("root"), adapter=adapter or dspy.ChatAdapter()):
                rlm = RLM(signature, max_iterations=1, pool=kept, **options)
                done = asyncio.run(rlm.acall(text="t")) if is_async else rlm(text="t")
            assert left == []
            return done, [request.prompt for request in server.requests[1:]]

    return run


class TestAskingAgain:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_value_of_the_wrong_type_is_asked_for_again(self, extract, is_async):
        """The LM is told the reason, and asked only for what is missing; the rest is kept."""
        bad = sections(**{**GOOD, "score": "about four"})
        prediction, prompts = extract(bad, sections(score=4), is_async=is_async)

        assert {name: prediction[name] for name in GOOD} == GOOD
        assert prediction.run.status == "extracted"
        assert prediction.run.partial_outputs == {}
        assert "problem_with_last_reply" not in prompts[0]
        assert "score: expected int" in prompts[1]
        assert "`[[ ## mood ## ]]`" not in prompts[1]

    def test_a_constraint_that_is_not_met_is_one_too(self, extract):
        """SUBMIT and `predict` hold values to their constraints; so does the extraction."""
        prediction, prompts = extract(sections(**{**GOOD, "score": 9}), sections(score=5))

        assert prediction.score == 5
        assert "less than or equal to 5" in prompts[1]

    def test_json_that_was_cut_off(self, extract):
        """Complete values are kept; the value that was cut is asked for again."""
        bad = '{"score": 4, "mood": "good", "why": "because it is sh'
        prediction, prompts = extract(bad, sections(why="short"))

        assert {name: prediction[name] for name in GOOD} == GOOD
        assert "why: this output is missing" in prompts[1]

    def test_another_format_than_asked_for_costs_no_request(self, extract):
        """JSON where sections were asked for, and the other way round."""
        _, prompts = extract('{"score": 4, "mood": "good", "why": "short"}')
        assert len(prompts) == 1
        _, prompts = extract(sections(**GOOD), adapter=dspy.JSONAdapter())
        assert len(prompts) == 1

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
    def test_every_adapter_asks_again(self, extract, adapter):
        """The reason is an input of the prompt, in the adapter's own format."""
        prediction, prompts = extract("No idea.", sections(**GOOD), adapter=adapter)

        assert prediction.score == 4
        assert "no output in the requested format" in prompts[1]

    def test_a_later_reply_may_have_the_kept_outputs_too(self, extract):
        """A model that repeats all fields is understood; the first right values stay."""
        bad = sections(score="?", mood="good", why="first")
        prediction, _ = extract(bad, sections(score=4, mood="bad", why="second"))

        assert (prediction.score, prediction.mood, prediction.why) == (4, "good", "first")

    def test_three_requests_are_the_most(self, extract):
        """Then the run has failed; its report keeps the outputs that fitted."""
        bad = sections(score="?", mood="good", why="short")
        with pytest.raises(RunFailedError) as caught:
            extract(bad, sections(score="many"), sections(score="none"))

        report = caught.value.run
        assert isinstance(caught.value.__cause__, AdapterParseError)
        assert "score: expected int" in str(caught.value)
        assert report.partial_outputs == {"mood": "good", "why": "short"}
        assert report.dump()["partial_outputs"] == report.partial_outputs
        assert report.iterations == 1

    def test_a_type_that_no_reply_can_have_stays_as_it_was_read(self, extract):
        """An arbitrary class cannot be parsed from text; the text is the output, as before."""

        prediction, prompts = extract(sections(thing="a thing"), signature=Find)

        assert prediction.thing == "a thing"
        assert len(prompts) == 1

    def test_requests_count_in_the_usage(self, extract):
        """Each request is on the ledger."""
        prediction, prompts = extract("?", "?", sections(**GOOD))

        assert len(prompts) == 3
        assert sum(use.calls for use in prediction.run.usage) == 4


class TestAfterARefusedSubmit:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_only_the_outputs_that_did_not_fit_are_extracted(self, kept, is_async):
        """An output that fitted in the last SUBMIT stays as it is, from its variable, not retyped from what was printed."""
        turns = scripted(
            Action("", "SUBMIT(score=9, mood='good', why='w' * 3000)"),
            Action("", "SUBMIT(score='?', mood='good', why='w' * 4000)"),
        )
        player = route((asks_for("code"), turns), otherwise=lambda _request: sections(score=4))
        with PolicyServer({"root": player}) as server, dspy.context(lm=server.lm("root")):
            rlm = RLM(Grade, max_iterations=1, pool=kept)
            done = asyncio.run(rlm.acall(text="t")) if is_async else rlm(text="t")

        assert (done.score, done.mood, done.why) == (4, "good", "w" * 4000)
        assert (done.run.status, done.run.iterations) == ("extracted", 2)
        assert "`[[ ## score ## ]]`" in server.requests[-1].prompt
        assert "[[ ## why ## ]]" not in server.requests[-1].prompt
        assert "problem_with_last_reply" not in server.requests[-1].prompt

    def test_the_one_more_turn_can_submit(self, kept):
        """Nothing is extracted then."""
        turns = scripted(
            Action("", "SUBMIT(score=9, mood='good', why='w')"),
            Action("", "SUBMIT(score=5, mood='good', why='w')"),
        )
        with PolicyServer({"root": turns}) as server, dspy.context(lm=server.lm("root")):
            done = RLM(Grade, max_iterations=1, pool=kept)(text="t")

        assert (done.score, done.run.status, len(server.requests)) == (5, "submitted", 2)


class TestExtractorsOfUsers:
    def test_a_predictor_of_the_users_is_asked_again_too(self, kept):
        """A `dspy.Predict` that the user set has the reason as one more input."""
        replies = [sections(a="?"), sections(a="3")]
        turn = scripted(Action("", "print(text)"))
        player = route((asks_for("code"), turn), otherwise=lambda _request: replies.pop(0))
        with PolicyServer({"root": player}) as server, dspy.context(lm=server.lm("root")):
            rlm = RLM("text -> a: int", max_iterations=1, pool=kept)
            rlm.extract = dspy.Predict("repl_history -> a: int", instructions="Count.")
            assert rlm(text="t").a == 3

        assert "problem_with_last_reply" in server.requests[-1].prompt
