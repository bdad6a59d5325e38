"""`dspy-rlm optimize`: the score rises, costs are bounded and said first, and nothing is paid twice.

The LMs are the scripted policies of `benchmarks.counting`: scores say what reaches the prompt, nothing about an LM.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dspy
import pytest
from command_line import COMMAND, Run, environment

import dspy_rlm
from benchmarks.counting import KEYWORD, make_server
from dspy_rlm.cli.exit_codes import CommandError
from dspy_rlm.cli.optimizing.metrics import explained, likeness
from dspy_rlm.cli.optimizing.plan import divided, planned
from dspy_rlm.cli.optimizing.purse import Purse, PurseEmptyError, counted
from dspy_rlm.comparing.intervals import compared
from dspy_rlm.testing import Action, Fault, PolicyServer, scripted

PROGRAM = """\
import dspy
import dspy_rlm

signature = dspy.Signature("log: str -> count: int", "Count the errors in the log.")
rlm = dspy_rlm.RLM(signature, interpreter_factory=dspy.LocalInterpreter, max_iterations=3)


def metric(example, prediction):
    return prediction.count == example.count
"""


def example(errors: int, kind: str) -> str:
    """Returns a line of a trainset."""
    return json.dumps({"log": f"{kind} log\n" + "ERROR\n" * errors, "count": errors})


@pytest.fixture
def counting(folder: Path, run_here: Run) -> Iterator[PolicyServer]:
    """A server whose root LM needs help, a program, and examples in the folder."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "train.jsonl").write_text(
        "\n".join(example(n, "easy" if n % 2 else "hard") for n in range(1, 7))
    )
    (folder / "held.jsonl").write_text(
        "\n".join(example(n, "easy" if n % 2 else "hard") for n in (11, 12, 14))
    )
    with make_server() as server:
        yield server


def options(server: PolicyServer, *more: str) -> list[str]:
    """Returns the arguments of an optimization with this server."""
    return [
        "optimize", "program.py:rlm", "--trainset", "train.jsonl", "--holdout", "held.jsonl",
        "--model", "openai/root", "--reflection-model", "openai/replace", "--api-base", server.base_url,
        "--threads", "1", "--max-runs", "25", *more,
    ]  # fmt: skip


class TestPurse:
    """What a run has cost and nobody knows counts as the most that it may have been."""

    CODE = "try:\n    sub_llm('one word')\nexcept Exception:\n    pass\nSUBMIT(answer='x')"

    @pytest.fixture
    def server(self) -> Iterator[PolicyServer]:
        models = {"root": scripted(Action("Ask.", self.CODE)), "sub": lambda _: "!"}
        with PolicyServer(models) as server:
            yield server

    @pytest.fixture
    def rlm(self, server: PolicyServer) -> dspy_rlm.RLM:
        """An RLM whose runs cost about a tenth of a dollar, with 100 dollars for a million tokens."""
        rlm = dspy_rlm.RLM(
            "q -> answer: str",
            interpreter_factory=dspy.LocalInterpreter,
            sub_lm=server.lm("sub", max_tokens=20),
            prices={"root": (100.0, 100.0), "sub": (100.0, 100.0)},
            max_cost=0.6,
        )
        rlm.set_lm(server.lm("root", max_tokens=200))
        return rlm

    def test_a_lost_answer_counts_at_its_bound(self, server, rlm, tmp_path):
        """The sum of all bounds stays within the limit, and the next process begins with it."""
        server.fail("sub", Fault(status=504, message="gateway timeout", times=None))
        purse = Purse(2.0, tmp_path / "spent.jsonl")
        module, runs = counted(rlm, purse), []

        with contextlib.suppress(PurseEmptyError):
            runs.extend(module(q=str(number)).run for number in range(100))

        assert purse.refused == 1
        assert {run.cost for run in runs} == {None}
        assert purse.spent == pytest.approx(sum(run.cost_at_most for run in runs))
        assert 2.0 - 0.6 < purse.spent <= 2.0
        assert Purse(2.0, tmp_path / "spent.jsonl").before == pytest.approx(purse.spent)

    def test_without_a_bound_all_that_was_reserved_counts(self, tmp_path):
        """Also of a run that failed without a report."""
        purse = Purse(1.0, tmp_path / "spent.jsonl")

        class Failing(dspy_rlm.RLM):
            def forward(self, /, *arguments, **inputs):
                raise RuntimeError("no report")

        module = counted(Failing("q -> answer", max_cost=0.4), purse)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                module.forward(q="?")
        with pytest.raises(PurseEmptyError):
            module.forward(q="?")

        assert purse.spent == pytest.approx(0.8)
        assert (purse.failed, purse.refused) == (2, 1)

    def test_a_wrong_input_costs_nothing(self, rlm, tmp_path):
        """No LM was called."""
        purse = Purse(1.0, tmp_path / "spent.jsonl")

        with pytest.raises(dspy_rlm.InputError):
            counted(rlm, purse)(nothing="?")

        assert purse.spent == 0.0

    def test_once_nothing_bounds_an_amount_the_purse_is_empty(self, tmp_path):
        """The limit could not be kept. Without a limit, runs go on."""
        limited, free = Purse(1.0, tmp_path / "a"), Purse(None, tmp_path / "b")
        for purse in (limited, free):
            purse.ended(None)

        assert (limited.spent, limited.is_empty) == (None, True)
        with pytest.raises(PurseEmptyError), limited.run(0.01):
            pass
        assert not free.is_empty


