"""`dspy_rlm.compare`: systems on the same items, in pairs, within a budget; failures are rows."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy import lm15

import dspy_rlm
from dspy_rlm import Directory, TextFile, compare
from dspy_rlm.budget.budget import Budget
from dspy_rlm.comparing.items import as_texts
from dspy_rlm.comparing.measuring import _Entries, score_of
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.rows import read_all_rows, read_rows
from dspy_rlm.comparing.systems import setup_of, systems_of
from dspy_rlm.errors import InputError
from dspy_rlm.testing import Action, Counted, Fault, PolicyServer, fields, scripted

PRICES = {"openai/reader": (1.0, 2.0), "openai/root": (1.0, 2.0)}


read_last_word = fields(lambda inputs: {"answer": inputs["text"].split()[-1]})


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    """A server with a model that reads, and a root LM."""
    root = scripted(Action("The last word is the answer.", "SUBMIT(answer=text.split()[-1])"))
    with PolicyServer({"reader": read_last_word, "root": root}) as server:
        yield server


@pytest.fixture
def reader(server: PolicyServer) -> Iterator[dspy.LM]:
    """The configured LM."""
    lm = server.lm("reader")
    with dspy.context(lm=lm):
        yield lm


def items(n: int, words: int = 10) -> list[dspy.Example]:
    """Texts whose last word is the answer."""
    return [
        dspy.Example(text="word " * words + f"w{i}", answer=f"w{i}").with_inputs("text")
        for i in range(n)
    ]


def exact(example: dspy.Example, prediction: Any) -> bool:
    """The metric of these tests."""
    return bool(example.answer == prediction.answer)


def wrong(text: str) -> dspy.Prediction:
    """A system that is never right."""
    return dspy.Prediction(answer="none")


def breaks(text: str) -> dspy.Prediction:
    """A system that fails on some items."""
    if text.endswith(("1", "3")):
        raise RuntimeError("no luck")
    return dspy.Prediction(answer=text.split()[-1])


def replies_with(usage: dict[str, int] | None, answer: str = "w0") -> Fault:
    """A server that states this usage, or none, with each reply."""
    text = f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"
    choice = {
        "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}
    }  # fmt: skip
    body = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]
    }  # fmt: skip
    return Fault(
        status=200, body=json.dumps(body | ({"usage": usage} if usage else {})), times=None
    )


NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class TestRows:
    def test_each_system_has_a_row_for_each_item(self, reader):
        """Rows are in the order of the items, and say what each took."""
        result = compare(
            items(3),
            {"direct": dspy.Predict, "wrong": wrong},
            exact,
            signature="text -> answer",
            prices=PRICES,
        )

        assert [(row.number, row.system, row.score) for row in result.rows] == [
            (number, system, score)
            for number in range(3)
            for system, score in (("direct", 1.0), ("wrong", 0.0))
        ]
        row = result.rows[0]
        assert (row.calls, row.cached, row.status, row.outputs) == (
            1,
            0,
            "answered",
            {"answer": "w0"},
        )
        assert row.cost == pytest.approx((row.input_tokens + 2 * row.output_tokens) / 1_000_000)
        assert result.rows[1].cost == 0.0
        assert result.models == {"direct": "openai/reader", "wrong": ""}

    def test_a_failure_is_a_row_with_its_kind(self):
        """No exception of a system, and none of a metric, leaves the comparison."""

        def bad_metric(example: dspy.Example, prediction: Any) -> float:
            return 1 / len(prediction.answer.strip("w0"))

        result = compare(items(4), {"breaks": breaks}, bad_metric)

        assert [(row.failure, row.score) for row in result.rows] == [
            ("metric: ZeroDivisionError", 0.0),
            ("RuntimeError", 0.0),
            ("", 1.0),
            ("RuntimeError", 0.0),
        ]
        assert result.rows[1].error == "no luck"
        assert result.overall.systems[0].failures == {
            "RuntimeError": 2,
            "metric: ZeroDivisionError": 1,
        }

    def test_an_rlm_is_measured_by_its_report(self, server, reader):
        """Turns and sub-calls come from the run, and its failed calls are counted too."""
        rlm = dspy_rlm.RLM("text -> answer")
        rlm.set_lm(server.lm("root"))

        (row,) = compare(items(1), {"rlm": rlm}, exact, prices=PRICES).rows

        assert (row.score, row.turns, row.sub_calls, row.calls) == (1.0, 1, 0, 1)
        assert row.status == "submitted"
        assert row.outputs == {"answer": "w0"}
        assert row.cost > 0

    def test_every_lm_call_of_a_program_is_counted(self, reader):
        """Also those of modules inside of modules, whatever history the program keeps."""

        class Twice(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = dspy.Predict("text -> answer")

            def forward(self, text: str) -> dspy.Prediction:
                self.inner(text=text)
                return self.inner(text=text + " ")

        with dspy.context(disable_history=True):
            (row,) = compare(items(1), {"twice": Twice()}, exact).rows

        assert row.calls == 2
        assert len(reader.history) <= 2

    def test_answers_of_a_cache_cost_nothing_and_are_reported(self, server, tmp_path):
        """A comparison that was answered by a cache says that its costs are too low."""
        # DSPy's cache is kept on disk: the text must be a new one.
        new = [dspy.Example(text=f"{tmp_path} word", answer="word").with_inputs("text")]
        with dspy.context(lm=server.lm("reader", cache=True)):
            first = compare(new, ["direct"], exact, signature="text -> answer", prices=PRICES)
            again = compare(new, ["direct"], exact, signature="text -> answer", prices=PRICES)

        assert (first.rows[0].calls, again.rows[0].calls) == (1, 0)
        assert (again.rows[0].cached, again.rows[0].cost) == (1, 0.0)
        assert "1 of 1 LM calls were answered by a cache" in str(again)

    @pytest.mark.parametrize("usage", [None, NO_TOKENS], ids=["none", "zeros"])
    def test_an_answer_without_usage_has_an_unknown_cost(self, server, reader, usage):
        """It is no answer of a cache: a server that counts no tokens may charge for them. A free price stays free."""
        server.fail("reader", replies_with(usage))

        def measured(**options: Any) -> Any:
            return compare(items(1), ["direct"], exact, signature="text -> answer", **options).rows[
                0
            ]

        row, free = measured(prices=PRICES), measured(prices={"openai/reader": (0.0, 0.0)})

        assert (row.score, row.calls, row.cached) == (1.0, 1, 0)
        assert (row.cost, row.input_tokens, row.output_tokens) == (None, None, None)
        assert (free.calls, free.cached, free.cost) == (1, 0, 0.0)

    def test_an_rlm_whose_server_counts_no_tokens_has_an_unknown_cost(self):
        """Its report has no tokens of such calls, and a price of one's own makes nothing of them."""
        code = "```python\nSUBMIT(answer=text.split()[-1])\n```"
        text = f"[[ ## reasoning ## ]]\nx\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"
        with PolicyServer({"root": lambda _: Counted(text, 0, 0)}) as server:
            rlm = dspy_rlm.RLM("text -> answer")
            rlm.set_lm(server.lm("root"))
            (row,) = compare(items(1), {"rlm": rlm}, exact, prices=PRICES).rows

        assert (row.score, row.calls, row.cached) == (1.0, 1, 0)
        assert (row.cost, row.tokens) == (None, None)

    @pytest.mark.parametrize(
        ("entry", "is_cached"),
        [
            ({"response": SimpleNamespace(usage={}, cache_hit=True)}, True),
            ({"response": {"answers": {}}, "cache_hit": True}, True),
            (
                {"response": SimpleNamespace(usage=lm15.Usage(input_tokens=3, output_tokens=1))},
                True,
            ),
            ({"response": (SimpleNamespace(usage=lm15.Usage(input_tokens=3)),) * 2}, True),
            ({"response": SimpleNamespace(usage=lm15.Usage())}, False),
            ({"response": {"answers": {}}, "cache_hit": False}, False),
            ({"response": ()}, False),
            ({"response": None}, False),
        ],
        ids=["marked", "entry", "native", "several", "nothing", "sent", "empty", "none"],
    )
    def test_a_cache_has_answered_only_if_dspy_says_so(self, entry, is_cached):
        """DSPy marks the response or the entry, or leaves out the usage that its reply states."""
        entries = _Entries(Budget(prices=PRICES))

        entries.append({"model": "openai/reader", "usage": {}, "cost": 0.5, **entry})

        assert (entries.totals.cached, entries.totals.calls) == (is_cached, not is_cached)
        assert entries.totals.cost == (0.0 if is_cached else None)

    def test_a_file_of_a_folder_is_not_read_through_a_link(self, tmp_path):
        """A system without a sandbox does not get what is put in a file's place after it was listed."""
        (tmp_path / "given").mkdir()
        (tmp_path / "given" / "a.txt").write_text("mine")
        (tmp_path / "secret").write_text("the launch code")
        file = Directory(tmp_path / "given").file("a.txt")
        assert as_texts({"text": file}) == {"text": "mine"}
        (tmp_path / "given" / "a.txt").unlink()
        (tmp_path / "given" / "a.txt").symlink_to(tmp_path / "secret")

        found = {}
        with contextlib.suppress(OSError):
            found = as_texts({"text": file})
        assert found in ({}, {"text": "mine"})

    def test_a_file_is_read_for_systems_without_a_sandbox(self, tmp_path, reader):
        """A `TextFile` enters the prompt of a direct call as its text."""
        path = tmp_path / "text.txt"
        path.write_text("some words and w7", "utf-8")
        example = dspy.Example(text=TextFile(path), answer="w7").with_inputs("text")

        (row,) = compare([example], ["direct"], exact, signature="text -> answer").rows

        assert (row.score, row.length) == (1.0, 5)

    @pytest.mark.parametrize(
        ("result", "score"),
        [(True, 1.0), (0.5, 0.5), ({"score": 2}, 2.0), (dspy.Prediction(score=0.25), 0.25)],
        ids=["bool", "float", "dict", "prediction"],
    )
    def test_metrics_return_numbers_in_several_forms(self, result, score):
        """A bool, a number, or an object with `score`, as DSPy's metrics do."""
        assert score_of(result) == score

    def test_a_score_that_is_no_number_is_a_failure(self):
        """Infinity and NaN would make every mean useless."""
        with pytest.raises(ValueError, match="nan"):
            score_of(float("nan"))


