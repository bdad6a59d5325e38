"""`RLM.session`: several calls in one REPL."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal

import pytest

from dspy_rlm import InputError, RunFailedError, SignatureError, TextFile, open_repl, replay
from dspy_rlm.journal.errors import JournalError
from dspy_rlm.testing import Action, Fault, scripted


def turns(*codes):
    """A root LM that plays one code in each turn, whatever the call; and the prompts that it gets."""
    moves, prompts = list(codes), []

    def play(prompt):
        prompts.append(str(prompt))
        return scripted(*[Action("", moves.pop(0))] * 5)(prompt)

    return play, prompts


@pytest.fixture
def pool(kept):
    """The pool whose sandboxes are used again, for tests that leave them sound."""
    return kept


class TestKept:
    """The inputs and the variables of a call are there in the next."""

    def test_variables_and_functions_stay(self, play, pool):
        root, prompts = turns(
            "words = docs.split()\ndef longest():\n    return max(words, key=len)\nSUBMIT(len(words))",
            "SUBMIT(longest())",
        )
        rlm, _ = play("docs, q -> answer", root, pool=pool)

        with rlm.session(docs="one three five") as ask:
            assert ask(q="How many?").answer == "3"
            assert ask(q="Which?").answer == "three"

        assert "words: list of str, 3 items" not in prompts[0]
        assert "words: list of str, 3 items" in prompts[1]
        assert "longest: function" in prompts[1]
        assert "docs: str, 14 characters" not in prompts[1]

    def test_each_call_has_its_own_report_and_budget(self, play, pool):
        rlm, _ = play(
            "docs, q -> answer",
            turns(*["SUBMIT(sub_llm('x'))"] * 2)[0],
            sub=lambda _: "yes",
            pool=pool,
            max_llm_calls=1,
        )
        with rlm.session(docs="x") as ask:
            runs = [ask(q=q).run for q in "ab"]

        assert [(run.status, run.iterations, run.llm_calls) for run in runs] == [
            ("submitted", 1, 1)
        ] * 2

    def test_an_output_of_an_earlier_call_is_gone(self, play, pool):
        rlm, _ = play(
            "docs, q -> answer",
            turns("answer = 'old'\nSUBMIT(answer)", "SUBMIT(str('answer' in globals()))")[0],
            pool=pool,
        )
        with rlm.session(docs="x") as ask:
            ask(q="a")
            assert ask(q="b").answer == "False"

    def test_an_input_that_a_cell_binds_anew_is_sent_again(self, play, pool):
        rlm, _ = play(
            "docs, rows: list[int], q -> answer",
            turns("docs = 'other'\nrows.append(4)\nSUBMIT(docs)", "SUBMIT(f'{docs} {rows}')")[0],
            pool=pool,
        )
        with rlm.session(docs="x", rows=[1]) as ask:
            ask(q="a")
            assert ask(q="b").answer == "x [1]"

    def test_a_file_is_readable_in_each_call(self, play, pool, tmp_path):
        path = tmp_path / "log.txt"
        path.write_text("first\nsecond\n")
        code = "SUBMIT(docs.splitlines()[int(q)])"
        rlm, _ = play("docs, q -> answer", turns(code, code)[0], pool=pool)
        with rlm.session(docs=TextFile(path)) as ask:
            assert [ask(q=q).answer for q in "01"] == ["first", "second"]

    def test_an_input_of_a_call_replaces_that_of_the_session_once(self, play, pool):
        rlm, _ = play("docs, q -> answer", turns(*["SUBMIT(docs)"] * 3)[0], pool=pool)
        with rlm.session(docs="mine") as ask:
            answers = [ask(q="a").answer, ask(q="b", docs="other").answer, ask(q="c").answer]
        assert answers == ["mine", "other", "mine"]

    def test_sub_runs_have_a_sandbox_of_their_own(self, play, pool):
        rlm, _ = play(
            "docs, q -> answer",
            turns(
                "secret = 1\nSUBMIT(sub_rlm('q -> answer', q='x').answer)",
                "SUBMIT(str(sorted(set(globals()) & {'secret'})))",
            )[0],
            sub=scripted(Action("", "SUBMIT(str('secret' in globals()))")),
            pool=pool,
        )
        with rlm.session(docs="x") as ask:
            assert ask(q="a").answer == "False"
            assert ask(q="b").answer == "['secret']"


class TestRecorded:
    """The journal of a later call has the REPL that it began with."""

    CALLS = ("words = docs.split()\nSUBMIT('a')", "words.append(q)\nSUBMIT(' '.join(words))")

    @pytest.mark.nightly  # three runs, one of them in a process of its own
    def test_it_can_be_repeated_alone(self, play, fresh, tmp_path):
        rlm, _ = play("docs, q -> answer", turns(*self.CALLS)[0], pool=fresh, journal=tmp_path)
        with rlm.session(docs="one two") as ask:
            ask(q="x")
            path = ask(q="three").run.journal

        with open_repl(path, step=1) as repl:
            assert repl.run("words").output == "['one', 'two', 'three']\n"
        repeated = replay(path)
        assert repeated.same, repeated
        assert repeated.steps == 1

    def test_it_is_refused_where_the_variables_were_not_saved(self, play, fresh, tmp_path):
        rlm, _ = play(
            *("docs, q -> answer", turns(*self.CALLS)[0]),
            pool=fresh,
            journal=tmp_path,
            checkpoints="never",
        )
        with rlm.session(docs="one two") as ask:
            ask(q="x")
            path = ask(q="three").run.journal

        with pytest.raises(JournalError, match="variables of earlier calls"):
            replay(path)


class TestEnds:
    """A session outlives failures, and nothing outlives a session."""

    def test_a_sandbox_that_has_died_comes_back(self, play, pool):
        """Its variables come back as in a run whose process dies."""
        rlm, _ = play(
            "docs, q -> answer",
            turns("kept = 1\nSUBMIT('a')", "SUBMIT(docs + str(kept))")[0],
            pool=pool,
        )
        with rlm.session(docs="x") as ask:
            ask(q="a")
            os.kill(ask._pool._session.pid, signal.SIGKILL)
            assert ask(q="b").answer == "x1"

    def test_a_session_that_is_lost_is_opened_again(self, play, pool):
        """The prompt lists no variables that are gone."""
        root, prompts = turns("kept = 1\nSUBMIT('a')", "SUBMIT(docs + str('kept' in globals()))")
        rlm, _ = play("docs, q -> answer", root, pool=pool)
        with rlm.session(docs="x") as ask:
            ask(q="a")
            ask._pool._session.close()
            assert ask(q="b").answer == "xFalse"
        assert "kept: int" not in prompts[1]

    def test_variables_that_could_not_come_back_are_reported(self, play, fresh):
        """The prompt was written before; so the first output says that what it lists is gone."""
        root, prompts = turns(
            "from pyodide.ffi import create_proxy\nheld = create_proxy(lambda: 1)\n"
            "import time\nkept = sub_llm(str(time.time_ns()))\nSUBMIT('a')",  # neither saved nor repeated
            "print('kept' in globals())",
            "SUBMIT(docs)",
        )
        rlm, _ = play("docs, q -> answer", root, pool=fresh, sub=lambda _: "y")
        with rlm.session(docs="x") as ask:
            ask(q="a")
            os.kill(ask._pool._session.pid, signal.SIGKILL)
            assert ask(q="b").answer == "x"

        assert "kept: str" in prompts[1]
        assert "everything else that cells defined is gone" in prompts[2]

    def test_a_session_that_died_for_good_is_reported(self, play, fresh, tmp_path):
        """A sandbox that cannot be started again is replaced by another, and the first output says so."""
        root, prompts = turns("kept = 1\nSUBMIT('a')", "print('kept' in globals())", "SUBMIT(docs)")
        rlm, _ = play("docs, q -> answer", root, pool=fresh)
        with rlm.session(docs="x") as ask:
            ask(q="a")
            process = ask._pool._session._line._process
            process.engine = dataclasses.replace(process.engine, deno=tmp_path / "missing")
            os.kill(process.pid, signal.SIGKILL)
            assert ask(q="b").answer == "x"

        assert "kept: int" in prompts[1]
        assert "The sandbox of the earlier calls is gone" in prompts[2]

    def test_a_failed_call_keeps_the_repl(self, play, pool):
        rlm, server = play(
            "docs, q -> answer", turns("kept = 1", "SUBMIT(str(kept))")[0], pool=pool
        )
        with rlm.session(docs="x") as ask:
            server.fail("root", Fault(status=401, message="Bad key", after=1))
            with pytest.raises(RunFailedError):
                ask(q="a")
            assert ask(q="b").answer == "1"

    def test_a_call_after_the_end(self, play, pool):
        rlm, _ = play("docs, q -> answer", "SUBMIT('a')", pool=pool)
        with rlm.session(docs="x") as ask:
            ask(q="a")
        with pytest.raises(InputError, match="This session is closed"):
            ask(q="b")

    def test_unknown_inputs_are_refused_at_once(self, play, pool):
        rlm, _ = play("docs, q -> answer", pool=pool)
        with pytest.raises(
            InputError, match=re.escape("'doc' is no input of this signature. Its inputs: docs, q.")
        ):
            rlm.session(doc="x")

    def test_an_interpreter_of_the_caller_is_refused(self, play, pool):
        rlm, _ = play("docs, q -> answer", interpreter_factory=lambda: None)
        with pytest.raises(SignatureError, match="needs the sandbox of dspy_rlm"):
            rlm.session(docs="x")

    def test_missing_inputs_are_named_by_the_call(self, play, pool):
        rlm, _ = play("docs, q -> answer", pool=pool)
        with rlm.session(docs="x") as ask, pytest.raises(InputError, match="q"):
            ask()

    def test_no_process_is_left(self, play, fresh, deno_children):
        rlm, _ = play("docs, q -> answer", "SUBMIT('a')", pool=fresh)
        with rlm.session(docs="x") as ask:
            ask(q="a")
            kept = ask._pool._session.pid
            assert kept in deno_children()
        assert kept not in deno_children()


class TestAsync:
    """Asynchronous calls share the REPL too."""

    def test_calls_take_turns(self, play, pool):
        rlm, _ = play("docs, q -> answer", turns(*["SUBMIT('a')"] * 2)[0], pool=pool)

        async def both():
            async with rlm.session(docs="x") as ask:
                results = await asyncio.gather(
                    ask.acall(q="a"), ask.acall(q="b"), return_exceptions=True
                )
                return [*results, await ask.acall(q="c")]

        first, second, third = asyncio.run(both())
        assert first.answer == third.answer == "a"
        assert isinstance(second, InputError)
        assert "take turns" in str(second)