class TestOptimize:
    def test_gepa(self, counting, run_here):
        """The score on examples that the optimizer has not seen rises; the state works in `run --state`; resuming is free."""
        done = run_here(*options(counting, "--json"))
        result = json.loads(done.stdout)
        sent = len(counting.requests)

        assert done.returncode == 0, done.stderr
        assert (result["before"]["mean"], result["after"]["mean"]) == (pytest.approx(1 / 3), 1.0)
        assert result["difference"]["mean"] == pytest.approx(2 / 3)
        assert result["scores"] == [[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
        assert result["runs"] <= 25 + 6
        assert KEYWORD in result["instructions"]
        assert "runs:      at most 31: 25 of the optimizer, 6 to measure" in done.stderr

        Path("log.txt").write_text("hard log\nERROR\nERROR\n")
        model = ["--model", "openai/root", "--api-base", counting.base_url]
        state = ["--state", "optimized.json", "--log", "@log.txt"]
        assert run_here("run", "program.py:rlm", *model, *state).stdout == "2\n"

        sent = len(counting.requests)
        again = run_here(*options(counting, "--plain"))
        assert "  5 of at most 25 runs, mean of the last 5: " in again.stderr
        assert "dspy.evaluate" not in again.stderr
        assert again.returncode == 0, again.stderr
        assert len(counting.requests) == sent
        assert "  difference +0.67  [+0.00, +1.00]" in again.stdout
        assert "includes 0: these examples do not show that it is better" in again.stdout

    @pytest.mark.nightly
    def test_mipro(self, counting, run_here):
        """MIPROv2 does the same, with a metric of the user's."""
        done = run_here(
            *options(
                counting,
                "--json",
                "--optimizer",
                "mipro",
                "--metric",
                "program.py:metric",
                "--max-runs",
                "40",
            )
        )
        result = json.loads(done.stdout)

        assert done.returncode == 0, done.stderr
        assert (result["before"]["mean"], result["after"]["mean"]) == (pytest.approx(1 / 3), 1.0)
        assert result["runs"] <= 40 + 6

    def test_a_dry_run_sends_nothing(self, counting, run_here):
        """The examples, the runs and the most that they could cost, as text and as JSON; also for a signature alone."""
        price = [
            "--price",
            "openai/root=1,2",
            "--price",
            "openai/replace=1,2",
            "--max-tokens",
            "5000",
            "--max-llm-calls",
            "0",
        ]
        done = run_here(*options(counting, "--dry-run", *price, "--max-total-cost", "0.5"))
        plan = json.loads(run_here(*options(counting, "--dry-run", "--json")).stdout)
        arguments = options(counting, "--dry-run")
        arguments[1:2] = ["--sig", "log -> count: int"]
        bare = run_here(*arguments)

        assert done.returncode == bare.returncode == 0, done.stderr + bare.stderr
        assert "6 to learn from, 6 to choose by (the same ones), 3 held out" in done.stdout
        assert "a run:     at most $0.01" in done.stdout
        assert "cost:      at most $0.50" in done.stdout
        assert plan["cost"] is None
        assert "the price of openai/root" in plan["unknown"]
        assert counting.requests == []

    @pytest.mark.nightly  # optimizes a program; `test_gepa` is the same path
    def test_the_limit_of_all_holds(self, counting, run_here):
        """`--max-total-cost` ends the optimizer, and keeps enough for the second measurement."""
        price = ["--price", "openai/root=1,2", "--price", "openai/replace=1,2"]
        whole = json.loads(run_here(*options(counting, "--json", *price, "--folder", "one")).stdout)
        limit = whole["cost"] / 2
        more = ["--json", *price, "--folder", "two", "--max-total-cost", str(limit)]
        done = run_here(*options(counting, *more))
        result = json.loads(done.stdout)
        poor = run_here(
            *options(counting, *price, "--folder", "three", "--max-total-cost", "0.0001")
        )

        assert whole["cost"] > 0
        assert 0 < result["cost"] <= limit
        assert result["limit_reached"] or result["runs"] < whole["runs"]
        assert (poor.returncode, poor.stdout) == (4, "")
        assert "does not hold the first measurement" in poor.stderr

    @pytest.mark.nightly
    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child")
    def test_ctrl_c_loses_nothing(self, counting, folder, run_here):
        """After Ctrl-C, the same command pays only for what was not answered."""
        begun, numbers = threading.Event(), itertools.count(1)

        def is_the_15th(request: object) -> bool:
            if next(numbers) != 15:
                return False
            begun.set()
            return True

        counting.fail("root", Fault(delay_seconds=60.0, only=is_the_15th))
        child = subprocess.Popen(
            [*COMMAND, *options(counting)],
            cwd=folder,
            env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with child:
            assert begun.wait(60)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
        first = len(counting.requests)
        done = run_here(*options(counting))
        both = len(counting.requests)

        assert (child.returncode, out) == (130, ""), err
        assert "The same command continues from there" in err
        assert "Traceback" not in err
        assert done.returncode == 0, done.stderr
        run_here(*options(counting, "--folder", "afresh"))
        assert both - first <= len(counting.requests) - both - 13


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "code", "message"),
        [
            ({"program.py:rlm": "program.py"}, 2, "Name the RLM after the file: program.py:rlm."),
            ({"program.py:rlm": "nothing.py:rlm"}, 10, "There is no file 'nothing.py'"),
            ({"train.jsonl": "nothing.jsonl"}, 10, "Cannot read nothing.jsonl"),
            ({"train.jsonl": "broken.jsonl"}, 10, "broken.jsonl, line 2: it is not JSON"),
            ({"train.jsonl": "other.jsonl"}, 10, "other.jsonl, line 1: the inputs log are missing"),
            ({"train.jsonl": "bare.jsonl"}, 10, "No example has an expected output (count)"),
            ({"train.jsonl": "log.txt"}, 10, "log.txt, line 1: it is not JSON"),
            ({"25": "3"}, 2, "--max-runs 3 is too few"),
            (
                {"--threads": "--output", "1": "state.txt"},
                2,
                "--output state.txt must end with .json",
            ),
            (
                {"--threads": "--metric", "1": "program.py:nothing"},
                11,
                "program.py has no 'nothing'",
            ),
            (
                {"--threads": "--max-total-cost"},
                11,
                "The price of openai/root is unknown, so --max-total-cost cannot be kept",
            ),
            (
                {"--threads": "--max-total-cost", "1": "-1"},
                2,
                "--max-total-cost must be more than 0",
            ),
        ],
    )
    def test_before_anything_is_sent(self, counting, run_here, change, code, message):
        """A mistake has its exit code and one message."""
        Path("broken.jsonl").write_text(f"{example(1, 'easy')}\n{{")
        Path("other.jsonl").write_text('{"text": "x"}')
        Path("bare.jsonl").write_text('{"log": "x"}\n' * 4)
        held = {"held.jsonl": "bare.jsonl"} if "bare.jsonl" in change.values() else {}
        arguments = [{**change, **held}.get(one, one) for one in options(counting)]
        done = run_here(*arguments)

        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert message in done.stderr
        assert counting.requests == []

    def test_a_wrong_key_ends_it(self, counting, run_here):
        """If every run fails, the command reports the error, not a score of 0."""
        counting.fail("root", Fault(status=401, times=None))
        done = run_here(*options(counting))

        assert done.returncode == 21
        assert not Path("optimized.json").exists()


class TestIntervals:
    def test_pairs_tell_more_than_samples(self):
        """If each example improves by the same amount, the difference is certain although the scores are not."""
        before = [0.1, 0.9, 0.2, 0.8, 0.5]
        found = compared(before, [score + 0.1 for score in before])

        assert found.difference.low == pytest.approx(0.1)
        assert found.difference.high == pytest.approx(0.1)
        assert found.before.low < 0.4 < 0.6 < found.before.high
        assert found.difference.excludes_zero

    def test_nothing_is_certain_of_few(self):
        """One example of three that got better is no proof."""
        found = compared([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])

        assert found.difference.mean == pytest.approx(1 / 3)
        assert (found.difference.low, found.difference.high) == (0.0, 1.0)
        assert not found.difference.excludes_zero

    def test_the_interval_covers(self):
        """The interval of a mean is that of the normal distribution, for many examples."""
        scores = [0.0, 1.0] * 200
        found = compared(scores, scores).before

        assert found.mean == 0.5
        assert found.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.005)
        assert found.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.005)

    def test_unpaired_samples(self):
        """Samples of different lengths cannot be compared."""
        with pytest.raises(ValueError, match="same examples"):
            compared([1.0], [])