class TestResume:
    def test_the_same_call_measures_only_what_is_missing(self, tmp_path):
        """Rows of the file are used again, and new items and systems are added."""
        calls: list[str] = []

        def counted(text: str) -> dspy.Prediction:
            calls.append(text)
            return dspy.Prediction(answer=text.split()[-1])

        file = tmp_path / "rows.jsonl"
        compare(items(2), {"counted": counted}, exact, file=file)
        result = compare(items(3), {"counted": counted, "wrong": wrong}, exact, file=file)

        assert len(calls) == 3
        assert len(result.rows) == 6
        assert [len(result.pairs), result.items] == [3, 3]

    def test_a_line_that_was_cut_off_is_measured_again(self, tmp_path):
        """A process that is killed while it writes loses the row that it wrote, and no other."""
        file = tmp_path / "rows.jsonl"
        compare(items(3), {"wrong": wrong}, exact, file=file)
        file.write_bytes(file.read_bytes()[:-20])

        assert len(read_rows(file)) == 2
        result = compare(items(3), {"wrong": wrong}, exact, file=file)
        assert len(result.rows) == len(read_rows(file)) == 3

    def test_a_changed_metric_or_system_is_measured_anew(self, tmp_path):
        """A row counts only for the settings and the metric that it was measured with."""
        file = tmp_path / "rows.jsonl"
        compare(items(1), {"wrong": wrong}, exact, file=file)
        result = compare(items(1), {"wrong": wrong}, lambda example, prediction: 1.0, file=file)

        assert result.rows[0].score == 1.0
        assert len(read_rows(file)) == 2

    def test_failures_of_a_server_are_tried_again(self, tmp_path, server, reader):
        """A server that was down says nothing about a system; other failures stay."""
        options: dict[str, Any] = {"signature": "text -> answer", "file": tmp_path / "rows.jsonl"}
        server.fail("reader", Fault(status=500))
        systems = {"direct": dspy.Predict, "breaks": breaks}

        down = compare(items(2), systems, exact, threads=1, **options)
        again = compare(items(2), systems, exact, **options)

        assert [row.failure for row in down.rows] == ["LMServerError", "", "", "RuntimeError"]
        assert "1 row failed because of a server" in str(down)
        assert [row.failure for row in again.rows] == ["", "", "", "RuntimeError"]

    def test_another_file_is_refused(self, tmp_path):
        """A file of something else is not overwritten."""
        file = tmp_path / "data.jsonl"
        file.write_text('{"text": "mine"}\n', "utf-8")

        with pytest.raises(InputError, match="not the file of a comparison"):
            compare(items(1), {"wrong": wrong}, exact, file=file)
        assert file.read_text("utf-8") == '{"text": "mine"}\n'

    def test_two_processes_do_not_write_one_file(self, tmp_path):
        """The second one is refused while the first one works."""
        file = tmp_path / "rows.jsonl"
        refused = []

        def nested(text: str) -> dspy.Prediction:
            with pytest.raises(InputError, match="Another process") as caught:
                compare(items(1), {"wrong": wrong}, exact, file=file)
            refused.append(caught.value)
            return dspy.Prediction(answer="")

        compare(items(1), {"nested": nested}, exact, file=file)

        assert len(refused) == 1

    def test_the_same_settings_have_the_same_digest(self, reader):
        """The digest sees instructions, demos, models and their options; not keys, addresses and histories."""

        def digest(instructions: str = "Answer.", **options: Any) -> str:
            program = dspy.Predict(dspy.Signature("text -> answer", instructions))
            program.set_lm(reader.copy(**options))
            return setup_of(program, exact)

        assert digest() == digest(api_key="other", api_base="http://localhost:1")
        assert len({digest(), digest("Answer briefly."), digest(temperature=1.0)}) == 3
        rlm = dspy_rlm.RLM
        assert setup_of(rlm("a -> b"), exact) == setup_of(rlm("a -> b"), exact)
        assert setup_of(rlm("a -> b"), exact) != setup_of(rlm("a -> b", max_llm_calls=9), exact)


