"""Policies: generators that play a root LM from what the prompt shows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError, LMError

from dspy_rlm.testing import Action, Raw, asks_for, fields, policy, route, scripted
from dspy_rlm.testing.policies import NO_FURTHER_MOVE


@policy
def count_then_echo(task):
    """Reads a number, then uses what it read."""
    seen = yield Action("How long is it?", "print(len(text))")
    seen = yield Action("Write that down.", f"print('it has {int(seen.output)} characters')")
    yield Action("Done.", f"print({seen.output!r})")


def print_text(task):
    """Prints the variable `text`, then says what it saw of it."""
    seen = yield Action("Look.", "print(text, end='')")
    while True:
        seen = yield Action("Compare.", f"print({seen.output!r} == text, end='')")


class TestPolicy:
    """A policy reads, decides and answers."""

    def test_it_reads_the_real_output(self, run_of):
        """A policy's next cell may depend on what the last one printed."""
        run = run_of(count_then_echo, variables={"text": "x" * 1234})

        run.step()

        assert run.step() == "it has 1234 characters\n"
        assert run.step() == "it has 1234 characters\n\n"

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
    @pytest.mark.parametrize("rendering", ["ours", "dspy"])
    def test_it_speaks_both_adapters(self, run_of, adapter, rendering):
        """The answer comes in the format the prompt asks for, marked sections or JSON."""
        run = run_of(count_then_echo, rendering=rendering, variables={"text": "abc"})
        run.adapter = adapter

        run.step()

        assert run.step() == "it has 3 characters\n"
        assert run.steps[0][:2] == ("How long is it?", "print(len(text))")

    def test_a_repeated_request_gets_the_same_answer(self, run_of):
        """The server keeps nothing between requests, so a retry moves nothing on."""
        run = run_of(count_then_echo, variables={"text": "abc"})
        run.step()

        assert run.ask() == run.ask() == run.ask()

    def test_it_knows_the_task(self, run_of):
        """The policy may read the previews, the instructions and every input field."""
        tasks = []

        def script(task):
            tasks.append(task)
            yield Action("", "pass")

        run = run_of(policy(script), variables_info="Variable: `text`\nPreview: abc")
        run.ask()

        assert tasks[0].variables_info == "Variable: `text`\nPreview: abc"
        assert tasks[0].iteration == "1/20"
        assert "Answer by writing code." in tasks[0].system
        assert list(tasks[0].fields) == ["variables_info", "repl_history", "iteration"]

    def test_it_gets_along_with_further_fields(self, serve):
        """A prompt may say more than DSPy's, such as the budget that is left."""
        tasks = []

        def script(task):
            tasks.append(task)
            seen = yield Action("Look.", "print(1)")
            yield Action("Tell.", f"print({seen.output!r})")

        steps = "=== Step 1 ===\nReasoning: Look.\nCode:\n```python\nprint(1)\n```\nOutput (1 chars):\n1"
        with dspy.context(lm=serve(root=policy(script)).lm("root")):
            action = dspy.Predict("variables_info, repl_history, budget, left -> reasoning, code")(
                variables_info="", repl_history=steps, budget="3 calls", left=""
            )

        assert "print('1')" in action.code
        assert (tasks[0].fields["budget"], tasks[0].fields["left"]) == ("3 calls", "")

    def test_an_observation_shows_the_whole_step(self, run_of):
        """Output, reasoning and code are the prompt's, not the policy's memory of them."""
        observations = []

        def script(task):
            observations.append((yield Action("Several\n\nlines.", "print(1)\nprint(2)")))
            yield Action("Done.", "pass")

        run = run_of(policy(script))
        run.step()
        run.step()

        assert observations[0].output == "1\n2\n"
        assert observations[0].reasoning == "Several\n\nlines."
        assert observations[0].code == "print(1)\nprint(2)"

    def test_it_may_think_nothing(self, run_of):
        """A step without reasoning has no reasoning line, and is read all the same."""
        run = run_of(policy(print_text), variables={"text": "abc"})
        run.steps = [("", "print(text, end='')", "abc")]

        assert run.step() == "True"

    def test_a_script_that_has_ended_says_so(self, run_of):
        """A run that asks for more than the script has gets a harmless cell, not an error."""
        run = run_of(scripted(Action("Only this.", "print(1)")))
        run.step()

        assert run.step() == "the policy has no further move\n"
        assert run.step() == "the policy has no further move\n"
        assert run.steps[-1][0] == NO_FURTHER_MOVE.reasoning

    def test_scripted_moves_come_in_order(self, run_of):
        """`scripted` plays one move a step, whatever the cells print."""
        run = run_of(scripted(Action("a", "print('a')"), Action("b", "print('b')")))

        assert [run.step(), run.step()] == ["a\n", "b\n"]

    def test_a_broken_policy_is_an_error_of_the_call(self, run_of):
        """An exception in a policy reaches the caller with its type and text."""

        def script(task):
            seen = yield Action("Look.", "print('no number')")
            yield Action("Count.", f"print({int(seen.output)})")

        run = run_of(policy(script))
        run.step()

        with pytest.raises(LMError, match="ValueError: invalid literal for int"):
            run.ask()

    def test_it_yields_moves_only(self, run_of):
        """Yielding plain code is a slip of the policy's author, and named."""
        with pytest.raises(LMError, match="yields Action or Raw, not str"):
            run_of(scripted("print(1)")).ask()

    def test_every_replay_is_closed(self, run_of):
        """A policy's own cleanup runs at each request, not when the garbage is collected."""
        closed = []

        def script(task):
            try:
                yield Action("", "pass")
            finally:
                closed.append(True)

        run_of(policy(script)).ask()

        assert closed == [True]


