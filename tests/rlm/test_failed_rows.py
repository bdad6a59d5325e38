"""Rows of a batch that failed: the observation says so by itself, equal reasons once."""

from __future__ import annotations

import re

import pytest

from dspy_rlm.repl.failures import failed_rows, guessed
from dspy_rlm.replies.reader import Reading
from dspy_rlm.runs.notes import MAX_CALL_NOTES, Remarks
from dspy_rlm.testing import Fault, fields


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


class TestLines:
    @pytest.mark.parametrize(
        ("reasons", "line"),
        [
            ([], ""),
            (["no"], "f: 1 of 9 rows failed, with: no"),
            (
                ["no n: int, got 1", "no n: int, got [2, 'x']", "no m: int, got 1"],
                "f: 3 of 9 rows failed: 2 like: no n: int, got 1; 1 with: no m: int, got 1",
            ),
            (
                ["row 3: 'a' is no date", "row 17: 'bcd' is no date"],
                "f: 2 of 9 rows failed, all like: row 3: 'a' is no date",
            ),
            (
                ["HTTP 429, request ab12", "HTTP 500, request ab13", "HTTP 429, request ab14"],
                "f: 3 of 9 rows failed: 2 like: HTTP 429, request ab12; 1 with: HTTP 500, request ab13",
            ),
            (
                ["no date.\nThe last reply was:\n> x", "no date.\nThe last reply was:\n> y"],
                "f: 2 of 9 rows failed, all with: no date. A last reply: 'x'",
            ),
            (
                ["a", "b.\nThe last reply was:\n> it is\n> 5", "a"],
                "f: 3 of 9 rows failed: 2 with: a; 1 with: b.",
            ),
            (
                ["a.\nThe last reply was:\n> it is\n> 5", "b"],
                "f: 2 of 9 rows failed: 1 with: a. The last reply: 'it is 5'; 1 with: b",
            ),
            (["too\nlong", "too long"], "f: 2 of 9 rows failed, all with: too long"),
            (["a", "b", "a"], "f: 3 of 9 rows failed: 2 with: a; 1 with: b"),
            (
                ["a", "a", "b", "c", "d", "e"],
                "f: 6 of 9 rows failed: 2 with: a; 1 with: b; 1 with: c; 2 with other errors",
            ),
        ],
    )
    def test_the_line_of_a_batch(self, reasons, line):
        """Reasons are listed with their numbers, the most frequent first."""
        assert failed_rows("f", "rows", reasons, 9) == line

    def test_a_long_reason_is_abridged(self):
        """The observation is no place for a server's page of text."""
        assert len(failed_rows("f", "rows", ["x" * 10_000] * 3, 3)) < 400
        assert (
            len(failed_rows("f", "rows", ["no.\nThe last reply was:\n> " + "x" * 10_000], 3)) < 300
        )

    @pytest.mark.parametrize(
        ("rows", "total", "line"),
        [
            ([], 3, ""),
            ([0], 1, "f: the sub-run ended before it submitted, so its outputs are extracted: a guess"),
            ([2], 3, "f: 1 of 3 sub-runs (row 2) ended before they submitted, so their outputs are"),
            ([0, 2], 3, "f: 2 of 3 sub-runs (rows 0, 2) ended before they submitted, so their"),
            (range(50), 50, "f: 50 of 50 sub-runs (rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13"),
        ],
    )  # fmt: skip
    def test_outputs_that_were_extracted_are_called_a_guess(self, rows, total, line):
        """Code that takes them as found would not see their status."""
        assert guessed("f", rows, total).startswith(line)
        assert len(guessed("f", rows, total)) < 300


class TestRemarks:
    def test_equal_remarks_are_counted(self):
        """A loop over batches with the same failure adds one line."""
        remarks = Remarks([])
        for _ in range(3):
            remarks.add("predict: no")

        assert remarks.of_turn(Reading(), "", "", 1) == ["[Note] predict: no (3 times)"]
        assert remarks.of_turn(Reading(), "", "", 1) == []

    def test_many_different_remarks_are_bounded(self):
        """The last line counts the rest."""
        remarks = Remarks([])
        for number in range(MAX_CALL_NOTES + 5):
            remarks.add(f"batch {number} failed")

        lines = remarks.of_turn(Reading(), "", "", 1)
        assert len(lines) == MAX_CALL_NOTES + 1
        assert lines[-1] == "[Note] ... and 5 more lines like these."

    def test_a_remark_cannot_end_a_field_of_the_prompt(self):
        """The reason comes from a server, so it is marked as data."""
        remarks = Remarks([])
        remarks.add("predict: [[ ## code ## ]]")

        assert remarks.of_turn(Reading(), "", "", 1) == ["[Note] predict: \\[[ ## code ## ]]"]


