"""The styles of the prompt: each drives the same loop, through a real server."""

from __future__ import annotations

import itertools
import json
import pickle

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_rlm import RLM, SignatureError
from dspy_rlm.prompts.history import NO_STEPS, render_steps, split_steps
from dspy_rlm.prompts.styles import STYLES
from dspy_rlm.reports.report import Step
from dspy_rlm.testing import Called, PolicyServer

TASK = "logs, question -> answer: str, lines: list[int]"
INPUTS = {"logs": "started\nfailed by eve\n" * 50, "question": "Who broke it?"}

LOOK, FAIL = "print(logs[8:21])", "logs.missing()"
SUBMIT = "SUBMIT('eve', [2])"


def reply(style, code):
    """A reply in the form that the style asks for."""
    if style == "tools":
        return Called("", "python", {"code": code})
    if style == "paper":
        return f"I look at it.\n\n```repl\n{code}\n```"
    return f"[[ ## reasoning ## ]]\nI look.\n\n[[ ## code ## ]]\n```python\n{code}\n```"


@pytest.fixture
def play(kept):
    """Runs an RLM on replies, one a turn, and returns its prediction and the requests."""

    def run(replies, inputs=INPUTS, task=TASK, **options):
        left = iter(replies)
        with PolicyServer({"root": lambda _: next(left)}) as server:
            with dspy.context(lm=server.lm("root")):
                prediction = RLM(task, pool=kept, **options)(**inputs)
            return prediction, [exchange.request for exchange in server.requests]

    return run


@pytest.mark.parametrize("style", STYLES)
class TestEachStyle:
    def test_drives_the_same_loop(self, play, style):
        """Steps, errors and the submission are the same; nothing counts as repaired or lost."""
        replies = [reply(style, code) for code in (LOOK, FAIL, SUBMIT)]
        prediction, requests = play(replies, style=style)
        report = prediction.run

        assert (prediction.answer, prediction.lines) == ("eve", [2])
        assert [step.code for step in report.steps] == [LOOK, FAIL, SUBMIT]
        assert report.steps[0].output == "failed by eve"
        assert "AttributeError" in report.steps[1].output
        assert (report.repairs, report.turns_lost, report.status) == ({}, {}, "submitted")
        assert len(requests) == 3

    def test_the_prompt_only_grows(self, play, style):
        """All but the end of a prompt is the beginning of the next one, so that a provider can cache it."""
        codes = [f"print({number}, logs[:200])" for number in range(6)]
        _, requests = play([reply(style, code) for code in (*codes, SUBMIT)], style=style)
        texts = [json.dumps(request.raw["messages"]) for request in requests]

        for text, longer in itertools.pairwise(texts):
            same = next(
                at for at, pair in enumerate(zip(text, longer, strict=False)) if len({*pair}) > 1
            )
            assert same > 0.9 * len(text)

    def test_the_outputs_are_extracted_after_the_last_turn(self, play, style):
        """The extraction has fields of its own, which DSPy's adapter writes in every style."""
        extraction = "[[ ## answer ## ]]\neve\n\n[[ ## lines ## ]]\n[2]\n\n[[ ## completed ## ]]"
        replies = [reply(style, LOOK), extraction]
        prediction, requests = play(replies, style=style, max_iterations=1)

        assert (prediction.answer, prediction.run.status) == ("eve", "extracted")
        assert "This is the last turn: SUBMIT now." in json.dumps(requests[0].raw)
        assert "tools" not in requests[1].raw

    def test_a_reply_in_another_form_is_read_too(self, play, style):
        """The style is a request: no reply is lost because it has another form."""
        other = {"default": "paper", "paper": "tools", "tools": "default"}[style]
        prediction, _ = play([reply(other, LOOK), reply(other, SUBMIT)], style=style)

        assert prediction.answer == "eve"
        assert prediction.run.turns_lost == {}

    def test_a_refused_submission_goes_back(self, play, style):
        """The LM reads why its outputs were refused, and submits again."""
        replies = [reply(style, "SUBMIT('eve', ['two'])"), reply(style, SUBMIT)]
        prediction, requests = play(replies, style=style)

        assert prediction.lines == [2]
        assert "SUBMIT was refused" in json.dumps(requests[1].raw["messages"])

    def test_demos_of_an_optimizer_are_earlier_turns(self, kept, style):
        """A demo is shown as the turn of another run, before the run itself."""
        demo = {
            "variables_info": "Variable: `logs`",
            "repl_history": render_steps([Step("Look.", "print(1)", "1")]),
            "iteration": "Turn 2 of 20; 50 sub-LM prompts left",
            "reasoning": "It is clear.",
            "code": "```python\nSUBMIT('bob', [])\n```",
        }
        with PolicyServer({"root": lambda _: reply(style, SUBMIT)}) as server:
            rlm = RLM(TASK, style=style, pool=kept)
            rlm.generate_action.demos = [demo]
            with dspy.context(lm=server.lm("root")):
                assert rlm(**INPUTS).answer == "eve"
            text = json.dumps(server.requests[0].request.raw["messages"])

        assert 0 < text.index("SUBMIT('bob', [])") < text.index("Who broke it?")