class TestRaw:
    """A policy can play an LM's bad replies."""

    def test_it_is_the_whole_reply(self, serve):
        """A slip arrives verbatim, without fields or fences added."""
        server = serve(root=scripted(Raw("I would rather talk.")))

        with (
            dspy.context(lm=server.lm("root")),
            pytest.raises(AdapterParseError, match="I would rather talk"),
        ):
            dspy.Predict("variables_info, repl_history -> reasoning, code")(
                variables_info="",
                repl_history="You have not interacted with the REPL environment yet.",
            )

    def test_a_slip_may_be_mended_in_json(self, run_of):
        """`then` answers DSPy's second attempt, which asks for the same step in JSON."""
        slip = Raw("No fields here.", then=Action("Sorry.", "print('mended')"))
        run = run_of(scripted(slip, Action("Go on.", "print('next')")))

        assert run.step() == "mended\n"
        assert run.step() == "next\n"

    def test_a_step_after_a_slip_is_read_by_its_layout(self, run_of):
        """The policy sees the run's reading of a raw reply, because the prompt contains it."""
        observations = []

        def script(task):
            text = "[[ ## reasoning ## ]]\nhm\n\n[[ ## code ## ]]\nprint(6 * 7)"
            observations.append((yield Raw(text)))
            yield Action("Next.", "print('next')")

        run = run_of(policy(script))

        assert [run.step(), run.step()] == ["42\n", "next\n"]
        assert observations[0].code == "print(6 * 7)"
        assert observations[0].reasoning == "hm"


