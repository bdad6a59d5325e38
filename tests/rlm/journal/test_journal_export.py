"""A journal as an ATIF trajectory and as spans. One recorded run serves all tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dspy_rlm import RLM
from dspy_rlm.journal import RunRecord, load
from dspy_rlm.journal.export import to_atif, to_spans, write_atif
from dspy_rlm.journal.imports import from_rlms
from dspy_rlm.testing import Action, PolicyServer, asks_for, route, rules, scripted

RLMS = Path(__file__).with_name("logs") / "rlms-0.1.3.jsonl"

MOVES = (
    Action("Ask.", "print(sub_llm('x'), find('k'), 'long' * 9_000)"),
    Action("Nest.", "print(sub_rlm('q -> leaf', q='l').leaf)\n1/0"),
    Action("Done.", "SUBMIT(q)"),
)


def find(key: str) -> dict[str, Any]:
    """Finds a value."""
    return {"value": key, "nothing": None}


@contextmanager
def playing() -> Iterator[PolicyServer]:
    """A server that plays the run, with DSPy set up for it."""
    leaf = scripted(Action("Leaf.", "SUBMIT(q + sub_llm('deep'))"))
    sub = route((asks_for("code"), leaf), otherwise=rules([], default="yes"))
    with (
        PolicyServer({"root": scripted(*MOVES), "sub": sub}) as server,
        dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()),
    ):
        yield server


@pytest.fixture(scope="module")
def run(kept: Any, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The record of the run."""
    path = tmp_path_factory.mktemp("export") / "run.jsonl"
    with playing() as server:
        rlm = RLM("q -> a", sub_lm=server.lm("sub"), tools=[find], pool=kept, journal=path)
        assert rlm(q="5").a == "5"
    return load(path)


def check(trajectory: dict[str, Any]) -> None:
    """Checks the rules that Harbor's own models check, for all embedded trajectories too."""
    assert trajectory["schema_version"] == "ATIF-v1.7"
    assert trajectory["trajectory_id"]
    assert {"name", "version"} <= trajectory["agent"].keys()
    steps = trajectory["steps"]
    assert [step["step_id"] for step in steps] == list(range(1, len(steps) + 1))
    nested = trajectory.get("subagent_trajectories", [])
    ids = [one["trajectory_id"] for one in nested]
    assert len(set(ids)) == len(ids)
    referenced = []
    for step in steps:
        assert isinstance(step["message"], str)
        of_agent = {"model_name", "reasoning_content", "tool_calls", "metrics", "llm_call_count"}
        assert step["source"] == "agent" or not of_agent & step.keys()
        calls = {call["tool_call_id"]: call for call in step.get("tool_calls", [])}
        assert all(isinstance(call["arguments"], dict) for call in calls.values())
        for result in step.get("observation", {}).get("results", []):
            assert result.get("source_call_id") in {None, *calls}
            assert isinstance(result.get("content", ""), str)
            refs = result.get("subagent_trajectory_ref", [])
            referenced += [one["trajectory_id"] for one in refs]
    assert sorted(referenced) == sorted(ids)
    for one in nested:
        check(one)


class TestAtif:
    def test_the_trajectory_is_valid(self, run):
        """It keeps the rules of the format, is JSON, and so is that of an imported log."""
        for record in (run, from_rlms(RLMS)):
            trajectory = to_atif(record)
            check(trajectory)
            assert json.loads(json.dumps(trajectory)) == trajectory

    def test_a_turn_is_a_step_with_its_code_and_all_that_it_called(self, run):
        """The code is the first tool call; tools follow, with arguments and results as they were."""
        system, user, first, second, third = to_atif(run)["steps"]
        cell, ask, tool = first["tool_calls"]
        shown, request, found = first["observation"]["results"]

        assert (system["source"], user["source"]) == ("system", "user")
        assert (first["message"], cell["function_name"]) == ("Ask.", "python")
        assert cell["arguments"] == {"code": "print(sub_llm('x'), find('k'), 'long' * 9_000)"}
        assert (tool["function_name"], tool["arguments"]) == ("find", {"args": ["k"]})
        assert json.loads(found["content"]) == {"value": "k", "nothing": None}
        assert (ask["function_name"], request["content"]) == ("sub_llm", "yes")
        assert request["extra"]["llm_calls"][0]["messages"] == [{"role": "user", "content": "x"}]
        assert len(shown["content"]) < 12_000 < len(shown["extra"]["output"])
        assert second["observation"]["results"][0]["extra"]["error_type"] == "ZeroDivisionError"
        assert third["observation"]["results"][0]["extra"]["outcome"] == "submitted"

    def test_metrics_add_up(self, run):
        """Totals of tokens are the sums of the steps; the sub-calls and sub-runs are stated beside them."""
        trajectory = to_atif(run)
        steps = [step["metrics"] for step in trajectory["steps"] if "metrics" in step]
        final = trajectory["final_metrics"]

        assert len(steps) == 3
        for name in ("prompt_tokens", "completion_tokens"):
            assert final[f"total_{name}"] == sum(step[name] for step in steps)
        assert final["extra"]["prompt_tokens_with_sub_calls"] == sum(
            c.input_tokens for c in run.calls()
        )
        assert final["extra"]["llm_calls"] == 6
        assert final["total_steps"] == len(trajectory["steps"])

    def test_a_run_that_crashed_is_a_trajectory_too(self, run, tmp_path):
        """Its unfinished step is marked, and its status says so."""
        lines = Path(run.path).read_text("utf-8").splitlines(keepends=True)
        cut = next(n for n, line in enumerate(lines) if '"e":"cell"' in line and "1/0" in line)
        crashed = tmp_path / "crashed.jsonl"
        crashed.write_text("".join(lines[:cut]), "utf-8")

        trajectory = to_atif(load(crashed))

        check(trajectory)
        assert trajectory["extra"]["status"] == "crashed"
        assert trajectory["steps"][-1]["extra"] == {"iteration": 2, "unfinished": True}
        # The long texts are beside the journal that was cut.
        assert "[not in the journal]" in json.dumps(trajectory)

    def test_it_is_written_as_one_file(self, run, tmp_path):
        """The file has the trajectory, as UTF-8."""
        write_atif(run, tmp_path / "trajectory.json")

        assert json.loads((tmp_path / "trajectory.json").read_text("utf-8")) == to_atif(run)


