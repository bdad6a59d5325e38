"""Lineage: the cells, sub-calls and ranges of the inputs that an output came from."""

from __future__ import annotations

import random

import dspy
import pytest

from dspy_rlm import Quote
from dspy_rlm.budget.budget import Budget
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.evidence.assignments import cells_of
from dspy_rlm.evidence.coverage import Coverage
from dspy_rlm.evidence.sent import sent
from dspy_rlm.reports.provenance import Range, SubCall
from dspy_rlm.runs.run import Run
from dspy_rlm.testing import fields
from sandbox_runtime import Completed, Submitted

_CHOSEN = random.Random(5)
DOC = " ".join(f"{_CHOSEN.getrandbits(40):x}" for _ in range(1000))


class TestCells:
    CODES = (
        "pages = doc.split('x')",
        "rows = predict_batched('t -> n', pages)\nfactor = 3",
        "unused = 5\ntotal = 0\nfor row in rows:\n    total += row.n",
        "best = []\nbest.append(rows[0])",
        "def shown(value):\n    return value * factor",
    )

    @pytest.mark.parametrize(
        ("submit", "total", "answer"),
        [
            ("SUBMIT(total, shown(best))", (1, 2, 3, 6), (1, 2, 4, 5, 6)),
            ("print(1)\nSUBMIT(answer='x', total=total)", (1, 2, 3, 6), (6,)),
            ("SUBMIT({'total': 1, 'answer': best})", (6,), (1, 2, 4, 6)),
            ("both = {'total': 1, 'answer': unused}\nSUBMIT(**both)", (3, 6), (3, 6)),
            ("rows = 4\nSUBMIT(rows, 5)", (6,), (6,)),
            ("if total: SUBMIT(1, factor)", (6,), (2, 6)),
        ],
    )
    def test_assignments_lead_back_to_cells(self, submit, total, answer):
        """Through loops, functions, methods that change a value, and arguments in any form."""
        found = cells_of([*self.CODES, submit], ["total", "answer"])

        assert (found["total"], found["answer"]) == (total, answer)

    def test_names_inside_of_a_comprehension_or_a_function_lead_nowhere(self):
        """Another cell may use the same ones."""
        codes = [
            "many = [x for x in pages]\ndef f(y):\n    z = y\n    return z",
            "x, y, z = 1, 2, 3",
            "few = [x for x in many if f(x)]",
            "SUBMIT(few)",
        ]

        assert cells_of(codes, ["answer"]) == {"answer": (1, 3, 4)}

    def test_a_variable_by_name(self):
        """`FINAL_VAR` names it in a text."""
        assert cells_of(["x = 1", "y = 2", "FINAL_VAR('x')"], ["answer"]) == {"answer": (1, 3)}

    @pytest.mark.parametrize("code", ["SUBMIT((", "x" * 200_000, ""])
    def test_code_that_cannot_be_read_is_the_only_source(self, code):
        """It is the cell that submitted."""
        assert cells_of(["x = 1", code], ["answer"])["answer"] == (2,)


class TestSent:
    def test_the_rows_of_a_batch(self):
        """Failed rows are left out; what all rows share is sent with the first."""
        rows = [{"a": "one"}, {"a": "two"}, ("three", 4)]
        results = [1, type("FailedRow", (), {})(), 3]

        found = sent("predict_batched", ["a, b -> n", rows], {"b": "all"}, results)

        assert [(one.row, one.texts) for one in found] == [
            (0, ["a, b -> n", "all", "one"]),
            (2, ["three"]),
        ]

    def test_a_single_call(self):
        """All of its texts."""
        (one,) = sent("sub_llm", ["prompt"], {"model": None}, "reply")

        assert (one.row, one.texts, one.reply) == (None, ["prompt"], "reply")


class TestRuns:
    def test_quotes_have_exact_ranges(self):
        """Also without tracking; the cells come from the code."""
        signature = dspy.Signature("doc -> q: Quote, n: int", custom_types={"Quote": Quote})
        run = Run(signature, [], Budget(), answers=Answers(signature, inputs={"doc": "abc def"}))
        run.read(dspy.Prediction(reasoning="", code="x = 3"))
        run.observe(Completed(""))
        run.read(dspy.Prediction(reasoning="", code="SUBMIT('def', x)"))
        run.observe(Submitted({"q": "def", "n": 3}, ""))

        lineage = run.prediction().run.lineage

        assert lineage["q"].ranges == (Range("doc", "", 4, 7),)
        assert (lineage["q"].cells, lineage["q"].exact) == ((2,), True)
        assert (lineage["n"].cells, lineage["n"].ranges, lineage["n"].exact) == ((1, 2), (), False)

    def test_extracted_outputs_come_from_the_steps_that_show_them(self):
        """An estimate: their text is in the output."""
        signature = dspy.Signature("doc -> answer")
        run = Run(signature, [], Budget())
        for output in ("nothing\n", "It was Eve.\n"):
            run.read(dspy.Prediction(reasoning="", code="print(x)"))
            run.observe(Completed(output))
        run.extract({"answer": "It was Eve."})

        assert run.prediction().run.lineage["answer"].cells == (2,)

    def test_a_failed_run_has_none(self):
        """There are no outputs."""
        run = Run(dspy.Signature("doc -> answer"), [], Budget())

        assert run.fail(ValueError("no")).lineage == {}

    def test_text_of_an_output_in_the_inputs(self):
        """Found by the same index as the coverage."""
        signature = dspy.Signature("doc -> answer")
        coverage = Coverage({"doc": DOC})
        answers = Answers(signature, inputs={"doc": DOC}, coverage=coverage)
        run = Run(signature, [], Budget(), [coverage.sink], answers=answers)
        run.read(dspy.Prediction(reasoning="", code="SUBMIT(doc[100:300])"))
        run.observe(Submitted({"answer": f"It says: {DOC[100:300]}"}, ""))

        report = run.prediction().run

        assert report.lineage["answer"].ranges == (Range("doc", "", 100, 300),)
        assert not report.lineage["answer"].exact

    def test_sub_calls_by_their_replies_and_by_their_cells(self, play):
        """An output with the text of a reply came from that call; a computed one from the calls of its cells."""
        number = fields(lambda _inputs: {"n": 1})

        def reply(request):
            for start, text in {"A: ": "the first reply", "B: ": "the second reply"}.items():
                if request.prompt.startswith(start):
                    return text
            return number(request)

        rlm, _ = play(
            "doc: str -> answer: str, n: int",
            "found = [sub_llm('A: ' + doc[:500]), sub_llm('B: ' + doc[2000:2500])]",
            "rows = predict_batched('text -> n: int', [doc[4000:4500], doc[5000:5500]])",
            "SUBMIT(found[1].upper() and found[1], sum(row.n for row in rows))",
            sub=reply,
            track_coverage=True,
        )

        lineage = rlm(doc=DOC).run.lineage

        assert lineage["answer"].sub_calls == (SubCall(1, "sub_llm", None, verbatim=True),)
        assert lineage["answer"].ranges == (Range("doc", "", 2000, 2500),)
        assert lineage["n"].cells == (2, 3)
        assert lineage["n"].sub_calls == (
            SubCall(2, "predict_batched", 0),
            SubCall(2, "predict_batched", 1),
        )
        assert lineage["n"].ranges == (
            Range("doc", "", 4000, 4500),
            Range("doc", "", 5000, 5500),
        )
