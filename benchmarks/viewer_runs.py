"""Recorded runs to look at in the viewer: a nested one with failures and hostile output, and others of any size.

python -m benchmarks.viewer_runs FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import dspy

from dspy_rlm import RLM, Quote
from dspy_rlm.testing import (
    Action,
    Fault,
    Move,
    Observation,
    Player,
    PolicyServer,
    Raw,
    Task,
    asks_for,
    policy,
    route,
    rules,
)

REPORTS = tuple(
    f"Report {number} of plant {'ABCDEFGH'[number % 8]}.\n\n"
    + "The shift began at six. Pressure and temperature were in range, and the line ran at its usual speed. " * 6
    + (
        f"At 14:{number:02d} valve {number} leaked, and the line was stopped for {number + 3} minutes.\n"
        if number % 4 == 1
        else "Nothing happened that is worth a note.\n"
    )
    + "The store of spare parts was counted; two seals of type K7 are missing. " * 4
    for number in range(1, 17)
)  # fmt: skip

# Text that a hostile page could make a model write. The viewer shows it as text.
HOSTILE = (
    "</script><script>window.attacked = 1</script><!-- <img src=x onerror=window.attacked=1>"
    " javascript:alert(1) \"' onmouseover=window.attacked=1 \u202eevil\u202c \x00 \x1b[31mred\x1b[0m"
)


class Incidents(dspy.Signature):  # type: ignore[misc]
    """Find every incident in the reports, with a quote for each, and name the plant with the longest stop."""

    reports: list[str] = dspy.InputField(desc="one shift report each")
    question: str = dspy.InputField()
    incidents: list[Quote] = dspy.OutputField(desc="one quote for each incident")
    worst_plant: str = dspy.OutputField()
    summary: str = dspy.OutputField()


def root(task: Task) -> Generator[Move, Observation, None]:
    """Plays the root LM of the nested run, with the usual slips."""
    yield Action(
        "First I look at the size of the input.",
        "print(len(reports), 'reports,', sum(map(len, reports)), 'characters')\nprint(reports[0][:300])",
    )
    yield Raw("I think that I should ask a sub-model about each report, one after another.")
    yield Action(
        "I ask a sub-LM about each report at once.",
        'prompts = [f"Does this report mention an incident? Answer yes or no.\\n\\n{text}" for text in reports]\n'
        "answers = sub_llm_batched(prompts)\n"
        "print(answers)\n"
        "hits = [number for number, answer in enumerate(answers) if answer.lower().startswith('yes')]\n"
        "print(hits)",
    )
    yield Action(
        "Now the minutes of each stop.",
        "import re\n\n"
        "stops = {}\n"
        "for number in hits:\n"
        "    match = re.search(r'stopped for (\\d+) minutes', reports[number])\n"
        "    stops[number] = int(match.group(1))\n"
        "print(stops)\n"
        "longest = max(stops, key=stops.get)\n"
        "print(stops['longest'])",
    )
    yield Action(
        "The key is the number, not its name. I also print a whole report, to be sure.",
        "longest = max(stops, key=stops.get)\n"
        "print(longest, stops[longest])\n"
        "print('\\n'.join(reports) * 2)",
    )
    yield Action(
        "A sub-run writes the summary of the hits; another checks the plant.",
        "result = sub_rlm('parts: list[str] -> summary: str', parts=[reports[n] for n in hits])\n"
        "print(result.status, result.summary)\n"
        "plant = predict('report: str -> plant: str', report=reports[longest]).plant\n"
        "print(plant)",
    )
    yield Action(
        "I ask twice about the longest stop, to compare.",
        "again = [sub_llm(f'Which plant is this?\\n\\n{reports[longest]}') for _ in range(3)]\n"
        "print(again)\n"
        f"print({HOSTILE!r})",
    )
    yield Action(
        "I know enough. The incidents are quoted word by word.",
        "incidents = []\n"
        "for number in hits:\n"
        "    at = reports[number].index('At 14:')\n"
        "    incidents.append(reports[number][at:reports[number].index('minutes.') + 8])\n"
        "SUBMIT(incidents=incidents, worst_plant=again[0], summary=result.summary)",
    )


def sub_root(task: Task) -> Generator[Move, Observation, None]:
    """Plays the root LM of the sub-run."""
    yield Action("I look at the input.", "print(type(parts).__name__, len(parts))")
    yield Action(
        "I ask about each part.",
        "lines = sub_llm_batched([f'Summarise in one sentence: {part}' for part in parts])\nprint(lines)",
    )
    yield Action("I use a name that is not there.", "print(sentences)")
    yield Action("All parts are there.", "SUBMIT(' '.join(lines))")


def sub_lm() -> Player:
    """Returns the player of the sub-LM."""
    answers = rules(
        [
            (r"mention an incident\?[\s\S]*was stopped", "Yes, a valve leaked."),
            (r"mention an incident\?", "No."),
            (r"Which plant", "Plant F"),
            (r"Summarise in one sentence: Report (\d+)", lambda match: f"In report {match[1]} a valve leaked."),
            (r"report", "[[ ## plant ## ]]\nF\n\n[[ ## completed ## ]]"),
        ],
        "I do not know.",
    )  # fmt: skip
    return route((asks_for("code"), policy(sub_root)), otherwise=answers)


def record_nested(journal: Path) -> Path:
    """Records the nested run; returns its journal."""
    players = {"root": policy(root), "sub": sub_lm()}
    faults = {
        "root": [Fault(delay_seconds=0.5, times=None)],
        "sub": [
            Fault(status=429, times=2, retry_after_seconds=0.05),
            Fault(delay_seconds=1.5, only=lambda request: "Report 5 " in request.prompt),
            Fault(status=400, message="content policy", only=lambda request: "Report 7 " in request.prompt),
            Fault(delay_seconds=0.2, times=None),
        ],
    }  # fmt: skip
    with PolicyServer(players, faults=faults) as server:
        rlm = RLM(
            Incidents,
            sub_lm=server.lm("sub", num_retries=3, max_tokens=300),
            max_iterations=12,
            max_llm_calls=60,
            max_tokens=60_000,
            max_cost=0.10,
            prices={"openai/root": (2.0, 10.0), "openai/sub": (0.3, 1.2)},
            track_coverage=True,
            journal=journal,
        )
        with dspy.context(lm=server.lm("root", max_tokens=1_000)):
            prediction = rlm(reports=list(REPORTS), question="Which plant stood still for longest?")
    return Path(prediction.run.journal)


if __name__ == "__main__":
    print(record_nested(Path(sys.argv[1]) / "nested.jsonl"))
