"""The examples of `docs/watching.md`, run as they stand there, one after the other."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import dspy

import dspy_rlm
from dspy_rlm.testing import rules

DOCS = Path(__file__).parents[2] / "docs" / "watching.md"
CELLS = (
    "pieces = logs.split('.')\nverdicts = sub_llm_batched([p + '?' for p in pieces])\nprint(verdicts)",
    "SUBMIT('the nightly job')",
)


def test_the_examples_run(play, capsys, caplog):
    """The examples print what the page says they print."""
    rlm, server = play(
        "logs: str, question: str -> answer: str", *CELLS, sub=rules([], default="no")
    )
    names = {
        "dspy": dspy,
        "dspy_rlm": dspy_rlm,
        "rlm": rlm,
        "logs": ".".join(f"line {n}" for n in range(12)),
        "question": "Who broke the build?",
        "questions": ["Who?", "When?"],
    }
    caplog.set_level(logging.NOTSET, "dspy_rlm")  # restored at the end: an example sets it
    with dspy.context(lm=server.lm("root")):
        for block in re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.S):
            exec(compile(block, str(DOCS), "exec"), names)
    printed = capsys.readouterr().out

    example = re.search(
        r"among the pieces of code:\n\n(.*?)\n\n\*\*", DOCS.read_text("utf-8"), re.S
    )
    assert example is not None
    for line in example[1].splitlines():
        costs = r"(, [\d,]+ tokens)?(, \$[\d.]+)?, [\d.]+ s$"
        assert re.sub(costs, "", line.strip()) in printed
    assert "StatusMessage(message='Turn 1')" in printed
    assert "StatusMessage(message='asking 12 more')" in printed
    assert "openai/sub in " in printed
    assert names["prediction"].get_lm_usage().keys() == {"openai/root", "openai/sub"}
    assert [message["answer"] for message in names["history"].messages] == ["the nightly job"] * 2
