"""The document of a page: what it says of a run."""

from __future__ import annotations

import random
import re
import zlib
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from viewed_runs import Lines, texts_and_document

from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.bundle import SOURCES
from dspy_rlm.viewer.content.times import MAX_SEGMENTS
from dspy_rlm.viewer.series import Series
from dspy_rlm.viewer.texts import CHUNK_BYTES, Texts


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A journal with nothing in it yet."""
    return Lines(tmp_path / "run.jsonl")


def journal_of(lines: Lines, **options: Any) -> tuple[Texts, doc.Journal]:
    """Returns the only journal of a document, and the texts."""
    texts, document = texts_and_document(lines.path, **options)
    return texts, document["journals"][0]


def whole(texts: Texts, text: doc.Text) -> str:
    """Returns a text of the document."""
    return texts.read(text, 10_000_000)


class TestTexts:
    """Texts are stored once, and prompts by what is new in them."""

    def test_a_text_is_read_back_from_the_blocks(self):
        """A text is its spans of the inflated chunks, also across chunks and with letters of several bytes."""
        texts = Texts()
        long = "äß𝄞€" * (CHUNK_BYTES // 8)
        numbers = [texts.add("first " * 100), texts.add(long), texts.add("first " * 100)]
        texts.finish()
        stream = b"".join(zlib.decompress(b64decode(block)) for block in texts.blocks)
        chars, start, end = texts.entries[numbers[1]]

        assert numbers == [0, 1, 0]
        assert len(texts.blocks) == len(texts.chunks) == 2
        assert stream[start:end].decode() == long
        assert (chars, whole(texts, 1)) == (len(long), long)
        assert sum(texts.chunks) == len(stream)

    def test_a_short_text_stands_in_the_document(self):
        """A text that is shorter than its number and spans would be is not stored in a chunk."""
        texts = Texts()

        assert (texts.add("short"), texts.add("")) == ("short", "")
        assert texts.entries == []

    def test_a_growing_prompt_takes_the_space_of_what_is_new(self):
        """Hundreds of prompts with a growing history are stored in about the size of the last one."""
        texts, prompt = Texts(), "System. " * 50
        series, sent = Series(texts), []
        for turn in range(300):
            prompt += f"Step {turn}: {'é' * 200}\n"
            sent.append(f"{prompt}Turn {turn} of 300. {'The end. ' * 30}")
            series.add(sent[-1])
        numbers = series.finish()
        texts.finish()

        assert [whole(texts, numbers[at]) for at in (0, 150, 299)] == [
            sent[0],
            sent[150],
            sent[299],
        ]
        assert sum(texts.chunks) < 1.1 * len(sent[-1].encode())
        assert max(len(entry) for entry in texts.entries) < 10

    @pytest.mark.parametrize("seed", range(20))
    def test_a_series_is_read_back(self, seed: int):
        """Whatever texts follow each other, and in however many documents, each is read back as it was."""
        chance = random.Random(seed)
        texts, known = Texts(), []
        for _ in range(2):
            series, sent = Series(texts), list(known)
            for _ in range(12):
                old = chance.choice(sent)[: chance.randrange(900)] if sent else ""
                sent.append(
                    old + "".join(chance.choices("ab é𝄞\n", k=chance.randrange(400))) + old[-300:]
                )
            for text in sent:
                series.add(text)
            numbers = series.finish()
            texts.finish()
            known = sent

            assert [whole(texts, number) for number in numbers] == sent

    def test_a_later_document_keeps_the_numbers(self):
        """Texts that are added after a document was made get new numbers and chunks; the old ones stay."""
        texts = Texts()
        first = texts.add("a" * 500)
        texts.finish()
        blocks = list(texts.blocks)
        again, second = texts.add("a" * 500), texts.add("b" * 500)
        texts.finish()

        assert (again, second) == (first, first + 1)
        assert texts.blocks[: len(blocks)] == blocks
        assert whole(texts, second) == "b" * 500

    def test_lone_surrogates_are_replaced(self):
        """A text that UTF-8 has no form for is stored with the sign of a lost character."""
        texts = Texts()

        assert texts.add("a\ud800b") == "a\ufffdb"

    def test_secrets_of_the_environment_are_removed(self, monkeypatch):
        """A key that the reader's environment has is not in the page, if the journal has it or not."""
        monkeypatch.setenv("OPENAI_API_KEY", "sk-Tq8vLx2NcWz51RmPq0Yd")
        texts = Texts()
        number = texts.add(f"{'x' * 300}sk-Tq8vLx2NcWz51RmPq0Yd")
        texts.finish()

        assert whole(texts, number) == f"{'x' * 300}[secret]"
        assert texts.name("sk-Tq8vLx2NcWz51RmPq0Yd") == "[secret]"


