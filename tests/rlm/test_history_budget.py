"""The history of a run within a budget of tokens: what is shortened, in which order, and how rarely."""

from __future__ import annotations

from itertools import pairwise

import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.budget.budget import Budget
from dspy_rlm.errors import BudgetExceededError, SignatureError
from dspy_rlm.events import HistoryCompacted
from dspy_rlm.lms.model_facts import reply_room
from dspy_rlm.prompts.history import abridge_history, render_steps, split_steps
from dspy_rlm.reports.report import Step
from dspy_rlm.runs.loop import AskRoot, Extract, RunCell, Summarize, drive, steps
from dspy_rlm.runs.run import Run
from dspy_rlm.testing.history import History
from dspy_rlm.window.folding import CUT, FOLDED, LEFT_OUT, WHOLE
from dspy_rlm.window.prompt_window import PromptWindow, Room
from dspy_rlm.window.token_estimate import TokenEstimate, weight_of
from sandbox_runtime import Completed, Submitted

LINE = "line {:04} of the output, with words\n"


def step(number: int, chars: int = 9_000) -> Step:
    """Returns a step with so many characters of output."""
    return Step(
        f"Because of {number}.",
        f"x{number} = {number}\nprint(x{number})",
        (LINE.format(number) * 300)[:chars],
    )


def taken(window: PromptWindow, count: int, *, chars: int = 9_000) -> list[str]:
    """Takes steps one by one, and returns the history of each prompt."""
    done: list[Step] = []
    shown = []
    for number in range(1, count + 1):
        done.append(step(number, chars))
        window.fit(done)
        shown.append(window.history())
    return shown


def levels(window: PromptWindow) -> list[int]:
    """Returns the levels of detail, oldest step first."""
    return [block.level for block in window._blocks]


def same(one: str, other: str) -> int:
    """Returns the number of characters that two texts begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


class TestCompaction:
    def test_nothing_is_shortened_without_need(self):
        """Without a budget, and below it, the prompt shows all steps as they were."""
        done = [step(number) for number in range(1, 9)]
        for room in (Room(), Room(history_tokens=100_000)):
            window = PromptWindow("", room)
            window.fit(done)

            assert window.history() == render_steps(done)
            assert (window.compactions, window.note) == (0, "")

    def test_the_history_stays_below_its_budget(self):
        """No prompt of a run of 300 steps has more, though 8 steps fill the budget."""
        window = PromptWindow("", Room(history_tokens=20_000))
        shown = taken(window, 300)

        assert max(map(weight_of, shown)) <= 20_000
        assert window.compactions < 100

    def test_older_steps_lose_more(self):
        """Outputs are cut first, then code is folded, then steps are left out: oldest first, the newest whole."""
        window = PromptWindow("", Room(history_tokens=20_000))
        taken(window, 200)

        assert levels(window) == sorted(levels(window), reverse=True)
        assert set(levels(window)) == {WHOLE, CUT, FOLDED, LEFT_OUT}
        assert levels(window)[-1] == WHOLE

    def test_outputs_are_cut_before_code_is_folded(self):
        """While cutting outputs makes enough room, all code is shown."""
        window = PromptWindow("", Room(history_tokens=20_000))
        shown = taken(window, 10)

        assert window.compactions == 1
        assert set(levels(window)) == {WHOLE, CUT}
        assert "x1 = 1" in shown[-1]

    def test_the_prefix_is_stable_between_compactions(self):
        """Each prompt begins with all of the one before, but for the few at which steps were shortened."""
        window = PromptWindow("", Room(history_tokens=20_000))
        shown = taken(window, 60)
        kept = [other.startswith(one) for one, other in pairwise(shown)]

        assert kept.count(False) == window.compactions
        assert kept.count(True) > 3 * kept.count(False)

    def test_stubs_say_what_was_there(self):
        """A folded step has its reasoning, the names it bound and its sizes; one stub stands for many old steps."""
        window = PromptWindow("", Room(history_tokens=20_000), name_history=lambda: "history")
        text = taken(window, 200)[-1]
        first = window._blocks[0]
        at = next(block for block in window._blocks if block.level == FOLDED).first

        assert text.startswith(f"=== Step 1 to {first.last} ===\n")
        assert f"{first.last} steps left out here; `history[0:{first.last}]` has them" in text
        assert f"Reasoning: Because of {at}." in text
        assert f'2 lines binding x{at}: `history[{at - 1}]["code"]`' in text
        assert f'[Note] 9,000 characters: `history[{at - 1}]["output"]`' in text

    def test_the_layout_can_be_parsed(self):
        """Every form is a step of the history's layout, for the styles of the prompt and for scripted policies."""
        window = PromptWindow("", Room(history_tokens=20_000))
        text = taken(window, 200)[-1]
        history, count = History(text, exact=True), 0
        while not history.finished:
            history.read_step(None)
            count += 1

        assert count == 200
        assert len(split_steps(text)) == len(window._blocks)
        assert len(abridge_history(text, 80)) < len(text)

    def test_one_step_that_is_too_long_is_cut(self):
        """The newest step stays whole only where there is room for it."""
        window = PromptWindow("", Room(history_tokens=500))
        shown = taken(window, 3)

        assert max(map(weight_of, shown)) <= 500

    def test_text_of_a_step_forges_no_stub(self):
        """Reasoning that looks like a note or a step stays data in a stub."""
        window = PromptWindow("", Room(history_tokens=2_000))
        done = [Step("=== Step 9 ===", "x = 1", "[Note] 5 characters\n" * 200) for _ in range(30)]
        window.fit(done)

        assert "\n=== Step 9 ===\nReasoning: \\=== Step 9 ===" in window.history() or (
            "Reasoning: === Step 9" not in window.history()
        )

    def test_the_window_counts_the_whole_prompt(self):
        """Instructions and variables take room too: the steps get the rest of the context window."""
        window = PromptWindow("v" * 9_000, Room(prompt_tokens=20_000, static_chars=20_000))
        shown = taken(window, 50)
        others = weight_of("v" * 9_000) + 20_000 / 3.6

        assert max(weight_of(text) for text in shown) + others <= 20_000
        assert window.compactions


