"""Log files of hundreds of MB, searched and summarised: which incidents are there, and what do they have in common?

    python examples/big_log.py                       # writes and reads a log of 300 MB
    python examples/big_log.py --megabytes 20
    python examples/big_log.py /var/log/app.log.gz   # compressed logs are read as they are

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path

import dspy
import pydantic
from real_text import raised_messages

import dspy_rlm
from dspy_rlm import TextFile
from dspy_rlm.testing import Action, choose_models, fields, policy


class Incident(pydantic.BaseModel):
    """A kind of error that occurs again and again."""

    error: str = pydantic.Field(description="the error without what differs from line to line")
    count: int = pydantic.Field(gt=0)
    first_line: int
    last_line: int
    advice: str = pydantic.Field(description="where to look, in a sentence")


class ReadLog(dspy.Signature):
    """Group the errors of a log into incidents, the most frequent first, and sum up what happened."""

    log: str = dspy.InputField()
    incidents: list[Incident] = dspy.OutputField(desc="at most 10")
    errors: int = dspy.OutputField(desc="lines with an error in the whole log")
    summary: str = dspy.OutputField()


SEARCH = r"""
total = log.count(' ERROR ')
hits, start = [], 0
while len(hits) < total:  # a search returns at most so many; the next one goes on after the last hit
    found = log.grep(r' ERROR ', limit=5000, start=start)
    hits += found
    start = found[-1].position + len(found[-1].line)
print(f'{len(log):,} characters, {total} errors')
print(hits[0].line_number, hits[0].line)
"""

GROUP = r"""
import re
from collections import defaultdict
groups = defaultdict(list)
for hit in hits:
    message = hit.line.split(' ERROR ', 1)[1]
    groups[re.sub(r'\d+|0x[0-9a-f]+', '<n>', message)].append(hit)
common = sorted(groups.items(), key=lambda item: -len(item[1]))[:10]
for error, lines in common[:4]:
    print(len(lines), error)
"""

SUM_UP = r"""
samples = ['\n'.join(hit.line for hit in lines[:3] + lines[-2:]) for _, lines in common]
rows = predict_batched('lines -> advice: str', [{'lines': sample} for sample in samples])
incidents = [
    {'error': error, 'count': len(lines), 'first_line': lines[0].line_number,
     'last_line': lines[-1].line_number, 'advice': row.advice}
    for (error, lines), row in zip(common, rows)
]
busiest = incidents[0]
SUBMIT(
    incidents=incidents, errors=total,
    summary=f"{total} errors of {len(groups)} kinds. The most frequent, with {busiest['count']}: {busiest['error']}",
)
"""


@policy
def root(task):
    """Plays the root LM: the host searches, code groups, the sub-LM explains ten samples."""
    yield Action("Hundreds of megabytes: count and fetch only the errors.", SEARCH)
    yield Action("Errors that differ only in numbers are one incident.", GROUP)
    yield Action("The sub-LM sees five lines of each, no more.", SUM_UP)


@fields
def sub(inputs):
    """Plays the sub-LM: names the component of the first line."""
    component = inputs["lines"].split()[3]
    return {"advice": f"Look at {component}, where these lines come from."}


def write_log(path: Path, megabytes: int, errors: int = 8_000) -> Counter:
    """Writes a log whose errors are messages of Python's library; returns how often each occurs."""
    chance = random.Random(3)
    messages = chance.sample(
        raised_messages("asyncio", "email", "http", "json", "logging", "urllib"), 40
    )
    weights = [1 / (n + 1) for n in range(len(messages))]
    filler = "".join(
        f"2026-11-28T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}Z web-{n % 7} INFO http.access GET /item/{n * 37} 200 {n % 90} ms\n"
        for n in range(10_000)
    )
    blocks = max(1, megabytes * 1_000_000 // len(filler))
    counts: Counter = Counter()
    with path.open("w", encoding="utf-8") as file:
        for block in range(blocks):
            file.write(filler)
            for _ in range(errors // blocks):
                kind, text = chance.choices(messages, weights)[0]
                file.write(
                    f"2026-11-28T00:00:00Z web-{block % 7} ERROR http.worker {kind}: {text} (request {chance.randrange(10**6)})\n"
                )
                counts[f"{kind}: {text}"] += 1
    return counts


def ask(log: TextFile, models) -> dspy.Prediction:
    """Finds the incidents of a log."""
    rlm = dspy_rlm.RLM(ReadLog, sub_lm=models.sub, limits=dspy_rlm.Limits(search_seconds=300))
    with dspy.context(lm=models.root):
        return rlm(log=log)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", nargs="?", type=Path)
    parser.add_argument("--megabytes", type=int, default=300)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        path = options.log or Path(temporary) / "service.log"
        if options.log is None:
            write_log(path, options.megabytes)
            print(f"{path.stat().st_size:,} bytes")
        prediction = ask(TextFile(path), choose_models(root, sub))
    print(prediction.summary)
    for incident in prediction.incidents:
        print(
            f"{incident.count:6}  lines {incident.first_line:,} to {incident.last_line:,}  {incident.error[:80]}"
        )
    return prediction


if __name__ == "__main__":
    main()