class TestSteps:
    """Steps have their code, the failing line, the whole output, and what the root LM saw."""

    def test_a_failed_cell_has_the_line_that_failed(self, lines: Lines):
        """The line is that of the last frame in the cell itself, not of a function of an earlier one."""
        traceback = (
            'Traceback (most recent call last):\n  File "<cell 2>", line 3, in <module>\n'
            '  File "<cell 1>", line 7, in f\nKeyError: 1'
        )
        lines.run()
        lines.step(1, "def f(): pass", "")
        error = {"type": "KeyError", "message": "1", "traceback": traceback}
        lines.step(2, "a = 1\nb = 2\nf()", "", outcome="failed", error=error)
        lines.end()
        _, journal = journal_of(lines)
        step = journal["runs"][0]["steps"][1]

        assert step["outcome"] == "failed"
        assert step["error"] is not None
        assert (step["error"]["type"], step["error"]["line"]) == ("KeyError", 3)

    @pytest.mark.parametrize(
        "traceback", ["", 'File "<cell 9>", line 1', 'File "<cell 1>", line 99', "line 1"]
    )
    def test_an_unclear_traceback_marks_no_line(self, lines: Lines, traceback: str):
        """A line that is not in the cell, or of another cell, is not marked."""
        error = {"type": "E", "message": "", "traceback": traceback}
        lines.run()
        lines.step(1, "x", "", outcome="failed", error=error)
        _, journal = journal_of(lines)

        assert journal["runs"][0]["steps"][0]["error"]["line"] is None  # type: ignore[index]

    def test_a_shortened_output_is_there_as_a_whole(self, lines: Lines):
        """The document has all that was printed, and what the root LM saw of it."""
        printed = "".join(f"line {number}\n" for number in range(5_000))
        lines.run()
        lines.step(1, "print()", printed, shown="line 0\n... (omitted) ...\nline 4999")
        lines.step(2, "print()", "all of it\n", shown="all of it")
        lines.step(3, "print()", "x", shown="x\n[Note] a note of the harness")
        texts, journal = journal_of(lines)
        first, second, third = journal["runs"][0]["steps"]

        assert whole(texts, first["output"]) == printed
        assert (first["output_chars"], first["shortened"]) == (len(printed), True)
        assert "omitted" in whole(texts, first["shown"])
        assert not second["shortened"]
        assert not third["shortened"]

    def test_an_unfinished_step_has_what_is_known(self, lines: Lines):
        """A run that was killed in a cell has its code and its calls, and says that it has no end."""
        lines.run()
        lines.step(1, "x = 1", "")
        lines.add("iteration", run="r", it=2)
        lines.call("r:2", 2, "Turn 2", "code")
        lines.add("action", run="r", it=2, reasoning="more", code="sub_llm('?')")
        lines.add("tool", run="r", it=2, call="t", name="sub_llm", is_tool=False)
        lines.call("r:3", 2, "?", None, kind="sub_llm", parent_call="t")
        _, journal = journal_of(lines)
        step = journal["runs"][0]["steps"][1]

        assert journal["status"] == "crashed"
        assert (step["unfinished"], step["code"], step["outcome"]) == (True, "sub_llm('?')", None)
        assert journal["calls"][step["sub_calls"][0]]["status"] == "running"
        assert journal["calls"][step["sub_calls"][0]]["tool"] == step["tools"][0] == 0

    def test_variables_have_the_steps_that_assign_and_read_them(self, lines: Lines):
        """The names of a cell's top level are variables; those in functions and comprehensions are not."""
        lines.run()
        lines.step(1, "import re\nhits = [n for n in page]\ndef look(text):\n    inner = page", "")
        lines.step(2, "for number in hits:\n    total = look(number)\nhits.sort()", "")
        _, journal = journal_of(lines)
        found = {one["name"]: one for one in journal["runs"][0]["variables"]}

        assert [one["assigned"] for one in found.values()] == [[], [1], [1], [1], [2], [2]]
        assert list(found) == ["page", "re", "hits", "look", "number", "total"]
        assert found["hits"]["used"] == [2]
        assert found["page"] == {"name": "page", "kind": "input", "assigned": [], "used": [1]}
        assert found["look"]["kind"] == "function"
        assert journal["runs"][0]["steps"][1]["assigned"] == ["number", "total"]