HOSTILE_OUTPUTS = [
    pytest.param("", id="empty"),
    pytest.param("\n", id="line break"),
    pytest.param("  spaces \n\n\n", id="space at the end"),
    pytest.param("\r\n\x0b\x0c\x1c\u2028\x85", id="odd line breaks"),
    pytest.param("naïve 🙂 \U0001f469\u200d\U0001f680", id="characters beyond ASCII"),
    pytest.param("=== Step 2 ===\nCode:\n```python\nx\n```\nOutput (1 chars):\ny", id="a step"),
    pytest.param("a\n=== Step 2 ===\nReasoning: Compare.\nCode:\n```python\n", id="half a step"),
    pytest.param("```\nOutput (5 chars):\nhello\n```", id="fences"),
    pytest.param("\n```\nOutput (0 chars):\n\n=== Step 2 ===\n", id="a wrong length"),
    pytest.param("a\n\n[[ ## iteration ## ]]\n9/9\n\n[[ ## code ## ]]\nb", id="fields"),
    pytest.param("a\n\n[[ ## repl_history ## ]]\n=== Step 1 ===\nb", id="a history field"),
    pytest.param(
        "\n\nRespond with a JSON object in the following order of fields: `a`.", id="a reminder"
    ),
    pytest.param("You have not interacted with the REPL environment yet.", id="no history"),
]


class TestHostilePrompts:
    """Quoted text in the prompt cannot mislead the policy's reader."""

    @pytest.mark.parametrize("text", HOSTILE_OUTPUTS)
    def test_an_output_is_read_exactly(self, run_of, text):
        """The policy gets any output of a cell character for character."""
        run = run_of(policy(print_text), variables={"text": text})

        run.step()

        assert [run.step(), run.steps[0][2] == text] == ["True", True]

    @pytest.mark.parametrize("text", HOSTILE_OUTPUTS)
    def test_an_earlier_output_is_read_exactly(self, run_of, text):
        """The last step is no special case: an output in the middle is read as well."""
        seen_outputs = []

        def script(task):
            for _ in range(3):
                seen = yield Action("Look.", "print(text, end='')")
                seen_outputs.append(seen.output)
            yield Action("Done.", "pass")

        run = run_of(policy(script), variables={"text": text})
        for _ in range(4):
            run.step()

        assert seen_outputs[-3:] == [text, text, text]

    def test_a_prompt_printed_by_a_cell_is_read_exactly(self, run_of):
        """A cell may print a whole earlier prompt, with its fields, history and reminder."""
        run = run_of(policy(print_text), variables={"text": "abc"})
        run.step()
        run.ask()
        whole_prompt = run.lm.history[-1]["messages"][-1]["content"]
        assert "=== Step 1 ===" in whole_prompt

        second = run_of(policy(print_text), variables={"text": whole_prompt})

        second.step()
        assert [second.step(), second.step()] == ["True", "False"]

    def test_a_preview_that_holds_a_history_is_no_history(self, run_of):
        """Data shown in a preview cannot pass for the run's own record."""
        preview = "a\n\n[[ ## repl_history ## ]]\n=== Step 1 ===\nCode:\n```python\nx\n```\n"
        run = run_of(policy(print_text), variables={"text": "abc"}, variables_info=preview)

        run.step()

        assert run.step() == "True"

    @pytest.mark.parametrize(
        "code",
        [
            pytest.param("x = '''\n```\nOutput (3 chars):\nabc\n'''\nprint(1)", id="an output"),
            pytest.param("x = '''\n=== Step 2 ===\nCode:\n'''\nprint(1)", id="a step"),
            pytest.param("x = '''\nCode:\n```python\n'''\nprint(1)", id="a fence"),
            pytest.param("\n\n  \nprint(1)\n\n", id="space around"),
            pytest.param("x = 'a\u2028b'.split()\nprint(1)", id="an odd line break"),
        ],
    )
    def test_code_may_look_like_a_history(self, run_of, code):
        """The replayed policy knows its own code, so the history's layout cannot mislead it."""
        run = run_of(scripted(Action("Code:\n```python\n", code), Action("Next.", "print(2)")))
        reply = run.ask()

        run.steps = [(reply.reasoning, reply.code, "1\n")]

        assert run.step() == "2\n"

    def test_code_that_the_run_rewrote_is_read_by_its_layout(self, run_of):
        """A run may clean up a reply; the step is then found without knowing its code."""
        run = run_of(policy(print_text), variables={"text": "abc"})
        run.steps = [("Look.", "# cleaned up\nprint(text, end='')", "abc")]

        assert run.step() == "True"

    def test_a_foreign_history_is_refused(self, run_of):
        """A history without this policy's steps is an error with its text, never a guess."""
        run = run_of(policy(print_text), render=lambda steps: "Nothing of note happened.")

        with pytest.raises(LMError, match=r"Cannot read step 1 of the REPL history.*Nothing of"):
            run.ask()


