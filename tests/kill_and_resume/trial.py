"""One trial: a run that is killed at random moments and resumed until it ends, with everything that must hold."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspy_rlm.journal import load
from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.records import CallRecord
from dspy_rlm.testing import Exchange, PolicyServer

from .programs import LINES

# A child that takes longer hangs.
PATIENCE_SECONDS = 120.0

# The sandbox of a killed process ends by itself within this time.
ORPHAN_SECONDS = 20.0

MOST_KILLS = 4

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["tests.kill_and_resume.preloaded"])

# DSPy would ask the network for its table of models.
_OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "true"}


@dataclasses.dataclass
class Trial:
    """The outcome of one trial."""

    program: str
    kills: int = 0
    sandbox_kills: int = 0
    resumes: int = 0
    exempt: int = 0
    """Requests that were sent again, because their answers were not in the journal when the process was killed, or because
    the LM ran a cell again whose sandbox was killed."""

    redone: bool = False
    """True if the LM has run a cell again."""

    problems: list[str] = dataclasses.field(default_factory=list)


def undisturbed(server: PolicyServer, program: str) -> dict[str, Any]:
    """Returns the outcome of a run that nothing disturbs."""
    with _folder() as folder:
        before = len(server.requests)
        child = _start(server, program, folder, resumes=False)
        child.join(PATIENCE_SECONDS)
        outcome = json.loads((folder / "result.json").read_text())
        outcome["requests"] = len(server.requests) - before
        return outcome


def trial(
    server: PolicyServer, program: str, expected: dict[str, Any], dice: random.Random
) -> Trial:
    """Kills and resumes one run until it ends."""
    done = Trial(program)
    kills = dice.randint(1, MOST_KILLS)
    first = len(server.requests)
    with _folder() as folder:
        journal, result = folder / "run.jsonl", folder / "result.json"
        answered: Counter[tuple[str, str]] = Counter()  # calls whose answers the journal has
        at = first
        while True:
            resumes = _has_begun(journal)
            child = _start(server, program, folder, resumes=resumes)
            done.resumes += resumes
            _disturb(server, child, expected["requests"], dice, done, last=kills <= 0)
            kills -= 1
            if child.exitcode not in (0, -signal.SIGKILL):
                done.problems.append(f"the process ended with {child.exitcode}")
                return done
            for key in _undone(journal) if _has_begun(journal) else ():
                del answered[key]
            _check_paid_once(server.requests[at:], answered, done)
            at = len(server.requests)
            if result.exists():
                break
            answered = _answered(journal)
        done.redone = journal.exists() and bool(_undone(journal))
        _check_end(server.requests[first:], result, journal, expected, done)
        left = [path.name for path in folder.iterdir() if path.name not in _EXPECTED]
        if left:
            done.problems.append(f"files are left: {left}")
        values = folder / "run.values"
        if values.exists() and (
            temporary := [p.name for p in values.iterdir() if p.name.startswith(".")]
        ):
            done.problems.append(f"temporary files are left: {temporary}")
    return done


_EXPECTED = ("run.jsonl", "run.values", "result.json", "tmp")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kill-and-resume-") as name:
        yield Path(name)


def _start(server: PolicyServer, program: str, folder: Path, *, resumes: bool) -> Any:
    from .child import work

    text = "\n".join(LINES)
    arguments = (
        server.base_url, program, text, str(folder / "run.jsonl"), str(folder / "result.json"), resumes,
    )  # fmt: skip
    os.environ.update(_OFFLINE)
    child = _children.Process(target=work, args=arguments, daemon=True)
    child.start()
    return child


def _disturb(
    server: PolicyServer, child: Any, requests: int, dice: random.Random, done: Trial, *, last: bool
) -> None:
    """Waits for the end of a process, or kills it at a random moment: after some request, or some time."""
    began, before = time.monotonic(), len(server.requests)
    after_requests = dice.randint(0, max(requests - 2, 1))
    extra_seconds = dice.choice([0.0, dice.uniform(0.0, 0.05), dice.uniform(0.0, 0.5)])
    sandbox_after = dice.randint(0, requests) if dice.random() < 0.4 else None
    deadline = began + PATIENCE_SECONDS
    seen: set[int] = set()
    is_due: float | None = None
    while child.is_alive() and time.monotonic() < deadline:
        count = len(server.requests) - before
        seen |= _below(child.pid)
        if sandbox_after is not None and count >= sandbox_after:
            sandbox_after = None
            for pid in sorted(_below(child.pid))[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    done.sandbox_kills += 1
        if not last and count >= after_requests and is_due is None:
            is_due = time.monotonic() + extra_seconds
        if is_due is not None and time.monotonic() >= is_due:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(child.pid, signal.SIGKILL)
                done.kills += 1
            break
        time.sleep(0.002)
    child.join(10)
    if child.is_alive():
        done.problems.append("the process hangs")
        child.kill()
        child.join(10)
    _check_orphans(seen, done)


def _below(parent: int) -> set[int]:
    """Returns the processes below another one (Linux only)."""
    found: set[int] = set()
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def _check_orphans(seen: set[int], done: Trial) -> None:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := {pid for pid in seen if _runs(pid)}:
        if time.monotonic() > deadline:
            done.problems.append(f"processes are left: {sorted(left)}")
            return
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def _key(exchange: Exchange) -> tuple[str, str]:
    return exchange.model, "\n".join(f"{one.role}: {one.text}" for one in exchange.messages)


def _recorded_key(call: CallRecord) -> tuple[str, str]:
    messages = call.prompt.messages()
    text = "\n".join(f"{one['role']}: {one['content']}" for one in messages)
    return call.model.removeprefix("openai/"), text


def _has_begun(journal: Path) -> bool:
    """Returns whether there is a run to resume. A journal without one, of a run that was killed at once, is removed."""
    try:
        if load(journal).signature.outputs:
            return True
    except FileNotFoundError:
        return False
    except JournalError:
        pass
    journal.unlink()
    return False


def _answered(journal: Path) -> Counter[tuple[str, str]]:
    """Returns the calls whose answers the journal has, by model and prompt, with their number."""
    try:
        record = load(journal)
    except (JournalError, OSError):
        return Counter()
    return Counter(_recorded_key(call) for call in record.calls() if call.answered)


def _undone(journal: Path) -> set[tuple[str, str]]:
    """Returns the calls of cells whose sandbox was killed: the LM runs such a cell again, in another step."""
    keys: set[tuple[str, str]] = set()
    for run in load(journal).walk():
        for step in run.all_steps:
            if step.cell is not None and step.cell.error_type == "SandboxDiedError":
                calls = [
                    *step.sub_calls,
                    *(call for below in step.sub_runs for call in below.calls()),
                ]
                keys |= {_recorded_key(call) for call in calls}
    return keys


def _check_paid_once(
    requests: list[Exchange], answered: Counter[tuple[str, str]], done: Trial
) -> None:
    """Checks that no request was sent whose answer the journal had when the process began."""
    paid = [_key(one) for one in requests if answered[_key(one)]]
    if paid:
        done.problems.append(
            f"{len(paid)} answered calls were sent again, such as {paid[0][1][-200:]}"
        )


def _check_end(
    requests: list[Exchange],
    result: Path,
    journal: Path,
    expected: dict[str, Any],
    done: Trial,
) -> None:
    if not result.exists():
        done.problems.append("there is no result")
        return
    outcome = json.loads(result.read_text())
    names = ["outputs", "status"]
    if not (done.sandbox_kills or done.redone):
        names.append("llm_calls")
        if done.program != "batches":  # the random numbers of each run are its own
            names.append("steps")
    for name in names:
        if outcome[name] != expected[name]:
            seen = outcome["outputs_seen"][:6]
            done.problems.append(
                f"{name}: {outcome[name]} instead of {expected[name]}; the cells printed {seen}"[
                    :3000
                ]
            )
    done.exempt = len(requests) - expected["requests"]
    if done.exempt < 0:
        done.problems.append(f"{-done.exempt} requests are missing")
    # A process may die between the line of the journal that says that a call begins, and its request.
    lost = sum(not call.answered and call.error is None for call in load(journal).calls())
    if not 0 <= outcome["calls"] - len(requests) <= lost:
        done.problems.append(f"{outcome['calls']} calls in the report, {len(requests)} requests")
