"""The price of a journal: time per event and per run, bytes per step, and loading a long run.

python -m benchmarks.journal
python -m benchmarks.journal --runs 20 --sub-calls 400
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace

import dspy

from dspy_rlm import RLM
from dspy_rlm.budget.ledger import Spent
from dspy_rlm.events import ActionChosen, IterationStarted, RunStarted, StepTaken
from dspy_rlm.journal import load
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.places import Place, new_journal
from dspy_rlm.journal.recorder import RunRecorder
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.journal.values import ValueWriter, folder_of
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.recording import Attempt
from dspy_rlm.reports.report import Call, Step
from dspy_rlm.testing import Action, Fault, Observation, PolicyServer, Task, policy, rules

KEY = "sk-Tq8vLx2NcWz51RmPq0Yd"
LM = SimpleNamespace(model="openai/sub", kwargs={"temperature": 1.0, "max_tokens": 1000})
SYSTEM = "Your input fields are: ... " * 60
PAGE = "The quick brown fox jumps over the lazy dog. " * 25
OUTPUT = "one line of a cell's output, of the usual length\n" * 400


def recorder_in(folder: Path) -> RunRecorder:
    """Returns the recorder of a run in a new file."""
    journal = new_journal(Place(folder / "run.jsonl"), "bench")
    packer = Packer(ValueWriter(journal), KnownSecrets(lambda: [KEY]))
    return RunRecorder(journal, packer, "bench", lambda _packer: {"depth": 0, "inputs": {}})


def record_call(
    recorder: RunRecorder, kind: str, messages: list[dict[str, str]], reply: str
) -> None:
    """Records a call with its reply."""
    arguments = CallArguments(LM, None, {"messages": messages})
    spent = Spent(Call(kind, "openai/sub", 0, 1000, 100, 1.0, 300, 40, 0.0001))
    with recorder.calling(kind, 0, arguments) as log:
        log.attempted(Attempt(spent, time.time(), [reply], "stop"))


def record_steps(
    recorder: RunRecorder, steps: int, sub_calls: int, output: str, *, growing: bool
) -> list[int]:
    """Records the steps of a run; returns the bytes on disk after each.

    Args:
        recorder: Of the run.
        steps: Their number.
        sub_calls: The calls of each.
        output: What each prints.
        growing: Whether the prompts have the whole history, as those of a real run, or only its end.
    """
    history, sizes = "", []
    recorder.take(RunStarted([], steps))
    for number in range(1, steps + 1):
        recorder.take(IterationStarted(number, steps))
        prompt = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{history}Turn {number} of {steps}"},
        ]
        code = f"print(sub_llm_batched(pages[{number}:]))"
        record_call(recorder, "action", prompt, f"I read page {number}.\n```python\n{code}\n```")
        recorder.take(ActionChosen(number, f"I read page {number}.", code))
        for call in range(sub_calls):
            page = [{"role": "user", "content": f"Page {number}.{call}: {PAGE}"}]
            record_call(recorder, "sub_llm_batched", page, "Nothing of interest is on this page.")
        text = f"{number}\n{output}"
        cell = {"code": code, "outcome": "completed", "output": recorder.packer.text(text)}
        recorder.emit("cell", lambda cell=cell: cell)  # type: ignore[misc]
        recorder.take(StepTaken(number, Step("", code, text), 0))
        history = f"{history if growing else ''}=== Step {number} ===\n{code}\n{text}"
        sizes.append(_bytes_of(recorder.journal.path))
    return sizes


def _bytes_of(journal: Path | None) -> int:
    assert journal is not None
    beside = folder_of(journal)
    values = sum(path.stat().st_size for path in beside.iterdir()) if beside.exists() else 0
    return journal.stat().st_size + values


def report_events(folder: Path) -> None:
    """Prints the CPU time of an event, and of the two of an LM call."""
    recorder = recorder_in(folder)
    count = 20_000
    began = time.process_time()
    recorder.begin()
    for _ in range(count):
        recorder.emit("event", lambda: {"number": 1, "text": "a short event"})
    event = (time.process_time() - began) / count
    page = [{"role": "user", "content": PAGE}]
    began = time.process_time()
    for _ in range(count // 4):
        record_call(recorder, "sub_llm", page, "Nothing of interest is on this page.")
    call = (time.process_time() - began) / (count // 4)
    long = [f"{number}{PAGE * 4}" for number in range(1000)]
    began = time.process_time()
    for text in long:
        record_call(recorder, "sub_llm", [{"role": "user", "content": text}], "Nothing.")
    stored = (time.process_time() - began) / len(long)
    print(f"an event                                        {event * 1e6:8.1f} us")
    print(f"an LM call (prompt of {len(PAGE):,} characters)           {call * 1e6:8.1f} us")
    print(f"an LM call (prompt of {len(long[0]):,}, stored beside)    {stored * 1e6:8.1f} us")


def report_sizes(folder: Path) -> None:
    """Prints the bytes of a step in a long run whose prompts have the whole history."""
    sizes = record_steps(recorder_in(folder), 200, 0, OUTPUT, growing=True)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    print(
        f"a step that prints {len(OUTPUT):,} characters: bytes       {statistics.median(steps):8,.0f}"
    )
    print(f"    of the last of 200                          {steps[-1]:8,}")


def report_loading(folder: Path) -> None:
    """Prints the time to load 1,000 steps with 10,000 sub-calls."""
    recorder = recorder_in(folder)
    began = time.perf_counter()
    record_steps(recorder, 1000, 10, OUTPUT[:2000], growing=False)
    written = time.perf_counter() - began
    path = recorder.journal.path
    assert path is not None
    used = time.process_time()
    seconds = min(_timed(lambda: load(path)) for _ in range(3))
    used = (time.process_time() - used) / 3
    record = load(path)
    calls = sum(1 for _ in record.calls())
    size = path.stat().st_size / 1e6
    print(
        f"{len(record.steps):,} steps, {calls:,} calls, {size:.1f} MB: written in   {written:8.2f} s"
    )
    print(
        f"    loaded in                                   {seconds:8.2f} s, {used:.2f} s of CPU time"
    )
    last = _timed(lambda: record.steps[-1].root_calls[0].prompt.text())
    print(f"    the last prompt, read                       {last:8.3f} s")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report_runs(folder: Path, runs: int, sub_calls: int, seconds: float) -> None:
    """Prints the time of whole runs with and without a journal, with LMs that take their time."""

    def read(task: Task) -> Generator[Action, Observation, None]:
        for part in range(4):
            yield Action(
                "", f"print(sub_llm_batched([f'{{n}} {{page}}' for n in range({part * 1000}, {part * 1000 + sub_calls // 4})])[:3])"
            )  # fmt: skip
        yield Action("", "SUBMIT('done')")

    times: dict[str, list[float]] = {"without": [], "with": []}
    cpu: dict[str, list[float]] = {"without": [], "with": []}
    slow = {
        "sub": Fault(delay_seconds=seconds, times=None),
        "root": Fault(delay_seconds=0.5, times=None),
    }
    with PolicyServer({"root": policy(read), "sub": rules([], "no")}, faults=slow) as server:
        lm = server.lm("root")
        for number in range(runs + 1):
            for name in times:
                rlm = RLM(
                    "page -> answer", sub_lm=server.lm("sub"), max_llm_calls=sub_calls, max_concurrency=16,
                    journal=folder / "runs" if name == "with" else False,
                )  # fmt: skip
                with dspy.context(lm=lm):
                    began, used = time.perf_counter(), time.process_time()
                    rlm(page=PAGE)
                if number:  # the first of each warms up
                    times[name].append(time.perf_counter() - began)
                    cpu[name].append(time.process_time() - used)
    without, with_one = (statistics.median(times[name]) for name in ("without", "with"))
    used = statistics.median(cpu["with"]) - statistics.median(cpu["without"])
    print(f"a run of 5 turns and {sub_calls} calls without a journal   {without:8.3f} s")
    print(f"    with one                                    {with_one:8.3f} s")
    print(
        f"    more CPU time                               {used:8.3f} s, {used / without:.2%} of the run"
    )


def main() -> None:
    """Runs all parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--runs", type=int, default=5, help="runs with a journal, and as many without"
    )
    parser.add_argument("--sub-calls", type=int, default=200, help="sub-LM calls of a run")
    parser.add_argument("--seconds", type=float, default=0.5, help="time of a sub-LM call")
    arguments = parser.parse_args()
    parts: list[Callable[[Path], None]] = [
        report_events,
        report_sizes,
        report_loading,
        lambda folder: report_runs(folder, arguments.runs, arguments.sub_calls, arguments.seconds),
    ]
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            part(Path(folder))


if __name__ == "__main__":
    main()
