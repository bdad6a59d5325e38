"""Prompts are valid Unicode, whatever inputs, cells and replies contain."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dspy_rlm.lms.valid_text import valid_text, with_valid_text
from dspy_rlm.testing import Action, fields, rules

HALVES = "Jos\udce9 \ud83d end"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("plain", "plain"),
        ("é \U0001f600", "é \U0001f600"),
        ("Jos\udce9", "Jos\\udce9"),
        ("\ud83d", "\\ud83d"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\\ude00\\ud83d"),
        ("\U0001f600\ud83d\U0001f600", "\U0001f600\\ud83d\U0001f600"),
    ],
)
def test_lone_surrogates_are_escaped_and_pairs_joined(text, valid):
    """Half of a character is shown as Python writes it; both halves in a row are the character."""
    assert valid_text(text) == valid
    assert valid_text(valid) == valid


@dataclasses.dataclass(frozen=True)
class Request:
    """A typed request, like those of DSPy."""

    texts: tuple[str, ...]


def test_all_texts_of_an_argument_are_made_valid():
    """Messages, their parts, keys, and the fields of typed requests; valid arguments stay the same objects."""
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "a\udce9"}],
        "k\udce9": ("\ud83d", 1),
    }

    assert with_valid_text([message]) == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a\\udce9"}],
            "k\\udce9": ("\\ud83d", 1),
        }
    ]
    assert with_valid_text(Request(("\udce9",))) == Request(("\\udce9",))
    for valid in ([{"role": "user", "content": "é"}], Request(("é",)), None, 5):
        assert with_valid_text(valid) is valid


class TestRuns:
    def test_an_input_with_lone_surrogates(self, play):
        """The prompt shows them escaped and says so; the variable and the answer have them unchanged."""
        rlm, server = play("log -> answer", "print(log)", "SUBMIT(log)")

        assert rlm(log=HALVES).answer == HALVES
        first, second = (request.prompt for request in server.requests)
        assert "has lone surrogates, such as \\udce9, which are shown escaped" in first
        assert "Jos\\udce9 \\ud83d end" in first
        assert "Jos\\udce9 \\ud83d end" in second.split("Output (")[1]

    def test_sub_calls_with_lone_surrogates(self, play):
        """Plain, batched and typed sub-calls are sent; none is lost to one bad character."""
        rlm, server = play(
            "log -> answers: list[str]",
            "one = sub_llm(log)\nmany = sub_llm_batched([log, 'b'])\n"
            "typed = predict('t -> a', t={log: [log]}).a\nSUBMIT([one, *many, typed])",
            sub=lambda request: (
                fields(lambda _: {"a": "typed"})(request) if "[[ ##" in request.prompt else "plain"
            ),
        )

        assert rlm(log=HALVES).answers == ["plain", "plain", "plain", "typed"]
        assert any(request.prompt == "Jos\\udce9 \\ud83d end" for request in server.requests)

    def test_replies_with_lone_surrogates(self, play):
        """JSON can contain half a character: in code it means the same escaped, and the report is valid."""
        rlm, _ = play(
            "q -> answer",
            Action("half \ud83d", "print(len('\udce9'), sub_llm('x'))"),
            "SUBMIT('done')",
            sub=rules([], default="a \udce9"),
        )

        run = rlm(q="").run

        assert run.steps[0].output == "1 a \\udce9"
        json.dumps(run.dump(), ensure_ascii=False).encode()

    def test_an_extraction_after_lone_surrogates(self, play):
        """The prompt of the extraction repeats inputs and outputs, and is valid too."""
        rlm, server = play(
            "log -> answer", "raise ValueError(log)", extracted={"answer": "x"}, max_iterations=1
        )

        assert rlm(log=HALVES).answer == "x"
        assert "ValueError: Jos\\udce9" in server.requests[-1].prompt

    def test_nul_bytes_reach_prompts_and_cells(self, play):
        """A NUL byte is a character like any other."""
        rlm, server = play("log -> answer", "print(len(log), log)", "SUBMIT(log)")

        assert rlm(log="a\0b").answer == "a\0b"
        assert "3 a\0b" in server.requests[1].prompt