class TestCalls:
    """Calls have their status, their amounts, their prompt and their reply."""

    @pytest.mark.parametrize(
        ("facts", "reply", "status"),
        [
            ({}, "yes", "answered"),
            ({"cut": True}, "ye", "cut"),
            ({}, " \n", "empty"),
            ({"refusal": "I will not."}, "", "refused"),
        ],
    )
    def test_the_status_is_that_of_the_reply(
        self, lines: Lines, facts: Any, reply: str, status: str
    ):
        """A reply that was cut, is empty or refuses is told apart from an answer."""
        lines.run()
        lines.call("r:1", 1, "?", reply, **facts)
        _, journal = journal_of(lines)

        assert journal["calls"][0]["status"] == status

    def test_a_failed_call_has_its_error_and_all_attempts(self, lines: Lines):
        """Each request is there, with its own error; the call has that of the last one."""
        lines.run()
        lines.call("r:1", 1, "?", None)
        for _ in range(2):
            lines.add(
                "attempt", run="r", call="r:1", started=lines.now, seconds=1.5, error="E: busy"
            )
        lines.add(
            "failed", run="r", call="r:1", error={"type": "E", "message": "busy", "status": 429}
        )
        _, journal = journal_of(lines)
        call = journal["calls"][0]

        assert (call["status"], call["error_type"], call["error_status"]) == ("failed", "E", 429)
        assert [one["error"] for one in call["attempts"]] == ["E: busy", "E: busy"]
        assert call["seconds"] == pytest.approx(1.7)
        assert call["input_tokens"] is None

    def test_equal_prompts_are_grouped_and_stored_once(self, lines: Lines):
        """Sub-calls with the digest of an earlier one are in its group, and share its prompt."""
        lines.run()
        lines.add("iteration", run="r", it=1)
        lines.add("tool", run="r", it=1, call="t", name="sub_llm_batched", is_tool=False)
        for number, digest in enumerate(("same", "other", "same")):
            prompt = f"Is it {digest}? {'x' * 300}"
            lines.call(
                f"r:{number}",
                1,
                prompt,
                "no",
                kind="sub_llm_batched",
                parent_call="t",
                digest=digest,
            )
        _, journal = journal_of(lines)

        assert journal["groups"] == [[0, 2]]
        assert [call["group"] for call in journal["calls"]] == [0, None, 0]
        assert [call["prompt"] for call in journal["calls"]] == [0, 1, 0]
        assert [warning["kind"] for warning in journal["warnings"]] == ["repeated_prompts"]

    def test_prompts_of_turns_share_their_beginnings(self, lines: Lines):
        """The prompt of a turn refers to the text of the one before, so that the page sees what is new."""
        lines.run()
        first = f"{'History. ' * 100}Turn 1"
        lines.call("r:1", 1, first, "a")
        lines.cell(1, "x = 1", "")
        lines.call(
            "r:2",
            2,
            [{"role": "user", "content": {"$from": [900, 0], "new": "Step 1.\nTurn 2"}}],
            "b",
            after="r:1",
        )
        texts, journal = journal_of(lines)
        one, two = (prompt["messages"][0]["content"] for prompt in journal["prompts"])

        assert whole(texts, two) == f"{'History. ' * 100}Step 1.\nTurn 2"
        assert texts.entries[one][1:2] == texts.entries[two][1:2]

    def test_images_are_left_out_and_other_parts_are_json(self, lines: Lines):
        """A message in parts has its text, and the rest without the data of an image."""
        parts = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 9_000}"}},
        ]
        lines.run()
        lines.call("r:1", 1, [{"role": "user", "content": parts, "name": "n"}], "a cat")
        texts, journal = journal_of(lines)
        message = journal["prompts"][0]["messages"][0]

        assert message["content"] == "What is it?"
        assert "image_url" in whole(texts, message["more"])
        assert len(whole(texts, message["more"])) < 400

    def test_a_prompt_that_is_lost_leaves_the_call(self, lines: Lines):
        """A call whose prompt is not beside the journal is shown without it."""
        lines.run()
        lines.call(
            "r:1", 1, [{"role": "user", "content": {"$value": "0" * 64, "chars": 9_000}}], "a"
        )
        _, journal = journal_of(lines)

        assert journal["calls"][0]["prompt"] is None
        assert journal["calls"][0]["replies"] == ["a"]


