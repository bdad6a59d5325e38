"""Coverage: the parts of the inputs that were printed for the root LM or sent to a sub-LM."""

from __future__ import annotations

import itertools
import random
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_rlm import RLM, Directory, SignatureError, TextFile, TextStream
from dspy_rlm.budget.budget import Budget
from dspy_rlm.events import RunStarted, StepTaken
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.evidence.blocks import BlockIndex
from dspy_rlm.evidence.coverage import Coverage
from dspy_rlm.evidence.ranges import Ranges
from dspy_rlm.prompts.variables import Variable
from dspy_rlm.reports.provenance import Range
from dspy_rlm.reports.report import Step
from dspy_rlm.runs.run import Run
from dspy_rlm.testing import fields
from sandbox_runtime import Submitted
from sandbox_runtime.helpers import Deadline


def prose(words: int, seed: int = 1) -> str:
    """Text without repetitions, of so many words."""
    chosen = random.Random(seed)
    return " ".join(f"{chosen.getrandbits(40):x}" for _ in range(words))


DOC = prose(2_000)


def spans(coverage: Coverage, name: str = "doc") -> list[tuple[int, int]]:
    """The ranges of an input that were shown."""
    return [(one.start, one.end) for one in coverage.report()[name].ranges]


class TestRanges:
    @given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30))
    def test_it_is_a_set_of_positions(self, pairs):
        """Any order and any overlaps."""
        ranges, positions = Ranges(), set()
        for start, end in pairs:
            ranges.add(start, end)
            positions |= set(range(start, end))

        assert {at for start, end in ranges for at in range(start, end)} == positions
        assert ranges.total == len(positions)
        missing = {at for start, end in ranges.gaps(50) for at in range(start, end)}
        assert missing == set(range(50)) - positions
        listed = list(ranges)
        assert all(one[1] < other[0] for one, other in itertools.pairwise(listed))


class TestBlocks:
    @given(st.data())
    def test_a_passage_of_twice_the_width_is_found(self, data):
        """Wherever it begins, and whatever is around it."""
        start = data.draw(st.integers(0, 900))
        length = data.draw(st.integers(16, 90))
        index = BlockIndex(width=8)
        text = DOC[:1000]
        index.add(0, 0, text, lambda a, b: text[a:b])

        passage = text[start : start + length]
        matches = list(index.matches(f"Answer this!! {passage} ...and be brief"))

        assert any(m.start <= start and m.end >= start + len(passage) for m in matches)

    def test_the_index_is_bounded(self):
        """The oldest blocks are dropped first."""
        index = BlockIndex(width=8, most_blocks=100)
        index.add(0, 0, DOC, lambda a, b: DOC[a:b])

        assert list(index.matches(DOC[:64])) == []
        assert [m.end for m in index.matches(DOC[-64:])] == [len(DOC)]

    def test_text_that_repeats_takes_linear_time(self):
        """A match is as long as it can be, and the search goes on behind it."""
        text = "x" * 300_000
        reads = []

        def read(start: int, end: int) -> str:
            reads.append(max(0, min(end, len(text)) - start))
            return text[start:end]

        index = BlockIndex()
        index.add(0, 0, text, read)
        list(index.matches(text[:100_000]))

        assert sum(reads) < 100 * 100_000