def spans_of(record: RunRecord, **options: Any) -> tuple[ReadableSpan, ...]:
    """The spans of a record."""
    exporter = InMemorySpanExporter()
    to_spans(record, exporter, **options)
    return exporter.get_finished_spans()


class TestSpans:
    def test_each_span_is_below_what_caused_it(self, run):
        """A run has iterations, these a call and a cell, a cell its calls, and these LM calls or a whole run."""
        spans = spans_of(run)
        by_id = {span.context.span_id: span for span in spans}

        def way(span: ReadableSpan) -> str:
            above = f"{way(by_id[span.parent.span_id])} > " if span.parent else ""
            return above + span.name

        leaf = "RLM > iteration 2 > python > sub_rlm > RLM"
        assert sorted(map(way, spans)) == sorted([
            "RLM",
            "RLM > iteration 1",
            "RLM > iteration 1 > action openai/root",
            "RLM > iteration 1 > python",
            "RLM > iteration 1 > python > sub_llm",
            "RLM > iteration 1 > python > sub_llm > sub_llm openai/sub",
            "RLM > iteration 1 > python > find",
            "RLM > iteration 2",
            "RLM > iteration 2 > action openai/root",
            "RLM > iteration 2 > python",
            "RLM > iteration 2 > python > sub_rlm",
            leaf,
            f"{leaf} > iteration 1",
            f"{leaf} > iteration 1 > action openai/sub",
            f"{leaf} > iteration 1 > python",
            f"{leaf} > iteration 1 > python > sub_llm",
            f"{leaf} > iteration 1 > python > sub_llm > sub_llm openai/sub",
            "RLM > iteration 3",
            "RLM > iteration 3 > action openai/root",
            "RLM > iteration 3 > python",
        ])  # fmt: skip
        for span in spans:
            if span.parent:
                above = by_id[span.parent.span_id]
                assert above.start_time <= span.start_time <= span.end_time <= above.end_time

    def test_a_run_exported_twice_has_the_same_ids(self, run):
        """The ids depend on the run alone."""
        once, again = spans_of(run), spans_of(run)

        assert [span.context for span in once] == [span.context for span in again]

    def test_content_can_be_left_out(self, run):
        """Without content, no prompt, code, output or error text is in a span; the figures are."""
        spans = spans_of(run, content=False)
        attributes = [value for span in spans for value in span.attributes.items()]

        assert not any(".value" in name or "messages" in name for name, _ in attributes)
        assert "division" not in "".join(str(span.status.description) for span in spans)
        assert sum(name == "llm.token_count.total" for name, _ in attributes) == 6

    def test_long_contents_are_cut(self, run):
        """A text of more than `max_chars` says how long it was."""
        values = [
            str(v) for span in spans_of(run, max_chars=1_000) for v in span.attributes.values()
        ]

        assert max(map(len, values)) < 1_100
        assert any("(36," in value for value in values)

    def test_imported_logs_are_spans_too(self):
        """A log of another system has the same spans, as far as it has the facts."""
        names = [span.name for span in spans_of(from_rlms(RLMS))]

        assert (names.count("RLM"), names.count("rlm_query"), names.count("llm_query sub")) == (
            2,
            1,
            1,
        )