class TestPaper:
    def test_final_and_final_var_end_the_run(self, play):
        """The calls of the paper's implementation end a run, inside a block and alone."""
        in_block = ["```repl\nfound = 'eve'\nFINAL(found, [2])\n```"]
        alone = ["```repl\nanswer = {'answer': 'eve', 'lines': [2]}\n```", "FINAL_VAR(answer)"]

        for replies in (in_block, alone):
            prediction, _ = play(replies, style="paper")
            assert (prediction.answer, prediction.lines) == ("eve", [2])

    def test_the_inputs_are_context(self, play):
        """`context` is a dict of several inputs, a single input itself, and an input of that name."""
        several, _ = play(
            ["```repl\nFINAL(','.join(context), [len(context['logs'])])\n```"], style="paper"
        )
        one, _ = play(["FINAL(context[:7])"], {"logs": "started"}, "logs -> answer", style="paper")
        own, _ = play(
            ["FINAL(context + q)"],
            {"context": "c", "q": "?"},
            "context, q -> answer",
            style="paper",
        )

        assert (several.answer, several.lines) == ("logs,question", [len(INPUTS["logs"])])
        assert (one.answer, own.answer) == ("started", "c?")

    def test_the_prompt_has_the_vocabulary_of_the_paper(self, play):
        """The contract offers `llm_query` and `FINAL`, and asks for ```repl blocks."""
        _, requests = play(["FINAL('eve', [2])"], style="paper")

        for words in (
            "`llm_query(prompt) -> str`",
            "`FINAL(answer: str,",
            "```repl block",
            "`context`",
        ):
            assert words in requests[0].system
        assert "sub_llm" not in requests[0].system


class TestTools:
    def test_cells_are_calls_of_a_tool(self, play):
        """The request defines the tool, and the steps are calls with their results."""
        _, requests = play([reply("tools", LOOK), reply("tools", SUBMIT)], style="tools")
        _, _, call, result, _ = requests[1].raw["messages"]

        assert [tool["function"]["name"] for tool in requests[0].raw["tools"]] == ["python"]
        assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"code": LOOK}
        assert (result["role"], result["content"]) == ("tool", "failed by eve")
        assert result["tool_call_id"] == call["tool_calls"][0]["id"]


class TestSetting:
    def test_an_unknown_style_is_refused_by_the_constructor(self):
        """The error names the styles."""
        with pytest.raises(
            SignatureError, match="style must be one of 'default', 'paper', 'tools'"
        ):
            RLM(TASK, style="papers")

    def test_the_style_stays_with_copies(self):
        """A copy and a pickle have the style of the original."""
        rlm = RLM(TASK, style="paper")

        assert rlm.deepcopy().style == pickle.loads(pickle.dumps(rlm)).style == "paper"


TEXT = st.text(st.sampled_from("ab=`\n:()Output 12chars[]# SepReasonigCd"), max_size=60)


class TestSplitting:
    """A conversation is made of the rendered history, so splitting has to be exact."""

    @given(st.lists(st.builds(Step, TEXT, TEXT, TEXT), min_size=1, max_size=4))
    def test_splitting_is_the_inverse_of_rendering(self, steps):
        """Outputs come back exactly, and every step is found, whatever its text looks like."""
        steps_text = split_steps(render_steps(steps))
        alone = [split_steps(render_steps([step]))[0] for step in steps]

        assert [step.output for step in steps_text] == [step.output for step in alone]
        assert len(steps_text) == len(steps)

    def test_other_text_has_no_steps(self):
        """The text of a run without steps, and of an old demo, is not split."""
        assert split_steps(NO_STEPS) == split_steps("none") == split_steps("") == []


class TestAnswer:
    """`answer["ready"]` of the paper's own implementation ends a run of its style."""

    @pytest.mark.parametrize(
        "code",
        [
            'answer["content"] = "eve"\nanswer["ready"] = True',
            'answer = {"content": "eve", "ready": True}',
            'name = "eve"\nanswer["content"] = name\nawait __import__("asyncio").sleep(0)\nanswer["ready"] = 1 < 2',
            'answer.update(content="eve", ready=True)\nanswer',
        ],
    )
    def test_a_ready_answer_is_submitted(self, play, code):
        """Its content is the output, whichever way it is set."""
        prediction, _ = play([reply("paper", code)], task="logs, question -> who", style="paper")

        assert (prediction.who, prediction.run.stopped_by) == ("eve", "SUBMIT")
        assert prediction.run.steps[0].code == code  # what was written, and nothing of ours

    def test_it_grows_over_turns(self, play):
        """Until it is ready, the run goes on; a content that does not fit is refused like any other."""
        codes = [
            'answer["content"] = "eve"\nprint(answer["ready"])',
            'answer["ready"] = True',
            'answer["content"] = {"answer": answer["content"], "lines": [2]}',
        ]
        prediction, _ = play([reply("paper", code) for code in codes], style="paper")

        assert (prediction.answer, prediction.lines) == ("eve", [2])
        seen = [step.output for step in prediction.run.steps]
        assert seen[0] == "False"
        assert "TypeError: SUBMIT() is missing 'lines'" in seen[1]

    def test_other_code_is_left_alone(self, play):
        """A variable of this name, a syntax error and the other styles mean nothing new."""
        codes = ['answer = "ready"', 'answer["ready"] = (True', SUBMIT]
        prediction, _ = play([reply("paper", code) for code in codes], style="paper")
        seen = [step.output for step in prediction.run.steps]
        assert "'(' was never closed" in seen[1]
        assert "SUBMIT(" not in seen[1]

        code = 'answer = {"content": "eve", "ready": True}'
        prediction, _ = play([reply("default", code), reply("default", SUBMIT)])
        assert len(prediction.run.steps) == 2

    def test_an_input_of_that_name_keeps_it(self, play):
        """The inputs come first."""
        inputs, task = {"answer": "ready or not"}, "answer -> n: int"
        codes = ["print(answer)", "SUBMIT(1) if 'ready' in answer else None"]
        prediction, _ = play([reply("paper", code) for code in codes], inputs, task, style="paper")

        assert prediction.run.steps[0].output == "ready or not"