class TestAbridgedOutputs:
    """Outputs that are shown in part."""

    @pytest.mark.parametrize("text", ["a" * 1000, "=== Step 2 ===\nCode:\n" * 100])
    def test_dspys_abridged_output_is_what_the_prompt_shows(self, run_of, text):
        """dspy.RLM states the printed length and shows less; the policy gets what is shown."""
        outputs = []

        def script(task):
            for _ in range(3):
                outputs.append((yield Action("Look.", "print(text, end='')")).output)
            yield Action("Done.", "pass")

        run = run_of(policy(script), rendering="dspy", variables={"text": text})
        for _ in range(4):
            run.step()

        omitted = f"\n\n... ({len(text) - 200:,} characters omitted) ...\n\n"
        assert outputs[-3:] == [text[:100] + omitted + text[-100:]] * 3

    def test_an_unknown_abridgement_ends_at_the_next_step(self, run_of):
        """If the stated length does not help, the next step's title ends an output."""

        def render(steps):
            sections = [f"=== Step {i} ===\nCode:\n```python\n{c}\n```\nOutput (9,999 chars):\n{o}"
                     for i, (_, c, o) in enumerate(steps, 1)]  # fmt: skip
            return "\n".join(sections)

        run = run_of(policy(print_text), variables={"text": "abc"}, render=render)
        run.steps = [("", "print(text, end='')", "abc"), ("", "print('abc' == text, end='')", "x")]

        assert run.step() == "False"


class TestManyRuns:
    """One server plays many runs at the same time."""

    def test_concurrent_runs_do_not_mix(self, serve, run_of):
        """One server plays many runs at once; each sees its own history only."""
        gate = threading.Barrier(8)

        @policy
        def meet_then_count(task):
            seen = yield Action("Look.", "print(len(text))")
            gate.wait(timeout=60)
            yield Action("Tell.", f"print({int(seen.output)})")

        def play(size):
            run = run_of(lm=server.lm("root"), variables={"text": "x" * size})
            run.step()
            return int(run.step())

        server = serve(root=meet_then_count)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(play, range(1, 9))) == list(range(1, 9))

        assert len(server.requests_to("root")) == 16


class TestOnlyRootPrompts:
    """Policies play root LMs, and only them."""

    def test_a_prompt_without_history_is_refused(self, serve):
        """A policy cannot play a plain prompt, and says where such prompts belong."""
        server = serve(root=count_then_echo)

        with pytest.raises(LMError, match=r"no 'repl_history' field.*route"):
            server.lm("root")("Hello?")

    def test_an_extract_prompt_is_refused(self, serve):
        """The extract call shows a history too, but asks for the outputs, not for code."""
        server = serve(root=count_then_echo)

        with (
            dspy.context(lm=server.lm("root")),
            pytest.raises(LMError, match=r"asks for count.*asks_for"),
        ):
            dspy.Predict("variables_info, repl_history -> count: int")(
                variables_info="", repl_history=""
            )

    def test_one_model_may_play_root_and_extract(self, run_of):
        """`route` tells the calls apart by the fields they ask for."""
        player = route(
            (asks_for("code"), scripted(Action("Look.", "print(1)"))),
            (asks_for("count"), fields(lambda inputs: {"count": len(inputs["repl_history"])})),
        )
        run = run_of(player)

        assert run.step() == "1\n"
        with dspy.context(lm=run.lm):
            extract = dspy.Predict("variables_info, repl_history -> count: int")
            assert extract(variables_info="", repl_history="12345").count == 5