class TestShown:
    def test_a_part_in_a_prompt_is_covered(self):
        """Verbatim, at its place."""
        coverage = Coverage({"doc": DOC})

        coverage.show(f"What does it say?\n\n{DOC[1000:3000]}\n\nBe brief.")

        assert spans(coverage) == [(1000, 3000)]
        report = coverage.report()["doc"]
        assert (report.chars, report.seen, report.exact) == (len(DOC), 2000, False)
        assert report.fraction == 2000 / len(DOC)
        assert report.unseen == (Range("doc", "", 0, 1000), Range("doc", "", 3000, len(DOC)))

    def test_other_text_covers_nothing(self):
        """Text that resembles no input."""
        coverage = Coverage({"doc": DOC})

        coverage.show(prose(500, seed=2))

        assert coverage.report()["doc"].fraction == 0

    def test_the_repr_of_a_text_is_the_text(self):
        """The value of a cell's last expression is printed with escapes."""
        doc = "\n".join(prose(8, seed=line) for line in range(50))
        coverage = Coverage({"doc": doc})

        coverage.show(repr(doc[:1000]))

        assert spans(coverage) == [(0, 1000)]

    def test_gaps_that_could_not_be_found_do_not_count(self):
        """A chunk of a few characters at the end is too short to be found."""
        coverage = Coverage({"doc": DOC[:1010]})

        coverage.show(DOC[:1000])
        coverage.show(DOC[1000:1010])

        assert coverage.report()["doc"].fraction == 1

    def test_blank_text_does_not_count(self):
        """There is nothing to see in it, whether it is all of a text or a gap."""
        blank = "\n" * 500
        coverage = Coverage(
            {"doc": f"{DOC[:300]}{blank}{DOC[300:600]}", "pages": [" ", blank], "empty": ""}
        )

        coverage.show(DOC[:300])
        coverage.show(DOC[300:600])

        assert coverage.shares() == {"doc": 1.0, "pages": 1.0, "empty": 1.0}
        assert coverage.unread(1.0) == []

    def test_rows_of_a_batch_are_exact(self):
        """Each text of a list was sent as a whole; short ones too."""
        pages = ["yes", "no", *(prose(30, seed=page) for page in range(3)), "42 km"]
        coverage = Coverage({"pages": pages})
        send = coverage.wrapper("predict_batched", lambda signature, rows: [None] * len(rows))

        send("text -> n: int", pages[:4])

        report = coverage.report()["pages"]
        assert report.exact
        assert {one.path for one in report.ranges} == {"[0]", "[1]", "[2]", "[3]"}
        assert [str(one) for one in report.unseen] == [
            f"pages[4][0:{len(pages[4])}]",
            "pages[5][0:5]",
        ]

    def test_a_sub_call_without_an_answer_covers_nothing(self):
        """One that raised, and the rows of a batch that failed."""
        coverage = Coverage({"doc": DOC})

        def fail(prompt: str) -> str:
            raise ValueError("no answer")

        with pytest.raises(ValueError, match="no answer"):
            coverage.wrapper("sub_llm", fail)(DOC)
        batched = coverage.wrapper("sub_llm_batched", lambda prompts: ["fine", "[ERROR] no"])
        batched([DOC[:500], DOC[500:]])

        assert spans(coverage) == [(0, 500)]

    def test_other_functions_are_not_wrapped(self):
        """A tool of the user is no LM."""

        def tool(text: str) -> str:
            return text

        assert Coverage({"doc": DOC}).wrapper("search", tool) is tool

    def test_the_root_sees_previews_and_outputs(self):
        """Of an output that was cut, only the part that was shown."""
        coverage = Coverage({"doc": DOC, "question": "Who?"})

        coverage.sink(RunStarted([Variable("question", "str", "", "Who?")], 3))
        coverage.sink(StepTaken(1, Step("", "print(doc)", DOC[:700]), 0))

        assert coverage.shares() == {"doc": round(700 / len(DOC), 3), "question": 1.0}

    def test_inputs_without_text_have_no_coverage(self):
        """There is nothing to read."""
        assert (
            Coverage(
                {"n": 3, "image": dspy.Image("data:image/png;base64,AA=="), "rows": [1]}
            ).report()
            == {}
        )


def deadline() -> Deadline:
    """No limit."""
    return Deadline()


