"""Find the wrong traces of an LLM service, and look into the journal of the run that found them.

    python examples/wrong_traces.py

Two thousand traces of a support agent, five of them wrong in three ways. Code finds what is a fact (a call repeated, a failed tool), a sub-LM judges what needs reading.
Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Literal

import dspy
import pydantic

import dspy_rlm
from dspy_rlm import Directory
from dspy_rlm.testing import Action, choose_models, fields, policy

WRONG = {
    "t0211": "ignored_error",
    "t0777": "loop",
    "t1204": "contradiction",
    "t1500": "ignored_error",
    "t1833": "loop",
}


class Finding(pydantic.BaseModel):
    """One wrong trace."""

    trace: str
    kind: Literal["ignored_error", "loop", "contradiction"]
    evidence: str


class FindWrong(dspy.Signature):
    """Find the traces in which the agent was wrong: it ignored an error of a tool, repeated a call, or said something else than its tools did."""

    traces: list[dict] = dspy.InputField(desc="each has an id and messages in OpenAI's form")
    findings: list[Finding] = dspy.OutputField()


def traces() -> list[dict]:
    """Returns the traces: an order is looked up, and the agent reports its state."""
    made = []
    for number in range(2_000):
        name, order = f"t{number:04}", 10_000 + number * 7
        state = ["shipped", "packed", "delivered"][number % 3]
        result = {"order": order, "state": state}
        said = f"Order {order} is {state}."
        call = {"role": "assistant", "tool_call": {"name": "lookup", "arguments": {"order": order}}}
        kind = WRONG.get(name)
        if kind == "ignored_error":
            result = {"error": "timeout after 30 s"}
        if kind == "contradiction":
            said = f"Order {order} was refunded."
        answer = {"role": "tool", "content": json.dumps(result)}
        steps = [call, answer] * (6 if kind == "loop" else 1)
        question = {"role": "user", "content": f"Where is order {order}?"}
        made.append(
            {"id": name, "messages": [question, *steps, {"role": "assistant", "content": said}]}
        )
    return made


FACTS = """
import json
suspects = {}
for t in traces:
    calls = [json.dumps(m['tool_call'], sort_keys=True) for m in t['messages'] if 'tool_call' in m]
    results = [m['content'] for m in t['messages'] if m['role'] == 'tool']
    if len(calls) != len(set(calls)):
        suspects[t['id']] = ('loop', f'{len(calls)} times {calls[0]}')
    elif any('"error"' in r for r in results) and 'error' not in t['messages'][-1]['content']:
        suspects[t['id']] = ('ignored_error', next(r for r in results if '"error"' in r))
print(len(traces), 'traces;', suspects)
"""

READ = """
rest = [t for t in traces if t['id'] not in suspects]
unsure = [t for t in rest if json.loads(t['messages'][-2]['content'])['state'] not in t['messages'][-1]['content']]
rows = predict_batched(
    'trace: str -> contradicts: bool, sentence: str', [{'trace': json.dumps(t)} for t in unsure]
)
for t, row in zip(unsure, rows):
    if row.contradicts:
        suspects[t['id']] = ('contradiction', row.sentence)
print(len(unsure), 'read;', {k: v[0] for k, v in suspects.items()})
"""


@policy
def root(task):
    """Plays the root LM: of the run over the traces, or of the one over its journal."""
    if "`traces`" in task.variables_info:
        yield Action("Repeated calls and failed tools are facts: code finds them.", FACTS)
        yield Action(
            "The others contradict only if their last sentence lacks the state. The sub-LM reads those.",
            READ,
        )
        yield Action(
            "That is all.",
            "SUBMIT(findings=[dict(trace=t, kind=k, evidence=e) for t, (k, e) in sorted(suspects.items())])",
        )
    else:
        yield Action(
            "A journal has one event a line.",
            "import json\n"
            "events = [json.loads(line) for path in journals for line in journals[path]]\n"
            "steps = sum(e['e'] == 'step' for e in events)\nprint(len(events), 'events')\n"
            "SUBMIT(steps=steps, failed=sum(e['e'] == 'failed' for e in events))",
        )


sub = fields(
    lambda inputs: {
        "contradicts": "refunded" in inputs["trace"],
        "sentence": json.loads(inputs["trace"])["messages"][-1]["content"],
    }
)


def main() -> None:
    """Runs both, and prints the findings."""
    models = choose_models(root, sub)
    with tempfile.TemporaryDirectory() as folder, dspy.context(lm=models.root):
        rlm = dspy_rlm.RLM(FindWrong, sub_lm=models.sub, journal=folder, max_llm_calls=50)
        prediction = rlm(traces=traces())
        for finding in prediction.findings:
            print(finding.trace, finding.kind, "-", finding.evidence)
        print(f"{len(prediction.run.sub_calls)} of 2000 traces were read by a model")

        look = dspy_rlm.RLM("journals, question -> steps: int, failed: int", sub_lm=models.sub)
        own = look(
            journals=Directory(Path(folder), pattern="*.jsonl"),
            question="How many steps, and how many failed calls, has the recorded run?",
        )
        print(f"its journal: {own.steps} steps, {own.failed} failed calls")
    if models.scripted:
        assert {finding.trace: finding.kind for finding in prediction.findings} == WRONG
        assert own.steps == len(prediction.run.steps)


if __name__ == "__main__":
    main()
