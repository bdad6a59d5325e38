"""Replies of small real language models to the extraction prompt: what is there is read, and nothing else is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dspy_rlm.replies.outputs import read_outputs

NAMES = ("total", "lines", "answer", "longest")
REAL = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "real_extractions.jsonl")
    .read_text("utf-8")
    .splitlines()
]


def test_the_corpus_has_both_kinds():
    """Replies with outputs, in several forms, and replies without."""
    with_outputs = [case for case in REAL if case["expected"]]

    assert len(REAL) == 47
    assert len(with_outputs) == 11


@pytest.mark.parametrize("case", REAL, ids=range(len(REAL)))
def test_outputs_of_real_replies_are_read(case):
    """A value is found in sections, JSON and assignments; prose, code and quoted prompts have none."""
    assert read_outputs(case["reply"], NAMES) == case["expected"]
