"""A run to look at: five turns, a batch with failures, sub-runs, an error, hostile output. No language model takes part.

python -m benchmarks.live_scene            # on a terminal: the live view
python -m benchmarks.live_scene --plain    # as lines
python -m benchmarks.live_scene --fast     # without the pauses of a real LM
"""

from __future__ import annotations

import sys
import time
import zlib
from typing import Any

import dspy

from dspy_rlm import RLM
from dspy_rlm.testing import (
    Action,
    ChatRequest,
    Fault,
    Player,
    PolicyServer,
    asks_for,
    fields,
    route,
    scripted,
)

QUESTION = "What caused the errors of the night?"

TURNS = (
    Action(
        "Look at the log first: how many lines are there, and which of them are errors?",
        """\
lines = log.splitlines()
errors = [line for line in lines if "ERROR" in line]
print(len(lines), "lines,", len(errors), "errors")
print(errors[0])
print("\\x1b[31mred? \\x1b]52;c;aGVsbG8=\\x07 \\u202etxet\\u202c")""",
    ),
    Action(
        "Ask the sub-LM about each error, all at once, and sum up what it says.",
        """\
prompts = [f"What caused this line? {line}" for line in errors]
causes = sub_llm_batched(prompts)

counts = {}
for cause in (one for one in causes if one.ok):
    counts[cause] = counts.get(cause, 0) + 1
for name, count in sorted(counts.items()):
    note = sub_llm(f"Say in one sentence what {name!r} means, {count} times.")
    print(count, name, "-", note)""",
    ),
    Action("Rank them by hour.", "by_hour = rank(counts)\nprint(by_hour)"),
    Action(
        "That function does not exist. Let sub-runs read the three parts of the night.",
        """\
third = len(log) // 3
parts = [log[at : at + third] for at in range(0, len(log), third)]
found = sub_rlm_batched("part -> errors: int", parts[:3], max_iterations=3)
print([one.errors for one in found.ok])""",
    ),
    Action(
        "The nightly job filled the disk.",
        'SUBMIT(answer="The nightly job filled the disk at 02:00.", errors=len(errors))',
    ),
)


def log_text() -> str:
    """Returns the log that the question is about."""
    rows = []
    for minute in range(480):
        kind = "ERROR disk full on /var" if minute % 12 == 7 else "INFO  job 17 is running"
        rows.append(f"{minute // 60:02}:{minute % 60:02} {kind}")
    return "\n".join(rows)


def slowly(player: Player, seconds: float) -> Player:
    """Returns a player that takes its time: about so many seconds, the same for the same request."""

    def play(request: ChatRequest) -> str:
        share = zlib.crc32(request.prompt.encode()) % 100 / 100
        time.sleep(seconds * (0.4 + share))
        return player(request)

    return play


def server(pace: float = 1.0) -> PolicyServer:
    """Returns a server of the two models. `pace` 0 answers at once."""
    part = scripted(
        Action("Count the errors of this part.", "n = part.count('ERROR')\nprint(n)"),
        Action("Done.", "SUBMIT(errors=n)"),
    )
    root = route((asks_for("code"), scripted(*TURNS)), otherwise=fields(_nothing))
    causes = ("the nightly job", "the backup", "a full log")

    def cause(request: ChatRequest) -> str:
        return causes[zlib.crc32(request.prompt.encode()) % 3]

    # The sub-runs are played by the sub-LM.
    sub = route((asks_for("code"), part), otherwise=cause)
    faults = Fault(status=400, message="The request was refused.", times=3, after=17)
    return PolicyServer(
        {"root": slowly(root, 0.9 * pace), "sub": slowly(sub, 1.3 * pace)}, faults={"sub": faults}
    )


def _nothing(_inputs: Any) -> dict[str, Any]:
    return {"answer": "unknown", "errors": 0}


def play(live: Any, pace: float = 1.0, **options: Any) -> dspy.Prediction:
    """Runs the scene and returns its prediction."""
    with server(pace) as models:
        rlm = RLM(
            "log, question -> answer, errors: int",
            live=live,
            sub_lm=models.lm("sub"),
            max_llm_calls=120,
            max_iterations=12,
            max_cost=0.05,
            max_concurrency=8,
            prices={"openai/root": (1.0, 4.0), "openai/sub": (0.2, 0.8)},
            **options,
        )
        with dspy.context(lm=models.lm("root"), adapter=dspy.ChatAdapter()):
            return rlm(log=log_text(), question=QUESTION)


if __name__ == "__main__":
    play("plain" if "--plain" in sys.argv else True, 0.0 if "--fast" in sys.argv else 1.0)