class TestOnTheHost:
    def test_reads_of_a_file_are_tracked(self, tmp_path):
        """`read` is what code got, `fraction` what it showed of that to an LM, at the true position."""
        path = tmp_path / "log.txt"
        path.write_text(DOC)
        coverage = Coverage({"log": TextFile(path)})
        log = coverage.watched()["log"]

        log.delivered(5000, log.read(5000, 9000))
        coverage.show(f"Summarize:\n{DOC[6000:7000]}")
        coverage.show(DOC[12_000:13_000])

        report = coverage.report()["log"]
        assert report.exact
        assert report.read == 4000 / len(DOC)
        assert spans(coverage, "log") == [(6000, 7000)]

    def test_a_short_piece_that_was_read_is_not_missed(self, tmp_path):
        """The end of a file, sent with the other chunks; one that was not read is."""
        path = tmp_path / "log.txt"
        path.write_text(DOC[:1010])
        coverage = Coverage({"log": TextFile(path)})
        log = coverage.watched()["log"]

        log.delivered(0, log.read(0, 1000))
        coverage.show(DOC[:1000])
        before = coverage.report()["log"].fraction
        log.delivered(1000, log.read(1000, 1010))
        coverage.show(f"And: {DOC[1000:1010]}!")

        assert before < 1
        assert coverage.report()["log"].fraction == 1

    def test_a_watched_text_is_what_it_was(self, tmp_path):
        """An instance of its class, with the same operations."""
        path = tmp_path / "log.txt"
        path.write_text("one\ntwo\n")
        log = Coverage({"log": TextFile(path)}).watched()["log"]

        assert isinstance(log, TextFile)
        assert repr(log).startswith("<TextFile 'log.txt', 8 bytes")
        assert log.find("two", 0, None, deadline()) == 4

    def test_texts_in_containers_and_sub_runs(self, tmp_path):
        """A list of files; a sub-run watches what is watched already, and both know."""
        path = tmp_path / "log.txt"
        path.write_text(DOC)
        outer = Coverage({"logs": [TextFile(path), "text"], "n": [1, 2]})
        values = outer.watched()
        inner = Coverage({"log": values["logs"][0]})

        log = inner.watched()["log"]
        log.delivered(0, DOC[:1000])
        for coverage in (outer, inner):
            coverage.show(DOC[:1000])

        assert outer.report()["logs"].ranges[0] == Range("logs", "[0]", 0, 1000)
        assert spans(inner, "log") == [(0, 1000)]
        assert values["n"] is outer.watched()["n"]

    def test_files_of_a_directory(self, tmp_path):
        """Files that no cell has read count with their bytes; files that are no texts do not count."""
        (tmp_path / "a.txt").write_text(DOC[:1000])
        (tmp_path / "b.txt").write_text(DOC[1000:4000])
        (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
        coverage = Coverage({"repo": Directory(tmp_path)})
        file = coverage.watched()["repo"].file("a.txt")

        file.delivered(0, file.read(0, 5000))
        coverage.show(DOC[:1000])

        report = coverage.report()["repo"]
        assert (report.chars, report.seen, report.read, report.exact) == (4000, 1000, 0.25, True)
        assert [str(one) for one in report.unseen] == ["repo['b.txt'][0:3000]"]

    def test_a_stream_counts_as_far_as_it_was_read(self):
        """The rest of it may be endless."""
        endless = TextStream(iter(lambda: prose(100), ""))
        coverage = Coverage({"stream": endless})

        assert coverage.report()["stream"].fraction < 1

    def test_a_file_that_changes_does_not_end_the_run(self, tmp_path):
        """Its coverage stays as it was."""
        path = tmp_path / "log.txt"
        path.write_text(DOC)
        coverage = Coverage({"log": TextFile(path)})
        path.write_text("gone")

        coverage.show(DOC[:500])

        assert coverage.report()["log"].fraction == 0


def run_with(required: Any, **budget: Any) -> tuple[Run, Coverage]:
    """A run over two inputs that requires coverage."""
    signature = dspy.Signature("doc: str, note: str -> n: int")
    inputs = {"doc": DOC, "note": "short note"}
    coverage = Coverage(inputs)
    answers = Answers(signature, inputs=inputs, coverage=coverage, require_coverage=required)
    return Run(signature, [], Budget(**budget), [coverage.sink], answers=answers), coverage


def submit(run: Run) -> None:
    """One turn that submits."""
    run.read(dspy.Prediction(reasoning="", code="SUBMIT(1)"))
    run.observe(Submitted({"n": 1}, ""))


class TestRequired:
    def test_a_submit_is_refused_with_what_is_unread(self):
        """And accepted when that was read."""
        run, coverage = run_with(0.9)
        coverage.show("short note")
        coverage.show(DOC[:2000])

        submit(run)
        coverage.show(DOC[2000:])
        submit(run)

        refusal = run.steps[0].output
        assert (
            "doc: 9% (an estimate) was printed or sent to a sub-LM, and 90% is required." in refusal
        )
        assert f"Not yet: doc[2000:{len(DOC)}]" in refusal
        assert "note:" not in refusal
        assert run.outputs == {"n": 1}
        assert run.prediction().run.coverage["doc"].fraction == 1

    def test_an_input_by_name(self):
        """The others do not matter."""
        run, _ = run_with({"note": 1.0})

        submit(run)

        assert "- note: 0%" in run.steps[0].output
        assert "doc:" not in run.steps[0].output

    def test_the_outputs_are_kept_when_no_turn_is_left(self):
        """One more turn, as for any refused SUBMIT; then they are the result, as extracted outputs."""
        run, _ = run_with(0.9, max_iterations=1)

        submit(run)
        submit(run)
        run.keep_submitted()

        assert run.outputs == {"n": 1}
        assert run.prediction().run.status == "extracted"

    def test_many_ranges_are_counted(self):
        """A refusal lists the first ones."""
        run, coverage = run_with(1.0)
        for start in range(0, 15_000, 500):
            coverage.show(DOC[start : start + 200])

        submit(run)

        assert "doc[200:500], doc[700:1000]" in run.steps[0].output
        assert "more" in run.steps[0].output

    @pytest.mark.parametrize("fraction", [1.5, -0.1, True, "0.9", {"doc": 2}, {"page": 0.5}])
    def test_the_fraction_is_checked(self, fraction):
        """By the constructor."""
        with pytest.raises(SignatureError, match="require_coverage"):
            RLM("doc -> n: int", require_coverage=fraction)

    def test_the_prompt_states_the_requirement(self):
        """Only where there is one."""
        rule = "- `SUBMIT` is refused until {} was printed or sent to a sub-LM, unchanged."

        def prompt(**options: Any) -> str:
            return RLM("doc, note -> n: int", **options).action_signature().instructions

        assert rule.format("90% of each variable") in prompt(require_coverage=0.9)
        assert rule.format("50% of `doc`") in prompt(require_coverage={"doc": 0.5})
        assert prompt(track_coverage=True) == prompt()

    def test_without_it_nothing_is_tracked(self):
        """Also not for sub-runs; the report has no coverage."""
        rlm = RLM("doc -> n: int")

        assert not rlm.track_coverage
        assert RLM("doc -> n: int", require_coverage=0.5).track_coverage


class TestWithTheSandbox:
    def test_a_run_over_a_file_and_a_list(self, play, tmp_path):
        """Slices, matches, lines and rows, as cells read and send them."""
        path = tmp_path / "log.txt"
        lines = [prose(6, seed=line) for line in range(400)]
        text = "\n".join(lines)
        path.write_text(text)
        pages = [prose(40, seed=1000 + page) for page in range(4)]
        rlm, _ = play(
            "log: str, pages: list[str] -> n: int",
            f"print(log[2000:4000])\nfor hit in log.grep({lines[300]!r}): print(hit)",
            "r = predict_batched('text -> n: int', pages[:3])\nprint(BUDGET()['coverage'])",
            "long = [line for line in log if len(line) > 1000]\nSUBMIT(1)",
            sub=fields(lambda _inputs: {"n": 1}),
            track_coverage=True,
        )

        prediction = rlm(log=TextFile(path), pages=pages)

        log, listed = prediction.run.coverage["log"], prediction.run.coverage["pages"]
        shown = [(one.start, one.end) for one in log.ranges]
        start = text.index(lines[300])
        assert log.exact
        assert log.read == 1.0
        assert any(first <= 2000 and last >= 4000 for first, last in shown)
        assert any(first <= start and last >= start + len(lines[300]) for first, last in shown)
        assert log.seen < 4000
        assert listed.exact
        assert listed.seen >= sum(map(len, pages[:3]))
        assert listed.fraction < 1
        assert "'pages': 0." in prediction.trajectory[1]["output"]
        assert prediction.run.dump()["coverage"]["log"]["fraction"] == log.fraction

    def test_a_sub_run_shows_its_inputs_to_its_lm(self, play):
        """They are parts of the inputs of the run above; the sub-run itself requires nothing."""
        rlm, server = play(
            "doc: str -> n: int",
            "if 'doc' in globals(): r = sub_rlm('part: str -> n: int', part=doc[:3000])\n"
            "else: print(part[1500:2500])",
            "SUBMIT(1 if 'part' in globals() else 2)",
            require_coverage={"doc": 0.1},
        )
        rlm.sub_lm = server.lm("root")

        prediction = rlm(doc=DOC)

        assert prediction.n == 2
        shown = prediction.run.coverage["doc"].ranges
        assert any(one.start <= 1500 and one.end >= 2500 for one in shown)