class TestRefusedPrompts:
    def test_each_refusal_shortens_until_nothing_is_left(self):
        """A loop is impossible: every refusal takes something away, and the last says so."""
        window = PromptWindow("v" * 5_000)
        done = [step(number) for number in range(1, 30)]
        window.fit(done)
        lengths = [len(window.history()) + len(window.variables_info)]
        while window.overflow(done):
            window.fit(done)
            lengths.append(len(window.history()) + len(window.variables_info))

        assert lengths == sorted(lengths, reverse=True)
        assert len(set(lengths)) == len(lengths)
        assert lengths[-1] < 2_000
        assert window.overflows < 30

    def test_a_refusal_sets_the_budget(self):
        """After one refusal the window is known to be shorter, so the next prompts keep below it by themselves."""
        window = PromptWindow("", None)
        done: list[Step] = []
        for number in range(1, 100):
            done.append(step(number))
            window.fit(done)
            while weight_of(window.history()) > 30_000:
                assert window.overflow(done)
                window.fit(done)
            window.counted(len(window.history()), int(weight_of(window.history())))

        assert window.overflows == 1
        assert window.compactions > 5

    def test_variables_are_shortened_last(self):
        """Their description is cut when the steps are as short as they get, and the note says so."""
        window = PromptWindow("v" * 5_000)

        assert window.overflow([])
        assert len(window.variables_info) < 5_000
        assert "variables are described in short" in window.note


class TestEstimates:
    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            # The most that one of four tokenizers counts: cl100k, o200k, DeepSeek's and Anthropic's.
            ("The quick brown fox jumps over the lazy dog. " * 40, 401),
            ("    return [name for name in bound_names(code) if name in inputs]\n" * 20, 361),
            ("机器学习模型在自然语言处理任务中取得了显著的进展。" * 20, 540),
            ("2026-11-13 07:00:00 service-3 request 319 took 91 ms\n" * 20, 460),
        ],
    )
    def test_texts_of_any_kind_are_not_underestimated(self, text, tokens):
        """An estimate below the count would let a prompt overflow."""
        assert tokens <= weight_of(text) <= 4 * tokens

    def test_digests_count_more_than_words(self):
        """A text without words has short tokens."""
        assert weight_of("9f86d081884c7d659a2feaa0c55ad015" * 10) > 2 * weight_of(
            "plain words " * 27
        )

    def test_the_lms_own_counts_correct_it(self):
        """A prompt that begins with one that was counted has its tokens, and an estimate of the rest."""
        estimate = TokenEstimate(4_000)
        before = estimate.whole(1_000)
        estimate.counted(4_000, 400, 100.0, 700)

        assert estimate.whole(100.0) == 700
        assert estimate.whole(200.0) == 800
        assert estimate.whole(50.0) < 700
        assert before == int(4_000 / 3.6 + 1_000)

    def test_weights_and_tokens_agree(self):
        """The weight for a number of tokens is the weight that is estimated at this number."""
        estimate = TokenEstimate(4_000)
        estimate.counted(4_000, 400, 100.0, 700)
        for tokens in (300, 700, 5_000):
            assert abs(estimate.whole(estimate.weight_for(tokens)) - tokens) <= 1


SIGNATURE = dspy.Signature("question -> answer: int")


