"""One line among a million, in a file that never enters a prompt or the memory of the sandbox.

    python examples/needle.py
    python examples/needle.py FILE -q "Who changed the retention of the audit log?"

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import dspy

import dspy_rlm
from dspy_rlm import Quote, TextFile
from dspy_rlm.testing import Action, choose_models, policy, rules

NEEDLE = 731_204
QUESTION = "Who changed the retention of the audit log, and to what?"


class Find(dspy.Signature):
    """Answer a question about a log. The evidence is the line that says it, verbatim."""

    log: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    line: int = dspy.OutputField(desc="the number of the line, from 1")
    evidence: Quote = dspy.OutputField()


def write_log(path: Path) -> None:
    """Writes a million lines, some 70 MB. Many speak of retention; one speaks of that of the audit log."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(1, 1_000_001):
            if number == NEEDLE:
                file.write(
                    "2026-03-02T11:09:44 config mara set retention of audit_log from 400d to 7d\n"
                )
            elif number % 5_003 == 0:
                file.write(
                    f"2026-03-01T00:00:00 config deploy checked retention of bucket_{number % 97}: 30d\n"
                )
            else:
                file.write(
                    f"2026-03-01T00:00:00 worker-{number % 31:02} handled request {number * 7919 % 999_983:06} in 12 ms\n"
                )


@policy
def root(task):
    """Plays the root LM: a broad search, a narrower one, and one question to the sub-LM."""
    yield Action(
        "Large. A broad search first.",
        "print(len(log))\nhits = log.grep('retention', limit=5000)\nprint(len(hits), hits[0].line)",
    )
    yield Action(
        "Most are routine checks. What is left?",
        "rare = [h for h in hits if 'checked' not in h.line and 'audit' in h.line]\nfor h in rare:\n    print(h.line_number, h.line)",
    )
    yield Action(
        "The sub-LM reads that line.",
        "hit = rare[0]\n"
        "SUBMIT(answer=sub_llm(f'{question}\\n{hit.line}'), line=hit.line_number, evidence=hit.line)",
    )


sub = rules(
    [(r"config (\w+) set .* to (\w+)", lambda match: f"{match[1]} set it to {match[2]}.")],
    default="unknown",
)


def main() -> None:
    """Writes the log, or takes yours, and asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("-q", "--question", default=QUESTION)
    options = parser.parse_args()
    models = choose_models(root, sub)
    with tempfile.TemporaryDirectory() as folder, dspy.context(lm=models.root):
        path = options.file or Path(folder, "service.log")
        if options.file is None:
            write_log(path)
        rlm = dspy_rlm.RLM(Find, sub_lm=models.sub, max_llm_calls=10)
        found = rlm(log=TextFile(path), question=options.question)
        sent = sum(call.chars_in for call in found.run.sub_calls)
        print(found.answer)
        print(f"line {found.line}: {found.evidence.text}")
        print(f"{sent} of {path.stat().st_size} bytes went to the sub-LM")
    if models.scripted and options.file is None:
        assert found.line == NEEDLE
        assert "mara" in found.answer


if __name__ == "__main__":
    main()