class TestBudget:
    def test_no_row_begins_beyond_max_cost(self, reader):
        """The systems stop at the same item, and the result says so."""
        one = compare(items(1), ["direct"], exact, signature="text -> answer", prices=PRICES)
        limit = 3.5 * one.cost

        result = compare(
            items(6), ["direct"], exact, signature="text -> answer", prices=PRICES, max_cost=limit
        )

        assert (len(result.rows), result.stopped_by) == (3, "max_cost")
        assert result.cost <= limit
        assert "Stopped by max_cost: 3 items not measured" in str(result)

    def test_a_file_counts_what_earlier_calls_spent(self, tmp_path, reader):
        """The limit is of the whole comparison: a second call does not start from zero."""
        options: dict[str, Any] = {
            "signature": "text -> answer", "prices": PRICES, "file": tmp_path / "rows.jsonl"
        }  # fmt: skip
        first = compare(items(2), ["direct"], exact, **options)
        limit = first.cost * 1.2

        again = compare(items(6), ["direct"], exact, max_cost=limit, **options)

        assert (len(again.rows), again.stopped_by) == (2, "max_cost")

    def test_rows_that_are_measured_again_have_cost_money(self, tmp_path, server, reader):
        """Each line of the file counts for the limit; the last one of an item is its result."""

        class Two(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.paid, self.down = (
                    dspy.Predict("text -> answer"),
                    dspy.Predict("text -> answer"),
                )
                self.down.set_lm(server.lm("root"))

            def forward(self, text: str) -> dspy.Prediction:
                self.paid(text=text)
                return self.down(text=text)

        server.fail("root", Fault(status=500, times=None))
        file = tmp_path / "rows.jsonl"
        options: dict[str, Any] = {"prices": PRICES, "file": file, "threads": 1}
        first = compare(items(1), {"two": Two()}, exact, **options)
        limit = first.cost * 2.5

        for _ in range(4):
            last = compare(items(1), {"two": Two()}, exact, max_cost=limit, **options)

        assert (len(last.rows), last.stopped_by) == (0, "max_cost")
        assert [row.cost for row in read_all_rows(file)] == [first.cost] * 2
        assert len(read_rows(file)) == 1

    def test_an_answer_without_usage_stops_a_comparison_with_a_limit(self, server, reader):
        """Its cost is not known to be nothing."""
        server.fail("reader", replies_with(None))
        options: dict[str, Any] = {"prices": PRICES, "max_cost": 1.0, "threads": 1}

        result = compare(items(5), ["direct"], exact, signature="text -> answer", **options)

        assert (len(result.rows), result.stopped_by) == (1, "price unknown")

    def test_an_unknown_price_stops_a_comparison_with_a_limit(self, reader):
        """A limit in dollars that cannot be kept is not ignored."""
        result = compare(
            items(5), ["direct"], exact, signature="text -> answer", max_cost=1.0, threads=1
        )

        assert (len(result.rows), result.stopped_by) == (1, "price unknown")

    def test_no_row_begins_after_max_seconds(self):
        """Rows in flight are waited for; the others are left out."""
        result = compare(items(4), {"wrong": wrong}, exact, max_seconds=0)

        assert (len(result.rows), result.stopped_by) == (0, "max_seconds")
        assert result.advice == ()

    def test_rows_are_measured_at_once(self):
        """As many as `threads`, in the settings of the caller."""
        barrier = threading.Barrier(3, timeout=60)

        def meets(text: str) -> dspy.Prediction:
            barrier.wait()
            return dspy.Prediction(answer=dspy.settings.get("mine", "none"))

        with dspy.context(mine="set"):
            result = compare(items(3), {"meets": meets}, exact, threads=3)

        assert {row.outputs["answer"] for row in result.rows} == {"set"}


class TestArguments:
    @pytest.mark.parametrize(
        ("examples", "systems", "message"),
        [
            ([], {"wrong": wrong}, "no items"),
            ("text", {"wrong": wrong}, "Pass examples"),
            ([{"text": "a"}], {"wrong": wrong}, "type dict"),
            ([dspy.Example(text="a")], {"wrong": wrong}, "with_inputs"),
            (items(1), {}, "at least one system"),
            (items(1), ["best"], "no system 'best'"),
            (items(1), ["direct"], "needs a signature"),
            (items(1), {"five": 5}, "cannot be called"),
        ],
        ids=["none", "text", "dicts", "inputs", "systems", "unknown", "signature", "number"],
    )
    def test_mistakes_are_found_before_anything_runs(self, examples, systems, message):
        """A setting that no item can be measured with is an error of the caller."""
        with pytest.raises(InputError, match=message):
            compare(examples, systems, exact)

    def test_a_metric_is_needed(self):
        """Only a task has one of its own."""
        with pytest.raises(InputError, match="metric"):
            compare(items(1), {"wrong": wrong})

    def test_a_task_brings_its_signature_and_metric(self, reader):
        """Any object with `examples`, `signature` and `metric` is a task."""

        class Task:
            name = "last-word"
            signature = dspy.Signature("text -> answer")
            examples = tuple(items(2))
            metric = staticmethod(exact)

        result = compare(Task(), ["direct"])

        assert (result.name, result.metric) == ("last-word", "exact")
        assert [row.score for row in result.rows] == [1.0, 1.0]

    def test_the_ready_made_systems_can_be_named(self):
        """Each name yields a module of the signature; those that run code get the tools."""

        def fetch(name: str) -> str:
            """Returns a page."""
            return name

        names = ["rlm", "direct", "chain-of-thought", "retrieval", "compaction"]
        found = systems_of(names, "text -> answer", (fetch,))

        assert [one.name for one in found] == names
        assert all(isinstance(one.call, dspy.Module) for one in found)
        assert "fetch" in found[0].call.tools

    def test_two_paths_are_two_recorded_runs(self, tmp_path):
        """`compare` of two journals is what it was before it could compare systems."""
        for name in ("a.jsonl", "b.jsonl"):
            (tmp_path / name).write_text("no journal", "utf-8")

        with pytest.raises(dspy_rlm.journal.JournalError):
            compare(tmp_path / "a.jsonl", tmp_path / "b.jsonl")


def test_the_result_survives_json(tmp_path):
    """`dump` has everything that `load` needs for the same text."""
    result = compare(items(5), {"wrong": wrong, "breaks": breaks}, exact)
    result.save(tmp_path / "result.json")

    loaded = ComparisonResult.load(json.loads((tmp_path / "result.json").read_text("utf-8")))

    assert str(loaded) == str(result)
    with pytest.raises(ValueError, match=r"\.json or \.html"):
        result.save(Path("result.txt"))


def test_rows_become_a_table():
    """A data frame has a line for each row."""
    pytest.importorskip("pandas", reason='pandas is not installed: pip install "dspy-rlm[compare]"')
    frame = compare(items(2), {"wrong": wrong, "breaks": breaks}, exact).to_dataframe()

    assert list(frame["system"]) == ["wrong", "breaks"] * 2
    assert frame.groupby("system")["score"].mean().to_dict() == {"breaks": 0.5, "wrong": 0.0}