class TestPlan:
    def test_parts(self):
        """A third is held out; the rest is divided if it is large enough. The seed decides, the order of lines does not matter."""
        parts = divided(range(12), None, 1)

        assert (len(parts.train), len(parts.validation), len(parts.held_out)) == (4, 4, 4)
        assert {*parts.train, *parts.validation, *parts.held_out} == set(range(12))
        assert divided(range(12), None, 1) == parts != divided(range(12), None, 2)
        few = divided(range(4), [9], 1)
        assert few.train is few.validation
        assert few.held_out == [9]
        with pytest.raises(CommandError, match="3 examples"):
            divided([1, 2], None, 1)

    @pytest.mark.parametrize("optimizer", ["gepa", "mipro"])
    def test_runs(self, optimizer):
        """The steps fit the limit, and a limit that holds none is refused."""
        parts = divided(range(30), None, 1)
        runs = planned(optimizer, parts, 100)

        assert (runs.measured, runs.most, runs.total) == (20, 100, 120)
        assert runs.steps > 0
        with pytest.raises(CommandError, match="are needed at least"):
            planned(optimizer, parts, 12)


class TestMetric:
    @pytest.mark.parametrize(
        ("wanted", "value", "score"),
        [
            ("The Answer.", "the answer", 1.0),
            ("a b", "b c", 0.5),
            ("?", "!", 0.0),
            ("", "", 1.0),
            (3, 3.0, 1.0),
            (3, 4, 0.0),
            (True, 1, 0.0),
            ([1, 2], [2, 3], 0.5),
            (["A b"], ["a B!"], 1.0),
            ({"a": 1, "b": 2}, {"a": 1, "b": 3}, 0.5),
            (None, "x", 0.0),
            ("x", None, 0.0),
            ([], [], 1.0),
        ],
    )
    def test_likeness(self, wanted, value, score):
        """Texts are compared by words, numbers by value, lists by items, objects by fields."""
        assert likeness(wanted, value) == pytest.approx(score)

    @pytest.mark.parametrize(
        "function",
        [
            lambda gold, pred: True,
            lambda gold, pred, trace=None: 1,
            lambda gold, pred, trace, pred_name, pred_trace: {
                "score": 1.0,
                "feedback": "Well done.",
            },
            lambda *arguments: dspy.Prediction(score=1.0, feedback="Well done."),
        ],
    )
    def test_any_metric_is_explained(self, function):
        """A metric of two to five arguments, with any kind of score, gives feedback for GEPA."""
        result = explained(function)(dspy.Example(), dspy.Prediction())

        assert float(result) == 1.0
        assert result.feedback.startswith("Score: 1.")

    def test_a_metric_of_one_argument(self):
        """A function without the prediction is refused."""
        with pytest.raises(CommandError, match="takes the example and the prediction"):
            explained(lambda gold: 1)