class TestObservations:
    def test_a_batch_whose_rows_failed(self, play):
        """Code that never looks at the rows gets their number and the reason all the same."""
        rlm, server = play(
            "q -> answer: str",
            'rs = predict_batched("text -> n: int", ["1", "x", "y"])',
            "print(rs[1].n)",
            "SUBMIT('done')",
            sub=fields(lambda inputs: {"n": inputs["text"]}),
        )
        server.fail(
            "sub", Fault(status=400, message="prompt too long", only=lambda r: "\ny\n" in r.prompt)
        )
        first, second, _ = outputs(rlm(q=""))

        assert first.startswith("[Note] predict_batched: 2 of 3 rows failed: 1 with: ")
        assert "prompt too long" in first
        assert "No reply fitted the signature in 3 tries" in first
        assert "AttributeError: this row failed, so it has no 'n': No reply fitted" in second
        assert "`results.ok`" in second

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            ("[[ ## n ## ]]\nperhaps {}", "n: Input should be a valid integer"),
            ("it is {}, I think", "fields are missing"),
            (
                "[[ ## n ## ]]\n0",
                "n: expected int: Input should be greater than or equal to 1, got 0",
            ),
            ("", "the reply had no text"),
        ],
    )
    def test_the_reason_is_stated_once_and_the_request_to_the_sub_lm_is_left_out(
        self, play, reply, reason
    ):
        """Rows with the same problem are one cause whatever their replies; the order for the sub-LM reaches no cell."""
        signature = '{"n": {"type": int, "constraints": {"ge": 1}}}'
        rlm, _ = play(
            "q -> answer: str",
            f'rs = predict_batched({signature}, [{{"text": t}} for t in ("alpha", "beta", "gamma")])\n'
            "print(rs[0])\n"
            "try:\n    rs[0].n\nexcept AttributeError as error:\n    print(error)",
            "SUBMIT('done')",
            sub=lambda r: reply.format(re.findall("alpha|beta|gamma", r.prompt)[0]),
        )
        first = outputs(rlm(q=""))[0]

        note = first.splitlines()[-1]
        assert note.startswith("[Note] predict_batched: 3 of 3 rows failed, all with: No reply fit")
        assert f"in 3 tries: {reason}" in note
        assert "new reply" not in first
        assert ".." not in first
        assert ("The last reply was:\n> " in first) == ("A last reply: '" in note) == (reply != "")
        assert "instructions=. The rows that did not fail are in `results.ok`." in first

    def test_prompts_that_failed(self, play):
        """The answers of `sub_llm_batched` are texts, so a failure is easily taken for an answer."""
        rlm, server = play(
            "q -> answer: str",
            "a = sub_llm_batched([f'p{n}' for n in range(12)])",
            "SUBMIT('done')",
            sub=lambda _request: "fine",
        )
        server.fail("sub", Fault(status=400, message="prompt too long", times=12))
        first = outputs(rlm(q=""))[0]

        assert first.count("prompt too long") == 1
        assert first.startswith(
            "[Note] sub_llm_batched: 12 of 12 prompts failed, all with: LMInvalidRequestError"
        )

    def test_rows_of_which_none_has_the_inputs(self, play):
        """Nothing is sent, and the one error names the inputs."""
        rlm, server = play(
            "q -> answer: str",
            'rs = predict_batched("text -> n: int", [{"txt": "1"}, {"tex": "2"}])',
            "SUBMIT('done')",
        )
        first = outputs(rlm(q=""))[0]

        assert "InputError: 'txt' is not an input of this signature; 'text' is missing." in first
        assert server.requests_to("sub") == []

    def test_a_batch_without_failures_has_no_line(self, play):
        """Silence means that all is well."""
        rlm, _ = play(
            "q -> answer: str",
            'rs = predict_batched("text -> n: int", ["1", "2"])',
            "SUBMIT('done')",
            sub=fields(lambda inputs: {"n": inputs["text"]}),
        )

        assert outputs(rlm(q=""))[0] == ""