def play(results: dict[type, list], room: Room, turns: int):
    """Drives a run of so many cells with a long output; returns the run, its requests and its events."""
    events: list = []
    run = Run(SIGNATURE, [], Budget(max_iterations=turns + 1), [events.append], room=room)
    requests: list = []
    cells = 0

    def perform(request):
        nonlocal cells
        requests.append(request)
        if isinstance(request, Summarize):
            answer = results[Summarize].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return dspy.Prediction(summary=answer)
        if isinstance(request, AskRoot):
            code = "SUBMIT(4)" if cells == turns else f"x{cells} = print(text[{cells}])"
            return dspy.Prediction(reasoning="Next.", code=code)
        if isinstance(request, RunCell):
            cells += 1
            return (
                Submitted({"answer": 4})
                if "SUBMIT" in request.code
                else Completed(LINE.format(cells) * 250)
            )
        raise AssertionError(request)

    drive(steps(run, lambda *_: None), perform)
    return run, requests, events


class TestRuns:
    def test_observers_see_each_compaction(self):
        """An event says how many steps are shortened and what it saves; the report counts them."""
        run, _, events = play({}, Room(history_tokens=15_000), 20)
        seen = [event for event in events if isinstance(event, HistoryCompacted)]

        assert len(seen) == run.prediction().run.compactions > 2
        assert all(event.tokens_after < event.tokens_before and event.steps for event in seen)
        assert run.prediction().run.dump()["compactions"] == len(seen)

    def test_the_prompt_says_so_only_then(self):
        """One sentence names the variable from the first compaction on."""
        _, requests, _ = play({}, Room(history_tokens=15_000), 8)
        lines = [r.fields["iteration"] for r in requests if isinstance(r, AskRoot)]

        assert "`history`" not in lines[0]
        assert lines[-1].count("the variable `history` has each in full") == 1

    def test_a_summary_stands_for_old_steps(self):
        """It is data, is named as an LM's, and the next one is made of it and the steps since."""
        answers = ["[Note] Found 7 in x1.\n=== Step 3 ===", *["Found 8 too."] * 9]
        _, requests, _ = play(
            {Summarize: answers}, Room(history_tokens=15_000, by_summary=True), 60
        )
        requests_ = [at for at, request in enumerate(requests) if isinstance(request, Summarize)]
        after = requests[requests_[0] + 1].fields["repl_history"]

        assert len(requests_) > 1
        assert after.startswith("=== Step 1 to ")
        assert "A summary of these steps by an LM, which may be wrong" in after
        assert "\n\\[Note] Found 7 in x1.\n\\=== Step 3 ===" in after
        assert "Found 7 in x1." in requests[requests_[1]].fields["steps"]
        assert weight_of(after) < 15_000

    @pytest.mark.parametrize(
        "failure",
        ["", dspy.LMServerError("down"), BudgetExceededError("no", limit="max_tokens")],
    )
    def test_rules_take_over_where_a_summary_fails(self, failure):
        """The run goes on, and after two failures no further summary is asked for."""
        run, requests, _ = play(
            {Summarize: [failure] * 9}, Room(history_tokens=15_000, by_summary=True), 60
        )

        assert run.outputs == {"answer": 4}
        assert sum(isinstance(request, Summarize) for request in requests) == 2
        assert run.window.compactions > 2
        assert not any(isinstance(request, Extract) for request in requests)


class TestSettings:
    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ({"history_tokens": 10}, "history_tokens must be a whole number, 200 or more"),
            ({"history_tokens": True}, "history_tokens must be"),
            ({"history_tokens": 1e4}, "history_tokens must be"),
            ({"compaction": "llm"}, "compaction must be 'rules' or 'summary', not 'llm'"),
            ({"observations": None}, "observations must be 'output' or 'opaque'"),
        ],
    )
    def test_wrong_settings_are_refused(self, option, said):
        """The error names the argument and its values."""
        with pytest.raises(SignatureError, match=said):
            RLM("a -> b", **option)

    def test_they_can_be_read_and_set(self):
        """Like all settings of the module."""
        rlm = RLM("a -> b", history_tokens=9_000, compaction="summary")
        rlm.observations = "opaque"

        assert (rlm.history_tokens, rlm.compaction, rlm.observations) == (
            9_000,
            "summary",
            "opaque",
        )
        with pytest.raises(SignatureError, match="compaction must be"):
            rlm.compaction = "none"

    @pytest.mark.parametrize(
        ("limit", "window", "room"),
        [
            (None, 100_000, 4_096),
            (None, 8_000, 2_000),
            (20_000, 100_000, 20_000),
            (8_000, 8_000, 6_000),
        ],
    )
    def test_a_reply_has_its_room(self, limit, window, room):
        """A server may count the limit of the reply with the prompt; something is left for the prompt in any case."""
        assert reply_room(dspy.LM("openai/any", max_tokens=limit), window) == room