class TestFigures:
    """Totals, the budget, and the critical path."""

    def nested(self, lines: Lines) -> None:
        """Writes a run of two steps: a batch of three calls of which one takes long, and a sub-run."""
        lines.run(config={"budget": {"max_llm_calls": 5, "max_cost": 4.0, "max_iterations": 9}})
        lines.add("iteration", run="r", it=1)
        lines.call("r:1", 1, "Turn 1", "code", seconds=1.0)
        began = lines.now
        lines.add("tool", run="r", it=1, call="t1", name="sub_llm_batched", is_tool=False)
        for number, seconds in enumerate((0.2, 3.0, 0.4)):
            start = lines.now
            lines.call(
                f"r:s{number}",
                1,
                f"{number}?",
                "a",
                kind="sub_llm_batched",
                parent_call="t1",
                seconds=seconds,
            )
            lines.now = start + 0.01
        lines.now = began + 3.5
        lines.add("tool_end", run="r", call="t1", seconds=3.4)
        lines.cell(1, "sub_llm_batched(page)", "", started=began, seconds=3.6)
        lines.add("iteration", run="r", it=2)
        lines.call("r:2", 2, "Turn 2", "code", seconds=1.0)
        began = lines.now
        lines.add("tool", run="r", it=2, call="t2", name="sub_rlm", is_tool=False)
        lines.run("r.1", parent="r", parent_call="t2", depth=1)
        lines.step(1, "SUBMIT(1)", "", run="r.1", seconds=0.5, outcome="submitted")
        lines.end("r.1", seconds=2.0)
        lines.add("tool_end", run="r", call="t2", seconds=lines.now - began)
        lines.cell(2, "sub_rlm(page)", "", started=began, seconds=lines.now - began)
        lines.end(seconds=lines.now - 1_800_000_000.0)

    def test_the_critical_path_has_no_gaps_and_names_the_slowest(self, lines: Lines):
        """It covers the run from its start to its end; of a batch it has the slow call, and it goes into sub-runs."""
        self.nested(lines)
        _, journal = journal_of(lines)
        path = journal["time"]["critical"]
        parts = journal["time"]["by_part"]

        assert path[0]["start"] == 0
        assert path[-1]["end"] == pytest.approx(journal["seconds"], abs=0.001)
        assert all(one["end"] == two["start"] for one, two in pairwise(path))
        assert sum(parts.values()) == pytest.approx(journal["seconds"], abs=0.001)
        assert 2.9 < parts["sub"] < 3.2
        assert parts["root"] == pytest.approx(2.5, abs=0.01)
        slow = max(
            (one for one in path if one["part"] == "sub"), key=lambda one: one["end"] - one["start"]
        )
        assert journal["calls"][slow["call"]]["replies"] == ["a"]  # type: ignore[index]
        assert any(one["run"] == 1 and one["part"] == "root" for one in path)

    def test_a_long_path_is_thinned(self, lines: Lines):
        """Of very many short calls, neighbours become one, and the path still covers the run without gaps."""
        lines.run()
        lines.add("iteration", run="r", it=1)
        began = lines.now
        for number in range(MAX_SEGMENTS):
            lines.call(f"r:{number}", 1, "?", "a", kind="sub_llm", parent_call="t", seconds=0.3)
        lines.cell(1, "x", "", started=began, seconds=lines.now - began)
        lines.end()
        _, journal = journal_of(lines)
        path = journal["time"]["critical"]

        assert MAX_SEGMENTS / 4 < len(path) < 1.5 * MAX_SEGMENTS
        assert path[-1]["end"] == pytest.approx(journal["seconds"], abs=0.001)
        assert all(one["end"] == two["start"] for one, two in pairwise(path))
        assert {one["part"] for one in path} >= {"sub"}

    def test_totals_tell_turns_from_sub_calls(self, lines: Lines):
        """Calls are counted by depth, model and purpose; cost and tokens are sums."""
        self.nested(lines)
        _, journal = journal_of(lines)

        assert [
            (one["depth"], one["is_sub_call"], one["calls"], one["cost"])
            for one in journal["totals"]
        ] == [
            (0, False, 3, 1.5),
            (0, True, 3, 1.5),
        ]
        assert journal["totals"][1]["input_tokens"] == 90

    def test_each_limit_has_its_line(self, lines: Lines):
        """The budget is drawn from zero to what was spent, and an unknown cost says so."""
        self.nested(lines)
        _, journal = journal_of(lines)
        gauges = {gauge["name"]: gauge for gauge in journal["budget"]}

        assert gauges["max_llm_calls"]["limit"] == 5
        assert gauges["max_llm_calls"]["spent"] == 3
        assert gauges["max_cost"]["spent"] == pytest.approx(3.0)
        assert gauges["max_tokens"]["limit"] is None
        for gauge in gauges.values():
            moments, amounts = zip(*gauge["points"], strict=True)
            assert gauge["points"][0] == (0.0, 0.0)
            assert list(moments) == sorted(moments)
            assert list(amounts) == sorted(amounts)

    def test_sub_runs_know_the_step_above(self, lines: Lines):
        """A sub-run is in the list of runs, and the step that started it names it."""
        self.nested(lines)
        _, journal = journal_of(lines)
        root, below = journal["runs"]

        assert (below["parent"], below["parent_step"], below["depth"]) == (0, 2, 1)
        assert root["steps"][1]["sub_runs"] == [1]

    def test_warnings_lead_to_their_places(self, lines: Lines):
        """The document contains the findings of `runs diagnose`, with links to the steps."""
        lines.run()
        lines.step(1, "x", "", outcome="failed", error={"type": "E"})
        lines.end()
        _, journal = journal_of(lines)

        assert journal["warnings"][0]["kind"] == "failed_cells"
        assert journal["warnings"][0]["advice"]
        assert journal["warnings"][0]["places"] == [{"run": 0, "step": 1, "call": None}]


