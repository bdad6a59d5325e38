"""Prints the size of the root LM's prompts, turn by turn, for ours and other RLMs on the same tasks.

    python -m benchmarks.prompt                                     # ours, in each style, and dspy.RLM
    python -m benchmarks.prompt --rlms-python /venv/bin/python      # an environment with `rlms` and `predict-rlm`

A scripted policy plays the root LM: it runs the same cells in every system, written in the form that the system's
prompt asks for. "Static" is the system message, which is the same at each turn. So the figures say what a turn costs, and nothing about the quality of answers. A token is counted
as four characters. "Cached" is the share of each prompt that the next one begins with, which a provider can serve
from its cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.scripted_lm import root_lm, scripted_lm

CHARS_A_TOKEN = 4

LOG = "".join(
    f"2026-11-{day:02} {hour:02}:00:00 service-{hour % 7} request {day * 24 + hour} took {hour * 13 % 97} ms\n"
    for day in range(1, 29)
    for hour in range(24)
)
TEXTS = [
    f"Ticket {number}: the {'door' if number % 3 else 'lift'} is stuck." for number in range(400)
]


@dataclass(frozen=True)
class Case:
    """A task: inputs, a question, the cells that answer it, and the expression to submit."""

    name: str
    inputs: dict[str, Any]
    question: str
    cells: tuple[str, ...]
    answer: str


CASES = (
    Case(
        "find a line in a log",
        {"logs": LOG},
        "Which service was slowest on 2026-11-13?",
        (
            "print(logs[:600])\nlen(logs)",
            "day = [line for line in logs.splitlines() if line.startswith('2026-11-13')]\nprint('\\n'.join(day))",
            "slowest = max(day, key=lambda line: int(line.split()[-2]))\nprint(slowest)",
        ),
        "slowest.split()[2]",
    ),
    Case(
        "count tickets",
        {"tickets": TEXTS},
        "How many tickets are about the lift?",
        (
            "print(type(tickets), len(tickets))\nprint(tickets[:5])",
            "lifts = [ticket for ticket in tickets if 'lift' in ticket]\nprint(len(lifts), lifts[:3], lifts[-3:])",
        ),
        "str(len(lifts))",
    ),
    Case(
        "twelve turns with long output",
        {"logs": LOG},
        "Summarize the log.",
        tuple(f"print(logs[{start}:{start + 2_000}])" for start in range(0, 22_000, 2_000)),
        "'requests of seven services'",
    ),
)

# Tasks of `dspy_rlm.tasks` that need no sub-LM, whose name differs from system to system.
TASKS = ("s-niah", "code-qa", "browsecomp", "graphwalks")
TASK_TOKENS = 32_000


def task_case(name: str) -> Case:
    """Returns the first example of a task, with the cells of its honest policy."""
    from benchmarks.task_policies.honest import CELLS, LOOK
    from dspy_rlm import tasks

    (example,) = tasks.load(name, tokens=TASK_TOKENS, n=1, seed=1).examples
    *cells, submit = (LOOK, *CELLS[name])
    answer = submit.removeprefix("SUBMIT(answer=").removesuffix(")")
    title = f"{name}, {TASK_TOKENS:,} tokens"
    return Case(
        title, {"context": example.context}, example.question, tuple(cells), f"str({answer})"
    )


def cases() -> Iterator[Case]:
    """Yields all cases."""
    yield from CASES
    yield from map(task_case, TASKS)


@dataclass
class Prompts:
    """The prompts of one run, as text."""

    texts: list[str] = field(default_factory=list)
    system: int = 0
    """The characters of the system message of the first prompt."""
    answer: str = ""

    @property
    def chars(self) -> int:
        """The characters of all prompts together."""
        return sum(map(len, self.texts))

    @property
    def cached(self) -> float:
        """The share of each prompt that the next one begins with, over the whole run."""
        same = sum(_common(one, other) for one, other in pairwise(self.texts))
        whole = sum(len(text) for text in self.texts[:-1])
        return same / whole if whole else 0.0


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


# ---- Replies in the form that a system asks for ----


def _sections(code: str) -> str:
    return f"[[ ## reasoning ## ]]\nNext step.\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"


def _plan(code: str) -> str:
    return _sections(code).replace("reasoning", "plan")


def _block(code: str) -> str:
    return f"Next step.\n\n```repl\n{code}\n```"


def _call(code: str) -> str:
    from dspy_rlm.testing import Called

    return Called("Next step.", "python", {"code": code})


def _cells(case: Case, system: str) -> Iterator[str]:
    """Yields the replies of a run."""
    write = {"paper": _block, "rlms": _block, "tools": _call, "predict-rlm": _plan}.get(
        system, _sections
    )
    # The implementation of the paper has one variable.
    rename = ""
    if system == "rlms" and "context" not in case.inputs:
        rename = f"{next(iter(case.inputs))} = context\n"
    elif system == "rlms":
        rename = f"question = {case.question!r}\n"
    for number, code in enumerate(case.cells):
        yield write(rename + code if number == 0 else code)
    if system == "rlms":
        yield _block(f"answer['content'] = {case.answer}\nanswer['ready'] = True")
    else:
        yield write(f"SUBMIT(answer={case.answer})")


# ---- The systems ----


def _dspys(build: Callable[[], Any], case: Case, url: str) -> str:
    with root_lm(url):
        return str(build()(**case.inputs, question=case.question).answer)


def _signature(case: Case) -> str:
    kinds: dict[type, str] = {str: "str", list: "list[str]"}
    inputs = ", ".join(f"{name}: {kinds[type(value)]}" for name, value in case.inputs.items())
    return f"{inputs}, question: str -> answer: str"


def _run_ours(style: str) -> Callable[[Case, str], str]:
    def run(case: Case, url: str) -> str:
        from dspy_rlm import RLM

        return _dspys(lambda: RLM(_signature(case), style=style), case, url)

    return run


def _run_dspy(case: Case, url: str) -> str:
    import dspy

    from dspy_rlm import SandboxInterpreter

    def build() -> Any:
        return dspy.RLM(_signature(case), interpreter_factory=SandboxInterpreter)

    return _dspys(build, case, url)


def _run_rlms(case: Case, url: str) -> str:
    from rlm import RLM

    options = {"model_name": "root", "base_url": url, "api_key": "none"}
    rlm = RLM(backend="openai", backend_kwargs=options)
    (context,) = case.inputs.values()
    return str(rlm.completion(context, root_prompt=case.question).response)


def _run_predict_rlm(case: Case, url: str) -> str:
    from predict_rlm import (
        PredictRLM,
        ValidatingChatAdapter,
    )

    lm = scripted_lm(url)
    rlm = PredictRLM(
        _signature(case),
        lm=lm,
        sub_lm=lm,
        verbose=False,
        adapter=ValidatingChatAdapter(),
    )
    return str(rlm(**case.inputs, question=case.question).answer)


SYSTEMS: dict[str, Callable[[Case, str], str]] = {
    "ours": _run_ours("default"),
    "ours, paper": _run_ours("paper"),
    "ours, tools": _run_ours("tools"),
    "dspy.RLM": _run_dspy,
    "rlms": _run_rlms,
    "predict-rlm": _run_predict_rlm,
}
_FOREIGN = ("rlms", "predict-rlm")


def measure(system: str, case: Case, python: Path | None) -> Prompts:
    """Runs a task with a system and returns its prompts. A system of another environment runs there."""
    from dspy_rlm.testing import PolicyServer

    prompts = Prompts()
    replies = _cells(case, system.removeprefix("ours, "))

    def _whole(message: Any) -> str:
        calls = message.get("tool_calls") or ()
        return f"{message.get('content') or ''}{json.dumps(calls) if calls else ''}"

    def play(request: Any) -> str:
        texts = [f"{m['role']}: {_whole(m)}" for m in request.raw["messages"]]
        prompts.texts.append("\n".join(texts))
        prompts.system = prompts.system or len(request.system)
        return next(replies, "I have nothing more to say.")

    with PolicyServer({"root": play}) as server:
        url = server.base_url
        if system in _FOREIGN:
            command = [str(python), "-m", "benchmarks.prompt", "--client", system, url]
            done = subprocess.run(
                command,
                input=json.dumps(asdict(case)),
                capture_output=True,
                text=True,
                check=False,
                cwd=Path(__file__).parents[1],
            )
            prompts.answer = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
            if done.returncode:
                prompts.answer = f"failed: {done.stderr.strip().splitlines()[-1]}"
        else:
            prompts.answer = SYSTEMS[system](case, url)
    return prompts


def table(case: Case, results: dict[str, Prompts]) -> list[str]:
    """Returns the rows of one task as Markdown."""
    lines = [
        f"**{case.name}**",
        "",
        "| system | turns | static tokens | tokens of each turn | tokens a turn | tokens in all | ratio | cached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = results["ours"].chars
    for system, prompts in results.items():
        turns = [len(text) // CHARS_A_TOKEN for text in prompts.texts]
        shown = [
            f"{tokens:,}" for tokens in (turns if len(turns) <= 5 else [*turns[:2], turns[-1]])
        ]
        if len(turns) > 5:
            shown.insert(2, "...")
        lines.append(
            f"| {system} | {len(turns)} | {prompts.system // CHARS_A_TOKEN:,} | {', '.join(shown)} | "
            f"{prompts.chars // CHARS_A_TOKEN // max(len(turns), 1):,} | "
            f"{prompts.chars // CHARS_A_TOKEN:,} | {prompts.chars / ours:.2f}x | {prompts.cached:.1%} |"
        )
    return [*lines, ""]


def main(arguments: Sequence[str]) -> None:
    """Measures all systems and prints a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rlms-python",
        type=Path,
        help="the Python of an environment with `rlms` and `predict-rlm`",
    )
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.client:
        system, url = options.client
        print(SYSTEMS[system](Case(**json.load(sys.stdin)), url))
        return
    systems = [name for name in SYSTEMS if options.rlms_python or name not in _FOREIGN]
    print("A scripted policy plays the root LM. A token is counted as four characters.\n")
    for case in cases():
        results = {name: measure(name, case, options.rlms_python) for name in systems}
        print("\n".join(table(case, results)))
        for name, prompts in results.items():
            if prompts.answer != results["ours"].answer:
                print(f"{name} answered {prompts.answer!r:.300}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