class TestEvidence:
    """Coverage of inputs, quotes in their place, lineage of outputs."""

    def test_coverage_is_ranges_of_texts_in_the_units_of_a_browser(self, lines: Lines):
        """Positions count UTF-16 code units, as a page does; a text that no LM was shown is there too."""
        ranges = [{"input": "pages", "path": "[0]", "start": 1, "end": 3}]
        unseen = [{"input": "pages", "path": "[1]", "start": 0, "end": 5}]
        coverage = {
            "chars": 9,
            "seen": 2,
            "fraction": 2 / 9,
            "ranges": ranges,
            "unseen": unseen,
            "exact": True,
        }
        lines.run(inputs={"pages": ["a𝄞bc", "plain"]})
        lines.end(coverage={"pages": coverage})
        _, journal = journal_of(lines)
        found = journal["runs"][0]["inputs"][0]["coverage"]
        assert found is not None

        assert (found["chars"], found["seen"], found["exact"]) == (9, 2, True)
        assert found["texts"] == [
            {"path": "[0]", "chars": 4, "seen": [1, 4], "text": "a𝄞bc"},
            {"path": "[1]", "chars": 5, "seen": [], "text": "plain"},
        ]
        assert "a𝄞bc".encode("utf-16-le")[2:8].decode("utf-16-le") == "𝄞b"

    def test_quotes_have_the_text_around_them(self, lines: Lines):
        """A quote in an output is shown in its place."""
        quote = {"text": "leaked", "input": "page", "path": "", "start": 6, "end": 12, "line": 1}
        lines.run(inputs={"page": "It is leaked here."}, outputs=("quotes", "other"))
        lines.end(outputs={"quotes": [{"deep": quote}], "other": {"input": "no quote"}})
        _, journal = journal_of(lines)

        assert journal["runs"][0]["quotes"] == [
            {
                "output": "quotes", "input": "page", "path": "", "start": 6, "end": 12, "line": 1,
                "text": "leaked", "before": "It is ", "after": " here.",
            }
        ]  # fmt: skip

    def test_outputs_have_their_lineage_and_missing_ones_say_so(self, lines: Lines):
        """The steps, sub-calls and ranges of an output are there; one that is absent is missing."""
        lineage = {
            "cells": [1],
            "sub_calls": [{"cell": 1, "function": "sub_llm", "row": None, "verbatim": True}],
        }
        lines.run(outputs=("answer", "sources"))
        lines.add("iteration", run="r", it=1)
        lines.call("r:s", 1, "?", "red", kind="sub_llm", parent_call="t")
        lines.cell(1, "SUBMIT(sub_llm('?'))", "")
        lines.end(
            outputs={"answer": "red"},
            status="partial",
            missing=["sources"],
            lineage={"answer": lineage},
        )
        _, journal = journal_of(lines)
        answer, sources = journal["runs"][0]["outputs"]

        assert (answer["value"], answer["missing"]) == ("red", False)
        assert answer["lineage"] is not None
        assert answer["lineage"]["steps"] == [1]
        assert answer["lineage"]["sub_calls"][0]["call"] == 0
        assert (sources["missing"], sources["lineage"]) == (True, None)

    @pytest.mark.parametrize(
        "hostile", [[], "x", {"page": 3}, {"page": {"ranges": [{"path": 3}, 7], "chars": -1}}]
    )
    def test_a_damaged_report_is_no_error(self, lines: Lines, hostile: Any):
        """A journal may be anybody's: coverage and lineage of another form are left out."""
        lines.run()
        lines.end(
            coverage=hostile, lineage=hostile, missing=hostile, turns_lost=hostile, seconds="x"
        )
        _, journal = journal_of(lines)

        assert journal["runs"][0]["inputs"][0]["name"] == "page"


def test_a_document_has_the_same_types_in_both_languages():
    """Each type of the page's script has the fields of its Python type, and no others."""
    folder = SOURCES / "document"
    files = [folder / "format.ts", *sorted((folder / "format").glob("*.ts"))]
    source = "\n".join(file.read_text("utf-8") for file in files)
    source = re.sub(r"/\*\*.*?\*/", "", source, flags=re.DOTALL)
    declared = {
        name: re.findall(r"^  readonly (\w+)\??:", body, re.MULTILINE)
        for name, body in re.findall(
            r"export interface (\w+) \{(.*?)^\}", source, re.DOTALL | re.MULTILINE
        )
    }

    assert len(declared) > 20
    for name, fields in declared.items():
        assert list(get_type_hints(getattr(doc, name))) == fields, name
    assert f'FORMAT = "{doc.FORMAT}"' in source
    assert f"VERSION = {doc.VERSION};" in source
